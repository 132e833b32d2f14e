package slapd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func TestRunsUnprivileged(t *testing.T) {
	dir := t.TempDir()
	start(t, Options{Dir: dir})
	proc := filepath.Join("/proc", strconv.Itoa(pid(t, dir)))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil || strings.Contains(string(status), "\nUid:\t0\t") {
		t.Errorf("slapd runs as root (%v):\n%s", err, status)
	}
	if environ, err := os.ReadFile(filepath.Join(proc, "environ")); err != nil || len(environ) > 0 {
		t.Errorf("slapd's environment is %q (%v), want none", environ, err)
	}
}

func TestRunsACopyOfAConfinedBinary(t *testing.T) {
	was := profile
	t.Cleanup(func() { profile = was })
	profile = filepath.Join(t.TempDir(), "usr.sbin.slapd")
	if err := os.WriteFile(profile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	inst, err := find("")
	if err != nil || inst.confined != (inst.binary == confinedBinary) {
		t.Fatalf("confined: %v (%v)", inst.confined, err)
	}
	dir := t.TempDir()
	s := start(t, Options{Dir: dir})
	service(t, s)
	if !inst.confined {
		return
	}
	exe, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid(t, dir)), "exe"))
	if want := filepath.Join(dir, serverDir, ownBinary); err != nil || exe != want {
		t.Errorf("runs %s (%v), want %s", exe, err, want)
	}
	if again, err := s.Restart(t.Context()); err != nil {
		t.Error(err)
	} else {
		_ = again.Kill()
	}
}

// parent runs this test binary as the parent of a server.
func parent(t *testing.T, dir, binary string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), parentOf+"="+dir, parentOf+"_BINARY="+binary)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd
}

func exists(names ...string) bool {
	_, err := os.Stat(filepath.Join(names...))
	return err == nil
}

func TestDiesWithItsParent(t *testing.T) {
	dir := t.TempDir()
	cmd := parent(t, dir, "")
	eventually(t, "the server's URL", func() bool { return exists(dir, urlFile) })
	slapd := pid(t, dir)
	t.Cleanup(func() {
		if !ended(slapd) {
			_ = syscall.Kill(slapd, syscall.SIGKILL)
		}
	})
	if err := syscall.Kill(slapd, 0); err != nil {
		t.Fatalf("slapd does not run: %v", err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "slapd's end", func() bool { return ended(slapd) })
	service(t, start(t, Options{Dir: dir}))
}

// ended tells whether a process that is not our child is gone, or waits to be reaped.
func ended(pid int) bool {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	return err != nil || strings.Contains(string(stat), ") Z ")
}

func TestStartsCleanAfterALoadKilledMidway(t *testing.T) {
	inst, err := find("")
	if err != nil {
		t.Fatal(err)
	}
	// This slapadd loads the first entries only, and then takes for ever.
	slow := filepath.Join(t.TempDir(), "slapd")
	script := "#!/bin/sh\n[ \"$1\" = -Tadd ] || exec " + inst.binary + " \"$@\"\n" +
		"sed 9q | " + inst.binary + " \"$@\"\n: >loaded\nexec sleep 600\n"
	if err := os.WriteFile(slow, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{filepath.Dir(slow), filepath.Dir(filepath.Dir(slow))} {
		if err := os.Chmod(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	cmd := parent(t, dir, slow)
	eventually(t, "half a load", func() bool { return exists(dir, newDir, "loaded") })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if !exists(dir, newDir, dataDir, "data.mdb") || exists(dir, serverDir) {
		t.Fatal("the load was not cut off midway")
	}
	s := start(t, Options{Dir: dir, Seed: sample(t)})
	if got := len(mustSearch(t, service(t, s), s.Suffix(), ldap.ScopeWholeSubtree, "(objectClass=inetOrgPerson)")); got != 20 {
		t.Errorf("%d users, want 20", got)
	}
	if exists(dir, newDir) {
		t.Errorf("%s is left", newDir)
	}
}
