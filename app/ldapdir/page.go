package ldapdir

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
	"golang.org/x/text/unicode/norm"

	"rollcall/app/directory"
)

// Page implements [directory.Directory] by a paged search (RFC 2696), which the server sorts where that is asked for
// (RFC 2891). The search stays open for the next page. Where it does not, it is done again up to the place.
func (d *Directory) Page(ctx context.Context, kind *directory.Kind, query directory.Query) (directory.Page, error) {
	m := d.of(kind.Name)
	listing, err := d.listing(ctx, m, query)
	if err != nil {
		return directory.Page{}, err
	}
	for again := true; ; again = false {
		w, found, err := d.pageFrom(ctx, listing, query)
		if err == nil && (!again || w.inOrder(query.After, found) && w.endsSurely(found)) {
			return d.pageOf(w, found, query), nil
		}
		w.close()
		if err == nil {
			continue
		}
		if lost, ok := errors.AsType[*lostError](err); !again || query.After == nil || ok && lost.timeout || directory.Is(err, directory.CursorLost) {
			return directory.Page{}, d.listFault(err, m)
		}
	}
}

// pageFrom returns the entries of a page, and the search that they are from.
func (d *Directory) pageFrom(ctx context.Context, l *listing, query directory.Query) (*walk, []*ldap.Entry, error) {
	w := d.held.take(query.After, l.identity)
	if w == nil {
		w = d.newWalk(l)
		if query.After != nil {
			if err := w.seek(ctx, query.After, query.Limit); err != nil {
				return w, nil, err
			}
		}
	}
	found, err := w.next(ctx, query.Limit)
	return w, found, err
}

// pageOf decodes the entries of a page, and keeps the search for the next.
func (d *Directory) pageOf(w *walk, found []*ldap.Entry, query directory.Query) directory.Page {
	page := directory.Page{Entries: make([]directory.Entry, len(found))}
	for i, entry := range found {
		page.Entries[i] = w.decode(entry, query)
	}
	if w.done() {
		w.close()
		return page
	}
	page.Next = w.placeAfter(query.After, found)
	page.Next.Walk = d.held.put(w, d.options.HoldSearches)
	if d.pool.paged.places.waiting.Load() > 0 { // whoever waits goes first
		d.pool.paged.places.evict()
	}
	if w.sorted() && d.sorts.waiting.Load() > 0 {
		d.sorts.evict()
	}
	return page
}

// Count implements [directory.Directory]: LDAP has no operation that counts, so that the names of all entries are read.
func (d *Directory) Count(ctx context.Context, kind *directory.Kind, filter directory.Filter) (int, error) {
	m := d.of(kind.Name)
	l, err := d.listing(ctx, m, directory.Query{Filter: filter})
	if err != nil {
		return 0, err
	}
	l.request.Attributes = []string{"1.1"}
	w := d.newWalk(l)
	defer w.close()
	count := 0
	for !w.done() {
		found, err := w.next(ctx, int(d.options.PageSize))
		if err != nil {
			return 0, d.listFault(err, m)
		}
		count += len(found)
	}
	return count, nil
}

// listFault is fault for what may be too much to ask.
func (d *Directory) listFault(err error, m *mapping) error {
	fault := d.fault(err, m)
	if timeout, ok := fault.(*directory.Error); ok && timeout.Code == directory.Timeout { //nolint:errorlint // made here, not wrapped
		timeout.Detail = "The search took too long. Ask for less, or have the server index what the filter compares."
	}
	return fault
}

// listing is a query in LDAP's terms.
type listing struct {
	*mapping
	request *ldap.SearchRequest
	sort    []sortKey
	// hidden are the places of fields that are not wanted.
	hidden []int
	// identity is the same for requests that are answered by the same entries in the same order.
	identity string
}

// sortKey is an attribute that the server sorts by.
type sortKey struct {
	attribute  string
	descending bool
	// fold returns a value as it compares with others, byte by byte.
	fold func(string) string
}

// oidSort is server-side sorting, RFC 2891.
const oidSort = "1.2.840.113556.1.4.473"

// listing returns what a query means here.
func (d *Directory) listing(ctx context.Context, m *mapping, query directory.Query) (*listing, error) {
	filter, err := d.filterFor(ctx, m, query.Filter)
	if err != nil {
		return nil, err
	}
	l := &listing{mapping: m}
	for i, field := range m.Kind.Fields {
		if !query.Wants(field.Name) {
			l.hidden = append(l.hidden, i)
		}
	}
	l.request = m.search(m.Container, m.scope(), filter, m.requestFor(query))
	if seconds := int((d.options.Timeout + time.Second - 1) / time.Second); seconds > 0 {
		l.request.TimeLimit = seconds // so that the server gives up when we do
	}
	if len(query.Sort) > 0 {
		if err := d.sortBy(ctx, l, query.Sort); err != nil {
			return nil, err
		}
	}
	caller := ""
	if who, ok := directory.CallerFrom(ctx); ok && d.options.ActAsCaller {
		caller = who.DN
	}
	l.identity = fmt.Sprintf("%q", []any{m.Kind.Name, query.Filter, l.request.Attributes, query.Sort, caller})
	return l, nil
}

// requestFor returns the attributes that a query needs.
func (m *mapping) requestFor(query directory.Query) []string {
	if query.Fields == nil && query.Sort == nil {
		return m.request
	}
	attributes := []string{m.attributeOf(directory.FieldID).Type}
	if query.Sort != nil {
		attributes = append(attributes, attrEntryCSN, attrModified)
	}
	if query.Sources {
		attributes = append(attributes, attrObjectClass)
	}
	for i, field := range m.Kind.Fields {
		sorted := slices.ContainsFunc(query.Sort, func(k directory.SortKey) bool { return k.Field == field.Name })
		if !query.Wants(field.Name) && !sorted || field.Name == directory.FieldDN && !sorted || field.WriteOnly || field.Name == directory.FieldID {
			continue
		}
		attributes = append(attributes, m.fields[i].Type)
		if field.Name == directory.FieldAccountLocked {
			attributes = append(attributes, attrEndTime, attrStartTime)
		}
	}
	return attributes
}

// sortBy has the server sort the answer, at last by the id, so that every entry has its place.
func (d *Directory) sortBy(ctx context.Context, l *listing, keys []directory.SortKey) error {
	server, err := d.pool.server(ctx)
	if err != nil {
		return d.fault(err, l.mapping)
	}
	if !server.sorting {
		return lacks("sorting", oidSort)
	}
	known, err := d.schemaOf(ctx)
	if err != nil {
		return err
	}
	list := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "SortKeyList")
	for _, key := range append(slices.Clip(keys), directory.SortKey{Field: directory.FieldID}) {
		attribute := l.attributeOf(key.Field).Type
		rules, _ := known.of(attribute)
		rule := rules.orderingRule()
		if rule == "" || key.Field == directory.FieldAccountLocked {
			return &directory.Error{Code: directory.Invalid, Violations: []directory.Violation{{Field: "sort",
				Message: fmt.Sprintf("can't be by %s: the directory server has no rule for its order", key.Field)}}}
		}
		l.sort = append(l.sort, sortKey{attribute, key.Descending, rules.sortable()})
		packet := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "SortKey")
		packet.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, attribute, ""))
		packet.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, rule, ""))
		if key.Descending {
			packet.AppendChild(ber.NewLDAPBoolean(ber.ClassContext, ber.TypePrimitive, 1, true, ""))
		}
		list.AppendChild(packet)
	}
	l.request.Controls = []ldap.Control{control{oidSort, true, list.Bytes()}}
	return nil
}

// sortable returns how the values of an attribute compare with each other, byte by byte: as its rule of equality
// normalizes them.
func (r rules) sortable() func(string) string {
	switch baseSyntax(r.syntax) {
	case syntaxInteger:
		return sortableInteger
	case syntaxTime:
		return func(value string) string {
			if at, ok := moment(value); ok {
				value = strings.TrimSuffix(generalizedTime(at), "Z")
			}
			return value
		}
	case syntaxNumericString:
		return strings.NewReplacer(" ", "").Replace
	case syntaxTelephone:
		separators := strings.NewReplacer(" ", "", "-", "")
		return func(value string) string { return strings.ToLower(separators.Replace(value)) }
	}
	return sortableText(strings.HasPrefix(r.equality, "caseExact"))
}

// sortableText prepares texts as slapd does: it makes letters small before it takes them apart, where Fold does so
// afterwards, and of white space it knows the space.
func sortableText(exact bool) func(string) string {
	small := func(r rune) rune {
		if exact || r == 'ẞ' { // its tables are older than this letter
			return r
		}
		return unicode.ToLower(r)
	}
	return func(value string) string {
		value = strings.Map(small, norm.NFKD.String(strings.Map(small, value)))
		return strings.Join(strings.FieldsFunc(norm.NFC.String(value), func(r rune) bool { return r == ' ' }), " ")
	}
}

// sortableInteger puts the number of digits before them; of what is negative each digit is what is missing to 9.
func sortableInteger(value string) string {
	digits, negative := strings.CutPrefix(strings.TrimSpace(value), "-")
	digits = strings.TrimLeft(digits, "0")
	key := fmt.Sprintf("%09d%s", len(digits), digits)
	if !negative || digits == "" {
		return "+" + key
	}
	missing := []byte("!" + key) // before +
	for i := range missing[1:] {
		missing[i+1] = '9' - (missing[i+1] - '0')
	}
	return string(missing)
}

// keysOf returns an entry's values that the server sorts by, as they compare; nil where it has none. Of several it
// takes the lowest.
func (l *listing) keysOf(found *ldap.Entry) []*string {
	keys := make([]*string, len(l.sort))
	for i, key := range l.sort {
		for _, value := range found.GetEqualFoldAttributeValues(key.attribute) {
			if folded := key.fold(value); keys[i] == nil || folded < *keys[i] {
				keys[i] = &folded
			}
		}
	}
	return keys
}

// compare orders the keys of two entries as the server does: those without a value are the highest.
func (l *listing) compare(a, b []*string) int {
	for i, key := range l.sort {
		if i >= len(a) || i >= len(b) {
			break
		}
		order := 0
		switch {
		case a[i] == nil && b[i] == nil:
		case a[i] == nil:
			order = 1
		case b[i] == nil:
			order = -1
		default:
			order = strings.Compare(*a[i], *b[i])
		}
		if key.descending {
			order = -order
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

// A place remembers the last entries before it where they are in the server's own order, each by a digest of its id.
// It is after the last of them that is left.
const (
	maxRecent    = 100 // entries
	digestLength = 6   // bytes: among a hundred thousand others, one of a hundred is mistaken once in ten million times
)

// placeAfter returns the place after the entries of a page, of which there is one at least.
func (w *walk) placeAfter(before *directory.Place, found []*ldap.Entry) *directory.Place {
	last := found[len(found)-1]
	place := &directory.Place{Passed: len(found), ID: w.idOf(last)}
	if w.sorted() {
		place.Keys = w.keysOf(last)
	}
	if before != nil {
		place.Passed += before.Passed
		place.Recent = slices.Clone(before.Recent)
	}
	if w.sorted() {
		return place
	}
	for _, entry := range found[max(0, len(found)-maxRecent):] {
		place.Recent = append(place.Recent, digestOf(w.idOf(entry))...)
	}
	place.Recent = place.Recent[max(0, len(place.Recent)-maxRecent*digestLength):]
	return place
}

func (l *listing) idOf(found *ldap.Entry) string {
	return found.GetEqualFoldAttributeValue(l.attributeOf(directory.FieldID).Type)
}

func digestOf(id string) []byte {
	sum := sha256.Sum256([]byte(id))
	return sum[:digestLength]
}

// isRecent reports whether a digest is of one of the last entries before a place.
func isRecent(digest []byte, place *directory.Place) bool {
	for recent := range slices.Chunk(place.Recent, digestLength) {
		if bytes.Equal(recent, digest) {
			return true
		}
	}
	return false
}

// decode turns what was found into an entry with the fields that are wanted.
func (w *walk) decode(found *ldap.Entry, query directory.Query) directory.Entry {
	entry := w.directory.decode(w.mapping, found)
	if w.hidden != nil {
		entry = entry.HideAt(w.hidden)
	}
	if query.Sources {
		entry.Source = w.source(found, query)
	}
	return entry
}

// source returns an entry as an LDIF record that ldapadd takes: what fields show and can be written.
func (w *walk) source(found *ldap.Entry, query directory.Query) *directory.Record {
	record := &directory.Record{DN: found.DN, Attributes: []directory.Attribute{
		{Type: attrObjectClass, Values: found.GetEqualFoldAttributeValues(attrObjectClass)}}}
	for i, field := range w.Kind.Fields {
		values := found.GetEqualFoldAttributeValues(w.fields[i].Type)
		if query.Wants(field.Name) && !field.ReadOnly && !field.Backlink && field.Name != directory.FieldAccountLocked && len(values) > 0 {
			record.Attributes = append(record.Attributes, directory.Attribute{Type: w.fields[i].Type, Values: values})
		}
	}
	return record
}
