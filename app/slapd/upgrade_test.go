package slapd

import (
	"os"
	"path/filepath"
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
