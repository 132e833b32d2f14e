package ldapdir_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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
			_, err := f.Authenticate(context.Background(), "cn=bob,ou=people,"+shared.Suffix(), "wrong")
			return err
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
