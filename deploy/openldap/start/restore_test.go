//go:build linux

package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/deploy/openldap"
)

func TestAFirstLoadThatIsKilledMidwayLeavesNothing(t *testing.T) {
	p := newPlace(t)
	quick := p.slapd
	// This slapadd loads the first entries only, and then takes for ever.
	p.slapd = filepath.Join(filepath.Dir(quick), "slow")
	mark := filepath.Join(filepath.Dir(p.socket), "loaded")
	script := "#!/bin/sh\n[ \"$1\" = -Tadd ] || exec " + quick + " \"$@\"\nsed 9q | " + quick + " \"$@\"\n: >" + mark + "\nexec sleep 600\n"
	if err := os.WriteFile(p.slapd, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	cmd, words := p.command(t)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !exists(mark); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: half a load\n%s", words)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !exists(p.dir+"/new/data/data.mdb") || exists(filepath.Join(p.dir, dataDir)) {
		t.Fatal("the load was not cut off midway")
	}
	password := p.read(t, p.secrets, adminFile)
	p.slapd = quick
	p.startWhenFree(t)
	if err := p.dial(t).Bind(p.adminDN(), password); err != nil {
		t.Errorf("the administrator: %v", err)
	}
	if entries, err := search(p.service(t), p.suffix, ldap.ScopeWholeSubtree, "(objectClass=*)"); err != nil || len(entries) < 13 {
		t.Errorf("%d entries (%v)", len(entries), err)
	}
	if exists(filepath.Join(p.dir, newDir)) {
		t.Errorf("%s is left", newDir)
	}
}

// startWhenFree starts it as soon as a predecessor's children are gone, which outside of a container takes a moment.
func (p *place) startWhenFree(t *testing.T) *running {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		held := exec.Command("flock", "-n", filepath.Join(p.dir, "lock"), "true").Run()
		if held == nil {
			break
		}
	}
	return p.start(t)
}

func TestASecondSlapdIsKeptOut(t *testing.T) {
	p := newPlace(t)
	p.start(t)
	p.refused(t, "another slapd runs on "+p.dir+": stop it first")
	p.refused(t, "another slapd runs on "+p.dir+": stop it first", "restore")
	p.service(t)
}

func TestAnotherSuffixIsRefused(t *testing.T) {
	p := newPlace(t)
	p.suffix = "dc=corp,dc=test"
	p.start(t).stop(t)
	p.suffix = openldap.DefaultSuffix
	p.refused(t, "the directory that is there is dc=corp,dc=test, not dc=example,dc=org: set LDAP_SUFFIX back")
	p.suffix = "dc=corp,dc=test"
	p.start(t)
	p.service(t)
}

// contextCSN is the number of the last change anywhere; slapd writes it when it stops.
var contextCSN = regexp.MustCompile("(?m)^contextCSN: .*\n")

// backup returns what slapcat writes.
func (p *place) backup(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(p.slapd, "-Tcat", "-f", filepath.Join(p.dir, configFile)).Output()
	if err != nil {
		t.Fatal(err)
	}
	return contextCSN.ReplaceAllString(string(out), "")
}

func (p *place) restore(t *testing.T, backup string) {
	t.Helper()
	cmd, words := p.command(t, "restore")
	cmd.Stdin = strings.NewReader(backup)
	if err := cmd.Run(); err != nil {
		t.Fatalf("restore: %v\n%s", err, words)
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
	empty := newPlace(t)
	for name, p := range map[string]*place{"in place": p, "elsewhere": elsewhere, "where there is nothing": empty} {
		p.restore(t, backup)
		r := p.start(t)
		groups, err := search(p.service(t), "ou=groups,"+p.suffix, ldap.ScopeSingleLevel, "(objectClass=*)")
		if err != nil || len(groups) != 1 || groups[0].GetAttributeValue("member") != p.adminDN() {
			t.Errorf("%s: %v (%v), want the admins", name, groups, err)
		}
		if err := p.dial(t).Bind(p.adminDN(), admin); err != nil {
			t.Errorf("%s: the administrator: %v", name, err)
		}
		r.stop(t)
		if exists(filepath.Join(p.dir, oldDir)) || exists(filepath.Join(p.dir, newDir)) {
			t.Errorf("%s: something is left", name)
		}
	}
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

func TestABackupThatIsNoneLeavesTheDirectoryAsItIs(t *testing.T) {
	p := newPlace(t)
	p.start(t).stop(t)
	for rule, says := range map[string]string{
		"":        "the service account, " + openldap.ServiceDN(p.suffix) + ", can't be given its password",
		"not so:": "slapadd: exit status 1",
		"dn: dc=other,dc=org\nobjectClass: dcObject\nobjectClass: organization\ndc: other\no: other\n": "slapadd: exit status 1",
	} {
		cmd, words := p.command(t, "restore")
		cmd.Stdin = strings.NewReader(rule)
		if err := cmd.Run(); err == nil || !strings.Contains(words.String(), says) {
			t.Errorf("%q: %v, want %q:\n%s", rule, err, says, words)
		}
	}
	r := p.start(t)
	if err := p.dial(t).Bind(p.adminDN(), p.read(t, p.secrets, adminFile)); err != nil {
		t.Errorf("the administrator: %v", err)
	}
	r.stop(t)
	p.refused(t, `"restor" is no command`, "restor")
}

func TestARestorationThatIsCutOffBetweenTwoRenamingsIsTakenBack(t *testing.T) {
	p := newPlace(t)
	r := p.start(t)
	was := p.backup(t)
	r.stop(t)
	if err := os.Rename(filepath.Join(p.dir, dataDir), filepath.Join(p.dir, oldDir)); err != nil {
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

func TestTheCertificateIsRenewedByTheSameCA(t *testing.T) {
	for rule, change := range map[string]func(p *place, ca string) error{
		"it nears its end": func(p *place, ca string) error {
			signer, err := read(ca)
			if err != nil {
				return err
			}
			short, err := issue(signer, &x509.Certificate{
				Subject: pkix.Name{CommonName: "openldap"}, NotAfter: time.Now().Add(renewal - time.Hour),
				DNSNames: []string{"openldap", "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			})
			if err != nil {
				return err
			}
			return write(filepath.Join(p.dir, tlsDir, serverFile), text(short, true), 0o400, -1)
		},
		"it is gone": func(p *place, _ string) error { return os.Remove(filepath.Join(p.dir, tlsDir, serverFile)) },
		"it is none": func(p *place, _ string) error {
			return os.WriteFile(filepath.Join(p.dir, tlsDir, serverFile), nil, 0o600)
		},
		"it is for another": nil,
	} {
		t.Run(rule, func(t *testing.T) {
			p := newPlace(t)
			p.start(t).stop(t)
			trusted, was := p.read(t, p.handover, caFile), p.read(t, p.dir, tlsDir, serverFile)
			var args []string
			if change == nil {
				args = []string{"-hosts", "openldap,ldap.example.org"}
			} else if err := change(p, filepath.Join(p.dir, tlsDir, authority)); err != nil {
				t.Fatal(err)
			}
			p.start(t, args...)
			p.service(t)
			if p.read(t, p.handover, caFile) != trusted || p.read(t, p.dir, tlsDir, serverFile) == was {
				t.Error("the CA is another, or the certificate is not")
			}
			fresh, err := read(filepath.Join(p.dir, tlsDir, serverFile))
			if err != nil || time.Until(fresh.Leaf.NotAfter) < renewal || fresh.Leaf.IsCA {
				t.Errorf("%v, good until %v", err, fresh.Leaf.NotAfter)
			}
		})
	}
}

func TestACAThatCannotBeReadIsNotReplacedInSilence(t *testing.T) {
	p := newPlace(t)
	p.start(t).stop(t)
	if err := os.WriteFile(filepath.Join(p.dir, tlsDir, authority), []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.refused(t, "the CA in "+filepath.Join(p.dir, tlsDir, authority)+": ")
}
