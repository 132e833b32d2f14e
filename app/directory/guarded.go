package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Guarded is a Directory that asks of every request whether its caller may, by the table of [Rules]. Without a
// caller nothing is allowed.
type Guarded struct {
	next       Directory
	protection Protection
	// own are the fields that users may change of themselves, login those that they log in with.
	own, login []string
}

// NewGuarded returns a Guarded in front of next. Users may change their own fields; what admins log in with, values
// of loginFields included, is out of operators' reach.
func NewGuarded(next Directory, protection Protection, own []string, loginFields ...string) *Guarded {
	return &Guarded{next: next, protection: protection, own: own,
		login: append(loginFields, FieldUserPassword, FieldAccountLocked, FieldSSHPublicKeys, FieldHomeDirectory, FieldLoginShell)}
}

// Get reads an entry that the caller may read.
func (g *Guarded) Get(ctx context.Context, kind *Kind, name string) (Entry, error) {
	caller, extents, err := allowed(ctx, ActionRead, kind)
	if err != nil {
		return Entry{}, err
	}
	extent := extents[0]
	if extent == Own && !caller.isCalled(name) {
		return Entry{}, &Error{Code: Forbidden}
	}
	entry, err := g.next.Get(ctx, kind, name)
	switch {
	case Is(err, NotFound) && extent == Joined:
		return Entry{}, &Error{Code: Forbidden} // as where it is there
	case err != nil:
		return Entry{}, err
	case extent == Own && entry.ID() != caller.ID:
		return Entry{}, &Error{Code: Forbidden}
	case extent == Joined && !g.joined(caller, entry):
		return Entry{}, &Error{Code: Forbidden}
	case extent == Joined:
		return entry.Hide(FieldMembers), nil
	}
	return entry, nil
}

// Page reads those of the entries that the caller may see.
func (g *Guarded) Page(ctx context.Context, kind *Kind, query Query) (Page, error) {
	caller, extents, err := allowed(ctx, ActionList, kind)
	switch {
	case err != nil:
		return Page{}, err
	case extents[0] != Joined:
		return g.next.Page(ctx, kind, query)
	}
	query, err = joinedOnly(caller, kind, query)
	if err != nil || len(caller.Groups) == 0 {
		return Page{}, err
	}
	page, err := g.next.Page(ctx, kind, query)
	for i := range page.Entries {
		page.Entries[i] = page.Entries[i].Hide(FieldMembers)
	}
	return page, err
}

// Count counts those of the entries that the caller may see.
func (g *Guarded) Count(ctx context.Context, kind *Kind, filter Filter) (int, error) {
	caller, extents, err := allowed(ctx, ActionList, kind)
	if err != nil {
		return 0, err
	}
	if extents[0] == Joined {
		query, err := joinedOnly(caller, kind, Query{Filter: filter})
		if err != nil || len(caller.Groups) == 0 {
			return 0, err
		}
		filter = query.Filter
	}
	return g.next.Count(ctx, kind, filter)
}

// joinedOnly returns the query for those of the groups that the caller is in. Their members are not for it to see,
// nor to find groups by; and a reference that is no DN would tell whether there is such an entry.
func joinedOnly(caller Caller, kind *Kind, query Query) (Query, error) {
	if hidden := query.mentions(FieldMembers); hidden != nil {
		return Query{}, &Error{Code: Forbidden, Violations: hidden}
	}
	if query.Sources {
		return Query{}, &Error{Code: Forbidden, Detail: "Entries in the directory's own terms are for those who may read all of them."}
	}
	if _, err := query.Filter.resolved(func(one Filter) (Filter, error) {
		if f, _ := kind.Field(one.Field); f.Type == Reference && one.Operator == Equal && !strings.Contains(one.Value, "=") {
			return one, &Error{Code: Forbidden, Detail: "Name references by their DNs."}
		}
		return one, nil
	}); err != nil {
		return Query{}, err
	}
	query.Filter = AllOf(query.Filter, anyOf(FieldDN, caller.Groups))
	if query.Fields == nil {
		for _, f := range kind.Fields {
			query.Fields = append(query.Fields, f.Name)
		}
	}
	query.Fields = slices.DeleteFunc(slices.Clone(query.Fields), func(name string) bool { return name == FieldMembers })
	return query, nil
}

// Resolve reads what a reference means, for those who may read everything of its kind.
func (g *Guarded) Resolve(ctx context.Context, reference string) (Entry, error) {
	entry, err := g.next.Resolve(ctx, reference)
	if err != nil {
		return Entry{}, err
	}
	if err := allowedAll(ctx, ActionRead, entry.Kind); err != nil {
		return Entry{}, err
	}
	return entry, nil
}

// Create adds an entry. Nobody but an admin makes the admin group.
func (g *Guarded) Create(ctx context.Context, kind *Kind, patch Patch) (Entry, error) {
	_, extents, err := allowed(ctx, ActionCreate, kind)
	if err != nil {
		return Entry{}, err
	}
	if err := g.mayName(ctx, kind, extents[0], strings.Join(patch.Set[kind.Key], "")); err != nil {
		return Entry{}, err
	}
	if err := g.mayJoin(ctx, NewEntry(kind), patch); err != nil {
		return Entry{}, err
	}
	if extents[0] != All {
		if err := chosen(NewEntry(kind), patch); err != nil {
			return Entry{}, err
		}
	}
	return g.next.Create(ctx, kind, patch)
}

// mayJoin reports, as an error, that the caller may not change the groups that an entry joins or leaves by a patch of
// its memberOfs. Whoever may change entries of the kind may not for that change groups.
func (g *Guarded) mayJoin(ctx context.Context, current Entry, patch Patch) error {
	wanted, sent := patch.Set[FieldMemberOfs]
	if f, _ := current.Kind.Field(FieldMemberOfs); !sent || f.ReadOnly {
		return nil
	}
	joined, left := missing(wanted, current.Values(FieldMemberOfs)), missing(current.Values(FieldMemberOfs), wanted)
	if len(joined) == 0 && len(left) == 0 {
		return nil
	}
	_, extents, err := allowed(ctx, ActionChange, &Kind{Name: KindGroups})
	if err != nil || extents[0] < Ordinary {
		return forbidden([]string{FieldMemberOfs}, "is for those to change who may change groups")
	}
	if extents[0] == All {
		return nil
	}
	entered, err := g.resolved(ctx, joined)
	if err != nil {
		return err
	}
	quit, err := g.resolved(ctx, left)
	if err != nil {
		return err
	}
	for dn, group := range entered {
		if _, stays := quit[dn]; stays { // it is only spelled differently
			delete(quit, dn)
			continue
		}
		if err := g.mayAdmit(ctx, group); err != nil {
			return err
		}
	}
	for _, group := range quit {
		if err := g.mayAdmit(ctx, group); err != nil {
			return err
		}
	}
	return nil
}

// resolved returns what references mean, by DN. Those that mean nothing are for others to refuse.
func (g *Guarded) resolved(ctx context.Context, references []string) (map[string]Entry, error) {
	entries := make(map[string]Entry, len(references))
	for _, reference := range references {
		entry, err := g.next.Resolve(AsService(ctx), reference)
		switch {
		case err == nil:
			entries[entry.DN()] = entry
		case !Is(err, NotFound):
			return nil, err
		}
	}
	return entries, nil
}

// mayAdmit reports, as an error, that an operator may not change who is in a group.
func (g *Guarded) mayAdmit(ctx context.Context, group Entry) error {
	special, err := g.special(ctx, group)
	if err == nil && special.protected {
		err = forbidden([]string{FieldMemberOfs}, fmt.Sprintf("can be changed in %s by admins only", quote(group.Name())))
	}
	return err
}

// mayName reports, as an error, that somebody who goes this far would give a group a name that has power, or could give
// it the admin group's.
func (g *Guarded) mayName(ctx context.Context, kind *Kind, extent Extent, name string) error {
	if extent != Ordinary || kind.Name != KindGroups {
		return nil
	}
	if g.isLocal(kind, name) {
		return forbidden([]string{kind.Key}, "is a group of the hosts' own (posix.local_groups), a name for admins to give")
	}
	if g.protection.AdminGroup == "" {
		return nil
	}
	_, err := g.next.Resolve(AsService(ctx), g.protection.AdminGroup)
	if Is(err, NotFound) {
		return &Error{Code: Forbidden, Detail: "There is no admin group: an admin must create it first."}
	}
	return err
}

// Update changes an entry, or those of its fields that the caller may change.
func (g *Guarded) Update(ctx context.Context, kind *Kind, name string, condition Condition, change Change) (Entry, error) {
	caller, extents, err := allowed(ctx, ActionChange, kind)
	if err != nil {
		return Entry{}, err
	}
	if extents[0] == Own && !caller.isCalled(name) {
		return Entry{}, &Error{Code: Forbidden}
	}
	return g.next.Update(ctx, kind, name, condition, func(current Entry) (Patch, error) {
		if extents[0] == Own && current.ID() != caller.ID {
			return Patch{}, &Error{Code: Forbidden} // before the change tells, by how it fails, what the entry holds
		}
		patch, err := change(current)
		if err != nil {
			return Patch{}, err
		}
		if err := g.mayChange(ctx, caller, extents, current, patch); err != nil {
			return Patch{}, err
		}
		return patch, g.mayJoin(ctx, current, patch)
	})
}

// mayChange reports, as an error, that none of the extents covers what a patch makes of an entry.
func (g *Guarded) mayChange(ctx context.Context, caller Caller, extents []Extent, current Entry, patch Patch) error {
	var refused error
	identity := chosen(current, patch)
	for _, extent := range extents {
		switch {
		case extent == All:
			return nil
		case identity != nil:
			refused = identity
		case extent == Ordinary:
			special, err := g.special(ctx, current)
			if err != nil {
				return err
			}
			if refused = special.refuse(g.login, changed(current, patch)); refused == nil {
				return nil
			}
		case current.ID() != caller.ID:
			refused = &Error{Code: Forbidden}
		default:
			fields := slices.DeleteFunc(changed(current, patch), func(field string) bool { return slices.Contains(g.own, field) })
			if refused = forbidden(fields, "is not among what users may change of themselves"); refused == nil {
				return nil
			}
		}
	}
	return refused
}

// AddValue adds a value to a list of an entry that the caller may change.
func (g *Guarded) AddValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error {
	if err := g.mayTouch(ctx, ActionChange, kind, name, field); err != nil {
		return err
	}
	return g.next.AddValue(ctx, kind, name, field, value, condition)
}

// RemoveValue removes a value from a list of an entry that the caller may change.
func (g *Guarded) RemoveValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error {
	if err := g.mayTouch(ctx, ActionChange, kind, name, field); err != nil {
		return err
	}
	return g.next.RemoveValue(ctx, kind, name, field, value, condition)
}

// ChangePassword lets users change their own password, knowing it, and others set anybody's.
func (g *Guarded) ChangePassword(ctx context.Context, kind *Kind, name string, change PasswordChange) (Entry, error) {
	caller, ok := CallerFrom(ctx)
	own := ok && kind.Name == KindUsers && caller.isCalled(name)
	var err error
	switch {
	case own && (change.Current != "" || caller.MustChange):
		_, _, err = allowed(ctx, ActionChangePassword, kind)
		if err == nil && change.Current == "" {
			err = invalid([]Violation{{FieldCurrentPassword, "is required to change one's own password"}})
		}
	case change.Current != "":
		err = g.mayTouch(ctx, ActionSetPassword, kind, name)
		if err == nil {
			err = invalid([]Violation{{FieldCurrentPassword, "is for changing one's own password"}})
		}
	default:
		err = g.mayTouch(ctx, ActionSetPassword, kind, name, FieldUserPassword)
		if own && Is(err, Forbidden) {
			err = invalid([]Violation{{FieldCurrentPassword, "is required to change one's own password"}})
		}
	}
	if err != nil {
		return Entry{}, err
	}
	return g.next.ChangePassword(ctx, kind, name, change)
}

// SetToken gives a token to an entry that the caller may change.
func (g *Guarded) SetToken(ctx context.Context, kind *Kind, name, digest string) (Entry, error) {
	if err := g.mayTouch(ctx, ActionSetToken, kind, name); err != nil {
		return Entry{}, err
	}
	return g.next.SetToken(ctx, kind, name, digest)
}

// Rename gives an entry that the caller may change another name. Nobody but an admin renames admins: while references
// are taken along, another entry of the new name would be in their groups.
func (g *Guarded) Rename(ctx context.Context, kind *Kind, name, newName string, condition Condition) (Entry, error) {
	_, extents, err := allowed(ctx, ActionRename, kind)
	if err == nil {
		err = g.mayName(ctx, kind, extents[0], newName)
	}
	if err == nil {
		err = g.mayTouch(ctx, ActionRename, kind, name)
	}
	if err != nil && !Is(err, NotFound) {
		return Entry{}, err
	}
	return g.next.Rename(ctx, kind, name, newName, condition)
}

// Delete removes an entry. Nobody but an admin deletes admins.
func (g *Guarded) Delete(ctx context.Context, kind *Kind, name string, condition Condition) error {
	err := g.mayTouch(ctx, ActionDelete, kind, name)
	if err != nil && !Is(err, NotFound) {
		return err
	}
	return g.next.Delete(ctx, kind, name, condition)
}

// mayTouch reports, as an error, that the caller may not go so far with an action on an entry: where fields are
// named, with these of its fields; else with the whole of it.
func (g *Guarded) mayTouch(ctx context.Context, action Action, kind *Kind, name string, fields ...string) error {
	_, extents, err := allowed(ctx, action, kind)
	if err != nil || extents[0] == All {
		return err
	}
	if extents[0] != Ordinary {
		return &Error{Code: Forbidden}
	}
	entry, err := g.next.Get(AsService(ctx), kind, name)
	if err != nil {
		return err
	}
	special, err := g.special(ctx, entry)
	if err != nil {
		return err
	}
	if fields == nil {
		fields = g.login
	}
	return special.refuse(g.login, fields)
}

// special is what makes an entry more than an ordinary one: that it is protected, or strong, as an admin is and whoever
// may log in on every host.
type special struct{ protected, strong bool }

// isLocal reports whether a group of this name meets one of the hosts' own.
func (g *Guarded) isLocal(kind *Kind, name string) bool {
	return kind.Name == KindGroups && slices.ContainsFunc(g.protection.LocalGroups, func(local string) bool { return strings.EqualFold(local, name) })
}

// special finds out what an entry is.
func (g *Guarded) special(ctx context.Context, entry Entry) (special, error) {
	p := g.protection
	if p.names(entry) || g.isLocal(entry.Kind, entry.Name()) {
		return special{protected: true}, nil
	}
	groups, err := p.groups(ctx, entry.DN())
	strong := p.anyOf(groups, append([]string{p.AdminGroup}, p.Everywhere...)...)
	return special{protected: entry.Kind.Name == KindGroups && strong, strong: strong}, err
}

// refuse returns why an operator may not change these fields of such an entry, nil if it may.
func (s special) refuse(login, fields []string) error {
	switch {
	case s.protected:
		return &Error{Code: Forbidden, Detail: "Only admins may change the protected entries, the groups of posix.local_groups, and, with the groups in them, the admin group and those that let in everywhere."}
	case s.strong:
		fields = slices.DeleteFunc(slices.Clone(fields), func(field string) bool { return !slices.Contains(login, field) })
		return forbidden(fields, "of an admin, or of one who may log in on every host, can be changed by admins only")
	}
	return nil
}

func forbidden(fields []string, message string) error {
	if len(fields) == 0 {
		return nil
	}
	refused := &Error{Code: Forbidden, Detail: "Some fields are not yours to change."}
	for _, field := range fields[:min(len(fields), maxViolations)] {
		refused.Violations = append(refused.Violations, Violation{field, message})
	}
	return refused
}

// changed returns the fields that a patch gives other values than they have, or may: those whose values are not
// known. What can't be written at all, or is no field, is not for access to refuse.
func changed(current Entry, patch Patch) []string {
	var fields []string
	for i := range current.Kind.Fields {
		f := &current.Kind.Fields[i]
		if values, sent := patch.Set[f.Name]; sent && !f.ReadOnly && (f.WriteOnly || !SameValues(values, current.At(i))) {
			fields = append(fields, f.Name)
		}
	}
	return fields
}

// chosen reports, as an error, that a patch chooses who an account is to other systems: whoever can name a number there
// is root, or anybody else. One that Rollcall gives is none that was chosen.
func chosen(current Entry, patch Patch) error {
	fields := slices.DeleteFunc(changed(current, patch), func(name string) bool {
		f, _ := current.Kind.Field(name)
		return !f.Identity || slices.Equal(patch.Set[name], []string{nextNumber})
	})
	return forbidden(fields, "is for admins to choose; 0 asks for the next number")
}

// isCalled reports whether the caller's own entry has this name.
func (c Caller) isCalled(name string) bool { return strings.EqualFold(name, c.Name) }

// joined reports whether the caller is in a group.
func (g *Guarded) joined(caller Caller, group Entry) bool {
	return slices.ContainsFunc(caller.Groups, g.protection.is(group.DN()))
}
