package rest_test

import (
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/rest"
)

// ok is an answer of success; the others are names of codes.
const (
	ok         = "ok"
	login      = "credentials-required"
	no         = "forbidden"
	mustChange = "password-must-change"
	invalid    = "invalid"
	protected  = "protected-entry"
	lastAdmin  = "last-admin"
)

// lines are a body of NDJSON. What comes of the first is what comes of the request, where it is not refused as a whole.
type lines string

// access says for every route and method, for what it is asked, and by whom, what comes of it. It is the table of
// directory.Rules as seen from outside. A caller who must change the password first is an admin otherwise. In a body NEW
// stands for a name that nobody has, TARGET for the target's.
var access = []struct {
	method, route, target                             string
	body                                              any
	nobody, self, reader, operator, admin, mustChange string
}{
	{"GET", "/", "", nil, ok, ok, ok, ok, ok, ok},
	{"GET", "/healthz", "", nil, ok, ok, ok, ok, ok, ok},
	{"GET", "/readyz", "", nil, ok, ok, ok, ok, ok, ok},
	{"GET", "/errors", "", nil, ok, ok, ok, ok, ok, ok},
	{"GET", "/errors/{code}", "", nil, ok, ok, ok, ok, ok, ok},
	{"GET", "/authkeys", "", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/access", "", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/docs", "", nil, ok, ok, ok, ok, ok, ok},
	{"GET", "/docs/access", "", nil, ok, ok, ok, ok, ok, ok},
	{"GET", "/openapi.json", "", nil, ok, ok, ok, ok, ok, ok},
	{"GET", "/openapi.yaml", "", nil, ok, ok, ok, ok, ok, ok},
	{"GET", "/.well-known/jwks.json", "", nil, ok, ok, ok, ok, ok, ok},
	{"POST", "/login", "", object{"username": "alice", "password": "alice-password"}, ok, ok, ok, ok, ok, ok},
	{"POST", "/refresh", "", object{}, invalid, invalid, invalid, invalid, invalid, invalid},
	{"DELETE", "/logout", "", nil, login, ok, ok, ok, ok, ok},
	{"GET", "/me", "", nil, login, ok, ok, ok, ok, mustChange},

	{"GET", "/users", "", nil, login, no, ok, ok, ok, mustChange},
	{"POST", "/users", "", object{"cn": "NEW", "sn": "x"}, login, no, no, ok, ok, mustChange},
	{"POST", "/users", "", lines(`{"cn": "NEW", "sn": "x"}`), login, no, no, ok, ok, mustChange},
	{"PUT", "/users", "", lines(`{"cn": "NEW", "sn": "x"}`), login, no, no, ok, ok, mustChange},
	{"PUT", "/users", "own", lines(`{"cn": "TARGET", "sn": "y"}`), login, no, no, ok, ok, mustChange},
	{"PUT", "/users", "another", lines(`{"cn": "TARGET", "sn": "y"}`), login, no, no, ok, ok, mustChange},
	{"PUT", "/users", "an admin", lines(`{"cn": "TARGET", "sn": "y"}`), login, no, no, ok, ok, mustChange},
	{"PUT", "/users", "an admin", lines(`{"cn": "TARGET", "sn": "y", "uid": "NEW"}`), login, no, no, no, ok, mustChange},
	{"PUT", "/users", "an admin", lines(`{"cn": "TARGET", "sn": "y", "userPassword": "another password"}`), login, no, no, no, ok, mustChange},
	{"PUT", "/users", "protected", lines(`{"cn": "TARGET", "sn": "y"}`), login, no, no, no, ok, mustChange},
	{"POST", "/users", "", lines(`{"cn": "NEW", "sn": "x", "memberOfs": ["groups/inner"]}`), login, no, no, no, ok, mustChange},
	{"GET", "/users/{name}", "own", nil, login, ok, ok, ok, ok, mustChange},
	{"GET", "/users/{name}/groups", "own", nil, login, ok, ok, ok, ok, mustChange},
	{"GET", "/users/{name}/groups", "another", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/users/{name}", "another", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/users/{name}", "an admin", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/users/{name}", "protected", nil, login, no, ok, ok, ok, mustChange},
	{"PUT", "/users/{name}", "own", object{"sn": "y"}, login, no, no, ok, ok, mustChange},
	{"PUT", "/users/{name}", "another", object{"sn": "y"}, login, no, no, ok, ok, mustChange},
	{"PUT", "/users/{name}", "an admin", object{"sn": "y"}, login, no, no, ok, ok, mustChange},
	{"PUT", "/users/{name}", "an admin", object{"sn": "y", "uid": "NEW"}, login, no, no, no, ok, mustChange},
	{"PUT", "/users/{name}", "protected", object{"sn": "y"}, login, no, no, no, ok, mustChange},
	{"PATCH", "/users/{name}", "own", object{"mobile": "+1 555 0100", "displayName": "x"}, login, ok, ok, ok, ok, mustChange},
	{"PATCH", "/users/{name}", "own", object{"title": "x"}, login, no, no, ok, ok, mustChange},
	{"PATCH", "/users/{name}", "own", object{"userPassword": "another password"}, login, no, no, ok, ok, mustChange},
	{"PATCH", "/users/{name}", "another", object{"mobile": "+1 555 0100"}, login, no, no, ok, ok, mustChange},
	{"PATCH", "/users/{name}", "another", object{"accountLocked": true}, login, no, no, ok, ok, mustChange},
	{"PATCH", "/users/{name}", "an admin", object{"title": "x"}, login, no, no, ok, ok, mustChange},
	{"PATCH", "/users/{name}", "an admin", object{"accountLocked": true}, login, no, no, no, ok, mustChange},
	{"PATCH", "/users/{name}", "an admin", object{"userPassword": "another password"}, login, no, no, no, ok, mustChange},
	{"PATCH", "/users/{name}", "an admin", object{"sshPublicKeys": []string{}, "uid": "NEW"}, login, no, no, no, ok, mustChange},
	{"PATCH", "/users/{name}", "protected", object{"title": "x"}, login, no, no, no, ok, mustChange},
	{"DELETE", "/users/{name}", "own", nil, login, no, no, ok, ok, mustChange},
	{"DELETE", "/users/{name}", "another", nil, login, no, no, ok, ok, mustChange},
	{"DELETE", "/users/{name}", "an admin", nil, login, no, no, no, ok, mustChange},
	{"DELETE", "/users/{name}", "protected", nil, login, no, no, no, protected, mustChange},

	{"POST", "/users/{name}/rename", "own", object{"cn": "NEW"}, login, no, no, ok, ok, mustChange},
	{"POST", "/users/{name}/rename", "another", object{"cn": "NEW"}, login, no, no, ok, ok, mustChange},
	{"POST", "/users/{name}/rename", "an admin", object{"cn": "NEW"}, login, no, no, no, ok, mustChange},
	{"POST", "/users/{name}/rename", "protected", object{"cn": "NEW"}, login, no, no, no, protected, mustChange},

	{"PUT", "/users/{name}/password", "own", object{"currentPassword": "own password", "newPassword": "a new password"}, login, ok, ok, ok, ok, ok},
	{"PUT", "/users/{name}/password", "own", object{"newPassword": "a new password"}, login, invalid, invalid, ok, ok, invalid},
	{"PUT", "/users/{name}/password", "another", object{"newPassword": "a new password"}, login, no, no, ok, ok, mustChange},
	{"PUT", "/users/{name}/password", "another", object{"generate": true, "mustChange": true}, login, no, no, ok, ok, mustChange},
	{"PUT", "/users/{name}/password", "another", object{"currentPassword": "own password", "newPassword": "a new password"},
		login, no, no, invalid, invalid, mustChange},
	{"PUT", "/users/{name}/password", "an admin", object{"newPassword": "a new password"}, login, no, no, no, ok, mustChange},
	{"PUT", "/users/{name}/password", "protected", object{"newPassword": "a new password"}, login, no, no, no, ok, mustChange},

	{"GET", "/users/{name}/keys", "own", nil, login, ok, ok, ok, ok, mustChange},
	{"GET", "/users/{name}/keys", "another", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/users/{name}/keys", "an admin", nil, login, no, ok, ok, ok, mustChange},
	{"POST", "/users/{name}/keys", "own", object{"key": "KEY"}, login, ok, ok, ok, ok, mustChange},
	{"POST", "/users/{name}/keys", "another", object{"key": "KEY"}, login, no, no, ok, ok, mustChange},
	{"POST", "/users/{name}/keys", "an admin", object{"key": "KEY"}, login, no, no, no, ok, mustChange},
	{"POST", "/users/{name}/keys", "protected", object{"key": "KEY"}, login, no, no, no, ok, mustChange},
	{"GET", "/users/{name}/keys/{fingerprint}", "own", nil, login, ok, ok, ok, ok, mustChange},
	{"GET", "/users/{name}/keys/{fingerprint}", "another", nil, login, no, ok, ok, ok, mustChange},
	{"DELETE", "/users/{name}/keys/{fingerprint}", "own", nil, login, ok, ok, ok, ok, mustChange},
	{"DELETE", "/users/{name}/keys/{fingerprint}", "another", nil, login, no, no, ok, ok, mustChange},
	{"DELETE", "/users/{name}/keys/{fingerprint}", "an admin", nil, login, no, no, no, ok, mustChange},
	{"DELETE", "/users/{name}/keys/{fingerprint}", "protected", nil, login, no, no, no, ok, mustChange},

	{"GET", "/groups", "", nil, login, ok, ok, ok, ok, mustChange},
	{"POST", "/groups", "", object{"cn": "NEW", "members": []string{"users/alice"}}, login, no, no, ok, ok, mustChange},
	{"POST", "/groups", "", lines(`{"cn": "NEW", "members": ["users/alice"]}`), login, no, no, ok, ok, mustChange},
	{"PUT", "/groups", "", lines(`{"cn": "NEW"}`), login, no, no, ok, ok, mustChange},
	{"PUT", "/groups", "joined", lines(`{"cn": "TARGET"}`), login, no, no, ok, ok, mustChange},
	{"PUT", "/groups", "group", lines(`{"cn": "TARGET"}`), login, no, no, ok, ok, mustChange},
	{"PUT", "/groups", "group of admins", lines(`{"cn": "TARGET"}`), login, no, no, no, ok, mustChange},
	{"PUT", "/groups", "admin group", lines(`{"cn": "TARGET"}`), login, no, no, no, lastAdmin, mustChange},
	{"GET", "/groups/{name}", "joined", nil, login, ok, ok, ok, ok, mustChange},
	{"GET", "/groups/{name}", "group", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/groups/{name}", "admin group", nil, login, no, ok, ok, ok, mustChange},
	{"PUT", "/groups/{name}", "joined", object{}, login, no, no, ok, ok, mustChange},
	{"PUT", "/groups/{name}", "group", object{}, login, no, no, ok, ok, mustChange},
	{"PUT", "/groups/{name}", "group of admins", object{}, login, no, no, no, ok, mustChange},
	{"PUT", "/groups/{name}", "admin group", object{}, login, no, no, no, lastAdmin, mustChange},
	{"PATCH", "/groups/{name}", "joined", object{"description": "x"}, login, no, no, ok, ok, mustChange},
	{"PATCH", "/groups/{name}", "group", object{"members": []string{"users/alice"}}, login, no, no, ok, ok, mustChange},
	{"PATCH", "/groups/{name}", "group of admins", object{"description": "x"}, login, no, no, no, ok, mustChange},
	{"PATCH", "/groups/{name}", "admin group", object{"description": "x"}, login, no, no, no, ok, mustChange},
	{"DELETE", "/groups/{name}", "joined", nil, login, no, no, ok, ok, mustChange},
	{"DELETE", "/groups/{name}", "group", nil, login, no, no, ok, ok, mustChange},
	{"DELETE", "/groups/{name}", "group of admins", nil, login, no, no, no, ok, mustChange},
	{"DELETE", "/groups/{name}", "admin group", nil, login, no, no, no, protected, mustChange},
	{"POST", "/groups/{name}/rename", "joined", object{"cn": "NEW"}, login, no, no, ok, ok, mustChange},
	{"POST", "/groups/{name}/rename", "group", object{"cn": "NEW"}, login, no, no, ok, ok, mustChange},
	{"POST", "/groups/{name}/rename", "group of admins", object{"cn": "NEW"}, login, no, no, no, ok, mustChange},
	{"POST", "/groups/{name}/rename", "admin group", object{"cn": "NEW"}, login, no, no, no, protected, mustChange},
	{"GET", "/groups/{name}/groups", "joined", nil, login, ok, ok, ok, ok, mustChange},
	{"GET", "/groups/{name}/groups", "group", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/groups/{name}/members", "joined", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/groups/{name}/members", "group", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/groups/{name}/members", "admin group", nil, login, no, ok, ok, ok, mustChange},
	{"PUT", "/groups/{name}/members/{kind}/{member}", "group", nil, login, no, no, ok, ok, mustChange},
	{"PUT", "/groups/{name}/members/{kind}/{member}", "joined", nil, login, no, no, ok, ok, mustChange},
	{"PUT", "/groups/{name}/members/{kind}/{member}", "group of admins", nil, login, no, no, no, ok, mustChange},
	{"PUT", "/groups/{name}/members/{kind}/{member}", "admin group", nil, login, no, no, no, ok, mustChange},
	{"DELETE", "/groups/{name}/members/{kind}/{member}", "group", nil, login, no, no, ok, ok, mustChange},
	{"DELETE", "/groups/{name}/members/{kind}/{member}", "joined", nil, login, no, no, ok, ok, mustChange},
	{"DELETE", "/groups/{name}/members/{kind}/{member}", "group of admins", nil, login, no, no, no, ok, mustChange},
	{"DELETE", "/groups/{name}/members/{kind}/{member}", "admin group", nil, login, no, no, no, ok, mustChange},

	{"GET", "/hosts", "", nil, login, no, ok, ok, ok, mustChange},
	{"POST", "/hosts", "", object{"cn": "NEW"}, login, no, no, ok, ok, mustChange},
	{"POST", "/hosts", "", lines(`{"cn": "NEW"}`), login, no, no, ok, ok, mustChange},
	{"PUT", "/hosts", "", lines(`{"cn": "NEW"}`), login, no, no, ok, ok, mustChange},
	{"PUT", "/hosts", "host", lines(`{"cn": "TARGET"}`), login, no, no, ok, ok, mustChange},
	{"GET", "/hosts/{name}", "host", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/hosts/{name}/groups", "host", nil, login, no, ok, ok, ok, mustChange},
	{"PUT", "/hosts/{name}", "host", object{}, login, no, no, ok, ok, mustChange},
	{"PATCH", "/hosts/{name}", "host", object{"description": "x"}, login, no, no, ok, ok, mustChange},
	{"DELETE", "/hosts/{name}", "host", nil, login, no, no, ok, ok, mustChange},
	{"POST", "/hosts/{name}/rename", "host", object{"cn": "NEW"}, login, no, no, ok, ok, mustChange},
	{"GET", "/hosts/{name}/keys", "host", nil, login, no, ok, ok, ok, mustChange},
	{"POST", "/hosts/{name}/keys", "host", object{"key": "KEY"}, login, no, no, ok, ok, mustChange},
	{"GET", "/hosts/{name}/keys/{fingerprint}", "host", nil, login, no, ok, ok, ok, mustChange},
	{"DELETE", "/hosts/{name}/keys/{fingerprint}", "host", nil, login, no, no, ok, ok, mustChange},
	{"GET", "/users/{name}/hosts", "own", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/users/{name}/hosts", "another", nil, login, no, ok, ok, ok, mustChange},
	{"GET", "/hosts/{name}/users", "host", nil, login, no, ok, ok, ok, mustChange},
	{"POST", "/hosts/{name}/token", "host", nil, login, no, no, ok, ok, mustChange},
	{"POST", "/hosts/{name}/token", "protected", nil, login, no, no, no, ok, mustChange},
	{"DELETE", "/hosts/{name}/token", "host", nil, login, no, no, ok, ok, mustChange},
	{"GET", "/hosts/known_hosts", "", nil, login, no, ok, ok, ok, mustChange},
}

// queries are what routes can't be asked without.
var queries = map[string]string{"/authkeys": "?username=bob&host=web1", "/access": "?user=bob&host=web1"}

// world is an API on which callers and targets are made as they are needed, each anew.
type world struct {
	*api

	ldap *ldap.Conn
	made *atomic.Int64
}

func newWorld(t *testing.T) *world {
	t.Helper()
	a := newAPI(t)
	for _, name := range []string{"operators", "readers", "inner"} {
		a.do("POST", "/groups", object{"cn": name}).want(201)
	}
	a.do("PUT", "/groups/admins/members/groups/inner", nil).want(204)
	a.do("POST", "/users", object{"cn": "protected", "sn": "x"}).want(201)
	a.do("POST", "/hosts", object{"cn": "protected"}).want(201)
	return &world{a, ldapdirtest.Bind(t, a.slapd), &atomic.Int64{}}
}

// name returns one that nobody has had.
func (w *world) name() string { return fmt.Sprintf("made%d", w.made.Add(1)) }

// user makes a user with the password "own password", in groups.
func (w *world) user(groups ...string) string {
	w.t.Helper()
	name := w.name()
	w.do("POST", "/users", object{"cn": name, "sn": "x", "userPassword": "own password"}).want(201)
	for _, group := range groups {
		w.do("PUT", client.Path("groups", group, "members", "users", name), nil).want(204)
	}
	return name
}

// group makes a group of alice and another.
func (w *world) group(member string) string {
	w.t.Helper()
	name := w.name()
	w.do("POST", "/groups", object{"cn": name, "members": []string{"users/alice", "users/" + member}}).want(201)
	return name
}

// roles are the groups that each caller of the table is in.
var roles = []struct {
	name   string
	groups []string
}{{"nobody", nil}, {"self", nil}, {"reader", []string{"readers"}}, {"operator", []string{"operators"}}, {"admin", []string{"admins"}},
	{"must change", []string{"admins"}}}

// caller makes a caller with a role and returns its name.
func (w *world) caller(role string, groups []string) string {
	w.t.Helper()
	name := w.user(groups...)
	if role == "must change" {
		reset := ldap.NewModifyRequest("cn="+name+",ou=people,"+ldapdirtest.Base, nil)
		reset.Replace("pwdReset", []string{"TRUE"})
		if err := w.ldap.Modify(reset); err != nil {
			w.t.Fatal(err)
		}
	}
	return name
}

// target makes what a row is about and returns its name.
func (w *world) target(what, caller string) string {
	w.t.Helper()
	switch what {
	case "":
		return ""
	case "own":
		return caller
	case "another":
		return w.user()
	case "an admin":
		return w.user("inner") // by a group in the admin group
	case "protected":
		return "protected" // by auth.protected
	case "joined":
		return w.group(caller)
	case "group":
		return w.group("bob")
	case "group of admins":
		name := w.group("bob")
		w.do("PUT", "/groups/inner/members/groups/"+name, nil).want(204)
		return name
	case "admin group":
		return "admins"
	case "host":
		name := w.name()
		w.do("POST", "/hosts", object{"cn": name}).want(201)
		return name
	}
	w.t.Fatalf("there is no target %q", what)
	return ""
}

// state is what the directory holds of a target, as another admin sees it: the same where nothing has changed.
func (w *world) state(route, name string) string {
	w.t.Helper()
	kind, _, _ := strings.Cut(strings.TrimPrefix(route, "/"), "/")
	if name == "" {
		return ""
	}
	return w.do("GET", client.Path(kind, name), nil).etag()
}

func TestWhoMayDoWhat(t *testing.T) {
	w := newWorld(t)
	for _, row := range access {
		for i, want := range []string{row.nobody, row.self, row.reader, row.operator, row.admin, row.mustChange} {
			caller := w.caller(roles[i].name, roles[i].groups)
			name := w.target(row.target, caller)
			path := strings.NewReplacer("{name}", url.PathEscape(name), "{kind}", "users", "{member}", "alice", "{code}", "invalid").Replace(row.route)
			path = w.withKey(path) + queries[row.route]
			names := strings.NewReplacer("NEW", w.name(), "TARGET", name, "KEY", newKey(t))
			var body any
			var headers []string
			switch b := row.body.(type) {
			case nil:
			case lines:
				body, headers = names.Replace(string(b)), asLines
			default:
				body = names.Replace(mustJSON(b))
			}
			as := w.as(caller, "own password")
			if roles[i].name == "nobody" {
				as = w.as("", "")
			}
			before := w.state(row.route, name)
			x := as.do(row.method, path, body, headers...)
			got := ok
			if x.Status >= 400 {
				got = x.problem().Code
			} else if headers != nil {
				if problem := x.results(1)[0].Problem; problem != nil {
					got = problem.Code
				}
			}
			if got != want {
				x.fail("%s by %s on %q: got %s, want %s", row.route, roles[i].name, row.target, got, want)
			}
			if after := w.state(row.route, name); got != ok && after != before {
				x.fail("%s by %s on %q was refused, and has changed it", row.route, roles[i].name, row.target)
			}
		}
	}
}

// TestEveryRouteHasItsRowInTheTableOfAccess, and every row its route.
func TestEveryRouteHasItsRowInTheTableOfAccess(t *testing.T) {
	mounted, stated := map[string]bool{}, map[string]bool{}
	for path, methods := range rest.Routes(rest.Options{Kinds: []*directory.Kind{ldapdirtest.Users, ldapdirtest.Groups, ldapdirtest.Hosts}}) {
		for _, method := range methods {
			mounted[method+" "+path] = true
		}
	}
	for _, row := range access {
		stated[row.method+" "+row.route] = true
	}
	for _, route := range slices.Sorted(maps.Keys(mounted)) {
		if !stated[route] {
			t.Errorf("%s has no row", route)
		}
	}
	for _, route := range slices.Sorted(maps.Keys(stated)) {
		if !mounted[route] {
			t.Errorf("%s has a row and is no route", route)
		}
	}
}

// TestAnOperatorBecomesNoAdmin by any way that leads to the admin group, or into an admin's account.
func TestAnOperatorBecomesNoAdmin(t *testing.T) {
	w := newWorld(t)
	otto := w.user("operators")
	operator := w.as(otto, "own password")
	nested := w.group("bob")
	w.do("PUT", "/groups/inner/members/groups/"+nested, nil).want(204)
	victim := w.user("inner")
	for _, way := range []struct {
		method, path string
		body         any
	}{
		{"PUT", "/groups/admins/members/users/" + otto, nil},
		{"PUT", "/groups/ADMINS/members/users/" + otto, nil},
		{"PUT", "/groups/%61dmins/members/users/" + otto, nil},
		{"PUT", "/groups/" + url.PathEscape("ａｄｍｉｎｓ") + "/members/users/" + otto, nil},
		{"PUT", "/groups/admins/members/groups/operators", nil},
		{"PATCH", "/groups/admins", object{"members": []string{"users/" + otto, "users/admin"}}},
		{"PUT", "/groups/admins", object{"members": []string{"users/" + otto, "users/admin"}}},
		{"PUT", "/groups/inner/members/users/" + otto, nil},
		{"PATCH", "/groups/" + nested, object{"members": []string{"users/" + otto}}},
		{"PUT", "/groups/" + strings.ToUpper(nested), object{"members": []string{"users/" + otto}}},
		{"DELETE", "/groups/" + nested, nil},
		{"DELETE", "/users/" + victim, nil},
		{"DELETE", "/users/" + strings.ToUpper(victim), nil},
		{"PUT", "/users/" + victim + "/password", object{"newPassword": "known to otto"}},
		{"PATCH", "/users/" + victim, object{"userPassword": "known to otto"}},
		{"PUT", "/users/" + victim, object{"sn": "x", "userPassword": "known to otto"}},
		{"PATCH", "/users/" + victim, object{"uid": "elsewhere"}},
		{"PATCH", "/users/" + victim, object{"sshPublicKeys": []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGIFpYEBGdyvfSHDOQq9Tn/ruwqJj0sodBqSyEpnSe3b otto"}}},
		{"PATCH", "/users/admin", object{"mail": "otto@example.org"}},
	} {
		operator.do(way.method, way.path, way.body).want(directory.Forbidden.Status)
	}
	operator.do("POST", "/groups", object{"cn": "admins", "members": []string{"users/" + otto}}).refused(directory.AlreadyExists)
	if roles := operator.do("GET", "/me", nil).object()["roles"]; fmt.Sprint(roles) != "[operator]" {
		t.Errorf("the operator is %v", roles)
	}

	if err := w.ldap.Del(ldap.NewDelRequest(adminGroup, nil)); err != nil { // by another program
		t.Fatal(err)
	}
	operator.do("POST", "/groups", object{"cn": "admins", "members": []string{"users/" + otto}}).refused(directory.Forbidden)
	operator.do("PUT", "/groups/Admins", object{"members": []string{"users/" + otto}}).refused(directory.Forbidden)
}

// TestWhatOneMayNotSeeLooksLikeWhatIsNotThere: status, headers and body.
func TestWhatOneMayNotSeeLooksLikeWhatIsNotThere(t *testing.T) {
	a := newAPI(t)
	alice := a.as("alice", "alice-password")
	for _, kind := range []string{"users", "groups", "hosts"} {
		there := map[string]string{"users": "bob", "groups": "ops", "hosts": "web1"}[kind]
		for _, r := range []struct {
			method, below string
			body          any
		}{
			{"GET", "", nil}, {"PUT", "", object{"sn": "x"}}, {"PATCH", "", object{"description": "x"}}, {"DELETE", "", nil},
			{"PUT", "/password", object{"newPassword": "another password"}}, {"GET", "/members", nil}, {"PUT", "/members/users/alice", nil},
			{"GET", "/groups?nested=true", nil}, {"GET", "/members?nested=true", nil},
			{"GET", "/keys", nil}, {"POST", "/keys", object{"key": newKey(t)}}, {"GET", "/keys/x", nil}, {"DELETE", "/keys/x", nil},
		} {
			seen := alice.do(r.method, "/"+kind+"/"+there+r.below, r.body, "X-Request-Id", "same")
			absent := alice.do(r.method, "/"+kind+"/absent"+r.below, r.body, "X-Request-Id", "same")
			seen.Header.Del("Date")
			absent.Header.Del("Date")
			one := strings.ReplaceAll(fmt.Sprint(seen.Status, seen.Header, string(seen.Body)), there, "absent")
			other := fmt.Sprint(absent.Status, absent.Header, string(absent.Body))
			one, other = lengths.ReplaceAllString(one, ""), lengths.ReplaceAllString(other, "")
			if seen.Status < 400 || one != other {
				seen.fail("and what is not there answers %s", other)
			}
		}
	}
}

// lengths is the one header that differs with the name.
var lengths = regexp.MustCompile(`Content-Length:\[\d+\]`)

// TestEverybodySeesTheGroupsTheyAreIn, however they are in them, and not who else is.
func TestEverybodySeesTheGroupsTheyAreIn(t *testing.T) {
	a := newAPI(t)
	alice := a.as("alice", "alice-password")
	var groups []object
	alice.do("GET", "/groups", nil).want(200).decode(&groups)
	var names []string
	for _, group := range groups {
		names = append(names, group["cn"].(string))
		if _, shown := group["members"]; shown {
			t.Errorf("%v shows its members", group)
		}
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"devs", "engineering"}) { // devs is in engineering
		t.Errorf("alice sees %q", names)
	}
	alice.do("GET", "/groups/engineering", nil).want(200).field("members", nil)
	alice.do("GET", "/groups/devs/members", nil).refused(directory.Forbidden)
}

func TestTheTableOfAccessIsShownAsItDecides(t *testing.T) {
	a := newAPI(t)
	var shown struct {
		Rules []struct {
			Action, Kind string
			Roles        map[directory.Role]string
		}
	}
	a.as("", "").do("GET", "/docs/access", nil).want(200).decode(&shown)
	rules := directory.Rules()
	if len(shown.Rules) != len(rules) {
		t.Fatalf("%d rules are shown, of %d", len(shown.Rules), len(rules))
	}
	page := string(a.as("", "").do("GET", "/docs/access", nil, "Accept", "text/html").want(200).Body)
	for i, rule := range rules {
		row := "<tr><td>" + string(rule.Action) + "<td>" + rule.Kind
		for _, role := range directory.Roles {
			row += "<td>" + rule.Extent(role).String()
			if shown.Rules[i].Roles[role] != rule.Extent(role).String() {
				t.Errorf("%v is shown as %v", rule, shown.Rules[i])
			}
		}
		if !strings.Contains(page, row) {
			t.Errorf("the page does not show %s", row)
		}
	}
}
