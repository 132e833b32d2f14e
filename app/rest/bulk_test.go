package rest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

var asLines = []string{"Content-Type", "application/x-ndjson"}

// lineResult is what became of a line, in a dry run too.
type lineResult struct {
	Line, Status   int
	Name           string
	Location, ETag string
	Problem        *client.Problem
	DryRun         bool
	AskedDirectory bool
	Changes        []directory.Record
}

// outcome is a result in short: its line, its status, the code of its problem and the fields at fault.
func (r lineResult) outcome() string {
	text := fmt.Sprintf("%d: %d", r.Line, r.Status)
	if r.Problem != nil {
		text += " " + r.Problem.Code
		for _, v := range r.Problem.Violations {
			text += " " + v.Field
		}
	}
	return text
}

// results demands success and the results of so many lines.
func (x *exchange) results(n int) []lineResult {
	x.t.Helper()
	x.want(200)
	if got := x.Header.Get("Content-Type"); got != "application/x-ndjson" {
		x.fail("results are %s", got)
	}
	var all []lineResult
	for text := range bytes.Lines(x.Body) {
		var r lineResult
		if err := json.Unmarshal(text, &r); err != nil {
			x.fail("no result: %s", text)
		}
		if p := r.Problem; (p != nil) != (r.Status >= 400) || p != nil && (p.Status != r.Status || p.RequestID != x.Header.Get("X-Request-Id") || p.Title == "") {
			x.fail("the problem is not what the result says: %s", text)
		}
		all = append(all, r)
	}
	if len(all) != n {
		x.fail("%d results, want %d", len(all), n)
	}
	return all
}

// outcomes demands results, and that they are these in short.
func (x *exchange) outcomes(want ...string) []lineResult {
	x.t.Helper()
	results := x.results(len(want))
	for i, r := range results {
		if r.outcome() != want[i] {
			x.fail("got %q, want %q", r.outcome(), want[i])
		}
	}
	return results
}

// ndjsonOf returns a body with a line for each value.
func ndjsonOf(values ...any) string {
	var b strings.Builder
	for _, v := range values {
		b.WriteString(mustJSON(v) + "\n")
	}
	return b.String()
}

// conversation is a bulk request whose lines are sent one by one.
type conversation struct {
	t       *testing.T
	lines   *io.PipeWriter
	answers chan *http.Response
	answer  *http.Response
	results *bufio.Reader
	cancel  context.CancelFunc
}

// converse begins a bulk request.
func (a *api) converse(t *testing.T, method, path string) *conversation {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	body, lines := io.Pipe()
	r, err := http.NewRequestWithContext(ctx, method, a.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", asLines[1])
	if a.Token == "" {
		r.SetBasicAuth(a.Login, a.Password)
	} else {
		r.Header.Set("Authorization", "Bearer "+a.Token)
	}
	c := &conversation{t: t, lines: lines, answers: make(chan *http.Response, 1), cancel: cancel}
	go func() {
		defer close(c.answers)
		if answer, err := a.HTTP.Do(r); err == nil {
			c.answers <- answer
		}
	}()
	t.Cleanup(func() {
		cancel()
		_ = lines.Close()
		if c.answer != nil {
			_ = c.answer.Body.Close()
		}
	})
	return c
}

// send sends a line for each value.
func (c *conversation) send(values ...any) {
	c.t.Helper()
	for _, v := range values {
		if _, err := io.WriteString(c.lines, ndjsonOf(v)); err != nil {
			c.t.Fatalf("sending %v: %v", v, err)
		}
	}
}

// read returns the next line of the answer.
func (c *conversation) read() ([]byte, error) {
	if c.answer == nil {
		if c.answer = <-c.answers; c.answer == nil {
			return nil, errors.New("there was no answer")
		}
		c.results = bufio.NewReader(c.answer.Body)
	}
	return c.results.ReadBytes('\n')
}

// next demands that the next result is this in short.
func (c *conversation) next(want string) lineResult {
	c.t.Helper()
	text, err := c.read()
	var r lineResult
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil || r.outcome() != want {
		c.t.Fatalf("got %v and %s, want %s", err, text, want)
	}
	return r
}

// end sends no more, and demands that the answer ends.
func (c *conversation) end() {
	c.t.Helper()
	_ = c.lines.Close()
	if text, err := c.read(); !errors.Is(err, io.EOF) || len(text) > 0 {
		c.t.Fatalf("after the last result comes %q, %v", text, err)
	}
}

// overHTTP2 returns the API at another address, where it speaks HTTP/2.
func (a *api) overHTTP2(t *testing.T, change ...func(*http.Server)) *api {
	t.Helper()
	server := httptest.NewUnstartedServer(a.server.Config.Handler)
	server.EnableHTTP2 = true
	for _, f := range change {
		f(server.Config)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	other, c := *a, *a.Client
	c.URL, c.HTTP = server.URL, server.Client()
	other.Client, other.server = &c, server
	return &other
}

// overBoth runs a test over HTTP/1.1 and over HTTP/2.
func overBoth(t *testing.T, test func(t *testing.T, connect func(*testing.T, *api) *api)) {
	t.Run("HTTP/1.1", func(t *testing.T) { test(t, func(_ *testing.T, a *api) *api { return a }) })
	t.Run("HTTP/2", func(t *testing.T) { test(t, func(t *testing.T, a *api) *api { return a.overHTTP2(t) }) })
}

// watched is a directory in which somebody is told of each creation before it takes place.
type watched struct {
	directory.Directory
	creating func(name string)
}

// Create tells, and creates.
func (w watched) Create(ctx context.Context, kind *directory.Kind, patch directory.Patch) (directory.Entry, error) {
	w.creating(patch.Set[kind.Key][0])
	return w.Directory.Create(ctx, kind, patch)
}

func creating(tell func(name string)) func(*settings) {
	return func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory { return watched{d, tell} }
	}
}

func TestEachLineIsAnsweredAsARequestOfItsOwn(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.MaxBodyBytes = 1000 })
	a.newGroups("team")
	long := strings.Repeat("x", 1000)
	for _, c := range []struct {
		method, path, text string
		want               []string
	}{
		{"POST", "/users", `{"cn":"a1","sn":"x"}`, []string{"1: 201"}},
		{"POST", "/users", `{"cn":"alice","sn":"x"}`, []string{"1: 409 already-exists"}},
		{"POST", "/users", `{"cn":"a2"}`, []string{"1: 422 invalid sn"}},
		{"POST", "/users", `{"cn":"a2","sn":"x","mail":"nowhere","shoe":1}`, []string{"1: 422 invalid shoe mail"}},
		{"POST", "/users", `{"cn":"a2","sn":"x","mail":"alice@example.org"}`, []string{"1: 422 invalid mail"}},
		{"POST", "/users", `{"cn":"a2","sn":"x","userPassword":"short"}`, []string{"1: 422 password-refused userPassword"}},
		{"POST", "/users", `{"cn":"a2","cn":"a3","sn":"x"}`, []string{"1: 422 invalid cn"}},
		{"POST", "/users", `{"cn":7,"sn":"x"}`, []string{"1: 422 invalid cn"}},
		{"POST", "/users", `{"sn":"x"}`, []string{"1: 422 invalid cn"}},
		{"POST", "/users", `{"cn":"a3","sn":"x","memberOfs":["groups/team"]}`, []string{"1: 201"}},
		{"POST", "/users", `{"cn":"a4","sn":"x","memberOfs":["groups/none"]}`, []string{"1: 422 invalid memberOfs"}},
		{"POST", "/hosts", `{"cn":"a5","owners":["users/alice"]}`, []string{"1: 201"}},
		{"POST", "/users", `not JSON`, []string{"1: 400 bad-request"}},
		{"POST", "/users", `[]`, []string{"1: 400 bad-request"}},
		{"POST", "/users", `{"cn":"a6","sn":"x"}{"cn":"a7","sn":"x"}`, []string{"1: 400 bad-request"}},
		{"POST", "/users", "{\"cn\":\"a6\xff\",\"sn\":\"x\"}", []string{"1: 400 bad-request"}},
		{"POST", "/users", `{"cn":"a6","sn":"` + long + `"}` + "\n" + `{"cn":"a6","sn":"x"}`, []string{"1: 413 body-too-large", "2: 201"}},
		{"POST", "/users", long + long + strings.Repeat(long, 100), []string{"1: 413 body-too-large"}},

		{"POST", "/users", "", nil},
		{"POST", "/users", "\n \t\r\n\n", nil},
		{"POST", "/users", "\n\n{\"cn\":\"b1\",\"sn\":\"x\"}\r\n\r\n{\"cn\":\"b2\",\"sn\":\"x\"}", []string{"3: 201", "5: 201"}},
		{"POST", "/users", "\ufeff{\"cn\":\"b3\",\"sn\":\"x\"}\n\ufeff{\"cn\":\"b4\",\"sn\":\"x\"}\n", []string{"1: 201", "2: 400 bad-request"}},
		{"POST", "/users", "\ufeff\n{\"cn\":\"b4\",\"sn\":\"x\"}\n", []string{"2: 201"}},
		{"POST", "/users?onError=continue", "{}\n{\"cn\":\"b5\",\"sn\":\"x\"}\n", []string{"1: 422 invalid cn sn", "2: 201"}},

		{"PUT", "/users", `{"cn":"c1","sn":"x","title":"t"}`, []string{"1: 201"}},
		{"PUT", "/users", `{"cn":"c1","sn":"y"}`, []string{"1: 200"}},
		{"PUT", "/users", `{"cn":"c1","sn":"y"}`, []string{"1: 200"}},
		{"PUT", "/users", `{"cn":"c1"}`, []string{"1: 422 invalid sn"}},
		{"PUT", "/users", `{"sn":"y"}`, []string{"1: 422 invalid cn"}},
		{"PUT", "/users", `{"cn":"","sn":"y"}`, []string{"1: 422 invalid cn"}},
		{"PUT", "/users", `{"cn":["c1"],"sn":"y"}`, []string{"1: 422 invalid cn"}},
		{"PUT", "/users", `{"cn":"c/2 #?","sn":"y"}`, []string{"1: 201"}},
		{"PUT", "/groups", `{"cn":"admins"}`, []string{"1: 409 last-admin"}},
		{"PUT", "/groups", `{"cn":"team","members":["users/a3","users/bob"]}`, []string{"1: 200"}},
	} {
		x := a.do(c.method, c.path, c.text, asLines...)
		for _, r := range x.outcomes(c.want...) {
			if r.Problem != nil {
				if want := strings.TrimSuffix(c.path, "?onError=continue"); !strings.HasPrefix(r.Problem.Instance, want) || r.ETag != "" || r.Location != "" {
					x.fail("the problem is not one of %s", want)
				}
				continue
			}
			path := client.Path(strings.TrimSuffix(c.path, "?onError=continue")[1:], r.Name)
			read := a.do("GET", path, nil).want(200)
			if r.ETag != read.etag() {
				x.fail("the ETag of %s is %s when it is read", r.Name, read.etag())
			}
			if created := r.Status == 201; created != (r.Location != "") || created && r.Location != a.URL+path {
				x.fail("Location is %s", r.Location)
			}
		}
	}
	a.do("GET", "/users/c1", nil).want(200).field("sn", "y").field("title", nil)
	a.isIn("a line with memberships", "/users/a3", "team")
}

func TestWhatIsWrongWithTheRequestIsSaidBeforeAnyLine(t *testing.T) {
	a := newAPI(t)
	const text = `{"cn":"new","sn":"x"}`
	for _, c := range []struct {
		what    string
		as      *api
		query   string
		headers []string
		code    *directory.Code
	}{
		{"nobody", a.as("", ""), "", nil, directory.CredentialsRequired},
		{"a wrong password", a.as("admin", "wrong"), "", nil, directory.InvalidCredentials},
		{"another type wanted", a, "", []string{"Accept", "application/json"}, directory.NotAcceptable},
		{"LDIF of what is no dry run", a, "", []string{"Accept", "text/ldif"}, directory.NotAcceptable},
		{"another charset", a, "", []string{"Content-Type", "application/x-ndjson; charset=latin1"}, directory.UnsupportedMediaType},
		{"compressed", a, "", []string{"Content-Encoding", "gzip"}, directory.UnsupportedMediaType},
		{"a condition", a, "", []string{"If-Match", "*"}, directory.BadRequest},
		{"another condition", a, "", []string{"If-None-Match", "*"}, directory.BadRequest},
		{"another word for stop", a, "?onError=halt", nil, directory.BadRequest},
		{"no word for stop", a, "?onError=", nil, directory.BadRequest},
		{"a word twice", a, "?onError=stop&onError=stop", nil, directory.BadRequest},
		{"a parameter misspelt", a, "?onerror=stop", nil, directory.BadRequest},
		{"another word for true", a, "?dryRun=yes", nil, directory.BadRequest},
	} {
		for _, method := range []string{"POST", "PUT"} {
			t.Logf("%s, %s", c.what, method)
			c.as.do(method, "/users"+c.query, text, append(slices.Clone(asLines), c.headers...)...).refused(c.code)
		}
	}
	a.do("GET", "/users/new", nil).want(404)
}

func TestResultsComeWhileLinesAreStillSent(t *testing.T) {
	overBoth(t, func(t *testing.T, connect func(*testing.T, *api) *api) {
		a := connect(t, newAPI(t))
		c := a.converse(t, "POST", "/users")
		for i := range 100 { // more than wait for anything
			c.send(object{"cn": fmt.Sprintf("n%d", i), "sn": "x"})
			c.next(fmt.Sprintf("%d: 201", i+1))
		}
		c.end()
	})
}

// TestResultsAreInTheOrderOfTheirLines although the first is the last that is done.
func TestResultsAreInTheOrderOfTheirLines(t *testing.T) {
	others := make(chan struct{}, 8)
	a := newAPI(t, creating(func(name string) {
		if name != "first" {
			others <- struct{}{}
			return
		}
		for range 7 {
			<-others
		}
	}))
	values, want := []any{object{"cn": "first", "sn": "x"}}, []string{"1: 201"}
	for i := range 7 {
		values, want = append(values, object{"cn": fmt.Sprintf("n%d", i), "sn": "x"}), append(want, fmt.Sprintf("%d: 201", i+2))
	}
	a.do("POST", "/users", ndjsonOf(values...), asLines...).outcomes(want...)
}

func TestMoreLinesThanFit(t *testing.T) {
	const n = 2000
	overBoth(t, func(t *testing.T, connect func(*testing.T, *api) *api) {
		a := connect(t, newAPI(t))
		var text strings.Builder
		for i := range n {
			if i%10 == 9 {
				fmt.Fprintln(&text, `{"cn":`)
				continue
			}
			fmt.Fprintf(&text, `{"cn":"h%d","description":"%0100d"}`+"\n", i, i)
		}
		x := a.do("POST", "/hosts", text.String(), asLines...)
		for i, r := range x.results(n) {
			want := fmt.Sprintf("%d: 201", i+1)
			if i%10 == 9 {
				want = fmt.Sprintf("%d: 400 bad-request", i+1)
			}
			if r.outcome() != want || r.Problem == nil && r.Name != fmt.Sprintf("h%d", i) {
				t.Fatalf("got %+v, want %s", r, want)
			}
		}
		if count := a.do("GET", "/hosts?limit=1&count=true&filter="+url.QueryEscape(`description pr and cn sw "h"`), nil).want(200).Header.Get("X-Total-Count"); count != fmt.Sprint(n-n/10) {
			t.Errorf("there are %s", count)
		}
		if got := a.logged(x)["lines"]; got != float64(n) {
			x.fail("%v lines are in the log", got)
		}
	})
}

func TestALineSeesWhatThoseBeforeItHaveDone(t *testing.T) {
	a := newAPI(t)
	a.newGroups("team")
	a.do("PATCH", "/users/bob", object{"mail": "bob@example.org"}).want(200)
	nested, made := []any{object{"cn": "nested0"}}, []string{"1: 201"}
	for i := range 29 {
		before := []string{fmt.Sprintf("groups/nested%d", i), groupDN(fmt.Sprintf("nested%d", i))}[i%2]
		nested, made = append(nested, object{"cn": fmt.Sprintf("nested%d", i+1), "members": []string{before}}), append(made, fmt.Sprintf("%d: 201", i+2))
	}
	for _, c := range []struct {
		what, method, path string
		values             []any
		want               []string
	}{
		{"members that are earlier lines", "POST", "/groups", nested, made},
		{"owners that are earlier lines", "POST", "/hosts", []any{object{"cn": "o1"}, object{"cn": "o2", "owners": []string{"hosts/o1"}}}, []string{"1: 201", "2: 201"}},
		{"a member that is a later line", "POST", "/groups", []any{object{"cn": "m1", "members": []string{"groups/m2"}}, object{"cn": "other"}, object{"cn": "m2", "members": []string{"users/none"}}},
			[]string{"1: 422 invalid members", "2: 201", "3: 422 invalid members"}},
		{"a name twice, created", "POST", "/users", []any{object{"cn": "twice", "sn": "1"}, object{"cn": "TWICE", "sn": "2"}}, []string{"1: 201", "2: 409 already-exists"}},
		{"a name thrice, replaced", "PUT", "/users", []any{object{"cn": "thrice", "sn": "1"}, object{"cn": "thrice", "sn": "2", "title": "t"}, object{"cn": "thrice", "sn": "3"}},
			[]string{"1: 201", "2: 200", "3: 200"}},
		{"a login name twice", "PUT", "/users", []any{object{"cn": "login", "sn": "1"}, object{"cn": "l2", "uid": "LOGIN", "sn": "2"}}, []string{"1: 201", "2: 422 invalid uid"}},
		{"a mail address twice", "POST", "/users", []any{object{"cn": "e1", "sn": "1", "mail": "e@example.org"}, object{"cn": "e2", "sn": "2", "mail": "E@example.org"}},
			[]string{"1: 201", "2: 422 invalid mail"}},
		{"a mail address that the line before gives up", "PUT", "/users", []any{object{"cn": "bob", "sn": "Hartmann"}, object{"cn": "e3", "sn": "1", "mail": "bob@example.org"}},
			[]string{"1: 200", "2: 201"}},
		{"many who join one group", "POST", "/users", []any{
			object{"cn": "j1", "sn": "1", "memberOfs": refs("team")}, object{"cn": "j2", "sn": "1", "memberOfs": refs("team")}, object{"cn": "j3", "sn": "1", "memberOfs": refs("team")}},
			[]string{"1: 201", "2: 201", "3: 201"}},
	} {
		t.Log(c.what)
		a.do(c.method, c.path, ndjsonOf(c.values...), asLines...).outcomes(c.want...)
	}
	a.do("GET", "/users/thrice", nil).want(200).field("sn", "3").field("title", nil)
	a.do("GET", "/users/twice", nil).want(200).field("sn", "1")
	for i := range 29 {
		a.do("GET", fmt.Sprintf("/groups/nested%d", i+1), nil).want(200).field("members", []string{groupDN(fmt.Sprintf("nested%d", i))})
	}
	if members := a.do("GET", "/groups/team/members", nil).want(200); strings.Count(string(members.Body), "cn=j") != 3 {
		members.fail("not all have joined")
	}
}

// TestALineThatMissesOneBeforeItIsTriedOnceMore: both attempts are in the audit trail.
func TestALineThatMissesOneBeforeItIsTriedOnceMore(t *testing.T) {
	trail := &auditTrail{}
	refused := func() bool {
		return slices.ContainsFunc(trail.all(), func(line string) bool {
			return strings.Contains(line, `"outer"`) && strings.Contains(line, `"invalid"`)
		})
	}
	a := newAPI(t, func(s *settings) { s.record = trail.record }, creating(func(name string) {
		for range 5000 { // until the line after it was refused
			if name != "inner" || refused() {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Error("the line was not tried before the one that it misses was done")
	}))
	x := a.do("POST", "/groups", ndjsonOf(object{"cn": "inner"}, object{"cn": "outer", "members": refs("inner")}), asLines...)
	x.outcomes("1: 201", "2: 201")
	var got []string
	for _, e := range trail.of(x) {
		got = append(got, e.Name+" "+e.Result)
	}
	if want := []string{"outer invalid", "inner ok", "outer ok"}; !slices.Equal(got, want) {
		x.fail("the audit trail is %q, want %q", got, want)
	}
}

func TestOnErrorStopBeginsNothingAfterTheFirstThatFails(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.BulkConcurrency = 1 })
	for i, bad := range []any{object{"cn": "x"}, "no object", object{"cn": "bob", "sn": "x"}, object{"cn": "x", "sn": "x", "memberOfs": refs("none")}} {
		values := []any{object{"cn": fmt.Sprintf("first%d", i), "sn": "x"}, object{"cn": fmt.Sprintf("second%d", i), "sn": "x"}, bad}
		for j := range 100 {
			values = append(values, object{"cn": fmt.Sprintf("after%d-%d", i, j), "sn": "x"})
		}
		x := a.do("POST", "/users?onError=stop", ndjsonOf(values...), asLines...).want(200)
		results := x.results(bytes.Count(x.Body, []byte("\n")))
		for j, r := range results {
			if good := r.Status == 201; good != (j < 2) || (r.Status == 424) != (j > 2) || r.Line != j+1 {
				x.fail("not what was expected of line %d", j+1)
			}
		}
		if len(results) < 3 {
			x.fail("there are results missing")
		}
		a.do("GET", fmt.Sprintf("/users/after%d-0", i), nil).want(404)
	}
}

// TestOnErrorStopEndsWhatComesBefore: the first that fails is the first in order, whichever failed first.
func TestOnErrorStopEndsWhatComesBefore(t *testing.T) {
	overBoth(t, func(t *testing.T, connect func(*testing.T, *api) *api) {
		begun := make(chan struct{})
		var once sync.Once
		a := connect(t, newAPI(t, creating(func(name string) {
			if name == "first" {
				<-begun
			} else {
				once.Do(func() { close(begun) })
			}
		})))
		c := a.converse(t, "PUT", "/users?onError=stop")
		c.send(object{"cn": "first", "sn": "x"}, object{"cn": "first", "sn": "y"}, "no object", object{"cn": "bob", "sn": "x", "mail": "nowhere"})
		sent := make(chan int)
		go func() { // without end: the server must stop reading
			defer close(sent)
			for i := 0; ; i++ {
				if _, err := io.WriteString(c.lines, ndjsonOf(object{"cn": fmt.Sprintf("n%d", i), "sn": "x"})); err != nil {
					return
				}
			}
		}()
		c.next("1: 201")
		c.next("2: 200")
		c.next("3: 400 bad-request")
		c.next("4: 422 invalid mail")
		made := 0
		for {
			text, err := c.read()
			if errors.Is(err, io.EOF) && len(text) == 0 {
				break
			}
			var r lineResult
			if err != nil || json.Unmarshal(text, &r) != nil || r.Status != 201 && r.outcome() != fmt.Sprintf("%d: 424 not-attempted", r.Line) {
				t.Fatalf("got %s, %v", text, err)
			}
			if r.Status == 201 {
				made++
			}
			a.do("GET", "/users/"+r.Name, nil).want(map[int]int{201: 200, 424: 404}[r.Status])
		}
		if made > 40 { // no more than wait for the first
			t.Errorf("%d lines were begun after one had failed", made)
		}
		_ = c.lines.Close()
		<-sent
	})
}

// TestOnErrorStopEndsTheAnswer although the client neither sends more nor ends what it sends.
func TestOnErrorStopEndsTheAnswer(t *testing.T) {
	overBoth(t, func(t *testing.T, connect func(*testing.T, *api) *api) {
		c := connect(t, newAPI(t)).converse(t, "PUT", "/users?onError=stop")
		c.send("no object")
		c.next("1: 400 bad-request")
		if text, err := c.read(); !errors.Is(err, io.EOF) || len(text) > 0 {
			t.Fatalf("after the last result comes %q, %v", text, err)
		}
	})
}

// TestAClientThatDoesNotReadIsNotReadFrom, and is cut off in the end.
func TestAClientThatDoesNotReadIsNotReadFrom(t *testing.T) {
	overBoth(t, func(t *testing.T, connect func(*testing.T, *api) *api) {
		before := goleak.IgnoreCurrent()
		t.Run("request", func(t *testing.T) {
			a := connect(t, newAPI(t, func(s *settings) { s.rest.WriteTimeout = 200 * time.Millisecond }))
			var peak runtime.MemStats
			c := a.converse(t, "POST", "/users")
			const most = 256 << 20
			text := []byte(strings.Repeat("x\n", 16<<10)) // each is two bytes, and its result hundreds
			sent := 0
			for ; sent < most; sent += len(text) {
				if _, err := c.lines.Write(text); err != nil {
					break
				}
			}
			runtime.ReadMemStats(&peak)
			if sent >= most {
				t.Fatalf("%d bytes were taken", sent)
			}
			if peak.HeapInuse > 256<<20 {
				t.Errorf("%d MB are in use after %d bytes", peak.HeapInuse>>20, sent)
			}
			for {
				if text, err := c.read(); err != nil {
					if errors.Is(err, io.EOF) {
						t.Errorf("the answer looks whole; it ends with %s", text)
					}
					break
				}
			}
			a.do("GET", "/users/alice", nil).want(200)
		})
		verifyNothingIsLeft(t, before)
	})
}

func verifyNothingIsLeft(t *testing.T, before goleak.Option) {
	t.Helper()
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// TestAClientThatSendsNoWholeLineIsToldSo: what it sent before is answered.
func TestAClientThatSendsNoWholeLineIsToldSo(t *testing.T) {
	overBoth(t, func(t *testing.T, connect func(*testing.T, *api) *api) {
		for _, lines := range []int{0, 1} {
			a := connect(t, newAPI(t, func(s *settings) { s.rest.ReadTimeout = 200 * time.Millisecond }))
			c := a.converse(t, "PUT", "/users")
			for range lines {
				c.send(object{"cn": "new", "sn": "x"})
				c.next("1: 201")
			}
			go func() {
				_, err := io.WriteString(c.lines, `{"cn":"half of `)
				for ; err == nil && lines > 0; time.Sleep(20 * time.Millisecond) { // a byte now and then is no line
					_, err = io.WriteString(c.lines, "x")
				}
			}()
			var last struct{ Error client.Problem }
			text, err := c.read()
			if err != nil || json.Unmarshal(text, &last) != nil || last.Error.Code != directory.RequestTimeout.Name {
				t.Fatalf("got %s, %v", text, err)
			}
			if text, err := c.read(); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("the answer looks whole: %s", text)
			}
		}
	})
}

// TestAClientThatGoesAwayLeavesNoLineHalfDone: what was begun is ended, and soon no more is begun.
func TestAClientThatGoesAwayLeavesNoLineHalfDone(t *testing.T) {
	overBoth(t, func(t *testing.T, connect func(*testing.T, *api) *api) {
		before := goleak.IgnoreCurrent()
		t.Run("request", func(t *testing.T) {
			const n = 3000
			var begun atomic.Int64
			gone := make(chan struct{})
			plain := newAPI(t, creating(func(string) {
				if begun.Add(1) > 20 {
					<-gone
				}
			}))
			plain.newGroups("one", "two") // which are creations as well
			a := connect(t, plain)
			c := a.converse(t, "POST", "/users")
			go func() {
				for i := range n {
					_, _ = io.WriteString(c.lines, ndjsonOf(object{"cn": fmt.Sprintf("gone%d", i), "sn": "x", "memberOfs": refs("one", "two")}))
				}
				_, _ = io.WriteString(c.lines, `{"cn":"half","sn":"x"`)
			}()
			for i := range 5 {
				c.next(fmt.Sprintf("%d: 201", i+1))
			}
			for begun.Load() <= 20 {
				time.Sleep(time.Millisecond)
			}
			c.cancel()
			_ = c.answer.Body.Close()
			close(gone)
			for !strings.Contains(a.log.text(), `"lines":`) { // until the request has ended
				time.Sleep(time.Millisecond)
			}
			if got := begun.Load(); got > n/10 {
				t.Errorf("%d lines were begun", got)
			}
			var made []string
			var users []struct {
				CN        string
				MemberOfs []string
			}
			other := newAPIOn(t, plain.slapd)
			other.do("GET", "/users?limit=1000&filter="+url.QueryEscape(`cn sw "gone"`), nil).want(200).decode(&users)
			for _, u := range users {
				if made = append(made, u.CN); len(u.MemberOfs) != 2 {
					t.Errorf("%s is in %q", u.CN, u.MemberOfs)
				}
			}
			if got := begun.Load() - 2; int64(len(made)) != got {
				t.Errorf("%d were begun, and %d are there", got, len(made))
			}
			other.do("GET", "/users/half", nil).want(404)
		})
		verifyNothingIsLeft(t, before)
	})
}

func TestPasswordsInLinesStayThere(t *testing.T) {
	a := newTarget(t)
	const secret = "correct horse battery"
	a.secrets.add(secret)
	x := a.do("POST", "/users", ndjsonOf(object{"cn": "p1", "sn": "x", "userPassword": secret})+
		ndjsonOf(object{"cn": "p2", "userPassword": secret, "pasword": secret}, object{"cn": "p3", "sn": "x", "userPassword": secret, "mail": "nowhere"},
			object{"cn": "alice", "sn": "x", "userPassword": secret})+`{"cn":"p4","userPassword":"`+secret+"\n", asLines...)
	x.outcomes("1: 201", "2: 422 invalid pasword sn", "3: 422 invalid mail", "4: 409 already-exists", "5: 400 bad-request")
	if strings.Contains(string(x.Body), secret) {
		x.fail("a password is in the answer")
	}
	a.as("p1", secret).do("GET", "/me", nil).want(200)
}

// TestEachLineIsInTheAuditTrailAsARequestOfItsOwn: a replacement that creates is an attempt to change before.
func TestEachLineIsInTheAuditTrailAsARequestOfItsOwn(t *testing.T) {
	a, trail := newAudited(t)
	for _, c := range []struct {
		method, query string
		want          []string
	}{
		{"POST", "?dryRun=true", []string{"create bad invalid", "create bob already-exists", "create new ok"}},
		{"PUT", "?dryRun=true", []string{"change bad not-found", "change bob ok", "change new not-found", "create bad invalid", "create new ok"}},
		{"POST", "", []string{"create bad invalid", "create bob already-exists", "create new ok"}},
		{"PUT", "", []string{"change bad not-found", "change bob ok", "change new ok", "create bad invalid"}},
	} {
		x := a.do(c.method, "/users"+c.query, ndjsonOf(object{"cn": "new", "sn": "x"}, object{"cn": "bob", "sn": "New"}, object{"cn": "bad"}), asLines...)
		x.results(3)
		var got []string
		for _, e := range trail.of(x) {
			if e.Caller != "admin" || e.CallerID == "" || e.Kind != "users" || e.DryRun != (c.query != "") {
				x.fail("the event is %+v", e)
			}
			got = append(got, fmt.Sprintf("%s %s %s", e.Action, e.Name, e.Result))
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			x.fail("the audit trail is %q, want %q", got, c.want)
		}
	}
}

func TestWhereIfMatchIsDemandedLinesOnlyCreate(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.RequireIfMatch = true })
	before := a.do("GET", "/users/bob", nil).etag()
	text := ndjsonOf(object{"cn": "new", "sn": "x"}, object{"cn": "bob", "sn": "x"}, object{"cn": "new", "sn": "y"})
	a.do("PUT", "/users", text, asLines...).outcomes("1: 201", "2: 428 precondition-required", "3: 428 precondition-required")
	a.do("POST", "/users", text, asLines...).outcomes("1: 409 already-exists", "2: 409 already-exists", "3: 409 already-exists")
	if a.do("GET", "/users/bob", nil).etag() != before {
		t.Error("bob has changed")
	}
}

func TestWithoutTheDirectoryLinesAreRefusedAndARepeatMakesThemWhole(t *testing.T) {
	a := newAPI(t)
	a.newGroups("team")
	c := a.converse(t, "PUT", "/users")
	var values []any
	for i := range 30 {
		values = append(values, object{"cn": fmt.Sprintf("n%d", i), "sn": "x", "memberOfs": refs("team")})
	}
	c.send(values[:10]...)
	for i := range 10 {
		c.next(fmt.Sprintf("%d: 201", i+1))
	}
	if err := a.slapd.Kill(); err != nil {
		t.Fatal(err)
	}
	c.send(values[10:20]...)
	for i := range 10 {
		c.next(fmt.Sprintf("%d: 503 directory-unavailable", i+11))
	}
	if _, err := a.slapd.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	for a.do("GET", "/readyz", nil).Status != http.StatusOK {
		time.Sleep(10 * time.Millisecond)
	}
	c.send(values[20:]...)
	for i := range 10 {
		c.next(fmt.Sprintf("%d: 201", i+21))
	}
	c.end()
	var want []string
	for i := range values {
		want = append(want, fmt.Sprintf("%d: %d", i+1, map[bool]int{true: 201, false: 200}[i >= 10 && i < 20]))
	}
	a.do("PUT", "/users", ndjsonOf(values...), asLines...).outcomes(want...)
	for i := range values {
		a.isIn("after a repeat", fmt.Sprintf("/users/n%d", i), "team")
	}
}

// TestACallerWhoIsNoneAnyMoreDoesNothingMore, nor when it is let in again: that is for another request.
func TestACallerWhoIsNoneAnyMoreDoesNothingMore(t *testing.T) {
	for _, way := range []struct {
		what       string
		as         func(a *api) *api
		ends, back func(a, as *api)
		want       string
	}{
		{"a locked account", func(a *api) *api { return a.as("otto", "otto's password") },
			func(a, _ *api) { a.do("PATCH", "/users/otto", object{"accountLocked": true}).want(200) },
			func(a, _ *api) { a.do("PATCH", "/users/otto", object{"accountLocked": false}).want(200) }, "401 invalid-credentials"},
		{"a password that has changed", func(a *api) *api { return a.as("otto", "otto's password") },
			func(a, _ *api) { a.do("PATCH", "/users/otto", object{"userPassword": "another password"}).want(200) },
			func(a, _ *api) {}, "401 invalid-credentials"},
		{"a session that has ended", func(a *api) *api { return a.bearing(a.login("otto", "otto's password").AccessToken) },
			func(_, as *api) { as.do("DELETE", "/logout", nil).want2xx() }, func(a, _ *api) {}, "401 invalid-token"},
		{"an account that is deleted", func(a *api) *api { return a.as("otto", "otto's password") },
			func(a, _ *api) { a.do("DELETE", "/users/otto", nil).want(204) }, func(a, _ *api) {}, "401 invalid-credentials"},
	} {
		a := newAPI(t)
		a.newGroups("operators")
		a.do("POST", "/users", object{"cn": "otto", "sn": "x", "userPassword": "otto's password", "memberOfs": refs("operators")}).want(201)
		as := way.as(a)
		c := as.converse(t, "POST", "/users")
		c.send(object{"cn": "n1", "sn": "x"})
		c.next("1: 201")
		way.ends(a, as)
		c.send(object{"cn": "n2", "sn": "x"})
		c.next("2: " + way.want)
		way.back(a, as)
		c.send(object{"cn": "n3", "sn": "x"})
		c.next("3: " + way.want)
		c.end()
		a.do("GET", "/users/n2", nil).want(404)
	}
}

func TestACallerWhoLosesARoleDoesNoMoreThanIsLeft(t *testing.T) {
	a := newAPI(t)
	a.newGroups("operators")
	a.do("POST", "/users", object{"cn": "otto", "sn": "x", "userPassword": "otto's password", "memberOfs": refs("operators")}).want(201)
	c := a.as("otto", "otto's password").converse(t, "POST", "/users")
	c.send(object{"cn": "n1", "sn": "x"})
	c.next("1: 201")
	a.do("DELETE", "/groups/operators/members/users/otto", nil).want(204)
	c.send(object{"cn": "n2", "sn": "x"})
	c.next("2: 403 forbidden")
	a.do("PUT", "/groups/operators/members/users/otto", nil).want(204)
	c.send(object{"cn": "n3", "sn": "x"})
	c.next("3: 201")
	c.end()
}

// TestLinesAreDoneAsTheirCaller where ldap.act_as_caller says so: the directory server decides as well.
func TestLinesAreDoneAsTheirCaller(t *testing.T) {
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	server := ldapdirtest.Start(t, slapd.Options{Seed: seed, Config: func(conf string) string {
		return strings.Replace(conf, "# Passwords, old ones included", `
access to *
	by dn.exact="`+adminDN+`" write
	by dn.exact="`+userDN("alice")+`" read
	by * break
# Passwords, old ones included`, 1)
	}})
	a := newAPIOn(t, server, func(s *settings) { s.ldap.ActAsCaller = true })
	a.do("POST", "/groups", object{"cn": "operators", "members": []string{"users/alice"}}).want(201)
	text := ndjsonOf(object{"cn": "n1", "sn": "x"}, object{"cn": "n2", "sn": "x", "memberOfs": refs("devs")})
	a.as("alice", "alice-password").do("POST", "/users", text, asLines...).outcomes("1: 403 forbidden", "2: 403 forbidden")
	a.do("POST", "/users", text, asLines...).outcomes("1: 201", "2: 201")
	tree := wholeTree(t, server)
	for _, name := range []string{"n1", "n2"} {
		if got := tree[userDN(name)+" creatorsName"]; !slices.Equal(got, []string{adminDN}) {
			t.Errorf("%s was created by %q", name, got)
		}
	}
}

// panickingAt is a directory with a bug that shows on one entry.
type panickingAt struct{ directory.Directory }

// Create panics.
func (p panickingAt) Create(ctx context.Context, kind *directory.Kind, patch directory.Patch) (directory.Entry, error) {
	if patch.Set[kind.Key][0] == "bug" {
		panic("the-secret-cause")
	}
	return p.Directory.Create(ctx, kind, patch)
}

func TestAPanicFailsItsLineOnly(t *testing.T) {
	a := newAPI(t, func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory { return panickingAt{d} }
	})
	x := a.do("POST", "/users", ndjsonOf(object{"cn": "n1", "sn": "x"}, object{"cn": "bug", "sn": "x"}, object{"cn": "n2", "sn": "x"}), asLines...)
	x.outcomes("1: 201", "2: 500 internal", "3: 201")
	if strings.Contains(string(x.Body), "secret") || !strings.Contains(a.log.text(), "the-secret-cause") {
		x.fail("the cause is not in the log, or in the answer")
	}
}

// failingAt is a directory that can't be reached for one entry.
type failingAt struct{ directory.Directory }

// Create fails.
func (f failingAt) Create(ctx context.Context, kind *directory.Kind, patch directory.Patch) (directory.Entry, error) {
	if patch.Set[kind.Key][0] == "lost" {
		return directory.Entry{}, &directory.Error{Code: directory.Unavailable, Cause: errors.New("the-cause")}
	}
	return f.Directory.Create(ctx, kind, patch)
}

// TestTheLogSaysWhyALineFailed where it is not the caller who can mend it.
func TestTheLogSaysWhyALineFailed(t *testing.T) {
	a := newTarget(t, func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory { return failingAt{d} }
	})
	const secret = "correct horse battery"
	a.secrets.add(secret)
	x := a.do("POST", "/users", ndjsonOf(object{"cn": "n1", "sn": "x", "userPassword": secret}, object{"cn": "n2", "userPassword": secret},
		object{"cn": "lost", "sn": "x", "userPassword": secret}), asLines...)
	x.outcomes("1: 201", "2: 422 invalid sn", "3: 503 directory-unavailable")
	var got []string
	for text := range strings.Lines(a.log.text()) {
		var o object
		if err := json.Unmarshal([]byte(text), &o); err != nil {
			t.Fatal(err)
		}
		if o["msg"] == "line" {
			got = append(got, fmt.Sprint(o["level"], o["request_id"], o["line"], o["error"]))
		}
	}
	want := []string{fmt.Sprint("error", x.Header.Get("X-Request-Id"), 3, "directory-unavailable: the-cause")}
	if !slices.Equal(got, want) || strings.Contains(string(x.Body), "the-cause") {
		x.fail("the log has %q, want %q, and the answer none of it", got, want)
	}
}

// plannedLines are those of one dry run, of which none builds on another.
var plannedLines = []struct {
	path   string
	values []any
	want   []string
}{
	{"/users", []any{
		object{"cn": "eve", "sn": "Smith", "memberOfs": refs("devs")}, object{"cn": "bad", "mail": "nowhere", "shoe\nsize\ndn: cn=x": "ü"},
		object{"cn": "alice", "sn": "Other", "mail": "alice@example.org"}, object{"cn": `<O'Brien, "Jr" +y=z#;\ ü`, "sn": " : <x>"},
		object{"cn": "bob", "sn": "Hartmann", "memberOfs": refs("none")}, object{"cn": "bob", "sn": "New"}},
		[]string{"1: 201", "2: 422 invalid shoe\nsize\ndn: cn=x sn mail", "3: 200", "4: 201", "5: 422 invalid memberOfs", "6: 200"}},
	{"/groups", []any{object{"cn": "new", "members": []string{"users/alice"}}, object{"cn": "devs", "members": []string{"users/bob"}}, object{"cn": "admins"}},
		[]string{"1: 201", "2: 200", "3: 409 last-admin"}},
	{"/hosts", []any{object{"cn": "h1", "ipAddresses": []string{"192.0.2.1"}}, "no object"}, []string{"1: 201", "2: 400 bad-request"}},
}

func TestADryRunOfLinesSaysWhatEachWouldChangeAndChangesNothing(t *testing.T) {
	for _, asks := range []bool{true, false} {
		a := newAPI(t, func(s *settings) { s.ldap.NoOp = asks })
		before := wholeTree(t, a.slapd)
		for _, row := range plannedLines {
			x := a.do("PUT", row.path+"?dryRun=true", ndjsonOf(row.values...), asLines...)
			asked := false
			for _, r := range x.outcomes(row.want...) {
				asked = asked || r.AskedDirectory
				if refused := r.Problem != nil; r.DryRun == refused || refused == (len(r.Changes) > 0) || r.ETag != "" || r.Location != "" || r.Name == "" && !refused {
					x.fail("not what a dry run says: %+v", r)
				}
			}
			if asked != asks {
				x.fail("askedDirectory is %t", asked)
			}
			if x := a.do("PUT", row.path+"?dryRun=true", ndjsonOf(row.values...), append([]string{"Accept", "text/ldif"}, asLines...)...).want(200); x.Header.Get("Content-Type") != "text/ldif; charset=utf-8" {
				x.fail("not LDIF")
			}
		}
		if diff := cmp.Diff(before, wholeTree(t, a.slapd)); diff != "" {
			t.Errorf("something has changed: %s", diff)
		}
	}
}

// TestTheLDIFOfADryRunOfLinesHasTheirEffect makes the same changes twice: by ldapmodify on one server, by the lines on
// another.
func TestTheLDIFOfADryRunOfLinesHasTheirEffect(t *testing.T) {
	byLDIF, byLines := newAPI(t), newAPI(t)
	for _, row := range plannedLines {
		x := byLDIF.do("PUT", row.path+"?dryRun=true", ndjsonOf(row.values...), append([]string{"Accept", "text/ldif"}, asLines...)...).want(200)
		refused := 0
		for _, want := range row.want {
			if number, problem, _ := strings.Cut(want, ": "); problem >= "4" {
				refused++
				code := strings.Join(strings.Fields(problem)[:2], " ")
				if !strings.Contains(string(x.Body), "# line "+number+" would be refused: "+code) {
					x.fail("it does not say that line %s would be refused", number)
				}
			}
		}
		if bytes.Count(x.Body, []byte("\n# line ")) != refused || !bytes.HasPrefix(x.Body, []byte("version: 1\n")) {
			x.fail("not the LDIF of %d lines that are refused", refused)
		}
		ldapmodify(t, byLDIF.slapd, string(x.Body))
		byLines.do("PUT", row.path, ndjsonOf(row.values...), asLines...).outcomes(row.want...)
	}
	if diff := cmp.Diff(shownTree(t, byLines), shownTree(t, byLDIF)); diff != "" {
		t.Errorf("after the lines (-) and after ldapmodify (+): %s", diff)
	}
}

// TestADryRunOfLinesTakesEachByItself: what lines before it would make is not there.
func TestADryRunOfLinesTakesEachByItself(t *testing.T) {
	a := newAPI(t)
	a.do("POST", "/groups?dryRun=true&onError=continue", ndjsonOf(object{"cn": "g1"}, object{"cn": "g1"}, object{"cn": "g2", "members": refs("g1")}), asLines...).
		outcomes("1: 201", "2: 201", "3: 422 invalid members")
	a.do("POST", "/groups?dryRun=true&onError=stop", ndjsonOf(object{"cn": "devs"}), asLines...).outcomes("1: 409 already-exists")
}
