package rest_test

import (
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
)

// everything is one request for each thing that can be done.
var everything = []struct {
	method, path string
	body         any
}{
	{"GET", "/users", nil},
	{"POST", "/users", object{"cn": "zed", "sn": "x"}},
	{"GET", "/users/bob", nil},
	{"HEAD", "/users/nobody", nil},
	{"PUT", "/users/bob", object{"sn": "x"}},
	{"PATCH", "/users/bob", object{"sn": "x"}},
	{"DELETE", "/users/bob", nil},
	{"GET", "/groups", nil},
	{"POST", "/groups", object{"cn": "zed"}},
	{"GET", "/groups/devs", nil},
	{"PUT", "/groups/devs", object{}},
	{"PATCH", "/groups/devs", object{"description": "x"}},
	{"DELETE", "/groups/devs", nil},
	{"GET", "/groups/devs/members", nil},
	{"PUT", "/groups/admins/members/users/alice", nil},
	{"DELETE", "/groups/devs/members/users/alice", nil},
	{"GET", "/hosts", nil},
	{"POST", "/hosts", object{"cn": "zed"}},
	{"GET", "/hosts/web1", nil},
	{"PUT", "/hosts/web1", object{}},
	{"PATCH", "/hosts/web1", object{"description": "x"}},
	{"DELETE", "/hosts/web1", nil},
}

func TestEveryDoorIsClosedToStrangers(t *testing.T) {
	a := newAPI(t)
	for _, stranger := range []struct {
		name, login, password string
		code                  *directory.Code
	}{
		{"nobody", "", "", directory.CredentialsRequired},
		{"a wrong password", "admin", "wrong", directory.InvalidCredentials},
		{"an empty password", "admin", "", directory.InvalidCredentials},
		{"an unknown name", "stranger", "admin", directory.InvalidCredentials},
		{"a wildcard", "adm*", "admin", directory.InvalidCredentials},
		{"an injected filter", "*)(objectClass=*", "admin", directory.InvalidCredentials},
		{"a DN for a name", adminDN, "admin", directory.InvalidCredentials},
		{"the service account", "rollcall", a.slapd.ServicePassword(), directory.InvalidCredentials},
		{"a NUL in the password", "admin", "admin\x00", directory.InvalidCredentials},
	} {
		for _, r := range everything {
			x := a.as(stranger.login, stranger.password).do(r.method, r.path, r.body)
			if x.Status != 401 || x.Header.Get("WWW-Authenticate") == "" {
				x.fail("%s is not sent away", stranger.name)
			}
			if r.method != "HEAD" {
				x.refused(stranger.code)
			}
			if stranger.name != "nobody" && r.path != "/users" {
				break // one is enough: each costs a bind
			}
		}
	}
	for _, path := range []string{"/", "/errors", "/errors/not-found", "/healthz", "/readyz"} {
		a.as("", "").do("GET", path, nil).want(200)
	}
	a.do("GET", "/users/alice", nil, "Authorization", "Bearer x").refused(directory.InvalidToken)
	a.do("GET", "/users/alice", nil, "Authorization", "Bearer ").refused(directory.CredentialsRequired)
	a.do("GET", "/users/alice", nil, "Authorization", "Basic !!!").refused(directory.CredentialsRequired)
}

func TestWhoIsNoAdminMayReadThemselves(t *testing.T) {
	a := newAPI(t)
	alice := a.as("alice", "alice-password")
	alice.do("GET", "/users/alice", nil).want(200).field("cn", "alice").field("userPassword", nil)
	alice.do("GET", "/users/ALICE", nil).want(200)
	for _, r := range everything {
		if r.method == "GET" && (r.path == "/groups" || r.path == "/groups/devs") {
			continue // alice is in devs
		}
		x := alice.do(r.method, r.path, r.body)
		if x.Status != 403 {
			x.fail("alice may do this")
		}
	}
	alice.do("PATCH", "/users/alice", object{"sn": "x", "title": "Chief", "mobile": "+1 555 0100"}).refused(directory.Forbidden, "sn", "title")
	alice.do("PUT", "/users/alice", object{"sn": "Parker"}).want(403)
	alice.do("DELETE", "/users/alice", nil).refused(directory.Forbidden)
	a.do("GET", "/users/alice", nil).want(200)
}

// TestAdminsAreMembersOfTheAdminGroup: a group whose name holds the admin group's, or its DN, makes no admin.
func TestAdminsAreMembersOfTheAdminGroup(t *testing.T) {
	a := newAPI(t)
	for _, name := range []string{"admins2", "not-admins", "admins,ou=groups", adminGroup, "cn=admins", "ADMINS x"} {
		a.do("POST", "/groups", object{"cn": name, "members": []string{"users/alice"}}).want(201)
	}
	alice := a.as("alice", "alice-password")
	alice.do("GET", "/users/bob", nil).refused(directory.Forbidden)
	a.do("PUT", "/groups/ADMINS/members/users/alice", nil).want(204)
	alice.do("GET", "/users/bob", nil).want(200) // at once, on this replica
	a.do("DELETE", "/groups/admins/members/users/alice", nil).want(204)
	alice.do("GET", "/users/bob", nil).refused(directory.Forbidden)
}

func TestOwnChangesToACallerCountAtOnce(t *testing.T) {
	a := newAPI(t)
	alice := a.as("alice", "alice-password")
	alice.do("GET", "/users/alice", nil).want(200)
	a.do("PATCH", "/users/alice", object{"accountLocked": true}).want(200).field("accountLocked", true)
	alice.do("GET", "/users/alice", nil).refused(directory.InvalidCredentials)
	a.do("PATCH", "/users/alice", object{"accountLocked": false}).want(200)
	alice.do("GET", "/users/alice", nil).want(200)
	a.do("PATCH", "/users/alice", object{"userPassword": "another password"}).want(200)
	alice.do("GET", "/users/alice", nil).refused(directory.InvalidCredentials)
	alice = a.as("alice", "another password")
	alice.do("GET", "/users/alice", nil).want(200)
	a.do("DELETE", "/users/alice", nil).want(204)
	alice.do("GET", "/users/alice", nil).refused(directory.InvalidCredentials)
	a.do("POST", "/users", object{"cn": "alice", "sn": "Other", "userPassword": "a third password"}).want(201)
	alice.do("GET", "/users/alice", nil).refused(directory.InvalidCredentials)
}

// TestChangesElsewhereCountWhenTheyAreRead: what another changes is believed when it has been read again.
func TestChangesElsewhereCountWhenTheyAreRead(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.auth.Freshness, s.auth.PasswordMemory = 0, 0 }) // nothing is remembered
	l := ldapdirtest.Bind(t, a.slapd)
	alice := a.as("alice", "alice-password")
	alice.do("GET", "/users/alice", nil).want(200)
	lock := ldap.NewModifyRequest("cn=alice,ou=people,"+ldapdirtest.Base, nil)
	lock.Replace("pwdAccountLockedTime", []string{"000001010000Z"})
	if err := l.Modify(lock); err != nil {
		t.Fatal(err)
	}
	alice.do("GET", "/users/alice", nil).refused(directory.InvalidCredentials)
	a.do("GET", "/users/alice", nil).want(200).field("accountLocked", true)
}

func TestAPasswordThatMustBeChangedOpensNothingElse(t *testing.T) {
	a := newAPI(t)
	reset := ldap.NewModifyRequest("cn=alice,ou=people,"+ldapdirtest.Base, nil)
	reset.Replace("pwdReset", []string{"TRUE"})
	if err := ldapdirtest.Bind(t, a.slapd).Modify(reset); err != nil {
		t.Fatal(err)
	}
	alice := a.as("alice", "alice-password")
	for _, r := range everything {
		x := alice.do(r.method, r.path, r.body)
		if r.method != "HEAD" {
			x.refused(directory.PasswordMustChange)
		}
	}
	alice.do("GET", "/users/alice", nil).refused(directory.PasswordMustChange)
	alice.do("GET", "/me", nil).refused(directory.PasswordMustChange)
	a.do("POST", "/login", object{"username": "alice", "password": "alice-password"}).refused(directory.PasswordMustChange)
	alice.do("PUT", "/users/bob/password", object{"newPassword": "another password"}).refused(directory.PasswordMustChange)
	alice.do("PUT", "/users/alice/password", object{"newPassword": "another password"}).refused(directory.Invalid, "currentPassword")
	alice.do("PUT", "/users/alice/password", object{"currentPassword": "alice-password", "newPassword": "another password"}).want(204)
	a.as("alice", "another password").do("GET", "/users/alice", nil).want(200)
	a.do("POST", "/login", object{"username": "alice", "password": "another password"}).want(200)
}

func TestAPasswordThatWasRightIsNotProvedAgain(t *testing.T) {
	a := newAPI(t)
	first := a.logged(a.do("GET", "/users/alice", nil).want(200))["ldap_operations"].(float64)
	again := a.logged(a.do("GET", "/users/alice", nil).want(200))["ldap_operations"].(float64)
	if first != 6 || again != 1 { // the caller, whether it has a password, the bind, the groups and those that they are in, the read
		t.Errorf("the first request took %v operations, the second %v", first, again)
	}
	for range 2 { // and what was wrong is asked again
		a.as("admin", "wrong").do("GET", "/users/alice", nil).refused(directory.InvalidCredentials)
	}
}

func TestNoSecretIsLogged(t *testing.T) {
	a := newAPI(t)
	const planted = "planted-secret-passw0rd"
	a.do("POST", "/users", object{"cn": "zoe", "sn": "x", "userPassword": planted + "-1"}).want(201)
	a.do("PATCH", "/users/zoe", object{"userPassword": planted + "-2"}).want(200)
	a.do("PATCH", "/users/zoe", object{"userPassword": "{SSHA}" + planted}).refused(directory.Invalid, "userPassword")
	a.do("PATCH", "/users/zoe", object{"userPassword": planted + "-1"}).refused(directory.PasswordRefused, "userPassword")
	a.do("PATCH", "/users/zoe", object{"userPassword": []string{planted}}).refused(directory.Invalid, "userPassword")
	a.do("PATCH", "/users/zoe", `{"userPassword": "`+planted+`", `).refused(directory.BadRequest)
	a.do("PATCH", "/users/zoe?userPassword="+planted, object{}).refused(directory.BadRequest)
	a.as("zoe", planted+"-2").do("GET", "/users/zoe", nil).want(200)
	a.as("zoe", planted).do("GET", "/users/zoe", nil).refused(directory.InvalidCredentials)
	a.as("zoe", "").do("GET", "/users/zoe", nil, "Authorization", "Basic "+planted).refused(directory.CredentialsRequired)
	if err := a.slapd.Kill(); err != nil {
		t.Fatal(err)
	}
	x := a.do("PATCH", "/users/zoe", object{"userPassword": planted + "-3"})
	a.logged(x)
	log := a.log.text()
	for _, secret := range []string{planted, "Basic ", a.slapd.ServicePassword(), "YWRtaW46YWRtaW4"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

func TestARequestIsOneLineOfTheLog(t *testing.T) {
	a := newAPI(t)
	x := a.do("PATCH", "/users/nobody", object{"sn": "x"})
	line := a.logged(x)
	for key, want := range map[string]any{"method": "PATCH", "route": "/users/{name}", "status": 404.0, "caller": "admin", "ldap_operations": 6.0} {
		if line[key] != want {
			x.fail("%s is %v, want %v: %v", key, line[key], want, line)
		}
	}
	if line["duration_ms"].(float64) <= 0 || line["ldap_ms"].(float64) <= 0 {
		x.fail("no times: %v", line)
	}
}
