package rest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"rollcall/app/directory"
)

// FuzzDecode checks that the decoder takes just what encoding/json takes for an object, finds a value or a fault
// for each field, and that what an entry is encoded as is read back as the same.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{}`, `{"cn":"alice","sn":"Parker"}`, `{"cn":null}`, `{"accountLocked":true}`, `{"sshPublicKeys":["a","b"]}`, `{"sn":"\ud800"}`,
		`{"sn":"\ud83d\ude00"}`, `{"sn":"\ufffd"}`, `{"sn":"1","sn":"2"}`, `{"sn":1e999}`, `{"a":{"b":[{}]}}`, `{"cn":"a*)(uid=*"}`, `{} {}`, "{\"sn\":\"\xff\"}",
		`{"` + strings.Repeat("s", 2000) + `":1}`,
	} {
		f.Add([]byte(seed))
	}
	kind, err := directory.NewKind(directory.Users(), "cn")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		patch, err := decodePatch(body, kind)
		var plain map[string]json.RawMessage
		object := json.Unmarshal(body, &plain) == nil && plain != nil && utf8.Valid(body)
		if (err == nil) != object {
			t.Fatalf("decodePatch: %v, encoding/json finds an object: %v", err, object)
		}
		if err != nil {
			if !directory.Is(err, directory.BadRequest) {
				t.Fatalf("%v is no bad-request", err)
			}
			return
		}
		for name := range plain {
			_, set := patch.Set[name]
			faulty := slices.ContainsFunc(patch.Faults, func(v directory.Violation) bool { return v.Field == shown(name) })
			if !set && !faulty {
				t.Fatalf("%q is neither set nor at fault", name)
			}
		}
		entry := directory.NewEntry(kind)
		for i, field := range kind.Fields {
			if !field.WriteOnly {
				entry.SetAt(i, patch.Set[field.Name])
			}
		}
		again, err := decodePatch(appendEntry(nil, entry), kind)
		if err != nil || len(again.Faults) > 0 {
			t.Fatalf("the encoded entry is not read back: %v, %v", err, again.Faults)
		}
		for i, field := range kind.Fields {
			if !slices.Equal(again.Set[field.Name], entry.At(i)) {
				t.Fatalf("%s was %q, is read back as %q", field.Name, entry.At(i), again.Set[field.Name])
			}
		}
	})
}

// FuzzTags checks that no header makes more of a tag than it is.
func FuzzTags(f *testing.F) {
	for _, seed := range []string{"*", `"a"`, `W/"a", "b"`, `"a" "b"`, `,,"a"`, `"a`, "", `W/`, `"20261120000000.000000Z#000000#000#000000.a.b"`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		tags, all, ok := parseTags(header)
		if all && len(tags) > 0 || !ok && (all || len(tags) > 0) || ok && !all && len(tags) == 0 {
			t.Fatalf("%q: %v, %v, %v", header, tags, all, ok)
		}
		for _, tag := range tags {
			if version, ok := directory.ParseVersion(tag.opaque); ok && version.String() != tag.opaque {
				t.Fatalf("%q is read as %q", tag.opaque, version)
			}
		}
	})
}
