package auth

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"rollcall/app/directory"
)

// TokenOptions say what tokens are like.
type TokenOptions struct {
	// Issuer is who says so in every token, and whom it is for.
	Issuer string
	// Keys sign tokens, the first one new ones. The others' are good for as long as they are here.
	Keys []ed25519.PrivateKey
	// AccessLifetime and RefreshLifetime are how long tokens are good for.
	AccessLifetime, RefreshLifetime time.Duration
}

// The types of tokens, as their header "typ" says (RFC 7515 §4.1.9, RFC 9068 §2.1).
const (
	accessToken  = "at+jwt"
	refreshToken = "rt+jwt"
)

// claims are what a token says (RFC 7519 §4.1). The subject is the entryUUID of the user.
type claims struct {
	jwt.RegisteredClaims

	// Session is the session that the token belongs to.
	Session string `json:"sid"`
}

// tokens makes and reads tokens: signed by Ed25519 (RFC 8037).
type tokens struct {
	TokenOptions

	keySet KeySet
	parser *jwt.Parser
}

func newTokens(o TokenOptions) (tokens, error) {
	if len(o.Keys) == 0 || o.Issuer == "" || o.AccessLifetime <= 0 || o.RefreshLifetime <= 0 {
		return tokens{}, errors.New("auth: tokens need an issuer, a key and lifetimes")
	}
	t := tokens{TokenOptions: o, parser: jwt.NewParser(jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
		jwt.WithIssuer(o.Issuer), jwt.WithAudience(o.Issuer), jwt.WithExpirationRequired())}
	for _, key := range o.Keys {
		t.keySet.Keys = append(t.keySet.Keys, publicKey(key))
	}
	return t, nil
}

// sign returns a new token of a type, and its id.
func (t *tokens) sign(kind, subject, session string, lifetime time.Duration) (token, id string, err error) {
	now := time.Now()
	id = rand.Text()
	unsigned := jwt.NewWithClaims(jwt.SigningMethodEdDSA, claims{Session: session, RegisteredClaims: jwt.RegisteredClaims{
		Issuer: t.Issuer, Audience: jwt.ClaimStrings{t.Issuer}, Subject: subject, ID: id,
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(lifetime)),
	}})
	unsigned.Header["typ"] = kind
	unsigned.Header["kid"] = t.keySet.Keys[0].ID
	token, err = unsigned.SignedString(t.Keys[0])
	return token, id, err
}

// verify returns what a token of a type says. Errors: invalid-token.
func (t *tokens) verify(token, kind string) (claims, error) {
	var said claims
	_, err := t.parser.ParseWithClaims(token, &said, func(unverified *jwt.Token) (any, error) {
		if unverified.Header["typ"] != kind {
			return nil, errors.New("a token of another type")
		}
		for i, key := range t.keySet.Keys {
			if unverified.Header["kid"] == key.ID {
				return t.Keys[i].Public(), nil
			}
		}
		return nil, errors.New("signed by an unknown key")
	})
	if err == nil && (said.Subject == "" || said.Session == "" || said.ID == "") {
		err = errors.New("a claim is missing")
	}
	if err != nil {
		return claims{}, &directory.Error{Code: directory.InvalidToken, Cause: err}
	}
	return said, nil
}

// KeySet is a JSON Web Key Set (RFC 7517 §5).
type KeySet struct {
	Keys []Key `json:"keys"`
}

// Key is a public Ed25519 key as a JSON Web Key (RFC 8037 §2). Its ID is its thumbprint (RFC 7638).
type Key struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

func publicKey(key ed25519.PrivateKey) Key {
	x := base64.RawURLEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	thumbprint := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + x + `"}`))
	return Key{Type: "OKP", Curve: "Ed25519", X: x, ID: base64.RawURLEncoding.EncodeToString(thumbprint[:]), Use: "sig", Algorithm: "EdDSA"}
}

// KeySet returns the public keys that tokens can be verified with.
func (a *Authenticator) KeySet() KeySet { return a.tokens.keySet }

// keyBlock is the type of a PEM block that holds a key (RFC 7468 §10).
const keyBlock = "PRIVATE KEY"

// NewKey returns a new Ed25519 key as PEM, as "openssl genpkey -algorithm ed25519" makes one.
func NewKey() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(crypto.PrivateKey(key))
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der}), nil
}

// ParseKey reads what NewKey or openssl wrote.
func ParseKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyBlock {
		return nil, errors.New("holds no PRIVATE KEY in PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("holds a key that can't be read")
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("holds a key of another kind than Ed25519")
	}
	return private, nil
}
