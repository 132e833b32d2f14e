package ldapdir_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"pgregory.net/rapid"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// pagedWorld is a server with hosts that come and go, and directories that show it, each as another process would.
type pagedWorld struct {
	conn     *ldap.Conn
	replicas []*ldapdir.Directory
	// hosts are those that are there, by name, with what can be sorted by.
	hosts  map[string]map[string][]string
	serial int
}

func newPagedWorld(t *testing.T) *pagedWorld {
	t.Helper()
	server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string {
		return strings.Replace(conf, "\nmaxsize", "\ndbnosync\nmaxsize", 1) // no test pulls the plug
	}})
	w := &pagedWorld{conn: ldapdirtest.Bind(t, server), hosts: map[string]map[string][]string{}}
	for i, hold := range []time.Duration{time.Minute, time.Minute, time.Millisecond, 0} {
		o := ldapdirtest.Options(server)
		o.Connections, o.ExclusiveConnections, o.SortedSearches, o.HoldSearches, o.PageSize = 1, 2, 1+i%2, hold, 20
		w.replicas = append(w.replicas, ldapdirtest.Open(t, o))
	}
	return w
}

// sortedBy are the attributes of the fields that the walks sort and filter by.
var sortedBy = map[string]string{"location": "l", "serialNumber": "serialNumber", "ipAddresses": "ipHostNumber"}

// draw draws what a host can be sorted by: few values, so that many are the same.
func (w *pagedWorld) draw(t *rapid.T) map[string][]string {
	place := rapid.SampledFrom([]string{"", "Rack 1", "rack 1", "RACK 2", "rack  2", "Attic", "_", "zoo", "é", "Ärzte", "名"})
	number := rapid.SampledFrom([]string{"", "", "SN-1", "sn-2", "SN-10"})
	addresses := rapid.SampledFrom([][]string{nil, {"192.0.2.1"}, {"192.0.2.9", "192.0.2.10"}, {"2001:DB8::1", "192.0.2.2"}})
	return map[string][]string{"l": {place.Draw(t, "location")}, "serialNumber": {number.Draw(t, "serial")}, "ipHostNumber": addresses.Draw(t, "addresses")}
}

func (w *pagedWorld) create(t *rapid.T) string {
	w.serial++
	name := fmt.Sprintf("%s%d", rapid.SampledFrom([]string{"a", "web", "a-long-name"}).Draw(t, "name"), w.serial)
	values := w.draw(t)
	add := ldap.NewAddRequest(hostDN(name), nil)
	add.Attribute("objectClass", []string{"device", "ipHost"})
	for attribute, of := range values {
		if values[attribute] = slices.DeleteFunc(slices.Clone(of), func(v string) bool { return v == "" }); len(values[attribute]) > 0 {
			add.Attribute(attribute, values[attribute])
		}
	}
	if len(values["ipHostNumber"]) == 0 {
		add.Attribute("ipHostNumber", []string{"10.0.0.1"})
		values["ipHostNumber"] = []string{"10.0.0.1"}
	}
	demand(t, w.conn.Add(add))
	w.hosts[name] = values
	return name
}

func demand(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (w *pagedWorld) remove(t *rapid.T, name string) {
	if w.hosts[name] != nil {
		demand(t, w.conn.Del(ldap.NewDelRequest(hostDN(name), nil)))
		delete(w.hosts, name)
	}
}

// change changes what a host is sorted by.
func (w *pagedWorld) change(t *rapid.T, name string, values map[string][]string) {
	modify := ldap.NewModifyRequest(hostDN(name), nil)
	for _, attribute := range []string{"l", "serialNumber"} {
		values[attribute] = slices.DeleteFunc(slices.Clone(values[attribute]), func(v string) bool { return v == "" })
		modify.Replace(attribute, values[attribute])
		w.hosts[name][attribute] = values[attribute]
	}
	demand(t, w.conn.Modify(modify))
}

// walked is one client's way through the pages of a list.
type walked struct {
	*pagedWorld
	query   directory.Query
	replica int // the one that was asked last
	// shown are the names on the pages so far, touched those that came, went or changed meanwhile, changed the last.
	shown            []string
	touched, changed map[string]bool
}

// walkedFilters are filters, each with the same in LDAP.
var walkedFilters = []struct{ text, ldap string }{
	{"", "(cn=*)"},
	{"", "(cn=*)"},
	{"location pr", "(l=*)"},
	{`not (location eq "rack 1")`, "(!(l=rack 1))"},
	{`serialNumber sw "SN"`, "(serialNumber=sn*)"},
	{`cn sw "a" or location co "a"`, "(|(cn=a*)(l=*a*))"},
}

// TestPagesShowOnceWhatIsThereAllAlong walks lists, each page on some replica, while entries come, go and change.
func TestPagesShowOnceWhatIsThereAllAlong(t *testing.T) {
	w := newPagedWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		for want := rapid.SampledFrom([]int{0, 1, 10, 30, 120}).Draw(t, "hosts"); len(w.hosts) < want; {
			w.create(t)
		}
		for _, name := range slices.Sorted(maps.Keys(w.hosts)) {
			if len(w.hosts) <= 150 {
				break
			}
			w.remove(t, name)
		}
		walk := &walked{pagedWorld: w, touched: map[string]bool{}, changed: map[string]bool{}}
		walk.query.Limit = rapid.SampledFrom([]int{1, 7, 20, 50, 100, 1000}).Draw(t, "limit")
		if len(w.hosts) > 40 {
			walk.query.Limit = max(walk.query.Limit, 7)
		}
		if text := rapid.SampledFrom([]string{"", "", "location", "-location", "serialNumber,-location", "-serialNumber,cn", "ipAddresses", "-ipAddresses,location", "-cn", "id", "createdAt,-id"}).Draw(t, "sort"); text != "" {
			walk.query.Sort = parse(t, text, directory.ParseSort)
		}
		filter := rapid.SampledFrom(walkedFilters).Draw(t, "filter")
		if filter.text != "" {
			walk.query.Filter = parse(t, filter.text, directory.ParseFilter)
		}
		if rapid.Bool().Draw(t, "few fields") {
			walk.query.Fields = []string{"cn"}
		}
		expected := walk.matching(t, filter.ldap)
		for walk.page(t) {
			walk.meanwhile(t)
		}
		walk.check(t, expected)
	})
}

func parse[T any](t *rapid.T, text string, read func(*directory.Kind, string) (T, error)) T {
	t.Helper()
	value, err := read(ldapdirtest.Hosts, text)
	demand(t, err)
	return value
}

// matching returns the names that a plain search finds.
func (w *walked) matching(t *rapid.T, filter string) []string {
	result, err := w.conn.Search(ldap.NewSearchRequest("ou=hosts,"+ldapdirtest.Base, ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 0, 0, false,
		"(&(objectClass=device)"+filter+")", []string{"cn"}, nil))
	demand(t, err)
	names := []string{}
	for _, entry := range result.Entries {
		names = append(names, entry.GetAttributeValue("cn"))
	}
	return names
}

func namesOf(entries []directory.Entry) []string {
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// page asks some replica for the next page, and reports whether there is one after it.
func (w *walked) page(t *rapid.T) bool {
	page, err := w.ask(t)
	if err == nil && w.query.After != nil && rapid.IntRange(0, 4).Draw(t, "ask twice") == 0 {
		first := page
		page, err = w.ask(t)
		// A search that stayed open may show more of what went meanwhile, and so less of the rest.
		if was, is := w.untouched(namesOf(first.Entries)), w.untouched(namesOf(page.Entries)); err == nil && !startAlike(was, is) {
			t.Fatalf("the same page has %q, and then %q", was, is)
		}
	}
	if directory.Is(err, directory.CursorLost) {
		w.mayBeLost(t, err)
		return false
	}
	demand(t, err)
	if page.Next != nil && len(page.Entries) == 0 {
		t.Fatal("a page is empty, and not the last")
	}
	if w.query.After != nil && len(page.Entries) == 0 && len(w.touched) == 0 {
		t.Fatal("there was no next page")
	}
	w.shown = append(w.shown, namesOf(page.Entries)...)
	w.query.After = carried(t, page.Next)
	return page.Next != nil
}

// untouched returns those of the names that were neither touched nor are new.
func (w *walked) untouched(names []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { return w.touched[name] })
}

// startAlike reports whether the shorter one is what the other begins with.
func startAlike(a, b []string) bool {
	n := min(len(a), len(b))
	return slices.Equal(a[:n], b[:n])
}

func (w *walked) ask(t *rapid.T) (directory.Page, error) {
	if rapid.Bool().Draw(t, "another replica") {
		w.replica = rapid.IntRange(0, len(w.replicas)-1).Draw(t, "replica")
	}
	return w.replicas[w.replica].Page(context.Background(), ldapdirtest.Hosts, w.query)
}

// carried is a place as a cursor carries it.
func carried(t *rapid.T, place *directory.Place) (again *directory.Place) {
	text, err := json.Marshal(place)
	demand(t, err)
	demand(t, json.Unmarshal(text, &again))
	return again
}

// mayBeLost demands that nothing is left by which the place could be found again.
func (w *walked) mayBeLost(t *rapid.T, err error) {
	last := w.shown[max(0, len(w.shown)-100):]
	left := slices.DeleteFunc(slices.Clone(last), func(name string) bool { return w.hosts[name] == nil || w.touched[name] })
	if w.query.Sort != nil || len(w.shown) <= 100 || len(left) > 0 {
		t.Fatalf("%v, after %d entries of which %q are left", err, len(w.shown), left)
	}
	w.shown = nil
}

// meanwhile is what others do between two pages.
func (w *walked) meanwhile(t *rapid.T) {
	for range rapid.IntRange(0, 3).Draw(t, "changes") {
		doomed := []string{}
		switch rapid.SampledFrom([]string{"create", "delete", "delete the last", "delete the page", "delete a hundred", "change", "change what is next", "move what is next", "elsewhere", "other"}).Draw(t, "meanwhile") {
		case "create":
			for range rapid.IntRange(1, 5).Draw(t, "new") {
				w.touched[w.create(t)] = true
			}
		case "delete":
			doomed = append(doomed, w.any(t))
		case "delete the last":
			doomed = w.shown[max(0, len(w.shown)-1):]
		case "delete the page":
			doomed = w.shown[max(0, len(w.shown)-w.query.Limit):]
		case "delete a hundred":
			doomed = w.shown[max(0, len(w.shown)-rapid.SampledFrom([]int{99, 100, 150}).Draw(t, "so many")):]
		case "change":
			w.change(t, w.any(t), w.draw(t))
		case "change what is next":
			for _, name := range w.next(t, 1) {
				w.change(t, name, w.draw(t))
			}
		case "move what is next":
			to := w.draw(t)
			for _, name := range w.next(t, 3) {
				w.change(t, name, to)
			}
		case "elsewhere":
			w.toggle(t, "cn=elsewhere,ou=groups,"+ldapdirtest.Base, "device")
		case "other":
			w.toggle(t, hostDN("other"), "organizationalRole")
		}
		for _, name := range doomed {
			w.touched[name] = true
			w.remove(t, name)
		}
	}
}

// change changes a host, if it is one.
func (w *walked) change(t *rapid.T, name string, values map[string][]string) {
	if name != "" {
		w.touched[name], w.changed[name] = true, true
		w.pagedWorld.change(t, name, values)
	}
}

// next returns at most n hosts, one after the other, from near the end of the next page on.
func (w *walked) next(t *rapid.T, n int) []string {
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(w.hosts)), func(name string) bool { return slices.Contains(w.shown, name) })
	slices.SortStableFunc(names, w.compare)
	at := w.query.Limit - 1 + rapid.IntRange(-1, 1).Draw(t, "near")
	if at < 0 || at >= len(names) {
		return nil
	}
	return names[at:min(at+n, len(names))]
}

// toggle adds an entry that is no host, or removes it.
func (w *walked) toggle(t *rapid.T, dn, class string) {
	add := ldap.NewAddRequest(dn, nil)
	add.Attribute("objectClass", []string{class})
	if err := w.conn.Add(add); ldap.IsErrorWithCode(err, ldap.LDAPResultEntryAlreadyExists) {
		demand(t, w.conn.Del(ldap.NewDelRequest(dn, nil)))
	} else {
		demand(t, err)
	}
}

// any draws a host that is there, "" where there is none.
func (w *walked) any(t *rapid.T) string {
	names := slices.Sorted(maps.Keys(w.hosts))
	if len(names) == 0 {
		return ""
	}
	return rapid.SampledFrom(names).Draw(t, "host")
}

// check demands of what was not touched that it was shown once, in order; and of everything that it was not shown
// twice, unless what it is sorted by has changed.
func (w *walked) check(t *rapid.T, expected []string) {
	if w.shown == nil && w.query.After != nil {
		return // it was lost
	}
	got, want := w.untouched(w.shown), w.untouched(expected)
	for i := 1; i < len(got); i++ {
		if w.compare(got[i-1], got[i]) > 0 {
			t.Fatalf("%s %q comes before %s %q", got[i-1], w.hosts[got[i-1]], got[i], w.hosts[got[i]])
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("shown %q\nwant  %q", got, want)
	}
	seen := map[string]bool{}
	for _, name := range w.shown {
		if seen[name] && !w.changed[name] {
			t.Fatalf("%s is shown twice: %q", name, w.shown)
		}
		seen[name] = true
	}
}

// compare is the order that was asked for, as far as this test knows it; else that in which hosts were made.
func (w *walked) compare(a, b string) int {
	if len(w.query.Sort) == 0 {
		return cmp.Compare(serial(a), serial(b))
	}
	for _, key := range w.query.Sort {
		of := func(name string) string {
			values := w.hosts[name][sortedBy[key.Field]]
			if key.Field == "cn" {
				values = []string{name}
			}
			folded := []string{}
			for _, value := range values {
				folded = append(folded, strings.ToLower(strings.ReplaceAll(value, "  ", " ")))
			}
			if len(folded) == 0 {
				return "\xff" // behind every text
			}
			return slices.Min(folded)
		}
		if key.Field == "id" || key.Field == "createdAt" {
			return 0
		}
		order := cmp.Compare(of(a), of(b))
		if key.Descending {
			order = -order
		}
		if order != 0 {
			return order
		}
	}
	return 0
}

// serial returns the number at the end of a name.
func serial(name string) int {
	n, _ := strconv.Atoi(name[strings.LastIndexFunc(name, func(r rune) bool { return r < '0' || r > '9' })+1:])
	return n
}

// pagesOf follows a walk to its end, each page on the next of the replicas, and does something after each.
func pagesOf(t *testing.T, query directory.Query, replicas []*ldapdir.Directory, kind *directory.Kind, between func(page int)) (names []string) {
	t.Helper()
	for page := 0; ; page++ {
		got, err := replicas[page%len(replicas)].Page(t.Context(), kind, query)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, namesOf(got.Entries)...)
		if query.After = got.Next; got.Next == nil {
			return names
		}
		between(page)
	}
}

// TestAnEntryThatMovesAwayHidesNoOther: the search that is held sends it at its old place, with its new value.
func TestAnEntryThatMovesAwayHidesNoOther(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	l := on(t, server)
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		l.add(0, hostDN(name), "cn", name, "l", "Rack "+name)
	}
	for name, to := range map[string]string{"to the end": "zoo", "to the front": "_"} {
		t.Run(name, func(t *testing.T) {
			l.modify(0, hostDN("d"), replacing("l", "Rack d"))
			d, other := ldapdirtest.Open(t, ldapdirtest.Options(server)), ldapdirtest.Open(t, ldapdirtest.Options(server))
			query := directory.Query{Limit: 2, Sort: []directory.SortKey{{Field: "location"}}}
			names := pagesOf(t, query, []*ldapdir.Directory{d, d, other}, ldapdirtest.Hosts, func(page int) {
				if page == 0 {
					l.modify(0, hostDN("d"), replacing("l", to))
				}
			})
			if still := slices.DeleteFunc(names, func(name string) bool { return name == "d" }); !slices.Equal(still, []string{"a", "b", "c", "e", "f", "g"}) {
				t.Errorf("shown %q", still)
			}
		})
	}
}

// TestNeighboursThatMoveAwayHideNoOther: the search that is held sends them one after the other, as if in order.
func TestNeighboursThatMoveAwayHideNoOther(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	l := on(t, server)
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g"} {
		l.add(0, hostDN(name), "cn", name, "l", "Rack "+name)
	}
	d, other := ldapdirtest.Open(t, ldapdirtest.Options(server)), ldapdirtest.Open(t, ldapdirtest.Options(server))
	for next, replica := range map[string]*ldapdir.Directory{"by the same": d, "by another": other} {
		t.Run(next, func(t *testing.T) {
			l.modify(0, hostDN("d"), replacing("l", "Rack d"))
			l.modify(0, hostDN("e"), replacing("l", "Rack e"))
			query := directory.Query{Limit: 2, Sort: []directory.SortKey{{Field: "location"}}}
			names := pagesOf(t, query, []*ldapdir.Directory{d, d, replica}, ldapdirtest.Hosts, func(page int) {
				if page == 0 {
					l.modify(0, hostDN("d"), replacing("l", "Rack w"))
					l.modify(0, hostDN("e"), replacing("l", "Rack x"))
				}
			})
			still := slices.DeleteFunc(names, func(name string) bool { return name == "d" || name == "e" })
			if !slices.Equal(still, []string{"a", "b", "c", "f", "g"}) {
				t.Errorf("shown %q", still)
			}
		})
	}
}

// TestAWalkAtItsEndIsNotWhatMakesRoom for another that is to be sorted: it is sorted no more.
func TestAWalkAtItsEndIsNotWhatMakesRoom(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	l := on(t, server)
	for i := range 30 {
		name := fmt.Sprintf("h%02d", i)
		l.add(0, hostDN(name), "cn", name)
	}
	o := ldapdirtest.Options(server)
	o.SortedSearches = 1
	d := ldapdirtest.Open(t, o)
	ask := func(query directory.Query) directory.Page {
		t.Helper()
		query.Sort = []directory.SortKey{{Field: "cn"}}
		page, err := d.Page(t.Context(), ldapdirtest.Hosts, query)
		if err != nil {
			t.Fatal(err)
		}
		return page
	}
	late := ask(directory.Query{Limit: 24}).Next
	late.Walk = ""
	ask(directory.Query{Limit: 5, After: late}) // all 30 are read, one is left to show
	ask(directory.Query{Limit: 5})
	ask(directory.Query{Limit: 5})
}

// sortedKind is a kind with fields of every sort that can be sorted by.
func sortedKind(t *testing.T) (*directory.Kind, ldapdir.Mapping) {
	t.Helper()
	m := ldapdir.Mapping{Container: "ou=hosts," + ldapdirtest.Base, NamingAttribute: "cn", ObjectClasses: []string{"device"}, Attributes: map[string]ldapdir.Attribute{}}
	var fields []directory.Field
	for name := range sortedValues {
		fields = append(fields, directory.Field{Name: name, List: true})
		m.Attributes[name] = ldapdir.Attribute{Type: name, ObjectClass: "extensibleObject"}
	}
	kind, err := directory.NewKind(directory.Hosts(), "cn", fields...)
	if err != nil {
		t.Fatal(err)
	}
	m.Kind = kind
	return kind, m
}

// sortedValues are values that are hard to put in order, by attribute; several to one entry have a bar between them.
var sortedValues = map[string][]string{
	"street": {"a", "A", "b", "B ", " b", "a  b", "a b", "ab", "a-b", "a_b", "_", "~", "é", "e\u0301", "É", "z", "Z", "ß", "ss", "SS", "ẞ", "İ", "i", "I", "ı",
		"ſ", "s", "ﬁ", "fi", "Ａ", "Σ", "ς", "σ", "ǅ", "ǆ", "Ω", "Ω", "\u212a", "k", "名", "日本", "😀", "\u00a0x", "x\u00a0y", "x y", "x\ty", "\u00ad", "a\u00adb", "a\u200bb", "٣", "3",
		"½", "\u0130x", "m²", "m2", "q|c", "\u00b5", "μ", "aͅ", "ᾳ", "ᾼ", "K", "Å", "å", "Å"},
	"uidNumber":               {"0", "7", "10", "9", "-1", "-10", "-9", "123456789", "99"},
	"homeDirectory":           {"/home/a", "/home/B", "/home/b", "/Home/c", "/home/a  b", "/home/a b"},
	"mail":                    {"a@example.org", "B@example.org", "b@example.net", "A.b@x"},
	"telephoneNumber":         {"+1 2", "+1-1", "+12", "112", "+1 (2) 3"},
	"internationaliSDNNumber": {"12 3", "124", "1 22", "9", "10"},
	"shadowMax":               {"5", "50", "6"},
	"destinationIndicator":    {"AA", "ab", "Ac"},
	"preferredLanguage":       {"de", "DE", "en", "en-GB"},
	"departmentNumber":        {"2|11", "3", "1|4", "10"},
	"labeledURI":              {"http://B", "http://a", "HTTP://a"},
	"businessCategory":        {" ", "x"},
}

// TestAPlaceIsFoundAgainAmongAllValues, whatever the server sorts by: it is found by comparing as the server does.
func TestAPlaceIsFoundAgainAmongAllValues(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	l := on(t, server)
	kind, mapping := sortedKind(t)
	o := ldapdirtest.Options(server)
	o.Mappings, o.HoldSearches = []ldapdir.Mapping{mapping}, 0
	d := ldapdirtest.Open(t, o)
	serial := 0
	for attribute, values := range sortedValues {
		for _, value := range values {
			serial++
			name := fmt.Sprintf("h%d", serial)
			attributes := []string{"objectClass", "extensibleObject", "cn", name}
			for one := range strings.SplitSeq(value, "|") {
				attributes = append(attributes, attribute, one)
			}
			l.add(0, hostDN(name), attributes...)
		}
	}
	for _, attribute := range slices.Sorted(maps.Keys(sortedValues)) {
		for _, descending := range []bool{false, true} {
			query := directory.Query{Limit: 1000, Sort: []directory.SortKey{{Field: attribute, Descending: descending}},
				Filter: directory.Filter{Operator: directory.Present, Field: attribute}}
			all := pagesOf(t, query, []*ldapdir.Directory{d}, kind, func(int) {})
			if len(all) != len(sortedValues[attribute]) {
				t.Errorf("%s: %d entries, want %d", attribute, len(all), len(sortedValues[attribute]))
			}
			query.Limit = 1
			got := pagesOf(t, query, []*ldapdir.Directory{d}, kind, func(page int) {
				if descending { // then there is nothing to go by but the order
					l.remove(0, hostDN(all[page]))
				}
			})
			if !slices.Equal(got, all) {
				t.Errorf("%s, descending %v: by pages %q, at once %q", attribute, descending, got, all)
			}
		}
	}
}
