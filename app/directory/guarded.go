package directory

import (
	"context"
	"iter"
	"strings"
)

// Caller is who a request comes from.
type Caller struct {
	// Login is the name that the caller logged in with.
	Login string
	// ID and Name are of the caller's own entry, a user.
	ID, Name string
	// Admin callers may do everything.
	Admin bool
}

type callerKey struct{}

// WithCaller returns a context for requests of the caller.
func WithCaller(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, caller)
}

// CallerFrom returns the caller of a context made by [WithCaller].
func CallerFrom(ctx context.Context) (Caller, bool) {
	caller, ok := ctx.Value(callerKey{}).(Caller)
	return caller, ok
}

// Guarded is a Directory that asks of every request whether its caller may. Admins may do everything; anyone
// else may read their own entry. Without a caller nothing is allowed.
type Guarded struct {
	next Directory
}

// NewGuarded returns a Guarded in front of next.
func NewGuarded(next Directory) *Guarded { return &Guarded{next: next} }

// Get lets admins read anything, and others themselves.
func (g *Guarded) Get(ctx context.Context, kind *Kind, name string) (Entry, error) {
	refused := admin(ctx)
	if refused == nil {
		return g.next.Get(ctx, kind, name)
	}
	caller, ok := CallerFrom(ctx)
	if !ok || kind.Name != KindUsers || !strings.EqualFold(name, caller.Name) {
		return Entry{}, refused
	}
	entry, err := g.next.Get(ctx, kind, name)
	if err != nil {
		return Entry{}, err
	}
	if entry.ID() != caller.ID {
		return Entry{}, refused
	}
	return entry, nil
}

// List is for admins.
func (g *Guarded) List(ctx context.Context, kind *Kind) iter.Seq2[Entry, error] {
	if err := admin(ctx); err != nil {
		return func(yield func(Entry, error) bool) { yield(Entry{}, err) }
	}
	return g.next.List(ctx, kind)
}

// Resolve is for admins.
func (g *Guarded) Resolve(ctx context.Context, reference string) (Entry, error) {
	if err := admin(ctx); err != nil {
		return Entry{}, err
	}
	return g.next.Resolve(ctx, reference)
}

// Create is for admins.
func (g *Guarded) Create(ctx context.Context, kind *Kind, patch Patch) (Entry, error) {
	if err := admin(ctx); err != nil {
		return Entry{}, err
	}
	return g.next.Create(ctx, kind, patch)
}

// Update is for admins.
func (g *Guarded) Update(ctx context.Context, kind *Kind, name string, condition Condition, change Change) (Entry, error) {
	if err := admin(ctx); err != nil {
		return Entry{}, err
	}
	return g.next.Update(ctx, kind, name, condition, change)
}

// AddValue is for admins.
func (g *Guarded) AddValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error {
	if err := admin(ctx); err != nil {
		return err
	}
	return g.next.AddValue(ctx, kind, name, field, value, condition)
}

// RemoveValue is for admins.
func (g *Guarded) RemoveValue(ctx context.Context, kind *Kind, name, field, value string, condition Condition) error {
	if err := admin(ctx); err != nil {
		return err
	}
	return g.next.RemoveValue(ctx, kind, name, field, value, condition)
}

// Delete is for admins.
func (g *Guarded) Delete(ctx context.Context, kind *Kind, name string, condition Condition) error {
	if err := admin(ctx); err != nil {
		return err
	}
	return g.next.Delete(ctx, kind, name, condition)
}

func admin(ctx context.Context) error {
	caller, ok := CallerFrom(ctx)
	switch {
	case !ok:
		return &Error{Code: CredentialsRequired}
	case !caller.Admin:
		return &Error{Code: Forbidden}
	}
	return nil
}
