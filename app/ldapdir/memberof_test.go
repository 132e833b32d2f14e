package ldapdir_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

type writeValue func(ctx context.Context, kind *directory.Kind, name, field, value string, condition directory.Condition) error

// TestAMemberOfThatWasLostIsMended: a server that is killed between a group and its member's memberOf starts with one
// that is wrong. One that has run without the overlay does too.
func TestAMemberOfThatWasLostIsMended(t *testing.T) {
	overlay := true
	server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string {
		if !overlay {
			conf = memberofOverlay.ReplaceAllString(conf, "")
		}
		return conf
	}})
	restart := func(with bool) {
		t.Helper()
		overlay = with
		if err := server.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		var err error
		if server, err = server.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Kill() })
	}
	open := func() directory.Directory { return ldapdirtest.Open(t, ldapdirtest.Options(server)) }
	create := func(kind *directory.Kind, fields map[string][]string) {
		t.Helper()
		if _, err := open().Create(t.Context(), kind, directory.Patch{Set: fields}); err != nil {
			t.Fatal(err)
		}
	}
	shows := func(groups ...string) {
		t.Helper()
		entry, err := open().Get(t.Context(), ldapdirtest.Users, "erin")
		if err != nil || !slices.Equal(entry.Values(directory.FieldMemberOfs), groups) {
			t.Errorf("memberOfs %q, want %q: %v", entry.Values(directory.FieldMemberOfs), groups, err)
		}
	}
	const erin, crew = "cn=erin,ou=people," + ldapdirtest.Base, "cn=crew,ou=groups," + ldapdirtest.Base
	create(ldapdirtest.Users, map[string][]string{"cn": {"erin"}, "sn": {"x"}})
	create(ldapdirtest.Groups, map[string][]string{"cn": {"crew"}})
	for _, step := range []struct {
		what          string
		write         func(d directory.Directory) writeValue
		before, after []string
	}{
		{"added", func(d directory.Directory) writeValue { return d.AddValue }, nil, []string{crew}},
		{"removed", func(d directory.Directory) writeValue { return d.RemoveValue }, []string{crew}, nil},
	} {
		t.Run("a member that is "+step.what+" again", func(t *testing.T) {
			write := func() {
				t.Helper()
				if err := step.write(open())(t.Context(), ldapdirtest.Groups, "crew", directory.FieldMembers, erin, directory.Condition{}); err != nil {
					t.Fatal(err)
				}
			}
			restart(false)
			write()
			restart(true)
			shows(step.before...)
			for range 2 {
				write()
				shows(step.after...)
			}
			group, err := open().Get(t.Context(), ldapdirtest.Groups, "crew")
			if err != nil || slices.Contains(group.Values(directory.FieldMembers), erin) != (step.after != nil) {
				t.Errorf("the group has %q: %v", group.Values(directory.FieldMembers), err)
			}
		})
	}
}

func TestAMemberThatWasRemovedIsNotSaidToStay(t *testing.T) {
	server := startServer(t)
	f := open(t, server, func(*ldapdir.Options) {})
	const orla, pia = "cn=orla,ou=people," + ldapdirtest.Base, "cn=pia,ou=people," + ldapdirtest.Base
	d := ldapdirtest.Open(t, ldapdirtest.Options(server))
	for _, name := range []string{"orla", "pia"} {
		if _, err := d.Create(t.Context(), ldapdirtest.Users, directory.Patch{Set: map[string][]string{"cn": {name}, "sn": {"x"}}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.Create(t.Context(), ldapdirtest.Groups, directory.Patch{Set: map[string][]string{"cn": {"crew"}, "members": {orla, pia}}}); err != nil {
		t.Fatal(err)
	}
	f.onRequest(func(_ *link, m message) int {
		if operations[m.op] == "modify" {
			f.listener.Close()
		}
		return everything
	})
	f.onAnswer(func(_ *link, m message) int {
		if m.op == 0x67 { // no connection outlives it
			f.onRequest(func(*link, message) int { return 0 })
		}
		return everything
	})
	err := f.RemoveValue(t.Context(), ldapdirtest.Groups, "crew", directory.FieldMembers, orla, directory.Condition{})
	group, failed := d.Get(t.Context(), ldapdirtest.Groups, "crew")
	if failed != nil || slices.Contains(group.Values(directory.FieldMembers), orla) || err != nil {
		t.Errorf("the group has %q (%v), the answer is %v", group.Values(directory.FieldMembers), failed, err)
	}
}

// TestAMemberThatIsGoneIsNamed: between the check of a reference and the write, another client may delete the entry.
func TestAMemberThatIsGoneIsNamed(t *testing.T) {
	d := ldapdirtest.Open(t, ldapdirtest.Options(ldapdirtest.Start(t, slapd.Options{})))
	if _, err := d.Create(t.Context(), ldapdirtest.Groups, directory.Patch{Set: map[string][]string{"cn": {"crew"}}}); err != nil {
		t.Fatal(err)
	}
	err := d.AddValue(t.Context(), ldapdirtest.Groups, "crew", directory.FieldMembers, "cn=gone,ou=people,"+ldapdirtest.Base, directory.Condition{})
	refused, _ := errors.AsType[*directory.Error](err)
	if !directory.Is(err, directory.Invalid) || len(refused.Violations) != 1 || refused.Violations[0].Field != directory.FieldMembers {
		t.Errorf("got %v, want a violation of members", err)
	}
}

// TestAMemberThatGoesWhileItIsAddedIsNamed, and is in no group.
func TestAMemberThatGoesWhileItIsAddedIsNamed(t *testing.T) {
	for name, meanwhile := range map[string]func(c *crew){
		"renamed":                func(c *crew) { c.l.rename(0, c.user("first"), "cn=last") },
		"deleted":                func(c *crew) { c.l.remove(0, c.user("first")) },
		"deleted with the group": func(c *crew) { c.l.remove(0, c.user("first")); c.l.remove(0, c.group("only")) },
	} {
		for _, r := range referrings {
			t.Run(name+" with "+r.name, func(t *testing.T) {
				c := newCrew(t, ldapdirtest.Start(t, slapd.Options{Config: r.conf}), r, "")
				first, added := c.user("first"), false
				c.proxy.onAnswer(func(_ *link, m message) int {
					if m.op == 0x67 && !added && slices.Contains(c.l.values(c.group("only"), "member"), first) { // RFC 4511 §4.6
						added = true
						meanwhile(c)
					}
					return everything
				})
				err := c.d.AddValue(t.Context(), ldapdirtest.Groups, "only", directory.FieldMembers, first, directory.Condition{})
				wantRefused(t, "add", err, directory.Invalid, directory.FieldMembers)
				if left := c.l.found("(&(cn=only)(member=" + first + "))"); len(left) > 0 {
					t.Errorf("%q have the member", left)
				}
			})
		}
	}
}
