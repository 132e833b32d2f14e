package auth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"strings"
	"time"

	"rollcall/app/directory"
)

// Login is what a login gives.
type Login struct {
	Caller   directory.Caller
	Password directory.PasswordState
	// Access and Refresh are the tokens; ExpiresIn is for how long the first one is good.
	Access, Refresh string
	ExpiresIn       time.Duration
}

// Login proves a password by a bind and begins a session. Errors: those of [Authenticator.Authenticate], and
// password-must-change.
func (a *Authenticator) Login(ctx context.Context, c Credentials) (Login, error) {
	login, err := a.login(ctx, c)
	a.observe(methodLogin, true, err)
	return login, err
}

func (a *Authenticator) login(ctx context.Context, c Credentials) (Login, error) {
	account, err := orNobody(a.accounts.Account(ctx, a.options.LoginField, c.Login))
	if err != nil {
		return Login{}, err
	}
	a.proofs.forgetDone(a.proofs.key(c, account))
	state, _, err := a.prove(ctx, c, account)
	if err != nil {
		return Login{}, err
	}
	if state.MustChange {
		return Login{}, &directory.Error{Code: directory.PasswordMustChange}
	}
	caller, err := a.caller(ctx, account)
	if err != nil {
		return Login{}, err
	}
	login := Login{Caller: caller, Password: state}
	login.Caller.Login, login.Caller.Session = c.Login, strings.ToLower(rand.Text())
	token, err := a.sign(&login)
	if err != nil {
		return Login{}, err
	}
	return login, a.sessions.Begin(ctx, directory.Session{
		ID: login.Caller.Session, UserID: account.ID, Token: token, PasswordChanged: account.PasswordChanged})
}

// Refresh gives new tokens for a refresh token that was not used yet; one that was ends the session, since somebody
// else has it. Errors: invalid-token.
func (a *Authenticator) Refresh(ctx context.Context, token string) (Login, error) {
	login, err := a.refresh(ctx, token)
	a.observe(methodRefresh, true, err)
	return login, err
}

func (a *Authenticator) refresh(ctx context.Context, token string) (Login, error) {
	said, err := a.tokens.verify(token, refreshToken)
	if err != nil {
		return Login{}, err
	}
	session, err := a.sessions.Session(ctx, said.Session)
	if err != nil {
		return Login{}, invalidToken(err)
	}
	used := digest(said.ID)
	if subtle.ConstantTimeCompare([]byte(session.Token), []byte(used)) == 0 {
		return Login{}, a.end(ctx, session.ID)
	}
	account, err := a.owner(ctx, said.Subject, session)
	if directory.Is(err, directory.InvalidToken) {
		return Login{}, a.end(ctx, session.ID)
	}
	if err != nil {
		return Login{}, err
	}
	a.readAgain(account.ID)
	caller, err := a.caller(ctx, account)
	if err != nil {
		return Login{}, err
	}
	login := Login{Caller: caller}
	login.Caller.Session = session.ID
	next, err := a.sign(&login)
	if err != nil {
		return Login{}, err
	}
	err = a.sessions.Rotate(ctx, session.ID, used, next)
	if directory.Is(err, directory.Stale) {
		return Login{}, a.end(ctx, session.ID)
	}
	return login, invalidToken(err)
}

// end ends a session for which something was shown that is no good, and says so.
func (a *Authenticator) end(ctx context.Context, id string) error {
	if err := a.Logout(ctx, id); err != nil {
		return err
	}
	return &directory.Error{Code: directory.InvalidToken}
}

// Logout ends a session.
func (a *Authenticator) Logout(ctx context.Context, session string) error {
	err := a.sessions.End(ctx, session)
	a.bearers.forget(func(b bearer) bool { return b.caller.Session == session })
	return err
}

// sign gives a login its tokens and returns the digest of the second.
func (a *Authenticator) sign(login *Login) (token string, err error) {
	t, subject, session := &a.tokens, login.Caller.ID, login.Caller.Session
	login.ExpiresIn = t.AccessLifetime
	if login.Access, _, err = t.sign(accessToken, subject, session, t.AccessLifetime); err != nil {
		return "", &directory.Error{Code: directory.Internal, Cause: err}
	}
	var id string
	if login.Refresh, id, err = t.sign(refreshToken, subject, session, t.RefreshLifetime); err != nil {
		return "", &directory.Error{Code: directory.Internal, Cause: err}
	}
	return digest(id), nil
}

// digest is what is kept of a refresh token's id.
func digest(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

// sweepEvery is how often sessions that have run out are removed.
const sweepEvery = 10 * time.Minute

// Sweep removes sessions that have run out, until the context ends. It tells report what goes wrong.
func (a *Authenticator) Sweep(ctx context.Context, report func(error)) {
	timer := time.NewTicker(sweepEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
			if err := a.sessions.Sweep(ctx, time.Now().Add(-a.tokens.RefreshLifetime)); err != nil && ctx.Err() == nil {
				report(err)
			}
		case <-ctx.Done():
			return
		}
	}
}
