package ldapdirtest

import (
	"rollcall/app/directory"
	"rollcall/app/ldapdir"
)

// Accounts and AccountGroups are Users and Groups where they are Linux accounts and groups of such.
var (
	Accounts      = kind(directory.Users(), directory.PosixFields(directory.KindUsers)...)
	AccountGroups = kind(directory.Groups(), directory.PosixFields(directory.KindGroups)...)
)

// WithAccounts has users and groups of a directory be those.
func WithAccounts(o ldapdir.Options) ldapdir.Options {
	o.Mappings = append([]ldapdir.Mapping(nil), o.Mappings...)
	o.Mappings[0].Kind, o.Mappings[1].Kind = Accounts, AccountGroups
	return o
}
