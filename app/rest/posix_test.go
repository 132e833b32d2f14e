package rest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

const firstNumber, lastNumber = 10000, 59999

// withAccounts has users be Linux accounts.
func withAccounts(t testing.TB, server *slapd.Server, highest int) func(*settings) {
	return func(s *settings) {
		s.ldap = ldapdirtest.WithAccounts(s.ldap)
		s.rest.Kinds = []*directory.Kind{ldapdirtest.Accounts, ldapdirtest.AccountGroups, ldapdirtest.Hosts}
		numbers := ldapdirtest.Open(t, s.ldap).Numbers(openldap.NumbersDN(server.Suffix()), firstNumber, highest)
		s.between = func(next directory.Directory) directory.Directory {
			return directory.NewNumbered(next, directory.Posix{Next: numbers.Next, Choose: numbers.Choose, PrimaryGroup: 100, HomeDirectory: "/home/{uid}", LoginShell: "/bin/bash"})
		}
	}
}

// newAccounts is newAPI where users are Linux accounts. Those of the sample directory are not yet.
func newAccounts(t testing.TB, change ...func(*settings)) *api {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	server := ldapdirtest.Start(t, slapd.Options{Seed: seed})
	return newAPIOn(t, server, append([]func(*settings){withAccounts(t, server, lastNumber)}, change...)...)
}

// account demands the fields of an account, as "uidNumber gidNumber homeDirectory loginShell".
func (x *exchange) account(want string) *exchange {
	x.t.Helper()
	var got struct {
		UIDNumber, GIDNumber      json.Number
		HomeDirectory, LoginShell string
	}
	x.decode(&got)
	if is := strings.TrimSpace(fmt.Sprintf("%s %s %s %s", got.UIDNumber, got.GIDNumber, got.HomeDirectory, got.LoginShell)); is != want {
		x.fail("the account is %q, want %q", is, want)
	}
	return x
}

// classes demands which of the classes of accounts an entry has.
func (a *api) classes(dn string, want ...string) {
	a.t.Helper()
	result, err := ldapdirtest.Bind(a.t, a.slapd).Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", nil, nil))
	if err != nil {
		a.t.Fatal(err)
	}
	got := slices.DeleteFunc(result.Entries[0].GetAttributeValues("objectClass"), func(class string) bool { return !strings.HasPrefix(class, "posix") })
	if !slices.Equal(got, want) {
		a.t.Errorf("%s has the classes %q, want %q", dn, got, want)
	}
}

func TestANewUserIsALinuxAccountAndANewGroupOneOfThose(t *testing.T) {
	trail := &auditTrail{}
	a := newAccounts(t, func(s *settings) { s.record = trail.record })
	carol := a.do("POST", "/users", object{"cn": "carol", "sn": "x"}).want(201).account("10000 100 /home/carol /bin/bash")
	trail.given(carol)
	a.do("POST", "/users", object{"cn": "dan", "sn": "x", "uid": "../dan", "uidNumber": nil, "gidNumber": 0}).want(201).account("10001 100 /home/_dan-10001 /bin/bash")
	a.do("PUT", "/users/erin", object{"sn": "x", "uidNumber": 5000, "gidNumber": 20000, "homeDirectory": "/srv/erin", "loginShell": "/bin/zsh"}).want(201).
		account("5000 20000 /srv/erin /bin/zsh")
	a.do("POST", "/users", `{"cn":"fay","sn":"x","memberOfs":["groups/devs"]}`).want(201).account("10002 100 /home/fay /bin/bash")
	a.do("POST", "/groups", object{"cn": "pilots", "members": []string{"users/carol"}}).want(201).account("10000")
	a.do("POST", "/hosts", object{"cn": "h"}).want(201).account("")
	a.classes(userDN("carol"), "posixAccount")
	a.classes("cn=pilots,ou=groups,"+ldapdirtest.Base, "posixGroup")
}

// given demands that the audit trail says what an account was given.
func (a *auditTrail) given(x *exchange) {
	x.t.Helper()
	said := map[string]string{}
	for _, change := range a.of(x)[0].Changes {
		said[change.Field] = strings.Join(change.After, " ")
	}
	x.account(fmt.Sprintf("%s %s %s %s", said["uidNumber"], said["gidNumber"], said["homeDirectory"], said["loginShell"]))
}

func TestAnAccountComesWithItsFirstFieldAndGoesWithItsNumber(t *testing.T) {
	trail := &auditTrail{}
	a := newAccounts(t, func(s *settings) { s.record = trail.record })
	alice := func(body string, status int) *exchange {
		t.Helper()
		return a.do("PATCH", "/users/alice", body).want(status)
	}
	alice(`{"title":"x"}`, 200).account("")
	alice(`{"uidNumber":null,"homeDirectory":null}`, 200).account("")
	trail.given(alice(`{"loginShell":"/bin/zsh"}`, 200).account("10000 100 /home/alice /bin/zsh"))
	a.classes(userDN("alice"), "posixAccount")
	alice(`{"uidNumber":0,"gidNumber":0}`, 200).account("10000 100 /home/alice /bin/zsh")
	alice(`{"homeDirectory":"/x","gidNumber":1234}`, 200).account("10000 1234 /x /bin/zsh")
	alice(`{"homeDirectory":null,"gidNumber":null,"loginShell":null}`, 200).account("10000 100 /home/alice /bin/bash")
	kept := a.do("PUT", "/users/alice", object{"sn": "Liddell"}).want(200).account("10000 100 /home/alice /bin/bash")
	a.do("PUT", "/users/alice", kept.Body).want(200).account("10000 100 /home/alice /bin/bash")
	alice(`{"uidNumber":null,"loginShell":"/bin/zsh"}`, 422).refused(directory.Invalid, "loginShell")
	alice(`{"uidNumber":null}`, 200).account("")
	a.classes(userDN("alice"))
	alice(`{"uidNumber":0}`, 200).account("10001 100 /home/alice /bin/bash")
	a.do("PATCH", "/users/alice", `[{"op":"test","path":"/uidNumber","value":10001},{"op":"replace","path":"/uidNumber","value":60500}]`,
		"Content-Type", "application/json-patch+json").want(200).account("60500 100 /home/alice /bin/bash")
	a.do("PATCH", "/users/alice", `[{"op":"remove","path":"/uidNumber"}]`, "Content-Type", "application/json-patch+json").want(200).account("")
	a.do("PATCH", "/groups/devs", `{"description":"x"}`).want(200).account("")
	a.do("PATCH", "/groups/devs", `{"gidNumber":0}`).want(200).account("10000")
	a.classes("cn=devs,ou=groups,"+ldapdirtest.Base, "posixGroup")
	a.do("PATCH", "/groups/devs", `{"gidNumber":null}`).want(200).account("")
	a.classes("cn=devs,ou=groups," + ldapdirtest.Base)
}

func TestNumbersThatCannotBeAreRefusedByField(t *testing.T) {
	a := newAccounts(t)
	a.do("POST", "/users", object{"cn": "carol", "sn": "x"}).want(201)
	a.do("POST", "/groups", object{"cn": "pilots"}).want(201)
	for _, test := range []struct {
		path   string
		body   string
		fields []string
	}{
		{"/users", `{"cn":"x","sn":"x","uidNumber":10000}`, []string{"uidNumber"}}, // carol's
		{"/groups", `{"cn":"x","gidNumber":10000}`, []string{"gidNumber"}},         // the pilots'
		{"/users", `{"cn":"x","sn":"x","uidNumber":999}`, []string{"uidNumber"}},
		{"/users", `{"cn":"x","sn":"x","uidNumber":65534,"gidNumber":4294967295}`, []string{"gidNumber", "uidNumber"}},
		{"/users", `{"cn":"x","sn":"x","uidNumber":"10001"}`, []string{"uidNumber"}},
		{"/users", `{"cn":"x","sn":"x","uidNumber":10001.5}`, []string{"uidNumber"}},
		{"/users", `{"cn":"x","sn":"x","uidNumber":1e4}`, []string{"uidNumber"}},
		{"/users", `{"cn":"x","sn":"x","uidNumber":[10001]}`, []string{"uidNumber"}},
		{"/users", `{"cn":"x","sn":"x","uidNumber":true}`, []string{"uidNumber"}},
		{"/users", `{"cn":"x","sn":"x","uidNumber":` + strings.Repeat("9", 2000) + `}`, []string{"uidNumber"}},
		{"/users", `{"cn":"x","sn":"x","homeDirectory":"/home/../etc","loginShell":"sh"}`, []string{"homeDirectory", "loginShell"}},
		{"/users", `{"cn":"x","sn":"x","loginShell":"/bin/sh:0:0"}`, []string{"loginShell"}},
		{"/hosts", `{"cn":"x","uidNumber":10001}`, []string{"uidNumber"}},
		{"/groups", `{"cn":"x","uidNumber":10001}`, []string{"uidNumber"}},
	} {
		a.do("POST", test.path, test.body).want(422).refused(directory.Invalid, test.fields...)
	}
	a.do("PATCH", "/users/bob", `{"uidNumber":10000}`).want(422).refused(directory.Invalid, "uidNumber")
}

func TestANumberThatIsYetToBeGivenOutIsNotAnAdminsToChoose(t *testing.T) {
	a := newAccounts(t)
	choose := func(status int, method, path, body string) *exchange {
		t.Helper()
		x := a.do(method, path, body).want(status)
		if status == 422 {
			x.refused(directory.Invalid, map[bool]string{true: "uidNumber", false: "gidNumber"}[strings.HasPrefix(path, "/users")])
		}
		return x
	}
	choose(422, "POST", "/users", `{"cn":"n1","sn":"x","uidNumber":10000}`)
	for i := range 3 {
		choose(201, "POST", "/users", fmt.Sprintf(`{"cn":"n%d","sn":"x"}`, i))
	}
	choose(204, "DELETE", "/users/n1", "")
	for _, number := range []int{10003, 10500, lastNumber} {
		choose(422, "POST", "/users", fmt.Sprintf(`{"cn":"n","sn":"x","uidNumber":%d}`, number))
		choose(422, "PUT", "/users/n", fmt.Sprintf(`{"sn":"x","uidNumber":%d}`, number))
		choose(422, "PATCH", "/users/n2", fmt.Sprintf(`{"uidNumber":%d}`, number))
		choose(422, "POST", "/users?dryRun=true", fmt.Sprintf(`{"cn":"n","sn":"x","uidNumber":%d}`, number))
		choose(422, "POST", "/groups", fmt.Sprintf(`{"cn":"n","gidNumber":%d}`, number))
	}
	if said := choose(422, "POST", "/users", `{"cn":"n","sn":"x","uidNumber":10500}`); !strings.Contains(string(said.Body), "as all are from 10003 to 59999") {
		said.fail("it does not say which")
	}
	for name, number := range map[string]int{"back": 10001, "below": firstNumber - 1, "above": lastNumber + 1} { // 10001 was n1's
		choose(201, "POST", "/users", fmt.Sprintf(`{"cn":%q,"sn":"x","uidNumber":%d}`, name, number))
	}
	if err := ldapdirtest.Bind(t, a.slapd).Add(importedAccount("imported", 10100)); err != nil {
		t.Fatal(err)
	}
	choose(200, "PATCH", "/users/imported", `{"uidNumber":10100,"loginShell":"/bin/sh"}`).account("10100 100 /home/imported /bin/sh")
	choose(201, "POST", "/users", `{"cn":"next","sn":"x"}`).account("10003 100 /home/next /bin/bash")
}

func TestANewGroupHasNobodyInItByNumber(t *testing.T) {
	a := newAccounts(t)
	a.do("POST", "/groups", object{"cn": "first"}).want(201).account("10000")
	a.do("POST", "/users", object{"cn": "n1", "sn": "x", "gidNumber": 10001}).want(201)
	a.do("POST", "/users", object{"cn": "n2", "sn": "x", "gidNumber": 10000}).want(201)
	a.do("POST", "/groups", object{"cn": "second"}).want(201).account("10002")
	a.do("POST", "/groups", object{"cn": "own", "gidNumber": 0}).want(201).account("10003")
}

func TestNobodyButAnAdminChoosesWhoAnAccountIs(t *testing.T) {
	a := newAccounts(t)
	a.do("POST", "/groups", object{"cn": "operators", "members": []string{"users/bob"}}).want(201)
	a.do("PUT", "/users/bob/password", object{"newPassword": "bobs own password"}).want(204)
	a.do("POST", "/users", object{"cn": "chief", "sn": "x", "memberOfs": []string{"groups/admins"}}).want(201)
	operator := a.as("bob", "bobs own password")
	operator.do("POST", "/groups", object{"cn": "SUDO"}).refused(directory.Forbidden, "cn")
	operator.do("PUT", "/groups/sudo", object{}).refused(directory.Forbidden, "cn")
	operator.do("POST", "/groups/devs/rename", object{"cn": "sudo"}).refused(directory.Forbidden, "cn")
	a.do("POST", "/groups", object{"cn": "sudo"}).want(201)
	operator.do("PUT", "/groups/sudo/members/users/bob", nil).refused(directory.Forbidden)
	operator.do("POST", "/users", object{"cn": "mallory", "sn": "x", "memberOfs": []string{"groups/sudo"}}).refused(directory.Forbidden, "memberOfs")
	a.do("PUT", "/groups/sudo/members/users/bob", nil).want(204)
	a.do("DELETE", "/groups/sudo", nil).want(204)
	operator.do("POST", "/users", object{"cn": "carol", "sn": "x"}).want(201).account("10001 100 /home/carol /bin/bash")
	for _, test := range []struct {
		method, path, body string
		fields             []string
	}{
		{"POST", "/users", `{"cn":"x","sn":"x","uidNumber":20000}`, []string{"uidNumber"}},
		{"POST", "/users", `{"cn":"x","sn":"x","gidNumber":1000}`, []string{"gidNumber"}},
		{"PUT", "/users/x", `{"sn":"x","uidNumber":20000}`, []string{"uidNumber"}},
		{"POST", "/groups", `{"cn":"x","gidNumber":27000}`, []string{"gidNumber"}},
		{"PATCH", "/users/carol", `{"uidNumber":20000}`, []string{"uidNumber"}},
		{"PATCH", "/users/carol", `{"uidNumber":null}`, []string{"uidNumber"}},
		{"PATCH", "/users/carol", `{"gidNumber":1000}`, []string{"gidNumber"}},
		{"PATCH", "/groups/devs", `{"gidNumber":27000}`, []string{"gidNumber"}},
		{"PATCH", "/users/chief", `{"loginShell":"/tmp/sh"}`, nil},
		{"PATCH", "/users/chief", `{"homeDirectory":"/tmp"}`, nil},
		{"PATCH", "/users/chief", `{"gidNumber":1000}`, []string{"gidNumber"}},
	} {
		operator.do(test.method, test.path, test.body).want(403).refused(directory.Forbidden, test.fields...)
	}
	a.as("alice", "alice-password").do("PATCH", "/users/alice", object{"uidNumber": 0}).want(403).refused(directory.Forbidden, "uidNumber")
	operator.do("PATCH", "/users/carol", object{"loginShell": "/bin/zsh", "homeDirectory": "/srv/carol", "uidNumber": 10001}).want(200).
		account("10001 100 /srv/carol /bin/zsh")
	operator.do("PATCH", "/users/alice", object{"uidNumber": 0}).want(200).account("10002 100 /home/alice /bin/bash")
	a.do("GET", "/users/chief", nil).want(200).account("10000 100 /home/chief /bin/bash")
}

func TestNumbersAreFoundSortedAndExportedAsNumbers(t *testing.T) {
	a := newAccounts(t)
	for name, number := range map[string]int{"nine": 9000, "ten": 10000, "eleven": 11000, "lakh": 100000} {
		if err := ldapdirtest.Bind(t, a.slapd).Add(importedAccount(name, number)); err != nil {
			t.Fatal(err)
		}
	}
	for filter, want := range map[string]string{
		"uidNumber ge 10000":                       "eleven lakh ten",
		"uidNumber gt 10000":                       "eleven lakh",
		"uidNumber lt 10000":                       "nine",
		"uidNumber eq 10000":                       "ten",
		"uidNumber ne 10000 and uidNumber pr":      "eleven lakh nine",
		"uidNumber eq 99999999999999999999999":     "",
		"uidNumber ge -5 and gidNumber eq 100":     "eleven lakh nine ten",
		`homeDirectory eq "/home/ten"`:             "ten",
		`not (uidNumber pr) and cn eq "alice"`:     "alice",
		"uidNumber eq null and uid eq \"alice\"":   "alice",
		"uidNumber le 9999 or uidNumber ge 100000": "lakh nine",
	} {
		var names []string
		for _, entry := range a.list("/users?sort=cn&fields=cn&filter=" + url.QueryEscape(filter)) {
			names = append(names, entry["cn"].(string))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s finds %q, want %q", filter, got, want)
		}
	}
	for _, filter := range []string{`uidNumber eq "10000"`, "uidNumber ge 1.5", "uidNumber eq true", "uidNumber co 1", "uidNumber sw 1", `uidNumber eq 1e4`} {
		a.do("GET", "/users?filter="+url.QueryEscape(filter), nil).want(422).refused(directory.Invalid, "filter")
	}
	var names []string
	for _, entry := range a.list("/users?sort=-uidNumber&fields=cn&filter=" + url.QueryEscape("uidNumber pr")) {
		names = append(names, entry["cn"].(string))
	}
	if got := strings.Join(names, " "); got != "lakh eleven ten nine" {
		t.Errorf("by number they are %q", got)
	}
	if csv := string(a.do("GET", "/users?fields=cn,uidNumber&filter="+url.QueryEscape("uidNumber eq 9000"), nil, "Accept", "text/csv").want(200).Body); csv != "cn,uidNumber\r\nnine,9000\r\n" {
		t.Errorf("as CSV: %q", csv)
	}
	line := a.do("GET", "/users?fields=cn,uidNumber&filter="+url.QueryEscape("uidNumber eq 9000"), nil, "Accept", "application/x-ndjson").want(200).Body
	if string(line) != `{"cn":"nine","uidNumber":9000}`+"\n" {
		t.Errorf("as NDJSON: %q", line)
	}
}

func TestADryRunShowsTheNextNumberAndDrawsNone(t *testing.T) {
	a := newAccounts(t)
	for range 2 {
		for _, request := range [][3]string{{"POST", "/users", `{"cn":"carol","sn":"x"}`}, {"PATCH", "/users/alice", `{"loginShell":"/bin/zsh"}`}} {
			x := a.do(request[0], request[1]+"?dryRun=true", request[2]).want(200)
			if changes := fmt.Sprint(x.object()["changes"]); !strings.Contains(changes, "uidNumber values:[10000]") || strings.Contains(changes, "cn=numbers") {
				x.fail("the plan is not that of the next number")
			}
		}
	}
	a.do("POST", "/users", object{"cn": "carol", "sn": "x"}).want(201).account("10000 100 /home/carol /bin/bash")
	a.do("POST", "/users?dryRun=true", object{"cn": "carol", "sn": "x"}).want(409)
	a.do("POST", "/users", object{"cn": "dan", "sn": "x"}).want(201).account("10001 100 /home/dan /bin/bash")
}

func TestWhenThereIsNoNumberLeftThatIsSaid(t *testing.T) {
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	server := ldapdirtest.Start(t, slapd.Options{Seed: seed})
	a := newAPIOn(t, server, withAccounts(t, server, firstNumber))
	a.do("POST", "/users", object{"cn": "carol", "sn": "x"}).want(201)
	a.do("POST", "/groups", object{"cn": "pilots"}).want(201)
	a.do("POST", "/users", object{"cn": "dan", "sn": "x"}).want(507).refused(directory.NoNumberLeft)
	a.do("POST", "/groups", object{"cn": "drivers"}).want(507).refused(directory.NoNumberLeft)
	a.do("PUT", "/users/dan", object{"sn": "x"}).want(507).refused(directory.NoNumberLeft)
	a.do("PATCH", "/users/alice", object{"loginShell": "/bin/sh"}).want(507).refused(directory.NoNumberLeft)
	a.do("POST", "/users?dryRun=true", object{"cn": "dan", "sn": "x"}).want(507).refused(directory.NoNumberLeft)
	a.do("PATCH", "/users/alice", object{"title": "x"}).want(200)
	a.do("POST", "/users", object{"cn": "dan", "sn": "x", "uidNumber": 20000}).want(201)
}

// TestANumberThatIsTakenBetweenItsDrawingAndItsUseIsDrawnAnew: an LDAP client gives it to somebody else, each time twice.
func TestANumberThatIsTakenBetweenItsDrawingAndItsUseIsDrawnAnew(t *testing.T) {
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	server := ldapdirtest.Start(t, slapd.Options{Seed: seed})
	l := ldapdirtest.Bind(t, server)
	numbers := ldapdirtest.Open(t, ldapdirtest.WithAccounts(ldapdirtest.Options(server))).Numbers(openldap.NumbersDN(server.Suffix()), firstNumber, lastNumber)
	drawn := 0
	a := newAPIOn(t, server, withAccounts(t, server, lastNumber), func(s *settings) {
		s.between = func(next directory.Directory) directory.Directory {
			return directory.NewNumbered(next, directory.Posix{PrimaryGroup: 100, HomeDirectory: "/home/{uid}", LoginShell: "/bin/sh",
				Next: func(ctx context.Context, kind *directory.Kind) (int, error) {
					number, err := numbers.Next(ctx, kind)
					if drawn++; err == nil && drawn%3 != 0 {
						err = l.Add(importedAccount("import"+strconv.Itoa(number), number))
					}
					return number, err
				}})
		}
	})
	a.do("POST", "/users", object{"cn": "carol", "sn": "x"}).want(201).account("10002 100 /home/carol /bin/sh")
	a.do("PATCH", "/users/alice", object{"uidNumber": 0}).want(200).account("10005 100 /home/alice /bin/sh")
}

// importedAccount is a user that another client makes.
func importedAccount(name string, number int) *ldap.AddRequest {
	add := ldap.NewAddRequest(userDN(name), nil)
	for attribute, value := range map[string]string{"sn": "x", "uid": name, "uidNumber": strconv.Itoa(number), "gidNumber": "100", "homeDirectory": "/home/" + name} {
		add.Attribute(attribute, []string{value})
	}
	add.Attribute("objectClass", []string{"inetOrgPerson", "posixAccount"})
	return add
}

// TestNoNumberIsGivenTwice: users are made by two replicas, while an LDAP client takes numbers of the range for others.
func TestNoNumberIsGivenTwice(t *testing.T) { noNumberIsGivenTwice(t, 200) }

func noNumberIsGivenTwice(t *testing.T, users int) {
	const callers = 32
	one := newAccounts(t)
	two := newAPIOn(t, one.slapd, withAccounts(t, one.slapd, lastNumber))
	var begun, imported atomic.Int64
	var mutex sync.Mutex
	var given []int
	var all sync.WaitGroup
	for i := range callers {
		a := []*api{one, two}[i%2]
		all.Go(func() {
			for n := begun.Add(1); n <= int64(users); n = begun.Add(1) {
				var got struct{ UIDNumber int }
				a.do("POST", "/users", object{"cn": "user" + strconv.Itoa(int(n)), "sn": "x"}).want(201).decode(&got)
				mutex.Lock()
				given = append(given, got.UIDNumber)
				mutex.Unlock()
			}
		})
	}
	l := ldapdirtest.Bind(t, one.slapd)
	all.Go(func() {
		for i := range users / 4 { // ahead of what is drawn, and in its way
			if err := l.Add(importedAccount("import"+strconv.Itoa(i), firstNumber+3*i)); err == nil {
				imported.Add(1)
			} else if !ldap.IsErrorWithCode(err, ldap.LDAPResultConstraintViolation) {
				t.Error(err)
			}
		}
	})
	all.Wait()
	result, err := l.Search(ldap.NewSearchRequest(ldapdirtest.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=posixAccount)", []string{"uidNumber"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]bool{}
	for _, entry := range result.Entries {
		numbers[entry.GetAttributeValue("uidNumber")] = true
	}
	if want := users + int(imported.Load()); len(result.Entries) != want || len(numbers) != want {
		t.Errorf("%d accounts with %d numbers, want %d", len(result.Entries), len(numbers), want)
	}
	slices.Sort(given)
	if len(slices.Compact(given)) != users || given[0] < firstNumber || given[len(given)-1] > lastNumber {
		t.Errorf("given: %v", given)
	}
	t.Logf("%d given, up to %d; %d imported meanwhile", users, given[len(given)-1], imported.Load())
}

// TestClientsOfAccountsFindThem: by the filters of SSSD (ldap_schema = rfc2307bis) and of nslcd, whose login names, numbers
// and members make up what getent shows.
func TestClientsOfAccountsFindThem(t *testing.T) {
	a := newAccounts(t)
	a.do("POST", "/users", object{"cn": "carol", "sn": "x"}).want(201)
	a.do("POST", "/groups", object{"cn": "pilots", "members": []string{"users/carol"}}).want(201)
	a.do("PATCH", "/users/alice", object{"uidNumber": 0}).want(200)
	l := ldapdirtest.Bind(t, a.slapd)
	for filter, want := range map[string]string{
		"(&(uid=carol)(objectclass=posixAccount)(uid=*)(&(uidNumber=*)(!(uidNumber=0))))":                   "carol:10000:100:/home/carol:/bin/bash",
		"(&(uidNumber=10001)(objectclass=posixAccount)(uid=*)(&(uidNumber=*)(!(uidNumber=0))))":             "alice:10001:100:/home/alice:/bin/bash",
		"(&(objectClass=posixAccount)(uid=carol))":                                                          "carol:10000:100:/home/carol:/bin/bash",
		"(&(objectClass=posixAccount)(uidNumber=10000))":                                                    "carol:10000:100:/home/carol:/bin/bash",
		"(objectClass=posixAccount)":                                                                        "alice:10001:100:/home/alice:/bin/bash carol:10000:100:/home/carol:/bin/bash",
		"(&(cn=pilots)(objectClass=posixGroup)(cn=*)(&(gidNumber=*)(!(gidNumber=0))))":                      "pilots:10000:" + userDN("carol"),
		"(&(member=" + userDN("carol") + ")(objectClass=posixGroup)(cn=*)(&(gidNumber=*)(!(gidNumber=0))))": "pilots:10000:" + userDN("carol"),
		"(&(objectClass=posixGroup)(gidNumber=10000))":                                                      "pilots:10000:" + userDN("carol"),
	} {
		result, err := l.Search(ldap.NewSearchRequest(ldapdirtest.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, filter, nil, nil))
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for _, e := range result.Entries {
			line := []string{e.GetAttributeValue("uid"), e.GetAttributeValue("uidNumber"), e.GetAttributeValue("gidNumber"), e.GetAttributeValue("homeDirectory"), e.GetAttributeValue("loginShell")}
			if e.GetAttributeValue("uid") == "" {
				line = []string{e.GetAttributeValue("cn"), e.GetAttributeValue("gidNumber"), strings.Join(e.GetAttributeValues("member"), ",")}
			}
			lines = append(lines, strings.Join(line, ":"))
		}
		slices.Sort(lines)
		if got := strings.Join(lines, " "); got != want {
			t.Errorf("%s finds %q, want %q", filter, got, want)
		}
	}
}

func TestACreationThatWasCutOffBeforeItsGroupsIsCompletedWithItsNumber(t *testing.T) {
	a := newAccounts(t)
	a.do("POST", "/users", object{"cn": "carol", "sn": "x"}).want(201)
	a.do("POST", "/users", object{"cn": "carol", "sn": "x", "memberOfs": []string{"groups/devs"}}).want(201).account("10000 100 /home/carol /bin/bash")
	a.do("POST", "/users", object{"cn": "carol", "sn": "x", "uidNumber": 60000, "memberOfs": []string{"groups/ops"}}).want(409)
}

func TestLinesOfABulkRequestGetANumberEach(t *testing.T) {
	a := newAccounts(t)
	var lines strings.Builder
	for i := range 50 {
		fmt.Fprintf(&lines, `{"cn":"bulk%d","sn":"x"}`+"\n", i)
	}
	if x := a.do("PUT", "/users", lines.String(), "Content-Type", "application/x-ndjson").want(200); strings.Count(string(x.Body), `"status":201`) != 50 {
		x.fail("not all are created")
	}
	numbers := map[json.Number]bool{}
	for _, entry := range a.list("/users?limit=1000&filter=" + url.QueryEscape(`cn sw "bulk"`)) {
		numbers[json.Number(fmt.Sprint(entry["uidNumber"]))] = true
	}
	if len(numbers) != 50 {
		t.Errorf("%d numbers", len(numbers))
	}
}
