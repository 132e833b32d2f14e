package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Checked is a Directory that refuses what the kinds' tables do not allow. It reports everything that is
// wrong with a request at once, together with what could not be decoded, and passes references on as DNs.
type Checked struct {
	next Directory
}

// NewChecked returns a Checked in front of next.
func NewChecked(next Directory) *Checked { return &Checked{next: next} }

// Get passes through.
func (c *Checked) Get(ctx context.Context, kind *Kind, name string) (Entry, error) {
	return c.next.Get(ctx, kind, name)
}

// Page passes references in the filter on as DNs.
func (c *Checked) Page(ctx context.Context, kind *Kind, query Query) (Page, error) {
	var err error
	if query.Filter, err = c.checkFilter(ctx, kind, query.Filter); err != nil {
		return Page{}, err
	}
	return c.next.Page(ctx, kind, query)
}

// Count passes references in the filter on as DNs.
func (c *Checked) Count(ctx context.Context, kind *Kind, filter Filter) (int, error) {
	filter, err := c.checkFilter(ctx, kind, filter)
	if err != nil {
		return 0, err
	}
	return c.next.Count(ctx, kind, filter)
}

// checkFilter returns the filter with the DNs of what is there. One of what is not may still be referred to.
func (c *Checked) checkFilter(ctx context.Context, kind *Kind, filter Filter) (Filter, error) {
	return filter.resolved(func(one Filter) (Filter, error) {
		if f, _ := kind.Field(one.Field); f.Type != Reference || one.Operator != Equal {
			return one, nil
		}
		entry, err := c.next.Resolve(ctx, one.Value)
		switch {
		case err == nil:
			one.Value = entry.DN()
		case !Is(err, NotFound):
			return one, err
		case !strings.Contains(one.Value, "="):
			return one, wrongFilter("refers to %s, which is no user, group or host", quote(one.Value))
		}
		return one, nil
	})
}

// Resolve passes through.
func (c *Checked) Resolve(ctx context.Context, reference string) (Entry, error) {
	return c.next.Resolve(ctx, reference)
}

// Create checks that the fields are right and that none is missing.
func (c *Checked) Create(ctx context.Context, kind *Kind, patch Patch) (Entry, error) {
	checked, err := c.check(ctx, kind, patch, NewEntry(kind), true)
	if err != nil {
		return Entry{}, err
	}
	return c.next.Create(ctx, kind, checked)
}

// Update checks what change makes of the entry. Values that stay as they are may break today's rules.
func (c *Checked) Update(ctx context.Context, kind *Kind, name string, condition Condition, change Change) (Entry, error) {
	return c.next.Update(ctx, kind, name, condition, func(current Entry) (Patch, error) {
		patch, err := change(current)
		if err != nil {
			return Patch{}, err
		}
		return c.check(ctx, kind, patch, current, false)
	})
}

// AddValue checks the value. Where it refers to an entry that does not exist, the error is not-found.
func (c *Checked) AddValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error {
	f, err := listField(kind, field)
	if err != nil {
		return err
	}
	if f.Type == Reference {
		entry, err := c.next.Resolve(ctx, value)
		if err != nil {
			return err
		}
		if entry.Kind.Name == kind.Name && strings.EqualFold(entry.Name(), name) {
			return invalid([]Violation{{field, itself}})
		}
		value = entry.DN()
	} else if wrong := f.wrong(value); wrong != "" {
		return invalid([]Violation{{field, wrong}})
	}
	return c.next.AddValue(ctx, kind, name, field, value, condition)
}

// RemoveValue passes a reference to an entry that is gone on as it is.
func (c *Checked) RemoveValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error {
	f, err := listField(kind, field)
	if err != nil {
		return err
	}
	if f.Type == Reference {
		entry, err := c.next.Resolve(ctx, value)
		if err == nil {
			value = entry.DN()
		} else if !Is(err, NotFound) {
			return err
		}
	}
	return c.next.RemoveValue(ctx, kind, name, field, value, condition)
}

// ChangePassword checks the new password.
func (c *Checked) ChangePassword(ctx context.Context, kind *Kind, name string, change PasswordChange) (Entry, error) {
	field, ok := kind.Field(FieldUserPassword)
	if !ok {
		return Entry{}, invalid([]Violation{{FieldNewPassword, fmt.Sprintf("is nothing that a %s has", kind.Singular)}})
	}
	if wrong := field.wrong(change.New); wrong != "" {
		return Entry{}, invalid([]Violation{{FieldNewPassword, wrong}})
	}
	return c.next.ChangePassword(ctx, kind, name, change)
}

// SetToken passes through.
func (c *Checked) SetToken(ctx context.Context, kind *Kind, name, digest string) (Entry, error) {
	return c.next.SetToken(ctx, kind, name, digest)
}

// Rename checks the new name.
func (c *Checked) Rename(ctx context.Context, kind *Kind, name, newName string, condition Condition) (Entry, error) {
	key, _ := kind.Field(kind.Key)
	if wrong := key.wrong(newName); wrong != "" {
		return Entry{}, invalid([]Violation{{key.Name, wrong}})
	}
	return c.next.Rename(ctx, kind, name, newName, condition)
}

// Delete passes through.
func (c *Checked) Delete(ctx context.Context, kind *Kind, name string, condition Condition) error {
	return c.next.Delete(ctx, kind, name, condition)
}

// itself is what is wrong with a reference of an entry to itself. The memberOf of such a group would not follow.
const itself = "can't refer to the entry itself"

func listField(kind *Kind, name string) (Field, error) {
	f, ok := kind.Field(name)
	if !ok || !f.List || f.ReadOnly || f.Backlink {
		return Field{}, invalid([]Violation{{name, fmt.Sprintf("is not a list of a %s that can be written", kind.Singular)}})
	}
	return f, nil
}

// check returns the patch with references as DNs and without what is only sent back, or what is wrong with it.
func (c *Checked) check(ctx context.Context, kind *Kind, patch Patch, current Entry, creating bool) (Patch, error) {
	violations := slices.Clone(patch.Faults)
	faulty := make(map[string]bool, len(patch.Faults))
	for _, v := range patch.Faults {
		faulty[v.Field] = true
	}
	checked := Patch{Set: make(map[string][]string, len(patch.Set))}
	for i := range kind.Fields {
		f := &kind.Fields[i]
		values, sent := patch.Set[f.Name]
		if faulty[f.Name] || !sent && !(creating && f.Required) {
			continue
		}
		if f.ReadOnly {
			if !f.Volatile && !SameValues(values, current.At(i)) {
				violations = append(violations, Violation{f.Name, "can't be set"})
			}
			continue
		}
		if f.DefaultsTo != "" && len(values) == 0 {
			values = current.Values(f.DefaultsTo)
		}
		wanted, wrong, err := c.checkField(ctx, kind, f, values, current.At(i), current.DN(), creating)
		if err != nil {
			return Patch{}, err
		}
		for _, message := range wrong {
			violations = append(violations, Violation{f.Name, message})
		}
		checked.Set[f.Name] = wanted
	}
	for name := range patch.Set {
		if _, known := kind.Field(name); !known && !faulty[name] {
			violations = append(violations, UnknownField(kind, name))
		}
	}
	if creating {
		kind.fillDefaults(checked.Set)
	}
	return checked, invalid(violations)
}

// UnknownField is the violation of a request that names a field the kind does not have.
func UnknownField(kind *Kind, name string) Violation {
	return Violation{name, fmt.Sprintf("is not a field of a %s", kind.Singular)}
}

func (c *Checked) checkField(ctx context.Context, kind *Kind, f *Field, values, current []string, self string, creating bool) (wanted, wrong []string, err error) {
	switch {
	case len(values) == 0 && f.Required && creating:
		return nil, []string{"is required"}, nil
	case len(values) == 0 && f.Required && len(current) > 0:
		return nil, []string{"can't be removed"}, nil
	case len(values) > 1 && !f.List:
		return nil, []string{"takes one value"}, nil
	case f.Name == kind.Key && !creating && !SameValues(values, current):
		return nil, []string{fmt.Sprintf("names the %s and can't be changed", kind.Singular)}, nil
	}
	wanted = make([]string, 0, len(values))
	seen := make(map[string]int, len(values))
	kept := make(map[string]int, len(current)) // values that are no text may look the same
	for _, value := range current {
		kept[value]++
	}
	for _, value := range values {
		if kept[value] == 0 {
			if message := f.wrong(value); message != "" {
				wrong = append(wrong, message)
				continue
			}
			if f.Type == Reference {
				entry, err := c.next.Resolve(ctx, value)
				if f.Backlink && (Is(err, NotFound) || err == nil && entry.Kind.Name != KindGroups) {
					wrong = append(wrong, noGroup(value).Message)
					continue
				}
				if Is(err, NotFound) {
					wrong = append(wrong, fmt.Sprintf("refers to %s, which is no user, group or host", quote(value)))
					continue
				}
				if err != nil {
					return nil, nil, err
				}
				if value = entry.DN(); value == self {
					wrong = append(wrong, itself)
					continue
				}
			}
		}
		seen[value]++
		if f.Backlink && seen[value] > 1 && kept[value] > 0 {
			continue // an addition, repeated
		}
		if seen[value] > max(kept[value], 1) {
			wrong = append(wrong, fmt.Sprintf("holds %s more than once", quote(value)))
			continue
		}
		wanted = append(wanted, value)
	}
	return wanted, wrong, nil
}

// wrong returns what is wrong with a value by itself, or "".
func (f *Field) wrong(value string) string {
	switch {
	case !utf8.ValidString(value):
		return "must be UTF-8"
	case utf8.RuneCountInString(value) > f.MaxLength:
		return fmt.Sprintf("must have at most %d characters", f.MaxLength)
	case f.Type == Boolean && value != True && value != False:
		return "must be true or false"
	case f.Type == Integer && !IsInteger(value):
		return "must be a whole number"
	case f.Type != Text && f.Type != Integer:
		return ""
	case f.Syntax != nil:
		return f.Syntax(value)
	case f.Type == Integer:
		return ""
	}
	return textSyntax(value)
}

// quote shows a value that the caller sent, cut to a readable length.
func quote(value string) string {
	const most = 80
	if runes := []rune(value); len(runes) > most {
		value = string(runes[:most]) + "…"
	}
	return `"` + strings.ToValidUTF8(value, "\uFFFD") + `"`
}

// SameValues reports whether two lists hold the same values, in whatever order.
func SameValues(a, b []string) bool {
	if len(a) != len(b) {
		return false
	}
	if slices.Equal(a, b) {
		return true
	}
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
