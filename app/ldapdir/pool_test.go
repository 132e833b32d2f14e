package ldapdir_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"go.uber.org/goleak"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

const (
	// timeout is ldap.timeout in these tests, and grace how much later an operation may end.
	timeout = time.Second
	grace   = time.Second
	// patience is for what happens in its own time.
	patience = 20 * time.Second

	password = "correct horse battery staple"
)

// Protocol operations by their tags (RFC 4511).
const (
	opBind, opBound      = 0x60, 0x61
	opSearch, opSearched = 0x63, 0x65
	opModify, opModified = 0x66, 0x67
	opAdd, opDelete      = 0x68, 0x4a
)

// TestPool breaks servers and connections. What needs no server of its own shares one. Directories are made before
// a rule goes parallel, because New sets go-ldap's limit for the whole process.
func TestPool(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	shared := startServer(t)
	for _, rule := range []struct {
		name string
		test func(t *testing.T, shared *slapd.Server)
	}{
		{"a server that is killed while idle is used again when it is back", killedIdle},
		{"a server that is killed while it works leaves writes unknown and unrepeated", killedBusy},
		{"a server that was never there is found when it comes", neverThere},
		{"a server that falls silent costs every caller one timeout", silentServer},
		{"a server that is silent from the start has got no write", silentFromTheStart},
		{"a server that accepts nobody costs every caller one timeout", fullListener},
		{"a server that closes idle connections is not noticed", idleTimeout},
		{"a server that refuses our credentials is unavailable and the log says why", refusedCredentials},
		{"a server that refuses us while connecting has not answered the request", refusedWhileConnecting},
		{"a write that is cut off is unknown and never repeated", cutWrites},
		{"a read is tried once more on a closed connection and no more", retriedRead},
		{"a read and its repetition share one timeout", retriedInTime},
		{"a write that stalls ends and takes its connection along", stalledWrite},
		{"answers that never come cost one timeout and the connection", silentAnswers},
		{"a connection is retired after two timeouts in a row and what runs on it goes on", twoTimeouts},
		{"an answer between two timeouts keeps the connection", timeoutsApart},
		{"a connection is retired at its age and what runs on it goes on", oldConnections},
		{"cancelled callers do not cost a healthy connection", cancelledCallers},
		{"cancelled callers do not keep a dead connection alive", impatientCallers},
		{"a caller who has gone sends nothing", goneCallers},
		{"there are never more connections than configured", countedConnections},
		{"a connection with an abandoned operation is not lent again", abandonedLogin},
		{"a login never changes who a list is for", identities},
		{"a message over the limit is an error and nothing more", oversized},
		{"a hostile server gets typed errors and is survived", hostileServer},
		{"answers with flipped bits are survived", flippedBits},
	} {
		t.Run(rule.name, func(t *testing.T) { rule.test(t, shared) })
	}
}

// TestPoolClose is about what Close leaves behind, so nothing runs beside it.
func TestPoolClose(t *testing.T) {
	shared := startServer(t)
	for _, rule := range []struct {
		name string
		test func(t *testing.T, shared *slapd.Server)
	}{
		{"what was used leaves nothing", closeIdle},
		{"what runs ends first", closeBusy},
		{"what never ends is not waited for longer than its timeout", closeSilent},
		{"what was abandoned ends at once", closeAbandoned},
		{"what was abandoned ends at once, even a write that stalls", closeStalled},
		{"what is connecting ends", closeConnecting},
		{"a list that somebody is reading ends", closeListing},
		{"nothing begins after it", closeThenUse},
	} {
		t.Run(rule.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			t.Cleanup(func() { goleak.VerifyNone(t, before) })
			rule.test(t, shared)
		})
	}
}

// fixture is a directory whose connections go through a proxy.
type fixture struct {
	*ldapdir.Directory
	*proxy
	t       *testing.T
	server  *slapd.Server
	timeout time.Duration
	// host is one that nobody else writes to; what is written are owners.
	host   string
	serial atomic.Int64
}

// startServer starts a slapd with alice, who has a password, and four more users, and lines at the top of its
// configuration. It does not wait for its disk: no test pulls the plug.
func startServer(t *testing.T, lines ...string) *slapd.Server {
	t.Helper()
	server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string {
		conf = strings.Replace(conf, "\nmaxsize", "\ndbnosync\nmaxsize", 1)
		return strings.Join(lines, "\n") + "\n" + conf
	}})
	l := ldapdirtest.Bind(t, server)
	for _, name := range []string{"alice", "bob", "carol", "dave", "erin"} {
		add := ldap.NewAddRequest("cn="+name+",ou=people,"+server.Suffix(), nil)
		add.Attribute("objectClass", []string{"inetOrgPerson"})
		add.Attribute("sn", []string{"Parker"})
		add.Attribute("userPassword", []string{password})
		if err := l.Add(add); err != nil {
			t.Fatalf("add %s: %v", name, err)
		}
	}
	_ = l.Close()
	return server
}

// open returns a directory on the server, and a host for it to write to, that is closed with the test, and leaves no connection then.
func open(t *testing.T, server *slapd.Server, change func(*ldapdir.Options)) *fixture {
	t.Helper()
	f := &fixture{t: t, server: server, proxy: newProxy(t, strings.TrimPrefix(server.URL(), "ldap://"))}
	o := ldapdirtest.Options(server)
	o.URL = "ldap://" + f.listener.Addr().String()
	o.Timeout, o.Connections, o.ExclusiveConnections, o.PageSize = timeout, 2, 3, 2
	if change != nil {
		change(&o)
	}
	d, err := ldapdir.New(o)
	if err != nil {
		t.Fatal(err)
	}
	f.Directory, f.timeout = d, o.Timeout
	t.Cleanup(f.close)
	f.host = "host-" + f.listener.Addr().String()[len("127.0.0.1:"):]
	f.addHost()
	return f
}

func (f *fixture) addHost() {
	f.t.Helper()
	l := ldapdirtest.Bind(f.t, f.server)
	defer l.Close()
	add := ldap.NewAddRequest("cn="+f.host+",ou=hosts,"+f.server.Suffix(), nil)
	add.Attribute("objectClass", []string{"device"})
	if err := l.Add(add); err != nil {
		f.t.Fatalf("add %s: %v", f.host, err)
	}
}

// close closes the directory, within what an operation may take, and then the proxy.
func (f *fixture) close() {
	f.t.Helper()
	_ = f.within("Close", func() error { f.Close(); return nil })
	f.eventually("no connection is left", func() bool { return f.openLinks() == 0 })
	f.proxy.close()
}

var errStuck = errors.New("did not end")

// within runs a call, and fails the test when it takes longer than the configured timeout and a second.
func (f *fixture) within(what string, call func() error) error {
	f.t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	guard := time.NewTimer(f.timeout + grace)
	defer guard.Stop()
	select {
	case err := <-done:
		return err
	case <-guard.C:
	}
	stacks := make([]byte, 1<<20)
	f.t.Errorf("%s runs for longer than %v\n%s", what, f.timeout+grace, stacks[:runtime.Stack(stacks, true)])
	return errStuck
}

func (f *fixture) eventually(what string, holds func() bool) {
	f.t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			f.t.Fatalf("not in %v: %s (%s)", patience, what, f.proxy)
		}
	}
}

// call is a request of each kind that the pool treats in its own way.
type call struct {
	lane string
	do   func(f *fixture, ctx context.Context) error
}

const lanes = 4

var (
	read = call{"read", func(f *fixture, ctx context.Context) error {
		got, err := f.Get(ctx, ldapdirtest.Users, "alice")
		if err == nil && got.Name() != "alice" {
			err = fmt.Errorf("read %q", got.DN())
		}
		return err
	}}
	write = call{"write", func(f *fixture, ctx context.Context) error { // one Modify and nothing else
		return f.AddValue(ctx, ldapdirtest.Hosts, f.host, "owners", f.owner(), directory.Condition{})
	}}
	list = call{"list", func(f *fixture, ctx context.Context) error {
		var names []string
		for entry, err := range f.List(ctx, ldapdirtest.Users) {
			if err != nil {
				return err
			}
			names = append(names, entry.Name())
		}
		if want := []string{"alice", "bob", "carol", "dave", "erin"}; !slices.Equal(slices.Sorted(slices.Values(names)), want) {
			return fmt.Errorf("listed %q, want %q", names, want)
		}
		return nil
	}}
	login = call{"login", func(f *fixture, ctx context.Context) error {
		return f.Authenticate(ctx, "cn=alice,ou=people,"+f.server.Suffix(), password)
	}}
)

// owner returns a value that is not there yet.
func (f *fixture) owner() string {
	return fmt.Sprintf("cn=owner-%d,ou=people,%s", f.serial.Add(1), f.server.Suffix())
}

// run makes one call.
func (f *fixture) run(c call) error {
	f.t.Helper()
	return f.within(c.lane, func() error { return c.do(f, context.Background()) })
}

// verdicts are what a call of each lane may end in; none is success.
type verdicts struct{ read, write, list, login []*directory.Code }

func codes(c ...*directory.Code) []*directory.Code { return c }

// all is the same verdict on every lane.
func all(c ...*directory.Code) verdicts { return verdicts{c, c, c, c} }

func (v verdicts) of(c call) []*directory.Code {
	return map[string][]*directory.Code{read.lane: v.read, write.lane: v.write, list.lane: v.list, login.lane: v.login}[c.lane]
}

// wantOne checks what a call ended in.
func (f *fixture) wantOne(what string, err error, of []*directory.Code) {
	f.t.Helper()
	if len(of) == 0 && err == nil || errors.Is(err, errStuck) {
		return
	}
	got, typed := err.(*directory.Error) //nolint:errorlint // a Directory's errors are of this type
	if !typed || !slices.Contains(of, got.Code) {
		var names []string
		for _, c := range of {
			names = append(names, c.Name)
		}
		want := cmp.Or(strings.Join(names, " or "), "success")
		f.t.Errorf("%s: got %v, want %s (%s)", what, err, want, f.proxy)
	}
}

// storm makes 32 calls at once, of all lanes or of the given ones, and checks what they end in.
func (f *fixture) storm(what string, want verdicts, calls ...call) {
	f.t.Helper()
	f.launch(what, want, calls...)()
}

// launch begins a storm. The function that it returns waits for its end.
func (f *fixture) launch(what string, want verdicts, calls ...call) (wait func()) {
	f.t.Helper()
	if len(calls) == 0 {
		calls = []call{read, write, list, login}
	}
	var running sync.WaitGroup
	for i := range 32 {
		running.Go(func() {
			c := calls[i%len(calls)]
			f.wantOne(what+": "+c.lane, f.run(c), want.of(c))
		})
	}
	return running.Wait
}

// works checks that the next request of every lane succeeds, and 32 at once.
func (f *fixture) works(what string) {
	f.t.Helper()
	f.answers(what)
	f.storm(what, all())
}

// answers checks that the next request of every lane succeeds.
func (f *fixture) answers(what string) {
	f.t.Helper()
	for _, c := range []call{read, write, list, login} {
		f.wantOne(what+": the next "+c.lane, f.run(c), nil)
	}
}

// owners returns what was written.
func (f *fixture) owners() []string {
	f.t.Helper()
	return f.values("cn="+f.host+",ou=hosts,"+f.server.Suffix(), "owner")
}

// values asks the server, not the directory. An entry that is not there has none.
func (f *fixture) values(dn, attribute string) []string {
	f.t.Helper()
	l := ldapdirtest.Bind(f.t, f.server)
	defer l.Close()
	found, err := l.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{attribute}, nil))
	if ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) {
		return nil
	}
	if err != nil {
		f.t.Fatalf("read %s of %s: %v", attribute, dn, err)
	}
	return found.Entries[0].GetAttributeValues(attribute)
}

func (f *fixture) kill() {
	f.t.Helper()
	if err := f.server.Kill(); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) restart() {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	server, err := f.server.Restart(ctx)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = server.Kill() })
	f.server = server
}

func (f *fixture) pause() {
	f.t.Helper()
	if err := f.server.Pause(); err != nil {
		f.t.Fatal(err)
	}
	f.eventually("slapd answers no more", func() bool { // its threads stop one by one
		l, err := ldap.DialURL(f.server.URL())
		if err != nil {
			return true
		}
		defer l.Close()
		l.SetTimeout(timeout / 10)
		_, err = l.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"1.1"}, nil))
		return err != nil
	})
}

func (f *fixture) resume() {
	f.t.Helper()
	if err := f.server.Resume(); err != nil {
		f.t.Fatal(err)
	}
}

// direct makes the directory talk to slapd without the proxy.
func direct(server *slapd.Server) func(*ldapdir.Options) {
	return func(o *ldapdir.Options) { o.URL = server.URL() }
}

func killedIdle(t *testing.T, _ *slapd.Server) {
	server := startServer(t)
	f := open(t, server, direct(server))
	t.Parallel()
	f.works("before")
	f.kill()
	// A write may go out before the end of its connection has been seen.
	f.storm("killed", verdicts{codes(directory.Unavailable), codes(directory.Unavailable, directory.OutcomeUnknown), codes(directory.Unavailable), codes(directory.Unavailable)})
	f.storm("still away", all(directory.Unavailable))
	f.restart()
	f.works("restarted")
	f.kill()
	f.restart()
	f.works("restarted while nobody looked")
}

func killedBusy(t *testing.T, _ *slapd.Server) {
	server := startServer(t)
	f := open(t, server, nil)
	t.Parallel()
	f.works("before")
	had, sent := len(f.owners()), f.seen(opModify)
	f.pause()
	wait := f.launch("killed", verdicts{codes(directory.Unavailable), codes(directory.OutcomeUnknown), codes(directory.Unavailable), codes(directory.Unavailable)})
	f.eventually("the writes are on their way", func() bool { return f.seen(opModify) == sent+32/lanes })
	f.kill()
	wait()
	f.restart()
	f.works("restarted")
	if got, want := len(f.owners())-had, 1+32/lanes; got != want {
		t.Errorf("%d writes were applied, want the %d after the restart", got, want)
	}
	if got, want := f.seen(opModify)-sent, 1+2*32/lanes; got != want {
		t.Errorf("%d writes were sent, want %d", got, want)
	}
}

func neverThere(t *testing.T, _ *slapd.Server) {
	server := startServer(t)
	f := open(t, server, direct(server))
	t.Parallel()
	f.kill()
	f.storm("nothing listens", all(directory.Unavailable))
	f.restart()
	f.works("started")
}

func silentServer(t *testing.T, _ *slapd.Server) {
	server := startServer(t)
	f := open(t, server, nil)
	t.Parallel()
	f.works("before")
	sent := f.seen(opModify)
	f.pause()
	f.storm("silent", verdicts{codes(directory.Timeout), codes(directory.OutcomeUnknown), codes(directory.Timeout), codes(directory.Timeout)})
	if got := f.seen(opModify) - sent; got != 32/lanes {
		t.Errorf("%d writes were sent, want each once: %d", got, 32/lanes)
	}
	lists := f.launch("still silent, 32 lists", all(directory.Timeout), list)
	f.storm("still silent, 32 logins", all(directory.Timeout), login)
	lists()
	f.storm("still silent, to those who must connect", all(directory.Timeout), read, write)
	f.resume()
	f.works("resumed")
}

func silentFromTheStart(t *testing.T, _ *slapd.Server) {
	server := startServer(t)
	f := open(t, server, nil)
	black := open(t, server, nil)
	t.Parallel()
	f.pause()
	f.storm("stopped", all(directory.Timeout))
	f.resume()
	f.works("resumed")

	hole := newGate()
	black.onRequest(hole.hold)
	black.wantOne("a write into a black hole", black.run(write), codes(directory.Timeout))
	black.storm("a black hole", all(directory.Timeout))
	if got := black.seen(opModify); got != 0 {
		t.Errorf("%d writes were sent", got)
	}
	black.onRequest(nil)
	hole.open()
	black.works("answering")
}

func fullListener(t *testing.T, shared *slapd.Server) {
	listener, fillers := fullQueue(t)
	f := open(t, shared, func(o *ldapdir.Options) { o.URL = "ldap://" + listener.Addr().String() })
	t.Parallel()
	f.storm("full", all(directory.Timeout))
	for _, filler := range fillers {
		filler.Close()
	}
	f.serve(listener)
	f.eventually("the queue is empty", func() bool { return f.newest() >= queue && f.openLinks() == 0 })
	f.works("accepting")
}

func idleTimeout(t *testing.T, _ *slapd.Server) {
	server := startServer(t, "idletimeout 1")
	f := open(t, server, nil)
	t.Parallel()
	f.works("before")
	f.eventually("slapd has closed every connection", func() bool { return f.openLinks() == 0 })
	f.works("after")
}

func refusedCredentials(t *testing.T, shared *slapd.Server) {
	const wrong = "not-the-password"
	other := startServer(t)
	f := open(t, other, func(o *ldapdir.Options) { o.BindPassword = shared.ServicePassword() })
	g := open(t, other, func(o *ldapdir.Options) { o.BindPassword = wrong })
	t.Parallel()
	refused := verdicts{codes(directory.Unavailable), codes(directory.Unavailable), codes(directory.Unavailable), nil}
	f.storm("refused", refused)
	g.storm("refused", refused)
	g.eventually("only the logins' connections are left", func() bool { return g.openLinks() <= 3 })
	err := g.run(read)
	for _, word := range []string{"Invalid Credentials", shared.ServiceDN()} {
		if !strings.Contains(fmt.Sprint(err), word) {
			t.Errorf("the log would not say %q: %v", word, err)
		}
	}
	if strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, errors.Unwrap(err)), wrong) {
		t.Errorf("the password would be in the log: %v", err)
	}
	f.server = shared
	f.addHost()
	f.target.Store(strings.TrimPrefix(shared.URL(), "ldap://"))
	f.cut()
	f.works("with credentials that are right")
}

func refusedWhileConnecting(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.PasswordPolicy = "cn=absent,ou=policies," + shared.Suffix() })
	t.Parallel()
	f.storm("no such policy", verdicts{codes(directory.Unavailable), codes(directory.Unavailable), codes(directory.Unavailable), nil})
	if err := f.run(read); !strings.Contains(fmt.Sprint(err), "ldap.password_policy") {
		t.Errorf("the log would not say why: %v", err)
	}
}

func cutWrites(t *testing.T, _ *slapd.Server) {
	server := startServer(t)
	f := open(t, server, nil)
	t.Parallel()
	ctx := context.Background()
	person := func(name string) directory.Patch {
		return directory.Patch{Set: map[string][]string{"cn": {name}, "uid": {name}, "sn": {"Parker"}}}
	}
	dn := func(name string) string { return "cn=" + name + ",ou=people," + server.Suffix() }
	for _, verb := range []struct {
		name string
		op   byte
		// before makes what the write works on.
		before bool
		do     func(name string) error
		done   func(name string) bool
	}{
		{"create", opAdd, false,
			func(name string) error { _, err := f.Create(ctx, ldapdirtest.Users, person(name)); return err },
			func(name string) bool { return len(f.values(dn(name), "sn")) == 1 }},
		{"update", opModify, true,
			func(name string) error {
				_, err := f.Update(ctx, ldapdirtest.Users, name, directory.Condition{}, func(now directory.Entry) (directory.Patch, error) {
					return directory.Patch{Set: map[string][]string{"description": {now.First("description") + "x"}}}, nil
				})
				return err
			},
			func(name string) bool { return slices.Equal(f.values(dn(name), "description"), []string{"x"}) }},
		{"delete", opDelete, true,
			func(name string) error { return f.Delete(ctx, ldapdirtest.Users, name, directory.Condition{}) },
			func(name string) bool { return len(f.values(dn(name), "sn")) == 0 }},
		{"add a value", opModify, false,
			func(name string) error {
				return f.AddValue(ctx, ldapdirtest.Hosts, f.host, "owners", dn(name), directory.Condition{})
			},
			func(name string) bool { return slices.Contains(f.owners(), dn(name)) }},
	} {
		for at, cut := range map[string]func(m message) int{
			"before its first byte": func(message) int { return 0 },
			"after its first byte":  func(message) int { return 1 },
			"in its middle":         func(m message) int { return m.size / 2 },
			"before its last byte":  func(m message) int { return m.size - 1 },
			"before its answer":     nil,
		} {
			what := verb.name + ", cut " + at
			name := strings.NewReplacer(" ", "-", ",", "").Replace(what)
			if verb.before {
				if _, err := f.Create(ctx, ldapdirtest.Users, person(name)); err != nil {
					t.Fatalf("%s: create: %v", what, err)
				}
			}
			sent := f.seen(verb.op)
			if cut != nil {
				f.onRequest(func(_ *link, m message) int {
					if m.op == verb.op {
						return cut(m)
					}
					return everything
				})
			} else {
				f.onAnswer(func(_ *link, m message) int {
					if m.op == verb.op+1 || m.op == 0x6b && verb.op == opDelete {
						return 0
					}
					return everything
				})
			}
			err := f.within(what, func() error { return verb.do(name) })
			f.wantOne(what, err, codes(directory.OutcomeUnknown))
			f.onRequest(nil)
			f.onAnswer(nil)
			if got := f.seen(verb.op) - sent; got != 1 {
				t.Errorf("%s: sent %d times", what, got)
			}
			if got := verb.done(name); got != (cut == nil) {
				t.Errorf("%s: applied %v, want %v", what, got, cut == nil)
			}
			f.wantOne(what+": the next read", f.run(read), nil)
			f.wantOne(what+": the next write", f.run(write), nil)
		}
	}
}

// aboutAlice tells the read's search from what is asked while connecting.
func aboutAlice(m message) bool {
	return m.op == opSearch && bytes.Contains(m.head, []byte("cn=alice,"))
}

func retriedRead(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, nil)
	t.Parallel()
	for cuts, want := range map[int32][]*directory.Code{1: nil, 2: codes(directory.Unavailable)} {
		f.works("before")
		var asked atomic.Int32
		f.onRequest(func(_ *link, m message) int {
			if aboutAlice(m) && asked.Add(1) <= cuts {
				return m.size / 2
			}
			return everything
		})
		f.wantOne(fmt.Sprintf("a read that is cut off %d times", cuts), f.run(read), want)
		if got := asked.Load(); got != 2 {
			t.Errorf("a read that is cut off %d times was sent %d times, want 2", cuts, got)
		}
		f.onRequest(nil)
	}
}

func retriedInTime(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.Timeout = 3 * grace })
	t.Parallel()
	f.works("before")
	var asked atomic.Int32
	silence := newGate()
	defer silence.open()
	f.onRequest(func(l *link, m message) int {
		switch {
		case !aboutAlice(m):
			return everything
		case asked.Add(1) == 1:
			time.Sleep(f.timeout - grace/2)
			return 0
		}
		return silence.hold(l, m)
	})
	f.wantOne("a read that is cut off late, and then gets no answer", f.run(read), codes(directory.Timeout))
	f.onRequest(nil)
}

func stalledWrite(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.Connections, o.Timeout = 1, 2*timeout })
	t.Parallel()
	f.works("before")
	stall := newGate()
	f.onRequest(stall.holdLarge)
	large := func() error { return f.writeLarge(context.Background()) }
	f.wantOne("a large write that stalls", f.within("a large write", large), codes(directory.OutcomeUnknown))
	f.works("the stalled connection left alone")

	done := make(chan error, 1)
	begun := f.seen(opModify)
	go func() { done <- f.within("a large write", large) }()
	f.eventually("the write has stalled", func() bool { return f.seen(opModify) == begun+1 })
	// A read is tried again when the write's deadline closes the connection, if that leaves it any time.
	f.storm("behind a write that stalls", verdicts{read: codes(directory.Timeout, directory.Unavailable), write: codes(directory.OutcomeUnknown, directory.Unavailable)}, write)
	f.wantOne("a large write that stalls", <-done, codes(directory.OutcomeUnknown))
	f.works("stalled")
	stall.open()
	f.works("no longer stalled")
	if got := f.values("cn=bob,ou=people,"+shared.Suffix(), "description"); len(got) > 0 {
		t.Errorf("a write of which a part was sent has been applied")
	}
}

func silentAnswers(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, nil)
	t.Parallel()
	f.works("before")
	had, sent := len(f.owners()), f.seen(opModify)
	silence := newGate()
	old := f.newest()
	f.onAnswer(func(l *link, m message) int {
		if l.number <= old { // as when something on the way has forgotten the connection
			return silence.hold(l, m)
		}
		return everything
	})
	f.storm("silent", verdicts{codes(directory.Timeout), codes(directory.OutcomeUnknown), codes(directory.Timeout), codes(directory.Timeout)}, read, write)
	if got := f.seen(opModify) - sent; got != 16 {
		t.Errorf("%d writes were sent, want each once: 16", got)
	}
	if got := len(f.owners()) - had; got != 16 {
		t.Errorf("%d writes were applied, want 16: they were only not answered", got)
	}
	for _, c := range []call{read, write} {
		f.wantOne("on new connections: "+c.lane, f.run(c), nil)
	}
	silence.open()
	f.works("answering")
}

// writeLarge sends more than fits into the buffers on the way.
func (f *fixture) writeLarge(ctx context.Context) error {
	_, err := f.Update(ctx, ldapdirtest.Users, "bob", directory.Condition{}, func(directory.Entry) (directory.Patch, error) {
		return directory.Patch{Set: map[string][]string{"description": {strings.Repeat("x", 6<<20)}}}, nil
	})
	return err
}

// heldBack makes the proxy keep the answers of every connection that is open now.
func (f *fixture) heldBack() *gate {
	silence, old := newGate(), f.newest()
	f.onAnswer(func(l *link, m message) int {
		if l.number <= old {
			return silence.hold(l, m)
		}
		return everything
	})
	return silence
}

func twoTimeouts(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.Connections = 1 })
	t.Parallel()
	f.wantOne("the first read", f.run(read), nil)
	silence := f.heldBack()
	f.wantOne("the first without an answer", f.run(read), codes(directory.Timeout))
	sent := f.seen(opModify)
	written := make(chan error, 1)
	time.AfterFunc(f.timeout/2, func() { written <- f.run(write) })
	f.wantOne("the second without an answer", f.run(read), codes(directory.Timeout))
	f.wantOne("the third, on a new connection", f.run(read), nil)
	if f.newest() != 2 || f.openLinks() != 2 {
		t.Errorf("%s, want a second connection, and the first open for what runs on it", f.proxy)
	}
	silence.open()
	f.wantOne("the write that ran on the retired connection", <-written, nil)
	if got := f.seen(opModify) - sent; got != 1 {
		t.Errorf("the write was sent %d times", got)
	}
	f.eventually("the retired connection is closed", func() bool { return f.openLinks() == 1 })
}

func timeoutsApart(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.Connections = 1 })
	t.Parallel()
	f.wantOne("the first read", f.run(read), nil)
	for range 2 {
		silence := f.heldBack()
		f.wantOne("without an answer", f.run(read), codes(directory.Timeout))
		silence.open()
		f.wantOne("with an answer", f.run(read), nil)
	}
	if f.newest() != 1 {
		t.Errorf("%s, want one", f.proxy)
	}
}

func oldConnections(t *testing.T, shared *slapd.Server) {
	const age = 200 * time.Millisecond
	f := open(t, shared, func(o *ldapdir.Options) { o.Connections, o.Timeout, o.MaxConnectionAge = 1, 2*timeout, age })
	t.Parallel()
	f.wantOne("the first write", f.run(write), nil)
	time.Sleep(age)
	f.wantOne("a write that makes a connection", f.run(write), nil)
	silence, running, sent := f.heldBack(), f.newest(), f.seen(opModify)
	written := make(chan error, 1)
	go func() { written <- f.run(write) }()
	f.eventually("the write is on its way", func() bool { return f.seen(opModify) == sent+1 })
	time.Sleep(age)
	f.wantOne("a read at the connection's age", f.run(read), nil)
	if f.newest() == running {
		t.Errorf("%s, want a new one", f.proxy)
	}
	silence.open()
	f.wantOne("the write that ran on the old connection", <-written, nil)
	f.eventually("the old connection is closed", func() bool { return f.openLinks() == 1 })
	for range 3 {
		time.Sleep(age)
		f.works("older")
	}
}

func cancelledCallers(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.Connections = 1 })
	t.Parallel()
	f.wantOne("the first read", f.run(read), nil)
	had := len(f.owners())
	for name, end := range map[string]func() (context.Context, context.CancelFunc){
		"cancelled": func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(timeout/5, cancel)
			return ctx, cancel
		},
		"in a hurry": func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), timeout/5)
		},
	} {
		silence := f.heldBack()
		var running sync.WaitGroup
		for i := range 8 {
			running.Go(func() {
				ctx, cancel := end()
				defer cancel()
				c := []call{read, write}[i%2]
				err := f.within(c.lane, func() error { return c.do(f, ctx) })
				f.wantOne(name+": "+c.lane, err, verdicts{read: codes(directory.Timeout), write: codes(directory.OutcomeUnknown)}.of(c))
			})
		}
		running.Wait()
		silence.open()
		f.wantOne("the next read", f.run(read), nil)
	}
	f.eventually("the writes whose callers have gone are applied once", func() bool { return len(f.owners()) == had+8 })
	if f.newest() != 1 || f.openLinks() != 1 {
		t.Errorf("%s, want one", f.proxy)
	}
}

func impatientCallers(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.Connections = 1 })
	t.Parallel()
	f.wantOne("the first read", f.run(read), nil)
	f.heldBack() // for good
	f.eventually("callers who never wait as long as ldap.timeout get an answer", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), timeout/5)
		defer cancel()
		return read.do(f, ctx) == nil
	})
}

func goneCallers(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, nil)
	t.Parallel()
	f.works("before")
	sent, asked := f.seen(opModify), f.seen(opSearch)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []call{read, write, list, login} {
		f.wantOne(c.lane, f.within(c.lane, func() error { return c.do(f, ctx) }), codes(directory.Timeout))
	}
	if f.seen(opModify) != sent || f.seen(opSearch) != asked {
		t.Errorf("%d writes and %d searches were sent", f.seen(opModify)-sent, f.seen(opSearch)-asked)
	}
	f.works("after")
}

func countedConnections(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.Timeout = 4 * timeout })
	t.Parallel()
	for _, kind := range []struct {
		calls []call
		most  int
	}{{[]call{read, write}, 2}, {[]call{list}, 2 + 3}, {[]call{login}, 2 + 3 + 3}, {nil, 2 + 3 + 3}} {
		for range 3 {
			f.storm("healthy", all(), kind.calls...)
		}
		if f.mostLinks() > kind.most {
			t.Errorf("%s, want at most %d", f.proxy, kind.most)
		}
	}
	for range 5 {
		wait := f.launchAny()
		time.Sleep(5 * time.Millisecond)
		f.cut()
		wait()
		f.works("cut")
	}
	if f.mostLinks() > 2+3+3 {
		t.Errorf("%s, want at most 8", f.proxy)
	}
}

// launchAny begins 32 calls that may succeed or find their connection cut.
func (f *fixture) launchAny() (wait func()) {
	var running sync.WaitGroup
	for i := range 32 {
		running.Go(func() {
			c := []call{read, write, list, login}[i%lanes]
			if err := f.run(c); err != nil {
				f.wantOne(c.lane, err, codes(directory.Unavailable, directory.OutcomeUnknown))
			}
		})
	}
	return running.Wait
}

func abandonedLogin(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.ExclusiveConnections = 1 })
	t.Parallel()
	for _, c := range []call{login, list} {
		f.wantOne("the first "+c.lane, f.run(c), nil)
		silence, before := f.heldBack(), f.newest()
		ctx, cancel := context.WithTimeout(context.Background(), timeout/5)
		err := f.within(c.lane, func() error { return c.do(f, ctx) })
		cancel()
		f.wantOne("an abandoned "+c.lane, err, codes(directory.Timeout))
		f.wantOne("the next "+c.lane, f.run(c), nil)
		if f.newest() == before {
			t.Errorf("%s: no new connection (%s)", c.lane, f.proxy)
		}
		silence.open()
		f.wantOne("one more "+c.lane, f.run(c), nil)
	}
}

func identities(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, nil)
	t.Parallel()
	var mutex sync.Mutex
	binds, lists := map[*link][]string{}, map[*link]bool{}
	f.onRequest(func(l *link, m message) int {
		mutex.Lock()
		defer mutex.Unlock()
		switch {
		case m.op == opBind:
			who := "a user"
			if bytes.Contains(m.head, []byte(shared.ServiceDN())) {
				who = "the service"
			}
			binds[l] = append(binds[l], who)
		case m.op == opSearch && bytes.Contains(m.head, []byte(ldap.ControlTypePaging)):
			lists[l] = true
		}
		return everything
	})
	for range 4 {
		f.storm("lists and logins", all(), list, login)
		err := f.within("a wrong password", func() error {
			return f.Authenticate(context.Background(), "cn=bob,ou=people,"+shared.Suffix(), "wrong")
		})
		f.wantOne("a wrong password", err, codes(directory.InvalidCredentials))
	}
	mutex.Lock()
	defer mutex.Unlock()
	for l := range lists {
		if !slices.Equal(binds[l], []string{"the service"}) {
			t.Errorf("connection %d carried lists, and binds as %q", l.number, binds[l])
		}
	}
}

func oversized(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, nil)
	t.Parallel()
	f.works("before")
	had, sent := len(f.owners()), f.seen(opModify)
	f.onAnswer(func(l *link, m message) int {
		switch m.op {
		case opSearched, opModified, opBound:
			_, _ = l.client.Write([]byte{0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 0x02, 0x01})
			return swallow
		}
		return everything
	})
	f.storm("oversized", verdicts{codes(directory.Unavailable), codes(directory.OutcomeUnknown, directory.Unavailable), codes(directory.Unavailable), codes(directory.Unavailable)})
	f.onAnswer(nil)
	f.works("of a bearable size")
	if applied, got := len(f.owners())-had, f.seen(opModify)-sent; got != applied {
		t.Errorf("%d writes were sent and %d applied", got, applied)
	}
}

// answer is an LDAP message.
func answer(id int64, op byte, body ...byte) []byte {
	message := append(binary.BigEndian.AppendUint32([]byte{0x02, 0x04}, uint32(id)), op, byte(len(body)))
	message = append(message, body...)
	return append([]byte{0x30, byte(len(message))}, message...)
}

func hostileServer(t *testing.T, shared *slapd.Server) {
	result := func(code byte) []byte { return []byte{0x0a, 0x01, code, 0x04, 0x00, 0x04, 0x00} }
	notice := answer(0, 0x78, append(result(52), append([]byte{0x8a, 22}, "1.3.6.1.4.1.1466.20036"...)...)...)
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 4<<10)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	type trick struct {
		name string
		do   func(l *link, m message) int
	}
	say := func(words func(m message) []byte, then int) func(l *link, m message) int {
		return func(l *link, m message) int {
			_, _ = l.client.Write(words(m))
			return then
		}
	}
	tricks := []trick{
		{"random bytes", say(func(message) []byte { return noise }, swallow)},
		{"random bytes and the end", say(func(message) []byte { return noise[100:] }, 0)},
		{"half a message and the end", say(func(m message) []byte { return answer(m.id, m.op+1, result(0)...)[:8] }, 0)},
		{"a message id of its own", say(func(m message) []byte { return answer(m.id+1000, m.op+1, result(0)...) }, swallow)},
		{"Notice of Disconnection", say(func(message) []byte { return notice }, swallow)},
		{"Notice of Disconnection and the end", say(func(message) []byte { return notice }, 0)},
		{"an answer to something else", say(func(m message) []byte { return answer(m.id, 0x6f, result(5)...) }, swallow)},
		{"a result without a code", say(func(m message) []byte { return answer(m.id, m.op+1) }, swallow)},
		{"a code that LDAP has not", say(func(m message) []byte {
			return answer(m.id, m.op+1, 0x0a, 0x04, 0xff, 0xff, 0xff, 0xff, 0x04, 0x00, 0x04, 0x00)
		}, swallow)},
		{"a code that go-ldap uses itself", say(func(m message) []byte {
			return answer(m.id, m.op+1, 0x0a, 0x02, 0x00, 0xc8, 0x04, 0x00, 0x04, 0x00)
		}, swallow)},
		{"an entry without attributes", say(func(m message) []byte { return answer(m.id, 0x64, 0x04, 0x01, 'x') }, swallow)},
		{"an entry that is no entry", say(func(m message) []byte { return answer(m.id, 0x64, 0x30, 0x02, 0x05, 0x00, 0x05, 0x00) }, swallow)},
		{"sequences without end", say(func(message) []byte { return bytes.Repeat([]byte{0x30, 0x80}, 4<<10) }, swallow)},
		{"an endless message", say(func(message) []byte { return append([]byte{0x30, 0x80}, bytes.Repeat([]byte{0x04, 0x00}, 4<<10)...) }, swallow)},
	}
	fixtures := make([]*fixture, len(tricks))
	for i := range tricks {
		fixtures[i] = open(t, shared, nil)
	}
	t.Parallel()
	var running sync.WaitGroup
	defer running.Wait()
	places := make(chan struct{}, 5) // 32 callers each are enough for two cores
	for i, trick := range tricks {
		running.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			f := fixtures[i]
			failed := codes(directory.Unavailable, directory.Timeout, directory.OutcomeUnknown, directory.Internal)
			f.onRequest(trick.do)
			f.storm(trick.name+", from the start", all(failed...))
			f.onRequest(nil)
			f.answers(trick.name + ", from the start, and then as it should be")
			sent := f.seen(opModify)
			f.onRequest(func(l *link, m message) int {
				if m.op == opBind || aboutAlice(m) || m.op == opModify || m.op == opSearch && bytes.Contains(m.head, []byte(ldap.ControlTypePaging)) {
					return trick.do(l, m)
				}
				return everything
			})
			f.storm(trick.name, verdicts{failed, codes(directory.OutcomeUnknown, directory.Unavailable, directory.Timeout), failed, failed})
			f.onRequest(nil)
			if got := f.seen(opModify) - sent; got > 32/lanes {
				t.Errorf("%s: %d writes were sent, want each once", trick.name, got)
			}
			f.answers(trick.name + ", and then as it should be")
		})
	}
}

func flippedBits(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.Timeout = timeout / 2 })
	t.Parallel()
	var turn atomic.Uint64
	f.onAnswer(func(l *link, m message) int {
		raw := make([]byte, m.size)
		if _, err := io.ReadFull(l.answers, raw); err != nil {
			return 0
		}
		random := rand.New(rand.NewPCG(7, turn.Add(1)))
		for range 1 + random.IntN(3) {
			raw[random.IntN(len(raw))] ^= 1 << random.IntN(8)
		}
		if _, err := l.client.Write(raw); err != nil {
			return 0
		}
		return taken
	})
	var running sync.WaitGroup
	for i := range 32 {
		running.Go(func() {
			c := []call{read, write, list, login}[i%lanes]
			for range 6 {
				err := f.run(c)
				if _, typed := err.(*directory.Error); !typed && err != nil && !strings.HasPrefix(err.Error(), "read ") && !strings.HasPrefix(err.Error(), "listed ") { //nolint:errorlint // a Directory's errors are of this type
					t.Errorf("%s: an error of no type: %v", c.lane, err)
				}
			}
		})
	}
	running.Wait()
	f.onAnswer(nil)
	// A connection whose last length was damaged looks alive, for two timeouts.
	f.eventually("reads succeed again", func() bool { return f.run(read) == nil })
	f.eventually("writes succeed again", func() bool { return f.run(write) == nil })
	f.answers("as it should be")
}

func closeIdle(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, nil)
	f.works("before")
	f.close()
	f.Close()
}

func closeBusy(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.Timeout = 4 * timeout })
	f.works("before")
	had := len(f.owners())
	silence := f.heldBack()
	sent := f.seen(opModify)
	wait := f.launch("running while it closes", all(), write)
	f.eventually("the writes are on their way", func() bool { return f.seen(opModify) == sent+32 })
	var answered atomic.Bool
	time.AfterFunc(timeout/2, func() {
		answered.Store(true)
		silence.open()
	})
	_ = f.within("Close", func() error { f.Close(); return nil })
	if !answered.Load() {
		t.Error("Close has not waited for the writes")
	}
	wait()
	if got := len(f.owners()) - had; got != 32 {
		t.Errorf("%d writes were applied, want 32", got)
	}
}

func closeSilent(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, nil)
	f.works("before")
	f.heldBack()
	sent := f.seen(opModify)
	gone := codes(directory.Timeout, directory.Unavailable)
	wait := f.launch("running while it closes", verdicts{gone, codes(directory.OutcomeUnknown), gone, gone})
	f.eventually("the writes are on their way", func() bool { return f.seen(opModify) == sent+32/lanes })
	f.close()
	wait()
}

func closeAbandoned(t *testing.T, shared *slapd.Server) {
	// go-ldap gives an operation up after timeout + 1 s. Close does not wait for that.
	f := open(t, shared, func(o *ldapdir.Options) { o.Timeout = time.Hour })
	f.timeout = timeout
	f.works("before")
	f.heldBack()
	ctx, cancel := context.WithTimeout(context.Background(), timeout/5)
	defer cancel()
	var running sync.WaitGroup
	for i := range 32 {
		running.Go(func() {
			c := []call{read, write, list, login}[i%lanes]
			err := f.within(c.lane, func() error { return c.do(f, ctx) })
			f.wantOne(c.lane, err, codes(directory.Timeout, directory.OutcomeUnknown))
		})
	}
	running.Wait()
	f.close()
}

func closeStalled(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, func(o *ldapdir.Options) { o.Timeout = time.Hour })
	f.timeout = timeout
	f.works("before")
	stall := newGate()
	sent := f.seen(opModify)
	f.onRequest(stall.holdLarge)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.writeLarge(ctx) }()
	f.eventually("the write has stalled", func() bool { return f.seen(opModify) == sent+1 })
	cancel()
	f.wantOne("an abandoned write", <-done, codes(directory.OutcomeUnknown))
	_ = f.within("Close", func() error { f.Close(); return nil })
	stall.open()
}

func closeConnecting(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, nil)
	hole := newGate()
	f.onRequest(hole.hold)
	wait := f.launch("connecting while it closes", all(directory.Timeout, directory.Unavailable))
	f.eventually("somebody connects", func() bool { return f.openLinks() > 0 })
	time.AfterFunc(timeout, hole.open) // a proxy that does not read does not see a connection's end
	f.close()
	wait()
}

func closeListing(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, nil)
	seen := 0
	var last error
	for _, err := range f.List(context.Background(), ldapdirtest.Users) {
		if seen++; seen == 1 {
			_ = f.within("Close", func() error { f.Close(); return nil })
		}
		last = err
	}
	f.wantOne("the page after Close", last, codes(directory.Unavailable))
}

func closeThenUse(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, nil)
	f.works("before")
	f.Close()
	f.storm("closed", all(directory.Unavailable))
}

// message is the beginning of one LDAP message. The rest has not been read from its connection.
type message struct {
	op   byte
	id   int64
	size int
	head []byte
}

const (
	everything = math.MaxInt
	swallow    = -1
	taken      = -2
)

// hook says how many bytes of a message to pass on; the connection is cut when that is not all. Other answers are
// swallow, which passes nothing on and goes on, and taken, which says that the hook has read the message itself.
// As long as the hook does not return, nothing more is read.
type hook func(l *link, m message) int

// proxy stands between a directory and its server, and does what networks do.
type proxy struct {
	listener  net.Listener
	target    atomic.Value
	running   sync.WaitGroup
	mutex     sync.Mutex
	request   hook
	answer    hook
	links     map[*link]bool
	listeners []net.Listener
	accepted  int
	most      int
	counts    map[byte]int
}

// link is one connection through the proxy.
type link struct {
	number         int
	client, server net.Conn
	answers        *bufio.Reader
	done           chan struct{}
	once           sync.Once
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	// So that a message of some MiB does not fit. It must be set before a connection is accepted.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 256<<10) })
	}}
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, links: map[*link]bool{}, counts: map[byte]int{}}
	p.target.Store(target)
	p.serve(listener)
	return p
}

func (p *proxy) serve(listener net.Listener) {
	p.mutex.Lock()
	p.listeners = append(p.listeners, listener)
	p.mutex.Unlock()
	p.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", p.target.Load().(string))
			if err != nil {
				client.Close()
				continue
			}
			p.mutex.Lock()
			p.accepted++
			l := &link{number: p.accepted, client: client, server: server, answers: bufio.NewReader(server), done: make(chan struct{})}
			p.links[l] = true
			p.most = max(p.most, len(p.links))
			p.mutex.Unlock()
			p.running.Go(func() { p.pump(l, bufio.NewReader(client), server, &p.request) })
			p.running.Go(func() { p.pump(l, l.answers, client, &p.answer) })
		}
	})
}

func (p *proxy) pump(l *link, from *bufio.Reader, to net.Conn, asked *hook) {
	defer p.end(l)
	for {
		m, err := peek(from)
		if err != nil {
			return
		}
		p.mutex.Lock()
		p.counts[m.op]++
		decide := *asked
		p.mutex.Unlock()
		pass := everything
		if decide != nil {
			pass = decide(l, m)
		}
		switch {
		case pass == taken:
		case pass == swallow:
			_, err = from.Discard(m.size)
		case pass < m.size:
			_, _ = io.CopyN(to, from, int64(pass))
			return
		default:
			_, err = io.CopyN(to, from, int64(m.size))
		}
		if err != nil {
			return
		}
	}
}

// peek reads the beginning of a message, without taking it.
func peek(r *bufio.Reader) (message, error) {
	b, err := r.Peek(2)
	if err != nil {
		return message{}, err
	}
	header, length := 2, int(b[1])
	if b[1] >= 0x80 {
		header += int(b[1] & 0x7f)
		if b, err = r.Peek(header); err != nil {
			return message{}, err
		}
		length = 0
		for _, digit := range b[2:] {
			length = length<<8 | int(digit)
		}
	}
	m := message{size: header + length}
	if m.head, err = r.Peek(min(m.size, 512)); err != nil {
		return message{}, err
	}
	id := m.head[header+2:]
	for _, digit := range id[:m.head[header+1]] {
		m.id = m.id<<8 | int64(digit)
	}
	m.op = id[m.head[header+1]]
	return m, nil
}

func (p *proxy) end(l *link) {
	l.once.Do(func() {
		close(l.done)
		p.mutex.Lock() // first, so that what takes its place is not counted beside it
		delete(p.links, l)
		p.mutex.Unlock()
		l.client.Close()
		l.server.Close()
	})
}

// cut ends every connection.
func (p *proxy) cut() {
	p.mutex.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mutex.Unlock()
	for _, l := range links {
		p.end(l)
	}
}

func (p *proxy) close() {
	p.mutex.Lock()
	listeners := p.listeners
	p.mutex.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	p.cut()
	p.running.Wait()
}

func (p *proxy) onRequest(h hook) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.request = h
}

func (p *proxy) onAnswer(h hook) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.answer = h
}

// seen returns how many messages of an operation have come in.
func (p *proxy) seen(op byte) int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.counts[op]
}

func (p *proxy) openLinks() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return len(p.links)
}

func (p *proxy) mostLinks() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.most
}

// newest returns the number of the newest connection, which is how many there have been.
func (p *proxy) newest() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.accepted
}

func (p *proxy) String() string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return fmt.Sprintf("%d connections made, %d open, %d at most", p.accepted, len(p.links), p.most)
}

// gate holds messages back until it is opened, or their connection ends.
type gate struct {
	opened chan struct{}
	once   sync.Once
}

func newGate() *gate { return &gate{opened: make(chan struct{})} }

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

func (g *gate) hold(l *link, _ message) int {
	select {
	case <-g.opened:
	case <-l.done:
	}
	return everything
}

// queue is how many connections wait for a listener that fullQueue returns, at least.
const queue = 64

// holdLarge holds back what fills the buffers.
func (g *gate) holdLarge(l *link, m message) int {
	if m.size > 1<<20 {
		return g.hold(l, m)
	}
	return everything
}

// fullQueue returns a listener that does not accept yet, and connections that leave no room for more.
func fullQueue(t *testing.T) (listener net.Listener, fillers []net.Conn) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	err = errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, queue))
	if err != nil {
		t.Fatal(err)
	}
	if listener, err = net.FileListener(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for {
		filler, err := net.DialTimeout("tcp", listener.Addr().String(), timeout/5)
		if os.IsTimeout(err) {
			return listener, fillers
		}
		if err != nil {
			t.Fatal(err)
		}
		fillers = append(fillers, filler)
	}
}
