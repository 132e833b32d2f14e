package directory

import (
	"context"
	"slices"
	"time"
)

// Verdicts are those on an entry with each of another kind that shares a group with it, to be read page by page.
type Verdicts struct {
	reach *Reach
	// one is the entry, above are the groups that it is in.
	one   Entry
	above Reached
	// other is the kind of the others, query is for their next page.
	other *Kind
	query Query
	more  bool
	// allowed leaves out those who may not log in.
	allowed bool
	now     time.Time
}

// mostGroups is how many groups one search asks for the members of. Where there are more, everybody is looked at.
const mostGroups = 200

// atOnce is how many entries are read at a time where all are wanted.
const atOnce = 1000

// UsersOf returns the verdicts on the users who share a group with a host, or only those who may log in to it.
// Errors: not-found, forbidden, unsupported-by-directory.
func (r *Reach) UsersOf(ctx context.Context, host string, allowed bool) (*Verdicts, error) {
	v, err := r.verdicts(ctx, r.hosts, host, r.users, allowed)
	if err != nil {
		return nil, err
	}
	v.among(v.above.nesting.Below(slices.Concat(v.above.DNs(), r.rules.Everywhere)...))
	return v, nil
}

// HostsOf returns the verdicts on the hosts that share a group with a user, or only those that let the user in.
// Errors: not-found, forbidden, unsupported-by-directory.
func (r *Reach) HostsOf(ctx context.Context, user string, allowed bool) (*Verdicts, error) {
	v, err := r.verdicts(ctx, r.users, user, r.hosts, allowed)
	if err == nil && !r.everywhere(v.above) {
		v.among(v.above.nesting.Below(v.above.DNs()...))
	}
	return v, err
}

func (r *Reach) verdicts(ctx context.Context, kind *Kind, name string, other *Kind, allowed bool) (*Verdicts, error) {
	if err := r.mayReadAll(ctx); err != nil {
		return nil, err
	}
	one, err := r.directory.Get(ctx, kind, name)
	if err != nil {
		return nil, err
	}
	groups, err := r.standings.Nesting(ctx)
	if err != nil {
		return nil, err
	}
	return &Verdicts{reach: r, one: one, above: groups.Above(one.Values(FieldMemberOfs)...), other: other,
		query: Query{Limit: atOnce}, more: true, allowed: allowed, now: time.Now()}, nil
}

// among looks for the others in some groups only.
func (v *Verdicts) among(groups Reached) {
	switch dns := groups.DNs(); {
	case len(dns) == 0:
		v.more = false
	case len(dns) <= mostGroups:
		v.query.Filter = anyOf(FieldMemberOfs, dns)
	default:
		v.query.Filter = Filter{Operator: Present, Field: FieldMemberOfs}
	}
}

// Next returns the next of the others, and whether there may be more. Errors: as of [Directory.Page], forbidden.
func (v *Verdicts) Next(ctx context.Context) (page Page, more bool, err error) {
	if err := v.reach.mayReadAll(ctx); err != nil || !v.more {
		return Page{}, false, err
	}
	if page, err = v.reach.directory.Page(ctx, v.other, v.query); err != nil {
		return Page{}, false, err
	}
	v.query.After, v.more = page.Next, page.Next != nil
	page.Entries = slices.DeleteFunc(page.Entries, func(other Entry) bool {
		verdict := v.On(other)
		return verdict.Shared == nil || v.allowed && !verdict.Allowed
	})
	return page, v.more, nil
}

// On returns the verdict on one of the others.
func (v *Verdicts) On(other Entry) Verdict {
	above := v.above.nesting.Above(other.Values(FieldMemberOfs)...)
	if v.other == v.reach.users {
		return v.reach.judge(other, v.one, above, v.above, v.now)
	}
	return v.reach.judge(v.one, other, v.above, above, v.now)
}
