package directory

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Query says which entries of a kind are asked for, what of them, and in what order.
type Query struct {
	// Filter is what the entries must meet.
	Filter Filter
	// Fields are those that are wanted, in any order; all where it is nil.
	Fields []string
	// Sort is the order; the directory server's own where it is empty.
	Sort []SortKey
	// Limit is the most entries that one page may have, and positive.
	Limit int
	// After is the place where the page before ended; nil for the first page.
	After *Place
	// Sources asks for each entry's [Entry.Source] as well.
	Sources bool
}

// SortKey is a field to sort by. Values compare as the directory server orders them, without regard to case; of a
// list the first of them in that order counts, and entries without any come last.
type SortKey struct {
	Field      string
	Descending bool
}

// Page is a part of the answer to a query.
type Page struct {
	Entries []Entry
	// Next is where the next page begins; nil on the last.
	Next *Place
}

// Place is where in the answer to a query a page ended. It holds all it takes to find the place again in another
// process, and from another copy of the directory.
type Place struct {
	// Walk names the search that may still be open, in one process.
	Walk string `json:"w,omitempty"`
	// Passed is how many entries came before.
	Passed int `json:"n"`
	// ID is that of the last entry, Keys its values that were sorted by, nil where it has none.
	ID   string    `json:"i"`
	Keys []*string `json:"k,omitempty"`
	// Recent tells the last entries apart from others, where they are in the directory server's own order.
	Recent []byte `json:"r,omitempty"`
}

// ParseSort reads an order such as "sn,-cn": fields with commas between them, each with a minus to have it descend.
func ParseSort(kind *Kind, text string) ([]SortKey, error) {
	var keys []SortKey
	for name := range strings.SplitSeq(text, ",") {
		name, descending := strings.CutPrefix(strings.TrimSpace(name), "-")
		f, ok := kind.Field(name)
		switch {
		case !ok || f.WriteOnly:
			return nil, invalid([]Violation{{paramSort, fmt.Sprintf("names %s, which is no field of a %s", quote(name), kind.Singular)}})
		case slices.ContainsFunc(keys, func(k SortKey) bool { return k.Field == name }):
			return nil, invalid([]Violation{{paramSort, fmt.Sprintf("names %s twice", name)}})
		case len(keys) == maxSortKeys:
			return nil, invalid([]Violation{{paramSort, fmt.Sprintf("takes at most %d fields", maxSortKeys)}})
		}
		keys = append(keys, SortKey{name, descending})
	}
	return keys, nil
}

// ParseFields reads which fields are wanted: "cn,mail", or all but some: "-id,-createdAt".
func ParseFields(kind *Kind, text string) ([]string, error) {
	var wanted, unwanted []string
	for name := range strings.SplitSeq(text, ",") {
		name, minus := strings.CutPrefix(strings.TrimSpace(name), "-")
		if f, ok := kind.Field(name); !ok || f.WriteOnly {
			return nil, invalid([]Violation{{paramFields, fmt.Sprintf("names %s, which is no field of a %s that can be read", quote(name), kind.Singular)}})
		}
		if minus {
			unwanted = append(unwanted, name)
		} else {
			wanted = append(wanted, name)
		}
	}
	if wanted != nil && unwanted != nil {
		return nil, invalid([]Violation{{paramFields, "names either the fields that are wanted or, with a minus before each, those that are not"}})
	}
	if unwanted != nil {
		wanted = []string{}
		for _, f := range kind.Fields {
			if !f.WriteOnly && !slices.Contains(unwanted, f.Name) {
				wanted = append(wanted, f.Name)
			}
		}
	}
	return wanted, nil
}

// The parameters of a query, as violations name them.
const (
	paramFilter = "filter"
	paramSearch = "search"
	paramSort   = "sort"
	paramFields = "fields"
)

// maxSortKeys is how many fields one can sort by.
const maxSortKeys = 4

// Wants reports whether a field is among those that are asked for.
func (q Query) Wants(field string) bool { return q.Fields == nil || slices.Contains(q.Fields, field) }

// mentions returns which of the parameters name a field.
func (q Query) mentions(field string) []Violation {
	var all []Violation
	const message = "names a field that is not yours to see"
	if q.Filter.mentions(field) {
		all = append(all, Violation{paramFilter, message})
	}
	if slices.ContainsFunc(q.Sort, func(k SortKey) bool { return k.Field == field }) {
		all = append(all, Violation{paramSort, message})
	}
	return all
}

// Each yields everything that a query asks for, page by page. A failure is yielded last, with a zero Entry.
func Each(ctx context.Context, d Directory, kind *Kind, query Query) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		for {
			page, err := d.Page(ctx, kind, query)
			if err != nil {
				yield(Entry{}, err)
				return
			}
			for _, entry := range page.Entries {
				if !yield(entry, nil) {
					return
				}
			}
			if page.Next == nil {
				return
			}
			query.After = page.Next
		}
	}
}
