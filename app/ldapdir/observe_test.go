package ldapdir_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
)

// seen counts what was observed, by operation and result.
type seen struct {
	t      *testing.T
	mutex  sync.Mutex
	counts map[string]int
}

func (s *seen) observe(_ context.Context, operation, result string, begun time.Time, took time.Duration) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.counts[operation+" "+result]++
	if begun.IsZero() || took < 0 || time.Now().Before(begun.Add(took)) {
		s.t.Errorf("%s began at %v and took %v", operation, begun, took)
	}
}

// take returns what was observed since the last time.
func (s *seen) take() map[string]int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	counts := s.counts
	s.counts = map[string]int{}
	return counts
}

func (s *seen) want(what string, want map[string]int) {
	s.t.Helper()
	if got := s.take(); !maps.Equal(got, want) {
		s.t.Errorf("%s: observed %v, want %v", what, got, want)
	}
}

func observing(s *seen) func(*ldapdir.Options) {
	return func(o *ldapdir.Options) { o.Observe, o.Connections, o.PasswordPolicy = s.observe, 1, "" }
}

func TestEachOperationIsObservedOnceWithItsResult(t *testing.T) {
	s := &seen{t: t, counts: map[string]int{}}
	f := open(t, startServer(t), observing(s))
	user := func(name string) directory.Patch {
		return directory.Patch{Set: map[string][]string{"cn": {name}, "sn": {"x"}}}
	}
	change := func(directory.Entry) (directory.Patch, error) {
		return directory.Patch{Set: map[string][]string{"sn": {"y"}}}, nil
	}
	for _, step := range []struct {
		what string
		do   func(ctx context.Context) error
		want map[string]int
	}{
		{"the first read connects", func(ctx context.Context) error { return read.do(f, ctx) }, map[string]int{"bind success": 1, "search success": 2}},
		{"a read", func(ctx context.Context) error { return read.do(f, ctx) }, map[string]int{"search success": 1}},
		{"what is not there", func(ctx context.Context) error { _, err := f.Get(ctx, ldapdirtest.Users, "zoe"); return ignore(err) }, map[string]int{"search noSuchObject": 1}},
		{"a value", func(ctx context.Context) error { return write.do(f, ctx) }, map[string]int{"modify success": 1}},
		{"a creation", func(ctx context.Context) error { _, err := f.Create(ctx, ldapdirtest.Users, user("zoe")); return err }, map[string]int{"add success": 1, "search success": 2}},
		{"a creation again", func(ctx context.Context) error {
			_, err := f.Create(ctx, ldapdirtest.Users, user("zoe"))
			return ignore(err)
		}, map[string]int{"add entryAlreadyExists": 1, "search success": 1}},
		{"a change", func(ctx context.Context) error {
			_, err := f.Update(ctx, ldapdirtest.Users, "zoe", directory.Condition{}, change)
			return err
		}, map[string]int{"search success": 1, "modify success": 1}},
		{"a deletion", func(ctx context.Context) error {
			return f.Delete(ctx, ldapdirtest.Users, "zoe", directory.Condition{})
		}, map[string]int{"search success": 2, "delete success": 1}},
		{"a login", func(ctx context.Context) error { return login.do(f, ctx) }, map[string]int{"bind success": 1}},
		{"a wrong password", func(ctx context.Context) error {
			_, err := f.Authenticate(ctx, "cn=alice,ou=people,"+f.server.Suffix(), "wrong")
			return ignore(err)
		}, map[string]int{"bind invalidCredentials": 1}},
		{"a list in pages of its own connection", func(ctx context.Context) error { return list.do(f, ctx) }, nil},
	} {
		if err := step.do(t.Context()); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if step.want == nil {
			if got := s.take(); got["search success"] < 4 || got["bind success"] != 1 || len(got) != 2 {
				t.Errorf("%s: observed %v", step.what, got)
			}
			continue
		}
		s.want(step.what, step.want)
	}
}

// ignore is for what is meant to be refused.
func ignore(err error) error {
	if err == nil {
		return errStuck
	}
	return nil
}

func TestAnOperationWithoutAnAnswerIsObservedByWhatItLacked(t *testing.T) {
	s := &seen{t: t, counts: map[string]int{}}
	f := open(t, startServer(t), observing(s))
	if err := f.run(read); err != nil {
		t.Fatal(err)
	}
	s.take()

	gone, leave := context.WithCancel(t.Context())
	hold := newGate()
	f.onRequest(func(l *link, m message) int {
		leave()
		return hold.hold(l, m)
	})
	_ = read.do(f, gone)
	s.want("whoever asked has gone", map[string]int{"search abandoned": 1})
	_ = f.run(read)
	s.want("the server is silent", map[string]int{"search timeout": 1})
	hold.open()
	f.onRequest(nil)
	f.works("after that")
	s.take()

	f.kill()
	_ = f.run(read)
	_ = f.run(read)
	_ = f.run(login)
	got := s.take()
	if got["search connection-lost"] < 2 || got["bind connection-lost"] < 1 || slices.ContainsFunc(slices.Collect(maps.Keys(got)),
		func(key string) bool { return key != "search connection-lost" && key != "bind connection-lost" }) {
		t.Errorf("the server is dead: observed %v", got)
	}
	f.restart()
}

func TestLanesTellWhatIsTaken(t *testing.T) {
	f := open(t, startServer(t), func(o *ldapdir.Options) { o.Connections, o.SortedSearches = 1, 2 })
	lane := func(name string) ldapdir.Lane {
		lanes := f.Lanes()
		at := slices.IndexFunc(lanes, func(l ldapdir.Lane) bool { return l.Name == name })
		if at < 0 || len(lanes) != 4 {
			t.Fatalf("no lane %s among %+v", name, lanes)
		}
		return lanes[at]
	}
	want := func(what string, want ldapdir.Lane) {
		t.Helper()
		f.eventually(what, func() bool { return lane(want.Name) == want })
	}
	want("nothing is open yet", ldapdir.Lane{Name: "shared", Limit: 1})
	for _, c := range []call{read, login, list} {
		if err := f.run(c); err != nil {
			t.Fatal(err)
		}
	}
	want("a shared connection is open", ldapdir.Lane{Name: "shared", Idle: 1, Limit: 1})
	want("a login's connection is kept", ldapdir.Lane{Name: "logins", Idle: 1, Limit: 3})
	want("a list's connection is kept", ldapdir.Lane{Name: "paged", Idle: 1, Limit: 3})

	sorted := directory.Query{Limit: 1, Sort: []directory.SortKey{{Field: "cn"}}}
	if _, err := f.Page(t.Context(), ldapdirtest.Users, sorted); err != nil {
		t.Fatal(err)
	}
	want("a search is held", ldapdir.Lane{Name: "paged", InUse: 1, Limit: 3})
	want("it is a sorted one", ldapdir.Lane{Name: "sorted", InUse: 1, Limit: 2})
	if held := f.HeldSearches(); held != 1 {
		t.Errorf("%d searches are held", held)
	}

	hold := newGate()
	f.onRequest(hold.hold)
	done := make(chan error)
	go func() { done <- read.do(f, context.Background()) }()
	want("something runs on the shared connection", ldapdir.Lane{Name: "shared", InUse: 1, Limit: 1})
	hold.open()
	if err := <-done; err != nil {
		t.Error(err)
	}
	f.onRequest(nil)
}
