package ldapdir_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

func personDN(name string) string { return "cn=" + name + ",ou=people," + ldapdirtest.Base }

// actingDirectory is one whose server lets the admin do everything in the containers, alice change her mobile number
// and add members to devs, and others nothing.
func actingDirectory(t *testing.T, change ...func(*ldapdir.Options)) (*ldapdir.Directory, *slapd.Server) {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	server := ldapdirtest.Start(t, slapd.Options{Seed: seed, Config: func(conf string) string {
		return strings.Replace(conf, "# Passwords, old ones included", `
access to dn.base="cn=devs,ou=groups,`+ldapdirtest.Base+`" attrs=member
	by dn.exact="`+personDN("alice")+`" write
	by * break
access to dn.children="ou=people,`+ldapdirtest.Base+`" attrs=mobile
	by self write
	by * break
access to *
	by dn.exact="`+personDN("admin")+`" write
	by dn.exact="`+personDN("alice")+`" read
	by * break
# Passwords, old ones included`, 1)
	}})
	o := ldapdirtest.Options(server)
	o.ActAsCaller = true
	for _, f := range change {
		f(&o)
	}
	return ldapdirtest.Open(t, o), server
}

func as(t *testing.T, name string) context.Context {
	t.Helper()
	return directory.WithCaller(t.Context(), directory.Caller{Login: name, Name: name, DN: personDN(name)})
}

func patch(field string, values ...string) directory.Change {
	return func(directory.Entry) (directory.Patch, error) {
		return directory.Patch{Set: map[string][]string{field: values}}, nil
	}
}

// modifier returns who the server says changed an entry last.
func modifier(t *testing.T, server *slapd.Server, dn string) string {
	t.Helper()
	found, err := ldapdirtest.Bind(t, server).Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"modifiersName"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	return found.Entries[0].GetAttributeValue("modifiersName")
}

func TestTheServerDecidesWhatACallerMayDo(t *testing.T) {
	d, server := actingDirectory(t)
	alice := as(t, "alice")
	if _, err := d.Update(alice, ldapdirtest.Users, "alice", directory.Condition{}, patch("mobile", "+1 555 0100")); err != nil {
		t.Errorf("alice's own mobile: %v", err)
	}
	if got := modifier(t, server, personDN("alice")); got != personDN("alice") {
		t.Errorf("the server thinks that %s changed alice", got)
	}
	if err := d.AddValue(alice, ldapdirtest.Groups, "devs", directory.FieldMembers, personDN("bob"), directory.Condition{}); err != nil {
		t.Errorf("alice adds a member to devs: %v", err)
	}
	for _, refused := range []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"a change", func(ctx context.Context) error {
			_, err := d.Update(ctx, ldapdirtest.Users, "alice", directory.Condition{}, patch("title", "Chief"))
			return err
		}},
		{"a creation", func(ctx context.Context) error {
			_, err := d.Create(ctx, ldapdirtest.Hosts, directory.Patch{Set: map[string][]string{"cn": {"new"}}})
			return err
		}},
		{"a new member", func(ctx context.Context) error {
			return d.AddValue(ctx, ldapdirtest.Groups, "ops", directory.FieldMembers, personDN("alice"), directory.Condition{})
		}},
		{"a member less", func(ctx context.Context) error {
			return d.RemoveValue(ctx, ldapdirtest.Groups, "admins", directory.FieldMembers, personDN("admin"), directory.Condition{})
		}},
		{"another password", func(ctx context.Context) error {
			_, err := d.ChangePassword(ctx, ldapdirtest.Users, "bob", directory.PasswordChange{New: "another password"})
			return err
		}},
		{"a deletion", func(ctx context.Context) error {
			return d.Delete(ctx, ldapdirtest.Hosts, "spare", directory.Condition{})
		}},
	} {
		if err := refused.do(alice); !directory.Is(err, directory.Forbidden) {
			t.Errorf("%s by alice: %v", refused.name, err)
		}
	}
}

func TestAnAdminDoesEverythingAsItself(t *testing.T) {
	d, server := actingDirectory(t)
	admin := as(t, "admin")
	if _, err := d.Create(admin, ldapdirtest.Users, directory.Patch{Set: map[string][]string{"cn": {"new"}, "uid": {"new"}, "sn": {"x"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Update(admin, ldapdirtest.Users, "new", directory.Condition{}, patch("accountLocked", "true")); err != nil {
		t.Error(err)
	}
	if got := modifier(t, server, personDN("new")); got != personDN("admin") {
		t.Errorf("the server thinks that %s changed the user", got)
	}
	if _, err := d.ChangePassword(admin, ldapdirtest.Users, "new", directory.PasswordChange{New: "a new password"}); err != nil {
		t.Error(err)
	}
	if err := d.AddValue(admin, ldapdirtest.Groups, "devs", directory.FieldMembers, personDN("new"), directory.Condition{}); err != nil {
		t.Error(err)
	}
	if err := d.Delete(admin, ldapdirtest.Users, "new", directory.Condition{}); err != nil {
		t.Error(err)
	}
	devs, err := d.Get(admin, ldapdirtest.Groups, "devs")
	if err != nil || slices.Contains(devs.Values(directory.FieldMembers), personDN("new")) {
		t.Errorf("the membership is left: %v", err)
	}
}

// TestWhoMaySeeNothingSeesNothing: bob may read but himself.
func TestWhoMaySeeNothingSeesNothing(t *testing.T) {
	d, _ := actingDirectory(t)
	bob := as(t, "bob")
	if _, err := d.Get(bob, ldapdirtest.Users, "bob"); err != nil {
		t.Error(err)
	}
	if _, err := d.Get(bob, ldapdirtest.Users, "alice"); !directory.Is(err, directory.NotFound) {
		t.Errorf("bob sees alice: %v", err)
	}
	if _, err := d.Resolve(bob, personDN("alice")); !directory.Is(err, directory.NotFound) {
		t.Errorf("bob resolves alice: %v", err)
	}
	for entry, err := range d.List(bob, ldapdirtest.Users) {
		if err == nil && entry.Name() != "bob" {
			t.Errorf("bob lists %s", entry.Name())
		}
	}
	if _, err := d.Get(directory.AsService(bob), ldapdirtest.Users, "alice"); err != nil {
		t.Errorf("the service does not see alice: %v", err)
	}
	account, err := d.Account(bob, "uid", "alice")
	if err != nil || account.Name != "alice" {
		t.Errorf("logins are looked up as bob: %v", err)
	}
	groups, err := d.Groups(bob, personDN("alice"))
	if err != nil || len(groups) == 0 {
		t.Errorf("groups are looked up as bob: %v", err)
	}
}

// TestTheServiceActsAsPeopleOnly: not as itself, as the root account, or as nobody.
func TestTheServiceActsAsPeopleOnly(t *testing.T) {
	d, server := actingDirectory(t)
	for _, dn := range []string{"cn=internal," + ldapdirtest.Base, "cn=placeholder,ou=services," + ldapdirtest.Base, "cn=devs,ou=groups," + ldapdirtest.Base} {
		ctx := directory.WithCaller(t.Context(), directory.Caller{DN: dn})
		if _, err := d.Update(ctx, ldapdirtest.Users, "alice", directory.Condition{}, patch("title", "x")); !directory.Is(err, directory.Forbidden) {
			t.Errorf("as %q: %v", dn, err)
		}
	}
	anybody := directory.WithCaller(t.Context(), directory.Caller{})
	if _, err := d.Get(anybody, ldapdirtest.Users, "alice"); err == nil {
		t.Error("a caller without an entry sees alice")
	}
	if got := modifier(t, server, personDN("alice")); strings.HasPrefix(got, "cn=rollcall") {
		t.Errorf("%s changed alice", got)
	}
}
