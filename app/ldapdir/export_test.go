package ldapdir

import (
	"context"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// Request is the search that answers a query.
func (d *Directory) Request(ctx context.Context, kind *directory.Kind, query directory.Query) (*ldap.SearchRequest, error) {
	l, err := d.listing(ctx, d.of(kind.Name), query)
	if err != nil {
		return nil, err
	}
	return l.request, nil
}
