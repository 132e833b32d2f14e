package ldapdir

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// sessionClass is of the entries that sessions are kept in (RFC 4519 §3.1).
const sessionClass = "applicationProcess"

const (
	attrName        = "cn"
	attrDescription = "description"
)

// Sessions keeps sessions as entries, each directly below a container: its name is the session's, and its one
// description what is kept of it. Whoever asks for it, it is the service that reads and writes them.
type Sessions struct {
	directory *Directory
	container string
}

var _ directory.Sessions = (*Sessions)(nil)

// Sessions returns those below an entry.
func (d *Directory) Sessions(container string) *Sessions { return &Sessions{d, container} }

func (s *Sessions) dn(id string) string { return attrName + "=" + exact(id) + "," + s.container }

// exact writes a string so that the server, which folds case and spaces (RFC 4518), takes no other for it: all but
// small letters, digits and hyphens as in a URL.
func exact(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02x", c)
		}
	}
	return b.String()
}

// sessionSeparator does not occur in what exact writes.
const sessionSeparator = ":"

// described is a session as its entry describes it.
func described(session directory.Session) string {
	return strings.Join([]string{exact(session.UserID), exact(session.Token), exact(session.PasswordChanged)}, sessionSeparator)
}

// undescribed reads what described wrote.
func undescribed(id, description string) (directory.Session, bool) {
	parts := strings.Split(description, sessionSeparator)
	if len(parts) != 3 {
		return directory.Session{}, false
	}
	for i, part := range parts {
		var err error
		if parts[i], err = url.PathUnescape(part); err != nil {
			return directory.Session{}, false
		}
	}
	session := directory.Session{ID: id, UserID: parts[0], Token: parts[1], PasswordChanged: parts[2]}
	return session, described(session) == description
}

// Begin implements [directory.Sessions] by one Add.
func (s *Sessions) Begin(ctx context.Context, session directory.Session) error {
	add := ldap.NewAddRequest(s.dn(session.ID), nil)
	add.Attribute(attrObjectClass, []string{sessionClass})
	add.Attribute(attrName, []string{exact(session.ID)})
	add.Attribute(attrDescription, []string{described(session)})
	err := s.directory.add(directory.AsService(ctx), add)
	if hasCode(err, ldap.LDAPResultNoSuchObject) || hasCode(err, ldap.LDAPResultInsufficientAccessRights) {
		return &directory.Error{Code: directory.UnsupportedByDirectory, Cause: err,
			Detail: "The directory has no place for sessions: auth.sessions must name an entry that the service may write below."}
	}
	return s.directory.writeFault(err, nil)
}

// Session implements [directory.Sessions] by one search.
func (s *Sessions) Session(ctx context.Context, id string) (directory.Session, error) {
	result, err := s.directory.search(directory.AsService(ctx), ldap.NewSearchRequest(s.dn(id), ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass="+sessionClass+")", []string{attrDescription}, nil))
	switch {
	case hasCode(err, ldap.LDAPResultNoSuchObject), hasCode(err, ldap.LDAPResultInvalidDNSyntax), err == nil && len(result.Entries) != 1:
		return directory.Session{}, &directory.Error{Code: directory.NotFound, Cause: err}
	case err != nil:
		return directory.Session{}, s.directory.fault(err, nil)
	}
	session, ok := undescribed(id, result.Entries[0].GetEqualFoldAttributeValue(attrDescription))
	if !ok {
		return directory.Session{}, &directory.Error{Code: directory.NotFound}
	}
	return session, nil
}

// Rotate implements [directory.Sessions] by one Modify, which the server carries out only where the old description
// is there to be deleted.
func (s *Sessions) Rotate(ctx context.Context, id, from, to string) error {
	session, err := s.Session(ctx, id)
	if err != nil {
		return err
	}
	if session.Token != from {
		return &directory.Error{Code: directory.Stale}
	}
	modify := ldap.NewModifyRequest(s.dn(id), nil)
	modify.Delete(attrDescription, []string{described(session)})
	session.Token = to
	modify.Add(attrDescription, []string{described(session)})
	_, err = s.directory.modify(directory.AsService(ctx), modify)
	switch {
	case hasCode(err, ldap.LDAPResultNoSuchObject):
		return &directory.Error{Code: directory.NotFound, Cause: err}
	case hasCode(err, ldap.LDAPResultNoSuchAttribute):
		return &directory.Error{Code: directory.Stale, Cause: err}
	}
	return s.directory.writeFault(err, nil)
}

// End implements [directory.Sessions] by one Delete.
func (s *Sessions) End(ctx context.Context, id string) error {
	return s.directory.drop(ctx, s.dn(id))
}

// drop deletes an entry of the service's own, if it is there.
func (d *Directory) drop(ctx context.Context, dn string) error {
	err := d.remove(directory.AsService(ctx), ldap.NewDelRequest(dn, nil))
	if hasCode(err, ldap.LDAPResultNoSuchObject) || hasCode(err, ldap.LDAPResultInvalidDNSyntax) {
		return nil
	}
	return d.writeFault(err, nil)
}

// sweptAtOnce bounds how many sessions one search of a sweep finds.
const sweptAtOnce = 100

// Sweep implements [directory.Sessions] by the entries' modifyTimestamp, which Rotate changes.
func (s *Sessions) Sweep(ctx context.Context, before time.Time) error {
	filter := "(&(objectClass=" + sessionClass + ")(modifyTimestamp<=" + before.UTC().Format("20060102150405Z") + "))"
	for {
		result, err := s.directory.search(directory.AsService(ctx), ldap.NewSearchRequest(s.container, ldap.ScopeSingleLevel, ldap.NeverDerefAliases, sweptAtOnce, 0, false,
			filter, []string{"1.1"}, nil))
		more := hasCode(err, ldap.LDAPResultSizeLimitExceeded) && len(result.Entries) > 0
		if err != nil && !more {
			return s.directory.fault(err, nil)
		}
		for _, found := range result.Entries {
			if err := s.directory.drop(ctx, found.DN); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
	}
}

// Ready reports, as an error, that there is no place for sessions.
func (s *Sessions) Ready(ctx context.Context) error {
	_, err := s.directory.search(directory.AsService(ctx), ldap.NewSearchRequest(s.container, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{"1.1"}, nil))
	return s.directory.fault(err, nil)
}
