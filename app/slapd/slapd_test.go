package slapd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"go.uber.org/goleak"

	"rollcall/deploy/openldap"
)

const patience = 30 * time.Second // for what happens in its own time

// parentOf makes the test binary start a server as given and wait to be killed.
const parentOf = "SLAPD_TEST_PARENT_OF"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentOf); dir != "" {
		o := Options{Dir: dir, Binary: os.Getenv(parentOf + "_BINARY")}
		if _, err := Start(context.Background(), o); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		select {}
	}
	goleak.VerifyTestMain(m)
}

func start(t *testing.T, o Options) *Server {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	if o.Argon2 == (openldap.Argon2{}) {
		o.Argon2 = openldap.CheapArgon2
	}
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func sample(t *testing.T) string {
	t.Helper()
	ldif, err := openldap.Sample(openldap.Values{})
	if err != nil {
		t.Fatal(err)
	}
	return ldif
}

// dial connects; an empty dn stays anonymous.
func dial(t *testing.T, s *Server, dn, password string) *ldap.Conn {
	t.Helper()
	conn, err := ldap.DialURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetTimeout(patience)
	if dn == "" {
		return conn
	}
	if err := conn.Bind(dn, password); err != nil {
		t.Fatalf("bind as %s: %v", dn, err)
	}
	return conn
}

func service(t *testing.T, s *Server) *ldap.Conn {
	t.Helper()
	return dial(t, s, s.ServiceDN(), s.ServicePassword())
}

func search(conn *ldap.Conn, base string, scope int, filter string, attrs ...string) ([]*ldap.Entry, error) {
	result, err := conn.Search(ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, 0, 0, false, filter, attrs, nil))
	if err != nil {
		return nil, err
	}
	return result.Entries, nil
}

func mustSearch(t *testing.T, conn *ldap.Conn, base string, scope int, filter string, attrs ...string) []*ldap.Entry {
	t.Helper()
	entries, err := search(conn, base, scope, filter, attrs...)
	if err != nil {
		t.Fatalf("search %s: %v", base, err)
	}
	return entries
}

func pid(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, pidFile))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// eventually fails the test unless ok becomes true.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestSeedsAndServes(t *testing.T) {
	dir := t.TempDir()
	begin := time.Now()
	s := start(t, Options{Dir: dir, Seed: sample(t)})
	t.Logf("a fresh server with the sample directory took %v", time.Since(begin))
	conn := service(t, s)
	for container, want := range map[string]int{"people": 20, "groups": 6, "hosts": 5} {
		base := "ou=" + container + "," + s.Suffix()
		if got := len(mustSearch(t, conn, base, ldap.ScopeSingleLevel, "(objectClass=*)")); got != want {
			t.Errorf("%s: %d entries, want %d", container, got, want)
		}
	}
	dial(t, s, "cn=admin,ou=people,"+s.Suffix(), "admin")
	dial(t, s, "cn=alice,ou=people,"+s.Suffix(), "alice-password")

	url, err := os.ReadFile(filepath.Join(dir, urlFile))
	if err != nil || strings.TrimSpace(string(url)) != s.URL() {
		t.Errorf("%s holds %q (%v), want %s", urlFile, url, err, s.URL())
	}
	for name, want := range map[string]fs.FileMode{serverDir: 0o700, passwordFile: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v", name, info.Mode(), want)
		}
	}
	if len(s.ServicePassword()) < 43 {
		t.Errorf("the service password has %d characters, too few for 256 bits", len(s.ServicePassword()))
	}
	pid := pid(t, dir)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there after Stop: %v", pid, err)
	}
	for _, name := range []string{pidFile, urlFile} {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left after Stop", name)
		}
	}
	if err := s.Err(); err != nil {
		t.Errorf("Err after Stop: %v", err)
	}
}

func TestMakesItsFolderPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "not", "there")
	start(t, Options{Dir: dir})
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("mode %v (%v), want 0700", info.Mode(), err)
	}
}

// A clone of the project may lie in a folder that the user slapd runs as cannot enter.
func TestWorksBelowAClosedFolder(t *testing.T) {
	closed := filepath.Join(t.TempDir(), "closed")
	if err := os.Mkdir(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(closed, "it's a folder", "rollcall")
	s := start(t, Options{Dir: dir, Seed: sample(t)})
	service(t, s)
}

func TestKeepsDataAndAddress(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	dn := "cn=kept,ou=hosts," + s.Suffix()
	add := ldap.NewAddRequest(dn, nil)
	add.Attribute("objectClass", []string{"device"})
	if err := service(t, s).Add(add); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	again, err := s.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Kill() })
	if again.URL() != s.URL() || again.ServicePassword() != s.ServicePassword() {
		t.Errorf("restarted at %s, was at %s; same password: %v", again.URL(), s.URL(), again.ServicePassword() == s.ServicePassword())
	}
	mustSearch(t, service(t, again), dn, ldap.ScopeBaseObject, "(objectClass=*)")

	// Restart of a server that runs stops it first.
	last, err := again.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = last.Kill() })
	mustSearch(t, service(t, last), dn, ldap.ScopeBaseObject, "(objectClass=*)")
}

func TestSecondInstanceIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	_, err := Start(t.Context(), Options{Dir: dir})
	if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), s.URL()) {
		t.Errorf("got %v, want ErrInUse with the other's URL", err)
	}
	service(t, s)
}

func TestMissing(t *testing.T) {
	_, err := Start(t.Context(), Options{Dir: t.TempDir(), Binary: filepath.Join(t.TempDir(), "slapd")})
	if !errors.Is(err, ErrMissing) {
		t.Errorf("no such binary: got %v, want ErrMissing", err)
	}

	t.Setenv("PATH", t.TempDir())
	was := binaries
	t.Cleanup(func() { binaries = was })
	if _, err := findBinary(""); err != nil {
		t.Errorf("not found outside of PATH: %v", err)
	}
	binaries = nil
	if _, err := findBinary(""); !errors.Is(err, ErrMissing) || !strings.Contains(err.Error(), "scripts/install-slapd") {
		t.Errorf("nowhere: got %v, want ErrMissing with the remedy", err)
	}
}

func TestAddressMustBeLoopback(t *testing.T) {
	for _, address := range []string{"0.0.0.0:3890", "192.0.2.1:3890", "127.0.0.1:0", "localhost", "3890"} {
		if s, err := Start(t.Context(), Options{Dir: t.TempDir(), Address: address}); err == nil {
			t.Errorf("%s accepted", address)
			_ = s.Kill()
		}
	}
}

func TestSpeaksSlapdsOwnWords(t *testing.T) {
	bogus := func(conf string) string { return conf + "\nbogus directive\n" }
	old := t.TempDir()
	if err := start(t, Options{Dir: old}).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options Options
		command string
		words   string
	}{
		"configuration of a new folder":  {Options{Dir: t.TempDir(), Config: bogus}, "slapadd", "unknown directive <bogus>"},
		"configuration of an old folder": {Options{Dir: old, Config: bogus}, "slapd", "unknown directive <bogus>"},
		"seed":                           {Options{Dir: t.TempDir(), Seed: "dn: cn=x,dc=example,dc=org\nobjectClass: unheardOf\n"}, "slapadd", "unheardOf"},
	} {
		s, err := Start(t.Context(), test.options)
		if err == nil {
			_ = s.Kill()
		}
		exit, ok := errors.AsType[*ExitError](err)
		if !ok || exit.Command != test.command || !strings.Contains(exit.Words, test.words) || strings.Contains(exit.Words, "$OpenLDAP") {
			t.Errorf("%s: got %v, want an ExitError of %s with %q and no banner", name, err, test.command, test.words)
		}
	}
}

func TestEndOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	if err := s.Err(); err != nil {
		t.Fatalf("Err while it runs: %v", err)
	}
	if err := syscall.Kill(pid(t, dir), syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.Done():
	case <-time.After(patience):
		t.Fatal("Done is not closed")
	}
	var exit *ExitError
	if err := s.Err(); !errors.As(err, &exit) || !strings.Contains(exit.Status, "abort") {
		t.Errorf("got %v, want an ExitError that names the signal", err)
	}
	if err := errors.Join(s.Stop(t.Context()), s.Kill()); err != nil {
		t.Errorf("stopping what has ended: %v", err)
	}
}

func TestPauseAndStop(t *testing.T) {
	s := start(t, Options{})
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL(), "ldap://"))
	if err != nil {
		t.Fatalf("a silent server's port must accept: %v", err)
	}
	conn.Close()
	if err := bind(t.Context(), s.options.Address, s.ServiceDN(), s.ServicePassword()); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("bind to a silent server: %v, want the deadline", err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	service(t, s)

	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Errorf("Stop of a paused server: %v", err)
	}

	hasty, err := s.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := hasty.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := hasty.Stop(over); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Stop without time: %v, want context.Canceled", err)
	}
	<-hasty.Done()
}

func TestStartKeepsToItsContext(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Start(over, Options{Dir: t.TempDir()}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}

	// A server whose service account has another password never gets ready.
	dir := t.TempDir()
	if err := start(t, Options{Dir: dir}).Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, passwordFile), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := Start(short, Options{Dir: dir}); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "LDAP result 49") {
		t.Errorf("got %v, want the deadline and the last try's result", err)
	}
}

func TestTakesAnotherPort(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	handed := 0
	newAddress = func() (string, error) {
		if handed++; handed < 3 {
			return taken.Addr().String(), nil
		}
		return freeAddress()
	}
	t.Cleanup(func() { newAddress = freeAddress })
	service(t, start(t, Options{}))
	if handed != 3 {
		t.Errorf("%d addresses tried, want 3", handed)
	}

	var exit *ExitError
	if _, err := Start(t.Context(), Options{Dir: t.TempDir(), Address: taken.Addr().String()}); !errors.As(err, &exit) {
		t.Errorf("a given address that is taken: got %v, want an ExitError", err)
	}
}
