package ldapdir

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

const (
	attrLockedTime = "pwdAccountLockedTime"
	attrEndTime    = "pwdEndTime"
	attrStartTime  = "pwdStartTime"

	// lockedForGood is the value that slapo-ppolicy(5) gives to a lock by an admin. Any password change ends it.
	lockedForGood = "000001010000Z"
	// lockedEnd starts a pwdEndTime of ours: in the past, which is what makes the lock survive a password change.
	// Somebody's own end date is kept in the fraction of the second, between two digits that are not 0, so that
	// unlocking can give it back: the digits of one such as 20991231235959Z after keptDigits, any other byte by
	// byte, as two digits each, after keptBytes.
	lockedEnd  = "19700101000007"
	keptDigits = ".1"
	keptBytes  = ".2"
	keptEnd    = "1Z"
)

// lockOf returns why the account is locked, nil where it is not: for good, by failed logins that were not too long ago,
// or by its start and end dates. A lockout of 0 ends with nothing but an admin. slapd lets in until a lock that lies
// in the future begins.
func lockOf(e *ldap.Entry, now time.Time, lockout time.Duration) *directory.Lock {
	switch outside(e, now) {
	case attrStartTime:
		start, _ := moment(e.GetEqualFoldAttributeValue(attrStartTime))
		return &directory.Lock{Reason: directory.NotYetValid, Until: start}
	case attrEndTime:
		end, _ := moment(theirEnd(e.GetEqualFoldAttributeValue(attrEndTime)))
		return &directory.Lock{Reason: directory.NoLongerValid, Since: end}
	}
	since := e.GetEqualFoldAttributeValue(attrLockedTime)
	start, dated := moment(since)
	end, ends := moment(e.GetEqualFoldAttributeValue(attrEndTime))
	switch {
	case ends && !end.After(now), since == lockedForGood, since != "" && !dated:
		return &directory.Lock{Reason: directory.LockedByAdmin}
	case since == "" || start.After(now):
		return nil
	case lockout == 0:
		return &directory.Lock{Reason: directory.FailedLogins, Since: start}
	case now.Before(start.Add(lockout)):
		return &directory.Lock{Reason: directory.FailedLogins, Since: start, Until: start.Add(lockout)}
	}
	return nil
}

// outside returns the attribute with a date that somebody gave the account, and that now keeps it locked; "" for none.
func outside(e *ldap.Entry, now time.Time) string {
	if start, ok := moment(e.GetEqualFoldAttributeValue(attrStartTime)); ok && start.After(now) {
		return attrStartTime
	}
	if end, ok := moment(theirEnd(e.GetEqualFoldAttributeValue(attrEndTime))); ok && !end.After(now) {
		return attrEndTime
	}
	return ""
}

// lockedByUs reports whether the account is locked as lock does it.
func lockedByUs(e *ldap.Entry) bool {
	return e.GetEqualFoldAttributeValue(attrLockedTime) == lockedForGood &&
		strings.HasPrefix(e.GetEqualFoldAttributeValue(attrEndTime), lockedEnd)
}

// lock adds the changes that lock an account until somebody unlocks it.
func lock(modify *ldap.ModifyRequest, e *ldap.Entry) {
	modify.Replace(attrLockedTime, []string{lockedForGood})
	if end := e.GetEqualFoldAttributeValue(attrEndTime); !strings.HasPrefix(end, lockedEnd) {
		modify.Replace(attrEndTime, []string{ourEnd(end)})
	}
}

// unlock adds the changes that unlock an account and clear its failed logins. The first two do so together:
// the attribute may be absent, and slapd forgets the failures when it goes.
func unlock(modify *ldap.ModifyRequest, e *ldap.Entry) {
	modify.Replace(attrLockedTime, []string{lockedForGood})
	modify.Delete(attrLockedTime, nil)
	end := e.GetEqualFoldAttributeValue(attrEndTime)
	if !strings.HasPrefix(end, lockedEnd) {
		return
	}
	if theirs := theirEnd(end); theirs != "" {
		modify.Replace(attrEndTime, []string{theirs})
	} else {
		modify.Delete(attrEndTime, nil)
	}
}

// ourEnd returns a pwdEndTime in the past that keeps another one.
func ourEnd(theirs string) string {
	digits, utc := strings.CutSuffix(theirs, "Z")
	switch {
	case theirs == "":
		return lockedEnd + "Z"
	case utc && strings.Trim(digits, "0123456789") == "":
		return lockedEnd + keptDigits + digits + keptEnd
	}
	var pairs strings.Builder
	for _, b := range []byte(theirs) {
		fmt.Fprintf(&pairs, "%02d", b) // from + to Z
	}
	return lockedEnd + keptBytes + pairs.String() + keptEnd
}

// theirEnd returns the end date that somebody gave the account, also one that a lock of ours keeps; "" for none.
func theirEnd(end string) string {
	ours, ok := strings.CutPrefix(end, lockedEnd)
	if !ok {
		return end
	}
	ours = strings.TrimSuffix(ours, keptEnd)
	if digits, ok := strings.CutPrefix(ours, keptDigits); ok {
		return digits + "Z"
	}
	pairs, _ := strings.CutPrefix(ours, keptBytes)
	var theirs strings.Builder
	for pair := range slices.Chunk([]byte(pairs), 2) {
		if b, err := strconv.ParseUint(string(pair), 10, 8); err == nil {
			theirs.WriteByte(byte(b))
		}
	}
	return theirs.String()
}

func moment(generalizedTime string) (time.Time, bool) {
	t, err := ber.ParseGeneralizedTime([]byte(generalizedTime))
	return t, err == nil
}
