package ldapdir_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

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
	time.AfterFunc(2*timeout, hole.open) // when all have given up: a proxy that does not read does not see a connection's end
	f.close()
	wait()
}

func closeListing(t *testing.T, shared *slapd.Server) {
	f := open(t, shared, nil)
	seen := 0
	var last error
	for _, err := range directory.Each(context.Background(), f, ldapdirtest.Users, directory.Query{Limit: 2}) {
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
