package rest_test

import (
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// ldif writes entries below the suffix as LDIF (RFC 2849), each a DN and attributes as name and value.
type ldif struct{ strings.Builder }

func (l *ldif) entry(dn string, attributes ...string) {
	line := func(name, value string) {
		fmt.Fprintf(l, "%s:: %s\n", name, base64.StdEncoding.EncodeToString([]byte(value)))
	}
	l.WriteString("\n")
	line("dn", dn+","+ldapdirtest.Base)
	for i := 0; i < len(attributes); i += 2 {
		line(attributes[i], attributes[i+1])
	}
}

// person writes a user who is in these groups, memberOf included: slapadd runs no overlays.
func (l *ldif) person(name string, groups []string, more ...string) {
	attributes := append([]string{"objectClass", "inetOrgPerson", "objectClass", "ldapPublicKey", "sn", "x"}, more...)
	if !slices.Contains(more, "uid") {
		attributes = append(attributes, "uid", name)
	}
	for _, group := range groups {
		attributes = append(attributes, "memberOf", group)
	}
	l.entry("cn="+name+",ou=people", append(attributes, "cn", name)...)
}

// newStrangeAPI is an API on the sample directory and what else is in this LDIF.
func newStrangeAPI(t testing.TB, more *ldif, change ...func(*settings)) *api {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	return newAPIOn(t, ldapdirtest.Start(t, slapd.Options{Seed: seed + more.String()}), change...)
}

// gives demands these lines of authorized_keys, and nothing but them.
func (x *exchange) gives(lines ...string) {
	x.t.Helper()
	want := ""
	for _, line := range lines {
		want += line + "\n"
	}
	if got := x.want(200).text(); got != want {
		x.fail("the keys are %q, want %q", got, want)
	}
}

const bobsLine = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOF78gNmJ1IDuVd4lV98KUh+OH8/Tz6yO6UGo87/sjJq bob"

// TestAParameterIsAValueAndNothingElse asks in the name of web1, where bob may log in and nobody else.
func TestAParameterIsAValueAndNothingElse(t *testing.T) {
	a := newAPI(t)
	token := a.hostToken("web1")
	long := strings.Repeat("a", 10<<10)
	const bob, web1 = "username=bob", "host=web1"
	for _, c := range []struct {
		query  string
		code   *directory.Code // nil for an answer without keys
		fields []string
	}{
		{"", directory.Invalid, []string{"username", "host"}},
		{bob, directory.Invalid, []string{"host"}},
		{"username=&" + web1, directory.Invalid, []string{"username"}},
		{bob + "&" + bob + "&" + web1, directory.BadRequest, nil},
		{bob + "&username=alice&" + web1, directory.BadRequest, nil},
		{bob + "&" + web1 + "&host=web2", directory.BadRequest, nil},
		{bob + "&" + web1 + "&fingerprint=SHA256:a&fingerprint=SHA256:b", directory.BadRequest, nil},
		{"username[]=bob&" + web1, directory.BadRequest, nil},
		{"username[0]=bob&host[0]=web1", directory.BadRequest, nil},
		{bob + "&" + web1 + "&user=alice", directory.BadRequest, nil},
		{bob + "&" + web1 + "&limit=1", directory.BadRequest, nil},
		{bob + ";" + web1, directory.BadRequest, nil},
		{"USERNAME=bob&HOST=web1", directory.BadRequest, nil},
		{"username=%zz&" + web1, directory.BadRequest, nil},
		{"username=%&" + web1, directory.BadRequest, nil},
		{bob + "&" + web1 + "&fingerprint=*", directory.Invalid, []string{"fingerprint"}},
		{bob + "&" + web1 + "&fingerprint=MD5:00", directory.Invalid, []string{"fingerprint"}},
		{bob + "&" + web1 + "&fingerprint=SHA256:*", directory.Invalid, []string{"fingerprint"}},
		{bob + "&" + web1 + "&fingerprint=SHA256:", directory.Invalid, []string{"fingerprint"}},
		{bob + "&" + web1 + "&fingerprint=SHA256:%00", directory.Invalid, []string{"fingerprint"}},
		{"username=" + long + "&" + web1, directory.Invalid, []string{"username"}},
		{bob + "&host=" + long, directory.Invalid, []string{"host"}},
		{bob + "&" + web1 + "&fingerprint=SHA256:" + long, directory.Invalid, []string{"fingerprint"}},
		{"username=" + strings.Repeat("%00", 256) + "&" + web1, nil, nil},
		{"username=" + strings.Repeat("%ff", 256) + "&" + web1, nil, nil},
		{"username=%2562ob&" + web1, nil, nil}, // bob, escaped twice
	} {
		x := a.do("GET", "/authkeys?"+c.query, nil, token...)
		if c.code == nil {
			x.gives()
		} else {
			x.refused(c.code, c.fields...)
		}
	}
	strange := []string{
		"*", "b*", "bo?", "bob*", "*)(uid=*", "a*)(uid=*", "bob)(uid=*", "bob)(objectClass=*", "*)(|(uid=*", "bob))(|(uid=bob", "(uid=bob)", "&(uid=bob)", "!(uid=x)",
		`\2a`, `\62ob`, `bo\62`, "bob\\", `bob\20`, "%62ob", "&#98;ob", "b\\u006fb",
		"bob\x00", "\x00bob", "bob\x00*", "\xff", "bob\xff", "\xc0\xaf", "b\u200bob", "bob\u00ad", "\ufeffbob",
		"cn=bob,ou=people," + ldapdirtest.Base, "cn=bob", "uid=bob", "users/bob", "bob,ou=people", "bob+uid=bob", "bob@example.org", "../bob", "bob/keys", `"bob"`, "bob#", "#bob",
		"BOB", "Bob", "boB", " bob", "bob ", "bob  ", "\tbob", "bob\n", "bob\r\nalice", "b ob", "ｂｏｂ", "bοb", "ḃob", "bob\u0301", "𝐛𝐨𝐛", "ⓑⓞⓑ", "bob\u2028", "bob\u00a0", "1002", "bob alice", "bob,alice", "bob|alice", "admin", "root", "-", "null", "true",
	}
	for _, name := range strange {
		a.authkeys(name, "web1", token...).gives()
		a.authkeys(name, "web1").gives() // as an admin
	}
	for _, name := range strange { // no host but by its own name, which is of any case
		host := strings.NewReplacer("bob", "web1", "BOB", "web9", "Bob", "web9", "boB", "web9").Replace(name)
		a.authkeys("bob", host).gives()
		a.authkeys("bob", host, token...).refused(directory.Forbidden)
		a.authkeys("bob", "web1"+name, token...).refused(directory.Forbidden)
	}
	a.authkeys("bob", "web1", token...).gives(bobsLine) // all the while
	a.do("GET", "/authkeys?fingerprint=&"+web1+"&"+bob, nil, token...).gives(bobsLine)
	a.do("GET", "/authkeys?username=%62%6f%62&%68ost=web1", nil, token...).gives(bobsLine)
}

// TestNobodyButTheHostGetsKeysByItsToken nor by half of one, nor does it get in anywhere else.
func TestNobodyButTheHostGetsKeysByItsToken(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	web1 := strings.TrimPrefix(a.hostToken("web1")[1], "Bearer ")
	spare := strings.TrimPrefix(a.hostToken("spare")[1], "Bearer ")
	prefix, id, secret := parts(web1)
	_, other, otherSecret := parts(spare)
	bobsID, _ := a.do("GET", "/users/bob", nil).want(200).object()["id"].(string)
	alice := a.login("alice", "alice-password").AccessToken
	for _, c := range []struct {
		authorization string
		code          *directory.Code
	}{
		{"", directory.CredentialsRequired},
		{"Bearer", directory.CredentialsRequired},
		{"Bearer ", directory.CredentialsRequired},
		{web1, directory.CredentialsRequired},
		{"Token " + web1, directory.CredentialsRequired},
		{"Bearer" + web1, directory.CredentialsRequired},
		{"Basic " + web1, directory.CredentialsRequired},
		{"Digest " + web1, directory.CredentialsRequired},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("web1:"+secret)), directory.InvalidCredentials},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte(id+":"+web1)), directory.InvalidCredentials},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("bob:")), directory.InvalidCredentials},
		{"Basic " + base64.StdEncoding.EncodeToString([]byte("alice:alice-password")), directory.Forbidden},
		{"Bearer " + alice, directory.Forbidden},
		{"Bearer " + secret, directory.InvalidToken},
		{"Bearer " + id + "." + secret, directory.InvalidToken},
		{"Bearer " + prefix, directory.InvalidToken},
		{"Bearer " + prefix + ".", directory.InvalidToken},
		{"Bearer " + prefix + "..", directory.InvalidToken},
		{"Bearer " + prefix + "." + id, directory.InvalidToken},
		{"Bearer " + prefix + "." + id + ".", directory.InvalidToken},
		{"Bearer " + prefix + ".." + secret, directory.InvalidToken},
		{"Bearer " + prefix + "." + id + "." + secret[:len(secret)-1], directory.InvalidToken},
		{"Bearer " + prefix + "." + id + "." + secret[:len(secret)/2], directory.InvalidToken},
		{"Bearer " + prefix + "." + id + "." + secret + "=", directory.InvalidToken},
		{"Bearer " + web1 + "." + secret, directory.InvalidToken},
		{"Bearer " + web1 + " " + web1, directory.InvalidToken},
		{"Bearer " + prefix + "." + id + "." + strings.ToLower(secret), directory.InvalidToken},
		{"Bearer " + prefix + "." + strings.ToUpper(id) + "." + secret, directory.InvalidToken},
		{"Bearer " + prefix + "." + id + "%20." + secret, directory.InvalidToken},
		{"Bearer " + prefix + ". " + id + "." + secret, directory.InvalidToken},
		{"Bearer " + strings.ToUpper(prefix) + "." + id + "." + secret, directory.InvalidToken},
		{"Bearer " + prefix + ".*." + secret, directory.InvalidToken},
		{"Bearer " + prefix + "." + id[:8] + "*." + secret, directory.InvalidToken},
		{"Bearer " + prefix + ".x)(cn=*." + secret, directory.InvalidToken},
		{"Bearer " + prefix + "." + bobsID + "." + secret, directory.InvalidToken},
		{"Bearer " + prefix + "." + id + "." + otherSecret, directory.InvalidToken},
		{"Bearer " + prefix + "." + other + "." + secret, directory.InvalidToken},
		{"Bearer " + spare, directory.Forbidden},
	} {
		x := a.authkeys("bob", "web1", "Authorization", c.authorization).refused(c.code)
		if strings.Contains(x.text(), secret) || strings.Contains(x.text(), "ssh-ed25519 ") {
			x.fail("the answer holds a secret or a key")
		}
	}
	a.authkeys("bob", "web1", "Authorization", "bearer  "+web1+" ").gives(bobsLine) // RFC 9110 §11.1
	for _, route := range routesOf(t) {
		method, path, _ := strings.Cut(route, " ")
		if path = strings.NewReplacer("{name}", "bob", "{kind}", "users", "{member}", "bob", "{code}", "not-found", "{fingerprint}", "x").Replace(path); !strings.Contains(open, path+"\n") {
			x := a.do(method, path, nil, "Authorization", "Bearer "+web1)
			if x.Status != 401 && x.Status != 403 {
				x.fail("a host's token is taken")
			}
		}
	}
	if strings.Contains(a.log.text(), secret) || strings.Contains(a.log.text(), otherSecret) {
		t.Error("the log holds a token")
	}
}

// open are the paths that ask nobody who they are, and those that hosts may read.
const open = `/
/healthz
/readyz
/errors
/errors/not-found
/login
/refresh
/docs
/docs/access
/openapi.json
/openapi.yaml
/.well-known/jwks.json
/authkeys
/hosts/known_hosts
`

// routesOf returns every operation of the API, as method and path.
func routesOf(t *testing.T) (all []string) {
	t.Helper()
	d, err := describedBy(allKinds)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range d.operations() {
		all = append(all, o.method+" "+o.path)
	}
	return all
}

// parts are those of a host's token.
func parts(token string) (prefix, id, secret string) {
	prefix, rest, _ := strings.Cut(token, ".")
	id, secret, _ = strings.Cut(rest, ".")
	return prefix, id, secret
}

// TestWhoGuessesATokenLearnsNothing not even who is there twice.
func TestWhoGuessesATokenLearnsNothing(t *testing.T) {
	l := &ldif{}
	l.person("twin", nil, "uid", "twin")
	l.person("other", nil, "uid", "twin")
	a := newStrangeAPI(t, l)
	id, _ := a.do("GET", "/hosts/web1", nil).want(200).object()["id"].(string)
	for _, guess := range []string{id, "00000000-0000-0000-0000-000000000000"} {
		for _, asked := range [][2]string{{"bob", "web1"}, {"nobody", "web1"}, {"twin", "web1"}, {"bob", "nowhere"}} {
			x := a.authkeys(asked[0], asked[1], "Authorization", "Bearer rollcall-host."+guess+".AAAA")
			if x.Status != 401 || x.problem().Code != directory.InvalidToken.Name {
				x.fail("the answer tells who is there")
			}
		}
	}
}

// TestAuthorizedKeysAreAskedForInOneWay and never kept by whoever passes them on.
func TestAuthorizedKeysAreAskedForInOneWay(t *testing.T) {
	a := newAPI(t)
	token := a.hostToken("web1")
	const path = "/authkeys?username=bob&host=web1"
	with := func(headers ...string) []string { return append(slices.Clone(token), headers...) }
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
		x := a.do(method, path, nil, token...).refused(directory.MethodNotAllowed)
		if got := x.Header.Get("Allow"); got != "GET, HEAD, OPTIONS" {
			x.fail("Allow is %q", got)
		}
	}
	head := a.do("HEAD", path, nil, token...)
	if head.Status != 200 || len(head.Body) > 0 || head.Header.Get("Content-Length") != fmt.Sprint(len(bobsLine)+1) {
		head.fail("HEAD has an answer of its own")
	}
	for _, accept := range []string{"application/json", "text/html", "application/*", "text/plain;q=0", "image/png, */*;q=0"} {
		a.do("GET", path, nil, with("Accept", accept)...).refused(directory.NotAcceptable)
	}
	for _, accept := range []string{"text/plain", "text/*", "*/*", "application/json;q=0.9, */*;q=0.1", "TEXT/PLAIN"} {
		a.do("GET", path, nil, with("Accept", accept)...).gives(bobsLine)
	}
	for _, headers := range [][]string{
		{"If-None-Match", "*"}, {"If-None-Match", `"x"`}, {"If-Modified-Since", "Sat, 01 Jan 2050 00:00:00 GMT"}, {"If-Match", `"x"`}, {"Range", "bytes=0-3"},
		{"X-HTTP-Method-Override", "DELETE"}, {"X-Host", "web2"}, {"X-Forwarded-Host", "web2"}, {"X-Forwarded-For", "192.0.2.1"}, {"X-Remote-User", "alice"},
		{"Cookie", "username=alice"}, {"X-Padding", strings.Repeat("x", 100<<10)},
	} {
		x := a.do("GET", path, nil, with(headers...)...)
		x.gives(bobsLine)
		if x.Header.Get("Cache-Control") != "no-store" || x.Header.Get("ETag") != "" {
			x.fail("the answer may be kept")
		}
	}
	a.do("GET", path, "username=alice&host=web1", with("Content-Type", "application/x-www-form-urlencoded")...).gives(bobsLine)
	a.do("GET", path, `{"username":"alice"}`, with("Content-Type", "application/json")...).gives(bobsLine)
	for _, more := range []string{"/", "/bob", "/../users", "%2f", "//", ".txt", "%00"} {
		if x := a.do("GET", "/authkeys"+more+"?username=bob&host=web1", nil, token...); x.Status < 400 || strings.Contains(x.text(), "ssh-ed25519 ") {
			x.fail("another path has keys")
		}
	}
	if x := a.do("GET", "/authkeys?username=bob&host=web1&x="+url.QueryEscape(strings.Repeat("x", 2<<20)), nil, token...); x.Status < 400 {
		x.fail("a request of 2 MB is taken")
	}
}
