package program

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rollcall/app/client"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// shell runs a command as the admin of a server.
func (p *program) shell(args ...string) *program {
	p.t.Helper()
	return start(p.t, settings{"URL": p.url(), "LOGIN": "admin", "PASSWORD": "admin"}, args...)
}

// onPort returns settings with a port that stays the same when the program is started again.
func onPort(t *testing.T, s settings) settings {
	t.Helper()
	listener, err := net.Listen("tcp", anyPort)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return s.with(settings{"SERVER_LISTEN": listener.Addr().String()})
}

// killed kills the program, and its slapd with it.
func (p *program) killed() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	<-p.done
}

// imported marks what these tests have made.
const imported = "Made by an import"

// people returns so many users, as export writes them.
func people(n int) []string {
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf(`{"cn":"u%06d","uid":"u%06d","sn":"Ünder \"%d\"","givenName":"=U","mail":"u%06d@example.org","telephoneNumber":"+31 20 555 %04d","description":%q,"accountLocked":false,"sshPublicKeys":[]}`,
			i, i, i, i, i%10000, imported))
	}
	return lines
}

// teams returns so many groups, each with two people and the group before it.
func teams(n int) []string {
	var lines []string
	for i := range n {
		members := []string{person(2 * i), person(2*i + 1)}
		if i > 0 {
			members = append([]string{fmt.Sprintf(`"cn=g%06d,ou=groups,dc=example,dc=org"`, i-1)}, members...)
		}
		lines = append(lines, fmt.Sprintf(`{"cn":"g%06d","description":%q,"members":[%s]}`, i, imported, strings.Join(members, ",")))
	}
	return lines
}

// machines returns so many hosts, each with an owner.
func machines(n int) []string {
	var lines []string
	for i := range n {
		lines = append(lines, fmt.Sprintf(`{"cn":"h%06d.example.org","description":%q,"owners":[%s],"ipAddresses":["192.0.2.%d"],"sshPublicKeys":[]}`,
			i, imported, person(i), i%256))
	}
	return lines
}

func person(i int) string { return fmt.Sprintf(`"cn=u%06d,ou=people,dc=example,dc=org"`, i) }

// file writes lines to a file.
func file(t *testing.T, lines []string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "lines")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// sorted reads the lines of a file.
func sorted(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	slices.Sort(lines)
	return lines
}

// same demands the same lines, and shows the first that differ.
func same(t *testing.T, got, want []string) {
	t.Helper()
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("%d lines, want %d; from line %d on\n got %.2000q\nwant %.2000q", len(got), len(want), i+1, got[i:min(i+2, len(got))], want[i:min(i+2, len(want))])
		}
	}
}

func TestWhatIsImportedIsExportedAndMovesToAnotherServer(t *testing.T) {
	t.Parallel()
	here, _ := private(t, development(t.TempDir()))
	there, _ := private(t, development(t.TempDir()))
	for _, kind := range []struct {
		name  string
		lines []string
	}{{"users", people(300)}, {"groups", teams(40)}, {"hosts", machines(60)}} {
		n := len(kind.lines)
		out := filepath.Join(t.TempDir(), kind.name)
		first := here.shell("import", kind.name, file(t, kind.lines))
		first.ends(0, fmt.Sprintf("%d lines: %d created, 0 replaced, 0 refused, in ", n, n))
		if strings.ContainsAny(first.stderr.text(), "\r\033") {
			first.fatalf("it shows a bar where there is no terminal")
		}
		here.shell("export", kind.name, "--filter", `description eq "`+imported+`"`, "--output", out).ends(0, fmt.Sprintf("%d %s exported", n, kind.name))
		same(t, sorted(t, out), slices.Sorted(slices.Values(kind.lines)))
		here.shell("import", kind.name, out).ends(0, fmt.Sprintf("%d lines: 0 created, %d replaced, 0 refused", n, n))

		all := here.shell("export", kind.name, "--quiet").ends(0)
		there.shell("import", kind.name, file(t, strings.Split(strings.TrimSpace(all.stdout.text()), "\n"))).ends(0, fmt.Sprintf(": %d created, ", n), " 0 refused")
		there.shell("export", kind.name, "--output", out).ends(0)
		same(t, sorted(t, out), sorted(t, file(t, strings.Split(strings.TrimSpace(all.stdout.text()), "\n"))))
	}
}

func TestThePagesOfAnExportAreOneDocument(t *testing.T) {
	t.Parallel()
	p, _ := private(t, development(t.TempDir()))
	for kind, n := range map[string]int{"users": 20, "hosts": 5, "groups": 6} {
		for _, format := range []string{"application/x-ndjson", "text/csv", "text/ldif"} {
			var pages []byte
			export := client.Export{
				Client: p.as("admin", "admin"), Path: "/" + kind, Accept: format, Query: url.Values{"limit": {"3"}},
				Page: func(page []byte, _ int) error {
					pages = append(pages, page...)
					return nil
				},
			}
			if err := export.Run(t.Context()); err != nil {
				t.Fatalf("%s as %s: %v", kind, format, err)
			}
			if whole := p.do("GET", "/"+kind, nil, 200, "Accept", format); !bytes.Equal(pages, whole.Body) {
				t.Errorf("%s as %s, by pages:\n%s\nas a stream:\n%s", kind, format, pages, whole.Body)
			}
		}
		for _, format := range []string{"ndjson", "csv", "ldif"} {
			p.shell("export", kind, "--format", format).ends(0, fmt.Sprintf("%d %s exported", n, kind))
		}
	}
}

func TestLdapaddTakesWhatIsExportedAsLDIF(t *testing.T) {
	t.Parallel()
	p, _ := private(t, development(t.TempDir()))
	empty := ldapdirtest.Start(t, slapd.Options{})
	for _, kind := range []string{"users", "hosts", "groups"} { // groups may have all of them as members
		ldif := filepath.Join(t.TempDir(), "ldif")
		p.shell("export", kind, "--format", "ldif", "--output", ldif).ends(0)
		add := exec.Command("ldapadd", "-x", "-H", empty.URL(), "-D", empty.ServiceDN(), "-w", empty.ServicePassword(), "-f", ldif)
		if words, err := add.CombinedOutput(); err != nil {
			t.Fatalf("ldapadd: %v\n%s", err, words)
		}
	}
	if all := search(t, empty, "(|(objectClass=inetOrgPerson)(objectClass=device)(objectClass=groupOfNames))"); len(all) != 31 {
		t.Errorf("added: %q", all)
	}
}

func TestADryRunOfAnImportChangesNothing(t *testing.T) {
	t.Parallel()
	p, _ := private(t, development(t.TempDir()))
	before := p.shell("export", "--all").ends(0).stdout.text()
	lines := append(strings.Split(strings.TrimSpace(p.shell("export").ends(0).stdout.text()), "\n"), `{"cn":"new","sn":"New"}`, `{"cn":"bad"}`, `{"cn":"alice","sn":"Other"}`)
	p.shell("import", "--dry-run", file(t, lines)).ends(2, "line 22 bad", "dry run, nothing is changed: 23 lines: 1 created, 1 replaced, 1 refused, 20 as they are")
	if after := p.shell("export", "--all").ends(0).stdout.text(); after != before {
		p.fatalf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestAnImportGoesOnWhenWhatWasKilledComesBack(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		flag      string
		directory bool // killed in place of the server
	}{
		"the server while replacing":    {flag: "--create=false"},
		"the server while creating":     {flag: "--create"},
		"the directory while replacing": {flag: "--create=false", directory: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			slapd := directoryServer(t)
			s := onPort(t, production(t, slapd))
			p := start(t, s, "serve")
			lines := people(600)
			running := p.shell("import", test.flag, file(t, lines))
			p.eventually("the first users", func() bool {
				response, err := p.as("admin", "admin").Do(t.Context(), "GET", "/users/u000050", nil)
				return err == nil && response.Status == http.StatusOK
			})
			if test.directory {
				if err := slapd.Kill(); err != nil {
					t.Fatal(err)
				}
			} else {
				p.killed()
			}
			running.eventually("it waits", func() bool { return strings.Contains(running.stderr.text(), "trying again in ") })
			if test.directory {
				again, err := slapd.Restart(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = again.Kill() })
			} else {
				p = start(t, s, "serve")
			}
			select {
			case <-running.done:
			case <-time.After(2 * patience):
				running.fatalf("does not end")
			}

			found := regexp.MustCompile(`600 lines: (\d+) created, (\d+) replaced, 0 refused(, \d+ there when sent again)?`).FindStringSubmatch(running.stderr.text())
			switch {
			case found == nil || test.flag == "--create" && found[2] != "0":
				running.fatalf("another summary")
			case found[3] == "":
				running.ends(0)
			default:
				running.ends(2, "is there, perhaps created just before the connection broke", "look whether the entries are as they should be")
			}
			t.Log(found[0])
			out := filepath.Join(t.TempDir(), "out")
			p.shell("export", "--output", out, "--filter", `description eq "`+imported+`"`).ends(0)
			same(t, sorted(t, out), lines)
		})
	}
}

func TestAnInterruptedImportSaysWhereToGoOn(t *testing.T) {
	t.Parallel()
	p, _ := private(t, development(t.TempDir()))
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	running := p.shell("import", pipe)
	writer, err := os.OpenFile(pipe, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	lines := append(people(2), `{"cn":"bad"}`, people(4)[2], people(4)[3])
	fmt.Fprintln(writer, strings.Join(lines[:3], "\n"))
	running.eventually("line 3 is refused", func() bool { return strings.Contains(running.stderr.text(), "line 3 bad: ") })
	running.signal(os.Interrupt)
	running.ends(130, "3 lines: 2 created, 0 replaced, 1 refused", "interrupted: go on with --from 4")
	p.shell("import", "--from", "4", file(t, lines)).ends(0, "2 lines: 2 created, ")
}

func TestAnExportGoesOnWhenAKilledServerComesBackButNeverEndsShort(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		after settings // of the server that comes back
		whole bool
	}{
		{"with the same key", nil, true},
		{"with another key", settings{"AUTH_TOKEN_KEYS": tokenKey(t)}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := onPort(t, development(t.TempDir()))
			p, _ := private(t, s)
			want := p.shell("export", "--all").ends(0).stdout.text()
			got, pages := "", 0
			export := client.Export{
				Client: p.as("admin", "admin"), Path: "/users", Accept: "application/x-ndjson", Query: url.Values{"limit": {"7"}}, RetryFor: patience,
				Page: func(page []byte, _ int) error {
					if pages++; pages == 1 {
						p.killed()
						private(t, s.with(test.after))
					}
					got += string(page)
					return nil
				},
			}
			err := export.Run(t.Context())
			if (err == nil) != test.whole || test.whole != (got == want) {
				t.Errorf("ended with %v after %d pages:\n%s\nwant\n%s", err, pages, got, want)
			}
		})
	}
}

func TestAnExportEndsWithWhoeverReadsIt(t *testing.T) {
	t.Parallel()
	p, _ := private(t, development(t.TempDir()))
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "export", "--url", p.url(), "--login", "admin")
	cmd.Env, cmd.Stdout = append(os.Environ(), "ROLLCALL_PASSWORD=admin"), writer
	words := &output{}
	cmd.Stderr = words
	if err := errors.Join(reader.Close(), cmd.Start(), writer.Close()); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // what there is to know is in ProcessState
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); !status.Signaled() || status.Signal() != syscall.SIGPIPE || words.text() != "" {
		t.Errorf("ended with %v and the words %q, want SIGPIPE and none", cmd.ProcessState, words.text())
	}
}

func TestATerminalShowsABar(t *testing.T) {
	t.Parallel()
	script, err := exec.LookPath("script")
	if err != nil {
		t.Fatal("script(1), of the package bsdutils, is not there to make a terminal")
	}
	p, _ := private(t, development(t.TempDir()))
	terminal := func(args string) string {
		t.Helper()
		cmd := exec.Command(script, "-qec", fmt.Sprintf("%s import %s --url %s --login admin %s", binary, args, p.url(), file(t, people(300))), os.DevNull)
		cmd.Env = append(os.Environ(), "ROLLCALL_PASSWORD=admin")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	shown := terminal("")
	if !regexp.MustCompile(`\r\033\[K\[#*\.*\] +\d+%  \d+ lines, 0 refused, \d+/s`).MatchString(shown) || !strings.Contains(shown, "\r\033[K300 lines: 300 created") {
		t.Errorf("shown: %q", shown)
	}
	if shown := terminal("--quiet"); strings.Contains(shown, "\033") || !strings.Contains(shown, "300 replaced") {
		t.Errorf("shown quietly: %q", shown)
	}
}

func TestTheCommandsTrustTheAuthorityThatIsNamed(t *testing.T) {
	t.Parallel()
	server := directoryServer(t)
	authority := ldapdirtest.NewAuthority(t)
	certificate, key := authority.Issue("127.0.0.1", time.Now().Add(time.Hour))
	p := start(t, production(t, server).with(settings{"SERVER_TLS_CERTIFICATE": certificate, "SERVER_TLS_KEY": key, "SERVER_BASE_PATH": "/api"}), "serve")
	p.shell("export").ends(1, "certificate", "--ca-file")
	p.shell("import", "--ca-file", authority.File, file(t, people(50))).ends(0, "50 created")
	p.shell("export", "--ca-file", authority.File).ends(0, "70 users exported")
}

func TestTheCommandsVariablesConfigureNoServer(t *testing.T) {
	t.Parallel()
	start(t, settings{"ENV": "development", "URL": "http://x", "LOGIN": "alice", "PASSWORD": "wonderland", "TOKEN": "t"}, "config").ends(0)
	start(t, settings{"ENV": "development", "PASSWORT": "wonderland"}, "config").ends(1, "ROLLCALL_PASSWORT")
}

func TestImportAndExportExplainThemselves(t *testing.T) {
	t.Parallel()
	start(t, nil, "--help").ends(0).prints("import ", "export ")
	for command, words := range map[string][]string{
		"import": {"--create", "--stop-on-error", "--from", "--failed", "--dry-run"},
		"export": {"--format", "--filter", "--output", "--all"},
	} {
		both := []string{"ROLLCALL_URL", "ROLLCALL_LOGIN", "ROLLCALL_PASSWORD", "ROLLCALL_TOKEN", "Exit status", "--ca-file", "--retry-for"}
		start(t, nil, command, "--help").ends(0).prints(append(both, words...)...)
	}
}
