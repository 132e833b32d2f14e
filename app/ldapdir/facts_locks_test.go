package ldapdir_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

const (
	forGood = "000001010000Z"
	// Errors in the response control of draft-behera-ldap-password-policy §6.2.
	accountLocked, insufficientQuality, tooShort, inHistory = 1, 5, 6, 8
)

// bindAs binds on a connection of its own, and returns the error in the policy control, -1 where there is none.
func bindAs(t *testing.T, server *slapd.Server, code uint16, dn, password string) (policyError int8) {
	t.Helper()
	conn, err := ldap.DialURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := plain{Conn: conn, t: t}
	l.wanted(code, l.Bind(dn, password), "bind as "+dn+" with "+password)
	result, err := l.SimpleBind(ldap.NewSimpleBindRequest(dn, password, []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}))
	if words := l.wanted(code, err, "bind with policy control as "+dn+" with "+password); words != "" {
		t.Errorf("the server says %q", words)
	}
	policy, ok := ldap.FindControl(result.Controls, ldap.ControlTypeBeheraPasswordPolicy).(*ldap.ControlBeheraPasswordPolicy)
	if !ok {
		t.Fatalf("no policy control in %v", result.Controls)
	}
	return policy.Error
}

const none = int8(-1)

func wantReason(t *testing.T, got, want int8) {
	t.Helper()
	if got != want {
		t.Errorf("the policy control says %d, want %d", got, want)
	}
}

func TestFactsOfLocks(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	const right = "the right password"
	// each fact has a person of its own
	person := func(t *testing.T, attributes ...string) (plain, string) {
		l, dn := on(t, server), userDN(strings.ToLower(fmt.Sprintf("%.64s", t.Name()[strings.Index(t.Name(), "/")+1:])))
		l.add(0, dn, append([]string{"sn", "x", "userPassword", right}, attributes...)...)
		return l, dn
	}
	lock, lockAgain, unlock := replacing("pwdAccountLockedTime", forGood), replacing("pwdAccountLockedTime", forGood), deleting("pwdAccountLockedTime")

	t.Run("pwdAccountLockedTime 000001010000Z locks for good", func(t *testing.T) {
		l, dn := person(t)
		wantReason(t, bindAs(t, server, 0, dn, right), none)
		l.modify(0, dn, lock)
		wantReason(t, bindAs(t, server, 49, dn, right), accountLocked)
		l.has(dn, "pwdAccountLockedTime", forGood)
	})
	t.Run("a bind to a locked account is 49 with the wrong password too, and only the policy control says why", func(t *testing.T) {
		l, dn := person(t)
		wantReason(t, bindAs(t, server, 49, dn, "wrong"), none)
		l.modify(0, dn, lock)
		wantReason(t, bindAs(t, server, 49, dn, "wrong"), accountLocked)
		wantReason(t, bindAs(t, server, 49, dn, right), accountLocked)
	})
	t.Run("any password change ends a lock, one in the Modify that locks again too", func(t *testing.T) {
		l, dn := person(t)
		for i, changes := range [][]ldap.Change{
			{},
			{lockAgain},
		} {
			l.modify(0, dn, lock)
			l.modify(0, dn, append([]ldap.Change{replacing("userPassword", fmt.Sprint("password after ", i))}, changes...)...)
			l.has(dn, "pwdAccountLockedTime")
			l.modify(0, dn, lock)
			l.modify(0, dn, append(slices.Clone(changes), replacing("userPassword", fmt.Sprint("password before ", i)))...)
			l.has(dn, "pwdAccountLockedTime")
			wantReason(t, bindAs(t, server, 0, dn, fmt.Sprint("password before ", i)), none)
		}
	})
	t.Run("a first lock survives the password change in its own Modify", func(t *testing.T) {
		l, dn := person(t)
		l.modify(0, dn, lock, replacing("userPassword", "another password"))
		l.has(dn, "pwdAccountLockedTime", forGood)
		l.modify(0, dn, lockAgain, unlock)
		l.modify(0, dn, replacing("userPassword", "a third password"), lock)
		l.has(dn, "pwdAccountLockedTime", forGood)
	})
	t.Run("a pwdEndTime in the past locks and survives password changes", func(t *testing.T) {
		l, dn := person(t)
		l.modify(0, dn, lock, replacing("pwdEndTime", "19700101000007Z"))
		l.modify(0, dn, replacing("userPassword", "another password"))
		l.has(dn, "pwdAccountLockedTime")
		l.has(dn, "pwdEndTime", "19700101000007Z")
		wantReason(t, bindAs(t, server, 49, dn, "another password"), accountLocked)
		l.modify(0, dn, deleting("pwdEndTime"))
		wantReason(t, bindAs(t, server, 0, dn, "another password"), none)
	})
	t.Run("an end in the past and a start in the future lock, in whatever form, and a lock that begins in the future does not", func(t *testing.T) {
		l, dn := person(t)
		for _, form := range []string{"1231235959Z", "12312359Z", "123123Z", "1231235959.5Z", "1231235959,5Z", "1231235959+0100", "12312359.5-05"} {
			for _, c := range []struct {
				attribute, year string
				code            uint16
			}{
				{"pwdEndTime", "1999", 49}, {"pwdEndTime", "2099", 0},
				{"pwdStartTime", "1999", 0}, {"pwdStartTime", "2099", 49},
				{"pwdAccountLockedTime", "1999", 0}, {"pwdAccountLockedTime", "2099", 0},
			} {
				l.modify(0, dn, lockAgain, unlock, replacing(c.attribute, c.year+form))
				bindAs(t, server, c.code, dn, right)
				l.modify(0, dn, replacing(c.attribute))
			}
		}
	})
	t.Run("a pwdEndTime is kept as it was written, fraction included", func(t *testing.T) {
		l, dn := person(t)
		for _, end := range []string{
			"19700101000007.1209912312359591Z", "19700101000007.1209912310000001Z", "19700101000007.1000000000000001Z", "19700101000007.100Z",
			"19700101000007.2" + strings.Repeat("504357", 20) + "1Z",
		} {
			l.modify(0, dn, replacing("pwdEndTime", end))
			l.has(dn, "pwdEndTime", end)
			wantReason(t, bindAs(t, server, 49, dn, right), accountLocked)
		}
		// Others may write an end without seconds, with a comma or with an offset: nothing is made of it.
		for _, end := range []string{"209912312359Z", "2099123123Z", "20991231235959.5Z", "20991231235959,5Z", "20991231235959+0100", "209912312359.5-05"} {
			l.modify(0, dn, replacing("pwdEndTime", end))
			l.has(dn, "pwdEndTime", end)
		}
		l.modify(21, dn, replacing("pwdEndTime", "2099"))
	})
	t.Run("replace and delete of the lock in one Modify unlock, locked or not, and clear the failures", func(t *testing.T) {
		l, dn := person(t)
		for _, before := range [][]ldap.Change{nil, {lock}} {
			bindAs(t, server, 49, dn, "wrong")
			if len(l.values(dn, "pwdFailureTime")) == 0 {
				t.Error("a failed login left no trace")
			}
			if before != nil {
				l.modify(0, dn, before...)
			}
			l.modify(0, dn, lockAgain, unlock)
			l.has(dn, "pwdAccountLockedTime")
			l.has(dn, "pwdFailureTime")
			wantReason(t, bindAs(t, server, 0, dn, right), none)
		}
	})
	t.Run("and so they do with a password in the same Modify", func(t *testing.T) {
		l, dn := person(t)
		for i := range 2 {
			if i == 1 {
				l.modify(0, dn, lock)
			}
			password := fmt.Sprint("the next password ", i)
			bindAs(t, server, 49, dn, "wrong")
			l.modify(0, dn, replacing("userPassword", password), lockAgain, unlock)
			l.has(dn, "pwdAccountLockedTime")
			l.has(dn, "pwdFailureTime")
			wantReason(t, bindAs(t, server, 0, dn, password), none)
		}
	})
	t.Run("delete of an absent lock is 16, and replacing it by nothing, absent or not, leaves the failures", func(t *testing.T) {
		l, dn := person(t)
		bindAs(t, server, 49, dn, "wrong")
		failures := l.values(dn, "pwdFailureTime")
		l.modify(16, dn, unlock)
		l.modify(0, dn, replacing("pwdAccountLockedTime"))
		l.has(dn, "pwdFailureTime", failures...)
		l.modify(0, dn, lock)
		l.modify(0, dn, replacing("pwdAccountLockedTime"))
		l.has(dn, "pwdAccountLockedTime")
		l.has(dn, "pwdFailureTime", failures...)
	})
	t.Run("pwdFailureTime can't be written", func(t *testing.T) {
		l, dn := person(t)
		bindAs(t, server, 49, dn, "wrong")
		for _, change := range []ldap.Change{deleting("pwdFailureTime"), replacing("pwdFailureTime"), replacing("pwdFailureTime", "20260101000000Z")} {
			if words := l.modify(19, dn, change); words != "pwdFailureTime: no user modification allowed" {
				t.Errorf("the server says %q", words)
			}
		}
	})
	t.Run("a failed login and the next good one write to the entry, another good one does not", func(t *testing.T) {
		l, dn := person(t)
		for _, c := range []struct {
			password string
			code     uint16
			writes   bool
		}{{right, 0, false}, {"wrong", 49, true}, {"wrong", 49, true}, {right, 0, true}, {right, 0, false}} {
			before := l.read(dn, "entryCSN", "sn", "pwdFailureTime")
			conn, err := ldap.DialURL(server.URL())
			if err != nil {
				t.Fatal(err)
			}
			l.wanted(c.code, conn.Bind(dn, c.password), "bind with "+c.password)
			_ = conn.Close()
			after := l.read(dn, "entryCSN", "sn", "pwdFailureTime")
			if changed := before.GetAttributeValue("entryCSN") != after.GetAttributeValue("entryCSN"); changed != c.writes {
				t.Errorf("%s: entryCSN changes: %t", c.password, changed)
			}
		}
	})
	t.Run("an Add may carry both locks", func(t *testing.T) {
		l, dn := person(t, "pwdAccountLockedTime", forGood, "pwdEndTime", "19700101000007Z")
		l.has(dn, "pwdAccountLockedTime", forGood)
		l.has(dn, "pwdEndTime", "19700101000007Z")
		wantReason(t, bindAs(t, server, 49, dn, right), accountLocked)
		l.modify(0, dn, lockAgain, unlock, deleting("pwdEndTime"))
		wantReason(t, bindAs(t, server, 0, dn, right), none)
	})
}

func TestFactsOfLockouts(t *testing.T) {
	base, err := openldap.Base(openldap.Values{ServicePasswordHash: "${SERVICE_PASSWORD_HASH}"})
	if err != nil {
		t.Fatal(err)
	}
	base = strings.NewReplacer("pwdMaxFailure: 10", "pwdMaxFailure: 2", "pwdLockoutDuration: 900", "pwdLockoutDuration: 1").Replace(base)
	server := ldapdirtest.Start(t, slapd.Options{Base: base})
	l, alice := on(t, server), userDN("alice")
	l.add(0, alice, "sn", "x", "userPassword", "alice-password")
	t.Run("the attribute of a temporary lock stays when its time is over, until a login succeeds", func(t *testing.T) {
		l := on(t, server)
		bindAs(t, server, 49, alice, "wrong") // twice
		locked := l.values(alice, "pwdAccountLockedTime")
		if len(locked) != 1 || len(locked[0]) != len("20260101000000Z") {
			t.Fatalf("pwdAccountLockedTime is %q", locked)
		}
		eventually(t, "the end of the lock", func() bool {
			conn := on(t, server)
			l.has(alice, "pwdAccountLockedTime", locked...)
			// slapd judges a lock by a coarser clock than it dates it by: for a few
			// milliseconds a lock can begin in the future, be ignored and stay.
			return conn.Bind(alice, "alice-password") == nil && len(l.values(alice, "pwdAccountLockedTime")) == 0
		})
		l.has(alice, "pwdFailureTime")
	})
	t.Run("a password change ends a temporary lock", func(t *testing.T) {
		l := on(t, server)
		bindAs(t, server, 49, alice, "wrong")
		if len(l.values(alice, "pwdAccountLockedTime")) == 0 {
			t.Fatal("not locked")
		}
		l.modify(0, alice, replacing("userPassword", "another password"))
		l.has(alice, "pwdAccountLockedTime")
		wantReason(t, bindAs(t, server, 0, alice, "another password"), none)
	})
}

// refusal returns the error in the policy control of a failed write, -1 where there is no control.
func refusal(t *testing.T, err error) int8 {
	t.Helper()
	answer, ok := errors.AsType[*ldap.Error](err)
	if !ok || len(answer.Packet.Children) < 3 {
		return none
	}
	for _, child := range answer.Packet.Children[2].Children {
		control, err := ldap.DecodeControl(child)
		if err != nil {
			t.Fatal(err)
		}
		if policy, ok := control.(*ldap.ControlBeheraPasswordPolicy); ok {
			return policy.Error
		}
	}
	return none
}

const ssha = "{SSHA}b5glKk2Om2e5mWrxmO3DV+MwhSrM7uWc"

func TestFactsOfPasswords(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	l, alice := on(t, server), userDN("alice")
	l.add(0, alice, "sn", "x", "userPassword", "first password")
	l.modify(0, alice, replacing("userPassword", "second password"))
	asked := ldap.NewControlBeheraPasswordPolicy()
	for _, fact := range []struct {
		name, password string
		reason         int8
	}{
		{"one that is too short", "short", tooShort},
		{"a hash", ssha, insufficientQuality},
		{"an empty one", "", tooShort},
		{"the one before", "first password", inHistory},
		{"the present one", "second password", inHistory},
	} {
		t.Run("the service account, with write, is refused "+fact.name+", and the reason is in the error's packet", func(t *testing.T) {
			request := &ldap.ModifyRequest{DN: alice, Changes: []ldap.Change{replacing("userPassword", fact.password)}, Controls: []ldap.Control{asked}}
			result, err := l.ModifyWithResult(request)
			plain{Conn: l.Conn, t: t}.wanted(19, err, request)
			wantReason(t, refusal(t, err), fact.reason)
			if len(result.Controls) > 0 {
				t.Errorf("the result has the controls %v", result.Controls)
			}
			wantReason(t, refusal(t, l.Modify(request)), fact.reason)
			request.Controls = nil // who does not ask is not told
			wantReason(t, refusal(t, l.Modify(request)), none)
			if fact.reason == inHistory {
				return
			}
			add := ldap.NewAddRequest(userDN("bob"), []ldap.Control{asked})
			add.Attribute("objectClass", []string{"inetOrgPerson"})
			add.Attribute("sn", []string{"x"})
			add.Attribute("userPassword", []string{fact.password})
			err = l.Add(add)
			plain{Conn: l.Conn, t: t}.wanted(19, err, add)
			wantReason(t, refusal(t, err), fact.reason)
		})
	}
	t.Run("two values are refused", func(t *testing.T) {
		on(t, server).modify(19, alice, replacing("userPassword", "one password", "another password"))
	})
	t.Run("a policy control on a write that fails for another reason says nothing", func(t *testing.T) {
		request := &ldap.ModifyRequest{DN: alice, Changes: []ldap.Change{replacing("userPassword", "third password"), replacing("mail", "名")}, Controls: []ldap.Control{asked}}
		err := l.Modify(request)
		l.wanted(21, err, request)
		wantReason(t, refusal(t, err), none)
	})
	t.Run("pwdChangedTime comes with the first change, in whole seconds", func(t *testing.T) {
		l, dn := on(t, server), userDN("changing")
		l.add(0, dn, "sn", "x", "userPassword", "first password")
		l.has(dn, "pwdChangedTime")
		l.modify(0, dn, replacing("userPassword", "second password"))
		if got := l.values(dn, "pwdChangedTime"); len(got) != 1 || len(got[0]) != len("20260101000000Z") {
			t.Errorf("pwdChangedTime is %q", got)
		}
	})
	t.Run("a bind without an entry, or to one without a password, is 49, and a DN that is none 34", func(t *testing.T) {
		l := on(t, server)
		l.add(0, userDN("passwordless"), "sn", "x")
		l.wanted(49, l.Bind(userDN("nobody"), "x"), "bind")
		l.wanted(49, l.Bind(userDN("passwordless"), "x"), "bind")
		l.wanted(49, l.Bind("", "x"), "bind")
		l.wanted(34, l.Bind("alice", "x"), "bind")
	})
	t.Run("go-ldap does not send an empty password, and this slapd refuses it with 53", func(t *testing.T) {
		l, tap := tapped(t, server)
		before := len(tap.bytes)
		l.wanted(ldap.ErrorEmptyPassword, l.Bind(alice, ""), "bind with an empty password")
		if len(tap.bytes) != before {
			t.Error("it was sent")
		}
		l.wanted(53, l.UnauthenticatedBind(alice), "bind with an empty password, sent")
	})
	t.Run("where slapd allows bind_anon_dn, an empty password is a success as nobody", func(t *testing.T) {
		server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string { return "allow bind_anon_dn\n" + conf }})
		l := on(t, server)
		l.wanted(0, l.UnauthenticatedBind(alice), "bind with an empty password, sent")
		if who, err := l.WhoAmI(nil); err != nil || who.AuthzID != "" {
			t.Errorf("now it is %+v, %v", who, err)
		}
	})
}

func TestFactsOfStoredPasswords(t *testing.T) {
	rights := func(level string) func(string) string {
		return func(conf string) string {
			return strings.Replace(conf, "=cw\n\tby self =xw", level+"\n\tby self =xw", 1)
		}
	}
	const hashed = "{ARGON2}$argon2i$"
	t.Run("ppolicy_hash_cleartext hashes what an Add and what a Modify carries", func(t *testing.T) {
		server := ldapdirtest.Start(t, slapd.Options{Config: rights("write")})
		l, alice := on(t, server), userDN("alice")
		l.add(0, alice, "sn", "x", "userPassword", "first password")
		for _, password := range []string{"first password", "second password", "{NOSUCH}third password"} {
			if password != "first password" {
				l.modify(0, alice, replacing("userPassword", password))
			}
			if got := l.values(alice, "userPassword"); len(got) != 1 || !strings.HasPrefix(got[0], hashed) {
				t.Errorf("%q is stored as %q", password, got)
			}
			bindAs(t, server, 0, alice, password)
		}
	})
	t.Run("{CLEARTEXT} slips through pwdCheckQuality 2, stays in clear, and nobody can log in with it", func(t *testing.T) {
		server := ldapdirtest.Start(t, slapd.Options{Config: rights("write")})
		l, alice := on(t, server), userDN("alice")
		l.add(0, alice, "sn", "x")
		l.modify(0, alice, replacing("userPassword", "{CLEARTEXT}a password"))
		l.has(alice, "userPassword", "{CLEARTEXT}a password")
		bindAs(t, server, 49, alice, "a password")
		bindAs(t, server, 49, alice, "{CLEARTEXT}a password")
	})
	t.Run("with pwdCheckQuality 1 a hash is stored as it is", func(t *testing.T) {
		base, err := openldap.Base(openldap.Values{ServicePasswordHash: "${SERVICE_PASSWORD_HASH}"})
		if err != nil {
			t.Fatal(err)
		}
		server := ldapdirtest.Start(t, slapd.Options{Config: rights("write"), Base: strings.Replace(base, "pwdCheckQuality: 2", "pwdCheckQuality: 1", 1)})
		l, alice := on(t, server), userDN("alice")
		l.add(0, alice, "sn", "x", "userPassword", ssha)
		l.has(alice, "userPassword", ssha)
	})
	t.Run("with manage in place of write, quality, history and hashes are not looked at", func(t *testing.T) {
		server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string {
			return strings.Replace(rights("manage")(conf), "\" write\n\tby self read", "\" manage\n\tby self read", 1)
		}})
		l, alice := on(t, server), userDN("alice")
		l.add(0, alice, "sn", "x", "userPassword", "first password")
		for _, password := range []string{"short", "first password", ssha} {
			l.modify(0, alice, replacing("userPassword", password))
		}
		l.has(alice, "userPassword", ssha)
	})
}
