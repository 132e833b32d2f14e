package rest_test

import (
	"fmt"
	"strings"
	"testing"

	"rollcall/app/directory"
)

func TestEverythingThatIsWrongIsSaidAtOnce(t *testing.T) {
	a := newAPI(t)
	before := a.do("GET", "/users/alice", nil).want(200)
	for _, c := range []struct {
		what, method, path, body string
		fields                   []string
	}{
		{"a missing field", "POST", "/users", `{"cn":"x"}`, []string{"sn"}},
		{"all missing fields", "POST", "/users", `{}`, []string{"cn", "sn"}},
		{"an unknown field", "POST", "/users", `{"cn":"x","sn":"y","shoeSize":"44","password":"secret"}`, []string{"shoeSize", "password"}},
		{"a field of another kind", "POST", "/hosts", `{"cn":"x","sn":"y"}`, []string{"sn"}},
		{"a field in another case", "POST", "/users", `{"cn":"x","sn":"y","Mail":"x@example.org"}`, []string{"Mail"}},
		{"a field given twice", "POST", "/users", `{"cn":"x","sn":"y","sn":"z"}`, []string{"sn"}},
		{"the wrong JSON types", "POST", "/users", `{"cn":1,"sn":["y"],"accountLocked":"true","sshPublicKeys":"k","title":{},"mail":false}`,
			[]string{"cn", "sn", "accountLocked", "sshPublicKeys", "title", "mail"}},
		{"null in a list", "POST", "/groups", `{"cn":"x","members":[null]}`, []string{"members"}},
		{"decoding and rules together", "POST", "/users", `{"cn":"x","sn":5,"mail":"nowhere","shoeSize":1,"telephoneNumber":"call me"}`,
			[]string{"sn", "mail", "shoeSize", "telephoneNumber"}},
		{"blank values", "POST", "/users", `{"cn":" ","sn":"","title":"\t"}`, []string{"cn", "sn", "title"}},
		{"control characters", "POST", "/users", `{"cn":"a\u0000b","sn":"a\nb","description":"one\ntwo"}`, []string{"cn", "sn"}},
		{"half a surrogate pair", "POST", "/users", `{"cn":"x","sn":"\ud800"}`, []string{"sn"}},
		{"too long", "POST", "/users", `{"cn":"x","sn":"` + strings.Repeat("é", 1025) + `"}`, []string{"sn"}},
		{"read-only fields", "POST", "/groups", `{"cn":"x","dn":"cn=x","id":"1","createdAt":"now","memberOfs":["groups/devs"]}`,
			[]string{"dn", "id", "createdAt", "memberOfs"}},
		{"read-only fields of an entry", "PATCH", "/groups/devs", `{"id":"1","memberOfs":[]}`, []string{"id", "memberOfs"}},
		{"the name", "PATCH", "/users/alice", `{"cn":"bob"}`, []string{"cn"}},
		{"removing what is required", "PATCH", "/users/alice", `{"sn":null,"cn":null}`, []string{"sn", "cn"}},
		{"replacing without what is required", "PUT", "/users/alice", `{"title":"x"}`, []string{"sn"}},
		{"a reference to nobody", "POST", "/groups", `{"cn":"x","members":["users/nobody","cn=nobody,ou=people,dc=example,dc=org","users/alice","nonsense"]}`,
			[]string{"members", "members", "members"}},
		{"a reference to the placeholder", "POST", "/groups", `{"cn":"x","members":["cn=placeholder,ou=services,dc=example,dc=org"]}`, []string{"members"}},
		{"the same reference twice", "POST", "/groups", `{"cn":"x","members":["users/alice","cn=ALICE, ou=people,dc=example,dc=org"]}`, []string{"members"}},
		{"addresses that are none", "POST", "/hosts", `{"cn":"x","ipAddresses":["192.0.2.1","192.0.2.256","fe80::1%eth0"]}`, []string{"ipAddresses", "ipAddresses"}},
		{"a key that is none", "POST", "/users", `{"cn":"x","sn":"y","sshPublicKeys":["ssh-rsa AAAA","ssh-ed25519 nonsense"]}`, []string{"sshPublicKeys", "sshPublicKeys"}},
		{"a hash for a password", "PATCH", "/users/alice", `{"userPassword":"{SSHA}x"}`, []string{"userPassword"}},
		{"an empty password", "PATCH", "/users/alice", `{"userPassword":""}`, []string{"userPassword"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			a := *a
			a.t = t
			x := a.do(c.method, c.path, c.body).refused(directory.Invalid, c.fields...)
			for _, secret := range []string{"{SSHA}x"} {
				if strings.Contains(string(x.Body), secret) {
					x.fail("the answer repeats a password")
				}
			}
		})
	}
	var many strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&many, `"x%d":1,`, i)
	}
	if x := a.do("POST", "/users", "{"+many.String()+`"cn":"x"}`).want(422); len(x.problem().Violations) != 100 {
		x.fail("there are %d violations", len(x.problem().Violations))
	}
	a.do("GET", "/users/x", nil).refused(directory.NotFound)
	if after := a.do("GET", "/users/alice", nil).want(200); after.etag() != before.etag() {
		after.fail("refused requests changed the entry")
	}
}

func TestWhatIsNoJSONObject(t *testing.T) {
	a := newAPI(t)
	for _, body := range []string{
		"", "null", "[]", `"x"`, "1", "{", `{"cn"`, `{"cn":`, `{"cn":"x"`, `{"cn":"x",}`, `{"cn":"x"} {}`, `{"cn":"x"}x`, "{'cn':'x'}", `{cn:"x"}`,
		"{\"cn\":\"\xff\"}", "\xef\xbb\xbf{}", `{"cn":tru}`, `{"cn":"a` + "\n" + `b"}`, strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000),
	} {
		a.do("POST", "/users", body).refused(directory.BadRequest)
	}
	deep := `{"cn":"x","sn":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}"
	a.do("POST", "/users", deep).refused(directory.Invalid, "sn")
}
