package rest_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// membership is one as answers show it.
type membership struct {
	Kind, Name, DN string
	Direct         bool
	Path           []string
}

// memberships reads a list of them, by what they are.
func (x *exchange) memberships() map[string]membership {
	x.t.Helper()
	var all []membership
	x.want(200).decode(&all)
	found := map[string]membership{}
	for _, m := range all {
		key := strings.TrimPrefix(m.Kind+"/"+m.Name, "/")
		if _, twice := found[key]; twice || m.DN == "" || m.Path == nil {
			x.fail("%+v comes twice, or lacks something", m)
		}
		found[key] = m
	}
	return found
}

// ways are the names in the paths, with commas between them.
func (x *exchange) ways() map[string]string {
	x.t.Helper()
	all := map[string]string{}
	for name, m := range x.memberships() {
		all[name] = strings.Join(m.Path, ",")
	}
	return all
}

// society is who is a direct member of which group, by references such as groups/g1.
type society map[string][]string

// draw draws who is in which groups, in circles too.
func draw(random *rand.Rand, groups, members []string) society {
	s := society{}
	for _, group := range groups {
		s[group] = []string{}
		for _, member := range slices.Concat(groups, members) {
			if member != group && random.IntN(len(groups)) == 0 {
				s[group] = append(s[group], member)
			}
		}
	}
	return s
}

// steps returns how many memberships lead from a member up to a group, by trying everything again and again; 0 where
// none do.
func (s society) steps(member, group string) int {
	in := map[string]int{}
	for range len(s) + 1 {
		for above, members := range s {
			for _, one := range members {
				steps := 1
				if one != member {
					if steps = in[one] + 1; steps == 1 {
						continue
					}
				}
				if in[above] == 0 || steps < in[above] {
					in[above] = steps
				}
			}
		}
	}
	return in[group]
}

// holds reports whether each of these is a direct member of the next.
func (s society) holds(way []string) bool {
	for i := 1; i < len(way); i++ {
		if !slices.Contains(s[way[i]], way[i-1]) {
			return false
		}
	}
	return true
}

func asGroups(names []string) []string {
	var all []string
	for _, name := range names {
		all = append(all, "groups/"+name)
	}
	return all
}

// TestMembershipsAreWhatAPlainEvaluationFinds in groups that are in each other in any way.
func TestMembershipsAreWhatAPlainEvaluationFinds(t *testing.T) {
	a := newAPI(t)
	var groups, members []string
	for i := range 8 {
		name := fmt.Sprintf("g%d", i)
		a.do("POST", "/groups", object{"cn": name}).want(201)
		groups = append(groups, "groups/"+name)
	}
	for _, name := range []string{"alice", "bob", "zoë", "O'Brien", "jose"} {
		a.do("PATCH", client.Path("users", name), object{"memberOfs": []string{}}).want(200)
		members = append(members, "users/"+name)
	}
	for _, name := range []string{"web1", "web2", "build1"} {
		a.do("PATCH", client.Path("hosts", name), object{"memberOfs": []string{}}).want(200)
		members = append(members, "hosts/"+name)
	}
	for round := range uint64(6) {
		s := draw(rand.New(rand.NewPCG(round, 6)), groups, members)
		for group, in := range s {
			a.do("PUT", "/"+group, object{"members": in}).want(200)
		}
		for _, member := range slices.Concat(groups, members) {
			kind, name, _ := strings.Cut(member, "/")
			for _, nested := range []bool{false, true} {
				x := a.do("GET", fmt.Sprintf("%s?nested=%t", client.Path(kind, name, "groups"), nested), nil)
				got := x.memberships()
				for _, group := range groups {
					want := s.steps(member, group)
					if member == group || !nested && want != 1 {
						want = 0
					}
					m := got[strings.TrimPrefix(group, "groups/")]
					way := append([]string{member}, asGroups(m.Path)...)
					if len(m.Path) != want || m.Direct != (want == 1) || want > 0 && (way[want] != group || !s.holds(way)) {
						x.fail("%s is %d steps away, not %+v, in %v", group, want, m, s)
					}
				}
				last := 0
				for _, m := range x.inOrder() {
					if len(m.Path) < last {
						x.fail("%+v comes after one that is further away", m)
					}
					last = len(m.Path)
				}
			}
		}
		for _, group := range groups {
			for _, query := range []string{"nested=true", "nested=false", "nested=true&kind=users", "kind=groups", "nested=true&kind=hosts"} {
				x := a.do("GET", "/"+group+"/members?"+query, nil)
				got := x.memberships()
				for _, member := range slices.Concat(groups, members) {
					kind, name, _ := strings.Cut(member, "/")
					want := s.steps(member, group)
					if member == group || !strings.Contains(query, "nested=true") && want != 1 || strings.Contains(query, "kind=") && !strings.HasSuffix(query, kind) {
						want = 0
					}
					m, found := got[member]
					way := slices.Concat([]string{group}, asGroups(m.Path), []string{member})
					slices.Reverse(way)
					if found != (want > 0) || found && (len(m.Path) != want-1 || m.Direct != (want == 1) || !s.holds(way) || m.Name != name) {
						x.fail("%s is %d steps away, not %+v, in %v", member, want, m, s)
					}
				}
			}
		}
	}
}

func (x *exchange) inOrder() (all []membership) {
	x.t.Helper()
	x.decode(&all)
	return all
}

func TestMembersAreListedAsBefore(t *testing.T) {
	a := newAPI(t)
	var dns []string
	x := a.do("GET", "/groups/engineering/members", nil).want(200)
	x.decode(&dns)
	if want := []string{"cn=devs,ou=groups,", "cn=ops,ou=groups,", "cn=名前,ou=people,"}; len(dns) != 3 || dns[0] != want[0]+ldapdirtest.Base || dns[2] != want[2]+ldapdirtest.Base {
		x.fail("want %q", want)
	}
	a.do("GET", "/groups/engineering/members", nil, "If-None-Match", x.etag()).want(304)
	a.do("GET", "/groups/engineering/members?nested=true", nil, "If-None-Match", x.etag()).want(200)
	if x := a.do("HEAD", "/groups/engineering/members?nested=true", nil).want(200); len(x.Body) > 0 {
		x.fail("HEAD has a body")
	}
	for _, c := range []struct {
		path string
		code *directory.Code
	}{
		{"/groups/engineering/members?nested=maybe", directory.BadRequest},
		{"/groups/engineering/members?nested=", directory.BadRequest},
		{"/groups/engineering/members?kind=things", directory.BadRequest},
		{"/groups/engineering/members?kind=users&kind=hosts", directory.BadRequest},
		{"/groups/engineering/members?limit=1", directory.BadRequest},
		{"/groups/nobody/members?nested=true", directory.NotFound},
		{"/users/alice/groups?nested=1", directory.BadRequest},
		{"/users/alice/groups?kind=groups", directory.BadRequest},
		{"/users/alice/groups?nested=%zz", directory.BadRequest},
		{"/users/nobody/groups", directory.NotFound},
		{"/hosts/alice/groups", directory.NotFound},
	} {
		a.do("GET", c.path, nil).refused(c.code)
	}
	if detail := a.do("GET", "/users/alice/groups?nested=maybe", nil).problem().Detail; detail != "nested must be true or false." {
		t.Errorf("the detail is %q", detail)
	}
	empty := a.do("GET", "/users/O'Brien/groups?nested=true", nil).want(200)
	if strings.TrimSpace(string(empty.Body)) != "[]" {
		empty.fail("want an empty list")
	}
}

// TestMembershipsShowNothingThatIsNotTheCallersToSee.
func TestMembershipsShowNothingThatIsNotTheCallersToSee(t *testing.T) {
	a := newAPI(t)
	alice := a.as("alice", "alice-password")
	want := map[string]string{"devs": "devs", "engineering": "devs,engineering"}
	if diff := cmp.Diff(want, alice.do("GET", "/users/alice/groups?nested=true", nil).ways()); diff != "" {
		t.Errorf("alice sees of her own: %s", diff)
	}
	if diff := cmp.Diff(map[string]string{"engineering": "engineering"}, alice.do("GET", "/groups/devs/groups?nested=true", nil).ways()); diff != "" {
		t.Errorf("alice sees of devs: %s", diff)
	}
	for _, path := range []string{
		"/users/bob/groups", "/users/nobody/groups?nested=true", "/groups/ops/groups", "/groups/nobody/groups", "/hosts/web1/groups?nested=true",
		"/groups/devs/members?nested=true", "/groups/devs/members?kind=users", "/groups/devs/members?nested=false", "/groups/ops/members?nested=true", "/groups/nobody/members?kind=groups",
	} {
		alice.do("GET", path, nil).refused(directory.Forbidden)
	}
}

// TestAGroupThatTheServerHidesIsNoWay: neither it nor what is reached by it is shown, where the server decides as well.
func TestAGroupThatTheServerHidesIsNoWay(t *testing.T) {
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	seed += strings.ReplaceAll(`
dn: cn=rita,ou=people,BASE
objectClass: inetOrgPerson
cn: rita
uid: rita
sn: Reader
userPassword: some password
memberOf: cn=readers,ou=groups,BASE

dn: cn=readers,ou=groups,BASE
objectClass: groupOfNames
cn: readers
member: cn=rita,ou=people,BASE
`, "BASE", ldapdirtest.Base)
	server := ldapdirtest.Start(t, slapd.Options{Seed: seed, Config: func(conf string) string {
		const rita = `by dn.exact="cn=rita,ou=people,` + ldapdirtest.Base + `" `
		return strings.Replace(conf, "# Passwords, old ones included", `
access to dn.base="cn=devs,ou=groups,`+ldapdirtest.Base+`"
	`+rita+`none
	by * break
access to *
	`+rita+`read
	by * break
# Passwords, old ones included`, 1)
	}})
	rita := newAPIOn(t, server, func(s *settings) { s.ldap.ActAsCaller = true }).as("rita", "some password")
	if got := rita.do("GET", "/users/jose/groups?nested=true", nil).ways(); len(got) > 0 {
		t.Errorf("of jose's groups, rita sees %q", got)
	}
	if diff := cmp.Diff(map[string]string{"ops": "ops", "web": "web", "engineering": "ops,engineering"}, rita.do("GET", "/users/bob/groups?nested=true", nil).ways()); diff != "" {
		t.Errorf("of bob's groups: %s", diff)
	}
	got := rita.do("GET", "/groups/engineering/members?nested=true", nil).ways()
	for member, way := range got {
		if member == "groups/devs" || strings.Contains(way, "devs") {
			t.Errorf("rita sees %s by way of %q", member, way)
		}
	}
	if way, ok := got["users/bob"]; !ok || way != "ops" {
		t.Errorf("rita sees of engineering %q", got)
	}
}

// TestMembershipsGoByTheKeyFields, wherever the entries lie.
func TestMembershipsGoByTheKeyFields(t *testing.T) {
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	seed += strings.ReplaceAll(`
dn: ou=more,ou=people,BASE
objectClass: organizationalUnit
ou: more

dn: cn=Deep\2C Down,ou=more,ou=people,BASE
objectClass: inetOrgPerson
cn: Deep, Down
uid: deep
sn: Down
memberOf: CN=lower , ou=more,ou=Groups,BASE

dn: ou=more,ou=groups,BASE
objectClass: organizationalUnit
ou: more

dn: cn=lower,ou=more,ou=groups,BASE
objectClass: groupOfNames
cn: lower
description: The lower ones
member: cn=Deep\2C Down,ou=more,ou=people,BASE
memberOf: cn=devs,ou=groups,BASE

dn: cn=rack,ou=hosts,BASE
objectClass: device
cn: rack
serialNumber: SN-1
memberOf: cn=lower,ou=more,ou=groups,BASE
`, "BASE", ldapdirtest.Base)
	a := newAPIOn(t, ldapdirtest.Start(t, slapd.Options{Seed: seed}), func(s *settings) {
		s.rest.Kinds = nil
		for i, key := range []string{"uid", "description", "serialNumber"} {
			m := &s.ldap.Mappings[i]
			kind, err := directory.NewKind([]directory.Kind{directory.Users(), directory.Groups(), directory.Hosts()}[i], key)
			if err != nil {
				t.Fatal(err)
			}
			m.Kind, m.Deep = kind, true
			s.rest.Kinds = append(s.rest.Kinds, kind)
		}
	})
	const devs, engineering, lower = "Software development", "Everyone who builds or runs something: a group of groups", "The lower ones"
	up := lower + "," + devs + "," + engineering
	if diff := cmp.Diff(map[string]string{lower: lower, devs: lower + "," + devs, engineering: up}, a.do("GET", "/users/deep/groups?nested=true", nil).ways()); diff != "" {
		t.Errorf("the groups: %s", diff)
	}
	got := a.do("GET", client.Path("groups", engineering, "members")+"?nested=true", nil).ways()
	for member, way := range map[string]string{"users/deep": devs + "," + lower, "hosts/SN-1": devs + "," + lower, "groups/" + lower: devs, "groups/" + devs: "", "users/alice": devs} {
		if found, ok := got[member]; !ok || found != way {
			t.Errorf("%s is a member by %q, want %q", member, found, way)
		}
	}
}

// manyMembers is a directory with groups in a row, each in the one before it, and users in them by turns.
func manyMembers(t *testing.T, groups, users int) string {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	all.WriteString(seed)
	for i := range groups {
		fmt.Fprintf(&all, "\ndn: cn=row%d,ou=groups,%s\nobjectClass: groupOfNames\ncn: row%d\nmember: %s\n", i, ldapdirtest.Base, i, adminDN)
		if i > 0 {
			fmt.Fprintf(&all, "memberOf: cn=row%d,ou=groups,%s\n", i-1, ldapdirtest.Base)
		}
	}
	for i := range users {
		fmt.Fprintf(&all, "\ndn: cn=u%d,ou=people,%s\nobjectClass: inetOrgPerson\ncn: u%d\nuid: u%d\nsn: x\nmemberOf: cn=row%d,ou=groups,%s\n", i, ldapdirtest.Base, i, i, i%groups, ldapdirtest.Base)
		if i%7 == 0 && i%groups != groups-1 { // slapadd does not survive a value twice
			fmt.Fprintf(&all, "memberOf: cn=row%d,ou=groups,%s\n", groups-1, ldapdirtest.Base)
		}
	}
	return all.String()
}

// TestThousandsOfMembersTakeFewSearches, in few groups and in more than one search asks for.
func TestThousandsOfMembersTakeFewSearches(t *testing.T) {
	const users = 2500
	for _, groups := range []int{40, 250} {
		a := newAPIOn(t, ldapdirtest.Start(t, slapd.Options{Seed: manyMembers(t, groups, users)}), func(s *settings) { s.ldap.PageSize = 1000 })
		a.do("GET", "/groups/row0/members?kind=hosts", nil).want(200) // who logs in for the first time takes more
		x := a.do("GET", "/groups/row0/members?nested=true", nil)
		got := x.memberships()
		if len(got) != users+groups-1 {
			x.fail("%d of %d members in %d groups are there", len(got), users+groups-1, groups)
		}
		for i := range users {
			if m := got[fmt.Sprintf("users/u%d", i)]; len(m.Path) != i%groups {
				x.fail("u%d is a member by %q", i, m.Path)
			}
		}
		searches := a.logged(x)["ldap_operations"].(float64)
		t.Logf("%d members in %d groups: %v operations", len(got), groups, searches)
		if searches > 10 { // the group, two for the nesting, the names, and a page for each thousand of a kind
			t.Errorf("%d groups took %v operations", groups, searches)
		}
		y := a.do("GET", fmt.Sprintf("/users/u%d/groups?nested=true", groups-1), nil)
		if n := len(y.memberships()); n != groups {
			y.fail("%d groups are there, want %d", n, groups)
		}
		if searches := a.logged(y)["ldap_operations"].(float64); searches > 4 {
			t.Errorf("the groups of one user took %v operations", searches)
		}
	}
}

// TestMembersAreAllThereOrVisiblyNot: what is cut off is no shorter list.
func TestMembersAreAllThereOrVisiblyNot(t *testing.T) {
	short := &shortPages{limit: 50}
	a := newAPIOn(t, ldapdirtest.Start(t, slapd.Options{Seed: manyMembers(t, 5, 300)}), func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory { short.Directory = d; return short }
	})
	if got := a.do("GET", "/groups/row0/members?nested=true", nil).memberships(); len(got) != 304 {
		t.Errorf("%d of 304 members are there", len(got))
	}
	short.before = func(number int) {
		if number == 4 {
			if err := a.slapd.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	short.pages.Store(0)
	a.brokenOff("/groups/row0/members?nested=true", "application/json", directory.Unavailable)
	short.before = nil
	a.do("GET", "/groups/row0/members?nested=true", nil).refused(directory.Unavailable)
	a.do("GET", "/users/alice/groups", nil).refused(directory.Unavailable)
}

// withoutMemberOf starts a server that does not keep who is in which group.
func withoutMemberOf(t *testing.T) *slapd.Server {
	t.Helper()
	without := func(text string) string { return memberOfLines.ReplaceAllString(text, "") }
	return ldapdirtest.Start(t, slapd.Options{Seed: without(manyMembers(t, 1, 0)), Config: without})
}

// TestAServerThatDoesNotKeepMembershipsIsToldByName: an empty list would be wrong.
func TestAServerThatDoesNotKeepMembershipsIsToldByName(t *testing.T) {
	a := newAPIOn(t, withoutMemberOf(t))
	for _, path := range []string{"/users/alice/groups", "/users/alice/groups?nested=true", "/groups/devs/members?nested=true", "/groups/devs/members?kind=users"} {
		if x := a.do("GET", path, nil).refused(directory.UnsupportedByDirectory); !strings.Contains(x.problem().Detail, "memberOf") {
			x.fail("it is not named")
		}
	}
	a.do("GET", "/groups/devs/members", nil).want(200)
}
