package rest

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"

	"rollcall/app/directory"
)

// The parameters of memberships.
const (
	paramNested = "nested"
	paramKind   = "kind"
)

// membership is a [directory.Membership] as clients see it.
type membership struct {
	// Kind is the member's.
	Kind   string   `json:"kind,omitempty"`
	Name   string   `json:"name"`
	DN     string   `json:"dn"`
	Direct bool     `json:"direct"`
	Path   []string `json:"path"`
}

// groups answers with the groups that an entry is in.
func (e entries) groups(w http.ResponseWriter, r *http.Request) error {
	name, err := e.nameOf(r)
	if err != nil {
		return err
	}
	parameters, err := e.parameters(r, paramNested)
	if err != nil {
		return err
	}
	nested, err := isTrue(parameters, paramNested)
	if err != nil {
		return err
	}
	all, err := e.Paths.GroupsOf(r.Context(), e.kind, name, nested)
	if err != nil {
		return err
	}
	shown := []membership{}
	for _, m := range all {
		shown = append(shown, membership{"", m.Name, m.DN, m.Direct, m.Path})
	}
	return answerJSON(w, r, http.StatusOK, shown)
}

// nestedMembers answers with the members of a group, each with its kind and with how it is in the group. It has no tag:
// it is made of many entries.
func (e entries) nestedMembers(w http.ResponseWriter, r *http.Request, name string, parameters url.Values) error {
	nested, err := isTrue(parameters, paramNested)
	if err != nil {
		return err
	}
	kinds, err := e.kindsOf(parameters)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), e.RequestTimeout) // each page has a time of its own
	defer cancel()
	members, err := e.Paths.MembersOf(ctx, name, nested, kinds)
	if err != nil {
		return err
	}
	return e.streamPages(w, r, e.identified, members.Next, listOf(func(entry directory.Entry) any {
		m, _ := members.Of(entry)
		return membership{entry.Kind.Name, m.Name, m.DN, m.Direct, m.Path}
	}))
}

// listOf returns the format of a list of what is made of entries.
func listOf(item func(directory.Entry) any) format {
	return format{
		mediaType: typeJSON, begin: jsonFormat.begin, end: jsonFormat.end,
		entry: func(b []byte, entry directory.Entry, first bool) []byte {
			if !first {
				b = append(b, ',')
			}
			line, _ := json.Marshal(item(entry)) // strings: can't fail
			return append(append(b, '\n'), line...)
		},
	}
}

// isTrue reports whether a parameter is true; it is false where it is left out.
func isTrue(parameters url.Values, name string) (bool, error) {
	value := parameters.Get(name)
	if parameters.Has(name) && value != directory.True && value != directory.False {
		return false, badQuery("%s must be true or false.", name)
	}
	return value == directory.True, nil
}

// kindsOf returns the kinds that a query asks for, all where it names none.
func (a *api) kindsOf(parameters url.Values) ([]*directory.Kind, error) {
	if !parameters.Has(paramKind) {
		return a.Kinds, nil
	}
	i := slices.IndexFunc(a.Kinds, func(k *directory.Kind) bool { return k.Name == parameters.Get(paramKind) })
	if i < 0 {
		return nil, badQuery("%s must be users, groups or hosts.", paramKind)
	}
	return a.Kinds[i : i+1], nil
}
