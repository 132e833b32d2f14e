// Rollcall is a REST API for an LDAP directory of users, groups and hosts.
package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	stdlog "log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"rollcall/app/auth"
	"rollcall/app/cli"
	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/logs"
	"rollcall/app/rest"
	"rollcall/app/slapd"
	"rollcall/app/telemetry"
	"rollcall/config"
	"rollcall/deploy/openldap"
)

// version is set by the linker.
var version = "development"

var errConfiguration = errors.New("the configuration is not right")

// gcPercent lets the heap grow to five times what is in use before it is collected: little is in use, and each
// request leaves much behind. GOGC overrides it.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := command().ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if exit, ok := errors.AsType[cli.ExitError](err); ok {
			os.Exit(exit.Status)
		}
		os.Exit(1)
	}
}

// run serves the API until a signal comes, then lets the requests in flight end.
func run(ctx context.Context, c *config.Config, out io.Writer) (err error) {
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

	watcher, err := openTelemetry(ctx, c, log)
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
		if private, err = startPrivate(ctx, c); err != nil {
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
		AdminGroup: c.Auth.AdminGroup, Entries: c.Auth.Protected, RoleGroups: []string{c.Auth.OperatorGroup, c.Auth.ReaderGroup},
		SameDN: ldapdir.SameDN, Groups: ldapDirectory.Groups,
	}
	protected := directory.NewProtected(authenticator.Watch(ldapDirectory), protection)
	memberships := directory.NewMemberships(protected, kinds[1], ldapdir.SameDN)
	guarded := directory.NewGuarded(directory.NewChecked(memberships), protection, c.Auth.OwnFields, c.Auth.LoginField)
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
		Directory: outermost, Kinds: kinds,
		Authenticate: authenticator.Authenticate, Logins: authenticator, Checks: ldapDirectory.Checks(below(c.Auth.Sessions, c.LDAP.BaseDN)), Version: version,
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
	announce(out, c, listener.Addr().String(), watcher.Address())
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
func startPrivate(ctx context.Context, c *config.Config) (*slapd.Server, error) {
	o := slapd.Options{Dir: c.Embedded.Dir, Suffix: c.LDAP.BaseDN}
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

// farewell is how long what is left of traces may take where there was no time for it before.
const farewell = time.Second

// openTelemetry begins to show what the configuration says is to be shown.
func openTelemetry(ctx context.Context, c *config.Config, log *logrus.Logger) (*telemetry.Telemetry, error) {
	return telemetry.Start(ctx, telemetry.Options{
		Listen: c.Telemetry.Listen, Profiles: c.Telemetry.PProf, Version: version,
		Endpoint: c.Telemetry.OTLPEndpoint, Headers: c.Telemetry.Headers(), SampleRatio: c.Telemetry.SampleRatio, TrustParent: c.Telemetry.TrustTraceparent,
		Report: func(what string, err error) { log.WithError(err).Warn(what) },
	})
}

// openDirectory returns the directory that the configuration describes, and its kinds. It does not connect yet.
func openDirectory(c *config.Config, watcher *telemetry.Telemetry) (*ldapdir.Directory, []*directory.Kind, error) {
	options, faults := ldapOptions(c)
	options.Observe = watcher.Operation
	d, err := ldapdir.New(options)
	if err := errors.Join(faults, err); err != nil {
		return nil, nil, err
	}
	var problems []error
	for key, dn := range map[string]string{"operator_group": c.Auth.OperatorGroup, "reader_group": c.Auth.ReaderGroup} {
		if dn != "" && !d.Holds(directory.KindGroups, dn) {
			problems = append(problems, fmt.Errorf("auth.%s: must be a group below groups.container, named by its naming_attribute", key))
		}
	}
	for _, name := range c.Auth.OwnFields {
		if f, ok := options.Mappings[0].Kind.Field(name); !ok || f.ReadOnly || f.WriteOnly || f.Backlink {
			problems = append(problems, fmt.Errorf("auth.own_fields: %q is no field of a user that can be read and written", name))
		}
	}
	if !d.Holds(directory.KindGroups, c.Auth.AdminGroup) {
		problems = append(problems, errors.New("auth.admin_group: must be a group below groups.container, named by its naming_attribute, so that its last admin can be kept"))
	}
	for _, dn := range c.Auth.Protected {
		if !d.Holds(directory.KindUsers, dn) && !d.Holds(directory.KindGroups, dn) && !d.Holds(directory.KindHosts, dn) {
			problems = append(problems, fmt.Errorf("auth.protected: %q must be below a container, and named by its naming_attribute", dn))
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, nil, err
	}
	watcher.Lanes(func() (lanes []telemetry.Lane) {
		for _, lane := range d.Lanes() {
			lanes = append(lanes, telemetry.Lane(lane))
		}
		return lanes
	}, d.HeldSearches)
	kinds := make([]*directory.Kind, len(options.Mappings))
	for i, m := range options.Mappings {
		kinds[i] = m.Kind
	}
	return d, kinds, nil
}

// openAuth returns what finds out who is calling.
func openAuth(c *config.Config, keys []ed25519.PrivateKey, d *ldapdir.Directory, watcher *telemetry.Telemetry) (*auth.Authenticator, error) {
	o := auth.Options{
		LoginField: c.Auth.LoginField, SameDN: ldapdir.SameDN, Fold: ldapdir.Fold, Freshness: c.Auth.Freshness,
		PasswordMemory: c.Auth.PasswordMemory, MaxFailures: c.Auth.MaxFailures, FailureWindow: c.Auth.FailureWindow,
		Observe: watcher.Login,
		Groups: map[directory.Role]string{
			directory.RoleAdmin: c.Auth.AdminGroup, directory.RoleOperator: c.Auth.OperatorGroup, directory.RoleReader: c.Auth.ReaderGroup,
		},
		Tokens: auth.TokenOptions{
			Issuer: c.Auth.TokenIssuer, Keys: keys, AccessLifetime: c.Auth.AccessTokenLifetime, RefreshLifetime: c.Auth.RefreshTokenLifetime,
		},
	}
	if c.OIDC.Issuer != "" {
		o.OIDC = &auth.OIDC{
			Issuer: c.OIDC.Issuer, Audience: c.OIDC.Audience, UserClaim: c.OIDC.UserClaim, RolesClaim: c.OIDC.RolesClaim, Timeout: c.LDAP.Timeout,
			Through: watcher.Through,
		}
	}
	if c.Auth.Sessions == "" {
		return auth.New(d, auth.NewMemory(), o)
	}
	return auth.New(d, d.Sessions(below(c.Auth.Sessions, c.LDAP.BaseDN)), o)
}

// tokenKeys reads the keys that sign tokens. Without any, one is made beside the private directory.
func tokenKeys(c *config.Config) ([]ed25519.PrivateKey, error) {
	files := c.Auth.TokenKeys
	if len(files) == 0 {
		files = []string{filepath.Join(c.Embedded.Dir, "token.key")}
		if _, err := os.Stat(files[0]); errors.Is(err, fs.ErrNotExist) {
			key, err := auth.NewKey()
			if err == nil {
				err = os.WriteFile(files[0], key, 0o600)
			}
			if err != nil {
				return nil, err
			}
		}
	}
	var keys []ed25519.PrivateKey
	var problems []error
	for _, file := range files {
		text, err := os.ReadFile(filepath.Clean(file))
		if err == nil {
			var key ed25519.PrivateKey
			key, err = auth.ParseKey(text)
			keys = append(keys, key)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("auth.token_keys: %s: %w", file, err))
		}
	}
	return keys, errors.Join(problems...)
}

// ldapOptions unpacks the configuration for ldapdir.
func ldapOptions(c *config.Config) (ldapdir.Options, error) {
	o := ldapdir.Options{
		URL: c.LDAP.URL, StartTLS: c.LDAP.StartTLS, BaseDN: c.LDAP.BaseDN, BindDN: c.LDAP.BindDN, BindPassword: string(c.LDAP.BindPassword),
		Timeout: c.LDAP.Timeout, Connections: c.LDAP.Connections, ExclusiveConnections: c.LDAP.ExclusiveConnections,
		SortedSearches: c.LDAP.SortedSearches, HoldSearches: c.LDAP.HoldSearches,
		MaxConnectionAge: c.LDAP.MaxConnectionAge, PageSize: uint32(c.LDAP.PageSize), MaxMessageBytes: c.LDAP.MaxMessageBytes,
		PasswordPolicy: below(c.LDAP.PasswordPolicy, c.LDAP.BaseDN), Decoy: below(c.LDAP.Decoy, c.LDAP.BaseDN), HashesPasswords: c.LDAP.HashesPasswords,
		LoginField: c.Auth.LoginField, ActAsCaller: c.LDAP.ActAsCaller, NoOp: c.LDAP.NoOp,
	}
	secured, err := ldapdir.TLS(c.LDAP.CAFile, c.LDAP.ClientCertificate, c.LDAP.ClientKey)
	o.TLS = secured
	problems := []error{err}
	for _, k := range []struct {
		table directory.Kind
		kind  config.Kind
	}{{directory.Users(), c.Users}, {directory.Groups(), c.Groups.Kind}, {directory.Hosts(), c.Hosts}} {
		mapping, err := mappingOf(k.table, k.kind, c.LDAP.BaseDN)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		if k.table.Name == directory.KindGroups {
			mapping.Placeholder = below(c.Groups.Placeholder, c.LDAP.BaseDN)
		}
		o.Mappings = append(o.Mappings, mapping)
	}
	return o, errors.Join(problems...)
}

func mappingOf(table directory.Kind, c config.Kind, base string) (ldapdir.Mapping, error) {
	attributes := map[string]ldapdir.Attribute{}
	for _, a := range c.Attributes {
		attributes[a.Field] = ldapdir.Attribute{Type: a.Attribute, ObjectClass: a.ObjectClass}
	}
	var more []directory.Field
	for _, f := range c.Fields {
		more = append(more, directory.Field{Name: f.Name, List: f.List, Required: f.Required, ReadOnly: f.ReadOnly, Description: f.Description})
		attributes[f.Name] = ldapdir.Attribute{Type: f.Attribute, ObjectClass: f.ObjectClass}
	}
	kind, err := directory.NewKind(table, c.Key, more...)
	if err != nil {
		return ldapdir.Mapping{}, err
	}
	container := base
	if c.Container != "" {
		container = below(c.Container, base)
	}
	return ldapdir.Mapping{
		Kind: kind, Container: container, Deep: c.Deep, NamingAttribute: c.NamingAttribute,
		ObjectClasses: c.ObjectClasses, Filter: c.Filter, Attributes: attributes,
	}, nil
}

// below returns the DN of a relative one, "" for "".
func below(relative, base string) string {
	if relative == "" {
		return ""
	}
	return relative + "," + base
}

// prefixes reads addresses and ranges that config has found right.
func prefixes(proxies []string) []netip.Prefix {
	var all []netip.Prefix
	for _, proxy := range proxies {
		if prefix, err := netip.ParsePrefix(proxy); err == nil {
			all = append(all, prefix)
		} else if address, err := netip.ParseAddr(proxy); err == nil {
			all = append(all, netip.PrefixFrom(address, address.BitLen()))
		}
	}
	return all
}

// announce says where the API is and how to log in, all at once.
func announce(out io.Writer, c *config.Config, address, metrics string) {
	url := localURL(c.Server, address) + c.Server.BasePath
	elsewhere := ""
	if host, _, err := net.SplitHostPort(address); err == nil && isUnspecified(host) {
		elsewhere = ", and on every other address of this machine"
	}
	text := fmt.Sprintf("Rollcall %s, %s environment\n  listens on   %s%s\n  directory    %s, ", version, c.Environment, url, elsewhere, c.LDAP.URL)
	if c.Embedded.Enabled {
		text += "a private OpenLDAP that keeps its data in " + c.Embedded.Dir + "\n"
	} else {
		text += c.LDAP.BaseDN + "\n"
	}
	if metrics != "" {
		text += "  metrics at   http://" + metrics + "/metrics\n"
	}
	if c.Embedded.Enabled && c.Embedded.Sample {
		text += "  log in as    admin with the password admin (HTTP Basic)\n\n  curl -u admin:admin " + url + "/users/alice\n\n"
	}
	_, _ = io.WriteString(out, text) // whoever does not read it can't be told so either
}

// localURL returns where a server that listens on the address is reached from this machine.
func localURL(c config.Server, listen string) string {
	scheme := "http://"
	if c.TLSCertificate != "" {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return scheme + listen
	}
	if isUnspecified(host) {
		host = "127.0.0.1"
	}
	return scheme + net.JoinHostPort(host, port)
}

// isUnspecified reports whether a host to listen on means all of this machine's.
func isUnspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// inClear reports whether passwords travel to the directory server for others to read.
func inClear(c config.LDAP) bool { return !c.StartTLS && readable(c.URL) }

// readable reports whether others can read what is sent to a URL: it leaves this machine, and without TLS.
func readable(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "ldap" && u.Scheme != "http" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback())
}
