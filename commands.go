package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/config"
	"rollcall/deploy/openldap"
)

func command() *cobra.Command {
	var file string
	load := func() (*config.Config, error) {
		return config.Load(config.Options{File: file, Environ: slices.DeleteFunc(os.Environ(), isClients)})
	}
	root := &cobra.Command{
		Use:           "rollcall",
		Short:         "A REST API for an LDAP directory of users, groups and hosts",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&file, "config", "", "a configuration file, laid on top of the environment's")
	root.AddCommand(&cobra.Command{
		Use:   "serve",
		Short: "Serve the API until told to stop (ROLLCALL_ENV picks the environment, production if unset)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := load()
			if err != nil {
				return fmt.Errorf("%w:\n%w", errConfiguration, err)
			}
			return run(cmd.Context(), c, cmd.OutOrStdout())
		},
	}, &cobra.Command{
		Use:   "config",
		Short: "Print the effective configuration, and where each value comes from",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, faults := load()
			if err := c.Print(cmd.OutOrStdout()); err != nil || faults != nil {
				return errors.Join(err, faults)
			}
			if c.Embedded.Enabled { // what the private server brings itself
				c.LDAP.URL, c.LDAP.BaseDN = "ldap://127.0.0.1:389", cmp.Or(c.LDAP.BaseDN, openldap.DefaultSuffix)
			}
			d, _, err := openDirectory(c)
			if err != nil {
				return err
			}
			d.Close()
			return nil
		},
	}, &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version) },
	}, healthcheck(load), importing(load), exporting(load))
	return root
}

func healthcheck(load func() (*config.Config, error)) *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "healthcheck",
		Short: "Ask a running server whether it is well; exit 1 when it is not (of server.tls_certificate it trusts that very one)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := reach(load, address)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 5*time.Second)
			defer cancel()
			_, err = c.Call(ctx, http.MethodGet, "/healthz", nil, nil)
			return err
		},
	}
	cmd.Flags().StringVar(&address, "url", "", "where the server is; by default where the configuration says")
	return cmd
}

// reach returns a client of the server at an address, or of the one that is configured.
func reach(load func() (*config.Config, error), address string) (*client.Client, error) {
	if address != "" {
		return &client.Client{URL: address}, nil
	}
	c, err := load()
	if err != nil {
		return nil, err
	}
	reached := &client.Client{URL: localURL(c.Server, c.Server.Listen) + c.Server.BasePath}
	if c.Server.TLSCertificate != "" {
		reached.HTTP, err = client.Trusting(c.Server.TLSCertificate, c.Server.TLSKey)
	}
	return reached, err
}

// The variables that say how to reach a server. They are no configuration of one.
const (
	envURL      = "ROLLCALL_URL"
	envLogin    = "ROLLCALL_LOGIN"
	envPassword = "ROLLCALL_PASSWORD"
	envToken    = "ROLLCALL_TOKEN"
)

func isClients(variable string) bool {
	name, _, _ := strings.Cut(variable, "=")
	return slices.Contains([]string{envURL, envLogin, envPassword, envToken}, name)
}

// The statuses that the program ends with, besides 0 and 1.
const (
	exitRefused     = 2
	exitInterrupted = 130
)

// exitError is an error with a status to end with.
type exitError struct {
	status int
	error
}

// Unwrap returns the error.
func (e exitError) Unwrap() error { return e.error }

const exitStatuses = `
Exit status: 0 when all is done, 1 when it could not be begun or finished, 130 when
it was interrupted`

// login is how a command reaches a server, and as whom.
type login struct {
	url, caFile, name, passwordFile string
	retryFor                        time.Duration
	quiet                           bool
}

func (l *login) addFlags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&l.url, "url", os.Getenv(envURL), "where the server is ($ROLLCALL_URL); by default where the configuration says")
	flags.StringVar(&l.caFile, "ca-file", "", "a PEM file with CAs to trust besides the system's")
	flags.StringVar(&l.name, "login", os.Getenv(envLogin), "whom to log in as ($ROLLCALL_LOGIN)")
	flags.StringVar(&l.passwordFile, "password-file", "", "a file with the password; otherwise it is in $ROLLCALL_PASSWORD, or a token in $ROLLCALL_TOKEN")
	flags.DurationVar(&l.retryFor, "retry-for", 5*time.Minute, "how long to try again when the server or its directory is away")
	flags.BoolVar(&l.quiet, "quiet", false, "print failures and the summary, and nothing else")
}

// client returns a client that is logged in.
func (l *login) client(load func() (*config.Config, error)) (*client.Client, error) {
	c, err := reach(load, l.url)
	if err != nil {
		return nil, err
	}
	if address, err := url.Parse(c.URL); err != nil || address.Scheme != "http" && address.Scheme != "https" || address.Host == "" {
		return nil, fmt.Errorf("%q is no address of a server, such as https://rollcall.example.org/api", c.URL)
	}
	if l.caFile != "" {
		if c.HTTP, err = client.TrustingCAs(l.caFile); err != nil {
			return nil, err
		}
	}
	c.Login, c.Password = l.name, os.Getenv(envPassword)
	if l.passwordFile != "" {
		text, err := os.ReadFile(l.passwordFile)
		if err != nil {
			return nil, err
		}
		c.Password = strings.TrimRight(string(text), "\r\n")
	}
	if l.name == "" {
		c.Token = os.Getenv(envToken)
	}
	if c.Token == "" && (c.Login == "" || c.Password == "") {
		return nil, fmt.Errorf("who are you? Give --login and --password-file, or set %s and %s, or %s", envLogin, envPassword, envToken)
	}
	return c, nil
}

// status is the line on a terminal that says how far a command has come, and what is said meanwhile.
type status struct {
	out             io.Writer
	terminal, quiet bool
	begun, shown    time.Time
}

func newStatus(out io.Writer, quiet bool) *status {
	s := &status{out: out, quiet: quiet, begun: time.Now()}
	if file, ok := out.(*os.File); ok {
		info, err := file.Stat()
		s.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return s
}

// show shows how far it has come, on a terminal and now and then.
func (s *status) show(format string, args ...any) {
	if s.terminal && !s.quiet && time.Since(s.shown) > 200*time.Millisecond {
		s.shown = time.Now()
		fmt.Fprintf(s.out, "\r\033[K"+format, args...)
	}
}

// say prints a line.
func (s *status) say(format string, args ...any) {
	if s.terminal && !s.quiet {
		format = "\r\033[K" + format
	}
	fmt.Fprintf(s.out, format+"\n", args...)
}

func (s *status) retrying(err error, wait time.Duration) {
	if !s.quiet {
		s.say("%v; trying again in %v", err, wait)
	}
}

// took is how long it has taken, for people.
func (s *status) took() time.Duration {
	took := time.Since(s.begun)
	if took < 10*time.Second {
		return took.Round(10 * time.Millisecond)
	}
	return took.Round(time.Second)
}

func (s *status) rate(n int) string {
	return grouped(int(float64(n)/time.Since(s.begun).Seconds())) + "/s"
}

// grouped writes a number as people read it: 50,000.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// kindAnd returns the kind that a command's arguments name, users where they name none, and what is left of them.
func kindAnd(args []string) (kind string, rest []string) {
	if len(args) > 0 && slices.Contains([]string{directory.KindUsers, directory.KindGroups, directory.KindHosts}, args[0]) {
		return args[0], args[1:]
	}
	return directory.KindUsers, args
}

func importing(load func() (*config.Config, error)) *cobra.Command {
	var l login
	var create, stop bool
	var from int
	var failedFile string
	cmd := &cobra.Command{
		Use:   "import [users|groups|hosts] FILE",
		Short: "Create or replace entries from a file with one JSON object a line (NDJSON)",
		Long: `Create or replace users (or groups, or hosts) through a server's API, from a file with
one JSON object a line, or from standard input where FILE is -.

When a connection breaks, or the server or its directory is away for a while, it goes on
by itself with the first line that has no answer. Lines may so be sent twice, which changes
nothing; with --create the second is refused, because the entry is there already.
` + exitStatuses + `, and 2 when lines were refused.`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, args := kindAnd(args)
			if len(args) != 1 {
				return errors.New("name one file to import, or - for standard input")
			}
			if from < 1 {
				return errors.New("lines are counted from 1")
			}
			c, err := l.client(load)
			if err != nil {
				return err
			}
			input, size, err := openInput(args[0], cmd.InOrStdin(), failedFile)
			if err != nil {
				return err
			}
			defer input.Close()
			status := newStatus(cmd.ErrOrStderr(), l.quiet)
			t := &tally{last: from - 1}
			if failedFile != "" {
				mode := os.O_TRUNC
				if from > 1 {
					mode = os.O_APPEND
				}
				if t.failed, err = os.OpenFile(failedFile, os.O_CREATE|os.O_WRONLY|mode, 0o600); err != nil {
					return err
				}
				defer t.failed.Close()
			}
			ctx, cancel := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer cancel()
			lines, unread := client.ReadLines(ctx, input, from)
			i := &client.Import{
				Client: c, Path: "/" + kind, Create: create, Stop: stop, RetryFor: l.retryFor, Retrying: status.retrying,
				Result: func(line client.Line, result client.Result) {
					t.count(status, line, result)
					status.show("%s, %s, %s refused", progressOf(line, t.lines, size), status.rate(t.lines), grouped(t.refused))
				},
			}
			err = i.Run(ctx, lines)
			if err == nil {
				err = unread()
			}
			status.say("%s, in %v", t, status.took())
			again := fmt.Sprintf("go on with --from %d", t.last+1)
			switch {
			case t.unwritten != nil:
				return fmt.Errorf("%s: %w", failedFile, t.unwritten)
			case ctx.Err() != nil:
				return exitError{exitInterrupted, errors.New("interrupted: " + again)}
			case err != nil:
				return fmt.Errorf("%w\nnot finished: %s", err, again)
			case t.refused > 0 && stop:
				return exitError{exitRefused, fmt.Errorf("stopped: mend line %d, then go on with --from %d", t.firstRefused, t.firstRefused)}
			case t.refused > 0:
				return exitError{exitRefused, fmt.Errorf("%s lines were refused", grouped(t.refused))}
			}
			return nil
		},
	}
	l.addFlags(cmd)
	cmd.Flags().BoolVar(&create, "create", false, "create only: what is there already is refused, not replaced")
	cmd.Flags().BoolVar(&stop, "stop-on-error", false, "begin no more lines when one was refused")
	cmd.Flags().IntVar(&from, "from", 1, "the number of the line to begin with")
	cmd.Flags().StringVar(&failedFile, "failed", "", "a file to write refused lines to, to mend and import again")
	return cmd
}

// openInput opens what is to be imported, and returns its size, 0 where that is not known.
func openInput(name string, stdin io.Reader, failedFile string) (io.ReadCloser, int64, error) {
	if name == "-" {
		return io.NopCloser(stdin), 0, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	if failed, err := os.Stat(failedFile); err == nil && os.SameFile(info, failed) {
		return nil, 0, errors.Join(errors.New("--failed would overwrite what is to be imported"), file.Close())
	}
	return file, info.Size(), nil
}

func progressOf(line client.Line, lines int, size int64) string {
	if size == 0 {
		return grouped(lines) + " lines"
	}
	return fmt.Sprintf("%s lines, %d%%", grouped(lines), line.End*100/size)
}

// tally is what became of the lines of an import.
type tally struct {
	lines, created, replaced, refused, unbegun int
	last, firstRefused                         int // numbers of lines
	failed                                     *os.File
	unwritten                                  error // to it
}

func (t *tally) count(status *status, line client.Line, result client.Result) {
	t.lines++
	t.last = line.Number
	switch {
	case result.Status == http.StatusCreated:
		t.created++
	case result.Problem == nil:
		t.replaced++
	case result.Status == http.StatusFailedDependency:
		t.unbegun++
	default:
		if t.refused++; t.refused == 1 {
			t.firstRefused = line.Number
		}
		status.say("line %d %s: %v", line.Number, result.Name, result.Problem)
		if t.failed != nil && t.unwritten == nil {
			_, t.unwritten = t.failed.Write(append(line.Text, '\n'))
		}
	}
}

// String returns the tally as a summary.
func (t *tally) String() string {
	text := grouped(t.lines) + " lines"
	if t.lines == 1 {
		text = "1 line"
	}
	text += fmt.Sprintf(": %s created, %s replaced, %s refused", grouped(t.created), grouped(t.replaced), grouped(t.refused))
	if t.unbegun > 0 {
		text += fmt.Sprintf(", %s not begun", grouped(t.unbegun))
	}
	return text
}

// exportFormats are the media types of the formats to export, and what begins an entry in each but CSV.
var exportFormats = map[string]string{"ndjson": "application/x-ndjson", "csv": "text/csv", "ldif": "text/ldif"}

// notImported are the fields that a creation can't be given.
const notImported = "-dn,-id,-createdAt,-updatedAt,-memberOfs"

func exporting(load func() (*config.Config, error)) *cobra.Command {
	var l login
	var format, fields string
	var all bool
	query := url.Values{}
	cmd := &cobra.Command{
		Use:   "export [users|groups|hosts] [FILE]",
		Short: "Write entries to a file, or to standard output",
		Long: `Write users (or groups, or hosts) from a server's API to a file, which is there when it is
whole and not before, or to standard output.

NDJSON is written so that import takes it; --all adds what the directory sets by itself.
` + exitStatuses + ".",
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, args := kindAnd(args)
			mediaType, known := exportFormats[format]
			switch {
			case len(args) > 1:
				return errors.New("name one file to export to, or none for standard output")
			case !known:
				return fmt.Errorf("there is no format %q: take ndjson, csv or ldif", format)
			case fields != "" && all:
				return errors.New("--fields and --all exclude each other")
			case fields != "":
				query.Set("fields", fields)
			case !all && format == "ndjson":
				query.Set("fields", notImported)
			}
			for name, values := range query {
				if values[0] == "" {
					delete(query, name)
				}
			}
			c, err := l.client(load)
			if err != nil {
				return err
			}
			ctx, cancel := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer cancel()
			status := newStatus(cmd.ErrOrStderr(), l.quiet)
			entries := 0
			write := func(out io.Writer) error {
				e := &client.Export{
					Client: c, Path: "/" + kind, Accept: mediaType, Query: query, RetryFor: l.retryFor, Retrying: status.retrying,
					Page: func(page []byte, total int) error {
						entries += entriesOn(page, format, entries == 0)
						status.show("%s of %s, %s", grouped(entries), grouped(total), status.rate(entries))
						_, err := out.Write(page)
						return err
					},
				}
				return e.Run(ctx)
			}
			if len(args) == 0 {
				err = write(cmd.OutOrStdout())
			} else {
				err = writeWhole(args[0], write)
			}
			if err != nil && ctx.Err() != nil {
				return exitError{exitInterrupted, errors.New("interrupted")}
			}
			if err == nil {
				status.say("%s %s exported, in %v", grouped(entries), kind, status.took())
			}
			return err
		},
	}
	l.addFlags(cmd)
	cmd.Flags().StringVar(&format, "format", "ndjson", "ndjson, csv or ldif")
	cmd.Flags().StringVar(&fields, "fields", "", "the fields to write, such as cn,mail, or all but some: -id")
	cmd.Flags().BoolVar(&all, "all", false, "write all fields, also those that import does not take")
	for name, usage := range map[string]string{
		"filter": `a filter (RFC 7644 §3.4.2.2), such as title eq "Engineer"`, "search": "words that a name holds", "sort": "an order, such as sn,-cn",
	} {
		query[name] = []string{""}
		cmd.Flags().StringVar(&query[name][0], name, "", usage)
	}
	return cmd
}

// entriesOn counts the entries on a page.
func entriesOn(page []byte, format string, first bool) int {
	switch format {
	case "ldif":
		return bytes.Count(append([]byte("\n"), page...), []byte("\ndn:"))
	case "csv":
		rows, _ := csv.NewReader(bytes.NewReader(page)).ReadAll() // as far as it is CSV
		if first && len(rows) > 0 {
			return len(rows) - 1
		}
		return len(rows)
	}
	return bytes.Count(page, []byte("\n"))
}

// writeWhole writes a file that is there when it is whole, and not before.
func writeWhole(name string, write func(io.Writer) error) error {
	part := name + ".part"
	file, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, name)
}
