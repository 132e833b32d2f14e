package directory

import (
	"context"
	"slices"
)

// Paths finds out which groups entries are in, who is in groups, and through which other groups. Callers learn of no group
// that a guarded Directory does not show them, nor of anything by way of it.
type Paths struct {
	guarded, unguarded Directory
	standings          Standings
	groups             *Kind
}

// NewPaths returns the Paths that a guarded Directory shows. Members are looked for in an unguarded one: the rules in
// between look up each group that a filter names.
func NewPaths(guarded, unguarded Directory, standings Standings, groups *Kind) *Paths {
	return &Paths{guarded: guarded, unguarded: unguarded, standings: standings, groups: groups}
}

// Membership is that an entry is in a group.
type Membership struct {
	// Name and DN are of the group that an entry is in, or of the member of a group.
	Name, DN string
	Direct   bool
	// Path are the names of the groups by which it holds, a shortest way: from the one that the entry is a direct member
	// of up to the group; or, of a group's member, from below the group down to the one that has it as a direct member.
	Path []string
}

// GroupsOf returns the groups that an entry is in, the nearest first: the direct ones, or those above them too. No entry
// is in itself. Errors: as of [Directory.Get], unsupported-by-directory.
func (p *Paths) GroupsOf(ctx context.Context, kind *Kind, name string, deep bool) ([]Membership, error) {
	entry, err := p.guarded.Get(ctx, kind, name)
	if err != nil {
		return nil, err
	}
	nesting, err := p.standings.Nesting(ctx)
	if err != nil {
		return nil, err
	}
	above := nesting.Above(entry.Values(FieldMemberOfs)...)
	if !deep {
		above.groups = slices.DeleteFunc(above.groups, func(g *nested) bool { return above.ways[g].from != nil })
	}
	names, err := p.names(ctx, above)
	if err != nil {
		return nil, err
	}
	var all []Membership
	itself := nesting.at(entry.DN())
	for _, group := range above.groups {
		if path := names.path(above, group); path != nil && group != itself {
			all = append(all, Membership{Name: names[group], DN: group.dn, Direct: len(path) == 1, Path: path})
		}
	}
	return all, nil
}

// shownNames are the names of groups that the caller may see.
type shownNames map[*nested]string

// mostNamed is how many groups one search asks for.
const mostNamed = 500

// names returns the names of groups, as far as the caller may see them.
func (p *Paths) names(ctx context.Context, reached Reached) (shownNames, error) {
	names := make(shownNames, len(reached.groups))
	for dns := range slices.Chunk(reached.DNs(), mostNamed) {
		query := Query{Filter: anyOf(FieldDN, dns), Fields: []string{FieldDN, p.groups.Key}, Limit: mostNamed}
		for group, err := range Each(ctx, p.guarded, p.groups, query) {
			if err != nil {
				return nil, err
			}
			if at := reached.nesting.at(group.DN()); at != nil {
				names[at] = group.Name()
			}
		}
	}
	return names, nil
}

// path returns the names on the way to a group, nil where not all of them may be seen.
func (names shownNames) path(reached Reached, group *nested) []string {
	var path []string
	for ; group != nil; group = reached.ways[group].from {
		name, ok := names[group]
		if !ok {
			return nil
		}
		path = append(path, name)
	}
	slices.Reverse(path)
	return path
}

// Members are those who are in a group, to be read page by page, by one search for each kind.
type Members struct {
	unguarded Directory
	reached   Reached
	names     shownNames
	// places are those in which the groups were reached: the nearest first.
	places map[*nested]int
	// kinds are those that are left, query is for the next page of the first.
	kinds []*Kind
	query Query
}

// MembersOf returns the members of a group that are of these kinds: the direct ones, or those of the groups in it too,
// each once. The group itself is not among them. Errors: as of [Directory.Get], forbidden, unsupported-by-directory.
func (p *Paths) MembersOf(ctx context.Context, name string, deep bool, kinds []*Kind) (*Members, error) {
	group, err := p.guarded.Get(ctx, p.groups, name)
	if err != nil {
		return nil, err
	}
	if group.Hides(FieldMembers) {
		return nil, &Error{Code: Forbidden}
	}
	nesting, err := p.standings.Nesting(ctx)
	if err != nil {
		return nil, err
	}
	below := nesting.Below(group.DN())
	if !deep {
		below.groups = slices.DeleteFunc(below.groups, func(g *nested) bool { return below.ways[g].from != nil })
	}
	m := &Members{unguarded: p.unguarded, reached: below, kinds: kinds, places: make(map[*nested]int, len(below.groups))}
	if m.names, err = p.names(ctx, below); err != nil {
		return nil, err
	}
	for i, group := range below.groups {
		m.places[group] = i
	}
	if len(below.groups) == 0 { // it was made since
		m.kinds = nil
	}
	m.query = Query{Fields: []string{FieldDN, FieldMemberOfs}, Limit: atOnce, Filter: Filter{Operator: Present, Field: FieldMemberOfs}}
	if len(below.groups) <= mostGroups {
		m.query.Filter = anyOf(FieldMemberOfs, below.DNs())
	}
	return m, nil
}

// Next returns the next members, and whether there may be more. Errors: as of [Directory.Page].
func (m *Members) Next(ctx context.Context) (page Page, more bool, err error) {
	if len(m.kinds) == 0 {
		return Page{}, false, nil
	}
	kind := m.kinds[0]
	if err := allowedAll(ctx, ActionList, kind); err != nil { // as [Guarded] does
		return Page{}, false, err
	}
	query := m.query
	query.Fields = append(slices.Clip(query.Fields), kind.Key)
	if page, err = m.unguarded.Page(ctx, kind, query); err != nil {
		return Page{}, false, err
	}
	if m.query.After = page.Next; page.Next == nil {
		m.kinds = m.kinds[1:]
	}
	page.Entries = slices.DeleteFunc(page.Entries, func(entry Entry) bool { _, ok := m.Of(entry); return !ok })
	return page, len(m.kinds) > 0, nil
}

// Of returns how an entry is a member, and whether it is one.
func (m *Members) Of(entry Entry) (Membership, bool) {
	at := m.reached.nesting.at
	var path []string
	nearest := len(m.reached.groups)
	for _, dn := range entry.Values(FieldMemberOfs) {
		group := at(dn)
		if place, ok := m.places[group]; ok && place < nearest {
			if way := m.names.path(m.reached, group); way != nil {
				nearest, path = place, way[1:]
			}
		}
	}
	if path == nil || at(entry.DN()) == m.reached.groups[0] {
		return Membership{}, false
	}
	return Membership{Name: entry.Name(), DN: entry.DN(), Direct: len(path) == 0, Path: path}, true
}
