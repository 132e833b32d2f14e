package rest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"rollcall/app/directory"
)

// cursor is what the next page of a list begins with: what was asked for, the place, and what its caller could see.
type cursor struct {
	Query string           `json:"q,omitempty"`
	Place *directory.Place `json:"p"`
	Sight string           `json:"s"`
}

// Cursors seals cursors, so that they are good on every replica with the same keys, and nowhere else to read or to
// change: a cursor holds values of the last entry.
type Cursors struct {
	// seals are of the keys, of which the first one seals.
	seals []cipher.AEAD
}

// NewCursors returns the seal of the first key. What the others have sealed can still be opened.
func NewCursors(keys ...ed25519.PrivateKey) (Cursors, error) {
	var c Cursors
	for _, key := range keys {
		derived, err := hkdf.Key(sha256.New, key.Seed(), nil, "rollcall cursors", 32)
		if err != nil {
			return Cursors{}, err
		}
		block, err := aes.NewCipher(derived)
		if err != nil {
			return Cursors{}, err
		}
		seal, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return Cursors{}, err
		}
		c.seals = append(c.seals, seal)
	}
	return c, nil
}

// seal returns the cursor of a place in the answer to a query on a path, for whoever has the same sight.
func (c Cursors) seal(path string, query url.Values, place *directory.Place, sight string) (string, error) {
	content, err := json.Marshal(cursor{query.Encode(), place, sight})
	if err != nil {
		return "", err
	}
	sealed := c.seals[0].Seal(nil, nil, content, []byte(path)) //nolint:gosec // it makes a random nonce itself
	return base64.RawURLEncoding.EncodeToString(sealed), nil
}

// open returns what a cursor of a path holds.
func (c Cursors) open(path, text, sight string) (url.Values, *directory.Place, error) {
	bad := &directory.Error{Code: directory.BadRequest, Detail: "The cursor is not one that this address gave out. Begin again without one."}
	sealed, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, nil, bad
	}
	for _, seal := range c.seals {
		content, err := seal.Open(nil, nil, sealed, []byte(path))
		if err != nil {
			continue
		}
		var opened cursor
		if err := json.Unmarshal(content, &opened); err != nil || opened.Place == nil {
			return nil, nil, bad
		}
		query, err := url.ParseQuery(opened.Query)
		if err != nil {
			return nil, nil, bad
		}
		if opened.Sight != sight {
			return nil, nil, errSightChanged(directory.CursorLost)
		}
		return query, opened.Place, nil
	}
	return nil, nil, bad
}

// sightOf returns what decides which entries a context's caller sees: its roles or, without any, its groups.
func sightOf(ctx context.Context) string {
	caller, _ := directory.CallerFrom(ctx)
	if len(caller.Roles) > 0 {
		return fmt.Sprint(caller.Roles)
	}
	groups := sha256.Sum256([]byte(strings.Join(slices.Sorted(slices.Values(caller.Groups)), "\n")))
	return base64.RawURLEncoding.EncodeToString(groups[:12])
}

// errSightChanged is that a list would go on with other entries than it began with: whoever gets it would take it for
// whole.
func errSightChanged(code *directory.Code) error {
	return &directory.Error{Code: code, Detail: "What you may see has changed meanwhile. Begin again."}
}
