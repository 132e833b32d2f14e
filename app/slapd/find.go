package slapd

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"rollcall/deploy/openldap"
)

// ErrMissing means that OpenLDAP's server is not installed, or not all of it.
var ErrMissing = errors.New("slapd: OpenLDAP's server is not installed: scripts/install-slapd installs it " +
	"(package slapd on Debian and Ubuntu, openldap-servers on Fedora, openldap and its overlays on Alpine, openldap in Homebrew)")

// Where systems keep slapd, its schema and its modules; the first that exists counts.
var (
	binaries = []string{
		"/usr/sbin/slapd", "/usr/lib/openldap/slapd", "/usr/libexec/slapd", "/usr/local/libexec/slapd",
		"/opt/homebrew/opt/openldap/libexec/slapd", "/usr/local/opt/openldap/libexec/slapd",
	}
	schemaDirs = []string{
		"/etc/ldap/schema", "/etc/openldap/schema",
		"/opt/homebrew/etc/openldap/schema", "/usr/local/etc/openldap/schema",
	}
	moduleDirs = []string{
		"/usr/lib/ldap", "/usr/lib64/openldap", "/usr/lib/openldap",
		"/opt/homebrew/opt/openldap/libexec/openldap", "/usr/local/opt/openldap/libexec/openldap",
	}
	users = []string{"openldap", "ldap", "nobody"} // to run as when started by root
)

// profile is Ubuntu's AppArmor profile, which confines confinedBinary to its own folders.
// Debian ships none.
var profile = "/etc/apparmor.d/usr.sbin.slapd"

const confinedBinary = "/usr/sbin/slapd"

// ownBinary is the copy of a confined binary, in the folder that it works in.
const ownBinary = "slapd"

// installation is what there is of OpenLDAP on this system.
type installation struct {
	binary    string
	confined  bool // run a copy
	schemaDir string
	moduleDir string
	builtIn   []string
	user      *syscall.Credential // nil: run as the parent's user
}

func find(binary string) (installation, error) {
	var inst installation
	var err error
	if inst.binary, err = findBinary(binary); err != nil {
		return inst, err
	}
	if inst.schemaDir = firstWith("core.schema", schemaDirs); inst.schemaDir == "" {
		return inst, fmt.Errorf("%w: no core.schema in any of %q", ErrMissing, schemaDirs)
	}
	inst.moduleDir = firstWith("memberof.*", moduleDirs)
	for _, module := range openldap.Modules() {
		if firstWith(module+".*", []string{inst.moduleDir}) == "" {
			inst.builtIn = append(inst.builtIn, module)
		}
	}
	if inst.binary == confinedBinary {
		_, err := os.Stat(profile)
		inst.confined = err == nil
	}
	if os.Geteuid() == 0 {
		inst.user, err = unprivileged()
	}
	return inst, err
}

func findBinary(binary string) (string, error) {
	if binary != "" {
		if _, err := exec.LookPath(binary); err != nil {
			return "", fmt.Errorf("%w: %w", ErrMissing, err)
		}
		return filepath.Abs(binary)
	}
	if path, err := exec.LookPath("slapd"); err == nil {
		return path, nil
	}
	i := slices.IndexFunc(binaries, func(path string) bool { _, err := exec.LookPath(path); return err == nil })
	if i < 0 {
		return "", ErrMissing
	}
	return binaries[i], nil
}

func firstWith(pattern string, dirs []string) string {
	for _, dir := range dirs {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) > 0 {
			return dir
		}
	}
	return ""
}

func unprivileged() (*syscall.Credential, error) {
	for _, name := range users {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, fmt.Errorf("slapd: root must not run it, and none of the users %q exists", users)
}
