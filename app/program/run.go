// Package program puts the rooms together: what the commands do, and what serves from the configuration on.
package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/logs"
	"rollcall/app/rest"
	"rollcall/app/slapd"
	"rollcall/config"
	"rollcall/deploy/openldap"
)

var errConfiguration = errors.New("the configuration is not right")

// run serves the API until a signal comes, then lets the requests in flight end.
func run(ctx context.Context, c *config.Config, version string, out io.Writer) (err error) {
	ends := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if c.Log.File == "" && !(c.Audit.Enabled && c.Audit.File != "") && !signal.Ignored(syscall.SIGHUP) {
		ends = append(ends, syscall.SIGHUP) // there is no file to reopen: the terminal was closed
	}
	ctx, stop := signal.NotifyContext(ctx, ends...)
	defer stop()
	log, closeLog, err := logs.Open(c.Log.Level, c.Log.Format, c.Log.File)
	if err != nil {
		return err
	}
	defer closeLog()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Server.Listen)
	if err != nil {
		return fmt.Errorf("%w: set server.listen (ROLLCALL_SERVER_LISTEN) to another address", err)
	}
	defer func() { _ = listener.Close() }()

	watcher, err := openTelemetry(ctx, c, version, log)
	if err != nil {
		return err
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		watcher.Close(ending)
	}()

	var private *slapd.Server
	if c.Embedded.Enabled {
		if private, err = startPrivate(ctx, c, func(message string) { log.Warn(message) }); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stopPrivate(private, c.Server.ShutdownTimeout)) }()
	}
	ldapDirectory, kinds, err := openDirectory(c, watcher)
	if err != nil {
		return fmt.Errorf("%w:\n%w", errConfiguration, err)
	}
	defer ldapDirectory.Close()
	keys, err := tokenKeys(c)
	if err != nil {
		return fmt.Errorf("%w:\n%w", errConfiguration, err)
	}
	authenticator, err := openAuth(c, keys, ldapDirectory, watcher)
	if err != nil {
		return fmt.Errorf("%w:\n%w", errConfiguration, err)
	}
	protection := directory.Protection{
		AdminGroup: c.Auth.AdminGroup, Entries: c.Auth.Protected, RoleGroups: []string{c.Auth.OperatorGroup, c.Auth.ReaderGroup}, Everywhere: c.SSH.EverywhereGroups,
		SameDN: ldapdir.SameDN, Groups: ldapDirectory.Groups,
	}
	if c.Posix.Enabled {
		protection.LocalGroups = c.Posix.LocalGroups
	}
	protected := directory.NewProtected(authenticator.Watch(ldapDirectory), protection)
	checks := ldapDirectory.Checks(below(c.Auth.Sessions, c.LDAP.BaseDN))
	var stored directory.Directory = protected
	if c.Posix.Enabled {
		numbers := ldapDirectory.Numbers(below(c.Posix.Counter, c.LDAP.BaseDN), c.Posix.Min, c.Posix.Max)
		checks = append(checks, numbers.Check())
		stored = directory.NewNumbered(protected, directory.Posix{
			Next: numbers.Next, Choose: numbers.Choose, PrimaryGroup: c.Posix.PrimaryGID, HomeDirectory: c.Posix.HomeDirectory, LoginShell: c.Posix.LoginShell,
		})
	}
	memberships := directory.NewMemberships(stored, kinds[1], ldapdir.SameDN)
	guarded := directory.NewGuarded(directory.NewChecked(memberships), protection, c.Auth.OwnFields, c.Auth.LoginField, c.SSH.LoginField)
	var outermost directory.Directory = guarded
	if c.Audit.Enabled {
		record, closeTrail, err := logs.Trail(c.Audit.File, c.Log.Format, log)
		if err != nil {
			return err
		}
		defer closeTrail()
		outermost = directory.NewAudited(guarded, func(e directory.Event) {
			record(e)
			watcher.Audit(string(e.Action), e.Kind, e.Result)
		})
	}
	cursors, err := rest.NewCursors(keys...)
	if err != nil {
		return err
	}
	handler := rest.New(rest.Options{
		Directory: outermost, Keyring: directory.NewKeyring(outermost, ldapDirectory, kinds), Kinds: kinds,
		Reach: directory.NewReach(ldapDirectory, ldapDirectory, kinds[0], kinds[1], kinds[2], directory.ReachRules{
			LoginField: c.SSH.LoginField, Everywhere: c.SSH.EverywhereGroups, LocalLogins: c.SSH.LocalLogins,
		}), TrustedNetworks: prefixes(c.SSH.TrustedNetworks),
		Paths:        directory.NewPaths(outermost, ldapDirectory, ldapDirectory, kinds[1]),
		Authenticate: authenticator.Authenticate, Logins: authenticator, Checks: checks, Version: version,
		BasePath: c.Server.BasePath, TrustedProxies: prefixes(c.Server.TrustedProxies), CORSOrigins: c.Server.CORSOrigins,
		RequestTimeout: c.Server.RequestTimeout, ReadTimeout: c.Server.ReadTimeout, WriteTimeout: c.Server.WriteTimeout, MaxBodyBytes: c.Server.MaxBodyBytes,
		Cursors: cursors, BulkConcurrency: c.Server.BulkConcurrency, RequireIfMatch: c.Server.RequireIfMatch, Log: log,
		Observe: watcher.Request, Trace: watcher.Trace,
	})
	server := &http.Server{
		Handler:           watcher.Watch(handler),
		ReadHeaderTimeout: c.Server.ReadHeaderTimeout, ReadTimeout: c.Server.ReadTimeout,
		WriteTimeout: c.Server.WriteTimeout, IdleTimeout: c.Server.IdleTimeout,
		MaxHeaderBytes: int(c.Server.MaxHeaderBytes), ErrorLog: stdlog.New(logs.Warnings{Log: log}, "", 0),
	}
	if c.Server.TLSCertificate != "" {
		certificate, err := rest.NewCertificate(c.Server.TLSCertificate, c.Server.TLSKey, log)
		if err != nil {
			return fmt.Errorf("%w:\nserver.tls_certificate: %w", errConfiguration, err)
		}
		server.TLSConfig = certificate.TLS()
	}
	announce(out, c, version, listener.Addr().String(), watcher.Address())
	if address, err := netip.ParseAddrPort(listener.Addr().String()); c.Server.TLSCertificate == "" && err == nil && !address.Addr().IsLoopback() {
		log.Warn("passwords and tokens travel to this port in clear: let only a proxy with TLS reach it, or set server.tls_certificate")
	}
	if inClear(c.LDAP) {
		log.Warn("passwords travel to the directory in clear: set ldap.start_tls, or an ldaps:// URL")
	}
	if c.Telemetry.OTLPHeaders != "" && readable(c.Telemetry.OTLPEndpoint) {
		log.Warn("telemetry.otlp_headers travel to the receiver of traces in clear: set an https:// URL as telemetry.otlp_endpoint")
	}
	var asking sync.WaitGroup
	asking.Go(func() {
		authenticator.Sweep(ctx, func(err error) { log.WithError(err).Warn("old sessions could not be removed; that is tried again") })
	})
	asking.Go(func() {
		if err := ldapDirectory.Ready(ctx); err != nil && ctx.Err() == nil {
			log.WithError(err).Warn("the directory can't be used yet; requests that need it answer 503 until it can")
			return
		}
		if c.Auth.Sessions == "" {
			log.Warn("sessions are kept in memory: they end with this process, and no other knows them; set auth.sessions")
		} else if err := ldapDirectory.Sessions(below(c.Auth.Sessions, c.LDAP.BaseDN)).Ready(ctx); err != nil && ctx.Err() == nil {
			log.WithError(err).Warn("there is no entry for sessions, so nobody can log in for a token; create it, or set auth.sessions")
		}
	})
	defer asking.Wait()
	return serve(ctx, stop, server, listener, private, c.Server.ShutdownTimeout, watcher.Flush)
}

// serve serves until the context ends, the server fails or the private directory dies, and flushes what is left then.
func serve(ctx context.Context, stop func(), server *http.Server, listener net.Listener, private *slapd.Server, patience time.Duration, flush func(context.Context)) error {
	var died <-chan struct{}
	if private != nil {
		died = private.Done()
	}
	failed := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(listener, "", "")
		} else {
			failed <- server.Serve(listener)
		}
	}()
	var ended error
	select {
	case err := <-failed:
		return err
	case <-died:
		ended = private.Err()
	case <-ctx.Done():
	}
	shutdown, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), patience, errors.New("server.shutdown_timeout is over"))
	defer cancel()
	shutdown, done := signal.NotifyContext(shutdown, syscall.SIGINT, syscall.SIGTERM) // a second Ctrl-C is in a hurry
	defer done()
	stop() // and a third ends it at once
	if err := server.Shutdown(shutdown); err != nil {
		ended = errors.Join(ended, fmt.Errorf("requests were cut off: %w", context.Cause(shutdown)), server.Close())
	}
	flush(shutdown)
	return ended
}

// startPrivate starts the private directory server and points the configuration at it.
func startPrivate(ctx context.Context, c *config.Config, warn func(string)) (*slapd.Server, error) {
	o := slapd.Options{Dir: c.Embedded.Dir, Suffix: c.LDAP.BaseDN, Warn: warn}
	if c.Embedded.Sample {
		seed, err := openldap.Sample(openldap.Values{Suffix: c.LDAP.BaseDN})
		if err != nil {
			return nil, err
		}
		o.Seed = seed
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	server, err := slapd.Start(ctx, o)
	if err != nil {
		return nil, err
	}
	c.LDAP.URL, c.LDAP.BaseDN = server.URL(), server.Suffix()
	c.LDAP.BindDN, c.LDAP.BindPassword = server.ServiceDN(), config.Secret(server.ServicePassword())
	c.LDAP.PasswordPolicy, c.LDAP.Decoy, c.LDAP.HashesPasswords = "cn=default,ou=policies", "cn=decoy,ou=services", true
	c.LDAP.NoOp = true
	return server, nil
}

func stopPrivate(server *slapd.Server, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return server.Stop(ctx)
}
