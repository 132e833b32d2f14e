package ldapdir

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// mustChange is changeAfterReset of draft-behera-ldap-password-policy: the password is good for nothing but a change.
const mustChange = 2

// attrPasswordChanged is when the password changed, by slapo-ppolicy(5).
const attrPasswordChanged = "pwdChangedTime"

// Account implements [directory.Accounts] by one search.
func (d *Directory) Account(ctx context.Context, login string) (directory.Account, error) {
	m := d.of(directory.KindUsers)
	request := m.searchFor(d.options.LoginField, login)
	request.Attributes = append(slices.Clip(request.Attributes), attrPasswordChanged)
	found, err := d.findOne(ctx, m, request, login)
	if err != nil {
		return directory.Account{}, err
	}
	entry := d.decode(m, found)
	return directory.Account{
		DN: found.DN, ID: entry.ID(), Name: entry.Name(), Locked: entry.Locked(),
		PasswordChanged: found.GetEqualFoldAttributeValue(attrPasswordChanged),
	}, nil
}

// Authenticate implements [directory.Accounts] by a bind on a connection of its own.
func (d *Directory) Authenticate(ctx context.Context, dn, password string) error {
	if dn == "" || password == "" { // RFC 4513 §5.1: such a bind succeeds, as nobody
		return &directory.Error{Code: directory.InvalidCredentials}
	}
	c, result, err := borrow(ctx, &d.pool.logins, func(l *ldap.Conn) (*ldap.SimpleBindResult, error) {
		return l.SimpleBind(ldap.NewSimpleBindRequest(dn, password, []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}))
	})
	switch {
	case err == nil:
		d.pool.logins.giveBack(c)
		if policy, ok := ldap.FindControl(result.Controls, ldap.ControlTypeBeheraPasswordPolicy).(*ldap.ControlBeheraPasswordPolicy); ok && policy.Error == mustChange {
			return &directory.Error{Code: directory.InvalidCredentials, Cause: errors.New("the password must be changed first")}
		}
		return nil
	case hasCode(err, ldap.LDAPResultInvalidCredentials), hasCode(err, ldap.LDAPResultInappropriateAuthentication),
		hasCode(err, ldap.LDAPResultNoSuchObject), hasCode(err, ldap.LDAPResultConstraintViolation):
		return &directory.Error{Code: directory.InvalidCredentials, Cause: err}
	}
	return d.fault(err, nil)
}

// IsMember implements [directory.Accounts] by one search, so that the server compares the DNs.
func (d *Directory) IsMember(ctx context.Context, groupDN, memberDN string) (bool, error) {
	m := d.of(directory.KindGroups)
	filter := fmt.Sprintf("(%s=%s)", m.attributeOf(directory.FieldMembers).Type, ldap.EscapeFilter(memberDN))
	result, err := d.search(ctx, m.search(groupDN, ldap.ScopeBaseObject, filter, []string{"1.1"}))
	if hasCode(err, ldap.LDAPResultNoSuchObject) {
		return false, nil
	}
	if err != nil {
		return false, d.fault(err, m)
	}
	return len(result.Entries) == 1, nil
}
