package docs_test

import (
	"bytes"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/app/client"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// languages are those of the tour, in their order: how to print the mark, and how to run a program in a folder.
var languages = []struct {
	name, mark string
	// file is where the program goes. What stands around the steps comes before and after them.
	file, before, after string
	run                 []string
}{
	{"sh", "printf '%s' '" + mark + "'\n", "tour.sh", "", "", []string{"sh", "-eu", "tour.sh"}},
	{"go", "fmt.Print(`" + mark + "`)\n", "main.go", "\nfunc main() {\n", "}\n", []string{"sh", "-c", "go build -gcflags=-lang=go1.21 -o tour main.go && exec ./tour"}},
	{"python", "print('''" + mark + "''', end='', flush=True)\n", "tour.py", "", "", []string{"python3", "-W", "error", "tour.py"}},
	{"javascript", "process.stdout.write(`" + mark + "`);\n", "tour.mjs", "", "", []string{"node", "tour.mjs"}},
}

// tour is a page with the same steps in each language.
type tour struct {
	shared map[string]string   // what comes before the steps
	steps  map[string][]string // by language
	shown  []string
}

// readTour reads the page. A section but the shared part has a block in each language, then what all of them print.
func readTour(t *testing.T, text string) tour {
	t.Helper()
	read := tour{shared: map[string]string{}, steps: map[string][]string{}}
	for _, b := range blocks(section(t, text, "The shared part")) {
		read.shared[b.language] = b.text
	}
	_, text, _ = strings.Cut(text, "\n## Log in\n")
	for chapter := range strings.SplitSeq("\n## Log in\n"+text, "\n## ") {
		all := blocks(chapter)
		if len(all) == 0 {
			continue
		}
		var names []string
		for _, b := range all {
			names = append(names, b.language)
			read.steps[b.language] = append(read.steps[b.language], b.text)
		}
		if !slices.Equal(names, []string{"sh", "go", "python", "javascript", "text"}) {
			t.Fatalf("blocks of %q in\n%s", names, chapter)
		}
	}
	read.shown = read.steps["text"]
	return read
}

// write writes the program of a language into a new folder, and returns the command that runs it.
func (r tour) write(t *testing.T, language int, steps []string) *exec.Cmd {
	t.Helper()
	l := languages[language]
	var program strings.Builder
	program.WriteString(r.shared[l.name] + l.before)
	for _, step := range steps {
		program.WriteString(step + l.mark)
	}
	program.WriteString(l.after)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, l.file), []byte(program.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(l.run[0], l.run[1:]...)
	cmd.Dir = dir
	return cmd
}

func TestTheTourDoesTheSameInEachLanguageAndLeavesNothingBehind(t *testing.T) {
	address, dir := sample(t)
	read := readTour(t, strings.ReplaceAll(page(t, "tour.md"), usual, address))
	for i, language := range languages {
		t.Run(language.name, func(t *testing.T) {
			unchanged(t, dir)
			compare(t, read.write(t, i, read.steps[language.name]), read.steps[language.name], read.shown)
		})
	}
}

func TestTheToursGoIsFormatted(t *testing.T) {
	read := readTour(t, page(t, "tour.md"))
	for _, text := range append(read.steps["go"], read.shared["go"]) {
		if formatted, err := format.Source([]byte(text)); err != nil || string(formatted) != text {
			t.Errorf("%v: want\n%s\ngot\n%s", err, formatted, text)
		}
	}
}

// faults are steps, by language, for a client that has a token: to read, to write, and to read a stream.
var faults = map[string]struct{ token, read, write string }{
	"sh": {
		"token=TOKEN\n", "call GET /users/alice --retry 5 --fail | field mail\n",
		"call PATCH /users/alice --json '{\"title\":\"TITLE\"}' | field code\n",
	},
	"go": {
		"tokens.Access = `TOKEN`\n", "var alice struct{ Mail string }\nmust(call(`GET`, `/users/alice`, nil, &alice))\nfmt.Println(alice.Mail)\n",
		"_, err := call(`PATCH`, `/users/alice`, object{`title`: `TITLE`}, nil)\nfmt.Println(err.(*Problem).Code)\n",
	},
	"python": {
		"tokens['access_token'] = 'TOKEN'\n", "print(call('GET', '/users/alice')[1]['mail'])\n",
		"try:\n    call('PATCH', '/users/alice', {'title': 'TITLE'})\nexcept Problem as problem:\n    print(problem.code)\n",
	},
	"javascript": {
		"tokens.access_token = 'TOKEN';\n", "console.log((await call('GET', '/users/alice')).data.mail);\n",
		"await call('PATCH', '/users/alice', { title: 'TITLE' }).catch((problem) => console.log(problem.code));\n",
	},
}

// unusedImports keeps Go from minding that a part of the tour does not use all that it imports.
const unusedImports = "\nvar _, _, _, _ = base64.StdEncoding, bufio.NewScanner, regexp.MustCompile, url.PathEscape\n"

func TestTheToursClientsWaitForTheDirectoryAndRepeatNoWrite(t *testing.T) {
	seed, err := openldap.Sample(openldap.Values{})
	if err != nil {
		t.Fatal(err)
	}
	server := ldapdirtest.Start(t, slapd.Options{Seed: seed})
	for i, language := range languages {
		t.Run(language.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			var modified atomic.Int32
			between := newRelay(t, strings.TrimPrefix(server.URL(), "ldap://"), func(part []byte) (int, bool) {
				if isModify(part) {
					modified.Add(1)
					return len(part), false
				}
				return len(part), true
			}, all)
			address, log := onSlapd(t, server, []string{
				"ROLLCALL_LDAP_URL=ldap://" + between.address(), "ROLLCALL_LDAP_BASE_DN=" + server.Suffix(), "ROLLCALL_LDAP_BIND_DN=" + server.ServiceDN(),
				"ROLLCALL_AUTH_ADMIN_GROUP=cn=admins,ou=groups," + server.Suffix(),
			})
			var tokens struct {
				Access string `json:"access_token"`
			}
			admin := client.Client{URL: address}
			if _, err := admin.Call(t.Context(), "POST", "/login", map[string]string{"username": "admin", "password": "admin"}, &tokens); err != nil {
				t.Fatal(err)
			}
			read := readTour(t, strings.ReplaceAll(page(t, "tour.md"), usual, address))
			read.shared["go"] += unusedImports
			steps := faults[language.name]
			token := strings.ReplaceAll(steps.token, "TOKEN", tokens.Access)

			between.set(true)
			program := read.write(t, i, []string{token + steps.read})
			done := make(chan struct{})
			go func() {
				defer close(done)
				compare(t, program, []string{steps.read}, []string{"alice@example.org\n"})
			}()
			for !strings.Contains(log.String(), `"status":503`) {
				select {
				case <-done:
					t.Fatal("it does not wait")
				case <-time.After(10 * time.Millisecond):
				}
			}
			between.set(false)
			<-done

			compare(t, read.write(t, i, []string{token + strings.ReplaceAll(steps.write, "TITLE", language.name)}), []string{steps.write}, []string{"outcome-unknown\n"})
			if n := modified.Load(); n != 1 {
				t.Errorf("%s\nsent %d writes to the directory, want 1", steps.write, n)
			}
		})
	}
}

func TestTheToursClientsDoNotTakeABrokenStreamForTheWhole(t *testing.T) {
	address, _ := sample(t)
	between := newRelay(t, strings.TrimPrefix(address, "http://"), all, func(part []byte) (int, bool) {
		if before, _, ok := bytes.Cut(part, []byte(`"cn":"bob"`)); ok {
			return bytes.LastIndexByte(before, '\n') + 1, false // between two lines, where it shows least
		}
		return len(part), true
	})
	read := readTour(t, strings.ReplaceAll(page(t, "tour.md"), usual, "http://"+between.address()))
	read.shared["go"] += unusedImports
	for i, language := range languages {
		steps := read.steps[language.name]
		stream := steps[len(steps)-2]
		for _, stream := range []string{stream, strings.ReplaceAll(stream, "?fields=cn", "")} { // with a Content-Length, and in chunks
			t.Run(language.name, func(t *testing.T) {
				t.Parallel()
				out, err := read.write(t, i, []string{steps[0], stream}).CombinedOutput()
				if err == nil || strings.Count(string(out), mark) != 1 {
					t.Errorf("%s\nwith a stream that breaks off: %v\n%s", stream, err, out)
				}
			})
		}
	}
}
