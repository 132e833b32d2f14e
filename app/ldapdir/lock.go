package ldapdir

import (
	"strings"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

const (
	attrLockedTime = "pwdAccountLockedTime"
	attrEndTime    = "pwdEndTime"

	// lockedForGood is the value that slapo-ppolicy(5) gives to a lock by an admin. Any password change ends it.
	lockedForGood = "000001010000Z"
	// lockedEnd starts a pwdEndTime of ours: in the past, which is what makes the lock survive a password change.
	// Somebody's own end date is kept in the fraction of the second, between two digits that are not 0, so that
	// unlocking can give it back.
	lockedEnd = "19700101000007"
)

// locked reports whether the account is locked: for good, by failed logins that were not too long ago, or by
// its end date. A lockout of 0 ends with nothing but an admin.
func locked(e *ldap.Entry, now time.Time, lockout time.Duration) bool {
	if end, ok := moment(e.GetEqualFoldAttributeValue(attrEndTime)); ok && !end.After(now) {
		return true
	}
	since := e.GetEqualFoldAttributeValue(attrLockedTime)
	if since == "" {
		return false
	}
	start, ok := moment(since)
	return !ok || since == lockedForGood || lockout == 0 || now.Before(start.Add(lockout))
}

// ended reports whether the account is past an end date that somebody gave it.
func ended(e *ldap.Entry, now time.Time) bool {
	value := e.GetEqualFoldAttributeValue(attrEndTime)
	end, ok := moment(theirEnd(value))
	return ok && !end.After(now)
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

// ourEnd returns a pwdEndTime in the past that keeps another one, to the second.
func ourEnd(theirs string) string {
	digits, _, _ := strings.Cut(strings.TrimSuffix(theirs, "Z"), ".")
	if digits != "" && strings.Trim(digits, "0123456789") == "" {
		return lockedEnd + ".1" + digits + "1Z"
	}
	return lockedEnd + "Z"
}

// theirEnd returns the end date that somebody gave the account, also one that a lock of ours keeps; "" for none.
func theirEnd(end string) string {
	ours, ok := strings.CutPrefix(end, lockedEnd)
	if !ok {
		return end
	}
	kept := strings.TrimSuffix(strings.TrimPrefix(ours, ".1"), "1Z")
	if kept == ours || kept == "" || ours == "Z" {
		return ""
	}
	return kept + "Z"
}

func moment(generalizedTime string) (time.Time, bool) {
	t, err := ber.ParseGeneralizedTime([]byte(generalizedTime))
	return t, err == nil
}
