// Package ldapdir is a [directory.Directory] that lives in an LDAP server. It is the only package that knows
// LDAP: it maps fields to attributes, requests to operations, and result codes to the error catalogue.
package ldapdir

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// Options say which server to use, and how.
type Options struct {
	// URL of the server, such as ldap://ldap.example.org:389, or with ldaps: where all is TLS.
	URL string
	// StartTLS makes an ldap: connection go on in TLS (RFC 4511 §4.14), before anything else is said.
	StartTLS bool
	// TLS says whom to trust, and what certificate to show; nil trusts whom the system trusts. The name that the
	// server's certificate must be for is the URL's.
	TLS *tls.Config
	// BaseDN is an entry above the containers of all kinds.
	BaseDN string
	// BindDN and BindPassword are of the service account.
	BindDN, BindPassword string
	// Timeout is how long one operation may take, connecting included.
	Timeout time.Duration
	// Connections is how many connections all callers share, ExclusiveConnections how many more may be used
	// for paged searches, and again for logins. One that is being replaced may linger until its operations end.
	Connections, ExclusiveConnections int
	// MaxConnectionAge is after how long a connection is replaced.
	MaxConnectionAge time.Duration
	// SortedSearches is how many searches the server may sort at a time, those included that are kept open between
	// pages.
	SortedSearches int
	// HoldSearches is how long a search is kept open for its next page.
	HoldSearches time.Duration
	// PageSize is how many entries at a time are asked for where all are wanted.
	PageSize uint32
	// MaxMessageBytes is the largest message that the server may send. It holds for the whole process.
	MaxMessageBytes int64
	// PasswordPolicy is the DN of the policy to read the lockout's duration from; "" for none.
	PasswordPolicy string
	// ActAsCaller does what callers ask for as themselves, so that the server's own access control decides too.
	ActAsCaller bool
	// NoOp tells that the server has OpenLDAP's No-Op control, by which it says what it thinks of a dry run.
	NoOp bool
	// HashesPasswords tells that the server hashes a userPassword that it is given.
	HashesPasswords bool
	// Decoy is the DN of an entry that nobody can log in as, but that takes as long to refuse as anybody's; "" for none.
	Decoy string
	// LoginField names the user's field that a login name is a value of.
	LoginField string
	// HostLoginField names the user's field that is the account's name on hosts; LoginField where it is empty.
	HostLoginField string
	// Tokens is the DN of the entry below which it is kept which token a host may show; "" for none.
	Tokens string
	// Freshness is for how long it is relied on which groups are in which, where nothing shows a change.
	Freshness time.Duration
	// Mappings are the kinds.
	Mappings []Mapping
	// Observe is told of each operation when it has ended: its name in small letters, the name of its result code
	// (RFC 4511), or "timeout", "connection-lost" or "abandoned" where there was no answer, when it began and how long
	// it took. It is called by many at a time, with the context of who asked; nil: nobody watches.
	Observe func(ctx context.Context, operation, result string, begun time.Time, took time.Duration)
}

// Directory is a [directory.Directory] and [directory.Accounts] in an LDAP server.
type Directory struct {
	options  Options
	pool     *pool
	base     *ldap.DN
	mappings []*mapping
	// deciding are the attributes that decide whether a user may log in to a host.
	deciding []string
	nestings nestings
	schema   atomic.Pointer[schema]
	// stored are the attribute types, in lower case, that the server is known to have stored.
	stored sync.Map
	// claimed are the DNs, folded, that entries are being given.
	claimed sync.Map
	// held are the searches that are open between pages.
	held shelf
	// sorts are places for searches that the server sorts, held ones included.
	sorts lane
}

var (
	_ directory.Directory = (*Directory)(nil)
	_ directory.Accounts  = (*Directory)(nil)
)

// New returns a directory. It connects when it is first used, and fails when the options can't be right.
func New(o Options) (*Directory, error) {
	if o.Timeout <= 0 || o.Connections <= 0 || o.ExclusiveConnections <= 0 || o.MaxConnectionAge <= 0 || o.PageSize == 0 || o.MaxMessageBytes <= 0 || o.SortedSearches <= 0 || o.HoldSearches < 0 {
		return nil, errors.New("ldapdir: timeouts, ages, sizes and numbers of connections must be positive")
	}
	o.HostLoginField = cmp.Or(o.HostLoginField, o.LoginField)
	var problems []error
	base, err := ldap.ParseDN(o.BaseDN)
	if err != nil {
		problems = append(problems, fmt.Errorf("ldapdir: the base %q is not a DN", o.BaseDN))
	}
	pool, err := newPool(o)
	problems = append(problems, err)
	d := &Directory{options: o, pool: pool, base: base, sorts: newLane(o.SortedSearches)}
	d.nestings.reading = make(chan struct{}, 1)
	d.held.most = o.ExclusiveConnections
	d.sorts.evict = func() { d.held.drop(func(w *walk) bool { return w.sorting }) }
	for _, m := range o.Mappings {
		mapped, err := newMapping(m)
		problems = append(problems, err)
		if err == nil && base != nil && !base.EqualFold(mapped.container) && !base.AncestorOfFold(mapped.container) {
			problems = append(problems, fmt.Errorf("%s: the container %q is not below the base %q", m.Kind.Name, m.Container, o.BaseDN))
		}
		if _, ok := m.Kind.Field(o.LoginField); !ok && m.Kind.Name == directory.KindUsers {
			problems = append(problems, fmt.Errorf("users: the login field %q is no field", o.LoginField))
		}
		if _, ok := m.Kind.Field(o.HostLoginField); !ok && m.Kind.Name == directory.KindUsers {
			problems = append(problems, fmt.Errorf("users: the login field for hosts %q is no field", o.HostLoginField))
		}
		d.mappings = append(d.mappings, mapped)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	d.deciding = decidingAttributes(d.mappings, o.HostLoginField)
	pool.paged.places.evict = func() { d.held.drop(func(w *walk) bool { return w.conn != nil }) }
	limitMessages(o.MaxMessageBytes)
	return d, nil
}

var messages sync.Mutex

// limitMessages sets the largest message that is read from any server. go-ldap takes no limit of one connection's.
func limitMessages(bytes int64) {
	messages.Lock()
	defer messages.Unlock()
	if ber.MaxPacketLengthBytes != bytes { // others may be reading it
		ber.MaxPacketLengthBytes = bytes
	}
}

// Close closes every connection and waits for the operations that still run.
func (d *Directory) Close() {
	d.held.close()
	d.pool.close()
}

// Holds reports whether a DN is as those of a kind's entries are: where it lies, and by its naming attribute.
func (d *Directory) Holds(kind, dn string) bool {
	parsed, err := ldap.ParseDN(dn)
	return err == nil && slices.ContainsFunc(d.mappings, func(m *mapping) bool {
		return m.Kind.Name == kind && m.holds(parsed) && strings.EqualFold(parsed.RDNs[0].Attributes[0].Type, m.NamingAttribute)
	})
}

func (d *Directory) of(kind string) *mapping {
	for _, m := range d.mappings {
		if m.Kind.Name == kind {
			return m
		}
	}
	panic("ldapdir: no mapping for " + kind)
}

// decode turns what was found into an entry, as of now.
func (d *Directory) decode(m *mapping, found *ldap.Entry) directory.Entry {
	var lockout time.Duration
	if f := d.pool.features.Load(); f != nil {
		lockout = f.lockout
	}
	return m.decode(found, time.Now(), lockout)
}
