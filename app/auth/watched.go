package auth

import (
	"context"

	"rollcall/app/directory"
)

// Watched is a Directory that makes an Authenticator notice at once what is changed through it.
type Watched struct {
	directory.Directory
	authenticator *Authenticator
}

// Watch returns a Watched in front of next.
func (a *Authenticator) Watch(next directory.Directory) *Watched {
	return &Watched{Directory: next, authenticator: a}
}

// Create notices a new group, which may be the admin group.
func (w *Watched) Create(ctx context.Context, kind *directory.Kind, patch directory.Patch) (directory.Entry, error) {
	entry, err := w.Directory.Create(ctx, kind, patch)
	if kind.Name == directory.KindGroups {
		w.authenticator.readAgain("")
	}
	return entry, err
}

// Update notices a changed user, and changed members.
func (w *Watched) Update(ctx context.Context, kind *directory.Kind, name string, condition directory.Condition, change directory.Change) (directory.Entry, error) {
	entry, err := w.Directory.Update(ctx, kind, name, condition, change)
	switch {
	case kind.Name == directory.KindUsers && err == nil:
		w.authenticator.forget(entry.ID())
	case kind.Name == directory.KindUsers && directory.Is(err, directory.OutcomeUnknown):
		w.authenticator.forget("")
	case kind.Name == directory.KindGroups:
		w.authenticator.readAgain("")
	}
	return entry, err
}

// AddValue notices a new member.
func (w *Watched) AddValue(ctx context.Context, kind *directory.Kind, name, field, value string, condition directory.Condition) error {
	err := w.Directory.AddValue(ctx, kind, name, field, value, condition)
	if kind.Name == directory.KindGroups {
		w.authenticator.readAgain("")
	}
	return err
}

// RemoveValue notices a lost member.
func (w *Watched) RemoveValue(ctx context.Context, kind *directory.Kind, name, field, value string, condition directory.Condition) error {
	err := w.Directory.RemoveValue(ctx, kind, name, field, value, condition)
	if kind.Name == directory.KindGroups {
		w.authenticator.readAgain("")
	}
	return err
}

// Delete notices a user or group that is gone.
func (w *Watched) Delete(ctx context.Context, kind *directory.Kind, name string, condition directory.Condition) error {
	err := w.Directory.Delete(ctx, kind, name, condition)
	if kind.Name != directory.KindHosts {
		w.authenticator.readAgain("")
	}
	return err
}
