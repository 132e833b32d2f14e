package main

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
	"rollcall/config"
)

// newLog returns the log and what closes it.
func newLog(c config.Log) (*logrus.Logger, func(), error) {
	level, err := logrus.ParseLevel(c.Level)
	if err != nil {
		return nil, nil, err
	}
	log := logrus.New()
	log.SetLevel(level)
	log.SetFormatter(formatter(c.Format))
	if c.File == "" {
		return log, func() {}, nil
	}
	file, closeFile, err := openLogFile(c.File, log)
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

// audited returns the directory with its audit trail, where there is to be one, and what closes the trail. It has
// its own file, or is part of the log whatever the log's level.
func audited(guarded *directory.Guarded, c *config.Config, log *logrus.Logger) (directory.Directory, func(), error) {
	if !c.Audit.Enabled {
		return guarded, func() {}, nil
	}
	trail, closeFile := logrus.New(), func() {}
	trail.SetFormatter(formatter(c.Log.Format))
	out := log.Out
	if c.Audit.File != "" {
		file, closeIt, err := openLogFile(c.Audit.File, log)
		if err != nil {
			return nil, nil, err
		}
		out, closeFile = file, closeIt
		trail.SetFormatter(formatter(formatJSON))
	}
	trail.SetOutput(noticed{out, log})
	return directory.NewAudited(guarded, func(e directory.Event) { record(trail, e) }), closeFile, nil
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

// openLogFile opens a file that each SIGHUP reopens, and returns what closes it.
func openLogFile(path string, log *logrus.Logger) (*logFile, func(), error) {
	file := &logFile{path: path}
	if err := file.reopen(); err != nil {
		return nil, nil, err
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	var watching sync.WaitGroup
	watching.Go(func() {
		for range hangups {
			if err := file.reopen(); err != nil {
				log.WithError(err).WithField("file", path).Error("the log file could not be reopened; the old one stays in use")
			}
		}
	})
	return file, func() {
		signal.Stop(hangups)
		close(hangups)
		watching.Wait()
		_ = file.Close()
	}, nil
}

// logFile is a file that can be moved away by whoever rotates logs: reopening makes a new one in its place.
type logFile struct {
	path  string
	mutex sync.Mutex
	*os.File
}

func (f *logFile) reopen() error {
	file, err := os.OpenFile(filepath.Clean(f.path), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.mutex.Lock()
	defer f.mutex.Unlock()
	if f.File != nil {
		_ = f.File.Close()
	}
	f.File = file
	return nil
}

// Write implements [io.Writer].
func (f *logFile) Write(b []byte) (int, error) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	return f.File.Write(b)
}

// warnings is where net/http writes what goes wrong before there is a request.
type warnings struct{ log *logrus.Logger }

// Write implements [io.Writer].
func (w warnings) Write(b []byte) (int, error) {
	w.log.Warn(strings.TrimSpace(string(b)))
	return len(b), nil
}
