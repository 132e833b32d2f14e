package rest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/directory/directorytest"
	"rollcall/app/ldapdir/ldapdirtest"
)

func TestTheLifeOfAUser(t *testing.T) {
	a := newAPI(t)
	created := a.do("POST", "/users", object{"cn": "zoe", "sn": "Ng", "mail": "zoe.ng@example.org", "userPassword": "a long password"}).want(201)
	created.field("cn", "zoe").field("uid", "zoe").field("mail", "zoe.ng@example.org").field("userPassword", nil).
		field("accountLocked", false).field("memberOfs", []string{}).field("dn", "cn=zoe,ou=people,"+ldapdirtest.Base)
	if got, want := created.Header.Get("Location"), a.URL+"/users/zoe"; got != want {
		created.fail("Location is %q, want %q", got, want)
	}
	read := a.do("GET", "/users/zoe", nil).want(200)
	if string(read.Body) != string(created.Body) || read.etag() != created.etag() || read.etag() == "" {
		read.fail("not what was created:\n%s", created.Body)
	}
	head := a.do("HEAD", "/users/zoe", nil).want(200)
	if len(head.Body) != 0 || head.etag() != read.etag() || head.Header.Get("Content-Length") != fmt.Sprint(len(read.Body)) {
		head.fail("not the head of the answer to GET")
	}
	a.as("zoe", "a long password").do("GET", "/users/zoe", nil).want(200)

	a.do("PATCH", "/users/zoe", object{"title": "Engineer", "mail": nil}).want(200).field("title", "Engineer").field("mail", nil).field("sn", "Ng")
	a.do("PATCH", "/users/zoe", `{"title":"Chief"}`, "Content-Type", "application/merge-patch+json").want(200).field("title", "Chief")
	a.do("PUT", "/users/zoe", object{"sn": "Smith", "givenName": "Zoe"}).want(200).
		field("sn", "Smith").field("givenName", "Zoe").field("title", nil).field("cn", "zoe").field("uid", "zoe")
	a.as("zoe", "a long password").do("GET", "/users/zoe", nil).want(200) // left out of a PUT, a password stays

	a.do("PUT", "/groups/devs/members/users/zoe", nil).want(204)
	a.do("GET", "/users/zoe", nil).field("memberOfs", []string{"cn=devs,ou=groups," + ldapdirtest.Base})
	a.do("DELETE", "/users/zoe", nil).want(204)
	a.do("GET", "/users/zoe", nil).refused(directory.NotFound)
	var members []string
	a.do("GET", "/groups/devs/members", nil).want(200).decode(&members)
	if slices.Contains(members, "cn=zoe,ou=people,"+ldapdirtest.Base) {
		t.Errorf("zoe is still one of %q", members)
	}
	a.do("DELETE", "/users/zoe", nil).refused(directory.NotFound)
}

func TestTheLifeOfAGroup(t *testing.T) {
	a := newAPI(t)
	base := ldapdirtest.Base
	a.do("POST", "/groups", object{"cn": "night", "members": []string{"users/alice", "cn=devs,ou=groups," + base, "hosts/web1"}}).want(201).
		field("members", []string{"cn=alice,ou=people," + base, "cn=devs,ou=groups," + base, "cn=web1,ou=hosts," + base})
	a.do("PATCH", "/groups/night", object{"members": []string{}}).want(200).field("members", []string{})
	a.do("PUT", "/groups/night/members/users/alice", nil).want(204)
	a.do("PUT", "/groups/night/members/users/alice", nil).want(204)
	a.do("GET", "/groups/night", nil).field("members", []string{"cn=alice,ou=people," + base})
	a.do("PUT", "/groups/night/members/users/nobody", nil).refused(directory.NotFound)
	a.do("PUT", "/groups/nogroup/members/users/alice", nil).refused(directory.NotFound)
	a.do("DELETE", "/groups/night/members/users/alice", nil).want(204)
	a.do("DELETE", "/groups/night/members/users/alice", nil).want(204)
	a.do("DELETE", "/groups/night/members/users/nobody", nil).want(204)
	a.do("DELETE", "/groups/nogroup/members/users/alice", nil).refused(directory.NotFound)
	a.do("PUT", "/groups/night", object{"description": "late"}).want(200).field("members", []string{}).field("description", "late")
	if got := strings.TrimSpace(string(a.do("GET", "/groups/night/members", nil).want(200).Body)); got != "[]" {
		t.Errorf("an empty group's members are %s", got)
	}
	a.do("PUT", "/groups/night/members/groups/night", nil).refused(directory.Invalid, "members")
	a.do("PATCH", "/groups/night", object{"members": []string{"groups/night", "users/alice"}}).refused(directory.Invalid, "members")
	a.do("DELETE", "/groups/night", nil).want(204)
}

func TestTheLifeOfAHost(t *testing.T) {
	a := newAPI(t)
	a.do("POST", "/hosts", object{"cn": "db9.example.org", "ipAddresses": []string{"192.0.2.9", "2001:db8::9"}, "owners": []string{"users/alice"}, "location": "Rack 4"}).
		want(201).field("owners", []string{"cn=alice,ou=people," + ldapdirtest.Base}).field("location", "Rack 4")
	a.do("PATCH", "/hosts/db9.example.org", object{"ipAddresses": nil, "serialNumber": "SN-1"}).want(200).field("ipAddresses", []string{}).field("serialNumber", "SN-1")
	a.do("DELETE", "/hosts/db9.example.org", nil).want(204)
}

func TestPutCreatesWhatIsNotThere(t *testing.T) {
	a := newAPI(t)
	a.do("PUT", "/users/zoe", object{"sn": "Ng"}).want(201).field("cn", "zoe").field("uid", "zoe")
	a.do("PUT", "/users/zoe", object{"cn": "zoe", "sn": "Ng"}, "If-None-Match", "*").refused(directory.Stale)
	a.do("PUT", "/users/yan", object{"cn": "yan", "sn": "Ng"}, "If-None-Match", "*").want(201)
	a.do("PUT", "/users/xi", object{"cn": "other", "sn": "Ng"}).refused(directory.Invalid, "cn")
	a.do("PUT", "/users/xi", object{"sn": "Ng"}, "If-Match", "*").refused(directory.Stale)
	a.do("PUT", "/users/xi", object{}).refused(directory.Invalid, "sn")
	a.do("PUT", "/users/zoe", object{"cn": "zoey", "sn": "Ng"}).refused(directory.Invalid, "cn")
	a.do("PUT", "/users/zoe", object{"sn": "Ng"}, "If-None-Match", `"x"`).refused(directory.BadRequest)
	a.do("GET", "/users/xi", nil).refused(directory.NotFound)
}

func TestALoginThatIsRemovedIsTheNameAgain(t *testing.T) {
	a := newAPI(t)
	a.do("PATCH", "/users/alice", object{"uid": "liddell"}).want(200).field("uid", "liddell")
	a.do("PATCH", "/users/alice", object{"uid": nil}).want(200).field("uid", "alice")
}

// TestEntriesOfAnotherClassAreNotThere although they are in the container.
func TestEntriesOfAnotherClassAreNotThere(t *testing.T) {
	a := newAPI(t)
	add := ldap.NewAddRequest("cn=role,ou=groups,"+ldapdirtest.Base, nil)
	add.Attribute("objectClass", []string{"organizationalRole"})
	if err := ldapdirtest.Bind(t, a.slapd).Add(add); err != nil {
		t.Fatal(err)
	}
	a.do("GET", "/groups/role", nil).refused(directory.NotFound)
	a.do("PATCH", "/groups/role", object{"description": "x"}).refused(directory.NotFound)
	a.do("DELETE", "/groups/role", nil).refused(directory.NotFound)
	a.do("PUT", "/groups/role/members/users/alice", nil).refused(directory.NotFound)
	a.do("DELETE", "/groups/role/members/users/alice", nil).refused(directory.NotFound)
	a.do("PUT", "/groups/role", object{}).refused(directory.AlreadyExists)
	a.do("POST", "/groups", object{"cn": "role"}).refused(directory.AlreadyExists)
}

func TestANameThatIsTooLongForTheServer(t *testing.T) {
	a := newAPI(t)
	a.do("POST", "/users", object{"cn": strings.Repeat("😀", 64), "sn": "x"}).refused(directory.Invalid, "cn")
}

func TestWhatWasReadCanBeSentBack(t *testing.T) {
	a := newAPI(t)
	for _, kind := range []string{"users", "groups", "hosts"} {
		var all []object
		a.do("GET", "/"+kind, nil).want(200).decode(&all)
		for _, entry := range all {
			path := client.Path(kind, entry["cn"].(string))
			read := a.do("GET", path, nil).want(200)
			for _, method := range []string{"PUT", "PATCH"} {
				back := a.do(method, path, read.Body).want(200)
				if back.etag() != read.etag() {
					back.fail("sending back what was read made another version: %s, was %s", back.etag(), read.etag())
				}
			}
		}
	}
}

func TestConditions(t *testing.T) {
	a := newAPI(t)
	first := a.do("GET", "/users/alice", nil).want(200).etag()
	second := a.do("PATCH", "/users/alice", object{"title": "Second"}, "If-Match", first).want(200).etag()
	group := a.do("GET", "/groups/devs", nil).want(200).etag()
	a.do("PATCH", "/groups/devs", object{"description": "changed"}).want(200)

	for _, c := range []struct{ method, path, tags string }{
		{"PUT", "/users/alice", first},
		{"PATCH", "/users/alice", first},
		{"DELETE", "/users/alice", first},
		{"PATCH", "/users/alice", "W/" + second},
		{"PATCH", "/users/alice", `"nonsense"`},
		{"PUT", "/groups/devs/members/users/alice", group},
		{"DELETE", "/groups/devs/members/users/alice", group},
	} {
		a.do(c.method, c.path, object{"sn": "Other"}, "If-Match", c.tags).refused(directory.Stale)
	}
	a.do("PATCH", "/users/alice", object{"title": "x"}, "If-Match", "unquoted").refused(directory.BadRequest)
	a.do("PATCH", "/users/alice", object{"title": "Third"}, "If-Match", `"a", `+first+" ,"+second).want(200).field("title", "Third")
	a.do("PATCH", "/users/alice", object{"title": "Fourth"}, "If-Match", "*").want(200)
	a.do("PATCH", "/users/nobody", object{"title": "x"}, "If-Match", "*").refused(directory.NotFound)
	a.do("PATCH", "/users/alice", object{"title": "x"}, "If-None-Match", "*").refused(directory.BadRequest)
	a.do("PUT", "/groups/devs/members/users/bob", nil, "If-None-Match", "*").refused(directory.BadRequest)
	a.do("POST", "/users", object{"cn": "new", "sn": "x"}, "If-Match", "*").refused(directory.BadRequest)
	a.do("POST", "/users", object{"cn": "new", "sn": "x"}, "If-None-Match", first).refused(directory.BadRequest)
	a.do("POST", "/users", object{"cn": "new", "sn": "x"}, "If-None-Match", "*").want(201)
	for _, header := range []string{"If-Match", "If-None-Match"} {
		a.do("PUT", "/users/new/password", object{"newPassword": "correct horse battery"}, header, "*").refused(directory.BadRequest)
	}
	a.do("PUT", "/users/nobody", object{"sn": "x"}, "If-None-Match", "*", "If-Match", "*").refused(directory.Stale)

	read := a.do("GET", "/users/alice", nil).want(200)
	for _, tags := range []string{read.etag(), "W/" + read.etag(), `"a", ` + read.etag(), "*"} {
		x := a.do("GET", "/users/alice", nil, "If-None-Match", tags).want(304)
		if len(x.Body) > 0 || x.etag() != read.etag() {
			x.fail("a 304 has no body, and the ETag")
		}
	}
	a.do("GET", "/users/alice", nil, "If-None-Match", first).want(200)
	a.do("PUT", "/groups/contractors/members/users/alice", nil).want(204)
	a.do("GET", "/users/alice", nil, "If-None-Match", read.etag()).want(200) // memberOfs is another
}

func TestFailedLoginsMakeNoEditStale(t *testing.T) {
	a := newAPI(t)
	read := a.do("GET", "/users/alice", nil).want(200)
	time.Sleep(1100 * time.Millisecond) // modifyTimestamp has seconds
	a.as("alice", "wrong").do("GET", "/users/alice", nil).refused(directory.InvalidCredentials)
	if now := a.do("GET", "/users/alice", nil).want(200); now.etag() == read.etag() || now.object()["updatedAt"] == read.object()["updatedAt"] {
		now.fail("a failed login left the entry as it was")
	}
	a.do("PUT", "/users/alice", read.Body, "If-Match", read.etag()).want(200)
	read = a.do("GET", "/users/alice", nil).want(200)
	lockOut(a)
	a.do("PATCH", "/users/alice", object{"title": "Engineer"}, "If-Match", read.etag()).want(200)
}

func TestNamesRoundTrip(t *testing.T) {
	a := newAPI(t)
	for _, name := range directorytest.Names {
		path := client.Path("users", name)
		a.do("DELETE", path, nil) // the sample directory has some of the names
		created := a.do("POST", "/users", object{"cn": name, "sn": "X"}).want(201).field("cn", name)
		location, err := url.Parse(created.Header.Get("Location"))
		if err != nil {
			created.fail("%v", err)
		}
		if name != ".." { // a step up, to any client but ours
			a.do("GET", location.EscapedPath(), nil).want(200).field("cn", name)
		}
		a.do("GET", path, nil).want(200).field("cn", name)
		a.do("PATCH", path, object{"title": name}).want(200).field("title", name)
		a.do("PUT", "/groups/contractors"+client.Path("members", "users", name), nil).want(204)
		a.do("DELETE", path, nil).want(204)
		a.do("GET", path, nil).refused(directory.NotFound)
	}
	a.do("GET", "/groups/contractors", nil).want(200).field("members", []string{})
	for _, name := range []string{"a*)(uid=*", `O'Brien, "Jr"`, "名前", " lead", "-x", "x-", "a..b", strings.Repeat("n", 64), "a_b"} {
		a.do("POST", "/hosts", object{"cn": name}).refused(directory.Invalid, "cn")
		a.do("PUT", client.Path("hosts", name), object{}).refused(directory.Invalid, "cn")
	}
	a.do("POST", "/users", object{"cn": strings.Repeat("n", 65), "sn": "X"}).refused(directory.Invalid, "cn")
}

func TestWhatIsWrittenIsInTheDirectory(t *testing.T) {
	a := newAPI(t)
	l := ldapdirtest.Bind(t, a.slapd)
	a.do("POST", "/users", object{"cn": "新名前", "sn": "山田", "telephoneNumber": "+81 3 1234 5678", "sshPublicKeys": []string{
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGIFpYEBGdyvfSHDOQq9Tn/ruwqJj0sodBqSyEpnSe3b k"}}).want(201)
	found, err := l.Search(ldap.NewSearchRequest("ou=people,"+ldapdirtest.Base, ldap.ScopeSingleLevel, 0, 0, 0, false, "(cn=新名前)", nil, nil))
	if err != nil || len(found.Entries) != 1 {
		t.Fatalf("ldapsearch finds %v, %v", found, err)
	}
	for attribute, want := range map[string]string{"sn": "山田", "uid": "新名前", "telephoneNumber": "+81 3 1234 5678"} {
		if got := found.Entries[0].GetAttributeValue(attribute); got != want {
			t.Errorf("%s is %q, want %q", attribute, got, want)
		}
	}
	if classes := found.Entries[0].GetAttributeValues("objectClass"); !slices.Contains(classes, "ldapPublicKey") {
		t.Errorf("the object classes are %q", classes)
	}
	add := ldap.NewAddRequest("cn=plain,ou=people,"+ldapdirtest.Base, nil)
	add.Attribute("objectClass", []string{"inetOrgPerson"})
	add.Attribute("sn", []string{"Plain"})
	add.Attribute("mail", []string{"one@example.org", "two@example.org"})
	if err := l.Add(add); err != nil {
		t.Fatal(err)
	}
	a.do("GET", "/users/plain", nil).want(200).field("sn", "Plain").field("mail", "one@example.org")
	a.do("PATCH", "/users/plain", object{"mail": "three@example.org"}).want(200).field("mail", "three@example.org")
	found, err = l.Search(ldap.NewSearchRequest(add.DN, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", nil, nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := found.Entries[0].GetAttributeValues("mail"); !slices.Equal(got, []string{"three@example.org", "two@example.org"}) {
		t.Errorf("mail is %q", got)
	}
}

func TestAListIsWholeWhateverTheServersLimits(t *testing.T) {
	a := newAPI(t)
	l := ldapdirtest.Bind(t, a.slapd)
	const many = 1200 // slapd's sizelimit is 500
	for i := range many {
		add := ldap.NewAddRequest(fmt.Sprintf("cn=many%d,ou=hosts,%s", i, ldapdirtest.Base), nil)
		add.Attribute("objectClass", []string{"device"})
		add.Attribute("description", []string{strings.Repeat("x", 100)})
		if err := l.Add(add); err != nil {
			t.Fatal(err)
		}
	}
	listed := map[string][]string{}
	for _, page := range a.pages("/hosts?limit=1000", nil) {
		listed["by pages"] = append(listed["by pages"], page.names()...)
	}
	for line := range bytes.Lines(a.do("GET", "/hosts", nil, "Accept", "application/x-ndjson").want(200).Body) {
		var host object
		if err := json.Unmarshal(line, &host); err != nil {
			t.Fatal(err)
		}
		listed["as a stream"] = append(listed["as a stream"], host["cn"].(string))
	}
	for how, names := range listed {
		seen := map[string]int{}
		for _, name := range names {
			seen[name]++
		}
		for i := range many {
			if name := fmt.Sprintf("many%d", i); seen[name] != 1 {
				t.Errorf("%s, %s is listed %d times", how, name, seen[name])
			}
		}
	}
}

func TestOperationsAreCounted(t *testing.T) {
	a := newAPI(t)
	a.do("GET", "/users/alice", nil).want(200) // the caller is known from here on
	for _, c := range []struct {
		what, method, path string
		body               object
		operations         float64
	}{
		{"a read by name is one search", "GET", "/users/alice", nil, 1},
		{"a read of nothing is one search", "GET", "/users/nobody", nil, 1},
		{"a create is an Add and a read, after one search for what the name may have left", "POST", "/users", object{"cn": "zoe", "sn": "Ng"}, 3},
		{"an update is a search and a Modify", "PATCH", "/users/zoe", object{"title": "x"}, 2},
		{"an update that changes nothing is a search", "PATCH", "/users/zoe", object{"title": "x"}, 1},
		{"a replacement is a search and a Modify", "PUT", "/users/zoe", object{"sn": "Ng"}, 2},
		{"what is invalid costs nothing", "POST", "/users", object{"cn": "yan"}, 0},
	} {
		x := a.do(c.method, c.path, c.body)
		if got := a.logged(x)["ldap_operations"]; got != c.operations {
			x.fail("%s: there were %v operations, want %v", c.what, got, c.operations)
		}
	}
}

func TestBasePathAndForwardedHeaders(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		a := newAPI(t, func(s *settings) {
			s.rest.BasePath = "/directory/v1"
			if trusted {
				s.rest.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			}
		})
		want := a.URL
		if trusted {
			want = "https://directory.example.com/tools/directory/v1"
		}
		x := a.do("POST", "/users", object{"cn": "zoe/x", "sn": "Ng"}, "X-Forwarded-Proto", "https",
			"X-Forwarded-Host", "directory.example.com", "X-Forwarded-Prefix", "/tools/").want(201)
		if got := x.Header.Get("Location"); got != want+"/users/zoe%2Fx" {
			x.fail("Location is %q, want it below %q", got, want)
		}
		for prefix, taken := range map[string]string{"": "", "/tools/": "/tools", "/": "", "tools": "", "//evil.example": "", `/a"b<c>`: "", "/a?b": "", "/a\\b": ""} {
			if !trusted {
				taken = ""
			}
			x := a.do("GET", "/users/nobody", nil, "X-Forwarded-Prefix", prefix).refused(directory.NotFound)
			if got := x.problem().Type; got != taken+"/directory/v1/errors/not-found" {
				x.fail("by the prefix %q the problem's type is %q", prefix, got)
			}
		}
		response, err := http.Get(a.server.URL + "/users/alice")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusNotFound {
			t.Errorf("outside the base path there is something: %s", response.Status)
		}
	}
}
