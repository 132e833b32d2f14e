// Package auth finds out who is calling: by a password, by a token of its own, or by one of another issuer.
package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"time"

	"rollcall/app/directory"
)

// Options say who is who, and for how long what is known of a caller may be relied on.
type Options struct {
	// LoginField is the field of a user that a login name is a value of.
	LoginField string
	// Groups are the DNs of the groups whose members have a role, directly or through other groups.
	Groups map[directory.Role]string
	// SameDN reports whether two DNs name the same entry.
	SameDN func(a, b string) bool
	// Fold returns what two names have in common that the directory takes for the same.
	Fold func(name string) string
	// Freshness is for how long a caller's state is not read again.
	Freshness time.Duration
	// PasswordMemory is for how long a password that was right is not proved again.
	PasswordMemory time.Duration
	// MaxFailures is how many logins of a name may fail from one address within FailureWindow.
	MaxFailures   int
	FailureWindow time.Duration
	// Tokens are those that a login is given.
	Tokens TokenOptions
	// OIDC is an issuer whose tokens are accepted too; nil for none.
	OIDC *OIDC
	// Observe is told of each login when it has ended: by which method, and that it was a "success", or the name of the
	// code it was refused with. It is not told of what was remembered. Nil: nobody watches.
	Observe func(method, result string)
}

// Credentials are what a caller shows: a Token, or a Login and a Password.
type Credentials struct {
	Token           string
	Login, Password string
	// Address is where the request comes from.
	Address string
}

// Authenticator finds out who is calling. It is safe for concurrent use.
type Authenticator struct {
	options  Options
	accounts directory.Accounts
	sessions directory.Sessions
	limits   *limits
	tokens   tokens
	issuer   *issuer // nil for none

	proofs *proofs
	// known are accounts by a digest of login and password, memberships by account ID, bearers by a digest of their token.
	known       cache[directory.Account]
	memberships cache[membership]
	bearers     cache[bearer]
}

// membership is what groups make of a user.
type membership struct {
	id     string // of the account
	groups []string
	roles  []directory.Role
}

// bearer is who has a token.
type bearer struct {
	caller directory.Caller
	until  time.Time // when the token expires
}

// New returns an Authenticator. It fails when the token options can't be right.
func New(accounts directory.Accounts, sessions directory.Sessions, o Options) (*Authenticator, error) {
	tokens, err := newTokens(o.Tokens)
	if err != nil {
		return nil, err
	}
	a := &Authenticator{
		options: o, accounts: accounts, sessions: sessions, limits: newLimits(o.MaxFailures, o.FailureWindow),
		tokens: tokens, proofs: newProofs(o.PasswordMemory),
	}
	if o.OIDC != nil {
		a.issuer = newIssuer(*o.OIDC)
	}
	return a, nil
}

// Authenticate returns the caller with these credentials. Errors: invalid-credentials, password-expired,
// too-many-logins, invalid-token, and those of a directory or an issuer that can't be asked.
func (a *Authenticator) Authenticate(ctx context.Context, c Credentials) (directory.Caller, error) {
	if c.Token != "" {
		caller, verified, err := a.bearer(ctx, c.Token)
		a.observe(methodToken, verified, err)
		return caller, err
	}
	caller, proved, err := a.basic(ctx, c)
	a.observe(methodBasic, proved, err)
	return caller, err
}

// basic returns the caller with a login and a password, and whether the password was proved for it, and not remembered.
func (a *Authenticator) basic(ctx context.Context, c Credentials) (caller directory.Caller, proved bool, err error) {
	// Only who has proved a password is remembered, and with that password: whatever else is tried costs as much as
	// for a name that does not exist.
	var state directory.PasswordState
	read := false
	account, err := a.known.read(a.proofs.digest(c.Login, c.Password), a.options.Freshness, func() (directory.Account, error) {
		read = true
		account, err := orNobody(a.accounts.Account(ctx, a.options.LoginField, c.Login))
		if err == nil {
			state, proved, err = a.prove(ctx, c, account)
		}
		return account, err
	})
	if err == nil && !read {
		state, proved, err = a.prove(ctx, c, account)
	}
	if err != nil {
		return directory.Caller{}, proved, err
	}
	caller, err = a.caller(ctx, account)
	caller.Login, caller.MustChange = c.Login, state.MustChange
	return caller, proved, err
}

// orNobody returns the zero Account in the place of an error that says there is none.
func orNobody(account directory.Account, err error) (directory.Account, error) {
	if directory.Is(err, directory.NotFound) || directory.Is(err, directory.Ambiguous) {
		return directory.Account{}, nil
	}
	return account, err
}

// caller returns the caller that an account is, with the roles that groups give it.
func (a *Authenticator) caller(ctx context.Context, account directory.Account) (directory.Caller, error) {
	member, err := a.memberships.read(account.ID, a.options.Freshness, func() (membership, error) {
		groups, err := a.accounts.Groups(ctx, account.DN)
		member := membership{id: account.ID, groups: groups}
		for _, role := range directory.Roles {
			if slices.ContainsFunc(groups, func(dn string) bool {
				return a.options.Groups[role] != "" && a.options.SameDN(dn, a.options.Groups[role])
			}) {
				member.roles = append(member.roles, role)
			}
		}
		return member, err
	})
	return directory.Caller{
		Login: account.Name, ID: account.ID, Name: account.Name, DN: account.DN, Roles: member.roles, Groups: member.groups,
	}, err
}

// bearer returns the caller with a token, and whether the token was verified for it, and not remembered.
func (a *Authenticator) bearer(ctx context.Context, token string) (caller directory.Caller, verified bool, err error) {
	digest := sha256.Sum256([]byte(token))
	b, err := a.bearers.read(string(digest[:]), a.options.Freshness, func() (bearer, error) {
		verified = true
		if a.issuer != nil && a.issuer.issued(token) {
			return a.guest(ctx, token)
		}
		return a.resident(ctx, token)
	})
	if err != nil {
		return directory.Caller{}, verified, err
	}
	if !time.Now().Before(b.until) {
		return directory.Caller{}, verified, &directory.Error{Code: directory.InvalidToken}
	}
	return b.caller, verified, nil
}

// resident returns who has a token of ours.
func (a *Authenticator) resident(ctx context.Context, token string) (bearer, error) {
	claims, err := a.tokens.verify(token, accessToken)
	if err != nil {
		return bearer{}, err
	}
	session, err := a.sessions.Session(ctx, claims.Session)
	if err != nil {
		return bearer{}, invalidToken(err)
	}
	account, err := a.owner(ctx, claims.Subject, session)
	if err != nil {
		return bearer{}, err
	}
	caller, err := a.caller(ctx, account)
	caller.Session = session.ID
	return bearer{caller, claims.ExpiresAt.Time}, err
}

// owner returns the account that a session is of, as it is now, if that is still good for it.
func (a *Authenticator) owner(ctx context.Context, id string, session directory.Session) (directory.Account, error) {
	account, err := a.accounts.Account(ctx, directory.FieldID, id)
	switch {
	case err != nil:
		return account, invalidToken(err)
	case account.Locked, account.ID != session.UserID, account.PasswordChanged != session.PasswordChanged:
		return account, &directory.Error{Code: directory.InvalidToken}
	}
	return account, nil
}

// guest returns who has a token of the other issuer.
func (a *Authenticator) guest(ctx context.Context, token string) (bearer, error) {
	identity, err := a.issuer.verify(ctx, token)
	if err != nil {
		return bearer{}, err
	}
	account, err := a.accounts.Account(ctx, a.options.LoginField, identity.login)
	if err == nil && account.Locked {
		err = &directory.Error{Code: directory.InvalidToken}
	}
	if err != nil {
		return bearer{}, invalidToken(err)
	}
	caller, err := a.caller(ctx, account)
	if identity.fromClaim {
		caller.Roles = identity.roles
	}
	caller.Login = identity.login
	return bearer{caller, identity.expires}, err
}

// invalidToken returns invalid-token for what is not there, and other errors as they are.
func invalidToken(err error) error {
	if directory.Is(err, directory.NotFound) || directory.Is(err, directory.Ambiguous) {
		return &directory.Error{Code: directory.InvalidToken, Cause: err}
	}
	return err
}

// readAgain makes what is known of a user, or of all where id is "", be read again.
func (a *Authenticator) readAgain(id string) {
	a.known.forget(func(account directory.Account) bool { return id == "" || account.ID == id })
	a.memberships.forget(func(m membership) bool { return id == "" || m.id == id })
	a.bearers.forget(func(b bearer) bool { return id == "" || b.caller.ID == id })
}

// forget is readAgain, and passwords are proved again too.
func (a *Authenticator) forget(id string) {
	a.readAgain(id)
	a.proofs.forget(id)
}

// random returns 256 random bits.
func random() (bits [sha256.Size]byte) {
	_, _ = rand.Read(bits[:]) // never fails, crypto/rand
	return bits
}
