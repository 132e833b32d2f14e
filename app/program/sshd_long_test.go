//go:build long

package program

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// loginServer is where sshd is on Debian: for root it is in PATH, but not for everybody who runs tests.
const loginServer = "/usr/sbin/sshd"

// site is a directory, Rollcall before it, and a group for the hosts and people of a test.
type site struct {
	*program

	directory *slapd.Server
	settings  settings
	// address is where Rollcall is, or was.
	address string
}

// longEnough is for how long a host uses an answer in these tests.
const longEnough = "24h"

// everywhere is the group whose members may log in on every host.
const everywhere = "everywhere"

// newSite needs root: sshd lets nobody else log others in, and trusts no command that somebody else may change.
func newSite(t *testing.T) *site {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("this test needs root: it adds users to this system for its time, and runs sshd, which must become them")
	}
	directory := directoryServer(t)
	s := &site{directory: directory, settings: onPort(t, production(t, directory).with(settings{
		"LOG_LEVEL": "warn", "AUDIT_ENABLED": "false",
		"SSH_EVERYWHERE_GROUPS": "cn=" + everywhere + ",ou=groups," + ldapdirtest.Base,
	}))}
	s.serve(t)
	s.do(http.MethodPost, "/groups", map[string]any{"cn": everywhere}, http.StatusCreated)
	return s
}

// serve starts Rollcall, where it was before.
func (s *site) serve(t *testing.T) {
	t.Helper()
	s.program = start(t, s.settings, "serve")
	s.address = s.url()
}

// account is a user of the directory and of this system, and the key of theirs.
type account struct {
	name, key, public, fingerprint string
}

// The groups of accounts on this system: those whom the directory may let in, and others.
const (
	ofPeople   = "users"
	ofServices = "daemon"
)

// account adds somebody to the directory, with a key, and to a group of this system until the test ends.
func (s *site) account(group string) account {
	s.t.Helper()
	p := account{name: "rollcall-" + strings.ToLower(rand.Text()[:12])}
	p.key, p.public, p.fingerprint = newSSHKey(s.t)
	// "*" is no password. One that begins with "!" would be a locked account to sshd.
	useradd := exec.Command("useradd", "--system", "--gid", group, "--no-create-home", "--home-dir", "/nonexistent", "--shell", "/bin/sh", "--password", "*", p.name)
	if words, err := useradd.CombinedOutput(); err != nil {
		s.fatalf("%v: %v\n%s", useradd, err, words)
	}
	s.t.Cleanup(func() {
		s.eventually("the system removes "+p.name, func() bool { return exec.Command("userdel", p.name).Run() == nil })
	})
	s.do(http.MethodPost, "/users", map[string]any{"cn": p.name, "sn": p.name}, http.StatusCreated)
	s.addKey(p, nil)
	return p
}

func (s *site) addKey(p account, expires *time.Time) {
	s.t.Helper()
	s.do(http.MethodPost, "/users/"+p.name+"/keys", map[string]any{"key": p.public, "expiresAt": expires}, http.StatusCreated)
}

func (s *site) removeKey(p account) {
	s.t.Helper()
	s.do(http.MethodDelete, "/users/"+p.name+"/keys/"+url.PathEscape(p.fingerprint), nil, http.StatusNoContent)
}

func (s *site) lock(p account, locked bool) {
	s.t.Helper()
	s.do(http.MethodPatch, "/users/"+p.name, map[string]any{"accountLocked": locked}, http.StatusOK)
}

// group adds a group with these members, such as users/alice.
func (s *site) group(name string, members ...string) {
	s.t.Helper()
	s.do(http.MethodPost, "/groups", map[string]any{"cn": name, "members": members}, http.StatusCreated)
}

func (s *site) join(group, member string) {
	s.t.Helper()
	s.do(http.MethodPut, "/groups/"+group+"/members/"+member, nil, http.StatusNoContent)
}

func (s *site) leave(group, member string) {
	s.t.Helper()
	s.do(http.MethodDelete, "/groups/"+group+"/members/"+member, nil, http.StatusNoContent)
}

// newSSHKey makes a key, and returns the file with the private half, the public one and its fingerprint.
func newSSHKey(t *testing.T) (file, public, fingerprint string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), ssh.FingerprintSHA256(signer.PublicKey())
}

// loginHost is a host of the directory, with an sshd on a port of its own.
type loginHost struct {
	*site

	name, port string
	// dir and all above it are root's alone, as sshd demands for its command.
	dir string
	// known has the host's key, as Rollcall shows it.
	known string
	// log is what sshd says, and what the command has to say of what went wrong.
	log *output
}

// host adds a host to the directory and starts its sshd, in a folder outside of those for everybody.
func (s *site) host(name string) *loginHost {
	s.t.Helper()
	dir, err := os.MkdirTemp("/var/lib", "rollcall-test-")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &loginHost{site: s, name: name, dir: dir, log: &output{}}
	h.installs()
	key, public, _ := newSSHKey(s.t)
	_, h.port, err = net.SplitHostPort(onPort(s.t, settings{})["SERVER_LISTEN"])
	if err != nil {
		s.t.Fatal(err)
	}
	s.do(http.MethodPost, "/hosts", map[string]any{"cn": name, "ipAddresses": []string{"127.0.0.1"}, "sshPublicKeys": []string{public}}, http.StatusCreated)
	h.newToken()
	h.asks(longEnough, s.address)
	h.knows()
	h.listens(key)
	return h
}

// installs puts the program where sshd trusts it, as it is used: without the race detector.
func (h *loginHost) installs() {
	h.t.Helper()
	words, err := exec.Command("go", "build", "-buildvcs=false", "-o", h.file("rollcall"), "rollcall").CombinedOutput()
	for _, name := range []string{".", "rollcall"} {
		if err == nil {
			err = os.Chmod(h.file(name), 0o755)
		}
	}
	if err != nil {
		h.fatalf("go build: %v\n%s", err, words)
	}
}

func (h *loginHost) file(name string) string { return filepath.Join(h.dir, name) }

func (h *loginHost) write(name, text string) {
	h.t.Helper()
	if err := os.WriteFile(h.file(name), []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *loginHost) read(name string) []byte {
	h.t.Helper()
	text, err := os.ReadFile(h.file(name))
	if err != nil {
		h.t.Fatal(err)
	}
	return text
}

func (h *loginHost) newToken() {
	h.t.Helper()
	var made struct{ Token string }
	if err := json.Unmarshal(h.do(http.MethodPost, "/hosts/"+h.name+"/token", nil, http.StatusCreated).Body, &made); err != nil {
		h.t.Fatal(err)
	}
	h.write("token", made.Token)
}

// asks writes what the command reads at every login: whom it asks, and for how long it keeps an answer.
func (h *loginHost) asks(cacheFor string, urls ...string) {
	h.t.Helper()
	h.write("authkeys.yaml", fmt.Sprintf("urls: [%s]\nhost: %s\ntoken_file: %s\ncache_dir: %s\ncache_for: %s\ntimeout: %ds\n",
		strings.Join(urls, ", "), h.name, h.file("token"), h.file("cache"), cacheFor, 10/len(urls)))
}

// knows asks Rollcall for the key of the host, as the host itself may.
func (h *loginHost) knows() {
	h.t.Helper()
	h.known = filepath.Join(h.t.TempDir(), "known_hosts")
	answer := h.do(http.MethodGet, "/hosts/known_hosts?host="+url.QueryEscape("[127.0.0.1]:"+h.port), nil, http.StatusOK)
	if err := os.WriteFile(h.known, answer.Body, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// listens starts sshd as docs/ssh.md has it: with the command for people, and files for others.
func (h *loginHost) listens(key string) {
	h.t.Helper()
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // as the system does before it starts its own
		h.t.Fatal(err)
	}
	h.write("sshd_config", fmt.Sprintf(`ListenAddress 127.0.0.1:%s
HostKey %s
PidFile none
LogLevel VERBOSE
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile %s/%%u.keys
Match Group %s User !root,*
	AuthorizedKeysFile none
	AuthorizedKeysCommand %s authkeys --config %s -- %%u %%f
	AuthorizedKeysCommandUser root
`, h.port, key, h.dir, ofPeople, h.file("rollcall"), h.file("authkeys.yaml")))
	args := []string{"-D", "-e", "-f", h.file("sshd_config")}
	const noPenalties = "-oPerSourcePenalties=no" // since 9.8 who is refused has to wait
	if exec.Command(loginServer, "-t", "-f", h.file("sshd_config"), noPenalties).Run() == nil {
		args = append(args, noPenalties)
	}
	cmd := exec.Command(loginServer, args...)
	cmd.Stderr, cmd.SysProcAttr = h.log, &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		h.t.Fatalf("%v: scripts/install-sshd installs it", err)
	}
	h.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	h.eventually("sshd listens", func() bool { return strings.Contains(h.log.text(), "Server listening on 127.0.0.1") })
}

// ssh tries to log in, and returns what ssh and sshd say, the latter as soon as it has decided.
func (h *loginHost) ssh(p account, options ...string) (in bool, said, logged string) {
	h.t.Helper()
	before := len(h.log.text())
	cmd := exec.Command("ssh", slices.Concat(options, []string{
		"-F", "/dev/null", "-i", p.key, "-l", p.name, "-p", h.port, "-oGlobalKnownHostsFile=" + h.known, "-oUserKnownHostsFile=/dev/null",
		"-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oIdentitiesOnly=yes", "-oIdentityAgent=none",
		"127.0.0.1", "id", "-un",
	})...)
	var complaints strings.Builder
	cmd.Stderr = &complaints
	who, err := cmd.Output()
	h.eventually("sshd logs the end of "+p.name+"'s login", func() bool {
		logged = h.log.text()[before:]
		return strings.Contains(logged, "onnection closed by") || strings.Contains(logged, "isconnected from")
	})
	return err == nil && string(who) == p.name+"\n", complaints.String(), logged
}

// letsIn demands that somebody gets in, by the key.
func (h *loginHost) letsIn(when string, p account, options ...string) {
	h.t.Helper()
	in, said, logged := h.ssh(p, options...)
	if !in || !strings.Contains(logged, "Accepted publickey for "+p.name+" ") || !strings.Contains(logged, p.fingerprint) {
		h.fatalf("%s: %s does not get in\nssh:\n%s\nsshd:\n%s", when, p.name, said, logged)
	}
}

// refuses demands that sshd does not take somebody's key, and says nothing else but lines with these words.
func (h *loginHost) refuses(when string, p account, words ...string) {
	h.t.Helper()
	in, said, logged := h.ssh(p)
	if !refused(p, in, said, logged, words...) {
		h.fatalf("%s: %s should be refused\nssh:\n%s\nsshd:\n%s", when, p.name, said, logged)
	}
}

// refusesSoon demands that some time sshd does not take a key that it takes until then.
func (h *loginHost) refusesSoon(when string, p account, words ...string) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); ; {
		in, said, logged := h.ssh(p)
		if refused(p, in, said, logged, words...) {
			return
		}
		if time.Now().After(deadline) {
			h.fatalf("%s: %s should be refused\nssh:\n%s\nsshd:\n%s", when, p.name, said, logged)
		}
	}
}

// refused reports whether a login failed for want of a key that may be used, and for no other fault than words say.
func refused(p account, in bool, said, logged string, words ...string) bool {
	expected := append([]string{"Connection from ", "Failed publickey for " + p.name + " ", "Connection closed by authenticating user "}, words...)
	found := make([]bool, len(expected))
	for line := range strings.Lines(logged) {
		i := slices.IndexFunc(expected, func(e string) bool { return strings.Contains(line, e) })
		if i < 0 {
			return false
		}
		found[i] = true
	}
	return !in && !slices.Contains(found, false) && strings.Contains(logged, p.fingerprint) && strings.Contains(said, "Permission denied (publickey)")
}
