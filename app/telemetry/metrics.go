package telemetry

import (
	"net/http"
	"runtime"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Values of labels for what strangers can make up.
const (
	otherMethod  = "other"
	unknownRoute = "unknown"
)

// methods are those of RFC 9110 §9 and RFC 5789.
var methods = map[string]bool{
	http.MethodGet: true, http.MethodHead: true, http.MethodPost: true, http.MethodPut: true, http.MethodPatch: true,
	http.MethodDelete: true, http.MethodOptions: true, http.MethodConnect: true, http.MethodTrace: true,
}

// Upper bounds of durations, in seconds. Streams and bulk requests take longer.
var (
	requestBuckets   = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	operationBuckets = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
)

// metrics are what Prometheus reads.
type metrics struct {
	registry        *prometheus.Registry
	requests        *prometheus.HistogramVec
	inFlight        prometheus.Gauge
	operations      *prometheus.HistogramVec
	logins, audited *prometheus.CounterVec

	// served and done are series of requests and operations, so that their labels are put together once.
	served sync.Map // of requestLabels
	done   sync.Map // of operationLabels
}

type requestLabels struct {
	method, route string
	status        int
}

type operationLabels struct{ name, result string }

func newMetrics(version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rollcall_http_request_duration_seconds", Buckets: requestBuckets,
			Help: "How long HTTP requests took, by method, template of the path and status (0: cut off before the answer).",
		}, []string{"method", "route", "status"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "rollcall_http_requests_in_flight", Help: "HTTP requests that are being answered.",
		}),
		operations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "rollcall_ldap_operation_duration_seconds", Buckets: operationBuckets,
			Help: "How long LDAP operations took, by operation and name of the result code (RFC 4511), or timeout, connection-lost or abandoned.",
		}, []string{"operation", "result"}),
		logins: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_logins_total",
			Help: "Logins by method and result: success, or a code of the error catalogue. Successes that were remembered are not counted.",
		}, []string{"method", "result"}),
		audited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "rollcall_audit_events_total", Help: "Attempts to change something, by action, kind and result: ok, panic, or a code of the error catalogue.",
		}, []string{"action", "kind", "result"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "rollcall_build_info", Help: "What runs. The value is always 1.",
		ConstLabels: prometheus.Labels{"version": version, "revision": revision(), "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.inFlight, m.operations, m.logins, m.audited, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// revision returns the commit that the program was built from, where the build knows it.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				return setting.Value
			}
		}
	}
	return "unknown"
}

func (m *metrics) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.inFlight.Inc()
		defer m.inFlight.Dec()
		next.ServeHTTP(w, r)
	})
}

func (m *metrics) request(method, route string, status int, took time.Duration) {
	if !methods[method] {
		method = otherMethod
	}
	if route == "" {
		route = unknownRoute
	}
	labels := requestLabels{method, route, status}
	series, ok := m.served.Load(labels)
	if !ok {
		series, _ = m.served.LoadOrStore(labels, m.requests.WithLabelValues(method, route, strconv.Itoa(status)))
	}
	series.(prometheus.Observer).Observe(took.Seconds())
}

func (m *metrics) operation(name, result string, took time.Duration) {
	labels := operationLabels{name, result}
	series, ok := m.done.Load(labels)
	if !ok {
		series, _ = m.done.LoadOrStore(labels, m.operations.WithLabelValues(name, result))
	}
	series.(prometheus.Observer).Observe(took.Seconds())
}

// Lane is how much of a lane of LDAP connections, or of the places for sorted searches, is used.
type Lane struct {
	Name                        string
	InUse, Idle, Waiting, Limit int
}

// pool collects the lanes when they are asked for.
type pool struct {
	lanes func() []Lane
	held  func() int
}

// laneSorted has no connections of its own: a sorted search is on one of the paged lane.
const laneSorted = "sorted"

var (
	connectionsDesc = prometheus.NewDesc("rollcall_ldap_connections",
		"LDAP connections by lane and state. in_use: that something runs on (shared), or that are taken (paged, logins); of sorted, searches that the server sorts.",
		[]string{"lane", "state"}, nil)
	limitDesc = prometheus.NewDesc("rollcall_ldap_lane_limit", "How many connections, or sorted searches, there may be in a lane.", []string{"lane"}, nil)
	waitDesc  = prometheus.NewDesc("rollcall_ldap_lane_waiting", "How many wait for a place in a lane, or (shared) for a connection that is being opened.", []string{"lane"}, nil)
	heldDesc  = prometheus.NewDesc("rollcall_ldap_held_searches", "Searches that are kept open for their next page.", nil, nil)
)

// Describe implements [prometheus.Collector].
func (p *pool) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{connectionsDesc, limitDesc, waitDesc, heldDesc} {
		descs <- desc
	}
}

// Collect implements [prometheus.Collector].
func (p *pool) Collect(series chan<- prometheus.Metric) {
	gauge := func(desc *prometheus.Desc, value int, labels ...string) {
		series <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(value), labels...)
	}
	for _, lane := range p.lanes() {
		gauge(connectionsDesc, lane.InUse, lane.Name, "in_use")
		if lane.Name != laneSorted {
			gauge(connectionsDesc, lane.Idle, lane.Name, "idle")
		}
		gauge(limitDesc, lane.Limit, lane.Name)
		gauge(waitDesc, lane.Waiting, lane.Name)
	}
	gauge(heldDesc, p.held())
}
