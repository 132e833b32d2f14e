package directory

import (
	"context"
	"time"
)

// Account is what logging in needs to know of a user.
type Account struct {
	DN, ID, Name string
	Locked       bool
	// PasswordChanged is a word that changes when the password does; "" where the server keeps none.
	PasswordChanged string
}

// PasswordState is what the server says of a password that was right (draft-behera-ldap-password-policy).
type PasswordState struct {
	// MustChange tells that the password is good for nothing but setting a new one.
	MustChange bool
	// Expired tells that the password has expired, and is good for GraceLogins logins more.
	Expired     bool
	GraceLogins int
	// ExpiresIn is when the password expires; 0 where the server gives no warning.
	ExpiresIn time.Duration
}

// Accounts is the port for those who find out who is calling. It always speaks as the service.
type Accounts interface {
	// Account finds the user with a value of a field. Errors: not-found, ambiguous-name.
	Account(ctx context.Context, field, value string) (Account, error)
	// Authenticate proves a password by a bind. With the dn "", nobody's, it takes as long to refuse as with
	// anybody's, where the directory has a decoy. Errors: password-expired, when it is right but has expired;
	// else invalid-credentials, whatever the reason.
	Authenticate(ctx context.Context, dn, password string) (PasswordState, error)
	// Groups returns the DNs of the groups that an entry is in, directly or through other groups.
	Groups(ctx context.Context, dn string) ([]string, error)
}

// Session is what is kept of a login, as long as its tokens are good.
type Session struct {
	// ID is a random name.
	ID string
	// UserID is the ID of the user's entry.
	UserID string
	// Token is a digest of the refresh token that is good for one more rotation.
	Token string
	// PasswordChanged is the account's when the session began.
	PasswordChanged string
}

// Sessions is the port to where sessions are kept. Its words compare exactly.
type Sessions interface {
	// Begin keeps a new session.
	Begin(ctx context.Context, session Session) error
	// Session reads one. Errors: not-found.
	Session(ctx context.Context, id string) (Session, error)
	// Rotate gives a session another token in the place of the one it has, in one step. Errors: not-found, and
	// stale where it has not got that one any more.
	Rotate(ctx context.Context, id, from, to string) error
	// End forgets a session. One that is not there has ended already.
	End(ctx context.Context, id string) error
	// Sweep forgets the sessions that began, or were last rotated, before a moment, give or take a second.
	Sweep(ctx context.Context, before time.Time) error
}
