//go:build linux

package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

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
