package rest

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
)

// media is a body, with an example where there is one.
func media(schema schema, example ...any) *openapi3.MediaType {
	body := &openapi3.MediaType{Schema: schema}
	if len(example) > 0 {
		body.Example = example[0]
	}
	return body
}

func answered(description string, content openapi3.Content) *openapi3.Response {
	return openapi3.NewResponse().WithDescription(description).WithContent(content)
}

func answers(status int, description string, schema schema) map[int]*openapi3.Response {
	return map[int]*openapi3.Response{status: answered(description, openapi3.Content{typeJSON: media(schema)})}
}

// lines is a body that has a JSON document a line.
func lines(description, line string, examples ...any) *openapi3.MediaType {
	body := &openapi3.MediaType{Schema: text(description), Extensions: map[string]any{itemSchema: map[string]any{"$ref": refTo(line).Ref}}}
	var all []string
	for _, example := range examples {
		text, err := json.Marshal(example)
		if err != nil {
			panic(err) // it is made of what can be written
		}
		all = append(all, string(text)+"\n")
	}
	if len(all) > 0 {
		body.Example = strings.Join(all, "")
	}
	return body
}

// itemSchema says what each line is, by the name that OpenAPI 3.2 has for it.
const itemSchema = "x-itemSchema"

// page is a document that browsers get as a page. Without a name it is the list of errors.
func page(name, description string) map[int]*openapi3.Response {
	document := refTo(name)
	if name == "" {
		document = list("", refTo(schemaErrorCode))
	}
	return map[int]*openapi3.Response{http.StatusOK: answered(description, openapi3.Content{typeJSON: media(document), typeHTML: media(text("A page."))})}
}

// withHeaders adds headers that are always there.
func withHeaders(response *openapi3.Response, names ...string) *openapi3.Response {
	return headed(response, true, names)
}

// withHeadersIfAny adds headers that may be there.
func withHeadersIfAny(response *openapi3.Response, names ...string) *openapi3.Response {
	return headed(response, false, names)
}

func headed(response *openapi3.Response, always bool, names []string) *openapi3.Response {
	response.Headers = openapi3.Headers{}
	for _, name := range names {
		response.Headers[name] = headerRef(name, always)
	}
	return response
}

// orPlan is a document or, of a dry run, a plan: readers are shown the first.
func orPlan(document schema) openapi3.Content {
	content := planContent()
	content[typeJSON] = media(&openapi3.SchemaRef{Value: &openapi3.Schema{AnyOf: openapi3.SchemaRefs{document, refTo(schemaPlan)}}})
	return content
}

func planContent() openapi3.Content {
	return openapi3.Content{typeJSON: media(refTo(schemaPlan)), typeLDIF: media(text("Of a dry run, the changes."))}
}

// orPlanned is an answer without a body or, of a dry run, a plan.
func orPlanned(status int, response *openapi3.Response) map[int]*openapi3.Response {
	return map[int]*openapi3.Response{status: response, http.StatusOK: answered("What a dry run would change.", planContent())}
}

// orResults adds the results of lines.
func orResults(content openapi3.Content) openapi3.Content {
	content[typeNDJSON] = lines("A result a line.", schemaBulkLine)
	return content
}
