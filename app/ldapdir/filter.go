package ldapdir

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// nothing is a filter that no entry meets.
const nothing = "(!(objectClass=*))"

// filterFor returns the LDAP filter (RFC 4515) for the entries of a kind that meet a filter.
func (d *Directory) filterFor(ctx context.Context, m *mapping, filter directory.Filter) (string, error) {
	if filter.Operator == "" {
		return m.Filter, nil
	}
	known, err := d.schemaOf(ctx)
	if err != nil {
		return "", err
	}
	server, err := d.pool.server(ctx)
	if err != nil {
		return "", d.fault(err, m)
	}
	t := translation{m, known, time.Now(), server.lockout}
	translated, err := t.filter(filter)
	if err != nil {
		return "", err
	}
	return "(&" + m.Filter + translated + ")", nil
}

// translation turns filters on fields into filters on attributes.
type translation struct {
	*mapping
	schema  *schema
	now     time.Time
	lockout time.Duration
}

func (t translation) filter(f directory.Filter) (string, error) {
	symbol, joins := map[directory.Operator]string{directory.And: "&", directory.Or: "|", directory.Not: "!"}[f.Operator]
	if !joins {
		return t.comparison(f)
	}
	var b strings.Builder
	b.WriteString("(" + symbol)
	for _, of := range f.Of {
		part, err := t.filter(of)
		if err != nil {
			return "", err
		}
		b.WriteString(part)
	}
	b.WriteString(")")
	return b.String(), nil
}

// comparison translates what compares a field.
func (t translation) comparison(f directory.Filter) (string, error) {
	field, ok := t.Kind.Field(f.Field)
	if !ok || field.WriteOnly {
		return "", uncomparable(f, "is no field that can be read")
	}
	attribute := t.attributeOf(f.Field).Type
	rules, known := t.schema.of(attribute)
	switch {
	case f.Field == directory.FieldAccountLocked:
		return t.lockedFilter(f), nil
	case !known && len(t.schema.types) > 0: // slapd would take it for neither true nor false
		return "", uncomparable(f, "is not possible: the directory server has no attribute "+attribute)
	case f.Operator == directory.Present:
		return t.presence(f.Field, attribute), nil
	}
	value, wrong := t.value(field, rules, f.Value)
	if wrong != "" {
		return "", uncomparable(f, wrong)
	}
	needed, kind, part, order := rules.equality, "for equality", false, false
	switch f.Operator {
	case directory.Contains, directory.StartsWith, directory.EndsWith:
		needed, kind, part = rules.substring, "for parts of values", true
	case directory.GreaterOrEqual, directory.LessOrEqual:
		needed, kind, order = rules.ordering, "for order", true
	}
	switch {
	case known && needed == "":
		return "", uncomparable(f, "is not possible: the directory server has no rule "+kind+" of "+attribute)
	case !known && f.Operator != directory.Equal:
		return "", uncomparable(f, "is not possible: the directory server does not show how it compares "+attribute)
	case known:
		holds, certain := t.schema.holds(rules, value, part)
		if !certain {
			return "", uncomparable(f, "is not possible: it is not certain which values the directory server takes for "+attribute)
		}
		if !holds && order {
			return "", uncomparable(f, "is not possible: "+attribute+" can't hold such a value")
		}
		if !holds { // slapd would take it for neither true nor false, and its negation too
			return nothing, nil
		}
	}
	value = ldap.EscapeFilter(value)
	switch f.Operator {
	case directory.Equal:
		return "(" + attribute + "=" + value + ")", nil
	case directory.Contains:
		return "(" + attribute + "=*" + value + "*)", nil
	case directory.StartsWith:
		return "(" + attribute + "=" + value + "*)", nil
	case directory.EndsWith:
		return "(" + attribute + "=*" + value + ")", nil
	case directory.GreaterOrEqual:
		return "(" + attribute + ">=" + value + ")", nil
	case directory.LessOrEqual:
		return "(" + attribute + "<=" + value + ")", nil
	}
	return "", uncomparable(f, "is no comparison")
}

// value returns a value as LDAP writes it, or why the attribute can't hold it.
func (t translation) value(field directory.Field, r rules, value string) (stored, wrong string) {
	switch field.Type {
	case directory.Timestamp:
		moment, err := time.Parse(time.RFC3339, value)
		if err != nil {
			return "", "needs a moment"
		}
		return generalizedTime(moment), ""
	case directory.Boolean:
		return strings.ToUpper(value), ""
	case directory.Reference:
		if t.isPlaceholder(value) {
			return "", "names what is no entry"
		}
	}
	if baseSyntax(r.syntax) == syntaxDN {
		if _, err := ldap.ParseDN(value); err != nil {
			return "", "needs a DN"
		}
		return value, ""
	}
	if baseSyntax(r.syntax) == syntaxTelephone && strings.Trim(value, " -") == "" {
		return "", "needs more than spaces and hyphens, which are no part of a telephone number"
	}
	return value, ""
}

// presence is that a field is shown with a value.
func (t translation) presence(field, attribute string) string {
	switch {
	case field == directory.FieldDN || field == directory.FieldID:
		return "(objectClass=*)"
	case field == directory.FieldMembers && t.Placeholder != "":
		return "(&(" + attribute + "=*)(!(" + attribute + "=" + ldap.EscapeFilter(t.Placeholder) + ")))"
	}
	return "(" + attribute + "=*)"
}

// lockedFilter is locked, as a filter.
func (t translation) lockedFilter(f directory.Filter) string {
	if _, known := t.schema.of(attrLockedTime); !known && len(t.schema.types) > 0 { // nothing can be locked
		if (f.Operator == directory.Present) || f.Value == directory.False {
			return "(objectClass=*)"
		}
		return nothing
	}
	now := generalizedTime(t.now)
	since := "(" + attrLockedTime + "<=" + now + ")"
	if t.lockout > 0 {
		since = "(&" + since + "(" + attrLockedTime + ">=" + generalizedTime(t.now.Add(-t.lockout).Truncate(time.Second).Add(time.Second)) + "))"
	}
	locked := "(|(" + attrLockedTime + "=" + lockedForGood + ")" + since +
		"(" + attrEndTime + "<=" + now + ")(&(" + attrStartTime + "=*)(!(" + attrStartTime + "<=" + now + "))))"
	switch {
	case f.Operator == directory.Present:
		return "(objectClass=*)"
	case f.Value == directory.True:
		return locked
	}
	return "(!" + locked + ")"
}

// generalizedTime is a moment in UTC, RFC 4517 §3.3.13.
func generalizedTime(moment time.Time) string {
	return moment.UTC().Format("20060102150405.999999999") + "Z"
}

func uncomparable(f directory.Filter, why string) error {
	operator := string(f.Operator)
	switch f.Operator { // each stands for two
	case directory.GreaterOrEqual:
		operator = "gt or ge"
	case directory.LessOrEqual:
		operator = "lt or le"
	}
	return &directory.Error{Code: directory.Invalid, Violations: []directory.Violation{
		{Field: "filter", Message: fmt.Sprintf("%s %s %s", f.Field, operator, why)}}}
}
