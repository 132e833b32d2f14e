// Package logs opens the log and the audit trail, and the files that they are written to.
package logs

import (
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/sirupsen/logrus"

	"rollcall/app/directory"
)

// Open returns a log of this level and format ("json" or "text") and what closes it. Without a file it goes to
// standard error.
func Open(level, format, path string) (*logrus.Logger, func(), error) {
	least, err := logrus.ParseLevel(level)
	if err != nil {
		return nil, nil, err
	}
	log := logrus.New()
	log.SetLevel(least)
	log.SetFormatter(formatter(format))
	if path == "" {
		return log, func() {}, nil
	}
	file, closeFile, err := openFile(path, log)
	if err != nil {
		return nil, nil, err
	}
	log.SetOutput(file)
	return log, closeFile, nil
}

const formatJSON = "json"

func formatter(format string) logrus.Formatter {
	if format == formatJSON {
		return &logrus.JSONFormatter{}
	}
	return &logrus.TextFormatter{}
}

// Trail returns what records the events of an audit trail, and what closes it. Without a file of its own, which is
// JSON, it is part of the log and in this format, whatever the log's level.
func Trail(path, format string, log *logrus.Logger) (func(directory.Event), func(), error) {
	trail, out, closeFile := logrus.New(), log.Out, func() {}
	if path != "" {
		file, closeIt, err := openFile(path, log)
		if err != nil {
			return nil, nil, err
		}
		out, closeFile, format = file, closeIt, formatJSON
	}
	trail.SetFormatter(formatter(format))
	trail.SetOutput(noticed{out, log})
	return func(e directory.Event) { record(trail, e) }, closeFile, nil
}

// record writes the one line of an attempt to change something.
func record(trail *logrus.Logger, e directory.Event) {
	fields := logrus.Fields{
		"request_id": e.RequestID, "caller": e.Caller, "caller_id": e.CallerID, "roles": e.Roles, "address": e.Address,
		"action": e.Action, "kind": e.Kind, "name": e.Name, "result": e.Result,
	}
	if e.ID != "" {
		fields["dn"], fields["id"] = e.DN, e.ID
	}
	if len(e.Changes) > 0 {
		fields["changes"] = e.Changes
	}
	if len(e.Faulty) > 0 {
		fields["faulty"] = e.Faulty
	}
	trail.WithTime(e.Time).WithFields(fields).Info("audit")
}

// noticed is where the trail goes. What can't be written there is told to the log.
type noticed struct {
	io.Writer
	log *logrus.Logger
}

// Write implements [io.Writer].
func (n noticed) Write(b []byte) (int, error) {
	if _, err := n.Writer.Write(b); err != nil {
		n.log.WithError(err).Error("a change could not be written to the audit trail")
	}
	return len(b), nil
}

// openFile opens a file that each SIGHUP reopens, and returns what closes it.
func openFile(path string, log *logrus.Logger) (*file, func(), error) {
	f := &file{path: path}
	if err := f.reopen(); err != nil {
		return nil, nil, err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var watching sync.WaitGroup
	watching.Go(func() {
		for range hangups {
			if err := f.reopen(); err != nil {
				log.WithError(err).WithField("file", path).Error("the log file could not be reopened; the old one stays in use")
			}
		}
	})
	return f, func() {
		signal.Stop(hangups)
		close(hangups)
		watching.Wait()
		_ = f.Close()
	}, nil
}

// file is one that can be moved away by whoever rotates logs: reopening makes a new one in its place.
type file struct {
	path  string
	mutex sync.Mutex
	*os.File
}

func (f *file) reopen() error {
	opened, err := os.OpenFile(filepath.Clean(f.path), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.File != nil {
		_ = f.File.Close()
	}
	f.File = opened
	return nil
}

// Write implements [io.Writer].
func (f *file) Write(b []byte) (int, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.File.Write(b)
}

// Warnings makes a warning of each text that is written to it, such as net/http's of what goes wrong before there
// is a request.
type Warnings struct{ Log *logrus.Logger }

// Write implements [io.Writer].
func (w Warnings) Write(b []byte) (int, error) {
	w.Log.Warn(strings.TrimSpace(string(b)))
	return len(b), nil
}
