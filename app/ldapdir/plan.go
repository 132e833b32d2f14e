package ldapdir

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// OpenLDAP's No-Op control, and the result that an operation ends with which would have been carried out.
const (
	oidNoOp           = "1.3.6.1.4.1.4203.666.5.2"
	resultNoOperation = 0x410e
)

// planned notes a change in a dry run's plan. Where the server can be asked what it thinks of it, by an operation that
// does not happen, it is.
func (d *Directory) planned(ctx context.Context, plan *directory.Plan, record directory.Record, controls *[]ldap.Control, send func() error) error {
	ask := d.options.NoOp && !plan.Moved()
	if ask {
		var err error
		if ask, err = d.inUse(ctx, typesOf(record)); err != nil {
			return err
		}
	}
	if ask {
		*controls = append(slices.Clip(*controls), control{oid: oidNoOp, criticality: true})
		err := send()
		if err == nil {
			return &directory.Error{Code: directory.Internal, Cause: errors.New("the server carried a dry run out: it has no No-Op control; set ldap.no_op to false")}
		}
		if !hasCode(err, resultNoOperation) {
			return err
		}
	}
	plan.Add(record, ask)
	return nil
}

// inUse reports whether some entry has each of these attribute types. slapd 2.5 must not be asked by No-Op about one
// that it has never stored: it would think from then on that it has, and the first entry that really gets it could not
// be read again (back-mdb takes back what it noted on disk, but not what it noted in memory).
func (d *Directory) inUse(ctx context.Context, types []string) (bool, error) {
	for _, t := range types {
		if _, known := d.stored.Load(strings.ToLower(t)); known {
			continue
		}
		request := ldap.NewSearchRequest(d.options.BaseDN, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 1, 0, false, "("+t+"=*)", []string{"1.1"}, nil)
		result, err := d.search(directory.WithPlan(directory.AsService(ctx), nil), request)
		switch {
		case hasCode(err, ldap.LDAPResultSizeLimitExceeded):
		case err != nil:
			return false, d.fault(err, nil)
		case len(result.Entries) == 0:
			return false, nil
		}
		d.stored.Store(strings.ToLower(t), true)
	}
	return true, nil
}

// typesOf returns the attribute types that a change stores. In the place of a password, which can't be looked for,
// stands what slapo-ppolicy(5) stores with it.
func typesOf(record directory.Record) []string {
	var types []string
	note := func(a directory.Attribute) {
		switch {
		case !a.Secret:
			types = append(types, a.Type)
		case record.Change == directory.ChangeAdd:
			types = append(types, "pwdChangedTime", attrReset)
		default:
			types = append(types, "pwdChangedTime", attrReset, "pwdHistory")
		}
	}
	for _, attribute := range record.Attributes {
		note(attribute)
	}
	for _, modification := range record.Modifications {
		note(modification.Attribute)
	}
	return types
}

func (d *Directory) addRecord(request *ldap.AddRequest) directory.Record {
	record := directory.Record{DN: request.DN, Change: directory.ChangeAdd}
	for _, attribute := range request.Attributes {
		record.Attributes = append(record.Attributes, d.attribute(attribute.Type, attribute.Vals))
	}
	return record
}

func (d *Directory) modifyRecord(request *ldap.ModifyRequest) directory.Record {
	record := directory.Record{DN: request.DN, Change: directory.ChangeModify}
	for _, change := range request.Changes {
		record.Modifications = append(record.Modifications, directory.Modification{
			Operation: map[uint]string{ldap.AddAttribute: "add", ldap.DeleteAttribute: "delete", ldap.ReplaceAttribute: "replace"}[change.Operation],
			Attribute: d.attribute(change.Modification.Type, change.Modification.Vals),
		})
	}
	return record
}

// attribute returns an attribute for a plan, a password without its values.
func (d *Directory) attribute(name string, values []string) directory.Attribute {
	for _, m := range d.mappings {
		for i, field := range m.Kind.Fields {
			if field.WriteOnly && strings.EqualFold(m.fields[i].Type, name) && len(values) > 0 {
				return directory.Attribute{Type: name, Secret: true}
			}
		}
	}
	return directory.Attribute{Type: name, Values: values}
}

// passwordRecord is the change that the extended operation of RFC 3062 makes.
func (d *Directory) passwordRecord(dn string) directory.Record {
	return directory.Record{DN: dn, Change: directory.ChangeModify, Modifications: []directory.Modification{{Operation: "replace",
		Attribute: directory.Attribute{Type: d.of(directory.KindUsers).attributeOf(directory.FieldUserPassword).Type, Secret: true}}}}
}

// planUnlinking notes that references to an entry go with it, ahead of it: servers that see to that themselves find it
// done then.
func (d *Directory) planUnlinking(ctx context.Context, dn string) error {
	ctx = directory.AsService(ctx)
	found, err := d.referring(ctx, dn)
	if err != nil {
		return err
	}
	return d.unlink(ctx, found, dn)
}

// planRemoval is removeValue where nothing is tried: what the entry holds tells whether the placeholder has to come in.
func (d *Directory) planRemoval(ctx context.Context, m *mapping, dn, attribute, value string) error {
	result, err := d.search(ctx, ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{attribute}, nil))
	if err != nil || len(result.Entries) == 0 {
		return err
	}
	values := result.Entries[0].GetEqualFoldAttributeValues(attribute)
	at := slices.IndexFunc(values, func(v string) bool { return SameDN(v, value) })
	if at < 0 {
		return nil
	}
	remove := ldap.NewModifyRequest(dn, nil)
	if members, ok := m.Kind.Field(directory.FieldMembers); ok && len(values) == 1 && m.Placeholder != "" && attribute == m.attributeOf(members.Name).Type {
		remove.Add(attribute, []string{m.Placeholder})
	}
	remove.Delete(attribute, []string{values[at]})
	_, err = d.modify(ctx, remove)
	return err
}
