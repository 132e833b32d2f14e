//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"rollcall/deploy/openldap"
)

// counts are the last numbers that accounts were given, by attribute.
type counts map[string]int

var countLine = regexp.MustCompile(`(?m)^(uidNumber|gidNumber): ([0-9]+)$`)

// countsOf reads the entry that counts, as LDIF.
func countsOf(ldif string) counts {
	c := counts{}
	for _, line := range countLine.FindAllStringSubmatch(ldif, -1) {
		if n, err := strconv.Atoi(line[2]); err == nil {
			c[line[1]] = n
		}
	}
	return c
}

// numbers returns the entry that counts, as LDIF; "" where there is none.
func (s *server) numbers(conf string) (string, error) {
	return s.tool(s.user, "", "-Tcat", "-f", conf, "-H", "ldap:///"+openldap.NumbersDN(s.suffix)+"??base")
}

// keepNumbers writes down how far the directory has counted that is about to be replaced: who was given a number since
// the backup has files by it. See addNumbers.
func (s *server) keepNumbers() error {
	if !exists(s.path(dataDir)) {
		return nil
	}
	kept, err := s.keptNumbers()
	if err != nil {
		return err
	}
	conf, err := s.writeConfig()
	if err != nil {
		return err
	}
	entry, err := s.numbers(conf)
	if err != nil {
		fmt.Printf("warning: how far the directory that is replaced has counted the numbers of Linux accounts can't be read. "+
			"Where posix.enabled is set, raise those of %s past all that were given: see docs/compose.md, Backup and restore\n", openldap.NumbersDN(s.suffix))
	}
	var lines strings.Builder
	counted := countsOf(entry)
	for _, attribute := range []string{"uidNumber", "gidNumber"} {
		fmt.Fprintf(&lines, "%s: %d\n", attribute, max(kept[attribute], counted[attribute]))
	}
	return write(s.path(countFile), lines.String(), 0o644, -1)
}

func (s *server) keptNumbers() (counts, error) {
	text, err := os.ReadFile(s.path(countFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return countsOf(string(text)), err
}

// addNumbers adds the entry that counts the numbers of accounts, where it is missing, and has it go on where directories
// were that it has replaced.
func (s *server) addNumbers(conf string) error {
	entry, err := s.numbers(conf)
	if err != nil {
		return err
	}
	if entry == "" {
		numbers, err := openldap.Numbers(s.values())
		if err == nil {
			_, err = s.tool(s.user, numbers, "-Tadd", "-w", "-f", conf)
		}
		if err != nil {
			return err
		}
	}
	kept, err := s.keptNumbers()
	if err != nil {
		return err
	}
	counted := countsOf(entry)
	var changes []string
	for attribute, number := range kept {
		if number > counted[attribute] {
			changes = append(changes, fmt.Sprintf("replace: %s\n%s: %d\n", attribute, attribute, number))
		}
	}
	if len(changes) == 0 {
		return nil
	}
	slices.Sort(changes)
	change := "dn: " + openldap.NumbersDN(s.suffix) + "\nchangetype: modify\n" + strings.Join(changes, "-\n")
	_, err = s.tool(s.user, change, "-Tmodify", "-w", "-f", conf)
	return err
}
