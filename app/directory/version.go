package directory

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
)

// Version tells one state of an entry from another.
type Version struct {
	// CSN is the entry's entryCSN. It changes with every write, those of failed logins included.
	CSN string
	// Own and MemberOfs are digests of what the caller saw: the entry's own writable fields, and memberOfs.
	Own, MemberOfs string
}

// versionSeparator occurs neither in a CSN nor in base64url.
const versionSeparator = "."

// String returns the version as one word of printable ASCII without quotes.
func (v Version) String() string {
	return strings.ReplaceAll(v.CSN, versionSeparator, "/") + versionSeparator + v.Own + versionSeparator + v.MemberOfs
}

// ParseVersion reads what [Version.String] wrote and reports whether it was that.
func ParseVersion(s string) (Version, bool) {
	parts := strings.Split(s, versionSeparator)
	if len(parts) != 3 {
		return Version{}, false
	}
	return Version{CSN: strings.ReplaceAll(parts[0], "/", versionSeparator), Own: parts[1], MemberOfs: parts[2]}, true
}

// Seal computes the entry's version from its values, its entryCSN, and whether somebody locked the account: a lock
// after failed logins is no edit of the entry's.
func (e *Entry) Seal(csn string, lockedForGood bool) {
	own, memberOfs := make([]byte, 0, 512), make([]byte, 0, 128)
	for i := range e.Kind.Fields {
		switch f := &e.Kind.Fields[i]; {
		case f.Name == FieldMemberOfs:
			memberOfs = appendValues(memberOfs, i, e.values[i])
		case f.Name == FieldAccountLocked:
			own = strconv.AppendBool(own, lockedForGood)
		case f.Name == FieldID, !f.ReadOnly && !f.WriteOnly:
			own = appendValues(own, i, e.values[i])
		}
	}
	e.Version = Version{CSN: csn, Own: digest(own), MemberOfs: digest(memberOfs)}
}

func appendValues(b []byte, field int, values []string) []byte {
	b = binary.AppendUvarint(b, uint64(field))
	b = binary.AppendUvarint(b, uint64(len(values)))
	for _, v := range values {
		b = binary.AppendUvarint(b, uint64(len(v)))
		b = append(b, v...)
	}
	return b
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// Condition is what must hold of an entry before it is written: the zero Condition always does.
type Condition struct {
	// Exists demands that the entry exists (If-Match: *).
	Exists bool
	// OneOf demands that the entry is in one of these versions (If-Match with tags).
	OneOf []Version
}

// Given reports whether there is anything to check.
func (c Condition) Given() bool { return c.Exists || c.OneOf != nil }

// Check returns stale unless the condition holds of an existing entry. A version holds when its CSN is
// current, or when the entry's own fields are as they were: a failed login writes to the entry, and must
// not make an edit stale.
func (c Condition) Check(e Entry) error {
	if c.OneOf == nil {
		return nil
	}
	for _, v := range c.OneOf {
		if v.CSN != "" && v.CSN == e.Version.CSN || v.Own == e.Version.Own {
			return nil
		}
	}
	return &Error{Code: Stale, Detail: "The entry has changed since you read it."}
}
