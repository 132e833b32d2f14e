package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// hostTokenPrefix begins every token of a host, so that one that leaks is known for what it is.
const hostTokenPrefix = "rollcall-host."

// maxHostID is more than any entryUUID has.
const maxHostID = 64

// NewHostSecret returns the part of a host's token that is secret, and its digest, which is all that is kept of it.
func NewHostSecret() (secret, digest string) {
	secret = rand.Text() + rand.Text() // 260 bits
	return secret, hostDigest(secret)
}

// HostToken returns the token of the host with an ID.
func HostToken(hostID, secret string) string { return hostTokenPrefix + hostID + "." + secret }

// ParseHostToken returns the host that a token claims to be of, and the digest of its secret; ok where it has the form
// of a host's.
func ParseHostToken(token string) (hostID, digest string, ok bool) {
	rest, ok := strings.CutPrefix(token, hostTokenPrefix)
	hostID, secret, parts := strings.Cut(rest, ".")
	if !ok || !parts || hostID == "" || len(hostID) > maxHostID || secret == "" {
		return "", "", false
	}
	return hostID, hostDigest(secret), true
}

func hostDigest(secret string) string {
	digest := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(digest[:])
}
