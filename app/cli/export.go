package cli

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"rollcall/app/client"
)

// format is how entries are written, and how many of them are on a page.
type format struct {
	mediaType string
	count     func(page []byte, first bool) int
}

var formats = map[string]format{
	"ndjson": {"application/x-ndjson", func(page []byte, _ bool) int { return bytes.Count(page, []byte("\n")) }},
	"ldif":   {"text/ldif", func(page []byte, _ bool) int { return bytes.Count(append([]byte("\n"), page...), []byte("\ndn:")) }},
	"csv": {"text/csv", func(page []byte, first bool) int {
		rows, _ := csv.NewReader(bytes.NewReader(page)).ReadAll() // as far as it is CSV
		if first && len(rows) > 0 {
			return len(rows) - 1
		}
		return len(rows)
	}},
}

// notImported are the fields that the directory sets by itself, or through groups.
const notImported = "-dn,-id,-createdAt,-updatedAt,-memberOfs"

// exporting is one run of the command.
type exporting struct {
	connection
	format, output, filter, search, fields, sort string
	all                                          bool
}

// Export returns the command that writes a file.
func Export() *cobra.Command {
	var e exporting
	cmd := &cobra.Command{
		Use:   "export [users|groups|hosts]",
		Short: "Write entries to a file, or to standard output",
		Long: `Write users (or groups, or hosts) to standard output, or to a file: it is there when it is
whole, and not before, and only its owner can read it. Passwords are never written.

NDJSON has the fields that import takes; --all adds those that the directory sets by itself
and the memberships. CSV and LDIF are as the API's.
` + connecting + ".",
		Example: `  rollcall export --login admin --password-file password -o users.ndjson
  rollcall export users --format csv --filter 'title eq "Engineer"' --sort sn`,
		Args: func(_ *cobra.Command, args []string) error {
			_, known := formats[e.format]
			switch {
			case len(args) > 1:
				return errors.New("name one kind; the file to write is --output")
			case len(args) == 1 && !isKind(args[0]):
				return fmt.Errorf("%w; the file to write is --output", noKind(args[0]))
			case !known:
				return fmt.Errorf("there is no format %q: take ndjson, csv or ldif", e.format)
			case e.fields != "" && e.all:
				return errors.New("--fields and --all exclude each other")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return e.run(cmd, append(args, kinds[0])[0])
		},
	}
	e.addFlags(cmd)
	flags := cmd.Flags()
	flags.StringVar(&e.format, "format", "ndjson", "ndjson, csv or ldif")
	flags.StringVarP(&e.output, "output", "o", "", "the file to write; standard output when left out")
	flags.StringVar(&e.filter, "filter", "", `a filter (RFC 7644 §3.4.2.2), such as title eq "Engineer"`)
	flags.StringVar(&e.search, "search", "", "words that begin a name")
	flags.StringVar(&e.fields, "fields", "", "the fields to write, such as cn,mail, or all but some: -id")
	flags.StringVar(&e.sort, "sort", "", "an order, such as sn,-cn")
	flags.BoolVar(&e.all, "all", false, "write all fields, also those that import does not take")
	return cmd
}

func (e *exporting) run(cmd *cobra.Command, kind string) error {
	ctx, stop := untilInterrupted(cmd.Context())
	defer stop()
	opened, err := e.open(ctx)
	if err != nil {
		return err
	}
	progress := newProgress(cmd.ErrOrStderr(), e.quiet)
	if e.output == "" && isTerminal(cmd.OutOrStdout()) { // it would be among the entries
		progress.shows = false
	}
	format, entries := formats[e.format], 0
	write := func(out io.Writer) error {
		request := client.Export{
			Client: opened, Path: "/" + kind, Accept: format.mediaType, Query: e.query(), Count: progress.shows,
			RetryFor: e.retryFor, Retrying: progress.retrying,
			Page: func(page []byte, total int) error {
				entries += format.count(page, entries == 0)
				progress.show(int64(entries), int64(total), entries, kind)
				_, err := out.Write(page)
				return err
			},
		}
		return request.Run(ctx)
	}
	if e.output == "" {
		err = write(cmd.OutOrStdout())
	} else {
		err = writeWhole(e.output, write)
	}
	switch {
	case err == nil:
		progress.say("%s exported, in %v", counted(entries, kind[:len(kind)-1]), progress.took())
		return nil
	case ctx.Err() != nil:
		err = ExitError{exitInterrupted, errors.New("interrupted")}
	}
	switch {
	case entries == 0:
		return err
	case e.output == "":
		return fmt.Errorf("%w\nnot finished: what was written is not all", err)
	}
	return fmt.Errorf("%w\nnot finished: %s was not written", err, e.output)
}

// query returns the parameters of the list.
func (e *exporting) query() url.Values {
	fields := e.fields
	if fields == "" && !e.all && e.format == "ndjson" {
		fields = notImported
	}
	query := url.Values{}
	for name, value := range map[string]string{"filter": e.filter, "search": e.search, "fields": fields, "sort": e.sort} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return query
}

// writeWhole writes a file that is there when it is whole, and not before. What is no file, such as a pipe, is
// written to.
func writeWhole(name string, write func(io.Writer) error) error {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		file, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(file), file.Close())
	}
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*.part")
	if err != nil {
		return err
	}
	err = write(file)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}
