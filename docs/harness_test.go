// Package docs_test holds the README and the guides to what the program does.
package docs_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/app/auth"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// usual is where the guides find the API.
const usual = "http://127.0.0.1:8080"

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
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// build builds the program.
func build() error {
	if words, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "rollcall").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, words)
	}
	return nil
}

// page reads a file of this folder.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// section returns what stands between a heading and the next one of its level.
func section(t *testing.T, text, heading string) string {
	t.Helper()
	_, text, ok := strings.Cut(text, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("there is no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// block is a fenced block: its language and what it holds.
type block struct{ language, text string }

var fenced = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// blocks returns the fenced blocks of a text.
func blocks(text string) []block {
	var all []block
	for _, m := range fenced.FindAllStringSubmatch(text, -1) {
		all = append(all, block{m[1], m[2]})
	}
	return all
}

// rollcall returns the program with these settings and no others.
func rollcall(settings []string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env = environment(settings)
	return cmd
}

// environment returns this one with these settings of Rollcall and no others.
func environment(settings []string) []string {
	return append(slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "ROLLCALL_") }), settings...)
}

const mark = "--- the next step ---\n"

// compare holds what a program printed, with the mark after each step, to what the page shows of each.
func compare(t *testing.T, program *exec.Cmd, steps, shown []string) {
	t.Helper()
	var complaints bytes.Buffer
	program.Stderr = &complaints
	out, err := program.Output()
	answers := strings.Split(strings.ReplaceAll(string(out), "\r\n", "\n"), mark)
	for i, step := range steps {
		if i < len(answers)-1 && !pattern(shown[i]).MatchString(answers[i]) {
			t.Errorf("of\n%s\nthe page shows\n%s\nThe answer is\n%s", step, shown[i], answers[i])
		}
	}
	if err != nil || complaints.Len() > 0 || len(steps) == 0 || len(answers) != len(steps)+1 {
		t.Fatalf("%d steps, %d done: %v\n%s\n%s", len(steps), len(answers)-1, err, complaints.String(), answers[len(answers)-1])
	}
}

// shell runs blocks of sh in a folder, one after the other, and compares what they print with the block of text beneath each.
func shell(t *testing.T, dir string, all []block) {
	t.Helper()
	var script strings.Builder
	var steps, shown []string
	for i, b := range all {
		if want := []string{"sh", "text"}[i%2]; b.language != want {
			t.Fatalf("a block of %q where one of %s should be:\n%s", b.language, want, b.text)
		}
		if i%2 == 1 {
			shown = append(shown, b.text)
			continue
		}
		steps = append(steps, b.text)
		script.WriteString(b.text + "printf '%s' '" + mark + "'\n")
	}
	if len(steps) != len(shown) {
		t.Fatalf("%d steps, %d shown", len(steps), len(shown))
	}
	sh := exec.Command("sh", "-e")
	sh.Dir, sh.Stdin, sh.Env = dir, strings.NewReader(script.String()), append(environment(nil), "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	compare(t, sh, steps, shown)
}

// pattern matches what a page shows: … is any part of a line, alone on a line any lines, and what is another at
// each run may be another.
func pattern(shown string) *regexp.Regexp {
	text := regexp.QuoteMeta(shown)
	for _, volatile := range []struct{ shown, matches string }{
		{`(?m)^Etag: .*$`, `Etag: "\d{14}/\d+Z#\d+#\d+#\d+\.\S+\.\S+"`},
		{`(?m)^…\n`, `(?:.*\n)*?`},
		{`"id":"[^"]*"`, `"id":"[0-9a-f-]{36}"`},
		{`"requestId":"[^"]*"`, `"requestId":"[A-Z2-7]{26}"`},
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`, `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ`},
		{`…`, `.*`},
	} {
		text = regexp.MustCompile(volatile.shown).ReplaceAllLiteralString(text, volatile.matches)
	}
	return regexp.MustCompile("^" + text + "$")
}

// sample starts the program with the sample directory in a new folder, and returns its address and the folder.
func sample(t *testing.T) (address, dir string) {
	t.Helper()
	dir = t.TempDir()
	address, _ = serve(t, []string{"ROLLCALL_ENV=development", "ROLLCALL_EMBEDDED_DIR=" + dir, "ROLLCALL_SERVER_LISTEN=127.0.0.1:0"})
	return address, dir
}

// onSlapd starts the program in the production environment, on a slapd of the test's that is reached at the URL. args
// are the program's, a configuration file among them.
func onSlapd(t *testing.T, server *slapd.Server, more []string, args ...string) (address string, log *lines) {
	t.Helper()
	return serve(t, append([]string{
		"ROLLCALL_SERVER_LISTEN=127.0.0.1:0", "ROLLCALL_LDAP_URL=" + server.URL(), "ROLLCALL_LDAP_BIND_PASSWORD=" + server.ServicePassword(),
		"ROLLCALL_AUTH_TOKEN_KEYS=" + tokenKey(t),
	}, more...), args...)
}

// tokenKey writes a new key into a file.
func tokenKey(t *testing.T) string {
	t.Helper()
	key, err := auth.NewKey()
	file := filepath.Join(t.TempDir(), "token.key")
	if err == nil {
		err = os.WriteFile(file, key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// unchanged fails at the end of the test when the sample directory in dir is not what it is now.
func unchanged(t *testing.T, dir string) {
	t.Helper()
	before := dump(t, dir)
	t.Cleanup(func() {
		if diff := cmp.Diff(before, dump(t, dir)); diff != "" {
			t.Errorf("the directory has changed:\n%s", diff)
		}
	})
}

// lines are what a program writes while others read it.
type lines struct {
	mutex sync.Mutex
	text  bytes.Buffer
}

func (l *lines) Write(text []byte) (int, error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.Write(text)
}

func (l *lines) String() string {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	return l.text.String()
}

// serve starts the program with these settings, and returns its address and its log.
func serve(t *testing.T, settings []string, args ...string) (address string, log *lines) {
	t.Helper()
	server := rollcall(settings, append([]string{"serve"}, args...)...)
	log = &lines{}
	server.Stderr = log
	out, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	stop := func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		if err := server.Wait(); err != nil {
			t.Errorf("rollcall serve: %v\n%s", err, log.String())
		}
	}
	for said := bufio.NewScanner(out); said.Scan(); {
		if address, ok := strings.CutPrefix(said.Text(), "  listens on   "); ok {
			t.Cleanup(stop)
			return address, log
		}
	}
	stop()
	t.Fatalf("it does not say where it listens:\n%s", log.String())
	return "", nil
}

// dump reads the values that the directory in dir holds, by entry and attribute, as its service account sees them.
// The decoy is left out: logins that are refused are recorded there.
func dump(t *testing.T, dir string) map[string][]string {
	t.Helper()
	read := func(name string) string { return strings.TrimSpace(page(t, filepath.Join(dir, name))) }
	l, err := ldap.DialURL(read("ldap.url"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := l.Bind(openldap.ServiceDN(openldap.DefaultSuffix), read("service.password")); err != nil {
		t.Fatal(err)
	}
	result, err := l.Search(ldap.NewSearchRequest(openldap.DefaultSuffix, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		"(!(cn=decoy))", []string{"*", "+"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for _, entry := range result.Entries {
		for _, attribute := range entry.Attributes {
			if attribute.Name != "contextCSN" { // the number of the last change anywhere
				values[entry.DN+": "+attribute.Name] = slices.Sorted(slices.Values(attribute.Values))
			}
		}
	}
	return values
}
