package rest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollcall/app/client"
	"rollcall/app/directory"
)

// shortPages is a directory that has few entries on a page, whatever is asked for, so that few make many pages.
type shortPages struct {
	directory.Directory
	limit int
	// before is called before each page, with its number since it was last reset.
	before func(number int)
	pages  atomic.Int64
}

// Page implements [directory.Directory].
func (d *shortPages) Page(ctx context.Context, kind *directory.Kind, query directory.Query) (directory.Page, error) {
	query.Limit = min(query.Limit, d.limit)
	if before := d.before; before != nil {
		before(int(d.pages.Add(1)))
	}
	return d.Directory.Page(ctx, kind, query)
}

// brokenOff demands that a list breaks off, after it has begun, and says why where its format can.
func (a *api) brokenOff(path, format string, code *directory.Code) {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, a.URL+path, nil)
	if err != nil {
		a.t.Fatal(err)
	}
	request.SetBasicAuth(a.Login, a.Password)
	request.Header.Set("Accept", format)
	response, err := a.HTTP.Do(request)
	if err != nil {
		a.t.Fatalf("GET %s as %s: %v", path, format, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	broken := errors.Is(err, io.ErrUnexpectedEOF) || response.ProtoMajor == 2 && err != nil
	if response.StatusCode != http.StatusOK || len(body) == 0 || !broken {
		a.t.Fatalf("GET %s as %s: %s, and the body ends by %v:\n%s", path, format, response.Status, err, body)
	}
	if lines := strings.Split(strings.TrimSpace(string(body)), "\n"); format == asNDJSON &&
		(len(lines) < 2 || !strings.HasPrefix(lines[len(lines)-1], `{"error":{`) || !strings.Contains(lines[len(lines)-1], `"code":"`+code.Name+`"`)) {
		a.t.Errorf("GET %s as %s: the last line does not say %s:\n%s", path, format, code.Name, lines[len(lines)-1])
	}
}

// TestAStreamBreaksOffVisiblyWhenSlapdIsKilled kills it between two pages, and within one.
func TestAStreamBreaksOffVisiblyWhenSlapdIsKilled(t *testing.T) {
	short := &shortPages{limit: 150}
	a := newHostileAPI(t, 400, func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory { short.Directory = d; return short }
	})
	server := a.slapd
	for _, format := range []string{asNDJSON, asCSV, asLDIF} {
		for _, query := range []string{"", "?sort=-cn", "?fields=cn"} {
			short.pages.Store(0)
			short.before = func(number int) {
				if number == 2 {
					if err := server.Kill(); err != nil {
						t.Error(err)
					}
				}
			}
			a.brokenOff("/users"+query, format, directory.Unavailable)
			short.before = nil
			restarted, err := server.Restart(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			server = restarted
			t.Cleanup(func() { _ = restarted.Kill() })
			if got := len(a.paged("/users"+query, "Accept", format)[0].Body); got == 0 {
				t.Error("nothing is there after the restart")
			}
		}
	}
}

// TestAStreamBreaksOffVisiblyWhenItsReaderLosesRights: what a reader may see no more is not left out in silence.
func TestAStreamBreaksOffVisiblyWhenItsReaderLosesRights(t *testing.T) {
	short := &shortPages{limit: 2}
	a := newAPI(t, func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory { short.Directory = d; return short }
	})
	rita := a.as("rita", "correct horse battery staple")
	for _, c := range []struct {
		what string
		do   func()
		code *directory.Code
	}{
		{"is locked", func() { a.do("PATCH", "/users/rita", object{"accountLocked": true}).want(200) }, directory.InvalidCredentials},
		{"is deleted", func() { a.do("DELETE", "/users/rita", nil).want(204) }, directory.InvalidCredentials},
		{"gets another password", func() { a.do("PATCH", "/users/rita", object{"userPassword": "another one altogether"}).want(200) }, directory.InvalidCredentials},
		{"is no reader any more", func() { a.do("DELETE", "/groups/readers/members/users/rita", nil).want(204) }, directory.Forbidden},
		{"is no reader any more, but in a group", func() {
			a.do("PUT", "/groups/devs/members/users/rita", nil).want(204)
			a.do("DELETE", "/groups/readers", nil).want(204)
		}, directory.Forbidden},
	} {
		for _, path := range []string{"/users", "/groups", "/groups?sort=-cn"} {
			for _, format := range []string{asNDJSON, asCSV, asLDIF} {
				a.do("DELETE", "/users/rita", nil)
				a.do("DELETE", "/groups/readers", nil)
				a.do("POST", "/users", object{"cn": "rita", "sn": "Reader", "userPassword": "correct horse battery staple"}).want(201)
				a.do("POST", "/groups", object{"cn": "readers", "members": []string{"users/rita"}}).want(201)
				short.pages.Store(0)
				short.before = func(number int) {
					if number == 2 {
						c.do()
					}
				}
				rita.brokenOff(path, format, c.code)
				short.before = nil
			}
		}
	}
}

// stalling is a server with more users than the buffers of a connection hold, and directories that have few on a page.
func stalling(t *testing.T, protocol string, writeTimeout time.Duration) (a *api, stalled []*http.Response) {
	t.Helper()
	a = newHostileAPI(t, 700, func(s *settings) {
		s.rest.WriteTimeout, s.ldap.ExclusiveConnections, s.ldap.SortedSearches = writeTimeout, 3, 2
		s.between = func(d directory.Directory) directory.Directory { return &shortPages{Directory: d, limit: 50} }
	})
	server := httptest.NewUnstartedServer(a.server.Config.Handler)
	server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
		if secure, ok := conn.(*tls.Conn); ok {
			conn = secure.NetConn()
		}
		if err := conn.(*net.TCPConn).SetWriteBuffer(16 << 10); err != nil {
			t.Error(err)
		}
		return ctx
	}
	if server.EnableHTTP2 = protocol == "HTTP/2.0"; server.EnableHTTP2 {
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	transport := server.Client().Transport.(*http.Transport)
	transport.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10}
	a.Client = &client.Client{URL: server.URL, Login: a.Login, Password: a.Password, HTTP: server.Client()}
	for i := range 6 {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/users?sort="+[]string{"cn", "-sn", "id"}[i/2], nil)
		if i%2 == 0 {
			request, err = http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/users", nil)
		}
		if err != nil {
			t.Fatal(err)
		}
		request.SetBasicAuth(a.Login, a.Password)
		request.Header.Set("Accept", []string{asNDJSON, asCSV, asLDIF}[i%3])
		response, err := a.HTTP.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		if response.StatusCode != http.StatusOK || response.Proto != protocol {
			t.Fatalf("GET %s: %s %s", request.URL, response.Proto, response.Status)
		}
		stalled = append(stalled, response)
	}
	return a, stalled
}

// overBothVersions runs a test over HTTP/1.1 and HTTP/2, and demands that it leaves nothing behind.
func overBothVersions(t *testing.T, test func(t *testing.T, protocol string)) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		before := goleak.IgnoreCurrent()
		t.Run(protocol, func(t *testing.T) { test(t, protocol) })
		goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
	}
}

const notRead = "the answer was not read"

// TestReadersThatStallHoldUpNobody has more readers stall than there are connections for lists, and more sorted ones
// than the directory server sorts at a time.
func TestReadersThatStallHoldUpNobody(t *testing.T) {
	overBothVersions(t, func(t *testing.T, protocol string) {
		a, stalled := stalling(t, protocol, time.Hour)
		for _, path := range []string{"/hosts", "/groups?sort=cn", "/users?limit=10&sort=-cn", "/users?count=true&limit=1", "/groups?sort=-description"} {
			for _, format := range []string{"application/json", asNDJSON, asCSV} {
				a.do("GET", path, nil, "Accept", format).want(200)
			}
		}
		a.do("PATCH", "/users/alice", object{"title": protocol}).want(200)
		if strings.Contains(a.log.text(), notRead) {
			t.Error("a reader did not stall")
		}
		for _, response := range stalled { // whoever reads on has everything
			if body, err := io.ReadAll(response.Body); err != nil || len(body) < 200_000 {
				t.Errorf("GET %s: %d bytes, %v", response.Request.URL, len(body), err)
			}
		}
	})
}

// TestReadersThatStallAreCutOff: they see that something is missing, and all that they held is free again.
func TestReadersThatStallAreCutOff(t *testing.T) {
	overBothVersions(t, func(t *testing.T, protocol string) {
		a, stalled := stalling(t, protocol, 500*time.Millisecond)
		for begun := time.Now(); strings.Count(a.log.text(), notRead) < len(stalled); time.Sleep(10 * time.Millisecond) {
			if time.Since(begun) > time.Minute {
				t.Fatalf("of %d readers %d were cut off", len(stalled), strings.Count(a.log.text(), notRead))
			}
		}
		for _, response := range stalled {
			if body, err := io.ReadAll(response.Body); err == nil {
				t.Errorf("GET %s: %d bytes, and then a clean end", response.Request.URL, len(body))
			}
		}
	})
}

// TestAStreamWaitsForItsPagesLongerThanForItsReader: in HTTP/2 a deadline that passes ends a stream that nobody writes to.
func TestAStreamWaitsForItsPagesLongerThanForItsReader(t *testing.T) {
	const writeTimeout = 500 * time.Millisecond
	short := &shortPages{limit: 200, before: func(number int) {
		if number == 1 || number == 3 {
			time.Sleep(2 * writeTimeout)
		}
	}}
	a := newHostileAPI(t, 700, func(s *settings) {
		s.rest.WriteTimeout = writeTimeout
		s.between = func(d directory.Directory) directory.Directory { short.Directory = d; return short }
	}).overHTTP2(t, func(server *http.Server) { server.WriteTimeout = writeTimeout })
	if x := a.do("GET", "/users", nil, "Accept", asNDJSON).want(200); len(x.Body) < 200_000 {
		x.fail("not all is there")
	}
}
