package directory

import (
	"encoding/base64"
	"strings"
)

// AppendLDIF appends the record as LDIF (RFC 2849), with an empty line after it. Values that are secret it says to
// have left out, in a comment.
func (r Record) AppendLDIF(b []byte) []byte {
	b = appendLine(b, "dn", r.DN)
	if r.Change != "" {
		b = appendLine(b, "changetype", string(r.Change))
	}
	for _, attribute := range r.Attributes {
		b = attribute.appendLDIF(b)
	}
	for _, m := range r.Modifications {
		if m.Secret {
			b = m.appendLDIF(b)
			continue
		}
		b = appendLine(b, m.Operation, m.Type)
		b = m.appendLDIF(b)
		b = append(b, "-\n"...)
	}
	if r.Change == ChangeRename {
		b = appendLine(b, "newrdn", r.NewRDN)
		b = appendLine(b, "deleteoldrdn", "1")
	}
	return append(b, '\n')
}

func (a Attribute) appendLDIF(b []byte) []byte {
	if a.Secret {
		return append(b, "# "+a.Type+" is set as well; its value is a secret and left out\n"...)
	}
	for _, value := range a.Values {
		b = appendLine(b, a.Type, value)
	}
	return b
}

// maxLine is the length from which on lines are folded.
const maxLine = 76

// appendLine appends an attrval-spec or the like: in base64 unless the value is a SAFE-STRING that does not end with
// a space, and has no control characters. A tab it might begin with, but OpenLDAP's tools take one there for a space.
func appendLine(b []byte, name, value string) []byte {
	line := name + ": " + value
	if !isSafeString(value) {
		line = name + ":: " + base64.StdEncoding.EncodeToString([]byte(value))
	}
	for len(line) > maxLine {
		b = append(append(b, line[:maxLine]...), '\n')
		line = " " + line[maxLine:]
	}
	return append(append(b, line...), '\n')
}

func isSafeString(s string) bool {
	unsafe := func(r rune) bool { return r < ' ' || r > '~' }
	return s == "" || !strings.ContainsRune(" :<", rune(s[0])) && s[len(s)-1] != ' ' && !strings.ContainsFunc(s, unsafe)
}
