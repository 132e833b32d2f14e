package config

import (
	"fmt"
	"slices"
	"strings"
)

// Numbers that accounts can have. Those below are the operating system's, and so are 65534, nobody, and 65535.
const (
	lowestID  = 1000
	highestID = 1<<32 - 3
	nobodyID  = 1<<16 - 2
)

func (c *Config) lastID() string {
	if c.Posix.Min <= nobodyID+1 && c.Posix.Max >= nobodyID {
		return fmt.Sprintf("must not leave %d and %d between it and posix.min: they are nobody's and no account's", nobodyID, nobodyID+1)
	}
	return between(c.Posix.Max, c.Posix.Min, highestID)
}

// absolutePath is a path as passwd(5) has it.
func absolutePath(text string) string {
	steps := strings.Split(text, "/")
	if !strings.HasPrefix(text, "/") || slices.Contains(steps, "..") || slices.Contains(steps, ".") ||
		strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }) {
		return fmt.Sprintf("must be an absolute path in ASCII, without spaces and colons, not %q", text)
	}
	return ""
}

func homeDirectory(text string) string {
	if !strings.Contains(text, "{uid}") {
		return fmt.Sprintf("must have {uid} where the login name belongs, such as /home/{uid}, not %q", text)
	}
	return absolutePath(text)
}
