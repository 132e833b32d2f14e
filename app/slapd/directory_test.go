package slapd

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/deploy/openldap"
)

func code(err error) uint16 {
	if e, ok := errors.AsType[*ldap.Error](err); ok {
		return e.ResultCode
	}
	return ldap.LDAPResultSuccess
}

func want(t *testing.T, what string, err error, result uint16) {
	t.Helper()
	if code(err) != result || (err != nil) != (result != ldap.LDAPResultSuccess) {
		t.Errorf("%s: got %v, want result %d (%s)", what, err, result, ldap.LDAPResultCodeMap[result])
	}
}

// add adds an entry of the class that goes with its container; attrs alternate name and value.
func add(conn *ldap.Conn, dn string, attrs ...string) error {
	request := ldap.NewAddRequest(dn, nil)
	class := map[string]string{"people": "inetOrgPerson", "groups": "groupOfNames", "hosts": "device"}
	for container, name := range class {
		if strings.Contains(dn, ",ou="+container+",") {
			request.Attribute("objectClass", []string{name})
		}
	}
	values := map[string][]string{}
	for i := 0; i < len(attrs); i += 2 {
		values[attrs[i]] = append(values[attrs[i]], attrs[i+1])
	}
	for name, vals := range values {
		request.Attribute(name, vals)
	}
	return conn.Add(request)
}

func replace(conn *ldap.Conn, dn, attr string, values ...string) error {
	request := ldap.NewModifyRequest(dn, nil)
	request.Replace(attr, values)
	return conn.Modify(request)
}

func remove(conn *ldap.Conn, dn string) error { return conn.Del(ldap.NewDelRequest(dn, nil)) }

func values(t *testing.T, conn *ldap.Conn, dn, attr string) []string {
	t.Helper()
	entries := mustSearch(t, conn, dn, ldap.ScopeBaseObject, "(objectClass=*)", attr)
	return entries[0].GetAttributeValues(attr)
}

func TestAnonymousReadsTheRootDSEOnly(t *testing.T) {
	s := start(t, Options{Seed: sample(t)})
	conn := dial(t, s, "", "")
	root := mustSearch(t, conn, "", ldap.ScopeBaseObject, "(objectClass=*)", "namingContexts", "supportedControl")
	if len(root) != 1 || root[0].GetAttributeValue("namingContexts") != s.Suffix() || len(root[0].GetAttributeValues("supportedControl")) == 0 {
		t.Errorf("root DSE: %v", root)
	}
	for _, base := range []string{
		s.Suffix(), "ou=people," + s.Suffix(), "cn=alice,ou=people," + s.Suffix(), "cn=admins,ou=groups," + s.Suffix(),
		s.ServiceDN(), "cn=default,ou=policies," + s.Suffix(), "cn=Subschema", "cn=config", "cn=monitor",
	} {
		for _, scope := range []int{ldap.ScopeBaseObject, ldap.ScopeWholeSubtree} {
			if found, _ := search(conn, base, scope, "(objectClass=*)"); len(found) > 0 {
				t.Errorf("anonymous finds %d entries below %s", len(found), base)
			}
		}
	}
	if _, err := conn.Compare("cn=alice,ou=people,"+s.Suffix(), "sn", "Liddell"); code(err) == ldap.LDAPResultCompareTrue || err == nil {
		t.Errorf("anonymous may compare: %v", err)
	}
	want(t, "anonymous add", add(conn, "cn=x,ou=hosts,"+s.Suffix()), ldap.LDAPResultStrongAuthRequired)
}

func TestServiceAccountsRights(t *testing.T) {
	s := start(t, Options{Seed: sample(t)})
	conn := service(t, s)
	suffix := s.Suffix()
	alice := "cn=alice,ou=people," + suffix

	for _, dn := range []string{"cn=new,ou=people," + suffix, "cn=new,ou=groups," + suffix, "cn=new,ou=hosts," + suffix} {
		var attrs []string
		switch {
		case strings.Contains(dn, "people"):
			attrs = []string{"sn", "New", "userPassword", "a long password"}
		case strings.Contains(dn, "groups"):
			attrs = []string{"member", openldap.PlaceholderDN(suffix)}
		}
		want(t, "add "+dn, add(conn, dn, attrs...), ldap.LDAPResultSuccess)
		want(t, "modify "+dn, replace(conn, dn, "description", "changed"), ldap.LDAPResultSuccess)
		want(t, "rename "+dn, conn.ModifyDN(ldap.NewModifyDNRequest(dn, "cn=renamed", true, "")), ldap.LDAPResultSuccess)
		want(t, "delete "+dn, remove(conn, strings.Replace(dn, "cn=new", "cn=renamed", 1)), ldap.LDAPResultSuccess)
	}

	want(t, "lock", replace(conn, alice, "pwdAccountLockedTime", "000001010000Z"), ldap.LDAPResultSuccess)
	want(t, "unlock", replace(conn, alice, "pwdAccountLockedTime"), ldap.LDAPResultSuccess)
	want(t, "set a password", replace(conn, alice, "userPassword", "another password"), ldap.LDAPResultSuccess)
	dial(t, s, alice, "another password")

	for _, filter := range []string{"(userPassword=*)", "(pwdHistory=*)"} {
		if found := mustSearch(t, conn, suffix, ldap.ScopeWholeSubtree, filter); len(found) > 0 {
			t.Errorf("%s finds %d entries", filter, len(found))
		}
	}
	for _, e := range mustSearch(t, conn, suffix, ldap.ScopeWholeSubtree, "(objectClass=*)", "*", "+") {
		if e.GetAttributeValue("userPassword") != "" || e.GetAttributeValue("pwdHistory") != "" {
			t.Errorf("the password of %s can be read", e.DN)
		}
	}

	denied := ldap.LDAPResultInsufficientAccessRights
	want(t, "rename a container", conn.ModifyDN(ldap.NewModifyDNRequest("ou=hosts,"+suffix, "ou=x", true, "")), uint16(denied))
	want(t, "delete a container", remove(conn, "ou=hosts,"+suffix), uint16(denied))
	for _, dn := range []string{suffix, "ou=people," + suffix, "ou=policies," + suffix, s.ServiceDN(), "cn=default,ou=policies," + suffix} {
		want(t, "modify "+dn, replace(conn, dn, "description", "changed"), uint16(denied))
	}
	want(t, "its own password", replace(conn, s.ServiceDN(), "userPassword", "another password"), uint16(denied))
	want(t, "delete the placeholder", remove(conn, openldap.PlaceholderDN(suffix)), uint16(denied))
	for _, dn := range []string{"cn=internal," + suffix, "cn=x,ou=services," + suffix, "cn=x,ou=policies," + suffix} {
		want(t, "add "+dn, add(conn, dn, "objectClass", "device"), uint16(denied))
	}
	for _, password := range []string{"secret", s.ServicePassword()} {
		want(t, "bind as rootdn", dial(t, s, "", "").Bind("cn=internal,"+suffix, password), ldap.LDAPResultInvalidCredentials)
	}
}

func TestPersonsRights(t *testing.T) {
	s := start(t, Options{Seed: sample(t)})
	alice := "cn=alice,ou=people," + s.Suffix()
	conn := dial(t, s, alice, "alice-password")
	own := mustSearch(t, conn, alice, ldap.ScopeBaseObject, "(objectClass=*)")
	if len(own) != 1 || own[0].GetAttributeValue("sn") != "Liddell" || own[0].GetAttributeValue("userPassword") != "" {
		t.Errorf("own entry: %v", own)
	}
	if found, _ := search(conn, s.Suffix(), ldap.ScopeWholeSubtree, "(objectClass=*)"); len(found) > 0 {
		t.Errorf("a person finds %d entries", len(found))
	}
	for _, dn := range []string{"cn=bob,ou=people," + s.Suffix(), "cn=devs,ou=groups," + s.Suffix(), s.ServiceDN()} {
		_, err := search(conn, dn, ldap.ScopeBaseObject, "(objectClass=*)")
		want(t, "read "+dn, err, ldap.LDAPResultNoSuchObject)
	}
	want(t, "modify own entry", replace(conn, alice, "title", "Queen"), ldap.LDAPResultInsufficientAccessRights)
	mustSearch(t, conn, "cn=Subschema", ldap.ScopeBaseObject, "(objectClass=subschema)", "attributeTypes")

	_, err := conn.PasswordModify(ldap.NewPasswordModifyRequest("", "alice-password", "short"))
	want(t, "too short a password", err, ldap.LDAPResultConstraintViolation)
	_, err = conn.PasswordModify(ldap.NewPasswordModifyRequest("", "alice-password", "another password"))
	want(t, "own password", err, ldap.LDAPResultSuccess)
	_, err = conn.PasswordModify(ldap.NewPasswordModifyRequest("", "another password", "alice-password"))
	want(t, "a password used before", err, ldap.LDAPResultConstraintViolation)
	dial(t, s, alice, "another password")
}

// slapadd runs no overlays, so this holds the sample's memberOf to its members.
func TestMemberOfAfterSeeding(t *testing.T) {
	s := start(t, Options{Seed: sample(t)})
	conn := service(t, s)
	expected := map[string][]string{}
	for _, group := range mustSearch(t, conn, "ou=groups,"+s.Suffix(), ldap.ScopeSingleLevel, "(objectClass=groupOfNames)", "member") {
		for _, member := range group.GetAttributeValues("member") {
			if member != openldap.PlaceholderDN(s.Suffix()) {
				expected[member] = append(expected[member], group.DN)
			}
		}
	}
	for _, e := range mustSearch(t, conn, s.Suffix(), ldap.ScopeWholeSubtree, "(objectClass=*)", "memberOf") {
		got, want := e.GetAttributeValues("memberOf"), expected[e.DN]
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: memberOf %q, want %q", e.DN, got, want)
		}
		delete(expected, e.DN)
	}
	if len(expected) > 0 {
		t.Errorf("members that do not exist: %v", expected)
	}
	group := func(name string) string { return "cn=" + name + ",ou=groups," + s.Suffix() }
	if got := values(t, conn, "cn=alice,ou=people,"+s.Suffix(), "memberOf"); !slices.Equal(got, []string{group("devs")}) {
		t.Errorf("alice is in %q", got)
	}
	if got := values(t, conn, group("devs"), "memberOf"); !slices.Equal(got, []string{group("engineering")}) {
		t.Errorf("devs is in %q", got)
	}
}

func TestMemberOfAndPlaceholder(t *testing.T) {
	s := start(t, Options{Seed: sample(t)})
	conn := service(t, s)
	placeholder := openldap.PlaceholderDN(s.Suffix())
	user, group, host := "cn=new,ou=people,"+s.Suffix(), "cn=solo,ou=groups,"+s.Suffix(), "cn=new1,ou=hosts,"+s.Suffix()
	want(t, "add", add(conn, user, "sn", "New"), ldap.LDAPResultSuccess)
	want(t, "dangling member", add(conn, group, "member", "cn=nobody,ou=people,"+s.Suffix()), ldap.LDAPResultConstraintViolation)
	want(t, "group", add(conn, group, "member", user), ldap.LDAPResultSuccess)
	want(t, "host", add(conn, host, "owner", user), ldap.LDAPResultSuccess)
	if got := values(t, conn, user, "memberOf"); !slices.Equal(got, []string{group}) {
		t.Errorf("memberOf %q", got)
	}

	renamed := "cn=renamed,ou=people," + s.Suffix()
	want(t, "rename", conn.ModifyDN(ldap.NewModifyDNRequest(user, "cn=renamed", true, "")), ldap.LDAPResultSuccess)
	eventually(t, "the owner's new name", func() bool {
		return slices.Equal(values(t, conn, host, "owner"), []string{renamed})
	})
	if got := values(t, conn, group, "member"); !slices.Equal(got, []string{renamed}) {
		t.Errorf("members after the rename: %q", got)
	}

	want(t, "delete", remove(conn, renamed), ldap.LDAPResultSuccess)
	eventually(t, "the placeholder in the group", func() bool {
		return slices.Equal(values(t, conn, group, "member"), []string{placeholder})
	})
	eventually(t, "the owner's end", func() bool { return !slices.Contains(values(t, conn, host, "owner"), renamed) })
	if got := values(t, conn, host, "owner"); len(got) > 0 {
		t.Errorf("a host without an owner is owned by %q", got)
	}
}

func TestUniqueUnderConcurrency(t *testing.T) {
	const rounds = 50
	s := start(t, Options{})
	conns := []*ldap.Conn{service(t, s), service(t, s), service(t, s), service(t, s)}
	for _, attr := range []string{"uid", "mail"} {
		var added atomic.Int32
		for round := range rounds {
			var wg sync.WaitGroup
			for i, conn := range conns {
				wg.Go(func() {
					dn := fmt.Sprintf("cn=%s%d-%d,ou=people,%s", attr, round, i, s.Suffix())
					err := add(conn, dn, "sn", "Twin", attr, fmt.Sprintf("same%d@example.org", round))
					switch code(err) {
					case ldap.LDAPResultSuccess:
						added.Add(1)
					case ldap.LDAPResultConstraintViolation:
					default:
						t.Errorf("add: %v", err)
					}
				})
			}
			wg.Wait()
		}
		if n := added.Load(); n != rounds {
			t.Errorf("%d entries share %d values of %s", n, rounds, attr)
		}
	}
}

func TestHashesPasswords(t *testing.T) {
	dir := t.TempDir()
	// Nobody may read a hash; here the service account may.
	readable := func(conf string) string {
		return strings.Replace(conf, "=cw\n\tby self =xw", "write\n\tby self =xw", 1)
	}
	s := start(t, Options{Dir: dir, Config: readable})
	conn := service(t, s)
	user := "cn=new,ou=people," + s.Suffix()
	want(t, "add", add(conn, user, "sn", "New", "userPassword", "a long password"), ldap.LDAPResultSuccess)
	if got := values(t, conn, user, "userPassword"); len(got) != 1 || !strings.HasPrefix(got[0], "{ARGON2}$argon2i$v=19$m=8,t=1,p=1$") {
		t.Errorf("stored: %q", got)
	}
	want(t, "pre-hashed", replace(conn, user, "userPassword", "{SSHA}b5glKk2Om2e5mWrxmO3DV+MwhSrM7uWc"), ldap.LDAPResultConstraintViolation)
	want(t, "too short", replace(conn, user, "userPassword", "short"), ldap.LDAPResultConstraintViolation)

	costly, err := Start(t.Context(), Options{Dir: t.TempDir(), Config: readable})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = costly.Kill() })
	conn = service(t, costly)
	want(t, "add", add(conn, user, "sn", "New", "userPassword", "a long password"), ldap.LDAPResultSuccess)
	if got := values(t, conn, user, "userPassword"); len(got) != 1 || !strings.HasPrefix(got[0], "{ARGON2}$argon2i$v=19$m=19456,t=3,p=1$") {
		t.Errorf("stored at the shipped cost: %q", got)
	}
}

func TestLocksOut(t *testing.T) {
	s := start(t, Options{Seed: sample(t)})
	alice := "cn=alice,ou=people," + s.Suffix()
	for range 10 {
		want(t, "wrong password", dial(t, s, "", "").Bind(alice, "wrong"), ldap.LDAPResultInvalidCredentials)
	}
	request := ldap.NewSimpleBindRequest(alice, "alice-password", []ldap.Control{ldap.NewControlBeheraPasswordPolicy()})
	result, err := dial(t, s, "", "").SimpleBind(request)
	want(t, "right password, too late", err, ldap.LDAPResultInvalidCredentials)
	policy, ok := ldap.FindControl(result.Controls, ldap.ControlTypeBeheraPasswordPolicy).(*ldap.ControlBeheraPasswordPolicy)
	if !ok || policy.Error != 1 {
		t.Errorf("policy control %v, want the error accountLocked", policy)
	}
}

func TestNobodyLocksTheServiceAccountOut(t *testing.T) {
	s := start(t, Options{})
	for range 15 { // more than pwdMaxFailure
		want(t, "wrong password", dial(t, s, "", "").Bind(s.ServiceDN(), "wrong"), ldap.LDAPResultInvalidCredentials)
	}
	want(t, "right password", dial(t, s, "", "").Bind(s.ServiceDN(), s.ServicePassword()), ldap.LDAPResultSuccess)
}

func TestDeletedMembersAreGoneAtOnce(t *testing.T) {
	s := start(t, Options{})
	conn := service(t, s)
	group := "cn=crowd,ou=groups," + s.Suffix()
	var members []string
	attrs := []string{"member", openldap.PlaceholderDN(s.Suffix())}
	for i := range 50 {
		dn := fmt.Sprintf("cn=user%d,ou=people,%s", i, s.Suffix())
		want(t, "add", add(conn, dn, "sn", "Member"), ldap.LDAPResultSuccess)
		members = append(members, dn)
		attrs = append(attrs, "member", dn)
	}
	want(t, "group", add(conn, group, attrs...), ldap.LDAPResultSuccess)
	for _, dn := range members {
		want(t, "delete", remove(conn, dn), ldap.LDAPResultSuccess)
		if slices.Contains(values(t, conn, group, "member"), dn) {
			t.Errorf("%s is still a member", dn)
		}
	}
}

func TestServiceListsWithoutLimits(t *testing.T) {
	var seed strings.Builder
	for i := range 1200 {
		fmt.Fprintf(&seed, "dn: cn=host%d,ou=hosts,%s\nobjectClass: device\ncn: host%d\n\n", i, openldap.DefaultSuffix, i)
	}
	s := start(t, Options{Seed: seed.String()})
	conn := service(t, s)
	base := "ou=hosts," + s.Suffix()
	if got := len(mustSearch(t, conn, base, ldap.ScopeSingleLevel, "(objectClass=*)", "cn")); got != 1200 {
		t.Errorf("unpaged: %d hosts, want 1200", got)
	}
	request := ldap.NewSearchRequest(base, ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"cn"}, nil)
	paged, err := conn.SearchWithPaging(request, 100)
	if err != nil || len(paged.Entries) != 1200 {
		t.Errorf("paged: %d hosts (%v), want 1200", len(paged.Entries), err)
	}
}

func TestAnotherTree(t *testing.T) {
	const base = `dn: ${SUFFIX}
objectClass: organization
o: Acme

dn: ou=services,${SUFFIX}
objectClass: organizationalUnit

dn: cn=rollcall,ou=services,${SUFFIX}
objectClass: organizationalRole
objectClass: simpleSecurityObject
userPassword: ${SERVICE_PASSWORD_HASH}
`
	s := start(t, Options{
		Suffix: "o=Acme",
		Base:   base,
		Seed:   "dn: ou=staff,o=Acme\nobjectClass: organizationalUnit\n",
		Config: func(conf string) string {
			before, _, _ := strings.Cut(conf, "overlay unique")
			return before
		},
	})
	mustSearch(t, service(t, s), "ou=staff,o=Acme", ldap.ScopeBaseObject, "(objectClass=*)")
}
