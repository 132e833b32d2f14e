package ldapdir

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

var _ directory.Standings = (*Directory)(nil)

// attrContextCSN is the CSN of the last write anywhere in a database, by slapo-syncprov(5), at its topmost entry.
const attrContextCSN = "contextCSN"

// mostParties is more than the entries that can decide about one login: where there are as many, several have a name.
const mostParties = 12

// Standing implements [directory.Standings] by one search. Where what it finds does not show what it was found as, because
// one entry has the names of both, it searches once more for each.
func (d *Directory) Standing(ctx context.Context, login, host, tokenOf string) (directory.Standing, error) {
	asked := time.Now()
	s, csn, doubt, err := d.parties(ctx, login, host, tokenOf)
	if err == nil && doubt {
		var other directory.Standing
		if s, csn, _, err = d.parties(ctx, login, "", tokenOf); err == nil {
			other, _, _, err = d.parties(ctx, "", host, "")
			s.Host, s.Ambiguous = other.Host, s.Ambiguous || other.Ambiguous
		}
	}
	s.Groups = func(ctx context.Context) (*directory.Nesting, error) { return d.nesting(ctx, csn, asked) }
	return s, err
}

// parties finds the entries of a [directory.Standing] by one search, and the CSN of the last write, "" where the server
// does not show it. It reports doubt where an entry may have been found as the other.
func (d *Directory) parties(ctx context.Context, login, host, tokenOf string) (s directory.Standing, csn string, doubt bool, err error) {
	users, hosts := d.of(directory.KindUsers), d.of(directory.KindHosts)
	loginType, nameType := users.attributeOf(d.options.HostLoginField).Type, hosts.attributeOf(hosts.Kind.Key).Type
	filter := "(entryDN=" + ldap.EscapeFilter(d.options.BaseDN) + ")"
	if login != "" {
		filter += "(&(" + loginType + "=" + ldap.EscapeFilter(login) + ")" + users.Filter + ")"
	}
	if host != "" {
		filter += "(&(" + nameType + "=" + ldap.EscapeFilter(host) + ")" + hosts.Filter + ")"
	}
	var token *ldap.DN
	if tokenOf != "" && d.options.Tokens != "" {
		dn := d.tokenDN(tokenOf)
		filter += "(entryDN=" + ldap.EscapeFilter(dn) + ")"
		if token, err = ldap.ParseDN(dn); err != nil {
			return s, "", false, &directory.Error{Code: directory.Internal, Cause: err}
		}
	}
	request := ldap.NewSearchRequest(d.options.BaseDN, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, mostParties, 0, false, "(|"+filter+")", d.deciding, nil)
	result, err := d.search(directory.AsService(ctx), request)
	if err != nil && !hasCode(err, ldap.LDAPResultSizeLimitExceeded) {
		return s, "", false, d.fault(err, nil)
	}
	s.Ambiguous = err != nil
	for _, found := range result.Entries {
		dn, err := ldap.ParseDN(found.DN)
		switch {
		case err != nil:
		case dn.EqualFold(d.base):
			csn = strings.Join(slices.Sorted(slices.Values(found.GetEqualFoldAttributeValues(attrContextCSN))), " ")
		case token != nil && dn.EqualFold(token):
			s.HostToken = found.GetEqualFoldAttributeValue(attrDescription)
		case login != "" && users.holds(dn) && slices.Contains(found.GetEqualFoldAttributeValues(loginType), login):
			doubt = doubt || folds(found.GetEqualFoldAttributeValues(nameType), host)
			s.Ambiguous = s.Ambiguous || s.User.Kind != nil
			s.User = d.decode(users, found)
		case host != "" && hosts.holds(dn):
			if entry := d.decode(hosts, found); strings.EqualFold(entry.Name(), host) { // and it is no second name
				doubt = doubt || folds(found.GetEqualFoldAttributeValues(loginType), login)
				s.Ambiguous = s.Ambiguous || s.Host.Kind != nil
				s.Host = entry
			}
		}
	}
	return s, csn, doubt && login != "" && host != "", nil
}

// folds reports whether the server takes one of the values for another (RFC 4518).
func folds(values []string, value string) bool {
	return slices.ContainsFunc(values, func(v string) bool { return Fold(v) == Fold(value) })
}

// decidingAttributes returns what the search of parties asks for.
func decidingAttributes(mappings []*mapping, loginField string) []string {
	attributes := []string{attrContextCSN, attrDescription, attrEndTime, attrStartTime}
	for _, m := range mappings {
		for _, name := range []string{m.Kind.Key, loginField, directory.FieldID, directory.FieldMemberOfs, directory.FieldAccountLocked, directory.FieldSSHPublicKeys} {
			if _, ok := m.Kind.Field(name); ok && !containsFold(attributes, m.attributeOf(name).Type) {
				attributes = append(attributes, m.attributeOf(name).Type)
			}
		}
	}
	return attributes
}

// nestings is which groups are in which, as it was last read.
type nestings struct {
	latest atomic.Pointer[nestingAt]
	// reading is held by the one who reads it.
	reading chan struct{}
}

// nestingAt is a nesting, and what was known before it was read: when, the server's last write, and how many there were
// from here.
type nestingAt struct {
	*directory.Nesting
	begun  time.Time
	csn    string
	writes uint64
	// seen is when that CSN was first seen.
	seen time.Time
}

// A server may show the CSN of a write some milliseconds before slapo-memberof(5) has followed it. What is read within
// settled of a write is relied on for unsettled only.
const (
	settled   = time.Second
	unsettled = 100 * time.Millisecond
)

// good returns for how long the nesting is relied on, where nothing shows a change.
func (n *nestingAt) good(freshness time.Duration) time.Duration {
	if n.begun.Sub(n.seen) < settled {
		return min(unsettled, freshness)
	}
	return freshness
}

// Nesting implements [directory.Standings].
func (d *Directory) Nesting(ctx context.Context) (*directory.Nesting, error) {
	asked := time.Now()
	_, csn, _, err := d.parties(ctx, "", "", "")
	if err != nil {
		return nil, err
	}
	return d.nesting(ctx, csn, asked)
}

// nesting returns which groups are in which, as it was at a moment or later, when csn was that of the last write.
//
// Where nothing has been written since it was last read, it is not read again. A server may show no CSN, or go back to
// an old one when it was killed; so nothing is relied on for longer than Options.Freshness, nor beyond a write from here.
func (d *Directory) nesting(ctx context.Context, csn string, asked time.Time) (*directory.Nesting, error) {
	current := func() *directory.Nesting {
		n := d.nestings.latest.Load()
		switch {
		case n == nil:
			return nil
		case n.begun.After(asked), n.csn == csn && n.writes == d.pool.writes.Load() && time.Since(n.begun) < n.good(d.options.Freshness):
			return n.Nesting
		}
		return nil
	}
	if n := current(); n != nil {
		return n, nil
	}
	select {
	case d.nestings.reading <- struct{}{}:
	case <-ctx.Done():
		return nil, &directory.Error{Code: directory.Timeout, Cause: context.Cause(ctx)}
	}
	defer func() { <-d.nestings.reading }()
	if n := current(); n != nil {
		return n, nil
	}
	read := &nestingAt{begun: time.Now(), csn: csn, writes: d.pool.writes.Load(), seen: time.Now()}
	if last := d.nestings.latest.Load(); last != nil && last.csn == csn {
		read.seen = last.seen
	}
	// It is read to its end for the others who wait, also when the one who reads it gives up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.options.Timeout)
	defer cancel()
	m := d.of(directory.KindGroups)
	name, memberOf := m.attributeOf(m.Kind.Key).Type, m.attributeOf(directory.FieldMemberOfs).Type
	result, err := d.search(directory.AsService(ctx), m.search(m.Container, m.scope(), m.Filter, []string{name, memberOf}))
	if err != nil {
		return nil, d.fault(err, m)
	}
	groups, kept := make([]directory.NestedGroup, len(result.Entries)), false
	for i, found := range result.Entries {
		entry := d.decode(m, found)
		groups[i] = directory.NestedGroup{DN: found.DN, Name: entry.Name(), MemberOfs: entry.Values(directory.FieldMemberOfs)}
		kept = kept || len(groups[i].MemberOfs) > 0
	}
	if !kept { // for want of nested groups, or of a server that shows them
		known, err := d.schemaOf(ctx)
		if err != nil {
			return nil, err
		}
		if _, ok := known.of(memberOf); !ok && len(known.types) > 0 {
			return nil, &directory.Error{Code: directory.UnsupportedByDirectory,
				Detail: "The directory server has no attribute " + memberOf + ", which logins to hosts need. Add the memberof overlay to it."}
		}
	}
	read.Nesting = directory.NewNesting(groups, foldedDN)
	d.nestings.latest.Store(read)
	return read.Nesting, nil
}
