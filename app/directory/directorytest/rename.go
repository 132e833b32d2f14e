package directorytest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory"
)

// RunRenaming runs the part of the contract that is about Rename.
func RunRenaming(t *testing.T, open func(t *testing.T) Fixture) {
	runRules(t, open, []rule{
		{"a renamed entry is the same but for its name", renamed},
		{"references follow a renamed entry", referencesFollow},
		{"any name is one to rename to", renamedToAnyName},
		{"a name that is taken stays whose it is", renamedToTaken},
		{"the same name again changes nothing, and another spelling does", renamedToSame},
		{"a condition that does not hold stops a renaming", renamedUnderConditions},
		{"of renamings at the same time one is done", renamedAtOnce},
		{"members come and go while they are renamed", renamedMeanwhile},
	})
}

func (f Fixture) rename(t *testing.T, kind *directory.Kind, name, newName string) directory.Entry {
	t.Helper()
	entry, err := f.Directory.Rename(background(t), kind, name, newName, directory.Condition{})
	if err != nil {
		t.Fatalf("rename %s %q to %q: %v", kind.Singular, name, newName, err)
	}
	return entry
}

func renamed(t *testing.T, f Fixture) {
	ctx := background(t)
	for kind, patch := range map[*directory.Kind]directory.Patch{
		f.Users:  person("alice", "mail", "alice@example.org", "title", "Engineer", directory.FieldAccountLocked, directory.True),
		f.Groups: {Set: map[string][]string{"cn": {"alice"}, "description": {"hers"}}},
		f.Hosts:  {Set: map[string][]string{"cn": {"alice"}, "ipAddresses": {"192.0.2.1"}, "location": {"Attic"}}},
	} {
		before := f.create(t, kind, patch)
		after := f.rename(t, kind, "Alice", "carol")
		want := fields(before)
		want["cn"], want["dn"], want["updatedAt"] = []string{"carol"}, []string{strings.Replace(before.DN(), "alice", "carol", 1)}, after.Values("updatedAt")
		if diff := cmp.Diff(want, fields(after)); diff != "" {
			t.Errorf("renamed:\n%s", diff)
		}
		read := f.get(t, kind, "carol")
		if diff := cmp.Diff(fields(after), fields(read)); diff != "" || after.Version != read.Version {
			t.Errorf("renamed as %v, read as %v:\n%s", after.Version, read.Version, diff)
		}
		if after.Version.CSN == before.Version.CSN || after.Version.Own == before.Version.Own {
			t.Errorf("the version stayed %v", after.Version)
		}
		_, err := f.Directory.Get(ctx, kind, "alice")
		wantCode(t, "get it by its old name", err, directory.NotFound)
		for _, name := range []string{"alice", "nobody", "", "\xff"} {
			_, err = f.Directory.Rename(ctx, kind, name, "dave", directory.Condition{})
			wantCode(t, fmt.Sprintf("rename %q", name), err, directory.NotFound)
		}
		again := map[string][]string{"cn": {"alice"}}
		if kind == f.Users {
			again = named("alice", "alice2").Set // the uid has not changed
		}
		f.create(t, kind, directory.Patch{Set: again})
	}
}

// named is a person whose uid is not the name.
func named(name, uid string) directory.Patch {
	return directory.Patch{Set: map[string][]string{"cn": {name}, "uid": {uid}, "sn": {"Parker"}}}
}

func referencesFollow(t *testing.T, f Fixture) {
	alice, bob := f.create(t, f.Users, person("alice")).DN(), f.create(t, f.Users, person("bob")).DN()
	group := func(name string, members ...string) string {
		return f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {name}, "members": members}}).DN()
	}
	devs := group("devs", bob, alice)
	alone := group("alone", alice)
	all := group("all", devs)
	f.create(t, f.Hosts, directory.Patch{Set: map[string][]string{"cn": {"web1"}, "owners": {alice, bob, devs}}})

	carol := f.rename(t, f.Users, "alice", "carol")
	f.wantMembers(t, "devs", bob, carol.DN())
	f.wantMembers(t, "alone", carol.DN())
	wantSame(t, carol, "memberOfs", devs, alone)
	wantSame(t, f.get(t, f.Users, "bob"), "memberOfs", devs)
	wantSame(t, f.get(t, f.Hosts, "web1"), "owners", carol.DN(), bob, devs)

	ops := f.rename(t, f.Groups, "devs", "ops")
	wantSame(t, ops, "members", bob, carol.DN())
	wantSame(t, ops, "memberOfs", all)
	f.wantMembers(t, "all", ops.DN())
	wantSame(t, f.get(t, f.Users, "carol"), "memberOfs", ops.DN(), alone)
	wantSame(t, f.get(t, f.Users, "bob"), "memberOfs", ops.DN())
	wantSame(t, f.get(t, f.Hosts, "web1"), "owners", carol.DN(), bob, ops.DN())

	// Who comes next by the old name inherits nothing.
	wantSame(t, f.create(t, f.Users, named("alice", "alice2")), "memberOfs")
	f.rename(t, f.Hosts, "web1", "web2")
	f.rename(t, f.Users, "carol", "dave")
	wantSame(t, f.rename(t, f.Users, "alice", "carol"), "memberOfs")
	f.wantMembers(t, "ops", bob, f.get(t, f.Users, "dave").DN())
}

// wantMembers fails unless a group has exactly these members, in whatever order.
func (f Fixture) wantMembers(t *testing.T, group string, members ...string) {
	t.Helper()
	wantSame(t, f.get(t, f.Groups, group), "members", members...)
}

func wantSame(t *testing.T, entry directory.Entry, field string, want ...string) {
	t.Helper()
	if got := entry.Values(field); !directory.SameValues(got, want) {
		t.Errorf("%s: %s is %q, want %q", entry.DN(), field, got, want)
	}
}

func renamedToAnyName(t *testing.T, f Fixture) {
	user := f.create(t, f.Users, person("somebody"))
	f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"devs"}, "members": {user.DN()}}})
	before := "somebody"
	for _, name := range Names {
		after := f.rename(t, f.Users, before, name)
		wantValues(t, after, "cn", name)
		wantValues(t, f.get(t, f.Users, name), "id", user.ID())
		f.wantMembers(t, "devs", after.DN())
		wantValues(t, after, "memberOfs", f.get(t, f.Groups, "devs").DN())
		_, err := f.Directory.Get(background(t), f.Users, before)
		wantCode(t, fmt.Sprintf("get %q, which is %q now", before, name), err, directory.NotFound)
		before = name
	}
}

func renamedToTaken(t *testing.T, f Fixture) {
	alice, bob := f.create(t, f.Users, person("alice")), f.create(t, f.Users, person("bob"))
	for name, member := range map[string]string{"hers": alice.DN(), "his": bob.DN()} {
		f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {name}, "members": {member}}})
	}
	f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"bobs"}}}) // another kind's
	for _, name := range []string{"bob", "BOB", " bob"} {
		_, err := f.Directory.Rename(background(t), f.Users, "alice", name, directory.Condition{})
		wantCode(t, fmt.Sprintf("rename to %q", name), err, directory.AlreadyExists)
	}
	for _, before := range []directory.Entry{alice, bob} {
		if after := f.get(t, f.Users, before.Name()); after.ID() != before.ID() || after.Version.Own != before.Version.Own {
			t.Errorf("%s has changed", before.Name())
		}
	}
	f.wantMembers(t, "hers", alice.DN())
	f.wantMembers(t, "his", bob.DN())
	wantSame(t, f.get(t, f.Users, "alice"), "memberOfs", f.get(t, f.Groups, "hers").DN())
	wantSame(t, f.rename(t, f.Users, "alice", "bobs"), "memberOfs", f.get(t, f.Groups, "hers").DN())
}

func renamedToSame(t *testing.T, f Fixture) {
	before := f.create(t, f.Users, person("alice"))
	f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"devs"}, "members": {before.DN()}}})
	before = f.get(t, f.Users, "alice")
	if after := f.rename(t, f.Users, "ALICE", "alice"); after.Version != before.Version || after.Name() != "alice" {
		t.Errorf("the same name made %q of version %v, was %v", after.Name(), after.Version, before.Version)
	}
	var after directory.Entry
	for _, name := range slices.Repeat([]string{"Alice", "aLice"}, 10) {
		after = f.rename(t, f.Users, "alice", name)
		wantValues(t, after, "cn", name)
		wantValues(t, after, "dn", strings.Replace(before.DN(), "alice", name, 1))
		wantValues(t, after, "memberOfs", before.Values("memberOfs")...)
	}
	if n := len(f.get(t, f.Groups, "devs").Values("members")); n != 1 {
		t.Errorf("the group has %d members", n)
	}
	if err := f.Directory.RemoveValue(background(t), f.Groups, "devs", "members", after.DN(), directory.Condition{}); err != nil {
		t.Error(err)
	}
	f.wantMembers(t, "devs")
}

func renamedUnderConditions(t *testing.T, f Fixture) {
	ctx := background(t)
	first := f.create(t, f.Users, person("alice")).Version
	second := f.update(t, f.Users, "alice", "title", "Engineer").Version
	for name, condition := range map[string]directory.Condition{
		"an old version": {OneOf: []directory.Version{first}}, "no version": {OneOf: []directory.Version{}},
	} {
		for _, newName := range []string{"carol", "alice"} {
			_, err := f.Directory.Rename(ctx, f.Users, "alice", newName, condition)
			wantCode(t, "rename under "+name, err, directory.Stale)
		}
	}
	f.get(t, f.Users, "alice")
	after, err := f.Directory.Rename(ctx, f.Users, "alice", "carol", directory.Condition{OneOf: []directory.Version{first, second}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Directory.Rename(ctx, f.Users, "carol", "dave", directory.Condition{OneOf: []directory.Version{second}})
	wantCode(t, "rename under the version before the last renaming", err, directory.Stale)
	if _, err = f.Directory.Rename(ctx, f.Users, "carol", "dave", directory.Condition{OneOf: []directory.Version{after.Version}}); err != nil {
		t.Error(err)
	}
}

// renamedAtOnce renames one entry to many names, and many entries to one name.
func renamedAtOnce(t *testing.T, f Fixture) {
	const many = 6
	at := func(rename func(i int) error) (done []int) {
		var all sync.WaitGroup
		var mutex sync.Mutex
		for i := range many {
			all.Go(func() {
				err := rename(i)
				mutex.Lock()
				defer mutex.Unlock()
				switch {
				case err == nil:
					done = append(done, i)
				case !directory.Is(err, directory.NotFound) && !directory.Is(err, directory.AlreadyExists) && !directory.Is(err, directory.Stale):
					t.Errorf("rename: %v", err)
				}
			})
		}
		all.Wait()
		if len(done) != 1 {
			t.Fatalf("%d of %d were done", len(done), many)
		}
		return done
	}
	for round := range 8 {
		name := func(what string, i int) string { return fmt.Sprint(what, round, "-", i) }
		user := f.create(t, f.Users, person(name("user", 0)))
		group := name("group", 0)
		f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {group}, "members": {user.DN()}}})
		won := at(func(i int) error {
			return errorOf(f.Directory.Rename(background(t), f.Users, user.Name(), name("name", i), directory.Condition{}))
		})
		after := f.get(t, f.Users, name("name", won[0]))
		wantValues(t, after, "id", user.ID())
		f.wantMembers(t, group, after.DN())

		for i := range many {
			one := f.create(t, f.Users, person(name("one", i)))
			f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {name("of", i)}, "members": {one.DN()}}})
		}
		target := name("target", 0)
		won = at(func(i int) error {
			return errorOf(f.Directory.Rename(background(t), f.Users, name("one", i), target, directory.Condition{}))
		})
		for i := range many {
			called := name("one", i)
			if i == won[0] {
				called = target
			}
			one, of := f.get(t, f.Users, called), f.get(t, f.Groups, name("of", i))
			wantSame(t, of, "members", one.DN())
			wantSame(t, one, "memberOfs", of.DN())
		}
	}
}

// renamedMeanwhile renames a user to and fro while others add and remove it as a member. What was answered before a
// renaming began, and is not contradicted after it, holds.
func renamedMeanwhile(t *testing.T, f Fixture) {
	const groups, rounds = 3, 20
	ctx := background(t)
	user := f.create(t, f.Users, person("here"))
	stays := f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"stays"}, "members": {user.DN()}}}).DN()
	for i := range groups {
		f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {fmt.Sprint("group", i)}}})
	}
	renaming, end := context.WithCancel(ctx)
	var all sync.WaitGroup
	for i := range groups {
		all.Go(func() {
			group := fmt.Sprint("group", i)
			for renaming.Err() == nil {
				for _, change := range []func(context.Context, *directory.Kind, string, string, string, directory.Condition) error{f.Directory.AddValue, f.Directory.RemoveValue} {
					current, err := f.Directory.Resolve(ctx, "users/here")
					if directory.Is(err, directory.NotFound) {
						current, err = f.Directory.Resolve(ctx, "users/there")
					}
					if err != nil {
						continue // renamed between the two
					}
					err = change(ctx, f.Groups, group, "members", current.DN(), directory.Condition{})
					if err != nil && !directory.Is(err, directory.Invalid) { // the server refuses a member that is no more
						t.Errorf("change the members of %s: %v", group, err)
					}
				}
			}
		})
	}
	for range rounds {
		f.rename(t, f.Users, "here", "there")
		f.rename(t, f.Users, "there", "here")
	}
	end()
	all.Wait()
	f.wantMembers(t, "stays", user.DN())
	for i := range groups {
		group := fmt.Sprint("group", i)
		if err := f.Directory.AddValue(ctx, f.Groups, group, "members", user.DN(), directory.Condition{}); err != nil {
			t.Error(err)
		}
		f.wantMembers(t, group, user.DN())
		if err := f.Directory.RemoveValue(ctx, f.Groups, group, "members", user.DN(), directory.Condition{}); err != nil {
			t.Error(err)
		}
		f.wantMembers(t, group)
	}
	if got := f.get(t, f.Users, "here").Values("memberOfs"); !slices.Equal(got, []string{stays}) {
		t.Errorf("memberOfs is %q", got)
	}
}
