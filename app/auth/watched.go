package auth

import (
	"context"
	"errors"
	"slices"

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

// Rename notices a user or group of another name.
func (w *Watched) Rename(ctx context.Context, kind *directory.Kind, name, newName string, condition directory.Condition) (directory.Entry, error) {
	entry, err := w.Directory.Rename(ctx, kind, name, newName, condition)
	if kind.Name != directory.KindHosts {
		w.authenticator.readAgain("")
	}
	return entry, err
}

// Delete notices a user or group that is gone.
func (w *Watched) Delete(ctx context.Context, kind *directory.Kind, name string, condition directory.Condition) error {
	err := w.Directory.Delete(ctx, kind, name, condition)
	if kind.Name != directory.KindHosts {
		w.authenticator.readAgain("")
	}
	return err
}

// ChangePassword counts wrong current passwords as failed logins, and notices a changed user.
func (w *Watched) ChangePassword(ctx context.Context, kind *directory.Kind, name string, change directory.PasswordChange) (directory.Entry, error) {
	entry, err := w.changePassword(ctx, kind, name, change)
	switch {
	case err == nil:
		w.authenticator.forget(entry.ID())
	case directory.Is(err, directory.OutcomeUnknown):
		w.authenticator.forget("")
	}
	return entry, err
}

func (w *Watched) changePassword(ctx context.Context, kind *directory.Kind, name string, change directory.PasswordChange) (directory.Entry, error) {
	caller, ok := directory.CallerFrom(ctx)
	if !ok || change.Current == "" {
		return w.Directory.ChangePassword(ctx, kind, name, change)
	}
	attempt, err := w.authenticator.limits.begin(caller.ID, caller.Address)
	if err != nil {
		return directory.Entry{}, err
	}
	defer attempt.dropped() // unless it has ended otherwise
	entry, err := w.Directory.ChangePassword(ctx, kind, name, change)
	switch refused, _ := errors.AsType[*directory.Error](err); {
	case err == nil, directory.Is(err, directory.PasswordRefused):
		attempt.succeeded()
	case directory.Is(err, directory.Invalid) && slices.ContainsFunc(refused.Violations, func(v directory.Violation) bool {
		return v.Field == directory.FieldCurrentPassword
	}):
		attempt.failed()
		w.authenticator.readAgain(caller.ID) // that may have locked it
	}
	return entry, err
}
