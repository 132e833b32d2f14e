package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/syslog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/ssh"

	"rollcall/app/client"
	"rollcall/app/directory"
)

// AuthKeysSettings are what a host's configuration says of AuthKeys.
type AuthKeysSettings struct {
	URLs      []string
	Host      string // in the directory
	TokenFile string // empty: no token
	CAFile    string // empty: the system's CAs alone
	Timeout   time.Duration
	CacheDir  string
	CacheFor  time.Duration // 0: not at all
	Syslog    string        // a socket; empty: none
}

// AuthKeys returns the command that sshd runs to learn which keys a user may log in with. The settings are those of a
// file; with an error only their Syslog counts.
func AuthKeys(load func(file string) (AuthKeysSettings, error)) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "authkeys USER [FINGERPRINT]",
		Short: "Print the keys that a user may log in to this host with, for sshd's AuthorizedKeysCommand",
		Long: `Ask Rollcall which SSH keys a user may log in to this host with, and print them as lines of
authorized_keys; with a FINGERPRINT, such as SHA256:4tCx…, only those that have it.

The addresses in the configuration are asked in turn until one says which keys are allowed.
When none answers, the last answer is printed, if it is not too old. When one refuses this
host or its token, and none of the others knows better, nothing is printed; when all refuse,
the last answer is forgotten.

The configuration, and the files that it names, must belong to root or to whoever runs the
command, and nobody else may write to them.

In sshd_config (the program must belong to root, and nobody else may write to it):

  AuthorizedKeysCommand /usr/local/bin/rollcall authkeys -- %u %f
  AuthorizedKeysCommandUser root

Only keys are printed on standard output. What goes wrong is told on standard error, and in
the system log where standard error leads nowhere, as it does below sshd.

Exit status: 0 when there is an answer, also if it is that no key is allowed; 1 when there is
none, or this host is refused.`,
		Example: `  rollcall authkeys alice
  rollcall authkeys --config authkeys.yaml -- alice SHA256:4tCxzRhLGyXbZKXUcPYKjQZpT9a0nfJZZ6cXhKtDrtA`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			settings, err := load(file)
			tell := func(line string) { fmt.Fprintln(heard(cmd.ErrOrStderr(), settings.Syslog), line) }
			var keys string
			if err == nil {
				keys, err = authKeys(cmd.Context(), settings, args, time.Now, tell)
			}
			if err != nil && discards(cmd.ErrOrStderr()) {
				for line := range strings.SplitSeq(err.Error(), "\n") {
					tell(line)
				}
			}
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), keys)
			return err
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "the host's configuration (default /etc/rollcall/authkeys.yaml)")
	return cmd
}

// heard returns where a message is read: w, or the system log where w leads nowhere.
func heard(w io.Writer, socket string) io.Writer {
	if !discards(w) || socket == "" {
		return w
	}
	for _, network := range []string{"unixgram", "unix"} { // as syslog(3) tries them
		if log, err := syslog.Dial(network, socket, syslog.LOG_AUTH|syslog.LOG_WARNING, "rollcall"); err == nil {
			return log
		}
	}
	return w
}

// discards reports whether w is /dev/null. sshd gives that to its commands as standard error.
func discards(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	null, nullErr := os.Stat(os.DevNull)
	return err == nil && nullErr == nil && os.SameFile(info, null)
}

// authKeys returns the lines to print for a user, and a fingerprint if there is one. What does not keep it from that is
// told, a line at a time.
func authKeys(ctx context.Context, s AuthKeysSettings, args []string, now func() time.Time, tell func(string)) (string, error) {
	user := args[0]
	if user == "" || len(user) > 256 || !utf8.ValidString(user) || strings.ContainsFunc(user, unicode.IsControl) {
		return "", errors.New("USER must be the name of a user: 1 to 256 bytes of UTF-8 without control characters")
	}
	if len(args) > 1 && !strings.HasPrefix(args[1], "SHA256:") && !strings.HasPrefix(args[1], "MD5:") {
		return "", errors.New("FINGERPRINT must begin with SHA256: or MD5:, as sshd writes it for %f")
	}
	l := lookup{AuthKeysSettings: s, now: now, tell: tell}
	var err error
	if l.server, err = s.client(); err != nil {
		return "", err
	}
	if l.cache, err = openAuthKeysCache(s.CacheDir, s.CacheFor, s.Host, now); err != nil {
		tell("no answers are kept: " + err.Error())
	}
	keys, err := l.keys(ctx, user)
	switch {
	case err != nil:
		return "", err
	case len(args) > 1:
		return withFingerprint(keys, args[1]), nil
	case keys != "" && !strings.HasSuffix(keys, "\n"):
		return keys + "\n", nil
	}
	return keys, nil
}

// client returns a client without a URL. It uses no proxy: the way to the server is the configuration's alone.
func (s AuthKeysSettings) client() (*client.Client, error) {
	token, err := readToken(s.TokenFile)
	if err != nil {
		return nil, err
	}
	through := &http.Client{Transport: http.DefaultTransport.(*http.Transport).Clone()}
	if s.CAFile != "" { // its CAs decide who can answer
		text, err := readOwn(s.CAFile, toWrite, "run chown root and chmod go-w on it, and see that its certificates are yours")
		if err != nil {
			return nil, err
		}
		if through, err = client.TrustingCAs(text); err != nil {
			return nil, fmt.Errorf("%s: %w", s.CAFile, err)
		}
	}
	through.Transport.(*http.Transport).Proxy = nil
	return &client.Client{Token: token, HTTP: through}, nil
}

// readToken reads a file that only its owner may read.
func readToken(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	text, err := readOwn(name, toAll, "run chown root and chmod 600 on it, and have a new token made if others have read this one")
	if err != nil {
		return "", err
	}
	token := bytes.TrimSpace(text)
	if len(token) == 0 || len(token) > maxToken || bytes.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s: holds no token: write what POST /hosts/{name}/token shows into it, and no more", name)
	}
	return string(token), nil
}

// maxToken is the most bytes of a token.
const maxToken = 4096

// readOwn reads a file that is the caller's or root's, and with which others may not do what rights say. It looks at
// the file that it reads, whatever the name may lead to the next moment.
func readOwn(name string, rights fs.FileMode, remedy string) ([]byte, error) {
	file, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if err := closed(info, rights); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", name, err, remedy)
	}
	return io.ReadAll(file)
}

// withFingerprint returns those lines whose key has a fingerprint.
func withFingerprint(keys, fingerprint string) string {
	var found strings.Builder
	for line := range strings.Lines(keys) {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err == nil && slices.Contains([]string{ssh.FingerprintSHA256(key), "MD5:" + ssh.FingerprintLegacyMD5(key)}, fingerprint) {
			found.WriteString(strings.TrimRight(line, "\r\n") + "\n")
		}
	}
	return found.String()
}

// lookup finds the keys of users.
type lookup struct {
	AuthKeysSettings
	server *client.Client // but for its URL
	cache  *authKeysCache // nil where there is none
	now    func() time.Time
	tell   func(string)
}

// keys returns all lines for a user.
func (l *lookup) keys(ctx context.Context, user string) (string, error) {
	asked := l.now()
	keys, err := l.ask(ctx, user)
	if l.cache == nil || errors.Is(err, errInDoubt) {
		return keys, err
	}
	if errors.Is(err, errNoAnswer) {
		kept, cacheErr := l.cache.get(user)
		if cacheErr != nil {
			return "", fmt.Errorf("%w, and %w", err, cacheErr)
		}
		l.tell("no server has answered: the answer of " + kept.Asked.Format(time.RFC3339) + " is used")
		return kept.Keys, nil
	}
	if cacheErr := l.cache.put(user, keys, asked, err == nil); cacheErr != nil {
		l.tell("answers can't be kept as they should: " + cacheErr.Error())
	}
	return keys, err
}

// refusals are Rollcall's own words for a no to this host, to its question, or to a user whose name another has too. Any
// other error, whatever its status, may be of somebody in between, or is the service's own trouble.
var refusals = []string{directory.InvalidToken.Name, directory.CredentialsRequired.Name, directory.Forbidden.Name, directory.Invalid.Name, directory.Ambiguous.Name}

// refused reports whether an error is a server's answer.
func refused(err error) bool {
	problem, ok := errors.AsType[*client.Problem](err)
	return ok && slices.Contains(refusals, problem.Code)
}

// What asking all servers has come to where none has said which keys are allowed.
var (
	errNoAnswer = errors.New("no server has answered")
	errRefused  = errors.New("every server has refused")
	errInDoubt  = errors.New("some servers have refused, and the others have not answered: the last answer is not used")
)

// ask asks the servers in turn, those last that have not answered before, until one says which keys are allowed, and
// tells of the others. A refusal is not the end: a server that reads a replica may not know a new token yet.
func (l *lookup) ask(ctx context.Context, user string) (string, error) {
	late := map[string]int{}
	for _, address := range l.URLs {
		if l.cache != nil && l.cache.away(address) {
			late[address] = 1
		}
	}
	refusing := 0
	for _, address := range slices.SortedStableFunc(slices.Values(l.URLs), func(a, b string) int { return late[a] - late[b] }) {
		timeout := l.Timeout
		if late[address] > 0 {
			timeout /= 4
		}
		keys, err := l.askOne(ctx, address, timeout, user)
		no := refused(err)
		if l.cache != nil { // without the note the next login takes longer, and no more
			_ = l.cache.note(address, err == nil || no)
		}
		if err == nil {
			return keys, nil
		}
		if no {
			refusing++
		}
		l.tell(err.Error())
	}
	switch refusing {
	case 0:
		return "", errNoAnswer
	case len(l.URLs):
		return "", errRefused
	}
	return "", errInDoubt
}

// askOne asks one server. Its error is one line, and names the server.
func (l *lookup) askOne(ctx context.Context, address string, timeout time.Duration, user string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	server := *l.server
	server.URL = address
	keys, err := server.AuthKeys(ctx, l.Host, user)
	if failed, ok := errors.AsType[*url.Error](err); ok { // its text repeats the address, with the query
		err = failed.Err
	}
	switch {
	case err == nil:
		return keys, nil
	case errors.Is(err, context.DeadlineExceeded):
		return "", fmt.Errorf("%s: has not answered in %s", address, timeout)
	}
	return "", serverError{address, err}
}

// serverError is what a server, or the way to it, has answered.
type serverError struct {
	address string
	err     error
}

// Error returns one line: what a server says may have several.
func (e serverError) Error() string {
	return e.address + ": " + strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, e.err.Error())
}

// Unwrap returns the error without the address.
func (e serverError) Unwrap() error { return e.err }
