package directory

import (
	"context"
	"slices"
)

// Action is what a caller wants to do with entries of a kind.
type Action string

// The actions.
const (
	ActionRead           Action = "read"
	ActionList           Action = "list"
	ActionCreate         Action = "create"
	ActionChange         Action = "change"
	ActionRename         Action = "rename"
	ActionDelete         Action = "delete"
	ActionSetPassword    Action = "set-password"
	ActionChangePassword Action = "change-password"
	ActionSetToken       Action = "set-token"
)

// Extent is how far a role may go with an action. Later ones go further.
type Extent int

// The extents.
const (
	Nothing Extent = iota
	Own
	Joined
	Ordinary
	All
)

// String returns the extent in words.
func (e Extent) String() string {
	return [...]string{"nothing", "own", "joined", "ordinary", "all"}[e]
}

// Describe says in a sentence what the extent covers.
func (e Extent) Describe() string {
	return [...]string{
		"Nothing.",
		"One's own entry, and of it the fields in auth.own_fields when it is changed.",
		"The groups that one is in, directly or through others, without their members.",
		"Everything but the protected entries, the groups of posix.local_groups, and, with the groups in them, the admin group and those that let in everywhere; of admins, and of whoever may log in on every host, neither what they log in with nor their deletion.",
		"Everything.",
	}[e]
}

// Rule is one row of the table of access: how far each role may go with an action on entries of a kind.
type Rule struct {
	Action                        Action
	Kind                          string
	Admin, Operator, Reader, Self Extent
}

// rules is the table. What it does not name, nobody may.
var rules = []Rule{
	// action, kind, and how far go: admin, operator, reader, everybody
	{ActionRead, KindUsers, All, All, All, Own},
	{ActionRead, KindGroups, All, All, All, Joined},
	{ActionRead, KindHosts, All, All, All, Nothing},
	{ActionList, KindUsers, All, All, All, Nothing},
	{ActionList, KindGroups, All, All, All, Joined},
	{ActionList, KindHosts, All, All, All, Nothing},
	{ActionCreate, KindUsers, All, Ordinary, Nothing, Nothing},
	{ActionCreate, KindGroups, All, Ordinary, Nothing, Nothing},
	{ActionCreate, KindHosts, All, Ordinary, Nothing, Nothing},
	{ActionChange, KindUsers, All, Ordinary, Nothing, Own},
	{ActionChange, KindGroups, All, Ordinary, Nothing, Nothing},
	{ActionChange, KindHosts, All, Ordinary, Nothing, Nothing},
	{ActionRename, KindUsers, All, Ordinary, Nothing, Nothing},
	{ActionRename, KindGroups, All, Ordinary, Nothing, Nothing},
	{ActionRename, KindHosts, All, Ordinary, Nothing, Nothing},
	{ActionDelete, KindUsers, All, Ordinary, Nothing, Nothing},
	{ActionDelete, KindGroups, All, Ordinary, Nothing, Nothing},
	{ActionDelete, KindHosts, All, Ordinary, Nothing, Nothing},
	{ActionSetPassword, KindUsers, All, Ordinary, Nothing, Nothing},
	{ActionChangePassword, KindUsers, Own, Own, Own, Own},
	{ActionSetToken, KindHosts, All, Ordinary, Nothing, Nothing},
}

// Rules returns the table of access.
func Rules() []Rule { return slices.Clone(rules) }

// Extent returns how far a role goes.
func (r Rule) Extent(role Role) Extent {
	switch role {
	case RoleAdmin:
		return r.Admin
	case RoleOperator:
		return r.Operator
	case RoleReader:
		return r.Reader
	case RoleSelf:
		return r.Self
	}
	return Nothing
}

// Permission is how far a caller may go with an action on entries of a kind.
type Permission struct {
	Action Action
	Kind   string
	Extent Extent
}

// Permissions returns what a caller may do, by the table.
func Permissions(caller Caller) []Permission {
	var all []Permission
	for _, rule := range rules {
		if extents := rule.extents(caller); len(extents) > 0 {
			all = append(all, Permission{rule.Action, rule.Kind, extents[0]})
		}
	}
	return all
}

// extents returns how far the caller's roles go, the furthest first.
func (r Rule) extents(caller Caller) []Extent {
	var all []Extent
	for _, role := range Roles {
		if extent := r.Extent(role); caller.Has(role) && extent != Nothing && !slices.Contains(all, extent) {
			all = append(all, extent)
		}
	}
	slices.SortFunc(all, func(a, b Extent) int { return int(b - a) })
	return all
}

// allowedAll reports, as an error, that the context's caller may not go as far as everything with an action on entries
// of a kind.
func allowedAll(ctx context.Context, action Action, kind *Kind) error {
	_, extents, err := allowed(ctx, action, kind)
	if err == nil && extents[0] != All {
		err = &Error{Code: Forbidden}
	}
	return err
}

// allowed returns the context's caller and how far it may go with an action, the furthest first; or why not at all.
func allowed(ctx context.Context, action Action, kind *Kind) (Caller, []Extent, error) {
	caller, ok := CallerFrom(ctx)
	if !ok {
		return caller, nil, &Error{Code: CredentialsRequired}
	}
	if caller.MustChange && action != ActionChangePassword {
		return caller, nil, &Error{Code: PasswordMustChange}
	}
	for _, rule := range rules {
		if rule.Action == action && rule.Kind == kind.Name {
			if extents := rule.extents(caller); len(extents) > 0 {
				return caller, extents, nil
			}
		}
	}
	return caller, nil, &Error{Code: Forbidden}
}
