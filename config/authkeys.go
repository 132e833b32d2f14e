package config

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode"
)

// AuthKeys is what the command that sshd runs is told. authkeys.yaml describes the keys.
type AuthKeys struct {
	URLs      []string      `mapstructure:"urls"`
	Host      string        `mapstructure:"host"`       // in the directory
	TokenFile string        `mapstructure:"token_file"` // empty: no token
	CAFile    string        `mapstructure:"ca_file"`    // empty: the system's CAs alone
	Timeout   time.Duration `mapstructure:"timeout"`    // of one URL
	CacheDir  string        `mapstructure:"cache_dir"`
	CacheFor  time.Duration `mapstructure:"cache_for"` // 0: not at all
	Syslog    string        `mapstructure:"syslog"`    // a socket; empty: none
}

// AuthKeysFile is where LoadAuthKeys reads unless told otherwise.
const AuthKeysFile = "/etc/rollcall/authkeys.yaml"

// LoadAuthKeys reads and checks a file for the command that sshd runs. Its error holds every problem there is, one a
// line. The AuthKeys is never nil, but with an error only its Syslog is good, which may be the default.
func LoadAuthKeys(file string) (*AuthKeys, error) {
	l := newLoader(reflect.TypeFor[AuthKeys]())
	l.embedded("authkeys.yaml", "default")
	name := cmp.Or(file, AuthKeysFile)
	text, err := readOwn(name)
	if err == nil {
		layer{loader: l, name: name, lines: true}.read(text)
	} else {
		l.unread("")
		l.faults = append(l.faults, fmt.Errorf("--config %s: %w", name, reason(err)))
	}

	c := &AuthKeys{}
	l.fill(c)
	for _, p := range c.problems() {
		l.complain(p)
	}
	if c.Host == "" {
		if c.Host, err = os.Hostname(); err != nil {
			l.faults = append(l.faults, err)
		}
	}
	return c, errors.Join(l.faults...)
}

// readOwn reads a file that is the caller's or root's, and that nobody else may write: it decides who is asked, and so
// who logs in. It looks at the file that it reads, whatever the name may lead to the next moment.
func readOwn(name string) ([]byte, error) {
	file, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	const remedy = "run chown root and chmod go-w on it, and see that what it says is yours"
	owner, known := info.Sys().(*syscall.Stat_t)
	switch {
	case !known || owner.Uid != 0 && int(owner.Uid) != os.Geteuid():
		return nil, errors.New("it belongs to somebody else: " + remedy)
	case info.Mode()&0o022 != 0:
		return nil, fmt.Errorf("others than its owner may write it (%s): %s", info.Mode(), remedy)
	}
	return io.ReadAll(file)
}

// maxAuthKeysTime bounds the time for all URLs together. sshd asks once for each key that a client offers, and again for
// the one that it uses, and gives up after LoginGraceTime, 120 seconds by default (sshd_config(5)).
const maxAuthKeysTime = 10 * time.Second

func (c *AuthKeys) problems() []problem {
	all := []problem{
		{"host", plainText(c.Host)},
		{"token_file", optional(c.TokenFile, absolute)},
		{"ca_file", optional(c.CAFile, absolute)},
		{"timeout", first(positive(c.Timeout), c.inTime())},
		{"cache_dir", absolute(c.CacheDir)},
		{"cache_for", notNegative(c.CacheFor)},
		{"syslog", optional(c.Syslog, absolute)},
	}
	if len(c.URLs) == 0 {
		all = append(all, problem{"urls", "must hold at least one URL, such as https://rollcall.example.org/api"})
	}
	all = append(all, each("urls", c.URLs, authKeysURL)...)
	return slices.DeleteFunc(all, func(p problem) bool { return p.what == "" })
}

// authKeysURL refuses to send a token, and to take keys, where others may listen and answer. It never quotes the URL:
// there may be a password in it.
func authKeysURL(text string) string {
	u, err := url.Parse(text)
	switch {
	case issuerURL(text) != "" || u.ForceQuery || strings.HasSuffix(text, "#"):
		return "must be a URL such as https://rollcall.example.org/api, without a name, a password or a query"
	case err == nil && u.Scheme == "http" && !loopback(u.Hostname()):
		return "must begin with https://: over http:// others can read the token, and hand in keys of their own"
	}
	return ""
}

// loopback reports whether a host is this machine (RFC 6761 §6.3 for the name).
func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && address.Unmap().IsLoopback()
}

// absolute checks a path: sshd runs its commands in a folder of its own.
func absolute(path string) string {
	if !filepath.IsAbs(path) {
		return "must be a path that begins with /"
	}
	return ""
}

func plainText(text string) string {
	if strings.ContainsFunc(text, unicode.IsControl) {
		return "must not hold control characters"
	}
	return ""
}

func (c *AuthKeys) inTime() string {
	if most := maxAuthKeysTime / time.Duration(max(len(c.URLs), 1)); c.Timeout > most {
		return fmt.Sprintf("%s for each of %d URLs is too long: give them %s in all, or sshd may not wait", c.Timeout, len(c.URLs), maxAuthKeysTime)
	}
	return ""
}
