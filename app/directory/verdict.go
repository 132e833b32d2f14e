package directory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Verdict is whether a user may log in to a host, and why.
type Verdict struct {
	// User and Host are the names of the two.
	User, Host string
	Allowed    bool
	// Steps are what a login takes, each as it was found.
	Steps []Step
	// Shared is the group that allows it, nil for none.
	Shared *Shared
	// Keys are the user's, in the order in which they are kept.
	Keys []KeyVerdict
}

// Step is one thing that a login takes.
type Step struct {
	// Name is user, host, account, group or key.
	Name string
	// Holds is whether it is as it must be, Message says so in a sentence.
	Holds   bool
	Message string
}

// KeyVerdict is whether a key may be used, and why not.
type KeyVerdict struct {
	SSHKey

	// Wrong follows the fingerprint in a sentence, "" where the key may be used.
	Wrong string
}

// The names of steps.
const (
	stepUser    = "user"
	stepHost    = "host"
	stepAccount = "account"
	stepGroup   = "group"
	stepKey     = "key"
)

// Verdict returns whether a user may log in to a host. Errors: forbidden; that there is no such user or host is a verdict.
func (r *Reach) Verdict(ctx context.Context, user, host string) (Verdict, error) {
	if err := r.mayReadAll(ctx); err != nil {
		return Verdict{}, err
	}
	v := Verdict{User: user, Host: host}
	var found [2]Entry
	for i, one := range []struct {
		kind       *Kind
		step, name string
	}{{r.users, stepUser, user}, {r.hosts, stepHost, host}} {
		var err error
		found[i], err = r.directory.Get(ctx, one.kind, one.name)
		switch {
		case Is(err, NotFound):
			v.step(one.step, false, fmt.Sprintf("There is no %s %s.", one.kind.Singular, quote(one.name)))
			return v, nil
		case err != nil:
			return Verdict{}, err
		}
	}
	groups, err := r.standings.Nesting(ctx)
	if err != nil {
		return Verdict{}, err
	}
	return r.judge(found[0], found[1], groups, time.Now()), nil
}

func (v *Verdict) step(name string, holds bool, message string) {
	v.Steps = append(v.Steps, Step{name, holds, message})
}

// judge returns the verdict on a user and a host. It looks at everything, so that all that has to be mended is seen.
func (r *Reach) judge(user, host Entry, groups *Nesting, now time.Time) Verdict {
	v := Verdict{User: user.Name(), Host: host.Name()}
	local := slices.Contains(r.rules.LocalLogins, user.First(r.rules.LoginField))
	switch {
	case local:
		v.step(stepAccount, false, user.First(r.rules.LoginField)+" is an account of the hosts' own (ssh.local_logins).")
	case user.Lock != nil:
		v.step(stepAccount, false, v.User+" "+user.Lock.String()+".")
	default:
		v.step(stepAccount, true, v.User+" is not locked.")
	}
	shared, ok := r.shared(user, host, groups)
	switch {
	case !ok:
		v.step(stepGroup, false, v.User+" and "+v.Host+" share no group. "+memberships(user, groups)+" "+memberships(host, groups))
	case shared.Everywhere:
		v.step(stepGroup, true, in(v.User, shared.UserPath)+", whose members may log in on every host.")
	default:
		v.step(stepGroup, true, in(v.User, shared.UserPath)+", and "+in(v.Host, shared.HostPath)+".")
	}
	if ok {
		v.Shared = &shared
	}
	good := 0
	var wrong []string
	for _, key := range user.SSHKeys() {
		why := key.unusable(now)
		if v.Keys = append(v.Keys, KeyVerdict{key, why}); why == "" {
			good++
		} else {
			wrong = append(wrong, key.Fingerprint+" "+why)
		}
	}
	switch {
	case len(v.Keys) == 0:
		v.step(stepKey, false, v.User+" has no SSH key.")
	case good == 0:
		v.step(stepKey, false, v.User+" has no SSH key that may be used: "+strings.Join(wrong, "; ")+".")
	default:
		v.step(stepKey, true, fmt.Sprintf("%s has %d of %d SSH keys that may be used.", v.User, good, len(v.Keys)))
	}
	v.Allowed = !local && user.Lock == nil && ok && good > 0
	return v
}

// in says in words by which groups an entry is in the last of them.
func in(name string, path []string) string {
	return name + " is in " + strings.Join(path, ", which is in ")
}

// maxNamed is how many groups a sentence names.
const maxNamed = 20

// memberships says in a sentence which groups an entry is in.
func memberships(e Entry, groups *Nesting) string {
	above := groups.Above(e.Values(FieldMemberOfs)...)
	var names []string
	for _, dn := range above.DNs() {
		names = append(names, groups.Name(dn))
	}
	switch n := len(names); {
	case n == 0:
		return e.Name() + " is in none."
	case n > maxNamed:
		return fmt.Sprintf("%s is in %s and %d more.", e.Name(), strings.Join(names[:maxNamed], ", "), n-maxNamed)
	}
	return e.Name() + " is in " + strings.Join(names, ", ") + "."
}

// unusable returns why nobody may log in by a key, in words that follow its fingerprint, "" where they may.
func (k SSHKey) unusable(now time.Time) string {
	switch {
	case k.HasExpired(now) && k.Expires.IsZero():
		return "has an expiry-time that is no time"
	case k.HasExpired(now):
		return "expired on " + clock(k.Expires)
	}
	return cmp.Or(k.Weak(), k.Delegates())
}
