package cli_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"rollcall/app/cli"
)

const (
	me     = `{"roles":["admin"],"may":[]}`
	ndjson = "application/x-ndjson"
)

// run runs a command, and returns what it prints, what it says with its error, and its status.
func run(t *testing.T, server string, args ...string) (printed, said string, status int) {
	t.Helper()
	return runIn(t.Context(), t, server, args...)
}

func runIn(ctx context.Context, t *testing.T, server string, args ...string) (printed, said string, status int) {
	t.Helper()
	for _, name := range []string{"URL", "LOGIN", "TOKEN"} {
		t.Setenv("ROLLCALL_"+name, "")
	}
	t.Setenv("ROLLCALL_PASSWORD", "wonderland")
	cmd := cli.Export()
	if args[0] == "import" {
		cmd = cli.Import()
	}
	var stdout, stderr bytes.Buffer
	cmd.SetOut(&stdout)
	cmd.SetErr(&stderr)
	cmd.SetIn(strings.NewReader(""))
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs(append([]string{"--url", server, "--login", "alice", "--retry-for", "5s"}, args[1:]...))
	err := cmd.ExecuteContext(ctx)
	if err != nil {
		stderr.WriteString(err.Error())
		status = 1
	}
	if exit, ok := errors.AsType[cli.ExitError](err); ok {
		status = exit.Status
	}
	return stdout.String(), stderr.String(), status
}

// says demands a status, and words.
func says(t *testing.T, said string, status, want int, words ...string) {
	t.Helper()
	if status != want {
		t.Errorf("status %d, want %d: %s", status, want, said)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("says %q, want %q", said, w)
		}
	}
}

// answering returns a server that answers each request alike.
func answering(t *testing.T, status int, header http.Header, body string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), header)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server
}

func holds(name, value string) http.Header { return http.Header{name: {value}} }

func write(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestAServerThatCanNotBeUsedIsExplained(t *testing.T) {
	var strangers atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { strangers.Add(1) }))
	defer elsewhere.Close()
	secure := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer secure.Close()
	closed := httptest.NewServer(nil)
	closed.Close()
	authority := write(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	html, problem := holds("Content-Type", "text/html"), holds("Content-Type", "application/problem+json")

	for name, test := range map[string]struct {
		url   string
		flags []string
		words []string
	}{
		"nobody listens":         {url: closed.URL, words: []string{"connection refused", "Is the server running, and --url right?"}},
		"a page":                 {url: answering(t, 200, html, "<html>").URL, words: []string{"does not answer as a Rollcall does", `it is "text/html"`}},
		"a page of an error":     {url: answering(t, 502, html, "<html>").URL, words: []string{"does not answer as a Rollcall does", "Bad Gateway (502)"}},
		"other JSON":             {url: answering(t, 200, holds("Content-Type", "application/json"), `{}`).URL, words: []string{"does not answer as a Rollcall does"}},
		"a redirect":             {url: answering(t, 307, holds("Location", elsewhere.URL), "").URL, words: []string{"It is at " + elsewhere.URL, "not followed"}},
		"an unknown authority":   {url: secure.URL, words: []string{"certificate", "--ca-file"}},
		"one by a file":          {url: secure.URL, flags: []string{"--ca-file", authority}, words: []string{"(418)"}},
		"no authority in a file": {url: secure.URL, flags: []string{"--ca-file", write(t, "none")}, words: []string{"holds no certificate"}},
		"http for https":         {url: "http" + strings.TrimPrefix(secure.URL, "https"), words: []string{"with https"}},
		"https for http":         {url: "https" + strings.TrimPrefix(elsewhere.URL, "http"), words: []string{"server gave HTTP response to HTTPS client"}},
		"a wrong password": {
			url:   answering(t, 401, problem, `{"title":"Wrong","status":401,"code":"invalid-credentials","detail":"Check both."}`).URL,
			words: []string{"does not let you in: Wrong (401): Check both."},
		},
		"too many wrong passwords": {
			url:   answering(t, 429, http.Header{"Content-Type": {"application/problem+json"}, "Retry-After": {"17"}}, `{"title":"Too many","code":"too-many-logins","detail":"Wait."}`).URL,
			words: []string{"Too many (429): Wait. Retry-After: 17 seconds."},
		},
		"another base path":    {url: answering(t, 404, problem, `{"title":"Nothing","code":"no-such-route"}`).URL, words: []string{"Is the base path missing in --url?"}},
		"no address":           {url: "rollcall.example.org", words: []string{"https://rollcall.example.org/api"}},
		"a password in it":     {url: "http://alice:wonderland@127.0.0.1", words: []string{"and no more"}},
		"no password file":     {url: closed.URL, flags: []string{"--password-file", "none"}, words: []string{"open none"}},
		"an empty password":    {url: closed.URL, flags: []string{"--password-file", write(t, "\n")}, words: []string{"the password of alice is missing"}},
		"no such flag":         {url: closed.URL, flags: []string{"--colour"}, words: []string{"unknown flag"}},
		"a kind that is none":  {url: closed.URL, flags: []string{"people"}, words: []string{`no kind "people"`}},
		"a format that is one": {url: closed.URL, flags: []string{"--format", "xml"}, words: []string{`no format "xml"`}},
	} {
		t.Run(name, func(t *testing.T) {
			_, said, status := run(t, test.url, append([]string{"export"}, test.flags...)...)
			says(t, said, status, 1, test.words...)
			if strings.Contains(said, "wonderland") {
				t.Errorf("tells the password: %s", said)
			}
		})
	}
	if strangers.Load() > 0 {
		t.Error("a redirect was followed")
	}
}

func TestOneIsWhomTheFlagsOrTheEnvironmentName(t *testing.T) {
	file := write(t, "from a file\r\n")
	for want, test := range map[string]struct{ login, password, token, args string }{
		"Basic a:p":           {login: "a", password: "p", token: "t"},
		"Basic b:p":           {login: "a", password: "p", args: "--login b"},
		"Basic a:from a file": {login: "a", password: "p", args: "--password-file " + file},
		"Bearer t":            {token: "t"},
		"who are you?":        {password: "p"},
		"the password of a":   {login: "a", token: "t"},
	} {
		got := ""
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if got = r.Header.Get("Authorization"); strings.HasPrefix(got, "Basic ") {
				login, password, _ := r.BasicAuth()
				got = "Basic " + login + ":" + password
			}
			w.WriteHeader(http.StatusTeapot)
		}))
		defer server.Close()
		for name, value := range map[string]string{"URL": server.URL, "LOGIN": test.login, "PASSWORD": test.password, "TOKEN": test.token} {
			t.Setenv("ROLLCALL_"+name, value)
		}
		cmd := cli.Export()
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		cmd.SetArgs(strings.Fields(test.args))
		if err := cmd.ExecuteContext(t.Context()); got != want && !strings.Contains(err.Error(), want) {
			t.Errorf("got %q and %v, want %q", got, err, want)
		}
	}
}

// rollcall is a server that answers bulk requests in its own way, and knows who is calling.
func rollcall(t *testing.T, bulk http.HandlerFunc) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, password, _ := r.BasicAuth(); password != "wonderland" {
			t.Errorf("%s %s with the password %q", r.Method, r.URL, password)
		}
		if r.URL.Path == "/me" {
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, me)
			return
		}
		w.Header().Set("Content-Type", ndjson)
		bulk(w, r)
	}))
	t.Cleanup(server.Close)
	return server
}

// linesOf reads the lines of a request.
func linesOf(t *testing.T, r *http.Request) []string {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func TestAFileIsReadByLinesOrRefused(t *testing.T) {
	const a, b = `{"cn":"a"}`, `{"cn":"b"}`
	for name, test := range map[string]struct {
		text  string
		lines string // as they arrive
		words string
	}{
		"lines":                    {a + "\n" + b + "\n", a + "\n" + b, "2 lines: 2 created"},
		"no end of the last":       {a + "\n" + b, a + "\n" + b, "2 lines: 2 created"},
		"as Windows writes it":     {"\ufeff" + a + "\r\n\r\n" + b + "\r\n", a + "\n" + b, "2 lines: 2 created"},
		"a wrong line further on":  {a + "\n{", a + "\n{", "2 lines: 2 created"}, // which the server refuses
		"nothing":                  {"", "", "0 lines: 0 created"},
		"blank lines":              {"\n \n", "", "0 lines: 0 created"},
		"an array":                 {"[" + a + "]", "", "line 1 is no JSON object"},
		"an object on three lines": {"{\n\"cn\":\"a\"\n}", "", "line 1 is no JSON object"},
		"a table":                  {"cn,sn\na,b", "", "line 1 is no JSON object"},
		"UTF-16":                   {"\xff\xfe{\x00", "", "line 1 is no JSON object"},
		"no lines at all":          {strings.Repeat("\x00", 17<<20), "", "line 1 is longer than 16 MiB"},
		"a long line further on":   {"\n" + a + "\n" + strings.Repeat("x", 17<<20), a, "line 3 is longer than 16 MiB\nnot finished: go on with --from 3"},
	} {
		t.Run(name, func(t *testing.T) {
			arrived := ""
			server := rollcall(t, func(w http.ResponseWriter, r *http.Request) {
				lines := linesOf(t, r)
				arrived = strings.Join(lines, "\n")
				for i := range lines {
					fmt.Fprintf(w, "{\"line\":%d,\"status\":201}\n", i+1)
				}
			})
			_, said, status := run(t, server.URL, "import", write(t, test.text))
			want := 0
			if !strings.Contains(test.words, "created") {
				want = 1
			}
			says(t, said, status, want, test.words)
			if arrived != test.lines {
				t.Errorf("arrived: %.200q", arrived)
			}
		})
	}
}

func TestAFileThatCanNotBeReadIsNamed(t *testing.T) {
	server := rollcall(t, func(http.ResponseWriter, *http.Request) { t.Error("something was sent") })
	same := write(t, "{}\n")
	for words, args := range map[string][]string{
		"open none: no such file":     {"none"},
		"is a directory":              {t.TempDir()},
		"--failed would overwrite":    {same, "--failed", same},
		"name the file to import":     {},
		"the file to import, or - ":   {"groups"},
		`no kind "people"`:            {"people", same},
		"name one file":               {"users", same, same},
		"lines are counted from 1":    {same, "--from", "0"},
		"open none/failed: no such f": {same, "--failed", "none/failed"},
	} {
		_, said, status := run(t, server.URL, append([]string{"import"}, args...)...)
		says(t, said, status, 1, words)
	}
}

func TestLinesThatWereThereWhenSentAgainAreToldApart(t *testing.T) {
	const there = `"status":409,"name":"x","problem":{"title":"The name is taken","status":409,"code":"already-exists"}}`
	lines := []string{`{"cn":"1"}`, `{"cn":"2"}`, `{"cn":"3"}`, `{"cn":"4"}`}
	for name, test := range map[string]struct {
		flags []string
		// answers to the requests in turn; "cut" breaks off.
		answers []string
		sent    []string // the first lines of the requests
		words   []string
		failed  string
	}{
		"go on": {
			answers: []string{`{"line":1,"status":201,"name":"1"}` + "\ncut", `{"line":1,` + there + `{"line":2,"status":201}{"line":3,"status":201}`},
			sent:    []string{lines[0], lines[1]},
			words:   []string{"trying again in 200ms", "line 2 x: is there, perhaps created just before the connection broke", "4 lines: 3 created, 0 replaced, 0 refused, 1 there when sent again"},
			failed:  lines[1] + "\n",
		},
		"go on after an answer that is short": {
			answers: []string{`{"line":1,"status":201}`, `{"line":1,` + there + `{"line":2,"status":201}{"line":3,"status":201}`},
			sent:    []string{lines[0], lines[1]},
			words:   []string{"unexpected EOF; trying again", "4 lines: 3 created, 0 replaced, 0 refused, 1 there when sent again"},
			failed:  lines[1] + "\n",
		},
		"go on after an error of the directory": {
			answers: []string{`{"line":1,"status":201}{"line":2,"status":503,"problem":{"title":"Away","status":503,"code":"directory-unavailable"}}{"line":3,"status":201}`, `{"line":1,` + there + `{"line":2,"status":201}{"line":3,"status":201}`},
			sent:    []string{lines[0], lines[1]},
			words:   []string{"Away (503); trying again", "4 lines: 3 created, 0 replaced, 0 refused, 1 there when sent again"},
			failed:  lines[1] + "\n",
		},
		"go on after an upload that stalled": {
			answers: []string{`{"line":1,"status":201}{"error":{"title":"Too slow","status":408,"code":"request-timeout"}}`, `{"line":1,` + there + `{"line":2,"status":201}{"line":3,"status":201}`},
			sent:    []string{lines[0], lines[1]},
			words:   []string{"Too slow (408); trying again", "4 lines: 3 created, 0 replaced, 0 refused, 1 there when sent again"},
			failed:  lines[1] + "\n",
		},
		"go on where the first refusal ends it": {
			flags: []string{"--stop-on-error"},
			answers: []string{
				"cut", `{"line":1,` + there + `{"line":2,"status":424,"problem":{}}`, `{"line":1,` + there, `{"line":1,"status":201}{"line":2,"status":201}`,
			},
			sent:   []string{lines[0], lines[0], lines[1], lines[2]},
			words:  []string{"4 lines: 2 created, 0 replaced, 0 refused, 2 there when sent again"},
			failed: lines[0] + "\n" + lines[1] + "\n",
		},
		"not those sent once": {
			answers: []string{`{"line":1,` + there + `{"line":2,"status":201}{"line":3,"status":201}{"line":4,"status":201}`},
			sent:    []string{lines[0]},
			words:   []string{"line 1 x: The name is taken (409)", "4 lines: 3 created, 0 replaced, 1 refused, in", "refused: 1 line"},
			failed:  lines[0] + "\n",
		},
		"nor where the first refusal ends it": {
			flags:   []string{"--stop-on-error"},
			answers: []string{`{"line":1,"status":201}{"line":2,` + there + `{"line":3,` + there + `{"line":4,"status":424,"problem":{}}`},
			sent:    []string{lines[0]},
			words:   []string{"4 lines: 1 created, 0 replaced, 2 refused, 1 not begun", "stopped: mend line 2, then go on with --from 2"},
			failed:  lines[1] + "\n" + lines[2] + "\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var sent []string
			server := rollcall(t, func(w http.ResponseWriter, r *http.Request) {
				if stops := r.FormValue("onError") == "stop"; r.Method != http.MethodPost || stops != (len(test.flags) > 0) {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				sent = append(sent, linesOf(t, r)[0])
				if len(sent) > len(test.answers) {
					t.Errorf("requests: %q", sent)
					panic(http.ErrAbortHandler)
				}
				answer, cut := strings.CutSuffix(test.answers[len(sent)-1], "cut")
				_, _ = io.WriteString(w, answer)
				if cut {
					_ = http.NewResponseController(w).Flush()
					panic(http.ErrAbortHandler)
				}
			})
			failed := filepath.Join(t.TempDir(), "failed")
			_, said, status := run(t, server.URL, append([]string{"import", "--create", "--failed", failed, write(t, strings.Join(lines, "\n"))}, test.flags...)...)
			says(t, said, status, 2, test.words...)
			if fmt.Sprint(sent) != fmt.Sprint(test.sent) {
				t.Errorf("requests that begin with %q, want %q", sent, test.sent)
			}
			if text, err := os.ReadFile(failed); err != nil || string(text) != test.failed {
				t.Errorf("--failed holds %q, want %q: %v", text, test.failed, err)
			}
			if strings.Count(said, "trying again") > 1 {
				t.Errorf("tries again where nothing broke: %s", said)
			}
		})
	}
}

func TestRequestsAreSmallAndInOrder(t *testing.T) {
	var lines, arrived []string
	for i := range 2500 {
		lines = append(lines, fmt.Sprintf(`{"cn":"%d"}`, i))
	}
	for range 3 { // too long for one request
		lines = append(lines, fmt.Sprintf(`{"cn":"%s"}`, strings.Repeat("x", 500<<10)))
	}
	server := rollcall(t, func(w http.ResponseWriter, r *http.Request) {
		got := linesOf(t, r)
		if r.ContentLength > 1100<<10 || len(got) > 1000 {
			t.Errorf("%d lines, %d bytes", len(got), r.ContentLength)
		}
		arrived = append(arrived, got...)
		for i := range got {
			fmt.Fprintf(w, "{\"line\":%d,\"status\":200}\n", i+1)
		}
	})
	_, said, status := run(t, server.URL, "import", write(t, strings.Join(lines, "\n")))
	says(t, said, status, 0, "2,503 lines: 0 created, 2,503 replaced, 0 refused")
	if strings.Join(arrived, "\n") != strings.Join(lines, "\n") {
		t.Errorf("%d lines arrived, want %d, or in another order", len(arrived), len(lines))
	}
}

func TestAnImportGivesUpInTheEnd(t *testing.T) {
	requests := 0
	server := rollcall(t, func(w http.ResponseWriter, _ *http.Request) {
		if requests++; requests == 1 {
			_, _ = io.WriteString(w, `{"line":1,"status":201}`)
			_ = http.NewResponseController(w).Flush()
		}
		panic(http.ErrAbortHandler)
	})
	_, said, status := run(t, server.URL, "import", "--retry-for", "300ms", write(t, "{}\n{}\n"))
	says(t, said, status, 1, "trying again in 200ms", "EOF\nnot finished: go on with --from 2")
	if strings.Contains(said, "800ms") {
		t.Errorf("tries too long: %s", said)
	}
}

func TestAnImportThatGoesOnAddsToTheRefused(t *testing.T) {
	server := rollcall(t, func(w http.ResponseWriter, r *http.Request) {
		if lines := linesOf(t, r); len(lines) != 1 || lines[0] != "{}" {
			t.Errorf("sent: %q", lines)
		}
		_, _ = io.WriteString(w, `{"line":1,"status":422,"problem":{"title":"Wrong","status":422,"code":"invalid","detail":"Correct it.","violations":[{"field":"sn","message":"is required"},{"field":"cn","message":"is required"}]}}`)
	})
	failed := write(t, "before\n")
	_, said, status := run(t, server.URL, "import", "--from", "2", "--failed", failed, write(t, "1\n{}\n"))
	says(t, said, status, 2, "line 2: Wrong (422): Correct it. sn is required; cn is required\n")
	if text, err := os.ReadFile(failed); err != nil || string(text) != "before\n{}\n" {
		t.Errorf("--failed holds %q: %v", text, err)
	}
}

func TestAnImportEndsWhereGoingOnIsOfNoUse(t *testing.T) {
	for words, answer := range map[string]string{
		"Wrong (401)":                        `{"line":1,"status":201}{"line":2,"status":401,"problem":{"title":"Wrong","status":401,"code":"invalid-token"}}`,
		"a result for line 7, not 2":         `{"line":1,"status":201}{"line":7,"status":201}`,
		"a result for line 3, not 3":         `{"line":1,"status":201}{"line":2,"status":201}{"line":3,"status":201}`,
		"Broken (500)":                       `{"line":1,"status":201}{"error":{"title":"Broken","status":500,"code":"internal"}}`,
		"not finished: go on with --from 2":  `{"line":1,"status":201}{"error":{"title":"Broken","status":500,"code":"internal"}}`,
		"1 line: 1 created, 0 replaced, 0 r": `{"line":1,"status":201}{"line":2,"status":200,"problem":{"status":422}}`,
	} {
		t.Run(words, func(t *testing.T) {
			requests := 0
			server := rollcall(t, func(w http.ResponseWriter, r *http.Request) {
				requests++
				linesOf(t, r)
				_, _ = io.WriteString(w, answer)
			})
			_, said, status := run(t, server.URL, "import", write(t, "{}\n{}\n"))
			says(t, said, status, 1, words)
			if requests != 1 {
				t.Errorf("%d requests", requests)
			}
		})
	}
}

func TestAnInterruptedCommandEndsAtOnce(t *testing.T) {
	for name, test := range map[string]struct {
		at    string // the path where it is interrupted
		args  []string
		words string
	}{
		"at the login":          {"/me", []string{"import", write(t, "{}\n")}, "interrupted"},
		"in a request":          {"/users", []string{"import", write(t, "{}\n")}, "interrupted: go on with --from 1"},
		"in a page":             {"/groups", []string{"export", "groups"}, "interrupted"},
		"before trying it anew": {"/hosts", []string{"import", "hosts", write(t, "{}\n")}, "interrupted: go on with --from 1"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path != test.at:
					w.Header().Set("Content-Type", "application/json")
					_, _ = io.WriteString(w, me)
				case r.URL.Path == "/hosts":
					time.AfterFunc(50*time.Millisecond, interrupt)
					panic(http.ErrAbortHandler)
				default:
					_, _ = io.Copy(io.Discard, r.Body)
					interrupt()
					<-r.Context().Done()
				}
			}))
			defer server.Close()
			_, said, status := runIn(ctx, t, server.URL, test.args...)
			says(t, said, status, 130, test.words)
		})
	}
}

func TestAnExportIsAWholeFileOrNone(t *testing.T) {
	const first, second = "{\"cn\":\"a\"}\n", "{\"cn\":\"b\"}\n"
	for name, test := range map[string]struct {
		second string // what comes for the second page, in turn: "cut", "lost" or the page
		want   string
		status int
		words  string
	}{
		"whole":     {"page", first + second, 0, "2 users exported"},
		"one break": {"cut page", first + second, 0, "trying again in 200ms"},
		"no cursor": {"lost", "before", 1, "Lost (410)\nnot finished: "},
		"a page":    {"html", "before", 1, "it is \"text/html\""},
	} {
		t.Run(name, func(t *testing.T) {
			turns := strings.Fields(test.second)
			server := rollcall(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.FormValue("cursor") == "":
					w.Header().Set("Link", `<http://elsewhere.example/users?cursor=next>; rel="next"`)
					_, _ = io.WriteString(w, first)
					return
				case turns[0] == "cut":
					w.Header().Set("Content-Length", "1000")
					_, _ = io.WriteString(w, second)
				case turns[0] == "lost":
					w.WriteHeader(http.StatusGone)
					_, _ = io.WriteString(w, `{"title":"Lost","code":"cursor-lost"}`)
				case turns[0] == "html":
					w.Header().Set("Content-Type", "text/html")
				default:
					_, _ = io.WriteString(w, second)
				}
				turns = turns[1:]
			})
			file := write(t, "before")
			link := filepath.Join(t.TempDir(), "link")
			if err := os.Symlink(file, link); err != nil {
				t.Fatal(err)
			}
			_, said, status := run(t, server.URL, "export", "-o", link)
			says(t, said, status, test.status, test.words)
			if text, err := os.ReadFile(file); err != nil || string(text) != test.want {
				t.Errorf("the file holds %q, want %q: %v", text, test.want, err)
			}
			if left, _ := os.ReadDir(filepath.Dir(file)); len(left) != 1 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestAnExportThatCanNotPutItsFileInPlaceLeavesNoneBehind(t *testing.T) {
	name := filepath.Join(t.TempDir(), "users")
	server := rollcall(t, func(w http.ResponseWriter, _ *http.Request) {
		if err := os.Mkdir(name, 0o700); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, "{}\n")
	})
	_, said, status := run(t, server.URL, "export", "-o", name)
	says(t, said, status, 1, "rename ", "not finished: ")
	if left, err := os.ReadDir(filepath.Dir(name)); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestAnExportWritesToWhatIsNoFile(t *testing.T) {
	server := rollcall(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}\n") })
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	pipe, err := os.OpenFile(name, os.O_RDWR, 0) // so that nobody waits for the other end
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	_, said, status := run(t, server.URL, "export", "-o", name)
	says(t, said, status, 0, "1 user exported")
	if info, err := os.Lstat(name); err != nil || info.Mode().Type() != os.ModeNamedPipe {
		t.Fatalf("the pipe was replaced: %v, %v", info, err)
	}
	text := make([]byte, 3)
	if _, err := io.ReadFull(pipe, text); err != nil || string(text) != "{}\n" {
		t.Errorf("read %q: %v", text, err)
	}
	_, said, status = run(t, server.URL, "export", "-o", filepath.Join(t.TempDir(), "none", "file"))
	says(t, said, status, 1, "no such file or directory")
}
