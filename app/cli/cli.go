// Package cli holds the commands that work on a server from elsewhere: import, export and authkeys.
package cli

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"rollcall/app/client"
	"rollcall/app/directory"
)

// The variables that say where a server is, and who is calling. They configure no server.
const (
	envURL      = "ROLLCALL_URL"
	envLogin    = "ROLLCALL_LOGIN"
	envPassword = "ROLLCALL_PASSWORD"
	envToken    = "ROLLCALL_TOKEN"
)

// Reads reports whether the commands read an environment variable, given as name=value.
func Reads(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return slices.Contains([]string{envURL, envLogin, envPassword, envToken}, name)
}

// defaultURL is where make run serves.
const defaultURL = "http://127.0.0.1:8080"

// The statuses that a command ends with, besides 0 and 1.
const (
	exitRefused     = 2
	exitInterrupted = 130
)

// ExitError is an error with a status to end with.
type ExitError struct {
	Status int
	error
}

const connecting = `
The server is found by --url or $ROLLCALL_URL. Log in with --login and --password-file, or
with $ROLLCALL_LOGIN and $ROLLCALL_PASSWORD, or with a token in $ROLLCALL_TOKEN.

Once it has begun, a command waits for a server that goes away (--retry-for), and goes on
where it was.

Exit status: 0 when all is done, 1 when it could not be begun or finished, 130 when it was
interrupted`

// connection is how a command reaches a server, and as whom.
type connection struct {
	url, caFile, login, passwordFile string
	retryFor                         time.Duration
	quiet                            bool
}

func (c *connection) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&c.url, "url", "", "where the server is, with its base path (default "+defaultURL+")")
	flags.StringVar(&c.caFile, "ca-file", "", "a PEM file with CAs to trust besides the system's")
	flags.StringVar(&c.login, "login", "", "whom to log in as")
	flags.StringVar(&c.passwordFile, "password-file", "", "a file with the password")
	flags.DurationVar(&c.retryFor, "retry-for", 5*time.Minute, "how long to wait for a server that has gone away")
	flags.BoolVar(&c.quiet, "quiet", false, "print failures and the summary only")
}

// open returns a client that the server knows.
func (c *connection) open(ctx context.Context) (*client.Client, error) {
	opened, err := c.client()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var me struct{ May []any }
	_, err = opened.Call(ctx, http.MethodGet, "/me", nil, &me)
	if err == nil && me.May == nil {
		err = client.ErrUnexpected
	}
	return opened, explained(opened.URL, err)
}

// client returns a client with what the flags and the environment say.
func (c *connection) client() (*client.Client, error) {
	opened := &client.Client{URL: cmp.Or(c.url, os.Getenv(envURL), defaultURL)}
	address, err := url.Parse(opened.URL)
	if err != nil || address.Scheme != "http" && address.Scheme != "https" || address.Host == "" || address.User != nil || address.RawQuery != "" {
		return nil, fmt.Errorf("--url: give an address such as https://rollcall.example.org/api, and no more")
	}
	if c.caFile != "" {
		text, err := os.ReadFile(filepath.Clean(c.caFile))
		if err != nil {
			return nil, err
		}
		if opened.HTTP, err = client.TrustingCAs(text); err != nil {
			return nil, fmt.Errorf("%s: %w", c.caFile, err)
		}
	}
	opened.Login = cmp.Or(c.login, os.Getenv(envLogin))
	if opened.Login == "" {
		if opened.Token = os.Getenv(envToken); opened.Token == "" {
			return nil, fmt.Errorf("who are you? Give --login and --password-file, or set $%s and $%s, or $%s", envLogin, envPassword, envToken)
		}
		return opened, nil
	}
	opened.Password = os.Getenv(envPassword)
	if c.passwordFile != "" {
		text, err := os.ReadFile(c.passwordFile)
		if err != nil {
			return nil, err
		}
		opened.Password = strings.TrimRight(string(text), "\r\n")
	}
	if opened.Password == "" {
		return nil, fmt.Errorf("the password of %s is missing: give --password-file, or set $%s", opened.Login, envPassword)
	}
	return opened, nil
}

// explained returns why a server does not know the caller, and what to do.
func explained(address string, err error) error {
	problem, answered := errors.AsType[*client.Problem](err)
	_, distrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return ExitError{exitInterrupted, errors.New("interrupted")}
	case answered && problem.Code == "", errors.Is(err, client.ErrUnexpected):
		return fmt.Errorf("%s does not answer as a Rollcall does: %w\nIs --url right, with https and the base path, if any?", address, err)
	case answered && problem.Status == http.StatusNotFound:
		return fmt.Errorf("%w\nIs the base path missing in --url?", err)
	case answered && problem.Status == http.StatusUnauthorized:
		return fmt.Errorf("%s does not let you in: %w", address, err)
	case answered:
		return err
	case distrusted:
		return fmt.Errorf("%w\nName the file with the server's CA by --ca-file", err)
	default:
		return fmt.Errorf("%w\nIs the server running, and --url right?", err)
	}
}

// untilInterrupted returns a context that ends with the first Ctrl-C. The second ends the program.
func untilInterrupted(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// kinds are what there is to import and export.
var kinds = []string{directory.KindUsers, directory.KindGroups, directory.KindHosts}

func isKind(text string) bool { return slices.Contains(kinds, text) }

func noKind(text string) error {
	return fmt.Errorf("there is no kind %q: name users, groups or hosts", text)
}
