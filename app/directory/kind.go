package directory

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Type is what a field's values are.
type Type int

// The types of fields.
const (
	Text      Type = iota // a string
	Boolean               // True or False
	Timestamp             // a moment, RFC 3339 in UTC
	Reference             // an entry, as its DN
	Integer               // a whole number, in decimal digits
)

// The values of a Boolean field.
const (
	True  = "true"
	False = "false"
)

// Names of fields that mean more than their value.
const (
	FieldDN            = "dn"
	FieldID            = "id"
	FieldAccountLocked = "accountLocked"
	FieldMemberOfs     = "memberOfs"
	FieldMembers       = "members"
	FieldUserPassword  = "userPassword"
	FieldSSHPublicKeys = "sshPublicKeys"
)

// Names of the fields of a password change.
const (
	FieldCurrentPassword = "currentPassword"
	FieldNewPassword     = "newPassword"
	FieldMustChange      = "mustChange"
)

// Names of the kinds, as they stand in URLs and references.
const (
	KindUsers  = "users"
	KindGroups = "groups"
	KindHosts  = "hosts"
)

// Field is one row of a kind's table.
type Field struct {
	// Name is the field's name in JSON.
	Name string
	Type Type
	// List fields hold any number of values, others at most one.
	List bool
	// Required fields can't be left empty.
	Required bool
	// ReadOnly fields are the directory's to set. One in a request must equal what is there.
	ReadOnly bool
	// WriteOnly fields are never shown.
	WriteOnly bool
	// Kept fields stay as they are when a replacement leaves them out.
	Kept bool
	// Backlink fields hold the entries that refer to this one. What is written to them is written there.
	Backlink bool
	// Naming fields are what people know an entry by, and what a search in words looks at.
	Naming bool
	// Volatile fields change by themselves: whatever a request says of one is ignored.
	Volatile bool
	// Unique fields are given to one entry only; the directory server enforces it.
	Unique bool
	// DefaultsTo names the field whose value this one takes when a creation or replacement leaves it out.
	DefaultsTo string
	// Syntax returns what is wrong with a value, or "". Nil takes any text.
	Syntax func(value string) string
	// MaxLength is the most characters a value may have.
	MaxLength int
	// Given fields get a value of Rollcall's own making where a request leaves them out; see [Numbered].
	Given bool
	// Identity fields say who an account is to other systems. Only admins choose their values.
	Identity bool
	// Description says in a sentence what the field is.
	Description string
	// Example is a value that the field takes.
	Example string
}

// Kind is a sort of entry: users, groups or hosts. A Kind does not change once it is in use.
type Kind struct {
	// Name is the plural, as it stands in URLs; Singular is for messages.
	Name, Singular string
	// Key names the field that {name} in a URL is a value of.
	Key string
	// Fields is the table, in the order in which entries show them.
	Fields []Field

	index map[string]int
}

// Field returns the row of a field and whether there is one.
func (k *Kind) Field(name string) (Field, bool) {
	if i, ok := k.index[name]; ok {
		return k.Fields[i], true
	}
	return Field{}, false
}

// NewKind returns the kind with another key field and with more fields than its table has.
// It fails when a field has no name or a name is taken, or when the key can't serve as one.
func NewKind(base Kind, key string, more ...Field) (*Kind, error) {
	kind := base
	kind.Fields = slices.Concat(base.Fields, more)
	kind.index = make(map[string]int, len(kind.Fields))
	var faults []error
	for i := range kind.Fields {
		f := &kind.Fields[i]
		if _, taken := kind.index[f.Name]; taken || f.Name == "" {
			faults = append(faults, fmt.Errorf("%s: the field name %q is empty or taken", kind.Name, f.Name))
		}
		kind.index[f.Name] = i
		if f.MaxLength == 0 {
			f.MaxLength = defaultMaxLength
		}
	}
	i, ok := kind.index[key]
	f := &kind.Fields[i]
	switch {
	case !ok:
		faults = append(faults, fmt.Errorf("%s: the key %q is no field", kind.Name, key))
	case f.List || f.ReadOnly || f.WriteOnly || f.Type != Text:
		faults = append(faults, fmt.Errorf("%s: the key %q must be a single text that can be read and written", kind.Name, key))
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	kind.Key = key
	f.Required, f.DefaultsTo, f.Unique = true, "", false
	if f.MaxLength == defaultMaxLength {
		f.MaxLength = maxNameLength
	}
	return &kind, nil
}

// Replacement returns the change that a PUT asks for: fields that the patch leaves out are removed, but for
// those that are kept, that can't be written, or that take another's value.
func (k *Kind) Replacement(patch Patch) Change {
	return func(current Entry) (Patch, error) {
		whole := Patch{Set: make(map[string][]string, len(k.Fields)), Faults: patch.Faults}
		for i := range k.Fields {
			f := &k.Fields[i]
			if f.Name == k.Key {
				whole.Set[f.Name] = current.Values(f.Name)
			} else if !f.Kept && !f.ReadOnly && !f.WriteOnly {
				whole.Set[f.Name] = nil
			}
		}
		maps.Copy(whole.Set, patch.Set)
		for name, values := range patch.Set {
			if f, _ := k.Field(name); f.Kept && !f.ReadOnly && slices.Equal(values, current.Values(name)) {
				delete(whole.Set, name) // sent back as it was read
			}
		}
		k.fillDefaults(whole.Set)
		return whole, nil
	}
}

// fillDefaults gives fields that are left out the value of the field they default to.
func (k *Kind) fillDefaults(set map[string][]string) {
	for i := range k.Fields {
		f := &k.Fields[i]
		if f.DefaultsTo != "" && len(set[f.Name]) == 0 && len(set[f.DefaultsTo]) > 0 {
			set[f.Name] = set[f.DefaultsTo]
		}
	}
}
