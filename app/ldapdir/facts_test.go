package ldapdir_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory/directorytest"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// The tests named TestFacts… say what the code of ldapdir stands on. They ask a real slapd by plain
// go-ldap; nothing of ldapdir is in between.

// plain is a connection whose operations fail the test, with request and answer, unless the answer has the
// wanted result code.
type plain struct {
	*ldap.Conn
	t *testing.T
	// controls go with every write.
	controls []ldap.Control
}

// on connects as the service account.
func on(t *testing.T, server *slapd.Server) plain {
	return plain{Conn: ldapdirtest.Bind(t, server), t: t}
}

func (l plain) with(controls ...ldap.Control) plain {
	l.controls = controls
	return l
}

// wanted returns the server's words.
func (l plain) wanted(code uint16, err error, request any) string {
	l.t.Helper()
	got, words := uint16(ldap.LDAPResultSuccess), ""
	answer, ok := errors.AsType[*ldap.Error](err)
	if ok {
		got, words = answer.ResultCode, answer.Err.Error()
	}
	if got != code || ok != (err != nil) {
		l.t.Fatalf("request: %+v\nanswer:  %v\nwant:    %d %s", request, err, code, ldap.LDAPResultCodeMap[code])
	}
	return words
}

// add adds an entry of the container's class, with more attributes as name and value.
func (l plain) add(code uint16, dn string, attributes ...string) string {
	l.t.Helper()
	request := ldap.NewAddRequest(dn, l.controls)
	values := map[string][]string{}
	for container, class := range map[string]string{"people": "inetOrgPerson", "groups": "groupOfNames", "hosts": "device"} {
		if strings.Contains(dn, ",ou="+container+",") {
			values["objectClass"] = []string{class}
		}
	}
	for i := 0; i+1 < len(attributes); i += 2 {
		values[attributes[i]] = append(values[attributes[i]], attributes[i+1])
	}
	for name, vals := range values {
		request.Attribute(name, vals)
	}
	return l.wanted(code, l.Add(request), request)
}

func (l plain) modify(code uint16, dn string, changes ...ldap.Change) string {
	l.t.Helper()
	request := &ldap.ModifyRequest{DN: dn, Changes: changes, Controls: l.controls}
	return l.wanted(code, l.Modify(request), request)
}

func (l plain) remove(code uint16, dn string) string {
	l.t.Helper()
	request := ldap.NewDelRequest(dn, l.controls)
	return l.wanted(code, l.Del(request), request)
}

// read returns the entry with a DN.
func (l plain) read(dn string, attributes ...string) *ldap.Entry {
	l.t.Helper()
	request := ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", attributes, nil)
	result, err := l.Search(request)
	l.wanted(0, err, request)
	return result.Entries[0]
}

func (l plain) values(dn, attribute string) []string {
	l.t.Helper()
	return l.read(dn, attribute).GetAttributeValues(attribute)
}

func (l plain) has(dn, attribute string, values ...string) {
	l.t.Helper()
	if got := l.values(dn, attribute); !slices.Equal(got, values) {
		l.t.Errorf("%s: %s is %q, want %q", dn, attribute, got, values)
	}
}

// found returns the DNs below the suffix that a filter finds.
func (l plain) found(filter string) []string {
	l.t.Helper()
	request := ldap.NewSearchRequest(ldapdirtest.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, []string{"1.1"}, nil)
	result, err := l.Search(request)
	l.wanted(0, err, request)
	var dns []string
	for _, entry := range result.Entries {
		if len(entry.Attributes) > 0 {
			l.t.Errorf("%s: 1.1 returned %v", filter, entry.Attributes)
		}
		dns = append(dns, entry.DN)
	}
	return dns
}

// eventually waits for what the server does in its own time.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func adding(attribute string, values ...string) ldap.Change {
	return ldap.Change{Operation: ldap.AddAttribute, Modification: ldap.PartialAttribute{Type: attribute, Vals: values}}
}

func deleting(attribute string, values ...string) ldap.Change {
	return ldap.Change{Operation: ldap.DeleteAttribute, Modification: ldap.PartialAttribute{Type: attribute, Vals: values}}
}

func replacing(attribute string, values ...string) ldap.Change {
	return ldap.Change{Operation: ldap.ReplaceAttribute, Modification: ldap.PartialAttribute{Type: attribute, Vals: values}}
}

func userDN(name string) string {
	return "cn=" + ldap.EscapeDN(name) + ",ou=people," + ldapdirtest.Base
}
func groupDN(name string) string {
	return "cn=" + ldap.EscapeDN(name) + ",ou=groups," + ldapdirtest.Base
}
func hostDN(name string) string { return "cn=" + ldap.EscapeDN(name) + ",ou=hosts," + ldapdirtest.Base }

var placeholder = openldap.PlaceholderDN(ldapdirtest.Base)

func TestFactsOfTheRootDSE(t *testing.T) {
	l := on(t, ldapdirtest.Start(t, slapd.Options{}))
	listed := l.values("", "supportedControl")
	for name, oid := range map[string]string{
		"assertion": "1.3.6.1.1.12", "pre-read": "1.3.6.1.1.13.1", "post-read": "1.3.6.1.1.13.2",
		"paged results": "1.2.840.113556.1.4.319", "password policy": "1.3.6.1.4.1.42.2.27.8.5.1",
		"server-side sorting": "1.2.840.113556.1.4.473", "virtual list view": "2.16.840.1.113730.3.4.9",
		"proxied authorization": "2.16.840.1.113730.3.4.18", "content synchronization": "1.3.6.1.4.1.4203.1.9.1.1",
	} {
		t.Run("it lists "+name, func(t *testing.T) {
			if !slices.Contains(listed, oid) {
				t.Errorf("no %s in %q", oid, listed)
			}
		})
	}
	t.Run("a critical control that is not listed is refused with 12, an uncritical one ignored", func(t *testing.T) {
		l := plain{Conn: l.Conn, t: t}
		l.with(ldap.NewControlString("1.2.3.4", true, "")).add(12, userDN("x"), "sn", "X")
		l.with(ldap.NewControlString("1.2.3.4", false, "")).add(0, userDN("x"), "sn", "X")
	})
}

func TestFactsOfResultCodes(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	l := on(t, server)
	alice, bob, devs, web := userDN("alice"), userDN("bob"), groupDN("devs"), hostDN("web")
	l.add(0, alice, "sn", "Liddell", "uid", "alice", "mail", "alice@example.org", "preferredLanguage", "en")
	l.add(0, bob, "sn", "Hartmann")
	l.add(0, "cn=child,"+bob, "sn", "x")
	l.add(0, devs, "member", alice)
	l.add(0, web, "objectClass", "ipHost", "objectClass", "ldapPublicKey", "ipHostNumber", "192.0.2.1", "sshPublicKey", "key")
	nobody := userDN("nobody")

	for _, fact := range []struct {
		name  string
		code  uint16
		words string
		ask   func(l plain, code uint16) string
	}{
		{"32: change what is absent", 32, "", func(l plain, code uint16) string { return l.modify(code, nobody, replacing("sn", "x")) }},
		{"32: delete what is absent", 32, "", func(l plain, code uint16) string { return l.remove(code, nobody) }},
		{"32: add below what is absent", 32, "", func(l plain, code uint16) string { return l.add(code, "cn=x,"+nobody, "sn", "x") }},
		{"34: a DN that is none", 34, "invalid DN", func(l plain, code uint16) string { return l.remove(code, "cn=,,") }},
		{"34: a DN with an unknown attribute type", 34, "invalid DN", func(l plain, code uint16) string { return l.remove(code, "nosuch=x,"+ldapdirtest.Base) }},
		{"68: add what exists", 68, "", func(l plain, code uint16) string { return l.add(code, userDN("ALICE"), "sn", "x") }},
		{"66: delete what has children", 66, "subordinate objects must be deleted first", func(l plain, code uint16) string { return l.remove(code, bob) }},

		{"16: delete an absent value", 16, "modify/delete: uid: no such value", func(l plain, code uint16) string { return l.modify(code, alice, deleting("uid", "bob")) }},
		{"16: delete an absent attribute", 16, "modify/delete: title: no such attribute", func(l plain, code uint16) string { return l.modify(code, alice, deleting("title")) }},
		{"no error: replace an absent attribute by nothing", 0, "", func(l plain, code uint16) string { return l.modify(code, alice, replacing("title")) }},
		{"20: add an existing value", 20, "modify/add: uid: value #0 already exists", func(l plain, code uint16) string { return l.modify(code, alice, adding("uid", "ALICE")) }},
		{"20: the same value twice", 20, "title: value #0 provided more than once", func(l plain, code uint16) string { return l.modify(code, alice, replacing("title", "a", "A")) }},

		{"65: the last member of a groupOfNames goes", 65, "object class 'groupOfNames' requires attribute 'member'", func(l plain, code uint16) string { return l.modify(code, devs, deleting("member", alice)) }},
		{"65: the last ipHostNumber goes and the class stays", 65, "object class 'ipHost' requires attribute 'ipHostNumber'", func(l plain, code uint16) string { return l.modify(code, web, deleting("ipHostNumber")) }},
		{"no error: both go in one Modify", 0, "", func(l plain, code uint16) string {
			return l.modify(code, web, deleting("ipHostNumber"), deleting("objectClass", "ipHost"))
		}},
		{"65: an attribute comes without its class", 65, "attribute 'ipHostNumber' not allowed", func(l plain, code uint16) string { return l.modify(code, web, adding("ipHostNumber", "192.0.2.1")) }},
		{"no error: both come in one Modify, in any order", 0, "", func(l plain, code uint16) string {
			return l.modify(code, web, adding("ipHostNumber", "192.0.2.1"), adding("objectClass", "ipHost"))
		}},
		{"no error: the last sshPublicKey goes and the class stays", 0, "", func(l plain, code uint16) string { return l.modify(code, web, deleting("sshPublicKey")) }},
		{"65: a required attribute is left out", 65, "object class 'inetOrgPerson' requires attribute 'sn'", func(l plain, code uint16) string { return l.add(code, nobody) }},
		{"64: the value of the naming attribute goes", 64, "value of naming attribute 'cn' is not present in entry", func(l plain, code uint16) string { return l.modify(code, alice, replacing("cn", "x")) }},
		{"no error: an Add without the naming attribute, which the server fills in", 0, "", func(l plain, code uint16) string { return l.add(code, userDN("filled"), "sn", "x") }},

		{"21: a value of the wrong syntax, on Modify", 21, "mail: value #1 invalid per syntax", func(l plain, code uint16) string { return l.modify(code, alice, replacing("mail", "a@b", "名@b")) }},
		{"21: a value of the wrong syntax, on Add", 21, "mail: value #0 invalid per syntax", func(l plain, code uint16) string { return l.add(code, nobody, "sn", "x", "mail", "名@b") }},
		{"21: a value that is not UTF-8", 21, "sn: value #0 invalid per syntax", func(l plain, code uint16) string { return l.modify(code, alice, replacing("sn", "\xff")) }},
		{"21: an empty value", 21, "sn: value #0 invalid per syntax", func(l plain, code uint16) string { return l.modify(code, alice, replacing("sn", "")) }},
		{"21: a member that is not a DN, also where it is to go", 21, "member: value #0 invalid per syntax", func(l plain, code uint16) string { return l.modify(code, devs, deleting("member", "alice")) }},
		{"19: two values where one is allowed", 19, "preferredLanguage: multiple values provided", func(l plain, code uint16) string {
			return l.modify(code, alice, replacing("preferredLanguage", "a", "b"))
		}},
		{"19: a second value where one is allowed", 19, "attribute 'preferredLanguage' cannot have multiple values", func(l plain, code uint16) string { return l.modify(code, alice, adding("preferredLanguage", "b")) }},
		{"19: another's mail, on Add, by slapo-unique: it names a filter and no attribute", 19, "non-unique attributes found with (|(mail=ALICE@example.org))", func(l plain, code uint16) string {
			return l.add(code, nobody, "sn", "x", "mail", "ALICE@example.org")
		}},
		{"19: another's login, on Modify, by slapo-unique", 19, "non-unique attributes found with (|(uid=alice))", func(l plain, code uint16) string { return l.modify(code, bob, replacing("uid", "alice")) }},
		{"no error: one's own mail again", 0, "", func(l plain, code uint16) string {
			return l.modify(code, alice, replacing("mail", "Alice@example.org"))
		}},
		{"19: a member that does not exist", 19, "adding non-existing object as group member", func(l plain, code uint16) string { return l.modify(code, devs, adding("member", nobody)) }},
		{"no error: an owner that does not exist", 0, "", func(l plain, code uint16) string { return l.modify(code, web, adding("owner", nobody)) }},
		{"19: what the server writes itself", 19, "memberOf: no user modification allowed", func(l plain, code uint16) string { return l.modify(code, alice, replacing("memberOf", devs)) }},
		{"17: an unknown attribute", 17, "nosuch: attribute type undefined", func(l plain, code uint16) string { return l.modify(code, alice, replacing("nosuch", "x")) }},
		{"50: where the service account may only read", 50, "", func(l plain, code uint16) string { return l.modify(code, placeholder, replacing("description", "x")) }},
		{"122: an assertion that does not hold", 122, "", func(l plain, code uint16) string {
			return l.with(assertion(t, "(sn=Other)")).modify(code, alice, replacing("title", "x"))
		}},
	} {
		t.Run(fact.name, func(t *testing.T) {
			if words := fact.ask(plain{Conn: l.Conn, t: t}, fact.code); words != fact.words {
				t.Errorf("the server says %q, want %q", words, fact.words)
			}
		})
	}
	t.Run("an unknown attribute in a filter finds nothing and is no error", func(t *testing.T) {
		if dns := on(t, server).found("(nosuch=x)"); len(dns) > 0 {
			t.Errorf("found %q", dns)
		}
	})
	t.Run("4: more match than the client asked for, and what it asked for comes with it", func(t *testing.T) {
		for limit, code := range map[int]uint16{2: 0, 1: 4} {
			request := ldap.NewSearchRequest(ldapdirtest.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, limit, 0, false, "(|(cn=alice)(cn=bob))", nil, nil)
			result, err := l.Search(request)
			l.wanted(code, err, request)
			if len(result.Entries) != limit {
				t.Errorf("limit %d: %d entries", limit, len(result.Entries))
			}
		}
	})
}

func TestFactsOfValues(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	t.Run("replace with all values keeps their order, single changes do not", func(t *testing.T) {
		l, alice := on(t, server), userDN("alice")
		l.add(0, alice, "sn", "Liddell", "title", "a", "title", "b", "title", "c")
		l.has(alice, "title", "a", "b", "c")
		l.modify(0, alice, replacing("title", "a", "B", "c"))
		l.has(alice, "title", "a", "B", "c")
		l.modify(0, alice, deleting("title", "a"), adding("title", "A"))
		l.has(alice, "title", "B", "c", "A")
	})
	t.Run("a write leaves what it does not name as it was", func(t *testing.T) {
		l, photographed := on(t, server), userDN("photographed")
		photo := "\xff\xd8\xff\xe0\x00\x10JFIF\x00\xfe"
		l.add(0, photographed, "sn", "x", "jpegPhoto", photo, "mail", "b@b", "mail", "a@a", "cn", "photographed", "cn", "another")
		l.modify(0, photographed, replacing("title", "x"))
		l.has(photographed, "jpegPhoto", photo)
		l.has(photographed, "mail", "b@b", "a@a")
		l.has(photographed, "cn", "photographed", "another")
	})
	t.Run("a DN is compared as one, in base, filter, assertion value, add and delete", func(t *testing.T) {
		l, bob, ops := on(t, server), userDN("bob"), groupDN("ops")
		l.add(0, bob, "sn", "x")
		l.add(0, ops, "member", placeholder, "member", bob)
		other := strings.ToUpper(strings.ReplaceAll(bob, ",", " , "))
		if got := l.read(other).DN; got != bob {
			t.Errorf("%q is read as %q", other, got)
		}
		for _, filter := range []string{"(member=" + other + ")", "(&(cn=ops)(member=" + other + "))"} {
			if got := l.found(filter); !slices.Equal(got, []string{ops}) {
				t.Errorf("%s finds %q", filter, got)
			}
		}
		l.modify(20, ops, adding("member", other))
		l.modify(0, ops, deleting("member", other))
		l.has(ops, "member", placeholder)
	})
	t.Run("a DN in an attribute is returned as it was written, not as the entry spells it", func(t *testing.T) {
		l, carol, web := on(t, server), userDN("carol"), hostDN("web")
		l.add(0, carol, "sn", "x")
		l.add(0, web, "owner", strings.Replace(carol, "carol", "CAROL", 1))
		l.has(web, "owner", strings.Replace(carol, "carol", "CAROL", 1))
	})
}

func TestFactsOfNames(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	l := on(t, server)
	for _, name := range directorytest.Names {
		l.add(0, userDN(name), "sn", "x", "cn", name)
	}
	for _, name := range directorytest.Names {
		t.Run(fmt.Sprintf("%q goes through EscapeDN and EscapeFilter and comes back", name), func(t *testing.T) {
			l := plain{Conn: l.Conn, t: t}
			l.has(userDN(name), "cn", name)
			found := l.found("(cn=" + ldap.EscapeFilter(name) + ")")
			if len(found) != 1 {
				t.Fatalf("found %q", found)
			}
			dn, err := ldap.ParseDN(found[0])
			if err != nil || dn.RDNs[0].Attributes[0].Value != name {
				t.Errorf("the DN %q is parsed as %v (%v)", found[0], dn, err)
			}
			l.has(found[0], "cn", name)
			if got := l.found("(entryDN=" + ldap.EscapeFilter(userDN(name)) + ")"); !slices.Equal(got, found) {
				t.Errorf("by its DN: %q", got)
			}
		})
	}
	for _, fact := range []struct{ rule, name, same string }{
		{"case does not count", "plain", "PLAIN"},
		{"case does not count beyond ASCII", "Ё", "ё"},
		{"a leading space does not count", " lead", "lead"},
		{"a trailing space does not count", "trail ", "  trail"},
		{"several spaces count as one", "two  spaces", "two spaces"},
		{"a no-break space counts as a space", "two  spaces", "two\u00a0spaces"},
		{"how a letter is composed does not count", "zoë", "zoe\u0308"},
		{"a compatible letter counts as the plain one", "plain", "ｐｌａｉｎ"},
	} {
		t.Run("in names, "+fact.rule, func(t *testing.T) {
			l := plain{Conn: l.Conn, t: t}
			if !slices.Contains(directorytest.Names, fact.name) {
				l.add(0, userDN(fact.name), "sn", "x")
			}
			l.add(68, userDN(fact.same), "sn", "x")
			l.has(userDN(fact.same), "cn", fact.name) // as it was written first
		})
	}
	for _, fact := range []struct{ rule, name, other string }{
		{"an accent counts", "zoë", "zoe"},
		{"a space between counts", "two  spaces", "twospaces"},
		{"a soft hyphen counts", "plain", "pla\u00adin"},
		{"ß is not ss", "straße", "strasse"},
	} {
		t.Run("in names, "+fact.rule, func(t *testing.T) {
			plain{Conn: l.Conn, t: t}.add(0, userDN(fact.other), "sn", "x")
		})
	}
	t.Run("a prefix filter does not find through an accent", func(t *testing.T) {
		l := on(t, server)
		l.add(0, userDN("noël"), "sn", "x")
		if got := l.found("(cn=noe*)"); len(got) > 0 {
			t.Errorf("found %q", got)
		}
	})
}

func TestFactsOfGroups(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	t.Run("refint_nothing puts the placeholder in the last member's place, soon", func(t *testing.T) {
		l, user, group := on(t, server), userDN("last"), groupDN("left")
		l.add(0, user, "sn", "x")
		l.add(0, group, "member", user)
		l.remove(0, user)
		eventually(t, "the placeholder", func() bool { return slices.Equal(l.values(group, "member"), []string{placeholder}) })
	})
	t.Run("memberof-refint shows a deletion and a renaming at once", func(t *testing.T) {
		l, group := on(t, server), groupDN("crowd")
		l.add(0, group, "member", placeholder)
		for i := range 50 {
			user, renamed := userDN(fmt.Sprint("user", i)), userDN(fmt.Sprint("renamed", i))
			l.add(0, user, "sn", "x")
			l.modify(0, group, adding("member", user))
			l.has(user, "memberOf", group)
			request := ldap.NewModifyDNRequest(user, "cn=renamed"+fmt.Sprint(i), true, "")
			l.wanted(0, l.ModifyDN(request), request)
			l.has(group, "member", placeholder, renamed)
			l.remove(0, renamed)
			l.has(group, "member", placeholder)
		}
	})
	t.Run("the placeholder and the last member change places in one Modify", func(t *testing.T) {
		l, user, group := on(t, server), userDN("swap"), groupDN("swap")
		l.add(0, user, "sn", "x")
		l.add(0, group, "member", user)
		l.modify(0, group, deleting("member", user), adding("member", placeholder))
		l.has(group, "member", placeholder)
		l.has(user, "memberOf")
		l.modify(0, group, adding("member", user), deleting("member", placeholder))
		l.has(group, "member", user)
		l.has(user, "memberOf", group)
	})
	t.Run("of two parallel removals of the last two members one meets 65, and the placeholder in its Modify saves it", func(t *testing.T) {
		l, group := on(t, server), groupDN("pair")
		users := []string{userDN("left"), userDN("right")}
		for _, user := range users {
			l.add(0, user, "sn", "x")
		}
		l.add(0, group, "member", users[0], "member", users[1])
		var refused atomic.Int32
		var both sync.WaitGroup
		for _, user := range users {
			l := on(t, server)
			both.Go(func() {
				request := &ldap.ModifyRequest{DN: group, Changes: []ldap.Change{deleting("member", user)}}
				err := l.Modify(request)
				if ldap.IsErrorWithCode(err, 65) {
					refused.Add(1)
					request.Changes = append(request.Changes, adding("member", placeholder))
					err = l.Modify(request)
				}
				if err != nil {
					t.Errorf("%+v: %v", request, err)
				}
			})
		}
		both.Wait()
		if refused.Load() != 1 {
			t.Errorf("%d met 65", refused.Load())
		}
		l.has(group, "member", placeholder)
	})
	t.Run("an entry that is made again has no memberOf, and no group has it", func(t *testing.T) {
		l, user, group := on(t, server), userDN("again"), groupDN("again")
		l.add(0, user, "sn", "x")
		l.add(0, group, "member", placeholder, "member", user)
		l.remove(0, user)
		l.add(0, user, "sn", "x")
		l.has(user, "memberOf")
		l.has(group, "member", placeholder)
	})
	t.Run("an owner goes with its entry, soon", func(t *testing.T) {
		l, user, host := on(t, server), userDN("owner"), hostDN("owned")
		l.add(0, user, "sn", "x")
		l.add(0, host, "owner", user)
		l.remove(0, user)
		eventually(t, "an end of the owner", func() bool { return len(l.values(host, "owner")) == 0 })
	})
}

func TestFactsOfUniqueness(t *testing.T) {
	t.Run("with serialize, of four parallel writes of one value one gets through", func(t *testing.T) {
		server := ldapdirtest.Start(t, slapd.Options{})
		l := on(t, server)
		conns := []plain{on(t, server), on(t, server), on(t, server), on(t, server)}
		for i := range conns {
			l.add(0, userDN(fmt.Sprint("there", i)), "sn", "x")
		}
		for round := range 50 {
			mail := fmt.Sprintf("round%d@example.org", round)
			var done atomic.Int32
			var all sync.WaitGroup
			for i, l := range conns {
				all.Go(func() {
					var err error
					if i%2 == 0 {
						request := ldap.NewAddRequest(userDN(fmt.Sprintf("new%d-%d", round, i)), nil)
						request.Attribute("objectClass", []string{"inetOrgPerson"})
						request.Attribute("sn", []string{"x"})
						request.Attribute("mail", []string{mail})
						err = l.Add(request)
					} else {
						err = l.Modify(&ldap.ModifyRequest{DN: userDN(fmt.Sprint("there", i)), Changes: []ldap.Change{replacing("mail", mail)}})
					}
					switch {
					case err == nil:
						done.Add(1)
					case !ldap.IsErrorWithCode(err, 19):
						t.Errorf("%s by %d: %v", mail, i, err)
					}
				})
			}
			all.Wait()
			if found := l.found("(mail=" + mail + ")"); done.Load() != 1 || len(found) != 1 {
				t.Fatalf("%s was written %d times, by %q", mail, done.Load(), found)
			}
		}
	})
}
