package ldapdir_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// contextCSN returns the CSN of the last write anywhere, as one search over everything shows it that finds its entry by
// the DN.
func (l plain) contextCSN(base string) string {
	l.t.Helper()
	request := ldap.NewSearchRequest(base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		"(|(entryDN="+ldap.EscapeFilter(base)+")(&(uid=nobody)(objectClass=inetOrgPerson)))", []string{"contextCSN", "cn"}, nil)
	result, err := l.Search(request)
	l.wanted(0, err, request)
	if len(result.Entries) != 1 || result.Entries[0].DN != base {
		l.t.Fatalf("%s: %d entries", request.Filter, len(result.Entries))
	}
	return result.Entries[0].GetAttributeValue("contextCSN")
}

func withoutSyncprov(conf string) string {
	return strings.Replace(conf, "\noverlay syncprov\nsyncprov-checkpoint 1000 10\nsyncprov-sessionlog 10000\n", "\n", 1)
}

// restarted starts a server again that has ended.
func restarted(t *testing.T, server *slapd.Server) *slapd.Server {
	t.Helper()
	again, err := server.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Kill() })
	return again
}

func withoutContextCSN(conf string) string {
	return strings.Replace(conf, "access to attrs=pwdHistory by * none", "access to attrs=contextCSN by * none\naccess to attrs=pwdHistory by * none", 1)
}

func TestFactsOfStandings(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	l := on(t, server)
	t.Run("contextCSN is at the suffix and grows with every write, before it is answered", func(t *testing.T) {
		l := on(t, server)
		last := l.contextCSN(ldapdirtest.Base)
		for _, write := range []struct {
			name string
			do   func()
		}{
			{"add a user", func() { l.add(0, userDN("a"), "sn", "x", "uid", "a") }},
			{"add a group", func() { l.add(0, groupDN("g"), "member", userDN("a")) }},
			{"add a group with a group", func() { l.add(0, groupDN("h"), "member", groupDN("g")) }},
			{"add a member", func() { l.modify(0, groupDN("h"), adding("member", userDN("a"))) }},
			{"remove a member", func() { l.modify(0, groupDN("h"), deleting("member", userDN("a"))) }},
			{"rename a group", func() {
				request := ldap.NewModifyDNRequest(groupDN("g"), "cn=g2", true, "")
				l.wanted(0, l.ModifyDN(request), request)
			}},
			{"delete a group in a group", func() { l.remove(0, groupDN("g2")) }},
			{"delete a group", func() { l.remove(0, groupDN("h")) }},
			{"delete a user", func() { l.remove(0, userDN("a")) }},
		} {
			write.do()
			csn := l.contextCSN(ldapdirtest.Base)
			if csn <= last {
				t.Errorf("%s: contextCSN is %q, was %q", write.name, csn, last)
			}
			last = csn
		}
	})
	t.Run("it does not grow with what is only tried, with reads, and with what slapo-memberof does to members", func(t *testing.T) {
		l.add(0, userDN("b"), "sn", "x", "uid", "b")
		l.add(0, groupDN("i"), "member", userDN("b"))
		csn, group := l.contextCSN(ldapdirtest.Base), l.values(groupDN("i"), "entryCSN")[0]
		if csn != group {
			t.Errorf("contextCSN is %s, of the group that was written last %s", csn, group)
		}
		if got := l.values(userDN("b"), "entryCSN")[0]; got >= csn {
			t.Errorf("the member's entryCSN is %s, the group's %s", got, csn)
		}
		l.has(userDN("b"), "memberOf", groupDN("i"))
		l.modify(16, userDN("b"), deleting("title", "x"))
		l.add(68, userDN("b"), "sn", "x")
		if got := l.contextCSN(ldapdirtest.Base); got != csn {
			t.Errorf("contextCSN is %s, was %s", got, csn)
		}
	})
	t.Run("no entry below the suffix shows it", func(t *testing.T) {
		if got := l.contextCSN("ou=people," + ldapdirtest.Base); got != "" {
			t.Errorf("it is %q", got)
		}
	})
	t.Run("who may not read it gets the entry without it", func(t *testing.T) {
		l := on(t, ldapdirtest.Start(t, slapd.Options{Config: withoutContextCSN}))
		if got := l.contextCSN(ldapdirtest.Base); got != "" {
			t.Errorf("it is %q", got)
		}
	})
	t.Run("without slapo-syncprov it stands still where the first entries were loaded", func(t *testing.T) {
		l := on(t, ldapdirtest.Start(t, slapd.Options{Config: withoutSyncprov}))
		before := l.contextCSN(ldapdirtest.Base)
		l.add(0, userDN("a"), "sn", "x", "uid", "a")
		if got := l.contextCSN(ldapdirtest.Base); got != before {
			t.Errorf("it is %q, was %q", got, before)
		}
	})
	t.Run("of a server that was killed it is that of its last checkpoint, and says nothing of a deletion since", func(t *testing.T) {
		server := ldapdirtest.Start(t, slapd.Options{})
		l := on(t, server)
		l.add(0, groupDN("g"), "member", placeholder)
		l.add(0, groupDN("h"), "member", placeholder)
		before := l.contextCSN(ldapdirtest.Base)
		l.remove(0, groupDN("g"))
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		l = on(t, restarted(t, server))
		if got := l.contextCSN(ldapdirtest.Base); got != before {
			t.Errorf("it is %q, was %q", got, before)
		}
		if got := l.found("(cn=g)"); len(got) > 0 {
			t.Errorf("what was deleted is there: %q", got)
		}
	})
	t.Run("a DN in a filter finds its entry, however it is spelled, and no other", func(t *testing.T) {
		for _, dn := range []string{userDN("b"), strings.ToUpper(userDN("b")), "CN = b , OU=people," + ldapdirtest.Base, `cn=\62,ou=people,` + ldapdirtest.Base} {
			if got := l.found("(entryDN=" + ldap.EscapeFilter(dn) + ")"); !slices.Equal(got, []string{userDN("b")}) {
				t.Errorf("%s finds %q", dn, got)
			}
		}
		for _, dn := range []string{userDN("nobody"), "b", "cn=*,ou=people," + ldapdirtest.Base, userDN("b") + "\x00"} {
			if got := l.found("(entryDN=" + ldap.EscapeFilter(dn) + ")"); len(got) > 0 {
				t.Errorf("%q finds %q", dn, got)
			}
		}
	})
	t.Run("what is asked for with a limit is cut there: 4, with what was found", func(t *testing.T) {
		for i := range 3 {
			l.add(0, userDN(fmt.Sprint("many", i)), "sn", "x", "uid", fmt.Sprint("many", i))
		}
		request := ldap.NewSearchRequest(ldapdirtest.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2, 0, false, "(uid=many*)", []string{"uid"}, nil)
		result, err := l.Search(request)
		l.wanted(4, err, request)
		if len(result.Entries) != 2 {
			t.Errorf("there are %d entries", len(result.Entries))
		}
	})
}
