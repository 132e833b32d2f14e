// Package auth finds out who is calling.
package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"sync"
	"time"

	"rollcall/app/directory"
)

// Options say how long what is known of a caller may be relied on.
type Options struct {
	// AdminGroup is the DN of the group whose direct members are admins.
	AdminGroup string
	// Freshness is for how long a caller's state is not read again.
	Freshness time.Duration
	// PasswordMemory is for how long a password that was right is not proved again.
	PasswordMemory time.Duration
}

// Authenticator finds out who is calling. It is safe for concurrent use.
type Authenticator struct {
	accounts directory.Accounts
	options  Options
	// secret keys the digests under which passwords are remembered. It is never written anywhere.
	secret [sha256.Size]byte

	mutex sync.Mutex
	// generation counts what was forgotten, so that what was read before is not remembered after.
	generation int
	known      map[string]known
	proofs     map[proofKey]*proof
}

type known struct {
	account directory.Account
	admin   bool
	until   time.Time
}

type proofKey [sha256.Size]byte

// proof is a password that is being proved, or was.
type proof struct {
	id    string // of the account
	done  chan struct{}
	err   error
	until time.Time
}

// maxRemembered bounds what is remembered; past it, what has run out is thrown away.
const maxRemembered = 10_000

// New returns an Authenticator.
func New(accounts directory.Accounts, o Options) *Authenticator {
	a := &Authenticator{accounts: accounts, options: o, known: map[string]known{}, proofs: map[proofKey]*proof{}}
	_, _ = rand.Read(a.secret[:]) // never fails, crypto/rand
	return a
}

// Basic returns the caller with this login name and password. Errors: invalid-credentials, for whatever reason,
// and those of a directory that can't be asked.
func (a *Authenticator) Basic(ctx context.Context, login, password string) (directory.Caller, error) {
	if login == "" || password == "" {
		return directory.Caller{}, &directory.Error{Code: directory.InvalidCredentials}
	}
	who, err := a.lookUp(ctx, login)
	if directory.Is(err, directory.NotFound) || directory.Is(err, directory.Ambiguous) {
		return directory.Caller{}, &directory.Error{Code: directory.InvalidCredentials} // the name may be a password
	}
	if err != nil {
		return directory.Caller{}, err
	}
	if err := a.prove(ctx, login, password, who.account); err != nil {
		a.readAgain(who.account.ID) // that attempt may have locked it
		return directory.Caller{}, err
	}
	if who.account.Locked {
		return directory.Caller{}, &directory.Error{Code: directory.InvalidCredentials}
	}
	return directory.Caller{Login: login, ID: who.account.ID, Name: who.account.Name, Admin: who.admin}, nil
}

// lookUp returns what is known of a user, reading it where it is not fresh.
func (a *Authenticator) lookUp(ctx context.Context, login string) (known, error) {
	a.mutex.Lock()
	who, ok := a.known[login]
	generation := a.generation
	a.mutex.Unlock()
	if ok && time.Now().Before(who.until) {
		return who, nil
	}
	who = known{until: time.Now().Add(a.options.Freshness)}
	var err error
	if who.account, err = a.accounts.Account(ctx, login); err != nil {
		return known{}, err
	}
	if a.options.AdminGroup != "" {
		if who.admin, err = a.accounts.IsMember(ctx, a.options.AdminGroup, who.account.DN); err != nil {
			return known{}, err
		}
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.generation == generation {
		if len(a.known) >= maxRemembered {
			maps.DeleteFunc(a.known, func(_ string, k known) bool { return time.Now().After(k.until) })
		}
		a.known[login] = who
	}
	return who, nil
}

// prove checks a password by a bind, or remembers that it was right. Requests that come with the same password
// at the same time share one bind.
func (a *Authenticator) prove(ctx context.Context, login, password string, account directory.Account) error {
	key := a.key(login, password, account)
	for {
		a.mutex.Lock()
		p, ok := a.proofs[key]
		if !ok {
			p = a.begin(key, account.ID)
		}
		a.mutex.Unlock()
		if !ok {
			a.finish(key, p, a.accounts.Authenticate(ctx, account.DN, password))
			return p.err
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return &directory.Error{Code: directory.Timeout, Cause: context.Cause(ctx)}
		}
		if p.err == nil && time.Now().Before(p.until) || directory.Is(p.err, directory.InvalidCredentials) {
			return p.err
		}
		a.drop(key, p)
	}
}

func (a *Authenticator) begin(key proofKey, id string) *proof {
	if len(a.proofs) >= maxRemembered {
		maps.DeleteFunc(a.proofs, func(_ proofKey, p *proof) bool { return !p.until.IsZero() && time.Now().After(p.until) })
	}
	p := &proof{id: id, done: make(chan struct{})}
	a.proofs[key] = p
	return p
}

// finish tells those who wait what came of it, and remembers what was right.
func (a *Authenticator) finish(key proofKey, p *proof, err error) {
	a.mutex.Lock()
	p.err, p.until = err, time.Now().Add(a.options.PasswordMemory)
	if err != nil && a.proofs[key] == p {
		delete(a.proofs, key)
	}
	a.mutex.Unlock()
	close(p.done)
}

func (a *Authenticator) drop(key proofKey, p *proof) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if a.proofs[key] == p {
		delete(a.proofs, key)
	}
}

// key is of the name, the password and the account's state, so that a changed password is not remembered.
func (a *Authenticator) key(login, password string, account directory.Account) proofKey {
	mac := hmac.New(sha256.New, a.secret[:])
	for _, part := range []string{login, account.ID, account.PasswordChanged, password} {
		_, _ = mac.Write([]byte(part))
		_, _ = mac.Write([]byte{0})
	}
	return proofKey(mac.Sum(nil))
}

// readAgain makes what is known of a user, or of all where id is "", be read again.
func (a *Authenticator) readAgain(id string) {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.generation++
	maps.DeleteFunc(a.known, func(_ string, k known) bool { return id == "" || k.account.ID == id })
}

// forget is readAgain, and passwords are proved again too.
func (a *Authenticator) forget(id string) {
	a.readAgain(id)
	a.mutex.Lock()
	defer a.mutex.Unlock()
	maps.DeleteFunc(a.proofs, func(_ proofKey, p *proof) bool { return id == "" || p.id == id })
}
