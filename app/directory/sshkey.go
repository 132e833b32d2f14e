package directory

import (
	"bytes"
	"cmp"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/ssh"
)

// SSHKey is one line of authorized_keys, sshd(8).
type SSHKey struct {
	// Type is as in the line, such as ssh-ed25519.
	Type string
	// Bits is the length as ssh-keygen -l shows it.
	Bits int
	// Key is the key itself, in base64.
	Key string
	// Fingerprint is "SHA256:" and the hash in base64 without padding, as ssh-keygen -l shows it.
	Fingerprint string
	// Comment is what follows the key, without when it was added.
	Comment string
	// Options are those before the type, each as it is written there.
	Options []string
	// Added is when the key was added, as the last word of the line says; zero where none does. LDAP has no time for
	// each value, and whoever may write the value may write any time there.
	Added time.Time
	// Expires is the earliest expiry-time of the options, zero where there is none. Without a zone it is of the host's
	// local time, which nobody here knows, and taken for UTC.
	Expires time.Time

	over      time.Time // when Expires has passed in every time zone
	malformed bool      // an expiry-time is none, and sshd refuses the key
}

// keyTypes are the types of keys that sshd takes, and how long those are that are all of one length.
var keyTypes = map[string]int{
	ssh.KeyAlgoED25519: 256, ssh.KeyAlgoSKED25519: 256,
	ssh.KeyAlgoECDSA256: 256, ssh.KeyAlgoECDSA384: 384, ssh.KeyAlgoECDSA521: 521, ssh.KeyAlgoSKECDSA256: 256,
	typeDSA: 1024, ssh.KeyAlgoRSA: 0,
}

// typeDSA is a type that nobody should use.
const typeDSA = "ssh-dss"

// maxSSHKeyLength is the longest value of sshPublicKeys.
const maxSSHKeyLength = 16384

// minRSABits is the shortest that ssh-keygen has made by default since 2008, and what NIST SP 800-57 part 1 demands.
const minRSABits = 2048

// added is the word that says when a key was added, as package time wants it.
const added = "added=2006-01-02T15:04:05Z"

// Options of keys, sshd(8).
const (
	optionExpiryTime    = "expiry-time"
	optionCertAuthority = "cert-authority"
	optionPrincipals    = "principals"
)

var errNoSSHKey = errors.New("must be an SSH public key, as a line of authorized_keys")

// ParseSSHKey reads exactly one line of authorized_keys, whose end may be there or not. It takes nothing that sshd
// would read as another line, as a comment or as two keys. Errors are fit for clients.
func ParseSSHKey(line string) (SSHKey, error) {
	line = strings.Trim(strings.TrimRight(line, "\r\n"), " \t")
	if hasControl(line, "\t") || !utf8.ValidString(line) {
		return SSHKey{}, errors.New("must be one line")
	}
	var k SSHKey
	first, rest := cutWord(line)
	if _, known := keyTypes[first]; !known {
		var ok bool
		if k.Options, rest, ok = cutOptions(line); !ok {
			return SSHKey{}, errNoSSHKey
		}
		first, rest = cutWord(rest)
	}
	k.Type = first
	k.Key, k.Comment = cutWord(rest)
	blob, err := base64.StdEncoding.Strict().DecodeString(k.Key)
	if err != nil {
		return SSHKey{}, errNoSSHKey
	}
	key, err := ssh.ParsePublicKey(blob)
	bits, known := keyTypes[k.Type]
	if err != nil || !known || key.Type() != k.Type || !bytes.Equal(key.Marshal(), blob) {
		return SSHKey{}, errNoSSHKey
	}
	k.Bits, k.Fingerprint = bits, ssh.FingerprintSHA256(key)
	if public, ok := key.(ssh.CryptoPublicKey); ok {
		if public, ok := public.CryptoPublicKey().(*rsa.PublicKey); ok {
			k.Bits = public.N.BitLen()
		}
	}
	k.Comment = strings.ReplaceAll(k.Comment, "\t", " ")
	last := k.Comment[strings.LastIndexByte(k.Comment, ' ')+1:]
	if at, err := time.Parse(added, last); err == nil && !at.Truncate(time.Second).IsZero() {
		k.Added = at.Truncate(time.Second)
		k.Comment = strings.TrimRight(strings.TrimSuffix(k.Comment, last), " ")
	}
	k.readExpiry()
	return k, nil
}

// cutWord cuts a line after its first word.
func cutWord(line string) (word, rest string) {
	i := strings.IndexAny(line, " \t")
	if i < 0 {
		return line, ""
	}
	return line[:i], strings.TrimLeft(line[i:], " \t")
}

// cutOptions cuts a line after its options: names, some with ="…", and commas between them. Within quotes \" is a
// quote, and everything else stands for itself.
func cutOptions(line string) (options []string, rest string, ok bool) {
	for {
		end := 0
		for end < len(line) && (isAlphanumeric(line[end]) || line[end] == '-') {
			end++
		}
		if end == 0 {
			return nil, "", false
		}
		if value, valued := strings.CutPrefix(line[end:], `="`); valued {
			n := closingQuote(value)
			if n < 0 || strings.Contains(value[:n], "\t") {
				return nil, "", false
			}
			end += len(`="`) + n + len(`"`)
		}
		options = append(options, line[:end])
		line = line[end:]
		switch {
		case strings.HasPrefix(line, ","):
			line = line[1:]
		case strings.HasPrefix(line, " "), strings.HasPrefix(line, "\t"):
			return options, strings.TrimLeft(line, " \t"), true
		default:
			return nil, "", false
		}
	}
}

// closingQuote returns the place of the first quote without a backslash before it, -1 where there is none.
func closingQuote(s string) int {
	for i := range len(s) {
		if s[i] == '"' && (i == 0 || s[i-1] != '\\') {
			return i
		}
	}
	return -1
}

func isAlphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// FingerprintSHA256 begins the fingerprints of keys.
const FingerprintSHA256 = "SHA256:"

// isFingerprint reports whether a text is FingerprintSHA256 and a hash in base64 without padding.
func isFingerprint(text string) bool {
	hash, ok := strings.CutPrefix(text, FingerprintSHA256)
	decoded, err := base64.RawStdEncoding.DecodeString(hash)
	return ok && err == nil && len(decoded) == sha256.Size
}

// Line returns the key as sshd takes it: exactly one line, without its end.
func (k SSHKey) Line() string {
	var b strings.Builder
	if len(k.Options) > 0 {
		b.WriteString(strings.Join(k.Options, ",") + " ")
	}
	b.WriteString(k.Type + " " + k.Key)
	if k.Comment != "" {
		b.WriteString(" " + k.Comment)
	}
	if !k.Added.IsZero() {
		b.WriteString(" " + k.Added.UTC().Format(added))
	}
	return b.String()
}

// HasExpired reports whether the key is certainly over: where its expiry-time names no zone, when it has passed in the
// westernmost one, UTC-12; and where it is none, always.
func (k SSHKey) HasExpired(now time.Time) bool {
	return k.malformed || !k.over.IsZero() && !now.Before(k.over)
}

// Until returns the key with an expiry-time more.
func (k SSHKey) Until(expires time.Time) SSHKey {
	k.Options = append(slices.Clone(k.Options), fmt.Sprintf(`%s="%s"`, optionExpiryTime, expires.UTC().Format("20060102150405Z")))
	k.readExpiry()
	return k
}

// Has reports whether the key has an option of this name.
func (k SSHKey) Has(option string) bool {
	return slices.ContainsFunc(k.Options, func(o string) bool {
		name, _, _ := strings.Cut(o, "=")
		return strings.EqualFold(name, option)
	})
}

// Weak returns why the key is too weak to be trusted, "" where it is not.
func (k SSHKey) Weak() string {
	switch {
	case k.Type == typeDSA:
		return "is DSA, which OpenSSH takes no more; make an Ed25519 key"
	case k.Type == ssh.KeyAlgoRSA && k.Bits < minRSABits:
		return fmt.Sprintf("has %d bits; RSA needs %d", k.Bits, minRSABits)
	}
	return ""
}

// Delegates returns why the key lets others in whose keys nobody here would ever see, "" where it does not: an
// authority vouches for any number of keys, without a fingerprint to find, an owner to ask or an expiry to wait for.
func (k SSHKey) Delegates() string {
	for _, option := range []string{optionCertAuthority, optionPrincipals} {
		if k.Has(option) {
			return fmt.Sprintf("has the option %s, by which keys that are not in the directory could log in", option)
		}
	}
	return ""
}

// wrong returns why the key is not taken as a new one, "" where it is.
func (k SSHKey) wrong() string {
	if k.malformed {
		return fmt.Sprintf(`has an %s that is no time such as "20261231", "202612312359" or "20261231235959Z"`, optionExpiryTime)
	}
	return cmp.Or(k.Weak(), k.Delegates())
}

// readExpiry finds out when the key ends, by the earliest of its options as sshd does.
func (k *SSHKey) readExpiry() {
	for _, option := range k.Options {
		name, value, _ := strings.Cut(option, "=")
		if !strings.EqualFold(name, optionExpiryTime) {
			continue
		}
		expires, over, ok := parseExpiry(strings.Trim(value, `"`))
		if !ok {
			k.malformed = true
		} else if k.over.IsZero() || over.Before(k.over) {
			k.Expires, k.over = expires, over
		}
	}
}

// parseExpiry reads YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS with an optional Z for UTC, and returns when it has passed
// in every time zone as well.
func parseExpiry(text string) (expires, over time.Time, ok bool) {
	local, utc := strings.CutSuffix(strings.ToUpper(text), "Z")
	layout := map[int]string{8: "20060102", 12: "200601021504", 14: "20060102150405"}[len(local)]
	expires, err := time.Parse(layout, local)
	if layout == "" || err != nil || expires.Unix() <= 0 {
		return time.Time{}, time.Time{}, false
	}
	if utc {
		return expires, expires, true
	}
	return expires, expires.Add(12 * time.Hour), true
}
