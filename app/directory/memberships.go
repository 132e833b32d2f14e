package directory

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Memberships is a Directory in which memberOfs can be written: what comes and goes there is done to the members of
// the groups.
//
// LDAP changes one entry at a time. A new entry is made before it joins its groups. A change is first of the groups
// that come, then of those that go, and last of the entry's own fields. So whoever is stopped in between leaves nothing
// that a repetition does not put right, and when a step fails, those before it are taken back.
type Memberships struct {
	Directory
	groups *Kind
	sameDN func(a, b string) bool
}

// NewMemberships returns a Memberships in front of next. Two DNs that are sameDN name the same entry.
func NewMemberships(next Directory, groups *Kind, sameDN func(a, b string) bool) *Memberships {
	return &Memberships{Directory: next, groups: groups, sameDN: sameDN}
}

// step is that an entry joins a group, or leaves it.
type step struct {
	group  Entry
	leaves bool
	// again is that it was taken before, and the server does not show it: one that was killed may have lost it.
	again bool
}

// undoTimeout is how long it may take to take back what was done.
const undoTimeout = 10 * time.Second

// Create adds an entry and has it join its groups. A creation that was stopped in between is completed when it is
// repeated.
func (m *Memberships) Create(ctx context.Context, kind *Kind, patch Patch) (Entry, error) {
	wanted, patch, _ := splitMemberships(kind, patch)
	if len(wanted) == 0 {
		return m.Directory.Create(ctx, kind, patch)
	}
	steps, err := m.steps(ctx, wanted, false)
	if err != nil {
		return Entry{}, err
	}
	entry, err := m.Directory.Create(ctx, kind, patch)
	made := err == nil
	if Is(err, AlreadyExists) {
		entry, steps, err = m.begun(ctx, kind, patch, wanted, steps)
	}
	if Is(err, OutcomeUnknown) {
		err = because(err, "Where the entry is there, it is in none of its groups yet. Repeat the request to complete it.")
	}
	if err != nil {
		return Entry{}, err
	}
	left, err := m.take(ctx, entry, steps)
	switch {
	case err != nil && made:
		return Entry{}, m.unmake(ctx, entry, left, err)
	case err != nil:
		return Entry{}, takenBack(left, err)
	case PlanFrom(ctx) != nil:
		return entry.showing(wanted), nil
	}
	found, err := m.Get(ctx, kind, entry.Name())
	switch {
	case Is(err, NotFound), err == nil && found.ID() != entry.ID():
		return Entry{}, takenBack(m.takeBack(ctx, entry, steps), &Error{Code: Busy, Detail: "The entry was created, and another client deleted it at once."})
	case err != nil:
		return Entry{}, &Error{Code: OutcomeUnknown, Detail: "The entry was created and is in its groups, but could not be read.", Cause: err}
	}
	return found.showing(wanted), nil
}

// begun returns the entry that a creation left which was stopped before it was in all of its groups, and the steps
// that are left. An entry that has another value, or is in another group, is another's and already-exists. Passwords
// can't be compared, and none is set.
func (m *Memberships) begun(ctx context.Context, kind *Kind, patch Patch, wanted []string, steps []step) (Entry, []step, error) {
	others := &Error{Code: AlreadyExists}
	entry, err := m.Get(ctx, kind, patch.Set[kind.Key][0])
	if Is(err, NotFound) {
		return Entry{}, nil, others
	}
	if err != nil {
		return Entry{}, nil, err
	}
	for i := range kind.Fields {
		f := &kind.Fields[i]
		values := patch.Set[f.Name]
		switch {
		case f.Type == Boolean && len(values) == 0:
			values = []string{False}
		case f.Given && (len(values) == 0 || slices.Equal(values, []string{nextNumber})):
			values = entry.At(i)
		}
		if !f.ReadOnly && !f.WriteOnly && !f.Backlink && !SameValues(values, entry.At(i)) {
			return Entry{}, nil, others
		}
	}
	here, unshown, err := m.memberOfs(ctx, entry)
	if err != nil {
		return Entry{}, nil, err
	}
	if len(m.without(here, wanted)) > 0 {
		return Entry{}, nil, others
	}
	whole := true
	for i := range steps {
		steps[i].again = len(m.without(wanted[i:i+1], here)) == 0
		whole = whole && steps[i].again
	}
	steps = slices.DeleteFunc(steps, func(s step) bool { return s.again && len(m.without([]string{s.group.DN()}, unshown)) > 0 })
	if whole {
		if _, err := m.take(ctx, entry, steps); err != nil {
			return Entry{}, nil, err
		}
		return Entry{}, nil, others
	}
	return entry, steps, nil
}

// unmake deletes an entry that could not join its groups, and returns why.
func (m *Memberships) unmake(ctx context.Context, entry Entry, left []string, why error) error {
	if PlanFrom(ctx) != nil {
		return why
	}
	ctx, cancel := undoing(ctx)
	defer cancel()
	current, err := m.byID(ctx, entry)
	if err == nil {
		err = m.Delete(ctx, entry.Kind, current.Name(), Condition{OneOf: []Version{entry.Version}})
	}
	if Is(err, UnsupportedByDirectory) { // by the condition
		err = m.Delete(ctx, entry.Kind, current.Name(), Condition{})
	}
	if err == nil || Is(err, NotFound) {
		return because(why, "Nothing of the entry is left.")
	}
	detail := "The entry was created but could not join its groups, and could not be deleted again."
	if left != nil {
		detail += " It may be in " + strings.Join(left, ", ") + "."
	}
	return &Error{Code: OutcomeUnknown, Detail: detail, Cause: errors.Join(why, err)}
}

// errSteps ends an update that has to change groups first.
var errSteps = errors.New("groups must change first")

// Update changes an entry and its groups. Until it is known what becomes of the entry, no group is touched.
func (m *Memberships) Update(ctx context.Context, kind *Kind, name string, condition Condition, change Change) (Entry, error) {
	if f, ok := kind.Field(FieldMemberOfs); !ok || f.ReadOnly {
		return m.Directory.Update(ctx, kind, name, condition, change)
	}
	var p *changes
	entry, err := m.Directory.Update(ctx, kind, name, condition, func(current Entry) (Patch, error) {
		var patch Patch
		var err error
		if p, patch, err = m.changes(ctx, current, change); err == nil && len(p.steps) > 0 {
			if err = condition.checkMemberOfs(current); err == nil {
				err = errSteps
			}
		}
		return patch, err
	})
	if err == nil && p.sent {
		entry = entry.showing(p.wanted)
	}
	if !errors.Is(err, errSteps) {
		return entry, err
	}
	left, err := m.take(ctx, p.before, p.steps)
	if err != nil {
		return Entry{}, takenBack(left, err)
	}
	entry, err = m.Directory.Update(ctx, kind, name, condition, func(current Entry) (Patch, error) {
		if condition.OneOf != nil && PlanFrom(ctx) == nil { // groups have no tag: nobody else may have changed others
			all, _, err := m.memberOfs(ctx, current)
			if err != nil {
				return Patch{}, err
			}
			if len(m.without(all, p.wanted)) > 0 || len(m.without(p.wanted, all)) > 0 {
				return Patch{}, &Error{Code: Stale, Detail: "The entry's memberships have changed since you read it."}
			}
		}
		return p.again(change)(current)
	})
	switch {
	case err == nil:
		return entry.showing(p.wanted), nil
	case Is(err, OutcomeUnknown): // the entry may well be as it was meant to be
		return Entry{}, because(err, "Its memberships have changed.")
	}
	return Entry{}, takenBack(m.takeBack(ctx, p.before, p.steps), err)
}

// checkMemberOfs returns stale where the condition names versions, and none with these memberOfs: the groups that
// somebody else put the entry into would go unseen. Check lets them pass, for those who change other fields.
func (c Condition) checkMemberOfs(e Entry) error {
	holds := func(v Version) bool {
		return v.MemberOfs == e.Version.MemberOfs && Condition{OneOf: []Version{v}}.Check(e) == nil
	}
	if c.OneOf == nil || slices.ContainsFunc(c.OneOf, holds) {
		return nil
	}
	return &Error{Code: Stale, Detail: "The entry's memberships have changed since you read it."}
}

// changes are what an update makes of memberships.
type changes struct {
	// before is the entry with all of its memberships, wanted are those that it is to have, where they were sent.
	before Entry
	wanted []string
	sent   bool
	steps  []step
}

// changes finds out what a change makes of an entry's memberships, and of the rest of it.
func (m *Memberships) changes(ctx context.Context, current Entry, change Change) (*changes, Patch, error) {
	patch, err := change(current)
	if err != nil {
		return nil, Patch{}, err
	}
	p := &changes{before: current}
	if p.wanted, patch, p.sent = splitMemberships(current.Kind, patch); !p.sent {
		return p, patch, nil
	}
	here, unshown, err := m.memberOfs(ctx, current)
	if err != nil {
		return nil, Patch{}, err
	}
	if len(here) > len(current.Values(FieldMemberOfs)) { // the server does not show them all, or did not yet
		p.before = current.with(FieldMemberOfs, here)
		if patch, err = change(p.before); err != nil {
			return nil, Patch{}, err
		}
		if p.wanted, patch, p.sent = splitMemberships(current.Kind, patch); !p.sent {
			return p, patch, nil
		}
	}
	joining, err := m.steps(ctx, m.without(p.wanted, here), false)
	if err != nil {
		return nil, Patch{}, err
	}
	leaving, err := m.steps(ctx, m.without(here, p.wanted), true)
	if err != nil {
		return nil, Patch{}, err
	}
	again, err := m.steps(ctx, m.without(unshown, m.without(unshown, p.wanted)), false)
	for i := range again {
		again[i].again = true
	}
	p.steps = slices.Concat(joining, leaving, again)
	return p, patch, err
}

// again returns the change of an entry's own fields, once its memberships have changed. The change that was asked for
// sees those that there were before.
func (p *changes) again(change Change) Change {
	return func(current Entry) (Patch, error) {
		if current.ID() != p.before.ID() {
			return Patch{}, &Error{Code: Busy}
		}
		patch, err := change(current.with(FieldMemberOfs, p.before.Values(FieldMemberOfs)))
		if err != nil {
			return Patch{}, err
		}
		wanted, patch, _ := splitMemberships(current.Kind, patch)
		if !SameValues(wanted, p.wanted) {
			return Patch{}, &Error{Code: Busy}
		}
		return patch, nil
	}
}

// splitMemberships returns what a patch makes of memberOfs, the rest of it, and whether it says anything of memberOfs.
func splitMemberships(kind *Kind, patch Patch) (wanted []string, rest Patch, sent bool) {
	f, _ := kind.Field(FieldMemberOfs)
	if wanted, sent = patch.Set[FieldMemberOfs]; !sent || f.ReadOnly {
		return nil, patch, false
	}
	rest = Patch{Set: maps.Clone(patch.Set), Faults: patch.Faults}
	delete(rest.Set, FieldMemberOfs)
	return wanted, rest, true
}

// memberOfs returns an entry's memberOfs, and after them the groups that have it as a direct member and are unshown:
// not every server shows them.
func (m *Memberships) memberOfs(ctx context.Context, entry Entry) (all, unshown []string, err error) {
	query := Query{Filter: Filter{Operator: Equal, Field: FieldMembers, Value: entry.DN()}, Fields: []string{FieldDN}, Limit: 500}
	var dns []string
	for group, err := range Each(ctx, m.Directory, m.groups, query) {
		if err != nil {
			return nil, nil, err
		}
		dns = append(dns, group.DN())
	}
	shown := entry.Values(FieldMemberOfs)
	unshown = m.without(dns, shown)
	return slices.Concat(shown, unshown), unshown, nil
}

// steps returns the steps into groups, or out of them.
func (m *Memberships) steps(ctx context.Context, dns []string, leaves bool) ([]step, error) {
	var steps []step
	var violations []Violation
	for _, dn := range dns {
		group, err := m.Resolve(ctx, dn)
		switch {
		case err == nil && group.Kind.Name == KindGroups:
			steps = append(steps, step{group: group, leaves: leaves})
		case err != nil && !Is(err, NotFound):
			return nil, err
		case leaves:
			violations = append(violations, Violation{FieldMemberOfs, fmt.Sprintf("holds %s, which is no group here and can't be left", quote(dn))})
		default:
			violations = append(violations, noGroup(dn))
		}
	}
	return steps, invalid(violations)
}

// noGroup is the violation of a request for a membership in what is no group.
func noGroup(reference string) Violation {
	return Violation{FieldMemberOfs, fmt.Sprintf("refers to %s, which is no group", quote(reference))}
}

// without returns the DNs that others do not name, however they are spelled.
func (m *Memberships) without(dns, others []string) []string {
	left := missing(dns, others)
	if len(left) == 0 {
		return nil
	}
	others = missing(others, dns)
	return slices.DeleteFunc(left, func(dn string) bool {
		return slices.ContainsFunc(others, func(other string) bool { return m.sameDN(dn, other) })
	})
}

// take takes the steps or, when one fails, none: it takes them back, and returns why and the groups that are left of
// them.
func (m *Memberships) take(ctx context.Context, entry Entry, steps []step) (left []string, err error) {
	for i, s := range steps {
		err := m.step(ctx, entry.DN(), s)
		gone := Is(err, NotFound)
		if err == nil || gone && s.leaves { // the membership goes with the group
			continue
		}
		if gone {
			err = invalid([]Violation{noGroup(s.group.DN())})
		}
		taken := i + 1 // the last perhaps
		if s.leaves && !Is(err, OutcomeUnknown) {
			taken = i // and who was taken out meanwhile does not come back
		}
		return m.takeBack(ctx, entry, steps[:taken]), err
	}
	return nil, nil
}

// takeBack takes steps back, the last first, and returns the names of the groups where that fails. Another entry that
// has got the name meanwhile joins nothing.
func (m *Memberships) takeBack(ctx context.Context, entry Entry, steps []step) (left []string) {
	if PlanFrom(ctx) != nil {
		return nil
	}
	ctx, cancel := undoing(ctx)
	defer cancel()
	current, err := m.byID(ctx, entry)
	gone := Is(err, NotFound)
	if err != nil {
		current = entry
	}
	for _, s := range slices.Backward(steps) {
		if s.again || s.leaves && gone {
			continue
		}
		dns := []string{current.DN()}
		if !s.leaves && !m.sameDN(current.DN(), entry.DN()) { // it joined by that, whoever has it now
			dns = append(dns, entry.DN())
		}
		for _, dn := range dns {
			if err := m.step(ctx, dn, step{group: s.group, leaves: !s.leaves}); err != nil && !Is(err, NotFound) {
				left = append(left, quote(s.group.Name()))
			}
		}
	}
	return left
}

// step takes one step, also in a group that is called otherwise by now. Either way it does nothing where it was taken
// already. Where the group is gone, the error is not-found.
func (m *Memberships) step(ctx context.Context, dn string, s step) error {
	write := m.AddValue
	if s.leaves {
		write = m.RemoveValue
	}
	err := write(ctx, m.groups, s.group.Name(), FieldMembers, dn, Condition{})
	if Is(err, NotFound) {
		group, failed := m.byID(ctx, s.group)
		if failed != nil {
			return failed
		}
		err = write(ctx, m.groups, group.Name(), FieldMembers, dn, Condition{})
	}
	return aboutMemberships(err)
}

// byID returns what an entry is called now: its key and its DN. Errors: not-found.
func (m *Memberships) byID(ctx context.Context, entry Entry) (Entry, error) {
	query := Query{Filter: Filter{Operator: Equal, Field: FieldID, Value: entry.ID()}, Fields: []string{FieldDN, entry.Kind.Key}, Limit: 1}
	for found, err := range Each(ctx, m.Directory, entry.Kind, query) {
		return found, err
	}
	return Entry{}, &Error{Code: NotFound}
}

// aboutMemberships returns an error about a group's members as one about an entry's memberships.
func aboutMemberships(err error) error {
	refused, ok := errors.AsType[*Error](err)
	if !ok || refused.Violations == nil {
		return err
	}
	about := *refused
	about.Violations = slices.Clone(refused.Violations)
	for i := range about.Violations {
		about.Violations[i].Field = FieldMemberOfs
	}
	return &about
}

// undoing returns a context for taking back what was done, whatever has ended.
func undoing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(AsService(context.WithoutCancel(ctx)), undoTimeout)
}

// takenBack returns why an entry's memberships were taken back, but for those in the groups that are left.
func takenBack(left []string, why error) error {
	if left == nil {
		return because(why, "The memberships are as they were.")
	}
	return &Error{Code: OutcomeUnknown, Cause: why,
		Detail: "The change failed, and could not be undone in " + strings.Join(left, ", ") + "."}
}

// because returns an error with one more sentence.
func because(err error, sentence string) error {
	refused, ok := errors.AsType[*Error](err)
	if !ok {
		return err
	}
	more := *refused
	more.Detail = strings.TrimSpace(refused.Detail + " " + sentence)
	return &more
}

// with returns the entry with other values of a field.
func (e Entry) with(field string, values []string) Entry {
	e.values = slices.Clone(e.values)
	e.values[e.Kind.index[field]] = values
	return e
}

// showing returns the entry with these memberships, where the server does not show them all.
func (e Entry) showing(memberOfs []string) Entry {
	if len(missing(memberOfs, e.Values(FieldMemberOfs))) == 0 {
		return e
	}
	return e.with(FieldMemberOfs, memberOfs)
}
