package ldapdir

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// attrPasswordChanged is when the password changed, by slapo-ppolicy(5).
const attrPasswordChanged = "pwdChangedTime"

// Account implements [directory.Accounts] by one search.
func (d *Directory) Account(ctx context.Context, field, value string) (directory.Account, error) {
	m := d.of(directory.KindUsers)
	request := m.searchFor(field, value)
	request.Attributes = append(slices.Clip(request.Attributes), attrPasswordChanged)
	found, err := d.findOne(directory.AsService(ctx), m, request, value)
	if err != nil {
		return directory.Account{}, err
	}
	entry := d.decode(m, found)
	return directory.Account{
		DN: found.DN, ID: entry.ID(), Name: entry.Name(), Locked: entry.Locked(),
		PasswordChanged: found.GetEqualFoldAttributeValue(attrPasswordChanged),
	}, nil
}

// Authenticate implements [directory.Accounts] by a bind on a connection of its own. Where the server refuses without
// trying the password, the decoy is bound too.
func (d *Directory) Authenticate(ctx context.Context, dn, password string) (directory.PasswordState, error) {
	none, refused := directory.PasswordState{}, &directory.Error{Code: directory.InvalidCredentials}
	if password == "" { // RFC 4513 §5.1: such a bind succeeds, as nobody
		return none, refused
	}
	ctx, cancel := d.pool.limit(ctx)
	defer cancel()
	nobody := dn == ""
	if nobody {
		dn = d.options.Decoy
	}
	lacking, err := d.lacksPassword(ctx, dn) // asked of everybody
	if err != nil {
		return none, err
	}
	if nobody || lacking {
		if err := d.bindDecoy(ctx, password); err != nil {
			return none, err
		}
		return none, refused
	}
	c, policy, err := d.bindAs(ctx, dn, password)
	switch {
	case err == nil:
		d.pool.logins.giveBack(c)
		return passwordState(policy), nil
	case !refusesBind(err):
		return none, d.fault(err, nil)
	case policy.Error == passwordExpired:
		return none, &directory.Error{Code: directory.PasswordExpired, Cause: err}
	}
	refused.Cause = err
	if policy.Error == accountLocked {
		if err := d.bindDecoy(ctx, password); err != nil {
			return none, err
		}
	}
	return none, refused
}

// Errors in the response control of draft-behera-ldap-password-policy §6.2. slapd reports the first only where the
// password is right.
const (
	passwordExpired  = 0
	accountLocked    = 1
	changeAfterReset = 2
)

// bindAs binds on a connection of the lane of logins, and returns what the password policy says. Unless there is an
// error, the caller gives the connection back.
func (d *Directory) bindAs(ctx context.Context, dn, password string) (*conn, *ldap.ControlBeheraPasswordPolicy, error) {
	c, result, err := borrow(ctx, &d.pool.logins, opBind, func(l *ldap.Conn) (*ldap.SimpleBindResult, error) {
		return l.SimpleBind(ldap.NewSimpleBindRequest(dn, password, []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}))
	})
	if result != nil {
		policy, ok := ldap.FindControl(result.Controls, ldap.ControlTypeBeheraPasswordPolicy).(*ldap.ControlBeheraPasswordPolicy)
		if ok {
			return c, policy, err
		}
	}
	return c, ldap.NewControlBeheraPasswordPolicy(), err
}

// refusesBind reports whether a bind was refused, and not the server at fault.
func refusesBind(err error) bool {
	return slices.ContainsFunc([]uint16{
		ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultNoSuchObject,
		ldap.LDAPResultConstraintViolation, ldap.LDAPResultInsufficientAccessRights, ldap.LDAPResultUnwillingToPerform,
	}, func(code uint16) bool { return hasCode(err, code) })
}

// passwordState is what the policy says of a right password. Its warnings are -1 where there is none.
func passwordState(policy *ldap.ControlBeheraPasswordPolicy) directory.PasswordState {
	return directory.PasswordState{
		MustChange: policy.Error == changeAfterReset,
		Expired:    policy.Grace >= 0, GraceLogins: int(max(policy.Grace, 0)),
		ExpiresIn: time.Duration(max(policy.Expire, 0)) * time.Second,
	}
}

// bindDecoy tries a password on the decoy, where there is one. Its error is that the server did not answer.
func (d *Directory) bindDecoy(ctx context.Context, password string) error {
	if d.options.Decoy == "" {
		return nil
	}
	c, _, err := d.bindAs(ctx, d.options.Decoy, password)
	if err == nil {
		d.pool.logins.giveBack(c)
	}
	if !answered(err) {
		return d.fault(err, nil)
	}
	return nil
}

// lacksPassword reports whether the server says that an entry has no password, or is gone. slapd refuses a bind as
// such an entry at once, and does not say why. Its error is that the server did not answer.
func (d *Directory) lacksPassword(ctx context.Context, dn string) (bool, error) {
	if d.options.Decoy == "" {
		return false, nil
	}
	attribute := d.of(directory.KindUsers).attributeOf(directory.FieldUserPassword).Type
	_, err := read(ctx, d.pool, opCompare, func(l *ldap.Conn) (bool, error) { return l.Compare(dn, attribute, "-") })
	if !answered(err) {
		return false, d.fault(err, nil)
	}
	return hasCode(err, ldap.LDAPResultNoSuchAttribute) || hasCode(err, ldap.LDAPResultNoSuchObject), nil
}

// groupsAtOnce bounds how many groups one search asks after.
const groupsAtOnce = 200

// Groups implements [directory.Accounts] by one search for each level of nesting.
func (d *Directory) Groups(ctx context.Context, dn string) ([]string, error) {
	m := d.of(directory.KindGroups)
	member := m.attributeOf(directory.FieldMembers).Type
	var groups []string
	seen := map[string]bool{}
	for level := []string{dn}; len(level) > 0; {
		var above []string
		for chunk := range slices.Chunk(level, groupsAtOnce) {
			var filter strings.Builder
			for _, dn := range chunk {
				filter.WriteString("(" + member + "=" + ldap.EscapeFilter(dn) + ")")
			}
			result, err := d.search(directory.AsService(ctx), m.search(m.Container, m.scope(), "(&"+m.Filter+"(|"+filter.String()+"))", []string{"1.1"}))
			if err != nil {
				return nil, d.fault(err, m)
			}
			for _, found := range result.Entries {
				if !seen[found.DN] {
					seen[found.DN] = true
					above = append(above, found.DN)
				}
			}
		}
		groups, level = append(groups, above...), above
	}
	return groups, nil
}
