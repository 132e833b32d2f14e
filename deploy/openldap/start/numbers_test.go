//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/deploy/openldap"
)

// count sets how far numbers are counted.
func (p *place) count(t *testing.T, uid, gid string) {
	t.Helper()
	change := ldap.NewModifyRequest(openldap.NumbersDN(p.suffix), nil)
	change.Replace("uidNumber", []string{uid})
	change.Replace("gidNumber", []string{gid})
	if err := p.service(t).Modify(change); err != nil {
		t.Fatal(err)
	}
}

// counted demands how far numbers are counted after the next start.
func (p *place) counted(t *testing.T, uid, gid string) {
	t.Helper()
	r := p.start(t)
	found, err := search(p.service(t), openldap.NumbersDN(p.suffix), ldap.ScopeBaseObject, "(objectClass=*)")
	if err != nil || len(found) != 1 {
		t.Fatalf("%v (%v)", found, err)
	}
	if got := fmt.Sprintf("%s %s", found[0].GetAttributeValue("uidNumber"), found[0].GetAttributeValue("gidNumber")); got != uid+" "+gid {
		t.Errorf("counted up to %s, want %s %s", got, uid, gid)
	}
	r.stop(t)
}

func TestARestorationDoesNotSetTheCountOfNumbersBack(t *testing.T) {
	for name, test := range map[string]struct {
		change   func(backup string) string
		uid, gid string
	}{
		"of a backup from before":                        {func(backup string) string { return backup }, "10400", "10007"},
		"of a backup in which there was no count":        {withoutCount, "10400", "10007"},
		"of a backup that has one of them counted ahead": {func(b string) string { return strings.Replace(b, "\nuidNumber: 10002\n", "\nuidNumber: 10500\n", 1) }, "10500", "10007"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			r := p.start(t)
			p.count(t, "10002", "10001")
			backup := test.change(p.backup(t))
			p.count(t, "10400", "10007")
			r.stop(t)
			p.restore(t, backup)
			p.counted(t, test.uid, test.gid)
			p.counted(t, test.uid, test.gid)
		})
	}
}

func TestNorDoesOneThatIsTakenBackOrFollowedByAnother(t *testing.T) {
	p := newPlace(t)
	r := p.start(t)
	p.count(t, "10002", "10001")
	backup := p.backup(t)
	p.count(t, "10400", "10001")
	r.stop(t)
	p.restore(t, backup)
	p.restore(t, backup) // before anything was started
	p.counted(t, "10400", "10001")
	r = p.start(t)
	p.count(t, "10401", "10020")
	r.stop(t)
	p.restore(t, "", "--undo")
	p.counted(t, "10401", "10020")
}

func TestWhereTheCountOfWhatIsReplacedCannotBeReadThatIsSaid(t *testing.T) {
	p := newPlace(t)
	r := p.start(t)
	p.count(t, "10002", "10001")
	r.stop(t)
	backup := p.backup(t)
	p.restore(t, backup)
	if err := os.WriteFile(filepath.Join(p.dir, dataDir, "data.mdb"), []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	said := p.restore(t, strings.Replace(backup, "\nuidNumber: 10002\n", "\nuidNumber: 9\n", 1))
	if !strings.HasPrefix(said, "warning: how far the directory that is replaced has counted the numbers of Linux accounts can't be read. ") {
		t.Errorf("it said %q", said)
	}
	p.counted(t, "10002", "10001") // as the restoration before had found it
}
