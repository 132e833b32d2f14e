package auth

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"strconv"
	"sync"
	"time"

	"rollcall/app/directory"
)

// proofs are passwords that are being proved, or were a short while ago.
type proofs struct {
	memory time.Duration
	// secret keys the digests under which passwords are remembered. It is never written anywhere.
	secret [sha256.Size]byte

	mutex sync.Mutex
	all   map[string]*proof
}

// proof is one of them.
type proof struct {
	id    string // of the account
	done  chan struct{}
	state directory.PasswordState
	err   error
	until time.Time
}

func newProofs(memory time.Duration) *proofs {
	return &proofs{memory: memory, secret: random(), all: map[string]*proof{}}
}

// prove finds out whether a password is an account's, by a bind or because it was a short while ago. Requests that
// come with the same password at the same time share one bind; mine tells whose it was. Whose account it can't be, that
// takes as long.
func (a *Authenticator) prove(ctx context.Context, c Credentials, account directory.Account) (state directory.PasswordState, mine bool, err error) {
	if c.Login == "" || c.Password == "" {
		return directory.PasswordState{}, false, &directory.Error{Code: directory.InvalidCredentials}
	}
	key := a.proofs.key(c, account)
	for {
		p, mine := a.proofs.begin(key, account.ID)
		if mine {
			p.state, p.err = a.bind(ctx, c, account)
			a.proofs.finish(key, p)
			return p.state, true, p.err
		}
		select {
		case <-p.done:
		case <-ctx.Done():
			return directory.PasswordState{}, false, &directory.Error{Code: directory.Timeout, Cause: context.Cause(ctx)}
		}
		if directory.Is(p.err, directory.InvalidCredentials) {
			return p.state, false, p.err
		}
		if p.err == nil && time.Now().Before(p.until) {
			// Whoever has no guess left is not to learn that this one would have been right.
			return p.state, false, a.limits.check(a.limited(c, account), c.Address)
		}
		a.proofs.drop(key, p)
	}
}

// bind proves a password by a bind, unless too many have failed.
func (a *Authenticator) bind(ctx context.Context, c Credentials, account directory.Account) (directory.PasswordState, error) {
	attempt, err := a.limits.begin(a.limited(c, account), c.Address)
	if err != nil {
		return directory.PasswordState{}, err
	}
	defer attempt.dropped()          // unless it has ended otherwise
	ctx = context.WithoutCancel(ctx) // or whoever hangs up in time would not be counted here, but by the directory
	dn := account.DN
	if account.Locked {
		dn = "" // it is refused whatever the password is
	}
	state, err := a.accounts.Authenticate(ctx, dn, c.Password)
	switch {
	case err == nil, directory.Is(err, directory.PasswordExpired):
		attempt.succeeded()
	case directory.Is(err, directory.InvalidCredentials):
		attempt.failed()
		if account.ID != "" {
			a.readAgain(account.ID) // that may have locked it
		}
	}
	return state, err
}

// limited is the name that failed logins are counted by.
func (a *Authenticator) limited(c Credentials, account directory.Account) string {
	if account.ID != "" {
		return account.ID
	}
	return a.options.Fold(c.Login)
}

// key is of the name, the password and the account's state, so that a changed password is not remembered.
func (s *proofs) key(c Credentials, account directory.Account) string {
	return s.digest(c.Login, account.ID, strconv.FormatBool(account.Locked), account.PasswordChanged, c.Password)
}

// digest stands for some words without showing them.
func (s *proofs) digest(words ...string) string {
	mac := hmac.New(sha256.New, s.secret[:])
	for _, word := range words {
		_, _ = mac.Write(binary.AppendUvarint(nil, uint64(len(word))))
		_, _ = mac.Write([]byte(word))
	}
	return string(mac.Sum(nil))
}

// begin returns the proof under a key, and whether it is the caller's to finish.
func (s *proofs) begin(key string, id string) (p *proof, mine bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if p, ok := s.all[key]; ok {
		return p, false
	}
	if len(s.all) >= maxRemembered {
		maps.DeleteFunc(s.all, func(_ string, p *proof) bool { return !p.until.IsZero() && time.Now().After(p.until) })
	}
	p = &proof{id: id, done: make(chan struct{})}
	s.all[key] = p
	return p, true
}

// finish tells those who wait what came of it, and remembers what was right.
func (s *proofs) finish(key string, p *proof) {
	s.mutex.Lock()
	p.until = time.Now().Add(s.memory)
	if p.err != nil && s.all[key] == p {
		delete(s.all, key)
	}
	s.mutex.Unlock()
	close(p.done)
}

func (s *proofs) drop(key string, p *proof) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if s.all[key] == p {
		delete(s.all, key)
	}
}

// forgetDone makes a password be proved again, unless that is being done.
func (s *proofs) forgetDone(key string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if p, ok := s.all[key]; ok && !p.until.IsZero() {
		delete(s.all, key)
	}
}

// forget makes an account's passwords, or all where id is "", be proved again.
func (s *proofs) forget(id string) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	maps.DeleteFunc(s.all, func(_ string, p *proof) bool { return id == "" || p.id == id })
}
