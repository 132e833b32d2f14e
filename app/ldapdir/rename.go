package ldapdir

import (
	"context"

	"rollcall/app/directory"
)

// Rename implements [directory.Directory].
func (d *Directory) Rename(ctx context.Context, kind *directory.Kind, name, newName string, condition directory.Condition) (directory.Entry, error) {
	return directory.Entry{}, &directory.Error{Code: directory.UnsupportedByDirectory, Detail: "Renaming is not there yet."}
}
