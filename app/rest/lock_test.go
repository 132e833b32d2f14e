package rest_test

import (
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
)

// lockOut locks alice out for a while, by failed logins.
func lockOut(a *api) {
	a.t.Helper()
	for range 10 { // pwdMaxFailure
		a.as("alice", "wrong").do("GET", "/users/alice", nil).refused(directory.InvalidCredentials)
	}
	a.do("GET", "/users/alice", nil).want(200).field("accountLocked", true)
}

// lockedTime returns alice's pwdAccountLockedTime.
func lockedTime(a *api) string {
	a.t.Helper()
	found, err := ldapdirtest.Bind(a.t, a.slapd).Search(ldap.NewSearchRequest("cn=alice,ou=people,"+ldapdirtest.Base,
		ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"pwdAccountLockedTime"}, nil))
	if err != nil {
		a.t.Fatal(err)
	}
	return found.Entries[0].GetAttributeValue("pwdAccountLockedTime")
}

func TestALockoutStopsARememberedPassword(t *testing.T) {
	a := newAPI(t)
	a.as("alice", "alice-password").do("GET", "/users/alice", nil).want(200) // the password is remembered
	lockOut(a)
	a.as("alice", "alice-password").do("GET", "/users/alice", nil).refused(directory.InvalidCredentials)
	a.do("PATCH", "/users/alice", object{"accountLocked": false}).want(200).field("accountLocked", false)
	a.as("alice", "alice-password").do("GET", "/users/alice", nil).want(200)
}

func TestALockDuringALockoutIsForGood(t *testing.T) {
	a := newAPI(t)
	lockOut(a)
	read := a.do("GET", "/users/alice", nil).want(200)
	before := lockedTime(a)
	a.do("PUT", "/users/alice", read.Body).want(200)
	if after := lockedTime(a); after != before || after == "000001010000Z" {
		t.Errorf("sending back what was read made the lock %s, it was %s", after, before)
	}
	a.do("PATCH", "/users/alice", object{"accountLocked": true}).want(200).field("accountLocked", true)
	if got := lockedTime(a); got != "000001010000Z" {
		t.Errorf("the lock is %s", got)
	}
	a.do("PATCH", "/users/alice", object{"accountLocked": false}).want(200).field("accountLocked", false)
	a.as("alice", "alice-password").do("GET", "/users/alice", nil).want(200)
}

// TestAPasswordIsForgottenWhenItChanges also twice within a second, which is as exact as pwdChangedTime is.
func TestAPasswordIsForgottenWhenItChanges(t *testing.T) {
	a := newAPI(t)
	for _, password := range []string{"the second password", "the third password", "the fourth password"} {
		a.do("PATCH", "/users/alice", object{"userPassword": password}).want(200)
		a.as("alice", password).do("GET", "/users/alice", nil).want(200)
	}
	for _, password := range []string{"alice-password", "the second password", "the third password"} {
		a.as("alice", password).do("GET", "/users/alice", nil).refused(directory.InvalidCredentials)
	}
}

// TestTheLastAdminStaysHoweverSpelled: another program may have written the member's DN in its own way.
func TestTheLastAdminStaysHoweverSpelled(t *testing.T) {
	for _, spelled := range []string{`cn=\20ALICE\20`, "CN=ａｌｉｃｅ"} {
		a := newAPI(t, everybodyIsAdmin)
		a.do("PATCH", "/users/bob", object{"accountLocked": true}).want(200)
		dn := spelled + ",ou=People," + ldapdirtest.Base
		change := ldap.NewModifyRequest(adminGroup, nil)
		change.Replace("member", []string{dn})
		if err := ldapdirtest.Bind(t, a.slapd).Modify(change); err != nil {
			t.Fatal(err)
		}
		for _, way := range waysOut {
			a.do(way.method, way.path, way.body).refused(directory.LastAdmin)
		}
	}
}
