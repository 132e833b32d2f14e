package rest_test

import (
	"context"
	"fmt"
	"html"
	"net/http"
	"slices"
	"strings"
	"testing"

	"rollcall/app/directory"
)

func TestTheErrorCatalogue(t *testing.T) {
	a := newAPI(t).as("", "")
	var rows []struct {
		Code, Title, Remedy, Type string
		Status                    int
	}
	a.do("GET", "/errors", nil).want(200).decode(&rows)
	if len(rows) != len(directory.Catalogue()) {
		t.Errorf("%d of %d codes are listed", len(rows), len(directory.Catalogue()))
	}
	for _, row := range rows {
		if row.Status < 400 || row.Title == "" || row.Remedy == "" {
			t.Errorf("the row of %s is not whole: %+v", row.Code, row)
		}
		a.do("GET", row.Type, nil).want(200).field("code", row.Code).field("remedy", row.Remedy)
		page := a.do("GET", row.Type, nil, "Accept", "text/html,application/xhtml+xml,*/*;q=0.8").want(200)
		if !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") || !strings.Contains(string(page.Body), html.EscapeString(row.Title)) ||
			!strings.Contains(page.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			page.fail("not a page about %s", row.Code)
		}
	}
	a.do("GET", "/errors/no-such-code", nil).refused(directory.NotFound)
}

func TestEveryAnswerThatIsNoSuccessIsAProblem(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.MaxBodyBytes = 1000 })
	for _, c := range []struct {
		method, path string
		body         any
		headers      []string
		code         *directory.Code
	}{
		{"GET", "/nothing", nil, nil, directory.NoSuchRoute},
		{"GET", "/users/", nil, nil, directory.NoSuchRoute},
		{"GET", "/users/alice/", nil, nil, directory.NoSuchRoute},
		{"GET", "//users", nil, nil, directory.NoSuchRoute},
		{"GET", "/users/alice/members", nil, nil, directory.NoSuchRoute},
		{"PUT", "/groups/devs/members/people/alice", nil, nil, directory.NoSuchRoute},
		{"DELETE", "/users", nil, nil, directory.MethodNotAllowed},
		{"POST", "/users/alice", object{}, nil, directory.MethodNotAllowed},
		{"BREW", "/users/alice", nil, nil, directory.MethodNotAllowed},
		{"GET", "/users/alice", nil, []string{"Accept", "text/csv"}, directory.NotAcceptable},
		{"GET", "/users/alice", nil, []string{"Accept", "application/json;q=0"}, directory.NotAcceptable},
		{"GET", "/users/alice", nil, []string{"Accept", "application/json;q=0, */*"}, directory.NotAcceptable},
		{"POST", "/users", object{"cn": strings.Repeat("x", 1000)}, nil, directory.BodyTooLarge},
		{"POST", "/users", "cn=x", []string{"Content-Type", "application/x-www-form-urlencoded"}, directory.UnsupportedMediaType},
		{"POST", "/users", "{}", []string{"Content-Type", ""}, directory.UnsupportedMediaType},
		{"POST", "/users", "{}", []string{"Content-Type", "application/json; charset=latin1"}, directory.UnsupportedMediaType},
		{"POST", "/users", "{}", []string{"Content-Encoding", "gzip"}, directory.UnsupportedMediaType},
		{"PUT", "/users/alice", "{}", []string{"Content-Type", "application/merge-patch+json"}, directory.UnsupportedMediaType},
		{"PATCH", "/users/alice", "[]", []string{"Content-Type", "text/plain"}, directory.UnsupportedMediaType},
		{"PATCH", "/users/alice", `[{"op":"test","path":"/sn","value":"x"}]`, []string{"Content-Type", "application/json-patch+json"}, directory.PatchConflict},
		{"PUT", "/users", `{"cn":"x","sn":"x"}`, nil, directory.UnsupportedMediaType},
		{"PATCH", "/users", "{}", nil, directory.MethodNotAllowed},
		{"GET", "/users/%ff", nil, nil, directory.NotFound},
		{"GET", "/users/a%00b", nil, nil, directory.NotFound},
	} {
		a.do(c.method, c.path, c.body, c.headers...).refused(c.code)
	}
	for path, want := range map[string]string{
		"/users": "GET, HEAD, OPTIONS, POST, PUT", "/users/alice": "DELETE, GET, HEAD, OPTIONS, PATCH, PUT",
		"/groups/devs/members/users/alice": "DELETE, OPTIONS, PUT", "/": "GET, HEAD, OPTIONS",
	} {
		for method, status := range map[string]int{"BREW": 405, "OPTIONS": 204} {
			if x := a.do(method, path, nil).want(status); x.Header.Get("Allow") != want {
				x.fail("Allow is %q, want %q", x.Header.Get("Allow"), want)
			}
		}
	}
	for _, accept := range []string{"application/json", "application/*", "text/html, */*;q=0.1", "application/json; charset=utf-8"} {
		a.do("GET", "/users/alice", nil, "Accept", accept).want(200)
	}
}

// TestWhereIfMatchIsDemandedNothingIsOverwrittenUnseen: a creation, and a single member, overwrite nothing.
func TestWhereIfMatchIsDemandedNothingIsOverwrittenUnseen(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.RequireIfMatch = true })
	before := a.do("GET", "/users/alice", nil).want(200)
	for _, c := range []struct {
		method, path string
		body         any
	}{
		{"PUT", "/users/alice", object{"sn": "x"}},
		{"PUT", "/users/nobody", object{"sn": "x"}},
		{"PATCH", "/users/alice", object{"sn": "x"}},
		{"PATCH", "/users/alice?dryRun=true", object{"sn": "x"}},
		{"DELETE", "/users/alice", nil},
		{"DELETE", "/groups/devs", nil},
	} {
		a.do(c.method, c.path, c.body).refused(directory.PreconditionRequired)
		a.do(c.method, c.path, c.body, "If-Match", `"another"`).want(412)
	}
	if after := a.do("GET", "/users/alice", nil).want(200); after.etag() != before.etag() {
		after.fail("it has changed")
	}
	a.do("PATCH", "/users/alice", object{"title": "x"}, "If-Match", before.etag()).want(200)
	a.do("PUT", "/users/nobody", object{"sn": "x"}, "If-None-Match", "*").want(201)
	a.do("POST", "/users", object{"cn": "new", "sn": "x"}).want(201)
	a.do("PUT", "/groups/devs/members/users/bob", nil).want(204)
	a.do("DELETE", "/groups/devs/members/users/bob", nil).want(204)
	a.do("DELETE", "/users/nobody", nil, "If-Match", "*").want(204)
}

func TestHeadOfAProblemHasNoBody(t *testing.T) {
	a := newAPI(t)
	x := a.do("HEAD", "/users/nobody", nil)
	if x.Status != 404 || len(x.Body) > 0 || x.Header.Get("Content-Type") != "application/problem+json" {
		x.fail("not the head of a problem")
	}
}

// panicking is a directory with a bug.
type panicking struct{ directory.Directory }

// Get panics.
func (panicking) Get(context.Context, *directory.Kind, string) (directory.Entry, error) {
	panic("the-secret-cause")
}

func TestAPanicIsAProblemAndALoggedStack(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.Directory = panicking{} })
	x := a.do("GET", "/users/alice", nil).refused(directory.Internal)
	if strings.Contains(string(x.Body), "secret") {
		x.fail("the answer tells the cause")
	}
	if log := a.log.text(); !strings.Contains(log, "the-secret-cause") || !strings.Contains(log, "panicking.Get") {
		t.Errorf("the log has no stack:\n%s", log)
	}
	a.do("GET", "/healthz", nil).want(200)
}

func TestTheCauseIsForTheLogOnly(t *testing.T) {
	a := newAPI(t)
	if err := a.slapd.Kill(); err != nil {
		t.Fatal(err)
	}
	x := a.do("GET", "/users/alice", nil).refused(directory.Unavailable)
	if x.Header.Get("Retry-After") == "" {
		x.fail("there is no Retry-After")
	}
	port := a.slapd.URL()[strings.LastIndex(a.slapd.URL(), ":"):]
	if strings.Contains(string(x.Body), port) {
		x.fail("the answer tells where the directory is")
	}
	if line := a.logged(x); !strings.Contains(fmt.Sprint(line["error"]), port) {
		x.fail("the log does not tell the cause: %v", line)
	}
	a.do("GET", "/readyz", nil).refused(directory.Unavailable)
	a.do("GET", "/healthz", nil).want(200)
}

func TestRequestIDs(t *testing.T) {
	a := newAPI(t)
	if x := a.do("GET", "/healthz", nil, "X-Request-Id", "abc-123"); x.Header.Get("X-Request-Id") != "abc-123" {
		x.fail("the request id was not taken")
	}
	var made []string
	for _, id := range []string{"", "a b", "é", strings.Repeat("x", 200), `"`} {
		x := a.do("GET", "/healthz", nil, "X-Request-Id", id)
		if got := x.Header.Get("X-Request-Id"); got == id || got == "" || slices.Contains(made, got) {
			x.fail("the request id %q was taken, or not made anew", id)
		}
		made = append(made, x.Header.Get("X-Request-Id"))
	}
}

func TestTheIndexSaysWhereToGo(t *testing.T) {
	a := newAPI(t)
	var index struct {
		Name, Version string
		Links         map[string]string
	}
	a.as("", "").do("GET", "/", nil).want(200).decode(&index)
	for name, link := range index.Links {
		response, err := a.HTTP.Get(link)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s leads to %s", name, response.Status)
		}
	}
}
