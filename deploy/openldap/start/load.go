//go:build linux

package main

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rollcall/deploy/openldap"
)

// What the server's folder holds. Only dataDir, and what is in it, belongs to the user that slapd runs as.
const (
	dataDir     = "data"                // it exists once the directory is loaded
	replacedDir = "data.before-restore" // what the last restoration replaced
	newDir      = "new"
	suffixFile  = "suffix"
	configFile  = "slapd.conf"
	indexFile   = "indexes"      // what of slapd.conf the data is indexed by, and whether it needs nis.schema
	countFile   = "numbers"      // how far directories that were replaced had counted the numbers of accounts
	hashFile    = "service.hash" // the service account's userPassword as it was set last
)

// maxFailures is how many failed logins of a name lock it in a new directory. Rollcall lets strangers fail nine in a
// window, counts in memory, and so nine more after a restart.
const maxFailures = 20

func (s *server) values() openldap.Values {
	return openldap.Values{
		Suffix: s.suffix, Dir: s.dir, SchemaDir: s.schemas, ModuleDir: s.modules, TLSDir: s.path(tlsDir), NIS: s.nis,
	}
}

// settle ends a restoration that was cut off, and reports whether there is no directory yet.
func (s *server) settle() (fresh bool, err error) {
	if !exists(s.path(dataDir)) && exists(s.path(replacedDir)) {
		err = os.Rename(s.path(replacedDir), s.path(dataDir))
	}
	if err != nil || !exists(s.path(dataDir)) {
		return true, err
	}
	suffix, err := os.ReadFile(s.path(suffixFile))
	if err == nil && strings.TrimSpace(string(suffix)) != s.suffix {
		err = fmt.Errorf("the directory that is there is %s, not %s: set LDAP_SUFFIX back, or start with a new volume",
			strings.TrimSpace(string(suffix)), s.suffix)
	}
	return false, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// loadFirst makes the directory with its first entries.
func (s *server) loadFirst(servicePassword string) error {
	admin, err := s.adminPassword()
	if err != nil {
		return err
	}
	v := s.values()
	v.MaxFailures = maxFailures
	if v.ServicePasswordHash, err = s.hash(servicePassword, openldap.CheapArgon2); err != nil {
		return err
	}
	if v.AdminPasswordHash, err = s.hash(admin, openldap.DefaultArgon2); err != nil {
		return err
	}
	base, err := openldap.Base(v)
	if err != nil {
		return err
	}
	first, err := openldap.Admin(v)
	if err != nil {
		return err
	}
	if _, err := s.load(strings.NewReader(base + "\n" + first)); err != nil {
		return err
	}
	if err := write(s.path(hashFile), v.ServicePasswordHash, 0o600, -1); err != nil {
		return err
	}
	if err := s.install(); err != nil {
		return err
	}
	fmt.Printf("a new directory, %s; its administrator is %q, with the password in %s\n", s.suffix, "admin", s.secretPath(adminFile))
	return nil
}

// load loads entries in newDir, and returns the configuration that it did so by. Nothing counts before install.
func (s *server) load(entries io.Reader) (conf string, err error) {
	if err := s.clear(); err != nil {
		return "", err
	}
	data := s.path(newDir, dataDir)
	if err := os.Mkdir(data, 0o700); err != nil {
		return "", err
	}
	if s.user != nil {
		if err := os.Chown(data, int(s.user.Uid), int(s.user.Gid)); err != nil {
			return "", err
		}
	}
	v := s.values()
	v.Dir = s.path(newDir)
	text, err := openldap.Config(v)
	if err != nil {
		return "", err
	}
	conf = s.path(newDir, configFile)
	if err := writeConfig(conf, text); err != nil {
		return "", err
	}
	return conf, s.run(s.user, entries, io.Discard, "-Tadd", "-q", "-w", "-f", conf)
}

// clear makes newDir, with nothing in it.
func (s *server) clear() error {
	if err := os.RemoveAll(s.path(newDir)); err != nil {
		return err
	}
	return os.MkdirAll(s.path(newDir), 0o755) //nolint:gosec // slapd's user passes through
}

// install makes what was loaded the directory, and keeps the one that it replaces. The renaming is what makes it count.
func (s *server) install() error {
	if err := write(s.path(suffixFile), s.suffix+"\n", 0o644, -1); err != nil {
		return err
	}
	if err := os.RemoveAll(s.path(indexFile)); err != nil {
		return err
	}
	if exists(s.path(dataDir)) {
		if err := os.RemoveAll(s.path(replacedDir)); err != nil {
			return err
		}
		if err := os.Rename(s.path(dataDir), s.path(replacedDir)); err != nil {
			return err
		}
	}
	if err := os.Rename(s.path(newDir, dataDir), s.path(dataDir)); err != nil {
		return err
	}
	return os.RemoveAll(s.path(newDir))
}

// writeConfig writes what slapd starts from, and returns its path.
func (s *server) writeConfig() (string, error) {
	conf, err := openldap.Config(s.values())
	if err != nil {
		return "", err
	}
	network, err := openldap.Network(s.values())
	if err != nil {
		return "", err
	}
	return s.path(configFile), writeConfig(s.path(configFile), network+conf)
}

// writeConfig writes a configuration, and beside it the schema that it includes.
func writeConfig(path, text string) error {
	for name, schema := range openldap.Schemas() {
		if err := write(filepath.Join(filepath.Dir(path), name), schema, 0o644, -1); err != nil {
			return err
		}
	}
	return write(path, text, 0o644, -1)
}

// upgrade gives data that was not loaded for this configuration, or comes from a backup, what it lacks: indexes, without
// which slapd would find nothing by them, and the entry that counts the numbers of accounts. Data with groups that only
// nis.schema describes gets that back.
func (s *server) upgrade(conf string) error {
	text, err := os.ReadFile(filepath.Clean(conf))
	if err != nil {
		return err
	}
	indexes := openldap.Indexes(string(text))
	done, err := os.ReadFile(s.path(indexFile))
	if err == nil && string(done) == indexes {
		return nil
	}
	warning, err := s.nisWarning(conf)
	if err != nil {
		return err
	}
	mark := ""
	if s.nis = warning != ""; s.nis {
		fmt.Println("warning:", warning)
		mark = openldap.NISMark
		if _, err := s.writeConfig(); err != nil {
			return err
		}
	}
	if string(done) != indexes+openldap.NISMark {
		if _, err := s.tool(s.user, "", "-Tindex", "-q", "-f", conf); err != nil {
			return err
		}
		if err := s.addNumbers(conf); err != nil {
			return err
		}
	}
	return write(s.path(indexFile), indexes+mark, 0o644, -1)
}

// nisWarning is what is to be said of groups that only nis.schema describes; "" where there are none.
func (s *server) nisWarning(conf string) (string, error) {
	groups, err := s.tool(s.user, "", "-Tcat", "-o", "ldif-wrap=no", "-f", conf, "-a", openldap.NISGroups)
	return openldap.NISWarning(groups), err
}

// keepServicePassword sees to it that the service account has its password. slapmodify is called only where the file
// holds another one than the API was handed last, or the directory comes from a backup: it gives the entry a new entryUUID.
func (s *server) keepServicePassword(conf, password string) error {
	stored, err := s.tool(s.user, "", "-Tcat", "-o", "ldif-wrap=no", "-f", conf, "-H", "ldap:///"+openldap.ServiceDN(s.suffix)+"??base")
	if err != nil {
		return err
	}
	last, _ := os.ReadFile(s.path(hashFile)) // unread is as good as another
	handed, _ := os.ReadFile(filepath.Join(s.handover, serviceFile))
	value := "userPassword:: " + base64.StdEncoding.EncodeToString(last)
	if len(last) > 0 && slices.Contains(strings.Split(stored, "\n"), value) && string(handed) == password {
		return nil
	}
	return s.setServicePassword(conf, password)
}

// setServicePassword gives the service account its password, while no slapd runs.
func (s *server) setServicePassword(conf, password string) error {
	hash, err := s.hash(password, openldap.CheapArgon2)
	if err != nil {
		return err
	}
	change := fmt.Sprintf("dn: %s\nchangetype: modify\nreplace: userPassword\nuserPassword: %s\n", openldap.ServiceDN(s.suffix), hash)
	if _, err := s.tool(s.user, change, "-Tmodify", "-w", "-f", conf); err != nil {
		return fmt.Errorf("the service account, %s, can't be given its password: %w", openldap.ServiceDN(s.suffix), err)
	}
	return write(s.path(hashFile), hash, 0o600, -1)
}

// hash returns a password's userPassword. It goes through a pipe, and so stays out of the list of processes.
func (s *server) hash(password string, cost openldap.Argon2) (string, error) {
	return s.tool(nil, password, "-Tpasswd", "-n", "-h", "{ARGON2}", "-T", "/dev/stdin",
		"-o", "module-path="+s.modules, "-o", fmt.Sprintf("module-load=argon2 m=%d t=%d p=1", cost.MemoryKiB, cost.Passes))
}
