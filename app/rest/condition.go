package rest

import (
	"net/http"
	"strings"

	"rollcall/app/directory"
)

// etag returns an entry's version as a strong entity tag, RFC 9110 §8.8.3.
func etag(entry directory.Entry) string { return `"` + entry.Version.String() + `"` }

// conditionOf reads the If-Match of a request that changes an entry as a whole. Where one is demanded, only
// If-None-Match takes its place.
func (a *api) conditionOf(r *http.Request) (directory.Condition, error) {
	if a.RequireIfMatch && r.Header.Values("If-Match") == nil && r.Header.Values("If-None-Match") == nil {
		return directory.Condition{}, &directory.Error{Code: directory.PreconditionRequired}
	}
	return conditionOf(r)
}

// conditionOf reads If-Match, RFC 9110 §13.1.1. A tag that is weak, or not one of ours, matches nothing.
func conditionOf(r *http.Request) (directory.Condition, error) {
	if r.Method != http.MethodPut && r.Header.Get("If-None-Match") != "" {
		return directory.Condition{}, &directory.Error{Code: directory.BadRequest, Detail: "If-None-Match is for GET, HEAD and PUT."}
	}
	lines := r.Header.Values("If-Match")
	if lines == nil {
		return directory.Condition{}, nil
	}
	tags, all, ok := parseTags(strings.Join(lines, ","))
	switch {
	case !ok:
		return directory.Condition{}, badTags("If-Match")
	case all:
		return directory.Condition{Exists: true}, nil
	}
	condition := directory.Condition{OneOf: []directory.Version{}}
	for _, tag := range tags {
		if version, ok := directory.ParseVersion(tag.opaque); ok && !tag.weak {
			condition.OneOf = append(condition.OneOf, version)
		}
	}
	return condition, nil
}

// unconditional refuses the conditions of a request that takes none.
func unconditional(r *http.Request) error {
	if r.Header.Values("If-Match") == nil && r.Header.Values("If-None-Match") == nil {
		return nil
	}
	return &directory.Error{Code: directory.BadRequest, Detail: "This request takes neither If-Match nor If-None-Match."}
}

// ifNoneMatchAny reads the If-None-Match of a write: * is the only one that makes sense there.
func ifNoneMatchAny(r *http.Request) (bool, error) {
	lines := r.Header.Values("If-None-Match")
	if lines == nil {
		return false, nil
	}
	if strings.TrimSpace(strings.Join(lines, ",")) != "*" {
		return false, &directory.Error{Code: directory.BadRequest, Detail: "If-None-Match takes only * here."}
	}
	return true, nil
}

// unmodified reads the If-None-Match of a read, RFC 9110 §13.1.2: a proxy may have made the tag weak.
func unmodified(r *http.Request, entry directory.Entry) bool {
	tags, all, ok := parseTags(strings.Join(r.Header.Values("If-None-Match"), ","))
	if !ok {
		return false
	}
	for _, tag := range tags {
		all = all || tag.opaque == entry.Version.String()
	}
	return all
}

type entityTag struct {
	opaque string
	weak   bool
}

// parseTags reads "*" or a list of entity tags.
func parseTags(s string) (tags []entityTag, all, ok bool) {
	if strings.TrimSpace(s) == "*" {
		return nil, true, true
	}
	for {
		s = strings.TrimLeft(s, " \t,")
		if s == "" {
			return tags, false, len(tags) > 0
		}
		rest, weak := strings.CutPrefix(s, "W/")
		rest, quoted := strings.CutPrefix(rest, `"`)
		opaque, after, closed := strings.Cut(rest, `"`)
		if !quoted || !closed {
			return nil, false, false
		}
		tags = append(tags, entityTag{opaque, weak})
		s = strings.TrimLeft(after, " \t")
		if s != "" && s[0] != ',' {
			return nil, false, false
		}
	}
}

func badTags(header string) error {
	return &directory.Error{Code: directory.BadRequest, Detail: header + ` must be * or a list of entity tags such as "…", as ETag gave them.`}
}
