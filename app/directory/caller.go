package directory

import (
	"context"
	"slices"
)

// Role is what a caller may do, by the table of [Rules].
type Role string

// The roles, from the strongest to the one that everybody has.
const (
	RoleAdmin    Role = "admin"
	RoleOperator Role = "operator"
	RoleReader   Role = "reader"
	RoleSelf     Role = "self"
)

// Roles are all roles, the strongest first.
var Roles = []Role{RoleAdmin, RoleOperator, RoleReader, RoleSelf}

// Caller is who a request comes from.
type Caller struct {
	// Login is the name that the caller logged in with.
	Login string
	// ID, Name and DN are of the caller's own entry, a user.
	ID, Name, DN string
	// Roles are the caller's, [RoleSelf] left out.
	Roles []Role
	// Groups are the DNs of the groups that the caller is in, directly or through others.
	Groups []string
	// MustChange tells that the password is good for nothing but setting a new one.
	MustChange bool
	// Guest tells that the caller is no user: what it asks for is done as the service.
	Guest bool
	// Session is the id of the session that the caller's token belongs to; "" where there is none.
	Session string
	// Address is where the request comes from, RequestID what it is called in the log.
	Address, RequestID string
}

// Has reports whether the caller has a role.
func (c Caller) Has(role Role) bool { return role == RoleSelf || slices.Contains(c.Roles, role) }

type callerKey struct{}

// WithCaller returns a context for requests of the caller.
func WithCaller(ctx context.Context, caller Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, &caller)
}

// AsService returns a context for what the service does of its own accord, whoever made it do so.
func AsService(ctx context.Context) context.Context {
	return context.WithValue(ctx, callerKey{}, (*Caller)(nil))
}

// CallerFrom returns the caller of a context made by [WithCaller].
func CallerFrom(ctx context.Context) (Caller, bool) {
	if caller, _ := ctx.Value(callerKey{}).(*Caller); caller != nil {
		return *caller, true
	}
	return Caller{}, false
}
