package auth

import (
	"context"
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

// noted notes what the contexts of requests hold.
type noted struct {
	next  http.RoundTripper
	key   any
	mutex sync.Mutex
	got   []string
}

// RoundTrip implements [http.RoundTripper].
func (n *noted) RoundTrip(r *http.Request) (*http.Response, error) {
	n.mutex.Lock()
	value, _ := r.Context().Value(n.key).(string)
	n.got = append(n.got, r.URL.Path+" for "+value)
	n.mutex.Unlock()
	return n.next.RoundTrip(r)
}

func TestAnIssuerIsAskedOnBehalfOfWhoeverNeedsIt(t *testing.T) {
	type key struct{}
	h := newTestIssuer(t, httptest.NewServer)
	n := &noted{key: key{}}
	o := h.options()
	o.Through = func(next http.RoundTripper) http.RoundTripper {
		n.next = next
		return n
	}
	i := newIssuer(o)
	for _, name := range []string{"first", "second"} { // the second needs nothing
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, name))
		if _, err := i.verify(ctx, h.token(nil)); err != nil {
			t.Fatal(err)
		}
		cancel()
	}
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if want := []string{"/.well-known/openid-configuration for first", "/keys for first"}; !slices.Equal(n.got, want) {
		t.Errorf("got %q, want %q", n.got, want)
	}
}
