package rest

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"rollcall/app/directory"
)

// sshKey is how answers show a key.
type sshKey struct {
	Fingerprint string    `json:"fingerprint"`
	Type        string    `json:"type"`
	Bits        int       `json:"bits"`
	Comment     string    `json:"comment"`
	Options     []string  `json:"options"`
	AddedAt     time.Time `json:"addedAt,omitzero"`
	ExpiresAt   time.Time `json:"expiresAt,omitzero"`
	Expired     bool      `json:"expired"`
	Usable      bool      `json:"usable"`
	Reason      string    `json:"reason,omitempty"`
	Key         string    `json:"key"`
}

func shownKey(key directory.SSHKey, now time.Time) sshKey {
	reason := key.Unusable(now)
	return sshKey{
		Fingerprint: key.Fingerprint, Type: key.Type, Bits: key.Bits, Comment: key.Comment, Options: append([]string{}, key.Options...),
		AddedAt: key.Added, ExpiresAt: key.Expires, Expired: key.HasExpired(now), Usable: reason == "", Reason: reason, Key: key.Line(),
	}
}

// listKeys lists the keys of an entry. It has no tag: keys expire while the entry stays as it is.
func (e entries) listKeys(w http.ResponseWriter, r *http.Request) error {
	entry, err := e.found(r)
	if err != nil {
		return err
	}
	now, shown := time.Now(), []sshKey{}
	for _, key := range entry.SSHKeys() {
		shown = append(shown, shownKey(key, now))
	}
	return answerJSON(w, r, http.StatusOK, shown)
}

func (e entries) addKey(w http.ResponseWriter, r *http.Request) error {
	name, err := variable(r, "name")
	if err != nil {
		return err
	}
	condition, err := conditionOf(r)
	if err != nil {
		return err
	}
	patch, err := e.patchFrom(w, r, directory.SSHKeyForm, typeJSON)
	if err != nil {
		return err
	}
	key, entry, err := e.Keyring.Add(r.Context(), e.kind, name, condition, patch)
	if err != nil {
		return err
	}
	w.Header().Set("ETag", etag(entry))
	w.Header().Set("Location", e.entryURL(r, entry)+"/keys/"+url.PathEscape(urlSafe.Replace(key.Fingerprint)))
	return answerJSON(w, r, http.StatusCreated, shownKey(key, time.Now()))
}

func (e entries) getKey(w http.ResponseWriter, r *http.Request) error {
	if err := acceptsJSON(r); err != nil {
		return err
	}
	name, fingerprint, err := keyOf(r)
	if err != nil {
		return err
	}
	key, err := e.Keyring.Get(r.Context(), e.kind, name, fingerprint)
	if err != nil {
		return err
	}
	return answerJSON(w, r, http.StatusOK, shownKey(key, time.Now()))
}

func (e entries) removeKey(w http.ResponseWriter, r *http.Request) error {
	name, fingerprint, err := keyOf(r)
	if err != nil {
		return err
	}
	condition, err := conditionOf(r)
	if err != nil {
		return err
	}
	if err := e.Keyring.Remove(r.Context(), e.kind, name, condition, fingerprint); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// urlSafe turns base64 into what stands in a path as it is (RFC 4648 §5), standard turns it back. Many proxies refuse a
// slash that is percent-encoded.
var (
	urlSafe  = strings.NewReplacer("+", "-", "/", "_")
	standard = strings.NewReplacer("-", "+", "_", "/")
)

// keyOf returns what the route of a key names: the entry, and the fingerprint as ssh-keygen -l shows it.
func keyOf(r *http.Request) (name, fingerprint string, err error) {
	if name, err = variable(r, "name"); err == nil {
		fingerprint, err = variable(r, "fingerprint")
	}
	return name, standardFingerprint(fingerprint), err
}

// standardFingerprint returns a fingerprint as ssh-keygen -l shows it.
func standardFingerprint(text string) string {
	return directory.FingerprintSHA256 + standard.Replace(strings.TrimPrefix(text, directory.FingerprintSHA256))
}
