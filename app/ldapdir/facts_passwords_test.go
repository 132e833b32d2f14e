package ldapdir_test

import (
	"errors"
	"strings"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

const oidPasswordModify = "1.3.6.1.4.1.4203.1.11.1" // RFC 3062

// Errors in the response control of draft-behera-ldap-password-policy §6.2.
const passwordExpired, changeAfterReset, notAllowed, tooYoung = 0, 2, 3, 7

// policies returns the first entries with more of them: password policies by name, each with its attributes.
func policies(t *testing.T, more map[string]string) string {
	t.Helper()
	base, err := openldap.Base(openldap.Values{ServicePasswordHash: "${SERVICE_PASSWORD_HASH}", Argon2: openldap.CheapArgon2})
	if err != nil {
		t.Fatal(err)
	}
	for name, attributes := range more {
		base += "\ndn: " + policyDN(name) + "\nobjectClass: organizationalRole\nobjectClass: pwdPolicy\ncn: " + name +
			"\npwdAttribute: userPassword\npwdCheckQuality: 2\n" + attributes + "\n"
	}
	return base
}

func policyDN(name string) string { return "cn=" + name + ",ou=policies," + ldapdirtest.Base }

// bound binds as somebody, and returns the connection and the policy control.
func bound(t *testing.T, server *slapd.Server, dn, password string) (plain, *ldap.ControlBeheraPasswordPolicy) {
	t.Helper()
	l := on(t, server)
	result, err := l.SimpleBind(ldap.NewSimpleBindRequest(dn, password, []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}))
	l.wanted(0, err, "bind as "+dn+" with "+password)
	return l, ldap.FindControl(result.Controls, ldap.ControlTypeBeheraPasswordPolicy).(*ldap.ControlBeheraPasswordPolicy)
}

// modifyPassword is the operation of RFC 3062 with a policy control. It returns the policy's error.
func (l plain) modifyPassword(code uint16, dn, old, password string) int8 {
	l.t.Helper()
	value := ber.NewSequence("PasswdModifyRequestValue")
	for tag, part := range []string{dn, old, password} {
		if part != "" {
			value.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, ber.Tag(tag), part, ""))
		}
	}
	request := ldap.NewExtendedRequest(oidPasswordModify, value)
	request.Controls = []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}
	_, err := l.Extended(request)
	l.wanted(code, err, "password modify of "+dn+" from "+old+" to "+password)
	if err == nil {
		return none
	}
	return refusal(l.t, err)
}

func TestFactsOfExpiredPasswords(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{Base: policies(t, map[string]string{
		"strict": "pwdLockout: TRUE\npwdMaxAge: 1", "lenient": "pwdLockout: TRUE\npwdMaxAge: 1\npwdGraceAuthNLimit: 2", "warning": "pwdMaxAge: 2000\npwdExpireWarning: 3000",
	})})
	person := func(name string) string {
		dn := userDN(name)
		on(t, server).add(0, dn, "sn", "x", "userPassword", "right password", "pwdPolicySubentry", policyDN(name))
		return dn
	}
	strict, lenient, warning := person("strict"), person("lenient"), person("warning")
	expired := func(dn string) func() bool {
		return func() bool {
			conn := on(t, server)
			_, policy := bound(t, server, dn, "right password")
			_ = conn.Close()
			return policy.Grace >= 0
		}
	}
	t.Run("one that will expire comes with a warning", func(t *testing.T) {
		_, policy := bound(t, server, warning, "right password")
		if policy.Expire <= 0 || policy.Expire > 2000 || policy.Grace != -1 || policy.Error != -1 {
			t.Errorf("the policy control is %v", policy)
		}
	})
	t.Run("one that has expired is good for the grace logins, which are counted down to 0", func(t *testing.T) {
		eventually(t, "its end", expired(lenient)) // that was the first
		_, policy := bound(t, server, lenient, "right password")
		if policy.Grace != 0 || policy.Expire != -1 || policy.Error != -1 {
			t.Errorf("the policy control is %v", policy)
		}
	})
	t.Run("after them, the policy control says that it has expired, and only where it is right", func(t *testing.T) {
		for _, dn := range []string{lenient, strict} {
			wantReason(t, bindAs(t, server, 49, dn, "wrong"), none)
			wantReason(t, bindAs(t, server, 49, dn, "right password"), passwordExpired)
			wantReason(t, bindAs(t, server, 49, dn, "wrong"), none)
			on(t, server).modify(0, dn, replacing("pwdAccountLockedTime", forGood))
			wantReason(t, bindAs(t, server, 49, dn, "right password"), accountLocked)
		}
	})
}

func TestFactsOfPasswordModify(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{Base: policies(t, map[string]string{
		"young": "pwdMinAge: 1000", "theirs": "pwdAllowUserChange: FALSE", "safe": "pwdSafeModify: TRUE", "lax": "pwdMustChange: FALSE",
	})})
	service := on(t, server)
	person := func(t *testing.T, name string, attributes ...string) string {
		service := plain{Conn: service.Conn, t: t}
		service.add(0, userDN(name), append([]string{"sn", "x", "userPassword", "first password"}, attributes...)...)
		return userDN(name)
	}
	t.Run("the root DSE lists it", func(t *testing.T) {
		if listed := service.values("", "supportedExtension"); !strings.Contains(strings.Join(listed, " "), oidPasswordModify) {
			t.Errorf("not in %q", listed)
		}
	})
	t.Run("the policy's reason is in the error's packet, as with a Modify", func(t *testing.T) {
		alice := person(t, "alice")
		l, _ := bound(t, server, alice, "first password")
		l.t = t
		wantReason(t, l.modifyPassword(19, "", "first password", "short"), tooShort)
		wantReason(t, l.modifyPassword(0, "", "first password", "second password"), none)
		wantReason(t, l.modifyPassword(19, "", "second password", "first password"), inHistory)
		young, _ := bound(t, server, person(t, "young", "pwdPolicySubentry", policyDN("young")), "first password")
		wantReason(t, young.modifyPassword(19, "", "first password", "second password"), tooYoung)
		theirs, _ := bound(t, server, person(t, "theirs", "pwdPolicySubentry", policyDN("theirs")), "first password")
		wantReason(t, theirs.modifyPassword(50, "", "first password", "second password"), notAllowed)
		safe, _ := bound(t, server, person(t, "safe", "pwdPolicySubentry", policyDN("safe")), "first password")
		wantReason(t, safe.modifyPassword(0, "", "first password", "second password"), none)
	})
	t.Run("a wrong old password is 53, and another's password 50", func(t *testing.T) {
		l, _ := bound(t, server, person(t, "wrong"), "first password")
		l.modifyPassword(53, "", "wrong", "second password")
		l.modifyPassword(50, person(t, "another"), "", "second password")
	})
	t.Run("the service sets another's without the old one, and the policy holds", func(t *testing.T) {
		dn, service := person(t, "set"), plain{Conn: service.Conn, t: t}
		wantReason(t, service.modifyPassword(19, dn, "", "short"), tooShort)
		wantReason(t, service.modifyPassword(19, dn, "", ssha), insufficientQuality)
		wantReason(t, service.modifyPassword(0, dn, "", "second password"), none)
		wantReason(t, bindAs(t, server, 0, dn, "second password"), none)
		service.modifyPassword(32, userDN("nobody"), "", "second password")
	})
	t.Run("where the policy has no pwdLockout, pwdAccountLockedTime does not lock, but pwdEndTime does", func(t *testing.T) {
		dn := person(t, "unlocked", "pwdPolicySubentry", policyDN("lax"))
		on(t, server).modify(0, dn, replacing("pwdAccountLockedTime", forGood))
		wantReason(t, bindAs(t, server, 0, dn, "first password"), none)
		on(t, server).modify(0, dn, replacing("pwdEndTime", "19700101000007Z"))
		wantReason(t, bindAs(t, server, 49, dn, "first password"), accountLocked)
	})
	t.Run("pwdReset goes with any password change but one in its own Modify", func(t *testing.T) {
		dn, service := person(t, "reset"), plain{Conn: service.Conn, t: t}
		reset := func(password string) {
			service.modify(0, dn, replacing("userPassword", password), replacing("pwdReset", "TRUE"))
			wantReason(t, bindAs(t, server, 0, dn, password), changeAfterReset)
		}
		reset("second password")
		service.modify(0, dn, replacing("userPassword", "third password"))
		service.has(dn, "pwdReset")
		reset("fourth password")
		service.modifyPassword(0, dn, "", "fifth password")
		service.has(dn, "pwdReset")
		reset("sixth password")
		l, _ := bound(t, server, dn, "sixth password")
		l.modifyPassword(0, "", "sixth password", "seventh password")
		wantReason(t, bindAs(t, server, 0, dn, "seventh password"), none)
	})
	t.Run("without pwdMustChange in the policy, pwdReset means nothing", func(t *testing.T) {
		dn := person(t, "lax", "pwdPolicySubentry", policyDN("lax"))
		on(t, server).modify(0, dn, replacing("userPassword", "second password"), replacing("pwdReset", "TRUE"))
		wantReason(t, bindAs(t, server, 0, dn, "second password"), none)
	})
	t.Run("with a password that must be changed, nothing else is allowed but another bind", func(t *testing.T) {
		dn := person(t, "must")
		on(t, server).modify(0, dn, replacing("userPassword", "second password"), replacing("pwdReset", "TRUE"))
		l, _ := bound(t, server, dn, "second password")
		own := ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", nil, nil)
		_, err := l.Search(own)
		l.wanted(50, err, own)
		l.wanted(0, l.Bind(server.ServiceDN(), server.ServicePassword()), "bind as the service")
		_, err = l.Search(own)
		l.wanted(0, err, own)
	})
}

func TestFactsOfTheDecoy(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	l, alice, decoy := on(t, server), userDN("alice"), openldap.DecoyDN(ldapdirtest.Base)
	l.add(0, alice, "sn", "x", "userPassword", "alice-password")
	l.add(0, userDN("passwordless"), "sn", "x")
	l.modify(0, alice, replacing("pwdEndTime", "20991231235959Z"))
	compare := func(dn string) uint16 {
		_, err := l.Compare(dn, "userPassword", "-")
		if answer, ok := errors.AsType[*ldap.Error](err); ok {
			return answer.ResultCode
		}
		return 0
	}
	t.Run("it is refused as a user is, failures are recorded, and nothing locks it", func(t *testing.T) {
		for range 12 {
			wantReason(t, bindAs(t, server, 49, decoy, "wrong"), none)
		}
		l.has(decoy, "pwdAccountLockedTime")
		if failures := l.values(decoy, "pwdFailureTime"); len(failures) != 10 {
			t.Errorf("pwdFailureTime is %q", failures)
		}
	})
	t.Run("a bind to an entry without a password leaves no failure: the server did nothing", func(t *testing.T) {
		wantReason(t, bindAs(t, server, 49, userDN("passwordless"), "wrong"), none)
		l.has(userDN("passwordless"), "pwdFailureTime")
	})
	t.Run("to compare tells the service account whether there is a password, of users only", func(t *testing.T) {
		for dn, code := range map[string]uint16{alice: 0, userDN("passwordless"): 16, userDN("nobody"): 32, decoy: 50} {
			if got := compare(dn); got != code {
				t.Errorf("compare %s: got %d, want %d", dn, got, code)
			}
		}
	})
}
