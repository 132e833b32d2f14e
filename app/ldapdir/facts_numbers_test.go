package ldapdir_test

import (
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

var numbersDN = openldap.NumbersDN(ldapdirtest.Base)

// incremented increments an attribute of the entry that counts, and returns what post-read says it is then.
func (l plain) incremented(code uint16, dn, attribute, by string) (value string) {
	l.t.Helper()
	request := ldap.NewModifyRequest(dn, []ldap.Control{reading(postRead, true, attribute)})
	request.Increment(attribute, by)
	result, err := l.ModifyWithResult(request)
	l.wanted(code, err, request)
	if code == 0 {
		value = entryOf(l.t, result.Controls, postRead).GetAttributeValue(attribute)
	}
	return value
}

func TestFactsOfNumbers(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	t.Run("the root DSE names Modify-Increment, RFC 4525, among the features", func(t *testing.T) {
		if got := on(t, server).read("", "supportedFeatures").GetAttributeValues("supportedFeatures"); !slices.Contains(got, "1.3.6.1.1.14") {
			t.Errorf("supportedFeatures: %q", got)
		}
	})
	t.Run("an increment with post-read gives each of 32 another number, and leaves no gap", func(t *testing.T) {
		const callers, each = 32, 10
		var mutex sync.Mutex
		var got []int
		var all sync.WaitGroup
		for range callers {
			l := on(t, server)
			all.Go(func() {
				for range each {
					n, err := strconv.Atoi(l.incremented(0, numbersDN, "uidNumber", "1"))
					if err != nil {
						t.Error(err)
					}
					mutex.Lock()
					got = append(got, n)
					mutex.Unlock()
				}
			})
		}
		all.Wait()
		slices.Sort(got)
		for i, n := range got {
			if n != i+1 {
				t.Fatalf("number %d is %d", i, n)
			}
		}
		on(t, server).has(numbersDN, "uidNumber", strconv.Itoa(callers*each))
	})
	t.Run("of an attribute without a value it is 16, of an entry that is not there 32", func(t *testing.T) {
		l := on(t, server)
		l.modify(0, numbersDN, deleting("uidNumber"))
		l.incremented(16, numbersDN, "uidNumber", "1")
		l.incremented(32, "cn=nothing,ou=services,"+ldapdirtest.Base, "uidNumber", "1")
	})
	t.Run("a value that has changed can't be exchanged: 16", func(t *testing.T) {
		l := on(t, server)
		from := l.values(numbersDN, "gidNumber")[0]
		l.modify(0, numbersDN, deleting("gidNumber", from), adding("gidNumber", "10000"))
		l.modify(16, numbersDN, deleting("gidNumber", from), adding("gidNumber", "10001"))
		l.has(numbersDN, "gidNumber", "10000")
	})
	t.Run("an assertion holds the counter at its end: 122", func(t *testing.T) {
		l := on(t, server)
		l.modify(0, numbersDN, replacing("gidNumber", "10000"))
		held := assertion(t, "(!(gidNumber>=10001))")
		for _, code := range []uint16{0, 122} {
			request := ldap.NewModifyRequest(numbersDN, []ldap.Control{held})
			request.Increment("gidNumber", "1")
			l.wanted(code, l.Modify(request), request)
		}
		l.has(numbersDN, "gidNumber", "10001")
	})
	t.Run("the service account changes the numbers of that entry, nothing else of it, and can't delete it", func(t *testing.T) {
		l := on(t, server)
		l.modify(50, numbersDN, replacing("description", "x"))
		l.modify(50, numbersDN, adding("homeDirectory", "/"))
		l.remove(50, numbersDN)
	})
	account := []string{"objectClass", "posixAccount", "sn", "x", "gidNumber", "100", "homeDirectory", "/home/x"}
	t.Run("slapo-unique refuses a uidNumber that another user has: 19, and takes one that a group has as its gidNumber", func(t *testing.T) {
		l := on(t, server)
		l.add(0, userDN("one"), append(account, "uid", "one", "uidNumber", "10001")...)
		l.add(19, userDN("two"), append(account, "uid", "two", "uidNumber", "10001")...)
		l.add(0, groupDN("one"), "objectClass", "posixGroup", "member", placeholder, "gidNumber", "10001")
		l.add(19, groupDN("two"), "objectClass", "posixGroup", "member", placeholder, "gidNumber", "10001")
		l.add(0, userDN("two"), append(account, "uid", "two", "uidNumber", "10002")...)
		l.modify(19, userDN("two"), replacing("uidNumber", "10001"))
	})
	t.Run("of 16 that take the same uidNumber at once one gets it", func(t *testing.T) {
		var callers []plain
		for i := range 16 {
			l, name := on(t, server), "taker"+strconv.Itoa(i)
			l.add(0, userDN(name), append(account, "uid", name, "uidNumber", strconv.Itoa(30000+i))...)
			callers = append(callers, l)
		}
		for round := range 50 {
			number := strconv.Itoa(20000 + round)
			var all sync.WaitGroup
			for i, l := range callers {
				all.Go(func() {
					_ = l.Modify(&ldap.ModifyRequest{DN: userDN("taker" + strconv.Itoa(i)), Changes: []ldap.Change{replacing("uidNumber", number)}})
				})
			}
			all.Wait()
			if got := callers[0].found("(uidNumber=" + number + ")"); len(got) != 1 {
				t.Fatalf("it is %q that have it", got)
			}
		}
	})
	t.Run("uidNumber and gidNumber compare as numbers", func(t *testing.T) {
		l := on(t, server)
		l.add(0, userDN("low"), append(account, "uid", "low", "uidNumber", "9")...)
		if got := l.found("(&(objectClass=posixAccount)(uidNumber<=10))"); !slices.Equal(got, []string{userDN("low")}) {
			t.Errorf("at most 10 are %q", got)
		}
	})
	t.Run("posixAccount demands all of uid, uidNumber, gidNumber and homeDirectory: 65", func(t *testing.T) {
		l := on(t, server)
		l.add(65, userDN("half"), "objectClass", "posixAccount", "sn", "x", "uid", "half", "uidNumber", "40000")
	})
}
