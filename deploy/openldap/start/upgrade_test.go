//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/deploy/openldap"
)

func TestADirectoryOfAnOlderVersionGetsItsIndexesAndTheEntryThatCountsNumbers(t *testing.T) {
	for name, age := range map[string]func(*place, string){
		"by a new version": func(*place, string) {},
		"from a backup": func(p *place, backup string) {
			p.start(t).stop(t) // what is there has all of it
			p.restore(t, backup)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.start(t).stop(t)
			p.makeOld(t, func(entries string) string { // one user has a number
				return strings.Replace(entries, "\nobjectClass: inetOrgPerson\n",
					"\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nuidNumber: 7777\ngidNumber: 100\nhomeDirectory: /home/admin\n", 1)
			})
			age(p, p.backup(t))
			p.start(t)
			l := p.service(t)
			if found, err := search(l, p.suffix, ldap.ScopeWholeSubtree, "(uidNumber=7777)"); err != nil || len(found) != 1 {
				t.Errorf("by a number that was there before are found %d (%v)", len(found), err)
			}
			count := ldap.NewModifyRequest(openldap.NumbersDN(p.suffix), nil)
			count.Increment("uidNumber", "1")
			if err := l.Modify(count); err != nil {
				t.Errorf("the entry that counts: %v", err)
			}
		})
	}
}

// makeOld makes of a directory one of a version before there were numbers: loaded by nis.schema, not indexed by numbers,
// and without the entry that counts.
func (p *place) makeOld(t *testing.T, change func(entries string) string) {
	t.Helper()
	s := server{slapd: p.slapd}
	conf, data := filepath.Join(p.dir, configFile), filepath.Join(p.dir, dataDir)
	entries := change(entriesOf(withoutCount(p.backup(t))))
	older := regexp.MustCompile(`(include "(.*)/inetorgperson.schema"\ninclude ").*/rfc2307bis.schema"`).ReplaceAllString(p.read(t, conf), `${1}${2}/nis.schema"`)
	older = regexp.MustCompile(`(?m)^index uidNumber.*$`).ReplaceAllString(older, "")
	err := errors.Join(os.Remove(filepath.Join(data, "data.mdb")), os.Remove(filepath.Join(p.dir, indexFile)), os.WriteFile(conf, []byte(older), 0o644))
	if err == nil && os.Geteuid() == 0 {
		s.user, err = credential("openldap")
	}
	if err == nil {
		err = s.run(s.user, strings.NewReader(entries), io.Discard, "-Tadd", "-q", "-w", "-f", conf)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// entriesOf is a backup without its end.
func entriesOf(backup string) string { return endMark.ReplaceAllString(backup, "") }

// withoutCount is a backup of a version that did not count.
func withoutCount(backup string) string {
	entries := regexp.MustCompile(`(?s)\ndn: cn=numbers,.*?\n\n`).ReplaceAllString(entriesOf(backup), "\n")
	return fmt.Sprintf("%s# end, %d entries\n", entries, strings.Count(entries, "\nentryUUID: "))
}

const (
	wheel      = "cn=wheel,ou=groups,dc=example,dc=org"
	nisWarning = "warning: nis.schema stays in force, for entries whose structural class is posixGroup: 1, such as " + wheel + "."
)

// withWheel adds a group as RFC 2307 has it, which another LDAP client has made.
func withWheel(entries string) string {
	return entries + "\ndn: " + wheel + "\nobjectClass: posixGroup\ncn: wheel\ngidNumber: 4444\nmemberUid: admin\n\n"
}

// warns starts it, demands that the start warns of groups that only nis.schema describes, or does not, and stops it again.
func (p *place) warns(t *testing.T, want bool, meanwhile func(l *ldap.Conn) error) {
	t.Helper()
	r := p.start(t)
	if err := meanwhile(p.service(t)); err != nil {
		t.Error(err)
	}
	r.stop(t)
	if strings.Contains(r.words.String(), nisWarning) != want || !want && strings.Contains(r.words.String(), "nis.schema") {
		t.Errorf("the start said %q", r.words)
	}
}

func changeWheel(l *ldap.Conn) error {
	change := ldap.NewModifyRequest(wheel, nil)
	change.Replace("memberUid", []string{"admin", "alice"})
	count := ldap.NewModifyRequest(openldap.NumbersDN(openldap.DefaultSuffix), nil)
	count.Increment("gidNumber", "1")
	return errors.Join(l.Modify(change), l.Modify(count))
}

func TestDataWithGroupsThatOnlyNISDescribesKeepsThatSchema(t *testing.T) {
	t.Run("by a new version", func(t *testing.T) {
		p := newPlace(t)
		p.start(t).stop(t)
		p.makeOld(t, withWheel)
		p.warns(t, true, changeWheel)
		p.warns(t, true, changeWheel)
	})
	t.Run("from a backup", func(t *testing.T) {
		old := newPlace(t)
		old.start(t).stop(t)
		old.makeOld(t, withWheel)
		p := newPlace(t)
		p.start(t).stop(t)
		p.warns(t, false, p.addPilots)
		for _, backup := range []string{old.backup(t), p.backup(t), old.backup(t)} { // there, back, and there again
			said := p.restore(t, backup)
			isOld := !strings.Contains(backup, "cn: pilots")
			if strings.Contains(said, nisWarning) != isOld || !strings.Contains(said, "restored ") {
				t.Errorf("the restoration said %q", said)
			}
			if isOld {
				p.warns(t, true, changeWheel)
			}
		}
		p.restore(t, "", "--undo")
		p.warns(t, false, func(l *ldap.Conn) error { return l.Del(ldap.NewDelRequest("cn=pilots,ou=groups,"+p.suffix, nil)) })
		p.restore(t, "", "--undo")
		p.warns(t, true, changeWheel)
	})
}

func TestWhatIsWrongWithABackupIsSaidByTheNewSchema(t *testing.T) {
	p := newPlace(t)
	p.start(t).stop(t)
	p.warns(t, false, p.addPilots)
	cmd, words := p.command(t, "restore", "--unmarked")
	cmd.Stdin = strings.NewReader(entriesOf(p.backup(t)) + "\ndn: cn=x,ou=groups,dc=example,dc=org\nobjectClass: nonsense\ncn: x\n")
	if err := cmd.Run(); err == nil || !strings.Contains(words.String(), "cn=x,ou=groups") || strings.Contains(words.String(), "pilots") {
		t.Errorf("%v:\n%s", err, words)
	}
}

// addPilots adds a group as rfc2307bis has it.
func (p *place) addPilots(l *ldap.Conn) error {
	add := ldap.NewAddRequest("cn=pilots,ou=groups,"+p.suffix, nil)
	for attribute, values := range map[string][]string{"objectClass": {"groupOfNames", "posixGroup"}, "gidNumber": {"5555"}, "member": {p.adminDN()}} {
		add.Attribute(attribute, values)
	}
	return l.Add(add)
}

func TestWhenGroupsOfNISAreGoneOrAreGroupsOfNamesTooTheNewSchemaComesByItself(t *testing.T) {
	p := newPlace(t)
	p.start(t).stop(t)
	p.makeOld(t, withWheel)
	p.warns(t, true, func(l *ldap.Conn) error { return nil })
	backup := p.backup(t)
	p.warns(t, true, func(l *ldap.Conn) error { return l.Del(ldap.NewDelRequest(wheel, nil)) })
	p.warns(t, false, p.addPilots)
	changed := strings.Replace(backup, "\nobjectClass: posixGroup\n", "\nobjectClass: posixGroup\nobjectClass: groupOfNames\nmember: "+p.adminDN()+"\n", 1)
	changed = strings.Replace(changed, "\nstructuralObjectClass: posixGroup\n", "\n", 1)
	if said := p.restore(t, changed); strings.Contains(said, "nis.schema") {
		t.Errorf("it said %q", said)
	}
	p.warns(t, false, p.addPilots)
	p.start(t)
	found, err := search(p.service(t), p.suffix, ldap.ScopeWholeSubtree, "(&(cn=wheel)(gidNumber=4444)(memberUid=admin))")
	if err != nil || len(found) != 1 {
		t.Errorf("%v (%v)", found, err)
	}
}
