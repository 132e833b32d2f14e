package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Memberships is a Directory in which memberOfs can be written: what comes and goes there is done to the members of
// the groups.
//
// LDAP changes one entry at a time. The groups that come are first, then those that go, and last the entry's own
// fields; a new entry is made before it joins its groups. So whoever is stopped in between loses nothing that a
// repetition does not put right. When a step fails, those before it are taken back.
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
	group  string
	leaves bool
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
	steps, err := m.join(ctx, wanted)
	if err != nil {
		return Entry{}, err
	}
	entry, err := m.Directory.Create(ctx, kind, patch)
	made := err == nil
	if Is(err, AlreadyExists) {
		if begun, left, failed := m.begun(ctx, kind, patch, wanted, steps); left != nil || failed != nil {
			entry, steps, err = begun, left, failed
		}
	}
	if err != nil {
		return Entry{}, err
	}
	left, err := m.take(ctx, entry.DN(), steps)
	if err != nil && made {
		return Entry{}, m.unmake(ctx, entry, left, err)
	}
	if err != nil {
		return Entry{}, takenBack(left, err)
	}
	if PlanFrom(ctx) == nil {
		if entry, err = m.Get(ctx, kind, entry.Name()); err != nil {
			return Entry{}, &Error{Code: OutcomeUnknown, Detail: "The entry was created and is in its groups, but could not be read.", Cause: err}
		}
	}
	return entry.showing(wanted), nil
}

// begun returns the entry that a creation left which was stopped before it was in all of its groups, and the steps
// that are left; none where it is another's. Passwords can't be compared, and none is set.
func (m *Memberships) begun(ctx context.Context, kind *Kind, patch Patch, wanted []string, steps []step) (Entry, []step, error) {
	entry, err := m.Get(ctx, kind, patch.Set[kind.Key][0])
	if Is(err, NotFound) {
		return Entry{}, nil, nil
	}
	if err != nil {
		return Entry{}, nil, err
	}
	for i := range kind.Fields {
		f := &kind.Fields[i]
		values := patch.Set[f.Name]
		if f.Type == Boolean && len(values) == 0 {
			values = []string{False}
		}
		if !f.ReadOnly && !f.WriteOnly && !f.Backlink && !SameValues(values, entry.At(i)) {
			return Entry{}, nil, nil
		}
	}
	in, err := m.groupsOf(ctx, entry.DN())
	if err != nil {
		return Entry{}, nil, err
	}
	here := m.view(entry, in)
	if len(m.without(here, wanted)) > 0 {
		return Entry{}, nil, nil
	}
	var left []step
	for i, dn := range wanted {
		if len(m.without([]string{dn}, here)) > 0 {
			left = append(left, steps[i])
		}
	}
	return entry, left, nil
}

// unmake deletes an entry that could not join its groups, and returns why.
func (m *Memberships) unmake(ctx context.Context, entry Entry, left []string, why error) error {
	if PlanFrom(ctx) != nil {
		return why
	}
	ctx, cancel := undoing(ctx)
	defer cancel()
	err := m.Delete(ctx, entry.Kind, entry.Name(), Condition{OneOf: []Version{entry.Version}})
	if Is(err, UnsupportedByDirectory) { // by the condition
		err = m.Delete(ctx, entry.Kind, entry.Name(), Condition{})
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
			err = errSteps
		}
		return patch, err
	})
	if err == nil && p.sent {
		entry = entry.showing(p.wanted)
	}
	if !errors.Is(err, errSteps) {
		return entry, err
	}
	left, err := m.take(ctx, p.before.DN(), p.steps)
	if err != nil {
		return Entry{}, takenBack(left, err)
	}
	entry, err = m.Directory.Update(ctx, kind, name, condition, p.again(change))
	switch {
	case err == nil:
		return entry.showing(p.wanted), nil
	case Is(err, OutcomeUnknown): // the entry may well be as it was meant to be
		return Entry{}, because(err, "Its memberships have changed.")
	}
	return Entry{}, takenBack(m.takeBack(ctx, p.before.DN(), p.steps), err)
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
	in, err := m.groupsOf(ctx, current.DN())
	if err != nil {
		return nil, Patch{}, err
	}
	here := m.view(current, in)
	if len(here) > len(current.Values(FieldMemberOfs)) { // the server does not show them all, or did not yet
		p.before = current.with(FieldMemberOfs, here)
		if patch, err = change(p.before); err != nil {
			return nil, Patch{}, err
		}
		if p.wanted, patch, p.sent = splitMemberships(current.Kind, patch); !p.sent {
			return p, patch, nil
		}
	}
	if p.steps, err = m.join(ctx, m.without(p.wanted, here)); err != nil {
		return nil, Patch{}, err
	}
	leaving, err := m.leave(ctx, m.without(here, p.wanted), in)
	p.steps = append(p.steps, leaving...)
	return p, patch, err
}

// again returns the change of an entry's own fields, once its memberships have changed. The change that was asked for
// sees those that there were before.
func (p *changes) again(change Change) Change {
	return func(current Entry) (Patch, error) {
		patch, err := change(current.with(FieldMemberOfs, p.before.Values(FieldMemberOfs)))
		if err != nil {
			return Patch{}, err
		}
		wanted, patch, _ := splitMemberships(current.Kind, patch)
		if current.ID() != p.before.ID() || !SameValues(wanted, p.wanted) {
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
	rest = Patch{Set: make(map[string][]string, len(patch.Set)), Faults: patch.Faults}
	for name, values := range patch.Set {
		if name != FieldMemberOfs {
			rest.Set[name] = values
		}
	}
	return wanted, rest, true
}

// groupsOf returns the groups that have an entry as a direct member. Not every server shows them in memberOf.
func (m *Memberships) groupsOf(ctx context.Context, dn string) ([]Entry, error) {
	query := Query{Filter: Filter{Operator: Equal, Field: FieldMembers, Value: dn}, Fields: []string{FieldDN, m.groups.Key}, Limit: 500}
	var groups []Entry
	for group, err := range Each(ctx, m.Directory, m.groups, query) {
		if err != nil {
			return nil, err
		}
		groups = append(groups, group)
	}
	return groups, nil
}

// view returns an entry's memberOfs, with the groups that they lack.
func (m *Memberships) view(entry Entry, in []Entry) []string {
	shown := entry.Values(FieldMemberOfs)
	dns := make([]string, len(in))
	for i, group := range in {
		dns[i] = group.DN()
	}
	return slices.Concat(shown, m.without(dns, shown))
}

// join returns the steps into groups.
func (m *Memberships) join(ctx context.Context, dns []string) ([]step, error) {
	var steps []step
	var violations []Violation
	for _, dn := range dns {
		group, err := m.Resolve(ctx, dn)
		switch {
		case err == nil && group.Kind.Name == KindGroups:
			steps = append(steps, step{group: group.Name()})
		case err == nil, Is(err, NotFound):
			violations = append(violations, noGroup(dn))
		default:
			return nil, err
		}
	}
	return steps, invalid(violations)
}

// leave returns the steps out of groups, of those that an entry is in.
func (m *Memberships) leave(ctx context.Context, dns []string, in []Entry) ([]step, error) {
	var steps []step
	var violations []Violation
	for _, dn := range dns {
		if i := slices.IndexFunc(in, func(group Entry) bool { return m.sameDN(group.DN(), dn) }); i >= 0 {
			steps = append(steps, step{in[i].Name(), true})
			continue
		}
		group, err := m.Resolve(ctx, dn)
		switch {
		case err == nil && group.Kind.Name == KindGroups: // it has left meanwhile
		case err == nil, Is(err, NotFound):
			violations = append(violations, Violation{FieldMemberOfs, fmt.Sprintf("holds %s, which is no group here and can't be left", quote(dn))})
		default:
			return nil, err
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
func (m *Memberships) take(ctx context.Context, dn string, steps []step) (left []string, err error) {
	for i, s := range steps {
		if err := m.step(ctx, dn, s); err != nil {
			return m.takeBack(ctx, dn, steps[:i+1]), err // it may have been taken
		}
	}
	return nil, nil
}

// takeBack takes steps back, the last first, and returns the names of the groups where that fails.
func (m *Memberships) takeBack(ctx context.Context, dn string, steps []step) (left []string) {
	if PlanFrom(ctx) != nil {
		return nil
	}
	ctx, cancel := undoing(ctx)
	defer cancel()
	for _, s := range slices.Backward(steps) {
		if m.step(ctx, dn, step{s.group, !s.leaves}) != nil {
			left = append(left, quote(s.group))
		}
	}
	return left
}

// step takes one step. Either way it does nothing where it was taken already.
func (m *Memberships) step(ctx context.Context, dn string, s step) error {
	if s.leaves {
		if err := m.RemoveValue(ctx, m.groups, s.group, FieldMembers, dn, Condition{}); !Is(err, NotFound) {
			return aboutMemberships(err)
		}
		return nil // with the group
	}
	err := m.AddValue(ctx, m.groups, s.group, FieldMembers, dn, Condition{})
	if Is(err, NotFound) {
		return invalid([]Violation{noGroup(m.groups.Name + "/" + s.group)})
	}
	return aboutMemberships(err)
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
