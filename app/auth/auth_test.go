package auth

import (
	"context"
	"crypto/ed25519"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

const groupsDN = ",ou=groups," + ldapdirtest.Base

var (
	oldKey = ed25519.NewKeyFromSeed(slices.Repeat([]byte{1}, ed25519.SeedSize))
	newKey = ed25519.NewKeyFromSeed(slices.Repeat([]byte{2}, ed25519.SeedSize))
)

// fixture is an Authenticator on a slapd with the sample directory.
type fixture struct {
	*Authenticator

	t         *testing.T
	directory *ldapdir.Directory
	options   Options
}

func newFixture(t *testing.T, change ...func(*Options)) *fixture {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, directory: ldapdirtest.Open(t, ldapdirtest.Options(ldapdirtest.Start(t, slapd.Options{Seed: seed})))}
	f.options = Options{
		LoginField: "uid", SameDN: ldapdir.SameDN, Fold: ldapdir.Fold, MaxFailures: 3, FailureWindow: 15 * time.Minute,
		Groups: map[directory.Role]string{directory.RoleAdmin: "cn=admins" + groupsDN, directory.RoleReader: "cn=engineering" + groupsDN},
		Tokens: TokenOptions{Issuer: "rollcall", Keys: []ed25519.PrivateKey{oldKey}, AccessLifetime: time.Minute, RefreshLifetime: time.Hour},
	}
	for _, c := range change {
		c(&f.options)
	}
	f.Authenticator = f.replica()
	return f
}

// replica is another Authenticator on the same directory.
func (f *fixture) replica(change ...func(*Options)) *Authenticator {
	f.t.Helper()
	o := f.options
	for _, c := range change {
		c(&o)
	}
	a, err := New(f.directory, f.directory.Sessions("ou=sessions,"+ldapdirtest.Base), o)
	if err != nil {
		f.t.Fatal(err)
	}
	return a
}

func (f *fixture) set(kind *directory.Kind, name, field string, values ...string) {
	f.t.Helper()
	_, err := f.directory.Update(f.t.Context(), kind, name, directory.Condition{}, func(directory.Entry) (directory.Patch, error) {
		return directory.Patch{Set: map[string][]string{field: values}}, nil
	})
	if err != nil {
		f.t.Fatal(err)
	}
}

func withIssuer(h *testIssuer, rolesClaim string) func(*Options) {
	return func(o *Options) {
		oidc := h.options()
		oidc.RolesClaim = rolesClaim
		o.OIDC = &oidc
	}
}

func TestATokenFromElsewhereIsAUserOfTheDirectory(t *testing.T) {
	h := newTestIssuer(t, httptest.NewServer)
	f := newFixture(t, withIssuer(h, ""))
	caller, err := f.Authenticate(t.Context(), Credentials{Token: h.token(nil)})
	if err != nil || caller.Name != "alice" || caller.ID == "" || !slices.Equal(caller.Roles, []directory.Role{directory.RoleReader}) || caller.Session != "" {
		t.Errorf("alice, who is in devs, which is in engineering: %+v, %v", caller, err)
	}
	caller, err = f.Authenticate(t.Context(), Credentials{Token: h.token(jwt.MapClaims{"preferred_username": "admin", "roles": []string{"reader"}})})
	if err != nil || !caller.Has(directory.RoleAdmin) {
		t.Errorf("the admin: %+v, %v", caller, err)
	}
	f.set(ldapdirtest.Users, "alice", directory.FieldAccountLocked, directory.True)
	for _, name := range []string{"alice", "nobody", "*", "", "alice)(uid=*"} {
		if _, err := f.Authenticate(t.Context(), Credentials{Token: h.token(jwt.MapClaims{"preferred_username": name})}); !directory.Is(err, directory.InvalidToken) {
			t.Errorf("%q is let in: %v", name, err)
		}
	}
}

func TestRolesOfAClaimAreAllTheRolesThereAre(t *testing.T) {
	h := newTestIssuer(t, httptest.NewServer)
	f := newFixture(t, withIssuer(h, "roles"))
	for _, c := range []struct {
		user  string
		claim any
		want  []directory.Role
	}{
		{"alice", []string{"operator"}, []directory.Role{directory.RoleOperator}},
		{"alice", nil, nil},
		{"admin", []string{}, nil}, // whatever the groups say
		{"bob", "admin", []directory.Role{directory.RoleAdmin}},
	} {
		caller, err := f.Authenticate(t.Context(), Credentials{Token: h.token(jwt.MapClaims{"preferred_username": c.user, "roles": c.claim})})
		if err != nil || !slices.Equal(caller.Roles, c.want) {
			t.Errorf("%s with %v has %v, want %v: %v", c.user, c.claim, caller.Roles, c.want, err)
		}
	}
}

func TestWithoutAnIssuerTokensFromElsewhereAreNone(t *testing.T) {
	h := newTestIssuer(t, httptest.NewServer)
	f := newFixture(t)
	if _, err := f.Authenticate(t.Context(), Credentials{Token: h.token(nil)}); !directory.Is(err, directory.InvalidToken) {
		t.Error(err)
	}
}

// TestAnOldKeyIsGoodWhileItIsConfigured: the steps of a rotation.
func TestAnOldKeyIsGoodWhileItIsConfigured(t *testing.T) {
	f := newFixture(t)
	login, err := f.Login(t.Context(), Credentials{Login: "alice", Password: "alice-password"})
	if err != nil {
		t.Fatal(err)
	}
	both := f.replica(func(o *Options) { o.Tokens.Keys = []ed25519.PrivateKey{newKey, oldKey} })
	if _, err := both.Authenticate(t.Context(), Credentials{Token: login.Access}); err != nil {
		t.Errorf("the old key, configured: %v", err)
	}
	next, err := both.Refresh(t.Context(), login.Refresh)
	if err != nil {
		t.Fatal(err)
	}
	if keys := both.KeySet().Keys; len(keys) != 2 || keys[0].ID == keys[1].ID {
		t.Errorf("the keys are %+v", keys)
	}
	rotated := f.replica(func(o *Options) { o.Tokens.Keys = []ed25519.PrivateKey{newKey} })
	if _, err := rotated.Authenticate(t.Context(), Credentials{Token: next.Access}); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := rotated.Authenticate(t.Context(), Credentials{Token: login.Access}); !directory.Is(err, directory.InvalidToken) {
		t.Errorf("the old key, gone: %v", err)
	}
}

func TestATokenIsForgottenWhenItExpires(t *testing.T) {
	f := newFixture(t, func(o *Options) {
		o.Freshness, o.Tokens.AccessLifetime = time.Hour, time.Second
	})
	login, err := f.Login(t.Context(), Credentials{Login: "alice", Password: "alice-password"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Authenticate(t.Context(), Credentials{Token: login.Access}); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if _, err := f.Authenticate(t.Context(), Credentials{Token: login.Access}); err != nil {
			if !directory.Is(err, directory.InvalidToken) {
				t.Error(err)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it never expired")
}

func TestAKeyIsReadAsItWasWritten(t *testing.T) {
	text, err := NewKey()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseKey(text); err != nil {
		t.Error(err)
	}
	for _, wrong := range []string{"", "nothing", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		string(slices.Concat([]byte("-----BEGIN PUBLIC KEY-----\n"), text[28:]))} {
		if _, err := ParseKey([]byte(wrong)); err == nil {
			t.Errorf("%q is taken for a key", wrong)
		}
	}
}

// TestALoginIsProvedAnew: a password that is remembered for Basic has to be right still.
func TestALoginIsProvedAnew(t *testing.T) {
	f := newFixture(t, func(o *Options) { o.Freshness, o.PasswordMemory = time.Hour, time.Hour })
	alice := Credentials{Login: "alice", Password: "alice-password", Address: "192.0.2.1"}
	if _, err := f.Authenticate(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	f.set(ldapdirtest.Users, "alice", directory.FieldUserPassword, "another password")
	if _, err := f.Login(t.Context(), alice); !directory.Is(err, directory.InvalidCredentials) {
		t.Errorf("the old password: %v", err)
	}
}

// TestWhoHangsUpIsCounted: a client that leaves before the directory has answered has tried a password all the same.
func TestWhoHangsUpIsCounted(t *testing.T) {
	f := newFixture(t)
	for i := range 100 {
		ctx, leave := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
		_, _ = f.Authenticate(ctx, Credentials{Login: "alice", Password: "wrong", Address: "192.0.2.1"})
		leave()
	}
	entry, err := f.directory.Get(t.Context(), ldapdirtest.Users, "alice")
	if err != nil || entry.Locked() {
		t.Errorf("alice is locked out: %v", err)
	}
}
