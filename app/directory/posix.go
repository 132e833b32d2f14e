package directory

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Names of the fields of Linux accounts, which are those of their attributes (RFC 2307).
const (
	FieldUIDNumber     = "uidNumber"
	FieldGIDNumber     = "gidNumber"
	FieldHomeDirectory = "homeDirectory"
	FieldLoginShell    = "loginShell"
)

// The numbers that accounts and groups can have. Those below are the operating system's own, and so are the last two of
// 16 and of 32 bits: nobody's, and -1, which is none.
const (
	LowestNumber  = 1000
	HighestNumber = 1<<32 - 3
	nobody        = 1<<16 - 2
	noID          = 1<<16 - 1
)

// LowestPrimaryGroup is the lowest group that an account can have as its own: 100 is "users" on many systems.
const LowestPrimaryGroup = 100

// nextNumber in place of a number asks for one: that which the entry has, or else the next that is free. It is
// never stored: 0 is root.
const nextNumber = "0"

// PosixFields are what the entries of a kind have besides where they are Linux accounts, and groups of such.
func PosixFields(kind string) []Field {
	number := func(name string, lowest int, description, example string) Field {
		return Field{Name: name, Type: Integer, Kept: true, Given: true, Identity: true, Syntax: numberSyntax(lowest), Description: description, Example: example}
	}
	switch kind {
	case KindUsers:
		uid := number(FieldUIDNumber, LowestNumber, "The account's number, one user's only. Given when left out; 0 asks for the next.", "10001")
		uid.Unique = true
		return []Field{
			uid,
			number(FieldGIDNumber, LowestPrimaryGroup, "The number of the account's own group.", "100"),
			{Name: FieldHomeDirectory, Kept: true, Given: true, Syntax: pathSyntax, Description: "The home directory.", Example: "/home/alice"},
			{Name: FieldLoginShell, Kept: true, Given: true, Syntax: pathSyntax, Description: "The login shell.", Example: "/bin/bash"},
		}
	case KindGroups:
		gid := number(FieldGIDNumber, LowestNumber, "The group's number, one group's only. Given when left out; 0 asks for the next.", "10001")
		gid.Unique = true
		return []Field{gid}
	}
	return nil
}

// NumberField names the field that drawn numbers of a kind are values of; "" where it has none.
func NumberField(kind *Kind) string {
	at := slices.IndexFunc(kind.Fields, func(f Field) bool { return f.Given && f.Unique })
	if at < 0 {
		return ""
	}
	return kind.Fields[at].Name
}

var integer = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

// IsInteger reports whether a text is a whole number as an Integer field has it, and as JSON writes it.
func IsInteger(s string) bool { return integer.MatchString(s) }

// ValidNumber reports whether an account or a group may be given a number.
func ValidNumber(n int) bool {
	return n >= LowestNumber && n <= HighestNumber && n != nobody && n != noID
}

func numberSyntax(lowest int) func(string) string {
	return func(s string) string {
		n, err := strconv.Atoi(s)
		if s == nextNumber || err == nil && n >= lowest && ValidNumber(max(n, LowestNumber)) {
			return ""
		}
		return fmt.Sprintf("must be from %d to %d, but neither %d nor %d", lowest, HighestNumber, nobody, noID)
	}
}

// pathSyntax is an absolute path that has a place in passwd(5), where colons separate fields.
func pathSyntax(s string) string {
	if wrong := asciiSyntax(s); wrong != "" {
		return wrong
	}
	if !strings.HasPrefix(s, "/") || strings.Contains(s, ":") {
		return "must be an absolute path without colons"
	}
	if steps := strings.Split(s, "/"); slices.Contains(steps, "..") || slices.Contains(steps, ".") {
		return "must not contain . or .. as a step"
	}
	return ""
}

// PathFor puts a login name in the place of {uid} in a path. Of a name that could be no part of a path, or lead
// elsewhere, what is left is told apart by a number.
func PathFor(template, login, number string) string {
	const longest = 64
	safe := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-@+", r) {
			return r
		}
		return '_'
	}, login)
	safe = safe[:min(len(safe), longest)]
	if safe != login || strings.Trim(safe, ".") == "" {
		safe = strings.TrimLeft(safe, ".") + "-" + number
	}
	return strings.ReplaceAll(template, "{uid}", safe)
}
