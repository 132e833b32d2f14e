package rest_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// dryRuns are requests that change something, each on the sample directory.
var dryRuns = []struct {
	what, method, path string
	body               any
	headers            []string
}{
	{"a user is created", "POST", "/users", object{"cn": "eve", "sn": "Smith", "mail": "eve@example.org"}, nil},
	{"a locked user is created", "POST", "/users", object{"cn": "eve", "sn": "Smith", "accountLocked": true}, nil},
	{"a group is created without members", "POST", "/groups", object{"cn": "new"}, nil},
	{"a name that LDIF must encode", "POST", "/users", object{"cn": `<O'Brien, "Jr" +y=z#;\ ü`, "sn": " : <x>", "description": "two\nlines"}, nil},
	{"a user is replaced", "PUT", "/users/alice", object{"sn": "Other", "mail": "alice@example.org"}, nil},
	{"a user is created by PUT", "PUT", "/users/eve", object{"sn": "Smith"}, nil},
	{"fields are changed", "PATCH", "/users/alice", object{"title": "Boss", "givenName": nil}, nil},
	{"SSH keys bring their class", "PATCH", "/users/bob", object{"sshPublicKeys": []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGIFpYEBGdyvfSHDOQq9Tn/ruwqJj0sodBqSyEpnSe3b a"}}, nil},
	{"an account is locked", "PATCH", "/users/bob", object{"accountLocked": true}, nil},
	{"nothing changes", "PATCH", "/users/alice", object{}, nil},
	{"members are changed", "PATCH", "/groups/devs", object{"members": []string{"users/bob"}}, nil},
	{"a group loses its last member", "PATCH", "/groups/devs", object{"members": []string{}}, nil},
	{"a member is added", "PUT", "/groups/devs/members/users/admin", nil, nil},
	{"a member is removed", "DELETE", "/groups/devs/members/users/alice", nil, nil},
	{"a user is put into groups from the start", "POST", "/users", object{"cn": "eve", "sn": "Smith", "memberOfs": refs("devs", "ops")}, nil},
	{"a user changes groups", "PATCH", "/users/alice", object{"memberOfs": refs("ops"), "title": "Boss"}, nil},
	{"a host leaves its groups", "PUT", "/hosts/web1", object{"memberOfs": []string{}}, nil},
	{"a user joins a group by JSON Patch", "PATCH", "/users/bob", `[{"op":"add","path":"/memberOfs/-","value":"groups/devs"}]`, jsonPatch},
	{"a user with memberships is deleted", "DELETE", "/users/alice", nil, nil},
	{"an admin is deleted", "DELETE", "/users/minjun", nil, nil},
	{"a group is deleted", "DELETE", "/groups/devs", nil, nil},
	{"a user who owns hosts is renamed", "POST", "/users/bob/rename", object{"cn": "rob"}, nil},
	{"a user gets a name that LDIF must encode", "POST", "/users/alice/rename", object{"cn": `<O'Brien, "Jr" +y=z#;\ ü`}, nil},
	{"a group is renamed", "POST", "/groups/devs/rename", object{"cn": "makers"}, nil},
	{"a host is renamed", "POST", "/hosts/web1/rename", object{"cn": "www"}, nil},
}

func TestADryRunChangesNothing(t *testing.T) {
	a := newAPI(t)
	for _, row := range dryRuns {
		for _, accept := range []string{"application/json", "text/ldif"} {
			before := wholeTree(t, a.slapd)
			answer := a.do(row.method, row.path+"?dryRun=true", row.body, append([]string{"Accept", accept}, row.headers...)...)
			answer.want(200)
			if diff := cmp.Diff(before, wholeTree(t, a.slapd)); diff != "" {
				t.Errorf("%s, as %s: something has changed: %s", row.what, accept, diff)
			}
		}
	}
}

// TestTheLDIFOfADryRunHasTheEffectOfTheRequest makes the same change twice: by ldapmodify on one server, by the request
// on another.
func TestTheLDIFOfADryRunHasTheEffectOfTheRequest(t *testing.T) {
	for _, row := range dryRuns {
		t.Run(row.what, func(t *testing.T) {
			t.Parallel()
			byLDIF, byRequest := newAPI(t), newAPI(t)
			for _, a := range []*api{byLDIF, byRequest} { // so that there is an admin who may go
				a.do("PUT", "/groups/admins/members/users/minjun", nil).want(204)
			}
			ldif := byLDIF.do(row.method, row.path+"?dryRun=true", row.body, append([]string{"Accept", "text/ldif"}, row.headers...)...)
			ldif.want(200)
			ldapmodify(t, byLDIF.slapd, string(ldif.Body))
			if answer := byRequest.do(row.method, row.path, row.body, row.headers...); answer.Status >= 300 {
				t.Fatalf("%s %s: %d %s", row.method, row.path, answer.Status, answer.Body)
			}
			if diff := cmp.Diff(shownTree(t, byRequest), shownTree(t, byLDIF)); diff != "" {
				t.Errorf("after the request (-) and after ldapmodify (+): %s\nthe LDIF was:\n%s", diff, ldif.Body)
			}
		})
	}
}

func TestADryRunIsRefusedAsTheRequestWouldBe(t *testing.T) {
	a := newAPI(t)
	for _, row := range []struct {
		what, method, path string
		body               any
		code               *directory.Code
		fields             []string
	}{
		{"a missing field", "POST", "/users", object{"cn": "eve"}, directory.Invalid, []string{"sn"}},
		{"a name that is taken", "POST", "/users", object{"cn": "alice", "sn": "x"}, directory.AlreadyExists, nil},
		{"a mail address that another has, which only the server knows", "POST", "/users", object{"cn": "eve", "sn": "x", "mail": "alice@example.org"}, directory.Invalid, []string{"mail"}},
		{"a password that the policy refuses", "POST", "/users", object{"cn": "eve", "sn": "x", "userPassword": "x"}, directory.PasswordRefused, []string{"userPassword"}},
		{"an entry that is not there", "PATCH", "/users/nobody", object{"sn": "x"}, directory.NotFound, nil},
		{"an entry that is not there", "DELETE", "/users/nobody", nil, directory.NotFound, nil},
		{"the last admin", "DELETE", "/groups/admins/members/users/admin", nil, directory.LastAdmin, nil},
		{"a protected entry", "DELETE", "/groups/admins", nil, directory.ProtectedEntry, nil},
		{"no body", "POST", "/users", "", directory.BadRequest, nil},
	} {
		a.do(row.method, row.path+"?dryRun=true", row.body).refused(row.code, row.fields...)
	}
	for _, query := range []string{"dryrun=true", "dryRun=yes", "dryRun=true&dryRun=false", "dry_run=true", "%zz"} {
		a.do("DELETE", "/users/bob?"+query, nil).refused(directory.BadRequest)
	}
	a.do("GET", "/users/bob", nil).want(200)
	a.do("DELETE", "/users/bob?dryRun=true", nil, "Accept", "text/csv").refused(directory.NotAcceptable)
}

func TestADryRunKeepsPasswordsToItself(t *testing.T) {
	a := newAPI(t)
	const secret = "correct horse battery staple"
	for _, row := range []struct {
		method, path string
		body         any
	}{
		{"POST", "/users", object{"cn": "eve", "sn": "x", "userPassword": secret}},
		{"PATCH", "/users/alice", object{"userPassword": secret}},
		{"PUT", "/users/alice/password", object{"newPassword": secret}},
	} {
		for _, accept := range []string{"application/json", "text/ldif"} {
			answer := a.do(row.method, row.path+"?dryRun=true", row.body, "Accept", accept)
			answer.want(200)
			text := string(answer.Body)
			if strings.Contains(text, secret) || !strings.Contains(text, "userPassword") || !strings.Contains(text, "secret") {
				t.Errorf("%s %s: %s", row.method, row.path, text)
			}
			if accept == "text/ldif" {
				ldapmodify(t, a.slapd, text)
				a.do("DELETE", "/users/eve", nil)
			}
		}
	}
}

func TestWithoutNoOpADryRunAsksNobody(t *testing.T) {
	for _, asks := range []bool{true, false} {
		a := newAPI(t, func(s *settings) { s.ldap.NoOp = asks })
		var plan struct {
			AskedDirectory bool
			Status         int
			Changes        []object
		}
		a.do("POST", "/users?dryRun=true", object{"cn": "eve", "sn": "x"}).decode(&plan)
		if plan.AskedDirectory != asks || plan.Status != 201 || len(plan.Changes) != 1 {
			t.Errorf("no_op %t: %+v", asks, plan)
		}
	}
}

// wholeTree returns every attribute of every entry, operational ones too, but what each search changes.
func wholeTree(t *testing.T, server *slapd.Server) map[string][]string {
	t.Helper()
	result, err := ldapdirtest.Bind(t, server).SearchWithPaging(ldap.NewSearchRequest(ldapdirtest.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases,
		0, 0, false, "(objectClass=*)", []string{"*", "+"}, nil), 500)
	if err != nil {
		t.Fatal(err)
	}
	tree := map[string][]string{}
	for _, entry := range result.Entries {
		for _, attribute := range entry.Attributes {
			tree[strings.ToLower(entry.DN)+" "+attribute.Name] = slices.Sorted(slices.Values(attribute.Values))
		}
	}
	return tree
}

// shownTree is wholeTree without what differs between two servers or two moments.
func shownTree(t *testing.T, a *api) map[string][]string {
	t.Helper()
	tree := wholeTree(t, a.slapd)
	for key := range tree {
		for _, volatile := range []string{"entryUUID", "entryCSN", "createTimestamp", "modifyTimestamp", "modifiersName", "creatorsName", "contextCSN", "userPassword", "pwdChangedTime", "pwdHistory"} {
			if strings.HasSuffix(key, " "+volatile) {
				delete(tree, key)
			}
		}
	}
	return tree
}

// ldapmodify applies LDIF as the service account.
func ldapmodify(t *testing.T, server *slapd.Server, ldif string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "ldapmodify", "-x", "-H", server.URL(), "-D", server.ServiceDN(), "-w", server.ServicePassword())
	command.Stdin = strings.NewReader(ldif)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("ldapmodify: %v: %s\nof:\n%s", err, out, ldif)
	}
}
