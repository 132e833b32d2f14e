package telemetry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"rollcall/app/telemetry"
)

const anyPort = "127.0.0.1:0"

// start starts a Telemetry that ends with the test, and leaves nothing behind then.
func start(t *testing.T, o telemetry.Options) *telemetry.Telemetry {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
	if o.Report == nil {
		o.Report = func(what string, err error) { t.Errorf("%s: %v", what, err) }
	}
	w, err := telemetry.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		w.Close(ctx)
	})
	return w
}

// get reads what is at a path of the private listener.
func get(t *testing.T, w *telemetry.Telemetry, path string) (int, string) {
	t.Helper()
	return getAs(t, w, "", path)
}

// getAs is get by the name of a host.
func getAs(t *testing.T, w *telemetry.Telemetry, host, path string) (int, string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.Address()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = host
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func want(t *testing.T, metrics string, lines ...string) {
	t.Helper()
	for _, line := range lines {
		if !strings.Contains("\n"+metrics, "\n"+line+"\n") {
			t.Errorf("there is no line %q in\n%s", line, metrics)
		}
	}
}

func TestMetricsAreWhatPrometheusExpects(t *testing.T) {
	w := start(t, telemetry.Options{Listen: anyPort, Version: "v1.2.3"})
	ctx := t.Context()
	w.Lanes(func() []telemetry.Lane {
		return []telemetry.Lane{{Name: "shared", InUse: 1, Idle: 3, Limit: 4}, {Name: "sorted", InUse: 2, Waiting: 5, Limit: 2}}
	}, func() int { return 7 })
	w.Request(ctx, "GET", "/users/{name}", 200, 3*time.Millisecond)
	w.Request(ctx, "GET", "/users/{name}", 200, 30*time.Millisecond)
	w.Request(ctx, "GET", "", 0, time.Second)
	w.Operation(ctx, "search", "success", time.Now(), 200*time.Microsecond)
	w.Operation(ctx, "modify", "timeout", time.Now(), 5*time.Second)
	w.Login("basic", "invalid-credentials")
	w.Audit("create", "users", "ok")
	_, metrics := get(t, w, "/metrics")
	want(t, metrics,
		`rollcall_http_request_duration_seconds_count{method="GET",route="/users/{name}",status="200"} 2`,
		`rollcall_http_request_duration_seconds_bucket{method="GET",route="/users/{name}",status="200",le="0.005"} 1`,
		`rollcall_http_request_duration_seconds_count{method="GET",route="unknown",status="0"} 1`,
		`rollcall_http_requests_in_flight 0`,
		`rollcall_ldap_operation_duration_seconds_count{operation="search",result="success"} 1`,
		`rollcall_ldap_operation_duration_seconds_bucket{operation="search",result="success",le="0.0001"} 0`,
		`rollcall_ldap_operation_duration_seconds_sum{operation="modify",result="timeout"} 5`,
		`rollcall_ldap_connections{lane="shared",state="in_use"} 1`, `rollcall_ldap_connections{lane="shared",state="idle"} 3`,
		`rollcall_ldap_connections{lane="sorted",state="in_use"} 2`, `rollcall_ldap_lane_limit{lane="shared"} 4`,
		`rollcall_ldap_lane_waiting{lane="sorted"} 5`, `rollcall_ldap_held_searches 7`,
		`rollcall_logins_total{method="basic",result="invalid-credentials"} 1`,
		`rollcall_audit_events_total{action="create",kind="users",result="ok"} 1`)
	for _, name := range []string{`rollcall_build_info\{goversion="go[^"]+",revision="[^"]+",version="v1.2.3"\} 1`, `go_goroutines \d+`, `process_resident_memory_bytes \S+`} {
		if !regexp.MustCompile("(?m)^" + name + "$").MatchString(metrics) {
			t.Errorf("nothing is like %s in\n%s", name, metrics)
		}
	}
	problems, err := promlint.New(strings.NewReader(metrics)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

func TestAStrangerMakesNoSeriesOfRequests(t *testing.T) {
	w := start(t, telemetry.Options{Listen: anyPort})
	for i := range 100 {
		w.Request(t.Context(), fmt.Sprintf("BREW%d", i), "", 404, time.Millisecond)
		w.Request(t.Context(), "get", "", 404, time.Millisecond)
	}
	_, metrics := get(t, w, "/metrics")
	want(t, metrics, `rollcall_http_request_duration_seconds_count{method="other",route="unknown",status="404"} 200`)
	if n := strings.Count(metrics, "rollcall_http_request_duration_seconds_count{"); n != 1 {
		t.Errorf("%d series", n)
	}
}

func TestRequestsAreInFlightUntilTheyAreAnswered(t *testing.T) {
	w := start(t, telemetry.Options{Listen: anyPort})
	inFlight := func(n int) {
		t.Helper()
		_, metrics := get(t, w, "/metrics")
		want(t, metrics, fmt.Sprintf("rollcall_http_requests_in_flight %d", n))
	}
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	w.Watch(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { inFlight(1) })).ServeHTTP(httptest.NewRecorder(), request)
	inFlight(0)
	func() {
		defer func() { _ = recover() }()
		w.Watch(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })).ServeHTTP(httptest.NewRecorder(), request)
	}()
	inFlight(0)
}

func TestProfilesAreServedWhereTheyAreAskedFor(t *testing.T) {
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/pprof/profile?seconds=1"} {
		for _, profiles := range []bool{false, true} {
			w := start(t, telemetry.Options{Listen: anyPort, Profiles: profiles})
			if status, body := get(t, w, path); (status == 200) != profiles {
				t.Errorf("profiles: %t: GET %s: %d %s", profiles, path, status, body)
			}
		}
	}
}

func TestANameThatLeadsToTheLoopbackAddressReadsNothing(t *testing.T) {
	for listen, names := range map[string]int{anyPort: http.StatusMisdirectedRequest, ":0": http.StatusOK} {
		w := start(t, telemetry.Options{Listen: listen, Profiles: true})
		_, port, err := net.SplitHostPort(w.Address())
		if err != nil {
			t.Fatal(err)
		}
		for host, want := range map[string]int{
			"evil.example": names, "evil.example:" + port: names, "localhost.evil.example": names, "127.0.0.1.evil.example:" + port: names, "[::1].evil.example": names,
			"127.0.0.1:" + port: 200, "127.0.0.1": 200, "localhost:" + port: 200, "LocalHost": 200, "[::1]:" + port: 200, "[::1]": 200, "192.0.2.1:8080": 200,
		} {
			for _, path := range []string{"/metrics", "/debug/pprof/heap"} {
				if status, body := getAs(t, w, host, path); status != want {
					t.Errorf("%s: GET %s of %s: got %d, want %d: %.100q", listen, path, host, status, want, body)
				}
			}
		}
	}
}

func TestWithoutOptionsNothingIsWatched(t *testing.T) {
	w := start(t, telemetry.Options{})
	handler := http.NewServeMux()
	if w.Watch(handler) != http.Handler(handler) || w.Address() != "" || w.Through(http.DefaultTransport) != http.DefaultTransport {
		t.Error("something is in between")
	}
	ctx := t.Context()
	w.Lanes(nil, nil)
	if n := testing.AllocsPerRun(100, func() {
		w.Request(ctx, "GET", "/", 200, 1)
		w.Operation(ctx, "search", "success", time.Time{}, 1)
		w.Login("login", "success")
		w.Audit("create", "users", "ok")
		_ = w.Trace(ctx)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	w.Flush(ctx)
}

func TestAnAddressThatIsTakenIsToldByItsKey(t *testing.T) {
	w := start(t, telemetry.Options{Listen: anyPort})
	_, err := telemetry.Start(t.Context(), telemetry.Options{Listen: w.Address(), Endpoint: "http://127.0.0.1:1"})
	if err == nil || !strings.Contains(err.Error(), "telemetry.listen") {
		t.Error(err)
	}
}

// receiver takes what is sent by OTLP.
type receiver struct {
	*httptest.Server

	mutex  sync.Mutex
	bodies [][]byte
	header http.Header
	length int          // of what came, as it was sent
	status atomic.Int64 // to answer with; 0: 200
	answer []byte       // to a batch that is taken
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		packed, _ := io.ReadAll(request.Body)
		body := unpack(t, packed)
		r.mutex.Lock()
		defer r.mutex.Unlock()
		if h := request.Header; request.URL.Path != "/v1/traces" || h.Get("Content-Type") != "application/x-protobuf" || h.Get("Content-Encoding") != "gzip" {
			t.Errorf("%s with %v", request.URL.Path, h)
		}
		if status := int(r.status.Load()); status != 0 {
			http.Error(w, "no, and here is the long story "+strings.Repeat("x", 1000), status)
			return
		}
		r.bodies, r.header, r.length = append(r.bodies, body), request.Header, r.length+len(packed)
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(r.answer)
	}))
	t.Cleanup(r.Close)
	return r
}

func unpack(t *testing.T, packed []byte) []byte {
	reader, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Errorf("%v: %q", err, packed)
		return nil
	}
	body, err := io.ReadAll(reader)
	if err != nil {
		t.Errorf("%v: %q", err, packed)
	}
	return body
}

// count returns how often a text was sent.
func (r *receiver) count(text string) int {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	n := 0
	for _, body := range r.bodies {
		n += bytes.Count(body, []byte(text))
	}
	return n
}

// traceparent is of a caller that has its request recorded, by an id that samplers by ratio would take at any.
const traceparent = "00-000000000000000000000000000000ff-00000000000000aa-01"

// serve answers so many requests that come with headers, each with one LDAP operation.
func serve(w *telemetry.Telemetry, n int, headers ...string) (trace string) {
	handler := w.Watch(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		w.Operation(r.Context(), "search", "success", time.Now(), time.Millisecond)
		trace = w.Trace(r.Context())
		w.Request(r.Context(), r.Method, "/users/{name}", 200, time.Millisecond)
	}))
	for range n {
		r := httptest.NewRequest(http.MethodGet, "/users/alice", nil)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		handler.ServeHTTP(httptest.NewRecorder(), r)
	}
	return trace
}

func TestStrangersDoNotDecideWhatIsRecorded(t *testing.T) {
	unsampled := strings.TrimSuffix(traceparent, "1") + "0"
	for name, c := range map[string]struct {
		options telemetry.Options
		parent  string
		want    int // of 200 requests; -1: some
	}{
		"none is recorded":              {telemetry.Options{}, "", 0},
		"all are":                       {telemetry.Options{SampleRatio: 1}, "", 200},
		"some are":                      {telemetry.Options{SampleRatio: 0.5}, "", -1},
		"a stranger asks for it":        {telemetry.Options{}, traceparent, 0},
		"a stranger asks for it often":  {telemetry.Options{SampleRatio: 0.5}, traceparent, -1},
		"a stranger asks for none":      {telemetry.Options{SampleRatio: 1}, unsampled, 200},
		"one who is trusted asks":       {telemetry.Options{TrustParent: true}, traceparent, 200},
		"one who is trusted wants none": {telemetry.Options{TrustParent: true, SampleRatio: 1}, unsampled, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			c.options.Endpoint = r.URL
			w := start(t, c.options)
			if id := serve(w, 200, "traceparent", c.parent); c.parent != "" && id != traceparent[3:35] {
				t.Errorf("the trace is %s, not the caller's", id)
			}
			w.Flush(t.Context())
			requests, operations := r.count("GET /users/{name}"), r.count("LDAP search")
			if requests != operations || c.want >= 0 && requests != c.want || c.want < 0 && (requests < 40 || requests > 160) {
				t.Errorf("%d requests and %d operations were recorded", requests, operations)
			}
		})
	}
}

func TestAStrangersTracestateGoesNowhere(t *testing.T) {
	member := func(i, size int) string { return fmt.Sprintf("k%d=%s", i, strings.Repeat("v", size)) }
	var long []string
	for i := range 32 {
		long = append(long, member(i, 250))
	}
	fits := member(0, 250) + "," + member(1, 512-len(member(0, 250)+",k1="))
	for name, c := range map[string]struct {
		trusted bool
		state   string
		kept    bool
	}{
		"a stranger's":                  {false, "vendor=opaque", false},
		"a stranger's long one":         {false, strings.Join(long, ","), false},
		"one that is trusted":           {true, "vendor=opaque", true},
		"one that is trusted, of 512":   {true, fits, true},
		"one that is trusted, of 513":   {true, fits + "v", false},
		"one that is trusted, and long": {true, strings.Join(long, ","), false},
	} {
		t.Run(name, func(t *testing.T) {
			var passed atomic.Value
			other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { passed.Store(r.Header.Get("tracestate")) }))
			t.Cleanup(other.Close)
			r := newReceiver(t)
			w := start(t, telemetry.Options{Endpoint: r.URL, SampleRatio: 1, TrustParent: c.trusted})
			if trace := serve(w, 20, "traceparent", traceparent, "tracestate", c.state); trace != traceparent[3:35] {
				t.Errorf("the trace is %s, not the caller's", trace)
			}
			client := &http.Client{Transport: w.Through(&http.Transport{DisableKeepAlives: true})}
			request := httptest.NewRequest(http.MethodGet, "/", nil)
			request.Header.Set("traceparent", traceparent)
			request.Header.Set("tracestate", c.state)
			w.Watch(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { ask(t, client, r, other.URL) })).ServeHTTP(httptest.NewRecorder(), request)
			w.Flush(t.Context())
			want, state := 0, ""
			if c.kept {
				want, state = 42, c.state // 21 requests, 20 operations, and the request to the other
			}
			if got := r.count(c.state); got != want {
				t.Errorf("it is in %d spans, not in %d", got, want)
			}
			if got := passed.Load(); got != state {
				t.Errorf("passed on is %q, not %q", got, state)
			}
			if parents := r.count("\x00\x00\x00\x00\x00\x00\x00\xaa"); parents != 21 {
				t.Errorf("%d spans are the caller's, not 21", parents)
			}
			if r.length > 8<<10 {
				t.Errorf("%d bytes were sent", r.length)
			}
		})
	}
}

func TestSpansAreSentWithTheHeadersAndWithoutWhatTheyAreAbout(t *testing.T) {
	r := newReceiver(t)
	w := start(t, telemetry.Options{Endpoint: r.URL, Headers: map[string]string{"Authorization": "Bearer key"}, SampleRatio: 1, Version: "v1.2.3"})
	serve(w, 1, "Authorization", "Basic secret", "User-Agent", "secret", "Cookie", "secret")
	w.Flush(t.Context())
	if got := r.header.Get("Authorization"); got != "Bearer key" || r.count("v1.2.3") != 1 || r.count("rollcall") == 0 {
		t.Errorf("Authorization: %s, %q", got, r.bodies)
	}
	for _, word := range []string{"alice", "secret"} {
		if r.count(word) != 0 {
			t.Errorf("%q was sent: %q", word, r.bodies)
		}
	}
}

// ask asks another in the context of a request.
func ask(t *testing.T, client *http.Client, r *http.Request, url string) {
	t.Helper()
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
}

func TestSpansOfRequestsToOthersHoldNoSecret(t *testing.T) {
	r := newReceiver(t)
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Set-Cookie", "secret") }))
	t.Cleanup(other.Close)
	w := start(t, telemetry.Options{Endpoint: r.URL, SampleRatio: 1})
	client := &http.Client{Transport: w.Through(&http.Transport{DisableKeepAlives: true})}
	ask(t, client, httptest.NewRequest(http.MethodGet, "/", nil), strings.Replace(other.URL, "//", "//name:secret@", 1)+"/keys")
	w.Flush(t.Context())
	if r.count(other.URL+"/keys") != 1 || r.count("secret") != 0 || r.count("name:") != 0 {
		t.Errorf("%q", r.bodies)
	}
}

func TestRequestsToOthersAreOfTheSameTrace(t *testing.T) {
	r := newReceiver(t)
	var got atomic.Value
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got.Store(r.Header.Get("traceparent")) }))
	t.Cleanup(other.Close)
	w := start(t, telemetry.Options{Endpoint: r.URL, SampleRatio: 1})
	client := &http.Client{Transport: w.Through(&http.Transport{DisableKeepAlives: true})}
	w.Watch(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ask(t, client, r, other.URL+"/keys")
	})).ServeHTTP(httptest.NewRecorder(), func() *http.Request {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("traceparent", traceparent)
		return r
	}())
	if parent, _ := got.Load().(string); !strings.HasPrefix(parent, traceparent[:36]) || parent == traceparent || !strings.HasSuffix(parent, "-01") {
		t.Errorf("traceparent: %q", parent)
	}
}

func TestWhatCanNotBeSentIsToldOnceInAWhileAndBriefly(t *testing.T) {
	r := newReceiver(t)
	r.status.Store(http.StatusForbidden)
	var mutex sync.Mutex
	var reports []string
	w := start(t, telemetry.Options{Endpoint: r.URL, SampleRatio: 1, Report: func(what string, err error) {
		mutex.Lock()
		defer mutex.Unlock()
		reports = append(reports, fmt.Sprintf("%s: %v", what, err))
	}})
	for range 3 {
		serve(w, 10)
		w.Flush(t.Context())
	}
	mutex.Lock()
	defer mutex.Unlock()
	if len(reports) != 1 || !strings.Contains(reports[0], "403") || len(reports[0]) > 400 {
		t.Errorf("%d reports: %q", len(reports), reports)
	}
}

func TestSpansThatTheReceiverTookAreNotLost(t *testing.T) {
	// An ExportTraceServiceResponse of opentelemetry-proto with a partial_success: rejected_spans and an error_message.
	answer := func(rejected byte, message string) []byte {
		inner := append([]byte{0x08, rejected, 0x12, byte(len(message))}, message...)
		return append([]byte{0x0a, byte(len(inner))}, inner...)
	}
	for name, c := range map[string]struct {
		answer []byte
		want   string
	}{
		"all were taken":                {nil, ""},
		"some were rejected":            {answer(5, "quota"), "traces can't be sent; 5 spans are lost: traces export: OTLP partial success: quota (5 spans rejected)"},
		"more than there were":          {answer(100, "odd"), "traces can't be sent; 20 spans are lost: traces export: OTLP partial success: odd (100 spans rejected)"},
		"all were taken with a warning": {answer(0, "(9 spans rejected)"), "the receiver of traces warns: traces export: OTLP partial success: (9 spans rejected) (0 spans rejected)"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReceiver(t)
			r.answer = c.answer
			var told string
			w := start(t, telemetry.Options{Endpoint: r.URL, SampleRatio: 1, Report: func(what string, err error) { told = fmt.Sprintf("%s: %v", what, err) }})
			serve(w, 10)
			w.Flush(t.Context())
			if told != c.want {
				t.Errorf("told is %q, want %q", told, c.want)
			}
		})
	}
}

func TestAReceiverThatHangsDoesNotHoldUpTheEnd(t *testing.T) {
	hang := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	t.Cleanup(silent.Close)
	defer close(hang)
	told := make(chan error, 10)
	w := start(t, telemetry.Options{Endpoint: silent.URL, SampleRatio: 1, Report: func(_ string, err error) { told <- err }})
	serve(w, 10)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	w.Flush(ctx)
	if err := <-told; !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	serve(w, 10)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		w.Close(ctx)
	}()
	select {
	case <-closed:
	case <-time.After(5 * time.Second): // half of what an attempt to send may take
		t.Error("it waits for the receiver")
		<-closed
	}
}
