package directory_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory"
)

// stub is a directory that holds one group, and does what it is told without checking.
type stub struct {
	directory.Directory
	group directory.Entry
	err   error
	calls int
}

// Get returns the group.
func (s *stub) Get(context.Context, *directory.Kind, string) (directory.Entry, error) {
	return s.group, nil
}

// Update makes the patch true, in one attempt or several.
func (s *stub) Update(_ context.Context, kind *directory.Kind, _ string, _ directory.Condition, change directory.Change) (directory.Entry, error) {
	var patch directory.Patch
	for range max(s.calls, 1) {
		var err error
		if patch, err = change(s.group); err != nil {
			return directory.Entry{}, err
		}
	}
	if s.err != nil {
		return directory.Entry{}, s.err
	}
	changed := directory.NewEntry(kind)
	for i, f := range kind.Fields {
		changed.SetAt(i, s.group.At(i))
		if values, sent := patch.Set[f.Name]; sent {
			changed.SetAt(i, values)
		}
	}
	return changed, nil
}

// Delete says what it is told to say.
func (s *stub) Delete(context.Context, *directory.Kind, string, directory.Condition) error {
	return s.err
}

// Create panics.
func (s *stub) Create(context.Context, *directory.Kind, directory.Patch) (directory.Entry, error) {
	panic("a bug")
}

// trail is a group with these members, and what is recorded of changes to it.
type trail struct {
	*directory.Audited
	groups *directory.Kind
	stub   *stub
	events []directory.Event
}

func newTrail(t *testing.T, members ...string) *trail {
	t.Helper()
	groups, err := directory.NewKind(directory.Groups(), "cn")
	if err != nil {
		t.Fatal(err)
	}
	group := directory.NewEntry(groups)
	for i, f := range groups.Fields {
		switch f.Name {
		case directory.FieldDN:
			group.SetAt(i, []string{"cn=devs"})
		case directory.FieldID:
			group.SetAt(i, []string{"the-id"})
		case "cn":
			group.SetAt(i, []string{"devs"})
		case directory.FieldMembers:
			group.SetAt(i, members)
		}
	}
	tr := &trail{groups: groups, stub: &stub{group: group}}
	guarded := directory.NewGuarded(tr.stub, directory.Protection{SameDN: strings.EqualFold}, nil, "uid")
	tr.Audited = directory.NewAudited(guarded, func(e directory.Event) { tr.events = append(tr.events, e) })
	return tr
}

// caller returns a context of an admin's request.
func caller(t *testing.T) context.Context {
	return directory.WithCaller(t.Context(), directory.Caller{
		Login: "admin", ID: "admins-id", Roles: []directory.Role{directory.RoleAdmin}, Address: "192.0.2.1", RequestID: "r1",
	})
}

func (tr *trail) one(t *testing.T) directory.Event {
	t.Helper()
	if len(tr.events) != 1 {
		t.Fatalf("there are %d events, want one: %+v", len(tr.events), tr.events)
	}
	return tr.events[0]
}

func (tr *trail) update(t *testing.T, patch directory.Patch) (directory.Event, error) {
	t.Helper()
	_, err := tr.Update(caller(t), tr.groups, "devs", directory.Condition{}, func(directory.Entry) (directory.Patch, error) { return patch, nil })
	return tr.one(t), err
}

func numbered(from, to int) []string {
	var all []string
	for i := from; i < to; i++ {
		all = append(all, fmt.Sprintf("cn=u%d", i))
	}
	return all
}

func TestOfALongListOnlyTheValuesThatCameAndWentAreRecorded(t *testing.T) {
	tr := newTrail(t, numbered(0, 5000)...)
	e, err := tr.update(t, directory.Patch{Set: map[string][]string{directory.FieldMembers: numbered(1, 5002)}})
	want := []directory.FieldChange{{Field: directory.FieldMembers, Before: []string{"cn=u0"}, After: []string{"cn=u5000", "cn=u5001"}}}
	if diff := cmp.Diff(want, e.Changes); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	if e.Result != "ok" || e.DN != "cn=devs" || e.ID != "the-id" || e.Time.IsZero() {
		t.Errorf("not the event of a change: %+v", e)
	}
}

func TestAnEventIsBounded(t *testing.T) {
	tr := newTrail(t, numbered(0, 5000)...)
	patch := directory.Patch{Set: map[string][]string{
		directory.FieldMembers: numbered(5000, 9000), "description": {strings.Repeat("é", 5000)},
	}}
	e, err := tr.update(t, patch)
	line, _ := json.Marshal(e)
	if err != nil || len(e.Changes) != 2 || len(line) > 16<<10 {
		t.Errorf("%v, %d changes, %d bytes", err, len(e.Changes), len(line))
	}
	for _, c := range e.Changes {
		if c.Field == directory.FieldMembers && (c.Omitted != 9000-200 || len(c.Before) != 100 || len(c.After) != 100) {
			t.Errorf("it is not told how much is left out: %d, %d, %d", len(c.Before), len(c.After), c.Omitted)
		}
	}

	tr = newTrail(t)
	var faults []directory.Violation
	for i := range 1000 {
		faults = append(faults, directory.Violation{Field: fmt.Sprintf("%04d", i) + strings.Repeat("x", 1000)})
	}
	tr.stub.err = &directory.Error{Code: directory.Invalid}
	e, _ = tr.update(t, directory.Patch{Faults: faults})
	if line, _ := json.Marshal(e); len(e.Faulty) != 20 || len(line) > 16<<10 {
		t.Errorf("%d faulty fields in %d bytes", len(e.Faulty), len(line))
	}
}

func TestValuesOfFaultyFieldsAreNotRecorded(t *testing.T) {
	for name, refused := range map[string]*directory.Error{
		"invalid":   {Code: directory.Invalid, Violations: []directory.Violation{{Field: "description", Message: "is wrong"}}},
		"forbidden": {Code: directory.Forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			tr := newTrail(t)
			tr.stub.err = refused
			patch := directory.Patch{Set: map[string][]string{"description": {"hunter2\x00"}, "passwort": {"hunter2"}, "cn": {"hunter2" + strings.Repeat("x", 100)}}}
			for i := range 30 { // more than are named, and before the others in order
				patch.Faults = append(patch.Faults, directory.Violation{Field: fmt.Sprintf("aaa%d", i)})
			}
			e, err := tr.update(t, patch)
			line, _ := json.Marshal(e)
			if !errors.Is(err, refused) || strings.Contains(string(line), "hunter2") || e.Result != name || len(e.Changes) > 0 {
				t.Errorf("%v: %s", err, line)
			}
			tr.events = nil
			patch.Faults = nil
			e, _ = tr.update(t, patch)
			if want := []string{"cn", "description", "passwort"}; !slices.Equal(e.Faulty, want) {
				t.Errorf("faulty are %q, want %q", e.Faulty, want)
			}
		})
	}
}

func TestWhatWasAskedForInVainIsRecorded(t *testing.T) {
	tr := newTrail(t, "cn=a", "cn=b")
	tr.stub.err = &directory.Error{Code: directory.OutcomeUnknown}
	e, _ := tr.update(t, directory.Patch{Set: map[string][]string{
		directory.FieldMembers: {"cn=b", "users/c"}, "cn": {"devs"}, "description": {"new"}, "updatedAt": {"2026-01-01T00:00:00Z"},
	}})
	want := []directory.FieldChange{
		{Field: "description", After: []string{"new"}},
		{Field: directory.FieldMembers, Before: []string{"cn=a"}, After: []string{"users/c"}},
	}
	if diff := cmp.Diff(want, e.Changes); diff != "" || e.Result != "outcome-unknown" || e.DN != "cn=devs" {
		t.Errorf("%+v\n%s", e, diff)
	}
}

func TestAnUpdateThatIsTriedSeveralTimesIsOneEvent(t *testing.T) {
	tr := newTrail(t)
	tr.stub.calls = 5
	e, err := tr.update(t, directory.Patch{Set: map[string][]string{"description": {"new"}}})
	want := []directory.FieldChange{{Field: "description", After: []string{"new"}}}
	if diff := cmp.Diff(want, e.Changes); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestADeletionThatMayHaveHappenedTellsWhatTheEntryWas(t *testing.T) {
	for _, c := range []struct {
		err   error
		tells bool
	}{
		{nil, true},
		{&directory.Error{Code: directory.OutcomeUnknown}, true},
		{&directory.Error{Code: directory.Stale}, false},
	} {
		tr := newTrail(t, "cn=a")
		tr.stub.err = c.err
		if err := tr.Delete(caller(t), tr.groups, "devs", directory.Condition{}); !errors.Is(err, c.err) {
			t.Errorf("got %v, want %v", err, c.err)
		}
		e := tr.one(t)
		var want []directory.FieldChange
		if c.tells {
			want = []directory.FieldChange{{Field: "cn", Before: []string{"devs"}}, {Field: directory.FieldMembers, Before: []string{"cn=a"}}}
		}
		if diff := cmp.Diff(want, e.Changes); diff != "" || e.ID != "the-id" {
			t.Errorf("%v: %+v\n%s", c.err, e, diff)
		}
	}
}

func TestWithoutACallerNothingIsReadForTheTrail(t *testing.T) {
	tr := newTrail(t, "cn=a")
	err := tr.Delete(t.Context(), tr.groups, "devs", directory.Condition{})
	e := tr.one(t)
	if !directory.Is(err, directory.CredentialsRequired) || e.Result != "credentials-required" || e.DN != "" || e.Changes != nil {
		t.Errorf("%v: %+v", err, e)
	}
	if line, _ := json.Marshal(e); !strings.Contains(string(line), `"roles":[]`) {
		t.Errorf("no roles are no list: %s", line)
	}
}

func TestAPanicIsRecordedAndGoesOn(t *testing.T) {
	tr := newTrail(t)
	func() {
		defer func() {
			if cause := recover(); cause != "a bug" {
				t.Errorf("recovered %v", cause)
			}
		}()
		_, _ = tr.Create(caller(t), tr.groups, directory.Patch{})
	}()
	if e := tr.one(t); e.Result != "panic" || e.Action != directory.ActionCreate {
		t.Errorf("%+v", e)
	}
}
