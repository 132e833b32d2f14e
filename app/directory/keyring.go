package directory

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Fields of the form by which a key is added.
const (
	FieldKey       = "key"
	FieldExpiresAt = "expiresAt"
)

// maxKeyLength is how long a key may be that is added: the line that it becomes says two times more.
const maxKeyLength = maxSSHKeyLength - 128

// SSHKeyForm is what a key is added by.
var SSHKeyForm = NewForm("SSH key",
	Field{Name: FieldKey, Required: true, MaxLength: maxKeyLength, Syntax: newSSHKeySyntax, Description: "The public key, as a line of authorized_keys: with options, or bare.",
		Example: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKsxHgzN4ky9Tal82AMXJw/BXASQrgNy6qQiZd8nBZTH alice@laptop"},
	Field{Name: FieldExpiresAt, Type: Timestamp, MaxLength: 64, Description: "When the key ends, in the future.", Example: "2099-12-31T23:59:59Z"})

// newSSHKeySyntax is a key of today as somebody sends it.
func newSSHKeySyntax(s string) string {
	key, err := ParseSSHKey(s)
	switch {
	case err != nil:
		return err.Error()
	case key.HasExpired(time.Now()) && !key.malformed:
		return "has expired already"
	}
	return key.wrong()
}

// Keyring adds and removes the SSH keys of entries, one at a time and by value. Of the others of the entry none is
// written.
type Keyring struct {
	guarded, unguarded Directory
	kinds              []*Kind
}

// NewKeyring returns a Keyring that changes entries of these kinds as the caller may, by a guarded Directory, and looks
// for whose a key is in all of them, by an unguarded one.
func NewKeyring(guarded, unguarded Directory, kinds []*Kind) *Keyring {
	return &Keyring{guarded: guarded, unguarded: unguarded, kinds: kinds}
}

// Add adds the key of an [SSHKeyForm] to an entry, and returns both. Somebody else's is refused, unless both were added
// at the same moment. Errors: as of [Directory.Update], already-exists where the entry has the key, invalid.
func (k *Keyring) Add(ctx context.Context, kind *Kind, name string, condition Condition, patch Patch) (SSHKey, Entry, error) {
	key, err := newSSHKey(patch, time.Now())
	if err != nil {
		return SSHKey{}, Entry{}, err
	}
	looked := false
	var faults []Violation
	entry, err := k.guarded.Update(ctx, kind, name, condition, func(current Entry) (Patch, error) {
		lines := current.Values(FieldSSHPublicKeys)
		if slices.ContainsFunc(lines, isLineOf(key.Fingerprint)) {
			return Patch{}, &Error{Code: AlreadyExists, Detail: fmt.Sprintf("The %s has this key already.", kind.Singular)}
		}
		if !looked {
			if faults, err = k.othersWith(ctx, current, key); err != nil {
				return Patch{}, err
			}
			looked = true
		}
		return Patch{Set: map[string][]string{FieldSSHPublicKeys: append(slices.Clone(lines), key.Line())}, Faults: faults}, nil
	})
	return key, entry, err
}

// Remove removes a key from an entry, in every line that holds it. Errors: as of [Directory.Update], and not-found
// where the entry does not have it.
func (k *Keyring) Remove(ctx context.Context, kind *Kind, name string, condition Condition, fingerprint string) error {
	_, err := k.guarded.Update(ctx, kind, name, condition, func(current Entry) (Patch, error) {
		lines := current.Values(FieldSSHPublicKeys)
		left := slices.DeleteFunc(slices.Clone(lines), isLineOf(fingerprint))
		if len(left) == len(lines) {
			return Patch{}, noSuchKey(kind)
		}
		return Patch{Set: map[string][]string{FieldSSHPublicKeys: left}}, nil
	})
	return err
}

// Get returns one key of an entry that the caller may read. Errors: as of [Directory.Get].
func (k *Keyring) Get(ctx context.Context, kind *Kind, name, fingerprint string) (SSHKey, error) {
	entry, err := k.guarded.Get(ctx, kind, name)
	if err != nil {
		return SSHKey{}, err
	}
	keys := entry.SSHKeys()
	i := slices.IndexFunc(keys, func(key SSHKey) bool { return key.Fingerprint == fingerprint })
	if i < 0 {
		return SSHKey{}, noSuchKey(kind)
	}
	return keys[i], nil
}

// SSHKeys returns the entry's keys, without values that are none.
func (e Entry) SSHKeys() []SSHKey {
	var keys []SSHKey
	for _, line := range e.Values(FieldSSHPublicKeys) {
		if key, err := ParseSSHKey(line); err == nil {
			keys = append(keys, key)
		}
	}
	return keys
}

func noSuchKey(kind *Kind) error {
	return &Error{Code: NotFound, Detail: fmt.Sprintf("The %s has no key with this fingerprint.", kind.Singular)}
}

// isLineOf returns a function that reports whether a line holds the key with a fingerprint.
func isLineOf(fingerprint string) func(string) bool {
	return func(line string) bool {
		key, err := ParseSSHKey(line)
		return err == nil && key.Fingerprint == fingerprint
	}
}

// newSSHKey returns the key of a form as it is to be written, or everything that is wrong with it.
func newSSHKey(patch Patch, now time.Time) (SSHKey, error) {
	key, _ := ParseSSHKey(strings.Join(patch.Set[FieldKey], ""))
	var expires time.Time
	if given := patch.Set[FieldExpiresAt]; len(given) > 0 {
		var wrong string
		if expires, wrong = parseExpiresAt(given[0], now); wrong == "" && key.Has(optionExpiryTime) {
			wrong = "can't be given for a key that has the option expiry-time"
		}
		if wrong != "" {
			patch.Faults = append(slices.Clip(patch.Faults), Violation{FieldExpiresAt, wrong})
		}
	}
	if _, err := SSHKeyForm.Fill(patch); err != nil {
		return SSHKey{}, err
	}
	if !expires.IsZero() {
		key = key.Until(expires)
	}
	key.Added = now.UTC().Truncate(time.Second)
	return key, nil
}

// rfc3339 is what RFC 3339 §5.6 takes; package time takes more.
var rfc3339 = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)

// parseExpiresAt reads a time of RFC 3339, to the second as sshd has it, or says what is wrong with it.
func parseExpiresAt(text string, now time.Time) (expires time.Time, wrong string) {
	expires, err := time.Parse(time.RFC3339, text)
	if err != nil || !rfc3339.MatchString(text) {
		return time.Time{}, "must be a time as in RFC 3339, such as 2026-12-31T23:59:59Z"
	}
	expires = expires.UTC().Truncate(time.Second)
	switch {
	case !expires.After(now):
		return time.Time{}, "must be in the future"
	case expires.Year() > 9999:
		return time.Time{}, "must be before the year 10000"
	}
	return expires, ""
}

// othersWith returns what is wrong with giving an entry a key that others have. Their names are for those who may read
// them. It reads to the end, so that no search is held for a next page that nobody asks for.
func (k *Keyring) othersWith(ctx context.Context, entry Entry, key SSHKey) (faults []Violation, err error) {
	for _, kind := range k.kinds {
		if _, ok := kind.Field(FieldSSHPublicKeys); !ok {
			continue
		}
		query := Query{Filter: Filter{Operator: Present, Field: FieldSSHPublicKeys}, Fields: []string{FieldID, kind.Key, FieldSSHPublicKeys}, Limit: atOnce}
		for other, err := range Each(AsService(ctx), k.unguarded, kind, query) {
			if err != nil {
				return nil, err
			}
			holds := func(line string) bool { return strings.Contains(line, key.Key) && isLineOf(key.Fingerprint)(line) }
			if faults != nil || other.ID() == entry.ID() || !slices.ContainsFunc(other.Values(FieldSSHPublicKeys), holds) {
				continue
			}
			message := "is somebody else's key already"
			if allowedAll(ctx, ActionRead, kind) == nil {
				message = fmt.Sprintf("is the key of %s/%s already", kind.Name, other.Name())
			}
			faults = []Violation{{FieldKey, message}}
		}
	}
	return faults, nil
}
