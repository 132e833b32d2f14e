package ldapdir

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// Update implements [directory.Directory] by a search and one Modify, asserted and with post-read where the
// server can do that.
func (d *Directory) Update(ctx context.Context, kind *directory.Kind, name string, condition directory.Condition, change directory.Change) (directory.Entry, error) {
	m := d.of(kind.Name)
	server, err := d.pool.server(ctx)
	if err != nil {
		return directory.Entry{}, d.fault(err, m)
	}
	if condition.OneOf != nil && !server.assertion {
		return directory.Entry{}, lacks("assertions, which If-Match needs", oidAssertion)
	}
	keepClasses, byValue := false, true
	for attempt := range maxAttempts {
		found, err := d.find(ctx, m, name)
		if err != nil {
			return directory.Entry{}, err
		}
		current := d.decode(m, found)
		if err := condition.Check(current); err != nil {
			return directory.Entry{}, err
		}
		patch, err := change(current)
		if err != nil {
			return directory.Entry{}, err
		}
		modify, err := d.modification(m, server, found, current, patch, byValue)
		if err != nil {
			return directory.Entry{}, err
		}
		if len(modify.Changes) == 0 {
			return current, nil
		}
		removesClass := m.changeClasses(modify, found, keepClasses)
		if err := m.control(modify, server, current, patch); err != nil {
			return directory.Entry{}, err
		}
		result, err := d.modify(ctx, modify)
		switch {
		case err == nil:
			return d.updated(ctx, m, found.DN, result)
		case hasCode(err, ldap.LDAPResultNoSuchObject):
			return directory.Entry{}, notFound(kind.Name + "/" + name)
		case removesClass && hasCode(err, ldap.LDAPResultObjectClassViolation):
			keepClasses = true // attributes that no field names need it
			continue
		case byValue && hasCode(err, ldap.LDAPResultInappropriateMatching):
			byValue = false // a list's attribute has no equality rule
			continue
		case !hasCode(err, ldap.LDAPResultAssertionFailed) && !hasCode(err, ldap.LDAPResultNoSuchAttribute):
			return directory.Entry{}, d.taken(ctx, m, found.DN, patch, d.writeFault(err, m))
		}
		if !backoff(ctx, attempt) {
			return directory.Entry{}, &directory.Error{Code: directory.Timeout, Cause: context.Cause(ctx)}
		}
	}
	return directory.Entry{}, &directory.Error{Code: directory.Busy}
}

// control adds the controls that the server has a use for.
func (m *mapping) control(modify *ldap.ModifyRequest, server *features, current directory.Entry, patch directory.Patch) error {
	if server.assertion && current.Version.CSN != "" {
		assertion, err := unchanged(modify.DN, current.Version.CSN)
		if err != nil {
			return &directory.Error{Code: directory.Internal, Cause: err}
		}
		modify.Controls = append(modify.Controls, assertion)
	}
	if server.postRead {
		modify.Controls = append(modify.Controls, postRead(m.request))
	}
	if server.passwordPolicy && len(patch.Set[directory.FieldUserPassword]) > 0 {
		modify.Controls = append(modify.Controls, ldap.NewControlBeheraPasswordPolicy())
	}
	return nil
}

// updated returns the entry as the server says it is after a change.
func (d *Directory) updated(ctx context.Context, m *mapping, dn string, result *ldap.ModifyResult) (directory.Entry, error) {
	found, err := postReadEntry(result.Controls)
	if err == nil && found == nil {
		found, err = d.findOne(ctx, m, m.search(dn, ldap.ScopeBaseObject, m.Filter, m.request), dn)
	}
	if err != nil {
		return directory.Entry{}, &directory.Error{Code: directory.OutcomeUnknown, Detail: "The entry was changed but could not be read.", Cause: err}
	}
	return d.decode(m, found), nil
}

// modification returns the request that makes a patch true, without changes where it is true already. Unless byValue
// is set, it replaces lists as a whole, but for references.
func (d *Directory) modification(m *mapping, server *features, found *ldap.Entry, current directory.Entry, patch directory.Patch, byValue bool) (*ldap.ModifyRequest, error) {
	modify := ldap.NewModifyRequest(found.DN, nil)
	for i := range m.Kind.Fields {
		field := &m.Kind.Fields[i]
		wanted, sent := patch.Set[field.Name]
		if !sent || field.Backlink {
			continue
		}
		attribute, raw := m.fields[i].Type, found.GetEqualFoldAttributeValues(m.fields[i].Type)
		switch {
		case field.Name == directory.FieldAccountLocked:
			if err := changeLock(modify, server, found, current, wanted); err != nil {
				return nil, err
			}
		case field.WriteOnly:
			if err := d.mayStorePassword(); err != nil {
				return nil, err
			}
			modify.Replace(attribute, wanted)
		case field.List && directory.SameValues(wanted, current.At(i)):
		case field.List && field.Type == directory.Reference:
			m.changeReferences(modify, attribute, raw, wanted)
		case field.List:
			changeList(modify, attribute, raw, storedFrom(field.Type, wanted, raw), byValue)
		case !slices.Equal(wanted, current.At(i)):
			at := m.shown(found, i, raw)
			if len(raw) > 0 && m.inName(found.DN, i, raw[at]) {
				return nil, &directory.Error{Code: directory.Invalid, Violations: []directory.Violation{
					{Field: field.Name, Message: "names the entry in the directory and can't be changed"}}}
			}
			modify.Replace(attribute, replaceShown(raw, at, storedAll(field.Type, wanted)))
		}
	}
	return modify, nil
}

// changeLock locks or unlocks where that changes anything.
func changeLock(modify *ldap.ModifyRequest, server *features, found *ldap.Entry, current directory.Entry, wanted []string) error {
	want, date := slices.Equal(wanted, []string{directory.True}), outside(found, time.Now())
	switch {
	case want && !lockedByUs(found): // also where it is locked for a while, by failed logins
		if !server.passwordPolicy {
			return lacks("password policies, which locks need", oidPasswordPolicy)
		}
		lock(modify, found)
	case !want && date != "":
		return &directory.Error{Code: directory.Invalid, Violations: []directory.Violation{
			{Field: directory.FieldAccountLocked, Message: "can't be false: the account is not valid at this time (" + date + ")"}}}
	case !want && current.Locked():
		unlock(modify, found)
	}
	return nil
}

// changeReferences adds and removes single values, so that a long list is not sent again. The placeholder stands
// in while there is no other value.
func (m *mapping) changeReferences(modify *ldap.ModifyRequest, attribute string, raw, wanted []string) {
	if len(wanted) == 0 && m.Placeholder != "" {
		wanted = []string{m.Placeholder}
	}
	gone, came := without(raw, wanted, asItIs), without(wanted, raw, asItIs)
	if len(gone) > 0 && len(came) > 0 { // some may be the same, spelled differently
		gone, came = without(gone, came, foldedDN), without(came, gone, foldedDN)
	}
	if len(came) > 0 {
		modify.Add(attribute, came)
	}
	if len(gone) > 0 {
		modify.Delete(attribute, gone)
	}
}

// changeList deletes and adds single values where that leaves them in the wanted order, and else replaces the list.
func changeList(modify *ldap.ModifyRequest, attribute string, raw, wanted []string, byValue bool) {
	var gone []string
	kept := 0
	for _, value := range raw {
		if kept < len(wanted) && wanted[kept] == value {
			kept++
		} else {
			gone = append(gone, value)
		}
	}
	came := wanted[kept:] // the server puts them at the end
	moved := len(without(came, gone, asItIs)) < len(came)
	if !byValue || moved {
		modify.Replace(attribute, wanted)
		return
	}
	if len(gone) > 0 {
		modify.Delete(attribute, gone)
	}
	if len(came) > 0 {
		modify.Add(attribute, came)
	}
}

// changeClasses adds the auxiliary class of an attribute that gets its first value and, unless keep is set, removes
// the class whose last attribute loses its last. It reports whether it removed one.
func (m *mapping) changeClasses(modify *ldap.ModifyRequest, found *ldap.Entry, keep bool) bool {
	classes := found.GetEqualFoldAttributeValues(attrObjectClass)
	come, gone, used := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, attribute := range m.fields {
		class := strings.ToLower(attribute.ObjectClass)
		before := len(found.GetEqualFoldAttributeValues(attribute.Type))
		after := left(modify, attribute.Type, before)
		come[class] = come[class] || before == 0 && after > 0
		gone[class] = gone[class] || before > 0 && after == 0
		used[class] = used[class] || after > 0
	}
	removed := false
	for _, attribute := range m.fields {
		class := strings.ToLower(attribute.ObjectClass)
		switch present := containsFold(classes, class); {
		case class == "":
		case come[class] && !present:
			modify.Add(attrObjectClass, []string{attribute.ObjectClass})
		case gone[class] && !used[class] && present && !keep && !containsFold(m.ObjectClasses, class):
			modify.Delete(attrObjectClass, []string{attribute.ObjectClass})
			removed = true
		}
		come[class], gone[class] = false, false
	}
	return removed
}

// left returns how many values of an attribute a request leaves of those there are.
func left(modify *ldap.ModifyRequest, attribute string, count int) int {
	for _, change := range modify.Changes {
		if !strings.EqualFold(change.Modification.Type, attribute) {
			continue
		}
		switch n := len(change.Modification.Vals); {
		case change.Operation == ldap.AddAttribute:
			count += n
		case change.Operation == ldap.DeleteAttribute && n > 0:
			count -= n
		default:
			count = n
		}
	}
	return count
}
