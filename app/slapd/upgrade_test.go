package slapd

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/deploy/openldap"
)

// TestAFolderOfAnOlderVersionGetsWhatIsNew: it has neither indexes of numbers nor the entry that counts them, and an
// account all the same.
func TestAFolderOfAnOlderVersionGetsWhatIsNew(t *testing.T) {
	unfilled := openldap.Values{ServicePasswordHash: "${SERVICE_PASSWORD_HASH}"}
	base, err := openldap.Base(unfilled)
	if err != nil {
		t.Fatal(err)
	}
	numbers, err := openldap.Numbers(unfilled)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	old := start(t, Options{Dir: dir, Base: strings.Replace(base, numbers, "", 1), Config: func(conf string) string {
		return strings.Replace(conf, "index uidNumber,gidNumber", "#", 1)
	}})
	alice := "cn=alice,ou=people," + old.Suffix()
	want(t, "a user", add(service(t, old), alice, "sn", "x", "uid", "alice"), ldap.LDAPResultSuccess)
	account := ldap.NewModifyRequest(alice, nil)
	for attribute, value := range map[string]string{"objectClass": "posixAccount", "uidNumber": "7777", "gidNumber": "100", "homeDirectory": "/home/alice"} {
		account.Add(attribute, []string{value})
	}
	want(t, "an account", service(t, old).Modify(account), ldap.LDAPResultSuccess)
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, serverDir, indexFile)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s := start(t, Options{Dir: dir})
		l := service(t, s)
		if found := mustSearch(t, l, s.Suffix(), ldap.ScopeWholeSubtree, "(uidNumber=7777)"); len(found) != 1 {
			t.Errorf("by its number are found %v", found)
		}
		count := ldap.NewModifyRequest(openldap.NumbersDN(s.Suffix()), nil)
		count.Increment("uidNumber", "1")
		want(t, "to count", l.Modify(count), ldap.LDAPResultSuccess)
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAFolderWithGroupsThatOnlyNISDescribesKeepsThatSchema: they are posixGroup and nothing else, and can be changed still.
func TestAFolderWithGroupsThatOnlyNISDescribesKeepsThatSchema(t *testing.T) {
	dir := t.TempDir()
	old := start(t, Options{Dir: dir, Config: func(conf string) string {
		return regexp.MustCompile(`(include "(.*)/inetorgperson.schema"\ninclude ").*/rfc2307bis.schema"`).ReplaceAllString(conf, `${1}${2}/nis.schema"`)
	}})
	wheel := "cn=wheel,ou=groups," + old.Suffix()
	group := ldap.NewAddRequest(wheel, nil)
	for attribute, value := range map[string]string{"objectClass": "posixGroup", "cn": "wheel", "gidNumber": "4444"} {
		group.Attribute(attribute, []string{value})
	}
	want(t, "a group", service(t, old).Add(group), ldap.LDAPResultSuccess)
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, serverDir, indexFile)); err != nil {
		t.Fatal(err)
	}
	begin := func(warnings int) *Server {
		t.Helper()
		var said []string
		s := start(t, Options{Dir: dir, Warn: func(message string) { said = append(said, message) }})
		if len(said) != warnings || warnings > 0 && !strings.Contains(said[0], "nis.schema stays in force, for entries whose structural class is posixGroup: 1, such as "+wheel) {
			t.Errorf("it warned of %q", said)
		}
		return s
	}
	for range 2 {
		s := begin(1)
		change := ldap.NewModifyRequest(wheel, nil)
		change.Replace("memberUid", []string{"alice"})
		want(t, "a change", service(t, s).Modify(change), ldap.LDAPResultSuccess)
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
	}
	s := begin(1)
	want(t, "its end", service(t, s).Del(ldap.NewDelRequest(wheel, nil)), ldap.LDAPResultSuccess)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	s = begin(0)
	group.Attributes = nil
	for attribute, values := range map[string][]string{"objectClass": {"groupOfNames", "posixGroup"}, "cn": {"wheel"}, "gidNumber": {"4444"}, "member": {openldap.PlaceholderDN(s.Suffix())}} {
		group.Attribute(attribute, values)
	}
	want(t, "a group of both classes", service(t, s).Add(group), ldap.LDAPResultSuccess)
}
