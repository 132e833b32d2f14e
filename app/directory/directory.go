// Package directory is the language of Rollcall: what users, groups and hosts are, what may be asked of a
// directory of them, and how it says no.
//
// A request passes through a chain of Directories, each wrapping the next: Guarded asks whether the caller
// may, Checked whether the kind's rules hold, Protected whether the directory stays governable. The last
// one, of another package, talks to the server.
package directory

import (
	"context"
	"slices"
)

// Directory is the port: everything that can be asked of a directory.
//
// Names are values of the kind's key field and compare as the server compares them. Every error is an
// [*Error]. Implementations are safe for concurrent use and give up when the context ends.
type Directory interface {
	// Get reads one entry. Errors: not-found.
	Get(ctx context.Context, kind *Kind, name string) (Entry, error)

	// Page reads the entries of a kind that a query asks for, up to its limit. Entries that are there all along are
	// on exactly one of the pages that follow each other, whatever comes and goes meanwhile.
	// Errors: invalid where the directory can't compare or order a field so, cursor-lost, timeout, too-many-results.
	Page(ctx context.Context, kind *Kind, query Query) (Page, error)

	// Count returns how many entries of a kind meet a filter. Errors: as of Page.
	Count(ctx context.Context, kind *Kind, filter Filter) (int, error)

	// Resolve reads the entry that a reference means: a DN, or a kind and a name such as "users/alice".
	// Errors: not-found, also for a DN of something that is no user, group or host.
	Resolve(ctx context.Context, reference string) (Entry, error)

	// Create adds an entry and returns it. Errors: already-exists, invalid, password-refused.
	Create(ctx context.Context, kind *Kind, patch Patch) (Entry, error)

	// Update reads an entry, asks change what to make of it, and writes that under the assertion that nobody
	// else wrote in between; when somebody did, it starts again, so change may be called several times.
	// Errors: not-found, stale when the condition does not hold, invalid, password-refused, and change's own.
	Update(ctx context.Context, kind *Kind, name string, condition Condition, change Change) (Entry, error)

	// AddValue adds one value to a list field, and does nothing where it is there already.
	// Errors: not-found, stale, invalid.
	AddValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error

	// RemoveValue removes one value from a list field, and does nothing where it is not there.
	// Errors: not-found, stale, invalid.
	RemoveValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error

	// ChangePassword gives a user another password and returns the user.
	// Errors: not-found, password-refused, and invalid where the current password is not the one given.
	ChangePassword(ctx context.Context, kind *Kind, name string, change PasswordChange) (Entry, error)

	// SetToken makes the token with a digest the only one that an entry may show, or none where the digest is "", and
	// returns the entry. Errors: not-found, unsupported-by-directory where there is no place for it.
	SetToken(ctx context.Context, kind *Kind, name, digest string) (Entry, error)

	// Rename gives an entry another name and returns it. References to it follow.
	// Errors: not-found, stale, already-exists, invalid.
	Rename(ctx context.Context, kind *Kind, name, newName string, condition Condition) (Entry, error)

	// Delete removes an entry and every reference to it. Errors: not-found, stale, has-children.
	Delete(ctx context.Context, kind *Kind, name string, condition Condition) error
}

// Change says what to make of an entry as it is now. It may be called again with a newer one.
type Change func(current Entry) (Patch, error)

// Patch is what a caller wants an entry's fields to be.
type Patch struct {
	// Set holds the wanted values by field name. A field with no values is removed; a field that is not named
	// is left alone. A Boolean is "true" or "false".
	Set map[string][]string
	// Faults are the parts of the request that could not be understood.
	Faults []Violation
}

// PasswordChange is a new password for a user.
type PasswordChange struct {
	// Current is the password until now, with which users change their own; "" where it is set by another.
	Current string
	// New is the password from now on.
	New string
	// MustChange makes the user change it again before it is good for anything else.
	MustChange bool
}

// Entry is one user, group or host as a caller may see it.
type Entry struct {
	Kind    *Kind
	Version Version
	// Source is the entry as the directory server has it, as far as fields show it; nil unless it was asked for.
	Source *Record
	// Lock is why the account is locked; nil where it is not, or is no account.
	Lock *Lock

	values [][]string // by the field's place in Kind.Fields
	hidden []int      // places of fields that the caller may not see
}

// NewEntry returns an entry of a kind without any values.
func NewEntry(kind *Kind) Entry {
	return Entry{Kind: kind, values: make([][]string, len(kind.Fields))}
}

// Values returns a field's values, none where the field is empty or unknown.
func (e Entry) Values(field string) []string {
	if e.Kind == nil {
		return nil
	}
	if i, ok := e.Kind.index[field]; ok {
		return e.values[i]
	}
	return nil
}

// At returns the values of the field at a place in Kind.Fields.
func (e Entry) At(i int) []string { return e.values[i] }

// SetAt sets the values of the field at a place in Kind.Fields.
func (e Entry) SetAt(i int, values []string) { e.values[i] = values }

// Hide returns the entry without a field, for callers who may not see it.
func (e Entry) Hide(field string) Entry {
	if i, ok := e.Kind.index[field]; ok {
		e.values = slices.Clone(e.values)
		return e.HideAt([]int{i})
	}
	return e
}

// HideAt returns the entry without the fields at these places in Kind.Fields. Its values must not be used any more.
func (e Entry) HideAt(places []int) Entry {
	for _, i := range places {
		e.values[i] = nil
	}
	if e.hidden != nil {
		places = slices.Concat(e.hidden, places)
	}
	e.hidden = places
	return e
}

// HiddenAt reports whether the caller may not see the field at a place in Kind.Fields.
func (e Entry) HiddenAt(i int) bool { return slices.Contains(e.hidden, i) }

// Hides reports whether the caller may not see a field.
func (e Entry) Hides(field string) bool { return e.HiddenAt(e.Kind.index[field]) }

// First returns a field's first value, or "".
func (e Entry) First(field string) string {
	if values := e.Values(field); len(values) > 0 {
		return values[0]
	}
	return ""
}

// DN returns the distinguished name as the server writes it.
func (e Entry) DN() string { return e.First(FieldDN) }

// ID returns the entryUUID, which no other entry ever has.
func (e Entry) ID() string { return e.First(FieldID) }

// Name returns the value of the kind's key field.
func (e Entry) Name() string { return e.First(e.Kind.Key) }

// Locked reports whether the account is locked.
func (e Entry) Locked() bool { return e.First(FieldAccountLocked) == True }
