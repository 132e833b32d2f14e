package rest_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
)

// auditTrail keeps what is recorded of an API.
type auditTrail struct {
	mutex sync.Mutex
	lines []string
}

func (a *auditTrail) record(e directory.Event) {
	line, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.lines = append(a.lines, string(line))
}

// all returns the lines so far.
func (a *auditTrail) all() []string {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return slices.Clone(a.lines)
}

// of returns the events of a request.
func (a *auditTrail) of(x *exchange) []directory.Event {
	x.t.Helper()
	var events []directory.Event
	for _, line := range a.all() {
		var e directory.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			x.fail("not an event: %s", line)
		}
		if e.RequestID == x.Header.Get("X-Request-Id") {
			events = append(events, e)
		}
	}
	return events
}

// newAudited returns an API and its audit trail.
func newAudited(t *testing.T) (*api, *auditTrail) {
	trail := &auditTrail{}
	return newAPI(t, func(s *settings) { s.record = trail.record }), trail
}

func userDN(name string) string { return "cn=" + name + ",ou=people," + ldapdirtest.Base }

// turned is a field that got another value, "" for none.
func turned(field, before, after string) directory.FieldChange {
	c := directory.FieldChange{Field: field}
	if before != "" {
		c.Before = []string{before}
	}
	if after != "" {
		c.After = []string{after}
	}
	return c
}

func TestEveryAttemptToChangeIsOneEvent(t *testing.T) {
	a, trail := newAudited(t)
	admin, alice := a, a.as("alice", "alice-password")
	etag := a.do("GET", "/users/bob", nil).etag()
	type changes = []directory.FieldChange
	for _, c := range []struct {
		what         string
		by           *api
		method, path string
		body         any
		headers      []string
		status       int
		want         directory.Event // what depends on the row
	}{
		{"a creation", admin, "POST", "/users", object{"cn": "zed", "sn": "Zed", "userPassword": "Planted-passw0rd!"}, nil, 201,
			directory.Event{Action: directory.ActionCreate, Name: "zed", DN: userDN("zed"), Result: "ok", Changes: changes{
				turned("cn", "", "zed"), turned("uid", "", "zed"), turned("sn", "", "Zed"),
				turned("userPassword", "", "***"), turned("accountLocked", "", "false")}}},
		{"a creation of what exists", admin, "POST", "/users", object{"cn": "bob", "sn": "B"}, nil, 409,
			directory.Event{Action: directory.ActionCreate, Name: "bob", Result: "already-exists", Changes: changes{
				turned("cn", "", "bob"), turned("sn", "", "B")}}},
		{"an invalid creation", admin, "POST", "/users", object{"cn": "yan", "sn": "Y", "mail": "hunter2", "pass": "hunter2"}, nil, 422,
			directory.Event{Action: directory.ActionCreate, Name: "yan", Result: "invalid", Faulty: []string{"mail", "pass"}, Changes: changes{
				turned("cn", "", "yan"), turned("sn", "", "Y")}}},
		{"a change", admin, "PATCH", "/users/bob", object{"title": "Chief", "mobile": nil, "sn": "Hartmann"}, nil, 200,
			directory.Event{Action: directory.ActionChange, Name: "bob", DN: userDN("bob"), Result: "ok", Changes: changes{
				turned("mobile", "+31 6 5550 0102", ""), turned("title", "System administrator", "Chief")}}},
		{"a change to what is there already", admin, "PATCH", "/users/bob", object{"title": "Chief"}, nil, 200,
			directory.Event{Action: directory.ActionChange, Name: "bob", DN: userDN("bob"), Result: "ok"}},
		{"a password among the fields", admin, "PATCH", "/users/zed", object{"userPassword": "Planted-passw0rd!2"}, nil, 200,
			directory.Event{Action: directory.ActionChange, Name: "zed", DN: userDN("zed"), Result: "ok", Changes: changes{
				turned("userPassword", "***", "***")}}},
		{"an invalid change", admin, "PATCH", "/users/bob", object{"title": "CEO", "sn": nil, "passwort": "hunter2"}, nil, 422,
			directory.Event{Action: directory.ActionChange, Name: "bob", DN: userDN("bob"), Result: "invalid", Faulty: []string{"passwort", "sn"},
				Changes: changes{turned("title", "Chief", "CEO")}}},
		{"a stale change", admin, "PATCH", "/users/bob", object{"title": "x"}, []string{"If-Match", etag}, 412,
			directory.Event{Action: directory.ActionChange, Name: "bob", Result: "stale"}},
		{"a change of nobody", admin, "PATCH", "/users/nobody", object{"title": "x"}, nil, 404,
			directory.Event{Action: directory.ActionChange, Name: "nobody", Result: "not-found"}},
		{"a change of another", alice, "PATCH", "/users/bob", object{"title": "x"}, nil, 403,
			directory.Event{Action: directory.ActionChange, Name: "bob", Result: "forbidden"}},
		{"a change of one's own field", alice, "PATCH", "/users/alice", object{"displayName": "Alice"}, nil, 200,
			directory.Event{Action: directory.ActionChange, Name: "alice", DN: userDN("alice"), Result: "ok", Changes: changes{
				turned("displayName", "Alice Liddell", "Alice")}}},
		{"a change of a field that is not for oneself", alice, "PATCH", "/users/alice", object{"title": "Queen"}, nil, 403,
			directory.Event{Action: directory.ActionChange, Name: "alice", DN: userDN("alice"), Result: "forbidden", Changes: changes{
				turned("title", "Software engineer", "Queen")}}},
		{"a replacement", admin, "PUT", "/users/zed", object{"sn": "Zet"}, nil, 200,
			directory.Event{Action: directory.ActionChange, Name: "zed", DN: userDN("zed"), Result: "ok", Changes: changes{turned("sn", "Zed", "Zet")}}},
		{"a new member", admin, "PUT", "/groups/devs/members/users/zed", nil, nil, 204,
			directory.Event{Action: directory.ActionChange, Kind: "groups", Name: "devs", Result: "ok", Changes: changes{turned("members", "", "users/zed")}}},
		{"members that come", admin, "PATCH", "/groups/contractors", object{"members": []string{"users/zed"}}, nil, 200,
			directory.Event{Action: directory.ActionChange, Kind: "groups", Name: "contractors", DN: "cn=contractors,ou=groups," + ldapdirtest.Base,
				Result: "ok", Changes: changes{turned("members", "", userDN("zed"))}}},
		{"members that come and go", admin, "PATCH", "/groups/contractors", object{"members": []string{"users/bob"}}, nil, 200,
			directory.Event{Action: directory.ActionChange, Kind: "groups", Name: "contractors", DN: "cn=contractors,ou=groups," + ldapdirtest.Base,
				Result: "ok", Changes: changes{turned("members", userDN("zed"), userDN("bob"))}}},
		{"a member less", admin, "DELETE", "/groups/devs/members/users/zed", nil, nil, 204,
			directory.Event{Action: directory.ActionChange, Kind: "groups", Name: "devs", Result: "ok", Changes: changes{turned("members", "users/zed", "")}}},
		{"a member that is nobody", admin, "PUT", "/groups/devs/members/users/nobody", nil, nil, 404,
			directory.Event{Action: directory.ActionChange, Kind: "groups", Name: "devs", Result: "not-found",
				Changes: changes{turned("members", "", "users/nobody")}}},
		{"a deletion by another", alice, "DELETE", "/users/bob", nil, nil, 403,
			directory.Event{Action: directory.ActionDelete, Name: "bob", DN: userDN("bob"), Result: "forbidden"}},
		{"a deletion of what is protected", admin, "DELETE", "/users/admin", nil, nil, 403,
			directory.Event{Action: directory.ActionDelete, Name: "admin", DN: userDN("admin"), Result: "protected-entry"}},
		{"a deletion", admin, "DELETE", "/users/zed", nil, nil, 204,
			directory.Event{Action: directory.ActionDelete, Name: "zed", DN: userDN("zed"), Result: "ok", Changes: changes{
				turned("cn", "zed", ""), turned("uid", "zed", ""), turned("sn", "Zet", ""), turned("accountLocked", "false", "")}}},
		{"a deletion of nobody", admin, "DELETE", "/users/zed", nil, nil, 404,
			directory.Event{Action: directory.ActionDelete, Name: "zed", Result: "not-found"}},
		{"one's own password", alice, "PUT", "/users/alice/password",
			object{"currentPassword": "alice-password", "newPassword": "Planted-passw0rd!3"}, nil, 204,
			directory.Event{Action: directory.ActionChangePassword, Name: "alice", DN: userDN("alice"), Result: "ok", Changes: changes{
				turned("userPassword", "***", "***")}}},
		{"one's own password without the old one", a.as("alice", "Planted-passw0rd!3"), "PUT", "/users/alice/password",
			object{"newPassword": "Planted-passw0rd!4"}, nil, 422,
			directory.Event{Action: directory.ActionSetPassword, Name: "alice", Result: "invalid", Faulty: []string{"currentPassword"}, Changes: changes{
				turned("userPassword", "***", "***")}}},
		{"a refused password", admin, "PUT", "/users/bob/password", object{"newPassword": "short"}, nil, 422,
			directory.Event{Action: directory.ActionSetPassword, Name: "bob", Result: "password-refused", Faulty: []string{"newPassword"}, Changes: changes{
				turned("userPassword", "***", "***")}}},
		{"somebody else's password", a.as("alice", "Planted-passw0rd!3"), "PUT", "/users/bob/password", object{"newPassword": "Planted-passw0rd!"}, nil, 403,
			directory.Event{Action: directory.ActionSetPassword, Name: "bob", Result: "forbidden", Changes: changes{turned("userPassword", "***", "***")}}},
	} {
		before := len(trail.all())
		x := c.by.do(c.method, c.path, c.body, c.headers...).want(c.status)
		events := trail.of(x)
		if len(events) != 1 || len(trail.all()) != before+1 {
			x.fail("%s: there are %d events, want one: %+v", c.what, len(events), events)
		}
		got, want := events[0], c.want
		if got.Time.IsZero() || got.CallerID == "" || (got.ID == "") != (got.DN == "") {
			x.fail("%s: no time or no ids: %+v", c.what, got)
		}
		got.Time, got.ID, got.CallerID = want.Time, "", ""
		want.RequestID, want.Caller, want.Address, want.Roles = x.Header.Get("X-Request-Id"), c.by.Login, "127.0.0.1", []directory.Role{}
		if c.by == admin {
			want.Roles = []directory.Role{directory.RoleAdmin}
		}
		if want.Kind == "" {
			want.Kind = "users"
		}
		if diff := cmp.Diff(want, got); diff != "" {
			x.fail("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

func TestReadsLeaveNoEvent(t *testing.T) {
	a, trail := newAudited(t)
	for _, path := range []string{"/users", "/users/alice", "/users/nobody", "/groups/devs/members", "/errors"} {
		a.do("GET", path, nil)
	}
	a.do("POST", "/users", "no JSON").refused(directory.BadRequest)
	if lines := trail.all(); len(lines) > 0 {
		t.Errorf("there is %q", lines)
	}
}

func TestAReplacementThatCreatesIsAnAttemptToChangeAndACreation(t *testing.T) {
	a, trail := newAudited(t)
	var got []string
	for _, e := range trail.of(a.do("PUT", "/users/zed", object{"sn": "Zed"}).want(201)) {
		got = append(got, fmt.Sprintf("%s %s %s", e.Action, e.Name, e.Result))
	}
	if want := []string{"change zed not-found", "create zed ok"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNoEventHoldsASecret(t *testing.T) {
	a, trail := newAudited(t)
	const planted = "Planted-5ecret-passw0rd"
	alice := a.as("alice", "alice-password")
	for i, x := range []*exchange{
		a.do("POST", "/users", object{"cn": "zed", "sn": "Zed", "userPassword": planted}).want(201),
		a.do("PATCH", "/users/zed", object{"userPassword": planted + "1"}).want(200),
		a.do("PUT", "/users/zed", object{"sn": "Zed", "userPassword": planted + "2"}).want(200),
		a.do("DELETE", "/users/zed", nil).want(204),
		a.do("POST", "/users", object{"cn": "yan", "userPassword": planted}).want(422),
		a.do("POST", "/users", object{"cn": "yan", "sn": "Y", "userPassword": "{CLEARTEXT}" + planted}).want(422),
		a.do("PATCH", "/users/bob", object{"userPassword": []string{planted}}).want(422),
		a.do("PATCH", "/users/bob", object{"userPassword": planted, "passwort": planted}).want(422),
		a.do("PATCH", "/users/bob", object{"password": planted, "newPassword": planted}).want(422),
		a.do("PATCH", "/users/bob", object{"mail": planted}).want(422),
		a.do("PATCH", "/users/bob", object{"telephoneNumber": planted + "é"}).want(422),
		a.do("PATCH", "/users/bob", `{"title": "`+planted+`", "title": "x"}`).want(422),
		a.do("PATCH", "/users/bob", object{"memberOfs": []string{planted}}).want(422),
		a.do("PATCH", "/users/bob", object{"sshPublicKeys": []string{planted}}).want(422),
		a.do("PUT", "/hosts/web9", object{"userPassword": planted}).want(422),
		alice.do("PATCH", "/users/alice", object{"userPassword": planted, "mail": planted, "passwort": planted}).want(403),
		alice.do("PATCH", "/users/bob", object{"userPassword": planted}).want(403),
		alice.do("PUT", "/users/alice/password", object{"currentPassword": planted, "newPassword": planted + "3"}),
		alice.do("PUT", "/users/bob/password", object{"newPassword": planted}).want(403),
		a.do("PUT", "/users/bob/password", object{"newPassword": planted + "4", "mustChange": true}),
		a.do("PUT", "/users/bob/password", object{"currentPassword": planted, "newPassword": planted}),
	} {
		if events := trail.of(x); len(events) == 0 {
			x.fail("request %d left no event", i)
		}
	}
	generated := a.do("PUT", "/users/bob/password", object{"generate": true}).want(200).object()["newPassword"].(string)
	secrets := []string{planted, "alice-password", "{ARGON2}", generated}
	for _, line := range trail.all() {
		for _, secret := range secrets {
			if strings.Contains(line, secret) {
				t.Errorf("a secret is recorded: %s", line)
			}
		}
	}
}

func TestAResetSaysWhetherThePasswordMustBeChangedAgain(t *testing.T) {
	a, trail := newAudited(t)
	events := trail.of(a.do("PUT", "/users/bob/password", object{"newPassword": "Planted-passw0rd!", "mustChange": true}).want(204))
	want := []directory.FieldChange{turned("userPassword", "***", "***"), turned("mustChange", "", "true")}
	if len(events) != 1 || !cmp.Equal(events[0].Changes, want) || events[0].Action != directory.ActionSetPassword || events[0].Name != "bob" {
		t.Errorf("got %+v, want %+v", events, want)
	}
}

func TestManyWritersLeaveAnEventEach(t *testing.T) {
	a, trail := newAudited(t)
	const writers = 32
	answers := make([]*exchange, writers)
	var writing sync.WaitGroup
	for i := range writers {
		writing.Go(func() { answers[i] = a.do("PATCH", "/users/bob", object{"title": fmt.Sprintf("title %d", i)}) })
	}
	writing.Wait()
	before := map[string]int{}
	for i, x := range answers {
		events := trail.of(x)
		if len(events) != 1 {
			x.fail("there are %d events of one request", len(events))
		}
		if x.Status == 200 {
			c := events[0].Changes
			if len(c) != 1 || !slices.Equal(c[0].After, []string{fmt.Sprintf("title %d", i)}) {
				x.fail("got %+v", c)
			}
			before[c[0].Before[0]]++
		}
	}
	for title, n := range before { // one after the other, each found what the one before had left
		if n != 1 {
			t.Errorf("%d changes found the title %q", n, title)
		}
	}
	if n := len(trail.all()); n != writers {
		t.Errorf("there are %d events, want %d", n, writers)
	}
}

func TestALineFeedInANameDoesNotEndTheLine(t *testing.T) {
	a, trail := newAudited(t)
	const name = "bob\n{\"caller\":\"forged\",\"result\":\"ok\"}\r\u2028x"
	events := trail.of(a.do("PATCH", "/users/bob%0A%7B%22caller%22:%22forged%22,%22result%22:%22ok%22%7D%0D%E2%80%A8x", object{"title": "x"}).want(404))
	if len(events) != 1 || events[0].Name != name {
		t.Errorf("got %+v", events)
	}
	for _, line := range trail.all() {
		if strings.ContainsAny(line, "\n\r\u2028") {
			t.Errorf("a line is broken: %q", line)
		}
	}
}
