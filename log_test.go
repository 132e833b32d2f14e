package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"rollcall/app/client"
	"rollcall/app/directory"
)

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

// full is a disk without room.
type full struct{}

// Write implements [io.Writer].
func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestALineThatCanNotBeWrittenIsAnErrorInTheLog(t *testing.T) {
	t.Parallel()
	var told bytes.Buffer
	log, trail := logrus.New(), logrus.New()
	log.SetOutput(&told)
	trail.SetOutput(noticed{full{}, log})
	record(trail, directory.Event{Time: time.Now(), Result: "ok"})
	if !strings.Contains(told.String(), "level=error") || !strings.Contains(told.String(), "no space left") {
		t.Errorf("the log has %q", told.String())
	}
}

func TestALineOfTheTrailStaysOne(t *testing.T) {
	t.Parallel()
	const name = "bob\n{\"msg\":\"audit\"}\r\nx"
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		trail := logrus.New()
		trail.SetFormatter(formatter(format))
		trail.SetOutput(&out)
		record(trail, directory.Event{
			Name: name, Caller: name, Faulty: []string{name}, DN: name, ID: name, Roles: []directory.Role{},
			Changes: []directory.FieldChange{{Field: name, Before: []string{name}, After: []string{name}}}, Result: "invalid",
		})
		if text := out.String(); strings.Count(text, "\n") != 1 || strings.Contains(text, "\r") || !strings.HasSuffix(text, "\n") {
			t.Errorf("%s: not one line: %q", format, text)
		}
		var line map[string]any
		if err := json.Unmarshal(out.Bytes(), &line); format == "json" && (err != nil || line["name"] != name) {
			t.Errorf("%v: %s", err, out.String())
		}
	}
}
