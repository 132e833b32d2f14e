package directory

import (
	"slices"
	"sync"
)

// Nesting is which groups there are, and which are in which, as it was read at once. It does not change.
type Nesting struct {
	nodes map[string]*nested
	// same gives DNs of the same entry the same form, others are the nodes by that. It takes time, and few need it:
	// the server mostly writes a DN in one way.
	same   func(dn string) string
	others func() map[string]*nested
}

// NestedGroup is a group, and the DNs of what it is a direct member of.
type NestedGroup struct {
	DN, Name  string
	MemberOfs []string
}

// nested is a group among others.
type nested struct {
	dn, name     string
	above, below []*nested
}

// NewNesting returns the nesting of all groups. What is not among them is no group above another. DNs that same makes
// equal name the same entry.
func NewNesting(groups []NestedGroup, same func(dn string) string) *Nesting {
	n := &Nesting{nodes: make(map[string]*nested, len(groups)), same: same}
	n.others = sync.OnceValue(func() map[string]*nested {
		others := make(map[string]*nested, len(n.nodes))
		for dn, group := range n.nodes {
			others[same(dn)] = group
		}
		return others
	})
	for _, group := range groups {
		n.nodes[group.DN] = &nested{dn: group.DN, name: group.Name}
	}
	for _, group := range groups {
		member := n.nodes[group.DN]
		for _, memberOf := range group.MemberOfs {
			if above := n.at(memberOf); above != nil {
				member.above = append(member.above, above)
				above.below = append(above.below, member)
			}
		}
	}
	return n
}

// at returns the group with a DN, nil where there is none.
func (n *Nesting) at(dn string) *nested {
	if group := n.nodes[dn]; group != nil {
		return group
	}
	return n.others()[n.same(dn)]
}

// Name returns the name of the group with a DN, "" where there is none.
func (n *Nesting) Name(dn string) string {
	if group := n.at(dn); group != nil {
		return group.name
	}
	return ""
}

// Above returns the groups with these DNs, and those that they are in, directly or through others.
func (n *Nesting) Above(dns ...string) Reached {
	return n.reach(dns, func(group *nested) []*nested { return group.above })
}

// Below returns the groups with these DNs, and those that are in them, directly or through others.
func (n *Nesting) Below(dns ...string) Reached {
	return n.reach(dns, func(group *nested) []*nested { return group.below })
}

// Reached are groups that others lead to, the nearest first, each with the shortest path to it.
type Reached struct {
	nesting *Nesting
	groups  []*nested
	ways    map[*nested]way
}

// way is how a group was reached: from which other, nil where it began there, and by how many steps.
type way struct {
	from  *nested
	steps int
}

// reach walks in one direction, each group once, so that a circle has an end.
func (n *Nesting) reach(dns []string, next func(*nested) []*nested) Reached {
	r := Reached{nesting: n, ways: make(map[*nested]way)}
	visit := func(group *nested, by way) {
		if _, seen := r.ways[group]; !seen {
			r.ways[group] = by
			r.groups = append(r.groups, group)
		}
	}
	for _, dn := range dns {
		if group := n.at(dn); group != nil {
			visit(group, way{})
		}
	}
	for i := 0; i < len(r.groups); i++ {
		from := r.groups[i]
		for _, group := range next(from) {
			visit(group, way{from, r.ways[from].steps + 1})
		}
	}
	return r
}

// DNs returns the DNs of the groups, the nearest first.
func (r Reached) DNs() []string {
	dns := make([]string, len(r.groups))
	for i, group := range r.groups {
		dns[i] = group.dn
	}
	return dns
}

// Has reports whether a group is among them.
func (r Reached) Has(dn string) bool {
	_, ok := r.ways[r.nesting.at(dn)]
	return ok
}

// Path returns the names of the groups on the way to one, from where it began to that group; nil where it is not among
// them.
func (r Reached) Path(dn string) []string {
	var path []string
	if !r.Has(dn) {
		return nil
	}
	for group := r.nesting.at(dn); group != nil; group = r.ways[group].from {
		path = append(path, group.name)
	}
	slices.Reverse(path)
	return path
}

// meets reports whether a group is among both.
func (r Reached) meets(others Reached) bool {
	return slices.ContainsFunc(r.groups, func(group *nested) bool { _, ok := others.ways[group]; return ok })
}

// nearest returns the DN of the group among both that takes the fewest steps from both sides together, "" for none.
func (r Reached) nearest(others Reached) string {
	best, fewest := "", 0
	for _, group := range r.groups {
		if other, ok := others.ways[group]; ok {
			if steps := r.ways[group].steps + other.steps; best == "" || steps < fewest {
				best, fewest = group.dn, steps
			}
		}
	}
	return best
}
