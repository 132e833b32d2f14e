package directory

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
)

// Posix says what Linux accounts get where a request does not.
type Posix struct {
	// Next draws a number for an entry of a kind: one that no entry has, and that nobody is given again. Of a dry run it
	// says which is the next. Errors: no-number-left, unsupported-by-directory.
	Next func(ctx context.Context, kind *Kind) (int, error)
	// Choose refuses, as invalid, a number that Next is yet to give: once its entry is gone, somebody else would get it.
	Choose func(ctx context.Context, kind *Kind, number int) error
	// PrimaryGroup is the number of an account's own group.
	PrimaryGroup int
	// HomeDirectory is a path in which {uid} stands for the login name, LoginShell a path.
	HomeDirectory, LoginShell string
}

// Numbered is a Directory that makes every new user a Linux account and every new group one of those: it gives fields
// of [PosixFields] the values that requests leave out. A number that was drawn for a request that fails is lost.
type Numbered struct {
	Directory
	posix Posix
}

// NewNumbered returns a Numbered in front of next.
func NewNumbered(next Directory, posix Posix) *Numbered { return &Numbered{next, posix} }

// maxDraws bounds how often another number is drawn because somebody else has taken it.
const maxDraws = 8

// Create adds an entry with all that an account has.
func (n *Numbered) Create(ctx context.Context, kind *Kind, patch Patch) (entry Entry, err error) {
	for range maxDraws {
		var drawn string
		var whole Patch
		if whole, err = n.complete(ctx, NewEntry(kind), patch, &drawn); err != nil {
			return Entry{}, err
		}
		if entry, err = n.Directory.Create(ctx, kind, whole); !tooLate(kind, drawn, err) {
			break
		}
	}
	return entry, err
}

// Update completes an account that gets its first field, and takes the whole of it away with its number.
func (n *Numbered) Update(ctx context.Context, kind *Kind, name string, condition Condition, change Change) (entry Entry, err error) {
	for range maxDraws {
		var drawn string
		entry, err = n.Directory.Update(ctx, kind, name, condition, func(current Entry) (Patch, error) {
			patch, err := change(current)
			if err != nil || !slices.ContainsFunc(kind.Fields, func(f Field) bool { _, sent := patch.Set[f.Name]; return f.Given && sent }) {
				return patch, err
			}
			return n.complete(ctx, current, patch, &drawn)
		})
		if !tooLate(kind, drawn, err) {
			break
		}
	}
	return entry, err
}

// tooLate reports whether a write was refused because another entry has got the number that was drawn for it.
func tooLate(kind *Kind, drawn string, err error) bool {
	refused, _ := errors.AsType[*Error](err)
	return drawn != "" && Is(err, Invalid) &&
		slices.ContainsFunc(refused.Violations, func(v Violation) bool { return v.Field == NumberField(kind) })
}

// complete returns the patch with what it leaves out of an account. The number that it takes, it leaves in drawn, and
// takes the one that is there already.
func (n *Numbered) complete(ctx context.Context, current Entry, patch Patch, drawn *string) (Patch, error) {
	kind, set := current.Kind, maps.Clone(patch.Set)
	number := NumberField(kind)
	after := func(field string) []string {
		if values, sent := set[field]; sent {
			return values
		}
		return current.Values(field)
	}
	account := current.DN() == "" // as every new entry
	for _, f := range kind.Fields {
		if f.Given && f.Type == Integer && slices.Equal(set[f.Name], []string{nextNumber}) {
			delete(set, f.Name)
			account = true
		}
		account = account || f.Given && len(after(f.Name)) > 0
	}
	if values, sent := set[number]; sent && len(values) == 0 && len(current.Values(number)) > 0 {
		return n.remove(current, set)
	}
	if !account {
		return patch, nil
	}
	if values := set[number]; len(values) == 1 && !SameValues(values, current.Values(number)) {
		chosen, err := strconv.Atoi(values[0])
		if err == nil {
			err = n.posix.Choose(ctx, kind, chosen)
		}
		if err != nil {
			return Patch{}, err
		}
	}
	for _, f := range kind.Fields {
		if !f.Given || len(after(f.Name)) > 0 {
			continue
		}
		if f.Name == number && *drawn == "" {
			next, err := n.posix.Next(ctx, kind)
			if err != nil {
				return Patch{}, err
			}
			*drawn = strconv.Itoa(next)
		}
		switch f.Name {
		case number:
			set[f.Name] = []string{*drawn}
		case FieldGIDNumber:
			set[f.Name] = []string{strconv.Itoa(n.posix.PrimaryGroup)}
		case FieldHomeDirectory:
			login := slices.Concat(after("uid"), after(kind.Key))
			set[f.Name] = []string{PathFor(n.posix.HomeDirectory, login[0], after(number)[0])}
		case FieldLoginShell:
			set[f.Name] = []string{n.posix.LoginShell}
		}
	}
	return Patch{Set: set, Faults: patch.Faults}, nil
}

// remove returns the patch that takes all of an account away, unless it changes what would go.
func (n *Numbered) remove(current Entry, set map[string][]string) (Patch, error) {
	for i := range current.Kind.Fields {
		f := &current.Kind.Fields[i]
		if !f.Given {
			continue
		}
		if values := set[f.Name]; len(values) > 0 && !SameValues(values, current.At(i)) {
			return Patch{}, invalid([]Violation{{f.Name, "goes with " + NumberField(current.Kind) + ", which is removed"}})
		}
		set[f.Name] = nil
	}
	return Patch{Set: set}, nil
}
