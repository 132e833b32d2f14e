package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"go.yaml.in/yaml/v3"

	"rollcall/app/directory"
)

// typeYAML is RFC 9512.
const typeYAML = "application/yaml"

// anyServer stands in a document for the address that it is asked for at.
const anyServer = "@server@"

// Document returns what describes the API in OpenAPI 3.0.3, as JSON: the fields of these kinds, and every operation
// with its parameters, bodies, answers and errors.
func Document(kinds []*directory.Kind, version, server string) []byte {
	asJSON, _ := (&api{Options: Options{Kinds: kinds, Version: version}}).describe()
	return at(asJSON, server)
}

// describe returns the document as JSON and as YAML, but for the address of the API.
func (a *api) describe() (asJSON, asYAML []byte) {
	asJSON, err := json.MarshalIndent(a.document(), "", "  ")
	if err != nil {
		panic(err) // it is made of what can be written
	}
	asJSON = append(asJSON, '\n')
	return asJSON, toYAML(asJSON)
}

// at returns a document, as JSON or YAML, with the address of the API in it: near the end, behind all that is
// configured. What YAML does not take as it is, JSON may escape as well.
func at(document []byte, server string) []byte {
	quoted, _ := json.Marshal(server) // a string: can't fail
	var url []byte
	for _, r := range string(quoted) {
		if r < 0x7f || r > 0xffff {
			url = utf8.AppendRune(url, r)
		} else {
			url = fmt.Appendf(url, `\u%04x`, r)
		}
	}
	place := []byte(`"` + anyServer + `"`)
	i := bytes.LastIndex(document, place)
	return slices.Concat(document[:i], url, document[i+len(place):])
}

// toYAML returns a JSON document as YAML. Where the address is to be put, quotes stay.
func toYAML(document []byte) []byte {
	var root yaml.Node
	if err := yaml.Unmarshal(document, &root); err != nil {
		panic(err) // JSON is YAML
	}
	plain(&root)
	var text bytes.Buffer
	encoder := yaml.NewEncoder(&text)
	encoder.SetIndent(2)
	if err := encoder.Encode(&root); err != nil {
		panic(err)
	}
	return text.Bytes()
}

// plain has a node and those below it written as YAML is.
func plain(node *yaml.Node) {
	if node.Value != anyServer {
		node.Style = 0
	}
	for _, child := range node.Content {
		plain(child)
	}
}

func (a *api) openapiJSON(w http.ResponseWriter, r *http.Request) error {
	document, _ := a.documents()
	return a.answerDocument(w, r, typeJSON, document)
}

func (a *api) openapiYAML(w http.ResponseWriter, r *http.Request) error {
	_, document := a.documents()
	return a.answerDocument(w, r, typeYAML, document)
}

func (a *api) answerDocument(w http.ResponseWriter, r *http.Request, mediaType string, document []byte) error {
	if accepted(r, mediaType) == "" {
		return &directory.Error{Code: directory.NotAcceptable, Detail: "Accept " + mediaType + "."}
	}
	answerAs(w, http.StatusOK, mediaType, at(document, a.url(r, "")))
	return nil
}

// documented is what the document says of one method at one path.
type documented struct {
	id, tag, summary, description string
	// open operations take no login.
	open bool
	// parameters are those beside the ones in the path.
	parameters []*openapi3.Parameter
	// request is the body by its media types, nil for none.
	request openapi3.Content
	// answers are the successes, by status.
	answers map[int]*openapi3.Response
	// codes are the errors that it can give.
	codes []*directory.Code
}

// document describes all resources. It panics where one is not described.
func (a *api) document() *openapi3.T {
	described := a.operations()
	paths := openapi3.NewPaths()
	responses := openapi3.ResponseBodies{}
	for path, methods := range a.resources() {
		item := &openapi3.PathItem{}
		for method := range methods {
			o, ok := described[method+" "+path]
			if !ok {
				panic("no description of " + method + " " + path)
			}
			item.SetOperation(method, o.describe(path, a.pathParameters(path), responses))
		}
		paths.Set(path, item)
	}
	var tags openapi3.Tags
	for _, kind := range a.Kinds {
		tags = append(tags, &openapi3.Tag{Name: kind.Name, Description: "The " + kind.Name + " of the directory, by their " + kind.Key + "."})
	}
	return &openapi3.T{
		OpenAPI: "3.0.3",
		Info: &openapi3.Info{
			Title: "Rollcall", Version: a.Version, Description: about,
			License: &openapi3.License{Name: "Apache 2.0", URL: "https://www.apache.org/licenses/LICENSE-2.0.html"},
		},
		Servers: openapi3.Servers{{URL: anyServer}},
		Tags: append(tags,
			&openapi3.Tag{Name: tagLogin, Description: "Tokens, and who one is."},
			&openapi3.Tag{Name: tagReach, Description: "Who may log in to which host by SSH, by which keys, and why."},
			&openapi3.Tag{Name: tagService, Description: "What this is, how it is, and what it says."}),
		Paths: paths,
		Security: openapi3.SecurityRequirements{
			openapi3.NewSecurityRequirement().Authenticate("bearer"), openapi3.NewSecurityRequirement().Authenticate("basic"),
		},
		Components: &openapi3.Components{
			Schemas: a.schemas(), Responses: responses, Headers: responseHeaders(),
			SecuritySchemes: openapi3.SecuritySchemes{
				"bearer": {Value: &openapi3.SecurityScheme{Type: "http", Scheme: "bearer", BearerFormat: "JWT",
					Description: "The access_token of POST /login, or a token of the OpenID Connect issuer that is configured."}},
				"basic": {Value: &openapi3.SecurityScheme{Type: "http", Scheme: "basic",
					Description: "A user's name and password, for each request."}},
			},
		},
	}
}

// typeProblem is RFC 9457.
const typeProblem = "application/problem+json"

const about = `Users, groups and hosts of an LDAP directory, over HTTP.

Fields without a value are left out of answers; lists are there even when they are empty. What is no success is a problem document (RFC 9457) with a ` + "`code`" + `: ` + "`GET /errors`" + ` lists them. HEAD answers as GET does, without a body, and OPTIONS says what an address can do.`

// describe returns the operation as the document has it. Answers to errors are shared.
func (o documented) describe(path string, variables openapi3.Parameters, shared openapi3.ResponseBodies) *openapi3.Operation {
	described := &openapi3.Operation{
		OperationID: o.id, Tags: []string{o.tag}, Summary: o.summary, Description: o.description,
		Parameters: slices.Clone(variables), Responses: openapi3.NewResponsesWithCapacity(len(o.answers)),
	}
	for _, p := range o.parameters {
		described.Parameters = append(described.Parameters, &openapi3.ParameterRef{Value: p})
	}
	if o.request != nil {
		described.RequestBody = &openapi3.RequestBodyRef{Value: &openapi3.RequestBody{Required: true, Content: o.request}}
	}
	if o.open {
		described.Security = openapi3.NewSecurityRequirements()
	}
	for status, answer := range o.answers {
		answer.Headers = maps.Clone(answer.Headers)
		if answer.Headers == nil {
			answer.Headers = openapi3.Headers{}
		}
		answer.Headers[headerRequestID] = headerRef(headerRequestID, true)
		described.Responses.Set(strconv.Itoa(status), &openapi3.ResponseRef{Value: answer})
	}
	for status, codes := range byStatus(o.codes) {
		name := nameOf(codes)
		if shared[name] == nil {
			shared[name] = &openapi3.ResponseRef{Value: refusalOf(codes)}
		}
		described.Responses.Set(strconv.Itoa(status), &openapi3.ResponseRef{Ref: "#/components/responses/" + name, Value: shared[name].Value})
	}
	return described
}

// pathParameters are the variables of a path, with values that the sample directory has.
func (a *api) pathParameters(path string) openapi3.Parameters {
	var all openapi3.Parameters
	collection := strings.Split(path, "/")[1]
	for part := range strings.SplitSeq(path, "/") {
		name, variable := strings.CutPrefix(strings.TrimSuffix(part, "}"), "{")
		if !variable {
			continue
		}
		p := openapi3.NewPathParameter(name).WithSchema(openapi3.NewStringSchema())
		switch name {
		case "name":
			p.Description, p.Example = "The name, as the key field has it; percent-encoded.", sampleNames[collection]
		case "kind":
			for _, kind := range a.Kinds {
				p.Schema.Value.Enum = append(p.Schema.Value.Enum, kind.Name)
			}
			p.Description, p.Example = "What the member is.", directory.KindUsers
		case "member":
			p.Description, p.Example = "The member's name; percent-encoded.", sampleNames[directory.KindUsers]
		case "fingerprint":
			p.Description, p.Example = "As ssh-keygen -l shows it, with or without `SHA256:`. `+` and `/` may be written as `-` and `_`.", sampleFingerprints[collection]
		case "code":
			p.Description, p.Example = "A code of the catalogue.", directory.NotFound.Name
		}
		all = append(all, &openapi3.ParameterRef{Value: p})
	}
	return all
}

// byStatus sorts codes, each once.
func byStatus(codes []*directory.Code) map[int][]*directory.Code {
	sorted := map[int][]*directory.Code{}
	for _, code := range codes {
		if !slices.Contains(sorted[code.Status], code) {
			sorted[code.Status] = append(sorted[code.Status], code)
		}
	}
	for _, same := range sorted {
		slices.SortFunc(same, func(a, b *directory.Code) int { return strings.Compare(a.Name, b.Name) })
	}
	return sorted
}

// nameOf returns what an answer with one of these codes is called.
func nameOf(codes []*directory.Code) string {
	names := make([]string, len(codes))
	for i, code := range codes {
		names[i] = code.Name
	}
	return strings.Join(names, "_or_")
}

// refusalOf describes the answer to what fails with one of these codes, which are of one status.
func refusalOf(codes []*directory.Code) *openapi3.Response {
	var says []string
	var names []string
	waits := 0
	examples := openapi3.Examples{}
	response := openapi3.NewResponse()
	response.Headers = openapi3.Headers{headerRequestID: headerRef(headerRequestID, true)}
	for _, code := range codes {
		says = append(says, fmt.Sprintf("`%s`: %s. %s", code.Name, code.Title, code.Remedy))
		names = append(names, code.Name)
		examples[code.Name] = &openapi3.ExampleRef{Value: &openapi3.Example{Summary: code.Title, Value: sampleProblem(code)}}
		if code.RetryAfter > 0 {
			waits++
			response.Headers[headerRetryAfter] = headerRef(headerRetryAfter, waits == len(codes))
		}
	}
	switch codes[0].Status {
	case http.StatusUnauthorized:
		response.Headers[headerChallenge] = headerRef(headerChallenge, true)
	case http.StatusUnsupportedMediaType:
		for _, name := range []string{headerAccept, headerAcceptPatch, headerAcceptPost} {
			response.Headers[name] = headerRef(name, false)
		}
	}
	schema := &openapi3.Schema{AllOf: openapi3.SchemaRefs{refTo(schemaProblem), object("", properties{"code": oneOf("", names...)})}}
	response.Content = openapi3.Content{typeProblem: {Schema: &openapi3.SchemaRef{Value: schema}, Examples: examples}}
	return response.WithDescription(strings.Join(says, "\n\n"))
}

// The headers that the document describes.
const (
	headerRequestID   = "X-Request-Id"
	headerETag        = "ETag"
	headerLocation    = "Location"
	headerLink        = "Link"
	headerTotal       = "X-Total-Count"
	headerRetryAfter  = "Retry-After"
	headerChallenge   = "WWW-Authenticate"
	headerAccept      = "Accept"
	headerAcceptPatch = "Accept-Patch"
	headerAcceptPost  = "Accept-Post"
)

// headerRef refers to a header that is always there, or one that may be.
func headerRef(name string, always bool) *openapi3.HeaderRef {
	if !always {
		name += mayBe
	}
	return &openapi3.HeaderRef{Ref: "#/components/headers/" + name, Value: &openapi3.Header{}}
}

// mayBe ends the name of a header that is not always there.
const mayBe = "-if-any"

// responseHeaders describes the headers of answers.
func responseHeaders() openapi3.Headers {
	headers := openapi3.Headers{}
	for _, header := range []struct {
		names       []string
		description string
		example     any
	}{
		{[]string{headerRequestID}, "What the log calls the request: the client's own, where it is fit to be logged.", sampleRequestID},
		{[]string{headerETag, headerETag + mayBe}, "The state of the entry, for If-Match and If-None-Match.", sampleETag},
		{[]string{headerLocation, headerLocation + mayBe}, "Where the entry is.", "http://127.0.0.1:8080/users/alice"},
		{[]string{headerLink + mayBe}, `The next page, with rel="next", while there is more (RFC 8288).`, `<http://127.0.0.1:8080/users?cursor=…>; rel="next"`},
		{[]string{headerTotal + mayBe}, "How many entries match, where count=true asks for it.", 20},
		{[]string{headerRetryAfter, headerRetryAfter + mayBe}, "Seconds that a client does well to wait.", 2},
		{[]string{headerChallenge}, "How one may log in (RFC 9110 §11.6.1).", `Basic realm="Rollcall", charset="UTF-8"`},
		{[]string{headerAccept + mayBe}, "The types that a PUT takes here.", typeJSON},
		{[]string{headerAcceptPatch + mayBe}, "The types that a PATCH takes here (RFC 5789).", typeMergePatch + ", " + typeJSONPatch + ", " + typeJSON},
		{[]string{headerAcceptPost + mayBe}, "The types that a POST takes here (RFC 9110 §15.5.16).", typeJSON + ", " + typeNDJSON},
	} {
		for _, name := range header.names {
			schema := openapi3.NewStringSchema()
			if _, ok := header.example.(int); ok {
				schema = openapi3.NewIntegerSchema()
			}
			headers[name] = &openapi3.HeaderRef{Value: &openapi3.Header{Parameter: openapi3.Parameter{
				Description: header.description, Required: !strings.HasSuffix(name, mayBe), Schema: schema.NewRef(), Example: header.example,
			}}}
		}
	}
	return headers
}
