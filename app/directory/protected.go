package directory

import (
	"context"
	"slices"
)

// Protection says what must not be lost.
type Protection struct {
	// AdminGroup is the DN of the group whose members are admins.
	AdminGroup string
	// Entries are DNs of more entries that can't be deleted.
	Entries []string
	// SameDN reports whether two DNs name the same entry.
	SameDN func(a, b string) bool
}

// Protected is a Directory that keeps its protected entries, and an unlocked member in the admin group.
//
// Two requests that each leave one admin could together leave none, and LDAP has no lock that spans entries.
// So a change that takes an admin away is looked at twice: before, to refuse it without a trace, and after,
// to undo it. Of two at the same moment at least one sees the other's change on its second look.
type Protected struct {
	Directory
	protection Protection
	// weakening is held while an admin is taken away, so that two requests here don't undo each other.
	weakening chan struct{}
}

// NewProtected returns a Protected in front of next.
func NewProtected(next Directory, protection Protection) *Protected {
	return &Protected{Directory: next, protection: protection, weakening: make(chan struct{}, 1)}
}

// Update refuses to lock the last admin, to take its password, or to remove it from the admin group.
func (p *Protected) Update(ctx context.Context, kind *Kind, name string, condition Condition, change Change) (Entry, error) {
	var undo func(context.Context) error
	held, more := false, false
	defer func() {
		if held {
			<-p.weakening
		}
	}()
	entry, err := p.Directory.Update(ctx, kind, name, condition, func(current Entry) (Patch, error) {
		undo = nil
		patch, err := change(current)
		if err != nil {
			return Patch{}, err
		}
		lost, err := p.loss(ctx, current, patch)
		if err != nil || len(lost.gone) == 0 && !lost.locks {
			return patch, err
		}
		if !held {
			if err := p.hold(ctx); err != nil {
				return Patch{}, err
			}
			held = true
		}
		undo, more = func(ctx context.Context) error { return p.giveBack(ctx, current, lost.gone) }, len(patch.Set) > 1
		if len(lost.gone) == 0 {
			return patch, nil
		}
		return patch, p.oneUnlocked(ctx, lost.left)
	})
	if err != nil || undo == nil {
		return entry, err
	}
	err = p.verify(ctx, entry, undo)
	if more && Is(err, LastAdmin) {
		err = &Error{Code: LastAdmin, Detail: "What would have taken the last admin away was undone. The other fields have changed."}
	}
	if err != nil {
		return Entry{}, err
	}
	return entry, nil
}

// RemoveValue refuses to remove the last admin from the admin group.
func (p *Protected) RemoveValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error {
	if kind.Name != KindGroups || field != FieldMembers {
		return p.Directory.RemoveValue(ctx, kind, name, field, value, condition)
	}
	group, err := p.Get(ctx, kind, name)
	if err != nil {
		return err
	}
	if !p.same(group.DN(), p.protection.AdminGroup) || !slices.ContainsFunc(group.Values(field), p.is(value)) {
		return p.Directory.RemoveValue(ctx, kind, name, field, value, condition)
	}
	_, err = p.Update(ctx, kind, name, condition, func(current Entry) (Patch, error) {
		return Patch{Set: map[string][]string{field: without(current.Values(field), p.is(value))}}, nil
	})
	return err
}

// Delete refuses to delete protected entries and the last admin. An admin leaves the admin group first.
func (p *Protected) Delete(ctx context.Context, kind *Kind, name string, condition Condition) error {
	entry, err := p.Get(ctx, kind, name)
	if Is(err, NotFound) {
		return p.Directory.Delete(ctx, kind, name, condition)
	}
	if err != nil {
		return err
	}
	if p.is(entry.DN())(p.protection.AdminGroup) || slices.ContainsFunc(p.protection.Entries, p.is(entry.DN())) {
		return &Error{Code: ProtectedEntry}
	}
	if kind.Name != KindUsers {
		return p.Directory.Delete(ctx, kind, name, condition)
	}
	group, err := p.admins(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(group.Values(FieldMembers), p.is(entry.DN())) {
		return p.Directory.Delete(ctx, kind, name, condition)
	}
	if err := condition.Check(entry); err != nil {
		return err
	}
	if err := p.RemoveValue(ctx, group.Kind, group.Name(), FieldMembers, entry.DN(), Condition{}); err != nil {
		return err
	}
	err = p.Directory.Delete(ctx, kind, name, condition)
	if err != nil && !Is(err, NotFound) && !Is(err, OutcomeUnknown) {
		if undone := p.AddValue(context.WithoutCancel(ctx), group.Kind, group.Name(), FieldMembers, entry.DN(), Condition{}); undone != nil {
			return &Error{Code: OutcomeUnknown, Detail: "The user was removed from the admin group but not deleted.", Cause: undone}
		}
	}
	return err
}

// loss is what a patch takes away from the admin group.
type loss struct {
	// gone are the members that it removes or locks, left the members that there are then.
	gone, left []string
	// locks tells that it locks a user, who may become a member meanwhile.
	locks bool
}

// loss returns what the patch takes away from the admin group.
func (p *Protected) loss(ctx context.Context, current Entry, patch Patch) (loss, error) {
	switch current.Kind.Name {
	case KindGroups:
		members, sent := patch.Set[FieldMembers]
		if !sent || !p.same(current.DN(), p.protection.AdminGroup) {
			return loss{}, nil
		}
		return loss{gone: without(current.Values(FieldMembers), p.among(members)), left: members}, nil
	case KindUsers:
		password, sent := patch.Set[FieldUserPassword]
		locks := slices.Equal(patch.Set[FieldAccountLocked], []string{True})
		if !locks && (!sent || len(password) > 0) {
			return loss{}, nil
		}
		group, err := p.admins(ctx)
		if err != nil || !slices.ContainsFunc(group.Values(FieldMembers), p.is(current.DN())) {
			return loss{locks: locks}, err
		}
		return loss{gone: []string{current.DN()}, left: without(group.Values(FieldMembers), p.is(current.DN())), locks: locks}, nil
	}
	return loss{}, nil
}

// oneUnlocked returns last-admin unless one of the members is a user who can log in.
func (p *Protected) oneUnlocked(ctx context.Context, members []string) error {
	for _, dn := range members {
		member, err := p.Resolve(ctx, dn)
		if Is(err, NotFound) {
			continue
		}
		if err != nil {
			return err
		}
		if member.Kind.Name == KindUsers && !member.Locked() {
			return nil
		}
	}
	return &Error{Code: LastAdmin}
}

// verify looks again after an entry was changed so that an admin may have gone, and undoes it where none is left.
func (p *Protected) verify(ctx context.Context, changed Entry, undo func(context.Context) error) error {
	group, err := p.admins(ctx)
	if err == nil && changed.Kind.Name == KindUsers && !slices.ContainsFunc(group.Values(FieldMembers), p.is(changed.DN())) {
		return nil // no admin after all
	}
	if err == nil {
		err = p.oneUnlocked(ctx, group.Values(FieldMembers))
	}
	if err == nil {
		return nil
	}
	if failed := undo(context.WithoutCancel(ctx)); failed != nil {
		return &Error{Code: OutcomeUnknown, Detail: "An admin was taken away, and whether one is left is not known.", Cause: failed}
	}
	return err
}

// giveBack makes those that an update took away admins again.
func (p *Protected) giveBack(ctx context.Context, entry Entry, gone []string) error {
	if entry.Kind.Name == KindUsers {
		_, err := p.Directory.Update(ctx, entry.Kind, entry.Name(), Condition{}, func(Entry) (Patch, error) {
			return Patch{Set: map[string][]string{FieldAccountLocked: {False}}}, nil
		})
		return err
	}
	for _, dn := range gone {
		if err := p.AddValue(ctx, entry.Kind, entry.Name(), FieldMembers, dn, Condition{}); err != nil {
			return err
		}
	}
	return nil
}

// admins reads the admin group, the zero Entry where there is none.
func (p *Protected) admins(ctx context.Context) (Entry, error) {
	if p.protection.AdminGroup == "" {
		return Entry{}, nil
	}
	group, err := p.Resolve(ctx, p.protection.AdminGroup)
	if Is(err, NotFound) {
		return Entry{}, nil
	}
	return group, err
}

func (p *Protected) hold(ctx context.Context) error {
	select {
	case p.weakening <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &Error{Code: Timeout, Cause: context.Cause(ctx)}
	}
}

func (p *Protected) same(a, b string) bool { return b != "" && p.protection.SameDN(a, b) }

// is returns a function that reports whether a DN names the same entry as this one.
func (p *Protected) is(dn string) func(string) bool {
	return func(other string) bool { return p.same(dn, other) }
}

// among returns a function that reports whether a DN names the same entry as one of these.
func (p *Protected) among(dns []string) func(string) bool {
	return func(other string) bool { return slices.ContainsFunc(dns, p.is(other)) }
}

func without(dns []string, unwanted func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(dns), unwanted)
}
