package directory

import (
	"context"
	"crypto/subtle"
	"slices"
	"time"
)

// Reach finds out who may log in where by SSH: a user with a key that is good, whose account is not locked, on each host
// that is in one of the user's groups, and everywhere by some groups. Being in a group is being in it directly or through
// others. Reach asks itself whether the caller may know.
type Reach struct {
	directory            Directory
	standings            Standings
	users, groups, hosts *Kind
	rules                ReachRules
}

// ReachRules say what is special about logins to hosts.
type ReachRules struct {
	// LoginField is the field of a user that is an account's name on hosts.
	LoginField string
	// Everywhere are the DNs of groups whose members may log in on all hosts.
	Everywhere []string
	// LocalLogins are names of accounts that are the hosts' own: nobody gets into one by the directory.
	LocalLogins []string
}

// NewReach returns a Reach over these kinds of a directory that guards nothing.
func NewReach(d Directory, standings Standings, users, groups, hosts *Kind, rules ReachRules) *Reach {
	return &Reach{directory: d, standings: standings, users: users, groups: groups, hosts: hosts, rules: rules}
}

// Asker is who asks for a host's sake, where it is no user: the host with an ID, by a token with a digest, or anybody in
// a network that is trusted.
type Asker struct {
	HostID, Digest string
	Trusted        bool
}

// Lengths of what a host asks about, in bytes: of useradd(8) the login, of RFC 1035 §2.3.4 the host.
const (
	maxLogin = 256
	maxHost  = 253
)

// Names of what a host asks about.
const (
	askedLogin       = "username"
	askedHost        = "host"
	askedFingerprint = "fingerprint"
)

// AuthorizedKeys returns the lines of authorized_keys by which the user with a login name may log in to a host now, with
// a fingerprint that key's only; none where there is no such user or host. It takes two searches at most, unless
// one entry has the names of both.
// Errors: credentials-required, invalid-token, forbidden, invalid, ambiguous-name.
func (r *Reach) AuthorizedKeys(ctx context.Context, asker Asker, login, host, fingerprint string) ([]string, error) {
	var violations []Violation
	for _, asked := range []struct {
		name, value string
		most        int
	}{{askedLogin, login, maxLogin}, {askedHost, host, maxHost}} {
		switch {
		case asked.value == "":
			violations = append(violations, Violation{asked.name, "is required"})
		case len(asked.value) > asked.most:
			violations = append(violations, Violation{asked.name, "is too long"})
		}
	}
	if fingerprint != "" && !isFingerprint(fingerprint) {
		violations = append(violations, Violation{askedFingerprint, "must be as ssh-keygen -l shows it, SHA256:…"})
	}
	if err := invalid(violations); err != nil {
		return nil, err
	}
	s, err := r.ask(ctx, asker, login, host)
	if err != nil || s.User.Kind == nil || s.Host.Kind == nil || s.User.Lock != nil || slices.Contains(r.rules.LocalLogins, login) {
		return nil, err
	}
	groups, err := s.Groups(ctx)
	if err != nil {
		return nil, err
	}
	above := groups.Above(s.User.Values(FieldMemberOfs)...)
	if !above.meets(groups.Above(s.Host.Values(FieldMemberOfs)...)) && !r.everywhere(above) {
		return nil, nil
	}
	var lines []string
	for _, key := range s.User.SSHKeys() {
		if key.Unusable(time.Now()) == "" && (fingerprint == "" || key.Fingerprint == fingerprint) {
			lines = append(lines, key.Line())
		}
	}
	return lines, nil
}

// MayAsk reports, as an error, that an asker may not read what hosts read: invalid-token, forbidden or
// credentials-required.
func (r *Reach) MayAsk(ctx context.Context, asker Asker) error {
	_, err := r.ask(ctx, asker, "", "")
	return err
}

// ask reads a standing, if the asker may. A host learns nothing of another, not even whether there is one.
func (r *Reach) ask(ctx context.Context, asker Asker, login, host string) (Standing, error) {
	if asker.HostID == "" && !asker.Trusted {
		if err := r.mayReadAll(ctx); err != nil {
			return Standing{}, err
		}
	}
	if asker.Trusted && host == "" {
		return Standing{}, nil
	}
	s, err := r.standings.Standing(ctx, login, host, asker.HostID)
	switch {
	case err != nil:
		return Standing{}, err
	case asker.HostID != "" && subtle.ConstantTimeCompare([]byte(s.HostToken), []byte(asker.Digest)) == 0:
		return Standing{}, &Error{Code: InvalidToken, Detail: "This is no token of a host, or not any more. POST /hosts/{name}/token makes one."}
	case s.Ambiguous:
		return Standing{}, &Error{Code: Ambiguous}
	case asker.HostID != "" && host != "" && (s.Host.Kind == nil || s.Host.ID() != asker.HostID):
		return Standing{}, &Error{Code: Forbidden, Detail: "The token of a host is good for that host only."}
	}
	return s, nil
}

// mayReadAll reports, as an error, that the caller may not read all users, groups and hosts.
func (r *Reach) mayReadAll(ctx context.Context) error {
	for _, kind := range []*Kind{r.users, r.groups, r.hosts} {
		if err := allowedAll(ctx, ActionList, kind); err != nil {
			return err
		}
	}
	return nil
}

// Shared is a group by which a user may log in to a host.
type Shared struct {
	// Group is its name, Everywhere tells that it is one of those whose members may log in on all hosts.
	Group      string
	Everywhere bool
	// UserPath are the names of the groups from the user's to that one, HostPath those from the host's.
	UserPath, HostPath []string
}

// shared returns a group by which a user may log in to a host, a near one, by the groups that the two are in.
func (r *Reach) shared(ofUser, ofHost Reached) (Shared, bool) {
	groups := ofUser.nesting
	if dn := ofUser.nearest(ofHost); dn != "" {
		return Shared{Group: groups.Name(dn), UserPath: ofUser.Path(dn), HostPath: ofHost.Path(dn)}, true
	}
	for _, dn := range r.rules.Everywhere {
		if ofUser.Has(dn) {
			return Shared{Group: groups.Name(dn), Everywhere: true, UserPath: ofUser.Path(dn)}, true
		}
	}
	return Shared{}, false
}

// everywhere reports whether one of a user's groups lets in on all hosts.
func (r *Reach) everywhere(ofUser Reached) bool {
	return slices.ContainsFunc(r.rules.Everywhere, ofUser.Has)
}
