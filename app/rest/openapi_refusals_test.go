package rest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"rollcall/app/auth"
	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// somePassword is in the directory as it is.
const somePassword = "some password"

// refusals are a directory in which everything can go wrong, and APIs that each have their own trouble with it.
type refusals struct {
	t *testing.T
	// plain has no trouble. strict demands If-Match, narrow takes no bodies, hasty waits a moment for them, locked has seen
	// too many logins, deep finds two entries of the names in examples.
	plain, strict, narrow, hasty, locked, deep *api
	// failing has a directory where writes fail by the code in failure, doubtful one that finds nobody out, fallen one
	// without entries.
	failing, doubtful, fallen *api
	failure                   *directory.Code
	// killed, paused, unsorted, limited and unrelated have directory servers of their own, the last one without memberOf.
	killed, paused, unsorted, limited, unrelated *api
	// reset must change its password, expired can't any more, reader sees all and changes nothing.
	reset, expired, reader *api
}

// cause makes of an operation's example request one that is refused, and sends it. It returns nil where the operation
// knows no such trouble.
type cause func(r *refusals, o operation, q request) *exchange

// causes are what leads to each code, tried in order.
var causes = map[*directory.Code][]cause{
	directory.BadRequest: {
		func(r *refusals, o operation, q request) *exchange {
			for _, name := range []string{"dryRun", "limit"} {
				if slices.Contains(o.parameterNames(), name) {
					return q.with(name, "maybe").sentBy(r.plain)
				}
			}
			q.body = "{"
			return q.sentBy(r.plain)
		},
		func(r *refusals, _ operation, q request) *exchange { return q.with("nonsense", "x").sentBy(r.plain) },
	},
	directory.CredentialsRequired: {as(func(r *refusals) *api { return r.plain.as("", "") })},
	directory.InvalidCredentials: {
		as(func(r *refusals) *api { return r.plain.as("nobody", "wrong") }),
		body(object{"username": "alice", "password": "wrong"}),
	},
	directory.InvalidToken: {as(func(r *refusals) *api { return r.plain.bearing("wrong") }), body(object{"refresh_token": "wrong"})},
	directory.PasswordExpired: {
		as(func(r *refusals) *api { return r.expired }),
		body(object{"username": "expired", "password": somePassword}),
	},
	directory.PasswordMustChange: {
		as(func(r *refusals) *api { return r.reset }),
		body(object{"username": "reset", "password": somePassword}),
	},
	directory.Forbidden: {
		as(func(r *refusals) *api { return r.plain.as("alice", "alice-password") }),
		on("bob", func(r *refusals) *api { return r.plain.as("alice", "alice-password") }),
		func(r *refusals, _ operation, q request) *exchange {
			return q.with("sort", "members").sentBy(r.plain.as("alice", "alice-password"))
		},
	},
	directory.ProtectedEntry: {on("admin", plain), on("admins", plain), on("protected", plain)},
	directory.NotFound:       {on("nobody", plain)},
	directory.NoSuchRoute: {func(r *refusals, o operation, q request) *exchange {
		q.path = o.filled(r.t, map[string]string{"kind": "things"})
		return q.sentBy(r.plain)
	}},
	directory.NotAcceptable: {func(r *refusals, o operation, q request) *exchange {
		return q.only(o).headed("Accept", "image/png").sentBy(r.plain)
	}},
	directory.RequestTimeout: {func(r *refusals, _ operation, q request) *exchange {
		if q.body == nil {
			return nil
		}
		return r.unfinished(q)
	}},
	directory.AlreadyExists: {
		func(r *refusals, o operation, q request) *exchange {
			q.body = object{"cn": map[string]string{"users": "bob", "groups": "ops", "hosts": "web2"}[o.kind()]}
			if o.path == "/users" {
				q.body.(object)["sn"] = "x"
			}
			return q.only(o).sentBy(r.plain)
		},
		as(func(r *refusals) *api { return r.doubtful }),
		func(r *refusals, o operation, q request) *exchange {
			if !strings.HasSuffix(o.path, "/keys") {
				return nil
			}
			q.sentBy(r.plain)
			return q.sentBy(r.plain)
		},
	},
	directory.HasChildren:   {on("parent", plain)},
	directory.Ambiguous:     {as(func(r *refusals) *api { return r.deep })},
	directory.Busy:          {failing(directory.Busy)},
	directory.PatchConflict: {posting("application/json-patch+json", `[{"op":"test","path":"/description","value":"nonsense"}]`)},
	directory.LastAdmin: {
		func(r *refusals, o operation, q request) *exchange {
			q.path = o.filled(r.t, map[string]string{"name": "admins", "member": "admin"})
			return q.only(o).sentBy(r.plain)
		},
		failing(directory.LastAdmin),
	},
	directory.CursorLost: {func(r *refusals, o operation, q request) *exchange {
		first := q.with("limit", "1").sentBy(r.plain).want(200)
		return r.reader.do("GET", first.next().RequestURI(), nil)
	}},
	directory.Stale: {func(r *refusals, _ operation, q request) *exchange {
		return q.headed("If-Match", `"another"`).sentBy(r.plain)
	}},
	directory.PreconditionRequired: {as(func(r *refusals) *api { return r.strict })},
	directory.BodyTooLarge:         {as(func(r *refusals) *api { return r.narrow })},
	directory.TooManyResults: {
		as(func(r *refusals) *api { return r.limited }),
		func(r *refusals, _ operation, q request) *exchange { return q.with("nested", "true").sentBy(r.limited) },
	},
	directory.UnsupportedMediaType: {func(r *refusals, _ operation, q request) *exchange {
		if q.body == nil {
			q.body = "x"
		}
		return q.headed("Content-Type", "text/plain").sentBy(r.plain)
	}},
	directory.Invalid: {
		func(r *refusals, o operation, q request) *exchange {
			switch {
			case slices.Contains(o.parameterNames(), "filter"):
				return q.with("filter", `nonsense eq "x"`).sentBy(r.plain)
			case slices.Contains(o.parameterNames(), "member"): // no group is its own
				q.path = o.filled(r.t, map[string]string{"kind": "groups", "member": "devs"})
			case slices.Contains(o.parameterNames(), "username"):
				return q.with("username", "").sentBy(r.plain)
			case slices.Contains(o.parameterNames(), "user"):
				return q.with("user", "").sentBy(r.plain)
			default:
				q = q.headed("Content-Type", "application/json")
				q.body = object{"nonsense": "x"}
			}
			return q.sentBy(r.plain)
		},
	},
	directory.PasswordRefused: {
		posting("application/json", `{"cn":"short","sn":"x","userPassword":"short"}`),
		posting("application/json", `{"sn":"x","userPassword":"short"}`),
		posting("application/json", `{"newPassword":"short"}`),
	},
	directory.TooManyLogins: {
		as(func(r *refusals) *api { return r.locked }),
		func(r *refusals, _ operation, q request) *exchange {
			q.body = object{"username": "admin", "password": "wrong"}
			return q.sentBy(r.locked)
		},
	},
	directory.Internal: {
		as(func(r *refusals) *api { return r.fallen }),
		func(r *refusals, _ operation, q request) *exchange {
			q.body = object{"refresh_token": r.plain.login("alice", "alice-password").RefreshToken}
			return q.sentBy(r.fallen)
		},
	},
	directory.UnsupportedByDirectory: {
		func(r *refusals, _ operation, q request) *exchange { return q.with("sort", "cn").sentBy(r.unsorted) },
		failing(directory.UnsupportedByDirectory),
		as(func(r *refusals) *api { return r.unrelated }),
		func(r *refusals, _ operation, q request) *exchange {
			return q.with("nested", "true").sentBy(r.unrelated)
		},
	},
	directory.Unavailable: {
		as(func(r *refusals) *api { return r.killed }),
		func(r *refusals, _ operation, q request) *exchange {
			q.body = object{"refresh_token": r.plain.login("alice", "alice-password").RefreshToken}
			return q.sentBy(r.killed)
		},
	},
	directory.OutcomeUnknown: {failing(directory.OutcomeUnknown)},
	directory.Timeout: {
		as(func(r *refusals) *api { return r.paused }),
		func(r *refusals, _ operation, q request) *exchange {
			q.body = object{"refresh_token": r.plain.login("alice", "alice-password").RefreshToken}
			return q.sentBy(r.paused)
		},
	},
}

// only returns the request as one that changes nothing, where there is such.
func (q request) only(o operation) request {
	if slices.Contains(o.parameterNames(), "dryRun") {
		return q.with("dryRun", "true")
	}
	return q
}

func plain(r *refusals) *api { return r.plain }

// as sends the example.
func as(who func(*refusals) *api) cause {
	return func(r *refusals, _ operation, q request) *exchange { return q.sentBy(who(r)) }
}

// on sends the example about another entry.
func on(name string, who func(*refusals) *api) cause {
	return func(r *refusals, o operation, q request) *exchange {
		q.path = o.filled(r.t, map[string]string{"name": name, "code": name})
		return q.sentBy(who(r))
	}
}

// body sends another body.
func body(body object) cause {
	return func(r *refusals, _ operation, q request) *exchange {
		q.body = body
		return q.sentBy(r.plain.as("", ""))
	}
}

// posting sends another body of another type.
func posting(mediaType, body string) cause {
	return func(r *refusals, _ operation, q request) *exchange {
		q.body = body
		return q.headed("Content-Type", mediaType).sentBy(r.plain)
	}
}

// failing sends the example where writes fail.
func failing(code *directory.Code) cause {
	return func(r *refusals, _ operation, q request) *exchange {
		r.failure = code
		return q.sentBy(r.failing)
	}
}

// TestEveryDocumentedRefusalIsSeen has each operation refused by every code that the document has for it, so far as
// there is a way to it, and at least once by every status.
func TestEveryDocumentedRefusalIsSeen(t *testing.T) {
	d, err := describedBy(allKinds)
	if err != nil {
		t.Fatal(err)
	}
	r := newRefusals(t)
	for _, o := range d.operations() {
		for status := range o.Responses.Map() {
			if number, err := strconv.Atoi(status); err != nil || number < 400 {
				continue
			}
			var missed []string
			codes := o.codes(status)
			for _, code := range codes {
				if !r.leads(o, code) {
					missed = append(missed, code)
				}
			}
			if len(missed) > 0 {
				t.Logf("%s: %s by %q could not be brought about", o, status, missed)
			}
			if len(missed) == len(codes) {
				t.Errorf("%s: nothing leads to %s", o, status)
			}
		}
	}
}

// leads reports whether one of the causes of a code has the operation refused by it.
func (r *refusals) leads(o operation, name string) bool {
	code := codeOf(name)
	for _, cause := range causes[code] {
		for _, q := range o.examples(r.t)[:1] {
			x := cause(r, o, q)
			if x == nil || x.Status != code.Status {
				continue
			}
			if x.problem().Code == name {
				return true
			}
		}
	}
	return false
}

func codeOf(name string) *directory.Code {
	all := directory.Catalogue()
	return all[slices.IndexFunc(all, func(c *directory.Code) bool { return c.Name == name })]
}

// unfinished sends a request whose body does not end.
func (r *refusals) unfinished(q request) *exchange {
	r.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.hasty.URL, "http://"))
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	about := &http.Request{Method: q.method, Header: http.Header{}}
	about.SetBasicAuth("admin", "admin")
	_, err = fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: api.test\r\nAuthorization: %s\r\nContent-Type: %s\r\nContent-Length: 2\r\n\r\n{",
		q.method, q.path, about.Header.Get("Authorization"), q.headers[1])
	var response *http.Response
	if err == nil {
		response, err = http.ReadResponse(bufio.NewReader(conn), about)
	}
	if err != nil {
		r.t.Fatalf("%s %s without an end: %v", q.method, q.path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		r.t.Fatalf("%s %s without an end: %v", q.method, q.path, err)
	}
	return &exchange{r.t, q.method + " " + q.path, &client.Response{Status: response.StatusCode, Header: response.Header, Body: text}}
}

func newRefusals(t *testing.T) *refusals {
	t.Helper()
	r := &refusals{t: t, failure: directory.Internal}
	server := ldapdirtest.Start(t, slapd.Options{Seed: troubledEntries(t)})
	r.plain = newAPIOn(t, server)
	r.reset, r.expired, r.reader = r.plain.as("reset", somePassword), r.plain.as("expired", somePassword), r.plain.as("reader", somePassword)
	r.strict = newAPIOn(t, server, func(s *settings) { s.rest.RequireIfMatch = true })
	r.narrow = newAPIOn(t, server, func(s *settings) { s.rest.MaxBodyBytes = 1 })
	r.deep = newAPIOn(t, server, func(s *settings) {
		for i := range s.ldap.Mappings {
			s.ldap.Mappings[i].Deep = true
		}
	})
	r.locked = newAPIOn(t, server, func(s *settings) { s.auth.MaxFailures, s.auth.FailureWindow = 1, time.Hour })
	r.locked.as("admin", "wrong").do("GET", "/me", nil).want(401)
	r.hasty = newAPIOn(t, server)
	hasty := httptest.NewUnstartedServer(r.hasty.server.Config.Handler)
	hasty.Config.ReadTimeout, hasty.Config.ReadHeaderTimeout = 50*time.Millisecond, 10*time.Second // the second for the header only
	hasty.Start()
	t.Cleanup(hasty.Close)
	r.hasty.URL = hasty.URL
	between := func(d troubled) func(*settings) {
		return func(s *settings) {
			s.between = func(next directory.Directory) directory.Directory { d.Directory = next; return d }
		}
	}
	r.failing = newAPIOn(t, server, between(troubled{write: func() error { return &directory.Error{Code: r.failure} }}))
	r.doubtful = newAPIOn(t, server, between(troubled{
		update: func() error { return &directory.Error{Code: directory.NotFound} }, write: func() error { return &directory.Error{Code: directory.AlreadyExists} },
	}))
	r.fallen = newAPIOn(t, server, between(troubled{read: func() error { return errors.New("the sky has fallen") }}), func(s *settings) {
		s.rest.Authenticate = func(context.Context, auth.Credentials) (directory.Caller, error) {
			return directory.Caller{}, errors.New("the sky has fallen")
		}
	})

	impatient := func(s *settings) { s.ldap.Timeout, s.rest.RequestTimeout = 50*time.Millisecond, 100*time.Millisecond }
	r.killed = newAPIOn(t, ldapdirtest.Start(t, slapd.Options{}))
	r.paused = newAPIOn(t, ldapdirtest.Start(t, slapd.Options{}), impatient)
	if err := errors.Join(r.killed.slapd.Kill(), r.paused.slapd.Pause()); err != nil {
		t.Fatal(err)
	}
	r.unrelated = newAPIOn(t, withoutMemberOf(t))
	r.unsorted = newAPIOn(t, withHosts(t, 3, func(conf string) string {
		return strings.NewReplacer("\noverlay sssvlv\n", "\n", "\nmoduleload sssvlv\n", "\n").Replace(conf)
	}))
	r.limited = newAPIOn(t, withHosts(t, 3, func(conf string) string {
		return strings.Replace(conf, "size=unlimited time=unlimited", "size.soft=4 size.hard=unlimited size.prtotal=disabled time=unlimited", 1)
	}))
	return r
}

// troubledEntries are the sample directory, two entries of each name in the examples (one of them deeper), entries with
// others below them, and users who may do little.
func troubledEntries(t *testing.T) string {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	const person = "objectClass: inetOrgPerson\nsn: x"
	group := "objectClass: groupOfNames\nmember: " + adminDN
	var all strings.Builder
	entry := func(dn string, lines ...string) {
		fmt.Fprintf(&all, "\ndn: %s,%s\n%s\n", dn, ldapdirtest.Base, strings.Join(lines, "\n"))
	}
	for kind, class := range map[string]string{"ou=people": person, "ou=groups": group, "ou=hosts": "objectClass: device"} {
		name := map[string]string{"ou=people": "alice", "ou=groups": "devs", "ou=hosts": "web1"}[kind]
		entry("ou=more,"+kind, "objectClass: organizationalUnit", "ou: more")
		entry("cn="+name+",ou=more,"+kind, class, "cn: "+name)
		entry("cn=parent,"+kind, class, "cn: parent")
		entry("cn=child,cn=parent,"+kind, "objectClass: organizationalRole", "cn: child")
	}
	entry("cn=protected,ou=hosts", "objectClass: device", "cn: protected")
	entry("cn=old,ou=policies", "objectClass: organizationalRole", "objectClass: pwdPolicy", "cn: old", "pwdAttribute: userPassword", "pwdMaxAge: 1")
	for name, more := range map[string]string{
		"reset": "pwdReset: TRUE", "expired": "pwdChangedTime: 20200101000000Z\npwdPolicySubentry: cn=old,ou=policies," + ldapdirtest.Base,
		"reader": "memberOf: " + readerGroup,
	} {
		entry("cn="+name+",ou=people", person, "cn: "+name, "uid: "+name, "userPassword: "+somePassword, more)
	}
	entry("cn=readers,ou=groups", "objectClass: groupOfNames", "cn: readers", "member: cn=reader,ou=people,"+ldapdirtest.Base)
	return seed + all.String()
}

// troubled is a directory where reading one entry, changing one, or any other writing fails, if there is an error for it.
type troubled struct {
	directory.Directory
	read, update, write func() error
}

// Get implements [directory.Directory].
func (d troubled) Get(ctx context.Context, kind *directory.Kind, name string) (directory.Entry, error) {
	if d.read != nil {
		return directory.Entry{}, d.read()
	}
	return d.Directory.Get(ctx, kind, name)
}

// Update implements [directory.Directory].
func (d troubled) Update(ctx context.Context, kind *directory.Kind, name string, condition directory.Condition, change directory.Change) (directory.Entry, error) {
	if d.update != nil {
		return directory.Entry{}, d.update()
	}
	if d.write != nil {
		return directory.Entry{}, d.write()
	}
	return d.Directory.Update(ctx, kind, name, condition, change)
}

// Create implements [directory.Directory].
func (d troubled) Create(ctx context.Context, kind *directory.Kind, patch directory.Patch) (directory.Entry, error) {
	if d.write != nil {
		return directory.Entry{}, d.write()
	}
	return d.Directory.Create(ctx, kind, patch)
}

// Delete implements [directory.Directory].
func (d troubled) Delete(ctx context.Context, kind *directory.Kind, name string, condition directory.Condition) error {
	if d.write != nil {
		return d.write()
	}
	return d.Directory.Delete(ctx, kind, name, condition)
}

// Rename implements [directory.Directory].
func (d troubled) Rename(ctx context.Context, kind *directory.Kind, name, newName string, condition directory.Condition) (directory.Entry, error) {
	if d.write != nil {
		return directory.Entry{}, d.write()
	}
	return d.Directory.Rename(ctx, kind, name, newName, condition)
}

// ChangePassword implements [directory.Directory].
func (d troubled) ChangePassword(ctx context.Context, kind *directory.Kind, name string, change directory.PasswordChange) (directory.Entry, error) {
	if d.write != nil {
		return directory.Entry{}, d.write()
	}
	return d.Directory.ChangePassword(ctx, kind, name, change)
}

// SetToken implements [directory.Directory].
func (d troubled) SetToken(ctx context.Context, kind *directory.Kind, name, digest string) (directory.Entry, error) {
	if d.write != nil {
		return directory.Entry{}, d.write()
	}
	return d.Directory.SetToken(ctx, kind, name, digest)
}

// AddValue implements [directory.Directory].
func (d troubled) AddValue(ctx context.Context, kind *directory.Kind, name, field, value string, condition directory.Condition) error {
	if d.write != nil {
		return d.write()
	}
	return d.Directory.AddValue(ctx, kind, name, field, value, condition)
}

// RemoveValue implements [directory.Directory].
func (d troubled) RemoveValue(ctx context.Context, kind *directory.Kind, name, field, value string, condition directory.Condition) error {
	if d.write != nil {
		return d.write()
	}
	return d.Directory.RemoveValue(ctx, kind, name, field, value, condition)
}
