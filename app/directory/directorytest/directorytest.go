// Package directorytest is the contract of a [directory.Directory], as tests that any implementation must pass.
package directorytest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory"
)

// Fixture is an implementation and its kinds. Its directory need not be empty. It refuses passwords that are shorter
// than 8 characters.
type Fixture struct {
	Directory            directory.Directory
	Accounts             directory.Accounts
	Users, Groups, Hosts *directory.Kind
}

// Names are names that no filter, DN or URL may take for anything but a name.
var Names = []string{
	"plain", "a*)(uid=*", "*", "(&)", `O'Brien, "Jr" <x>+y=z#;\`, "名前", "Ωμέγα", "Ё", "عبد الله",
	" lead", "trail ", "#hash", "a/b", "..", "%2e%2e", "cn=x,ou=people", "users/plain", strings.Repeat("n", 64), "two  spaces", "q?x=1&y=2",
}

// Run runs the contract. open is called once for each rule.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	runRules(t, open, []rule{
		{"what is created is what is read", createdIsRead},
		{"a name is taken once", takenOnce},
		{"a refused creation takes nothing from whoever has the name", refusedCreationTakesNothing},
		{"what is not there is not found", notFound},
		{"any name names one entry and no other", names},
		{"an update sets what it names and leaves the rest", update},
		{"an update that changes nothing leaves the version", updateNothing},
		{"what change says stops an update", changeRefuses},
		{"a condition that does not hold stops every write", conditions},
		{"no update is lost", noUpdateLost},
		{"a list holds what it is given, in its order", lists},
		{"a value is added and removed as often as one likes", values},
		{"a group may be empty", emptyGroups},
		{"whoever is deleted is referred to no more", deletion},
		{"a name that is made again inherits nothing", noInheritance},
		{"a reference is a DN or a kind and a name", references},
		{"a list yields everything once", list},
		{"a filter finds what it says", filters},
		{"a lock holds until it is undone", locks},
		{"what the server refuses names the field", refusals},
		{"a context that has ended stops everything", ended},
	})
	RunPasswords(t, open)
	RunRenaming(t, open)
}

// rule is one sentence of the contract.
type rule struct {
	name string
	test func(t *testing.T, f Fixture)
}

func runRules(t *testing.T, open func(t *testing.T) Fixture, rules []rule) {
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) { rule.test(t, open(t)) })
	}
}

func background(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func person(name string, more ...string) directory.Patch {
	set := map[string][]string{"cn": {name}, "uid": {name}, "sn": {"Parker"}}
	for i := 0; i+1 < len(more); i += 2 {
		set[more[i]] = append(set[more[i]], more[i+1])
	}
	return directory.Patch{Set: set}
}

func (f Fixture) create(t *testing.T, kind *directory.Kind, patch directory.Patch) directory.Entry {
	t.Helper()
	entry, err := f.Directory.Create(background(t), kind, patch)
	if err != nil {
		t.Fatalf("create %s %q: %v", kind.Singular, patch.Set["cn"], err)
	}
	return entry
}

func (f Fixture) get(t *testing.T, kind *directory.Kind, name string) directory.Entry {
	t.Helper()
	entry, err := f.Directory.Get(background(t), kind, name)
	if err != nil {
		t.Fatalf("get %s %q: %v", kind.Singular, name, err)
	}
	return entry
}

// set is the change that sets one field.
func set(field string, values ...string) directory.Change {
	return func(directory.Entry) (directory.Patch, error) {
		return directory.Patch{Set: map[string][]string{field: values}}, nil
	}
}

func (f Fixture) update(t *testing.T, kind *directory.Kind, name, field string, values ...string) directory.Entry {
	t.Helper()
	entry, err := f.Directory.Update(background(t), kind, name, directory.Condition{}, set(field, values...))
	if err != nil {
		t.Fatalf("update %s %q, %s = %q: %v", kind.Singular, name, field, values, err)
	}
	return entry
}

func wantCode(t *testing.T, what string, err error, code *directory.Code) {
	t.Helper()
	if !directory.Is(err, code) {
		t.Errorf("%s: got %v, want %s", what, err, code.Name)
	}
}

func wantValues(t *testing.T, entry directory.Entry, field string, want ...string) {
	t.Helper()
	if got := entry.Values(field); !slices.Equal(got, want) {
		t.Errorf("%s: %s is %q, want %q", entry.DN(), field, got, want)
	}
}

// fields returns what a caller sees of an entry.
func fields(entry directory.Entry) map[string][]string {
	all := map[string][]string{}
	for i, field := range entry.Kind.Fields {
		if values := entry.At(i); len(values) > 0 {
			all[field.Name] = values
		}
	}
	return all
}

func createdIsRead(t *testing.T, f Fixture) {
	created := f.create(t, f.Users, person("alice", "mail", "alice@example.org", "givenName", "Alice", "telephoneNumber", "+1 2"))
	read := f.get(t, f.Users, "alice")
	if diff := cmp.Diff(fields(created), fields(read)); diff != "" {
		t.Errorf("created and read differ:\n%s", diff)
	}
	if created.Version != read.Version {
		t.Errorf("created as %v, read as %v", created.Version, read.Version)
	}
	wantValues(t, read, "mail", "alice@example.org")
	wantValues(t, read, directory.FieldAccountLocked, directory.False)
	for _, field := range []string{directory.FieldDN, directory.FieldID, "createdAt", "updatedAt"} {
		if read.First(field) == "" {
			t.Errorf("%s is empty", field)
		}
	}
	if _, err := time.Parse(time.RFC3339, read.First("createdAt")); err != nil {
		t.Error(err)
	}
}

func takenOnce(t *testing.T, f Fixture) {
	f.create(t, f.Users, person("alice"))
	_, err := f.Directory.Create(background(t), f.Users, person("ALICE", "uid", "other"))
	wantCode(t, "create it again", err, directory.AlreadyExists)
}

func refusedCreationTakesNothing(t *testing.T, f Fixture) {
	ctx := background(t)
	alice := f.create(t, f.Users, person("alice"))
	devs := f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"devs"}, "members": {alice.DN()}}})
	f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"all"}, "members": {alice.DN(), devs.DN()}}})
	f.create(t, f.Hosts, directory.Patch{Set: map[string][]string{"cn": {"web1"}, "owners": {alice.DN()}}})
	for _, name := range []string{"alice", "ALICE", " alice ", "alice "} {
		_, err := f.Directory.Create(ctx, f.Users, person(name))
		wantCode(t, fmt.Sprintf("create user %q", name), err, directory.AlreadyExists)
	}
	_, err := f.Directory.Create(ctx, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"devs"}}})
	wantCode(t, "create the group again", err, directory.AlreadyExists)
	wantValues(t, f.get(t, f.Groups, "devs"), "members", alice.DN())
	wantValues(t, f.get(t, f.Groups, "all"), "members", alice.DN(), devs.DN())
	wantValues(t, f.get(t, f.Hosts, "web1"), "owners", alice.DN())
	if n := len(f.get(t, f.Users, "alice").Values("memberOfs")); n != 2 {
		t.Errorf("alice is in %d groups, was in 2", n)
	}
}

func notFound(t *testing.T, f Fixture) {
	ctx := background(t)
	for _, name := range append([]string{"nobody", "", "\xff"}, Names...) {
		_, err := f.Directory.Get(ctx, f.Users, name)
		wantCode(t, fmt.Sprintf("get %q", name), err, directory.NotFound)
		_, err = f.Directory.Update(ctx, f.Users, name, directory.Condition{}, set("sn", "x"))
		wantCode(t, fmt.Sprintf("update %q", name), err, directory.NotFound)
		wantCode(t, fmt.Sprintf("delete %q", name), f.Directory.Delete(ctx, f.Users, name, directory.Condition{}), directory.NotFound)
	}
	member := f.create(t, f.Users, person("member")).DN()
	wantCode(t, "add to no group", f.Directory.AddValue(ctx, f.Groups, "nogroup", "members", member, directory.Condition{}), directory.NotFound)
	wantCode(t, "remove from no group", f.Directory.RemoveValue(ctx, f.Groups, "nogroup", "members", member, directory.Condition{}), directory.NotFound)
	wantCode(t, "add under a name that can't be", f.Directory.AddValue(ctx, f.Groups, "\xff", "members", member, directory.Condition{}), directory.NotFound)
	_, err := f.Directory.Get(ctx, f.Groups, "member")
	wantCode(t, "a user as a group", err, directory.NotFound)
}

func names(t *testing.T, f Fixture) {
	ctx := background(t)
	for i, name := range Names {
		created := f.create(t, f.Users, person(name, "employeeNumber", strconv.Itoa(i)))
		wantValues(t, created, "cn", name)
		f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {name}, "members": {created.DN()}}})
	}
	for i, name := range Names {
		wantValues(t, f.get(t, f.Users, name), "employeeNumber", strconv.Itoa(i))
		wantValues(t, f.update(t, f.Users, name, "title", name), "title", name)
		resolved, err := f.Directory.Resolve(ctx, "users/"+name)
		if err != nil || resolved.Name() != name {
			t.Errorf("resolve users/%s: got %q, %v", name, resolved.Values("cn"), err)
		}
		group := f.get(t, f.Groups, name)
		wantValues(t, group, "members", resolved.DN())
		wantValues(t, resolved, "memberOfs", group.DN())
	}
	found := map[string]int{}
	for entry, err := range directory.Each(ctx, f.Directory, f.Users, directory.Query{Limit: 100}) {
		if err != nil {
			t.Fatal(err)
		}
		found[entry.Name()]++
	}
	for _, name := range Names {
		if found[name] != 1 {
			t.Errorf("%q is listed %d times", name, found[name])
		}
		if err := f.Directory.Delete(ctx, f.Users, name, directory.Condition{}); err != nil {
			t.Errorf("delete %q: %v", name, err)
		}
		wantValues(t, f.get(t, f.Groups, name), "members")
	}
}

func update(t *testing.T, f Fixture) {
	before := f.create(t, f.Users, person("alice", "mail", "alice@example.org", "title", "Engineer"))
	after, err := f.Directory.Update(background(t), f.Users, "alice", directory.Condition{}, func(current directory.Entry) (directory.Patch, error) {
		if diff := cmp.Diff(fields(before), fields(current)); diff != "" {
			t.Errorf("change was given another entry:\n%s", diff)
		}
		return directory.Patch{Set: map[string][]string{"title": nil, "givenName": {"Alice"}, "sn": {"Smith"}}}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := fields(before)
	delete(want, "title")
	want["givenName"], want["sn"], want["updatedAt"] = []string{"Alice"}, []string{"Smith"}, after.Values("updatedAt")
	if diff := cmp.Diff(want, fields(after)); diff != "" {
		t.Errorf("after the update:\n%s", diff)
	}
	read := f.get(t, f.Users, "alice")
	if diff := cmp.Diff(fields(after), fields(read)); diff != "" || after.Version != read.Version {
		t.Errorf("updated as %v, read as %v:\n%s", after.Version, read.Version, diff)
	}
	if after.Version.CSN == before.Version.CSN || after.Version.Own == before.Version.Own {
		t.Errorf("the version stayed %v", after.Version)
	}
}

func updateNothing(t *testing.T, f Fixture) {
	before := f.create(t, f.Users, person("alice", "mail", "alice@example.org"))
	for field, values := range map[string][]string{"mail": {"alice@example.org"}, "title": nil, directory.FieldAccountLocked: {directory.False}, "sshPublicKeys": nil} {
		if after := f.update(t, f.Users, "alice", field, values...); after.Version != before.Version {
			t.Errorf("%s = %q made a new version", field, values)
		}
	}
}

func changeRefuses(t *testing.T, f Fixture) {
	before := f.create(t, f.Users, person("alice"))
	_, err := f.Directory.Update(background(t), f.Users, "alice", directory.Condition{}, func(directory.Entry) (directory.Patch, error) {
		return directory.Patch{}, &directory.Error{Code: directory.LastAdmin}
	})
	wantCode(t, "update", err, directory.LastAdmin)
	if after := f.get(t, f.Users, "alice"); after.Version != before.Version {
		t.Error("the entry has changed")
	}
}

func conditions(t *testing.T, f Fixture) {
	ctx := background(t)
	first := f.create(t, f.Users, person("alice")).Version
	second := f.update(t, f.Users, "alice", "title", "Engineer").Version
	stale := directory.Condition{OneOf: []directory.Version{first}}
	none := directory.Condition{OneOf: []directory.Version{}}
	group := f.create(t, f.Groups, directory.Patch{Set: map[string][]string{"cn": {"devs"}}}).Version
	f.update(t, f.Groups, "devs", "description", "other")
	old := directory.Condition{OneOf: []directory.Version{group}}
	alice := f.get(t, f.Users, "alice").DN()
	for name, err := range map[string]error{
		"update":           errorOf(f.Directory.Update(ctx, f.Users, "alice", stale, set("title", "x"))),
		"update, no tag":   errorOf(f.Directory.Update(ctx, f.Users, "alice", none, set("title", "x"))),
		"update, the same": errorOf(f.Directory.Update(ctx, f.Users, "alice", stale, set("title", "Engineer"))),
		"delete":           f.Directory.Delete(ctx, f.Users, "alice", stale),
		"add":              f.Directory.AddValue(ctx, f.Groups, "devs", "members", alice, old),
		"remove":           f.Directory.RemoveValue(ctx, f.Groups, "devs", "members", alice, old),
	} {
		wantCode(t, name, err, directory.Stale)
	}
	wantValues(t, f.get(t, f.Users, "alice"), "title", "Engineer")
	wantValues(t, f.get(t, f.Groups, "devs"), "members")

	either := directory.Condition{OneOf: []directory.Version{first, second}}
	after, err := f.Directory.Update(ctx, f.Users, "alice", either, set("title", "Chief"))
	if err != nil {
		t.Fatalf("a list with the current version: %v", err)
	}
	current := directory.Condition{OneOf: []directory.Version{f.get(t, f.Groups, "devs").Version}}
	if err := f.Directory.AddValue(ctx, f.Groups, "devs", "members", alice, current); err != nil {
		t.Fatalf("add under the current version: %v", err)
	}
	wantValues(t, f.get(t, f.Groups, "devs"), "members", alice)
	// Becoming a member is not a change of one's own fields.
	if err := f.Directory.Delete(ctx, f.Users, "alice", directory.Condition{OneOf: []directory.Version{after.Version}}); err != nil {
		t.Fatalf("delete under the current version: %v", err)
	}
}

func errorOf[T any](_ T, err error) error { return err }

func noUpdateLost(t *testing.T, f Fixture) {
	const writers, each = 8, 10
	f.create(t, f.Users, person("counter", "employeeNumber", "0"))
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for range each {
				_, err := f.Directory.Update(background(t), f.Users, "counter", directory.Condition{}, func(current directory.Entry) (directory.Patch, error) {
					n, err := strconv.Atoi(current.First("employeeNumber"))
					return directory.Patch{Set: map[string][]string{"employeeNumber": {strconv.Itoa(n + 1)}}}, err
				})
				if err != nil {
					t.Errorf("increment: %v", err)
				}
			}
		})
	}
	all.Wait()
	wantValues(t, f.get(t, f.Users, "counter"), "employeeNumber", strconv.Itoa(writers*each))
}

func locks(t *testing.T, f Fixture) {
	f.create(t, f.Users, person("alice"))
	for i := range 2 {
		wantValues(t, f.update(t, f.Users, "alice", directory.FieldAccountLocked, directory.True), directory.FieldAccountLocked, directory.True)
		wantValues(t, f.update(t, f.Users, "alice", directory.FieldUserPassword, fmt.Sprintf("while locked %d", i)), directory.FieldAccountLocked, directory.True)
		wantValues(t, f.get(t, f.Users, "alice"), directory.FieldAccountLocked, directory.True)
		wantValues(t, f.update(t, f.Users, "alice", directory.FieldAccountLocked, directory.False), directory.FieldAccountLocked, directory.False)
		f.update(t, f.Users, "alice", directory.FieldUserPassword, fmt.Sprintf("while unlocked %d", i))
	}
	bob := f.create(t, f.Users, person("bob", directory.FieldAccountLocked, directory.True))
	wantValues(t, bob, directory.FieldAccountLocked, directory.True)
	wantValues(t, f.update(t, f.Users, "bob", directory.FieldAccountLocked), directory.FieldAccountLocked, directory.False)
}

func refusals(t *testing.T, f Fixture) {
	ctx := background(t)
	f.create(t, f.Users, person("alice", "mail", "alice@example.org"))
	f.create(t, f.Users, person("bob"))
	for _, c := range []struct {
		name  string
		err   error
		code  *directory.Code
		field string
	}{
		{"a value of the wrong syntax", errorOf(f.Directory.Update(ctx, f.Users, "bob", directory.Condition{}, set("mail", "名@example.org"))), directory.Invalid, "mail"},
		{"a mail address that another has", errorOf(f.Directory.Update(ctx, f.Users, "bob", directory.Condition{}, set("mail", "ALICE@example.org"))), directory.Invalid, "mail"},
		{"a login that another has", errorOf(f.Directory.Create(ctx, f.Users, directory.Patch{Set: map[string][]string{"cn": {"carol"}, "uid": {"alice"}, "sn": {"x"}}})), directory.Invalid, "uid"},
		{"a password that is too short", errorOf(f.Directory.Update(ctx, f.Users, "bob", directory.Condition{}, set("userPassword", "short"))), directory.PasswordRefused, "userPassword"},
		{"a new user's password that is too short", errorOf(f.Directory.Create(ctx, f.Users, person("dave", "userPassword", "short"))), directory.PasswordRefused, "userPassword"},
	} {
		wantCode(t, c.name, c.err, c.code)
		if refused, ok := c.err.(*directory.Error); !ok || len(refused.Violations) != 1 || refused.Violations[0].Field != c.field { //nolint:errorlint // the contract says what it is
			t.Errorf("%s: got %v, want a violation of %s", c.name, c.err, c.field)
		}
	}
	for _, name := range []string{"carol", "dave"} {
		_, err := f.Directory.Get(ctx, f.Users, name)
		wantCode(t, "get "+name+" after a refused creation", err, directory.NotFound)
	}
}

func ended(t *testing.T, f Fixture) {
	before := f.create(t, f.Users, person("alice"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, err := range map[string]error{
		"get":    errorOf(f.Directory.Get(ctx, f.Users, "alice")),
		"update": errorOf(f.Directory.Update(ctx, f.Users, "alice", directory.Condition{}, set("sn", "x"))),
		"create": errorOf(f.Directory.Create(ctx, f.Users, person("bob"))),
		"delete": f.Directory.Delete(ctx, f.Users, "alice", directory.Condition{}),
	} {
		if err == nil {
			t.Errorf("%s went on", name)
		}
	}
	for _, err := range directory.Each(ctx, f.Directory, f.Users, directory.Query{Limit: 100}) {
		wantCode(t, "list", err, directory.Timeout)
		break
	}
	if after := f.get(t, f.Users, "alice"); after.Version != before.Version {
		t.Error("the entry has changed")
	}
}
