package program

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"rollcall/app/auth"
	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/telemetry"
	"rollcall/config"
)

// farewell is how long what is left of traces may take where there was no time for it before.
const farewell = time.Second

// openTelemetry begins to show what the configuration says is to be shown.
func openTelemetry(ctx context.Context, c *config.Config, version string, log *logrus.Logger) (*telemetry.Telemetry, error) {
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
		if f, ok := options.Mappings[0].Kind.Field(name); !ok || f.ReadOnly || f.WriteOnly || f.Backlink || f.Identity {
			problems = append(problems, fmt.Errorf("auth.own_fields: %q is no field of a user that users can read and write", name))
		}
	}
	if slices.Contains(c.Auth.OwnFields, c.SSH.LoginField) {
		problems = append(problems, fmt.Errorf("auth.own_fields: must not hold ssh.login_field (%s), or users could choose whose account is theirs on hosts", c.SSH.LoginField))
	}
	for _, dn := range c.SSH.EverywhereGroups {
		if !d.Holds(directory.KindGroups, dn) {
			problems = append(problems, fmt.Errorf("ssh.everywhere_groups: %q must be a group below groups.container, named by its naming_attribute", dn))
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
		LoginField: c.Auth.LoginField, HostLoginField: c.SSH.LoginField, Tokens: below(c.Auth.Sessions, c.LDAP.BaseDN), Freshness: c.Auth.Freshness, ActAsCaller: c.LDAP.ActAsCaller, NoOp: c.LDAP.NoOp,
	}
	secured, err := ldapdir.TLS(c.LDAP.CAFile, c.LDAP.ClientCertificate, c.LDAP.ClientKey)
	o.TLS = secured
	problems := []error{err}
	for _, k := range []struct {
		table directory.Kind
		kind  config.Kind
	}{{directory.Users(), c.Users}, {directory.Groups(), c.Groups.Kind}, {directory.Hosts(), c.Hosts}} {
		mapping, err := mappingOf(k.table, k.kind, c.LDAP.BaseDN, c.Posix.Enabled)
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

func mappingOf(table directory.Kind, c config.Kind, base string, posix bool) (ldapdir.Mapping, error) {
	attributes := map[string]ldapdir.Attribute{}
	for _, a := range c.Attributes {
		attributes[a.Field] = ldapdir.Attribute{Type: a.Attribute, ObjectClass: a.ObjectClass}
	}
	var more []directory.Field
	if posix {
		more = directory.PosixFields(table.Name)
	}
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
