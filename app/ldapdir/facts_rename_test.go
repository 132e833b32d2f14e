package ldapdir_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory/directorytest"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

var (
	refintOverlays  = regexp.MustCompile(`(?m)^overlay refint\n(?:refint_.*\n)+\n`)
	memberofOverlay = regexp.MustCompile(`(?m)^overlay memberof\n(?:memberof-.*\n)+\n`)
)

// referring is a way to configure what a server does about references when an entry is renamed.
type referring struct {
	name             string
	refint, memberof bool
	// dangling and follow are memberof-dangling and memberof-refint.
	dangling, follow string
}

var referrings = []referring{
	{"our own", true, true, "error", "TRUE"},
	{"neither refint nor memberof", false, false, "", ""},
	{"refint only", true, false, "", ""},
	{"memberof that ignores dangling members", false, true, "ignore", "FALSE"},
	{"memberof that refuses dangling members and follows", false, true, "error", "TRUE"},
	{"memberof that refuses dangling members", false, true, "error", "FALSE"},
	{"memberof that drops dangling members", false, true, "drop", "FALSE"},
	{"memberof that ignores dangling members and follows", false, true, "ignore", "TRUE"},
	{"refint, and memberof that ignores dangling members", true, true, "ignore", "FALSE"},
}

// conf changes our own slapd.conf.
func (r referring) conf(conf string) string {
	if !r.refint {
		conf = refintOverlays.ReplaceAllString(conf, "")
	}
	if !r.memberof {
		conf = memberofOverlay.ReplaceAllString(conf, "")
	}
	return strings.NewReplacer("memberof-dangling    error", "memberof-dangling "+r.dangling,
		"memberof-refint      TRUE", "memberof-refint "+r.follow, "\nmaxsize", "\ndbnosync\nmaxsize").Replace(conf)
}

func (l plain) rename(code uint16, dn, rdn string) {
	l.t.Helper()
	request := ldap.NewModifyDNWithControlsRequest(dn, rdn, true, "", l.controls)
	l.wanted(code, l.ModifyDN(request), request)
}

func TestFactsOfRenaming(t *testing.T) {
	old, now, first, h := userDN("old"), userDN("new"), userDN("first"), hostDN("h")
	alone, both, outer, later := groupDN("alone"), groupDN("both"), groupDN("outer"), groupDN("later")
	for i, after := range []struct {
		ahead                     uint16   // the answer to a member that is no entry yet
		alone, both, owner, owned []string // who is there after the renaming, and when the server has had its time
		outer                     []string
	}{
		{19, []string{first, now}, []string{first, now}, []string{first, now}, []string{first, old, now}, []string{later}},
		{0, []string{first, old}, []string{first, old, now}, []string{first, old}, []string{first, old, now}, []string{both}},
		{0, []string{first, now}, []string{first, old, now}, []string{first, now}, []string{first, old, now}, []string{later}},
		{0, []string{first, old}, []string{first, old, now}, []string{first, old}, []string{first, old, now}, []string{both}},
		{19, []string{first, now}, []string{first, now}, []string{first, old}, []string{first, old, now}, []string{later}},
		{19, []string{first, old}, []string{first, old}, []string{first, old}, []string{first, old, now}, []string{both}},
		{0, []string{first, old}, []string{first, old}, []string{first, old}, []string{first, old, now}, []string{both}},
		{0, []string{first, now}, []string{first, now}, []string{first, old}, []string{first, old, now}, []string{later}},
		{0, []string{first, now}, []string{first, old, now}, []string{first, now}, []string{first, old, now}, []string{later}},
	} {
		r := referrings[i]
		t.Run("with "+r.name, func(t *testing.T) {
			l := on(t, ldapdirtest.Start(t, slapd.Options{Config: r.conf}))
			is := func(dn, attribute string, want []string) func() bool {
				return func() bool { return slices.Equal(l.values(dn, attribute), want) }
			}
			memberOf := func(dn string, groups ...string) {
				l.t.Helper()
				if !r.memberof {
					groups = nil
				}
				l.has(dn, "memberOf", groups...)
			}
			l.add(0, old, "sn", "x")
			l.add(0, first, "sn", "x")
			l.add(0, alone, "member", first, "member", old)
			l.add(0, both, "member", first, "member", old)
			l.add(0, outer, "member", both)
			l.add(0, h, "owner", first, "owner", old)
			l.add(0, hostDN("owned"), "owner", first, "owner", old)
			l.modify(after.ahead, both, adding("member", now))
			l.modify(0, hostDN("owned"), adding("owner", now))
			l.rename(0, old, "cn=new")
			memberOf(now, alone, both)
			for _, end := range []struct {
				dn, attribute string
				values        []string
			}{{alone, "member", after.alone}, {both, "member", after.both}, {h, "owner", after.owner}, {hostDN("owned"), "owner", after.owned}} {
				eventually(t, strings.Join(end.values, " "), is(end.dn, end.attribute, end.values))
			}
			if r.refint { // which goes on after it has answered
				time.Sleep(100 * time.Millisecond)
				l.has(both, "member", after.both...)
				l.has(hostDN("owned"), "owner", after.owned...)
			}
			// One Modify puts right what the server did not, and leaves memberOf as it should be.
			if slices.Contains(after.alone, old) {
				l.modify(0, alone, deleting("member", old), adding("member", now))
			} else {
				l.modify(16, alone, deleting("member", old), adding("member", now))
			}
			if slices.Contains(after.both, old) && slices.Contains(after.both, now) {
				l.modify(20, both, deleting("member", old), adding("member", now))
				l.modify(0, both, deleting("member", old))
			}
			l.modify(20, hostDN("owned"), deleting("owner", old), adding("owner", now))
			memberOf(now, alone, both)

			l.rename(0, both, "cn=later")
			memberOf(first, alone, later)
			memberOf(later, outer)
			eventually(t, "the outer group", is(outer, "member", after.outer))
		})
	}

	server := ldapdirtest.Start(t, slapd.Options{})
	t.Run("an assertion holds off a renaming of what has changed, and holds for the entries that follow", func(t *testing.T) {
		l, user, group := on(t, server), userDN("asserted"), groupDN("asserted")
		l.add(0, user, "sn", "x")
		l.add(0, group, "member", user)
		before := l.read(user, "entryCSN")
		l.modify(0, user, replacing("title", "x"))
		l.with(assertion(t, byCSNOrOtherDN(before))).rename(122, user, "cn=asserted too")
		l.with(assertion(t, byCSNOrOtherDN(l.read(user, "entryCSN")))).rename(0, user, "cn=asserted too")
		l.has(group, "member", userDN("asserted too"))
		l.has(userDN("asserted too"), "memberOf", group)
	})
	t.Run("68: a name that is taken, 32: an entry that is gone", func(t *testing.T) {
		l := on(t, server)
		l.add(0, userDN("one"), "sn", "x")
		l.add(0, userDN("two"), "sn", "x")
		l.rename(68, userDN("one"), "cn=TWO")
		l.rename(32, userDN("nobody"), "cn=three")
	})
	t.Run("another case of the name is a renaming, and references are spelled anew", func(t *testing.T) {
		l, group := on(t, server), groupDN("spelled")
		l.add(0, userDN("spelled"), "sn", "x")
		l.add(0, group, "member", userDN("spelled"))
		l.rename(0, userDN("spelled"), "cn=Spelled")
		entry := l.read(userDN("spelled"), "cn", "memberOf")
		if entry.DN != userDN("Spelled") || !slices.Equal(entry.GetAttributeValues("cn"), []string{"Spelled"}) {
			t.Errorf("%s has the cn %q", entry.DN, entry.GetAttributeValues("cn"))
		}
		eventually(t, "the new spelling", func() bool { return slices.Equal(l.values(group, "member"), []string{userDN("Spelled")}) })
		member := func() bool { return slices.Equal(l.values(userDN("spelled"), "memberOf"), []string{group}) }
		eventually(t, "memberOf, which slapo-refint(5) takes away for a moment", member)
		l.rename(0, group, "cn=SPELLED")
		eventually(t, "memberOf of the group in another spelling", member)
	})
	t.Run("the name's values go and come, the others stay", func(t *testing.T) {
		l := on(t, server)
		l.add(0, userDN("b"), "sn", "x", "cn", "a", "cn", "b", "cn", "c")
		l.rename(0, userDN("b"), "cn=d")
		l.has(userDN("d"), "cn", "a", "c", "d")
		l.rename(0, userDN("d"), "cn=a")
		l.has(userDN("a"), "cn", "a", "c")
		parts := "cn=x+uid=y,ou=people," + ldapdirtest.Base
		l.add(0, parts, "sn", "x")
		l.rename(0, parts, "cn=z+uid=y")
		l.has("cn=z+uid=y,ou=people,"+ldapdirtest.Base, "cn", "z")
		l.has("cn=z+uid=y,ou=people,"+ldapdirtest.Base, "uid", "y")
	})
	t.Run("any name is one to rename to", func(t *testing.T) {
		l := on(t, server)
		l.add(0, userDN("any"), "sn", "x")
		dn := userDN("any")
		for _, name := range directorytest.Names {
			l.rename(0, dn, "cn="+ldap.EscapeDN(name))
			dn = userDN(name)
			l.has(dn, "cn", name)
		}
	})
	t.Run("children follow", func(t *testing.T) {
		l := on(t, server)
		l.add(0, userDN("parent"), "sn", "x")
		l.add(0, "cn=child,"+userDN("parent"), "sn", "x")
		l.rename(0, userDN("parent"), "cn=elder")
		l.has("cn=child,"+userDN("elder"), "cn", "child")
	})
	t.Run("122: an assertion about a member that is none", func(t *testing.T) {
		l, group, user := on(t, server), groupDN("about"), userDN("about")
		l.add(0, user, "sn", "x")
		l.add(0, group, "member", placeholder)
		about := assertion(t, "(|(member="+user+")(!(entryDN="+group+")))")
		l.with(about).modify(122, group, adding("member", first))
		l.add(0, first, "sn", "x")
		l.modify(0, group, adding("member", user))
		l.with(about).modify(0, group, adding("member", first))
		l.has(first, "memberOf", group)
	})
}
