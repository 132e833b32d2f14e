package ldapdir

import (
	"context"
	"errors"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// oidPasswordModify is the extended operation of RFC 3062.
const oidPasswordModify = "1.3.6.1.4.1.4203.1.11.1"

// attrReset tells that a password must be changed, by slapo-ppolicy(5). Every password change ends it, unless it is in
// the same Modify.
const attrReset = "pwdReset"

// ChangePassword implements [directory.Directory]. Users change their own by the extended operation, bound as
// themselves, so that the server's policy holds; the service sets others'.
func (d *Directory) ChangePassword(ctx context.Context, kind *directory.Kind, name string, change directory.PasswordChange) (directory.Entry, error) {
	m := d.of(kind.Name)
	server, err := d.pool.server(ctx)
	if err != nil {
		return directory.Entry{}, d.fault(err, m)
	}
	found, err := d.find(ctx, m, name)
	if err != nil {
		return directory.Entry{}, err
	}
	result := &ldap.ModifyResult{}
	switch {
	case change.MustChange && !server.passwordPolicy:
		return directory.Entry{}, lacks("password policies, which mustChange needs", oidPasswordPolicy)
	case change.Current != "":
		err = d.changeOwnPassword(ctx, m, server, found.DN, change)
	case d.options.HashesPasswords:
		result, err = d.replacePassword(ctx, m, server, found.DN, change)
	default:
		err = d.setPassword(ctx, m, server, found.DN, change)
	}
	if err != nil {
		return directory.Entry{}, err
	}
	return d.updated(ctx, m, found.DN, result)
}

// changeOwnPassword changes a password as the person whose it is.
func (d *Directory) changeOwnPassword(ctx context.Context, m *mapping, server *features, dn string, change directory.PasswordChange) error {
	request, err := passwordModify(server, "", change.Current, change.New)
	if err != nil {
		return err
	}
	c, policy, err := d.bindAs(ctx, dn, change.Current)
	switch {
	case err == nil:
	case !refusesBind(err):
		return d.fault(err, m)
	case policy.Error == passwordExpired:
		return &directory.Error{Code: directory.PasswordExpired, Cause: err}
	default:
		return &directory.Error{Code: directory.Invalid, Cause: err, Violations: []directory.Violation{
			{Field: directory.FieldCurrentPassword, Message: "is not your current password"}}}
	}
	defer d.pool.logins.giveBack(c)
	ctx, cancel := d.pool.limit(ctx)
	defer cancel()
	if plan := directory.PlanFrom(ctx); plan != nil {
		plan.Add(d.passwordRecord(dn), false)
		return nil
	}
	_, err = counted(ctx, c, opExtended, func(l *ldap.Conn) (*ldap.ExtendedResponse, error) { return l.Extended(request) })
	fault := d.passwordFault(err, m, directory.FieldNewPassword)
	if hasCode(err, ldap.LDAPResultInsufficientAccessRights) && directory.Is(fault, directory.Internal) {
		return &directory.Error{Code: directory.Forbidden, Detail: "The directory server does not let you change your password.", Cause: err}
	}
	return fault
}

// replacePassword sets a password by a Modify, which the server hashes.
func (d *Directory) replacePassword(ctx context.Context, m *mapping, server *features, dn string, change directory.PasswordChange) (*ldap.ModifyResult, error) {
	modify := ldap.NewModifyRequest(dn, nil)
	modify.Replace(m.attributeOf(directory.FieldUserPassword).Type, []string{change.New})
	if change.MustChange {
		modify.Replace(attrReset, []string{"TRUE"})
	}
	if server.passwordPolicy {
		modify.Controls = append(modify.Controls, ldap.NewControlBeheraPasswordPolicy())
	}
	if server.postRead {
		modify.Controls = append(modify.Controls, postRead(m.request))
	}
	result, err := d.modify(ctx, modify)
	return result, d.passwordFault(err, m, directory.FieldNewPassword)
}

// setPassword sets a password by the extended operation, which hashes it wherever it is stored.
func (d *Directory) setPassword(ctx context.Context, m *mapping, server *features, dn string, change directory.PasswordChange) error {
	if err := d.modifyPassword(ctx, m, server, dn, change.New, directory.FieldNewPassword); err != nil || !change.MustChange {
		return err
	}
	modify := ldap.NewModifyRequest(dn, nil)
	modify.Replace(attrReset, []string{"TRUE"})
	if _, err := d.modify(ctx, modify); err != nil {
		return &directory.Error{Code: directory.OutcomeUnknown, Cause: err,
			Detail: "The password was set, but it may be that it need not be changed. Repeat the request."}
	}
	return nil
}

// modifyPassword is the extended operation for another than who is bound. A violation is one of the field.
func (d *Directory) modifyPassword(ctx context.Context, m *mapping, server *features, dn, password, field string) error {
	request, err := passwordModify(server, dn, "", password)
	if err != nil {
		return err
	}
	if plan := directory.PlanFrom(ctx); plan != nil {
		plan.Add(d.passwordRecord(dn), false)
		return nil
	}
	err = d.extended(ctx, request)
	return d.passwordFault(err, m, field)
}

// firstPassword gives an entry that was just created its password, or removes the entry again.
func (d *Directory) firstPassword(ctx context.Context, m *mapping, server *features, dn, password string) error {
	refused := d.modifyPassword(ctx, m, server, dn, password, directory.FieldUserPassword)
	if refused == nil {
		return nil
	}
	err := d.remove(directory.AsService(context.WithoutCancel(ctx)), ldap.NewDelRequest(dn, nil))
	if err != nil && !hasCode(err, ldap.LDAPResultNoSuchObject) {
		return &directory.Error{Code: directory.OutcomeUnknown, Cause: refused,
			Detail: "The entry was created, but may be without its password."}
	}
	if directory.Is(refused, directory.OutcomeUnknown) { // it is known now
		return &directory.Error{Code: directory.Unavailable, Cause: refused}
	}
	return refused
}

// passwordModify is the request of RFC 3062 §2 with the controls that the server has a use for. Without a dn it is
// about whoever is bound.
func passwordModify(server *features, dn, old, password string) (*ldap.ExtendedRequest, error) {
	if !server.passwordModify {
		return nil, lacks("the operation that sets a password", oidPasswordModify)
	}
	value := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "PasswdModifyRequestValue")
	for tag, part := range []string{dn, old, password} {
		if part != "" {
			value.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, ber.Tag(tag), part, ""))
		}
	}
	request := ldap.NewExtendedRequest(oidPasswordModify, value)
	if server.passwordPolicy {
		request.Controls = []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}
	}
	return request, nil
}

// passwordFault is writeFault for what sets a password and nothing else. Violations are of the field that it came in.
func (d *Directory) passwordFault(err error, m *mapping, field string) error {
	reason := ""
	if answer, ok := errors.AsType[*ldap.Error](err); ok && answered(err) {
		reason = policyRefusal(answer)
	}
	if reason == "" && hasCode(err, ldap.LDAPResultConstraintViolation) {
		reason = "is refused by the directory server's policy"
	}
	if reason != "" {
		return &directory.Error{Code: directory.PasswordRefused, Cause: err, Violations: []directory.Violation{{Field: field, Message: reason}}}
	}
	fault := d.writeFault(err, m)
	if refused, ok := errors.AsType[*directory.Error](fault); ok {
		for i := range refused.Violations {
			refused.Violations[i].Field = field
		}
	}
	return fault
}
