package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"rollcall/app/directory"
)

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
