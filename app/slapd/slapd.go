// Package slapd runs a private OpenLDAP server as a child process, for development and for
// tests. The server listens on the loopback address only, keeps its data in one folder, runs
// as an unprivileged user when the parent is root, and on Linux dies with its parent.
package slapd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"rollcall/deploy/openldap"
)

const (
	startTimeout = 60 * time.Second // bounds Start when its context has no nearer deadline
	stopTimeout  = 20 * time.Second // bounds Stop likewise
	killTimeout  = 10 * time.Second
	portTries    = 20
)

// ErrInUse means that another slapd is running on the folder.
var ErrInUse = errors.New("slapd: the folder is in use by another instance")

// Options say where and with what a server runs.
type Options struct {
	// Dir is the server's folder, made when absent. It must be the server's own.
	Dir string
	// Suffix is the DN of the top entry, openldap.DefaultSuffix when empty. A folder keeps
	// the suffix it was made with.
	Suffix string
	// Seed is LDIF that a new folder is loaded with on top of Base. It is loaded by slapadd,
	// which runs no overlays: memberOf must be written out, and passwords hashed.
	Seed string
	// Base takes the place of openldap.Base when not empty. The placeholders of
	// openldap.Fill are filled in. The service account must be in it.
	Base string
	// Config, when set, changes the text of slapd.conf at each start.
	Config func(conf string) string
	// Warn, when set, is told what keeps a folder of an older version from having all that is new.
	Warn func(message string)
	// Argon2 is the cost of new passwords, openldap.DefaultArgon2 when zero.
	Argon2 openldap.Argon2
	// Address is the loopback IP:port to listen on; empty means a free port.
	Address string
	// Binary is the path of slapd, looked for in the usual places when empty.
	Binary string
}

// Server is one running slapd. It does not come back to life: Restart returns another one.
type Server struct {
	options  Options
	password string
	process  *process
	stopped  atomic.Bool
}

// Start runs slapd on the folder and returns when it answers. A folder that holds no directory
// yet is loaded first; a start that was cut off midway leaves nothing behind that matters.
// The context bounds the start, not the server's life. The error is or wraps ErrMissing,
// ErrInUse, an *ExitError, or the context's error.
func Start(ctx context.Context, o Options) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if o.Suffix == "" {
		o.Suffix = openldap.DefaultSuffix
	}
	if err := checkLoopback(o.Address); err != nil {
		return nil, err
	}
	inst, err := find(o.Binary)
	if err != nil {
		return nil, err
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFolder(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer lock.Close() // slapd holds the lock from then on
	h := home{options: o, installation: inst, lock: lock}
	password, err := h.prepare(ctx)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		s := &Server{options: o, password: password}
		if o.Address == "" {
			if s.options.Address, err = newAddress(); err != nil {
				return nil, err
			}
		}
		err := s.start(ctx, h)
		if err == nil {
			return s, nil
		}
		if o.Address != "" || try == portTries || !portTaken(err) {
			return nil, err
		}
	}
}

func (s *Server) start(ctx context.Context, h home) error {
	var err error
	// The debug level "none" writes errors only; level 0 would not write even those.
	s.process, err = h.start(context.Background(), serverDir, nil, "-d", "none", "-f", configFile, "-h", s.URL()+"/")
	if err != nil {
		return err
	}
	pid := strconv.Itoa(s.process.cmd.Process.Pid)
	if err := os.WriteFile(s.file(pidFile), []byte(pid+"\n"), 0o600); err != nil {
		return errors.Join(err, s.Kill())
	}
	if err := s.awaitReady(ctx); err != nil {
		return errors.Join(err, s.Kill())
	}
	if err := os.WriteFile(s.file(urlFile), []byte(s.URL()+"\n"), 0o600); err != nil {
		return errors.Join(err, s.Kill())
	}
	return nil
}

// awaitReady returns when slapd lets the service account in. Nobody else knows its password,
// so an answer cannot come from a stranger who took the port.
func (s *Server) awaitReady(ctx context.Context) error {
	var last error
	for {
		err := bind(ctx, s.options.Address, s.ServiceDN(), s.password)
		if err == nil {
			return nil
		}
		if last == nil || !os.IsTimeout(err) {
			last = err
		}
		select {
		case <-s.process.done:
			return s.process.exitError()
		case <-ctx.Done():
			return fmt.Errorf("slapd: not ready: %w; last try: %w", ctx.Err(), last)
		case <-time.After(time.Millisecond):
		}
	}
}

// URL returns ldap://host:port.
func (s *Server) URL() string { return "ldap://" + s.options.Address }

// Suffix returns the DN of the top entry.
func (s *Server) Suffix() string { return s.options.Suffix }

// ServiceDN returns the DN of the account that the API binds as.
func (s *Server) ServiceDN() string { return openldap.ServiceDN(s.options.Suffix) }

// ServicePassword returns that account's password: 256 random bits, made with the folder.
func (s *Server) ServicePassword() string { return s.password }

// Done is closed when slapd has ended, for whatever reason.
func (s *Server) Done() <-chan struct{} { return s.process.done }

// Err returns an *ExitError when slapd has ended without Stop or Kill, and nil otherwise.
func (s *Server) Err() error {
	select {
	case <-s.process.done:
	default:
		return nil
	}
	if s.stopped.Load() {
		return nil
	}
	return s.process.exitError()
}

// Stop ends slapd in good order and waits for it. When the context ends first, slapd is killed
// and the error says so. A server that has ended already is no error.
func (s *Server) Stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := s.end(syscall.SIGTERM, syscall.SIGCONT); err != nil {
		return err
	}
	select {
	case <-s.process.done:
		return nil
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("slapd: killed, it did not stop in time: %w", ctx.Err()), s.Kill())
	}
}

// Kill ends slapd at once and waits for it.
func (s *Server) Kill() error {
	if err := s.end(syscall.SIGKILL); err != nil {
		return err
	}
	select {
	case <-s.process.done:
		return nil
	case <-time.After(killTimeout):
		return errors.New("slapd: does not die")
	}
}

// end sends the signals, unless slapd is gone. The files go first: as long as slapd lives it
// holds the lock, so they cannot be a successor's.
func (s *Server) end(signals ...syscall.Signal) error {
	select {
	case <-s.process.done:
		return nil
	default:
	}
	s.stopped.Store(true)
	_ = os.Remove(s.file(pidFile))
	_ = os.Remove(s.file(urlFile))
	for _, signal := range signals {
		if err := s.process.cmd.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	return nil
}

// Pause makes slapd silent: its connections stay open and new ones are accepted by the system,
// but nothing answers until Resume. It returns when every thread has stopped.
func (s *Server) Pause() error {
	if err := s.process.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return stopped(s.process.cmd.Process.Pid)
}

// Resume ends a Pause.
func (s *Server) Resume() error { return s.process.cmd.Process.Signal(syscall.SIGCONT) }

// Restart stops slapd if it still runs, and starts another on the same folder and address.
func (s *Server) Restart(ctx context.Context) (*Server, error) {
	if err := s.Stop(ctx); err != nil {
		return nil, err
	}
	return Start(ctx, s.options)
}

func (s *Server) file(name string) string { return filepath.Join(s.options.Dir, name) }

func checkLoopback(address string) error {
	if address == "" {
		return nil
	}
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("slapd: address: %w", err)
	}
	if !addr.Addr().IsLoopback() || addr.Port() == 0 {
		return fmt.Errorf("slapd: %s is not a loopback address with a port", address)
	}
	return nil
}

// newAddress is a variable so that a test can hand out a port that is taken.
var newAddress = freeAddress

// freeAddress finds a port that is free now, below the range from which systems take ports for
// outgoing connections: while slapd is away, none of those can come to sit on its port.
func freeAddress() (string, error) {
	const lowest, count = 20000, 12000
	var err error
	for range portTries {
		var l net.Listener
		port := lowest + rand.IntN(count) //nolint:gosec // a port is no secret
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		if l, err = net.Listen("tcp4", address); err == nil {
			return address, l.Close()
		}
	}
	return "", fmt.Errorf("slapd: no free port: %w", err)
}

func portTaken(err error) bool {
	exit, ok := errors.AsType[*ExitError](err)
	return ok && strings.Contains(strings.ToLower(exit.Words), syscall.EADDRINUSE.Error())
}
