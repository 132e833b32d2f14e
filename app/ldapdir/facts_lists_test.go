package ldapdir_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// sorting is the control of RFC 2891, by keys such as "sn:caseIgnoreOrderingMatch" or, descending, "-cn".
func sorting(keys ...string) ldap.Control {
	list := ber.NewSequence("SortKeyList")
	for _, key := range keys {
		name, descending := strings.CutPrefix(key, "-")
		attribute, rule, _ := strings.Cut(name, ":")
		packet := ber.NewSequence("SortKey")
		packet.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, attribute, ""))
		if rule != "" {
			packet.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, rule, ""))
		}
		if descending {
			packet.AppendChild(ber.NewLDAPBoolean(ber.ClassContext, ber.TypePrimitive, 1, true, ""))
		}
		list.AppendChild(packet)
	}
	return ldap.NewControlString("1.2.840.113556.1.4.473", true, string(list.Bytes()))
}

// names returns the common names that a search for people finds, in the order of the answer.
func (l plain) names(code uint16, controls ...ldap.Control) []string {
	l.t.Helper()
	request := ldap.NewSearchRequest("ou=people,"+ldapdirtest.Base, ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=inetOrgPerson)", []string{"cn"}, controls)
	result, err := l.Search(request)
	l.wanted(code, err, request)
	var names []string
	for _, entry := range result.Entries {
		names = append(names, entry.GetAttributeValue("cn"))
	}
	return names
}

func TestFactsOfSorting(t *testing.T) {
	l := on(t, ldapdirtest.Start(t, slapd.Options{}))
	for name, titles := range map[string][]string{"a": {"Zed", "alpha"}, "b": {"Mid"}, "c": {"zoé"}, "d": {"zoz"}, "e": nil} {
		attributes := []string{"cn", name, "sn", "x", "uid", name, "telephoneNumber", map[string]string{"a": "+1 2", "b": "+1-1", "c": "+12 ", "d": "+13", "e": "+14"}[name]}
		for _, title := range titles {
			attributes = append(attributes, "title", title)
		}
		l.add(0, userDN(name), attributes...)
	}
	for _, row := range []struct {
		rule string
		code uint16
		keys []string
		want []string
	}{
		{"of several values the lowest counts, whatever its case; none is the highest; é follows z",
			0, []string{"title:caseIgnoreOrderingMatch"}, []string{"a", "b", "d", "c", "e"}},
		{"descending turns all of it round", 0, []string{"-title:caseIgnoreOrderingMatch"}, []string{"e", "c", "d", "b", "a"}},
		{"a second key decides between equals", 0, []string{"sn:caseIgnoreOrderingMatch", "-cn:caseIgnoreOrderingMatch"}, []string{"e", "d", "c", "b", "a"}},
		{"telephone numbers compare without spaces and hyphens", 0, []string{"telephoneNumber:caseIgnoreOrderingMatch", "cn:caseIgnoreOrderingMatch"}, []string{"b", "a", "c", "d", "e"}},
		{"a text has no ordering rule of its own", ldap.LDAPResultInappropriateMatching, []string{"sn"}, nil},
		{"a DN has none at all", ldap.LDAPResultInappropriateMatching, []string{"entryDN"}, nil},
	} {
		if got := l.names(row.code, sorting(row.keys...)); !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.rule, got, row.want)
		}
	}
	if got := len(l.names(0, sorting("createTimestamp", "entryUUID"))); got != 5 {
		t.Errorf("moments and ids have a rule of their own: %d entries", got)
	}
}

// TestFactsOfTheServersOwnOrder is about paged searches: others have another order where there are many entries.
func TestFactsOfTheServersOwnOrder(t *testing.T) {
	l := on(t, ldapdirtest.Start(t, slapd.Options{}))
	var made []string
	for i := range 300 {
		name := strings.Repeat("n", 1+(i*7)%5) + fmt.Sprint(999-i)
		l.add(0, userDN(name), "cn", name, "sn", "x")
		made = append(made, name)
	}
	l.remove(0, userDN(made[7]))
	made = slices.Delete(made, 7, 8)
	if got := l.names(0, ldap.NewControlPaging(1000)); !slices.Equal(got, made) {
		t.Errorf("pages are in the order of creation: %q", got)
	}
}

// TestFactsOfNoOp is why a dry run asks the server only about attributes that it has stored before.
func TestFactsOfNoOp(t *testing.T) {
	const decodingFails = ldap.LDAPResultOther
	noOp := ldap.NewControlString("1.3.6.1.4.1.4203.666.5.2", true, "")
	for _, row := range []struct {
		fact   string
		stored bool // whether the server has stored the attributes before
		code   uint16
	}{
		{"an attribute that was stored before stays readable", true, ldap.LDAPResultSuccess},
		{"one that was not makes the first entry that gets it unreadable", false, decodingFails},
	} {
		t.Run(row.fact, func(t *testing.T) {
			l := on(t, ldapdirtest.Start(t, slapd.Options{}))
			unusual := []string{"cn", "x", "sn", "x", "carLicense", "x", "roomNumber", "1"}
			if row.stored {
				l.add(0, userDN("before"), append([]string{"cn", "before"}, unusual[2:]...)...)
			}
			l.with(noOp).add(0x410e, userDN("x"), unusual...)
			if found := l.found("(cn=x)"); len(found) > 0 {
				t.Fatalf("a No-Op has added %q", found)
			}
			l.with(noOp).add(ldap.LDAPResultObjectClassViolation, userDN("y"), "cn", "y")
			l.add(0, userDN("x"), unusual...)
			_, err := l.Search(ldap.NewSearchRequest(userDN("x"), ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", nil, nil))
			l.wanted(row.code, err, "read the entry")
		})
	}
}
