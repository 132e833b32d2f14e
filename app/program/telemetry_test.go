package program

import (
	"bytes"
	"compress/gzip"
	varint "encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rollcall/app/slapd"
)

// onCall returns the status and the body of a path of the private listener.
func (p *program) onCall(path string) (int, string) {
	p.t.Helper()
	p.url()
	where := regexp.MustCompile(`metrics at +(\S+)/metrics\n`).FindStringSubmatch(p.stdout.text())
	if where == nil {
		p.fatalf("it does not say where metrics are")
	}
	response, err := p.http.Get(where[1] + path)
	if err != nil {
		p.fatalf("%v", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		p.fatalf("%v", err)
	}
	return response.StatusCode, string(body)
}

// metrics are the values of all series.
func (p *program) metrics() map[string]float64 {
	p.t.Helper()
	status, text := p.onCall("/metrics")
	if status != http.StatusOK {
		p.fatalf("/metrics: %d %s", status, text)
	}
	series := map[string]float64{}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		at := strings.LastIndex(line, " ")
		value, err := strconv.ParseFloat(strings.TrimSpace(line[at+1:]), 64)
		if err != nil {
			p.fatalf("%s: %v", line, err)
		}
		series[line[:at]] = value
	}
	return series
}

// watched starts the program with a listener for metrics on a directory that runs elsewhere.
func watched(t *testing.T, more settings) (*program, *slapd.Server) {
	server := directoryServer(t)
	return start(t, production(t, server).with(settings{"TELEMETRY_LISTEN": anyPort}).with(more), "serve"), server
}

func TestMetricsTellWhatWasDone(t *testing.T) {
	t.Parallel()
	p, server := watched(t, nil)
	p.do("GET", "/users/alice", nil, 200)
	p.do("GET", "/users/nobody", nil, 404)
	p.do("PATCH", "/users/alice", map[string]any{"title": "Boss"}, 200)
	p.do("POST", "/users", map[string]any{"cn": "alice", "sn": "x"}, 409)
	p.do("GET", "/users?sort=cn&limit=1", nil, 200)
	p.doAs(p.as("", ""), "POST", "/login", map[string]any{"username": "admin", "password": "wrong"}, 401)
	p.doAs(p.as("", ""), "GET", "/me", nil, 401, "Authorization", "Bearer x")

	request := func(method, route string, status int) string {
		return fmt.Sprintf(`rollcall_http_request_duration_seconds_count{method=%q,route=%q,status="%d"}`, method, route, status)
	}
	want := map[string]float64{
		request("GET", "/users/{name}", 200):   1,
		request("GET", "/users/{name}", 404):   1,
		request("PATCH", "/users/{name}", 200): 1,
		request("POST", "/users", 409):         1,
		request("GET", "/users", 200):          1,
		request("POST", "/login", 401):         1,
		request("GET", "/me", 401):             1,
		`rollcall_ldap_operation_duration_seconds_count{operation="search",result="noSuchObject"}`:     1,
		`rollcall_ldap_operation_duration_seconds_count{operation="modify",result="success"}`:          1,
		`rollcall_ldap_operation_duration_seconds_count{operation="bind",result="invalidCredentials"}`: 1,
		`rollcall_logins_total{method="basic",result="success"}`:                                       1, // the others are remembered
		`rollcall_logins_total{method="login",result="invalid-credentials"}`:                           1,
		`rollcall_logins_total{method="token",result="invalid-token"}`:                                 1,
		`rollcall_audit_events_total{action="change",kind="users",result="ok"}`:                        1,
		`rollcall_audit_events_total{action="create",kind="users",result="already-exists"}`:            1,
		`rollcall_ldap_held_searches`:                             1,
		`rollcall_ldap_connections{lane="paged",state="in_use"}`:  1,
		`rollcall_ldap_connections{lane="logins",state="idle"}`:   1,
		`rollcall_ldap_connections{lane="sorted",state="in_use"}`: 1,
		`rollcall_ldap_lane_limit{lane="shared"}`:                 4,
		`rollcall_ldap_lane_limit{lane="logins"}`:                 8,
		`rollcall_ldap_lane_waiting{lane="paged"}`:                0,
		`rollcall_http_requests_in_flight`:                        0,
	}
	answered := func() bool { _, ok := p.metrics()[request("GET", "/me", 401)]; return ok }
	p.eventually("the last was counted", answered) // which it is when its answer is out
	got := p.metrics()
	for series, value := range want {
		if actual, ok := got[series]; !ok || actual != value {
			t.Errorf("%s is %v, want %v", series, actual, value)
		}
	}
	if t.Failed() {
		t.Logf("%v", got)
	}

	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	p.do("GET", "/users/alice", nil, 503)
	lost := `rollcall_ldap_operation_duration_seconds_count{operation="search",result="connection-lost"}`
	p.eventually("the directory's death shows", func() bool { return p.metrics()[lost] > 0 })
}

func TestStrangersMakeNoSeries(t *testing.T) {
	t.Parallel()
	p, _ := watched(t, nil)
	nobody := p.as("", "")
	ask := func(name string) {
		p.doAs(nobody, "GET", "/"+name, nil, 404)
		p.doAs(nobody, "GET", "/users/"+name, nil, 401)
		p.doAs(nobody, "PUT", "/groups/devs/members/"+name+"/x", nil, 401)
		p.doAs(nobody, strings.ToUpper(name), "/users/x", nil, 405)
		p.doAs(nobody, strings.ToUpper(name), "/"+name, nil, 404)
		p.doAs(p.as(name, name), "GET", "/me", nil, 401)
	}
	ask("first")
	count := func() (n int) {
		for series := range p.metrics() {
			if strings.HasPrefix(series, "rollcall_") {
				n++
			}
		}
		return n
	}
	done := func(n float64) func() bool {
		return func() bool {
			return p.metrics()[`rollcall_http_request_duration_seconds_count{method="other",route="unknown",status="404"}`] == n
		}
	}
	p.eventually("the first was counted", done(1))
	before := count()
	const more = 20
	for i := range more {
		ask(fmt.Sprintf("stranger%d", i))
	}
	p.eventually("all were counted", done(1+more))
	if after := count(); after != before {
		t.Errorf("%d series became %d", before, after)
	}
}

func TestThePrivateListenerIsNotTheAPIs(t *testing.T) {
	t.Parallel()
	p, _ := watched(t, nil)
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/heap"} {
		p.do("GET", path, nil, 404)
	}
	for path, want := range map[string]int{"/metrics": 200, "/debug/pprof/": 404, "/users": 404, "/healthz": 404} {
		if status, body := p.onCall(path); status != want {
			t.Errorf("GET %s: got %d, want %d: %s", path, status, want, body)
		}
	}
	profiled, _ := watched(t, settings{"TELEMETRY_PPROF": "true"})
	if status, body := profiled.onCall("/debug/pprof/goroutine?debug=1"); status != 200 || !strings.Contains(body, "rollcall") {
		t.Errorf("%d %s", status, body)
	}
	profiled.do("GET", "/debug/pprof/", nil, 404)
}

// span is one that a receiver was sent.
type span struct {
	trace, id, parent, name string
	kind                    uint64
	attributes              map[string]string
}

// message is a message of protocol buffers: values by field, numbers as text.
type message map[uint64][][]byte

// parse reads a message (protobuf.dev/programming-guides/encoding).
func parse(b []byte) (message, error) {
	m := message{}
	for len(b) > 0 {
		tag, n := varint.Uvarint(b)
		if n <= 0 {
			return nil, io.ErrUnexpectedEOF
		}
		b = b[n:]
		length, kind := uint64(0), tag&7
		switch kind {
		case 0:
			_, n := varint.Uvarint(b)
			length = uint64(max(n, 0))
		case 1:
			length = 8
		case 2:
			size, n := varint.Uvarint(b)
			b, length = b[max(n, 0):], size
		case 5:
			length = 4
		}
		if uint64(len(b)) < length {
			return nil, io.ErrUnexpectedEOF
		}
		m[tag>>3], b = append(m[tag>>3], b[:length]), b[length:]
	}
	return m, nil
}

func (m message) text(field uint64) string { return string(bytes.Join(m[field], nil)) }

func (m message) number(field uint64) uint64 {
	n, _ := varint.Uvarint([]byte(m.text(field)))
	return n
}

// messages are the messages in a field.
func (m message) messages(t *testing.T, field uint64) (all []message) {
	t.Helper()
	for _, b := range m[field] {
		inner, err := parse(b)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, inner)
	}
	return all
}

// receiver takes traces by OTLP over HTTP.
type receiver struct {
	*httptest.Server
	t      *testing.T
	slow   time.Duration
	mutex  sync.Mutex
	bodies [][]byte
	keys   []string
}

func unpacked(packed io.Reader) ([]byte, error) {
	reader, err := gzip.NewReader(packed)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(reader)
}

func newReceiver(t *testing.T, slow time.Duration) *receiver {
	r := &receiver{t: t, slow: slow}
	r.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, request *http.Request) {
		body, err := unpacked(request.Body)
		if err != nil || request.Method != http.MethodPost || request.URL.Path != "/v1/traces" {
			t.Errorf("%s %s: %v", request.Method, request.URL, err)
		}
		select {
		case <-time.After(r.slow):
		case <-request.Context().Done():
			return // whoever sent it has given up
		}
		r.mutex.Lock()
		defer r.mutex.Unlock()
		r.bodies, r.keys = append(r.bodies, body), append(r.keys, request.Header.Get("X-Key"))
	}))
	t.Cleanup(r.Close)
	return r
}

// spans are those that came, by opentelemetry-proto's trace.proto.
func (r *receiver) spans() (spans []span) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for _, body := range r.bodies {
		request, err := parse(body)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, resource := range request.messages(r.t, 1) {
			for _, scope := range resource.messages(r.t, 2) {
				for _, m := range scope.messages(r.t, 2) {
					s := span{trace: hex.EncodeToString([]byte(m.text(1))), id: hex.EncodeToString([]byte(m.text(2))),
						parent: hex.EncodeToString([]byte(m.text(4))), name: m.text(5), kind: m.number(6), attributes: map[string]string{}}
					for _, attribute := range m.messages(r.t, 9) {
						for _, value := range attribute.messages(r.t, 2) {
							s.attributes[attribute.text(1)] = value.text(1)
							if number, ok := value[3]; ok {
								n, _ := varint.Uvarint(number[0])
								s.attributes[attribute.text(1)] = strconv.FormatUint(n, 10)
							}
						}
					}
					spans = append(spans, s)
				}
			}
		}
	}
	return spans
}

// Kinds of spans in trace.proto.
const (
	kindServer = 2
	kindClient = 3
)

func TestTracesShowARequestAndItsOperationsAndNobodysSecrets(t *testing.T) {
	t.Parallel()
	const trace, caller = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	r := newReceiver(t, farewell*3/2)
	log := filepath.Join(t.TempDir(), "log")
	p, _ := watched(t, settings{"TELEMETRY_OTLP_ENDPOINT": r.URL, "TELEMETRY_OTLP_HEADERS": "X-Key=receivers%20secret", "TELEMETRY_SAMPLE_RATIO": "1", "LOG_FILE": log})
	parent := []string{"traceparent", "00-" + trace + "-" + caller + "-01", "X-Request-Id", "the-request"}
	p.doAs(p.as("alice", "alice-password"), "GET", "/users/alice?fields=mail", nil, 200, parent...)
	login := p.doAs(p.as("", ""), "POST", "/login", map[string]any{"username": "alice", "password": "alice-password"}, 200)
	p.do("PATCH", "/users/alice", map[string]any{"title": "Kingfisher"}, 200)
	p.doAs(p.as("", ""), "GET", "/users?filter=sn+eq+%22Kingfisher%22", nil, 401)
	p.do("GET", "/users?filter=title+eq+%22Kingfisher%22", nil, 200)
	p.do("GET", "/nowhere/Kingfisher", nil, 404)
	p.signal(syscall.SIGTERM)
	p.ends(0) // and what was not sent yet is

	var server span
	operations := map[string]int{}
	spans := r.spans()
	for _, s := range spans {
		if s.trace == trace && s.kind == kindServer {
			server = s
		}
	}
	if server.name != "GET /users/{name}" || server.parent != caller || server.attributes["http.request.method"] != "GET" ||
		server.attributes["http.route"] != "/users/{name}" || server.attributes["http.response.status_code"] != "200" {
		t.Errorf("the request's span is %+v", server)
	}
	names := map[string]int{}
	for _, s := range spans {
		names[s.name]++
		if s.trace != trace || s.kind == kindServer {
			continue
		}
		if s.parent != server.id || s.kind != kindClient || s.name != "LDAP "+s.attributes["ldap.operation"] || s.attributes["ldap.result"] != "success" {
			t.Errorf("an operation's span is %+v, the request's %s", s, server.id)
		}
		operations[s.attributes["ldap.operation"]]++
	}
	if operations["bind"] == 0 || operations["search"] == 0 {
		t.Errorf("the operations of a login and a read are %v", operations)
	}
	for _, name := range []string{"POST /login", "PATCH /users/{name}", "LDAP add", "LDAP modify", "GET /users", "GET"} {
		if names[name] == 0 {
			t.Errorf("there is no span %q among %v", name, names)
		}
	}
	var tokens struct {
		Access string `json:"access_token"`
	}
	if err := json.Unmarshal(login.Body, &tokens); err != nil || tokens.Access == "" {
		t.Fatalf("%s: %v", login.Body, err)
	}
	for _, body := range r.bodies {
		for _, secret := range []string{"alice", "Kingfisher", "admin", "dc=example", "ou=people", "secret", tokens.Access} {
			if bytes.Contains(body, []byte(secret)) {
				t.Errorf("%q was sent: %q", secret, body)
			}
		}
	}
	for _, key := range r.keys {
		if key != "receivers secret" {
			t.Errorf("the receiver's header is %q", key)
		}
	}
	found := false
	for _, line := range p.logged(log) {
		found = found || line["request_id"] == "the-request" && line["trace_id"] == trace
	}
	if !found {
		t.Errorf("the log does not name the trace: %v", p.logged(log))
	}
}

func TestAReceiverOutOfReachIsNoConcernOfClients(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, 0)
	r.Close()
	p, _ := watched(t, settings{"TELEMETRY_OTLP_ENDPOINT": r.URL, "TELEMETRY_OTLP_HEADERS": "X-Key=receivers%20secret", "TELEMETRY_SAMPLE_RATIO": "1", "SERVER_SHUTDOWN_TIMEOUT": "2s"})
	p.do("GET", "/users/alice", nil, 200)
	p.signal(syscall.SIGTERM)
	p.ends(0)
	if text := p.stderr.text(); strings.Count(text, "traces can't be sent") != 1 || strings.Contains(text, "receivers") || strings.Contains(text, "in clear") {
		p.fatalf("the log should tell once that traces can't be sent, and no secret, and nothing of headers that stay here")
	}
}

func TestHeadersForTracesThatOthersCanReadAreWarnedOf(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]bool{
		"http://collector.example.org:4318": true, "http://192.0.2.1": true, "HTTP://collector": true, "http://[2001:db8::1]:4318": true,
		"https://collector.example.org": false, "http://localhost:4318": false, "http://127.0.0.2": false, "http://[::1]": false,
	} {
		if readable(url) != want {
			t.Errorf("%s: others can read it: got %t, want %t", url, !want, want)
		}
	}
	p, _ := watched(t, settings{"TELEMETRY_OTLP_ENDPOINT": "http://192.0.2.1:4318", "TELEMETRY_OTLP_HEADERS": "X-Key=receivers%20secret", "TELEMETRY_SAMPLE_RATIO": "0"})
	p.eventually("the log warns", func() bool { return strings.Contains(p.stderr.text(), "telemetry.otlp_headers travel") })
	p.signal(syscall.SIGTERM)
	p.ends(0)
	if strings.Contains(p.stderr.text(), "receivers secret") {
		p.fatalf("the log has a secret")
	}
}
