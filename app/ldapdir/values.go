package ldapdir

import (
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// AddValue implements [directory.Directory]. Without a condition it is a Modify that needs no reading before; after it, a
// member is looked for. The first member of a group takes the placeholder's place.
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
	ofGroup := field == directory.FieldMembers
	notEmpty := true
	if ofGroup && m.Placeholder != "" {
		swap := ldap.NewModifyRequest(dn, itsKind)
		swap.Delete(attribute.Type, []string{m.Placeholder})
		swap.Add(attribute.Type, []string{value})
		_, err = d.modify(ctx, swap)
		notEmpty = hasCode(err, ldap.LDAPResultNoSuchAttribute)
	}
	if notEmpty {
		add := ldap.NewModifyRequest(dn, itsKind)
		add.Add(attribute.Type, []string{value})
		_, err = d.modify(ctx, add)
	}
	if err == nil && ofGroup {
		return d.keepMember(ctx, kind, name, value)
	}
	if hasCode(err, ldap.LDAPResultAttributeOrValueExists) {
		err = nil
		if ofGroup {
			err = d.mendMemberOf(ctx, dn, attribute.Type, value, true)
		}
	}
	return d.valueFault(err, m, name)
}

// keepMember takes a member that was just added out of a group again, and says so, where its entry has another name
// since, or none: the server looks for a member before it writes, and who renames it may have looked for its groups in
// between.
func (d *Directory) keepMember(ctx context.Context, groups *directory.Kind, name, member string) error {
	there, err := d.exists(ctx, member)
	if err != nil || there {
		return nil //nolint:nilerr // the value was added, and that is what was asked for
	}
	err = d.RemoveValue(directory.AsService(ctx), groups, name, directory.FieldMembers, member, directory.Condition{})
	if err != nil && !directory.Is(err, directory.NotFound) { // not even the group is there
		return &directory.Error{Code: directory.OutcomeUnknown, Detail: "The member was added, but has no entry of that name any more.", Cause: err}
	}
	return &directory.Error{Code: directory.Invalid, Violations: []directory.Violation{
		{Field: directory.FieldMembers, Message: "refers to " + member + ", which is no user, group or host any more"}}}
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
	held, err := d.removeValue(ctx, m, dn, attribute.Type, value, itsKind)
	if err == nil && !held && field == directory.FieldMembers {
		err = d.mendMemberOf(ctx, dn, attribute.Type, value, false)
	}
	return d.valueFault(err, m, name)
}

// mendMemberOf has the server set a member's memberOf anew where it is not what it should be. slapo-memberof(5) writes
// it after the group and by itself: a server that is killed in between is left with one that is wrong.
func (d *Directory) mendMemberOf(ctx context.Context, group, attribute, member string, in bool) error {
	ctx = directory.AsService(ctx)
	at, err := ldap.ParseDN(member)
	if err != nil {
		return nil //nolint:nilerr // then nothing is a member of anything by it
	}
	known, err := d.schemaOf(ctx)
	if err != nil {
		return err
	}
	for _, m := range d.mappings {
		f, ok := m.Kind.Field(directory.FieldMemberOfs)
		if !ok || !m.container.AncestorOfFold(at) {
			continue
		}
		memberOf := m.attributeOf(f.Name).Type
		if _, maintained := known.of(memberOf); !maintained {
			continue
		}
		result, err := d.search(ctx, m.search(member, ldap.ScopeBaseObject, m.Filter, []string{memberOf}))
		if hasCode(err, ldap.LDAPResultNoSuchObject) || err == nil && len(result.Entries) == 0 {
			return nil
		}
		if err != nil {
			return d.fault(err, m)
		}
		shown := slices.ContainsFunc(result.Entries[0].GetEqualFoldAttributeValues(memberOf), func(dn string) bool { return SameDN(dn, group) })
		if shown == in {
			return nil
		}
		again := ldap.NewModifyRequest(group, nil)
		if in {
			again.Delete(attribute, []string{member})
			again.Add(attribute, []string{member})
		} else {
			again.Add(attribute, []string{member})
			again.Delete(attribute, []string{member})
		}
		switch _, err = d.modify(ctx, again); {
		case hasCode(err, ldap.LDAPResultNoSuchAttribute), hasCode(err, ldap.LDAPResultAttributeOrValueExists),
			hasCode(err, ldap.LDAPResultConstraintViolation): // the group, or the member, has changed meanwhile
			return nil
		}
		return d.writeFault(err, m)
	}
	return nil
}

// removeValue takes one value out of an entry's attribute, and reports whether it was there. Where it is the last
// one that the object class allows to go, the placeholder comes in its place.
func (d *Directory) removeValue(ctx context.Context, m *mapping, dn, attribute, value string, controls []ldap.Control) (held bool, err error) {
	if directory.PlanFrom(ctx) != nil {
		return true, d.planRemoval(ctx, m, dn, attribute, value)
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
			return false, nil
		case !hasCode(err, ldap.LDAPResultAttributeOrValueExists): // 20: the placeholder has come meanwhile
			return true, err
		}
		if !backoff(ctx, attempt) {
			break
		}
	}
	return false, &directory.Error{Code: directory.Busy}
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
		if there, err := d.exists(ctx, dn); err != nil || there {
			return false, err
		}
	}
	return true, d.unlink(ctx, found, dn)
}

// exists reports whether there is an entry with a DN, whoever may see it.
func (d *Directory) exists(ctx context.Context, dn string) (bool, error) {
	_, err := d.search(directory.AsService(ctx), ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{"1.1"}, nil))
	if hasCode(err, ldap.LDAPResultNoSuchObject) {
		return false, nil
	}
	return err == nil, d.fault(err, nil)
}

// claim has nobody else here make or rename an entry to a DN until it is released: whose references are whose could not
// be told otherwise.
func (d *Directory) claim(ctx context.Context, dn string) (release func(), err error) {
	target := foldedDN(dn)
	for attempt := 0; ; attempt++ {
		if _, taken := d.claimed.LoadOrStore(target, true); !taken {
			return func() { d.claimed.Delete(target) }, nil
		}
		if !backoff(ctx, attempt) {
			return nil, &directory.Error{Code: directory.Timeout, Cause: context.Cause(ctx)}
		}
	}
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
	for _, l := range d.links(referring) {
		if _, err := d.removeValue(ctx, l.mapping, l.dn, l.attribute, dn, nil); err != nil && !hasCode(err, ldap.LDAPResultNoSuchObject) {
			return d.writeFault(err, l.mapping)
		}
	}
	return nil
}

// link is a place where an entry may refer to another.
type link struct {
	*mapping
	dn, attribute string
}

// links returns the places where entries that refer to another may do so.
func (d *Directory) links(referring []*ldap.Entry) []link {
	var links []link
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
				links = append(links, link{m, found.DN, t})
			}
		}
	}
	return links
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
