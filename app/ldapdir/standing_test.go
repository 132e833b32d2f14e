package ldapdir_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// nestable is a directory with the groups a, b and c, none in another, that counts its searches.
type nestable struct {
	*ldapdir.Directory
	plain
	searches atomic.Int64
	watching atomic.Pointer[func(search int64)]
}

// after does something once, when so many searches more have ended.
func (n *nestable) after(searches int64, do func()) {
	last := n.searches.Load() + searches
	watch := func(search int64) {
		if search == last {
			do()
		}
	}
	n.watching.Store(&watch)
}

func newNestable(t *testing.T, config func(string) string, change ...func(*ldapdir.Options)) *nestable {
	t.Helper()
	server := ldapdirtest.Start(t, slapd.Options{Config: config})
	n := &nestable{plain: on(t, server)}
	for _, name := range []string{"a", "b", "c"} {
		n.plain.add(0, groupDN(name), "member", placeholder)
	}
	o := ldapdirtest.Options(server)
	o.Freshness = 24 * time.Hour
	o.Observe = func(_ context.Context, operation, _ string, _ time.Time, _ time.Duration) {
		if operation == "search" {
			search := n.searches.Add(1)
			if watch := n.watching.Load(); watch != nil {
				(*watch)(search)
			}
		}
	}
	for _, f := range change {
		f(&o)
	}
	n.Directory = ldapdirtest.Open(t, o)
	return n
}

// above returns what a group is in, itself included, in order of the names.
func (n *nestable) above(name string) string {
	n.t.Helper()
	nesting, err := n.Nesting(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	reached := nesting.Above(groupDN(name))
	var names []string
	for _, dn := range reached.DNs() {
		names = append(names, nesting.Name(dn))
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

func (n *nestable) isAbove(what, name, want string) {
	n.t.Helper()
	if got := n.above(name); got != want {
		n.t.Errorf("%s: %s is in %q, want %q", what, name, got, want)
	}
}

// isReliedOn demands that with nothing changed the one search that tells so is enough, in the end: on a slow machine what
// was read just after a change is not relied on until the next question.
func (n *nestable) isReliedOn(want string) {
	n.t.Helper()
	eventually(n.t, "one search to be enough", func() bool {
		before := n.searches.Load()
		n.isAbove("unchanged", "a", want)
		return n.searches.Load()-before == 1
	})
}

// otherChanges are changes by plain LDAP, each with where a is then.
var otherChanges = []struct {
	name string
	do   func(l plain)
	want string
}{
	{"added", func(l plain) { l.modify(0, groupDN("b"), adding("member", groupDN("a"))) }, "a b"},
	{"added above", func(l plain) { l.modify(0, groupDN("c"), adding("member", groupDN("b"))) }, "a b c"},
	{"a circle", func(l plain) { l.modify(0, groupDN("a"), adding("member", groupDN("c"))) }, "a b c"},
	{"renamed between", func(l plain) {
		request := ldap.NewModifyDNRequest(groupDN("b"), "cn=bee", true, "")
		l.wanted(0, l.ModifyDN(request), request)
	}, "a bee c"},
	{"removed above", func(l plain) { l.modify(0, groupDN("c"), deleting("member", groupDN("bee"))) }, "a bee"},
	{"deleted between", func(l plain) { l.remove(0, groupDN("bee")) }, "a"},
	{"made with members", func(l plain) { l.add(0, groupDN("b"), "member", groupDN("a")) }, "a b"},
}

func TestGroupsThatOthersNestAreSeenAtOnce(t *testing.T) {
	n := newNestable(t, nil)
	n.isAbove("at first", "a", "a")
	for _, change := range otherChanges {
		change.do(n.plain)
		n.isAbove(change.name, "a", change.want)
	}
	n.isReliedOn("a b")
	n.plain.add(0, userDN("u"), "sn", "x", "uid", "u")
	if before := n.searches.Load(); n.above("a") != "a b" || n.searches.Load()-before != 2 {
		t.Errorf("after any change there are %d searches", n.searches.Load()-before)
	}
}

// TestWhereNoChangeIsShownNestingIsReliedOnForAWhile and not for longer.
func TestWhereNoChangeIsShownNestingIsReliedOnForAWhile(t *testing.T) {
	for name, config := range map[string]func(string) string{"no syncprov": withoutSyncprov, "no right to read it": withoutContextCSN, "a base below the suffix": nil} {
		change := func(o *ldapdir.Options) {
			if name == "a base below the suffix" {
				o.BaseDN = "ou=groups," + ldapdirtest.Base
				for i := range o.Mappings {
					o.Mappings[i].Container = "ou=groups," + ldapdirtest.Base
				}
			}
		}
		t.Run(name, func(t *testing.T) {
			n := newNestable(t, config, change)
			n.isAbove("at first", "a", "a")
			n.isReliedOn("a")
			if err := n.AddValue(t.Context(), ldapdirtest.Groups, "b", directory.FieldMembers, groupDN("a"), directory.Condition{}); err != nil {
				t.Fatal(err)
			}
			n.isAbove("changed here", "a", "a b")
			hasty := newNestable(t, config, change, func(o *ldapdir.Options) { o.Freshness = time.Nanosecond })
			for _, change := range otherChanges {
				change.do(hasty.plain)
				hasty.isAbove(change.name, "a", change.want)
			}
		})
	}
}

// TestWhatChangesWhileTheNestingIsReadIsSeenNext by whoever asks after it: what was read before is not taken for later.
func TestWhatChangesWhileTheNestingIsReadIsSeenNext(t *testing.T) {
	join := func(n *nestable, member, group string) {
		t.Helper()
		if err := n.AddValue(t.Context(), ldapdirtest.Groups, group, directory.FieldMembers, groupDN(member), directory.Condition{}); err != nil {
			t.Error(err)
		}
	}
	oneConnection := func(o *ldapdir.Options) { o.Connections = 1 }
	t.Run("changed here", func(t *testing.T) {
		n := newNestable(t, withoutContextCSN, oneConnection)
		join(n, "c", "b")
		n.after(2, func() { join(n, "a", "b") }) // the groups have been read
		n.isAbove("while it is read", "a", "a")
		n.isAbove("next", "a", "a b")
	})
	t.Run("changed by others", func(t *testing.T) {
		n := newNestable(t, nil, oneConnection)
		join(n, "c", "b")
		next := make(chan string)
		n.after(2, func() {
			n.plain.modify(0, groupDN("b"), adding("member", groupDN("a")))
			waits := make(chan struct{})
			n.after(1, func() { close(waits) })
			go func() { next <- n.above("a") }()
			<-waits // for the first one to have read the groups, and knows of the change
		})
		n.isAbove("while it is read", "a", "a")
		if got := <-next; got != "a b" {
			t.Errorf("who asked after the change sees that a is in %q", got)
		}
	})
}

// TestWhoWaitsForTheNestingIsHeldUpByNobody who reads it, for longer than the time there is, nor after one who gave up.
func TestWhoWaitsForTheNestingIsHeldUpByNobody(t *testing.T) {
	n := newNestable(t, nil, func(o *ldapdir.Options) { o.Connections = 1 })
	if err := n.AddValue(t.Context(), ldapdirtest.Groups, "b", directory.FieldMembers, groupDN("a"), directory.Condition{}); err != nil {
		t.Fatal(err)
	}
	first, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	n.after(2, func() { // the first has read the groups
		second, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := n.Nesting(second); !directory.Is(err, directory.Timeout) {
			t.Errorf("who waits gets %v, want %s", err, directory.Timeout.Name)
		}
		giveUp()
	})
	_, _ = n.Nesting(first)
	n.modify(0, groupDN("c"), adding("member", groupDN("b")))
	third, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := n.Nesting(third); err != nil {
		t.Errorf("later: %v", err)
	}
}

func TestAStandingIsReadByTheServiceWhoeverAsks(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	l := on(t, server)
	l.add(0, userDN("u"), "sn", "x", "uid", "u")
	l.add(0, hostDN("h"), "cn", "h")
	o := ldapdirtest.Options(server)
	o.ActAsCaller = true
	d := ldapdirtest.Open(t, o)
	ctx := directory.WithCaller(t.Context(), directory.Caller{DN: userDN("u"), Roles: []directory.Role{directory.RoleSelf}})
	s, err := d.Standing(ctx, "u", "h", "")
	if err != nil || s.User.Name() != "u" || s.Host.Name() != "h" {
		t.Errorf("the standing is %+v, %v", s, err)
	}
	if _, err := s.Groups(ctx); err != nil {
		t.Errorf("its groups: %v", err)
	}
	for _, absent := range [][2]string{{"U", "h"}, {" u", "h"}, {"u", "i"}, {"", "h"}, {"u", ""}, {"", ""}} {
		s, err := d.Standing(ctx, absent[0], absent[1], "")
		if err != nil || s.User.Kind != nil && absent[0] != "u" || s.Host.Kind != nil && absent[1] != "h" {
			t.Errorf("%q: the standing is %+v, %v", absent, s, err)
		}
	}
}

// TestANameOfManyIsNobodys also where there are more of them than a search shows.
func TestANameOfManyIsNobodys(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string {
		return strings.Replace(conf, "unique_uri \"serialize ldap:///ou=people,"+ldapdirtest.Base+"?uid?sub\"", "", 1)
	}})
	l := on(t, server)
	l.add(0, hostDN("h"), "cn", "h")
	d := ldapdirtest.Open(t, ldapdirtest.Options(server))
	standing := func(login string) (directory.Standing, error) { return d.Standing(t.Context(), login, "h", "") }
	l.add(0, userDN("u0"), "sn", "x", "uid", "name")
	for i := range 20 {
		if s, err := standing("name"); err != nil && i == 0 || s.User.Kind == nil && i == 0 {
			t.Fatalf("one of the name: %+v, %v", s, err)
		} else if i > 0 && !s.Ambiguous {
			t.Fatalf("%d of the name: got %+v, %v", i+1, s, err)
		}
		name := fmt.Sprint("u", i+1)
		request := ldap.NewAddRequest(userDN(name), nil)
		request.Attribute("objectClass", []string{"inetOrgPerson"})
		request.Attribute("sn", []string{"x"})
		request.Attribute("uid", []string{"name"})
		if err := l.Add(request); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := standing("nobody"); err != nil {
		t.Errorf("of another name: %v", err)
	}
	if s, err := standing("NAME"); err != nil || !s.Ambiguous { // too many to see them all
		t.Errorf("in large letters: %+v, %v", s, err)
	}
}
