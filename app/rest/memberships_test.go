package rest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

func groupDN(name string) string { return "cn=" + name + ",ou=groups," + ldapdirtest.Base }

// refs are groups as a request may name them.
func refs(names ...string) []string {
	all := []string{}
	for _, name := range names {
		all = append(all, "groups/"+name)
	}
	return all
}

// groupsWith returns the names of the groups that have an entry as a member, as the groups say.
func (a *api) groupsWith(dn string) []string {
	a.t.Helper()
	names := []string{}
	var groups []object
	a.do("GET", "/groups", nil).want(200).decode(&groups)
	for _, group := range groups {
		if contains(group["members"], dn) {
			names = append(names, group["cn"].(string))
		}
	}
	slices.Sort(names)
	return names
}

// isIn demands that an entry is in these groups and in no others, as the groups say and as it says itself.
func (a *api) isIn(what, path string, groups ...string) {
	a.t.Helper()
	x := a.do("GET", path, nil).want(200)
	slices.Sort(groups)
	if got := a.groupsWith(x.object()["dn"].(string)); !slices.Equal(got, groups) {
		a.t.Fatalf("%s: %s is in %q by the groups, want %q", what, path, got, groups)
	}
	x.shows(groups...)
}

// shows demands that the answer is an entry in these groups and in no others.
func (x *exchange) shows(groups ...string) *exchange {
	x.t.Helper()
	got, want := []string{}, []string{}
	for _, dn := range x.object()["memberOfs"].([]any) {
		got = append(got, dn.(string))
	}
	for _, name := range groups {
		want = append(want, groupDN(name))
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		x.fail("it shows memberOfs %q, want %q", got, want)
	}
	return x
}

// newGroups makes groups without members.
func (a *api) newGroups(names ...string) {
	a.t.Helper()
	for _, name := range names {
		a.do("POST", "/groups", object{"cn": name}).want(201)
	}
}

var jsonPatch = []string{"Content-Type", "application/json-patch+json"}

func TestMemberOfsCanBeWritten(t *testing.T) {
	a := newAPI(t)
	a.newGroups("a", "b", "c")
	before := []string{"a", "b"}
	for i, c := range []struct {
		what, method string
		body         object
		want         []string
		made         bool
	}{
		{"POST with references", "POST", object{"memberOfs": refs("a", "c")}, []string{"a", "c"}, true},
		{"POST with DNs", "POST", object{"memberOfs": []string{groupDN("a"), "CN=C, ou=Groups," + ldapdirtest.Base}}, []string{"a", "c"}, true},
		{"POST with an empty list", "POST", object{"memberOfs": []string{}}, nil, true},
		{"POST with null", "POST", object{"memberOfs": nil}, nil, true},
		{"PUT that creates", "PUT", object{"memberOfs": refs("a", "c")}, []string{"a", "c"}, true},
		{"PUT that replaces", "PUT", object{"memberOfs": refs("c", "b")}, []string{"b", "c"}, false},
		{"PUT with an empty list", "PUT", object{"memberOfs": []string{}}, nil, false},
		{"PUT with null", "PUT", object{"memberOfs": nil}, nil, false},
		{"PUT that leaves them out keeps them", "PUT", object{}, before, false},
		{"PUT with the same in another order", "PUT", object{"memberOfs": refs("b", "a")}, before, false},
		{"PATCH that adds", "PATCH", object{"memberOfs": refs("a", "b", "c")}, []string{"a", "b", "c"}, false},
		{"PATCH that removes", "PATCH", object{"memberOfs": refs("b")}, []string{"b"}, false},
		{"PATCH that exchanges all, and another field", "PATCH", object{"memberOfs": refs("c"), "description": "moved"}, []string{"c"}, false},
		{"PATCH with null", "PATCH", object{"memberOfs": nil}, nil, false},
		{"PATCH that leaves them out keeps them", "PATCH", object{"description": "x"}, before, false},
		{"PATCH with the same, spelled differently", "PATCH", object{"memberOfs": []string{strings.ToUpper(groupDN("a")), "groups/B"}}, before, false},
	} {
		for _, kind := range []string{"users", "hosts"} {
			name := fmt.Sprintf("e%d", i)
			body := object{"cn": name}
			if kind == "users" {
				body["sn"] = "x"
			}
			path, status := "/"+kind+"/"+name, 200
			if c.made {
				status = 201
			} else {
				created := object{"memberOfs": refs(before...)}
				maps.Copy(created, body)
				a.do("POST", "/"+kind, created).want(201).shows(before...)
			}
			maps.Copy(body, c.body)
			at := path
			switch c.method {
			case "POST":
				at = "/" + kind
			case "PATCH":
				delete(body, "sn")
			}
			x := a.do(c.method, at, body).want(status).shows(c.want...)
			if c.body["description"] != nil {
				x.field("description", c.body["description"])
			}
			a.isIn(c.what, path, c.want...)
			read := a.do("GET", path, nil).want(200)
			if x.etag() != read.etag() {
				x.fail("%s: the ETag is not that of the entry as it is read: %s", c.what, read.etag())
			}
			a.do("PUT", path, read.Body, "If-Match", read.etag()).want(200).shows(c.want...)
			a.isIn(c.what+", and sent back as it was read", path, c.want...)
		}
	}
}

func TestAJSONPatchChangesSingleMemberships(t *testing.T) {
	a := newAPI(t)
	a.newGroups("a", "b", "c")
	a.do("POST", "/users", object{"cn": "u", "sn": "x", "memberOfs": refs("a", "b")}).want(201)
	a.do("PATCH", "/users/u", `[{"op":"add","path":"/memberOfs/-","value":"groups/c"},{"op":"add","path":"/title","value":"Boss"}]`, jsonPatch...).
		want(200).shows("a", "b", "c").field("title", "Boss")
	a.isIn("added", "/users/u", "a", "b", "c")
	a.do("PATCH", "/users/u", `[{"op":"add","path":"/memberOfs/-","value":"groups/c"}]`, jsonPatch...).want(200).shows("a", "b", "c") // again
	a.do("PATCH", "/users/u", `[{"op":"add","path":"/memberOfs/0","value":"groups/none"}]`, jsonPatch...).refused(directory.Invalid, "memberOfs")
	a.do("PATCH", "/users/u", `[{"op":"remove","path":"/memberOfs/0"},{"op":"remove","path":"/title"}]`, jsonPatch...).want(200).field("title", nil)
	if left := a.groupsWith(userDN("u")); len(left) != 2 {
		t.Errorf("one of three was removed, and left are %q", left)
	}
	a.do("PATCH", "/users/u", `[{"op":"add","path":"/title","value":"a"},{"op":"copy","from":"/title","path":"/memberOfs/-"}]`, jsonPatch...).
		refused(directory.Invalid, "memberOfs")
}

func TestMembershipsThatAreNoneAreRefused(t *testing.T) {
	a := newAPI(t)
	for _, c := range []struct {
		what, method, path string
		body               object
		fields             []string
		message            string
	}{
		{"a user for a group", "PATCH", "/users/alice", object{"memberOfs": []string{"groups/devs", "users/bob"}}, []string{"memberOfs"}, `refers to \"users/bob\", which is no group`},
		{"a user's DN for a group", "PATCH", "/hosts/web1", object{"memberOfs": []string{userDN("bob")}}, []string{"memberOfs"}, `which is no group`},
		{"a group that is none", "PUT", "/users/alice", object{"sn": "Liddell", "memberOfs": refs("none", "devs")}, []string{"memberOfs"}, `refers to \"groups/none\", which is no group`},
		{"nonsense", "POST", "/users", object{"cn": "new", "sn": "x", "memberOfs": []string{"nonsense"}}, []string{"memberOfs"}, `which is no group`},
		{"the placeholder", "POST", "/hosts", object{"cn": "new", "memberOfs": []string{"cn=placeholder,ou=services," + ldapdirtest.Base}}, []string{"memberOfs"}, `which is no group`},
		{"a group twice", "PATCH", "/users/alice", object{"memberOfs": []string{"groups/ops", strings.ToUpper(groupDN("ops"))}}, []string{"memberOfs"}, `more than once`},
		{"what is no list", "PATCH", "/users/alice", object{"memberOfs": "groups/ops"}, []string{"memberOfs"}, `must be a list`},
		{"everything at once", "PATCH", "/users/alice", object{"memberOfs": refs("ops", "none"), "mail": "nowhere", "sn": nil}, []string{"mail", "memberOfs", "sn"}, ``},
		{"another field, with memberships that are right", "PATCH", "/users/alice", object{"memberOfs": refs("ops"), "mail": "nowhere"}, []string{"mail"}, ``},
		{"a group's own", "PATCH", "/groups/devs", object{"memberOfs": refs("ops")}, []string{"memberOfs"}, `can't be set`},
		{"a new group's own", "POST", "/groups", object{"cn": "new", "memberOfs": refs("ops")}, []string{"memberOfs"}, `can't be set`},
	} {
		x := a.do(c.method, c.path, c.body).refused(directory.Invalid, c.fields...)
		if text := strings.ReplaceAll(string(x.Body), `\\"`, `\"`); !strings.Contains(text, c.message) {
			x.fail("%s: it does not say %s", c.what, c.message)
		}
		a.isIn(c.what, "/users/alice", "devs")
		a.isIn(c.what, "/hosts/web1", "web")
		a.do("GET", "/users/new", nil).want(404)
		a.do("GET", "/hosts/new", nil).want(404)
	}
	a.do("PATCH", "/groups/devs", object{"memberOfs": []string{groupDN("engineering")}}).want(200) // as it is there
}

// TestAMembershipOutsideOurGroupsStays: what other programs call groups is shown, and not ours to change.
func TestAMembershipOutsideOurGroupsStays(t *testing.T) {
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	outside := "cn=outside,ou=services," + ldapdirtest.Base
	of := "memberOf: cn=devs,ou=groups," + ldapdirtest.Base
	seed = strings.Replace(seed, of, of+"\nmemberOf: "+outside, 1) +
		"\ndn: " + outside + "\nobjectClass: groupOfNames\ncn: outside\nmember: " + userDN("alice") + "\n"
	a := newAPIOn(t, ldapdirtest.Start(t, slapd.Options{Seed: seed}))
	a.do("GET", "/users/alice", nil).field("memberOfs", []string{groupDN("devs"), outside})
	x := a.do("PATCH", "/users/alice", object{"memberOfs": refs("ops")}).refused(directory.Invalid, "memberOfs")
	if !strings.Contains(string(x.Body), "is no group here and can't be left") {
		x.fail("it does not say why")
	}
	if got := a.groupsWith(userDN("alice")); !slices.Equal(got, []string{"devs"}) {
		t.Fatalf("alice is in %q", got)
	}
	a.do("PATCH", "/users/alice", object{"memberOfs": []string{"groups/ops", outside}}).want(200).field("memberOfs", []string{outside, groupDN("ops")})
	if got := a.groupsWith(userDN("alice")); !slices.Equal(got, []string{"ops"}) {
		t.Errorf("alice is in %q", got)
	}
	a.do("PATCH", "/users/alice", object{"memberOfs": []string{outside}}).want(200).field("memberOfs", []string{outside})
	a.do("PATCH", "/users/bob", object{"memberOfs": []string{outside}}).refused(directory.Invalid, "memberOfs")
}

func TestMembershipsChangeOnlyWhereIfMatchHolds(t *testing.T) {
	a := newAPI(t)
	stale := a.do("GET", "/users/alice", nil).etag()
	a.do("PATCH", "/users/alice", object{"title": "x"}).want(200)
	devs, ops := a.do("GET", "/groups/devs", nil).etag(), a.do("GET", "/groups/ops", nil).etag()
	a.do("PATCH", "/users/alice", object{"memberOfs": refs("ops")}, "If-Match", stale).refused(directory.Stale)
	a.do("PUT", "/users/alice", object{"sn": "x", "memberOfs": refs("ops")}, "If-Match", stale).refused(directory.Stale)
	if a.do("GET", "/groups/devs", nil).etag() != devs || a.do("GET", "/groups/ops", nil).etag() != ops {
		t.Error("a group was touched")
	}
	a.do("PATCH", "/users/alice", object{"memberOfs": refs("ops"), "title": "y"}, "If-Match", a.do("GET", "/users/alice", nil).etag()).want(200).shows("ops")
}

// TestAMembershipThatIfMatchHasNotSeenStays: the ETag of an entry tells its memberships, too.
func TestAMembershipThatIfMatchHasNotSeenStays(t *testing.T) {
	a := newAPI(t)
	a.newGroups("a", "b")
	read := a.do("GET", "/users/alice", nil)
	a.do("PUT", "/groups/a/members/users/alice", nil).want(204)
	now := a.do("GET", "/users/alice", nil)
	for _, body := range []any{
		read.Body, object{"sn": "x", "memberOfs": refs("devs", "b")}, object{"sn": "x", "memberOfs": []string{}},
	} {
		a.do("PUT", "/users/alice", body, "If-Match", read.etag()).refused(directory.Stale)
		a.do("PUT", "/users/alice", body, "If-Match", read.etag()+`, "x.y`+now.etag()[strings.LastIndex(now.etag(), "."):]).refused(directory.Stale)
	}
	a.do("PATCH", "/users/alice", `[{"op":"remove","path":"/memberOfs/0"}]`, append(slices.Clone(jsonPatch), "If-Match", read.etag())...).refused(directory.Stale)
	a.isIn("after all", "/users/alice", "a", "devs")
	a.do("PATCH", "/users/alice", object{"title": "x"}, "If-Match", read.etag()).want(200) // is about what it has seen
	read = a.do("GET", "/users/alice", nil)
	a.do("PATCH", "/users/alice", object{"memberOfs": refs("b")}, "If-Match", now.etag()+", "+read.etag()).want(200).shows("b")
}

// TestWhatOthersDoMeanwhile to the entry and to the groups, while an entry in a and b is put into c and taken out of a,
// or a new one is put into a and c.
func TestWhatOthersDoMeanwhile(t *testing.T) {
	a := newAPI(t)
	f := &faulty{}
	busy := f.on(t, a)
	change, create := &composite{kind: "users", method: "PATCH", body: object{"memberOfs": refs("b", "c"), "title": "t"}, steps: []string{"join c", "leave a", "update user"}},
		&composite{kind: "users", method: "POST", body: object{"sn": "x", "memberOfs": refs("a", "c")}, steps: []string{"create user", "join a", "join c"}}
	remove := func(c *composite) { a.do("DELETE", c.entry(), nil).want(204) }
	again := func(c *composite) {
		remove(c)
		a.do("PUT", c.entry(), object{"sn": "another"}).want(201)
	}
	rename := func(c *composite) {
		a.do("POST", c.entry()+"/rename", object{"cn": "new-" + c.name}).want(200)
	}
	for _, c := range []struct {
		what   string
		of     *composite
		before int // the step, from 1
		others func(*composite)
		code   *directory.Code // nil for success
		prefix string          // of the name that the entry has afterwards, "-" for none
		want   []string
	}{
		{"delete the group that comes", change, 1, func(*composite) { a.do("DELETE", "/groups/c", nil).want(204) }, directory.Invalid, "", []string{"a", "b"}},
		{"delete the group that came", change, 2, func(*composite) { a.do("DELETE", "/groups/c", nil).want(204) }, directory.Invalid, "", []string{"a", "b"}},
		{"delete the group that goes", change, 2, func(*composite) { a.do("DELETE", "/groups/a", nil).want(204) }, nil, "", []string{"b", "c"}},
		{"delete the group that went, and the group that came", change, 3, func(*composite) {
			a.do("DELETE", "/groups/a", nil).want(204)
			a.do("DELETE", "/groups/c", nil).want(204)
		}, nil, "", []string{"b"}},
		{"rename the group that comes", change, 1, func(*composite) { a.do("POST", "/groups/c/rename", object{"cn": "c2"}).want(200) }, directory.Invalid, "", []string{"a", "b"}},
		{"rename the group that goes", change, 2, func(*composite) { a.do("POST", "/groups/a/rename", object{"cn": "a2"}).want(200) }, nil, "", []string{"b", "c"}},
		{"rename the group that stays", change, 2, func(*composite) { a.do("POST", "/groups/b/rename", object{"cn": "b2"}).want(200) }, directory.Invalid, "", []string{"a", "b2"}},
		{"put it into another group", change, 2, func(c *composite) { a.do("PUT", "/groups/d/members"+c.entry(), nil).want(204) }, nil, "", []string{"b", "c", "d"}},
		{"do the same", change, 1, func(c *composite) { a.do("PATCH", c.entry(), object{"memberOfs": refs("b", "c")}).want(200) }, nil, "", []string{"b", "c"}},
		{"change another field", change, 3, func(c *composite) { a.do("PATCH", c.entry(), object{"mobile": "+1 555 0100"}).want(200) }, nil, "", []string{"b", "c"}},
		{"delete it", change, 2, remove, directory.NotFound, "-", nil},
		{"delete it and make another", change, 2, again, directory.Busy, "", nil},
		{"rename it", change, 2, rename, directory.NotFound, "new-", []string{"a", "b"}},
		{"rename it at last", change, 3, rename, directory.NotFound, "new-", []string{"a", "b"}},
		{"delete the group of a new one", create, 3, func(*composite) { a.do("DELETE", "/groups/c", nil).want(204) }, directory.Invalid, "-", nil},
		{"rename the group of a new one", create, 3, func(*composite) { a.do("POST", "/groups/c/rename", object{"cn": "c2"}).want(200) }, nil, "", []string{"a", "c2"}},
		{"delete a new one", create, 3, remove, directory.Invalid, "-", nil},
		{"delete a new one and make another", create, 3, again, directory.Busy, "", nil},
		{"rename a new one", create, 3, rename, directory.OutcomeUnknown, "new-", nil},
	} {
		for _, group := range []string{"a", "b", "c", "d", "a2", "b2", "c2"} {
			a.do("DELETE", "/groups/"+group, nil)
		}
		a.newGroups("a", "b", "c", "d")
		c.of.begin(a)
		f.fails(0, nil, false)
		f.instead = func(n int) (error, bool) {
			if n == c.before {
				c.others(c.of)
			}
			return nil, false
		}
		x := c.of.send(busy)
		what := fmt.Sprintf("others %s, before %q", c.what, c.of.steps[c.before-1])
		switch {
		case c.code == nil:
			x.want2xx()
		case x.Status != c.code.Status || x.problem().Code != c.code.Name:
			x.fail("%s: want %s", what, c.code.Name)
		}
		if c.prefix != "-" {
			a.isIn(what, "/users/"+c.prefix+c.of.name, c.want...)
		}
		if c.prefix != "" {
			a.do("GET", c.of.entry(), nil).want(404)
			if left := a.groupsWith(c.of.dn()); len(left) > 0 {
				x.fail("%s: the name is left in %q", what, left)
			}
		}
	}
}

// faulty is a directory whose writes are counted, and that does something else in the place of some of them.
type faulty struct {
	directory.Directory
	mutex sync.Mutex
	calls []string
	// instead is asked before each write, with its number from 1; done tells that the write takes place all the same.
	instead func(n int) (err error, done bool)
}

func (f *faulty) write(what string, does func() error) error {
	f.mutex.Lock()
	f.calls = append(f.calls, what)
	n, instead := len(f.calls), f.instead
	f.mutex.Unlock()
	err, done := instead(n)
	if err == nil || done {
		if failed := does(); err == nil {
			return failed
		}
	}
	return err
}

// Create counts.
func (f *faulty) Create(ctx context.Context, kind *directory.Kind, patch directory.Patch) (entry directory.Entry, err error) {
	err = f.write("create "+kind.Singular, func() (err error) { entry, err = f.Directory.Create(ctx, kind, patch); return err })
	return entry, err
}

// Update counts when something is to be written.
func (f *faulty) Update(ctx context.Context, kind *directory.Kind, name string, condition directory.Condition, change directory.Change) (entry directory.Entry, err error) {
	return f.Directory.Update(ctx, kind, name, condition, func(current directory.Entry) (directory.Patch, error) {
		patch, err := change(current)
		if err == nil && len(patch.Set) > 0 {
			err = f.write("update "+kind.Singular, func() error { return nil })
		}
		return patch, err
	})
}

// AddValue counts.
func (f *faulty) AddValue(ctx context.Context, kind *directory.Kind, name, field, value string, condition directory.Condition) error {
	return f.write("join "+name, func() error { return f.Directory.AddValue(ctx, kind, name, field, value, condition) })
}

// RemoveValue counts.
func (f *faulty) RemoveValue(ctx context.Context, kind *directory.Kind, name, field, value string, condition directory.Condition) error {
	return f.write("leave "+name, func() error { return f.Directory.RemoveValue(ctx, kind, name, field, value, condition) })
}

// Delete counts.
func (f *faulty) Delete(ctx context.Context, kind *directory.Kind, name string, condition directory.Condition) error {
	return f.write("delete "+kind.Singular, func() error { return f.Directory.Delete(ctx, kind, name, condition) })
}

// fails begins to count anew, and has the write with this number fail, or for want of an error its process die.
func (f *faulty) fails(at int, err error, done bool) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.calls, f.instead = nil, func(n int) (error, bool) {
		switch {
		case n != at:
			return nil, false
		case err == nil:
			panic("stopped")
		}
		return err, done
	}
}

// on returns another API on the same slapd, with this directory in between.
func (f *faulty) on(t *testing.T, a *api) *api {
	t.Helper()
	return newAPIOn(t, a.slapd, func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory { f.Directory = d; return f }
	})
}

// composite is a request that changes several entries, about one that is in the groups a and b, or is not there.
type composite struct {
	what, kind, method string
	body               any // an object, or a JSON Patch
	fields             object
	want               []string // the groups that it is in afterwards
	steps              []string // the writes that it is made of
	name               string   // of the entry
}

var composites = []composite{
	{"a new user", "users", "POST", object{"sn": "x", "title": "t", "memberOfs": refs("a", "b", "c")}, object{"title": "t"},
		[]string{"a", "b", "c"}, []string{"create user", "join a", "join b", "join c"}, ""},
	{"a new user with a password", "users", "POST", object{"sn": "x", "userPassword": "a long password", "memberOfs": refs("c", "d")}, object{"sn": "x"},
		[]string{"c", "d"}, []string{"create user", "join c", "join d"}, ""},
	{"a new host", "hosts", "POST", object{"description": "x", "owners": []string{"users/alice"}, "memberOfs": refs("a", "c")}, object{"description": "x"},
		[]string{"a", "c"}, []string{"create host", "join a", "join c"}, ""},
	{"a user created by PUT", "users", "PUT", object{"sn": "y", "memberOfs": refs("b", "c")}, object{"sn": "y"},
		[]string{"b", "c"}, []string{"create user", "join b", "join c"}, ""},
	{"a user who is an admin from the start", "users", "POST", object{"sn": "x", "memberOfs": refs("a", "admins")}, nil,
		[]string{"a", "admins"}, []string{"create user", "join a", "join admins"}, ""},
	{"other groups", "users", "PATCH", object{"memberOfs": refs("c", "d")}, nil,
		[]string{"c", "d"}, []string{"join c", "join d", "leave a", "leave b"}, ""},
	{"other groups and fields", "users", "PATCH", object{"memberOfs": refs("b", "c", "d"), "title": "t"}, object{"title": "t"},
		[]string{"b", "c", "d"}, []string{"join c", "join d", "leave a", "update user"}, ""},
	{"no groups any more", "users", "PUT", object{"sn": "y", "memberOfs": []string{}}, object{"sn": "y"},
		nil, []string{"leave a", "leave b", "update user"}, ""},
	{"other groups of a host", "hosts", "PUT", object{"description": "x", "memberOfs": refs("c")}, object{"description": "x"},
		[]string{"c"}, []string{"join c", "leave a", "leave b", "update host"}, ""},
	{"a user who becomes an admin", "users", "PATCH", object{"memberOfs": refs("admins"), "title": "t"}, object{"title": "t"},
		[]string{"admins"}, []string{"join admins", "leave a", "leave b", "update user"}, ""},
	{"one group more by JSON Patch", "users", "PATCH",
		`[{"op":"add","path":"/memberOfs/-","value":"groups/c"},{"op":"add","path":"/title","value":"t"}]`, object{"title": "t"},
		[]string{"a", "b", "c"}, []string{"join c", "update user"}, ""},
	{"other groups of a host by JSON Patch", "hosts", "PATCH",
		`[{"op":"replace","path":"/memberOfs","value":["groups/d","groups/b"]},{"op":"add","path":"/description","value":"x"}]`, object{"description": "x"},
		[]string{"b", "d"}, []string{"join d", "leave a", "update host"}, ""},
}

// makes tells that the request creates the entry.
func (c *composite) makes() bool { return strings.HasPrefix(c.steps[0], "create") }

// entry is the path of the entry, dn its DN.
func (c *composite) entry() string { return "/" + c.kind + "/" + c.name }

func (c *composite) dn() string {
	return "cn=" + c.name + map[string]string{"users": ",ou=people,", "hosts": ",ou=hosts,"}[c.kind] + ldapdirtest.Base
}

var names atomic.Int64

// begin makes what the request is about. The name is one that nobody has had: slapo-refint(5) may go on to remove its
// last holder from groups.
func (c *composite) begin(a *api) {
	a.t.Helper()
	c.name = fmt.Sprintf("e%d", names.Add(1))
	if body := (object{"cn": c.name, "memberOfs": refs("a", "b")}); !c.makes() {
		if c.kind == "users" {
			body["sn"] = "x"
		}
		a.do("POST", "/"+c.kind, body).want(201)
	}
}

// send sends the request.
func (c *composite) send(a *api, headers ...string) *exchange {
	a.t.Helper()
	path, body := c.entry(), c.body
	if c.method == "POST" {
		path, body = "/"+c.kind, maps.Clone(c.body.(object))
		body.(object)["cn"] = c.name
	}
	if _, ok := body.(string); ok {
		headers = append(slices.Clip(headers), jsonPatch...)
	}
	return a.do(c.method, path, body, headers...)
}

// isWhole demands that the entry is as the request wants it.
func (c *composite) isWhole(a *api, what string) {
	a.t.Helper()
	a.isIn(what, c.entry(), c.want...)
	x := a.do("GET", c.entry(), nil)
	for field, want := range c.fields {
		x.field(field, want)
	}
}

// TestWhereAStepFailsAllAreUndone: each step of each request fails once, and where it is not known whether it was
// taken, it was.
func TestWhereAStepFailsAllAreUndone(t *testing.T) {
	for _, c := range composites {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.newGroups("a", "b", "c", "d")
			f := &faulty{}
			failing := f.on(t, a)
			for n, step := range c.steps {
				for _, code := range []*directory.Code{directory.Unavailable, directory.OutcomeUnknown} {
					c.begin(a)
					f.fails(n+1, &directory.Error{Code: code}, code == directory.OutcomeUnknown)
					x := c.send(failing).refused(code)
					what := fmt.Sprintf("%s, and %q fails with %s: %q", c.what, step, code.Name, f.calls)
					switch detail := x.problem().Detail; {
					case code == directory.OutcomeUnknown && (strings.HasPrefix(step, "create") || strings.HasPrefix(step, "update")):
						c.send(a).want2xx() // undoing might halve it
						c.isWhole(a, what+", and it is sent again")
					case c.makes():
						if a.do("GET", c.entry(), nil).Status != 404 || len(a.groupsWith(c.dn())) > 0 {
							x.fail("%s: something is left", what)
						}
						if n > 0 && !strings.Contains(detail, "Nothing of the entry is left.") {
							x.fail("%s: it does not say that nothing is left", what)
						}
					default:
						a.isIn(what, c.entry(), "a", "b")
						if !strings.Contains(detail, "The memberships are as they were.") {
							x.fail("%s: it does not say that the memberships are as they were", what)
						}
					}
				}
			}
		})
	}
}

// TestWhatCouldNotBeUndoneIsNamed: from one step on everything fails.
func TestWhatCouldNotBeUndoneIsNamed(t *testing.T) {
	a := newAPI(t)
	a.newGroups("a", "b", "c", "d")
	for _, c := range []struct {
		what    string
		request int // of composites
		from    int
		code    *directory.Code
		named   []string
		silent  []string
	}{
		{"nothing was done", 5, 1, directory.OutcomeUnknown, []string{`"c"`}, []string{`"a"`, `"b"`, `"d"`}},
		{"two joined", 5, 3, directory.OutcomeUnknown, []string{`"c"`, `"d"`}, []string{`"a"`, `"b"`}},
		{"two joined and one left", 5, 4, directory.OutcomeUnknown, []string{`"a"`, `"c"`, `"d"`}, []string{`"b"`}},
		{"a new user was not made", 0, 1, directory.Unavailable, nil, []string{`"a"`}},
		{"a new user joined one", 0, 3, directory.OutcomeUnknown, []string{"created", `"a"`, `"b"`}, []string{`"c"`}},
	} {
		request := composites[c.request]
		request.begin(a)
		f := &faulty{instead: func(i int) (error, bool) {
			if i >= c.from {
				return &directory.Error{Code: directory.Unavailable}, false
			}
			return nil, false
		}}
		x := request.send(f.on(t, a)).refused(c.code)
		detail := x.problem().Detail
		for _, name := range c.named {
			if !strings.Contains(detail, name) {
				x.fail("%s: the detail does not name %s", c.what, name)
			}
		}
		for _, name := range c.silent {
			if strings.Contains(detail, name) {
				x.fail("%s: the detail names %s", c.what, name)
			}
		}
	}
}

// TestWhoIsTakenOutMeanwhileStaysOut, where the step that was to do it fails.
func TestWhoIsTakenOutMeanwhileStaysOut(t *testing.T) {
	a := newAPI(t)
	a.newGroups("a", "b", "c", "d")
	request := composites[6]
	request.begin(a)
	f := &faulty{instead: func(n int) (error, bool) {
		if n != 3 { // "leave a"
			return nil, false
		}
		a.do("DELETE", "/groups/a/members"+request.entry(), nil).want(204)
		return &directory.Error{Code: directory.Forbidden}, false
	}}
	request.send(f.on(t, a)).refused(directory.Forbidden)
	a.isIn(fmt.Sprint(f.calls), request.entry(), "b")
}

// TestMembershipsStayWhereTheEntryMayHaveChanged: then a repetition completes it, and undoing would halve it.
func TestMembershipsStayWhereTheEntryMayHaveChanged(t *testing.T) {
	a := newAPI(t)
	a.newGroups("a", "b", "c", "d")
	request := composites[6]
	request.begin(a)
	f := &faulty{}
	f.instead = func(n int) (error, bool) {
		if f.calls[n-1] == "update user" {
			return &directory.Error{Code: directory.OutcomeUnknown}, false
		}
		return nil, false
	}
	x := request.send(f.on(t, a)).refused(directory.OutcomeUnknown)
	if !strings.Contains(x.problem().Detail, "Its memberships have changed.") {
		x.fail("it does not say so")
	}
	a.isIn("unknown", request.entry(), request.want...)
	request.send(a).want(200)
	request.isWhole(a, "sent again")
}

func TestWhatTheServerRefusesIsUndone(t *testing.T) {
	a := newAPI(t)
	a.newGroups("a", "b", "c")
	a.do("PATCH", "/users/admin", object{"memberOfs": refs("a", "admins", "b")}).want(200)
	for _, c := range []struct {
		what, method string
		body         object
	}{
		{"the last admin leaves all groups", "PATCH", object{"memberOfs": nil}},
		{"the last admin leaves for another group", "PATCH", object{"memberOfs": refs("b", "c"), "title": "x"}},
		{"the last admin by PUT", "PUT", object{"sn": "x", "memberOfs": refs("c")}},
	} {
		before := a.do("GET", "/users/admin", nil)
		x := a.do(c.method, "/users/admin", c.body).refused(directory.LastAdmin)
		a.isIn(c.what, "/users/admin", "a", "admins", "b")
		if now := a.do("GET", "/users/admin", nil); now.object()["title"] != before.object()["title"] || now.object()["sn"] != before.object()["sn"] {
			x.fail("%s: the entry has changed: %s", c.what, now.Body)
		}
	}
	a.do("PATCH", "/users/alice", object{"memberOfs": refs("a"), "mail": "bob@example.org"}).refused(directory.Invalid, "mail")
	a.isIn("a mail address that another has", "/users/alice", "devs")
	a.do("PUT", "/users/alice", object{"sn": "x", "memberOfs": refs("a", "devs"), "userPassword": "short"}).refused(directory.PasswordRefused, "userPassword")
	a.isIn("a password that is refused", "/users/alice", "devs")
	a.do("POST", "/users", object{"cn": "new", "sn": "x", "memberOfs": refs("a"), "mail": "bob@example.org"}).refused(directory.Invalid, "mail")
	a.do("GET", "/users/new", nil).want(404)
	a.do("PATCH", "/users/alice", object{"memberOfs": refs("admins")}).want(200)
	a.do("PATCH", "/users/admin", object{"memberOfs": nil}).want(200).shows() // there is another now
}

// TestStoppedAtAnyStep: a process dies before each of the steps of each request, and after the last. The same request
// to another one puts everything right. Where If-Match names a state in which memberships were others, it is refused,
// and sent again for the state that there is.
func TestStoppedAtAnyStep(t *testing.T) {
	for _, c := range composites {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.newGroups("a", "b", "c", "d")
			f := &faulty{}
			stopped, again := f.on(t, a), newAPIOn(t, a.slapd)
			var before []string
			conditions := []bool{false}
			if !c.makes() {
				before, conditions = []string{"a", "b"}, []bool{false, true}
			}
			for n := range len(c.steps) + 1 {
				for _, conditional := range conditions {
					c.begin(a)
					var headers []string
					if conditional {
						headers = []string{"If-Match", a.do("GET", c.entry(), nil).etag()}
					}
					f.fails(n+1, nil, false)
					x := c.send(stopped, headers...)
					what := fmt.Sprintf("%s, stopped after %q, If-Match %q", c.what, c.steps[:n], headers)
					if n == len(c.steps) {
						x.want2xx()
					} else {
						x.want(500)
					}
					if done := f.calls[:n]; !slices.Equal(done, c.steps[:n]) {
						x.fail("%s: it did %q", what, done)
					}
					now := a.groupsWith(c.dn())
					for _, group := range []string{"a", "admins", "b", "c", "d"} {
						was, will := slices.Contains(before, group), slices.Contains(c.want, group)
						if is := slices.Contains(now, group); was == will && is != was {
							x.fail("%s: that it is in %s is %t", what, group, is)
						}
					}
					switch {
					case c.method == "POST" && n == len(c.steps):
						c.send(again).refused(directory.AlreadyExists)
					case conditional && n == len(c.steps) && c.fields != nil,
						conditional && !slices.Equal(now, before) && !slices.Equal(now, c.want):
						c.send(again, headers...).refused(directory.Stale)
						c.send(again, "If-Match", again.do("GET", c.entry(), nil).etag()).want(200)
					case c.method == "POST", c.makes() && n == 0:
						c.send(again).want(201)
					default:
						c.send(again, headers...).want(200)
					}
					c.isWhole(a, what)
					if c.what == "a new user with a password" {
						a.as(c.name, "a long password").do("GET", "/me", nil).want(200)
					}
				}
			}
		})
	}
}

// TestOnlyWhatWasStoppedIsCompleted: a name that is taken is taken.
func TestOnlyWhatWasStoppedIsCompleted(t *testing.T) {
	a := newAPI(t)
	a.newGroups("a", "b", "c")
	name, request := "", object{"sn": "x", "title": "t", "userPassword": "a new password", "memberOfs": refs("a", "b")}
	there := func(more object) {
		t.Helper()
		name = fmt.Sprintf("there%d", names.Add(1))
		request["cn"] = name
		whole := object{"cn": name, "sn": "x", "title": "t"}
		maps.Copy(whole, more)
		a.do("POST", "/users", whole).want(201)
	}
	for _, c := range []struct {
		what   string
		there  object
		groups []string
	}{
		{"another value", object{"title": "other"}, nil},
		{"a value more", object{"mobile": "+1 555 0100"}, nil},
		{"another default", object{"uid": "other"}, nil},
		{"a locked account", object{"accountLocked": true}, nil},
		{"another group", object{"memberOfs": refs("c")}, []string{"c"}},
		{"a group more", object{"memberOfs": refs("a", "c")}, []string{"a", "c"}},
		{"all of the groups", object{"memberOfs": refs("b", "a")}, []string{"a", "b"}},
		{"all of the groups and one more", object{"memberOfs": refs("b", "a", "c")}, []string{"a", "b", "c"}},
	} {
		there(c.there)
		a.do("POST", "/users", request).refused(directory.AlreadyExists)
		a.isIn(c.what, "/users/"+name, c.groups...)
	}
	there(nil)
	a.do("POST", "/users", object{"cn": name, "sn": "x", "title": "t"}).refused(directory.AlreadyExists)
	a.do("POST", "/users", object{"cn": name, "sn": "x", "title": "t", "memberOfs": []string{}}).refused(directory.AlreadyExists)
	there(object{"userPassword": "the old password", "memberOfs": refs("b")})
	a.do("POST", "/users", request).want(201).shows("a", "b")
	a.as(name, "the old password").do("GET", "/me", nil).want(200) // none is set
	a.as(name, "a new password").do("GET", "/me", nil).want(401)
}

// TestACompletionThatFailsDeletesNothing: the entry was there before.
func TestACompletionThatFailsDeletesNothing(t *testing.T) {
	a := newAPI(t)
	a.newGroups("a", "b", "c")
	a.do("POST", "/users", object{"cn": "e", "sn": "x", "memberOfs": refs("a")}).want(201)
	f := &faulty{instead: func(n int) (error, bool) {
		if n == 3 {
			return &directory.Error{Code: directory.Unavailable}, false
		}
		return nil, false
	}}
	f.on(t, a).do("POST", "/users", object{"cn": "e", "sn": "x", "memberOfs": refs("a", "b", "c")}).refused(directory.Unavailable)
	a.isIn(fmt.Sprint(f.calls), "/users/e", "a")
}

// TestMembershipsGiveNoMorePowerThanGroups, to operators and users.
func TestMembershipsGiveNoMorePowerThanGroups(t *testing.T) {
	w := newWorld(t)
	w.newGroups("ordinary")
	otto := w.user("operators")
	operator, user := w.as(otto, "own password"), w.as(w.user("ordinary"), "own password")
	nested := w.group("bob")
	w.do("PUT", "/groups/inner/members/groups/"+nested, nil).want(204)
	admin := w.user("inner", "ordinary")
	host := w.target("host", "")
	w.do("PUT", "/groups/inner/members/hosts/"+host, nil).want(204)
	reader := w.as(w.user("readers"), "own password")
	before := map[string][]string{}
	groups := []string{"admins", "inner", nested, "ordinary", "operators", "readers"}
	members := func(group string) []string {
		var all []string
		w.do("GET", "/groups/"+group+"/members", nil).want(200).decode(&all)
		return all
	}
	for _, group := range groups {
		before[group] = members(group)
	}
	for _, c := range []struct {
		what         string
		by           *api
		method, path string
		body         object
	}{
		{"an operator joins the admin group", operator, "PATCH", "/users/" + otto, object{"memberOfs": refs("operators", "admins")}},
		{"by its DN", operator, "PATCH", "/users/" + otto, object{"memberOfs": []string{strings.ToUpper(adminGroup)}}},
		{"by a DN with spaces", operator, "PATCH", "/users/" + otto, object{"memberOfs": []string{"cn = admins , ou=groups," + ldapdirtest.Base}}},
		{"by another spelling", operator, "PATCH", "/users/" + otto, object{"memberOfs": []string{"groups/ａｄｍｉｎｓ"}}},
		{"twice, so that it might cancel out", operator, "PATCH", "/users/" + otto, object{"memberOfs": []string{"groups/admins", adminGroup, "groups/ADMINS"}}},
		{"by PUT", operator, "PUT", "/users/" + otto, object{"sn": "x", "memberOfs": refs("admins")}},
		{"by JSON Patch", operator, "PATCH", "/users/" + otto, nil},
		{"a group in the admin group", operator, "PATCH", "/users/" + otto, object{"memberOfs": refs("inner")}},
		{"a group deep in the admin group", operator, "PATCH", "/users/" + otto, object{"memberOfs": refs(nested)}},
		{"somebody new", operator, "POST", "/users", object{"cn": w.name(), "sn": "x", "memberOfs": refs("ordinary", nested)}},
		{"somebody new by PUT", operator, "PUT", "/users/" + w.name(), object{"sn": "x", "memberOfs": refs("admins")}},
		{"a new host", operator, "POST", "/hosts", object{"cn": w.name(), "memberOfs": refs("admins")}},
		{"a host", operator, "PATCH", "/hosts/" + host, object{"memberOfs": refs("inner", "admins")}},
		{"an operator removes a host from a group of admins", operator, "PATCH", "/hosts/" + host, object{"memberOfs": refs("ordinary")}},
		{"an operator removes an admin", operator, "PATCH", "/users/" + admin, object{"memberOfs": refs("ordinary")}},
		{"an operator removes an admin by PUT", operator, "PUT", "/users/" + admin, object{"sn": "x", "memberOfs": []string{}}},
		{"an operator changes the protected", operator, "PATCH", "/users/protected", object{"memberOfs": refs("ordinary")}},
		{"a user joins a group", user, "PATCH", "/users/" + user.Login, object{"memberOfs": refs("ordinary", "devs")}},
		{"a user leaves a group", user, "PATCH", "/users/" + user.Login, object{"memberOfs": []string{}}},
		{"a user joins with fields of its own", user, "PATCH", "/users/" + user.Login, object{"mobile": "+1 555 0100", "memberOfs": refs("admins")}},
		{"a user replaces itself", user, "PUT", "/users/" + user.Login, object{"sn": "x", "memberOfs": refs("admins")}},
		{"a user changes another", user, "PATCH", "/users/" + otto, object{"memberOfs": []string{}}},
		{"a user creates", user, "POST", "/users", object{"cn": w.name(), "sn": "x", "memberOfs": refs("ordinary")}},
		{"a reader joins", reader, "PATCH", "/users/alice", object{"memberOfs": refs("ordinary")}},
	} {
		var x *exchange
		if c.body == nil {
			x = c.by.do(c.method, c.path, `[{"op":"add","path":"/memberOfs/-","value":"groups/admins"}]`, jsonPatch...)
		} else {
			x = c.by.do(c.method, c.path, c.body)
		}
		if x.want(403).problem().Code != directory.Forbidden.Name {
			x.fail("%s: it is refused otherwise", c.what)
		}
		if v := x.problem().Violations; c.by == operator && c.path != "/users/protected" && (len(v) != 1 || v[0].Field != "memberOfs") {
			x.fail("%s: got violations %v", c.what, v)
		}
		for _, group := range groups {
			if now := members(group); !slices.Equal(now, before[group]) {
				x.fail("%s: %s has other members: %q, were %q", c.what, group, now, before[group])
			}
		}
	}
	operator.do("PATCH", "/users/"+admin, object{"memberOfs": refs("inner", "ordinary", "devs"), "title": "x"}).want(200).shows("inner", "ordinary", "devs")
	operator.do("PATCH", "/users/"+otto, object{"memberOfs": refs("operators", "ordinary")}).want(200).shows("operators", "ordinary")
	operator.do("POST", "/users", object{"cn": "newcomer", "sn": "x", "memberOfs": refs("ordinary")}).want(201).shows("ordinary")
	read := user.do("GET", "/users/"+user.Login, nil).want(200)
	user.do("PATCH", "/users/"+user.Login, object{"memberOfs": read.object()["memberOfs"], "mobile": "+1 555 0100"}).want(200)
	if roles := operator.do("GET", "/me", nil).object()["roles"]; fmt.Sprint(roles) != "[operator]" {
		t.Errorf("the operator is %v", roles)
	}
}

func TestWhoIsPutIntoTheAdminGroupIsAdminAtOnce(t *testing.T) {
	a := newAPI(t)
	alice := a.as("alice", "alice-password")
	alice.do("GET", "/users/bob", nil).want(403)
	a.do("PATCH", "/users/alice", object{"memberOfs": refs("devs", "admins")}).want(200)
	alice.do("GET", "/users/bob", nil).want(200)
	alice.do("PATCH", "/users/bob", object{"title": "x"}).want(200)
	a.do("PATCH", "/users/alice", object{"memberOfs": refs("devs")}).want(200)
	alice.do("GET", "/users/bob", nil).want(403)
}

// TestTwoAdminsLoseNothing: each of many writers, over two replicas, has one user join a group of its own and leave
// another, at the same time as others change the members from the groups' side and the user's fields.
func TestTwoAdminsLoseNothing(t *testing.T) {
	one := newAPI(t)
	two := newAPIOn(t, one.slapd)
	const writers = 12
	var joined, left, want []string
	for i := range writers {
		joined, left = append(joined, fmt.Sprintf("joined%d", i)), append(left, fmt.Sprintf("left%d", i))
	}
	one.newGroups(append(slices.Concat(joined, left), "stays")...)
	one.do("POST", "/users", object{"cn": "u", "sn": "x", "memberOfs": refs(append(left, "stays")...)}).want(201)
	var writing sync.WaitGroup
	for i := range writers {
		a := []*api{one, two}[i%2]
		want = append(want, joined[i])
		writing.Go(func() {
			switch i % 4 {
			case 3:
				a.do("PUT", "/groups/"+joined[i]+"/members/users/u", nil).want(204)
				a.do("DELETE", "/groups/"+left[i]+"/members/users/u", nil).want(204)
			default:
				for {
					var at int
					for j, dn := range a.do("GET", "/users/u", nil).object()["memberOfs"].([]any) {
						if dn == groupDN(left[i]) {
							at = j
						}
					}
					operations := []object{
						{"op": "test", "path": fmt.Sprintf("/memberOfs/%d", at), "value": groupDN(left[i])}, // else it is another's
						{"op": "remove", "path": fmt.Sprintf("/memberOfs/%d", at)},
						{"op": "add", "path": "/memberOfs/-", "value": "groups/" + joined[i]},
						{"op": "add", "path": "/title", "value": joined[i]},
					}
					body, err := json.Marshal(operations)
					if err != nil {
						t.Error(err)
						return
					}
					if x := a.do("PATCH", "/users/u", string(body), jsonPatch...); x.Status == 200 {
						return
					} else if x.Status != 409 {
						t.Errorf("%d %s", x.Status, x.Body)
						return
					}
				}
			}
		})
	}
	writing.Wait()
	one.isIn("after all", "/users/u", append(want, "stays")...)
}

func TestTheTrailHasOneEventOfAChangeOfMemberships(t *testing.T) {
	a, trail := newAudited(t)
	a.newGroups("a", "b", "c")
	for _, c := range []struct {
		what         string
		by           *api
		method, path string
		body         object
		result       string
		want         directory.FieldChange
	}{
		{"a creation", a, "POST", "/users", object{"cn": "u", "sn": "x", "memberOfs": refs("a", "b")}, "ok",
			directory.FieldChange{Field: "memberOfs", After: []string{groupDN("a"), groupDN("b")}}},
		{"a change", a, "PATCH", "/users/u", object{"memberOfs": refs("b", "c"), "title": "t"}, "ok",
			directory.FieldChange{Field: "memberOfs", Before: []string{groupDN("a")}, After: []string{groupDN("c")}}},
		{"memberships alone", a, "PATCH", "/users/u", object{"memberOfs": refs("c")}, "ok",
			directory.FieldChange{Field: "memberOfs", Before: []string{groupDN("b")}}},
		{"what is refused", a.as("alice", "alice-password"), "PATCH", "/users/alice", object{"memberOfs": []string{groupDN("devs"), adminGroup}}, "forbidden",
			directory.FieldChange{Field: "memberOfs", After: []string{adminGroup}}},
		{"the last admin leaves", a, "PATCH", "/users/admin", object{"memberOfs": []string{groupDN("a")}}, "last-admin",
			directory.FieldChange{Field: "memberOfs", Before: []string{adminGroup}, After: []string{groupDN("a")}}},
	} {
		lines := len(trail.all())
		x := c.by.do(c.method, c.path, c.body)
		events := trail.of(x)
		if len(events) != 1 || len(trail.all()) != lines+1 || events[0].Kind != "users" || events[0].Result != c.result {
			x.fail("%s: got %+v", c.what, events)
		}
		i := slices.IndexFunc(events[0].Changes, func(f directory.FieldChange) bool { return f.Field == "memberOfs" })
		if i < 0 || !slices.Equal(events[0].Changes[i].Before, c.want.Before) || !slices.Equal(events[0].Changes[i].After, c.want.After) {
			x.fail("%s: got %+v, want %+v", c.what, events[0].Changes, c.want)
		}
	}
	for _, body := range []any{
		object{"memberOfs": refs("c"), "mobile": "+1 555 0100"}, object{"memberOfs": []string{strings.ToUpper(groupDN("c"))}}, a.do("GET", "/users/u", nil).Body,
	} {
		x := a.do("PATCH", "/users/u", body).want(200)
		if e := trail.of(x); len(e) != 1 || slices.ContainsFunc(e[0].Changes, func(f directory.FieldChange) bool { return f.Field == "memberOfs" }) {
			x.fail("nothing has changed, and it says %+v", e)
		}
	}
	x := a.do("PATCH", "/users/u", object{"memberOfs": []string{"planted"}}).want(422)
	if e := trail.of(x)[0]; len(e.Changes) > 0 || !slices.Equal(e.Faulty, []string{"memberOfs"}) {
		x.fail("got %+v", e)
	}
}

func TestADryRunSaysWhichGroupsWouldChange(t *testing.T) {
	a := newAPI(t)
	a.newGroups("a", "b")
	for _, c := range []struct {
		what, method, path string
		body               object
		dns                []string
	}{
		{"a creation", "POST", "/users", object{"cn": "u", "sn": "x", "memberOfs": refs("a", "b")}, []string{userDN("u"), groupDN("a"), groupDN("b")}},
		{"a change", "PATCH", "/users/alice", object{"memberOfs": refs("a"), "title": "t"}, []string{groupDN("a"), groupDN("devs"), userDN("alice")}},
		{"one that would be refused", "PATCH", "/users/admin", object{"memberOfs": refs("a")}, nil},
	} {
		before := wholeTree(t, a.slapd)
		x := a.do(c.method, c.path+"?dryRun=true", c.body)
		if after := wholeTree(t, a.slapd); fmt.Sprint(after) != fmt.Sprint(before) {
			x.fail("%s: something has changed", c.what)
		}
		if c.dns == nil {
			x.refused(directory.LastAdmin)
			continue
		}
		var plan struct{ Changes []struct{ DN string } }
		x.want(200).decode(&plan)
		var dns []string
		for _, change := range plan.Changes {
			if len(dns) == 0 || dns[len(dns)-1] != change.DN {
				dns = append(dns, change.DN)
			}
		}
		if !slices.Equal(dns, c.dns) {
			x.fail("%s: got changes of %q, want %q", c.what, dns, c.dns)
		}
	}
}

var memberOfLines = regexp.MustCompile(`(?m)^(memberOf: |moduleload memberof\b|memberof-|overlay memberof\b|index member,owner,memberOf ).*\n`)

// TestMembershipsOnAServerThatDoesNotShowThem: without the memberof overlay the groups alone know.
func TestMembershipsOnAServerThatDoesNotShowThem(t *testing.T) {
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	without := func(text string) string {
		text = strings.ReplaceAll(text, "overlay memberof\n", "")
		return memberOfLines.ReplaceAllString(text, "")
	}
	trail := &auditTrail{}
	a := newAPIOn(t, ldapdirtest.Start(t, slapd.Options{Seed: without(seed), Config: without}), func(s *settings) { s.record = trail.record })
	a.newGroups("a", "b", "c")
	in := func(what string, want ...string) {
		t.Helper()
		if got := a.groupsWith(userDN("u")); !slices.Equal(got, want) {
			t.Fatalf("%s: in %q, want %q", what, got, want)
		}
	}
	a.do("POST", "/users", object{"cn": "u", "sn": "x", "memberOfs": refs("a", "b")}).want(201).shows("a", "b")
	in("created", "a", "b")
	a.do("GET", "/users/u", nil).field("memberOfs", []string{}) // nobody knows
	x := a.do("PATCH", "/users/u", object{"memberOfs": refs("b", "c"), "title": "x"}).want(200).shows("b", "c").field("title", "x")
	in("changed", "b", "c")
	changes := trail.of(x)[0].Changes
	if i := slices.IndexFunc(changes, func(f directory.FieldChange) bool { return f.Field == "memberOfs" }); i < 0 ||
		!slices.Equal(changes[i].Before, []string{groupDN("a")}) || !slices.Equal(changes[i].After, []string{groupDN("c")}) {
		t.Errorf("the trail says %+v", changes)
	}
	a.do("PUT", "/users/u", a.do("GET", "/users/u", nil).Body).want(200)
	in("sent back as it was read", "b", "c")
	a.do("PUT", "/users/u", object{"sn": "y"}).want(200)
	in("left out", "b", "c")
	a.do("PATCH", "/users/u", object{"memberOfs": nil}).want(200).shows()
	in("removed")
	otto := a.as("otto", "own password")
	a.do("POST", "/groups", object{"cn": "operators"}).want(201)
	a.do("POST", "/users", object{"cn": "otto", "sn": "x", "userPassword": "own password", "memberOfs": refs("operators")}).want(201)
	a.do("PATCH", "/users/u", object{"memberOfs": refs("admins", "a")}).want(200)
	otto.do("PATCH", "/users/u", object{"memberOfs": refs("b")}).refused(directory.Forbidden, "memberOfs")
	in("an operator removes an admin", "a", "admins")
}

// TestBothSidesOfMembershipsAgree, whichever of them is written.
func TestBothSidesOfMembershipsAgree(t *testing.T) {
	a := newAPI(t)
	groups := []string{"g1", "g2", "G, 3 (x)*", "名4"}
	entries := []string{"users/u1", "users/û2", "hosts/h1"}
	dns := map[string]string{}
	for _, name := range groups {
		dns["groups/"+name] = a.do("POST", "/groups", object{"cn": name}).want(201).object()["dn"].(string)
	}
	path := func(reference string) string {
		kind, name, _ := strings.Cut(reference, "/")
		return "/" + kind + "/" + strings.NewReplacer(",", "%2C", " ", "%20", "(", "%28", ")", "%29").Replace(name)
	}
	for _, reference := range entries {
		body := object{"sn": "x"}
		if strings.HasPrefix(reference, "hosts") {
			body = object{}
		}
		dns[reference] = a.do("PUT", path(reference), body).want(201).object()["dn"].(string)
	}
	some := func(t *rapid.T, of []string) []string {
		return slices.DeleteFunc(slices.Clone(of), func(one string) bool { return rapid.Bool().Draw(t, one) })
	}
	in := map[string]bool{} // an entry and a group
	rapid.Check(t, func(t *rapid.T) {
		if rapid.Bool().Draw(t, "from the group's side") {
			group, wanted := rapid.SampledFrom(groups).Draw(t, "group"), some(t, entries)
			for _, entry := range entries {
				in[entry+group] = slices.Contains(wanted, entry)
			}
			a.do("PATCH", path("groups/"+group), object{"members": wanted}).want(200)
		} else {
			entry, wanted := rapid.SampledFrom(entries).Draw(t, "entry"), some(t, groups)
			body := object{"memberOfs": []string{}}
			for i, group := range groups {
				in[entry+group] = slices.Contains(wanted, group)
				if in[entry+group] {
					body["memberOfs"] = append(body["memberOfs"].([]string), []string{"groups/" + group, dns["groups/"+group]}[i%2])
				}
			}
			method := rapid.SampledFrom([]string{"PUT", "PATCH"}).Draw(t, "method")
			if method == "PUT" && strings.HasPrefix(entry, "users") {
				body["sn"] = "x"
			}
			a.do(method, path(entry), body).want(200)
		}
		for _, entry := range entries {
			shown := a.do("GET", path(entry), nil).object()["memberOfs"]
			for _, group := range groups {
				if got := contains(shown, dns["groups/"+group]); got != in[entry+group] {
					t.Fatalf("by its memberOfs, that %s is in %s is %t", entry, group, got)
				}
			}
		}
		for _, group := range groups {
			shown := a.do("GET", path("groups/"+group), nil).object()["members"]
			for _, entry := range entries {
				if got := contains(shown, dns[entry]); got != in[entry+group] {
					t.Fatalf("by the members, that %s is in %s is %t", entry, group, got)
				}
			}
		}
	})
}
