package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/time/rate"

	"rollcall/app/directory"
)

// OIDC is an issuer elsewhere whose tokens are accepted (OpenID Connect Core 1.0; RFC 9068).
type OIDC struct {
	// Issuer is its URL, exactly as in the iss claim of its tokens.
	Issuer string
	// Audience must be in the aud claim.
	Audience string
	// UserClaim names the user, such as preferred_username. An email counts only where it is verified.
	UserClaim string
	// RolesClaim is a string or a list with names of roles, and whatever else; with "" the roles come from the
	// directory's groups. Dots lead into objects, such as in realm_access.roles; so they do in UserClaim.
	RolesClaim string
	// Timeout is for each request to the issuer.
	Timeout time.Duration
	// Through, where it is not nil, wraps what requests to the issuer go through. They are made for all who wait, and know
	// of no caller.
	Through func(http.RoundTripper) http.RoundTripper
}

// Bounds of what others can make Rollcall do.
const (
	maxToken    = 32 << 10 // bytes
	maxDocument = 1 << 20  // bytes, of the issuer's metadata and of its keys
	// discoverEvery is how often an issuer that is out of reach is asked again, at most.
	discoverEvery = 5 * time.Second
	// The keys are read again for a token that none of them fits: so often at once, and then once in a while.
	fetchBurst = 3
	fetchEvery = 5 * time.Second
	// discoveredFor is how long keys are good that the issuer has withdrawn without putting others to use.
	discoveredFor = time.Hour
	// maxCause is how much is logged of what the issuer, or a token, is to blame for.
	maxCause = 300
)

// asymmetric are the algorithms that tokens may be signed with. A key that is public is no secret to share, so
// those with a shared one, and none, are not among them (RFC 8725 sections 2.1 and 3.1).
var asymmetric = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512,
	oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA,
}

// tokenTypes are the types of tokens that say who is calling: an access token's (RFC 9068 section 2.1), and what
// those are called that don't say. Others of the same issuer, such as logout tokens, have their own (RFC 8725
// section 3.11).
var tokenTypes = []string{"", "jwt", "at+jwt", "application/at+jwt"}

// issuer verifies the tokens of an OIDC. It is safe for concurrent use.
type issuer struct {
	options OIDC
	config  *oidc.Config
	// transport is how the issuer is reached.
	transport http.RoundTripper
	discovery *rate.Limiter

	mutex sync.Mutex
	// keys are the issuer's, as of found; nil until it was reached.
	keys  *remoteKeys
	found time.Time
	// pending is closed when the discovery that is under way ends; nil where there is none.
	pending chan struct{}
	// err is what the last discovery ended with.
	err error
}

// identity is what a token says.
type identity struct {
	login string
	// roles are the token's, the strongest first, where fromClaim says that they count.
	roles     []directory.Role
	fromClaim bool
	expires   time.Time
}

// newIssuer returns an issuer. It is not asked for anything before its first token comes.
func newIssuer(o OIDC) *issuer {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // it is asked too seldom
	var through http.RoundTripper = transport
	if o.Through != nil {
		through = o.Through(transport)
	}
	return &issuer{
		options: o, transport: through,
		config:    &oidc.Config{ClientID: o.Audience, SupportedSigningAlgs: asymmetric},
		discovery: rate.NewLimiter(rate.Every(discoverEvery), 1),
	}
}

// issued tells whether a token says that it is of this issuer. Whether it is, verify tells.
func (i *issuer) issued(token string) bool {
	_, issuer, err := peek(token)
	return err == nil && issuer == i.options.Issuer
}

// verify returns what a token says that is the issuer's, meant for us, and good now. Errors: invalid-token, and
// directory-unavailable where the issuer's keys can't be read.
func (i *issuer) verify(ctx context.Context, token string) (identity, error) {
	kind, _, err := peek(token)
	switch {
	case err != nil:
		return identity{}, badToken(err)
	case !slices.Contains(tokenTypes, strings.ToLower(kind)):
		return identity{}, badToken(fmt.Errorf("a token of the type %q", kind))
	}
	remote, err := i.discovered(ctx)
	if err != nil {
		return identity{}, outOfReach(err)
	}
	keys := &keySet{remoteKeys: remote}
	verified, err := oidc.NewVerifier(i.options.Issuer, keys, i.config).Verify(ctx, token)
	switch {
	case keys.unread != nil:
		return identity{}, outOfReach(keys.unread)
	case err != nil:
		return identity{}, badToken(err)
	}
	var claims map[string]any
	if err := verified.Claims(&claims); err != nil {
		return identity{}, badToken(err)
	}
	return i.identify(claims, verified.Expiry)
}

// identify reads the claims of a token that was verified.
func (i *issuer) identify(claims map[string]any, expires time.Time) (identity, error) {
	who := identity{expires: expires, fromClaim: i.options.RolesClaim != ""}
	who.login, _ = claim(claims, i.options.UserClaim).(string)
	if who.login == "" {
		return identity{}, badToken(fmt.Errorf("the claim %s names nobody", i.options.UserClaim))
	}
	// Anybody may give an address as theirs (OpenID Connect Core 1.0 section 5.1).
	if i.options.UserClaim == "email" && claims["email_verified"] != true {
		return identity{}, badToken(errors.New("the email is not verified"))
	}
	if who.fromClaim {
		named := claim(claims, i.options.RolesClaim)
		list, _ := named.([]any)
		for _, role := range directory.Roles {
			if role != directory.RoleSelf && (named == string(role) || slices.Contains(list, any(string(role)))) {
				who.roles = append(who.roles, role)
			}
		}
	}
	return who, nil
}

// claim returns the claim at a path. Names may have dots in them, as those that are URLs do.
func claim(claims map[string]any, path string) any {
	if value, ok := claims[path]; ok {
		return value
	}
	for at, char := range path {
		if char != '.' {
			continue
		}
		if inner, ok := claims[path[:at]].(map[string]any); ok {
			if value := claim(inner, path[at+1:]); value != nil {
				return value
			}
		}
	}
	return nil
}

// peek returns what a token says of its type and its issuer, verified or not. It must be in the compact form
// (RFC 7515 section 7.1).
func peek(token string) (kind, issuer string, err error) {
	parts := strings.Split(token, ".")
	if len(token) > maxToken || len(parts) != 3 {
		return "", "", errors.New("not a token in three parts")
	}
	var header struct {
		Kind string `json:"typ"`
	}
	var body struct {
		Issuer string `json:"iss"`
	}
	for part, into := range map[string]any{parts[0]: &header, parts[1]: &body} {
		text, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || json.Unmarshal(text, into) != nil {
			return "", "", errors.New("not a token of JSON objects") // and no word of what it is
		}
	}
	return header.Kind, body.Issuer, nil
}

// discovered returns the issuer's keys (OpenID Connect Discovery 1.0 section 4). They are looked for when they are
// needed first, and again when they are old: then the old ones are good until that is done.
func (i *issuer) discovered(ctx context.Context) (*remoteKeys, error) {
	i.mutex.Lock()
	old := i.keys == nil || time.Since(i.found) >= discoveredFor
	if old && i.pending == nil && i.discovery.Allow() {
		i.pending = make(chan struct{})
		go i.discover(i.pending)
	}
	keys, pending, err := i.keys, i.pending, i.err
	i.mutex.Unlock()
	switch {
	case keys != nil:
		return keys, nil
	case pending == nil:
		return nil, err // of a moment ago
	}
	select {
	case <-pending:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	i.mutex.Lock()
	defer i.mutex.Unlock()
	if i.keys == nil {
		return nil, i.err
	}
	return i.keys, nil
}

// discover finds the issuer's keys, for all who wait. It does not end with the one who asked first.
func (i *issuer) discover(done chan<- struct{}) {
	keys, err := i.findKeys()
	i.mutex.Lock()
	if err == nil {
		i.keys, i.found = keys, time.Now()
	}
	i.err, i.pending = err, nil
	i.mutex.Unlock()
	close(done)
}

func (i *issuer) findKeys() (*remoteKeys, error) {
	ctx := context.Background() // the client has a timeout
	reader := &documents{next: i.transport, limit: rate.NewLimiter(rate.Inf, 0)}
	provider, err := oidc.NewProvider(oidc.ClientContext(ctx, i.client(reader)), i.options.Issuer)
	if err != nil {
		return nil, err
	}
	var metadata struct {
		Keys string `json:"jwks_uri"`
	}
	if err := provider.Claims(&metadata); err != nil {
		return nil, err
	}
	if strings.HasPrefix(i.options.Issuer, "https:") && !strings.HasPrefix(metadata.Keys, "https:") {
		return nil, fmt.Errorf("the issuer's keys are not at an https address: %s", metadata.Keys)
	}
	reader = &documents{next: i.transport, limit: rate.NewLimiter(rate.Every(fetchEvery), fetchBurst)}
	return &remoteKeys{oidc.NewRemoteKeySet(oidc.ClientContext(ctx, i.client(reader)), metadata.Keys), reader}, nil
}

func (i *issuer) client(reader *documents) *http.Client {
	return &http.Client{Transport: reader, Timeout: i.options.Timeout, CheckRedirect: stayThere}
}

// stayThere lets an issuer redirect to itself only.
func stayThere(next *http.Request, before []*http.Request) error {
	if first := before[0].URL; next.URL.Scheme != first.Scheme || next.URL.Host != first.Host || len(before) > 3 {
		return errors.New("the issuer redirects elsewhere")
	}
	return nil
}

// documents reads documents of bounded size, no more often than the limit says.
type documents struct {
	next  http.RoundTripper
	limit *rate.Limiter
	// good tells whether the last one could be read.
	good atomic.Bool
}

var errTooOften = errors.New("the issuer was asked a moment ago")

// RoundTrip implements http.RoundTripper.
func (d *documents) RoundTrip(r *http.Request) (*http.Response, error) {
	if !d.limit.Allow() {
		return nil, errTooOften
	}
	response, err := d.next.RoundTrip(r)
	d.good.Store(err == nil && response.StatusCode == http.StatusOK)
	if err != nil {
		return nil, err
	}
	response.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(response.Body, maxDocument), response.Body}
	return response, nil
}

// remoteKeys are an issuer's keys.
type remoteKeys struct {
	*oidc.RemoteKeySet
	documents *documents
}

// keySet is remoteKeys for one token. It keeps what the verifier does not tell: that the keys could not be read.
type keySet struct {
	*remoteKeys
	unread error
}

// VerifySignature implements [oidc.KeySet].
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	payload, err := k.RemoteKeySet.VerifySignature(ctx, token)
	// An error with another in it is one of reading the keys. Where they were read a moment ago the token is to
	// blame.
	if cause := errors.Unwrap(err); cause != nil && !(errors.Is(cause, errTooOften) && k.documents.good.Load()) {
		k.unread = cause
	}
	return payload, err
}

func badToken(cause error) error {
	return &directory.Error{Code: directory.InvalidToken, Cause: brief{cause}}
}

func outOfReach(cause error) error {
	return &directory.Error{Code: directory.Unavailable, Detail: "The token's issuer can't be reached.",
		Cause: brief{cause}}
}

// brief is an error that does not say at length what others sent.
type brief struct{ error }

// Error implements error.
func (b brief) Error() string {
	text := b.error.Error()
	if len(text) > maxCause {
		return strings.ToValidUTF8(text[:maxCause], "") + "…"
	}
	return text
}

// Unwrap returns the error.
func (b brief) Unwrap() error { return b.error }
