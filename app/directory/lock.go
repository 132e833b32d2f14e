package directory

import "time"

// LockReason is why an account is locked.
type LockReason string

// The reasons.
const (
	// LockedByAdmin is until an admin unlocks it.
	LockedByAdmin LockReason = "locked-by-admin"
	// FailedLogins is by the directory's password policy.
	FailedLogins LockReason = "failed-logins"
	// NotYetValid and NoLongerValid are by the account's own dates.
	NotYetValid   LockReason = "not-yet-valid"
	NoLongerValid LockReason = "no-longer-valid"
)

// Lock is why an account is locked, and when.
type Lock struct {
	Reason LockReason
	// Since is when that began, Until when it ends; zero where that is not known.
	Since, Until time.Time
}

// String says it in words that follow an account's name.
func (l Lock) String() string {
	switch {
	case l.Reason == NotYetValid:
		return "is not valid before " + clock(l.Until)
	case l.Reason == NoLongerValid:
		return "has not been valid since " + clock(l.Since)
	case l.Reason == FailedLogins && l.Until.IsZero():
		return "is locked by failed logins since " + clock(l.Since) + ", until an admin unlocks it"
	case l.Reason == FailedLogins:
		return "is locked by failed logins from " + clock(l.Since) + " to " + clock(l.Until)
	}
	return "is locked, until an admin unlocks it"
}

func clock(t time.Time) string { return t.UTC().Format(time.RFC3339) }
