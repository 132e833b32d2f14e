package directory

import "context"

// Account is what logging in needs to know of a user.
type Account struct {
	DN, ID, Name string
	Locked       bool
	// PasswordChanged is a word that changes when the password does; "" where the server keeps none.
	PasswordChanged string
}

// Accounts is the port for those who find out who is calling.
type Accounts interface {
	// Account finds the user that logs in by this name. Errors: not-found, ambiguous-name.
	Account(ctx context.Context, login string) (Account, error)
	// Authenticate proves a password by a bind. Errors: invalid-credentials, whatever the reason.
	Authenticate(ctx context.Context, dn, password string) error
	// IsMember reports whether an entry is a direct member of a group. A group that is not there has none.
	IsMember(ctx context.Context, groupDN, memberDN string) (bool, error)
}
