// Package postman holds the test of the Postman collection.
package postman

import (
	"encoding/json"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// item is a folder or, where it has a request, a request (Postman Collection 2.1).
type item struct {
	Name        string
	Description string
	Item        []item
	Request     *request
	Auth        json.RawMessage
	Event       []event
	Response    []json.RawMessage

	// folder is what it is in, from the top.
	folder string
}

type request struct {
	Method      string
	Description string
	Auth        json.RawMessage
	Header      []pair
	Body        struct{ Raw string }
	URL         struct {
		Raw   string
		Path  []string
		Query []pair
	}
}

type pair struct{ Key, Value string }

type event struct {
	Listen string
	Script struct{ Exec []string }
}

// errorsFolder holds the requests that are wrong on purpose.
const errorsFolder = "Errors"

func TestTheCollectionHasEveryOperationAndParameter(t *testing.T) {
	operations := documented(t)
	asked, given := map[string]bool{}, map[string]bool{}
	for _, r := range requests(t) {
		if r.folder == errorsFolder {
			continue
		}
		asked[operations.of(r.Request).name] = true
		for _, p := range r.Request.URL.Query {
			given[p.Key] = true
		}
	}
	for _, o := range operations {
		if !asked[o.name] {
			t.Errorf("no request is a %s", o.name)
		}
		for _, p := range o.parameters {
			if !given[p] {
				t.Errorf("no request has the parameter %s, which %s takes", p, o.name)
			}
		}
	}
}

func TestEveryRequestIsAnOperation(t *testing.T) {
	operations := documented(t)
	for _, r := range requests(t) {
		if r.folder == errorsFolder {
			continue
		}
		o := operations.of(r.Request)
		if o.name == "" && !slices.Contains(r.Request.Header, pair{"Accept", "text/html"}) { // the document leaves out what is a page only
			t.Errorf("%s: the document has no %s %s", r.title(), r.Request.Method, r.Request.URL.Raw)
		}
		for _, p := range r.Request.URL.Query {
			if o.name != "" && !slices.Contains(o.parameters, p.Key) {
				t.Errorf("%s: the document has no parameter %s of %s", r.title(), p.Key, o.name)
			}
		}
	}
}

func TestEveryRequestAssertsStatusBodyAndHeader(t *testing.T) {
	for _, r := range requests(t) {
		assertions := asserted(r.Event)
		for what, expressions := range map[string]string{
			"the status":              `pm\.response\.to\.have\.status\(`,
			"the body or its absence": `pm\.response\.(json|text)\(\)`,
			"a header":                `pm\.response\.headers\.`,
		} {
			if !slices.ContainsFunc(assertions, regexp.MustCompile(expressions).MatchString) {
				t.Errorf("%s asserts nothing of %s", r.title(), what)
			}
		}
		for _, a := range assertions {
			if !strings.Contains(a, "pm.expect(") && !strings.Contains(a, "pm.response.to.") {
				t.Errorf("%s: this can't fail:\n%s", r.title(), a)
			}
		}
	}
}

func TestRequestsHaveNamesOfTheirOwnAndADescription(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range requests(t) {
		if seen[r.Name] {
			t.Errorf("%s: the name is another's too", r.title())
		}
		seen[r.Name] = true
		if r.Request.Description == "" {
			t.Errorf("%s has no description", r.title())
		}
	}
}

func TestNoRequestHoldsASecretOrAHost(t *testing.T) {
	variable := regexp.MustCompile(`^\{\{\w+\}\}$`)
	credential := regexp.MustCompile(`"(?i:[\w.-]*(?:password|token|secret)[\w.-]*)":\s*"([^"]*)"`)
	host := regexp.MustCompile(`(?i)\w+://|localhost|\b127\.`)
	for _, r := range requests(t) {
		if !strings.HasPrefix(r.Request.URL.Raw, "{{baseUrl}}/") {
			t.Errorf("%s does not begin with {{baseUrl}}/: %s", r.title(), r.Request.URL.Raw)
		}
		for _, found := range credential.FindAllStringSubmatch(r.Request.Body.Raw, -1) {
			if !variable.MatchString(found[1]) {
				t.Errorf("%s: not a variable: %s", r.title(), found[0])
			}
		}
		for _, h := range r.Request.Header {
			if strings.EqualFold(h.Key, "Authorization") || strings.EqualFold(h.Key, "Cookie") {
				t.Errorf("%s has a header %s", r.title(), h.Key)
			}
		}
		whole, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if found := host.Find(whole); found != nil {
			t.Errorf("%s names a host: %s", r.title(), found)
		}
	}
	for _, auth := range credentials(t) {
		if auth.Key != "type" && !variable.MatchString(auth.Value) {
			t.Errorf("%s of a login is not a variable", auth.Key)
		}
	}
}

func TestEveryVariableIsSet(t *testing.T) {
	all := read(t, "rollcall.postman_collection.json")
	scripts := ""
	for _, e := range events(collection(t)) {
		scripts += strings.Join(e.Script.Exec, "\n") + "\n"
	}
	for _, file := range []string{"local.postman_environment.json", "compose.postman_environment.json"} {
		var environment struct {
			Name   string
			Values []struct {
				Key, Value, Type string
				Enabled          bool
			}
		}
		if err := json.Unmarshal(read(t, file), &environment); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		var keys []string
		for _, v := range environment.Values {
			keys = append(keys, v.Key)
			if v.Key == "password" && (v.Type != "secret" || file == "compose.postman_environment.json" && v.Value != "") {
				t.Errorf("%s: the password is shown", file)
			}
		}
		for _, used := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllSubmatch(all, -1) {
			name := string(used[1])
			made := regexp.MustCompile(`set\("` + name + `"|^ +.*\b` + name + `\b[:,]`)
			if !slices.Contains(keys, name) && !slices.ContainsFunc(strings.Split(scripts, "\n"), made.MatchString) {
				t.Errorf("with %s nothing sets {{%s}}", file, name)
			}
		}
	}
}

// operation is one of the OpenAPI document's.
type operation struct {
	name, method string
	segments     []string
	parameters   []string
}

type operations []operation

// of returns the operation that a request is, the one with the fewest variables. HEAD stands for GET, and whatever
// is there takes OPTIONS.
func (all operations) of(r *request) operation {
	method := r.Method
	if method == "HEAD" {
		method = "GET"
	}
	var best operation
	fewest := -1
	for _, o := range all {
		if o.method != method && method != "OPTIONS" {
			continue
		}
		if variables := matches(o.segments, r.URL.Path); variables >= 0 && (fewest < 0 || variables < fewest) {
			best, fewest = o, variables
		}
	}
	if method == "OPTIONS" && fewest >= 0 {
		best = operation{name: "OPTIONS /" + path.Join(best.segments...)}
	}
	return best
}

// matches returns how many variables of a template a path fills, -1 where it does not fit.
func matches(template, path []string) (variables int) {
	if len(template) != len(path) {
		return -1
	}
	for i, segment := range template {
		switch {
		case strings.HasPrefix(segment, "{"):
			variables++
		case segment != path[i]:
			return -1
		}
	}
	return variables
}

// documented reads the operations of the OpenAPI document.
func documented(t *testing.T) operations {
	t.Helper()
	var document struct {
		Paths map[string]map[string]struct{ Parameters []struct{ Name, In string } }
	}
	if err := json.Unmarshal(read(t, "../../docs/openapi.json"), &document); err != nil {
		t.Fatal(err)
	}
	var all operations
	for template, methods := range document.Paths {
		for method, described := range methods {
			o := operation{method: strings.ToUpper(method), segments: strings.Split(template[1:], "/")}
			o.name = o.method + " " + template
			for _, p := range described.Parameters {
				if p.In == "query" {
					o.parameters = append(o.parameters, p.Name)
				}
			}
			all = append(all, o)
		}
	}
	if len(all) == 0 {
		t.Fatal("the document has no operations")
	}
	return all
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// collection reads the collection as the folder of all.
func collection(t *testing.T) item {
	t.Helper()
	var top item
	if err := json.Unmarshal(read(t, "rollcall.postman_collection.json"), &top); err != nil {
		t.Fatal(err)
	}
	return top
}

// requests returns all requests of the collection.
func requests(t *testing.T) []item {
	t.Helper()
	var all []item
	var walk func(folder string, items []item)
	walk = func(folder string, items []item) {
		for _, i := range items {
			i.folder = folder
			if i.Request != nil {
				all = append(all, i)
				continue
			}
			walk(path.Join(folder, i.Name), i.Item)
		}
	}
	walk("", collection(t).Item)
	if len(all) == 0 {
		t.Fatal("the collection has no requests")
	}
	return all
}

func (i item) title() string { return i.folder + " / " + i.Name }

// events returns the scripts of an item and of all below it.
func events(i item) []event {
	all := i.Event
	for _, below := range i.Item {
		all = append(all, events(below)...)
	}
	return all
}

// credentials returns what the requests and folders of the collection log in with.
func credentials(t *testing.T) []pair {
	t.Helper()
	var all []pair
	var walk func(i item)
	walk = func(i item) {
		for _, raw := range []json.RawMessage{i.Auth, authOf(i.Request)} {
			var ways map[string]json.RawMessage
			if raw == nil {
				continue
			}
			if err := json.Unmarshal(raw, &ways); err != nil {
				t.Fatalf("%s: %v", i.Name, err)
			}
			delete(ways, "type")
			for _, way := range ways {
				var pairs []pair
				if err := json.Unmarshal(way, &pairs); err != nil {
					t.Fatalf("%s: %v", i.Name, err)
				}
				all = append(all, pairs...)
			}
		}
		for _, below := range i.Item {
			walk(below)
		}
	}
	walk(collection(t))
	if len(all) == 0 {
		t.Fatal("nothing logs in")
	}
	return all
}

func authOf(r *request) json.RawMessage {
	if r == nil {
		return nil
	}
	return r.Auth
}

// asserted returns the calls of pm.test in the scripts that follow a request: each is a line, or ends with "});".
func asserted(events []event) []string {
	var all []string
	for _, e := range events {
		inside := false
		for _, line := range e.Script.Exec {
			switch {
			case e.Listen != "test":
			case inside:
				all[len(all)-1] += "\n" + line
				inside = line != "});"
			case strings.HasPrefix(line, "pm.test("):
				all = append(all, line)
				inside = strings.HasSuffix(line, "{")
			}
		}
	}
	return all
}
