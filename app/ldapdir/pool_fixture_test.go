package ldapdir_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

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
	o.Decoy = "" // a login is one bind
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
		for entry, err := range directory.Each(ctx, f, ldapdirtest.Users, directory.Query{Limit: 2}) {
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
		_, err := f.Authenticate(ctx, "cn=alice,ou=people,"+f.server.Suffix(), password)
		return err
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
