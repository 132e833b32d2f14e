package rest_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/directory/directorytest"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// renamed renames an entry and returns the answer.
func (a *api) renamed(kind, name, newName string, headers ...string) *exchange {
	a.t.Helper()
	return a.do("POST", client.Path(kind, name, "rename"), object{"cn": newName}, headers...)
}

var refintLines = regexp.MustCompile(`(?m)^overlay refint\n(?:refint_.*\n)+`)

// followers are what servers do, and don't do, about references to an entry that is renamed.
var followers = []struct {
	name     string
	memberof bool
	conf     func(string) string
}{
	{"our own", true, func(conf string) string { return conf }},
	{"no refint", true, func(conf string) string { return refintLines.ReplaceAllString(conf, "") }},
	{"no refint, and memberof that does not follow", true, func(conf string) string {
		return strings.Replace(refintLines.ReplaceAllString(conf, ""), "memberof-refint      TRUE", "memberof-refint FALSE", 1)
	}},
	{"no memberof", false, func(conf string) string { return memberOfLines.ReplaceAllString(conf, "") }},
	{"neither", false, func(conf string) string {
		return memberOfLines.ReplaceAllString(refintLines.ReplaceAllString(conf, ""), "")
	}},
}

// onFollowers runs a test with the sample directory on each of the servers.
func onFollowers(t *testing.T, test func(t *testing.T, memberof bool, start func() *api)) {
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range followers {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			test(t, f.memberof, func() *api {
				seed := seed
				if !f.memberof {
					seed = memberOfLines.ReplaceAllString(seed, "")
				}
				return newAPIOn(t, ldapdirtest.Start(t, slapd.Options{Seed: seed, Config: f.conf}))
			})
		})
	}
}

// holds fails unless a list of an entry holds exactly these, in whatever order.
func (a *api) holds(path, field string, dns ...string) {
	a.t.Helper()
	x := a.do("GET", path, nil).want(200)
	var got []string
	values, _ := x.object()[field].([]any)
	for _, dn := range values {
		got = append(got, dn.(string))
	}
	if !directory.SameValues(got, dns) {
		x.fail("%s is %q, want %q", field, got, dns)
	}
}

func hostDN(name string) string { return "cn=" + name + ",ou=hosts," + ldapdirtest.Base }

func TestARenamedEntryStaysWhereItIsReferredTo(t *testing.T) {
	onFollowers(t, func(t *testing.T, memberof bool, start func() *api) {
		a := start()
		a.newGroups("alone")
		a.do("PUT", "/groups/alone/members/users/bob", nil).want(204)
		members := map[string][]string{}
		for _, group := range []string{"ops", "web", "engineering"} {
			for _, dn := range a.do("GET", "/groups/"+group, nil).object()["members"].([]any) {
				members[group] = append(members[group], dn.(string))
			}
		}
		turn := func(group, from, to string) []string {
			return append(slices.DeleteFunc(members[group], func(dn string) bool { return dn == from }), to)
		}
		for _, c := range []struct{ kind, from, to, fromDN, toDN string }{
			{"users", "bob", "rob", userDN("bob"), userDN("rob")},
			{"groups", "devs", "makers", groupDN("devs"), groupDN("makers")},
			{"hosts", "web1", "www", hostDN("web1"), hostDN("www")},
		} {
			before := a.do("GET", client.Path(c.kind, c.from), nil).want(200).object()
			x := a.renamed(c.kind, c.from, c.to).want(200).field("dn", c.toDN).field("cn", c.to).field("id", before["id"]).field("uid", before["uid"])
			if want := a.URL + client.Path(c.kind, c.to); x.Header.Get("Location") != want {
				x.fail("Location is %q, want %q", x.Header.Get("Location"), want)
			}
			if diff := cmp.Diff(before["memberOfs"], x.object()["memberOfs"]); diff != "" && memberof {
				x.fail("memberOfs: %s", diff)
			}
			read := a.do("GET", client.Path(c.kind, c.to), nil).want(200)
			if read.etag() != x.etag() || string(read.Body) != string(x.Body) {
				read.fail("the answer was %s, %s", x.etag(), x.Body)
			}
			a.do("GET", client.Path(c.kind, c.from), nil).refused(directory.NotFound)
			a.renamed(c.kind, c.from, c.to).refused(directory.NotFound)
			refersTo(t, a, c.fromDN)
		}
		a.holds("/groups/alone", "members", userDN("rob"))
		a.holds("/groups/ops", "members", turn("ops", userDN("bob"), userDN("rob"))...)
		members["web"] = turn("web", userDN("bob"), userDN("rob"))
		a.holds("/groups/web", "members", turn("web", hostDN("web1"), hostDN("www"))...)
		a.holds("/groups/engineering", "members", turn("engineering", groupDN("devs"), groupDN("makers"))...)
		a.holds("/hosts/web2", "owners", userDN("rob"), userDN("zoë"))
		a.holds("/hosts/www", "owners", userDN("rob"))
		a.holds("/hosts/build1", "owners", groupDN("makers"))
		if memberof {
			a.holds("/users/rob", "memberOfs", groupDN("ops"), groupDN("web"), groupDN("alone"))
			a.holds("/users/alice", "memberOfs", groupDN("makers"))
			a.holds("/groups/makers", "memberOfs", groupDN("engineering"))
		}
	})
}

// refersTo fails unless exactly these refer to a DN.
func refersTo(t *testing.T, a *api, dn string, want ...string) {
	t.Helper()
	result, err := ldapdirtest.Bind(t, a.slapd).Search(ldap.NewSearchRequest(ldapdirtest.Base, ldap.ScopeWholeSubtree, 0, 0, 0, false,
		fmt.Sprintf("(|(member=%[1]s)(owner=%[1]s))", ldap.EscapeFilter(dn)), []string{"1.1"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, entry := range result.Entries {
		got = append(got, entry.DN)
	}
	if !directory.SameValues(got, want) {
		t.Errorf("%q refer to %s, want %q", got, dn, want)
	}
}

func TestARenamingTakesANameAndNothingElse(t *testing.T) {
	a := newAPI(t)
	asksNobody := newAPIOn(t, a.slapd, func(s *settings) { s.ldap.NoOp = false })
	before := a.do("GET", "/users/alice", nil)
	for _, c := range []struct {
		what, path string
		body       any
		headers    []string
		code       *directory.Code
		fields     []string
	}{
		{"no name", "/users/alice", object{}, nil, directory.Invalid, []string{"cn"}},
		{"null", "/users/alice", object{"cn": nil}, nil, directory.Invalid, []string{"cn"}},
		{"a list", "/users/alice", object{"cn": []string{"carol"}}, nil, directory.Invalid, []string{"cn"}},
		{"an empty name", "/users/alice", object{"cn": ""}, nil, directory.Invalid, []string{"cn"}},
		{"a name that is too long", "/users/alice", object{"cn": strings.Repeat("n", 65)}, nil, directory.Invalid, []string{"cn"}},
		{"a control character", "/users/alice", object{"cn": "a\nb"}, nil, directory.Invalid, []string{"cn"}},
		{"what is no host name", "/hosts/web1", object{"cn": "web 1"}, nil, directory.Invalid, []string{"cn"}},
		{"two names", "/users/alice", `{"cn": "carol", "cn": "dave"}`, nil, directory.Invalid, []string{"cn"}},
		{"more than a name", "/users/alice", object{"cn": "carol", "sn": "x", "x": 1}, nil, directory.Invalid, []string{"sn", "x"}},
		{"another kind's key", "/users/alice", object{"cn": "carol", "uid": "carol"}, nil, directory.Invalid, []string{"uid"}},
		{"no JSON", "/users/alice", "cn=carol", nil, directory.BadRequest, nil},
		{"no object", "/users/alice", `["carol"]`, nil, directory.BadRequest, nil},
		{"a patch", "/users/alice", `{"cn": "carol"}`, []string{"Content-Type", "application/merge-patch+json"}, directory.UnsupportedMediaType, nil},
		{"another answer", "/users/alice", object{"cn": "carol"}, []string{"Accept", "text/csv"}, directory.NotAcceptable, nil},
		{"If-None-Match", "/users/alice", object{"cn": "carol"}, []string{"If-None-Match", "*"}, directory.BadRequest, nil},
		{"an old version", "/users/alice", object{"cn": "carol"}, []string{"If-Match", `"another"`}, directory.Stale, nil},
		{"an old version, and the same name", "/users/alice", object{"cn": "alice"}, []string{"If-Match", `"another"`}, directory.Stale, nil},
		{"a name that is taken", "/users/alice", object{"cn": "bob"}, nil, directory.AlreadyExists, nil},
		{"a name that is taken, to which nothing refers", "/users/alice", object{"cn": "nguyen"}, nil, directory.AlreadyExists, nil},
		{"a name that is taken, spelled otherwise", "/users/alice", object{"cn": " BOB"}, nil, directory.AlreadyExists, nil},
		{"what is not there", "/users/nobody", object{"cn": "carol"}, nil, directory.NotFound, nil},
		{"what is not there, to what is", "/users/nobody", object{"cn": "bob"}, nil, directory.NotFound, nil},
		{"the admin group", "/groups/admins", object{"cn": "bosses"}, nil, directory.ProtectedEntry, nil},
		{"the admin group, spelled otherwise", "/groups/admins", object{"cn": "Admins"}, nil, directory.ProtectedEntry, nil},
		{"a protected entry", "/users/Admin", object{"cn": "boss"}, nil, directory.ProtectedEntry, nil},
	} {
		for _, x := range []*exchange{
			a.do("POST", c.path+"/rename?dryRun=true", c.body, c.headers...),
			asksNobody.do("POST", c.path+"/rename?dryRun=true", c.body, c.headers...),
			a.do("POST", c.path+"/rename", c.body, c.headers...),
		} {
			if x.Status != c.code.Status {
				x.fail("%s: got %d, want %s", c.what, x.Status, c.code.Name)
			}
			x.refused(c.code, c.fields...)
		}
	}
	a.do("POST", "/users/alice/rename?dryrun=true", object{"cn": "carol"}).refused(directory.BadRequest)
	if x := a.do("GET", "/users/alice/rename", nil).refused(directory.MethodNotAllowed); x.Header.Get("Allow") != "OPTIONS, POST" {
		x.fail("Allow is %q", x.Header.Get("Allow"))
	}
	if after := a.do("GET", "/users/alice", nil).want(200); after.etag() != before.etag() {
		after.fail("it has changed")
	}
}

func TestTheSameNameChangesNothingAndAnotherSpellingDoes(t *testing.T) {
	a := newAPI(t)
	before := wholeTree(t, a.slapd)
	x := a.renamed("users", "ALICE", "alice").want(200).field("cn", "alice")
	if x.Header.Get("Location") != a.URL+"/users/alice" {
		x.fail("Location is %q", x.Header.Get("Location"))
	}
	if diff := cmp.Diff(before, wholeTree(t, a.slapd)); diff != "" {
		t.Errorf("the same name changed %s", diff)
	}
	a.renamed("users", "alice", "Alice").want(200).field("cn", "Alice").field("dn", userDN("Alice"))
	a.do("GET", "/users/alice", nil).want(200).field("cn", "Alice")
	if n := len(a.do("GET", "/groups/devs", nil).object()["members"].([]any)); n != 7 {
		t.Errorf("the group has %d members", n)
	}
	a.do("DELETE", "/groups/devs/members/users/alice", nil).want(204)
	refersTo(t, a, userDN("alice"))
}

func TestARenamingHoldsForTheStateThatWasRead(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.RequireIfMatch = true })
	for _, query := range []string{"?dryRun=true", ""} {
		a.do("POST", "/users/bob/rename"+query, object{"cn": "rob"}).refused(directory.PreconditionRequired)
	}
	old := a.do("GET", "/users/bob", nil).etag()
	now := a.do("PATCH", "/users/bob", object{"title": "x"}, "If-Match", old).want(200).etag()
	a.renamed("users", "bob", "rob", "If-Match", old).refused(directory.Stale)
	x := a.renamed("users", "bob", "rob", "If-Match", now).want(200)
	a.renamed("users", "rob", "bob", "If-Match", now).refused(directory.Stale)
	a.do("PATCH", "/users/rob", object{"title": "y"}, "If-Match", x.etag()).want(200)
	a.renamed("users", "rob", "bob", "If-Match", "*").want(200)
}

func TestAnyNameIsFoundWhereLocationSays(t *testing.T) {
	a := newAPI(t)
	a.do("DELETE", client.Path("users", "名前"), nil).want(204)
	before := "alice"
	for _, name := range append(slices.Clone(directorytest.Names), `, + " \ < > ; = #`, "a/../b", "100%", "a%2Fb", `\2C`, "=", "🦊", "alice") {
		a.renamed("users", before, name).want(200).field("cn", name)
		x := a.renamed("users", name, name).want(200)
		path, ok := strings.CutPrefix(x.Header.Get("Location"), a.URL)
		if !ok || strings.Contains(path, "/..") {
			path = client.Path("users", name) // a client takes it for a step
		}
		dn := a.do("GET", path, nil).want(200).field("cn", name).object()["dn"].(string)
		refersTo(t, a, dn, groupDN("devs"))
		a.do("GET", client.Path("groups", "devs", "members"), nil).want(200)
		before = name
	}
}

// TestWhoIsRenamedStaysLoggedIn here and on another replica, with tokens that were given out before.
func TestWhoIsRenamedStaysLoggedIn(t *testing.T) {
	a := newAPI(t)
	other := newAPIOn(t, a.slapd, func(s *settings) { s.auth.Freshness = 0 })
	s := a.login("alice", "alice-password")
	a.renamed("users", "alice", "carol").want(200)
	for _, replica := range []*api{a, other} {
		alice := replica.bearing(s.AccessToken)
		alice.do("GET", "/me", nil).want(200).field("cn", "carol")
		alice.do("GET", "/users/carol", nil).want(200)
		alice.do("GET", "/groups/devs", nil).want(200) // whose member she still is
		alice.do("GET", "/users/alice", nil).refused(directory.Forbidden)
		replica.refreshed(s.RefreshToken).want(200).decode(&s)
		replica.as("alice", "alice-password").do("GET", "/me", nil).want(200).field("cn", "carol") // by her uid
	}
	// Who comes by the old name is somebody else.
	a.do("POST", "/users", object{"cn": "alice", "uid": "alice2", "sn": "x", "userPassword": "another password"}).want(201)
	a.bearing(s.AccessToken).do("GET", "/users/alice", nil).refused(directory.Forbidden)
	a.holds("/groups/devs", "members", append([]string{userDN("carol")}, others(a, "devs", "carol")...)...)
}

// others returns the members of a group but for one user.
func others(a *api, group, user string) []string {
	var dns []string
	for _, dn := range a.do("GET", "/groups/"+group, nil).object()["members"].([]any) {
		if dn != userDN(user) {
			dns = append(dns, dn.(string))
		}
	}
	return dns
}

func TestOneMayRenameOneself(t *testing.T) {
	a := newAPI(t)
	a.do("PUT", "/groups/admins/members/users/alice", nil).want(204)
	alice := a.bearing(a.login("alice", "alice-password").AccessToken)
	alice.renamed("users", "alice", "carol").want(200).field("cn", "carol")
	alice.do("GET", "/me", nil).want(200).field("cn", "carol")
	alice.do("PATCH", "/users/carol", object{"title": "x"}).want(200)
	alice.renamed("users", "carol", "Carol").want(200).field("cn", "Carol")
	alice.do("PATCH", "/users/bob", object{"title": "x"}).want(200) // an admin still
}

func TestWhoLogsInByTheNameDoesSoByTheNewOneAtOnce(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.auth.LoginField, s.ldap.LoginField = "cn", "cn" })
	a.as("alice", "alice-password").do("GET", "/me", nil).want(200) // the password is remembered
	a.renamed("users", "alice", "carol").want(200)
	a.as("carol", "alice-password").do("GET", "/me", nil).want(200).field("cn", "carol")
	a.as("alice", "alice-password").do("GET", "/me", nil).refused(directory.InvalidCredentials)
}

func TestALockStaysOnWhoIsRenamed(t *testing.T) {
	a := newAPI(t)
	alice := a.as("alice", "alice-password")
	lockOut(a)
	a.renamed("users", "alice", "carol").want(200).field("accountLocked", true)
	alice.do("GET", "/me", nil).refused(directory.InvalidCredentials)
	a.do("PATCH", "/users/carol", object{"accountLocked": false}).want(200)
	alice.do("GET", "/me", nil).want(200)
	a.do("PATCH", "/users/carol", object{"accountLocked": true}).want(200)
	a.renamed("users", "carol", "alice").want(200).field("accountLocked", true)
	alice.do("GET", "/me", nil).refused(directory.InvalidCredentials)
	a.do("PATCH", "/users/alice", object{"accountLocked": false}).want(200)
	alice.do("GET", "/me", nil).want(200)
}

func TestARenamingIsOneEventWithBothNames(t *testing.T) {
	a, trail := newAudited(t)
	for _, c := range []struct {
		what, path, name string
		by               *api
		result, dn       string
		dry              bool
	}{
		{"refused", "/users/bob/rename", "carol", a.as("alice", "alice-password"), "forbidden", "", false},
		{"a name that is taken", "/users/alice/rename", "bob", a, "already-exists", "", false},
		{"a dry run", "/users/alice/rename?dryRun=true", "carol", a, "ok", userDN("alice"), true},
		{"done", "/users/alice/rename", "carol", a, "ok", userDN("carol"), false},
	} {
		x := c.by.do("POST", c.path, object{"cn": c.name})
		events := trail.of(x)
		if len(events) != 1 {
			x.fail("%s: %d events: %+v", c.what, len(events), events)
		}
		e, was := events[0], strings.Split(c.path, "/")[2]
		if e.Action != directory.ActionRename || e.Kind != "users" || e.Name != was || e.Result != c.result || e.DN != c.dn || e.DryRun != c.dry ||
			!cmp.Equal(e.Changes, []directory.FieldChange{turned("cn", was, c.name)}) {
			x.fail("%s: got %+v", c.what, e)
		}
	}
	x := a.renamed("users", "bob", strings.Repeat("n", 65)).want(422)
	if e := trail.of(x)[0]; len(e.Changes) > 0 || !slices.Equal(e.Faulty, []string{"cn"}) {
		x.fail("got %+v", e)
	}
}

// TestGroupsThatGiveRolesKeepTheirNames and nobody else gets those.
func TestGroupsThatGiveRolesKeepTheirNames(t *testing.T) {
	a := newAPI(t, func(s *settings) {
		s.between = func(next directory.Directory) directory.Directory {
			return directory.NewProtected(next, directory.Protection{RoleGroups: []string{operatorGroup, readerGroup}, SameDN: ldapdir.SameDN})
		}
	})
	a.newGroups("operators", "readers")
	a.do("PUT", "/groups/operators/members/users/alice", nil).want(204)
	operator := a.as("alice", "alice-password")
	for _, by := range []*api{a, operator} {
		for _, group := range []string{"operators", "Readers"} {
			by.renamed("groups", group, "others").refused(directory.ProtectedEntry)
		}
		by.renamed("groups", "devs", "operators").refused(directory.AlreadyExists)
		by.renamed("groups", "devs", "admins").refused(directory.AlreadyExists)
	}
	operator.renamed("groups", "admins", "others").refused(directory.Forbidden)
	if err := ldapdirtest.Bind(t, a.slapd).Del(ldap.NewDelRequest(adminGroup, nil)); err != nil { // by another program
		t.Fatal(err)
	}
	operator.renamed("groups", "devs", "Admins").refused(directory.Forbidden)
}

func TestOfRenamingsAtTheSameTimeOneIsDone(t *testing.T) {
	const many = 5
	onFollowers(t, func(t *testing.T, _ bool, start func() *api) {
		a := start()
		at := func(rename func(i int) *exchange) int {
			t.Helper()
			answers := make([]*exchange, many)
			var all sync.WaitGroup
			for i := range many {
				all.Go(func() { answers[i] = rename(i) })
			}
			all.Wait()
			won := -1
			for i, x := range answers {
				switch {
				case x.Status == http.StatusOK && won >= 0:
					x.fail("two were done")
				case x.Status == http.StatusOK:
					won = i
				case x.Status != http.StatusNotFound && x.Status != http.StatusConflict:
					x.fail("neither done nor too late")
				}
			}
			if won < 0 {
				t.Fatal("none was done")
			}
			return won
		}
		for round := range 4 {
			name := func(i int) string { return fmt.Sprintf("u%d-%d", round, i) }
			target, all, host := fmt.Sprintf("target%d", round), fmt.Sprintf("all%d", round), fmt.Sprintf("host%d", round)
			var users, dns []string
			for i := range many {
				a.do("POST", "/users", object{"cn": name(i), "sn": "x"}).want(201)
				users, dns = append(users, "users/"+name(i)), append(dns, userDN(name(i)))
			}
			a.do("POST", "/groups", object{"cn": all, "members": users}).want(201)
			a.do("POST", "/groups", object{"cn": "of" + all, "members": users[:1]}).want(201)
			a.do("POST", "/hosts", object{"cn": host, "owners": users}).want(201)

			won := at(func(i int) *exchange { return a.renamed("users", name(i), target) })
			dns[won] = userDN(target)
			a.holds("/groups/"+all, "members", dns...)
			a.holds("/groups/of"+all, "members", dns[0])
			a.holds("/hosts/"+host, "owners", dns...)

			to := func(i int) string { return fmt.Sprint(target, "-", i) }
			dns[won] = userDN(to(at(func(i int) *exchange { return a.renamed("users", target, to(i)) })))
			a.holds("/groups/"+all, "members", dns...)
			a.holds("/hosts/"+host, "owners", dns...)
		}
	})
}

// TestARenamingThatWasStoppedIsFinishedByTheSameRequest begins with each of the states that a stop leaves, made by hand.
// A client that gets no answer, or 503, sends the request again. Then 200 says that it is done, and 404, where there is
// an entry of the new name, that it was.
func TestARenamingThatWasStoppedIsFinishedByTheSameRequest(t *testing.T) {
	onFollowers(t, func(t *testing.T, _ bool, start func() *api) {
		a := start()
		l := ldapdirtest.Bind(t, a.slapd)
		a.newGroups("operators")
		a.do("PUT", "/groups/operators/members/users/alice", nil).want(204)
		for i, by := range []*api{a, a.as("alice", "alice-password")} {
			for j, stop := range []struct {
				when           string
				ahead, renamed bool
				status         int
			}{{"before it had begun", false, false, 200}, {"before the ModifyDN", true, false, 200}, {"after the ModifyDN", true, true, 404}} {
				from := fmt.Sprintf("stopped%d%d", i, j)
				to := from + "-renamed"
				a.do("POST", "/users", object{"cn": from, "sn": "x"}).want(201)
				a.do("POST", "/groups", object{"cn": from, "members": []string{"users/alice", "users/" + from}}).want(201)
				a.do("POST", "/hosts", object{"cn": from, "owners": []string{"users/alice", "users/" + from}}).want(201)
				ahead := func(dn, attribute string) {
					add := ldap.NewModifyRequest(dn, nil)
					add.Add(attribute, []string{userDN(to)})
					if err := l.Modify(add); err != nil && !ldap.IsErrorWithCode(err, ldap.LDAPResultConstraintViolation) {
						t.Fatal(err)
					}
				}
				if stop.ahead {
					ahead(groupDN(from), "member")
					ahead(hostDN(from), "owner")
				}
				if stop.renamed {
					if err := l.ModifyDN(ldap.NewModifyDNRequest(userDN(from), "cn="+to, true, "")); err != nil {
						t.Fatal(err)
					}
				}
				for _, status := range []int{stop.status, 404} {
					if x := by.renamed("users", from, to); x.Status != status {
						x.fail("stopped %s: got %d, want %d", stop.when, x.Status, status)
					}
					a.holds("/groups/"+from, "members", userDN("alice"), userDN(to))
					a.holds("/hosts/"+from, "owners", userDN("alice"), userDN(to))
					refersTo(t, a, userDN(from))
				}
			}
		}
	})
}

// TestTheLDIFOfARenamingHasItsEffectWhateverTheServerDoes: as TestTheLDIFOfADryRunHasTheEffectOfTheRequest.
func TestTheLDIFOfARenamingHasItsEffectWhateverTheServerDoes(t *testing.T) {
	onFollowers(t, func(t *testing.T, _ bool, start func() *api) {
		byLDIF, byRequest := start(), start()
		for _, a := range []*api{byLDIF, byRequest} {
			a.newGroups("alone", "stale", "outer")
			a.do("PUT", "/groups/alone/members/users/bob", nil).want(204)
			a.do("POST", "/hosts", object{"cn": "only", "owners": []string{"users/bob"}}).want(201)
			stale := ldap.NewModifyRequest(hostDN("only"), nil) // of somebody who had the name once
			stale.Add("owner", []string{userDN("rob")})
			if err := ldapdirtest.Bind(t, a.slapd).Modify(stale); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []struct{ kind, from, to string }{
			{"users", "bob", "rob"}, {"users", "rob", "Rob"}, {"users", "Rob", ` O'Brien, "Jr" <x>+y=z#;\ ü`}, {"groups", "ops", "operations"}, {"hosts", "web1", "www"},
			{"users", "alice", "alice"},
		} {
			path := client.Path(c.kind, c.from, "rename")
			before := wholeTree(t, byLDIF.slapd)
			ldif := byLDIF.do("POST", path+"?dryRun=true", object{"cn": c.to}, "Accept", "text/ldif").want(200)
			if ldif.Header.Get("Location") != "" {
				ldif.fail("it says where to find what was not made")
			}
			if diff := cmp.Diff(before, wholeTree(t, byLDIF.slapd)); diff != "" {
				ldif.fail("it has changed %s", diff)
			}
			ldapmodify(t, byLDIF.slapd, string(ldif.Body))
			byRequest.do("POST", path, object{"cn": c.to}).want(200)
			diff := ""
			for range 100 { // slapo-refint(5) goes on after it has answered
				if diff = cmp.Diff(shownTree(t, byRequest), shownTree(t, byLDIF)); diff == "" {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if diff != "" {
				ldif.fail("after the request (-) and after ldapmodify (+): %s", diff)
			}
		}
	})
}
