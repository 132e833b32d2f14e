package rest_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/sirupsen/logrus"

	"rollcall/app/directory"
	"rollcall/app/rest"
)

func TestEveryAnswerTellsBrowsersToDoNothingWithIt(t *testing.T) {
	a := newAPI(t)
	for _, c := range []struct {
		method, path string
		headers      []string
		status       int
	}{
		{"GET", "/", nil, 200},
		{"GET", "/users", nil, 200},
		{"GET", "/users/alice", nil, 200},
		{"HEAD", "/users/alice", nil, 200},
		{"OPTIONS", "/users", nil, 204},
		{"GET", "/users/nobody", nil, 404},
		{"GET", "/nothing", nil, 404},
		{"DELETE", "/users", nil, 405},
		{"GET", "/users", []string{"Accept", "text/plain"}, 406},
		{"GET", "/users", []string{"Authorization", "Basic eDp4"}, 401},
		{"GET", "/errors/stale", []string{"Accept", "text/html"}, 200},
	} {
		x := a.do(c.method, c.path, nil, c.headers...)
		if x.Status != c.status {
			x.fail("got %d, want %d", x.Status, c.status)
		}
		policy := "default-src 'none'; frame-ancestors 'none'"
		if slices.Contains(c.headers, "text/html") {
			policy = pagePolicy
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store", "Strict-Transport-Security": "",
			"Access-Control-Allow-Origin": "",
		} {
			if got := x.Header.Values(name); strings.Join(got, "|") != want {
				x.fail("%s is %q, want %q", name, got, want)
			}
		}
	}
}

func TestAPanicIsAnsweredWithTheSameHeaders(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.Directory = panicking{} })
	x := a.do("GET", "/users/alice", nil).refused(directory.Internal)
	if x.Header.Get("Content-Security-Policy") == "" || x.Header.Get("Referrer-Policy") == "" {
		x.fail("headers are missing")
	}
}

func TestOnlyOverTLSBrowsersAreToldToStayThere(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	handler := recorded(t, rest.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Log: log})
	for _, c := range []struct {
		what, peer, proto, url string
		want                   bool
	}{
		{"plain", "203.0.113.9:1", "", "http://api/healthz", false},
		{"TLS", "203.0.113.9:1", "", "https://api/healthz", true},
		{"TLS, on a page that is not there", "203.0.113.9:1", "", "https://api/nothing", true},
		{"a stranger's word", "203.0.113.9:1", "https", "http://api/healthz", false},
		{"a proxy's word", "10.0.0.1:1", "https", "http://api/healthz", true},
		{"a proxy's other word", "10.0.0.1:1", "http", "http://api/healthz", false},
	} {
		r := httptest.NewRequest(http.MethodGet, c.url, nil)
		r.RemoteAddr = c.peer
		if c.proto != "" {
			r.Header.Set("X-Forwarded-Proto", c.proto)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if got := w.Header().Get("Strict-Transport-Security"); (got != "") != c.want {
			t.Errorf("%s: Strict-Transport-Security is %q", c.what, got)
		}
	}
}

const friend = "https://admin.example.org"

func TestOtherOriginsMayNothingUnlessConfigured(t *testing.T) {
	a := newAPI(t)
	for _, x := range []*exchange{
		a.do("GET", "/users/alice", nil, "Origin", friend).want(200),
		a.do("OPTIONS", "/users/alice", nil, "Origin", friend, "Access-Control-Request-Method", "PATCH").want(204),
	} {
		for name := range x.Header {
			if strings.HasPrefix(name, "Access-Control-") || name == "Vary" {
				x.fail("there is %s", name)
			}
		}
	}
	x := a.do("OPTIONS", "/users", nil, "Origin", friend, "Access-Control-Request-Method", "GET").want(204)
	if x.Header.Get("Allow") != "GET, HEAD, OPTIONS, POST, PUT" {
		x.fail("Allow is %q", x.Header.Get("Allow"))
	}
}

func TestAConfiguredOriginMayUseTheAPIAndNoOther(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.CORSOrigins = []string{friend} })
	allowed := func(x *exchange) string { return x.Header.Get("Access-Control-Allow-Origin") }
	for _, origin := range []string{
		"https://evil.example.org", "http://admin.example.org", friend + ":8443", friend + ".evil.org", "null", "https://sub.admin.example.org",
	} {
		for _, x := range []*exchange{
			a.do("GET", "/users/alice", nil, "Origin", origin).want(200),
			a.do("OPTIONS", "/users/alice", nil, "Origin", origin, "Access-Control-Request-Method", "GET").want(204),
		} {
			if allowed(x) != "" {
				x.fail("%s may", origin)
			}
		}
	}

	x := a.do("GET", "/users/alice", nil, "Origin", friend).want(200)
	exposed := strings.Split(x.Header.Get("Access-Control-Expose-Headers"), ", ")
	for _, name := range []string{"ETag", "Location", "Link", "X-Request-Id", "Retry-After", "X-Total-Count"} {
		if !slices.ContainsFunc(exposed, func(e string) bool { return strings.EqualFold(e, name) }) {
			x.fail("%s is not exposed but %q", name, exposed)
		}
	}
	if allowed(x) != friend || x.Header.Get("Access-Control-Allow-Credentials") != "" {
		x.fail("%s may not, or with credentials of the browser's", friend)
	}
	for _, path := range []string{"/users/nobody", "/nothing"} {
		if x := a.do("GET", path, nil, "Origin", friend).want(404); allowed(x) != friend {
			x.fail("a problem can't be read")
		}
	}
	if x := a.do("GET", "/errors", nil, "Origin", friend, "Accept", "text/html").want(200); !slices.Contains(x.Header.Values("Vary"), "Origin") {
		x.fail("it does not vary by origin but by %q", x.Header.Values("Vary"))
	}
	a.do("GET", "/errors", nil).want(200)

	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		x := a.as("", "").do("OPTIONS", "/users/alice", nil, "Origin", friend, "Access-Control-Request-Method", method,
			"Access-Control-Request-Headers", "authorization,content-type,if-match,if-none-match,x-request-id").want(204)
		if allowed(x) != friend || x.Header.Get("Access-Control-Allow-Methods") != method || x.Header.Get("Access-Control-Max-Age") != "600" ||
			x.Header.Get("X-Request-Id") == "" || x.Header.Get("X-Content-Type-Options") != "nosniff" {
			x.fail("%s may not %s", friend, method)
		}
	}
	for _, headers := range [][]string{
		{"Access-Control-Request-Method", "BREW"},
		{"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "x-forwarded-for"},
	} {
		if x := a.do("OPTIONS", "/users/alice", nil, append(headers, "Origin", friend)...).want(204); allowed(x) != "" {
			x.fail("%q may", headers)
		}
	}

	x = a.do("OPTIONS", "/users", nil, "Origin", friend).want(204) // no preflight
	if x.Header.Get("Allow") != "GET, HEAD, OPTIONS, POST, PUT" {
		x.fail("Allow is %q", x.Header.Get("Allow"))
	}
	if x := a.do("BREW", "/users", nil, "Origin", friend).refused(directory.MethodNotAllowed); x.Header.Get("Allow") == "" {
		x.fail("there is no Allow")
	}
	if _, ok := x.Header[http.CanonicalHeaderKey("Access-Control-Allow-Credentials")]; ok {
		x.fail("browsers may send credentials of their own")
	}
}
