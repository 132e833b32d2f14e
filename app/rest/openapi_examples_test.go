package rest_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// request is one that the document says how to make.
type request struct {
	method, path string
	query        url.Values
	body         any
	headers      []string
}

// with returns the request with a parameter of its query set.
func (q request) with(name, value string) request {
	query := url.Values{name: {value}}
	for other, values := range q.query {
		if other != name {
			query[other] = values
		}
	}
	q.query = query
	return q
}

// headed returns the request with more headers.
func (q request) headed(headers ...string) request {
	q.headers = slices.Concat(q.headers, headers)
	return q
}

// sentBy sends the request.
func (q request) sentBy(a *api) *exchange {
	path := q.path
	if len(q.query) > 0 {
		path += "?" + q.query.Encode()
	}
	return a.do(q.method, path, q.body, q.headers...)
}

// suchAs is how descriptions give examples of values that nobody is to send unasked.
var suchAs = regexp.MustCompile("such as `([^`]+)`")

// examples returns the requests that the document has for an operation: one for each type of body, and one for each
// parameter of the query that there is an example of.
func (o operation) examples(t *testing.T) []request {
	t.Helper()
	plain := request{method: o.method, path: o.filled(t, nil)}
	for _, p := range o.queryParameters() {
		if p.Required {
			plain = plain.with(p.Name, p.Example.(string))
		}
	}
	if o.RequestBody != nil {
		var all []request
		for mediaType, body := range o.RequestBody.Value.Content {
			if body.Example == nil {
				t.Fatalf("%s has no example of %s", o, mediaType)
			}
			one := plain.headed("Content-Type", mediaType)
			one.body = body.Example // lines are a string
			all = append(all, one)
		}
		slices.SortFunc(all, func(a, b request) int { return strings.Compare(a.headers[1], b.headers[1]) })
		return all
	}
	all := []request{plain}
	for _, p := range o.queryParameters() {
		if example := suchAs.FindStringSubmatch(p.Description); example != nil {
			all = append(all, plain.with(p.Name, example[1]))
		}
	}
	return all
}

// filled returns the path with its variables replaced by their examples, or by others.
func (o operation) filled(t *testing.T, others map[string]string) string {
	t.Helper()
	path := o.path
	for _, p := range o.Parameters {
		if p.Value.In != openapi3.ParameterInPath {
			continue
		}
		value, ok := p.Value.Example.(string)
		if other, given := others[p.Value.Name]; given {
			value, ok = other, true
		}
		if !ok {
			t.Fatalf("%s has no example of %s", o, p.Value.Name)
		}
		path = strings.ReplaceAll(path, "{"+p.Value.Name+"}", url.PathEscape(value))
	}
	return path
}

// kindOf returns the kind that an operation is about, "" for none.
func (o operation) kind() string {
	collection := strings.Split(o.path, "/")[1]
	for _, kind := range allKinds {
		if kind.Name == collection {
			return collection
		}
	}
	return ""
}

// TestEveryExampleOfTheDocumentWorks on the sample directory as it is at first. What is the same for all kinds is asked
// of one server.
func TestEveryExampleOfTheDocumentWorks(t *testing.T) {
	d, err := describedBy(allKinds)
	if err != nil {
		t.Fatal(err)
	}
	alike := map[string][]operation{}
	for _, o := range d.operations() {
		name := o.String()
		switch kind := o.kind(); {
		case o.method == http.MethodGet, kind == "" && o.path != "/refresh":
			name = "that change nothing"
		case kind != "":
			name = strings.Replace(name, "/"+kind, "/{kind}", 1)
		}
		alike[name] = append(alike[name], o)
	}
	delete(alike, "POST /refresh") // a refresh token is made, not written down
	for name, operations := range alike {
		t.Run(name, func(t *testing.T) {
			a := newAPI(t)
			for _, o := range operations {
				for _, q := range o.examples(t) {
					if slices.Contains(o.parameterNames(), "dryRun") {
						q.with("dryRun", "true").sentBy(a).want2xx()
						q.with("dryRun", "true").headed("Accept", "text/ldif").sentBy(a).want2xx()
					}
					if x := q.sentBy(a).want2xx(); slices.Contains(q.headers, asNDJSON) {
						x.everyLineSucceeded()
					}
					if o.Responses.Status(http.StatusNotModified) != nil && len(q.query) == 0 {
						q.headed("If-None-Match", "*").sentBy(a).want(304)
					}
				}
				a.otherSuccesses(t, o)
			}
		})
	}
}

// otherSuccesses are those that an example alone does not lead to.
func (a *api) otherSuccesses(t *testing.T, o operation) {
	switch {
	case o.method == http.MethodPut && strings.HasSuffix(o.path, "/{name}"):
		q := o.examples(t)[0]
		q.path = o.filled(t, map[string]string{"name": "another"})
		q.body = object{"sn": "Another"}
		if o.kind() != "users" {
			q.body = object{}
		}
		q.sentBy(a).want(201)
	case strings.HasSuffix(o.path, "/password"):
		a.do(o.method, o.filled(t, nil), object{"generate": true}).want(200)
	}
}

func (o operation) parameterNames() (names []string) {
	for _, p := range o.Parameters {
		names = append(names, p.Value.Name)
	}
	return names
}

// everyLineSucceeded demands that the answer to each line is a success.
func (x *exchange) everyLineSucceeded() {
	x.t.Helper()
	for line := range strings.Lines(string(x.Body)) {
		var result struct{ Status int }
		if err := json.Unmarshal([]byte(line), &result); err != nil || result.Status > 299 {
			x.fail("a line failed: %s", line)
		}
	}
}
