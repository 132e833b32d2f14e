// Package docs_test holds the README to what the program does.
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
	"syscall"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/deploy/openldap"
)

var binary, readme string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "rollcall")
	if err == nil {
		binary = filepath.Join(dir, "rollcall")
		err = prepare()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// prepare builds the program and reads the README.
func prepare() error {
	if words, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "rollcall").CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", err, words)
	}
	text, err := os.ReadFile("../README.md")
	readme = string(text)
	return err
}

// section returns what stands between a heading and the next one of its level.
func section(t *testing.T, heading string) string {
	t.Helper()
	_, text, ok := strings.Cut(readme, "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("the README has no section %q", heading)
	}
	text, _, _ = strings.Cut(text, "\n## ")
	return text
}

// fenced finds the fenced blocks of a text: 1 is the language, 2 what the block holds.
var fenced = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// rollcall returns the program with these settings and no others.
func rollcall(settings []string, args ...string) *exec.Cmd {
	cmd := exec.Command(binary, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "ROLLCALL_") })
	cmd.Env = append(cmd.Env, settings...)
	return cmd
}

func TestTheConfigurationTablesHoldEveryKeyAndItsDefault(t *testing.T) {
	base, err := os.ReadFile("../config/base.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want, name := map[string]string{}, ""
	for _, m := range regexp.MustCompile(`(?m)^(\w+):$|^  (\w+):(.*)$`).FindAllStringSubmatch(string(base), -1) {
		if m[1] != "" {
			name = m[1]
			continue
		}
		want[name+"."+m[2]] = strings.Trim(m[3], ` "`)
	}
	got := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `([a-z_.]+)`(?: \\((\\w+) only\\))? \\|([^|]*)\\|")
	for _, m := range row.FindAllStringSubmatch(section(t, "Configuration"), -1) {
		paths, defaults := []string{m[1]}, []string{strings.ReplaceAll(strings.TrimSpace(m[3]), "`", "")}
		switch {
		case m[2] != "":
			paths[0] = m[2] + "." + m[1]
		case !strings.Contains(m[1], "."):
			paths, defaults = []string{"users." + m[1], "groups." + m[1], "hosts." + m[1]}, strings.Split(defaults[0], ", ")
		}
		if len(defaults) == 1 {
			defaults = slices.Repeat(defaults, len(paths))
		}
		for i, path := range paths {
			if _, twice := got[path]; twice || len(defaults) != len(paths) {
				t.Fatalf("%s is there twice, or not with one default for each of %v", m[1], paths)
			}
			got[path] = defaults[i]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config/base.yaml (-) and the README (+) differ:\n%s", diff)
	}
}

func TestTheProgramAcceptsTheExamplesOfConfigurationFiles(t *testing.T) {
	tried := 0
	for _, m := range fenced.FindAllStringSubmatch(readme, -1) {
		if m[1] != "yaml" {
			continue
		}
		tried++
		file := filepath.Join(t.TempDir(), "rollcall.yaml")
		if err := os.WriteFile(file, []byte(m[2]), 0o600); err != nil {
			t.Fatal(err)
		}
		words, err := rollcall([]string{"ROLLCALL_LDAP_BIND_PASSWORD=secret"}, "config", "--config", file).CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s\n%s", err, m[2], words)
		}
	}
	if tried == 0 {
		t.Error("the README has no example")
	}
}

func TestTheTourDoesWhatItShowsAndLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	address := serve(t, dir)
	tour := fenced.FindAllStringSubmatch(strings.ReplaceAll(section(t, "A tour with curl"), "http://127.0.0.1:8080", address), -1)
	const mark = "--- the next step ---\n"
	var script string
	var steps, shown []string
	for i, m := range tour {
		if want := []string{"sh", "text"}[i%2]; m[1] != want {
			t.Fatalf("a block of %s where one of %s should be:\n%s", m[1], want, m[2])
		}
		if i%2 == 1 {
			shown = append(shown, m[2])
			continue
		}
		steps = append(steps, m[2])
		script += m[2] + "printf '%s' '" + mark + "'\n"
	}

	before := dump(t, dir)
	shell := exec.Command("sh", "-e")
	shell.Stdin = strings.NewReader(script)
	var complaints bytes.Buffer
	shell.Stderr = &complaints
	out, err := shell.Output()
	answers := strings.Split(strings.ReplaceAll(string(out), "\r\n", "\n"), mark)
	if err != nil || complaints.Len() > 0 || len(steps) == 0 || len(shown) != len(steps) || len(answers) != len(steps)+1 {
		t.Fatalf("%d steps, %d shown, %d done: %v\n%s", len(steps), len(shown), len(answers)-1, err, complaints.String())
	}
	for i, step := range steps {
		if !pattern(shown[i]).MatchString(answers[i]) {
			t.Errorf("of\n%s\nthe README shows\n%s\nThe program answers\n%s", step, shown[i], answers[i])
		}
	}
	if diff := cmp.Diff(before, dump(t, dir)); diff != "" {
		t.Errorf("the tour changed the directory:\n%s", diff)
	}
}

// pattern matches what the README shows: … is any part of a line, alone on a line any lines, and what is another at
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

// serve starts the program with a new private directory in dir, and returns its address.
func serve(t *testing.T, dir string) string {
	t.Helper()
	server := rollcall([]string{"ROLLCALL_ENV=development", "ROLLCALL_EMBEDDED_DIR=" + dir, "ROLLCALL_SERVER_LISTEN=127.0.0.1:0"}, "serve")
	var log bytes.Buffer
	server.Stderr = &log
	out, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGTERM)
		if err := server.Wait(); err != nil {
			t.Errorf("rollcall serve: %v\n%s", err, log.String())
		}
	})
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if address, ok := strings.CutPrefix(lines.Text(), "  listens on   "); ok {
			return address
		}
	}
	t.Fatal("it does not say where it listens")
	return ""
}

// dump reads the values that the directory in dir holds, by entry and attribute, as its service account sees them.
// The decoy is left out: logins that are refused are recorded there.
func dump(t *testing.T, dir string) map[string][]string {
	t.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(text))
	}
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
