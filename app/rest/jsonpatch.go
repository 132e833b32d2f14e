package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"rollcall/app/directory"
)

// maxOperations is how many operations a JSON Patch may have.
const maxOperations = 1000

// operation is one operation of a JSON Patch, RFC 6902 §4.
type operation struct {
	op         string
	path, from pointer
	value      json.RawMessage
}

// pointer is a JSON Pointer, RFC 6901.
type pointer struct {
	text   string
	tokens []string
}

// decodeJSONPatch reads a JSON Patch (RFC 6902) as a change of an entry as it is shown. Its operations may copy and
// move so many bytes in all.
func decodeJSONPatch(body []byte, mostCarried int64) (directory.Change, error) {
	operations, err := decodeOperations(body)
	if err != nil {
		return nil, err
	}
	return func(current directory.Entry) (directory.Patch, error) {
		return applyOperations(operations, current, mostCarried)
	}, nil
}

func decodeOperations(body []byte) ([]operation, error) {
	if !utf8.Valid(body) {
		return nil, malformed("The body is not UTF-8.")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if !opens(decoder, '[') {
		return nil, malformed("The body must be one JSON array of operations (RFC 6902).")
	}
	var operations []operation
	for decoder.More() {
		i := len(operations)
		if i == maxOperations {
			return nil, malformed(fmt.Sprintf("Operation %d is one too many: a patch has at most %d.", i, maxOperations))
		}
		if !opens(decoder, '{') {
			return nil, malformed(fmt.Sprintf("Operation %d must be a JSON object.", i))
		}
		members, twice := map[string]json.RawMessage{}, false
		err := decodeMembers(decoder, func(name string, value json.RawMessage) {
			twice = twice || members[name] != nil
			members[name] = value
		})
		if err != nil {
			return nil, err
		}
		o, needs := newOperation(members)
		if twice {
			needs = "each member once"
		}
		if needs != "" {
			return nil, malformed(fmt.Sprintf("Operation %d needs %s.", i, needs))
		}
		operations = append(operations, o)
	}
	if _, err := decoder.Token(); err != nil {
		return nil, syntaxError(err, decoder)
	}
	return operations, decodeEnd(decoder)
}

// newOperation returns the operation that has these members, or what it needs to be one.
func newOperation(members map[string]json.RawMessage) (o operation, needs string) {
	if json.Unmarshal(members["op"], &o.op) != nil || !slices.Contains([]string{"add", "remove", "replace", "move", "copy", "test"}, o.op) {
		return o, `an "op" of add, remove, replace, move, copy or test`
	}
	const aPointer = ", a JSON Pointer (RFC 6901) such as /mail or /members/0"
	var ok bool
	if o.path, ok = parsePointer(members["path"]); !ok {
		return o, `a "path"` + aPointer
	}
	whole := len(o.path.tokens) == 0
	switch o.op {
	case "move", "copy":
		if o.from, ok = parsePointer(members["from"]); !ok {
			return o, `a "from"` + aPointer
		}
		if o.op == "move" && (o.from.text == "" || strings.HasPrefix(o.path.text, o.from.text+"/")) {
			return o, `a "from" that does not hold the "path"`
		}
	case "remove":
		if whole {
			return o, `a "path" other than that of the whole entry, which DELETE is for`
		}
	default:
		o.value = members["value"]
		switch {
		case o.value == nil:
			return o, `a "value"`
		case whole && o.op != "test" && o.value[0] != '{':
			return o, `a JSON object as the "value", to be the whole entry`
		}
	}
	return o, ""
}

func parsePointer(raw json.RawMessage) (p pointer, ok bool) {
	if raw == nil || raw[0] != '"' || json.Unmarshal(raw, &p.text) != nil {
		return p, false
	}
	if p.text == "" {
		return p, true
	}
	if p.text[0] != '/' || strings.Count(p.text, "~") != strings.Count(p.text, "~0")+strings.Count(p.text, "~1") {
		return p, false
	}
	unescape := strings.NewReplacer("~1", "/", "~0", "~")
	for token := range strings.SplitSeq(p.text[1:], "/") {
		p.tokens = append(p.tokens, unescape.Replace(token))
	}
	return p, true
}

// document is an entry as a JSON object. An entry is not deep: a path leads to a field, or to a value of a list.
type document struct {
	kind *directory.Kind
	// fields are a json.RawMessage each, or a []json.RawMessage once a path has led to a value of it.
	fields map[string]any
	// carried is how many bytes were copied and moved.
	carried int64
}

// applyOperations returns what a patch makes of an entry: the fields that it gives other values, and no others.
func applyOperations(operations []operation, current directory.Entry, mostCarried int64) (directory.Patch, error) {
	var shown map[string]json.RawMessage
	if err := json.Unmarshal(appendEntry(nil, current), &shown); err != nil {
		return directory.Patch{}, &directory.Error{Code: directory.Internal, Cause: err}
	}
	d := &document{kind: current.Kind, fields: make(map[string]any, len(shown))}
	for name, value := range shown {
		d.fields[name] = value
	}
	for i, o := range operations {
		if wrong := d.apply(o); wrong != "" {
			return directory.Patch{}, &directory.Error{Code: directory.PatchConflict,
				Detail: fmt.Sprintf("Operation %d, %s %s: %s.", i, o.op, shownPath(o.path), wrong)}
		}
		if d.carried > mostCarried {
			return directory.Patch{}, &directory.Error{Code: directory.BodyTooLarge,
				Detail: fmt.Sprintf("With operation %d the patch copies and moves more than a body may hold.", i)}
		}
	}
	patch := directory.Patch{Set: make(map[string][]string)}
	for name := range shown {
		if _, there := d.fields[name]; !there {
			patch.Set[name] = nil
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.fields)) {
		if value := d.field(name); !equal(value, shown[name]) {
			decodeField(&patch, d.kind, name, value)
		}
	}
	return patch, nil
}

// apply applies one operation, or says why that can't be.
func (d *document) apply(o operation) (wrong string) {
	const nothing = "there is nothing at "
	switch o.op {
	case "test":
		value, ok := d.get(o.path)
		if !ok {
			return nothing + "this path"
		}
		if !equal(value, o.value) {
			return "the value is another"
		}
		return ""
	case "remove":
		if !d.remove(o.path) {
			return nothing + "this path"
		}
		return ""
	case "replace":
		if len(o.path.tokens) > 0 && !d.remove(o.path) {
			return nothing + "this path"
		}
	case "copy", "move":
		value, ok := d.get(o.from)
		if !ok || o.op == "move" && !d.remove(o.from) {
			return nothing + shownPath(o.from)
		}
		d.carried += int64(len(value))
		o.value = value
	}
	if !d.add(o.path, o.value) {
		return "nothing can be put there"
	}
	return ""
}

// get returns the value at a path. Those of write-only fields are not there.
func (d *document) get(p pointer) (value json.RawMessage, ok bool) {
	if len(p.tokens) > 0 && d.hides(p.tokens[0]) {
		return nil, false
	}
	switch len(p.tokens) {
	case 0:
		shown := maps.Clone(d.fields)
		maps.DeleteFunc(shown, func(name string, _ any) bool { return d.hides(name) })
		value, err := json.Marshal(shown)
		return value, err == nil
	case 1:
		value = d.field(p.tokens[0])
		return value, value != nil
	case 2:
		list := d.list(p.tokens[0])
		if i, ok := index(p.tokens[1], len(list)); ok {
			return list[i], true
		}
	}
	return nil, false
}

// add puts a value at a path. In a list, the values from there on move up.
func (d *document) add(p pointer, value json.RawMessage) (ok bool) {
	switch len(p.tokens) {
	case 0:
		var whole map[string]json.RawMessage
		if value[0] != '{' || json.Unmarshal(value, &whole) != nil {
			return false
		}
		clear(d.fields)
		for name, value := range whole {
			d.fields[name] = value
		}
		return true
	case 1:
		d.fields[p.tokens[0]] = value
		return true
	case 2:
		list := d.list(p.tokens[0])
		i, ok := index(p.tokens[1], len(list)+1)
		if p.tokens[1] == "-" {
			i, ok = len(list), true
		}
		if ok && list != nil {
			d.fields[p.tokens[0]] = slices.Insert(list, i, value)
			return true
		}
	}
	return false
}

// remove takes away what is at a path.
func (d *document) remove(p pointer) (ok bool) {
	if len(p.tokens) > 0 && d.hides(p.tokens[0]) {
		return false
	}
	switch len(p.tokens) {
	case 1:
		_, ok = d.fields[p.tokens[0]]
		delete(d.fields, p.tokens[0])
		return ok
	case 2:
		list := d.list(p.tokens[0])
		if i, ok := index(p.tokens[1], len(list)); ok {
			d.fields[p.tokens[0]] = slices.Delete(list, i, i+1)
			return true
		}
	}
	return false
}

// hides reports whether a field is never shown.
func (d *document) hides(name string) bool {
	field, _ := d.kind.Field(name)
	return field.WriteOnly
}

// field returns the value of a field, nil where it has none.
func (d *document) field(name string) json.RawMessage {
	switch value := d.fields[name].(type) {
	case json.RawMessage:
		return value
	case []json.RawMessage:
		joined := []byte{'['}
		for i, item := range value {
			if i > 0 {
				joined = append(joined, ',')
			}
			joined = append(joined, item...)
		}
		return append(joined, ']')
	}
	return nil
}

// list returns the values of a field that is a list, nil of any other.
func (d *document) list(name string) []json.RawMessage {
	switch value := d.fields[name].(type) {
	case json.RawMessage:
		list := []json.RawMessage{}
		if value[0] != '[' || json.Unmarshal(value, &list) != nil {
			return nil
		}
		d.fields[name] = list
		return list
	case []json.RawMessage:
		return value
	}
	return nil
}

// index reads the index of one of n values, RFC 6901 §4.
func index(token string, n int) (i int, ok bool) {
	i, err := strconv.Atoi(token)
	return i, err == nil && i >= 0 && i < n && strconv.Itoa(i) == token
}

// equal compares two JSON values as RFC 6902 §4.6 says.
func equal(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

// shownPath returns a path as answers and logs repeat it.
func shownPath(p pointer) string {
	if p.text == "" {
		return "the whole entry"
	}
	return shown(p.text)
}
