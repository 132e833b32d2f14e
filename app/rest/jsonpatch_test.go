package rest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"rollcall/app/auth"
	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
)

// jsonPatch sends a JSON Patch.
func (a *api) jsonPatch(path, body string, headers ...string) *exchange {
	a.t.Helper()
	return a.do("PATCH", path, body, append(headers, "Content-Type", "application/json-patch+json")...)
}

// sshKey returns one of many keys.
func sshKey(i int) string {
	wire := append([]byte("\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20"), make([]byte, 32)...)
	wire[len(wire)-1] = byte(i)
	return fmt.Sprintf("ssh-ed25519 %s k%d", base64.StdEncoding.EncodeToString(wire), i)
}

// withKeys replaces <0>, <1> … by keys.
func withKeys(text string) string {
	for i := range 10 {
		text = strings.ReplaceAll(text, fmt.Sprintf("<%d>", i), sshKey(i))
	}
	return text
}

func keys(numbers ...int) []string {
	all := []string{}
	for _, i := range numbers {
		all = append(all, sshKey(i))
	}
	return all
}

// newPat makes a user anew.
func (a *api) newPat() (before *exchange) {
	a.t.Helper()
	a.do("DELETE", "/users/pat", nil)
	return a.do("POST", "/users", object{"cn": "pat", "sn": "Ng", "title": "Chief", "description": "a/b ~c",
		"sshPublicKeys": keys(0, 1, 2)}).want(201)
}

func TestAJSONPatchIsAppliedToWhatGETShows(t *testing.T) {
	a := newAPI(t)
	for _, c := range []struct {
		rule, patch string
		want        object // the fields that changed
	}{
		{"no operations change nothing", `[]`, object{}},
		{"add sets a field that is not there", `[{"op":"add","path":"/mail","value":"pat@example.org"}]`, object{"mail": "pat@example.org"}},
		{"add replaces a field that is there", `[{"op":"add","path":"/title","value":"Boss"}]`, object{"title": "Boss"}},
		{"add at an index moves the others up", `[{"op":"add","path":"/sshPublicKeys/0","value":"<3>"}]`, object{"sshPublicKeys": keys(3, 0, 1, 2)}},
		{"add at the length is at the end", `[{"op":"add","path":"/sshPublicKeys/3","value":"<3>"}]`, object{"sshPublicKeys": keys(0, 1, 2, 3)}},
		{"add at - is at the end", `[{"op":"add","path":"/sshPublicKeys/-","value":"<3>"}]`, object{"sshPublicKeys": keys(0, 1, 2, 3)}},
		{"add of a list replaces it", `[{"op":"add","path":"/sshPublicKeys","value":["<4>"]}]`, object{"sshPublicKeys": keys(4)}},
		{"remove of a field", `[{"op":"remove","path":"/title"}]`, object{"title": nil}},
		{"remove of a value of a list", `[{"op":"remove","path":"/sshPublicKeys/1"}]`, object{"sshPublicKeys": keys(0, 2)}},
		{"remove of a list empties it", `[{"op":"remove","path":"/sshPublicKeys"}]`, object{"sshPublicKeys": keys()}},
		{"replace of a field", `[{"op":"replace","path":"/title","value":"Boss"}]`, object{"title": "Boss"}},
		{"replace of a value of a list", `[{"op":"replace","path":"/sshPublicKeys/1","value":"<5>"}]`, object{"sshPublicKeys": keys(0, 5, 2)}},
		{"replace by null removes", `[{"op":"replace","path":"/title","value":null}]`, object{"title": nil}},
		{"replace of a boolean", `[{"op":"replace","path":"/accountLocked","value":true}]`, object{"accountLocked": true}},
		{"move of a field", `[{"op":"move","from":"/title","path":"/givenName"}]`, object{"title": nil, "givenName": "Chief"}},
		{"move to where it is", `[{"op":"move","from":"/sshPublicKeys/1","path":"/sshPublicKeys/1"}]`, object{}},
		{"copy of a field", `[{"op":"copy","from":"/title","path":"/givenName"}]`, object{"givenName": "Chief"}},
		{"copy out of a list", `[{"op":"copy","from":"/sshPublicKeys/2","path":"/description"}]`, object{"description": sshKey(2)}},
		{"test of a field", `[{"op":"test","path":"/title","value":"Ch\u0069ef"},{"op":"remove","path":"/title"}]`, object{"title": nil}},
		{"test of a value of a list", `[{"op":"test","path":"/sshPublicKeys/1","value":"<1>"},{"op":"remove","path":"/sshPublicKeys/1"}]`, object{"sshPublicKeys": keys(0, 2)}},
		{"test of a list", `[{"op":"test","path":"/sshPublicKeys","value":["<0>","<1>","<2>"]},{"op":"remove","path":"/title"}]`, object{"title": nil}},
		{"test of an empty list", `[{"op":"test","path":"/memberOfs","value":[]},{"op":"remove","path":"/title"}]`, object{"title": nil}},
		{"test of what an operation before made", `[{"op":"add","path":"/title","value":"Boss"},{"op":"test","path":"/title","value":"Boss"}]`, object{"title": "Boss"}},
		{"test of a null that an operation before made", `[{"op":"add","path":"/title","value":null},{"op":"test","path":"/title","value":null}]`, object{"title": nil}},
		{"indexes count what the operations before left", `[{"op":"remove","path":"/sshPublicKeys/0"},{"op":"remove","path":"/sshPublicKeys/0"},{"op":"add","path":"/sshPublicKeys/1","value":"<6>"}]`,
			object{"sshPublicKeys": keys(2, 6)}},
		{"what no operation needs is ignored", `[{"op":"remove","path":"/title","value":{},"from":7,"Path":"/sn"}]`, object{"title": nil}},
		{"what is removed and added again stays", `[{"op":"remove","path":"/sn"},{"op":"add","path":"/sn","value":"Ng"}]`, object{}},
		{"a wrong type that does not stay is none", `[{"op":"add","path":"/title","value":{"a":[1]}},{"op":"copy","from":"/title","path":"/shoeSize"},{"op":"remove","path":"/shoeSize"},{"op":"add","path":"/title","value":"Boss"}]`,
			object{"title": "Boss"}},
		{"values that stay may be set again, read-only ones too", `[{"op":"copy","from":"/id","path":"/id"},{"op":"copy","from":"","path":""}]`, object{}},
	} {
		t.Run(c.rule, func(t *testing.T) {
			a := *a
			a.t = t
			want := a.newPat().object()
			patched := a.jsonPatch("/users/pat", withKeys(c.patch))
			for name, value := range c.want {
				if want[name] = value; value == nil {
					delete(want, name)
				}
				if list, ok := value.([]string); ok {
					values := []any{}
					for _, item := range list {
						values = append(values, item)
					}
					want[name] = values
				}
			}
			got := patched.want(200).object()
			want["updatedAt"] = got["updatedAt"]
			if diff := cmp.Diff(want, got); diff != "" {
				patched.fail("otherwise than wanted (-want +got):\n%s", diff)
			}
			read := a.do("GET", "/users/pat", nil).want(200)
			if string(read.Body) != string(patched.Body) || read.etag() != patched.etag() {
				read.fail("not what the patch answered:\n%s", patched.Body)
			}
		})
	}
}

func TestAReplacementOfTheWholeEntryIsAPatchToo(t *testing.T) {
	a := newAPI(t)
	whole := a.newPat().object()
	delete(whole, "title")
	whole["mail"] = "pat@example.org"
	body, err := json.Marshal([]object{{"op": "replace", "path": "", "value": whole}})
	if err != nil {
		t.Fatal(err)
	}
	a.jsonPatch("/users/pat", string(body)).want(200).field("title", nil).field("mail", "pat@example.org").field("sshPublicKeys", keys(0, 1, 2))
	a.jsonPatch("/users/pat", `[{"op":"add","path":"","value":{"sn":"Ng"}}]`).
		refused(directory.Invalid, "cn", "createdAt", "dn", "id")
}

func TestReferencesInAJSONPatch(t *testing.T) {
	a := newAPI(t)
	alice, bob := "cn=alice,ou=people,"+ldapdirtest.Base, "cn=bob,ou=people,"+ldapdirtest.Base
	a.do("POST", "/groups", object{"cn": "night", "members": []string{"users/alice"}}).want(201)
	a.jsonPatch("/groups/night", `[{"op":"test","path":"/members/0","value":"`+alice+`"},{"op":"add","path":"/members/-","value":"users/bob"}]`).
		want(200).field("members", []string{alice, bob})
	a.jsonPatch("/groups/night", `[{"op":"remove","path":"/members/0"}]`).want(200).field("members", []string{bob})
	a.jsonPatch("/groups/night", `[{"op":"remove","path":"/members/0"}]`).want(200).field("members", []string{})
	a.jsonPatch("/groups/night", `[{"op":"add","path":"/members/0","value":"users/nobody"}]`).refused(directory.Invalid, "members")
	a.jsonPatch("/hosts/web1", `[{"op":"add","path":"/ipAddresses/0","value":"192.0.2.77"},{"op":"add","path":"/owners","value":["users/bob"]}]`).
		want(200).field("owners", []string{bob})
}

func TestAJSONPatchThatDoesNotFitTheEntry(t *testing.T) {
	a := newAPI(t)
	before := a.newPat()
	for _, c := range []struct{ rule, patch, detail string }{
		{"test of another value", `[{"op":"test","path":"/title","value":"secret-1"}]`, "Operation 0, test /title: "},
		{"test of another type", `[{"op":"test","path":"/accountLocked","value":"false"}]`, "Operation 0, test /accountLocked: "},
		{"test of another number of values", `[{"op":"test","path":"/sshPublicKeys","value":["<0>","<1>"]}]`, "Operation 0, test /sshPublicKeys: "},
		{"test of another order", `[{"op":"test","path":"/sshPublicKeys","value":["<1>","<0>","<2>"]}]`, "Operation 0, test /sshPublicKeys: "},
		{"test of null where there is nothing", `[{"op":"test","path":"/mail","value":null}]`, "Operation 0, test /mail: "},
		{"test of a list with null", `[{"op":"test","path":"/sshPublicKeys","value":[null]}]`, "Operation 0, test /sshPublicKeys: "},
		{"test of the whole entry", `[{"op":"test","path":"","value":{"title":"Chief"}}]`, "Operation 0, test the whole entry: "},
		{"the operation is named by its index", `[{"op":"add","path":"/title","value":"secret-2"},{"op":"test","path":"/sn","value":"Ng"},{"op":"remove","path":"/mail"}]`, "Operation 2, remove /mail: "},
		{"remove of what is not there", `[{"op":"remove","path":"/mail"}]`, "Operation 0, remove /mail: "},
		{"replace of what is not there", `[{"op":"replace","path":"/mail","value":"secret-3"}]`, "Operation 0, replace /mail: "},
		{"move of what is not there", `[{"op":"move","from":"/mail","path":"/title"}]`, "Operation 0, move /title: there is nothing at /mail."},
		{"copy of what is not there", `[{"op":"copy","from":"/mail","path":"/title"}]`, "Operation 0, copy /title: there is nothing at /mail."},
		{"an index past the end", `[{"op":"remove","path":"/sshPublicKeys/3"}]`, "Operation 0, remove /sshPublicKeys/3: "},
		{"an index past the end to add at", `[{"op":"add","path":"/sshPublicKeys/4","value":"<4>"}]`, "Operation 0, add /sshPublicKeys/4: "},
		{"an index below zero", `[{"op":"remove","path":"/sshPublicKeys/-1"}]`, "Operation 0, remove /sshPublicKeys/-1: "},
		{"an index with a leading zero", `[{"op":"remove","path":"/sshPublicKeys/01"}]`, "Operation 0, remove /sshPublicKeys/01: "},
		{"an index with a sign", `[{"op":"remove","path":"/sshPublicKeys/+1"}]`, "Operation 0, remove /sshPublicKeys/+1: "},
		{"an index that is none", `[{"op":"add","path":"/sshPublicKeys/one","value":"<4>"}]`, "Operation 0, add /sshPublicKeys/one: "},
		{"- is no value that is there", `[{"op":"remove","path":"/sshPublicKeys/-"}]`, "Operation 0, remove /sshPublicKeys/-: "},
		{"a path into a value", `[{"op":"add","path":"/title/0","value":"secret-4"}]`, "Operation 0, add /title/0: "},
		{"a path deeper than an entry is", `[{"op":"add","path":"/sshPublicKeys/0/0","value":"secret-5"}]`, "Operation 0, add /sshPublicKeys/0/0: "},
		{"the field without a name", `[{"op":"test","path":"/","value":"secret-6"}]`, "Operation 0, test /: "},
		{"a field in another case", `[{"op":"remove","path":"/Title"}]`, "Operation 0, remove /Title: "},
		{"a value in the place of the entry", `[{"op":"copy","from":"/title","path":""}]`, "Operation 0, copy the whole entry: "},
	} {
		t.Run(c.rule, func(t *testing.T) {
			a := *a
			a.t = t
			x := a.jsonPatch("/users/pat", withKeys(c.patch)).refused(directory.PatchConflict)
			if detail := x.problem().Detail; !strings.HasPrefix(detail, c.detail) {
				x.fail("the detail is %q, want it to begin with %q", detail, c.detail)
			}
			for _, value := range []string{"secret", "Chief", "ssh-ed25519"} {
				if strings.Contains(string(x.Body), value) {
					x.fail("the answer holds the value %q", value)
				}
			}
		})
	}
	if after := a.do("GET", "/users/pat", nil); after.etag() != before.etag() {
		after.fail("patches that did not fit changed the entry")
	}
	if strings.Contains(a.log.text(), "secret-") {
		t.Errorf("the log holds values:\n%s", a.log.text())
	}
}

func TestWhatIsNoJSONPatchIsABadRequestOnce(t *testing.T) {
	a := newAPI(t)
	many := strings.Repeat(`{"op":"test","path":"","value":0},`, 1000) + `{"op":"test","path":"","value":0}`
	for _, c := range []struct{ rule, body, detail string }{
		{"nothing", ``, "array"},
		{"an object", `{"op":"remove","path":"/title"}`, "array"},
		{"null", `null`, "array"},
		{"an array that does not end", `[{"op":"remove","path":"/title"}`, "byte"},
		{"an operation that does not end", `[{"op":"remove","path":"/title"`, "byte"},
		{"two arrays", `[][]`, "follows"},
		{"no UTF-8", "[{\"op\":\"add\",\"path\":\"/title\",\"value\":\"\xff\"}]", "UTF-8"},
		{"an operation that is no object", `[{"op":"remove","path":"/title"},["remove"]]`, "Operation 1 "},
		{"no op", `[{"path":"/title"}]`, "Operation 0 "},
		{"an op that is none", `[{"op":"remove","path":"/title"},{"op":"sweep","path":"/title"}]`, "Operation 1 "},
		{"an op in another case", `[{"op":"Remove","path":"/title"}]`, "Operation 0 "},
		{"an op that is no string", `[{"op":["remove"],"path":"/title"}]`, "Operation 0 "},
		{"no path", `[{"op":"remove"}]`, "Operation 0 "},
		{"a path that is null", `[{"op":"remove","path":null}]`, "Operation 0 "},
		{"a path without a slash", `[{"op":"remove","path":"title"}]`, "Operation 0 "},
		{"a path with a tilde that escapes nothing", `[{"op":"remove","path":"/a~2"}]`, "Operation 0 "},
		{"a path with a tilde at its end", `[{"op":"remove","path":"/a~"}]`, "Operation 0 "},
		{"no from", `[{"op":"copy","path":"/title"}]`, "Operation 0 "},
		{"a from that is no pointer", `[{"op":"move","from":"sn","path":"/title"}]`, "Operation 0 "},
		{"a move into itself", `[{"op":"move","from":"/title","path":"/title/0"}]`, "Operation 0 "},
		{"a move of the whole entry", `[{"op":"move","from":"","path":"/title"}]`, "Operation 0 "},
		{"no value to add", `[{"op":"add","path":"/title"}]`, "Operation 0 "},
		{"no value to test", `[{"op":"test","path":"/title"}]`, "Operation 0 "},
		{"no value to replace by", `[{"op":"replace","path":"/title"}]`, "Operation 0 "},
		{"the whole entry removed", `[{"op":"remove","path":""}]`, "Operation 0 "},
		{"the whole entry as no object", `[{"op":"replace","path":"","value":null}]`, "Operation 0 "},
		{"a member given twice", `[{"op":"remove","path":"/title","path":"/sn"}]`, "Operation 0 "},
		{"a thousand operations and one", "[" + many + "]", "Operation 1000 "},
	} {
		t.Run(c.rule, func(t *testing.T) {
			a := *a
			a.t = t
			x := a.jsonPatch("/users/nobody", c.body).refused(directory.BadRequest) // before it is seen that there is nobody
			if detail := x.problem().Detail; !strings.Contains(detail, c.detail) {
				x.fail("the detail is %q, want %q in it", detail, c.detail)
			}
		})
	}
	a.jsonPatch("/users/nobody", `[{"op":"test","path":"","value":0}]`).refused(directory.NotFound)
}

// TestAJSONPatchIsHeldToTheRulesOfAMergePatch: it is refused as the merge patch of the same fields is.
func TestAJSONPatchIsHeldToTheRulesOfAMergePatch(t *testing.T) {
	a := newAPI(t)
	before := a.newPat()
	for _, c := range []struct{ rule, patch, merge string }{
		{"an unknown field", `[{"op":"add","path":"/shoeSize","value":44}]`, `{"shoeSize":44}`},
		{"a field with a slash and a tilde in its name", `[{"op":"add","path":"/x~1y~0z","value":1},{"op":"add","path":"/~01","value":1}]`, `{"x/y~z":1,"~1":1}`},
		{"a field of another kind", `[{"op":"add","path":"/members","value":[]}]`, `{"members":[]}`},
		{"wrong types", `[{"op":"add","path":"/title","value":{}},{"op":"replace","path":"/sshPublicKeys","value":"k"},{"op":"replace","path":"/accountLocked","value":"true"}]`,
			`{"title":{},"sshPublicKeys":"k","accountLocked":"true"}`},
		{"null in a list", `[{"op":"add","path":"/sshPublicKeys/-","value":null}]`, `{"sshPublicKeys":["<0>","<1>","<2>",null]}`},
		{"half a surrogate pair", `[{"op":"add","path":"/title","value":"\ud800"}]`, `{"title":"\ud800"}`},
		{"what a field can't be", `[{"op":"add","path":"/mail","value":"nowhere"}]`, `{"mail":"nowhere"}`},
		{"a value twice", `[{"op":"copy","from":"/sshPublicKeys/0","path":"/sshPublicKeys/-"}]`, `{"sshPublicKeys":["<0>","<1>","<2>","<0>"]}`},
		{"read-only fields", `[{"op":"replace","path":"/id","value":"1"},{"op":"remove","path":"/dn"},{"op":"add","path":"/memberOfs/-","value":"groups/devs"}]`,
			`{"id":"1","dn":null,"memberOfs":["groups/devs"]}`},
		{"the name", `[{"op":"replace","path":"/cn","value":"pit"}]`, `{"cn":"pit"}`},
		{"what is required", `[{"op":"remove","path":"/sn"}]`, `{"sn":null}`},
		{"a password that can be none", `[{"op":"add","path":"/userPassword","value":"{SSHA}secret"}]`, `{"userPassword":"{SSHA}secret"}`},
		{"a password of a wrong type", `[{"op":"add","path":"/userPassword","value":["secret"]}]`, `{"userPassword":["secret"]}`},
		{"everything at once", `[{"op":"add","path":"/shoeSize","value":44},{"op":"add","path":"/mail","value":"nowhere"},{"op":"add","path":"/title","value":1},{"op":"remove","path":"/sn"}]`,
			`{"shoeSize":44,"mail":"nowhere","title":1,"sn":null}`},
	} {
		t.Run(c.rule, func(t *testing.T) {
			a := *a
			a.t = t
			merged := a.do("PATCH", "/users/pat", withKeys(c.merge)).want(422).problem()
			x := a.jsonPatch("/users/pat", withKeys(c.patch)).want(422)
			byField := func(v, w directory.Violation) int { return strings.Compare(v.Field, w.Field) }
			slices.SortFunc(merged.Violations, byField)
			problem := x.problem()
			slices.SortFunc(problem.Violations, byField)
			if diff := cmp.Diff(merged.Violations, problem.Violations); diff != "" || problem.Code != merged.Code {
				x.fail("%s otherwise than the merge patch (-merge +got):\n%s", problem.Code, diff)
			}
			if strings.Contains(string(x.Body), "secret") {
				x.fail("the answer holds a password")
			}
		})
	}
	if after := a.do("GET", "/users/pat", nil); after.etag() != before.etag() {
		after.fail("refused patches changed the entry")
	}
}

func TestAPasswordIsSetByAJSONPatchAndNeverRead(t *testing.T) {
	const secret = "correct horse battery"
	var answers strings.Builder
	a := newAPI(t)
	a.newPat()
	send := func(patch string) *exchange {
		x := a.jsonPatch("/users/pat", patch)
		answers.Write(x.Body)
		return x
	}
	add := `{"op":"add","path":"/userPassword","value":"` + secret + `"}`
	send(`[`+add+`]`).want(200).field("userPassword", nil)
	a.as("pat", secret).do("GET", "/users/pat", nil).want(200)
	for _, patch := range []string{
		`[{"op":"test","path":"/userPassword","value":"` + secret + `"}]`,
		`[{"op":"test","path":"/userPassword","value":null}]`,
		`[{"op":"replace","path":"/userPassword","value":"` + secret + `"}]`,
		`[{"op":"remove","path":"/userPassword"}]`,
		`[{"op":"copy","from":"/userPassword","path":"/description"}]`,
		`[{"op":"move","from":"/userPassword","path":"/description"}]`,
		`[` + add + `,{"op":"test","path":"/userPassword","value":"` + secret + `"}]`,
		`[` + add + `,{"op":"copy","from":"/userPassword","path":"/description"}]`,
	} {
		send(patch).refused(directory.PatchConflict)
	}
	send(`[`+add+`,{"op":"copy","from":"","path":"/description"}]`).refused(directory.Invalid, "description")
	whole := strings.TrimSuffix(string(a.do("GET", "/users/pat", nil).want(200).Body), "}\n")
	send(`[` + add + `,{"op":"test","path":"","value":` + whole + `,"userPassword":"` + secret + `"}}]`).refused(directory.PatchConflict)
	send(`[`+add+`,{"op":"test","path":"","value":`+whole+`}}]`).refused(directory.PasswordRefused, "userPassword") // it fits, and is the password there is
	send(`[{"op":"remove","path":"/title"}]`).want(200)
	a.as("pat", secret).do("GET", "/users/pat", nil).want(200) // it stays where a patch does not name it
	if strings.Contains(answers.String(), secret) || strings.Contains(a.log.text(), secret) {
		t.Errorf("the password is in an answer or the log:\n%s\n%s", answers.String(), a.log.text())
	}
}

// TestNobodysValueIsLost: two dozen add a key to one user and a member to one group, through two replicas.
func TestNobodysValueIsLost(t *testing.T) {
	const writers = 24
	one := newAPI(t)
	two := newAPIOn(t, one.slapd)
	one.newPat()
	one.do("POST", "/groups", object{"cn": "night", "members": []string{"users/alice"}}).want(201)
	for i := range writers {
		one.do("POST", "/users", object{"cn": fmt.Sprint("night", i), "sn": "x"}).want(201)
	}
	var all sync.WaitGroup
	for i := range writers {
		a := []*api{one, two}[i%2]
		for path, patch := range map[string]string{
			"/users/pat":    fmt.Sprintf(`[{"op":"add","path":"/sshPublicKeys/-","value":"%s"}]`, sshKey(100+i)),
			"/groups/night": fmt.Sprintf(`[{"op":"add","path":"/members/-","value":"users/night%d"}]`, i),
		} {
			all.Go(func() {
				if x := a.jsonPatch(path, patch); x.Status != 200 {
					t.Errorf("%s: %d %s", x.request, x.Status, x.Body)
				}
			})
		}
	}
	all.Wait()
	wantKeys, wantMembers := keys(0, 1, 2), []string{"cn=alice,ou=people," + ldapdirtest.Base}
	for i := range writers {
		wantKeys = append(wantKeys, sshKey(100+i))
		wantMembers = append(wantMembers, fmt.Sprintf("cn=night%d,ou=people,%s", i, ldapdirtest.Base))
	}
	var user struct{ SSHPublicKeys []string }
	var group struct{ Members []string }
	one.do("GET", "/users/pat", nil).want(200).decode(&user)
	one.do("GET", "/groups/night", nil).want(200).decode(&group)
	if !directory.SameValues(wantKeys, user.SSHPublicKeys) {
		t.Errorf("the keys are %q", user.SSHPublicKeys)
	}
	if !directory.SameValues(wantMembers, group.Members) {
		t.Errorf("the members are %q", group.Members)
	}
}

func TestAJSONPatchIsEvaluatedAgainOnWhatSomebodyElseWrote(t *testing.T) {
	for _, c := range []struct {
		rule, patch string
		code        *directory.Code
		keys        []string
	}{
		{"a test fails on what is there now", `[{"op":"test","path":"/title","value":"Chief"},{"op":"remove","path":"/sshPublicKeys/0"}]`, directory.PatchConflict, keys(9, 1, 2)},
		{"a test holds on what is there now too", `[{"op":"test","path":"/sn","value":"Ng"},{"op":"remove","path":"/sshPublicKeys/1"}]`, nil, keys(9, 2)},
		{"an index counts what is there now", `[{"op":"remove","path":"/sshPublicKeys/0"}]`, nil, keys(1, 2)},
		{"what is added comes to what is there now", `[{"op":"add","path":"/sshPublicKeys/-","value":"<3>"}]`, nil, keys(9, 1, 2, 3)},
	} {
		t.Run(c.rule, func(t *testing.T) {
			one := newAPI(t)
			one.newPat()
			l := ldapdirtest.Bind(t, one.slapd)
			two := newAPIOn(t, one.slapd, func(s *settings) {
				s.between = func(d directory.Directory) directory.Directory {
					return &meanwhile{Directory: d, does: func() {
						modify := ldap.NewModifyRequest("cn=pat,ou=people,"+ldapdirtest.Base, nil)
						modify.Replace("title", []string{"Boss"})
						modify.Replace("sshPublicKey", keys(9, 1, 2))
						if err := l.Modify(modify); err != nil {
							t.Error(err)
						}
					}}
				}
			})
			x := two.jsonPatch("/users/pat", withKeys(c.patch))
			if c.code != nil {
				x.refused(c.code)
			} else {
				x.want(200).field("title", "Boss")
			}
			one.do("GET", "/users/pat", nil).want(200).field("sshPublicKeys", c.keys)
		})
	}
}

func TestIfMatchHoldsForAJSONPatch(t *testing.T) {
	a := newAPI(t)
	before := a.newPat()
	remove := `[{"op":"remove","path":"/sshPublicKeys/0"}]`
	after := a.jsonPatch("/users/pat", remove, "If-Match", before.etag()).want(200).field("sshPublicKeys", keys(1, 2))
	a.jsonPatch("/users/pat", remove, "If-Match", before.etag()).refused(directory.Stale)
	a.jsonPatch("/users/pat", `[{"op":"test","path":"/title","value":"x"}]`, "If-Match", before.etag()).refused(directory.Stale)
	a.do("GET", "/users/pat", nil).want(200).field("sshPublicKeys", keys(1, 2))
	if same := a.jsonPatch("/users/pat", `[{"op":"test","path":"/title","value":"Chief"}]`, "If-Match", after.etag()).want(200); same.etag() != after.etag() {
		same.fail("a patch that only tests wrote")
	}
}

// TestATestIsNoProbeOfAnothersEntry: the caller's entry is gone, and another has its name.
func TestATestIsNoProbeOfAnothersEntry(t *testing.T) {
	caller := directory.Caller{Login: "alice", Name: "alice", ID: "5d5a3a0b-3c1d-103f-8a57-6d1d4c0f8f9e"}
	a := newAPI(t, func(s *settings) {
		s.rest.Authenticate = func(context.Context, auth.Credentials) (directory.Caller, error) { return caller, nil }
	})
	for _, surname := range []string{"Liddell", "x"} { // what it is, and what it is not
		a.jsonPatch("/users/alice", fmt.Sprintf(`[{"op":"test","path":"/sn","value":%q},{"op":"add","path":"/mobile","value":"+1 555 0100"}]`, surname)).
			refused(directory.Forbidden)
	}
}

func TestPATCHSaysWhichPatchesItTakes(t *testing.T) {
	a := newAPI(t)
	x := a.do("PATCH", "/users/alice", "title=x", "Content-Type", "application/x-www-form-urlencoded").refused(directory.UnsupportedMediaType)
	if got, want := x.Header.Get("Accept-Patch"), "application/merge-patch+json, application/json-patch+json, application/json"; got != want {
		x.fail("Accept-Patch is %q, want %q", got, want)
	}
	a.do("PUT", "/users/alice", "[]", "Content-Type", "application/json-patch+json").refused(directory.UnsupportedMediaType)
}

func TestCopiesOfCopiesDoNotGrowWithoutBound(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.MaxBodyBytes = 10_000 })
	a.newPat()
	for _, from := range []string{"", "/shoeSize"} {
		copies := `[{"op":"add","path":"/shoeSize","value":[1]}`
		for i := range 40 {
			copies += fmt.Sprintf(`,{"op":"copy","from":"%s","path":"/x%d"},{"op":"copy","from":"","path":"/shoeSize"}`, from, i)
		}
		a.jsonPatch("/users/pat", copies+"]").refused(directory.BodyTooLarge)
	}
	moves := strings.Repeat(`,{"op":"move","from":"/sshPublicKeys","path":"/x"},{"op":"move","from":"/x","path":"/sshPublicKeys"}`, 60)
	a.jsonPatch("/users/pat", "["+moves[1:]+"]").refused(directory.BodyTooLarge)
}

// TestAJSONPatchIsTheMergePatchOfWhatItMakes: one of two users gets patches, the other as a merge patch the
// difference that another implementation makes of the same patch.
func TestAJSONPatchIsTheMergePatchOfWhatItMakes(t *testing.T) {
	a := newAPI(t)
	own := []string{"dn", "id", "cn", "uid", "createdAt", "updatedAt"}
	shared := func(x *exchange) object {
		o := x.object()
		for _, name := range own {
			delete(o, name)
		}
		return o
	}
	options := jsonpatch.NewApplyOptions()
	options.SupportNegativeIndices = false
	paths := []string{"/title", "/givenName", "/description", "/mail", "/sn", "/shoeSize", "/memberOfs", "/sshPublicKeys", "/sshPublicKeys/-",
		"/sshPublicKeys/0", "/sshPublicKeys/1", "/sshPublicKeys/2", "/sshPublicKeys/7", "/title/0"}
	rapid.Check(t, func(t *rapid.T) {
		one := a.newPat()
		a.do("DELETE", "/users/pit", nil)
		twin := shared(one)
		twin["cn"] = "pit"
		two := a.do("POST", "/users", twin).want(201)
		for range rapid.IntRange(1, 4).Draw(t, "patches") {
			patch, err := json.Marshal(rapid.SliceOfN(operations(paths), 1, 4).Draw(t, "operations"))
			if err != nil {
				t.Fatal(err)
			}
			before, _ := json.Marshal(shared(two))
			decoded, err := jsonpatch.DecodePatch(patch)
			if err != nil {
				t.Fatal(err)
			}
			one = a.jsonPatch("/users/pat", string(patch))
			after, err := decoded.ApplyWithOptions(before, options)
			if err != nil {
				if one.Status != 409 {
					t.Fatalf("%s: %d %s, want 409: %v", one.request, one.Status, one.Body, err)
				}
				continue
			}
			merge, err := jsonpatch.CreateMergePatch(before, after)
			if err != nil {
				t.Fatal(err)
			}
			two = a.do("PATCH", "/users/pit", string(merge))
			if one.Status != two.Status {
				t.Fatalf("%s: %d %s\n%s: %d %s", one.request, one.Status, one.Body, two.request, two.Status, two.Body)
			}
			one, two = a.do("GET", "/users/pat", nil).want(200), a.do("GET", "/users/pit", nil).want(200)
			if diff := cmp.Diff(shared(two), shared(one)); diff != "" {
				t.Fatalf("%s\nis not %s (-want +got):\n%s", patch, merge, diff)
			}
		}
	})
}

// operations draws operations that fit more often than not.
func operations(paths []string) *rapid.Generator[object] {
	return rapid.Custom(func(t *rapid.T) object {
		path := rapid.SampledFrom(paths)
		value := rapid.OneOf(
			rapid.Map(rapid.SampledFrom([]string{"Chief", "Boss", "é<&>~/\"", sshKey(0), sshKey(1), sshKey(5)}), func(s string) any { return s }),
			rapid.Map(rapid.SliceOfN(rapid.IntRange(0, 4), 0, 3), func(numbers []int) any { return keys(numbers...) }),
			rapid.Just[any](true))
		o := object{"op": rapid.SampledFrom([]string{"add", "add", "replace", "remove", "move", "copy", "test"}).Draw(t, "op"), "path": path.Draw(t, "path")}
		switch o["op"] {
		case "move", "copy":
			o["from"] = path.Filter(func(from string) bool { return !strings.HasPrefix(o["path"].(string), from+"/") }).Draw(t, "from")
		case "remove":
		default:
			o["value"] = value.Draw(t, "value")
		}
		return o
	})
}

// FuzzJSONPatch checks that whatever a patch holds is done or refused clearly.
func FuzzJSONPatch(f *testing.F) {
	for _, seed := range []string{
		`[]`, `[{"op":"add","path":"/title","value":"x"}]`, `[{"op":"test","path":"/sshPublicKeys","value":[null]}]`,
		`[{"op":"replace","path":"","value":{}},{"op":"add","path":"/-","value":[]},{"op":"add","path":"/-/-","value":null}]`,
		`[{"op":"copy","from":"","path":"/a"},{"op":"move","from":"/a","path":""},{"op":"remove","path":"/sn"}]`,
		`[{"op":"add","path":"/members","value":[1e999,"\ud800",{"a":1,"a":2}]},{"op":"test","path":"/members/2","value":{"a":2}}]`,
		`[{"op":"add","path":"/userPassword","value":"a long password"},{"op":"move","from":"/description","path":"/userPassword"}]`,
		`[{"op":"remove","path":"/~0~1"},{"op":"replace","path":"/accountLocked","value":true}]`,
		`[{"op":"add","path":"/sshPublicKeys/0","value":"` + sshKey(0) + `"},{"op":"move","from":"/sshPublicKeys/0","path":"/description"}]`,
	} {
		f.Add([]byte(seed))
	}
	a := newAPI(f, everybodyIsAdmin)
	f.Fuzz(func(t *testing.T, body []byte) {
		a := *a
		a.t = t
		a.do("PUT", "/users/pat", object{"sn": "Ng", "description": "to be fuzzed", "sshPublicKeys": keys(1, 2)}).want2xx()
		x := a.jsonPatch("/users/pat", string(body))
		if !slices.Contains([]int{200, 400, 409, 413, 422}, x.Status) {
			x.fail("neither done nor refused")
		}
	})
}

// TestAFilterIsNoProbeOfWhatIsThere, for those who see only the groups that they are in.
func TestAFilterIsNoProbeOfWhatIsThere(t *testing.T) {
	a := newAPI(t)
	a.do("PATCH", "/users/alice", object{"userPassword": "alice's password"}).want(200)
	alice := a.as("alice", "alice's password")
	for _, count := range []string{"", "&count=true"} {
		for _, reference := range []string{"users/bob", "users/nobody", "hosts/web1", "groups/none"} {
			alice.do("GET", "/groups?filter="+url.QueryEscape(`not (memberOfs eq "`+reference+`")`)+count, nil).refused(directory.Forbidden)
		}
		for _, name := range []string{"bob", "nobody"} {
			x := alice.do("GET", "/groups?filter="+url.QueryEscape(`memberOfs eq "cn=`+name+`,ou=people,`+ldapdirtest.Base+`"`)+count, nil).want(200)
			if strings.TrimSpace(string(x.Body)) != "[\n]" {
				x.fail("there is a group")
			}
		}
	}
}
