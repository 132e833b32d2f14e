package rest_test

import (
	"flag"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"pgregory.net/rapid"

	"rollcall/app/client"
	"rollcall/app/ldapdir/ldapdirtest"
)

// TestWhoMayLogInWhereIsWhatAPlainEvaluationFinds: whatever changes through two replicas and past them, /authkeys and
// the verdicts say what follows from a plain search at that moment.
func TestWhoMayLogInWhereIsWhatAPlainEvaluationFinds(t *testing.T) {
	whoMayLogInWhere(t, "3", "12")
}

func whoMayLogInWhere(t *testing.T, checks, steps string) {
	for name, value := range map[string]string{"rapid.checks": checks, "rapid.steps": steps} {
		before := flag.Lookup(name).Value.String()
		defer func() { _ = flag.Set(name, before) }()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	everywhere := groupDN(reachGroups[0])
	one := newAPI(t, func(s *settings) { s.everywhere = []string{strings.ToUpper(everywhere)} })
	two := newAPIOn(t, one.slapd, func(s *settings) { s.everywhere = []string{everywhere} })
	w := &reachWorld{apis: []*api{one, two}, plain: ldapdirtest.Bind(t, one.slapd), everywhere: everywhere}
	for _, host := range reachHosts {
		one.do("POST", "/hosts", object{"cn": host}).want(201)
		w.tokens = append(w.tokens, one.hostToken(host))
	}
	for i := range reachKeys {
		reachKeys[i].line = strings.Replace(reachKeys[i].line, "KEY", newKey(t), 1)
	}
	rapid.Check(t, func(t *rapid.T) {
		w.reset(t)
		w.compare(t)
		t.Repeat(map[string]func(*rapid.T){
			"": w.compare, "join": w.join, "leave": w.leave, "lock": w.lock, "keys": w.keys, "rename": w.rename, "remake": w.remake,
		})
	})
}

var (
	reachUsers  = []string{"ua", "ub", "uc", "ud"}
	reachHosts  = []string{"ha", "hb", "hc"}
	reachGroups = []string{"ga", "gb", "g, \"c\" \\ #", "gd=x+y", "gé 名", "gf"}
	reachKeys   = []struct {
		line string
		good bool
	}{
		{"KEY first", true}, {`restrict,expiry-time="20990101Z" KEY second`, true}, {`expiry-time="20000101Z" KEY third`, false},
		{"cert-authority KEY fourth", false}, {`expiry-time="soon" KEY fifth`, false}, {"no key", false},
	}
)

// reachWorld is a small directory that is changed by whoever may.
type reachWorld struct {
	apis       []*api
	plain      *ldap.Conn
	tokens     [][]string
	everywhere string
}

func dnOf(kind, name string) string {
	return "cn=" + ldap.EscapeDN(name) + ",ou=" + map[string]string{"users": "people"}[kind] + map[string]string{"groups": "groups", "hosts": "hosts"}[kind] + "," + ldapdirtest.Base
}

// thing draws an entry of these kinds.
func thing(t *rapid.T, kinds ...string) (kind, name string) {
	kind = rapid.SampledFrom(kinds).Draw(t, "kind")
	return kind, rapid.SampledFrom(map[string][]string{"users": reachUsers, "groups": reachGroups, "hosts": reachHosts}[kind]).Draw(t, "name")
}

// by draws who makes a change: one of the replicas, or nil for a plain LDAP client.
func (w *reachWorld) by(t *rapid.T) *api {
	return rapid.SampledFrom(append([]*api{nil}, w.apis...)).Draw(t, "by")
}

// demand fails unless a plain operation went well, or by one of these codes.
func (w *reachWorld) demand(t *rapid.T, err error, codes ...uint16) {
	t.Helper()
	if err != nil && !slices.ContainsFunc(codes, func(code uint16) bool { return ldap.IsErrorWithCode(err, code) }) {
		t.Fatal(err)
	}
}

func (w *reachWorld) reset(t *rapid.T) {
	for kind, names := range map[string][]string{"groups": append([]string{"renamed"}, reachGroups...), "users": reachUsers} {
		for _, name := range names {
			w.demand(t, w.plain.Del(ldap.NewDelRequest(dnOf(kind, name), nil)), ldap.LDAPResultNoSuchObject)
		}
	}
	for _, name := range reachUsers {
		add := ldap.NewAddRequest(dnOf("users", name), nil)
		add.Attribute("objectClass", []string{"inetOrgPerson", "ldapPublicKey"})
		add.Attribute("sn", []string{"x"})
		add.Attribute("uid", []string{name})
		add.Attribute("sshPublicKey", []string{reachKeys[0].line})
		w.demand(t, w.plain.Add(add))
	}
	for _, name := range reachGroups {
		w.make(t, name)
	}
	for range rapid.IntRange(0, 12).Draw(t, "memberships") {
		kind, name := thing(t, "users", "groups", "hosts")
		_, group := thing(t, "groups")
		w.change(t, dnOf("groups", group), ldap.AddAttribute, "member", dnOf(kind, name))
	}
}

func (w *reachWorld) make(t *rapid.T, group string) {
	add := ldap.NewAddRequest(dnOf("groups", group), nil)
	add.Attribute("objectClass", []string{"groupOfNames"})
	add.Attribute("member", []string{"cn=placeholder,ou=services," + ldapdirtest.Base})
	w.demand(t, w.plain.Add(add), ldap.LDAPResultEntryAlreadyExists)
}

func (w *reachWorld) change(t *rapid.T, dn string, operation uint, attribute string, values ...string) {
	t.Helper()
	w.demand(t, w.plain.Modify(&ldap.ModifyRequest{DN: dn, Changes: []ldap.Change{{Operation: operation, Modification: ldap.PartialAttribute{Type: attribute, Vals: values}}}}),
		// the last two: a member that is not there, a group without one
		ldap.LDAPResultAttributeOrValueExists, ldap.LDAPResultNoSuchAttribute, ldap.LDAPResultNoSuchObject, ldap.LDAPResultConstraintViolation, ldap.LDAPResultObjectClassViolation)
}

func (w *reachWorld) join(t *rapid.T) { w.membership(t, "PUT", ldap.AddAttribute) }

func (w *reachWorld) leave(t *rapid.T) { w.membership(t, "DELETE", ldap.DeleteAttribute) }

func (w *reachWorld) membership(t *rapid.T, method string, operation uint) {
	kind, name := thing(t, "users", "groups", "hosts")
	_, group := thing(t, "groups")
	if by := w.by(t); by != nil {
		x := by.do(method, client.Path("groups", group, "members", kind, name), nil)
		if x.Status != 204 && x.Status != 404 && x.Status != 422 { // no group is its own member
			t.Fatalf("%s: %d %s", x.request, x.Status, x.Body)
		}
		return
	}
	w.change(t, dnOf("groups", group), operation, "member", dnOf(kind, name))
}

func (w *reachWorld) lock(t *rapid.T) {
	_, user := thing(t, "users")
	if by := w.by(t); by != nil {
		x := by.do("PATCH", client.Path("users", user), object{"accountLocked": rapid.Bool().Draw(t, "locked")})
		if x.Status != 200 && x.Status != 422 { // dates of somebody else's can't be unlocked
			t.Fatalf("%s: %d %s", x.request, x.Status, x.Body)
		}
		return
	}
	year := rapid.SampledFrom([]string{"", "2000", "2099"}).Draw(t, "date")
	attribute := rapid.SampledFrom([]string{"pwdStartTime", "pwdEndTime", "pwdAccountLockedTime"}).Draw(t, "attribute")
	switch {
	case year == "":
		w.change(t, dnOf("users", user), ldap.ReplaceAttribute, attribute)
	case attribute == "pwdAccountLockedTime":
		w.change(t, dnOf("users", user), ldap.ReplaceAttribute, attribute, "000001010000Z")
	default:
		w.change(t, dnOf("users", user), ldap.ReplaceAttribute, attribute, year+"0101000000Z")
	}
}

func (w *reachWorld) keys(t *rapid.T) {
	_, user := thing(t, "users")
	var lines []string
	for i := range reachKeys {
		if rapid.Bool().Draw(t, "key"+strconv.Itoa(i)) {
			lines = append(lines, reachKeys[i].line)
		}
	}
	w.change(t, dnOf("users", user), ldap.ReplaceAttribute, "sshPublicKey", lines...)
}

// rename takes the name of a group away, or gives one back.
func (w *reachWorld) rename(t *rapid.T) {
	_, from := thing(t, "groups")
	to := "renamed"
	if rapid.Bool().Draw(t, "back") {
		from, to = to, from
	}
	if by := w.by(t); by != nil {
		x := by.do("POST", client.Path("groups", from, "rename"), object{"cn": to})
		if x.Status != 200 && x.Status != 403 && x.Status != 404 && x.Status != 409 {
			t.Fatalf("%s: %d %s", x.request, x.Status, x.Body)
		}
		return
	}
	w.change(t, dnOf("groups", from), ldap.DeleteAttribute, "member", dnOf("groups", from)) // its memberOf would not follow
	w.demand(t, w.plain.ModifyDN(ldap.NewModifyDNRequest(dnOf("groups", from), "cn="+ldap.EscapeDN(to), true, "")),
		ldap.LDAPResultNoSuchObject, ldap.LDAPResultEntryAlreadyExists)
}

// remake deletes a group, and makes it again or leaves it.
func (w *reachWorld) remake(t *rapid.T) {
	_, group := thing(t, "groups")
	again := rapid.Bool().Draw(t, "again")
	if by := w.by(t); by != nil {
		x := by.do("DELETE", client.Path("groups", group), nil)
		if again && x.Status != 403 { // one that lets in everywhere is protected
			by.do("POST", "/groups", object{"cn": group}).want(201)
		}
		return
	}
	w.demand(t, w.plain.Del(ldap.NewDelRequest(dnOf("groups", group), nil)), ldap.LDAPResultNoSuchObject)
	if again {
		w.make(t, group)
	}
}

// plainReach is who is in which group, who is locked, and who has which keys, as a plain search shows it.
type plainReach struct {
	members map[string][]string // by the group's DN in small letters
	locked  map[string]bool     // by the user's name, as are the keys
	keys    map[string][]string
}

func (w *reachWorld) read(t *rapid.T) plainReach {
	found, err := w.plain.Search(ldap.NewSearchRequest(ldapdirtest.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		"(|(objectClass=inetOrgPerson)(objectClass=groupOfNames))", []string{"*", "+"}, nil))
	w.demand(t, err)
	p := plainReach{map[string][]string{}, map[string]bool{}, map[string][]string{}}
	now := time.Now().UTC().Format("20060102150405Z")
	for _, entry := range found.Entries {
		if strings.HasSuffix(entry.DN, ",ou=groups,"+ldapdirtest.Base) {
			for _, member := range entry.GetAttributeValues("member") {
				p.members[strings.ToLower(entry.DN)] = append(p.members[strings.ToLower(entry.DN)], strings.ToLower(member))
			}
			continue
		}
		name := entry.GetAttributeValue("uid")
		start, end := entry.GetAttributeValue("pwdStartTime"), entry.GetAttributeValue("pwdEndTime")
		p.locked[name] = entry.GetAttributeValue("pwdAccountLockedTime") != "" || start > now || end != "" && end[:14] < now
		for _, line := range entry.GetAttributeValues("sshPublicKey") {
			for _, key := range reachKeys {
				if key.good && key.line == line {
					p.keys[name] = append(p.keys[name], line)
				}
			}
		}
	}
	return p
}

// above returns the groups that an entry is in, found by going over all of them until there are no more.
func (p plainReach) above(dn string) map[string]bool {
	above := map[string]bool{strings.ToLower(dn): true}
	for grown := true; grown; {
		grown = false
		for group, members := range p.members {
			if !above[group] && slices.ContainsFunc(members, func(member string) bool { return above[member] }) {
				above[group], grown = true, true
			}
		}
	}
	delete(above, strings.ToLower(dn))
	return above
}

// settle waits until the members of groups and the memberOf of entries say the same. slapo-refint goes on after a deletion
// or a renaming, and what it does late, slapo-memberof may not follow: such a membership is then made anew.
func (w *reachWorld) settle(t *rapid.T) {
	for attempt := range 1000 {
		left := w.halves(t)
		if len(left) == 0 {
			return
		}
		if time.Sleep(2 * time.Millisecond); attempt%100 != 99 {
			continue
		}
		for _, half := range left {
			w.change(t, half[0], ldap.AddAttribute, "member", "cn=placeholder,ou=services,"+ldapdirtest.Base) // it may be the only one
			w.change(t, half[0], ldap.DeleteAttribute, "member", half[1])
			w.change(t, half[0], ldap.AddAttribute, "member", half[1])
		}
	}
	t.Fatalf("members and memberOf never agree: %v", w.halves(t))
}

// halves returns the memberships, by group and member, that only one side shows.
func (w *reachWorld) halves(t *rapid.T) (halves [][2]string) {
	found, err := w.plain.Search(ldap.NewSearchRequest(ldapdirtest.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		"(|(objectClass=inetOrgPerson)(objectClass=device)(objectClass=groupOfNames))", []string{"member", "memberOf"}, nil))
	w.demand(t, err)
	sides := map[[2]string]int{}
	for _, entry := range found.Entries {
		for _, member := range entry.GetAttributeValues("member") {
			if !strings.Contains(member, "ou=services") { // where the placeholder is
				sides[[2]string{strings.ToLower(entry.DN), strings.ToLower(member)}]++
			}
		}
		for _, group := range entry.GetAttributeValues("memberOf") {
			sides[[2]string{strings.ToLower(group), strings.ToLower(entry.DN)}]++
		}
	}
	for membership, shown := range sides {
		if shown == 1 {
			halves = append(halves, membership)
		}
	}
	return halves
}

func (w *reachWorld) compare(t *rapid.T) {
	w.settle(t)
	p := w.read(t)
	everywhere := strings.ToLower(w.everywhere)
	a := rapid.SampledFrom(w.apis).Draw(t, "asked")
	user, host := rapid.SampledFrom(reachUsers).Draw(t, "user"), rapid.SampledFrom(reachHosts).Draw(t, "host")
	byToken := rapid.Bool().Draw(t, "by token")
	shared, allowed := map[[2]string]bool{}, map[[2]string]bool{}
	for _, user := range reachUsers {
		ofUser := p.above(dnOf("users", user))
		for i, host := range reachHosts {
			pair := [2]string{user, host}
			shared[pair] = ofUser[everywhere]
			for group := range p.above(dnOf("hosts", host)) {
				shared[pair] = shared[pair] || ofUser[group]
			}
			allowed[pair] = shared[pair] && !p.locked[user] && len(p.keys[user]) > 0
			var want, token []string
			if allowed[pair] {
				want = p.keys[user]
			}
			if byToken {
				token = w.tokens[i]
			}
			x := a.authkeys(user, host, token...)
			if got := strings.TrimSuffix(x.text(), "\n"); x.Status != 200 || got != strings.Join(want, "\n") {
				t.Fatalf("%s on %s, locked %t, members %v: %d %q, want %q", user, host, p.locked[user], p.members, x.Status, got, want)
			}
		}
	}
	pair := [2]string{user, host}
	x := a.do("GET", "/access?"+url.Values{"user": {user}, "host": {host}}.Encode(), nil).want(200).object()
	if x["allowed"] != allowed[pair] || (x["group"] != nil) != shared[pair] {
		t.Fatalf("%s on %s, locked %t, members %v: the verdict is %v", user, host, p.locked[user], p.members, x)
	}
	w.same(t, a, "/users/"+user+"/hosts", "host", reachHosts, func(host string) (bool, bool) {
		return shared[[2]string{user, host}], allowed[[2]string{user, host}]
	})
	w.same(t, a, "/hosts/"+host+"/users", "user", reachUsers, func(user string) (bool, bool) {
		return shared[[2]string{user, host}], allowed[[2]string{user, host}]
	})
}

// same demands that a list of verdicts has those who share a group, each as allowed.
func (w *reachWorld) same(t *rapid.T, a *api, path, one string, names []string, what func(name string) (shared, allowed bool)) {
	want, got := map[string]bool{}, map[string]bool{}
	for _, name := range names {
		if shared, allowed := what(name); shared {
			want[name] = allowed
		}
	}
	x := a.do("GET", path, nil).want(200)
	for _, verdict := range x.array() {
		if name := fmt.Sprint(verdict[one]); slices.Contains(names, name) {
			got[name], _ = verdict["allowed"].(bool)
		}
	}
	if !maps.Equal(got, want) {
		t.Fatalf("%s: %v, want %v\n%s", x.request, got, want, x.Body)
	}
}
