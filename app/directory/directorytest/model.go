package directorytest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"rollcall/app/directory"
)

// RunModel compares a directory with a model of it, kept in maps, over random sequences of operations. What the
// model holds is what must be read, after every step and by every way of reading.
func RunModel(t *testing.T, f Fixture) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{t: t, f: f, users: map[string]map[string]string{}, groups: map[string][]string{}, owners: map[string][]string{}}
		t.Repeat(map[string]func(*rapid.T){
			"":                 m.compare,
			"create a user":    m.createUser,
			"update a user":    m.updateUser,
			"delete a user":    m.deleteUser,
			"create a group":   m.createGroup,
			"replace members":  m.replaceMembers,
			"add a member":     m.addMember,
			"remove a member":  m.removeMember,
			"delete a group":   m.deleteGroup,
			"create a host":    m.createHost,
			"replace owners":   m.replaceOwners,
			"a stale update":   m.staleUpdate,
			"a stale deletion": m.staleDeletion,
		})
		for _, kind := range []*directory.Kind{f.Users, f.Groups, f.Hosts} {
			for _, name := range modelNames {
				_ = f.Directory.Delete(context.Background(), kind, name, directory.Condition{})
			}
		}
	})
}

var (
	modelNames  = []string{"m1", "m2", "M, 3 (x)*", `m\4=+"`, "ém5", "名6"}
	modelFields = []string{"sn", "title", "mail", "givenName", "description"}
)

type model struct {
	t *rapid.T
	f Fixture
	// users are fields by user, groups the names of members by group, owners those of owners by host.
	users          map[string]map[string]string
	groups, owners map[string][]string
}

func (m *model) name() string { return rapid.SampledFrom(modelNames).Draw(m.t, "name") }

// some draws some of the users there are, in the order of their names.
func (m *model) some() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(m.users)) {
		if rapid.Bool().Draw(m.t, name) {
			names = append(names, name)
		}
	}
	return names
}

func (m *model) dn(kind *directory.Kind, name string) string {
	entry, err := m.f.Directory.Resolve(context.Background(), kind.Name+"/"+name)
	if err != nil {
		m.t.Fatalf("resolve %s/%s: %v", kind.Name, name, err)
	}
	return entry.DN()
}

func (m *model) dns(names []string) []string {
	var dns []string
	for _, name := range names {
		dns = append(dns, m.dn(m.f.Users, name))
	}
	return dns
}

// want demands the code, or success where what is false.
func (m *model) want(what string, err error, code *directory.Code, refused bool) bool {
	if refused && !directory.Is(err, code) || !refused && err != nil {
		m.t.Fatalf("%s: got %v, want %s: %v", what, err, code.Name, refused)
	}
	return !refused
}

func (m *model) createUser(*rapid.T) {
	name := m.name()
	_, err := m.f.Directory.Create(context.Background(), m.f.Users, person(name))
	if m.want("create", err, directory.AlreadyExists, m.users[name] != nil) {
		m.users[name] = map[string]string{"cn": name, "uid": name, "sn": "Parker"}
	}
}

func (m *model) updateUser(*rapid.T) {
	name, set := m.name(), map[string][]string{}
	for _, field := range modelFields {
		value := rapid.SampledFrom([]string{"", "", "a", `b\, "c"`, "é"}).Draw(m.t, field)
		switch {
		case field == "mail" && value != "":
			set[field] = []string{fmt.Sprintf("%x@example.org", name)}
		case value != "":
			set[field] = []string{value}
		case field != "sn" && rapid.Bool().Draw(m.t, "remove "+field):
			set[field] = nil
		}
	}
	_, err := m.f.Directory.Update(context.Background(), m.f.Users, name, directory.Condition{Exists: true}, func(directory.Entry) (directory.Patch, error) {
		return directory.Patch{Set: set}, nil
	})
	if !m.want("update", err, directory.NotFound, m.users[name] == nil) {
		return
	}
	for field, values := range set {
		if len(values) == 0 {
			delete(m.users[name], field)
		} else {
			m.users[name][field] = values[0]
		}
	}
}

func (m *model) deleteUser(*rapid.T) {
	name := m.name()
	err := m.f.Directory.Delete(context.Background(), m.f.Users, name, directory.Condition{})
	if !m.want("delete", err, directory.NotFound, m.users[name] == nil) {
		return
	}
	delete(m.users, name)
	for _, lists := range []map[string][]string{m.groups, m.owners} {
		for key, list := range lists {
			lists[key] = slices.DeleteFunc(list, func(other string) bool { return other == name })
		}
	}
}

func (m *model) createGroup(*rapid.T) {
	name, members := m.name(), m.some()
	_, taken := m.groups[name]
	_, err := m.f.Directory.Create(context.Background(), m.f.Groups, directory.Patch{Set: map[string][]string{"cn": {name}, "members": m.dns(members)}})
	if m.want("create a group", err, directory.AlreadyExists, taken) {
		m.groups[name] = members
	}
}

func (m *model) replaceMembers(*rapid.T) { m.replace(m.f.Groups, m.groups, "members") }

func (m *model) replaceOwners(*rapid.T) { m.replace(m.f.Hosts, m.owners, "owners") }

func (m *model) replace(kind *directory.Kind, lists map[string][]string, field string) {
	name, list := m.name(), m.some()
	_, there := lists[name]
	_, err := m.f.Directory.Update(context.Background(), kind, name, directory.Condition{}, set(field, m.dns(list)...))
	if m.want("replace "+field, err, directory.NotFound, !there) {
		lists[name] = list
	}
}

func (m *model) addMember(*rapid.T) {
	group, members := m.name(), m.some()
	if len(members) == 0 {
		return
	}
	_, there := m.groups[group]
	err := m.f.Directory.AddValue(context.Background(), m.f.Groups, group, "members", m.dn(m.f.Users, members[0]), directory.Condition{})
	if m.want("add a member", err, directory.NotFound, !there) && !slices.Contains(m.groups[group], members[0]) {
		m.groups[group] = append(m.groups[group], members[0])
	}
}

func (m *model) removeMember(*rapid.T) {
	group, member := m.name(), m.name()
	_, there := m.groups[group]
	err := m.f.Directory.RemoveValue(context.Background(), m.f.Groups, group, "members", "users/"+member, directory.Condition{})
	if m.want("remove a member", err, directory.NotFound, !there) {
		m.groups[group] = slices.DeleteFunc(m.groups[group], func(other string) bool { return other == member })
	}
}

func (m *model) deleteGroup(*rapid.T) {
	name := m.name()
	_, there := m.groups[name]
	if m.want("delete a group", m.f.Directory.Delete(context.Background(), m.f.Groups, name, directory.Condition{}), directory.NotFound, !there) {
		delete(m.groups, name)
	}
}

func (m *model) createHost(*rapid.T) {
	name, owners := m.name(), m.some()
	_, taken := m.owners[name]
	_, err := m.f.Directory.Create(context.Background(), m.f.Hosts, directory.Patch{Set: map[string][]string{"cn": {name}, "owners": m.dns(owners)}})
	if m.want("create a host", err, directory.AlreadyExists, taken) {
		m.owners[name] = owners
	}
}

// stale returns a condition that held before the last update of a user, and no longer does.
func (m *model) stale(name string) directory.Condition {
	before, err := m.f.Directory.Get(context.Background(), m.f.Users, name)
	if err != nil {
		m.t.Fatalf("get %q: %v", name, err)
	}
	number := fmt.Sprint(len(before.First("title")) + 1)
	if _, err := m.f.Directory.Update(context.Background(), m.f.Users, name, directory.Condition{OneOf: []directory.Version{before.Version}}, set("title", number)); err != nil {
		m.t.Fatalf("update %q under its version: %v", name, err)
	}
	m.users[name]["title"] = number
	if before.First("title") == number {
		return directory.Condition{OneOf: []directory.Version{}}
	}
	return directory.Condition{OneOf: []directory.Version{before.Version}}
}

func (m *model) staleUpdate(*rapid.T) {
	if users := m.some(); len(users) > 0 {
		_, err := m.f.Directory.Update(context.Background(), m.f.Users, users[0], m.stale(users[0]), set("sn", "stale"))
		m.want("a stale update", err, directory.Stale, true)
	}
}

func (m *model) staleDeletion(*rapid.T) {
	if users := m.some(); len(users) > 0 {
		m.want("a stale deletion", m.f.Directory.Delete(context.Background(), m.f.Users, users[0], m.stale(users[0])), directory.Stale, true)
	}
}

// compare reads everything by name, by list and by the groups that users are in.
func (m *model) compare(*rapid.T) {
	ctx := context.Background()
	for _, name := range modelNames {
		entry, err := m.f.Directory.Get(ctx, m.f.Users, name)
		if !m.want("get", err, directory.NotFound, m.users[name] == nil) {
			continue
		}
		for _, field := range append([]string{"cn", "uid"}, modelFields...) {
			if got, want := entry.First(field), m.users[name][field]; got != want {
				m.t.Fatalf("%s of %q is %q, want %q", field, name, got, want)
			}
		}
		var groups []string
		for group, members := range m.groups {
			if slices.Contains(members, name) {
				groups = append(groups, m.dn(m.f.Groups, group))
			}
		}
		m.same("memberOfs of "+name, entry.Values("memberOfs"), groups)
	}
	m.compareLists(m.f.Groups, m.groups, "members")
	m.compareLists(m.f.Hosts, m.owners, "owners")
}

func (m *model) compareLists(kind *directory.Kind, lists map[string][]string, field string) {
	found := map[string]directory.Entry{}
	for entry, err := range directory.Each(context.Background(), m.f.Directory, kind, directory.Query{Limit: 100}) {
		if err != nil {
			m.t.Fatalf("list %s: %v", kind.Name, err)
		}
		found[entry.Name()] = entry
	}
	for _, name := range modelNames {
		list, want := lists[name]
		entry, got := found[name]
		if got != want {
			m.t.Fatalf("the %s %q is listed: %v, want %v", kind.Singular, name, got, want)
		}
		m.same(field+" of "+name, entry.Values(field), m.dns(list))
	}
}

func (m *model) same(what string, got, want []string) {
	if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
		m.t.Fatalf("%s are %q, want %q", what, got, want)
	}
}
