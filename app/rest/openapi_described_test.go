package rest_test

import (
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"

	"rollcall/app/directory"
	"rollcall/app/rest"
)

// described is the document of an API. Unlike in the document itself, no object has properties that are not named.
type described struct {
	*openapi3.T
	// fitted are bodies that were found right, by a hash of them and of what they are.
	fitted sync.Map
}

// operation is what the document says of a method at a path.
type operation struct {
	method, path string
	*openapi3.Operation
}

// String returns the method and the path.
func (o operation) String() string { return o.method + " " + o.path }

// queryParameters are those of the query.
func (o operation) queryParameters() (all []*openapi3.Parameter) {
	for _, p := range o.Parameters {
		if p.Value.In == openapi3.ParameterInQuery {
			all = append(all, p.Value)
		}
	}
	return all
}

var (
	documents sync.Map
	hashSeed  = maphash.MakeSeed()
)

// describedBy returns the document of an API with these kinds.
func describedBy(kinds []*directory.Kind) (*described, error) {
	key := ""
	for _, kind := range kinds {
		key += fmt.Sprintf("%p ", kind)
	}
	known, _ := documents.LoadOrStore(key, sync.OnceValues(func() (*described, error) {
		document, err := openapi3.NewLoader().LoadFromData(rest.Document(kinds, "test", "http://127.0.0.1"))
		if err != nil {
			return nil, err
		}
		d := &described{T: document}
		d.close()
		return d, nil
	}))
	return known.(func() (*described, error))()
}

// operations returns every operation, by path and method.
func (d *described) operations() []operation {
	var all []operation
	for _, path := range slices.Sorted(maps.Keys(d.Paths.Map())) {
		of := d.Paths.Value(path).Operations()
		for _, method := range slices.Sorted(maps.Keys(of)) {
			all = append(all, operation{method, path, of[method]})
		}
	}
	return all
}

// find returns the path of the document that a path is of, and what may be done there.
func (d *described) find(path string) (template string, item *openapi3.PathItem) {
	for _, template := range slices.Sorted(maps.Keys(d.Paths.Map())) { // a name comes before "{"
		if isOf(path, template) {
			return template, d.Paths.Value(template)
		}
	}
	return "", nil
}

// isOf reports whether a path is of a template, whose variables stand for anything but a slash.
func isOf(path, template string) bool {
	parts, named := strings.Split(path, "/"), strings.Split(template, "/")
	if len(parts) != len(named) {
		return false
	}
	for i, part := range parts {
		if variable := strings.HasPrefix(named[i], "{"); variable && part == "" || !variable && part != named[i] {
			return false
		}
	}
	return true
}

// close has objects refuse what they do not name, but for those that say that they take anything. What is all of
// several objects becomes one: each of them would refuse what the others name.
func (d *described) close() {
	visited := map[*openapi3.Schema]bool{}
	for _, schema := range d.Components.Schemas {
		closeSchema(schema, visited)
	}
	for _, answer := range d.Components.Responses {
		closeContent(answer.Value.Content, visited)
	}
	for _, o := range d.operations() {
		if o.RequestBody != nil {
			closeContent(o.RequestBody.Value.Content, visited)
		}
		for _, answer := range o.Responses.Map() {
			closeContent(answer.Value.Content, visited)
		}
	}
}

func closeContent(content openapi3.Content, visited map[*openapi3.Schema]bool) {
	for _, body := range content {
		closeSchema(body.Schema, visited)
	}
}

func closeSchema(ref *openapi3.SchemaRef, visited map[*openapi3.Schema]bool) {
	if ref == nil || visited[ref.Value] {
		return
	}
	schema := ref.Value
	visited[schema] = true
	for _, part := range schema.AllOf {
		closeSchema(part, visited)
		if schema.Properties == nil {
			schema.Properties = openapi3.Schemas{}
		}
		maps.Copy(schema.Properties, part.Value.Properties)
		schema.Required = append(schema.Required, part.Value.Required...)
		schema.Type = &openapi3.Types{openapi3.TypeObject}
	}
	schema.AllOf = nil
	schema.Nullable = schema.Nullable || schema.Type == nil && schema.AnyOf == nil && schema.OneOf == nil // as anything
	for _, part := range slices.Concat(schema.AnyOf, schema.OneOf) {
		closeSchema(part, visited)
	}
	closeSchema(schema.Items, visited)
	for _, property := range schema.Properties {
		closeSchema(property, visited)
	}
	closeSchema(schema.AdditionalProperties.Schema, visited)
	if schema.Type.Is(openapi3.TypeObject) && schema.AdditionalProperties.Has == nil && schema.AdditionalProperties.Schema == nil {
		schema.WithoutAdditionalProperties()
	}
}
