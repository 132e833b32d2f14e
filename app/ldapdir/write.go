package ldapdir

import (
	"context"
	"slices"
	"strings"
	"unicode"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// maxAttempts bounds how often an update begins anew because somebody else was faster.
const maxAttempts = 24

// Create implements [directory.Directory]: references to the name that are left over are removed, the entry is
// added and read. A password goes with it only where the server hashes it, and else by an operation of its own.
func (d *Directory) Create(ctx context.Context, kind *directory.Kind, patch directory.Patch) (directory.Entry, error) {
	m := d.of(kind.Name)
	server, err := d.pool.server(ctx)
	if err != nil {
		return directory.Entry{}, d.fault(err, m)
	}
	if !m.direct {
		name := patch.Set[kind.Key][0] // taken also where the caller may not see by whom
		if _, err := d.find(directory.AsService(ctx), m, name); !directory.Is(err, directory.NotFound) {
			if err == nil {
				err = &directory.Error{Code: directory.AlreadyExists}
			}
			return directory.Entry{}, err
		}
	}
	add, err := d.addition(m, server, patch)
	if err != nil {
		return directory.Entry{}, err
	}
	password := strings.Join(patch.Set[directory.FieldUserPassword], "")
	later := password != "" && !d.options.HashesPasswords
	if later && !server.passwordModify {
		return directory.Entry{}, lacks("the operation that sets a password", oidPasswordModify)
	}
	if server.passwordPolicy && password != "" {
		add.Controls = append(add.Controls, ldap.NewControlBeheraPasswordPolicy())
	}
	release, err := d.claim(ctx, add.DN)
	if err != nil {
		return directory.Entry{}, err
	}
	defer release()
	free, err := d.sweep(ctx, add.DN)
	if err == nil && free && directory.PlanFrom(ctx) != nil { // else the server says so
		there, failed := d.exists(ctx, add.DN)
		free, err = !there, failed
	}
	if err == nil && !free {
		err = &directory.Error{Code: directory.AlreadyExists}
	}
	if err != nil {
		return directory.Entry{}, err
	}
	err = d.add(ctx, add)
	if hasCode(err, ldap.LDAPResultOther) && !isASCII(patch.Set[m.Kind.Fields[m.naming].Name][0]) { // back-mdb: the DN, normalized, makes too long a key
		return directory.Entry{}, &directory.Error{Code: directory.Invalid, Cause: err, Violations: []directory.Violation{
			{Field: m.Kind.Fields[m.naming].Name, Message: "is too long for the directory server"}}}
	}
	if err != nil {
		return directory.Entry{}, d.taken(ctx, m, add.DN, patch, d.writeFault(err, m))
	}
	if later {
		if err := d.firstPassword(ctx, m, server, add.DN, password); err != nil {
			return directory.Entry{}, err
		}
	}
	if directory.PlanFrom(ctx) != nil {
		return d.decode(m, added(add)), nil
	}
	found, err := d.findOne(ctx, m, m.search(add.DN, ldap.ScopeBaseObject, m.Filter, m.request), add.DN)
	if directory.Is(err, directory.NotFound) {
		return directory.Entry{}, &directory.Error{Code: directory.Busy, Detail: "The entry was created, and another client deleted it at once."}
	}
	if err != nil {
		return directory.Entry{}, &directory.Error{Code: directory.OutcomeUnknown, Detail: "The entry was created but could not be read.", Cause: err}
	}
	return d.decode(m, found), nil
}

// added returns the entry that a request adds, as far as the request says.
func added(add *ldap.AddRequest) *ldap.Entry {
	entry := &ldap.Entry{DN: add.DN}
	for _, attribute := range add.Attributes {
		entry.Attributes = append(entry.Attributes, ldap.NewEntryAttribute(attribute.Type, attribute.Vals))
	}
	return entry
}

// addition returns the request that adds an entry.
func (d *Directory) addition(m *mapping, server *features, patch directory.Patch) (*ldap.AddRequest, error) {
	named := patch.Set[m.Kind.Fields[m.naming].Name]
	if len(named) != 1 {
		return nil, &directory.Error{Code: directory.Invalid, Violations: []directory.Violation{
			{Field: m.Kind.Fields[m.naming].Name, Message: "names the entry and is required"}}}
	}
	add := ldap.NewAddRequest(m.dn(named[0]), nil)
	classes := slices.Clone(m.ObjectClasses)
	for i := range m.Kind.Fields {
		field, attribute := &m.Kind.Fields[i], m.fields[i]
		values := storedAll(field.Type, patch.Set[field.Name])
		switch {
		case field.Name == directory.FieldAccountLocked:
			if slices.Equal(patch.Set[field.Name], []string{directory.True}) {
				if !server.passwordPolicy {
					return nil, lacks("password policies, which locks need", oidPasswordPolicy)
				}
				add.Attribute(attrLockedTime, []string{lockedForGood})
				add.Attribute(attrEndTime, []string{ourEnd("")})
			}
			continue
		case field.Backlink, field.Name == directory.FieldUserPassword && !d.options.HashesPasswords:
			continue
		case field.Name == directory.FieldMembers && len(values) == 0 && m.Placeholder != "":
			values = []string{m.Placeholder}
		}
		if len(values) == 0 {
			continue
		}
		add.Attribute(attribute.Type, values)
		if attribute.ObjectClass != "" && !containsFold(classes, attribute.ObjectClass) {
			classes = append(classes, attribute.ObjectClass)
		}
	}
	add.Attribute(attrObjectClass, classes)
	return add, nil
}

// Delete implements [directory.Directory]. References go after the entry, so that a stop in between leaves
// nothing that a repetition, or a new entry of the name, does not put right.
func (d *Directory) Delete(ctx context.Context, kind *directory.Kind, name string, condition directory.Condition) error {
	m := d.of(kind.Name)
	server, err := d.pool.server(ctx)
	if err != nil {
		return d.fault(err, m)
	}
	if condition.OneOf != nil && !server.assertion {
		return lacks("assertions, which If-Match needs", oidAssertion)
	}
	for attempt := range maxAttempts {
		found, err := d.find(ctx, m, name)
		if directory.Is(err, directory.NotFound) && m.direct {
			if _, err := d.sweep(ctx, m.dn(name)); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
		current := d.decode(m, found)
		if err := condition.Check(current); err != nil {
			return err
		}
		remove := ldap.NewDelRequest(found.DN, nil)
		if condition.OneOf != nil {
			assertion, err := unchanged(found.DN, current.Version.CSN)
			if err != nil {
				return &directory.Error{Code: directory.Internal, Cause: err}
			}
			remove.Controls = []ldap.Control{assertion}
		}
		if directory.PlanFrom(ctx) != nil {
			if err := d.planUnlinking(ctx, found.DN); err != nil {
				return err
			}
		}
		err = d.remove(ctx, remove)
		switch {
		case err == nil:
			if _, err := d.sweep(ctx, found.DN); err != nil {
				return &directory.Error{Code: directory.OutcomeUnknown, Detail: "The entry was deleted, but references to it may be left. Repeat the request to remove them.", Cause: err}
			}
			if kind.Name == directory.KindHosts && d.options.Tokens != "" && directory.PlanFrom(ctx) == nil {
				_ = d.drop(ctx, d.tokenDN(current.ID())) // one that stays is good for nothing: no other host gets that ID
			}
			return nil
		case !hasCode(err, ldap.LDAPResultAssertionFailed):
			return d.writeFault(err, m)
		}
		if !backoff(ctx, attempt) {
			return &directory.Error{Code: directory.Timeout, Cause: context.Cause(ctx)}
		}
	}
	return &directory.Error{Code: directory.Busy}
}

// taken finds the field whose value another entry has, where that is why the server refused a write: slapo-unique
// names no attribute.
func (d *Directory) taken(ctx context.Context, m *mapping, dn string, patch directory.Patch, fault error) error {
	refused, ok := fault.(*directory.Error) //nolint:errorlint // made here, not wrapped
	if !ok || refused.Code != directory.Invalid || refused.Violations != nil || !hasCode(fault, ldap.LDAPResultConstraintViolation) {
		return fault
	}
	for _, field := range m.Kind.Fields {
		if values := patch.Set[field.Name]; field.Unique && len(values) > 0 {
			result, err := d.search(directory.AsService(ctx), m.searchFor(field.Name, values[0]))
			if err == nil && slices.ContainsFunc(result.Entries, func(e *ldap.Entry) bool { return !SameDN(e.DN, dn) }) {
				refused.Violations = append(refused.Violations, directory.Violation{Field: field.Name, Message: "is taken by another " + m.Kind.Singular})
			}
		}
	}
	return refused
}

func (d *Directory) mayStorePassword() error {
	if d.options.HashesPasswords {
		return nil
	}
	return &directory.Error{Code: directory.UnsupportedByDirectory,
		Detail: "The directory server is not configured as hashing passwords (ldap.hashes_passwords), and they are not stored in clear. " +
			"Set it by PUT /users/{name}/password."}
}

// replaceShown returns the values with the shown one replaced in its place, or left out.
func replaceShown(raw []string, shown int, wanted []string) []string {
	if len(raw) == 0 {
		return wanted
	}
	others := slices.Clone(raw)
	others = slices.Replace(others, shown, shown+1, wanted...)
	seen := make(map[string]bool, len(others))
	return slices.DeleteFunc(others, func(v string) bool {
		again := seen[v]
		seen[v] = true
		return again
	})
}

// storedFrom returns the values as LDAP writes them, the stored form where a value is one that was shown.
func storedFrom(t directory.Type, wanted, raw []string) []string {
	values := make([]string, len(wanted))
	raw = slices.Clone(raw)
	for i, value := range wanted {
		values[i] = stored(t, value)
		if at := slices.IndexFunc(raw, func(r string) bool { return display(t, r) == value }); at >= 0 {
			values[i] = raw[at]
			raw = slices.Delete(raw, at, at+1) // two may look the same
		}
	}
	return values
}

func storedAll(t directory.Type, values []string) []string {
	return storedFrom(t, values, nil)
}

// without returns the values that others does not hold in the form that form gives them.
func without(values, others []string, form func(string) string) []string {
	held := make(map[string]bool, len(others))
	for _, v := range others {
		held[form(v)] = true
	}
	return slices.DeleteFunc(slices.Clone(values), func(v string) bool { return held[form(v)] })
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

func asItIs(value string) string { return value }

func containsFold(values []string, value string) bool {
	return slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, value) })
}
