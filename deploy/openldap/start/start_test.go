//go:build linux

package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/deploy/openldap"
)

const patience = 30 * time.Second // for what happens in its own time

// asStart makes the test binary be the program.
const asStart = "START_TEST_AS_START"

func TestMain(m *testing.M) {
	if os.Getenv(asStart) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// place is what a container has: its volumes, an address and OpenLDAP.
type place struct {
	dir, secrets, handover, address, socket string
	slapd                                   string
	suffix                                  string
}

func newPlace(t *testing.T) *place {
	t.Helper()
	top := t.TempDir()
	p := &place{
		dir: filepath.Join(top, "directory"), secrets: filepath.Join(top, "secrets"), handover: filepath.Join(top, "handover"),
		slapd: filepath.Join(top, "slapd"), suffix: openldap.DefaultSuffix,
	}
	for _, dir := range []string{p.secrets, p.handover} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{top, filepath.Dir(top)} { // slapd's user passes through
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// A copy is not confined by Ubuntu's AppArmor profile.
	text, err := os.ReadFile(installed(t, "/usr/sbin/slapd", "/usr/libexec/slapd", "/usr/lib/openldap/slapd"))
	if err == nil {
		err = os.WriteFile(p.slapd, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := os.MkdirTemp("", "ldapi") //nolint:usetesting // the path of a socket may not be long
	if err == nil {
		err = os.Chmod(sockets, 0o777)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(sockets) })
	p.socket = filepath.Join(sockets, "s")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	_ = l.Close()
	return p
}

// installed returns the first of the paths that is there.
func installed(t *testing.T, paths ...string) string {
	t.Helper()
	for _, path := range paths {
		if exists(path) {
			return path
		}
	}
	t.Fatalf("OpenLDAP is not installed, scripts/install-slapd does that: there is none of %q", paths)
	return ""
}

// command returns the program in its place.
func (p *place) command(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	user := "openldap"
	if passwd, _ := os.ReadFile("/etc/passwd"); !strings.Contains("\n"+string(passwd), "\nopenldap:") {
		user = "ldap"
	}
	cmd := exec.Command(self, append([]string{
		"-dir", p.dir, "-secrets", p.secrets, "-handover", p.handover, "-user", user, "-slapd", p.slapd,
		"-schemas", installed(t, "/etc/ldap/schema", "/etc/openldap/schema"),
		"-modules", installed(t, "/usr/lib/ldap", "/usr/lib64/openldap", "/usr/lib/openldap"),
		"-listen", "ldap://" + p.address + "/ ldapi://" + strings.ReplaceAll(p.socket, "/", "%2F") + "/",
	}, args...)...)
	cmd.Env = append(os.Environ(), asStart+"=1", "LDAP_SUFFIX="+p.suffix, "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &words, &words
	return cmd, &words
}

// running is a program that has become slapd.
type running struct {
	cmd   *exec.Cmd
	words *bytes.Buffer
	done  chan struct{} // closed when it has ended
}

// start starts the program and waits until slapd answers.
func (p *place) start(t *testing.T, args ...string) *running {
	t.Helper()
	cmd, words := p.command(t, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := &running{cmd, words, make(chan struct{})}
	go func() { _ = cmd.Wait(); close(r.done) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-r.done })
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		if conn, err := net.Dial("tcp", p.address); err == nil {
			_ = conn.Close()
			return r
		}
		select {
		case <-r.done:
			t.Fatalf("it ended: %s\n%s", cmd.ProcessState, words)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("not in time: slapd's answer")
		}
	}
}

// stop ends it as a container is stopped.
func (r *running) stop(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-r.done:
	case <-time.After(patience):
		t.Fatal("not in time: slapd's end")
	}
}

// refused runs the program, which must end with a failure that says this.
func (p *place) refused(t *testing.T, says string, args ...string) {
	t.Helper()
	cmd, words := p.command(t, args...)
	err := cmd.Start()
	if err == nil {
		defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop() // it has become slapd
		err = cmd.Wait()
	}
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(words.String(), says) {
		t.Errorf("%v: %v, want exit status 1 and %q:\n%s", args, err, says, words)
	}
}

func (p *place) read(t *testing.T, names ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(names...))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(string(text), "\n")
}

// dial connects as a client that trusts the CA which the API is handed, and none else.
func (p *place) dial(t *testing.T) *ldap.Conn {
	t.Helper()
	conn, err := ldap.DialURL("ldap://" + p.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	conn.SetTimeout(patience)
	if err := conn.StartTLS(p.trusting(t)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func (p *place) trusting(t *testing.T) *tls.Config {
	t.Helper()
	cas := x509.NewCertPool()
	if !cas.AppendCertsFromPEM([]byte(p.read(t, p.handover, caFile))) {
		t.Fatal("ca.crt holds no certificate")
	}
	return &tls.Config{RootCAs: cas, ServerName: "openldap", MinVersion: tls.VersionTLS12}
}

func (p *place) service(t *testing.T) *ldap.Conn {
	t.Helper()
	conn := p.dial(t)
	if err := conn.Bind(openldap.ServiceDN(p.suffix), p.read(t, p.handover, serviceFile)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func (p *place) adminDN() string { return "cn=admin,ou=people," + p.suffix }

func search(conn *ldap.Conn, base string, scope int, filter string) ([]*ldap.Entry, error) {
	result, err := conn.Search(ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, 0, 0, false, filter, nil, nil))
	if err != nil {
		return nil, err
	}
	return result.Entries, nil
}

func TestAFirstStartMakesWhatIsMissing(t *testing.T) {
	p := newPlace(t)
	r := p.start(t)
	owner := func(path string, as int) {
		info, err := os.Stat(path)
		if err != nil {
			t.Error(err)
		} else if os.Geteuid() == 0 && int(info.Sys().(*syscall.Stat_t).Uid) != as {
			t.Errorf("%s belongs to user %d, not %d", path, info.Sys().(*syscall.Stat_t).Uid, as)
		}
	}
	for path, want := range map[string]fs.FileMode{
		filepath.Join(p.secrets, serviceFile): 0o600, filepath.Join(p.secrets, adminFile): 0o600, filepath.Join(p.secrets, tokenFile): 0o600,
		filepath.Join(p.dir, tlsDir, authority): 0o600, filepath.Join(p.dir, tlsDir, serverFile): 0o400, filepath.Join(p.dir, dataDir): 0o700,
		filepath.Join(p.handover, serviceFile): 0o400, filepath.Join(p.handover, tokenFile): 0o400, filepath.Join(p.handover, caFile): 0o400,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v (%v), want %v", path, info.Mode(), err, want)
		}
		if strings.HasPrefix(path, p.handover) {
			owner(path, 65532)
		} else if strings.HasPrefix(path, p.secrets) {
			owner(path, os.Geteuid())
		}
	}
	for _, name := range []string{serviceFile, tokenFile} {
		if p.read(t, p.secrets, name) != p.read(t, p.handover, name) {
			t.Errorf("the API is handed another %s", name)
		}
	}
	if files, err := os.ReadDir(p.handover); err != nil || len(files) != 3 {
		t.Errorf("the API is handed %v (%v)", files, err)
	}
	people, err := search(p.service(t), "ou=people,"+p.suffix, ldap.ScopeSingleLevel, "(objectClass=*)")
	if err != nil || len(people) != 1 || people[0].GetAttributeValue("cn") != "admin" {
		t.Errorf("people: %v (%v), want the administrator alone", people, err)
	}
	if err := p.dial(t).Bind(p.adminDN(), p.read(t, p.secrets, adminFile)); err != nil {
		t.Errorf("the administrator can't log in: %v", err)
	}
	policies, err := search(p.service(t), "ou=policies,"+p.suffix, ldap.ScopeSingleLevel, "(|(pwdMaxFailure=20)(pwdMaxRecordedFailure=20))")
	if err != nil || len(policies) != 2 {
		t.Errorf("policies that suffer 20 failures: %v (%v), want those of users and of the decoy", policies, err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", r.cmd.Process.Pid))
	if err != nil || !bytes.Contains(limits, fmt.Appendf(nil, "Max open files            %d ", openFiles)) {
		t.Errorf("%v\n%s", err, limits)
	}
	r.stop(t)
	if words := r.words.String(); r.cmd.ProcessState.ExitCode() != 0 || !strings.Contains(words, filepath.Join(p.secrets, adminFile)) {
		t.Errorf("%s, having said:\n%s", r.cmd.ProcessState, words)
	}
	for _, secret := range []string{serviceFile, adminFile} {
		if strings.Contains(r.words.String(), p.read(t, p.secrets, secret)) {
			t.Errorf("it shows %s:\n%s", secret, r.words)
		}
	}
}

func TestNothingIsAnsweredInClear(t *testing.T) {
	p := newPlace(t)
	p.start(t)
	conn, err := ldap.DialURL("ldap://" + p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetTimeout(patience)
	if err := conn.Bind(openldap.ServiceDN(p.suffix), p.read(t, p.secrets, serviceFile)); !ldap.IsErrorWithCode(err, ldap.LDAPResultConfidentialityRequired) {
		t.Errorf("a password in clear: %v, want result 13", err)
	}
	if _, err := search(conn, "", ldap.ScopeBaseObject, "(objectClass=*)"); !ldap.IsErrorWithCode(err, ldap.LDAPResultConfidentialityRequired) {
		t.Errorf("a search in clear: %v, want result 13", err)
	}
	for rule, change := range map[string]func(*tls.Config){
		"another CA":   func(c *tls.Config) { c.RootCAs = x509.NewCertPool() },
		"another name": func(c *tls.Config) { c.ServerName = "ldap.example.org" },
		"TLS 1.1":      func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 },
	} {
		with := p.trusting(t)
		change(with)
		conn, err := ldap.DialURL("ldap://" + p.address)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.StartTLS(with); err == nil {
			t.Errorf("%s: accepted", rule)
		}
		_ = conn.Close()
	}
}

func TestRootSetsALostPasswordThroughTheSocket(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: the socket lets nobody else do more than others may")
	}
	p := newPlace(t)
	p.start(t)
	conn, err := ldap.DialURL("ldapi://" + p.socket)
	if err == nil {
		err = conn.ExternalBind()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.PasswordModify(ldap.NewPasswordModifyRequest(p.adminDN(), "", "a new password"))
	if may := os.Geteuid() == 0; may != (err == nil) {
		t.Fatalf("by user %d: %v", os.Geteuid(), err)
	}
	if err := p.dial(t).Bind(p.adminDN(), "a new password"); (os.Geteuid() == 0) != (err == nil) {
		t.Errorf("with the new password: %v", err)
	}
}

func TestARestartKeepsWhatIsThere(t *testing.T) {
	p := newPlace(t)
	r := p.start(t)
	host := "cn=kept,ou=hosts," + p.suffix
	add := ldap.NewAddRequest(host, nil)
	add.Attribute("objectClass", []string{"device"})
	if err := p.service(t).Add(add); err != nil {
		t.Fatal(err)
	}
	admin, token, ca := p.read(t, p.secrets, adminFile), p.read(t, p.handover, tokenFile), p.read(t, p.handover, caFile)
	certificate, entries := p.read(t, p.dir, tlsDir, serverFile), p.backup(t)
	r.stop(t)
	if err := os.Remove(filepath.Join(p.secrets, adminFile)); err != nil { // it is used once
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(p.handover, caFile)); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	p.service(t)
	now := p.backup(t)
	if diff := cmp.Diff(entries, now); diff != "" || !strings.Contains(now, "\ndn: "+host+"\n") {
		t.Errorf("was (-), is (+):\n%s", diff)
	}
	if err := p.dial(t).Bind(p.adminDN(), admin); err != nil {
		t.Errorf("the administrator: %v", err)
	}
	if token != p.read(t, p.handover, tokenFile) || ca != p.read(t, p.handover, caFile) || certificate != p.read(t, p.dir, tlsDir, serverFile) {
		t.Error("the token key, the CA or the certificate is another")
	}
	if exists(filepath.Join(p.secrets, adminFile)) {
		t.Error("there is a new password for an administrator who has one")
	}
}

func TestChangedSecretsCountAtTheNextStart(t *testing.T) {
	p := newPlace(t)
	r := p.start(t)
	was := p.read(t, p.handover, serviceFile)
	r.stop(t)
	for name, text := range map[string]string{serviceFile: "brought along, and long enough\r\n", "token-2.key": "another key\n"} {
		if err := os.WriteFile(filepath.Join(p.secrets, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r = p.start(t)
	p.service(t)
	if got := p.read(t, p.handover, serviceFile); got != "brought along, and long enough" {
		t.Errorf("the API is handed %q", got)
	}
	if err := p.dial(t).Bind(openldap.ServiceDN(p.suffix), was); !ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
		t.Errorf("the old password: %v, want result 49", err)
	}
	if got := p.read(t, p.handover, "token-2.key"); got != "another key" {
		t.Errorf("the API is handed %q", got)
	}
	r.stop(t)
	if err := os.Remove(filepath.Join(p.secrets, "token-2.key")); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	if exists(filepath.Join(p.handover, "token-2.key")) {
		t.Error("the API still has the key that was taken away")
	}
}

func TestSecretsThatCannotBeUsedAreRefusedByName(t *testing.T) {
	for _, test := range []struct{ rule, file, text, says string }{
		{"empty", serviceFile, "", "is too short: give it at least 20 characters, or remove the file"},
		{"short", serviceFile, "short enough to try\n", "is too short"},
		{"short for an administrator", adminFile, "1234567\n", "is too short: give it at least 8 characters"},
		{"two lines", adminFile, "password\nnext line\n", "must be one line"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			p := newPlace(t)
			path := filepath.Join(p.secrets, test.file)
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			p.refused(t, path+": the password "+test.says)
		})
	}
	t.Run("no folder", func(t *testing.T) {
		p := newPlace(t)
		p.secrets += "/nowhere"
		p.refused(t, filepath.Join(p.secrets, serviceFile)+" is missing, and can't be made")
	})
}
