package program

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// slow gives servers more time than a busy machine needs to answer.
const slow = "timeout: 10s\n"

// sshHost writes what a host has below /etc/rollcall, and returns the name of its configuration.
func sshHost(t *testing.T, url, host, token, more string) string {
	t.Helper()
	dir := t.TempDir()
	tokenFile, file := filepath.Join(dir, "token"), filepath.Join(dir, "authkeys.yaml")
	text := fmt.Sprintf("urls: [%s]\nhost: %s\ntoken_file: %s\ncache_dir: %s\n%s", url, host, tokenFile, filepath.Join(dir, "cache"), more)
	for name, text := range map[string]string{tokenFile: token + "\n", file: text} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

// asSshd runs the command as sshd does, with next to no environment and its standard error thrown away, and returns
// what it prints and its status.
func asSshd(t *testing.T, file string, args ...string) (printed string, status int) {
	t.Helper()
	p := newProgram(t, exec.Command(binary, append([]string{"authkeys", "--config", file, "--"}, args...)...))
	p.cmd.Stdout, p.cmd.Env, p.cmd.Dir = p.stdout, []string{"PATH=/usr/bin:/bin", "GORACE=atexit_sleep_ms=10"}, "/"
	err := p.cmd.Run()
	if p.cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return p.stdout.text(), p.cmd.ProcessState.ExitCode()
}

func TestSshdLearnsWhichKeysTheDirectoryAllows(t *testing.T) {
	t.Parallel()
	server, _ := private(t, onPort(t, development(t.TempDir())))
	token := func(host string) string {
		t.Helper()
		var made struct{ Token string }
		if err := json.Unmarshal(server.do(http.MethodPost, "/hosts/"+host+"/token", nil, http.StatusCreated).Body, &made); err != nil {
			t.Fatal(err)
		}
		return made.Token
	}
	first := token("web1")
	web1, web2, stranger := sshHost(t, server.url(), "web1", first, slow), sshHost(t, server.url(), "web2", token("web2"), slow), sshHost(t, server.url(), "web2", first, slow)
	var bob struct{ SSHPublicKeys []string }
	if err := json.Unmarshal(server.do(http.MethodGet, "/users/bob", nil, http.StatusOK).Body, &bob); err != nil {
		t.Fatal(err)
	}
	keys := strings.Join(bob.SSHPublicKeys, "\n") + "\n"
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(keys))
	if err != nil {
		t.Fatal(err)
	}

	prints := func(what, host, want string, status int, args ...string) {
		t.Helper()
		if printed, got := asSshd(t, host, args...); printed != want || got != status {
			server.fatalf("%s: prints %q with status %d, want %q with %d", what, printed, got, want, status)
		}
	}
	const member = "/groups/web/members/users/bob" // both hosts are in that group
	prints("bob", web1, keys, 0, "bob")
	prints("bob's key", web1, keys, 0, "bob", ssh.FingerprintSHA256(key))
	prints("another key", web1, "", 0, "bob", "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU")
	prints("somebody without a group in common", web1, "", 0, "alice")
	prints("nobody", web1, "", 0, "mallory")
	prints("bob on another host", web2, keys, 0, "bob")
	prints("another host's token", stranger, "", 1, "bob")
	proxy := httptest.NewServer(http.NotFoundHandler())
	defer proxy.Close()
	behind := sshHost(t, proxy.URL+", "+server.url(), "web1", first, "timeout: 5s\n")
	prints("after a proxy that knows no such page", behind, keys, 0, "bob")
	if err := os.Chmod(behind, 0o666); err != nil {
		t.Fatal(err)
	}
	prints("by a configuration that anybody may write", behind, "", 1, "bob")
	server.do(http.MethodDelete, member, nil, http.StatusNoContent)
	prints("out of the group", web1, "", 0, "bob")
	server.do(http.MethodPut, member, nil, http.StatusNoContent)
	prints("in the group again", web1, keys, 0, "bob")
	server.do(http.MethodDelete, "/hosts/web2/token", nil, http.StatusNoContent)
	prints("a token that is revoked", web2, "", 1, "bob")

	server.killed()
	prints("nobody answers", web1, keys, 0, "bob")
	prints("nobody answers, about somebody not allowed", web1, "", 0, "alice")
	prints("nobody answers whom was refused", web2, "", 1, "bob")
}

func TestTwentyLoginsAtOnceLeaveAWholeAnswer(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := asked.Add(1)
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, strings.Repeat(fmt.Sprintf("# %d\n", n), int(n)*1000))
	}))
	defer server.Close()
	file := sshHost(t, server.URL, "web1", "a", slow)
	printed := make(chan string)
	for range 20 {
		go func() {
			text, status := asSshd(t, file, "alice")
			if status != 0 {
				t.Errorf("ended with %d", status)
			}
			printed <- text
		}()
	}
	var all []string
	for range 20 {
		all = append(all, <-printed)
	}
	server.Close()
	text, status := asSshd(t, file, "alice")
	if status != 0 || text == "" || !slices.Contains(all, text) {
		t.Errorf("status %d; prints %.100q and so on, which no login was told", status, text)
	}
	names, err := os.ReadDir(filepath.Join(filepath.Dir(file), "cache"))
	if err != nil || len(names) != 2 {
		t.Errorf("the cache holds %v: want an answer, and the mark of the server; %v", names, err)
	}
}

func TestTheSystemLogSaysWhatIsWrong(t *testing.T) { // a socket's name must be short, and begins with the test's
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "log")
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	says := func(words ...string) {
		t.Helper()
		for _, w := range words {
			message := make([]byte, 1<<16)
			if err := log.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			n, err := log.Read(message)
			// <36> is the facility auth and the severity warning, RFC 3164 §4.1.1.
			if text := string(message[:n]); err != nil || !strings.HasPrefix(text, "<36>") || !strings.Contains(text, "rollcall[") || !strings.Contains(text, w) {
				t.Fatalf("the log says %q, want %q: %v", text, w, err)
			}
		}
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	if _, status := asSshd(t, sshHost(t, closed.URL, "web1", "a", slow+"syslog: "+socket+"\n"), "alice"); status != 1 {
		t.Errorf("ended with %d", status)
	}
	says("connection refused", "no server has answered, and no answer is kept")
	if _, status := asSshd(t, sshHost(t, "http://a.example.org", "web1", "a", "timeout: 2\nhots: a\nsyslog: "+socket+"\n"), "alice"); status != 1 {
		t.Errorf("ended with %d", status)
	}
	says("has no unit", "did you mean host?", "must begin with https://")
}

func TestSshdsQuestionGoesThroughNoProxy(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s %s", r.Method, r.Host) }))
	defer proxy.Close()
	file := sshHost(t, "https://192.0.2.1", "web1", "a", "timeout: 1s\n") // TEST-NET-1, RFC 5737
	p := newProgram(t, exec.Command(binary, "authkeys", "--config", file, "alice"))
	p.cmd.Env = []string{"HTTPS_PROXY=" + proxy.URL, "HTTP_PROXY=" + proxy.URL, "ALL_PROXY=" + proxy.URL}
	_ = p.cmd.Run()
	if p.cmd.ProcessState.ExitCode() != 1 {
		t.Errorf("ended with %v", p.cmd.ProcessState)
	}
}
