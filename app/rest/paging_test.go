package rest_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"go.uber.org/goleak"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/rest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// next returns the URL of the next page, nil where there is none.
func (x *exchange) next() *url.URL {
	x.t.Helper()
	link := x.Header.Get("Link")
	if link == "" {
		return nil
	}
	address, ok := strings.CutSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
	next, err := url.Parse(address)
	if !ok || err != nil {
		x.fail("Link is %q", link)
	}
	return next
}

// names returns the names of the entries on a page.
func (x *exchange) names() []string {
	x.t.Helper()
	var entries []object
	x.decode(&entries)
	names := []string{}
	for _, entry := range entries {
		names = append(names, entry["cn"].(string))
	}
	return names
}

// pages follows a list to its end. After each page it asks which API the next one is to come from, unless after is nil.
func (a *api) pages(path string, after func(page int) *api) (pages []*exchange) {
	a.t.Helper()
	for {
		page := a.do("GET", path, nil).want(200)
		pages = append(pages, page)
		next := page.next()
		if next == nil {
			return pages
		}
		if len(page.names()) == 0 {
			page.fail("a page is empty, and not the last")
		}
		path = next.RequestURI()
		if after != nil {
			a = after(len(pages))
		}
	}
}

func namesOf(pages []*exchange) (names []string) {
	for _, page := range pages {
		names = append(names, page.names()...)
	}
	return names
}

// withHosts starts a slapd with some more hosts than the sample's, in racks and with serial numbers.
func withHosts(t *testing.T, many int, config func(string) string) *slapd.Server {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	all.WriteString(seed)
	for i := range many {
		fmt.Fprintf(&all, "\ndn: cn=h%d,ou=hosts,%s\nobjectClass: device\ncn: h%d\nl: Rack %d\nserialNumber: SN-%d\n", i, ldapdirtest.Base, i, i%4, i*7%many)
	}
	return ldapdirtest.Start(t, slapd.Options{Seed: all.String(), Config: config})
}

// found returns the names of the hosts that a plain search finds.
func found(t *testing.T, server *slapd.Server, filter string) []string {
	t.Helper()
	result, err := ldapdirtest.Bind(t, server).Search(ldap.NewSearchRequest("ou=hosts,"+ldapdirtest.Base, ldap.ScopeSingleLevel, ldap.NeverDerefAliases,
		0, 0, false, "(&(objectClass=device)"+filter+")", []string{"cn"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range result.Entries {
		names = append(names, entry.GetAttributeValue("cn"))
	}
	slices.Sort(names)
	return names
}

// TestAWalkGoesOnWhoeverIsStartedAgain: each page comes from another replica, slapd is started again, a replica too.
func TestAWalkGoesOnWhoeverIsStartedAgain(t *testing.T) {
	for name, c := range map[string]struct{ query, filter string }{
		"in the server's own order": {"", "(cn=*)"},
		"sorted":                    {"&sort=location,-serialNumber", "(cn=*)"},
		"filtered":                  {"&filter=" + url.QueryEscape(`location eq "rack 1" or not (location pr)`), "(|(l=rack 1)(!(l=*)))"},
		"filtered and sorted":       {"&fields=cn&sort=-cn&search=h", "(cn=h*)"},
	} {
		t.Run(name, func(t *testing.T) {
			server := withHosts(t, 60, nil)
			replicas := []*api{newAPIOn(t, server), newAPIOn(t, server)}
			want := found(t, server, c.filter)
			once := replicas[0].do("GET", "/hosts?limit=1000"+c.query, nil).want(200).names()
			pages := replicas[0].pages("/hosts?count=true&limit=3"+c.query, func(page int) *api {
				switch page {
				case 1: // the search that is held has lost its connection
					again, err := server.Restart(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { _ = again.Kill() })
					server = again
				case 4:
					replicas[1] = newAPIOn(t, server)
				}
				return replicas[page/2%2] // two pages from each, so that searches are held and found again
			})
			got := namesOf(pages)
			if !slices.Equal(got, once) {
				t.Errorf("by pages %q, at once %q", got, once)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("listed %q, want %q", got, want)
			}
			for i, page := range pages {
				if total := page.Header.Get("X-Total-Count"); (i == 0) != (total == strconv.Itoa(len(want))) || i > 0 && total != "" {
					page.fail("page %d: X-Total-Count is %q, there are %d", i, total, len(want))
				}
			}
		})
	}
}

func TestThereIsANextPageAsLongAsThereAreEntries(t *testing.T) {
	a := newAPIOn(t, withHosts(t, 40, nil))
	for _, c := range []struct {
		query string
		pages []int
	}{
		{"limit=10&search=h", []int{10, 10, 10, 10}},
		{"limit=40&search=h", []int{40}},
		{"limit=39&search=h", []int{39, 1}},
		{"limit=41&search=h", []int{40}},
		{"search=h", []int{40}},
		{"limit=1&search=h0", []int{1}},
		{"limit=1&search=nothing", []int{0}},
		{"limit=1000&search=h", []int{40}},
		{"limit=11&filter=" + url.QueryEscape(`not (cn eq "h39")`), []int{11, 11, 11, 11}},
	} {
		for _, order := range []string{"", "&sort=cn", "&sort=-location"} {
			var sizes []int
			for _, page := range a.pages("/hosts?"+c.query+order, nil) {
				sizes = append(sizes, len(page.names()))
			}
			if !slices.Equal(sizes, c.pages) {
				t.Errorf("%s: pages of %v, want %v", c.query+order, sizes, c.pages)
			}
		}
	}
	if page := a.do("GET", "/hosts?count=true&search=nothing", nil).want(200); page.Header.Get("X-Total-Count") != "0" || strings.TrimSpace(string(page.Body)) != "[\n]" {
		page.fail("an empty list")
	}
}

func TestParametersOfAListAreRefusedByName(t *testing.T) {
	a := newAPIOn(t, withHosts(t, 3, nil))
	for query, name := range map[string]string{
		"limit=0": "limit", "limit=1001": "limit", "limit=-1": "limit", "limit=": "limit", "limit=ten": "limit", "limit=1e2": "limit",
		"limit=99999999999999999999": "limit", "limit=1&limit=2": "limit", "count=1": "count", "count=": "count",
		"cursor=": "cursor", "cursor=x": "cursor", "limits=1": "limits", "Limit=1": "Limit",
	} {
		x := a.do("GET", "/hosts?"+query, nil).refused(directory.BadRequest)
		if !strings.Contains(x.problem().Detail, name) {
			x.fail("the detail does not name %s", name)
		}
	}
}

// TestACursorIsGoodWhereItWasMadeOnly and as it was made only.
func TestACursorIsGoodWhereItWasMadeOnly(t *testing.T) {
	server := withHosts(t, 5, nil)
	a := newAPIOn(t, server)
	next := a.do("GET", "/hosts?limit=2&sort=location", nil).want(200).next().RequestURI()
	cursor := strings.TrimPrefix(next, "/hosts?cursor=")
	sealed, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil {
		t.Fatal(err)
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1 << (i % 8)
		a.do("GET", "/hosts?cursor="+base64.RawURLEncoding.EncodeToString(changed), nil).refused(directory.BadRequest)
	}
	for _, search := range []string{"w", "we", "web"} { // of three lengths, so that bits are left over at the end
		next := a.do("GET", "/hosts?limit=1&search="+search, nil).want(200).next().RequestURI()
		for _, last := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
			if last != next[len(next)-1] {
				a.do("GET", next[:len(next)-1]+string(last), nil).refused(directory.BadRequest)
			}
		}
	}
	for _, changed := range []string{cursor[1:], cursor[:len(cursor)-1], cursor + "A", cursor + cursor, cursor + "=", strings.ToLower(cursor)} {
		a.do("GET", "/hosts?cursor="+changed, nil).refused(directory.BadRequest)
	}
	for _, path := range []string{"/users?cursor=" + cursor, "/groups?cursor=" + cursor, next + "&limit=2", next + "&sort=location", next + "&cursor=" + cursor, next + "&count=true"} {
		a.do("GET", path, nil).refused(directory.BadRequest)
	}
	a.do("GET", next, nil, "Authorization", "Basic eDp4").refused(directory.InvalidCredentials)
	elsewhere := newAPIOn(t, server, func(s *settings) { s.rest.Cursors = sealedBy(t, 8) })
	elsewhere.do("GET", next, nil).refused(directory.BadRequest)
	a.do("GET", next, nil).want(200)
}

// sealedBy returns the seal of keys that are told apart by numbers. That of the tests is 7.
func sealedBy(t *testing.T, keys ...byte) rest.Cursors {
	t.Helper()
	var all []ed25519.PrivateKey
	for _, key := range keys {
		all = append(all, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{key}, ed25519.SeedSize)))
	}
	cursors, err := rest.NewCursors(all...)
	if err != nil {
		t.Fatal(err)
	}
	return cursors
}

func TestACursorOutlivesItsKeyAsLongAsThatIsKnown(t *testing.T) {
	server := withHosts(t, 30, nil)
	with := func(keys ...byte) *api {
		return newAPIOn(t, server, func(s *settings) { s.rest.Cursors = sealedBy(t, keys...) })
	}
	before, between, after := with(7), with(9, 7), with(9)
	old := before.do("GET", "/hosts?limit=2", nil).want(200).next().RequestURI()
	fresh := between.do("GET", old, nil).want(200).next().RequestURI()
	after.do("GET", fresh, nil).want(200)
	after.do("GET", old, nil).refused(directory.BadRequest)
	before.do("GET", fresh, nil).refused(directory.BadRequest)
}

// TestACursorGivesNobodyRights: whoever sees other entries can't go on with another's cursor.
func TestACursorGivesNobodyRights(t *testing.T) {
	a := newAPI(t)
	a.do("POST", "/users", object{"cn": "carl", "sn": "x", "userPassword": "a long password"}).want(201)
	for _, group := range []string{"devs", "web"} {
		a.do("PUT", "/groups/"+group+"/members/users/carl", nil).want(204)
	}
	carl := a.as("carl", "a long password")
	for _, path := range []string{
		"/groups?limit=1", "/groups?limit=1&sort=-cn", "/groups?limit=1&fields=cn,members&sort=cn", "/groups?limit=1&sort=cn&filter=cn+pr",
		"/groups?limit=1&sort=cn&filter=" + url.QueryEscape(`not (members eq "users/alice")`), "/users?limit=1", "/hosts?limit=1&sort=cn",
	} {
		next := a.do("GET", path, nil).want(200).next()
		carl.do("GET", next.RequestURI(), nil).refused(directory.CursorLost)
	}
	for _, page := range carl.pages("/groups?limit=1", nil) {
		if strings.Contains(string(page.Body), "members") {
			page.fail("members are shown")
		}
	}
}

// TestWhenTheLastHundredAreGoneACursorIsLost, unless they were all, or the list is sorted.
func TestWhenTheLastHundredAreGoneACursorIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		query   string
		deleted int
		lost    bool
	}{
		"one is left":    {"limit=105", 99, false},
		"none is left":   {"limit=105", 100, true},
		"all are gone":   {"limit=100", 100, false},
		"sorted":         {"limit=105&sort=serialNumber", 105, false},
		"sorted by name": {"limit=105&sort=-cn", 105, false},
	} {
		t.Run(name, func(t *testing.T) {
			server := withHosts(t, 130, nil)
			a := newAPIOn(t, server, func(s *settings) { s.ldap.HoldSearches = 0 })
			first := a.do("GET", "/hosts?search=h&"+c.query, nil).want(200)
			l, names := ldapdirtest.Bind(t, server), first.names()
			for _, name := range names[len(names)-c.deleted:] {
				if err := l.Del(ldap.NewDelRequest("cn="+name+",ou=hosts,"+ldapdirtest.Base, nil)); err != nil {
					t.Fatal(err)
				}
			}
			if c.lost {
				a.do("GET", first.next().RequestURI(), nil).refused(directory.CursorLost)
				return
			}
			rest := namesOf(a.pages(first.next().RequestURI(), nil))
			if all := slices.Concat(names, rest); len(all) != 130 || len(slices.Compact(slices.Sorted(slices.Values(all)))) != 130 {
				t.Errorf("after %q come %q", names, rest)
			}
		})
	}
}

// TestAWalkHoldsOnThoughItsEntriesAreDeleted: the search that is held knows its place without them.
func TestAWalkHoldsOnThoughItsEntriesAreDeleted(t *testing.T) {
	server := withHosts(t, 130, nil)
	a, l := newAPIOn(t, server), ldapdirtest.Bind(t, server)
	first := a.do("GET", "/hosts?search=h&limit=105", nil).want(200)
	for _, name := range first.names() {
		if err := l.Del(ldap.NewDelRequest("cn="+name+",ou=hosts,"+ldapdirtest.Base, nil)); err != nil {
			t.Fatal(err)
		}
	}
	if rest := namesOf(a.pages(first.next().RequestURI(), nil)); len(rest) != 25 {
		t.Errorf("%q come after those that are gone", rest)
	}
}

func TestALinkIsWhereTheClientCameFrom(t *testing.T) {
	a := newAPIOn(t, withHosts(t, 3, nil), func(s *settings) {
		s.rest.BasePath = "/api"
		s.rest.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	for want, headers := range map[string][]string{
		a.URL + "/hosts?cursor=":                                      nil,
		"https://people.example.org/hr/api/hosts?cursor=":             {"X-Forwarded-Proto", "https", "X-Forwarded-Host", "people.example.org", "X-Forwarded-Prefix", "/hr"},
		"https://people.example.org:8443/api/hosts?cursor=":           {"X-Forwarded-Proto", "https", "X-Forwarded-Host", "people.example.org:8443"},
		strings.Replace(a.URL, "http", "https", 1) + "/hosts?cursor=": {"X-Forwarded-Proto", "https", "X-Forwarded-Host", `x>; rel="prev`},
	} {
		x := a.do("GET", "/hosts?limit=2", nil, headers...).want(200)
		if next := x.next(); next == nil || !strings.HasPrefix(next.String(), want) {
			x.fail("Link does not begin with %s", want)
		} else {
			a.do("GET", "/hosts?"+next.RawQuery, nil).want(200)
		}
	}
}

// TestWhatAServerCantDoIsNamed: to sort, or to page.
func TestWhatAServerCantDoIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		config       func(string) string
		query, named string
		code         *directory.Code
	}{
		"sort": {func(conf string) string {
			return strings.NewReplacer("\noverlay sssvlv\n", "\n", "\nmoduleload sssvlv\n", "\n").Replace(conf)
		}, "?sort=cn", "sorting (1.2.840.113556.1.4.473)", directory.UnsupportedByDirectory},
		"page": {func(conf string) string {
			return strings.Replace(conf, "size=unlimited time=unlimited", "size=unlimited size.prtotal=disabled time=unlimited", 1)
		}, "", "limits", directory.TooManyResults},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAPIOn(t, withHosts(t, 3, c.config))
			x := a.do("GET", "/hosts"+c.query, nil).refused(c.code)
			if !strings.Contains(x.problem().Detail, c.named) {
				x.fail("the detail does not name %s", c.named)
			}
			a.do("GET", "/hosts/web1", nil).want(200)
			if c.query != "" {
				a.do("GET", "/hosts", nil).want(200)
			}
		})
	}
}

// TestMoreWalksThanCanBeHeld are slower, not refused; and nothing is left of them.
func TestMoreWalksThanCanBeHeld(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("walks", func(t *testing.T) {
		server := withHosts(t, 60, nil)
		a := newAPIOn(t, server, func(s *settings) {
			s.ldap.SortedSearches, s.ldap.HoldSearches = 4, 300*time.Millisecond
			s.ldap.Timeout, s.rest.RequestTimeout = 30*time.Second, 50*time.Second // a slow machine refuses none either
		})
		want := found(t, server, "(cn=*)")
		var walks, begun sync.WaitGroup
		const many = 40
		begun.Add(many)
		for i := range many {
			walks.Go(func() {
				all := sync.OnceFunc(begun.Done)
				defer all()
				path := "/hosts?limit=25" + []string{"&sort=location", "&sort=-cn", ""}[i%3]
				got := namesOf(a.pages(path, func(page int) *api {
					if page == 1 { // all of them have begun before one goes on
						all()
						begun.Wait()
					}
					return a
				}))
				if slices.Sort(got); !slices.Equal(got, want) {
					t.Errorf("%s: listed %q, want %q", path, got, want)
				}
			})
		}
		walks.Wait()
		if n := connections(); n > 4+8+8 {
			t.Errorf("there are %d connections to the directory", n)
		}
		other := newAPIOn(t, server, func(s *settings) { s.ldap.HoldSearches = 300 * time.Millisecond })
		other.do("GET", "/hosts/web1", nil).want(200)
		idle := connections()
		for range 4 {
			other.do("GET", "/hosts?limit=1&sort=cn", nil).want(200)
		}
		for deadline := time.Now().Add(30 * time.Second); connections() > idle; {
			if time.Now().After(deadline) {
				t.Fatal("searches are held for ever")
			}
		}
	})
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// TestASearchThatTakesTooLongIsEnded here and at the directory server, which has two threads: if they went on with what
// nobody waits for, nobody would be answered.
func TestASearchThatTakesTooLongIsEnded(t *testing.T) {
	server := withHosts(t, 0, func(conf string) string { return strings.Replace(conf, "\nsizelimit", "\nthreads 2\nsizelimit", 1) })
	l := ldapdirtest.Bind(t, server)
	for i := range 200 {
		add := ldap.NewAddRequest(fmt.Sprintf("cn=long%d,ou=hosts,%s", i, ldapdirtest.Base), nil)
		add.Attribute("objectClass", []string{"device"})
		add.Attribute("description", []string{strings.Repeat("a", 100<<10)})
		if err := l.Add(add); err != nil {
			t.Fatal(err)
		}
	}
	a := newAPIOn(t, server, func(s *settings) { s.ldap.Timeout = time.Second })
	slow := url.QueryEscape(strings.Repeat(`description co "ab" or `, 300) + `description co "b"`) // a minute for all entries
	for _, query := range []string{"filter=" + slow, "fields=cn&sort=cn&filter=" + slow, "fields=cn&count=true&filter=" + slow} {
		x := a.do("GET", "/hosts?"+query, nil).refused(directory.Timeout)
		if !strings.Contains(x.problem().Detail, "index") {
			x.fail("the detail does not say what to do")
		}
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		if x := a.do("GET", "/hosts/web1", nil); x.Status == 200 {
			break
		} else if time.Now().After(deadline) {
			x.fail("the directory server is still at work")
		}
	}
}

// countedInTime is a directory that demands a deadline to count.
type countedInTime struct {
	directory.Directory
	t *testing.T
}

// Count demands a deadline.
func (c countedInTime) Count(ctx context.Context, kind *directory.Kind, filter directory.Filter) (int, error) {
	if _, ok := ctx.Deadline(); !ok {
		c.t.Error("there is no deadline to count")
	}
	return c.Directory.Count(ctx, kind, filter)
}

func TestCountingHasTheDeadlineOfARequest(t *testing.T) {
	a := newAPI(t, func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory { return countedInTime{d, t} }
	})
	for _, format := range []string{"application/json", asNDJSON} {
		if x := a.do("GET", "/hosts?count=true", nil, "Accept", format).want(200); x.Header.Get("X-Total-Count") == "" {
			x.fail("nothing was counted")
		}
	}
}

// TestACursorIsForWhoSeesTheSame: what a caller sees no more would otherwise be missing from the next page without a
// word.
func TestACursorIsForWhoSeesTheSame(t *testing.T) {
	a := newAPI(t)
	a.do("POST", "/users", object{"cn": "rita", "sn": "Reader", "userPassword": "correct horse battery staple"}).want(201)
	a.do("POST", "/groups", object{"cn": "readers", "members": []string{"users/rita"}}).want(201)
	rita := a.as("rita", "correct horse battery staple")
	for _, query := range []string{"?limit=2", "?limit=2&sort=-cn"} {
		next := rita.do("GET", "/groups"+query, nil).want(200).next()
		if next == nil {
			t.Fatal("there is no second page")
		}
		second := strings.TrimPrefix(next.String(), a.URL)
		rita.do("GET", second, nil).want(200)
		a.do("GET", second, nil).refused(directory.CursorLost)
		a.do("DELETE", "/groups/readers/members/users/rita", nil).want(204)
		rita.do("GET", second, nil).refused(directory.CursorLost)
		a.do("PUT", "/groups/readers/members/users/rita", nil).want(204)
		rita.do("GET", second, nil).want(200)
	}
}
