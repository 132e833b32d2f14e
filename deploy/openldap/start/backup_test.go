//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/deploy/openldap"
)

// contextCSN is the number of the last change anywhere; slapd writes it when it stops.
var contextCSN = regexp.MustCompile("(?m)^contextCSN: .*\n")

// backup returns what the program's backup writes.
func (p *place) backup(t *testing.T) string {
	t.Helper()
	cmd, words := p.command(t, "backup")
	if err := cmd.Run(); err != nil {
		t.Fatalf("backup: %v\n%s", err, words)
	}
	return contextCSN.ReplaceAllString(words.String(), "")
}

// restore restores a backup and returns what the program said.
func (p *place) restore(t *testing.T, backup string, args ...string) string {
	t.Helper()
	cmd, words := p.command(t, append([]string{"restore"}, args...)...)
	cmd.Stdin = strings.NewReader(backup)
	if err := cmd.Run(); err != nil {
		t.Fatalf("restore %v: %v\n%s", args, err, words)
	}
	p.nothingIsLeft(t)
	return words.String()
}

// nothingIsLeft demands that a restoration has taken away what it worked on.
func (p *place) nothingIsLeft(t *testing.T) {
	t.Helper()
	spooled, err := filepath.Glob(filepath.Join(p.dir, "restore-*"))
	if err != nil || len(spooled) > 0 || exists(filepath.Join(p.dir, newDir)) {
		t.Errorf("something is left: %q (%v)", spooled, err)
	}
}

func (p *place) addHost(t *testing.T, name string) {
	t.Helper()
	add := ldap.NewAddRequest("cn="+name+",ou=hosts,"+p.suffix, nil)
	add.Attribute("objectClass", []string{"device"})
	add.Attribute("description", []string{"Grüße"}) // in base64
	if err := p.service(t).Add(add); err != nil {
		t.Fatal(err)
	}
}

func TestABackupSaysAtItsEndHowManyEntriesItHas(t *testing.T) {
	p := newPlace(t)
	p.start(t)
	p.addHost(t, strings.Repeat("long-", 20)) // its first line is folded
	add := ldap.NewAddRequest("cn=größer,ou=hosts,"+p.suffix, nil)
	add.Attribute("objectClass", []string{"device"})
	add.Attribute("description", []string{"line\ndn: none\n# end, 1 entries", "its dn: none"})
	if err := p.service(t).Add(add); err != nil {
		t.Fatal(err)
	}
	backup := p.backup(t)
	entries := len(regexp.MustCompile("(?m)^entryUUID: ").FindAllString(backup, -1))
	if !strings.HasSuffix(backup, fmt.Sprintf("\n\n# end, %d entries\n", entries)) || entries != 18 {
		t.Errorf("%d entries:\n%s", entries, backup)
	}
	newPlace(t).refused(t, "there is no directory in ", "backup")
}

func TestABackupThatFailsHasNoEnd(t *testing.T) {
	p := newPlace(t)
	p.start(t).stop(t)
	if err := os.Truncate(filepath.Join(p.dir, dataDir, "data.mdb"), 40<<10); err != nil {
		t.Fatal(err)
	}
	cmd, words := p.command(t, "backup")
	if err := cmd.Run(); err == nil || strings.Contains(words.String(), "# end") {
		t.Errorf("%v:\n%s", err, words)
	}
}

func TestABackupIsRestoredInPlaceOfWhatIsThereAndElsewhere(t *testing.T) {
	p := newPlace(t)
	r := p.start(t)
	backup := p.backup(t) // while it runs
	admin := p.read(t, p.secrets, adminFile)
	if err := p.service(t).Del(ldap.NewDelRequest("cn=admins,ou=groups,"+p.suffix, nil)); err != nil {
		t.Fatal(err)
	}
	r.stop(t)
	elsewhere := newPlace(t)
	elsewhere.start(t).stop(t)
	for _, test := range []struct {
		name, was, backup string
		p                 *place
		args              []string
	}{
		{"in place", "15", backup, p, nil},
		{"elsewhere", "16", backup, elsewhere, nil},
		{"where there is nothing", "none", backup, newPlace(t), nil},
		{"with line ends of Windows", "none", strings.ReplaceAll(backup, "\n", "\r\n"), newPlace(t), nil},
		{"as slapcat writes it", "none", endMark.ReplaceAllString(backup, ""), newPlace(t), []string{"--unmarked"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := test.p
			said := p.restore(t, test.backup, test.args...)
			if want := "restored " + p.suffix + ": 16 entries, in place of " + test.was + "\n"; said != want {
				t.Errorf("it said %q, want %q", said, want)
			}
			r := p.start(t)
			groups, err := search(p.service(t), "ou=groups,"+p.suffix, ldap.ScopeSingleLevel, "(objectClass=*)")
			if err != nil || len(groups) != 1 || groups[0].GetAttributeValue("member") != p.adminDN() {
				t.Errorf("%v (%v), want the admins", groups, err)
			}
			if err := p.dial(t).Bind(p.adminDN(), admin); err != nil {
				t.Errorf("the administrator: %v", err)
			}
			r.stop(t)
			if exists(filepath.Join(p.dir, newDir)) || exists(filepath.Join(p.dir, replacedDir)) != (test.was != "none") {
				t.Error("something is left, or what was replaced is not")
			}
		})
	}
}

func TestARestorationIsTakenBack(t *testing.T) {
	p := newPlace(t)
	r := p.start(t)
	first := p.backup(t)
	p.addHost(t, "kept")
	r.stop(t)
	was := p.backup(t)
	p.refused(t, "there is no directory that a restoration replaced", "restore", "--undo")
	p.restore(t, first)
	p.start(t).stop(t) // what was replaced outlives a start
	back := "the directory from before the restoration is back: 17 entries, in place of 16\n"
	if said := p.restore(t, "", "--undo"); said != back {
		t.Errorf("it said %q, want %q", said, back)
	}
	if diff := cmp.Diff(was, p.backup(t)); diff != "" {
		t.Errorf("was (-), is (+):\n%s", diff)
	}
	r = p.start(t)
	p.service(t)
	r.stop(t)
	if said := p.restore(t, "", "--undo"); !strings.Contains(said, "16 entries, in place of 17") {
		t.Errorf("taken back again, it said %q", said)
	}
	p.restore(t, was)
	if said := p.restore(t, "", "--undo"); !strings.Contains(said, "16 entries, in place of 17") {
		t.Errorf("it keeps another than the last that was replaced: %q", said)
	}
	p.start(t)
	p.service(t)
}

func TestADirectoryThatCannotBeReadIsReplacedByABackup(t *testing.T) {
	p := newPlace(t)
	p.start(t).stop(t)
	backup := p.backup(t)
	if err := os.WriteFile(filepath.Join(p.dir, dataDir, "data.mdb"), []byte(strings.Repeat("no database", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if said := p.restore(t, backup); !strings.HasSuffix(said, "16 entries, in place of an unknown number\n") {
		t.Errorf("it said %q", said)
	}
	p.start(t)
	p.service(t)
}

func TestADirectoryWithAnotherServicePasswordIsGivenTheOneOfTheFile(t *testing.T) {
	p := newPlace(t)
	p.start(t).stop(t)
	change := exec.Command(p.slapd, "-Tmodify", "-f", filepath.Join(p.dir, configFile))
	change.Stdin = strings.NewReader("dn: " + openldap.ServiceDN(p.suffix) + "\nchangetype: modify\nreplace: userPassword\nuserPassword: another\n")
	if words, err := change.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, words)
	}
	p.start(t)
	p.service(t)
}

func TestABackupThatIsNotWholeLeavesTheDirectoryAsItIs(t *testing.T) {
	p := newPlace(t)
	r := p.start(t)
	p.addHost(t, "last")
	r.stop(t)
	backup := p.backup(t)
	entries, _, _ := strings.Cut(backup, "# end, ")
	last := strings.LastIndex(strings.TrimSpace(entries), "\n\n") + 2
	base64 := strings.LastIndex(entries, "description:: ") + len("description:: ") + 3
	const cutOff, other = "the backup is cut off, or was not made by", `Nothing is changed. Take another backup, or "restore --unmarked"`
	for rule, test := range map[string]struct{ backup, says string }{
		"nothing":                       {"", cutOff},
		"no LDIF":                       {"not so:", "slapadd: exit status 1"},
		"another suffix":                {"dn: dc=other,dc=org\nobjectClass: dcObject\nobjectClass: organization\ndc: other\no: other\n\n# end, 1 entries\n", "slapadd: exit status 1"},
		"no entries":                    {"# end, 0 entries\n", "the service account, " + openldap.ServiceDN(p.suffix) + ", can't be given its password"},
		"no mark":                       {entries, cutOff},
		"cut within the last line":      {strings.TrimSpace(entries)[:len(strings.TrimSpace(entries))-3], cutOff},
		"cut within a value in base64":  {entries[:base64], cutOff},
		"cut between entries":           {entries[:last], cutOff},
		"cut within the mark":           {strings.TrimSuffix(backup, "ies\n"), cutOff},
		"it goes on after the mark":     {backup + "\ndn: ou=more," + p.suffix + "\nobjectClass: organizationalUnit\nou: more\n", cutOff},
		"an entry is missing":           {entries[:last] + "# end, 17 entries\n", "the backup says that it has 17 entries, and has 16"},
		"an entry more than it says":    {entries + "# end, 16 entries\n", "the backup says that it has 16 entries, and has 17"},
		"it says more than can be read": {entries + "# end, 99999999999999999999 entries\n", "and has 17"},
	} {
		t.Run(rule, func(t *testing.T) {
			cmd, words := p.command(t, "restore")
			cmd.Stdin = strings.NewReader(test.backup)
			if err := cmd.Run(); err == nil || !strings.Contains(words.String(), test.says) {
				t.Errorf("%v, want %q:\n%s", err, test.says, words)
			}
			if strings.Contains(test.says, "backup") && !strings.Contains(words.String(), other) {
				t.Errorf("it does not say what to do:\n%s", words)
			}
			p.nothingIsLeft(t)
			if exists(filepath.Join(p.dir, replacedDir)) {
				t.Error("it has replaced something")
			}
			if diff := cmp.Diff(backup, p.backup(t)); diff != "" {
				t.Errorf("was (-), is (+):\n%s", diff)
			}
		})
	}
	p.refused(t, `"restor" is no command: it is backup, restore,`, "restor")
	p.start(t)
	if err := p.dial(t).Bind(p.adminDN(), p.read(t, p.secrets, adminFile)); err != nil {
		t.Errorf("the administrator: %v", err)
	}
}

func TestARestorationThatIsCutOffBetweenTwoRenamingsIsTakenBack(t *testing.T) {
	p := newPlace(t)
	r := p.start(t)
	was := p.backup(t)
	r.stop(t)
	if err := os.Rename(filepath.Join(p.dir, dataDir), filepath.Join(p.dir, replacedDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(p.dir, newDir, dataDir), 0o700); err != nil {
		t.Fatal(err)
	}
	p.start(t)
	if diff := cmp.Diff(was, p.backup(t)); diff != "" {
		t.Errorf("was (-), is (+):\n%s", diff)
	}
}
