package rest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"rollcall/app/directory"
)

// itemSchema is the extension that says what each line of NDJSON holds.
const itemSchema = "x-itemSchema"

// toldHeaders are those that the document must name where they are sent.
var toldHeaders = []string{"Accept", "Accept-Patch", "Accept-Post", "ETag", "Link", "Location", "Retry-After", "WWW-Authenticate", "X-Request-Id", "X-Total-Count"}

// judge says what of a request and its answer the document does not say. Where the answer is an operation's, it returns
// that, and the code of a problem.
func (d *described) judge(x *answered, basePath string) (o operation, code string, faults []string) {
	path, below := strings.CutPrefix(x.URL.EscapedPath(), basePath)
	template, item := d.find(path)
	method := x.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	switch {
	case isOf(path, "/docs/assets/{file}"):
		return o, "", nil
	case method == http.MethodOptions && x.status == http.StatusNoContent:
		return o, "", d.optionsFaults(x, item)
	case !below || item == nil:
		return o, "", d.problemFaults(x, directory.NoSuchRoute)
	case item.GetOperation(method) == nil:
		return o, "", append(d.problemFaults(x, directory.MethodNotAllowed), d.optionsFaults(x, item)...)
	}
	o = operation{method, template, item.GetOperation(method)}
	answer := o.Responses.Status(x.status)
	if answer == nil {
		return o, "", []string{fmt.Sprintf("%s has no answer %d", o, x.status)}
	}
	code, faults = d.bodyFaults(x, answer.Value)
	faults = append(faults, headerFaults(x, answer.Value)...)
	if x.status < 300 {
		faults = append(faults, d.requestFaults(x, o)...)
	}
	return o, code, faults
}

// optionsFaults are those of an answer that says which methods a path takes.
func (d *described) optionsFaults(x *answered, item *openapi3.PathItem) (faults []string) {
	if x.Request.Header.Get("Access-Control-Request-Method") != "" && x.Method == http.MethodOptions {
		return nil // of a browser, about another origin
	}
	want := []string{http.MethodOptions}
	if item != nil {
		for method := range item.Operations() {
			want = append(want, method)
		}
		if item.Get != nil {
			want = append(want, http.MethodHead)
		}
	}
	slices.Sort(want)
	if got := x.header.Get("Allow"); got != strings.Join(want, ", ") {
		faults = append(faults, fmt.Sprintf("Allow is %q, and what is documented %q", got, want))
	}
	return faults
}

// problemFaults are those of an answer that must be one problem, where there is no operation.
func (d *described) problemFaults(x *answered, want *directory.Code) []string {
	if x.status == http.StatusInternalServerError {
		want = directory.Internal
	}
	if x.status != want.Status || x.header.Get("Content-Type") != "application/problem+json" || x.header.Get("X-Request-Id") == "" {
		return []string{"it is not the problem " + want.Name}
	}
	var problem struct{ Code string }
	if err := json.Unmarshal(x.body.bytes(), &problem); err != nil || problem.Code != want.Name {
		return []string{"it is not the problem " + want.Name}
	}
	return prefixed("the body: ", d.fits("Problem", d.Components.Schemas["Problem"].Value, x.body.bytes(), openapi3.VisitAsResponse()))
}

// headerFaults are those of an answer's headers.
func headerFaults(x *answered, answer *openapi3.Response) (faults []string) {
	for name, header := range answer.Headers {
		value := x.header.Get(name)
		if value == "" && header.Value.Required {
			faults = append(faults, "there is no header "+name)
		}
		if _, err := strconv.Atoi(value); value != "" && header.Value.Schema.Value.Type.Is("integer") && err != nil {
			faults = append(faults, fmt.Sprintf("the header %s is %q", name, value))
		}
	}
	for _, name := range toldHeaders {
		if x.header.Get(name) != "" && answer.Headers[name] == nil {
			faults = append(faults, "there is a header "+name)
		}
	}
	return faults
}

// bodyFaults are those of an answer's body. Of a problem they return the code.
func (d *described) bodyFaults(x *answered, answer *openapi3.Response) (code string, faults []string) {
	mediaType, _, _ := mime.ParseMediaType(x.header.Get("Content-Type"))
	content := answer.Content[mediaType]
	body := x.body.bytes()
	switch {
	case mediaType == "" && len(answer.Content) == 0 && len(body) == 0:
		return "", nil
	case content == nil:
		return "", []string{fmt.Sprintf("there is no answer %d of the type %q", x.status, mediaType)}
	case x.Method == http.MethodHead && len(body) == 0, x.brokenOff && content.Extensions[itemSchema] == nil:
		return "", nil
	case content.Extensions[itemSchema] != nil:
		for _, line := range someLines(body) {
			faults = append(faults, prefixed("a line: ", d.fitsLine(content, line, openapi3.VisitAsResponse()))...)
		}
		return "", faults
	case !strings.HasSuffix(mediaType, "json"):
		if len(body) == 0 && (mediaType != "text/csv" && mediaType != "text/plain" || x.status != 200) {
			faults = append(faults, "the body is empty")
		}
		return "", faults
	case x.body.more:
		return "", nil
	}
	if x.status >= 400 {
		var problem struct{ Code string }
		_ = json.Unmarshal(body, &problem) // what is wrong with it is said below
		code = problem.Code
	}
	return code, prefixed("the body: ", d.fits(fmt.Sprintf("%p", content.Schema.Value), content.Schema.Value, body, openapi3.VisitAsResponse()))
}

// mostLines is how many lines of a body are looked at, and the last.
const mostLines = 100

// someLines returns the first lines of a body and the last, all of them whole.
func someLines(body []byte) (some [][]byte) {
	lines := slices.Collect(bytes.Lines(body))
	if n := len(lines); n > 0 && lines[n-1][len(lines[n-1])-1] != '\n' {
		lines = lines[:n-1]
	}
	if n := len(lines); n > mostLines {
		return append(lines[:mostLines:mostLines], lines[n-1])
	}
	return lines
}

// requestFaults are those of a request that succeeded.
func (d *described) requestFaults(x *answered, o operation) (faults []string) {
	query, _ := url.ParseQuery(x.URL.RawQuery)
	for name, values := range query {
		parameter := o.Parameters.GetByInAndName("query", name)
		if parameter == nil {
			if len(o.queryParameters()) > 0 { // else the query is not looked at
				faults = append(faults, fmt.Sprintf("there is no parameter %q", name))
			}
			continue
		}
		var value any = values[0]
		if schema := parameter.Schema.Value; !schema.Type.Is("string") {
			_ = json.Unmarshal([]byte(values[0]), &value) // else it stays a string
		}
		if err := parameter.Schema.Value.VisitJSON(value); err != nil {
			faults = append(faults, fmt.Sprintf("the parameter %s: %v", name, err))
		}
	}
	if o.RequestBody == nil {
		return faults
	}
	mediaType, _, _ := mime.ParseMediaType(x.Request.Header.Get("Content-Type"))
	content := o.RequestBody.Value.Content[mediaType]
	switch {
	case content == nil:
		faults = append(faults, fmt.Sprintf("the request takes no body of the type %q", mediaType))
	case content.Extensions[itemSchema] != nil:
		faults = append(faults, d.lineFaults(x, content)...)
	case !x.sent.more:
		faults = append(faults, prefixed("the request's body: ", d.fits(fmt.Sprintf("%p", content.Schema.Value), content.Schema.Value, x.sent.bytes()))...)
	}
	return faults
}

// lineFaults are those of the lines of a request that succeeded.
func (d *described) lineFaults(x *answered, content *openapi3.MediaType) (faults []string) {
	lines := slices.Collect(bytes.Lines(x.sent.bytes()))
	for _, line := range someLines(x.body.bytes()) {
		var result struct{ Line, Status int }
		if json.Unmarshal(line, &result) != nil || result.Status > 299 || result.Line < 1 || result.Line > len(lines) {
			continue
		}
		if line := lines[result.Line-1]; line[len(line)-1] == '\n' || !x.sent.more {
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
			faults = append(faults, prefixed(fmt.Sprintf("line %d of the request: ", result.Line), d.fitsLine(content, line))...)
		}
	}
	return faults
}

func (d *described) fitsLine(content *openapi3.MediaType, line []byte, options ...openapi3.SchemaValidationOption) []string {
	name := strings.TrimPrefix(content.Extensions[itemSchema].(map[string]any)["$ref"].(string), "#/components/schemas/")
	return d.fits(name, d.Components.Schemas[name].Value, line, options...)
}

// fits holds a JSON document against a schema, which is called something.
func (d *described) fits(name string, schema *openapi3.Schema, body []byte, options ...openapi3.SchemaValidationOption) []string {
	sum := maphash.Bytes(hashSeed, append([]byte(name+" "), body...))
	if _, ok := d.fitted.Load(sum); ok {
		return nil
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return []string{err.Error()}
	}
	if err := schema.VisitJSON(value, append(options, openapi3.EnableFormatValidation(), openapi3.DisableReadOnlyValidation())...); err != nil {
		text, _, _ := strings.Cut(err.Error(), "\nSchema:")
		return []string{text}
	}
	d.fitted.Store(sum, true)
	return nil
}

func prefixed(prefix string, texts []string) []string {
	for i := range texts {
		texts[i] = prefix + texts[i]
	}
	return texts
}
