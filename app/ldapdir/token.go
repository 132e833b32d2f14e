package ldapdir

import (
	"context"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// tokenClass is of the entries that are kept of hosts' tokens (RFC 4519 §3.14). It is not that of sessions, which are
// removed when they are old.
const tokenClass = "organizationalRole"

// tokenName and tokenDN are of the entry that is kept of the token of the host with an ID.
func tokenName(hostID string) string { return "host-" + exact(hostID) }

func (d *Directory) tokenDN(hostID string) string {
	return attrName + "=" + tokenName(hostID) + "," + d.options.Tokens
}

// SetToken implements [directory.Directory] by a search and one Modify, an Add where there is no token yet, or a Delete.
func (d *Directory) SetToken(ctx context.Context, kind *directory.Kind, name, digest string) (directory.Entry, error) {
	entry, err := d.Get(ctx, kind, name)
	if err != nil {
		return directory.Entry{}, err
	}
	if d.options.Tokens == "" {
		return directory.Entry{}, noPlaceForTokens(nil)
	}
	if digest == "" {
		return entry, d.drop(ctx, d.tokenDN(entry.ID()))
	}
	return entry, d.keepToken(directory.AsService(ctx), entry.ID(), digest)
}

func (d *Directory) keepToken(ctx context.Context, hostID, digest string) error {
	modify := ldap.NewModifyRequest(d.tokenDN(hostID), nil)
	modify.Replace(attrDescription, []string{digest})
	_, err := d.modify(ctx, modify)
	if hasCode(err, ldap.LDAPResultNoSuchObject) {
		add := ldap.NewAddRequest(d.tokenDN(hostID), nil)
		add.Attribute(attrObjectClass, []string{tokenClass})
		add.Attribute(attrName, []string{tokenName(hostID)})
		add.Attribute(attrDescription, []string{digest})
		if err = d.add(ctx, add); hasCode(err, ldap.LDAPResultEntryAlreadyExists) { // another was faster
			_, err = d.modify(ctx, modify)
		}
	}
	if hasCode(err, ldap.LDAPResultNoSuchObject) || hasCode(err, ldap.LDAPResultInsufficientAccessRights) {
		return noPlaceForTokens(err)
	}
	return d.writeFault(err, nil)
}

func noPlaceForTokens(cause error) error {
	return &directory.Error{Code: directory.UnsupportedByDirectory, Cause: cause,
		Detail: "The directory has no place for hosts' tokens: auth.sessions must name an entry that the service may write below."}
}
