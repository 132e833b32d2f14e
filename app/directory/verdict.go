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
	// User and Host are the names of the two, Login is that of the user's account on hosts.
	User, Host, Login string
	Allowed           bool
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

	// Reason is why not, in words that follow the fingerprint; "" where the key may be used.
	Reason string
}

// The names of steps.
const (
	stepUser    = "user"
	stepHost    = "host"
	stepAccount = "account"
	stepGroup   = "group"
	stepKey     = "key"
)

// Verdict returns whether a user may log in to a host. That there is no such user or host is a verdict too.
// Errors: forbidden, unsupported-by-directory.
func (r *Reach) Verdict(ctx context.Context, user, host string) (Verdict, error) {
	if err := r.mayReadAll(ctx); err != nil {
		return Verdict{}, err
	}
	v := Verdict{User: user, Host: host}
	one, err := r.find(ctx, r.users, user)
	if err != nil {
		return Verdict{}, err
	}
	other, err := r.find(ctx, r.hosts, host)
	if err != nil {
		return Verdict{}, err
	}
	if one.Kind == nil || other.Kind == nil {
		v.present(stepUser, r.users, user, one.Kind != nil)
		v.present(stepHost, r.hosts, host, other.Kind != nil)
		return v, nil
	}
	login := one.First(r.rules.LoginField)
	s, err := r.standings.Standing(ctx, login, other.Name(), "") // as sshd asks
	if err != nil {
		return Verdict{}, err
	}
	groups, err := s.Groups(ctx)
	if err != nil {
		return Verdict{}, err
	}
	v = r.judge(one, other, groups.Above(one.Values(FieldMemberOfs)...), groups.Above(other.Values(FieldMemberOfs)...), time.Now())
	if login != "" && (s.Ambiguous || s.User.ID() != one.ID()) {
		v.Allowed, v.Steps[0] = false, Step{stepUser, false, fmt.Sprintf("The login %s of %s is another user's too, or changed just now.", quote(login), v.User)}
	}
	return v, nil
}

// find returns the entry with a name, the zero Entry where there is none.
func (r *Reach) find(ctx context.Context, kind *Kind, name string) (Entry, error) {
	entry, err := r.directory.Get(ctx, kind, name)
	if Is(err, NotFound) {
		return Entry{}, nil
	}
	return entry, err
}

func (v *Verdict) step(name string, holds bool, message string) {
	v.Steps = append(v.Steps, Step{name, holds, message})
	v.Allowed = holds && (v.Allowed || len(v.Steps) == 1)
}

// present adds the step that there is an entry.
func (v *Verdict) present(step string, kind *Kind, name string, there bool) {
	if there {
		v.step(step, true, name+" is there.")
	} else {
		v.step(step, false, fmt.Sprintf("There is no %s %s.", kind.Singular, quote(name)))
	}
}

// judge returns the verdict on a user and a host by the groups that they are in. It looks at everything, so that all
// that has to be mended is seen.
func (r *Reach) judge(user, host Entry, ofUser, ofHost Reached, now time.Time) Verdict {
	v := Verdict{User: user.Name(), Host: host.Name(), Login: user.First(r.rules.LoginField)}
	switch {
	case v.Login == "":
		v.step(stepUser, false, fmt.Sprintf("%s has no %s, by which users log in to hosts.", v.User, r.rules.LoginField))
	case slices.Contains(r.rules.LocalLogins, v.Login):
		v.step(stepUser, false, v.Login+" is an account of the hosts' own (ssh.local_logins).")
	default:
		v.step(stepUser, true, v.User+" logs in as "+v.Login+".")
	}
	v.present(stepHost, r.hosts, v.Host, true)
	if user.Lock != nil {
		v.step(stepAccount, false, v.User+" "+user.Lock.String()+".")
	} else {
		v.step(stepAccount, true, v.User+" is not locked.")
	}
	shared, ok := r.shared(ofUser, ofHost)
	switch {
	case !ok:
		v.step(stepGroup, false, v.User+" and "+v.Host+" share no group. "+memberships(v.User, ofUser)+" "+memberships(v.Host, ofHost))
	case shared.Everywhere:
		v.step(stepGroup, true, in(v.User, shared.UserPath)+", whose members may log in on every host.")
	default:
		v.step(stepGroup, true, in(v.User, shared.UserPath)+", and "+in(v.Host, shared.HostPath)+".")
	}
	if ok {
		v.Shared = &shared
	}
	v.keys(user, now)
	return v
}

// keys adds the step that there is a key.
func (v *Verdict) keys(user Entry, now time.Time) {
	good := 0
	var reasons []string
	for _, key := range user.SSHKeys() {
		reason := key.Unusable(now)
		if v.Keys = append(v.Keys, KeyVerdict{key, reason}); reason == "" {
			good++
		} else {
			reasons = append(reasons, key.Fingerprint+" "+reason)
		}
	}
	switch {
	case len(v.Keys) == 0:
		v.step(stepKey, false, v.User+" has no SSH key.")
	case good == 0:
		v.step(stepKey, false, v.User+" has no SSH key that may be used: "+strings.Join(reasons, "; ")+".")
	default:
		v.step(stepKey, true, fmt.Sprintf("%s has %d of %d SSH keys that may be used.", v.User, good, len(v.Keys)))
	}
}

// in says in words by which groups an entry is in the last of them.
func in(name string, path []string) string {
	return name + " is in " + strings.Join(path, ", which is in ")
}

// maxNamed is how many groups a sentence names.
const maxNamed = 20

// memberships says in a sentence which groups an entry is in.
func memberships(name string, above Reached) string {
	var names []string
	for _, group := range above.groups[:min(len(above.groups), maxNamed)] {
		names = append(names, group.name)
	}
	switch more := len(above.groups) - len(names); {
	case len(names) == 0:
		return name + " is in none."
	case more > 0:
		return fmt.Sprintf("%s is in %s and %d more.", name, strings.Join(names, ", "), more)
	}
	return name + " is in " + strings.Join(names, ", ") + "."
}

// Unusable returns why nobody may log in by a key, in words that follow its fingerprint, "" where they may.
func (k SSHKey) Unusable(now time.Time) string {
	switch {
	case k.HasExpired(now) && k.Expires.IsZero():
		return "has an expiry-time that is no time"
	case k.HasExpired(now):
		return "expired on " + clock(k.Expires)
	}
	return cmp.Or(k.Weak(), k.Delegates())
}
