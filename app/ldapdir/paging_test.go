package ldapdir_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
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
	for i, hold := range []time.Duration{time.Minute, time.Minute, 0} {
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
func (w *pagedWorld) change(t *rapid.T, name string) {
	values := w.draw(t)
	modify := ldap.NewModifyRequest(hostDN(name), nil)
	for _, attribute := range []string{"l", "serialNumber"} {
		values[attribute] = slices.DeleteFunc(slices.Clone(values[attribute]), func(v string) bool { return v == "" })
		modify.Replace(attribute, values[attribute])
		w.hosts[name][attribute] = values[attribute]
	}
	demand(t, w.conn.Modify(modify))
}

// walk is one client's way through the pages of a list.
type walked struct {
	*pagedWorld
	query directory.Query
	// shown are the names on the pages so far, touched those that came, went or changed meanwhile.
	shown   []string
	touched map[string]bool
}

// TestPagesShowOnceWhatIsThereAllAlong walks lists, each page on another replica, while entries come, go and change.
func TestPagesShowOnceWhatIsThereAllAlong(t *testing.T) {
	w := newPagedWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		for want := rapid.SampledFrom([]int{0, 1, 30, 130, 250}).Draw(t, "hosts"); len(w.hosts) < want; {
			w.create(t)
		}
		for _, name := range slices.Sorted(maps.Keys(w.hosts)) {
			if len(w.hosts) <= 260 {
				break
			}
			w.remove(t, name)
		}
		walk := &walked{pagedWorld: w, touched: map[string]bool{}, query: directory.Query{Limit: rapid.SampledFrom([]int{1, 7, 20, 50, 100, 1000}).Draw(t, "limit")}}
		if len(w.hosts) > 60 {
			walk.query.Limit = max(walk.query.Limit, 7)
		}
		if text := rapid.SampledFrom([]string{"", "", "location", "-location", "serialNumber,-location", "-serialNumber,cn", "ipAddresses", "-ipAddresses,location", "-cn", "id", "createdAt,-id"}).Draw(t, "sort"); text != "" {
			walk.query.Sort = parse(t, text, directory.ParseSort)
		}
		if text := rapid.SampledFrom([]string{"", "", "location pr", `not (location eq "rack 1")`, `serialNumber sw "SN"`, `cn sw "a" or location co "a"`}).Draw(t, "filter"); text != "" {
			walk.query.Filter = parse(t, text, directory.ParseFilter)
		}
		if rapid.Bool().Draw(t, "few fields") {
			walk.query.Fields = []string{"cn"}
		}
		expected := walk.everything(t)
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

// everything returns the names that one large page shows.
func (w *walked) everything(t *rapid.T) []string {
	query := w.query
	query.Limit = 10_000
	page, err := w.replicas[0].Page(context.Background(), ldapdirtest.Hosts, query)
	demand(t, err)
	if page.Next != nil {
		t.Fatalf("%d entries are not all", len(page.Entries))
	}
	return namesOf(page.Entries)
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
	before := w.query.After
	page, err := w.ask(t)
	if directory.Is(err, directory.CursorLost) {
		w.mayBeLost(t, err)
		return false
	}
	demand(t, err)
	names := namesOf(page.Entries)
	if before != nil && rapid.IntRange(0, 4).Draw(t, "ask twice") == 0 {
		again, err := w.ask(t)
		demand(t, err)
		// A search that stayed open may show more of what went meanwhile, and so less of the rest.
		if was, is := w.untouched(names), w.untouched(namesOf(again.Entries)); !startAlike(was, is) {
			t.Fatalf("the same page has %q, and then %q", was, is)
		}
		page, names = again, namesOf(again.Entries)
	}
	if page.Next != nil && len(page.Entries) == 0 {
		t.Fatal("a page is empty, and not the last")
	}
	w.shown = append(w.shown, names...)
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
	replica := w.replicas[rapid.IntRange(0, len(w.replicas)-1).Draw(t, "replica")]
	return replica.Page(context.Background(), ldapdirtest.Hosts, w.query)
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
		switch rapid.SampledFrom([]string{"create", "delete", "delete the last", "delete the page", "delete a hundred", "change", "elsewhere", "other"}).Draw(t, "meanwhile") {
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
			if name := w.any(t); name != "" {
				w.touched[name] = true
				w.pagedWorld.change(t, name)
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

// check demands of what was not touched that it was shown once, in order.
func (w *walked) check(t *rapid.T, expected []string) {
	if w.shown == nil && w.query.After != nil {
		return // it was lost
	}
	got, want := w.untouched(w.shown), w.untouched(expected)
	if len(w.query.Sort) == 0 {
		slices.Sort(got)
		slices.Sort(want)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("shown %q\nwant  %q", got, want)
	}
	for i := range got {
		if i > 0 && len(w.query.Sort) > 0 && w.compare(got[i-1], got[i]) > 0 {
			t.Fatalf("%s %q comes before %s %q", got[i-1], w.hosts[got[i-1]], got[i], w.hosts[got[i]])
		}
	}
}

// compare is the order that was asked for, as far as this test knows it.
func (w *walked) compare(a, b string) int {
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
