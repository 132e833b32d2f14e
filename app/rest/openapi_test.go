package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.yaml.in/yaml/v3"

	"rollcall/app/directory"
	"rollcall/app/rest"
)

func TestTheDocumentIsOpenAPI(t *testing.T) {
	document, err := openapi3.NewLoader().LoadFromData(rest.Document(allKinds, "test", "http://127.0.0.1:8080"))
	if err != nil {
		t.Fatal(err)
	}
	if err := document.Validate(context.Background()); err != nil {
		t.Error(err)
	}
}

// TestExamplesHaveNoFieldOfTheirOwn: that they are what their schemas say is part of being OpenAPI.
func TestExamplesHaveNoFieldOfTheirOwn(t *testing.T) {
	d, err := describedBy(allKinds)
	if err != nil {
		t.Fatal(err)
	}
	fits := func(what string, schema *openapi3.SchemaRef, example any) {
		if example == nil {
			return
		}
		if err := schema.Value.VisitJSON(example); err != nil {
			t.Errorf("the example of %s: %v", what, err)
		}
	}
	for name, schema := range d.Components.Schemas {
		fits(name, schema, schema.Value.Example)
	}
	for name, answer := range d.Components.Responses {
		for _, body := range answer.Value.Content {
			for _, example := range body.Examples {
				fits(name, body.Schema, example.Value.Value)
			}
		}
	}
	for _, o := range d.operations() {
		if o.RequestBody != nil {
			for mediaType, body := range o.RequestBody.Value.Content {
				fits(o.String()+" "+mediaType, body.Schema, body.Example)
			}
		}
		for status, answer := range o.Responses.Map() {
			for mediaType, body := range answer.Value.Content {
				fits(o.String()+" "+status+" "+mediaType, body.Schema, body.Example)
			}
		}
	}
}

// silent is an API without a directory, as far as it goes.
func silent(t *testing.T, change func(*rest.Options)) http.Handler {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	o := rest.Options{Kinds: allKinds, Version: "1.0", Log: log}
	change(&o)
	return recorded(t, o)
}

// get sends a GET as somebody at an address.
func get(t *testing.T, handler http.Handler, target, peer string, change func(*http.Request)) []byte {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, target, nil)
	r.RemoteAddr = peer
	change(r)
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: %d\n%s", target, w.Code, w.Body)
	}
	return w.Body.Bytes()
}

func unchanged(*http.Request) {}

func TestEveryRouteIsDescribed(t *testing.T) {
	for _, basePath := range []string{"", "/api", "/directory/v1"} {
		handler := silent(t, func(o *rest.Options) { o.BasePath = basePath })
		var document struct {
			Paths   map[string]map[string]any
			Servers []struct{ URL string }
		}
		if err := json.Unmarshal(get(t, handler, "http://api.test"+basePath+"/openapi.json", "192.0.2.1:1", unchanged), &document); err != nil {
			t.Fatal(err)
		}
		got := map[string][]string{}
		for path, methods := range document.Paths {
			for method := range methods {
				got[path] = append(got[path], strings.ToUpper(method))
			}
			slices.Sort(got[path])
		}
		if diff := cmp.Diff(rest.Routes(rest.Options{Kinds: allKinds}), got); diff != "" {
			t.Errorf("below %q: what is served (-) and what is described (+):\n%s", basePath, diff)
		}
		if len(document.Servers) != 1 || document.Servers[0].URL != "http://api.test"+basePath {
			t.Errorf("below %q the servers are %v", basePath, document.Servers)
		}
	}
}

func TestConfiguredFieldsAreInTheDocument(t *testing.T) {
	hosts, err := directory.NewKind(directory.Hosts(), "serialNumber",
		directory.Field{Name: "rack", Required: true, Description: "Yes: #3, *really*"},
		directory.Field{Name: "labels", List: true},
		directory.Field{Name: "isSpare", Type: directory.Boolean},
		directory.Field{Name: "bought", Type: directory.Timestamp, ReadOnly: true},
		directory.Field{Name: "pin", WriteOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	kinds := []*directory.Kind{allKinds[0], allKinds[1], hosts}
	text := get(t, silent(t, func(o *rest.Options) { o.Kinds = kinds }), "http://api.test/openapi.json", "192.0.2.1:1", unchanged)
	document, err := openapi3.NewLoader().LoadFromData(text)
	if err == nil {
		err = document.Validate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]string{"rack": "string", "labels": "array", "isSpare": "boolean", "bought": "string date-time read-only"}
	sent := map[string]string{"rack": "string", "labels": "array or null", "isSpare": "boolean or null", "bought": "string date-time read-only", "pin": "string write-only or null"}
	for name, want := range map[string]map[string]string{
		"Host": shown, "HostListed": shown, "HostInput": sent, "HostReplacement": sent, "HostPatch": sent,
	} {
		schema := document.Components.Schemas[name].Value
		for _, field := range []string{"rack", "labels", "isSpare", "bought", "pin"} {
			if got := said(schema.Properties[field]); got != want[field] {
				t.Errorf("%s says of %s %q, want %q", name, field, got, want[field])
			}
		}
	}
	for name, want := range map[string][]string{
		"Host": {"dn", "serialNumber"}, "HostListed": nil, "HostPatch": nil, "HostInput": {"cn", "rack", "serialNumber"}, "HostReplacement": {"cn", "rack"},
	} {
		if got := slices.Sorted(slices.Values(document.Components.Schemas[name].Value.Required)); !slices.Equal(got, want) {
			t.Errorf("%s requires %q, want %q", name, got, want)
		}
	}
	if example := document.Paths.Value("/hosts").Post.RequestBody.Value.Content["application/json"].Example.(map[string]any); example["rack"] == nil || example["serialNumber"] == nil {
		t.Errorf("the example of a new host lacks what is required: %v", example)
	}
}

// said describes a field in short.
func said(ref *openapi3.SchemaRef) string {
	if ref == nil {
		return ""
	}
	s := ref.Value
	text := strings.Join(strings.Fields(strings.Join(*s.Type, " ")+" "+s.Format), " ")
	for _, c := range []struct {
		is  bool
		say string
	}{{s.ReadOnly, " read-only"}, {s.WriteOnly, " write-only"}, {s.Nullable, " or null"}} {
		if c.is {
			text += c.say
		}
	}
	return text
}

func TestTheYAMLSaysWhatTheJSONSays(t *testing.T) {
	handler := silent(t, func(*rest.Options) {})
	asJSON := decoded(t, get(t, handler, "http://api.test/openapi.json", "192.0.2.1:1", unchanged))
	asYAML := decoded(t, get(t, handler, "http://api.test/openapi.yaml", "192.0.2.1:1", unchanged))
	if diff := cmp.Diff(asJSON, asYAML); diff != "" {
		t.Errorf("JSON (-) and YAML (+) differ:\n%s", diff)
	}
}

// TestOnlyItsAddressIsForOthersToSay: whatever a client or a proxy calls the API, the rest of the document stays.
func TestOnlyItsAddressIsForOthersToSay(t *testing.T) {
	handler := silent(t, func(o *rest.Options) {
		o.Kinds, o.TrustedProxies = nil, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	})
	const proxy, stranger = "10.0.0.1:1", "203.0.113.9:1"
	plain := decoded(t, get(t, handler, "http://api.test/openapi.json", stranger, unchanged))
	for _, c := range []struct {
		peer, host, proto, forwardedHost, prefix, want string
	}{
		{stranger, "api.test", "", "", "", "http://api.test"},
		{stranger, "api.test:8443", "https", "evil.test", "/evil", "http://api.test:8443"},
		{proxy, "internal", "https", "api.example.org", "/directory/", "https://api.example.org/directory"},
		{proxy, "internal", "gopher", `e"vil`, "no-path", "http://internal"},
		{proxy, "internal", "", "", "//evil.test", "http://internal"},
		{stranger, "a\x7fb\u0085c\u2028d'\"\\: #e", "", "", "", "http://a\x7fb\u0085c\u2028d'\"\\: #e"},
		{stranger, "\xff\xfe", "", "", "", "http://\ufffd\ufffd"},
		{stranger, `x"}],"paths":{},"y":[{"z":"`, "", "", "", `http://x"}],"paths":{},"y":[{"z":"`},
		{stranger, "x\npaths: {}\n", "", "", "", "http://x\npaths: {}\n"},
		{stranger, "x' # *y &z !!str |", "", "", "", "http://x' # *y &z !!str |"},
		{stranger, "</script><b>", "", "", "", "http://</script><b>"},
	} {
		for _, path := range []string{"/openapi.json", "/openapi.yaml"} {
			document := decoded(t, get(t, handler, "http://api.test"+path, c.peer, func(r *http.Request) {
				r.Host = c.host
				for name, value := range map[string]string{"X-Forwarded-Proto": c.proto, "X-Forwarded-Host": c.forwardedHost, "X-Forwarded-Prefix": c.prefix} {
					if value != "" {
						r.Header.Set(name, value)
					}
				}
			}))
			servers := document["servers"]
			if want := []any{map[string]any{"url": c.want}}; !cmp.Equal(servers, any(want)) {
				t.Errorf("%s for the host %q: the servers are %q, want %q", path, c.host, servers, want)
			}
			document["servers"] = plain["servers"]
			if diff := cmp.Diff(plain, document); diff != "" {
				t.Errorf("%s for the host %q is another document: %s", path, c.host, diff)
			}
		}
	}
}

// decoded reads a document, which is JSON or YAML, as JSON would have it.
func decoded(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var document any
	read := json.Unmarshal
	if !bytes.HasPrefix(text, []byte("{")) {
		read = yaml.Unmarshal
	}
	if err := read(text, &document); err != nil {
		t.Fatalf("%v\n%.300s", err, text)
	}
	again, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	var plain map[string]any
	if err := json.Unmarshal(again, &plain); err != nil {
		t.Fatal(err)
	}
	return plain
}

// TestTheDocumentIsGoodToGenerateFrom: every operation and every parameter is told apart and explained.
func TestTheDocumentIsGoodToGenerateFrom(t *testing.T) {
	d, err := describedBy(allKinds)
	if err != nil {
		t.Fatal(err)
	}
	ids := map[string]string{}
	for _, o := range d.operations() {
		if other := ids[o.OperationID]; o.OperationID == "" || other != "" {
			t.Errorf("%s and %q have the id %q", o, other, o.OperationID)
		}
		ids[o.OperationID] = o.String()
		if o.Summary == "" || strings.HasSuffix(o.Summary, ".") || !strings.HasSuffix(o.Description, ".") || len(o.Tags) != 1 {
			t.Errorf("%s: the summary %q, the description %q, tags %q", o, o.Summary, o.Description, o.Tags)
		}
		for _, p := range o.Parameters {
			if p.Value.Description == "" || p.Value.In == "path" && p.Value.Example == nil {
				t.Errorf("%s: %s is not explained", o, p.Value.Name)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(d.Components.Schemas)) {
		if d.Components.Schemas[name].Value.Description == "" {
			t.Errorf("%s is not explained", name)
		}
	}
}

// TestWhatDoesNotFitTheDocumentIsFound holds answers against the document that are each wrong in one way.
func TestWhatDoesNotFitTheDocumentIsFound(t *testing.T) {
	d, err := describedBy(allKinds)
	if err != nil {
		t.Fatal(err)
	}
	const user, asJSON, asProblem = `{"dn":"cn=alice","cn":"alice"}`, "application/json", "application/problem+json"
	problem := func(status int, code string) string {
		return fmt.Sprintf(`{"type":"/errors/%s","title":"x","status":%d,"instance":"/x","code":"%s","requestId":"x"}`, code, status, code)
	}
	for _, c := range []struct {
		what, method, path, sent string
		status                   int
		mediaType, body, without string
		with, fault              string
	}{
		{what: "what fits", method: "GET", path: "/users/alice", status: 200, mediaType: asJSON, body: user},
		{what: "a refusal", method: "GET", path: "/users/alice", status: 404, mediaType: asProblem, body: problem(404, "not-found"), without: "ETag"},
		{what: "no such route", method: "GET", path: "/nothing", status: 404, mediaType: asProblem, body: problem(404, "no-such-route"), without: "ETag"},
		{what: "a field", method: "GET", path: "/users/alice", status: 200, mediaType: asJSON, body: `{"dn":"x","cn":"x","x":1}`, fault: `property "x" is unsupported`},
		{what: "a write-only field", method: "GET", path: "/users/alice", status: 200, mediaType: asJSON, body: `{"dn":"x","cn":"x","userPassword":"x"}`, fault: "userPassword"},
		{what: "a field of another type", method: "GET", path: "/users/alice", status: 200, mediaType: asJSON, body: `{"dn":"x","cn":1}`, fault: "string"},
		{what: "a time that is none", method: "GET", path: "/users/alice", status: 200, mediaType: asJSON, body: `{"dn":"x","cn":"x","createdAt":"today"}`, fault: "createdAt"},
		{what: "no name", method: "GET", path: "/users/alice", status: 200, mediaType: asJSON, body: `{"dn":"x"}`, fault: `property "cn" is missing`},
		{what: "no JSON", method: "GET", path: "/users/alice", status: 200, mediaType: asJSON, body: `{`, fault: "unexpected end"},
		{what: "no ETag", method: "GET", path: "/users/alice", status: 200, mediaType: asJSON, body: user, without: "ETag", fault: "no header ETag"},
		{what: "no request id", method: "GET", path: "/users/alice", status: 200, mediaType: asJSON, body: user, without: "X-Request-Id", fault: "no header X-Request-Id"},
		{what: "a header", method: "GET", path: "/users/alice", status: 200, mediaType: asJSON, body: user, with: "Location", fault: "a header Location"},
		{what: "another type", method: "GET", path: "/users/alice", status: 200, mediaType: "text/plain", body: user, fault: `of the type "text/plain"`},
		{what: "another status", method: "GET", path: "/users/alice", status: 418, mediaType: asProblem, body: problem(418, "teapot"), fault: "no answer 418"},
		{what: "another code", method: "GET", path: "/users/alice", status: 404, mediaType: asProblem, body: problem(404, "no-such-route"), without: "ETag", fault: "code"},
		{what: "another method", method: "BREW", path: "/users/alice", status: 200, mediaType: asJSON, body: user, fault: "method-not-allowed"},
		{what: "another path", method: "GET", path: "/nothing", status: 200, mediaType: asJSON, body: user, fault: "no-such-route"},
		{what: "a parameter", method: "GET", path: "/users?x=y", status: 200, mediaType: asJSON, body: "[]", without: "ETag", fault: `no parameter "x"`},
		{what: "a value", method: "GET", path: "/users?limit=1001", status: 200, mediaType: asJSON, body: "[]", without: "ETag", fault: "the parameter limit"},
		{what: "a field that is sent", method: "PATCH", path: "/users/alice", sent: `{"x":1}`, status: 200, mediaType: asJSON, body: user, fault: "the request's body"},
		{what: "a line", method: "PUT", path: "/users", sent: `{"cn":"x","sn":"x"}`, status: 200, mediaType: "application/x-ndjson", body: `{"line":1}` + "\n", without: "ETag", fault: "a line"},
		{what: "a line that is sent", method: "PUT", path: "/users", sent: `{"cn":"x"}`, status: 200, mediaType: "application/x-ndjson", body: `{"line":1,"status":201}` + "\n", without: "ETag", fault: "line 1 of the request"},
	} {
		target, err := url.Parse("http://api.test" + c.path)
		if err != nil {
			t.Fatal(err)
		}
		sentAs := asJSON
		if c.method == http.MethodPut {
			sentAs = "application/x-ndjson"
		}
		x := &answered{Request: &http.Request{Method: c.method, URL: target, Header: http.Header{"Content-Type": {sentAs}}}, status: c.status, header: http.Header{
			"Content-Type": {c.mediaType}, "Etag": {`"x"`}, "X-Request-Id": {"x"},
		}}
		x.sent.add([]byte(c.sent))
		x.body.add([]byte(c.body))
		x.header.Del(c.without)
		if c.with != "" {
			x.header.Set(c.with, "x")
		}
		_, _, found := d.judge(x, "")
		faults := strings.Join(found, "; ")
		if (faults == "") != (c.fault == "") || !strings.Contains(faults, c.fault) {
			t.Errorf("%s: %q was found, want %q\n%s", c.what, faults, c.fault, x)
		}
	}
}
