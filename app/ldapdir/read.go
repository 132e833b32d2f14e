package ldapdir

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// Get implements [directory.Directory] by one search.
func (d *Directory) Get(ctx context.Context, kind *directory.Kind, name string) (directory.Entry, error) {
	m := d.of(kind.Name)
	found, err := d.find(ctx, m, name)
	if err != nil {
		return directory.Entry{}, err
	}
	return d.decode(m, found), nil
}

// Resolve implements [directory.Directory] by one search, or by one for each kind whose container is above the DN.
func (d *Directory) Resolve(ctx context.Context, reference string) (directory.Entry, error) {
	if m, name, ok := d.named(reference); ok {
		return d.Get(ctx, m.Kind, name)
	}
	dn, err := ldap.ParseDN(reference)
	if err != nil || len(dn.RDNs) == 0 || !utf8.ValidString(reference) {
		return directory.Entry{}, notFound(reference)
	}
	for _, m := range d.mappings {
		if !m.holds(dn) {
			continue
		}
		found, err := d.findOne(ctx, m, m.search(reference, ldap.ScopeBaseObject, m.Filter, m.request), reference)
		if directory.Is(err, directory.NotFound) {
			continue
		}
		if err != nil {
			return directory.Entry{}, err
		}
		return d.decode(m, found), nil
	}
	return directory.Entry{}, notFound(reference)
}

// named splits a reference such as "users/alice".
func (d *Directory) named(reference string) (*mapping, string, bool) {
	kind, name, ok := strings.Cut(reference, "/")
	if !ok {
		return nil, "", false
	}
	i := slices.IndexFunc(d.mappings, func(m *mapping) bool { return m.Kind.Name == kind })
	if i < 0 {
		return nil, "", false
	}
	return d.mappings[i], name, true
}

// find returns the entry with a name.
func (d *Directory) find(ctx context.Context, m *mapping, name string) (*ldap.Entry, error) {
	called := m.Kind.Name + "/" + name
	if name == "" || !utf8.ValidString(name) {
		return nil, notFound(called)
	}
	if m.direct {
		return d.findOne(ctx, m, m.search(m.dn(name), ldap.ScopeBaseObject, m.Filter, m.request), called)
	}
	result, err := d.search(ctx, m.searchFor(m.Kind.Key, name))
	if err == nil && len(result.Entries) > 1 { // for some it may be a second value, which is no name
		result.Entries = slices.DeleteFunc(result.Entries, func(e *ldap.Entry) bool {
			return !strings.EqualFold(d.decode(m, e).Name(), name)
		})
	}
	return d.one(m, result, err, called)
}

// searchFor returns the search for entries with a value of a field. A few are enough to know that there are several.
func (m *mapping) searchFor(field, value string) *ldap.SearchRequest {
	filter := fmt.Sprintf("(&%s(%s=%s))", m.Filter, m.attributeOf(field).Type, ldap.EscapeFilter(value))
	request := m.search(m.Container, m.scope(), filter, m.request)
	request.SizeLimit = 8
	return request
}

func (d *Directory) findOne(ctx context.Context, m *mapping, request *ldap.SearchRequest, called string) (*ldap.Entry, error) {
	result, err := d.search(ctx, request)
	return d.one(m, result, err, called)
}

// one returns the only entry that was found.
func (d *Directory) one(m *mapping, result *ldap.SearchResult, err error, called string) (*ldap.Entry, error) {
	switch {
	case hasCode(err, ldap.LDAPResultNoSuchObject), hasCode(err, ldap.LDAPResultInvalidDNSyntax),
		hasCode(err, ldap.LDAPResultReferral), // it lives on another server, so it is none of ours
		err == nil && len(result.Entries) == 0:
		return nil, notFound(called)
	case hasCode(err, ldap.LDAPResultSizeLimitExceeded), err == nil && len(result.Entries) > 1:
		return nil, &directory.Error{Code: directory.Ambiguous}
	case err != nil:
		return nil, d.fault(err, m)
	}
	return result.Entries[0], nil
}

func (m *mapping) search(base string, scope int, filter string, request []string, controls ...ldap.Control) *ldap.SearchRequest {
	return ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, 0, 0, false, filter, request, controls)
}

func (m *mapping) scope() int {
	if m.Deep {
		return ldap.ScopeWholeSubtree
	}
	return ldap.ScopeSingleLevel
}

func notFound(called string) error {
	return &directory.Error{Code: directory.NotFound, Detail: fmt.Sprintf("There is no %q.", strings.ToValidUTF8(called, "\uFFFD"))}
}
