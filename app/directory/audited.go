package directory

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
	"unicode/utf8"
)

// Event is one attempt to change something, for the audit trail.
type Event struct {
	Time time.Time `json:"time"`
	// RequestID is what the request is called in the log.
	RequestID string `json:"request_id"`
	// Caller is the name that the caller logged in with, CallerID the id of its entry, Address where it is.
	Caller   string `json:"caller"`
	CallerID string `json:"caller_id"`
	Roles    []Role `json:"roles"`
	Address  string `json:"address"`
	Action   Action `json:"action"`
	Kind     string `json:"kind"`
	// Name is the entry's, as the caller gave it; DN and ID are there where it was found.
	Name string `json:"name"`
	DN   string `json:"dn,omitempty"`
	ID   string `json:"id,omitempty"`
	// Changes are what was changed or, where Result says no, what was asked for.
	Changes []FieldChange `json:"changes,omitempty"`
	// Faulty are the names of fields that were refused or are none. Their values are nobody's business: somebody may
	// have put a password there.
	Faulty []string `json:"faulty,omitempty"`
	// DryRun tells that nothing was to be changed.
	DryRun bool `json:"dry_run,omitempty"`
	// Result is "ok", the name of the error's code, or "panic".
	Result string `json:"result"`
}

// FieldChange is what became of one field. Of a list, Before holds the values that went and After those that came.
type FieldChange struct {
	Field  string   `json:"field"`
	Before []string `json:"before,omitempty"`
	After  []string `json:"after,omitempty"`
	// Omitted is how many more values there are.
	Omitted int `json:"omitted,omitempty"`
}

// Results of an attempt that is not refused with an error.
const (
	resultOK    = "ok"
	resultPanic = "panic"
)

// secret stands for values that are never shown.
const secret = "***"

// What one event may hold: faulty fields, characters of a name, values of a field on each side, characters of a value.
const (
	maxFaulty      = 20
	maxEventName   = 256
	maxEventValues = 100
	maxEventValue  = 1024
)

// Audited is a Directory that records every attempt to change something, the refused ones too. Reads leave no trace.
type Audited struct {
	next   *Guarded
	record func(Event)
}

// NewAudited returns an Audited in front of the guards, so that it sees what they refuse. It calls record once for
// each attempt, before the attempt returns, and from many goroutines at once.
func NewAudited(next *Guarded, record func(Event)) *Audited {
	return &Audited{next: next, record: record}
}

// Get passes through.
func (a *Audited) Get(ctx context.Context, kind *Kind, name string) (Entry, error) {
	return a.next.Get(ctx, kind, name)
}

// Page passes through.
func (a *Audited) Page(ctx context.Context, kind *Kind, query Query) (Page, error) {
	return a.next.Page(ctx, kind, query)
}

// Count passes through.
func (a *Audited) Count(ctx context.Context, kind *Kind, filter Filter) (int, error) {
	return a.next.Count(ctx, kind, filter)
}

// Resolve passes through.
func (a *Audited) Resolve(ctx context.Context, reference string) (Entry, error) {
	return a.next.Resolve(ctx, reference)
}

// Create records the fields that the new entry has.
func (a *Audited) Create(ctx context.Context, kind *Kind, patch Patch) (Entry, error) {
	e := begin(ctx, ActionCreate, kind, "")
	defer a.end(e)
	entry, err := a.next.Create(ctx, kind, patch)
	e.finish(err)
	if err == nil {
		e.of(entry)
		e.Name = cut(entry.Name(), maxEventName)
		e.Changes = made(NewEntry(kind), entry, patch, func(*Field) bool { return true })
		return entry, nil
	}
	e.ask(NewEntry(kind), patch, err)
	if name := patch.Set[kind.Key]; len(name) == 1 && !faulty(kind, patch, err)[kind.Key] {
		e.Name = cut(name[0], maxEventName)
	}
	return entry, err
}

// Update records the fields that got other values.
func (a *Audited) Update(ctx context.Context, kind *Kind, name string, condition Condition, change Change) (Entry, error) {
	e := begin(ctx, ActionChange, kind, name)
	defer a.end(e)
	current, wanted := NewEntry(kind), Patch{}
	entry, err := a.next.Update(ctx, kind, name, condition, func(now Entry) (Patch, error) {
		patch, err := change(now)
		current, wanted = now, patch
		e.of(now)
		return patch, err
	})
	e.finish(err)
	if err == nil {
		e.of(entry)
		e.Changes = made(current, entry, wanted, func(f *Field) bool { _, sent := wanted.Set[f.Name]; return sent || f.Given })
		return entry, nil
	}
	e.ask(current, wanted, err)
	return entry, err
}

// AddValue records the value that was to come.
func (a *Audited) AddValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error {
	e := begin(ctx, ActionChange, kind, name)
	defer a.end(e)
	err := a.next.AddValue(ctx, kind, name, field, value, condition)
	e.finish(err)
	e.ask(NewEntry(kind), Patch{Set: map[string][]string{field: {value}}}, err)
	return err
}

// RemoveValue records the value that was to go.
func (a *Audited) RemoveValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error {
	e := begin(ctx, ActionChange, kind, name)
	defer a.end(e)
	err := a.next.RemoveValue(ctx, kind, name, field, value, condition)
	e.finish(err)
	e.ask(NewEntry(kind), Patch{Set: map[string][]string{field: {value}}}, err)
	for i := range e.Changes {
		e.Changes[i].Before, e.Changes[i].After = e.Changes[i].After, nil
	}
	return err
}

// ChangePassword records that there is another password, and whether it must be changed again.
func (a *Audited) ChangePassword(ctx context.Context, kind *Kind, name string, change PasswordChange) (Entry, error) {
	action := ActionSetPassword
	if change.Current != "" {
		action = ActionChangePassword
	}
	e := begin(ctx, action, kind, name)
	defer a.end(e)
	e.Changes = []FieldChange{{Field: FieldUserPassword, Before: []string{secret}, After: []string{secret}}}
	if change.MustChange {
		e.Changes = append(e.Changes, FieldChange{Field: FieldMustChange, After: []string{True}})
	}
	entry, err := a.next.ChangePassword(ctx, kind, name, change)
	e.finish(err)
	e.Faulty = names(faulty(kind, Patch{}, err))
	if err == nil {
		e.of(entry)
	}
	return entry, err
}

// SetToken records that there is another token, or none any more.
func (a *Audited) SetToken(ctx context.Context, kind *Kind, name, digest string) (Entry, error) {
	e := begin(ctx, ActionSetToken, kind, name)
	defer a.end(e)
	change := FieldChange{Field: "token"}
	if digest != "" {
		change.After = []string{secret}
	}
	e.Changes = []FieldChange{change}
	entry, err := a.next.SetToken(ctx, kind, name, digest)
	e.finish(err)
	if err == nil {
		e.of(entry)
	}
	return entry, err
}

// Rename records both names.
func (a *Audited) Rename(ctx context.Context, kind *Kind, name, newName string, condition Condition) (Entry, error) {
	e := begin(ctx, ActionRename, kind, name)
	defer a.end(e)
	e.Changes = []FieldChange{{Field: kind.Key, Before: bounded([]string{name}), After: bounded([]string{newName})}}
	entry, err := a.next.Rename(ctx, kind, name, newName, condition)
	e.finish(err)
	e.Faulty = names(faulty(kind, Patch{}, err))
	if len(e.Faulty) > 0 {
		e.Changes = nil
	}
	if err == nil {
		e.of(entry)
	}
	return entry, err
}

// Delete records what the entry was, where it is gone or may be.
func (a *Audited) Delete(ctx context.Context, kind *Kind, name string, condition Condition) error {
	e := begin(ctx, ActionDelete, kind, name)
	defer a.end(e)
	entry := NewEntry(kind)
	if _, ok := CallerFrom(ctx); ok {
		if found, err := a.next.next.Get(AsService(ctx), kind, name); err == nil { // else it goes unsaid
			entry = found
			e.of(found)
		}
	}
	err := a.next.Delete(ctx, kind, name, condition)
	e.finish(err)
	if refused, ok := errors.AsType[*Error](err); !ok || refused.Code.Status >= internalStatus {
		e.Changes = made(entry, NewEntry(kind), Patch{}, func(*Field) bool { return true })
	}
	return err
}

// internalStatus is where the statuses begin of errors that do not tell that nothing was done.
const internalStatus = 500

// begin returns the event of an attempt that has not ended yet.
func begin(ctx context.Context, action Action, kind *Kind, name string) *Event {
	caller, _ := CallerFrom(ctx)
	return &Event{
		RequestID: caller.RequestID, Caller: cut(caller.Login, maxEventName), CallerID: caller.ID, Address: caller.Address,
		Roles: append([]Role{}, caller.Roles...), Action: action, Kind: kind.Name, Name: cut(name, maxEventName),
		DryRun: PlanFrom(ctx) != nil, Result: resultPanic,
	}
}

// end records the event, of a panic too, which goes on.
func (a *Audited) end(e *Event) {
	e.Time = time.Now().UTC()
	a.record(*e)
}

// of says which entry it is.
func (e *Event) of(entry Entry) { e.DN, e.ID = entry.DN(), entry.ID() }

// finish says how the attempt ended.
func (e *Event) finish(err error) {
	refused, ok := errors.AsType[*Error](err)
	switch {
	case err == nil:
		e.Result = resultOK
	case ok:
		e.Result = refused.Code.Name
	default:
		e.Result = Internal.Name
	}
}

// ask says what a patch would have made of the entry, as far as its fields are what they should be.
func (e *Event) ask(current Entry, patch Patch, err error) {
	wrong := faulty(current.Kind, patch, err)
	e.Faulty = names(wrong)
	for i := range current.Kind.Fields {
		f := &current.Kind.Fields[i]
		values, sent := patch.Set[f.Name]
		switch {
		case !sent || f.ReadOnly:
		case f.WriteOnly:
			e.Changes = append(e.Changes, hide(current, values, f))
		case !wrong[f.Name] && !SameValues(values, current.At(i)):
			e.Changes = append(e.Changes, f.changed(current.At(i), values))
		}
	}
}

// made returns the fields, of those looked at, that differ between two states of an entry, and those that can't be
// seen and that the patch sets.
func made(before, after Entry, patch Patch, look func(*Field) bool) []FieldChange {
	var changes []FieldChange
	for i := range before.Kind.Fields {
		f := &before.Kind.Fields[i]
		values, sent := patch.Set[f.Name]
		switch {
		case f.ReadOnly || !look(f):
		case f.WriteOnly && sent:
			changes = append(changes, hide(before, values, f))
		case !f.WriteOnly && !SameValues(before.At(i), after.At(i)):
			changes = append(changes, f.changed(before.At(i), after.At(i)))
		}
	}
	return changes
}

// hide returns that a field was given values that nobody may see.
func hide(before Entry, values []string, f *Field) FieldChange {
	change := FieldChange{Field: f.Name, Before: []string{secret}, After: []string{secret}}
	if before.DN() == "" { // there is no entry yet
		change.Before = nil
	}
	if len(values) == 0 {
		change.After = nil
	}
	return change
}

// changed returns what became of the field's values; of a list, which went and which came.
func (f *Field) changed(before, after []string) FieldChange {
	change := FieldChange{Field: f.Name}
	if f.List {
		before, after = missing(before, after), missing(after, before)
	}
	change.Before, change.After = bounded(before), bounded(after)
	change.Omitted = len(before) + len(after) - len(change.Before) - len(change.After)
	return change
}

// missing returns the values that others lack.
func missing(values, others []string) []string {
	there := make(map[string]int, len(others))
	for _, value := range others {
		there[value]++
	}
	var all []string
	for _, value := range values {
		if there[value]--; there[value] < 0 {
			all = append(all, value)
		}
	}
	return all
}

// bounded returns the first of the values, each cut to its first characters.
func bounded(values []string) []string {
	var all []string
	for _, value := range values[:min(len(values), maxEventValues)] {
		all = append(all, cut(value, maxEventValue))
	}
	return all
}

// faulty returns the fields that could not be understood, are none, are wrong by themselves, or that the error says
// are. Fields that the caller may not change are not among them for that.
func faulty(kind *Kind, patch Patch, err error) map[string]bool {
	all := map[string]bool{}
	for _, v := range patch.Faults {
		all[v.Field] = true
	}
	if refused, ok := errors.AsType[*Error](err); ok && refused.Code != Forbidden {
		for _, v := range refused.Violations {
			all[v.Field] = true
		}
	}
	for name, values := range patch.Set {
		f, known := kind.Field(name)
		wrong := func(value string) bool { return !f.ReadOnly && f.wrong(value) != "" }
		if !known || err != nil && slices.ContainsFunc(values, wrong) {
			all[name] = true
		}
	}
	return all
}

// names returns the first of the names, in order.
func names(set map[string]bool) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(set))[:min(len(set), maxFaulty)] {
		all = append(all, cut(name, maxEventName))
	}
	return all
}

// cut returns the first characters of a text.
func cut(text string, most int) string {
	if len(text) <= most || utf8.RuneCountInString(text) <= most {
		return text
	}
	return string([]rune(text)[:most]) + "…"
}
