package ldapdir_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// FuzzQueries checks that the parameters of a list are refused clearly, or make a search that the server takes: over
// attributes of fields only, and with a filter that is true or false of every entry, so that it and its negation find
// all of them between them.
func FuzzQueries(f *testing.F) {
	q := newQueries(f)
	for _, filter := range queriesToFuzz {
		for i := range q.kinds {
			f.Add(byte(i), filter, "ali par", "sn,-cn", "cn,mail")
		}
	}
	for _, odd := range []string{"", ",", "-", "--cn", "userPassword", "-userPassword", "cn,cn", "CN", "accountLocked", "memberOfs", "*", "+", "1.1",
		`cn)(uid=*`, "cn;lang-de", "entryUUID", " cn , sn ", "\xff", "\x00", "名前", strings.Repeat("a ", 9), strings.Repeat("cn,", 9)} {
		f.Add(byte(0), "", odd, odd, odd)
		f.Add(byte(1), `cn co "`+odd+`"`, odd+" "+odd, "description,"+odd, "-"+odd)
	}
	f.Fuzz(func(t *testing.T, which byte, filter, search, sort, fields string) {
		k := q.kinds[int(which)%len(q.kinds)]
		query := directory.Query{Limit: 1}
		var words directory.Filter
		parsed(t, &query.Filter, "filter", filter, k.kind, directory.ParseFilter)
		parsed(t, &words, "search", search, k.kind, directory.SearchFilter)
		parsed(t, &query.Sort, "sort", sort, k.kind, directory.ParseSort)
		parsed(t, &query.Fields, "fields", fields, k.kind, directory.ParseFields)
		if slices.Contains(query.Fields, directory.FieldUserPassword) || slices.ContainsFunc(query.Sort, func(key directory.SortKey) bool { return key.Field == directory.FieldUserPassword }) {
			t.Fatalf("fields=%q&sort=%q is taken", fields, sort)
		}
		for _, filter := range []directory.Filter{query.Filter, words} {
			query.Filter = filter
			request, err := q.Request(context.Background(), k.kind, query)
			if err != nil {
				refusedClearly(t, err, "filter", "sort")
				query.Sort = nil // which may be what was refused
				if request, err = q.Request(context.Background(), k.kind, query); err != nil {
					continue
				}
			}
			k.onlyFields(t, request)
			q.decides(t, request)
		}
	})
}

// TestTheServerTakesTheLongestFilters tries those that are too long to begin a fuzz test with.
func TestTheServerTakesTheLongestFilters(t *testing.T) {
	q := newQueries(t)
	for _, text := range []string{
		"cn pr" + strings.Repeat(" or cn pr", 900), "cn pr" + strings.Repeat(" or cn pr and sn pr", 400), strings.Repeat("(", 2000) + "cn pr" + strings.Repeat(")", 2000),
		strings.Repeat("not (cn pr and ", 15) + "sn pr" + strings.Repeat(")", 15), `cn co "` + strings.Repeat("*", 8000) + `"`, `cn eq "` + strings.Repeat("名", 2000) + `"`,
	} {
		filter, err := directory.ParseFilter(q.kinds[0].kind, text)
		if err != nil {
			t.Fatalf("%.60q…: %v", text, err)
		}
		request, err := q.Request(t.Context(), q.kinds[0].kind, directory.Query{Filter: filter, Limit: 1})
		if err != nil {
			t.Fatalf("%.60q…: %v", text, err)
		}
		q.decides(t, request)
	}
}

// TestANulEndsNoValue: slapd finds everything by (mail=*\00x*).
func TestANulEndsNoValue(t *testing.T) {
	q := newQueries(t)
	for _, text := range []string{`mail co "\u0000x"`, `mail sw "\u0000"`, `mail ew "a\u0000"`, `cn co "\u0000x"`, `uid sw "a\u0000x"`} {
		filter, err := directory.ParseFilter(q.kinds[0].kind, text)
		if err != nil {
			t.Fatal(err)
		}
		if count, err := q.Count(t.Context(), q.kinds[0].kind, filter); err != nil || count != 0 {
			t.Errorf("%s finds %d, %v", text, count, err)
		}
	}
}

// queriesToFuzz are filters to begin with.
var queriesToFuzz = []string{
	`sn eq "Parker" and (mail co "@example" or not (title pr))`, `memberOfs eq "groups/devs" and accountLocked eq false`,
	`createdAt ge "2026-01-01T00:00:00Z" and createdAt lt "9999-12-31T23:59:59.999999999-23:59"`, `createdAt eq "0000-01-01T00:00:00Z"`,
	`cn eq "a*)(uid=*"`, `cn eq "*)(userPassword=*"`, `cn sw "\\2a"`, `cn ew "\u0000"`, `cn co "\u00e9\uD83D\uDE00\ud800"`, "cn eq \"\x00\"", "cn eq \"\xff\"",
	`userPassword pr`, `USERPASSWORD sw "{"`, `userPassword.x pr`, `cn.userPassword pr`, `urn:ietf:params:scim:schemas:core:2.0:User:userPassword pr`,
	`urn:x:cn pr`, `entryUUID pr`, `id eq "00000000-0000-0000-0000-000000000000"`, `dn eq "cn=admin,ou=people"`, `dn eq "cn=\\ff"`, `dn eq "x=y+z=,"`,
	`members[value eq "x"]`, `members[not (value pr)].x`, `not not (cn pr)`, `not(not(not(cn pr)))`, `not cn pr`, `cn eq null or cn ne null`, `accountLocked ne true`,
	`cn eq 1e5 and cn ne -0.10`, `telephoneNumber eq "-"`, `telephoneNumber co " "`, `mail eq "é"`, `serialNumber eq "_"`, `employeeNumber ge "1"`,
	`integer ge "-0"`, `integer eq "- 1"`, `integer eq "007"`, `numeric eq " "`, `country eq "D "`, `oid eq "a b"`, `oid eq "2.5.4.3"`, `flag eq "true"`,
	`flag eq "TRUE"`, `time ge "2026"`, `time lt "20260230000000Z"`, `bits eq "'01'B"`, `bits eq "x"`, `csn ge "x"`, `name eq "cn=x#'0'B"`, `address co "$"`,
	`fax eq "1"`, `photo pr`, `photo eq "x"`, `delivery eq "any"`, `certificate eq "x"`, `exact co "a"`,
	strings.Repeat("(", 40) + "cn pr" + strings.Repeat(")", 40), strings.Repeat("not(", 33) + "cn pr" + strings.Repeat(")", 33), strings.Repeat("(", 40),
	"cn pr" + strings.Repeat(" or cn pr and sn pr", 10), strings.Repeat("cn[", 9), strings.Repeat("a:", 9) + "cn pr",
}

// parsed reads a parameter into a variable; one that is refused is refused clearly, and left out.
func parsed[T any](t *testing.T, into *T, name, text string, kind *directory.Kind, parse func(*directory.Kind, string) (T, error)) {
	t.Helper()
	value, err := parse(kind, text)
	if err == nil {
		*into = value
		return
	}
	refusedClearly(t, err, name)
}

// refusedClearly demands that an error names one of the parameters, and says so in few words.
func refusedClearly(t *testing.T, err error, parameters ...string) {
	t.Helper()
	refused, ok := errors.AsType[*directory.Error](err)
	if !ok || refused.Code != directory.Invalid || len(refused.Violations) != 1 || !slices.Contains(parameters, refused.Violations[0].Field) ||
		len(err.Error()) > 500 || !utf8.ValidString(err.Error()) {
		t.Fatalf("%q is refused by %q", parameters, err)
	}
}

// queries is a directory whose kinds have fields of all sorts.
type queries struct {
	*ldapdir.Directory
	conn  *ldap.Conn
	kinds []*queried
	// all is how many entries there are in a container.
	all map[string]int
}

// queried is a kind, with the attributes that a search for its entries may name, in lower case.
type queried struct {
	kind       *directory.Kind
	attributes []string
}

func newQueries(t testing.TB) *queries {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	server := ldapdirtest.Start(t, slapd.Options{Seed: seed})
	o := ldapdirtest.Options(server)
	// Of every syntax one: a value that it does not allow makes a filter neither true nor false.
	more := map[string]string{
		"integer": "uidNumber", "numeric": "x121Address", "country": "c", "oid": "structuralObjectClass", "flag": "hasSubordinates", "time": "pwdChangedTime",
		"bits": "x500UniqueIdentifier", "csn": "contextCSN", "creator": "creatorsName", "name": "uniqueMember", "address": "postalAddress", "fax": "facsimileTelephoneNumber",
		"photo": "jpegPhoto", "delivery": "preferredDeliveryMethod", "certificate": "userCertificate", "exact": "labeledURI", "ascii": "associatedDomain",
		"printable": "destinationIndicator", "octets": "pwdHistory", "method": "teletexTerminalIdentifier", "netgroup": "nisNetgroupTriple", "unknown": "noSuchAttribute",
	}
	users := directory.Users()
	attributes := map[string]ldapdir.Attribute{}
	for name, attribute := range more {
		users.Fields = append(users.Fields, directory.Field{Name: name, List: true})
		attributes[name] = ldapdir.Attribute{Type: attribute}
	}
	kind, err := directory.NewKind(users, "cn")
	if err != nil {
		t.Fatal(err)
	}
	o.Mappings[0].Kind, o.Mappings[0].Attributes = kind, attributes
	q := &queries{Directory: ldapdirtest.Open(t, o), conn: ldapdirtest.Bind(t, server), all: map[string]int{}}
	common := []string{"objectclass", "entrydn", "entryuuid", "entrycsn", "createtimestamp", "modifytimestamp", "cn", "description", "memberof"}
	q.kinds = []*queried{
		{kind, slices.Concat(common, strings.Fields("uid sn givenname displayname mail telephonenumber mobile title employeenumber departmentnumber "+
			"preferredlanguage sshpublickey pwdaccountlockedtime pwdendtime pwdstarttime"))},
		{ldapdirtest.Groups, slices.Concat(common, []string{"member"})},
		{ldapdirtest.Hosts, slices.Concat(common, strings.Fields("owner iphostnumber serialnumber l sshpublickey"))},
	}
	for _, attribute := range more {
		q.kinds[0].attributes = append(q.kinds[0].attributes, strings.ToLower(attribute))
	}
	for _, m := range o.Mappings {
		q.all[m.Container] = q.count(t, m.Container, "(objectClass="+m.ObjectClasses[0]+")")
	}
	return q
}

// onlyFields demands that a search names no attribute but those of fields.
func (k *queried) onlyFields(t *testing.T, request *ldap.SearchRequest) {
	t.Helper()
	compiled, err := ldap.CompileFilter(request.Filter)
	if err != nil {
		t.Fatalf("%q is no filter: %v", request.Filter, err)
	}
	named := attributesIn(t, compiled)
	for _, c := range request.Controls { // the keys to sort by, RFC 2891
		keys, err := ber.DecodePacketErr(c.Encode().Children[len(c.Encode().Children)-1].Data.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range keys.Children {
			named = append(named, key.Children[0].Data.String())
		}
	}
	for _, attribute := range slices.Concat(named, request.Attributes) {
		if !slices.Contains(k.attributes, strings.ToLower(attribute)) {
			t.Fatalf("the search %q for %q, sorted by %q, names %q", request.Filter, request.Attributes, request.Controls, attribute)
		}
	}
}

// attributesIn returns the attributes that a filter compares, RFC 4511 §4.5.1.7.
func attributesIn(t *testing.T, filter *ber.Packet) []string {
	t.Helper()
	switch filter.Tag {
	case ldap.FilterAnd, ldap.FilterOr, ldap.FilterNot:
		var all []string
		for _, of := range filter.Children {
			all = append(all, attributesIn(t, of)...)
		}
		return all
	case ldap.FilterPresent:
		return []string{filter.Data.String()}
	case ldap.FilterEqualityMatch, ldap.FilterSubstrings, ldap.FilterGreaterOrEqual, ldap.FilterLessOrEqual:
		return []string{filter.Children[0].Data.String()}
	}
	t.Fatalf("a filter of type %d", filter.Tag)
	return nil
}

// decides demands that a search and its negation find all entries between them.
func (q *queries) decides(t *testing.T, request *ldap.SearchRequest) {
	t.Helper()
	found, others := q.count(t, request.BaseDN, request.Filter), q.count(t, request.BaseDN, "(!"+request.Filter+")")
	if all := q.all[request.BaseDN]; found+others != all {
		t.Fatalf("%s finds %d entries, and its negation %d, of %d", request.Filter, found, others, all)
	}
}

func (q *queries) count(t testing.TB, base, filter string) int {
	t.Helper()
	found, err := q.conn.Search(ldap.NewSearchRequest(base, ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 0, 0, false, filter, []string{"1.1"}, nil))
	if err != nil {
		t.Fatalf("%s: %v", filter, err)
	}
	return len(found.Entries)
}
