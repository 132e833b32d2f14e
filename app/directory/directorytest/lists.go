package directorytest

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"rollcall/app/directory"
)

func lists(t *testing.T, f Fixture) {
	f.create(t, f.Hosts, directory.Patch{Set: map[string][]string{"cn": {"web1"}, "ipAddresses": {"192.0.2.9", "192.0.2.1"}}})
	wantValues(t, f.get(t, f.Hosts, "web1"), "ipAddresses", "192.0.2.9", "192.0.2.1")
	keys := []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGIFpYEBGdyvfSHDOQq9Tn/ruwqJj0sodBqSyEpnSe3b z", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGIFpYEBGdyvfSHDOQq9Tn/ruwqJj0sodBqSyEpnSe3b a"}
	wantValues(t, f.update(t, f.Hosts, "web1", "sshPublicKeys", keys...), "sshPublicKeys", keys...)
	wantValues(t, f.update(t, f.Hosts, "web1", "ipAddresses"), "ipAddresses")
	host := f.update(t, f.Hosts, "web1", "ipAddresses", "2001:db8::1")
	wantValues(t, host, "ipAddresses", "2001:db8::1")
	wantValues(t, host, "sshPublicKeys", keys...)
	both, err := f.Directory.Update(background(t), f.Hosts, "web1", directory.Condition{}, func(directory.Entry) (directory.Patch, error) {
		return directory.Patch{Set: map[string][]string{"ipAddresses": nil, "sshPublicKeys": nil, "location": {"Rack 4"}}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	wantValues(t, both, "ipAddresses")
	wantValues(t, both, "sshPublicKeys")
	wantValues(t, both, "location", "Rack 4")
}

func values(t *testing.T, f Fixture) {
	ctx := background(t)
	alice, bob := f.create(t, f.Users, person("alice")), f.create(t, f.Users, person("bob"))
	f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"devs"}}})
	for _, step := range []struct {
		what    string
		do      func() error
		members []string
	}{
		{"add alice", func() error {
			return f.Directory.AddValue(ctx, f.Groups, "devs", "members", alice.DN(), directory.Condition{})
		}, []string{alice.DN()}},
		{"add alice again", func() error {
			return f.Directory.AddValue(ctx, f.Groups, "devs", "members", alice.DN(), directory.Condition{})
		}, []string{alice.DN()}},
		{"remove bob, who is none", func() error {
			return f.Directory.RemoveValue(ctx, f.Groups, "devs", "members", bob.DN(), directory.Condition{})
		}, []string{alice.DN()}},
		{"add bob if the group exists", func() error {
			return f.Directory.AddValue(ctx, f.Groups, "devs", "members", bob.DN(), directory.Condition{Exists: true})
		}, []string{alice.DN(), bob.DN()}},
		{"remove alice", func() error {
			return f.Directory.RemoveValue(ctx, f.Groups, "devs", "members", alice.DN(), directory.Condition{})
		}, []string{bob.DN()}},
		{"remove bob, the last", func() error {
			return f.Directory.RemoveValue(ctx, f.Groups, "devs", "members", bob.DN(), directory.Condition{})
		}, nil},
		{"remove bob again", func() error {
			return f.Directory.RemoveValue(ctx, f.Groups, "devs", "members", bob.DN(), directory.Condition{})
		}, nil},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		wantValues(t, f.get(t, f.Groups, "devs"), "members", step.members...)
	}
	wantValues(t, f.get(t, f.Users, "alice"), "memberOfs")

	key := "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGIFpYEBGdyvfSHDOQq9Tn/ruwqJj0sodBqSyEpnSe3b a/b"
	for range 2 {
		if err := f.Directory.AddValue(ctx, f.Users, "alice", "sshPublicKeys", key, directory.Condition{}); err != nil {
			t.Fatal(err)
		}
		wantValues(t, f.get(t, f.Users, "alice"), "sshPublicKeys", key)
	}
	if err := f.Directory.RemoveValue(ctx, f.Users, "alice", "sshPublicKeys", key, directory.Condition{}); err != nil {
		t.Fatal(err)
	}
	wantValues(t, f.get(t, f.Users, "alice"), "sshPublicKeys")
}

func emptyGroups(t *testing.T, f Fixture) {
	ctx := background(t)
	var members []string
	for i := range 6 {
		members = append(members, f.create(t, f.Users, person(fmt.Sprintf("user%d", i))).DN())
	}
	created := f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"devs"}}})
	wantValues(t, created, "members")
	wantValues(t, f.update(t, f.Groups, "devs", "members", members...), "members", members...)
	wantValues(t, f.update(t, f.Groups, "devs", "members"), "members")
	wantValues(t, f.update(t, f.Groups, "devs", "members", members...), "members", members...)
	var all sync.WaitGroup
	for _, member := range members {
		all.Go(func() {
			if err := f.Directory.RemoveValue(ctx, f.Groups, "devs", "members", member, directory.Condition{}); err != nil {
				t.Errorf("remove %s among others: %v", member, err)
			}
		})
	}
	all.Wait()
	wantValues(t, f.get(t, f.Groups, "devs"), "members")
	for _, member := range members {
		all.Go(func() {
			if err := f.Directory.AddValue(ctx, f.Groups, "devs", "members", member, directory.Condition{}); err != nil {
				t.Errorf("add %s among others: %v", member, err)
			}
		})
	}
	all.Wait()
	if got := f.get(t, f.Groups, "devs").Values("members"); len(got) != len(members) {
		t.Errorf("after adding %d members there are %q", len(members), got)
	}
}

func deletion(t *testing.T, f Fixture) {
	ctx := background(t)
	alice := f.create(t, f.Users, person("alice")).DN()
	f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"devs"}, "members": {alice}}})
	bob := f.create(t, f.Users, person("bob")).DN()
	f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"ops"}, "members": {alice, bob}}})
	f.create(t, f.Hosts, directory.Patch{Set: map[string][]string{"cn": {"web1"}, "owners": {bob, alice}}})
	if err := f.Directory.Delete(ctx, f.Users, "alice", directory.Condition{}); err != nil {
		t.Fatal(err)
	}
	_, err := f.Directory.Get(ctx, f.Users, "alice")
	wantCode(t, "get", err, directory.NotFound)
	wantValues(t, f.get(t, f.Groups, "devs"), "members")
	wantValues(t, f.get(t, f.Groups, "ops"), "members", bob)
	wantValues(t, f.get(t, f.Hosts, "web1"), "owners", bob)
	wantCode(t, "delete again", f.Directory.Delete(ctx, f.Users, "alice", directory.Condition{}), directory.NotFound)
}

func noInheritance(t *testing.T, f Fixture) {
	ctx := background(t)
	for range 5 {
		alice := f.create(t, f.Users, person("alice"))
		if _, err := f.Directory.Create(ctx, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"devs"}, "members": {alice.DN()}}}); err != nil {
			if err := f.Directory.AddValue(ctx, f.Groups, "devs", "members", alice.DN(), directory.Condition{}); err != nil {
				t.Fatal(err)
			}
		}
		f.create(t, f.Hosts, directory.Patch{Set: map[string][]string{"cn": {"web" + alice.ID()}, "owners": {alice.DN()}}})
		if err := f.Directory.Delete(ctx, f.Users, "alice", directory.Condition{}); err != nil {
			t.Fatal(err)
		}
		again := f.create(t, f.Users, person("alice"))
		if again.ID() == alice.ID() {
			t.Errorf("two entries with the id %s", again.ID())
		}
		wantValues(t, again, "memberOfs")
		wantValues(t, f.get(t, f.Groups, "devs"), "members")
		wantValues(t, f.get(t, f.Hosts, "web"+alice.ID()), "owners")
		if err := f.Directory.Delete(ctx, f.Users, "alice", directory.Condition{}); err != nil {
			t.Fatal(err)
		}
	}
}

func references(t *testing.T, f Fixture) {
	ctx := background(t)
	alice := f.create(t, f.Users, person("alice"))
	container := alice.DN()[strings.Index(alice.DN(), ",")+1:]
	for _, reference := range []string{"users/alice", alice.DN(), strings.ToUpper(alice.DN())} {
		if got, err := f.Directory.Resolve(ctx, reference); err != nil || got.ID() != alice.ID() || got.Kind != f.Users {
			t.Errorf("resolve %q: %v, %v", reference, fields(got), err)
		}
	}
	for _, reference := range []string{"", "alice", "users/", "users/nobody", "groups/alice", "people/alice", "cn=nobody," + container, container, "dc=org", "cn=\xff"} {
		_, err := f.Directory.Resolve(ctx, reference)
		wantCode(t, fmt.Sprintf("resolve %q", reference), err, directory.NotFound)
	}
}

func list(t *testing.T, f Fixture) {
	ctx := background(t)
	before := map[string]bool{}
	for entry, err := range directory.Each(ctx, f.Directory, f.Hosts, directory.Query{Limit: 100}) {
		if err != nil {
			t.Fatal(err)
		}
		before[entry.ID()] = true
	}
	const many = 250
	want := map[string]bool{}
	for i := range many {
		want[f.create(t, f.Hosts, directory.Patch{Set: map[string][]string{"cn": {fmt.Sprintf("host%d", i)}}}).ID()] = true
	}
	for entry, err := range directory.Each(ctx, f.Directory, f.Hosts, directory.Query{Limit: 100}) {
		if err != nil {
			t.Fatal(err)
		}
		if !before[entry.ID()] && !want[entry.ID()] {
			t.Errorf("%s is listed twice, or should not be", entry.DN())
		}
		delete(want, entry.ID())
	}
	if len(want) > 0 {
		t.Errorf("%d of %d are not listed", len(want), many)
	}
	for range 20 { // whoever stops early leaves nothing behind
		for _, err := range directory.Each(ctx, f.Directory, f.Hosts, directory.Query{Limit: 100}) {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
}
