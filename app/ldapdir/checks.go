package ldapdir

import (
	"context"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// Checks are what must hold before requests can be served: that the server answers the service account, without which
// the others can't hold either, that each kind has its container, and that there is an entry for sessions where they
// are kept in one. An entry that is missing is a configuration that does not fit the directory: whoever can't be
// logged in, or has no users, is better not put into service.
func (d *Directory) Checks(sessions string) []directory.Check {
	checks := []directory.Check{{Name: "directory", Run: d.Ready, Remedy: "The directory server does not answer the service account. " +
		"See that it runs and can be reached, and check ldap.url, ldap.bind_dn and ldap.bind_password."}}
	for _, m := range d.mappings {
		checks = append(checks, directory.Check{Name: m.Kind.Name, Run: func(ctx context.Context) error { return d.isThere(ctx, m.Container) },
			Remedy: "The container of the " + m.Kind.Name + " is not there, or the service account may not read it. " +
				"Create it, or check " + m.Kind.Name + ".container and ldap.base_dn."})
	}
	if sessions != "" {
		checks = append(checks, directory.Check{Name: "sessions", Run: d.Sessions(sessions).Ready, Remedy: "The entry for sessions is not there, or " +
			"the service account may not read it, so that nobody can log in for a token. Create it, or check auth.sessions."})
	}
	return checks
}

// Ready asks the server for a sign of life.
func (d *Directory) Ready(ctx context.Context) error { return d.isThere(ctx, "") }

// isThere reports, as an error, that an entry is missing.
func (d *Directory) isThere(ctx context.Context, dn string) error {
	_, err := d.search(directory.AsService(ctx), ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{"1.1"}, nil))
	return d.fault(err, nil)
}
