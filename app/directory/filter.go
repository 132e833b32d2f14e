package directory

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	filter "github.com/scim2/filter-parser/v2"
)

// Operator is what a Filter does.
type Operator string

// The operators. Those of RFC 7644 §3.4.2.2 that are not here are made of these.
const (
	And            Operator = "and"
	Or             Operator = "or"
	Not            Operator = "not"
	Equal          Operator = "eq"
	Contains       Operator = "co"
	StartsWith     Operator = "sw"
	EndsWith       Operator = "ew"
	Present        Operator = "pr"
	GreaterOrEqual Operator = "ge"
	LessOrEqual    Operator = "le"
)

// Filter is what entries must meet. All do that meet the zero Filter.
type Filter struct {
	Operator Operator
	// Of are what And and Or join, and the one that Not turns round.
	Of []Filter
	// Field and Value are what the other operators compare. A list meets a comparison when one of its values does.
	// Values compare as the directory server compares them; a Timestamp is in RFC 3339.
	Field, Value string
}

// The bounds of a filter.
const (
	maxFilterLength = 8192
	maxFilterDepth  = 32
	maxSearchWords  = 8
)

// ParseFilter reads a filter in the grammar of RFC 7644 §3.4.2.2 over a kind's fields.
func ParseFilter(kind *Kind, text string) (Filter, error) {
	if len(text) > maxFilterLength {
		return Filter{}, wrongFilter("is longer than %d bytes", maxFilterLength)
	}
	if !utf8.ValidString(text) {
		return Filter{}, wrongFilter("is not UTF-8")
	}
	if strings.Count(text, "(") > maxFilterLength/4 {
		return Filter{}, wrongFilter("has too many parentheses")
	}
	parsed, err := filter.ParseFilterNumber([]byte(smallHex.ReplaceAllStringFunc(strings.TrimSpace(text), upperHex)))
	if err != nil {
		return Filter{}, wrongFilter(`can't be understood; it looks like: sn eq "Parker" and (mail co "@example" or not (title pr))`)
	}
	return translate(kind, parsed, 0)
}

// smallHex finds the escapes of JSON that the parser does not take: it demands capital letters.
var smallHex = regexp.MustCompile(`\\(u[0-9A-Fa-f]{4}|.)`)

func upperHex(escape string) string {
	if escape[1] != 'u' {
		return escape
	}
	return `\u` + strings.ToUpper(escape[2:])
}

// SearchFilter returns the filter of a search in words: each must begin a value of a field that entries are known by.
func SearchFilter(kind *Kind, text string) (Filter, error) {
	words := strings.Fields(text)
	switch {
	case !utf8.ValidString(text):
		return Filter{}, invalid([]Violation{{paramSearch, "is not UTF-8"}})
	case len(words) == 0:
		return Filter{}, invalid([]Violation{{paramSearch, "must not be blank"}})
	case len(words) > maxSearchWords:
		return Filter{}, invalid([]Violation{{paramSearch, fmt.Sprintf("takes at most %d words", maxSearchWords)}})
	case len(text) > maxFilterLength:
		return Filter{}, invalid([]Violation{{paramSearch, fmt.Sprintf("is longer than %d bytes", maxFilterLength)}})
	}
	all := Filter{Operator: And}
	for _, word := range words {
		one := Filter{Operator: Or}
		for _, f := range kind.Fields {
			if f.Naming || f.Name == kind.Key {
				one.Of = append(one.Of, Filter{Operator: StartsWith, Field: f.Name, Value: word})
			}
		}
		all.Of = append(all.Of, one)
	}
	return all, nil
}

// AllOf returns the filter that is met by what meets each of these.
func AllOf(filters ...Filter) Filter {
	filters = slices.DeleteFunc(filters, func(f Filter) bool { return f.Operator == "" })
	switch len(filters) {
	case 0:
		return Filter{}
	case 1:
		return filters[0]
	}
	return Filter{Operator: And, Of: filters}
}

// anyOf returns the filter for a field with one of these values.
func anyOf(field string, values []string) Filter {
	among := Filter{Operator: Or}
	for _, value := range values {
		among.Of = append(among.Of, Filter{Operator: Equal, Field: field, Value: value})
	}
	return among
}

// mentions reports whether a filter compares a field.
func (f Filter) mentions(field string) bool {
	return f.Field == field || slices.ContainsFunc(f.Of, func(of Filter) bool { return of.mentions(field) })
}

// resolved returns the filter with other values in its comparisons.
func (f Filter) resolved(resolve func(Filter) (Filter, error)) (Filter, error) {
	if f.Field != "" {
		return resolve(f)
	}
	of := make([]Filter, len(f.Of))
	for i := range f.Of {
		var err error
		if of[i], err = f.Of[i].resolved(resolve); err != nil {
			return Filter{}, err
		}
	}
	f.Of = of
	return f, nil
}

func not(f Filter) Filter { return Filter{Operator: Not, Of: []Filter{f}} }

// translate makes a filter of what was parsed, or says why it can't.
func translate(kind *Kind, parsed filter.Expression, depth int) (Filter, error) {
	if depth > maxFilterDepth {
		return Filter{}, wrongFilter("is nested too deeply")
	}
	switch e := parsed.(type) {
	case *filter.LogicalExpression:
		operator := And
		if e.Operator == filter.OR {
			operator = Or
		}
		joined := Filter{Operator: operator}
		var side filter.Expression = e
		for { // a chain of the same operator leans to the left
			next, ok := side.(*filter.LogicalExpression)
			if !ok || next.Operator != e.Operator {
				break
			}
			right, err := translate(kind, next.Right, depth+1)
			if err != nil {
				return Filter{}, err
			}
			joined.Of = append(joined.Of, right)
			side = next.Left
		}
		left, err := translate(kind, side, depth+1)
		joined.Of = append(joined.Of, left)
		slices.Reverse(joined.Of)
		return joined, err
	case *filter.NotExpression:
		of, err := translate(kind, e.Expression, depth+1)
		return not(of), err
	case *filter.AttributeExpression:
		return comparison(kind, e)
	}
	return Filter{}, wrongFilter("can't look into a value with [ ]")
}

// comparison makes a filter of a field, an operator and a value.
func comparison(kind *Kind, e *filter.AttributeExpression) (Filter, error) {
	path := e.AttributePath.String()
	at := slices.IndexFunc(kind.Fields, func(f Field) bool { return strings.EqualFold(f.Name, path) })
	if at < 0 || kind.Fields[at].WriteOnly {
		return Filter{}, wrongFilter("names %s, which is no field of a %s that can be read", quote(path), kind.Singular)
	}
	field := &kind.Fields[at]
	one := Filter{Operator: Present, Field: field.Name}
	if e.Operator == filter.PR {
		return one, nil
	}
	if e.CompareValue == nil { // null is no value
		switch e.Operator {
		case filter.EQ:
			return not(one), nil
		case filter.NE:
			return one, nil
		}
	}
	value, wrong := filterValue(field, e.CompareValue)
	if wrong != "" {
		return Filter{}, wrongFilter("%s %s %s", field.Name, e.Operator, wrong)
	}
	one.Operator, one.Value = Equal, value
	switch e.Operator {
	case filter.EQ:
		return one, nil
	case filter.NE:
		return not(one), nil
	}
	substring := e.Operator == filter.CO || e.Operator == filter.SW || e.Operator == filter.EW
	if field.Type == Boolean || field.Type == Reference || (field.Type == Timestamp || field.Type == Integer) && substring || field.Name == FieldDN || field.Name == FieldID {
		return Filter{}, wrongFilter("%s can't be compared by %s", field.Name, e.Operator)
	}
	switch e.Operator {
	case filter.CO, filter.SW, filter.EW:
		one.Operator = Operator(e.Operator)
		return one, nil
	case filter.GE, filter.LE:
		one.Operator = Operator(e.Operator)
		return one, nil
	case filter.GT, filter.LT:
		beyond := one
		beyond.Operator = GreaterOrEqual
		if e.Operator == filter.LT {
			beyond.Operator = LessOrEqual
		}
		return Filter{Operator: And, Of: []Filter{beyond, not(one)}}, nil
	}
	return Filter{}, wrongFilter("has an operator that is not known: %s", quote(string(e.Operator)))
}

// filterValue returns the value that a field is compared with, or what is wrong with it.
func filterValue(field *Field, value any) (text, wrong string) {
	switch v := value.(type) {
	case bool:
		if field.Type != Boolean {
			return "", needed(field)
		}
		if v {
			return True, ""
		}
		return False, ""
	case string:
		if field.Type == Boolean {
			return "", needed(field)
		}
		if field.Type == Integer {
			return "", needed(field)
		}
		// The parser leaves the escapes of JSON as they are.
		if json.Unmarshal([]byte(`"`+v+`"`), &text) != nil {
			return "", "has a value with an escape that JSON does not have"
		}
		if field.Type == Timestamp {
			moment, err := time.Parse(time.RFC3339, text)
			if err != nil {
				return "", `needs a moment such as "2026-01-31T12:00:00Z"`
			}
			return moment.UTC().Format(time.RFC3339Nano), ""
		}
	case json.Number:
		text = v.String()
		if field.Type != Text && (field.Type != Integer || !IsInteger(text)) {
			return "", needed(field)
		}
	default:
		return "", "needs a value"
	}
	if strings.TrimSpace(text) == "" {
		return "", fmt.Sprintf("needs a value that is not blank; where there is none, it is: not (%s pr)", field.Name)
	}
	return text, ""
}

// needed says what a field is compared with.
func needed(field *Field) string {
	switch field.Type {
	case Boolean:
		return "needs true or false, without quotes"
	case Integer:
		return "needs a whole number, without quotes"
	}
	return "needs a text in quotes"
}

func wrongFilter(format string, a ...any) error {
	return invalid([]Violation{{paramFilter, fmt.Sprintf(format, a...)}})
}
