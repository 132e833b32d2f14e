// Package ldapdirtest starts what tests need: a private slapd and the means to make directories on it.
package ldapdirtest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// Base is the suffix of the servers that tests start.
const Base = openldap.DefaultSuffix

// Users, Groups and Hosts are the kinds with the tables that they have by default.
var (
	Users  = kind(directory.Users())
	Groups = kind(directory.Groups())
	Hosts  = kind(directory.Hosts())
)

func kind(base directory.Kind, more ...directory.Field) *directory.Kind {
	k, err := directory.NewKind(base, base.Key, more...)
	if err != nil {
		panic(err)
	}
	return k
}

// Start starts a slapd that ends with the test. Passwords cost it next to nothing.
func Start(t testing.TB, o slapd.Options) *slapd.Server {
	t.Helper()
	if o.Dir == "" {
		dir, err := os.MkdirTemp("", "rollcall") //nolint:usetesting // t.TempDir's names are too long for some systems
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		o.Dir = dir
	}
	if o.Argon2 == (openldap.Argon2{}) {
		o.Argon2 = openldap.CheapArgon2
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	server, err := slapd.Start(ctx, o)
	if err != nil {
		t.Fatalf("slapd: %v", err)
	}
	t.Cleanup(func() { _ = server.Kill() })
	return server
}

// Options returns the options of a directory on a server, laid out as the server's first entries are.
func Options(server *slapd.Server) ldapdir.Options {
	base := server.Suffix()
	return ldapdir.Options{
		URL: server.URL(), BaseDN: base, BindDN: server.ServiceDN(), BindPassword: server.ServicePassword(),
		Timeout: 5 * time.Second, Connections: 4, ExclusiveConnections: 8, SortedSearches: 4, HoldSearches: time.Minute, MaxConnectionAge: time.Hour,
		PageSize: 100, MaxMessageBytes: 16 << 20, PasswordPolicy: "cn=default,ou=policies," + base,
		HashesPasswords: true, NoOp: true, Decoy: openldap.DecoyDN(base), LoginField: "uid", Tokens: "ou=sessions," + base, Freshness: 10 * time.Second,
		Mappings: []ldapdir.Mapping{
			{Kind: Users, Container: "ou=people," + base, NamingAttribute: "cn", ObjectClasses: []string{"inetOrgPerson"}},
			{Kind: Groups, Container: "ou=groups," + base, NamingAttribute: "cn", ObjectClasses: []string{"groupOfNames"},
				Placeholder: "cn=placeholder,ou=services," + base},
			{Kind: Hosts, Container: "ou=hosts," + base, NamingAttribute: "cn", ObjectClasses: []string{"device"}},
		},
	}
}

// Open returns a directory that is closed with the test.
func Open(t testing.TB, o ldapdir.Options) *ldapdir.Directory {
	t.Helper()
	d, err := ldapdir.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// Bind returns a plain LDAP connection as the service account, that is closed with the test.
func Bind(t testing.TB, server *slapd.Server) *ldap.Conn {
	t.Helper()
	l, err := ldap.DialURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	if err := l.Bind(server.ServiceDN(), server.ServicePassword()); err != nil {
		t.Fatal(err)
	}
	return l
}
