package docs_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func TestTheEntryOfTheGuideCountsNumbersAndNothingElseOfItIsRollcallsToWrite(t *testing.T) {
	const heading, admin, password = "Numbers for Linux accounts", "cn=admin,dc=acme,dc=example", "the administrator's"
	guide := page(t, "own-directory.md")
	d := loadFlatTree(t, "rootdn "+admin+"\nrootpw \""+password+"\"\n"+the(t, "conf", guide, heading)+the(t, "conf", guide, account))
	add := exec.Command("ldapadd", "-x", "-H", d.URL(), "-D", admin, "-w", password)
	add.Stdin = strings.NewReader(the(t, "ldif", guide, heading))
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l, err := ldap.DialURL(d.URL())
	if err == nil {
		defer l.Close()
		err = l.Bind(d.ServiceDN(), d.ServicePassword())
	}
	if err != nil {
		t.Fatal(err)
	}
	for attribute, want := range map[string]uint16{"uidNumber": 0, "gidNumber": 0, "description": ldap.LDAPResultInsufficientAccessRights} {
		request := ldap.NewModifyRequest("cn=numbers,ou=services,dc=acme,dc=example", nil)
		if want == 0 {
			request.Increment(attribute, "1")
		} else {
			request.Replace(attribute, []string{"x"})
		}
		if err := l.Modify(request); (want == 0) != (err == nil) || err != nil && !ldap.IsErrorWithCode(err, want) {
			t.Errorf("%s: %v", attribute, err)
		}
	}
}
