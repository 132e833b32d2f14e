//go:build linux

package main

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/deploy/openldap"
)

// nisGroup is a group as RFC 2307 has it, which another LDAP client has made under nis.schema.
const nisGroup = "dn: cn=wheel,ou=groups,dc=example,dc=org\nobjectClass: posixGroup\ncn: wheel\ngidNumber: 4444\nmemberUid: admin\n\n"

// reload puts other entries in place of the directory's, by nis.schema, as a version did that knew no other.
func (p *place) reload(t *testing.T, entries string) {
	t.Helper()
	s := server{slapd: p.slapd}
	conf, data := filepath.Join(p.dir, configFile), filepath.Join(p.dir, dataDir)
	older := regexp.MustCompile(`"[^"]*/rfc2307bis.schema"`).ReplaceAllString(p.read(t, conf), `"`+filepath.Join(filepath.Dir(installed(t, "/etc/ldap/schema/nis.schema", "/etc/openldap/schema/nis.schema")), "nis.schema")+`"`)
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

// withoutEnd is a backup without what says that it is one.
func withoutEnd(backup string) string { return endMark.ReplaceAllString(backup, "") }

func TestDataWithGroupsThatOnlyNISDescribesKeepsThatSchema(t *testing.T) {
	const dn, warning = "cn=wheel,ou=groups,dc=example,dc=org", "warning: nis.schema stays in force, for entries whose structural class is posixGroup: 1, such as cn=wheel,ou=groups,dc=example,dc=org."
	for name, age := range map[string]func(t *testing.T, p *place, backup string){
		"by a new version": func(*testing.T, *place, string) {},
		"from a backup": func(t *testing.T, p *place, backup string) {
			p.start(t).stop(t) // what is there knows the new schema
			if said := p.restore(t, backup); !strings.Contains(said, warning) {
				t.Errorf("the restoration said %q", said)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			p.start(t).stop(t)
			fresh := p.backup(t)
			p.reload(t, regexp.MustCompile(`(?s)\ndn: cn=numbers,.*?\n\n`).ReplaceAllString(withoutEnd(fresh), "\n")+"\n"+nisGroup)
			backup := p.backup(t)
			if name == "from a backup" {
				p.restore(t, fresh)
			}
			age(t, p, backup)
			for range 2 {
				r := p.start(t)
				if !strings.Contains(r.words.String(), warning) {
					t.Errorf("the start said %q", r.words)
				}
				change := ldap.NewModifyRequest(dn, nil)
				change.Replace("memberUid", []string{"admin", "alice"})
				if err := p.service(t).Modify(change); err != nil {
					t.Errorf("a change of it: %v", err)
				}
				count := ldap.NewModifyRequest(openldap.NumbersDN(p.suffix), nil)
				count.Increment("gidNumber", "1")
				if err := p.service(t).Modify(count); err != nil {
					t.Errorf("the entry that counts: %v", err)
				}
				r.stop(t)
			}
			again := p.backup(t)
			if said := p.restore(t, again); !strings.Contains(said, warning) {
				t.Errorf("its own backup restored, it said %q", said)
			}
			p.start(t)
			if err := p.service(t).Del(ldap.NewDelRequest(dn, nil)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestWhenGroupsOfNISAreGoneOrAreGroupsOfNamesTooTheNewSchemaComesByItself(t *testing.T) {
	p := newPlace(t)
	r := p.start(t)
	r.stop(t)
	p.reload(t, withoutEnd(p.backup(t))+"\n"+nisGroup)
	r = p.start(t)
	backup := p.backup(t)
	if err := p.service(t).Del(ldap.NewDelRequest("cn=wheel,ou=groups,"+p.suffix, nil)); err != nil {
		t.Fatal(err)
	}
	r.stop(t)
	takesAccountGroups := func() {
		t.Helper()
		r := p.start(t)
		add := ldap.NewAddRequest("cn=pilots,ou=groups,"+p.suffix, nil)
		for attribute, values := range map[string][]string{"objectClass": {"groupOfNames", "posixGroup"}, "gidNumber": {"5555"}, "member": {p.adminDN()}} {
			add.Attribute(attribute, values)
		}
		if err := p.service(t).Add(add); err != nil || strings.Contains(r.words.String(), "nis.schema") {
			t.Errorf("a new group: %v\n%s", err, r.words)
		}
		r.stop(t)
	}
	takesAccountGroups()
	changed := strings.Replace(backup, "\nobjectClass: posixGroup\n", "\nobjectClass: posixGroup\nobjectClass: groupOfNames\nmember: "+p.adminDN()+"\n", 1)
	changed = strings.Replace(changed, "\nstructuralObjectClass: posixGroup\n", "\n", 1)
	if said := p.restore(t, changed); strings.Contains(said, "nis.schema") {
		t.Errorf("it said %q", said)
	}
	takesAccountGroups()
	found, err := search(p.service2(t), p.suffix, ldap.ScopeWholeSubtree, "(&(cn=wheel)(gidNumber=4444)(memberUid=admin))")
	if err != nil || len(found) != 1 {
		t.Errorf("%v (%v)", found, err)
	}
}

// service2 is service of a new start.
func (p *place) service2(t *testing.T) *ldap.Conn {
	t.Helper()
	p.start(t)
	return p.service(t)
}
