package slapd

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rollcall/deploy/openldap"
)

// What a server's folder holds. Only serverDir belongs to the user that slapd runs as.
const (
	serverDir    = "slapd" // slapd's working folder; it exists once the directory is loaded
	newDir       = "slapd.new"
	pidFile      = "slapd.pid"
	urlFile      = "ldap.url"
	lockFile     = "lock"
	passwordFile = "service.password"

	configFile = "slapd.conf" // these three are in serverDir
	indexFile  = "indexes"    // what of slapd.conf the data is indexed by, and whether it needs nis.schema
	dataDir    = "data"
)

// lockPatience is how long a start waits for a predecessor that is dying with its parent.
const lockPatience = time.Second

// home is a locked folder and the slapd to run in it.
type home struct {
	installation
	options Options
	lock    *os.File
	nis     bool // the data needs nis.schema
}

// lockFolder takes the folder's lock. It is given to every child, and the system lets it go
// with the last process that holds it: neither a crash leaves it taken, nor can a second slapd
// run beside an orphan.
func lockFolder(ctx context.Context, dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	patience, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	for {
		err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return lock, nil
		case errors.Is(err, syscall.EINTR):
			continue
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return nil, errors.Join(err, lock.Close())
		}
		select {
		case <-patience.Done():
			pid, _ := os.ReadFile(filepath.Join(dir, pidFile))
			url, _ := os.ReadFile(filepath.Join(dir, urlFile))
			err := fmt.Errorf("%w: %s (process %s %s)", ErrInUse, dir, strings.TrimSpace(string(pid)), strings.TrimSpace(string(url)))
			return nil, errors.Join(err, lock.Close())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// prepare brings the folder into a state from which slapd can start, and returns the service
// account's password.
func (h home) prepare(ctx context.Context) (password string, err error) {
	for _, stale := range []string{pidFile, urlFile} {
		if err := os.Remove(h.path(stale)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	_, err = os.Stat(h.path(serverDir))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = h.load(ctx)
	case err == nil:
		err = h.upgrade(ctx)
	}
	if err != nil {
		return "", err
	}
	secret, err := os.ReadFile(h.path(passwordFile))
	return string(secret), err
}

// load makes serverDir. All is done in newDir; the rename at the end is what makes it count.
func (h home) load(ctx context.Context) error {
	if err := os.RemoveAll(h.path(newDir)); err != nil {
		return err
	}
	if err := os.MkdirAll(h.path(newDir, dataDir), 0o700); err != nil {
		return err
	}
	secret := make([]byte, 32)
	rand.Read(secret)
	err := h.render(newDir, map[string]string{passwordFile: base64.RawURLEncoding.EncodeToString(secret)})
	if err != nil {
		return err
	}
	values := h.values()
	if values.ServicePasswordHash, err = h.hash(ctx); err != nil {
		return err
	}
	var base string
	if h.options.Base != "" {
		base, err = openldap.Fill(h.options.Base, values)
	} else {
		base, err = openldap.Base(values)
	}
	if err != nil {
		return err
	}
	entries := io.MultiReader(strings.NewReader(base), strings.NewReader("\n"), strings.NewReader(h.options.Seed))
	if _, err := h.run(ctx, newDir, entries, "-Tadd", "-q", "-w", "-f", configFile); err != nil {
		return err
	}
	if err := os.Rename(h.path(newDir, passwordFile), h.path(passwordFile)); err != nil {
		return err
	}
	return os.Rename(h.path(newDir), h.path(serverDir))
}

// upgrade gives a folder whose data was loaded for another configuration what it lacks: indexes, without which slapd
// would find nothing by them, and the entry that counts the numbers of accounts. Data with groups that only nis.schema
// describes gets that back.
func (h home) upgrade(ctx context.Context) error {
	if err := h.render(serverDir, nil); err != nil {
		return err
	}
	root, err := os.OpenRoot(h.path(serverDir))
	if err != nil {
		return err
	}
	defer root.Close()
	conf, err := root.ReadFile(configFile)
	if err != nil {
		return err
	}
	indexes := openldap.Indexes(string(conf))
	done, err := root.ReadFile(indexFile)
	if err == nil && string(done) == indexes {
		return nil
	}
	groups, err := h.run(ctx, serverDir, nil, "-Tcat", "-o", "ldif-wrap=no", "-f", configFile, "-a", openldap.NISGroups)
	if err != nil {
		return err
	}
	mark := ""
	if warning := openldap.NISWarning(groups); warning != "" {
		if h.options.Warn != nil {
			h.options.Warn(warning)
		}
		mark, h.nis = openldap.NISMark, true
		if err := h.render(serverDir, nil); err != nil {
			return err
		}
	}
	if string(done) != indexes+openldap.NISMark {
		if _, err := h.run(ctx, serverDir, nil, "-Tindex", "-q", "-f", configFile); err != nil {
			return err
		}
		if err := h.addNumbers(ctx); err != nil {
			return err
		}
	}
	return root.WriteFile(indexFile, []byte(indexes+mark), 0o600)
}

// addNumbers adds the entry that counts the numbers of accounts, where it is missing.
func (h home) addNumbers(ctx context.Context) error {
	if h.options.Base != "" {
		return nil
	}
	there, err := h.run(ctx, serverDir, nil, "-Tcat", "-f", configFile, "-H", "ldap:///"+openldap.NumbersDN(h.options.Suffix)+"??base")
	if err != nil || there != "" {
		return err
	}
	numbers, err := openldap.Numbers(h.values())
	if err == nil {
		_, err = h.run(ctx, serverDir, strings.NewReader(numbers), "-Tadd", "-w", "-f", configFile)
	}
	return err
}

// hash hashes the password in newDir. It is random, so a cheap hash is a safe one.
func (h home) hash(ctx context.Context) (string, error) {
	args := []string{"-Tpasswd", "-n", "-h", "{ARGON2}", "-T", passwordFile}
	if h.moduleDir != "" {
		cost := openldap.CheapArgon2
		args = append(args, "-o", "module-path="+h.moduleDir,
			"-o", fmt.Sprintf("module-load=argon2 m=%d t=%d p=1", cost.MemoryKiB, cost.Passes))
	}
	return h.run(ctx, newDir, nil, args...)
}

// render writes the files that slapd starts from into dir, and gives all of dir to the user
// that slapd runs as. os.Root keeps that user from leading a parent who is root astray.
func (h home) render(dir string, more map[string]string) error {
	conf, err := openldap.Config(h.values())
	if err != nil {
		return err
	}
	if h.options.Config != nil {
		conf = h.options.Config(conf)
	}
	root, err := os.OpenRoot(h.path(dir))
	if err != nil {
		return err
	}
	defer root.Close()
	files := openldap.Schemas()
	files[configFile] = conf
	if dir == newDir {
		files[indexFile] = openldap.Indexes(conf)
	}
	maps.Copy(files, more)
	for name, text := range files {
		if err := root.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	if h.confined {
		if err := copyBinary(root, h.binary); err != nil {
			return err
		}
	}
	if h.user == nil {
		return nil
	}
	return fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return root.Lchown(name, int(h.user.Uid), int(h.user.Gid))
	})
}

func copyBinary(root *os.Root, binary string) error {
	text, err := os.ReadFile(binary)
	if err != nil {
		return err
	}
	if err := root.Remove(ownBinary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return root.WriteFile(ownBinary, text, 0o700)
}

func (h home) values() openldap.Values {
	return openldap.Values{
		Suffix:    h.options.Suffix,
		SchemaDir: h.schemaDir,
		ModuleDir: h.moduleDir,
		BuiltIn:   h.builtIn,
		Argon2:    h.options.Argon2,
		NIS:       h.nis,
	}
}

func (h home) path(names ...string) string {
	return filepath.Join(h.options.Dir, filepath.Join(names...))
}
