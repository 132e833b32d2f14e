package directorytest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf16"

	"pgregory.net/rapid"

	"rollcall/app/directory"
)

// filters compares what filters find with what they mean, over values that are easily taken for others.
func filters(t *testing.T, f Fixture) {
	w := newFilterWorld(t, f)
	rapid.Check(t, func(t *rapid.T) {
		for range filtersInACheck {
			w.check(t)
		}
	})
}

// filterWorld is what filters are tried on.
type filterWorld struct {
	checked directory.Directory
	kinds   []*directory.Kind
	// entries are all that there are, as a list without a filter shows them, by the kind's name.
	entries map[string][]directory.Entry
	// dns are the DNs of all of them by reference: users/alice.
	dns map[string]string
}

// awkward are values that a filter may mistake for something else, or for each other.
var awkward = []string{
	"Parker", "parker", "Parke", "ParkerS", "de la Cruz", "de  la   Cruz", "dela Cruz", "van Gogh", "Vanilla", "O'Brien, \"Jr\" <x>+y=z#;\\",
	"a*)(uid=*", "*", "**", "(&)", "(|(cn=*))", `\2a`, `\`, `\\`, `\00`, `"`, "100%", "名前", "名", "Ωμέγα", "ΩΜΈΓΑ", "zoe", "Zoé", "ZOE\u0301",
	"ﬁn", "fin", "Straße", "Strasse", "null", "true", "1001", "01001", "1001.0", "-1", "cn=x,ou=people", "users/alice", "2026-01-31T12:00:00Z",
	"#hash", "😀 x", "a/b", "x", "X y", "xy",
}

// plain are the values of fields that do not take just any text.
var plain = map[string][]string{
	"description":       {"line one\nline two", "line one line two", "tab\there", "tab here", "two\n\nfeeds"},
	"telephoneNumber":   {"+1 555-0100", "+15550100", "+1 555 0101", "555"},
	"mobile":            {"+49 170 1", "+491701", "(0170) 1"},
	"preferredLanguage": {"en", "EN-gb", "de-AT"},
	"sshPublicKeys": {"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGIFpYEBGdyvfSHDOQq9Tn/ruwqJj0sodBqSyEpnSe3b alice@laptop",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGIFpYEBGdyvfSHDOQq9Tn/ruwqJj0sodBqSyEpnSe3b ALICE@laptop",
		"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGIFpYEBGdyvfSHDOQq9Tn/ruwqJj0sodBqSyEpnSe3b  two  spaces (*)"},
	"ipAddresses":  {"192.0.2.1", "192.0.2.10", "2001:db8::a", "2001:DB8::A"},
	"serialNumber": {"SN-0042", "sn-0042", "SN 0042", "SN  0042", "(x)"},
}

func newFilterWorld(t *testing.T, f Fixture) *filterWorld {
	t.Helper()
	w := &filterWorld{checked: directory.NewChecked(f.Directory), kinds: []*directory.Kind{f.Users, f.Groups, f.Hosts},
		entries: map[string][]directory.Entry{}, dns: map[string]string{}}
	// more gives the entry of a number some of the kind's text fields.
	more := func(kind *directory.Kind, number int, set map[string][]string) directory.Patch {
		for j, field := range kind.Fields {
			pool := plain[field.Name]
			if pool == nil && field.Type == directory.Text && !field.Unique || field.Name == "description" {
				pool = append(slices.Clip(awkward), pool...)
			}
			if pool == nil || field.ReadOnly || field.WriteOnly || field.Name == kind.Key || !field.Required && (number+j)%3 == 0 {
				continue
			}
			set[field.Name] = []string{pool[(number*5+j*7)%len(pool)]}
			if field.List && number%4 == 1 {
				set[field.Name] = append(set[field.Name], pool[(number*5+j*7+2)%len(pool)])
			}
		}
		return directory.Patch{Set: set}
	}
	mails := []string{"alice@example.org", "Bob.Smith@Example.ORG", "o'brien+x@example.net", "alice@example.org.uk"}
	var people []string
	for i, name := range slices.Concat([]string{"alice", "bob", "alice b", "Al"}, Names) {
		set := map[string][]string{"cn": {name}, "uid": {name}, directory.FieldAccountLocked: {[]string{directory.False, directory.True}[i%5/4]}}
		if i < len(mails) {
			set["mail"] = []string{mails[i]}
		}
		people = append(people, f.create(t, f.Users, more(f.Users, i, set)).DN())
	}
	var groups []string
	for i := range 10 {
		members := people[i : 2*i]
		if i > 5 {
			members = append(slices.Clone(groups[i-3:]), people[0])
		}
		set := map[string][]string{"cn": {Names[i]}, directory.FieldMembers: members}
		groups = append(groups, f.create(t, f.Groups, more(f.Groups, i, set)).DN())
	}
	for i := range 10 {
		set := map[string][]string{"cn": {fmt.Sprintf("Web%d.example.org", i)}, "owners": people[max(0, i-7) : i/2]}
		f.create(t, f.Hosts, more(f.Hosts, i, set))
	}
	for _, kind := range w.kinds {
		for entry, err := range directory.Each(background(t), w.checked, kind, directory.Query{Limit: 1000}) {
			if err != nil {
				t.Fatal(err)
			}
			w.entries[kind.Name] = append(w.entries[kind.Name], entry)
			w.dns[kind.Name+"/"+entry.Name()] = entry.DN()
		}
	}
	return w
}

// term is a filter: its text, and what it means.
type term struct {
	text  string
	holds func(directory.Entry) bool
	// mayRefuse tells that a directory can't be expected to decide it.
	mayRefuse bool
	// joint is "and" or "or" where the text is that of several terms without parentheses around them.
	joint string
}

// check draws a filter and demands that exactly the entries are found that meet it.
func (w *filterWorld) check(t *rapid.T) {
	kind := w.kinds[rapid.IntRange(0, len(w.kinds)-1).Draw(t, "kind")]
	drawn := w.term(t, kind, 3)
	filter, err := directory.ParseFilter(kind, drawn.text)
	if err == nil && rapid.IntRange(0, 9).Draw(t, "also search") == 0 {
		search := w.search(t, kind)
		var words directory.Filter
		if words, err = directory.SearchFilter(kind, search.text); err != nil {
			t.Fatalf("search %q: %v", search.text, err)
		}
		filter = directory.AllOf(filter, words)
		meets := drawn.holds
		drawn.holds = func(e directory.Entry) bool { return meets(e) && search.holds(e) }
		drawn.text += " and the search " + search.text
	}
	var found []directory.Entry
	if err == nil {
		found, err = all(w.checked, kind, directory.Query{Filter: filter, Limit: 1000})
	}
	switch {
	case directory.Is(err, directory.Invalid) && drawn.mayRefuse:
		return
	case err != nil:
		t.Fatalf("%s: %s\nis refused: %v", kind.Name, drawn.text, err)
	}
	ids := map[string]bool{}
	for _, entry := range found {
		ids[entry.ID()] = true
	}
	for _, entry := range w.entries[kind.Name] {
		if want := drawn.holds(entry); ids[entry.ID()] != want {
			t.Fatalf("%s: %s\nfinds %s: %v, want %v\n%q", kind.Name, drawn.text, entry.DN(), ids[entry.ID()], want, fields(entry))
		}
	}
	if count, err := w.checked.Count(context.Background(), kind, filter); err != nil || count != len(found) {
		t.Fatalf("%s: %s\nfinds %d entries and counts %d, %v", kind.Name, drawn.text, len(found), count, err)
	}
}

// all returns everything that a query asks for.
func all(d directory.Directory, kind *directory.Kind, query directory.Query) (found []directory.Entry, err error) {
	for entry, err := range directory.Each(context.Background(), d, kind, query) {
		if err != nil {
			return nil, err
		}
		found = append(found, entry)
	}
	return found, nil
}

func (w *filterWorld) term(t *rapid.T, kind *directory.Kind, depth int) term {
	joint := "compare"
	if depth > 0 {
		joint = rapid.SampledFrom([]string{"compare", "compare", "and", "or", "not"}).Draw(t, "term")
	}
	word := anyCase(t, joint)
	switch joint {
	case "compare":
		return w.comparison(t, kind)
	case "not":
		of := w.term(t, kind, depth-1)
		space := rapid.SampledFrom([]string{" ", ""}).Draw(t, "space")
		return term{text: word + space + "(" + of.text + ")", mayRefuse: of.mayRefuse, holds: func(e directory.Entry) bool { return !of.holds(e) }}
	}
	var texts []string
	var terms []term
	joined := term{joint: joint}
	for range rapid.IntRange(2, 3).Draw(t, "terms") {
		of := w.term(t, kind, depth-1)
		// "and" binds tighter than "or".
		if joint == "and" && of.joint == "or" || rapid.Bool().Draw(t, "parentheses") {
			of.text = "(" + of.text + ")"
		}
		texts, terms, joined.mayRefuse = append(texts, of.text), append(terms, of), joined.mayRefuse || of.mayRefuse
	}
	joined.text = strings.Join(texts, " "+word+" ")
	joined.holds = func(e directory.Entry) bool {
		holds := func(of term) bool { return of.holds(e) }
		if joint == "or" {
			return slices.ContainsFunc(terms, holds)
		}
		return !slices.ContainsFunc(terms, func(of term) bool { return !of.holds(e) })
	}
	return joined
}

// anyCase returns a word that does not care, in one case or the other.
func anyCase(t *rapid.T, word string) string {
	if rapid.IntRange(0, 4).Draw(t, "upper case") == 0 {
		return strings.ToUpper(word)
	}
	return word
}

// search draws words, and what a search for them finds.
func (w *filterWorld) search(t *rapid.T, kind *directory.Kind) term {
	var words []string
	for range rapid.IntRange(1, 2).Draw(t, "words") {
		if word := strings.Fields(w.near(t, kind, "cn")); len(word) > 0 {
			words = append(words, word[0])
		}
	}
	if words == nil {
		words = []string{"a"}
	}
	return term{text: strings.Join(words, " "), holds: func(e directory.Entry) bool {
		for _, word := range words {
			if !slices.ContainsFunc(kind.Fields, func(f directory.Field) bool {
				if !f.Naming && f.Name != kind.Key || f.Name == "mail" && strings.Trim(word, ascii) != "" {
					return false
				}
				return slices.ContainsFunc(e.Values(f.Name), func(value string) bool { return compare(f, "sw", value, word) })
			}) {
				return false
			}
		}
		return true
	}}
}

const ascii = " !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"

// printable are the characters of a PrintableString.
const printable = "'()+,-./:=? 0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// comparison draws one comparison of one field.
func (w *filterWorld) comparison(t *rapid.T, kind *directory.Kind) term {
	var names []string
	for _, f := range kind.Fields {
		if !f.WriteOnly {
			names = append(names, f.Name)
		}
	}
	field, _ := kind.Field(rapid.SampledFrom(names).Draw(t, "field"))
	operator := rapid.SampledFrom([]string{"eq", "eq", "eq", "ne", "co", "sw", "ew", "pr", "ge", "le", "gt", "lt", "null", "not null"}).Draw(t, "operator")
	text := func(operator, value string) string {
		return strings.TrimSpace(anyCase(t, field.Name) + " " + anyCase(t, operator) + " " + value)
	}
	present := func(e directory.Entry) bool { return len(e.Values(field.Name)) > 0 }
	switch operator {
	case "pr":
		return term{text: text("pr", ""), holds: present}
	case "not null":
		return term{text: text("ne", "null"), holds: present}
	case "null":
		return term{text: text("eq", "null"), holds: func(e directory.Entry) bool { return !present(e) }}
	}
	var value, quoted, meant string
	var mayRefuse bool
	refers := field.Type == directory.Reference || field.Name == directory.FieldDN
	switch {
	case field.Type == directory.Boolean:
		value = rapid.SampledFrom([]string{directory.True, directory.False}).Draw(t, "value")
		quoted, mayRefuse = value, operator != "eq" && operator != "ne"
	case field.Type == directory.Timestamp:
		value = w.nearMoment(t, kind, field.Name)
		quoted, mayRefuse = `"`+value+`"`, slices.Contains([]string{"co", "sw", "ew"}, operator)
	case refers:
		value, meant, mayRefuse = w.nearReference(t, field)
		quoted, mayRefuse = quote(t, value), mayRefuse || operator != "eq" && operator != "ne"
	default:
		value = w.near(t, kind, field.Name)
		quoted, mayRefuse = quote(t, value), undecidable(field, operator, value)
		if number := json.Number(value); json.Valid([]byte(value)) && number != "null" && strings.Trim(value, "0123456789.-") == "" && rapid.Bool().Draw(t, "as a number") {
			quoted = value
		}
	}
	positive := strings.Replace(operator, "ne", "eq", 1)
	holds := func(e directory.Entry) bool {
		return slices.ContainsFunc(e.Values(field.Name), func(v string) bool {
			if refers {
				return v == meant
			}
			return compare(field, positive, v, value)
		})
	}
	one := term{text: text(operator, quoted), holds: holds, mayRefuse: mayRefuse}
	if operator == "ne" {
		one.holds = func(e directory.Entry) bool { return !holds(e) }
	}
	return one
}

// undecidable reports whether directories have no rule for a comparison of a text, or can't hold such a value.
func undecidable(field directory.Field, operator, value string) bool {
	equality := operator == "eq" || operator == "ne"
	order := slices.Contains([]string{"ge", "le", "gt", "lt"}, operator)
	switch {
	case order || strings.TrimSpace(value) == "":
		return true
	case field.Name == directory.FieldID:
		return !equality || len(value) != 36
	case field.Name == "sshPublicKeys" || field.Name == "ipAddresses":
		return !equality || strings.Trim(value, ascii) != ""
	case field.Name == "mail":
		return strings.Trim(value, ascii) != ""
	case field.Name == "serialNumber":
		return strings.Trim(value, printable) != ""
	case field.Name == "telephoneNumber" || field.Name == "mobile":
		return strings.Trim(value, printable) != "" || strings.Trim(value, " -") == ""
	}
	return false
}

// fold returns what values have in common that are the same: RFC 4518, for what occurs here. Spaces at an end count
// where something of the value may come before or after.
func fold(value string, before, after bool) string {
	value = strings.ToLower(strings.NewReplacer("e\u0301", "é", "E\u0301", "é", "ﬁ", "fi").Replace(value))
	for strings.Contains(value, "  ") {
		value = strings.ReplaceAll(value, "  ", " ")
	}
	if !before {
		value = strings.TrimPrefix(value, " ")
	}
	if !after {
		value = strings.TrimSuffix(value, " ")
	}
	return value
}

// compare is the comparison of one value.
func compare(field directory.Field, operator, value, with string) bool {
	switch field.Name {
	case "sshPublicKeys":
		return operator == "eq" && value == with
	case directory.FieldID:
		return operator == "eq" && strings.EqualFold(value, with)
	case "telephoneNumber", "mobile":
		ignored := strings.NewReplacer(" ", "", "-", "")
		value, with = ignored.Replace(value), ignored.Replace(with)
	case "mail", "ipAddresses":
		with = strings.Trim(with, " ")
	}
	if field.Type == directory.Timestamp {
		a, _ := time.Parse(time.RFC3339, value)
		b, _ := time.Parse(time.RFC3339, with)
		return map[string]bool{"eq": a.Equal(b), "ge": !a.Before(b), "le": !a.After(b), "gt": a.After(b), "lt": a.Before(b)}[operator]
	}
	value = fold(value, false, false)
	switch operator {
	case "eq":
		return value == fold(with, false, false)
	case "co":
		return strings.Contains(value, fold(with, true, true))
	case "sw":
		return strings.HasPrefix(value, fold(with, false, true))
	case "ew":
		return strings.HasSuffix(value, fold(with, true, false))
	}
	return false
}

// near draws a value that a field has somewhere, or one that is nearly so.
func (w *filterWorld) near(t *rapid.T, kind *directory.Kind, field string) string {
	pool := slices.Clone(awkward)
	for _, entry := range w.entries[kind.Name] {
		for range 3 {
			pool = append(pool, entry.Values(field)...)
		}
	}
	value := rapid.SampledFrom(pool).Draw(t, "value")
	for range rapid.IntRange(0, 2).Draw(t, "changes") {
		runes := []rune(value)
		at := rapid.IntRange(0, len(runes)).Draw(t, "at")
		switch rapid.SampledFrom([]string{"upper", "lower", "space", "before", "from", "insert"}).Draw(t, "change") {
		case "upper":
			value = strings.ToUpper(value)
		case "lower":
			value = strings.ToLower(value)
		case "space":
			value = string(runes[:at]) + " " + string(runes[at:])
		case "before":
			value = string(runes[:at])
		case "from":
			value = string(runes[at:])
		case "insert":
			value = string(runes[:at]) + rapid.SampledFrom([]string{"*", "(", ")", `\`, "\x00", "é", "x", `"`, "/", "名", "\n"}).Draw(t, "insert") + string(runes[at:])
		}
	}
	if strings.TrimSpace(value) == "" {
		return "x"
	}
	return value
}

// nearMoment draws a moment about when something was created or changed.
func (w *filterWorld) nearMoment(t *rapid.T, kind *directory.Kind, field string) string {
	entry := w.entries[kind.Name][rapid.IntRange(0, len(w.entries[kind.Name])-1).Draw(t, "entry")]
	moment, err := time.Parse(time.RFC3339, entry.First(field))
	if err != nil {
		t.Fatalf("%s of %s: %v", field, entry.DN(), err)
	}
	apart := rapid.SampledFrom([]time.Duration{0, 0, time.Second, -time.Second, time.Millisecond, -time.Nanosecond, 24 * time.Hour, -1000 * 24 * time.Hour}).Draw(t, "apart")
	zone := time.FixedZone("", rapid.SampledFrom([]int{0, 0, 3600, -5*3600 - 1800}).Draw(t, "zone"))
	return moment.Add(apart).In(zone).Format(time.RFC3339Nano)
}

// nearReference draws a reference and the DN that it means, of an entry that may not be there.
func (w *filterWorld) nearReference(t *rapid.T, field directory.Field) (value, meant string, mayRefuse bool) {
	reference := rapid.SampledFrom(slices.Sorted(maps.Keys(w.dns))).Draw(t, "reference")
	meant = w.dns[reference]
	switch rapid.SampledFrom([]string{"dn", "dn", "upper", "reference", "no entry", "no dn", "no reference", "spaces"}).Draw(t, "spelled") {
	case "upper":
		if up := strings.ToUpper(meant); !strings.ContainsAny(meant, `\`) {
			return up, meant, false
		}
	case "spaces":
		if parts := strings.Split(meant, ","); !strings.Contains(meant, `\`) {
			return strings.Join(parts, " , "), meant, false
		}
	case "reference":
		if field.Type == directory.Reference {
			return reference, meant, false
		}
	case "no entry":
		return rapid.SampledFrom([]string{"cn=nobody," + meant, "dc=nowhere", "cn=x+sn=y,dc=nowhere"}).Draw(t, "no entry"), "none", false
	case "no dn": // or one that no server with this schema takes for one
		return rapid.SampledFrom([]string{"alice", "shoe=1,dc=nowhere", "dc=é", "1.2.3.4=x", "cn=x,,dc=org", "=", "cn", "c=Germany", `cn=\zz`, "cn=x;dc=org"}).Draw(t, "no dn"), "none", true
	case "no reference":
		return "users/nobody", "none", true
	}
	return meant, meant, false
}

// quote returns a text as JSON has it, with more escapes than it needs.
func quote(t *rapid.T, value string) string {
	var b strings.Builder
	b.WriteByte('"')
	many := rapid.IntRange(0, 3).Draw(t, "escapes") == 0
	for _, r := range value {
		switch {
		case many && r == '/':
			b.WriteString(`\/`)
		case many || r < ' ':
			for _, unit := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, rapid.SampledFrom([]string{`\u%04x`, `\u%04X`}).Draw(t, "hex"), unit)
			}
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
