package rest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"html"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"rollcall/app/directory"
	"rollcall/app/rest"
)

const (
	pagePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
	docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
		"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

// pagePolicies are all pages, and what each may do.
var pagePolicies = map[string]string{
	"/": pagePolicy, "/errors": pagePolicy, "/errors/stale": pagePolicy, "/docs/access": pagePolicy, "/docs": docsPolicy,
}

const likeABrowser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"

func TestABrowserGetsAPageAndAProgramJSON(t *testing.T) {
	a := newAPI(t).as("", "")
	const page, document = "text/html; charset=utf-8", "application/json"
	for _, c := range []struct{ accept, want string }{
		{"", document},
		{"*/*", document},
		{"application/json", document},
		{"application/*", document},
		{"text/html", page},
		{"text/*", page},
		{likeABrowser, page},
		{"application/json, text/html", document},
		{"text/html, application/json", document},
		{"application/json;q=0.9, text/html", page},
		{"text/html;q=0.9, application/json", document},
		{"text/html;q=0.1, */*;q=0.01", page},
		{"text/html;q=0, */*", document},
		{"application/json;q=0, */*", page},
		{"TEXT/HTML", page},
		{"text/html;level=1", page},
		{"text/plain", ""},
		{"text/htmlx", ""},
		{"image/png, text/html;q=0", ""},
	} {
		for path, policy := range pagePolicies {
			x := a.do("GET", path, nil, "Accept", c.accept)
			if c.want == "" {
				x.refused(directory.NotAcceptable)
			} else if x.want(200); x.Header.Get("Content-Type") != c.want {
				x.fail("got %s, want %s", x.Header.Get("Content-Type"), c.want)
			}
			if x.Header.Get("Vary") != "Accept" {
				x.fail("Vary is %q", x.Header.Get("Vary"))
			}
			if got := x.Header.Get("Content-Security-Policy"); (got == policy) != (c.want == page) {
				x.fail("the policy is %s", got)
			}
			head := a.do("HEAD", path, nil, "Accept", c.accept, "X-Request-Id", x.Header.Get("X-Request-Id"))
			head.Header.Set("Date", x.Header.Get("Date"))
			for name := range x.Header {
				if head.Header.Get(name) != x.Header.Get(name) || head.Status != x.Status || len(head.Body) > 0 {
					head.fail("HEAD answers otherwise than GET: %d %v", x.Status, x.Header)
				}
			}
		}
	}
}

func trusting(s *settings) {
	s.rest.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
}

// addresses are what a page leads to and what it is made of.
var addresses = regexp.MustCompile(`(?:href|src|action)="([^"]*)"`)

// TestPagesLeadSomewhereWhereverTheyAreServed follows every address on every page: none may leave the API, as
// nobody knows at which path a proxy has it.
func TestPagesLeadSomewhereWhereverTheyAreServed(t *testing.T) {
	for _, base := range []string{"", "/api", "/directory/v1"} {
		a := newAPI(t, func(s *settings) { s.rest.BasePath = base }).as("", "")
		for path := range pagePolicies {
			page := a.do("GET", path, nil, "Accept", likeABrowser).want(200)
			found := addresses.FindAllStringSubmatch(string(page.Body), -1)
			if len(found) < 7 {
				page.fail("only %d addresses are there", len(found))
			}
			for _, match := range found {
				if match[1] == "#main" {
					continue
				}
				here, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://proxy.example/of/others"+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				there, err := here.URL.Parse(match[1])
				below, ok := strings.CutPrefix(there.String(), "http://proxy.example/of/others/")
				if err != nil || !strings.HasPrefix(match[1], ".") || !ok {
					page.fail("%s leads to %s", match[1], there)
				}
				a.do("GET", "/"+below, nil, "Accept", likeABrowser).want(200)
			}
		}
	}
}

// TestPagesHoldNoScriptAndNoStyle of their own: the policy would not let them run.
func TestPagesHoldNoScriptAndNoStyle(t *testing.T) {
	a := newAPI(t).as("", "")
	inline := regexp.MustCompile(`(?i)<style|<[^>]*\sstyle=|<[^>]*\son[a-z]+=|javascript:|<script[^>]*>[^<]`)
	for path := range pagePolicies {
		x := a.do("GET", path, nil, "Accept", "text/html").want(200)
		if found := inline.Find(x.Body); found != nil {
			x.fail("there is %s", found)
		}
	}
}

func TestTheFirstPageSaysWhatRunsAndHowToLogIn(t *testing.T) {
	a := newAPI(t, trusting, func(s *settings) { s.rest.BasePath = "/api" }).as("", "")
	x := a.do("GET", "/", nil, "Accept", "text/html", "X-Forwarded-Host", "directory.example.org", "X-Forwarded-Proto", "https",
		"X-Forwarded-Prefix", "/of/others").want(200)
	for _, text := range []string{
		">ready<", "test</dd>", "<code>/api</code>", "/users", "/groups", "/hosts", "users, groups and hosts",
		"curl -s --json @- &#39;https://directory.example.org/of/others/api/login&#39;", `href="./docs"`, `href="./openapi.yaml"`,
	} {
		if !strings.Contains(string(x.Body), text) {
			x.fail("it does not say %s", text)
		}
	}
	links, _ := a.do("GET", "/", nil).want(200).object()["links"].(object)
	for name, path := range map[string]string{"docs": "/docs", "openapi": "/openapi.json", "users": "/users", "errors": "/errors"} {
		if links[name] != a.URL+path {
			t.Errorf("the link to %s is %v", name, links[name])
		}
	}
}

// TestAHostNameIsNoCommand for whoever copies it from the page to a shell.
func TestAHostNameIsNoCommand(t *testing.T) {
	a := newAPI(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host, r.Header = "$(id)';id;'", http.Header{"Accept": {"text/html"}}
	answer, err := a.HTTP.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	if want := `curl -s -u NAME &#39;http://$(id)&#39;\&#39;&#39;;id;&#39;\&#39;&#39;/me&#39;`; err != nil || !strings.Contains(string(page), want) {
		t.Errorf("%v, and not %s:\n%s", err, want, page)
	}
}

// TestTheFirstPageSaysThatTheDirectoryIsAway, in words that are fit for anybody, and not after long.
func TestTheFirstPageSaysThatTheDirectoryIsAway(t *testing.T) {
	a := newAPI(t)
	if err := a.slapd.Kill(); err != nil {
		t.Fatal(err)
	}
	x := a.as("", "").do("GET", "/", nil, "Accept", "text/html").want(200)
	for _, text := range []string{">not ready<", html.EscapeString(directory.Unavailable.Title), `href="./errors/` + directory.Unavailable.Name + `"`} {
		if !strings.Contains(string(x.Body), text) {
			x.fail("it does not say %s", text)
		}
	}
	for _, text := range []string{"LDAP Result", "connect", strings.TrimPrefix(a.slapd.URL(), "ldap://"), "dial"} {
		if strings.Contains(string(x.Body), text) {
			x.fail("it says %s", text)
		}
	}
}

func TestADirectoryThatIsSilentKeepsNobodyFromTheFirstPage(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	ended := make(chan struct{})
	silent := directory.Check{Name: "directory", Run: func(context.Context) error {
		defer close(ended)
		select {
		case <-t.Context().Done():
		case <-time.After(10 * time.Second):
		}
		return context.DeadlineExceeded
	}}
	t.Cleanup(func() { <-ended })
	handler := rest.New(rest.Options{Checks: []directory.Check{silent}, RequestTimeout: time.Minute, Log: log})
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Accept", "text/html")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if w.Code != 200 || !strings.Contains(w.Body.String(), ">not ready<") {
		t.Errorf("it does not say so: %d\n%s", w.Code, w.Body)
	}
	select {
	case <-ended:
		t.Error("it waits for the directory")
	default:
	}
}

func TestPagesAreMadeOfFilesThatBrowsersKeep(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.BasePath = "/api" }).as("", "")
	for name, mediaType := range map[string]string{
		"rollcall.css": "text/css; charset=utf-8", "rollcall.svg": "image/svg+xml", "docs.css": "text/css; charset=utf-8",
		"docs.js": "text/javascript; charset=utf-8", "swagger-ui.css": "text/css; charset=utf-8", "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
	} {
		path := "/docs/assets/" + name
		plain := a.do("GET", path, nil, "Accept-Encoding", "identity").want(200)
		packed := a.do("GET", path, nil, "Accept-Encoding", "br, gzip;q=0.5").want(200)
		reader, err := gzip.NewReader(bytes.NewReader(packed.Body))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if content, err := io.ReadAll(reader); err != nil || !bytes.Equal(content, plain.Body) || len(content) < 100 {
			t.Errorf("%s by gzip is something else: %v", name, err)
		}
		if plain.etag() == packed.etag() || plain.Header.Get("Content-Encoding") != "" || packed.Header.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s: %v and %v", name, plain.Header, packed.Header)
		}
		if x := a.do("GET", path, nil, "Accept-Encoding", "gzip;q=0, *;q=0").want(200); x.etag() != plain.etag() {
			t.Errorf("%s is packed for whoever refuses it", name)
		}
		for _, x := range []*exchange{plain, packed} {
			again := a.do("GET", path, nil, "Accept-Encoding", "gzip", "If-None-Match", `"other", W/`+packed.etag()).want(304)
			if len(again.Body) > 0 || again.etag() != packed.etag() {
				again.fail("it is not what is there: %s", packed.etag())
			}
			head := a.do("HEAD", path, nil, "Accept-Encoding", "identity").want(200)
			if head.etag() != plain.etag() || head.Header.Get("Content-Length") != plain.Header.Get("Content-Length") {
				head.fail("GET answers %v", plain.Header)
			}
			for header, want := range map[string]string{
				"Content-Type": mediaType, "Cache-Control": "no-cache", "Vary": "Accept-Encoding", "X-Content-Type-Options": "nosniff",
				"Cross-Origin-Resource-Policy": "same-origin", "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
			} {
				if got := x.Header.Get(header); got != want {
					t.Errorf("%s: %s is %q, want %q", name, header, got, want)
				}
			}
		}
	}
	for _, path := range []string{
		"", "/", "/docs.html", "/page.html", "/index.html", "/swagger-ui.js", "/swagger-ui-bundle.js.gz", "/oauth2-redirect.html", "/embed.go",
		"/..%2f..%2fme", "/%2e%2e", "/ui/docs.js", "/docs.js/", "/DOCS.JS", "/docs.js%00",
	} {
		a.do("GET", "/docs/assets"+path, nil).refused(directory.NoSuchRoute)
	}
	a.do("GET", "/docs/", nil, "Accept", "text/html").refused(directory.NoSuchRoute)
	a.do("POST", "/docs/assets/docs.js", nil).refused(directory.MethodNotAllowed)
}

// TestThePageOfAnErrorShowsHowItLooks, with what a client may wait for.
func TestThePageOfAnErrorShowsHowItLooks(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.BasePath = "/api" }).as("", "")
	for _, code := range directory.Catalogue() {
		x := a.do("GET", "/errors/"+code.Name, nil, "Accept", "text/html").want(200)
		if !strings.Contains(string(x.Body), "&#34;type&#34;: &#34;/api/errors/"+code.Name+"&#34;") || strings.Contains(string(x.Body), "Retry-After") != (code.RetryAfter > 0) {
			x.fail("it does not show %s as it looks", code.Name)
		}
	}
	list := string(a.do("GET", "/errors", nil, "Accept", "text/html").want(200).Body)
	for _, code := range directory.Catalogue() {
		if !strings.Contains(list, `href="./errors/`+code.Name+`"`) {
			t.Errorf("the list does not lead to %s", code.Name)
		}
	}
}
