package rest_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"rollcall/app/auth"
	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
)

// everybodyIsAdmin lets callers stay admins whatever becomes of the admin group.
func everybodyIsAdmin(s *settings) {
	s.rest.Authenticate = func(context.Context, auth.Credentials) (directory.Caller, error) {
		return directory.Caller{Login: "tester", Roles: []directory.Role{directory.RoleAdmin}}, nil
	}
}

// setAdmins makes these users the members of the admin group, all unlocked.
func (a *api) setAdmins(names ...string) {
	a.t.Helper()
	members := []string{}
	for _, name := range names {
		if x := a.do("PATCH", "/users/"+name, object{"accountLocked": false}); x.Status == 404 {
			a.do("POST", "/users", object{"cn": name, "sn": "x"}).want(201)
		}
		members = append(members, "users/"+name)
	}
	a.do("PATCH", "/groups/admins", object{"members": members}).want(200)
}

func TestProtectedEntriesCanNotBeDeleted(t *testing.T) {
	a := newAPI(t, everybodyIsAdmin)
	a.setAdmins("admin", "alice")
	for _, path := range []string{"/users/admin", "/users/ADMIN", "/users/%61dmin", "/groups/admins", "/groups/Admins"} {
		a.do("DELETE", path, nil).refused(directory.ProtectedEntry)
	}
}

// waysOut are the ways in which alice, an admin, stops being one.
var waysOut = []struct {
	name, method, path string
	body               any
}{
	{"leaving the group", "DELETE", "/groups/admins/members/users/alice", nil},
	{"leaving the group by another spelling", "DELETE", "/groups/ADMINS/members/users/Alice", nil},
	{"a PATCH of the members", "PATCH", "/groups/admins", object{"members": []string{"users/bob", "groups/contractors"}}},
	{"a lock", "PATCH", "/users/alice", object{"accountLocked": true}},
	{"a PUT that locks", "PUT", "/users/alice", object{"sn": "x", "accountLocked": true}},
	{"a password taken away", "PATCH", "/users/alice", object{"userPassword": nil}},
	{"being deleted", "DELETE", "/users/alice", nil},
}

func TestTheLastAdminStays(t *testing.T) {
	a := newAPI(t, everybodyIsAdmin)
	// bob is an admin too, but locked, and so are the members of a group: there are none.
	a.setAdmins("alice", "bob")
	a.do("PUT", "/groups/admins/members/groups/contractors", nil).want(204)
	a.do("PATCH", "/users/bob", object{"accountLocked": true}).want(200)
	group, user := a.do("GET", "/groups/admins", nil).want(200), a.do("GET", "/users/alice", nil).want(200)
	ways := append(slices.Clone(waysOut),
		struct {
			name, method, path string
			body               any
		}{"a PATCH without members", "PATCH", "/groups/admins", object{"members": nil}},
		struct {
			name, method, path string
			body               any
		}{"a PUT without members", "PUT", "/groups/admins", object{"description": "x"}})
	for _, way := range ways {
		x := a.do(way.method, way.path, way.body).refused(directory.LastAdmin)
		if now := a.do("GET", "/groups/admins", nil).want(200); now.etag() != group.etag() {
			x.fail("%s: the group has changed: %s", way.name, now.Body)
		}
		if now := a.do("GET", "/users/alice", nil).want(200); now.etag() != user.etag() {
			x.fail("%s: the user has changed: %s", way.name, now.Body)
		}
	}
}

// TestTheLastAdminStaysInAGroupInTheAdminGroup: alice is the only admin, by two groups between her and the admin group.
func TestTheLastAdminStaysInAGroupInTheAdminGroup(t *testing.T) {
	a := newAPI(t, everybodyIsAdmin)
	a.do("POST", "/groups", object{"cn": "inner", "members": []string{"users/alice"}}).want(201)
	a.do("POST", "/groups", object{"cn": "outer", "members": []string{"groups/inner", "hosts/web1"}}).want(201)
	a.do("PATCH", "/groups/admins", object{"members": []string{"groups/outer"}}).want(200)
	a.do("PUT", "/groups/inner/members/groups/outer", nil).want(204) // a cycle
	for _, way := range []struct {
		method, path string
		body         any
	}{
		{"DELETE", "/groups/inner/members/users/alice", nil},
		{"DELETE", "/groups/outer/members/groups/inner", nil},
		{"DELETE", "/groups/admins/members/groups/outer", nil},
		{"PATCH", "/groups/inner", object{"members": []string{"groups/outer"}}},
		{"PUT", "/groups/outer", object{"members": []string{"hosts/web1"}}},
		{"DELETE", "/groups/inner", nil},
		{"DELETE", "/groups/outer", nil},
		{"DELETE", "/users/alice", nil},
		{"PATCH", "/users/alice", object{"accountLocked": true}},
	} {
		a.do(way.method, way.path, way.body).refused(directory.LastAdmin)
	}
	a.do("GET", "/groups/inner", nil).want(200).field("members", []string{"cn=alice,ou=people," + ldapdirtest.Base, "cn=outer,ou=groups," + ldapdirtest.Base})
	a.do("DELETE", "/groups/outer/members/hosts/web1", nil).want(204)
	a.do("PUT", "/groups/admins/members/users/bob", nil).want(204)
	a.do("DELETE", "/groups/outer", nil).want(204)
	a.do("DELETE", "/users/bob", nil).refused(directory.LastAdmin)
}

func TestAnAdminMayGoWhileAnotherIsLeft(t *testing.T) {
	a := newAPI(t, everybodyIsAdmin)
	for _, way := range waysOut {
		a.setAdmins("alice", "bob")
		a.do(way.method, way.path, way.body).want2xx()
	}
}

func TestARefusedDeletionLeavesAnAdminAnAdmin(t *testing.T) {
	a := newAPI(t)
	a.do("PUT", "/groups/admins/members/users/alice", nil).want(204)
	stale := a.do("GET", "/users/alice", nil).want(200).etag()
	a.do("PATCH", "/users/alice", object{"title": "x"}).want(200)
	a.do("DELETE", "/users/alice", nil, "If-Match", stale).refused(directory.Stale)
	a.do("GET", "/groups/admins", nil).want(200).field("members", []string{adminDN, "cn=alice,ou=people," + ldapdirtest.Base})
}

// TestTwoAdminsCanNotRemoveEachOther at the same moment, over two replicas, in every combination of ways.
func TestTwoAdminsCanNotRemoveEachOther(t *testing.T) {
	one := newAPI(t, everybodyIsAdmin)
	two := newAPIOn(t, one.slapd, everybodyIsAdmin)
	ways := []func(a *api, name string) *exchange{
		func(a *api, name string) *exchange { return a.do("DELETE", "/groups/admins/members/users/"+name, nil) },
		func(a *api, name string) *exchange {
			return a.do("PATCH", "/users/"+name, object{"accountLocked": true})
		},
		func(a *api, name string) *exchange { return a.do("DELETE", "/users/"+name, nil) },
	}
	const rounds = 8
	refused := 0
	for i, first := range ways {
		for j, second := range ways {
			for range rounds {
				one.setAdmins("alice", "bob")
				answers := make([]*exchange, 2)
				var both sync.WaitGroup
				both.Go(func() { answers[0] = first(one, "bob") })
				both.Go(func() { answers[1] = second(two, "alice") })
				both.Wait()
				left := 0
				for _, name := range []string{"alice", "bob"} {
					x := one.do("GET", "/users/"+name, nil)
					if x.Status == 200 && len(x.object()["memberOfs"].([]any)) > 0 && x.object()["accountLocked"] == false &&
						contains(x.object()["memberOfs"], adminGroup) {
						left++
					}
				}
				if left == 0 {
					t.Fatalf("ways %d and %d at the same moment left no admin: %d %s, %d %s", i, j,
						answers[0].Status, answers[0].Body, answers[1].Status, answers[1].Body)
				}
				for _, answer := range answers {
					if answer.Status == 409 {
						answer.refused(directory.LastAdmin)
						refused++
					} else {
						answer.want2xx()
					}
				}
			}
		}
	}
	if refused == 0 {
		t.Error("nothing was refused")
	}
}

// meanwhile is a directory in which something happens once between what an update reads and what it writes.
type meanwhile struct {
	directory.Directory
	once sync.Once
	does func()
}

// Update does it.
func (m *meanwhile) Update(ctx context.Context, kind *directory.Kind, name string, condition directory.Condition, change directory.Change) (directory.Entry, error) {
	return m.Directory.Update(ctx, kind, name, condition, func(current directory.Entry) (directory.Patch, error) {
		patch, err := change(current)
		m.once.Do(m.does)
		return patch, err
	})
}

func TestALockIsUndoneWhoeverBecameAnAdminMeanwhile(t *testing.T) {
	one := newAPI(t, everybodyIsAdmin)
	one.setAdmins("alice")
	two := newAPIOn(t, one.slapd, everybodyIsAdmin, func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory {
			return &meanwhile{Directory: d, does: func() { one.setAdmins("bob") }}
		}
	})
	two.do("PATCH", "/users/bob", object{"accountLocked": true}).refused(directory.LastAdmin)
	one.do("GET", "/users/bob", nil).want(200).field("accountLocked", false)
}

func contains(list any, want string) bool {
	for _, item := range list.([]any) {
		if item == want {
			return true
		}
	}
	return false
}
