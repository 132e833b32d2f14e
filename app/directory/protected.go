package directory

import (
	"context"
	"slices"
)

// Protection says what must not be lost.
type Protection struct {
	// AdminGroup is the DN of the group whose members are admins, those of the groups in it included.
	AdminGroup string
	// Entries are DNs of more entries that can't be deleted or renamed.
	Entries []string
	// Everywhere are DNs of groups that only admins may change, as those in them.
	Everywhere []string
	// LocalGroups are names that give power on hosts, where a directory's group meets the host's own by its name: only
	// admins give them, and change who is in groups of these names.
	LocalGroups []string
	// RoleGroups are DNs of the other groups that the configuration gives a meaning. They can't be renamed.
	RoleGroups []string
	// SameDN reports whether two DNs name the same entry.
	SameDN func(a, b string) bool
	// Groups is [Accounts.Groups].
	Groups func(ctx context.Context, dn string) ([]string, error)
}

// is returns a function that reports whether a DN names the same entry as this one.
func (p Protection) is(dn string) func(string) bool {
	return func(other string) bool { return dn != "" && other != "" && p.SameDN(dn, other) }
}

// names reports whether an entry is one of those that are protected.
func (p Protection) names(entry Entry) bool {
	is := p.is(entry.DN())
	return is(p.AdminGroup) || slices.ContainsFunc(p.Entries, is) || slices.ContainsFunc(p.Everywhere, is)
}

// governs reports whether an entry is in the admin group, directly or through other groups.
func (p Protection) governs(ctx context.Context, dn string) (bool, error) {
	groups, err := p.groups(ctx, dn)
	return p.anyOf(groups, p.AdminGroup), err
}

// groups returns the groups that an entry is in, where any matter.
func (p Protection) groups(ctx context.Context, dn string) ([]string, error) {
	if p.AdminGroup == "" && len(p.Everywhere) == 0 {
		return nil, nil
	}
	return p.Groups(AsService(ctx), dn)
}

// anyOf reports whether one of the DNs names one of those entries.
func (p Protection) anyOf(dns []string, entries ...string) bool {
	return slices.ContainsFunc(entries, func(entry string) bool { return slices.ContainsFunc(dns, p.is(entry)) })
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
		lost, err := p.loss(AsService(ctx), current, patch)
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
		return patch, p.oneUnlocked(AsService(ctx), lost)
	})
	if err != nil || undo == nil {
		return entry, err
	}
	err = p.verify(AsService(ctx), entry, undo)
	if more && Is(err, LastAdmin) {
		err = &Error{Code: LastAdmin, Detail: "What would have taken the last admin away was undone. The other fields have changed."}
	}
	if err != nil {
		return Entry{}, err
	}
	return entry, nil
}

// RemoveValue refuses to remove the last admin from the admin group, or from a group in it.
func (p *Protected) RemoveValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error {
	if kind.Name != KindGroups || field != FieldMembers {
		return p.Directory.RemoveValue(ctx, kind, name, field, value, condition)
	}
	group, err := p.Get(ctx, kind, name)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(group.Values(field), p.protection.is(value)) {
		return p.Directory.RemoveValue(ctx, kind, name, field, value, condition)
	}
	if governs, err := p.governing(ctx, group); err != nil || !governs {
		if err == nil {
			err = p.Directory.RemoveValue(ctx, kind, name, field, value, condition)
		}
		return err
	}
	_, err = p.Update(ctx, kind, name, condition, func(current Entry) (Patch, error) {
		return Patch{Set: map[string][]string{field: without(current.Values(field), p.protection.is(value))}}, nil
	})
	return err
}

// Rename refuses to rename protected entries, which the configuration knows by their names.
func (p *Protected) Rename(ctx context.Context, kind *Kind, name, newName string, condition Condition) (Entry, error) {
	entry, err := p.Get(ctx, kind, name)
	if Is(err, NotFound) { // it may have been renamed, and what refers to it may not have followed
		return p.Directory.Rename(ctx, kind, name, newName, condition)
	}
	if err != nil {
		return Entry{}, err
	}
	if p.protection.names(entry) || slices.ContainsFunc(p.protection.RoleGroups, p.protection.is(entry.DN())) {
		return Entry{}, &Error{Code: ProtectedEntry}
	}
	return p.Directory.Rename(ctx, kind, name, newName, condition)
}

// Delete refuses to delete protected entries and the last admin. Whoever makes or is an admin leaves the groups
// that do so first.
func (p *Protected) Delete(ctx context.Context, kind *Kind, name string, condition Condition) error {
	entry, err := p.Get(ctx, kind, name)
	if Is(err, NotFound) {
		return p.Directory.Delete(ctx, kind, name, condition)
	}
	if err != nil {
		return err
	}
	if p.protection.names(entry) {
		return &Error{Code: ProtectedEntry}
	}
	groups, err := p.governors(AsService(ctx), entry)
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		return p.Directory.Delete(ctx, kind, name, condition)
	}
	if err := condition.Check(entry); err != nil {
		return err
	}
	removing := AsService(ctx)
	if PlanFrom(ctx) != nil {
		removing = WithPlan(removing, &Plan{}) // the deletion's own has it
	}
	var left []Entry
	for _, group := range groups {
		if err = p.RemoveValue(removing, group.Kind, group.Name(), FieldMembers, entry.DN(), Condition{}); err != nil {
			break
		}
		left = append(left, group)
	}
	if err == nil {
		err = p.Directory.Delete(ctx, kind, name, condition)
	}
	if err != nil && !Is(err, NotFound) && !Is(err, OutcomeUnknown) {
		for _, group := range left {
			if undone := p.AddValue(AsService(context.WithoutCancel(ctx)), group.Kind, group.Name(), FieldMembers, entry.DN(), Condition{}); undone != nil {
				return &Error{Code: OutcomeUnknown, Detail: "The entry was removed from groups that make admins but not deleted.", Cause: undone}
			}
		}
	}
	return err
}

// governing reports whether a group is the admin group, or in it.
func (p *Protected) governing(ctx context.Context, group Entry) (bool, error) {
	if p.protection.is(group.DN())(p.protection.AdminGroup) {
		return true, nil
	}
	return p.protection.governs(ctx, group.DN())
}

// governors returns the groups that have an entry as a direct member and make it an admin, or admins of its members.
func (p *Protected) governors(ctx context.Context, entry Entry) ([]Entry, error) {
	if p.protection.AdminGroup == "" || entry.Kind.Name == KindHosts {
		return nil, nil
	}
	groups, err := p.protection.Groups(ctx, entry.DN())
	if err != nil || !slices.ContainsFunc(groups, p.protection.is(p.protection.AdminGroup)) {
		return nil, err
	}
	var all []Entry
	for _, dn := range groups {
		group, err := p.Resolve(ctx, dn)
		if Is(err, NotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(group.Values(FieldMembers), p.protection.is(entry.DN())) {
			continue
		}
		governs, err := p.governing(ctx, group)
		if err != nil {
			return nil, err
		}
		if governs {
			all = append(all, group)
		}
	}
	return all, nil
}

// loss is what a patch takes away from the admins.
type loss struct {
	// gone are the members that it removes from group, or the user that it locks.
	gone []string
	// group is the DN of the group that it changes, "" for none; left are its members then.
	group string
	left  []string
	// locks tells that it locks a user, who may become an admin meanwhile.
	locks bool
}

// loss returns what the patch takes away from the admins.
func (p *Protected) loss(ctx context.Context, current Entry, patch Patch) (loss, error) {
	switch current.Kind.Name {
	case KindGroups:
		members, sent := patch.Set[FieldMembers]
		gone := without(current.Values(FieldMembers), p.among(members))
		if !sent || len(gone) == 0 {
			return loss{}, nil
		}
		if governs, err := p.governing(ctx, current); err != nil || !governs {
			return loss{}, err
		}
		return loss{gone: gone, group: current.DN(), left: members}, nil
	case KindUsers:
		password, sent := patch.Set[FieldUserPassword]
		locks := slices.Equal(patch.Set[FieldAccountLocked], []string{True})
		if !locks && (!sent || len(password) > 0) {
			return loss{}, nil
		}
		if governs, err := p.protection.governs(ctx, current.DN()); err != nil || !governs {
			return loss{locks: locks}, err
		}
		return loss{gone: []string{current.DN()}, locks: locks}, nil
	}
	return loss{}, nil
}

// oneUnlocked returns last-admin unless there is an unlocked user in the admin group, directly or through other
// groups, once a loss has come true.
func (p *Protected) oneUnlocked(ctx context.Context, lost loss) error {
	var seen []string
	isLost := p.among(lost.gone)
	var search func(dn string) (bool, error)
	search = func(dn string) (bool, error) {
		if slices.ContainsFunc(seen, p.protection.is(dn)) {
			return false, nil
		}
		seen = append(seen, dn)
		member, err := p.Resolve(ctx, dn)
		switch {
		case Is(err, NotFound):
			return false, nil
		case err != nil:
			return false, err
		case member.Kind.Name == KindUsers:
			return !member.Locked() && (lost.group != "" || !isLost(member.DN())), nil
		case member.Kind.Name != KindGroups:
			return false, nil
		}
		members := member.Values(FieldMembers)
		if p.protection.is(member.DN())(lost.group) {
			members = lost.left
		}
		for _, dn := range members {
			if found, err := search(dn); found || err != nil {
				return found, err
			}
		}
		return false, nil
	}
	found, err := search(p.protection.AdminGroup)
	if err == nil && !found {
		err = &Error{Code: LastAdmin}
	}
	return err
}

// verify looks again after an entry was changed so that an admin may have gone, and undoes it where none is left.
func (p *Protected) verify(ctx context.Context, changed Entry, undo func(context.Context) error) error {
	var err error
	if changed.Kind.Name == KindUsers {
		governs, failed := p.protection.governs(ctx, changed.DN())
		if failed == nil && !governs {
			return nil // no admin after all
		}
		err = failed
	}
	if err == nil {
		err = p.oneUnlocked(ctx, loss{})
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

func (p *Protected) hold(ctx context.Context) error {
	select {
	case p.weakening <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &Error{Code: Timeout, Cause: context.Cause(ctx)}
	}
}

// among returns a function that reports whether a DN names the same entry as one of these.
func (p *Protected) among(dns []string) func(string) bool {
	return func(other string) bool { return slices.ContainsFunc(dns, p.protection.is(other)) }
}

func without(dns []string, unwanted func(string) bool) []string {
	return slices.DeleteFunc(slices.Clone(dns), unwanted)
}
