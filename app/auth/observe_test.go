package auth

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"rollcall/app/directory"
)

func TestLoginsAreObservedWhereTheyAreFoundOut(t *testing.T) {
	var got []string
	f := newFixture(t, func(o *Options) {
		o.Freshness, o.PasswordMemory = time.Hour, time.Hour
		o.Observe = func(method, result string) { got = append(got, method+" "+result) }
	})
	ctx := t.Context()
	alice := Credentials{Login: "alice", Password: "alice-password"}
	wrong := Credentials{Login: "alice", Password: "wrong"}
	login, err := f.Login(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	got = nil
	for _, step := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"a login", func() error { _, err := f.Login(ctx, alice); return err }, []string{"login success"}},
		{"another", func() error { _, err := f.Login(ctx, alice); return err }, []string{"login success"}},
		{"a Basic password that the login remembered", func() error { _, err := f.Authenticate(ctx, alice); return err }, nil},
		{"another user's", func() error {
			_, err := f.Authenticate(ctx, Credentials{Login: "admin", Password: "admin"})
			return err
		}, []string{"basic success"}},
		{"the same, remembered", func() error {
			_, err := f.Authenticate(ctx, Credentials{Login: "admin", Password: "admin"})
			return err
		}, nil},
		{"a wrong one", func() error { _, err := f.Login(ctx, wrong); return refused(err) }, []string{"login invalid-credentials"}},
		{"a wrong Basic password", func() error { _, err := f.Authenticate(ctx, wrong); return refused(err) }, []string{"basic too-many-logins"}},
		{"nobody's", func() error {
			_, err := f.Authenticate(ctx, Credentials{Login: "nobody", Password: "x"})
			return refused(err)
		}, []string{"basic invalid-credentials"}},
		{"a token", func() error { _, err := f.Authenticate(ctx, Credentials{Token: login.Access}); return err }, []string{"token success"}},
		{"the same, remembered", func() error { _, err := f.Authenticate(ctx, Credentials{Token: login.Access}); return err }, nil},
		{"a bad token", func() error { _, err := f.Authenticate(ctx, Credentials{Token: "x"}); return refused(err) }, []string{"token invalid-token"}},
		{"a refresh", func() error { _, err := f.Refresh(ctx, login.Refresh); return err }, []string{"refresh success"}},
		{"the same again", func() error { _, err := f.Refresh(ctx, login.Refresh); return refused(err) }, []string{"refresh invalid-token"}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: observed %q, want %q", step.what, got, step.want)
		}
		got = nil
	}
}

// refused is for what is meant to be.
func refused(err error) error {
	if err == nil {
		return &directory.Error{Code: directory.Internal, Detail: "was let in"}
	}
	return nil
}

// passages notes what goes through it.
type passages struct {
	next  http.RoundTripper
	mutex sync.Mutex
	got   []string
}

// RoundTrip implements [http.RoundTripper].
func (p *passages) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mutex.Lock()
	p.got = append(p.got, r.URL.Path)
	p.mutex.Unlock()
	return p.next.RoundTrip(r)
}

func TestAnIssuerIsAskedThroughWhatIsGiven(t *testing.T) {
	h := newTestIssuer(t, httptest.NewServer)
	p := &passages{}
	o := h.options()
	o.Through = func(next http.RoundTripper) http.RoundTripper {
		p.next = next
		return p
	}
	wantIdentity(t, newIssuer(o), h.token(nil))
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if want := []string{"/.well-known/openid-configuration", "/keys"}; !slices.Equal(p.got, want) {
		t.Errorf("got %q, want %q", p.got, want)
	}
}
