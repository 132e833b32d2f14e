package program

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"go.uber.org/goleak"

	"rollcall/app/auth"
	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/config"
	"rollcall/deploy/openldap"
)

const (
	patience    = 30 * time.Second // for what happens in its own time
	testVersion = "v0.0.0-test"
	anyPort     = "127.0.0.1:0"
	adminGroup  = "cn=admins,ou=groups," + ldapdirtest.Base
)

// binary is the program, built as its users build it.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rollcall")
	if err == nil {
		binary = filepath.Join(dir, "rollcall")
		err = build()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(status int) {
		_ = os.RemoveAll(dir)
		os.Exit(status)
	}))
}

// build builds the program, with the race detector where the tests have it.
func build() error {
	args := []string{"build", "-buildvcs=false", "-ldflags=-X main.version=" + testVersion, "-o", binary}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		args = append(args, "-race")
	}
	if words, err := exec.Command("go", append(args, "rollcall")...).CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, words)
	}
	return nil
}

// settings are environment variables without ROLLCALL_.
type settings map[string]string

func (s settings) with(more settings) settings {
	all := maps.Clone(s)
	maps.Copy(all, more)
	return all
}

// development is what make run has: a private directory server, in a folder of its own.
func development(dir string) settings {
	return settings{"ENV": "development", "EMBEDDED_DIR": dir, "SERVER_LISTEN": anyPort}
}

// production is what it takes to serve a directory that runs elsewhere.
func production(t *testing.T, server *slapd.Server) settings {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(server.ServicePassword()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return settings{
		"AUTH_TOKEN_KEYS": tokenKey(t),
		"SERVER_LISTEN":   anyPort, "LDAP_URL": server.URL(), "LDAP_BASE_DN": server.Suffix(), "LDAP_BIND_DN": server.ServiceDN(),
		"LDAP_BIND_PASSWORD_FILE": password, "LDAP_HASHES_PASSWORDS": "true", "AUTH_ADMIN_GROUP": adminGroup,
	}
}

// tokenKey returns the name of a file with a key that signs tokens.
func tokenKey(t *testing.T) string {
	t.Helper()
	key, err := auth.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token.key")
	if err := os.WriteFile(file, key, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// directoryServer starts a slapd with the sample directory.
func directoryServer(t *testing.T) *slapd.Server {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{})
	if err != nil {
		t.Fatal(err)
	}
	return ldapdirtest.Start(t, slapd.Options{Seed: seed})
}

// program is rollcall as a process.
type program struct {
	t              *testing.T
	cmd            *exec.Cmd
	stdout, stderr *output
	done           chan struct{}
	http           *http.Client
}

// in returns the program for another test.
func (p *program) in(t *testing.T) *program {
	other := *p
	other.t = t
	return &other
}

// start runs the program with these settings and no others, until the test ends.
func start(t *testing.T, s settings, args ...string) *program {
	t.Helper()
	cmd := exec.Command(binary, args...)
	p := newProgram(t, cmd)
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "ROLLCALL_") }), "GORACE=halt_on_error=1 atexit_sleep_ms=10")
	for name, value := range s {
		cmd.Env = append(cmd.Env, "ROLLCALL_"+name+"="+value)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait() // what there is to know is in ProcessState
		close(p.done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.done
	})
	return p
}

func newProgram(t *testing.T, cmd *exec.Cmd) *program {
	return &program{
		t: t, cmd: cmd, stdout: &output{}, stderr: &output{}, done: make(chan struct{}),
		http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience},
	}
}

// private starts the program with a private directory server, and returns that server's process id as well.
func private(t *testing.T, s settings) (p *program, slapd int) {
	t.Helper()
	p = start(t, s, "serve")
	p.url()
	text, err := os.ReadFile(filepath.Join(s["EMBEDDED_DIR"], "slapd.pid"))
	if err != nil {
		p.fatalf("%v", err)
	}
	slapd, err = strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || ended(slapd) {
		p.fatalf("slapd.pid holds %q: %v", text, err)
	}
	t.Cleanup(func() { // in good order, so that the folder is at rest when it is removed
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(patience):
		}
	})
	return p, slapd
}

// fatalf fails the test with what the program said.
func (p *program) fatalf(format string, args ...any) {
	p.t.Helper()
	p.t.Logf("rollcall %s\nstandard output:\n%s\nstandard error:\n%s", strings.Join(p.cmd.Args[1:], " "), p.stdout.text(), p.stderr.text())
	p.t.Fatalf(format, args...)
}

// url waits until the program listens, and returns where.
func (p *program) url() string {
	p.t.Helper()
	var found []string
	p.eventually("where it listens", func() bool {
		found = regexp.MustCompile(`listens on +(\S+)\n`).FindStringSubmatch(p.stdout.text())
		select {
		case <-p.done:
			p.fatalf("ended: %v", p.cmd.ProcessState)
		default:
		}
		return found != nil
	})
	return found[1]
}

// address returns where the program listens, as host:port.
func (p *program) address() string {
	_, rest, _ := strings.Cut(p.url(), "://")
	host, _, _ := strings.Cut(rest, "/")
	return host
}

// signal sends a signal to the program alone.
func (p *program) signal(signal os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.fatalf("%v: %v", signal, err)
	}
}

// ends demands that the program ends with a status, -1 for a signal, and says all of these on standard error.
func (p *program) ends(status int, words ...string) *program {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.fatalf("does not end")
	}
	if p.cmd.ProcessState.ExitCode() != status {
		p.fatalf("ended with %v, want status %d", p.cmd.ProcessState, status)
	}
	for _, w := range words {
		if !strings.Contains(p.stderr.text(), w) {
			p.fatalf("does not say %q", w)
		}
	}
	return p
}

// prints demands lines, or parts of them, on standard output.
func (p *program) prints(words ...string) {
	p.t.Helper()
	for _, w := range words {
		if !strings.Contains(p.stdout.text(), w) {
			p.fatalf("does not print %q", w)
		}
	}
}

// as returns a client for somebody.
func (p *program) as(login, password string) *client.Client {
	return &client.Client{URL: p.url(), Login: login, Password: password, HTTP: p.http}
}

// do sends a request as the admin, and demands the status of its answer.
func (p *program) do(method, path string, body any, status int, headers ...string) *client.Response {
	p.t.Helper()
	return p.doAs(p.as("admin", "admin"), method, path, body, status, headers...)
}

func (p *program) doAs(c *client.Client, method, path string, body any, status int, headers ...string) *client.Response {
	p.t.Helper()
	response, err := c.Do(p.t.Context(), method, path, body, headers...)
	if err != nil {
		p.fatalf("%s %s: %v", method, path, err)
	}
	if response.Status != status {
		p.fatalf("%s %s: got %d, want %d: %s", method, path, response.Status, status, response.Body)
	}
	return response
}

// eventually fails the test unless ok becomes true.
func (p *program) eventually(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.fatalf("not in time: %s", what)
		}
	}
}

// ended tells whether a process is gone, or waits for whoever inherited it.
func ended(pid int) bool {
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || strings.Contains(string(stat), ") Z ")
}

func exists(names ...string) bool {
	_, err := os.Stat(filepath.Join(names...))
	return err == nil
}

// output keeps what a process writes.
type output struct {
	mutex  sync.Mutex
	buffer bytes.Buffer
}

// Write implements [io.Writer].
func (o *output) Write(b []byte) (int, error) {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.buffer.Write(b)
}

func (o *output) text() string {
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return o.buffer.String()
}

// wire is a connection on which a test says what it likes.
type wire struct {
	p *program
	net.Conn
	*bufio.Reader
}

func (p *program) dial() *wire {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.address())
	if err != nil {
		p.fatalf("%v", err)
	}
	p.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	return &wire{p, conn, bufio.NewReader(conn)}
}

func (w *wire) send(text string) *wire {
	w.p.t.Helper()
	if _, err := io.WriteString(w.Conn, text); err != nil {
		w.p.fatalf("%v", err)
	}
	return w
}

// answers demands an answer with a status.
func (w *wire) answers(status int) {
	w.p.t.Helper()
	response, err := http.ReadResponse(w.Reader, nil)
	if err != nil {
		w.p.fatalf("no answer: %v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != status {
		w.p.fatalf("got %s, want %d: %s (%v)", response.Status, status, body, err)
	}
}

// isCut demands that the program closes the connection and sends nothing more.
func (w *wire) isCut() {
	w.p.t.Helper()
	rest, err := io.ReadAll(w.Reader)
	if errors.Is(err, os.ErrDeadlineExceeded) || len(rest) > 0 {
		w.p.fatalf("the connection is not cut: %q, %v", rest, err)
	}
}

const newHost = `{"cn":"held.example.org"}`

// hold begins a request whose body, newHost, is still to come, and returns when the program waits for it.
func (p *program) hold() *wire {
	p.t.Helper()
	w := p.dial().send(fmt.Sprintf("POST /hosts HTTP/1.1\r\nHost: x\r\nAuthorization: Basic %s\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n", base64.StdEncoding.EncodeToString([]byte("admin:admin")), len(newHost)))
	line, err := w.ReadString('\n')
	if err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		p.fatalf("%q, %v", line, err)
	}
	_, _ = w.ReadString('\n')
	return w
}

// refusesConnections waits until nobody is let in any more.
func (p *program) refusesConnections() {
	p.t.Helper()
	address := p.address()
	p.eventually("new connections are refused", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

func TestServeSaysHowToUseIt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "private")
	p, _ := private(t, development(dir))
	p.prints(testVersion, "development", "admin with the password admin", dir)
	command := regexp.MustCompile(`(?m)^ *curl .*$`).FindAllString(p.stdout.text(), -1)
	if len(command) != 1 {
		p.fatalf("%d lines to paste", len(command))
	}
	answer, err := exec.Command("sh", "-c", command[0]).Output()
	var alice client.Entry
	if err := errors.Join(err, json.Unmarshal(answer, &alice)); err != nil || alice["cn"] != "alice" {
		p.fatalf("%s: %v\n%s", command[0], err, answer)
	}
	p.do("GET", "/users/alice", nil, 200)
	p.do("DELETE", "/users/admin", nil, 403)
	p.doAs(p.as("alice", "alice-password"), "GET", "/users/bob", nil, 403)
	p.do("PATCH", "/users/bob", client.Entry{"userPassword": "a new password"}, 200)
	p.doAs(p.as("bob", "a new password"), "GET", "/users/bob", nil, 200)
	p.doAs(p.as("admin", "wrong"), "GET", "/users/alice", nil, 401)
	url, err := os.ReadFile(filepath.Join(dir, "ldap.url"))
	if err != nil || !strings.Contains(p.stdout.text(), strings.TrimSpace(string(url))) {
		p.fatalf("ldap.url holds %q, %v", url, err)
	}
}

func TestServeShowsNoLoginWhereThereIsNoSample(t *testing.T) {
	t.Parallel()
	p, _ := private(t, development(t.TempDir()).with(settings{"EMBEDDED_SAMPLE": "false"}))
	if strings.Contains(p.stdout.text(), "curl") {
		p.fatalf("it shows a login that does not exist")
	}
	p.do("GET", "/users/admin", nil, 401)
}

func TestASignalStopsBothAndKeepsTheData(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(*program) error{
		"Ctrl-C":            func(p *program) error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGINT) }, // goes to the whole group
		"SIGTERM":           func(p *program) error { return p.cmd.Process.Signal(syscall.SIGTERM) },
		"a closed terminal": func(p *program) error { return p.cmd.Process.Signal(syscall.SIGHUP) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p, slapd := private(t, development(dir))
			p.do("PUT", "/hosts/kept.example.org", client.Entry{"location": "Rack 7"}, 201)
			if err := stop(p); err != nil {
				t.Fatal(err)
			}
			p.ends(0)
			if !ended(slapd) || exists(dir, "slapd.pid") || exists(dir, "ldap.url") {
				p.fatalf("slapd has ended: %v; or its files are left", ended(slapd))
			}
			again, _ := private(t, development(dir))
			if got := again.do("GET", "/hosts/kept.example.org", nil, 200); !strings.Contains(string(got.Body), "Rack 7") {
				again.fatalf("another host: %s", got.Body)
			}
		})
	}
}

func TestTwoRunSideBySideButNotInOnePlace(t *testing.T) {
	t.Parallel()
	first, second := t.TempDir(), t.TempDir()
	one, _ := private(t, development(first))
	two, _ := private(t, development(second))
	one.do("PUT", "/hosts/one", client.Entry{}, 201)
	two.do("GET", "/hosts/one", nil, 404)

	start(t, development(first), "serve").ends(1, "in use by another instance", first)
	start(t, development(t.TempDir()).with(settings{"SERVER_LISTEN": one.address()}), "serve").ends(1, "address already in use", "server.listen")
	one.do("GET", "/hosts/one", nil, 200)
}

func TestNoSlapdOutlivesAKilledAPI(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		return // elsewhere no process can ask to die with its parent
	}
	dir := t.TempDir()
	p, slapd := private(t, development(dir))
	p.do("PUT", "/hosts/kept", client.Entry{}, 201)
	p.signal(syscall.SIGKILL)
	p.ends(-1)
	p.eventually("the end of slapd", func() bool { return ended(slapd) })
	again, _ := private(t, development(dir))
	again.do("GET", "/hosts/kept", nil, 200)
}

func TestServeEndsWithItsSlapd(t *testing.T) {
	t.Parallel()
	p, slapd := private(t, development(t.TempDir()))
	if err := syscall.Kill(slapd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	p.ends(1, "slapd ended with signal: killed")
}

// halt stops a process, and returns when all its threads have stopped.
func halt(pid int) error {
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return err
	}
	for range 1000 {
		running := false
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // there are none but on Linux
		for _, thread := range threads {
			stat, err := os.ReadFile(thread)
			_, state, _ := strings.Cut(string(stat), ") ")
			running = running || err == nil && !strings.HasPrefix(state, "T")
		}
		if !running {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("process %d does not stop", pid)
}

func TestShutdownFinishesWhatIsInFlight(t *testing.T) {
	t.Parallel()
	p, slapd := private(t, development(t.TempDir()))
	held := p.hold()
	p.signal(syscall.SIGTERM)
	p.refusesConnections()
	if err := halt(slapd); err != nil {
		t.Fatal(err)
	}
	held.send(newHost)
	if err := syscall.Kill(slapd, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	held.answers(http.StatusCreated)
	held.isCut()
	p.ends(0)
	if !ended(slapd) {
		p.fatalf("slapd is left")
	}
}

func TestShutdownCutsWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings settings
		stall    func(held *wire, slapd int) error
		signals  int
		words    string
	}{
		"a client that sends nothing more": {settings{"SERVER_SHUTDOWN_TIMEOUT": "200ms"},
			func(*wire, int) error { return nil }, 1, "server.shutdown_timeout"},
		"a directory that does not answer": {settings{"SERVER_SHUTDOWN_TIMEOUT": "200ms"},
			func(held *wire, slapd int) error {
				err := halt(slapd)
				held.send(newHost)
				return err
			}, 1, "server.shutdown_timeout"},
		"a user who is in a hurry": {settings{"SERVER_SHUTDOWN_TIMEOUT": "1h"},
			func(*wire, int) error { return nil }, 2, "interrupt"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, slapd := private(t, development(t.TempDir()).with(test.settings))
			held := p.hold()
			if err := test.stall(held, slapd); err != nil {
				t.Fatal(err)
			}
			for range test.signals {
				p.signal(syscall.SIGINT)
				p.refusesConnections()
			}
			held.isCut()
			p.ends(1, "requests were cut off", test.words)
			if !ended(slapd) {
				p.fatalf("slapd is left")
			}
		})
	}
}

// TestSlowAndLargeRequestsHaveLimits sets each limit that it tests apart from those that could stand in for it.
func TestSlowAndLargeRequestsHaveLimits(t *testing.T) {
	t.Parallel()
	server := directoryServer(t)
	p := start(t, production(t, server).with(settings{
		"SERVER_READ_HEADER_TIMEOUT": "1s", "SERVER_IDLE_TIMEOUT": "1s", "SERVER_READ_TIMEOUT": "1h",
		"SERVER_MAX_HEADER_BYTES": "1024", "SERVER_MAX_BODY_BYTES": "1024",
	}), "serve")
	slow := start(t, production(t, server).with(settings{
		"SERVER_READ_HEADER_TIMEOUT": "1h", "SERVER_READ_TIMEOUT": "1s",
	}), "serve")
	for name, test := range map[string]func(p, slow *program){
		"slow headers are cut": func(p, _ *program) {
			w := p.dial().send("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
			go func() {
				for err := error(nil); err == nil; time.Sleep(50 * time.Millisecond) {
					_, err = w.Write([]byte("x"))
				}
			}()
			w.isCut()
		},
		"large headers are refused": func(p, _ *program) {
			p.dial().send("GET /healthz HTTP/1.1\r\nHost: x\r\nX-Large: " + strings.Repeat("x", 16<<10) + "\r\n\r\n").
				answers(http.StatusRequestHeaderFieldsTooLarge)
		},
		"idle connections are closed": func(p, _ *program) {
			w := p.dial().send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
			w.answers(http.StatusOK)
			w.isCut()
		},
		"large bodies are refused": func(p, _ *program) {
			answer := p.do("POST", "/hosts", client.Entry{"cn": "large", "description": strings.Repeat("x", 1024)}, 413)
			if !strings.Contains(string(answer.Body), directory.BodyTooLarge.Name) {
				p.fatalf("got %s", answer.Body)
			}
		},
		"slow bodies are cut": func(_, slow *program) {
			w := slow.hold().send(newHost[:1])
			w.answers(http.StatusRequestTimeout)
			w.isCut()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(p.in(t), slow.in(t))
		})
	}
}

func TestARequestHasADeadline(t *testing.T) {
	t.Parallel()
	p, slapd := private(t, development(t.TempDir()).with(settings{"SERVER_REQUEST_TIMEOUT": "500ms", "LDAP_TIMEOUT": "1h"}))
	p.becomes(http.StatusOK)
	if err := syscall.Kill(slapd, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	p.becomes(http.StatusServiceUnavailable)
	p.do("GET", "/users/alice", nil, http.StatusGatewayTimeout)
	if err := syscall.Kill(slapd, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	p.becomes(http.StatusOK)
}

// becomes waits until the program's readiness is a status: a look at the directory is told for a second.
func (p *program) becomes(status int) {
	p.t.Helper()
	p.eventually(fmt.Sprintf("readiness is %d", status), func() bool {
		answer, err := p.as("", "").Do(p.t.Context(), "GET", "/readyz", nil)
		return err == nil && answer.Status == status
	})
}

// logged are the lines of a log, each a JSON object.
func (p *program) logged(path string) []map[string]any {
	p.t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		p.fatalf("%v", err)
	}
	var lines []map[string]any
	for text := range strings.Lines(string(text)) {
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil || line["level"] == nil || line["time"] == nil {
			p.fatalf("not a line of a log: %s", text)
		}
		lines = append(lines, line)
	}
	return lines
}

// hasRequest tells whether a log has the line of a request.
func (p *program) hasRequest(path string, answer *client.Response) bool {
	p.t.Helper()
	return slices.ContainsFunc(p.logged(path), func(line map[string]any) bool {
		return line["msg"] == "request" && line["request_id"] == answer.Header.Get("X-Request-Id")
	})
}

func TestTheLogIsJSONAndFollowsItsFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	file, old := filepath.Join(dir, "rollcall.log"), filepath.Join(dir, "rollcall.log.1")
	p := start(t, production(t, directoryServer(t)).with(settings{"LOG_FILE": file}), "serve")
	first := p.do("GET", "/users/alice", nil, 200)
	p.eventually("the request is logged", func() bool { return p.hasRequest(file, first) })
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
		p.fatalf("the log has mode %v, %v", info.Mode(), err)
	}

	if err := os.Rename(file, old); err != nil {
		t.Fatal(err)
	}
	between := p.do("GET", "/users/bob", nil, 200)
	p.eventually("the old file is in use until told otherwise", func() bool { return p.hasRequest(old, between) })
	p.signal(syscall.SIGHUP)
	p.eventually("a new file", func() bool { return exists(file) })
	next := p.do("GET", "/users/carol", nil, 404)
	p.eventually("the next request is logged", func() bool { return p.hasRequest(file, next) })
	if p.hasRequest(old, next) || p.hasRequest(file, between) || !p.hasRequest(old, first) {
		p.fatalf("a line is in the wrong file")
	}

	// What can't be reopened stays in use.
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir+".moved", "rollcall.log")
	p.signal(syscall.SIGHUP)
	p.eventually("a complaint", func() bool {
		lines := p.logged(file)
		return lines[len(lines)-1]["level"] == "error"
	})
	last := p.do("GET", "/users/alice", nil, 200)
	p.eventually("the last request is logged", func() bool { return p.hasRequest(file, last) })

	p.signal(syscall.SIGTERM)
	if p.ends(0); p.stderr.text() != "" {
		p.fatalf("something is logged beside the file")
	}
}

func TestNoSecretIsPrintedOrLogged(t *testing.T) {
	t.Parallel()
	const planted = "planted-secret-passw0rd"
	server := directoryServer(t)
	for _, format := range []string{"json", "text"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			p := start(t, production(t, server).with(settings{"LOG_FORMAT": format, "LOG_LEVEL": "trace"}), "serve")
			user := "/users/" + format
			p.do("POST", "/users", client.Entry{"cn": format, "sn": "x", "userPassword": planted}, 201)
			p.do("PATCH", user, client.Entry{"userPassword": []string{planted}}, 422)
			p.do("PATCH", user+"?userPassword="+planted, client.Entry{"title": planted}, 400)
			p.do("PATCH", user+"?dryRun=true", client.Entry{"userPassword": planted}, 200)
			p.doAs(p.as(format, planted), "GET", user, nil, 200)
			p.doAs(p.as(format, planted+"-wrong"), "GET", user, nil, 401)
			p.dial().send("GET /users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + planted + "\r\n\r\n").answers(401)
			p.dial().send("GET /users HTTP/1.1\r\nAuthorization: Bearer " + planted + "\r\nno header\r\n\r\n").answers(400)
			p.signal(syscall.SIGTERM)
			p.ends(0, "/users/{name}")
			for _, secret := range []string{planted, server.ServicePassword(), "Basic ", "Bearer ",
				base64.StdEncoding.EncodeToString([]byte("admin:admin")), base64.StdEncoding.EncodeToString([]byte(format + ":" + planted))} {
				if strings.Contains(p.stdout.text()+p.stderr.text(), secret) {
					p.fatalf("%q is there to read", secret)
				}
			}
		})
	}
}

func TestProductionNamesEverythingThatIsMissing(t *testing.T) {
	t.Parallel()
	p := start(t, nil, "serve").ends(1, "ROLLCALL_LDAP_URL", "ROLLCALL_LDAP_BASE_DN", "ROLLCALL_LDAP_BIND_DN",
		"ROLLCALL_LDAP_BIND_PASSWORD", "ROLLCALL_LDAP_BIND_PASSWORD_FILE", "ROLLCALL_AUTH_ADMIN_GROUP", "ROLLCALL_AUTH_TOKEN_KEYS")
	if p.stdout.text() != "" {
		p.fatalf("something is printed")
	}
}

func TestProductionServesADirectoryThatRunsElsewhere(t *testing.T) {
	t.Parallel()
	server := directoryServer(t)
	trail := filepath.Join(t.TempDir(), "audit.log")
	s := production(t, server).with(settings{
		"SERVER_BASE_PATH": "/directory/v1", "SERVER_TRUSTED_PROXIES": "192.0.2.7,127.0.0.0/8", "SERVER_CORS_ORIGINS": "https://admin.example.org",
		"LOG_LEVEL": "error", "AUDIT_FILE": trail,
	})
	p := start(t, s, "serve")
	if !strings.HasSuffix(p.url(), "/directory/v1") {
		p.fatalf("listens on %s", p.url())
	}
	p.prints(server.URL(), "production")
	if strings.Contains(p.stdout.text(), "curl") || strings.Contains(p.stdout.text(), "password") {
		p.fatalf("the sample directory's login is shown")
	}
	p.do("GET", "/users/alice", nil, 200)
	created := p.do("POST", "/hosts", client.Entry{"cn": "web9"}, 201)
	if got, want := created.Header.Get("Location"), p.url()+"/hosts/web9"; got != want {
		p.fatalf("Location is %s, want %s", got, want)
	}
	proxied := p.do("POST", "/hosts", client.Entry{"cn": "web10"}, 201, "X-Forwarded-Proto", "https", "X-Forwarded-Host", "api.example.org",
		"X-Forwarded-For", "198.51.100.7", "Origin", "https://admin.example.org")
	if got, want := proxied.Header.Get("Location"), "https://api.example.org/directory/v1/hosts/web10"; got != want {
		p.fatalf("Location is %s, want %s", got, want)
	}
	if got := proxied.Header.Get("Access-Control-Allow-Origin"); got != "https://admin.example.org" {
		p.fatalf("the origin that may use it is %q", got)
	}
	if lines := p.audited(trail); len(lines) != 2 || lines[1]["address"] != "198.51.100.7" {
		p.fatalf("the audit trail has %v", lines)
	}
	outside := &client.Client{URL: "http://" + p.address(), HTTP: p.http}
	p.doAs(outside, "GET", "/healthz", nil, 404)
	p.signal(syscall.SIGTERM)
	if p.ends(0); p.stderr.text() != "" {
		p.fatalf("more is logged than errors")
	}
	if found := search(t, server, "(&(cn=web9)(objectClass=device))"); len(found) != 1 {
		t.Errorf("found %q", found)
	}
}

func TestServeStartsWithoutItsDirectoryAndFindsItLater(t *testing.T) {
	t.Parallel()
	server := directoryServer(t)
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := start(t, production(t, server), "serve")
	p.do("GET", "/healthz", nil, 200)
	p.do("GET", "/readyz", nil, 503)
	p.do("GET", "/users/alice", nil, 503)
	again, err := server.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Kill() })
	p.becomes(200)
	p.do("GET", "/users/alice", nil, 200)
}

// configured writes a deployment's own configuration file.
func configured(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rollcall.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestADeploymentAddsFieldsByItsConfiguration(t *testing.T) {
	t.Parallel()
	server := directoryServer(t)
	file := configured(t, `
users:
  fields:
    - {name: room, attribute: roomNumber, required: true, description: Where to find the person.}
    - {name: cars, attribute: carLicense, list: true}
    - {name: shell, attribute: loginShell, read_only: true}
  attributes:
    - {field: title, attribute: employeeType}
groups:
  attributes:
    - {field: description, attribute: labeledURI, object_class: labeledURIObject}
hosts:
  fields:
    - {name: url, attribute: labeledURI, object_class: labeledURIObject}
`)
	p := start(t, production(t, server), "serve", "--config", file)
	violations := func(body client.Entry, want ...string) {
		t.Helper()
		var problem client.Problem
		if err := json.Unmarshal(p.do("POST", "/users", body, 422).Body, &problem); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, v := range problem.Violations {
			got = append(got, v.Field)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("violations of %q, want %q", got, want)
		}
	}
	violations(client.Entry{"cn": "zoe", "sn": "x", "cars": "B-XY 1"}, "cars", "room")
	violations(client.Entry{"cn": "zoe", "sn": "x", "room": "1.23", "shell": "/bin/sh", "rooms": "1"}, "rooms", "shell")
	zoe := client.Entry{"cn": "zoe", "sn": "x", "room": "1.23", "cars": []string{"B-XY 1", "B-XY 2"}, "title": "Chief"}
	p.do("POST", "/users", zoe, 201)
	var got client.Entry
	if err := json.Unmarshal(p.do("GET", "/users/zoe", nil, 200).Body, &got); err != nil {
		t.Fatal(err)
	}
	if shown := fmt.Sprintf("%v %v %v %v", got["room"], got["cars"], got["title"], got["shell"]); shown != "1.23 [B-XY 1 B-XY 2] Chief <nil>" {
		p.fatalf("got %s", shown)
	}
	p.do("POST", "/groups", client.Entry{"cn": "g", "description": "x"}, 201)
	p.do("POST", "/hosts", client.Entry{"cn": "h", "url": "x"}, 201)
	found := search(t, server, "(|(&(cn=zoe)(roomNumber=1.23)(carLicense=B-XY 1)(carLicense=B-XY 2)(employeeType=Chief)(!(title=*)))"+
		"(&(objectClass=labeledURIObject)(labeledURI=x)(|(cn=g)(cn=h))(!(description=*))))")
	if len(found) != 3 {
		t.Errorf("the directory has something else: %q", found)
	}
}

// search returns the DNs of what a plain LDAP client finds.
func search(t *testing.T, server *slapd.Server, filter string) []string {
	t.Helper()
	found, err := ldapdirtest.Bind(t, server).Search(ldap.NewSearchRequest(ldapdirtest.Base,
		ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, []string{"1.1"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range found.Entries {
		names = append(names, entry.DN)
	}
	return names
}

func TestADeploymentLaysOutItsTreeByItsConfiguration(t *testing.T) {
	t.Parallel()
	server := directoryServer(t)
	l := ldapdirtest.Bind(t, server)
	for dn, attributes := range map[string][]string{
		"ou=staff,ou=people," + ldapdirtest.Base: {"objectClass", "organizationalUnit"},
		"uid=ann,ou=people," + ldapdirtest.Base:  {"objectClass", "inetOrgPerson", "cn", "Ann Other", "sn", "Other", "title", "staff"},
		"cn=guest,ou=people," + ldapdirtest.Base: {"objectClass", "inetOrgPerson", "sn", "Guest", "uid", "guest"},
	} {
		add := ldap.NewAddRequest(dn, nil)
		for i := 0; i < len(attributes); i += 2 {
			add.Attribute(attributes[i], attributes[i+1:i+2])
		}
		if err := l.Add(add); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.ModifyDN(ldap.NewModifyDNWithControlsRequest("uid=ann,ou=people,"+ldapdirtest.Base, "uid=ann", true, "ou=staff,ou=people,"+ldapdirtest.Base, nil)); err != nil {
		t.Fatal(err)
	}
	file := configured(t, `
users:
  container: ""
  deep: true
  key: uid
  naming_attribute: uid
  filter: (|(uid=admin)(&(objectClass=inetOrgPerson)(title=staff)))
`)
	p := start(t, production(t, server), "serve", "--config", file)
	var all []client.Entry
	if err := json.Unmarshal(p.do("GET", "/users", nil, 200).Body, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != 2 {
		p.fatalf("got %v, want admin and ann", all)
	}
	p.do("PATCH", "/users/ann", client.Entry{"mail": "ann@example.org"}, 200)
	p.do("GET", "/users/guest", nil, 404)
	if found := search(t, server, "(mail=ann@example.org)"); len(found) != 1 || found[0] != "uid=ann,ou=staff,ou=people,"+ldapdirtest.Base {
		t.Errorf("changed: %q", found)
	}
}

func TestWrongFieldsAreRefusedAtStartAllAtOnce(t *testing.T) {
	t.Parallel()
	file := configured(t, `
users:
  fields: [{name: sn, attribute: roomNumber}]
groups:
  key: name
hosts:
  naming_attribute: uid
  fields: [{name: rack, attribute: l}]
  attributes: [{field: colour, attribute: description}]
`)
	dir := t.TempDir()
	p := start(t, development(dir), "serve", "--config", file).
		ends(1, `users: the field name "sn"`, `groups: the key "name"`, `hosts: the naming attribute "uid"`, `"rack"`, `"colour"`, "configuration")
	if p.stdout.text() != "" || exists(dir, "slapd.pid") {
		p.fatalf("it was served, or slapd is left")
	}
	start(t, development(dir), "serve", "--config", configured(t, `auth: {own_fields: [mail, memberOfs, userPassword, dn, colour]}`)).
		ends(1, `auth.own_fields: "memberOfs"`, `auth.own_fields: "userPassword"`, `auth.own_fields: "dn"`, `auth.own_fields: "colour"`)
	start(t, development(dir), "serve", "--config", filepath.Join(dir, "none.yaml")).ends(1, "none.yaml")
}

func TestConfigSaysWhereValuesComeFromAndHidesSecrets(t *testing.T) {
	t.Parallel()
	const secret = "planted-secret"
	file := configured(t, "ldap: {timeout: 7s}\nusers: {fields: [{name: room, attribute: roomNumber}]}\n")
	s := settings{
		"LDAP_URL": "ldap://ldap.example.org:389", "LDAP_BASE_DN": ldapdirtest.Base, "LDAP_BIND_DN": "cn=x," + ldapdirtest.Base,
		"LDAP_BIND_PASSWORD": secret, "AUTH_ADMIN_GROUP": adminGroup, "AUTH_TOKEN_KEYS": "token.key",
	}
	p := start(t, s, "config", "--config", file).ends(0)
	p.prints("# environment: production\n", "  url: ldap://ldap.example.org:389  # ROLLCALL_LDAP_URL\n", "  timeout: 7s  # "+file,
		`  listen: :8080  # production.yaml`, "  idle_timeout: 2m  # default\n", "# ROLLCALL_LDAP_BIND_PASSWORD\n",
		"[{name: room, attribute: roomNumber}]  # "+file)

	wrong := start(t, s.with(settings{"LDAP_TIMEOUT": "5", "LDAP_TIMEUOT": "5s"}), "config").
		ends(1, "no unit", "did you mean ROLLCALL_LDAP_TIMEOUT?")
	wrong.prints("# environment: production\n")
	for _, p := range []*program{p, wrong} {
		if strings.Contains(p.stdout.text()+p.stderr.text(), secret) {
			p.fatalf("the password is shown")
		}
	}
}

func TestHealthcheckTellsByItsStatus(t *testing.T) {
	t.Parallel()
	s := production(t, directoryServer(t)).with(settings{"SERVER_BASE_PATH": "/api"})
	p := start(t, s, "serve")
	s["SERVER_LISTEN"] = p.address()
	start(t, s, "healthcheck").ends(0)
	start(t, nil, "healthcheck", "--url", p.url()).ends(0)
	start(t, s.with(settings{"SERVER_BASE_PATH": "/elsewhere"}), "healthcheck").ends(1, "404")
	start(t, nil, "healthcheck").ends(1, "ROLLCALL_LDAP_URL")
	p.signal(syscall.SIGTERM)
	p.ends(0)
	start(t, s, "healthcheck").ends(1)
}

func TestHTTPSIsServedWithACertificateThatMayBeReplaced(t *testing.T) {
	t.Parallel()
	authority := ldapdirtest.NewAuthority(t)
	certFile, keyFile := authority.Issue("rollcall.example.org", time.Now().Add(time.Hour))
	s := production(t, directoryServer(t)).with(settings{"SERVER_TLS_CERTIFICATE": certFile, "SERVER_TLS_KEY": keyFile})
	p := start(t, s, "serve")
	s["SERVER_LISTEN"] = p.address()
	if !strings.HasPrefix(p.url(), "https://") {
		p.fatalf("it says that it is at %s", p.url())
	}
	for _, name := range []string{"rollcall.example.org", "other.example.org"} {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool, ServerName: name}, ForceAttemptHTTP2: true}
		c := &client.Client{URL: p.url(), Login: "admin", Password: "admin", HTTP: &http.Client{Transport: transport}}
		response, err := c.Do(t.Context(), "GET", "/me", nil)
		if err != nil || response.Status != 200 || response.Header.Get("Strict-Transport-Security") == "" {
			p.fatalf("as %s: %v, %+v", name, err, response)
		}
		transport.CloseIdleConnections()
		start(t, s, "healthcheck").ends(0)
		authority.IssueTo(certFile, keyFile, "other.example.org", time.Now().Add(time.Hour))
	}
	plain := &client.Client{URL: strings.Replace(p.url(), "https:", "http:", 1)}
	if response, err := plain.Do(t.Context(), "GET", "/healthz", nil); err == nil && response.Status == 200 {
		p.fatalf("it speaks plain HTTP")
	}
	p.signal(syscall.SIGTERM)
	p.ends(0)
	start(t, s.with(settings{"SERVER_TLS_KEY": certFile}), "serve").ends(1, "server.tls_certificate")
}

func TestTheDirectoryIsSpokenToInTLS(t *testing.T) {
	t.Parallel()
	authority, other := ldapdirtest.NewAuthority(t), ldapdirtest.NewAuthority(t)
	certFile, keyFile := authority.Issue("localhost", time.Now().Add(time.Hour))
	clientCert, clientKey := authority.Issue("rollcall", time.Now().Add(time.Hour))
	server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string {
		return strings.Replace(conf, "loglevel ", "TLSCertificateFile "+certFile+"\nTLSCertificateKeyFile "+keyFile+
			"\nTLSCACertificateFile "+authority.File+"\nTLSVerifyClient demand\nloglevel ", 1)
	}})
	s := production(t, server).with(settings{
		"LDAP_URL": strings.Replace(server.URL(), "127.0.0.1", "localhost", 1), "LDAP_START_TLS": "true", "LDAP_CA_FILE": authority.File,
		"LDAP_CLIENT_CERTIFICATE": clientCert, "LDAP_CLIENT_KEY": clientKey,
	})
	start(t, s, "serve").do("GET", "/readyz", nil, 200)
	p := start(t, s.with(settings{"LDAP_CA_FILE": other.File}), "serve")
	p.do("GET", "/readyz", nil, 503)
	p.eventually("the log says what to do", func() bool { return strings.Contains(p.stderr.text(), "ldap.ca_file") })
	start(t, s.with(settings{"LDAP_CA_FILE": keyFile, "LDAP_CLIENT_KEY": clientCert}), "serve").ends(1, "ldap.ca_file", "ldap.client_certificate")
}

func TestPasswordsThatTravelInClearAreWarnedOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url             string
		startTLS, warns bool
	}{
		{"ldap://ldap.example.org:389", false, true},
		{"ldap://192.0.2.1:389", false, true},
		{"ldap://ldap.example.org:389", true, false},
		{"ldaps://ldap.example.org:636", false, false},
		{"ldap://localhost:389", false, false},
		{"ldap://127.0.0.1:389", false, false},
		{"ldap://[::1]:389", false, false},
	} {
		if inClear(config.LDAP{URL: c.url, StartTLS: c.startTLS}) != c.warns {
			t.Errorf("%s, start_tls %v: warns %v", c.url, c.startTLS, !c.warns)
		}
	}
	const warning = "passwords travel to the directory in clear"
	server := directoryServer(t)
	p := start(t, production(t, server).with(settings{"LDAP_URL": "ldap://ldap.invalid:389"}), "serve")
	p.eventually("the warning", func() bool { return strings.Contains(p.stderr.text(), warning) })
	p = start(t, production(t, server), "serve")
	p.do("GET", "/readyz", nil, 200)
	if strings.Contains(p.stderr.text(), warning) {
		p.fatalf("it warns of a server on this machine")
	}
}

func TestCommandsExplainThemselves(t *testing.T) {
	t.Parallel()
	version := start(t, nil, "version").ends(0)
	if version.stdout.text() != testVersion+"\n" {
		version.fatalf("another version")
	}
	for _, args := range [][]string{{}, {"--help"}, {"help"}} {
		start(t, nil, args...).ends(0).prints("serve ", "config ", "version ", "healthcheck ", "--config string")
	}
	for command, words := range map[string]string{
		"serve": "ROLLCALL_ENV", "config": "where each value comes from", "version": "Print the version", "healthcheck": "--url string",
	} {
		start(t, nil, command, "--help").ends(0).prints(words, "rollcall "+command)
		start(t, nil, command, "extra").ends(1, "extra")
	}
	start(t, nil, "sevre").ends(1, `unknown command "sevre"`)
	start(t, nil, "serve", "--colour").ends(1, "unknown flag: --colour")
}

// TestRunLeavesNothingBehind is not parallel: it looks at all that runs in this process.
func TestRunLeavesNothingBehind(t *testing.T) {
	server := directoryServer(t)
	before := goleak.IgnoreCurrent()
	load := func(s settings) *config.Config {
		t.Helper()
		var environ []string
		for name, value := range s.with(settings{"LOG_FILE": filepath.Join(t.TempDir(), "log")}) {
			environ = append(environ, "ROLLCALL_"+name+"="+value)
		}
		c, err := config.Load(config.Options{Environ: environ})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, s := range map[string]settings{
		"embedded": development(t.TempDir()), "elsewhere": production(t, server),
		"watched": production(t, server).with(settings{"TELEMETRY_LISTEN": anyPort, "TELEMETRY_OTLP_ENDPOINT": "http://127.0.0.1:1", "TELEMETRY_SAMPLE_RATIO": "1"}),
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c, p := load(s), newProgram(t, exec.Command("run"))
		var err error
		go func() {
			defer close(p.done)
			err = run(ctx, c, testVersion, p.stdout)
		}()
		p.do("GET", "/users", nil, 200)
		idle := p.dial().send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		idle.answers(http.StatusOK)
		cancel()
		idle.isCut()
		select {
		case <-p.done:
		case <-time.After(patience):
			t.Fatal("run does not return")
		}
		if err != nil {
			t.Error(err)
		}
		if err := goleak.Find(before); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	over, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if err := run(over, load(development(dir)), testVersion, io.Discard); !errors.Is(err, context.Canceled) || exists(dir, "slapd.pid") {
		t.Errorf("stopped before it served: %v", err)
	}
	goleak.VerifyNone(t, before)
}

// audited are the lines of a file that are of the audit trail.
func (p *program) audited(path string) []map[string]any {
	p.t.Helper()
	var all []map[string]any
	for _, line := range p.logged(path) {
		if line["msg"] == "audit" {
			all = append(all, line)
		}
	}
	return all
}

func TestTheAuditTrailHasAWholeLineForEachChangeAndFollowsItsFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, old := filepath.Join(dir, "audit.log"), filepath.Join(dir, "audit.log.1")
	p := start(t, production(t, directoryServer(t)).with(settings{"AUDIT_FILE": file}), "serve")
	const writers = 32
	var writing sync.WaitGroup
	answers := make([]*client.Response, writers)
	for i := range writers {
		writing.Go(func() {
			answers[i], _ = p.as("admin", "admin").Do(t.Context(), "POST", "/hosts", client.Entry{
				"cn": fmt.Sprintf("new%d", i), "description": strings.Repeat("x\n", 500)})
		})
	}
	writing.Wait()
	lines := p.audited(file) // each is JSON, or this fails
	byID := map[string]map[string]any{}
	for _, line := range lines {
		byID[line["request_id"].(string)] = line
	}
	for i, answer := range answers {
		if answer == nil || answer.Status != http.StatusCreated {
			p.fatalf("no host: %+v", answer)
		}
		line := byID[answer.Header.Get("X-Request-Id")]
		if line["name"] != fmt.Sprintf("new%d", i) || line["caller"] != "admin" || line["action"] != "create" || line["kind"] != "hosts" ||
			line["result"] != "ok" || line["address"] != "127.0.0.1" || line["id"] == nil || line["changes"] == nil || line["time"] == nil {
			p.fatalf("the line is %v", line)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 || len(lines) != writers || len(p.logged(file)) != writers {
		p.fatalf("%d lines, %d of them of the trail, in a file of mode %v, %v", len(p.logged(file)), len(lines), info.Mode(), err)
	}

	if err := os.Rename(file, old); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGHUP) // it does not end the program: there is a file to reopen
	p.eventually("a new file", func() bool { return exists(file) })
	p.do("DELETE", "/hosts/new0", nil, 204)
	if len(p.audited(file)) != 1 || len(p.audited(old)) != writers {
		p.fatalf("a line is in the wrong file")
	}
}

func TestWithoutAFileTheAuditTrailIsInTheLogWhateverItsLevel(t *testing.T) {
	t.Parallel()
	server := directoryServer(t)
	for _, enabled := range []bool{true, false} {
		file := filepath.Join(t.TempDir(), "log")
		p := start(t, production(t, server).with(settings{"LOG_FILE": file, "LOG_LEVEL": "error", "AUDIT_ENABLED": fmt.Sprint(enabled)}), "serve")
		p.do("PATCH", "/users/alice", client.Entry{"title": fmt.Sprint("title ", enabled)}, 200)
		if lines := p.audited(file); enabled != (len(lines) == 1) {
			p.fatalf("enabled %v: there are %d lines", enabled, len(lines))
		}
	}
}
