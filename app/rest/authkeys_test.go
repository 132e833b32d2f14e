package rest_test

import (
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
)

// bobsKey is the key that bob has in the sample directory, where he and web1 are in the group web.
const bobsKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOF78gNmJ1IDuVd4lV98KUh+OH8/Tz6yO6UGo87/sjJq bob\n"

// authkeys asks for the keys of a user on a host.
func (a *api) authkeys(user, host string, headers ...string) *exchange {
	a.t.Helper()
	return a.do("GET", "/authkeys?"+url.Values{"username": {user}, "host": {host}}.Encode(), nil, headers...)
}

// text returns the body as it is.
func (x *exchange) text() string { return string(x.Body) }

// array returns the body, a JSON array of objects.
func (x *exchange) array() (all []object) {
	x.t.Helper()
	x.decode(&all)
	return all
}

// hostToken gives a host a token, and returns the header that shows it.
func (a *api) hostToken(host string) []string {
	a.t.Helper()
	var made struct{ Host, Token string }
	a.do("POST", "/hosts/"+host+"/token", nil).want(201).decode(&made)
	if made.Host != host {
		a.t.Fatalf("the token of %s is of %q", host, made.Host)
	}
	return []string{"Authorization", "Bearer " + made.Token}
}

// TestKeysAreGivenWhileEverythingHolds takes one thing after the other away, and puts it right again.
func TestKeysAreGivenWhileEverythingHolds(t *testing.T) {
	a := newAPI(t)
	for _, group := range []string{"inner", "middle", "outer"} { // bob is three levels below what spare is in
		a.do("POST", "/groups", object{"cn": group}).want(201)
	}
	a.do("PUT", "/groups/middle/members/groups/inner", nil).want(204)
	a.do("PUT", "/groups/outer/members/groups/middle", nil).want(204)
	a.do("PUT", "/groups/inner/members/groups/middle", nil).want(204) // a circle
	a.do("PUT", "/groups/inner/members/users/bob", nil).want(204)
	a.do("PUT", "/groups/outer/members/hosts/spare", nil).want(204)
	token := a.hostToken("spare")
	given := func(want string) {
		t.Helper()
		x := a.authkeys("bob", "spare", token...).want(200)
		if got := x.text(); got != want {
			x.fail("the keys are %q, want %q", got, want)
		}
		if got := x.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
			x.fail("the type is %q", got)
		}
	}
	given(bobsKey)
	type step struct {
		method, path string
		body         any
		status       int
	}
	send := func(s step) { t.Helper(); a.do(s.method, s.path, s.body).want(s.status) }
	past := time.Now().Add(-time.Hour).UTC().Format("20060102150405Z")
	for _, c := range []struct {
		name         string
		taken, right step
	}{
		{"the user is in the group three levels down", step{"DELETE", "/groups/inner/members/users/bob", nil, 204}, step{"PUT", "/groups/inner/members/users/bob", nil, 204}},
		{"a group is in the next", step{"DELETE", "/groups/outer/members/groups/middle", nil, 204}, step{"PUT", "/groups/outer/members/groups/middle", nil, 204}},
		{"the host is in the group", step{"DELETE", "/groups/outer/members/hosts/spare", nil, 204}, step{"PUT", "/groups/outer/members/hosts/spare", nil, 204}},
		{"the user is not locked", step{"PATCH", "/users/bob", object{"accountLocked": true}, 200}, step{"PATCH", "/users/bob", object{"accountLocked": false}, 200}},
		{"the user has the key", step{"PATCH", "/users/bob", object{"sshPublicKeys": nil}, 200}, step{"PATCH", "/users/bob", object{"sshPublicKeys": []string{strings.TrimSpace(bobsKey)}}, 200}},
		{"the key has not expired", step{"PATCH", "/users/bob", object{"sshPublicKeys": []string{`expiry-time="` + past + `" ` + strings.TrimSpace(bobsKey)}}, 200},
			step{"PATCH", "/users/bob", object{"sshPublicKeys": []string{strings.TrimSpace(bobsKey)}}, 200}},
		{"the user is there", step{"POST", "/users/bob/rename", object{"cn": "rob"}, 200}, step{"POST", "/users/rob/rename", object{"cn": "bob"}, 200}},
	} {
		t.Run(c.name, func(t *testing.T) {
			send(c.taken)
			if strings.Contains(c.taken.path, "rename") { // uid is another field
				a.do("PATCH", "/users/rob", object{"uid": "rob"}).want(200)
				defer func() { a.do("PATCH", "/users/bob", object{"uid": "bob"}).want(200); given(bobsKey) }()
			}
			given("")
			send(c.right)
			if !strings.Contains(c.taken.path, "rename") {
				given(bobsKey)
			}
		})
	}
	t.Run("by one fingerprint", func(t *testing.T) {
		const path = "/authkeys?username=bob&host=spare&fingerprint="
		prints := a.do("GET", "/users/bob/keys", nil).want(200).array()
		one := prints[0]["fingerprint"].(string)
		if got := a.do("GET", path+url.QueryEscape(one), nil, token...).want(200).text(); got != bobsKey {
			t.Errorf("the key %s is %q", one, got)
		}
		if got := a.do("GET", path+strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimPrefix(one, "SHA256:")), nil, token...).want(200).text(); got != bobsKey {
			t.Errorf("the key %s, as in a path, is %q", one, got)
		}
		if got := a.do("GET", path+url.QueryEscape("SHA256:ZP4pT+m/s9Y18BQHvg8KxEmkFw6Tpa1i5nERynjxbmc"), nil, token...).want(200).text(); got != "" {
			t.Errorf("a key of another fingerprint is %q", got)
		}
		a.do("GET", path+"MD5:aa", nil, token...).refused(directory.Invalid, "fingerprint")
	})
}

func TestMembersOfSomeGroupsMayLogInEverywhere(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.everywhere = []string{"cn=engineering,ou=groups," + ldapdirtest.Base} })
	for user, want := range map[string]string{"alice": "ssh-ed25519 ", "bob": bobsKey, "admin": "", "nobody": ""} { // by devs and by ops
		if got := a.authkeys(user, "spare").want(200).text(); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("%s on a host without a group: %q, want %q", user, got, want)
		}
	}
	if got := a.authkeys("bob", "nowhere").want(200).text(); got != "" {
		t.Errorf("on a host that is not there: %q", got)
	}
}

// TestNobodyIsRootByTheDirectory for whoever may create users could be.
func TestNobodyIsRootByTheDirectory(t *testing.T) {
	a := newAPI(t)
	a.do("POST", "/users", object{"cn": "eve", "sn": "E", "uid": "root", "memberOfs": []string{"groups/web"}, "sshPublicKeys": []string{newKey(t)}}).want(201)
	if got := a.authkeys("root", "web1").want(200).text(); got != "" {
		t.Errorf("root gets in by %q", got)
	}
	got := a.do("GET", "/access?user=eve&host=web1", nil).want(200).object()
	if step := got["steps"].([]any)[0].(object); got["allowed"] != false || step["message"] != "root is an account of the hosts' own (ssh.local_logins)." {
		t.Errorf("the verdict is %v", got)
	}
}

// TestOnlyAdminsLetInEverywhere by the groups in such a group too.
func TestOnlyAdminsLetInEverywhere(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.everywhere = []string{"cn=engineering,ou=groups," + ldapdirtest.Base} })
	a.do("POST", "/groups", object{"cn": "operators"}).want(201)
	a.do("POST", "/users", object{"cn": "op", "sn": "O", "userPassword": "own password", "memberOfs": []string{"groups/operators"}}).want(201)
	op := a.as("op", "own password")
	for _, group := range []string{"engineering", "devs"} { // the second is in the first
		op.do("PUT", "/groups/"+group+"/members/users/op", nil).want(403)
		op.do("PATCH", "/groups/"+group, object{"description": "x"}).want(403)
		op.do("POST", "/users", object{"cn": "x", "sn": "x", "memberOfs": []string{"groups/" + group}}).want(403)
	}
	op.do("PUT", "/groups/contractors/members/users/op", nil).want(204)
	op.do("POST", "/users/alice/keys", object{"key": newKey(t)}).want(403) // alice is in devs
	op.do("PATCH", "/users/alice", object{"uid": "eve"}).want(403)
	op.do("PATCH", "/users/alice", object{"title": "x"}).want(200)
	for _, request := range [][2]string{{"DELETE", "/groups/engineering"}, {"POST", "/groups/engineering/rename"}} {
		a.do(request[0], request[1], object{"cn": "others"}).refused(directory.ProtectedEntry)
	}
	a.do("PUT", "/groups/engineering/members/users/op", nil).want(204)
}

// TestALongWayIsFoundFromBothSides at a login, by a verdict with its whole path, and in the list of all who share it.
func TestALongWayIsFoundFromBothSides(t *testing.T) {
	const n = 60
	a := newAPI(t)
	for i := range n {
		group := object{"cn": fmt.Sprint("g", i)}
		if i > 0 {
			group["members"] = []string{fmt.Sprint("groups/g", i-1)}
		}
		a.do("POST", "/groups", group).want(201)
	}
	a.do("PUT", "/groups/g0/members/users/bob", nil).want(204)
	a.do("PUT", fmt.Sprint("/groups/g", n-1, "/members/hosts/spare"), nil).want(204)
	if got := a.authkeys("bob", "spare").want(200).text(); got != bobsKey {
		t.Errorf("the keys are %q", got)
	}
	group := a.do("GET", "/access?user=bob&host=spare", nil).want(200).object()["group"].(object)
	if path := group["userPath"].([]any); len(path) != n || path[n-1] != fmt.Sprint("g", n-1) {
		t.Errorf("the path is %v", path)
	}
	all, allowed := a.do("GET", "/hosts/spare/users", nil).want(200).array(), a.do("GET", "/hosts/spare/users?allowed=true", nil).want(200).array()
	if len(all) != 1 || len(allowed) != 1 || all[0]["user"] != "bob" {
		t.Errorf("of all %d, of those who may %d: %v", len(all), len(allowed), all)
	}
	a.do("PATCH", "/users/bob", object{"accountLocked": true}).want(200)
	if all, allowed = a.do("GET", "/hosts/spare/users?allowed=false", nil).want(200).array(), a.do("GET", "/hosts/spare/users?allowed=true", nil).want(200).array(); len(all) != 1 || len(allowed) != 0 {
		t.Errorf("of all %d, of those who may %d", len(all), len(allowed))
	}
	a.do("GET", "/hosts/spare/users?allowed=maybe", nil).refused(directory.BadRequest)
}

// TestAVerdictIsWhatSshdIsTold also where logins are not as they should be.
func TestAVerdictIsWhatSshdIsTold(t *testing.T) {
	a := newAPI(t)
	l := ldapdirtest.Bind(t, a.slapd)
	modify := ldap.NewModifyRequest("cn=bob,ou=people,"+ldapdirtest.Base, nil)
	modify.Delete("uid", nil)
	if err := l.Modify(modify); err != nil {
		t.Fatal(err)
	}
	verdict := a.do("GET", "/access?user=bob&host=web1", nil).want(200).object()
	if step := verdict["steps"].([]any)[0].(object); verdict["allowed"] != false || step["message"] != "bob has no uid, by which users log in to hosts." {
		t.Errorf("without a login: %v", verdict)
	}
	if got := a.authkeys("bob", "web1").want(200).text(); got != "" {
		t.Errorf("the keys are %q", got)
	}
}

func TestAHostAsksForItselfOnly(t *testing.T) {
	a := newAPI(t)
	web1, web2 := a.hostToken("web1"), a.hostToken("web2")
	nobody := []string{"Authorization", ""}
	if got := a.authkeys("bob", "web1", web1...).want(200).text(); got != bobsKey {
		t.Errorf("the host itself gets %q", got)
	}
	a.authkeys("bob", "WEB1", web1...).want(200)
	a.do("GET", "/hosts/known_hosts", nil, web1...).want(200)
	for _, c := range []struct {
		name    string
		host    string
		headers []string
		code    *directory.Code
	}{
		{"of another host", "web1", web2, directory.Forbidden},
		{"of a host that is not there", "nowhere", web2, directory.Forbidden},
		{"without a token", "web1", nobody, directory.CredentialsRequired},
		{"with a changed one", "web1", []string{"Authorization", web1[1] + "A"}, directory.InvalidToken},
		{"with another's name before its secret", "web1", []string{"Authorization", web1[1][:len("Bearer rollcall-host.")+36] + web2[1][len("Bearer rollcall-host.")+36:]}, directory.InvalidToken},
		{"with half of one", "web1", []string{"Authorization", "Bearer rollcall-host."}, directory.InvalidToken},
		{"with a name that is a filter", "web1", []string{"Authorization", "Bearer rollcall-host.*.x"}, directory.InvalidToken},
		{"with a name that is a DN", "web1", []string{"Authorization", "Bearer rollcall-host.x,cn=y.x"}, directory.InvalidToken},
	} {
		a.authkeys("bob", c.host, c.headers...).refused(c.code)
	}
	for _, path := range []string{"/users", "/users/bob", "/hosts/web1", "/me", "/access?user=bob&host=web1", "/hosts/web1/users"} {
		a.do("GET", path, nil, web1...).refused(directory.InvalidToken)
	}
	again := a.hostToken("web1")
	a.authkeys("bob", "web1", web1...).refused(directory.InvalidToken)
	a.authkeys("bob", "web1", again...).want(200)
	a.do("DELETE", "/hosts/web1/token", nil).want(204)
	a.do("DELETE", "/hosts/web1/token", nil).want(204)
	a.authkeys("bob", "web1", again...).refused(directory.InvalidToken)
	a.do("GET", "/hosts/known_hosts", nil, again...).refused(directory.InvalidToken)
	a.do("POST", "/hosts/web2/rename", object{"cn": "web3"}).want(200)
	a.authkeys("bob", "web2", web2...).refused(directory.Forbidden)
	if got := a.authkeys("bob", "web3", web2...).want(200).text(); got != bobsKey {
		t.Errorf("a host of another name gets %q", got)
	}
	a.do("DELETE", "/hosts/web3", nil).want(204)
	a.do("POST", "/hosts", object{"cn": "web3"}).want(201)
	a.authkeys("bob", "web3", web2...).refused(directory.InvalidToken)
	if strings.Contains(a.log.String(), strings.Fields(web2[1])[1][len("rollcall-host.")+37:]) {
		t.Error("the log holds a token")
	}
}

func TestTrustedNetworksNeedNoToken(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	nobody := []string{"Authorization", ""}
	if got := a.authkeys("bob", "web1", nobody...).want(200).text(); got != bobsKey {
		t.Errorf("the keys are %q", got)
	}
	a.do("GET", "/hosts/known_hosts", nil, nobody...).want(200)
	a.do("GET", "/hosts", nil, nobody...).refused(directory.CredentialsRequired)
	a.authkeys("bob", "web1", "Authorization", "Bearer rollcall-host.x.y").refused(directory.InvalidToken)
	a.authkeys("bob", "web1", "Authorization", "Basic eA==").refused(directory.CredentialsRequired)
	other := newAPIOn(t, a.slapd, func(s *settings) { s.rest.TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	other.authkeys("bob", "web1", "Authorization", "").refused(directory.CredentialsRequired)
	other.authkeys("bob", "web1", "Authorization", "", "X-Forwarded-For", "192.0.2.1").refused(directory.CredentialsRequired)
}

// TestAuthorizedKeysTakeTwoSearchesAtMost by what the log counts, and mostly one.
func TestAuthorizedKeysTakeTwoSearchesAtMost(t *testing.T) {
	a := newAPI(t)
	token := a.hostToken("web1")
	searches := func() string {
		t.Helper()
		a.authkeys("bob", "web1", token...).want(200)
		lines := strings.Split(strings.TrimSpace(a.log.String()), "\n")
		_, after, _ := strings.Cut(lines[len(lines)-1], `"ldap_operations":`)
		return after[:1]
	}
	settled := func() {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); searches() != "1"; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("with nothing changed it goes on taking more than one")
			}
		}
	}
	settled()
	for i := range 5 {
		a.do("PATCH", "/groups/web", object{"description": fmt.Sprint(i)}).want(200)
		if got := searches(); got != "2" {
			t.Errorf("after a change it takes %s", got)
		}
		for range 20 {
			if got := searches(); got > "2" {
				t.Errorf("and then %s", got)
			}
		}
	}
	settled()
}

// TestADirectoryThatCantBeAskedIsNoNo lest sshd takes it for one.
func TestADirectoryThatCantBeAskedIsNoNo(t *testing.T) {
	a := newAPI(t)
	token := a.hostToken("web1")
	if err := a.slapd.Kill(); err != nil {
		t.Fatal(err)
	}
	x := a.authkeys("bob", "web1", token...).refused(directory.Unavailable)
	if x.Header.Get("Retry-After") == "" {
		x.fail("there is no Retry-After")
	}
	a.do("GET", "/hosts/known_hosts", nil, token...).refused(directory.Unavailable)
}

func TestAVerdictNamesEveryReason(t *testing.T) {
	a := newAPI(t)
	a.do("POST", "/users", object{"cn": "carol", "sn": "C", "accountLocked": true}).want(201)
	a.do("PUT", "/groups/ops/members/groups/web", nil).want(204)
	for _, c := range []struct {
		user, host string
		allowed    bool
		messages   []string
	}{
		{"bob", "web1", true, []string{"bob logs in as bob.", "web1 is there.", "bob is not locked.", "bob is in web, and web1 is in web.", "bob has 1 of 1 SSH keys that may be used."}},
		{"zoë", "web1", true, []string{"zoë logs in as zoë.", "web1 is there.", "zoë is not locked.", "zoë is in ops, and web1 is in web, which is in ops.", "zoë has 1 of 1 SSH keys that may be used."}},
		{"alice", "web1", true, []string{"alice logs in as alice.", "web1 is there.", "alice is not locked.", "alice is in devs, which is in engineering, and web1 is in web, which is in ops, which is in engineering.", "alice has 1 of 1 SSH keys that may be used."}},
		{"alice", "spare", false, []string{"alice logs in as alice.", "spare is there.", "alice is not locked.", "alice and spare share no group. alice is in devs, engineering. spare is in none.", "alice has 1 of 1 SSH keys that may be used."}},
		{"carol", "web1", false, []string{"carol logs in as carol.", "web1 is there.", "carol is locked, until an admin unlocks it.", "carol and web1 share no group. carol is in none. web1 is in web, ops, engineering.", "carol has no SSH key."}},
		{"nobody", "web1", false, []string{`There is no user "nobody".`, "web1 is there."}},
		{"alice", "nowhere", false, []string{"alice is there.", `There is no host "nowhere".`}},
	} {
		x := a.do("GET", "/access?"+url.Values{"user": {c.user}, "host": {c.host}}.Encode(), nil).want(200)
		got := x.object()
		var messages []string
		for _, step := range got["steps"].([]any) {
			messages = append(messages, step.(map[string]any)["message"].(string))
		}
		if got["allowed"] != c.allowed || strings.Join(messages, "|") != strings.Join(c.messages, "|") {
			x.fail("the verdict is %t: %q, want %t: %q", got["allowed"], messages, c.allowed, c.messages)
		}
	}
	a.do("GET", "/access?user=bob", nil).refused(directory.Invalid, "host")
	a.do("GET", "/access", nil).refused(directory.Invalid, "host", "user")
	a.do("GET", "/access?user=bob&host=web1&x=y", nil).refused(directory.BadRequest)
}

func TestWhoMayLogInWhereIsTheSameFromBothSides(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.everywhere = []string{"cn=admins,ou=groups," + ldapdirtest.Base} })
	a.do("PUT", "/groups/ops/members/groups/web", nil).want(204)
	allowed := func(path, other string) map[string]bool {
		t.Helper()
		all := map[string]bool{}
		for _, one := range a.do("GET", path, nil).want(200).array() {
			all[one[other].(string)] = one["allowed"].(bool)
		}
		return all
	}
	names := func(kind string) (all []string) {
		for _, one := range a.do("GET", "/"+kind+"?fields=cn", nil).want(200).array() {
			all = append(all, one["cn"].(string))
		}
		return all
	}
	hosts := names("hosts")
	ofHost := map[string]map[string]bool{}
	for _, host := range hosts {
		ofHost[host] = allowed("/hosts/"+host+"/users", "user")
	}
	for _, user := range names("users") {
		ofUser := allowed("/users/"+url.PathEscape(user)+"/hosts", "host")
		for _, host := range hosts {
			may, shared := ofUser[host]
			if other, too := ofHost[host][user]; may != other || shared != too {
				t.Errorf("%s on %s: %t and %t, from the host's side %t and %t", user, host, may, shared, other, too)
			}
			if got := a.authkeys(user, host).want(200).text() != ""; got != may && isASCII(user) {
				t.Errorf("%s on %s: the keys say %t, the verdict %t", user, host, got, may)
			}
		}
	}
	if !ofHost["web1"]["bob"] || len(ofHost["spare"]) != 1 {
		t.Errorf("web1: %v, spare: %v", ofHost["web1"], ofHost["spare"])
	}
	a.do("GET", "/users/nobody/hosts", nil).refused(directory.NotFound)
	a.do("GET", "/hosts/nowhere/users", nil).refused(directory.NotFound)
}

func isASCII(s string) bool { return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz") == "" }
