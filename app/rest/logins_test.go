package rest_test

import (
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
)

// session is what a login or a refresh gave.
type session struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	RefreshToken string `json:"refresh_token"`
	User         object `json:"user"`
}

// login logs in and returns the tokens.
func (a *api) login(username, password string) session {
	a.t.Helper()
	var s session
	a.as("", "").do("POST", "/login", object{"username": username, "password": password}).want(200).decode(&s)
	return s
}

// bearing returns the API for whoever has a token.
func (a *api) bearing(token string) *api {
	other := a.as("", "")
	other.Token = token
	return other
}

// refreshed exchanges a refresh token.
func (a *api) refreshed(token string) *exchange {
	a.t.Helper()
	return a.as("", "").do("POST", "/refresh", object{"refresh_token": token})
}

func TestALoginGivesTokens(t *testing.T) {
	a := newAPI(t)
	x := a.as("", "").do("POST", "/login", object{"username": "alice", "password": "alice-password"}).want(200)
	var s session
	x.decode(&s)
	if s.TokenType != "Bearer" || s.ExpiresIn != 600 || s.AccessToken == "" || s.RefreshToken == "" || s.User["cn"] != "alice" {
		x.fail("not what RFC 6749 says")
	}
	if x.Header.Get("Cache-Control") != "no-store" || x.Header.Get("Pragma") != "no-cache" {
		x.fail("tokens may be kept on the way")
	}
	alice := a.bearing(s.AccessToken)
	alice.do("GET", "/users/alice", nil).want(200).field("cn", "alice")
	alice.do("GET", "/users/bob", nil).refused(directory.Forbidden)
	a.bearing(a.login("admin", "admin").AccessToken).do("GET", "/users/bob", nil).want(200)
}

func TestLoginsTakeNothingElse(t *testing.T) {
	a := newAPI(t)
	nobody := a.as("", "")
	nobody.do("POST", "/login", object{}).refused(directory.Invalid, "username", "password")
	nobody.do("POST", "/login", object{"username": "alice", "password": 7}).refused(directory.Invalid, "password")
	nobody.do("POST", "/login", object{"username": "alice", "password": "alice-password", "admin": true}).refused(directory.Invalid, "admin")
	nobody.do("POST", "/login", "username=alice", "Content-Type", "application/x-www-form-urlencoded").refused(directory.UnsupportedMediaType)
	nobody.do("POST", "/refresh", object{}).refused(directory.Invalid, "refresh_token")
	nobody.do("GET", "/login", nil).refused(directory.MethodNotAllowed)
	nobody.do("DELETE", "/logout", nil).refused(directory.CredentialsRequired)
	nobody.do("GET", "/me", nil).refused(directory.CredentialsRequired)
}

func TestMeIsOnesOwnEntryAndWhatOneMayDo(t *testing.T) {
	a := newAPI(t)
	me := a.as("alice", "alice-password").do("GET", "/me", nil).want(200).field("cn", "alice").object()
	if roles, ok := me["roles"].([]any); !ok || len(roles) != 0 {
		t.Errorf("alice has the roles %v", me["roles"])
	}
	may := map[string]any{}
	for _, p := range me["may"].([]any) {
		permission := p.(object)
		may[permission["action"].(string)+" "+permission["kind"].(string)] = permission["extent"]
	}
	if may["change users"] != "own" || may["read groups"] != "joined" || may["delete users"] != nil {
		t.Errorf("alice may %v", may)
	}
	roles := a.do("GET", "/me", nil).want(200).field("cn", "admin").object()["roles"].([]any)
	if len(roles) != 1 || roles[0] != "admin" {
		t.Errorf("the admin has the roles %v", roles)
	}
}

func TestARefreshTokenIsGoodOnce(t *testing.T) {
	a := newAPI(t)
	first := a.login("alice", "alice-password")
	var second session
	a.refreshed(first.RefreshToken).want(200).decode(&second)
	if second.RefreshToken == first.RefreshToken || second.User["cn"] != "alice" {
		t.Error("the refresh gave the same token")
	}
	a.bearing(second.AccessToken).do("GET", "/me", nil).want(200)
	a.refreshed(first.RefreshToken).refused(directory.InvalidToken)
	a.refreshed(second.RefreshToken).refused(directory.InvalidToken) // somebody else may have it: the session is over
	for _, token := range []string{first.AccessToken, second.AccessToken} {
		a.bearing(token).do("GET", "/me", nil).refused(directory.InvalidToken)
	}
}

func TestOfManyRefreshesWithOneTokenAtMostOneSucceeds(t *testing.T) {
	a := newAPI(t)
	s := a.login("alice", "alice-password")
	answers := make([]*exchange, 16)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = a.refreshed(s.RefreshToken) })
	}
	all.Wait()
	won := 0
	for _, x := range answers {
		if x.Status == 200 {
			won++
		} else {
			x.refused(directory.InvalidToken)
		}
	}
	if won > 1 {
		t.Errorf("%d succeeded", won)
	}
}

func TestLoggingOutEndsTheSession(t *testing.T) {
	a := newAPI(t)
	s, other := a.login("alice", "alice-password"), a.login("alice", "alice-password")
	a.bearing(s.AccessToken).do("GET", "/me", nil).want(200)
	a.bearing(s.AccessToken).do("DELETE", "/logout", nil).want(204)
	a.bearing(s.AccessToken).do("GET", "/me", nil).refused(directory.InvalidToken)
	a.refreshed(s.RefreshToken).refused(directory.InvalidToken)
	a.bearing(other.AccessToken).do("GET", "/me", nil).want(200)
	a.as("alice", "alice-password").do("DELETE", "/logout", nil).want(204)
}

// ends are the ways in which somebody's session ends, by what another does.
var ends = []struct {
	name string
	end  func(a *api)
}{
	{"locked", func(a *api) { a.do("PATCH", "/users/alice", object{"accountLocked": true}).want(200) }},
	{"deleted", func(a *api) { a.do("DELETE", "/users/alice", nil).want(204) }},
	{"made again", func(a *api) {
		a.do("DELETE", "/users/alice", nil).want(204)
		a.do("POST", "/users", object{"cn": "alice", "sn": "x", "userPassword": "alice-password"}).want(201)
	}},
	{"given another password", func(a *api) {
		a.do("PUT", "/users/alice/password", object{"newPassword": "another password"}).want(204)
	}},
}

func TestWhoIsGoneOrLockedOrHasAnotherPasswordIsLoggedOut(t *testing.T) {
	for _, c := range ends {
		t.Run(c.name, func(t *testing.T) {
			a := newAPI(t)
			s := a.login("alice", "alice-password")
			alice := a.bearing(s.AccessToken)
			alice.do("GET", "/me", nil).want(200)
			c.end(a)
			alice.do("GET", "/me", nil).refused(directory.InvalidToken) // at once, on this replica
			a.refreshed(s.RefreshToken).refused(directory.InvalidToken)
		})
	}
}

// TestSessionsAreSharedByReplicas: what one replica ends the other notices when it reads again, and a refresh
// notices at once.
func TestSessionsAreSharedByReplicas(t *testing.T) {
	one := newAPI(t)
	two := newAPIOn(t, one.slapd, func(s *settings) { s.auth.Freshness = 50 * time.Millisecond })
	s := one.login("alice", "alice-password")
	two.bearing(s.AccessToken).do("GET", "/me", nil).want(200)
	var next session
	two.refreshed(s.RefreshToken).want(200).decode(&next)
	one.bearing(next.AccessToken).do("GET", "/me", nil).want(200)
	three := newAPIOn(t, one.slapd) // as after a restart
	three.bearing(next.AccessToken).do("GET", "/me", nil).want(200)

	one.bearing(next.AccessToken).do("DELETE", "/logout", nil).want(204)
	two.refreshed(next.RefreshToken).refused(directory.InvalidToken)
	within(t, func() bool { return two.bearing(next.AccessToken).do("GET", "/me", nil).Status == 401 })

	s = two.login("alice", "alice-password")
	two.bearing(s.AccessToken).do("GET", "/me", nil).want(200)
	one.do("PATCH", "/users/alice", object{"accountLocked": true}).want(200)
	within(t, func() bool { return two.bearing(s.AccessToken).do("GET", "/me", nil).Status == 401 })
	two.refreshed(s.RefreshToken).refused(directory.InvalidToken)
}

// within waits for something to become true.
func within(t *testing.T, happened func() bool) {
	t.Helper()
	for range 1000 {
		if happened() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("it never happened")
}

func TestSessionsThatRanOutAreSwept(t *testing.T) {
	a := newAPI(t)
	a.login("alice", "alice-password")
	count := func() int {
		found, err := ldapdirtest.Bind(t, a.slapd).Search(ldap.NewSearchRequest(sessions, ldap.ScopeSingleLevel, 0, 0, 0, false, "(objectClass=*)", nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		return len(found.Entries)
	}
	if n := count(); n != 1 {
		t.Fatalf("there are %d sessions", n)
	}
	d := ldapdirtest.Open(t, ldapdirtest.Options(a.slapd)).Sessions(sessions)
	if err := d.Sweep(t.Context(), time.Now().Add(-time.Hour)); err != nil || count() != 1 {
		t.Errorf("a session that has not run out is gone: %v", err)
	}
	if err := d.Sweep(t.Context(), time.Now().Add(time.Hour)); err != nil || count() != 0 {
		t.Errorf("a session that has run out is there: %v", err)
	}
}

func TestTheKeySetHoldsEveryKey(t *testing.T) {
	a := newAPI(t)
	var set struct{ Keys []object }
	a.as("", "").do("GET", "/.well-known/jwks.json", nil).want(200).decode(&set)
	if len(set.Keys) != 1 || set.Keys[0]["kty"] != "OKP" || set.Keys[0]["crv"] != "Ed25519" || set.Keys[0]["d"] != nil || set.Keys[0]["x"] == "" {
		t.Errorf("the key set is %v", set)
	}
}

// TestNestedMembershipCounts: who is in a group in the admin group is an admin.
func TestNestedMembershipCounts(t *testing.T) {
	a := newAPI(t)
	a.do("POST", "/groups", object{"cn": "inner", "members": []string{"users/alice"}}).want(201)
	a.do("POST", "/groups", object{"cn": "middle", "members": []string{"groups/inner"}}).want(201)
	a.do("PATCH", "/groups/inner", object{"members": []string{"users/alice", "groups/middle"}}).want(200) // a cycle
	alice := a.as("alice", "alice-password")
	alice.do("GET", "/users/bob", nil).refused(directory.Forbidden)
	a.do("PUT", "/groups/admins/members/groups/middle", nil).want(204)
	alice.do("GET", "/users/bob", nil).want(200)
	alice.do("DELETE", "/groups/inner/members/users/alice", nil).want(204)
	alice.do("GET", "/users/bob", nil).refused(directory.Forbidden)
}
