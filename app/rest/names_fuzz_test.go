package rest_test

import (
	"slices"
	"testing"

	"rollcall/app/client"
	"rollcall/app/directory/directorytest"
)

// FuzzNames checks that any name is refused clearly, or names one new entry and no other, from creation to deletion.
func FuzzNames(f *testing.F) {
	for _, name := range directorytest.Names {
		f.Add(name)
	}
	f.Add("\u00ad")
	f.Add("Ａdmin")
	f.Add("\x00")
	a := newAPI(f, everybodyIsAdmin)
	var before []string
	for _, user := range a.list("/users") {
		before = append(before, user["cn"].(string))
	}
	f.Fuzz(func(t *testing.T, name string) {
		a := *a
		a.t = t
		created := a.do("POST", "/users", object{"cn": name, "sn": "x"})
		switch created.Status {
		case 409:
			created.want(409)
		case 422:
			if created.want(422).problem().Violations == nil {
				created.fail("no field is named")
			}
		default:
			stored := created.want(201).object()["cn"].(string)
			path := client.Path("users", stored)
			a.do("GET", path, nil).want(200).field("id", created.object()["id"]).field("cn", stored)
			a.do("PATCH", path, object{"title": "x"}).want(200).field("id", created.object()["id"])
			a.do("PUT", "/groups/contractors"+client.Path("members", "users", stored), nil).want(204)
			a.do("DELETE", path, nil).want(204)
			a.do("GET", path, nil).want(404)
		}
		var after []string
		for _, user := range a.list("/users") {
			after = append(after, user["cn"].(string))
		}
		if !slices.Equal(before, after) {
			t.Fatalf("after creating and deleting %q there are %q, there were %q", name, after, before)
		}
	})
}

func (a *api) list(path string) []object {
	a.t.Helper()
	var all []object
	a.do("GET", path, nil).want(200).decode(&all)
	return all
}
