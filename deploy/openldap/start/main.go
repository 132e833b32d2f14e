//go:build linux

// Command start is what the OpenLDAP container runs. It makes what a first start lacks: passwords, a certificate, the
// first entries. Then it becomes slapd. "start backup" writes the entries, "start restore" loads them in place of those
// that are there, and "start restore --undo" takes that back.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"rollcall/deploy/openldap"
)

// openFiles bounds what slapd may open, and so the table that it allocates at start: with Docker's usual limit of a
// million, that would take hundreds of megabytes.
const openFiles = 4096

// server is a slapd to be, and where its things are.
type server struct {
	dir      string // the directory and its certificates
	secrets  string // what is secret, made here or brought along
	handover string // copies of those secrets that the API needs
	suffix   string // DN of the top entry
	urls     string // to listen on
	hosts    string // names that the certificate is for
	reader   int    // user id of the API, which owns what is in handover
	nis      bool   // the data needs nis.schema

	slapd, schemas, modules string
	user                    *syscall.Credential // who slapd runs as; nil: whoever runs this
}

func init() {
	runtime.LockOSThread() // a child is killed when the thread that made it ends
}

func main() {
	var s server
	flag.StringVar(&s.dir, "dir", "/var/lib/openldap", "folder that the directory is kept in")
	flag.StringVar(&s.secrets, "secrets", "/run/secrets", "folder with service.password, admin.password and token.key")
	flag.StringVar(&s.handover, "handover", "/run/rollcall", "folder that the API reads its copies from")
	flag.StringVar(&s.suffix, "suffix", cmp.Or(os.Getenv("LDAP_SUFFIX"), openldap.DefaultSuffix), "DN of the top entry ($LDAP_SUFFIX)")
	flag.StringVar(&s.urls, "listen", "ldap://:1389/ ldapi:///", "URLs to listen on")
	flag.StringVar(&s.hosts, "hosts", "openldap,localhost,127.0.0.1", "names and addresses that the certificate is for")
	flag.IntVar(&s.reader, "reader", 65532, "user id that the API runs as")
	flag.StringVar(&s.slapd, "slapd", "/usr/sbin/slapd", "slapd")
	flag.StringVar(&s.schemas, "schemas", "/etc/ldap/schema", "folder with OpenLDAP's schema")
	flag.StringVar(&s.modules, "modules", "/usr/lib/ldap", "folder with slapd's modules")
	name := flag.String("user", "openldap", "user that slapd runs as, when started by root")
	flag.Parse()
	if err := s.start(*name, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "openldap:", err)
		os.Exit(1)
	}
}

// start does what the arguments say. It does not return when slapd has taken its place.
func (s *server) start(name string, args []string) error {
	if os.Geteuid() == 0 {
		var err error
		if s.user, err = credential(name); err != nil {
			return err
		}
	}
	if err := limitFiles(); err != nil {
		return err
	}
	command := strings.Join(args, " ")
	if command == "backup" {
		return s.backup(os.Stdout) // beside a slapd that runs
	}
	if err := s.lock(); err != nil {
		return err
	}
	switch command {
	case "":
		if err := s.prepare(); err != nil {
			return err
		}
		return s.become()
	case "restore":
		return s.restore(os.Stdin, true)
	case "restore --unmarked":
		return s.restore(os.Stdin, false)
	case "restore --undo":
		return s.undo()
	}
	return fmt.Errorf("%q is no command: it is backup, restore, restore --unmarked or restore --undo, or none to serve", command)
}

// prepare brings everything into a state from which slapd can start.
func (s *server) prepare() error {
	password, err := s.servicePassword()
	if err != nil {
		return err
	}
	if err := s.makeTokenKey(); err != nil {
		return err
	}
	if err := s.makeCertificates(); err != nil {
		return err
	}
	fresh, err := s.settle()
	if err != nil {
		return err
	}
	if fresh {
		if err := s.loadFirst(password); err != nil {
			return err
		}
	}
	conf, err := s.writeConfig()
	if err != nil {
		return err
	}
	if err := s.upgrade(conf); err != nil {
		return err
	}
	if err := s.keepServicePassword(conf, password); err != nil {
		return err
	}
	return s.handOver(password)
}

// become replaces this program by slapd, which runs as its own user and keeps the lock.
func (s *server) become() error {
	if s.user != nil {
		if err := errors.Join(
			syscall.Setgroups([]int{int(s.user.Gid)}), syscall.Setgid(int(s.user.Gid)), syscall.Setuid(int(s.user.Uid)),
		); err != nil {
			return fmt.Errorf("becoming user %d: %w", s.user.Uid, err)
		}
	}
	// A debug level keeps slapd in the foreground. By "none" it writes what it writes at any level: its start and end,
	// errors, operations that wait for others.
	err := syscall.Exec(s.slapd, []string{s.slapd, "-d", "none", "-f", s.path(configFile), "-h", s.urls}, nil)
	return fmt.Errorf("%s: %w", s.slapd, err)
}

// lock keeps a second slapd out. The lock is let go when the last process ends that was started with it, slapd included.
func (s *server) lock() error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil { //nolint:gosec // slapd's user passes through
		return err
	}
	fd, err := syscall.Open(s.path("lock"), syscall.O_RDWR|syscall.O_CREAT, 0o600)
	if err != nil {
		return fmt.Errorf("%s: %w", s.path("lock"), err)
	}
	if err := syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("another slapd runs on %s: stop it first: %w", s.dir, err)
	}
	return nil
}

func limitFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = min(limit.Cur, openFiles)
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, err
}

// tool runs one of slapd's tools and returns what it printed.
func (s *server) tool(as *syscall.Credential, stdin string, args ...string) (string, error) {
	var out strings.Builder
	err := s.run(as, strings.NewReader(stdin), &out, args...)
	return out.String(), err
}

// run runs one of slapd's tools.
func (s *server) run(as *syscall.Credential, stdin io.Reader, stdout io.Writer, args ...string) error {
	cmd := exec.CommandContext(context.Background(), s.slapd, args...)
	cmd.Env = []string{}
	cmd.Stdin, cmd.Stdout = stdin, stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Pdeathsig: syscall.SIGKILL}
	var words strings.Builder
	cmd.Stderr = &words
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("slap%s: %w\n%s", strings.TrimPrefix(args[0], "-T"), err, strings.TrimSpace(words.String()))
	}
	return nil
}

func (s *server) path(names ...string) string {
	return filepath.Join(s.dir, filepath.Join(names...))
}
