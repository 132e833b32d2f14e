package ldapdir

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// AddValue implements [directory.Directory]. Without a condition it is a Modify that needs no reading, and one
// more that takes the placeholder out.
func (d *Directory) AddValue(ctx context.Context, kind *directory.Kind, name, field, value string, condition directory.Condition) error {
	m := d.of(kind.Name)
	attribute := m.attributeOf(field)
	if condition.Given() || attribute.ObjectClass != "" || directory.PlanFrom(ctx) != nil {
		_, err := d.Update(ctx, kind, name, condition, func(current directory.Entry) (directory.Patch, error) {
			values := current.Values(field)
			if !slices.ContainsFunc(values, same(kind, field, value)) {
				values = append(slices.Clone(values), value)
			}
			return directory.Patch{Set: map[string][]string{field: values}}, nil
		})
		return err
	}
	dn, itsKind, err := d.locate(ctx, m, name)
	if err != nil {
		return err
	}
	add := ldap.NewModifyRequest(dn, itsKind)
	add.Add(attribute.Type, []string{value})
	if _, err := d.modify(ctx, add); err != nil && !hasCode(err, ldap.LDAPResultAttributeOrValueExists) {
		return d.valueFault(err, m, name)
	}
	if m.Placeholder == "" || field != directory.FieldMembers {
		return nil
	}
	// 16: it was not there. 65: the value just added is gone again.
	remove := ldap.NewModifyRequest(dn, nil)
	remove.Delete(attribute.Type, []string{m.Placeholder})
	_, err = d.modify(ctx, remove)
	if hasCode(err, ldap.LDAPResultNoSuchAttribute) || hasCode(err, ldap.LDAPResultObjectClassViolation) {
		return nil
	}
	return d.valueFault(err, m, name)
}

// RemoveValue implements [directory.Directory]. Without a condition it is a Modify that needs no reading.
func (d *Directory) RemoveValue(ctx context.Context, kind *directory.Kind, name, field, value string, condition directory.Condition) error {
	m := d.of(kind.Name)
	attribute := m.attributeOf(field)
	if f, _ := kind.Field(field); f.Type == directory.Reference {
		value = d.dnOf(value)
	}
	if condition.Given() || attribute.ObjectClass != "" || directory.PlanFrom(ctx) != nil {
		_, err := d.Update(ctx, kind, name, condition, func(current directory.Entry) (directory.Patch, error) {
			rest := slices.DeleteFunc(slices.Clone(current.Values(field)), same(kind, field, value))
			return directory.Patch{Set: map[string][]string{field: rest}}, nil
		})
		return err
	}
	dn, itsKind, err := d.locate(ctx, m, name)
	if err != nil {
		return err
	}
	return d.valueFault(d.removeValue(ctx, m, dn, attribute.Type, value, itsKind), m, name)
}

// removeValue takes one value out of an entry's attribute; that it is not there is no error. Where it is the last
// one that the object class allows to go, the placeholder comes in its place.
func (d *Directory) removeValue(ctx context.Context, m *mapping, dn, attribute, value string, controls []ldap.Control) error {
	if directory.PlanFrom(ctx) != nil {
		return d.planRemoval(ctx, m, dn, attribute, value)
	}
	for attempt := range maxAttempts {
		remove := ldap.NewModifyRequest(dn, controls)
		remove.Delete(attribute, []string{value})
		_, err := d.modify(ctx, remove)
		if hasCode(err, ldap.LDAPResultObjectClassViolation) && m.Placeholder != "" {
			remove.Add(attribute, []string{m.Placeholder})
			_, err = d.modify(ctx, remove)
		}
		switch {
		case hasCode(err, ldap.LDAPResultNoSuchAttribute), hasCode(err, ldap.LDAPResultInvalidAttributeSyntax):
			return nil
		case !hasCode(err, ldap.LDAPResultAttributeOrValueExists): // 20: the placeholder has come meanwhile
			return err
		}
		if !backoff(ctx, attempt) {
			break
		}
	}
	return &directory.Error{Code: directory.Busy}
}

// sweep removes every reference to a DN that no entry has, so that a new entry of the name does not inherit. Where
// an entry has it, nothing is removed, and free is false if that was noticed.
func (d *Directory) sweep(ctx context.Context, dn string) (free bool, err error) {
	ctx = directory.AsService(ctx)
	found, err := d.referring(ctx, dn)
	if err != nil {
		return false, err
	}
	if len(found) > 0 {
		_, err := d.search(ctx, ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
			"(objectClass=*)", []string{"1.1"}, nil))
		if !hasCode(err, ldap.LDAPResultNoSuchObject) {
			return false, d.fault(err, nil)
		}
	}
	return true, d.unlink(ctx, found, dn)
}

// referring returns the entries that refer to a DN, with the attributes that do.
func (d *Directory) referring(ctx context.Context, dn string) ([]*ldap.Entry, error) {
	var types []string
	for _, m := range d.mappings {
		for _, t := range m.references {
			if !containsFold(types, t) {
				types = append(types, t)
			}
		}
	}
	var filter strings.Builder
	for _, t := range types {
		filter.WriteString("(" + t + "=" + ldap.EscapeFilter(dn) + ")")
	}
	result, err := d.search(ctx, ldap.NewSearchRequest(d.options.BaseDN, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		"(|"+filter.String()+")", []string{"1.1"}, nil))
	if err != nil {
		return nil, d.fault(err, nil)
	}
	return result.Entries, nil
}

// unlink removes a DN from entries that refer to it.
func (d *Directory) unlink(ctx context.Context, referring []*ldap.Entry, dn string) error {
	for _, found := range referring {
		at, err := ldap.ParseDN(found.DN)
		if err != nil {
			continue
		}
		for _, m := range d.mappings {
			if !m.container.AncestorOfFold(at) {
				continue
			}
			for _, t := range m.references {
				if err := d.removeValue(ctx, m, found.DN, t, dn, nil); err != nil && !hasCode(err, ldap.LDAPResultNoSuchObject) {
					return d.writeFault(err, m)
				}
			}
		}
	}
	return nil
}

// locate returns the DN of the entry with a name. Where the name alone says it, that there is such an entry is left
// to the controls, which make a Modify of anything but the kind's fail with 122.
func (d *Directory) locate(ctx context.Context, m *mapping, name string) (dn string, itsKind []ldap.Control, err error) {
	server, err := d.pool.server(ctx)
	if err != nil {
		return "", nil, d.fault(err, m)
	}
	if m.direct && server.assertion && utf8.ValidString(name) {
		dn = m.dn(name)
		assertion, err := asserted(m.Filter, dn)
		if err != nil {
			return "", nil, &directory.Error{Code: directory.Internal, Cause: err}
		}
		return dn, []ldap.Control{assertion}, nil
	}
	found, err := d.find(ctx, m, name)
	if err != nil {
		return "", nil, err
	}
	return found.DN, nil, nil
}

// dnOf returns the DN that a reference has, also that of an entry which is gone, where the name alone says it.
func (d *Directory) dnOf(reference string) string {
	if m, name, ok := d.named(reference); ok && m.direct {
		return m.dn(name)
	}
	return reference
}

func (d *Directory) valueFault(err error, m *mapping, name string) error {
	if hasCode(err, ldap.LDAPResultNoSuchObject) || hasCode(err, ldap.LDAPResultAssertionFailed) {
		return notFound(m.Kind.Name + "/" + name)
	}
	return d.writeFault(err, m)
}

// same returns a function that reports whether another value of a field is this one.
func same(kind *directory.Kind, field, value string) func(string) bool {
	f, _ := kind.Field(field)
	return func(other string) bool {
		return other == value || f.Type == directory.Reference && SameDN(other, value)
	}
}

func (m *mapping) attributeOf(field string) Attribute {
	place := slices.IndexFunc(m.Kind.Fields, func(f directory.Field) bool { return f.Name == field })
	return m.fields[place]
}
