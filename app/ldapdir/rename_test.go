package ldapdir_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// crew is a user, old, that two groups and a host refer to, in directories of their own, so that many fit on a server.
type crew struct {
	l       plain
	d       *ldapdir.Directory
	proxy   *proxy
	prefix  string
	follows bool // whether memberOf is kept
}

// newCrew makes a crew whose names begin with a prefix, and a directory with one connection, by a proxy.
func newCrew(t *testing.T, server *slapd.Server, r referring, prefix string) *crew {
	t.Helper()
	c := &crew{l: on(t, server), proxy: newProxy(t, strings.TrimPrefix(server.URL(), "ldap://")), prefix: prefix, follows: r.memberof}
	t.Cleanup(c.proxy.close)
	o := ldapdirtest.Options(server)
	o.URL, o.Connections, o.NoOp = "ldap://"+c.proxy.listener.Addr().String(), 1, false
	c.d = ldapdirtest.Open(t, o)
	if err := c.d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.l.add(0, c.user("old"), "sn", "x")
	c.l.add(0, c.user("first"), "sn", "x")
	c.l.add(0, c.group("some"), "member", c.user("first"), "member", c.user("old"))
	c.l.add(0, c.group("only"), "member", c.user("old"))
	c.l.add(0, c.group("none"), "member", placeholder, "owner", c.user("old")) // an owner is no member
	c.l.add(0, c.host("web"), "owner", c.user("first"), "owner", c.user("old"))
	return c
}

func (c *crew) name(name string) string  { return c.prefix + name }
func (c *crew) user(name string) string  { return userDN(c.name(name)) }
func (c *crew) group(name string) string { return groupDN(c.name(name)) }
func (c *crew) host(name string) string  { return hostDN(c.name(name)) }

func (c *crew) rename(d *ldapdir.Directory, kind *directory.Kind, name, newName string) (directory.Entry, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	return d.Rename(ctx, kind, c.name(name), c.name(newName), directory.Condition{})
}

// settled waits until everything that referred to the user refers to a DN, and to no other, in the server's own time too.
func (c *crew) settled(dn string) {
	c.l.t.Helper()
	first := c.user("first")
	for _, want := range []struct {
		dn, attribute string
		values        []string
	}{
		{c.group("some"), "member", []string{first, dn}}, {c.group("only"), "member", []string{dn}},
		{c.group("none"), "member", []string{placeholder}}, {c.host("web"), "owner", []string{first, dn}},
	} {
		end := time.Now().Add(2 * time.Second)
		for !directory.SameValues(c.l.values(want.dn, want.attribute), want.values) {
			if time.Now().After(end) {
				c.l.t.Fatalf("%s: %s is %q, want %q", want.dn, want.attribute, c.l.values(want.dn, want.attribute), want.values)
			}
			time.Sleep(time.Millisecond)
		}
	}
	c.memberOf(dn, c.group("some"), c.group("only"))
}

func (c *crew) memberOf(dn string, groups ...string) {
	c.l.t.Helper()
	if got := c.l.values(dn, "memberOf"); c.follows && !directory.SameValues(got, groups) {
		c.l.t.Errorf("%s: memberOf is %q, want %q", dn, got, groups)
	}
}

func TestReferencesFollowWhateverTheServerDoesAboutThem(t *testing.T) {
	for _, r := range referrings {
		t.Run("with "+r.name, func(t *testing.T) {
			server := ldapdirtest.Start(t, slapd.Options{Config: r.conf})
			c := newCrew(t, server, r, "")
			dangling := r.dangling == "" || r.dangling == "ignore"
			if dangling { // from somebody who had the name once
				c.l.add(0, c.group("stale"), "member", c.user("first"), "member", c.user("new"))
			}
			c.l.add(0, c.host("stale"), "owner", c.user("first"), "owner", c.user("new"))
			entry, err := c.rename(c.d, ldapdirtest.Users, "old", "new")
			if err != nil {
				t.Fatal(err)
			}
			c.settled(c.user("new"))
			if got := entry.Values(directory.FieldMemberOfs); r.memberof && !directory.SameValues(got, []string{c.group("some"), c.group("only")}) {
				t.Errorf("the answer shows the memberOfs %q", got)
			}
			if dangling {
				c.l.has(c.group("stale"), "member", c.user("first"))
			}
			c.l.has(c.host("stale"), "owner", c.user("first"))

			if _, err := c.rename(c.d, ldapdirtest.Users, "new", "New"); err != nil {
				t.Errorf("in another spelling: %v", err)
			}
			c.settled(c.user("New"))

			c.l.add(0, c.group("outer"), "member", c.group("some"))
			if _, err := c.rename(c.d, ldapdirtest.Groups, "some", "same"); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the group in its group", func() bool {
				return slices.Equal(c.l.values(c.group("outer"), "member"), []string{c.group("same")})
			})
			c.memberOf(c.group("same"), c.group("outer"))
			c.memberOf(c.user("New"), c.group("same"), c.group("only"))
			if _, err := c.rename(c.d, ldapdirtest.Hosts, "web", "www"); err != nil {
				t.Fatal(err)
			}
			c.l.has(c.host("www"), "owner", c.user("first"), c.user("New"))
			if left := c.l.found("(|(owner=" + c.user("old") + ")(member=" + c.user("old") + "))"); r.refint && len(left) > 0 && !slices.Equal(left, []string{c.group("none")}) {
				t.Errorf("%q refer to the old name", left)
			}
		})
	}
}

// operations of LDAP by their tags (RFC 4511 §4.2).
var operations = map[byte]string{0x60: "bind", 0x63: "search", 0x66: "modify", 0x68: "add", 0x6c: "modify DN"}

// TestAStopAtAnyPointOfARenamingLosesNothing stops the program before each request to the server, and before each answer.
func TestAStopAtAnyPointOfARenamingLosesNothing(t *testing.T) {
	for _, r := range referrings {
		t.Run("with "+r.name, func(t *testing.T) {
			server := ldapdirtest.Start(t, slapd.Options{Config: r.conf})
			// What the server neither does itself nor lets be done ahead is put right only when the request is repeated.
			late := r.dangling == "drop" || r.dangling == "error" && r.follow == "FALSE"
			for step := 1; ; step++ {
				for _, answered := range []bool{false, true} {
					c := newCrew(t, server, r, fmt.Sprintf("%d%t ", step, answered))
					at := c.stop(step, answered)
					_, err := c.rename(c.d, ldapdirtest.Users, "old", "new")
					if at.Load() == nil {
						if err != nil {
							t.Fatalf("without a stop: %v", err)
						}
						c.settled(c.user("new"))
						return
					}
					what := fmt.Sprintf("stopped at request %d, a %s, sent: %t", step, *at.Load(), answered)
					if !directory.Is(err, directory.OutcomeUnknown) && !directory.Is(err, directory.Unavailable) {
						t.Errorf("%s: %v", what, err)
					}
					if *at.Load() == "modify DN" && answered && !directory.Is(err, directory.OutcomeUnknown) {
						t.Errorf("%s: %v", what, err)
					}
					c.restart(t, server)
					now := c.user("old")
					_, err = c.d.Get(t.Context(), ldapdirtest.Users, c.name("old"))
					renamed := directory.Is(err, directory.NotFound)
					if renamed {
						now = c.user("new")
					}
					for _, group := range []string{"some", "only"} {
						if !(late && renamed) && !slices.Contains(c.l.values(c.group(group), "member"), now) {
							t.Errorf("%s: %s is no member of %s but %q", what, now, group, c.l.values(c.group(group), "member"))
						}
					}
					_, err = c.rename(c.d, ldapdirtest.Users, "old", "new")
					if renamed && !directory.Is(err, directory.NotFound) || !renamed && err != nil {
						t.Errorf("%s: the request repeated: %v", what, err)
					}
					t.Run(what, func(t *testing.T) {
						c.l.t = t
						c.settled(c.user("new"))
					})
				}
			}
		})
	}
}

// stop makes the program end at a request from now on: before the server gets it, or before the answer to it arrives.
// What that request is it tells once it has come to it.
func (c *crew) stop(step int, answered bool) (at *atomic.Pointer[string]) {
	at = &atomic.Pointer[string]{}
	var requests atomic.Int32
	c.proxy.onRequest(func(_ *link, m message) int {
		n := int(requests.Add(1))
		if n == step {
			operation := operations[m.op]
			at.Store(&operation)
		}
		if n < step || n == step && answered {
			return everything
		}
		return 0
	})
	c.proxy.onAnswer(func(*link, message) int {
		if at.Load() != nil {
			return 0
		}
		return everything
	})
	return at
}

// restart makes another directory, straight to the server.
func (c *crew) restart(t *testing.T, server *slapd.Server) {
	t.Helper()
	c.d = ldapdirtest.Open(t, ldapdirtest.Options(server))
}

// before runs something right before the server gets the ModifyDN.
func (c *crew) before(t *testing.T, what func()) {
	t.Helper()
	c.proxy.onRequest(func(_ *link, m message) int {
		if operations[m.op] == "modify DN" {
			c.proxy.onRequest(nil)
			what()
		}
		return everything
	})
}

func TestWhatOthersDoWhileAnEntryIsRenamedCounts(t *testing.T) {
	for _, r := range referrings {
		t.Run("with "+r.name, func(t *testing.T) {
			server := ldapdirtest.Start(t, slapd.Options{Config: r.conf})
			t.Run("who is removed from a group stays out of it", func(t *testing.T) {
				c := newCrew(t, server, r, "out ")
				c.before(t, func() { c.l.modify(0, c.group("some"), deleting("member", c.user("old"))) })
				if _, err := c.rename(c.d, ldapdirtest.Users, "old", "new"); err != nil {
					t.Fatal(err)
				}
				want := []string{c.user("first")}
				if !r.memberof { // nothing tells it from a server that sees to references itself
					want = append(want, c.user("new"))
				}
				c.l.has(c.group("some"), "member", want...)
				c.l.has(c.group("only"), "member", c.user("new"))
				c.memberOf(c.user("new"), c.group("only"))
			})
			t.Run("who is added to a group is in it", func(t *testing.T) {
				c := newCrew(t, server, r, "in ")
				c.before(t, func() { c.l.modify(0, c.group("none"), adding("member", c.user("old"))) })
				if _, err := c.rename(c.d, ldapdirtest.Users, "old", "new"); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the new member", func() bool {
					return slices.Equal(c.l.values(c.group("none"), "member"), []string{placeholder, c.user("new")})
				})
				c.memberOf(c.user("new"), c.group("only"), c.group("some"), c.group("none"))
			})
			t.Run("who takes the name first inherits nothing", func(t *testing.T) {
				c := newCrew(t, server, r, "first ")
				c.before(t, func() { c.l.add(0, c.user("new"), "sn", "Other") })
				_, err := c.rename(c.d, ldapdirtest.Users, "old", "new")
				wantRefused(t, "rename", err, directory.AlreadyExists, "")
				c.settled(c.user("old"))
				c.memberOf(c.user("new"))
			})
			t.Run("who changes the entry has it renamed all the same", func(t *testing.T) {
				c := newCrew(t, server, r, "changed ")
				c.before(t, func() { c.l.modify(0, c.user("old"), replacing("title", "x")) })
				entry, err := c.rename(c.d, ldapdirtest.Users, "old", "new")
				if err != nil {
					t.Fatal(err)
				}
				if entry.First("title") != "x" {
					t.Errorf("got %v", shownFields(entry))
				}
				c.settled(c.user("new"))
			})
			t.Run("who changes the entry stops a renaming of what was read", func(t *testing.T) {
				c := newCrew(t, server, r, "read ")
				read := directory.Condition{OneOf: []directory.Version{getEntry(t, c.d, ldapdirtest.Users, c.name("old")).Version}}
				c.before(t, func() { c.l.modify(0, c.user("old"), replacing("title", "x")) })
				_, err := c.d.Rename(t.Context(), ldapdirtest.Users, c.name("old"), c.name("new"), read)
				wantRefused(t, "rename", err, directory.Stale, "")
				c.settled(c.user("old"))
			})
			if r.dangling != "drop" { // there the server says that it has stored what it has dropped
				t.Run("who renames it again takes the references along", func(t *testing.T) {
					c := newCrew(t, server, r, "again ")
					other := ldapdirtest.Open(t, ldapdirtest.Options(server))
					after := false
					c.proxy.onAnswer(func(_ *link, m message) int {
						if m.op == 0x6d && !after { // RFC 4511 §4.9
							after = true
							if _, err := c.rename(other, ldapdirtest.Users, "new", "newest"); err != nil {
								t.Errorf("the second renaming: %v", err)
							}
						}
						return everything
					})
					entry, err := c.rename(c.d, ldapdirtest.Users, "old", "new")
					if err != nil {
						t.Fatal(err)
					}
					if entry.Name() != c.name("newest") {
						t.Errorf("got %q", entry.Name())
					}
					c.settled(c.user("newest"))
				})
			}
			t.Run("who deletes it leaves nothing", func(t *testing.T) {
				c := newCrew(t, server, r, "deleted ")
				c.before(t, func() { c.l.remove(0, c.user("old")) })
				_, err := c.rename(c.d, ldapdirtest.Users, "old", "new")
				wantRefused(t, "rename", err, directory.NotFound, "")
				dn := c.user("new")
				if left := c.l.found("(|(member=" + dn + ")(owner=" + dn + "))"); len(left) > 0 {
					t.Errorf("%q refer to %s", left, dn)
				}
			})
		})
	}
}

// TestARenamingOfNobodyGivesNothingAway: references to a name that nobody has may be left from whoever had it.
func TestARenamingOfNobodyGivesNothingAway(t *testing.T) {
	for _, r := range referrings[1:4] { // where they may be
		t.Run("with "+r.name, func(t *testing.T) {
			c := newCrew(t, ldapdirtest.Start(t, slapd.Options{Config: r.conf}), r, "")
			c.l.add(0, c.group("late"), "member", c.user("first"), "member", c.user("ghost"))
			c.l.add(0, c.host("late"), "owner", c.user("ghost"))
			for _, newName := range []string{"old", "new"} {
				_, err := c.rename(c.d, ldapdirtest.Users, "ghost", newName)
				wantRefused(t, "rename nobody to "+newName, err, directory.NotFound, "")
			}
			c.l.has(c.group("late"), "member", c.user("first"), c.user("ghost"))
			c.l.has(c.host("late"), "owner", c.user("ghost"))
			c.settled(c.user("old"))
		})
	}
}

// TestWhatRefersToItselfCanBeRenamed: a host takes that along. A group leaves itself: the overlay would leave it its old
// name as memberOf, and so to the next group of that name.
func TestWhatRefersToItselfCanBeRenamed(t *testing.T) {
	for _, r := range referrings {
		t.Run("with "+r.name, func(t *testing.T) {
			c := newCrew(t, ldapdirtest.Start(t, slapd.Options{Config: r.conf}), r, "")
			c.l.modify(0, c.host("web"), adding("owner", c.host("web")))
			if _, err := c.rename(c.d, ldapdirtest.Hosts, "web", "rack"); err != nil {
				t.Fatal(err)
			}
			c.l.has(c.host("rack"), "owner", c.user("first"), c.user("old"), c.host("rack"))
			c.l.rename(0, c.host("rack"), "cn=shelf") // as by somebody who was stopped then
			_, err := c.rename(c.d, ldapdirtest.Hosts, "rack", "shelf")
			wantRefused(t, "repeat", err, directory.NotFound, "")
			c.l.has(c.host("shelf"), "owner", c.user("first"), c.user("old"), c.host("shelf"))

			c.l.modify(0, c.group("some"), adding("member", c.group("some")))
			c.l.modify(0, c.group("none"), adding("member", c.group("none")), deleting("member", placeholder))
			for name, members := range map[string][]string{"some": {c.user("first"), c.user("old")}, "none": {placeholder}} {
				if _, err := c.rename(c.d, ldapdirtest.Groups, name, "new"+name); err != nil {
					t.Fatal(err)
				}
				c.l.has(c.group("new"+name), "member", members...)
				c.memberOf(c.group("new" + name))
			}
		})
	}
}

// TestANameThatIsTakenCostsNobodyAnything: whoever has the name is in none of the other's groups for a moment.
func TestANameThatIsTakenCostsNobodyAnything(t *testing.T) {
	for _, r := range referrings {
		t.Run("with "+r.name, func(t *testing.T) {
			t.Parallel()
			c := newCrew(t, ldapdirtest.Start(t, slapd.Options{Config: r.conf}), r, "")
			c.l.add(0, c.user("mallory"), "sn", "x")
			var writes []string
			c.proxy.onRequest(func(_ *link, m message) int {
				if operation := operations[m.op]; operation != "search" {
					writes = append(writes, operation)
				}
				return everything
			})
			_, err := c.rename(c.d, ldapdirtest.Users, "old", "mallory")
			wantRefused(t, "rename", err, directory.AlreadyExists, "")
			if writes != nil {
				t.Errorf("there are writes: %v", writes)
			}
		})
	}
}

// TestADryRunKnowsATakenNameWithoutTheServersVerdict: where nothing refers to whoever has it, too.
func TestADryRunKnowsATakenNameWithoutTheServersVerdict(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	c := newCrew(t, server, referrings[0], "")
	c.l.add(0, c.user("mallory"), "sn", "x")
	options := ldapdirtest.Options(server)
	options.NoOp = false
	d := ldapdirtest.Open(t, options)
	_, err := d.Create(directory.WithPlan(t.Context(), &directory.Plan{}), ldapdirtest.Users, directory.Patch{Set: map[string][]string{"cn": {"mallory"}, "uid": {"m"}, "sn": {"x"}}})
	wantRefused(t, "create", err, directory.AlreadyExists, "")
	_, err = d.Rename(directory.WithPlan(t.Context(), &directory.Plan{}), ldapdirtest.Users, "old", "mallory", directory.Condition{})
	wantRefused(t, "rename", err, directory.AlreadyExists, "")
}

// TestARenamingCosts a number of requests, on our own server.
func TestARenamingCosts(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	c := newCrew(t, server, referrings[0], "")
	c.l.add(0, c.user("lonely"), "sn", "x")
	for _, renaming := range []struct {
		name, cost string
	}{
		{"lonely", "search search search search modify DN search search"},
		// A group refuses the new name ahead, and no other is tried; the host takes it. Then slapo-refint is the first or not.
		{"old", "search search search search modify modify modify DN search modify modify( modify)? search"},
	} {
		var requests []string
		c.proxy.onRequest(func(_ *link, m message) int {
			requests = append(requests, operations[m.op])
			return everything
		})
		if _, err := c.rename(c.d, ldapdirtest.Users, renaming.name, "x"+renaming.name); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(requests, " "); !regexp.MustCompile("^" + renaming.cost + "$").MatchString(got) {
			t.Errorf("%s: %s, want %s", renaming.name, got, renaming.cost)
		}
	}
}

func TestARenamedEntryOfSomebodyElsesTreeKeepsItsPlaceAndTheRest(t *testing.T) {
	for name, overlays := range map[string]bool{"memberof without refint": true, "no overlays": false} {
		t.Run(name, func(t *testing.T) {
			f := startForeign(t, overlays)
			d, _ := f.open(t)
			for _, c := range []struct {
				kind               *directory.Kind
				name, to, dn, then string
				changed            map[string][]string
			}{
				{f.users, "anna", "annam", anna, "uid=annam,ou=berlin,ou=staff," + acmeSuffix, map[string][]string{"uid": {"amueller", "annam"}}}, // by her third uid
				{f.users, "karl", "a*)(uid=*", karl, `cn=Müller\2C Karl+uid=a*)(uid=*,ou=berlin,ou=staff,` + acmeSuffix, map[string][]string{"uid": {"kmueller", "a*)(uid=*"}}},
				{f.users, "jean", `J, "x"+#;`, jean, `uid=J\2C \22x\22\2B#\3B,ou=paris,ou=staff,` + acmeSuffix, map[string][]string{"uid": {`J, "x"+#;`}}},
				{f.groups, "ops", "名前", ops, "cn=名前,ou=it,ou=teams," + acmeSuffix, map[string][]string{"cn": {"operations", "名前"}}},
				{f.hosts, "db1.acme.test", "db2.acme.test", db1, "cn=db2.acme.test,ou=machines," + acmeSuffix, map[string][]string{"cn": {"db1", "db2.acme.test"}}},
			} {
				before := f.raw(t, c.dn)
				entry, err := d.Rename(t.Context(), c.kind, c.name, c.to, directory.Condition{})
				if err != nil {
					t.Errorf("rename %s: %v", c.name, err)
					continue
				}
				if !ldapdir.SameDN(entry.DN(), c.then) || entry.Name() != c.to {
					t.Errorf("%s is %q now, want %s", c.name, entry.DN(), c.then)
				}
				after := f.raw(t, entry.DN())
				c.changed["entryDN"], c.changed["memberOf"], c.changed["member"], c.changed["owner"] = after["entryDN"], after["memberOf"], after["member"], after["owner"]
				f.wantRaw(t, "rename "+c.name, entry.DN(), before, c.changed)
			}
			newAnna, newJean := getEntry(t, d, f.users, "annam"), getEntry(t, d, f.users, `J, "x"+#;`)
			team, host := getEntry(t, d, f.groups, "名前"), getEntry(t, d, f.hosts, "db2.acme.test")
			if members := team.Values("members"); !directory.SameValues(members, []string{newAnna.DN(), newJean.DN()}) {
				t.Errorf("the team has the members %q", members)
			}
			if owners := host.Values("owners"); !directory.SameValues(owners, []string{newAnna.DN(), newJean.DN()}) {
				t.Errorf("the host has the owners %q", owners)
			}
			if overlays {
				wantShown(t, newAnna, "memberOfs", team.DN())
			}
			if member := f.raw(t, mixed)["member"]; len(member) != 2 || !ldapdir.SameDN(member[0], nobody) || !ldapdir.SameDN(member[1], newJean.DN()) {
				t.Errorf("mixed has the members %q", member)
			}
			for _, taken := range []string{"zoe", "ZOE", "chris"} { // elsewhere in the tree; two have the last one
				_, err := d.Rename(t.Context(), f.users, "backup", taken, directory.Condition{})
				wantRefused(t, "rename to "+taken, err, directory.AlreadyExists, "")
			}
			_, err := d.Rename(t.Context(), f.users, "chris", "other", directory.Condition{})
			wantRefused(t, "rename one of two", err, directory.Ambiguous, "")
		})
	}
}

func TestAKeyThatIsNoPartOfTheNameIsChangedInItsPlace(t *testing.T) {
	f := startForeign(t, true)
	f.options.Mappings[0].Container, f.options.Mappings[0].Deep, f.options.Mappings[0].NamingAttribute = "ou=contractors,"+acmeSuffix, false, "cn"
	d, _ := f.open(t)
	const bo, eve = "cn=Bo Ek,ou=contractors," + acmeSuffix, `employeeNumber=77+cn=Eve\2C the \22Auditor\22,ou=contractors,` + acmeSuffix
	first := getEntry(t, d, f.users, "bo").Version
	f.replace(t, bo, "uid", "bo", "boe")
	before := f.raw(t, bo)
	_, err := d.Rename(t.Context(), f.users, "bo", "eve", directory.Condition{})
	wantRefused(t, "a taken name", err, directory.AlreadyExists, "")
	_, err = d.Rename(t.Context(), f.users, "bo", "bob", directory.Condition{OneOf: []directory.Version{{CSN: first.CSN}}})
	wantRefused(t, "an old version", err, directory.Stale, "")
	entry, err := d.Rename(t.Context(), f.users, "bo", "bob", directory.Condition{OneOf: []directory.Version{first}})
	if err != nil || entry.Name() != "bob" || entry.DN() != bo {
		t.Errorf("renamed to %q, %q, %v", entry.Name(), entry.DN(), err)
	}
	f.wantRaw(t, "rename bo", bo, before, map[string][]string{"uid": {"bob", "boe"}})
	if _, err := d.Get(t.Context(), f.users, "bo"); !directory.Is(err, directory.NotFound) {
		t.Errorf("bo is there still: %v", err)
	}
	_, err = d.Rename(t.Context(), f.users, "bo", "bob", directory.Condition{})
	wantRefused(t, "the request again", err, directory.NotFound, "")
	if entry, err := d.Rename(t.Context(), f.users, "eve", "eva", directory.Condition{}); err != nil || entry.DN() != f.raw(t, eve)["entryDN"][0] {
		t.Errorf("rename eve: %s, %v", entry.DN(), err)
	}

	f.options.Mappings[0].Container, f.options.Mappings[0].NamingAttribute = "ou=interns,"+acmeSuffix, "cn" // ines is cn=Ines+uid=ines
	d, _ = f.open(t)
	if entry, err := d.Rename(t.Context(), f.users, "ines", "inez", directory.Condition{}); err != nil ||
		!ldapdir.SameDN(entry.DN(), "cn=Ines+uid=inez,ou=interns,"+acmeSuffix) || entry.First("cn") != "Ines" {
		t.Errorf("the key as the second part of the name: %s, %v", entry.DN(), err)
	}
}

// TestANameThatTheServerKeepsUnique is one where slapo-unique(5) refuses it.
func TestANameThatTheServerKeepsUnique(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	o := ldapdirtest.Options(server)
	users := kindOf(t, directory.Users(), "uid")
	o.Mappings[0].Kind, o.Mappings[0].NamingAttribute = users, "uid"
	d := ldapdirtest.Open(t, o)
	l := on(t, server)
	l.add(0, "uid=one,ou=people,"+ldapdirtest.Base, "sn", "x", "cn", "x")
	l.add(0, userDN("elsewhere"), "sn", "x", "uid", "two") // not named by it
	_, err := d.Rename(t.Context(), users, "one", "two", directory.Condition{})
	wantRefused(t, "a uid that another entry has", err, directory.AlreadyExists, "")
	_, err = d.Rename(t.Context(), users, "one", strings.Repeat("ü", 250), directory.Condition{})
	wantRefused(t, "a name that is too long for back-mdb", err, directory.Invalid, "uid")
}

func TestWhoMayNotRenameLeavesNoTrace(t *testing.T) {
	d, server := actingDirectory(t)
	_, err := d.Rename(as(t, "alice"), ldapdirtest.Users, "bob", "bobby", directory.Condition{})
	wantRefused(t, "rename bob as alice", err, directory.Forbidden, "")
	if _, err := d.Get(t.Context(), ldapdirtest.Users, "bob"); err != nil {
		t.Error(err)
	}
	groups := on(t, server).found("(member=" + personDN("bob") + ")")
	if len(groups) == 0 || len(on(t, server).found("(|(member="+personDN("bobby")+")(owner="+personDN("bobby")+"))")) > 0 {
		t.Errorf("bob is in %q", groups)
	}
}

// TestWhoRenamesOneselfSeesTheAnswer also where rights come by groups, in which nobody has the old DN any more.
func TestWhoRenamesOneselfSeesTheAnswer(t *testing.T) {
	const me = "cn=me,ou=people," + ldapdirtest.Base
	server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string {
		return strings.Replace(conf, "# Passwords, old ones included", `
access to dn.subtree="ou=people,`+ldapdirtest.Base+`"
	by group.exact="`+groupDN("admins")+`" write
	by dn.subtree="ou=people,`+ldapdirtest.Base+`" none
	by * break
# Passwords, old ones included`, 1)
	}})
	l := on(t, server)
	l.add(0, me, "sn", "x")
	l.add(0, groupDN("admins"), "member", me)
	o := ldapdirtest.Options(server)
	o.ActAsCaller = true
	d := ldapdirtest.Open(t, o)
	ctx := directory.WithCaller(t.Context(), directory.Caller{Login: "me", Name: "me", DN: me})
	if _, err := d.Rename(ctx, ldapdirtest.Users, "me", "myself", directory.Condition{}); err != nil {
		t.Error(err)
	}
}
