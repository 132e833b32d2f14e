//go:build linux

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
)

// backup writes the directory's entries as LDIF, and how many there are at the end: a text without that is cut off.
func (s *server) backup(to io.Writer) error {
	if !exists(s.path(dataDir)) {
		return fmt.Errorf("there is no directory in %s yet", s.dir)
	}
	entries := counter{to: to}
	if err := s.run(s.user, nil, &entries, "-Tcat", "-f", s.path(configFile)); err != nil {
		return err
	}
	_, err := fmt.Fprintf(to, "# end, %d entries\n", entries.n)
	return err
}

var endMark = regexp.MustCompile(`(?m)^# end, (\d+) entries\s*\z`)

const unmarkedHint = `Nothing is changed. Take another backup, or "restore --unmarked" where you know that this one is whole`

// restore puts a backup's entries in place of those that are there, which are kept. One that is not marked may be cut off.
func (s *server) restore(from io.Reader, marked bool) error {
	password, err := s.servicePassword()
	if err != nil {
		return err
	}
	if _, err := s.settle(); err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(s.path(newDir)) }()
	var end tail
	backup, err := s.spool(io.TeeReader(from, &end))
	if err != nil {
		return err
	}
	defer func() { _ = backup.Close() }()
	conf, failed := s.loadBackup(backup)
	mark := endMark.FindSubmatch(end)
	if marked && mark == nil {
		return errors.Join(errors.New(`the backup is cut off, or was not made by "start backup": it does not end with "# end, … entries". `+unmarkedHint), failed)
	}
	if failed != nil {
		return failed
	}
	loaded, err := s.count(conf)
	if err != nil {
		return err
	}
	if marked && string(mark[1]) != strconv.Itoa(loaded) {
		return fmt.Errorf("the backup says that it has %s entries, and has %d. %s", mark[1], loaded, unmarkedHint)
	}
	if err := s.setServicePassword(conf, password); err != nil { // nor is it Rollcall's without that account
		return err
	}
	if s.nis {
		warning, err := s.nisWarning(conf)
		if err != nil {
			return err
		}
		fmt.Println("warning:", warning)
	}
	was := s.countCurrent()
	if err := s.keepNumbers(); err != nil {
		return err
	}
	if err := s.install(); err != nil {
		return err
	}
	fmt.Printf("restored %s: %d entries, in place of %s\n", s.suffix, loaded, was)
	return nil
}

// spool copies a backup into a file that has no name, so that nothing is left of it whatever happens.
func (s *server) spool(backup io.Reader) (*os.File, error) {
	file, err := os.CreateTemp(s.dir, "restore-")
	if err != nil {
		return nil, err
	}
	if err = os.Remove(file.Name()); err == nil {
		_, err = io.Copy(file, backup)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// loadBackup loads what is spooled by rfc2307bis.schema, or else by nis.schema: one with groups that only that describes.
func (s *server) loadBackup(backup *os.File) (conf string, err error) {
	var failed error
	for _, s.nis = range []bool{false, true} {
		if _, err := backup.Seek(0, io.SeekStart); err != nil {
			return "", err
		}
		if conf, err = s.load(backup); err == nil {
			return conf, nil
		}
		failed = cmp.Or(failed, err)
	}
	return "", failed
}

// undo takes the last restoration back. Undone again, it counts again.
func (s *server) undo() error {
	if _, err := s.settle(); err != nil {
		return err
	}
	if !exists(s.path(replacedDir)) {
		return errors.New("there is no directory that a restoration replaced")
	}
	was := s.countCurrent()
	if err := s.keepNumbers(); err != nil {
		return err
	}
	if err := s.clear(); err != nil {
		return err
	}
	if err := os.RemoveAll(s.path(indexFile)); err != nil { // the one from before may be indexed otherwise
		return err
	}
	aside := s.path(newDir, dataDir)
	for _, move := range [][2]string{{s.path(dataDir), aside}, {s.path(replacedDir), s.path(dataDir)}, {aside, s.path(replacedDir)}} {
		if err := os.Rename(move[0], move[1]); err != nil { // settle goes on from here
			return err
		}
	}
	fmt.Printf("the directory from before the restoration is back: %s entries, in place of %s\n", s.countCurrent(), was)
	return os.RemoveAll(s.path(newDir))
}

// countCurrent says how many entries there are. A directory that can't be read can be replaced all the same.
func (s *server) countCurrent() string {
	if !exists(s.path(dataDir)) {
		return "none"
	}
	conf, err := s.writeConfig()
	if err != nil {
		return "an unknown number"
	}
	n, err := s.count(conf)
	if err != nil {
		return "an unknown number"
	}
	return strconv.Itoa(n)
}

// count counts the entries of the directory that a configuration names.
func (s *server) count(conf string) (int, error) {
	entries := counter{to: io.Discard}
	err := s.run(s.user, nil, &entries, "-Tcat", "-f", conf)
	return entries.n, err
}

// counter counts the entries in the LDIF that it passes on. No other line begins like theirs: long ones are folded
// with a space, values with a line break are in base64.
type counter struct {
	to     io.Writer
	n      int
	column int // of entryStart; beyond its end: in a line that is none, or that is counted
}

const entryStart = "dn:"

func (c *counter) Write(text []byte) (int, error) {
	for _, b := range text {
		switch {
		case b == '\n':
			c.column = 0
		case c.column < len(entryStart) && b == entryStart[c.column]:
			if c.column++; c.column == len(entryStart) {
				c.n++
			}
		default:
			c.column = len(entryStart)
		}
	}
	return c.to.Write(text)
}

// tail keeps the end of what is written to it.
type tail []byte

const tailLength = 256

func (t *tail) Write(text []byte) (int, error) {
	*t = append(*t, text...)
	*t = append((*t)[:0], (*t)[max(0, len(*t)-tailLength):]...)
	return len(text), nil
}
