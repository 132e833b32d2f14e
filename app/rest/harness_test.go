package rest_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"rollcall/app/auth"
	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/rest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

const (
	adminGroup = "cn=admins,ou=groups," + ldapdirtest.Base
	adminDN    = "cn=admin,ou=people," + ldapdirtest.Base

	operatorGroup = "cn=operators,ou=groups," + ldapdirtest.Base
	readerGroup   = "cn=readers,ou=groups," + ldapdirtest.Base
	sessions      = "ou=sessions," + ldapdirtest.Base
)

// ownFields are what users may change of themselves.
var ownFields = []string{"displayName", "givenName", "telephoneNumber", "mobile", "preferredLanguage", "sshPublicKeys"}

var tokenKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))

// api is the real thing: the handler over HTTP in front of a slapd with the sample directory.
type api struct {
	*client.Client
	t      testing.TB
	slapd  *slapd.Server
	log    *logBuffer
	server *httptest.Server
}

// settings are what a test may want otherwise.
type settings struct {
	rest rest.Options
	ldap ldapdir.Options
	auth auth.Options
	// between stands between the guards and the directory.
	between func(directory.Directory) directory.Directory
	// everywhere are the groups whose members may log in on every host.
	everywhere []string
	// record is where the audit trail goes; nil for none.
	record func(directory.Event)
}

// newAPI starts slapd and an API on it, logged in to as the admin.
func newAPI(t testing.TB, change ...func(*settings)) *api {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	return newAPIOn(t, ldapdirtest.Start(t, slapd.Options{Seed: seed}), change...)
}

// newAPIOn starts another API on a slapd.
func newAPIOn(t testing.TB, server *slapd.Server, change ...func(*settings)) *api {
	t.Helper()
	a := &api{t: t, slapd: server, log: &logBuffer{}}
	log := logrus.New()
	log.SetOutput(a.log)
	log.SetFormatter(&logrus.JSONFormatter{})
	s := &settings{
		ldap: ldapdirtest.Options(server),
		auth: auth.Options{
			LoginField: "uid", SameDN: ldapdir.SameDN, Fold: ldapdir.Fold, Freshness: 10 * time.Second, PasswordMemory: time.Minute,
			MaxFailures: 1000, FailureWindow: 1, // the limits have tests of their own
			Groups: map[directory.Role]string{
				directory.RoleAdmin: adminGroup, directory.RoleOperator: operatorGroup, directory.RoleReader: readerGroup,
			},
			Tokens: auth.TokenOptions{
				Issuer: "rollcall", Keys: []ed25519.PrivateKey{tokenKey}, AccessLifetime: 10 * time.Minute, RefreshLifetime: 12 * time.Hour,
			},
		},
		rest: rest.Options{
			Kinds:   allKinds,
			Version: "test", RequestTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second, MaxBodyBytes: 1 << 20, Log: log,
		},
	}
	cursors, err := rest.NewCursors(tokenKey)
	if err != nil {
		t.Fatal(err)
	}
	s.rest.Cursors, s.rest.BulkConcurrency = cursors, 8
	for _, f := range change {
		f(s)
	}
	d := ldapdirtest.Open(t, s.ldap)
	authenticator, err := auth.New(d, d.Sessions(sessions), s.auth)
	if err != nil {
		t.Fatal(err)
	}
	var inner directory.Directory = authenticator.Watch(d)
	if s.between != nil {
		inner = s.between(inner)
	}
	protection := directory.Protection{AdminGroup: adminGroup, Entries: []string{adminDN, "cn=protected,ou=people," + ldapdirtest.Base, "cn=protected,ou=hosts," + ldapdirtest.Base}, Everywhere: s.everywhere, LocalGroups: []string{"sudo"}, SameDN: ldapdir.SameDN, Groups: d.Groups}
	s.rest.Logins = authenticator
	if s.rest.Checks == nil {
		s.rest.Checks = d.Checks(sessions)
	}
	if s.rest.Authenticate == nil {
		s.rest.Authenticate = authenticator.Authenticate
	}
	if s.rest.Directory == nil {
		memberships := directory.NewMemberships(directory.NewProtected(inner, protection), ldapdirtest.Groups, ldapdir.SameDN)
		checked := directory.NewChecked(memberships)
		guarded := directory.NewGuarded(checked, protection, ownFields, "uid")
		if s.rest.Directory = guarded; s.record != nil {
			s.rest.Directory = directory.NewAudited(guarded, s.record)
		}
	}
	var standings directory.Standings = d
	if troubled, ok := inner.(directory.Standings); ok {
		standings = troubled
	}
	s.rest.Reach = directory.NewReach(inner, standings, ldapdirtest.Users, ldapdirtest.Groups, ldapdirtest.Hosts,
		directory.ReachRules{LoginField: "uid", Everywhere: s.everywhere, LocalLogins: []string{"root"}})
	s.rest.Paths = directory.NewPaths(s.rest.Directory, inner, standings, s.ldap.Mappings[1].Kind)
	s.rest.Keyring = directory.NewKeyring(s.rest.Directory, inner, s.rest.Kinds)
	a.server = httptest.NewServer(recorded(t, s.rest))
	t.Cleanup(a.server.Close)
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	a.Client = &client.Client{URL: a.server.URL + s.rest.BasePath, Login: "admin", Password: "admin", HTTP: &http.Client{Transport: transport}}
	return a
}

// as returns the API for another caller.
func (a *api) as(login, password string) *api {
	other := *a
	c := *a.Client
	c.Login, c.Password = login, password
	other.Client = &c
	return &other
}

type object = map[string]any

// exchange is a request and its answer, for tests to look at.
type exchange struct {
	t       testing.TB
	request string
	*client.Response
}

// do sends a request; headers come in pairs.
func (a *api) do(method, path string, body any, headers ...string) *exchange {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if text, ok := body.(string); ok {
		body = []byte(text)
	}
	response, err := a.Do(ctx, method, path, body, headers...)
	if err != nil {
		a.t.Fatalf("%s %s: %v", method, path, err)
	}
	sent, _ := json.Marshal(body)
	if raw, ok := body.([]byte); ok {
		sent = raw
	}
	return &exchange{a.t, strings.TrimSpace(method + " " + path + " " + strings.Join(headers, " ") + " " + string(sent)), response}
}

// fail fails with the request and the answer.
func (x *exchange) fail(format string, args ...any) {
	x.t.Helper()
	x.t.Logf("%s\n%d %v\n%s", x.request, x.Status, x.Header, x.Body)
	x.t.Fatalf(format, args...)
}

// want demands a status, and of anything that is no success that it is a problem document.
func (x *exchange) want(status int) *exchange {
	x.t.Helper()
	if x.Status != status {
		x.fail("got %d, want %d", x.Status, status)
	}
	if status >= 400 {
		x.problem()
	}
	return x
}

// want2xx demands success.
func (x *exchange) want2xx() *exchange {
	x.t.Helper()
	if x.Status < 200 || x.Status > 299 {
		x.fail("got %d, want success", x.Status)
	}
	return x
}

// refused demands a problem of a code, with violations of exactly these fields.
func (x *exchange) refused(code *directory.Code, fields ...string) *exchange {
	x.t.Helper()
	problem := x.want(code.Status).problem()
	if problem.Code != code.Name {
		x.fail("got the code %s, want %s", problem.Code, code.Name)
	}
	var got []string
	for _, v := range problem.Violations {
		got = append(got, v.Field)
	}
	slices.Sort(got)
	slices.Sort(fields)
	if !slices.Equal(got, fields) {
		x.fail("got violations of %q, want %q", got, fields)
	}
	return x
}

func (x *exchange) problem() client.Problem {
	x.t.Helper()
	var problem client.Problem
	if err := json.Unmarshal(x.Body, &problem); err != nil || x.Header.Get("Content-Type") != "application/problem+json" {
		x.fail("not a problem document: %v", err)
	}
	if problem.Status != x.Status || problem.RequestID != x.Header.Get("X-Request-Id") || problem.RequestID == "" ||
		!strings.HasSuffix(problem.Type, "/errors/"+problem.Code) || problem.Title == "" || problem.Instance == "" {
		x.fail("the problem document does not say what the answer says")
	}
	return problem
}

// object returns the body, a JSON object.
func (x *exchange) object() object {
	x.t.Helper()
	var o object
	x.decode(&o)
	return o
}

func (x *exchange) decode(v any) {
	x.t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(x.Body))
	if err := decoder.Decode(v); err != nil {
		x.fail("the body is not what was expected: %v", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		x.fail("something follows the JSON value")
	}
}

// field demands the value of a field, nil for none.
func (x *exchange) field(name string, want any) *exchange {
	x.t.Helper()
	got := x.object()[name]
	if list, ok := got.([]any); ok {
		texts := []string{}
		for _, item := range list {
			texts = append(texts, item.(string))
		}
		if w, ok := want.([]string); !ok || !slices.Equal(texts, w) {
			x.fail("%s is %q, want %q", name, texts, want)
		}
		return x
	}
	if got != want {
		x.fail("%s is %v, want %v", name, got, want)
	}
	return x
}

func (x *exchange) etag() string { return x.Header.Get("ETag") }

// logBuffer keeps the lines of a log.
type logBuffer struct {
	mutex sync.Mutex
	bytes.Buffer
}

// Write implements [io.Writer].
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.Write(p)
}

// text returns what was logged so far.
func (b *logBuffer) text() string {
	b.mutex.Lock()
	defer b.mutex.Unlock()
	return b.Buffer.String()
}

// logged returns the line of a request, by the request's id. It is written when the answer is out.
func (a *api) logged(x *exchange) object {
	a.t.Helper()
	id := x.Header.Get("X-Request-Id")
	for range 500 {
		for line := range strings.Lines(a.log.text()) {
			var o object
			if err := json.Unmarshal([]byte(line), &o); err != nil {
				a.t.Fatalf("a line of the log is not JSON: %s", line)
			}
			if o["request_id"] == id && o["msg"] == "request" {
				return o
			}
		}
		time.Sleep(time.Millisecond)
	}
	x.fail("no line of the log has the request id %s", id)
	return nil
}
