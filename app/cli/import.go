package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"rollcall/app/client"
)

// importing is one run of the command.
type importing struct {
	connection
	create, stop, dryRun bool
	from                 int
	failedFile           string

	progress  *progress
	size      int64 // of the file, 0 where that is not known
	failed    *os.File
	unwritten error // to it

	lines, created, replaced, unchanged, refused, wereThere, undone int
	// The numbers of lines.
	last, firstRefused int
}

// Import returns the command that sends a file.
func Import() *cobra.Command {
	var i importing
	cmd := &cobra.Command{
		Use:   "import [users|groups|hosts] FILE",
		Short: "Create or replace entries from a file with one JSON object a line (NDJSON)",
		Long: `Create users (or groups, or hosts), or replace them where they are there, from a file with
one JSON object a line, or from standard input where FILE is -. Fields that a line leaves
out go, as by PUT, but for the password, the lock and the memberships.

Lines whose answer was lost are sent again. That changes nothing, but with --create they
may be refused because they were there; that is told apart.
` + connecting + `, 2 when lines were refused.`,
		Example: `  rollcall import --login admin --password-file password users.ndjson
  rollcall export groups | rollcall import groups - --url https://rollcall.example.org`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0 || len(args) == 1 && isKind(args[0]):
				return errors.New("name the file to import, or - for standard input")
			case len(args) == 2 && !isKind(args[0]):
				return noKind(args[0])
			case len(args) > 2:
				return errors.New("name one file to import")
			case i.from < 1:
				return errors.New("--from: lines are counted from 1")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			kind, file := kinds[0], args[len(args)-1]
			if len(args) == 2 {
				kind = args[0]
			}
			return i.run(cmd, kind, file)
		},
	}
	i.addFlags(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&i.create, "create", false, "create only: what is there already is refused, not replaced")
	flags.BoolVar(&i.stop, "stop-on-error", false, "begin no more lines when one was refused")
	flags.BoolVar(&i.dryRun, "dry-run", false, "only say what would become of the lines")
	flags.IntVar(&i.from, "from", 1, "the number of the line to begin with")
	flags.StringVar(&i.failedFile, "failed", "", "a file to write refused lines to, to mend and import again")
	return cmd
}

func (i *importing) run(cmd *cobra.Command, kind, file string) (err error) {
	ctx, stop := untilInterrupted(cmd.Context())
	defer stop()
	input, err := i.openInput(file, cmd.InOrStdin())
	if err != nil {
		return err
	}
	defer input.Close()
	opened, err := i.open(ctx)
	if err != nil {
		return err
	}
	if i.failedFile != "" {
		if err := i.openFailed(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, i.failed.Close()) }()
	}
	i.progress, i.last = newProgress(cmd.ErrOrStderr(), i.quiet), i.from-1
	request := client.Import{
		Client: opened, Path: "/" + kind, Create: i.create, Stop: i.stop, DryRun: i.dryRun,
		RetryFor: i.retryFor, Retrying: i.progress.retrying, Result: i.take,
	}
	err = request.Run(ctx, client.ReadLines(ctx, input, i.from))
	if i.lines > 0 || err == nil {
		i.progress.say("%s, in %v", i, i.progress.took())
	}
	return i.end(ctx, err)
}

// end returns the error that the command ends with.
func (i *importing) end(ctx context.Context, err error) error {
	again := fmt.Sprintf("go on with --from %d", i.last+1)
	switch {
	case i.unwritten != nil:
		return fmt.Errorf("--failed: %w", i.unwritten)
	case err != nil && ctx.Err() != nil:
		return ExitError{exitInterrupted, errors.New("interrupted: " + again)}
	case err != nil && i.lines == 0:
		return err
	case err != nil:
		return fmt.Errorf("%w\nnot finished: %s", err, again)
	case i.refused > 0 && i.stop:
		return ExitError{exitRefused, fmt.Errorf("stopped: mend line %d, then go on with --from %d", i.firstRefused, i.firstRefused)}
	case i.refused > 0:
		return ExitError{exitRefused, fmt.Errorf("refused: %s", counted(i.refused, "line"))}
	case i.wereThere > 0:
		return ExitError{exitRefused, fmt.Errorf("%s may have been there before: look whether the entries are as they should be", counted(i.wereThere, "line"))}
	}
	return nil
}

// take takes the result of a line.
func (i *importing) take(line client.Line, result client.Result) {
	i.lines++
	i.last = line.Number
	refused := func(format string, args ...any) {
		i.progress.say("%s: %s", strings.TrimSpace(fmt.Sprintf("line %d %s", line.Number, result.Name)), fmt.Sprintf(format, args...))
		if i.failed != nil && i.unwritten == nil {
			_, i.unwritten = i.failed.Write(append(line.Text, '\n'))
		}
	}
	switch {
	case i.dryRun && result.Problem == nil && len(result.Changes) == 0:
		i.unchanged++
	case result.Status == http.StatusCreated:
		i.created++
	case result.Problem == nil:
		i.replaced++
	case result.WasThere(line):
		i.wereThere++
		refused("is there, perhaps created just before the connection broke")
	case result.Status == http.StatusFailedDependency:
		i.undone++
	default:
		if i.refused++; i.refused == 1 {
			i.firstRefused = line.Number
		}
		refused("%v", result.Problem)
	}
	i.progress.show(line.End, i.size, i.lines, fmt.Sprintf("lines, %s refused", grouped(i.refused)))
}

// String returns what became of all lines.
func (i *importing) String() string {
	text := fmt.Sprintf("%s: %s created, %s replaced, %s refused", counted(i.lines, "line"), grouped(i.created), grouped(i.replaced), grouped(i.refused))
	if i.dryRun {
		text = "dry run, nothing is changed: " + text + fmt.Sprintf(", %s as they are", grouped(i.unchanged))
	}
	if i.wereThere > 0 {
		text += fmt.Sprintf(", %s there when sent again", grouped(i.wereThere))
	}
	if i.undone > 0 {
		text += fmt.Sprintf(", %s not begun", grouped(i.undone))
	}
	return text
}

// openFailed opens the file for refused lines. What goes on with a line adds to what those before it left there.
func (i *importing) openFailed() (err error) {
	mode := os.O_TRUNC
	if i.from > 1 {
		mode = os.O_APPEND
	}
	i.failed, err = os.OpenFile(i.failedFile, os.O_CREATE|os.O_WRONLY|mode, 0o600)
	return err
}

// openInput opens what is to be imported.
func (i *importing) openInput(name string, stdin io.Reader) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(stdin), nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if failed, err := os.Stat(i.failedFile); err == nil && os.SameFile(info, failed) {
		return nil, errors.Join(errors.New("--failed would overwrite what is to be imported"), file.Close())
	}
	i.size = info.Size() // of what is no file 0
	return file, nil
}
