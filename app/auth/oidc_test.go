package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"rollcall/app/directory"
)

// testIssuer is an issuer of tokens, with keys, behind a real server.
type testIssuer struct {
	t      *testing.T
	server *httptest.Server

	mutex sync.Mutex
	keys  []any // as published
	// serve answers in its place, where it is not nil.
	serve                func(w http.ResponseWriter, r *http.Request)
	discoveries, fetches int
}

const testAudience = "rollcall"

var rsaKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func newTestIssuer(t *testing.T, start func(http.Handler) *httptest.Server) *testIssuer {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	h := &testIssuer{t: t}
	h.server = start(h)
	t.Cleanup(h.server.Close)
	h.publish(jwk("rsa", rsaKey().Public()))
	return h
}

// publish makes these the issuer's keys.
func (h *testIssuer) publish(keys ...any) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.keys = keys
}

// answer makes the issuer answer so, and as it should with nil.
func (h *testIssuer) answer(serve http.HandlerFunc) {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.serve = serve
}

// asked tells how often the issuer was asked for its metadata, and for its keys.
func (h *testIssuer) asked() [2]int {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	return [2]int{h.discoveries, h.fetches}
}

func (h *testIssuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mutex.Lock()
	serve, document := h.serve, any(nil)
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		h.discoveries++
		document = map[string]any{
			"issuer": h.server.URL, "jwks_uri": h.server.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"HS256", "none", "RS256"},
		}
	case "/keys":
		h.fetches++
		document = map[string]any{"keys": h.keys}
	}
	h.mutex.Unlock()
	if serve != nil {
		serve(w, r)
		return
	}
	if err := json.NewEncoder(w).Encode(document); err != nil {
		h.t.Error(err)
	}
}

func (h *testIssuer) options() OIDC {
	return OIDC{Issuer: h.server.URL, Audience: testAudience, UserClaim: "preferred_username", Timeout: time.Minute}
}

// claims are a good token's, with some changed; a nil takes one out.
func (h *testIssuer) claims(changed jwt.MapClaims) jwt.MapClaims {
	claims := jwt.MapClaims{
		"iss": h.server.URL, "aud": testAudience, "sub": "1", "preferred_username": "alice",
		"exp": time.Now().Add(time.Hour).Unix(),
	}
	maps.Copy(claims, changed)
	maps.DeleteFunc(claims, func(_ string, value any) bool { return value == nil })
	return claims
}

// token is one that the first key has signed.
func (h *testIssuer) token(changed jwt.MapClaims) string {
	return sign(h.t, jwt.SigningMethodRS256, rsaKey(), map[string]any{"kid": "rsa"}, h.claims(changed))
}

func sign(t *testing.T, method jwt.SigningMethod, key any, header map[string]any, claims jwt.MapClaims) string {
	t.Helper()
	token := jwt.NewWithClaims(method, claims)
	maps.Copy(token.Header, header)
	text, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// jwk is a public key as RFC 7517 and RFC 8037 write it.
func jwk(id string, key crypto.PublicKey) map[string]any {
	b64 := base64.RawURLEncoding.EncodeToString
	switch key := key.(type) {
	case *rsa.PublicKey:
		return map[string]any{"kid": id, "kty": "RSA", "n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes())}
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			panic(err)
		}
		return map[string]any{"kid": id, "kty": "EC", "crv": "P-256", "x": b64(point[1:33]), "y": b64(point[33:])}
	case ed25519.PublicKey:
		return map[string]any{"kid": id, "kty": "OKP", "crv": "Ed25519", "x": b64(key)}
	}
	panic(fmt.Sprintf("a key of the type %T", key))
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// wantInvalidToken wants a token refused for what it is, without a word of it in the log.
func wantInvalidToken(t *testing.T, i *issuer, token string) {
	t.Helper()
	who, err := i.verify(t.Context(), token)
	if !directory.Is(err, directory.InvalidToken) {
		t.Fatalf("got %+v and %v, want invalid-token", who, err)
	}
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 10 && strings.Contains(err.Error(), part) {
			t.Errorf("the error has the token in it: %v", err)
		}
	}
}

func wantIdentity(t *testing.T, i *issuer, token string) identity {
	t.Helper()
	who, err := i.verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return who
}

func wantUnavailable(t *testing.T, i *issuer, token string) {
	t.Helper()
	wantUnavailableTo(t.Context(), t, i, token)
}

func wantUnavailableTo(ctx context.Context, t *testing.T, i *issuer, token string) {
	t.Helper()
	if _, err := i.verify(ctx, token); !directory.Is(err, directory.Unavailable) {
		t.Fatalf("got %v, want directory-unavailable", err)
	}
}

func TestATokenOfTheIssuerNamesItsUser(t *testing.T) {
	ec, rs := ecKey(t), rsaKey()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	h := newTestIssuer(t, httptest.NewServer)
	h.publish(jwk("rsa", rs.Public()), jwk("ec", ec.Public()), jwk("ed", public))
	i := newIssuer(h.options())
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	tests := map[string]struct {
		method jwt.SigningMethod
		key    any
		header map[string]any
		claims jwt.MapClaims
	}{
		"RS256":              {jwt.SigningMethodRS256, rs, map[string]any{"kid": "rsa"}, nil},
		"PS512":              {jwt.SigningMethodPS512, rs, map[string]any{"kid": "rsa"}, nil},
		"ES256":              {jwt.SigningMethodES256, ec, map[string]any{"kid": "ec"}, nil},
		"EdDSA":              {jwt.SigningMethodEdDSA, private, map[string]any{"kid": "ed"}, nil},
		"no key id":          {jwt.SigningMethodES256, ec, nil, nil},
		"an access token":    {jwt.SigningMethodES256, ec, map[string]any{"typ": "at+jwt"}, nil},
		"several audiences":  {jwt.SigningMethodES256, ec, nil, jwt.MapClaims{"aud": []string{"other", testAudience}}},
		"valid since lately": {jwt.SigningMethodES256, ec, nil, jwt.MapClaims{"nbf": time.Now().Add(-time.Hour).Unix()}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			claims := h.claims(jwt.MapClaims{"exp": expires.Unix()})
			maps.Copy(claims, test.claims)
			token := sign(t, test.method, test.key, test.header, claims)
			if !i.issued(token) {
				t.Error("it is not the issuer's")
			}
			who := wantIdentity(t, i, token)
			if who.login != "alice" || who.fromClaim || who.roles != nil || !who.expires.Equal(expires) {
				t.Errorf("got %+v", who)
			}
		})
	}
}

func TestATokenIsRefused(t *testing.T) {
	h := newTestIssuer(t, httptest.NewServer)
	i := newIssuer(h.options())
	public, err := x509.MarshalPKIXPublicKey(rsaKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]any{"kid": "rsa"}
	secrets := map[string][]byte{
		"PEM":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"DER":     public,
		"modulus": rsaKey().N.Bytes(),
	}
	good := strings.Split(h.token(nil), ".")
	b64 := base64.RawURLEncoding.EncodeToString
	typed := func(kind string) string {
		return sign(t, jwt.SigningMethodRS256, rsaKey(), map[string]any{"kid": "rsa", "typ": kind}, h.claims(nil))
	}
	tests := map[string]string{
		"for another audience":   h.token(jwt.MapClaims{"aud": "other"}),
		"without an audience":    h.token(jwt.MapClaims{"aud": nil}),
		"of another issuer":      h.token(jwt.MapClaims{"iss": "https://elsewhere.example"}),
		"of an issuer much like": h.token(jwt.MapClaims{"iss": h.server.URL + "/"}),
		"without an issuer":      h.token(jwt.MapClaims{"iss": nil}),
		"that has expired":       h.token(jwt.MapClaims{"exp": time.Now().Add(-time.Second).Unix()}),
		"that never expires":     h.token(jwt.MapClaims{"exp": nil}),
		"that is not valid yet":  h.token(jwt.MapClaims{"nbf": time.Now().Add(30 * time.Minute).Unix()}),
		"that nobody has signed": sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, known, h.claims(nil)),
		"without its signature":  good[0] + "." + good[1] + ".",
		"with another signature": good[0] + "." + good[1] + "." + strings.Split(h.token(jwt.MapClaims{"sub": "2"}), ".")[2],
		"with other claims":      good[0] + "." + b64(asJSON(t, h.claims(jwt.MapClaims{"sub": "2"}))) + "." + good[2],
		"signed by another key":  sign(t, jwt.SigningMethodES256, ecKey(t), known, h.claims(nil)),
		"of no known key":        sign(t, jwt.SigningMethodES256, ecKey(t), map[string]any{"kid": "other"}, h.claims(nil)),
		"that ends a session":    typed("logout+jwt"),
		"of an unknown type":     typed("secevent+jwt"),
		"without a user":         h.token(jwt.MapClaims{"preferred_username": nil}),
		"with an empty user":     h.token(jwt.MapClaims{"preferred_username": ""}),
		"with a user of digits":  h.token(jwt.MapClaims{"preferred_username": 7}),
		"with several users":     h.token(jwt.MapClaims{"preferred_username": []string{"alice", "bob"}}),
		"that is too long":       h.token(jwt.MapClaims{"more": strings.Repeat("x", maxToken)}),
		"in the JSON form": fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q,"header":{"a":"..b"}}`,
			good[0], good[1], good[2]),
		"in two parts":    good[0] + "." + good[1],
		"in four parts":   strings.Join(good, ".") + ".x",
		"of no parts":     "correcthorsebatterystaple",
		"of empty parts":  "..",
		"of no base64":    "correct!horse.battery!staple.correct!horse",
		"of no JSON":      b64([]byte("correct horse")) + "." + b64([]byte("battery staple")) + "." + good[2],
		"that is empty":   "",
		"with many zeros": strings.Repeat("\x00", 100) + "." + good[1] + "." + good[2],
	}
	for name, secret := range secrets {
		tests["signed with the public key as a secret, "+name] = sign(t, jwt.SigningMethodHS256, secret, known, h.claims(nil))
	}
	wantIdentity(t, i, strings.Join(good, ".")) // or they may all be refused for nothing
	for name, token := range tests {
		t.Run(name, func(t *testing.T) { wantInvalidToken(t, i, token) })
	}
}

func asJSON(t *testing.T, value map[string]any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestATokenOfASharedSecretIsRefusedBeforeAKeyIsLookedAt(t *testing.T) {
	tests := map[string]struct {
		method jwt.SigningMethod
		secret any
	}{
		"none":  {jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType},
		"HS256": {jwt.SigningMethodHS256, rsaKey().N.Bytes()},
		"HS384": {jwt.SigningMethodHS384, rsaKey().N.Bytes()},
		"HS512": {jwt.SigningMethodHS512, rsaKey().N.Bytes()},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := newTestIssuer(t, httptest.NewServer)
			token := sign(t, test.method, test.secret, map[string]any{"kid": "rsa"}, h.claims(nil))
			wantInvalidToken(t, newIssuer(h.options()), token)
			if got := h.asked(); got[1] != 0 {
				t.Errorf("the keys were read %d times", got[1])
			}
		})
	}
}

func TestATokenIsTheIssuersWhenItSaysSo(t *testing.T) {
	h := newTestIssuer(t, httptest.NewServer)
	i := newIssuer(h.options())
	tests := map[string]struct {
		token string
		want  bool
	}{
		"its own":              {h.token(nil), true},
		"one that has expired": {h.token(jwt.MapClaims{"exp": 1}), true},
		"another issuer's":     {h.token(jwt.MapClaims{"iss": "https://elsewhere.example"}), false},
		"nobody's":             {h.token(jwt.MapClaims{"iss": nil}), false},
		"an iss of no text":    {h.token(jwt.MapClaims{"iss": []string{h.server.URL}}), false},
		"no token":             {"correct.horse.battery", false},
		"nothing":              {"", false},
	}
	for name, test := range tests {
		if got := i.issued(test.token); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := h.asked(); got != [2]int{} {
		t.Errorf("the issuer was asked %v times", got)
	}
}

func TestAnEmailCountsOnlyWhereItIsVerified(t *testing.T) {
	h := newTestIssuer(t, httptest.NewServer)
	o := h.options()
	o.UserClaim = "email"
	i := newIssuer(o)
	who := wantIdentity(t, i, h.token(jwt.MapClaims{"email": "alice@example.org", "email_verified": true}))
	if who.login != "alice@example.org" {
		t.Errorf("got %+v", who)
	}
	for _, verified := range []any{nil, false, "true", 1, map[string]any{"true": true}} {
		wantInvalidToken(t, i, h.token(jwt.MapClaims{"email": "alice@example.org", "email_verified": verified}))
	}
}

func TestRolesFromAClaim(t *testing.T) {
	const admin, operator, reader = directory.RoleAdmin, directory.RoleOperator, directory.RoleReader
	h := newTestIssuer(t, httptest.NewServer)
	type object = map[string]any
	list := func(values ...any) []any { return values }
	tests := map[string]struct {
		path   string
		claims jwt.MapClaims
		want   []directory.Role
	}{
		"a list":     {"roles", jwt.MapClaims{"roles": list("reader", "operator")}, []directory.Role{operator, reader}},
		"a text":     {"roles", jwt.MapClaims{"roles": "admin"}, []directory.Role{admin}},
		"one twice":  {"roles", jwt.MapClaims{"roles": list("admin", "admin")}, []directory.Role{admin}},
		"and others": {"roles", jwt.MapClaims{"roles": list("boss", 7, nil, list("x"), "reader")}, []directory.Role{reader}},
		"much like roles": {"roles", jwt.MapClaims{"roles": list("Admin", " admin", "admin ", "self", list("admin"))},
			nil},
		"a word in a text is none": {"roles", jwt.MapClaims{"roles": "not admin"}, nil},
		"an object is none":        {"roles", jwt.MapClaims{"roles": object{"admin": true}}, nil},
		"no claim is none":         {"roles", nil, nil},
		"in an object": {"realm_access.roles", jwt.MapClaims{"realm_access": object{"roles": list("admin")}},
			[]directory.Role{admin}},
		"a name with dots": {"https://example.org/roles", jwt.MapClaims{"https://example.org/roles": list("admin")},
			[]directory.Role{admin}},
		"a name with dots in an object": {"access.my.app.roles",
			jwt.MapClaims{"access": object{"my.app": object{"roles": "reader"}}}, []directory.Role{reader}},
		"a name with dots beside one without": {"my.app.roles",
			jwt.MapClaims{"my": object{"more": 1}, "my.app": object{"roles": "reader"}}, []directory.Role{reader}},
		"a path that ends early": {"roles.more", jwt.MapClaims{"roles": "admin"}, nil},
		"a path through a list":  {"roles.0", jwt.MapClaims{"roles": list("admin")}, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := h.options()
			o.RolesClaim = test.path
			who := wantIdentity(t, newIssuer(o), h.token(test.claims))
			if diff := cmp.Diff(test.want, who.roles); diff != "" || !who.fromClaim {
				t.Errorf("fromClaim is %v; roles: %s", who.fromClaim, diff)
			}
		})
	}
	t.Run("don't count where none is configured", func(t *testing.T) {
		who := wantIdentity(t, newIssuer(h.options()), h.token(jwt.MapClaims{"roles": "admin"}))
		if who.roles != nil || who.fromClaim {
			t.Errorf("got %+v", who)
		}
	})
}

// inTime runs a test in simulated time, against an issuer outside of it.
func inTime(t *testing.T, test func(t *testing.T, h *testIssuer)) {
	h := newTestIssuer(t, httptest.NewServer)
	synctest.Test(t, func(t *testing.T) { test(t, h) })
}

func TestTheIssuerIsAskedForItsKeysOnce(t *testing.T) {
	inTime(t, func(t *testing.T, h *testIssuer) {
		i := newIssuer(h.options())
		if got := h.asked(); got != [2]int{0, 0} {
			t.Errorf("it was asked %v times before the first token", got)
		}
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() { wantIdentity(t, i, h.token(nil)) })
		}
		all.Wait()
		if got := h.asked(); got[0] != 1 || got[1] > fetchBurst {
			t.Errorf("it was asked %v times", got)
		}
		before := h.asked()
		wantIdentity(t, i, h.token(nil))
		if got := h.asked(); got != before {
			t.Errorf("it was asked again: %v times, %v before", got, before)
		}
	})
}

func TestTokensOfUnknownKeysDoNotHammerTheIssuer(t *testing.T) {
	inTime(t, func(t *testing.T, h *testIssuer) {
		i, stranger := newIssuer(h.options()), ecKey(t)
		for n := range 1000 {
			header := map[string]any{"kid": fmt.Sprint("unknown", n)}
			if n%3 == 0 {
				header["kid"] = "rsa"
			}
			wantInvalidToken(t, i, sign(t, jwt.SigningMethodES256, stranger, header, h.claims(nil)))
		}
		if got := h.asked(); got != [2]int{1, fetchBurst} {
			t.Errorf("it was asked %v times", got)
		}
		wantIdentity(t, i, h.token(nil))
		time.Sleep(fetchEvery)
		for range 100 {
			wantInvalidToken(t, i, sign(t, jwt.SigningMethodES256, stranger, map[string]any{"kid": "x"}, h.claims(nil)))
		}
		if got := h.asked(); got != [2]int{1, fetchBurst + 1} {
			t.Errorf("it was asked %v times", got)
		}
	})
}

func TestANewKeyIsGoodAtItsFirstToken(t *testing.T) {
	inTime(t, func(t *testing.T, h *testIssuer) {
		i, key := newIssuer(h.options()), ecKey(t)
		wantIdentity(t, i, h.token(nil))
		synctest.Wait() // go-oidc gives those who come at once the keys that it has just read
		h.publish(jwk("ec", key.Public()))
		wantIdentity(t, i, sign(t, jwt.SigningMethodES256, key, map[string]any{"kid": "ec"}, h.claims(nil)))
		synctest.Wait()                      // and then keeps them
		wantInvalidToken(t, i, h.token(nil)) // the old one is gone
	})
}

func TestANewKeyIsGoodSoonWhileUnknownKeysAreTried(t *testing.T) {
	inTime(t, func(t *testing.T, h *testIssuer) {
		i, key, stranger := newIssuer(h.options()), ecKey(t), ecKey(t)
		wantIdentity(t, i, h.token(nil))
		attack := func() {
			for range 10 {
				wantInvalidToken(t, i, sign(t, jwt.SigningMethodES256, stranger, map[string]any{"kid": "x"}, h.claims(nil)))
			}
		}
		attack()
		h.publish(jwk("ec", key.Public()))
		attack()
		time.Sleep(fetchEvery)
		attack()
		synctest.Wait()
		wantIdentity(t, i, sign(t, jwt.SigningMethodES256, key, map[string]any{"kid": "ec"}, h.claims(nil)))
	})
}

func TestAWithdrawnKeyIsNotGoodForLong(t *testing.T) {
	inTime(t, func(t *testing.T, h *testIssuer) {
		i := newIssuer(h.options())
		stolen := h.token(jwt.MapClaims{"exp": time.Now().Add(48 * time.Hour).Unix()})
		wantIdentity(t, i, stolen)
		h.publish()
		time.Sleep(discoveredFor)
		wantIdentity(t, i, stolen) // and the keys are being read again
		synctest.Wait()
		wantInvalidToken(t, i, stolen)
	})
}

func TestKnownKeysAreGoodWhileTheIssuerIsDown(t *testing.T) {
	inTime(t, func(t *testing.T, h *testIssuer) {
		i, key := newIssuer(h.options()), ecKey(t)
		token := h.token(jwt.MapClaims{"exp": time.Now().Add(48 * time.Hour).Unix()})
		wantIdentity(t, i, token)
		synctest.Wait()
		h.answer(failing)
		for range 10 {
			wantUnavailable(t, i, sign(t, jwt.SigningMethodES256, key, map[string]any{"kid": "x"}, h.claims(nil)))
			wantIdentity(t, i, token)
		}
		for range 5 {
			time.Sleep(discoveredFor)
			wantIdentity(t, i, token)
		}
	})
}

func failing(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, strings.Repeat("secret of the issuer ", 100), http.StatusInternalServerError)
}

func TestAnIssuerThatIsDownAtFirstIsFoundLater(t *testing.T) {
	inTime(t, func(t *testing.T, h *testIssuer) {
		i := newIssuer(h.options())
		h.answer(failing)
		for range 100 {
			wantUnavailable(t, i, h.token(nil))
		}
		if got := h.asked(); got != [2]int{1, 0} {
			t.Errorf("it was asked %v times", got)
		}
		h.answer(nil)
		wantUnavailable(t, i, h.token(nil))
		time.Sleep(discoverEvery)
		wantIdentity(t, i, h.token(nil))
	})
}

// slow is a server far away.
type slow struct {
	http.RoundTripper
	takes time.Duration
}

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(s.takes)
	return s.RoundTripper.RoundTrip(r)
}

func TestAnIssuerThatIsSlowIsAskedOnceAtATime(t *testing.T) {
	inTime(t, func(t *testing.T, h *testIssuer) {
		i := newIssuer(h.options())
		i.transport = slow{i.transport, 5 * discoverEvery}
		var all sync.WaitGroup
		for n := range 10 {
			all.Go(func() {
				time.Sleep(time.Duration(n) * discoverEvery / 2)
				wantIdentity(t, i, h.token(nil))
			})
		}
		all.Wait()
		if got := h.asked(); got != [2]int{1, 1} {
			t.Errorf("it was asked %v times", got)
		}
	})
}

func TestWhatTheIssuerAnswersIsBounded(t *testing.T) {
	elsewhere := newTestIssuer(t, httptest.NewServer)
	tests := map[string]func(h *testIssuer) http.HandlerFunc{
		"an error": func(*testIssuer) http.HandlerFunc { return failing },
		"no JSON": func(*testIssuer) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }
		},
		"a document that is too long": func(h *testIssuer) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintf(w, `{"more":%q,"issuer":%q,"jwks_uri":%q,"keys":[%s]}`, strings.Repeat("x", maxDocument),
					h.server.URL, h.server.URL+"/keys", asJSON(h.t, jwk("rsa", rsaKey().Public())))
			}
		},
		"a redirect to another host": func(*testIssuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, elsewhere.server.URL+r.URL.Path, http.StatusFound)
			}
		},
		"a redirect to itself": func(*testIssuer) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, r.URL.Path, http.StatusFound)
			}
		},
	}
	for name, answer := range tests {
		t.Run(name+" in the place of the metadata", func(t *testing.T) {
			h := newTestIssuer(t, httptest.NewServer)
			h.answer(answer(h))
			wantUnavailable(t, newIssuer(h.options()), h.token(nil))
		})
		t.Run(name+" in the place of the keys", func(t *testing.T) {
			h := newTestIssuer(t, httptest.NewServer)
			bad := answer(h)
			h.answer(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/keys" {
					bad(w, r)
					return
				}
				fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, h.server.URL, h.server.URL+"/keys")
			})
			_, err := newIssuer(h.options()).verify(t.Context(), h.token(nil))
			if !directory.Is(err, directory.Unavailable) {
				t.Fatalf("got %v, want directory-unavailable", err)
			}
			if len(err.Error()) > 2*maxCause {
				t.Errorf("the error is %d bytes long", len(err.Error()))
			}
		})
	}
	if got := elsewhere.asked(); got != [2]int{} {
		t.Errorf("another host was asked %v times", got)
	}
}

func TestMetadataOfAnotherIssuerIsRefused(t *testing.T) {
	h := newTestIssuer(t, httptest.NewServer)
	h.answer(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":"https://elsewhere.example","jwks_uri":%q}`, h.server.URL+"/keys")
	})
	wantUnavailable(t, newIssuer(h.options()), h.token(nil))
	if got := h.asked(); got[1] != 0 {
		t.Errorf("its keys were read %d times", got[1])
	}
}

func TestAnIssuerWithTLSDoesNotHaveItsKeysReadWithout(t *testing.T) {
	keys := newTestIssuer(t, httptest.NewServer)
	h := newTestIssuer(t, httptest.NewTLSServer)
	i := newIssuer(h.options())
	wantUnavailable(t, i, h.token(nil)) // nobody has said that its certificate is good

	transport := h.server.Client().Transport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	i = newIssuer(h.options())
	i.transport = transport
	wantIdentity(t, i, h.token(nil))

	i = newIssuer(h.options())
	i.transport = transport
	h.answer(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, h.server.URL, keys.server.URL+"/keys")
	})
	wantUnavailable(t, i, h.token(nil))
	if got := keys.asked(); got != [2]int{} {
		t.Errorf("they were asked for %v times", got)
	}
}

// hanging returns a server that hangs until it is released, and what tells that somebody waits for it.
func hanging() (serve http.HandlerFunc, waited <-chan struct{}, release func()) {
	begun, over := make(chan struct{}, 10), make(chan struct{})
	return func(http.ResponseWriter, *http.Request) {
		begun <- struct{}{}
		<-over
	}, begun, sync.OnceFunc(func() { close(over) })
}

func TestNobodyWaitsForAnIssuerThatHangsLongerThanTheirRequest(t *testing.T) {
	tests := map[string]func(t *testing.T, h *testIssuer, i *issuer) string{
		"with its metadata": func(_ *testing.T, h *testIssuer, _ *issuer) string { return h.token(nil) },
		"with its keys": func(t *testing.T, h *testIssuer, i *issuer) string {
			wantIdentity(t, i, h.token(nil))
			return sign(t, jwt.SigningMethodES256, ecKey(t), map[string]any{"kid": "x"}, h.claims(nil))
		},
	}
	for name, prepare := range tests {
		t.Run(name, func(t *testing.T) {
			h := newTestIssuer(t, httptest.NewServer)
			serve, waited, release := hanging()
			t.Cleanup(release)
			synctest.Test(t, func(t *testing.T) {
				i := newIssuer(h.options())
				token := prepare(t, h, i)
				synctest.Wait()
				h.answer(serve)
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					<-waited
					cancel()
				}()
				wantUnavailableTo(ctx, t, i, token)
				release()
			})
		})
	}
}

func TestAnIssuerThatHangsIsGivenUpAtTheTimeout(t *testing.T) {
	h := newTestIssuer(t, httptest.NewServer)
	o := h.options()
	o.Timeout = 20 * time.Millisecond
	serve, _, release := hanging()
	t.Cleanup(release)
	h.answer(serve)
	wantUnavailable(t, newIssuer(o), h.token(nil)) // or it takes for ever
}
