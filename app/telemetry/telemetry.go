// Package telemetry shows whoever is on call what the program does: metrics for Prometheus, profiles, and traces for
// OpenTelemetry. Nobody else knows of these; the rooms that are watched call a function of the [Telemetry].
package telemetry

import (
	"context"
	"net/http"
	"time"
)

// Options say what to show, and where.
type Options struct {
	// Listen is the address of the listener for metrics and profiles; "" for none, and no metrics.
	Listen string
	// Profiles serves those of net/http/pprof there too.
	Profiles bool
	// Version is the program's.
	Version string
	// Endpoint is the URL that traces are sent to, by OTLP over HTTP; "" for none.
	Endpoint string
	// Headers are sent with them.
	Headers map[string]string
	// SampleRatio is how many requests of those that come without a trace that is trusted are recorded, from 0 to 1.
	SampleRatio float64
	// TrustParent records what the caller's traceparent says is recorded, and nothing else, and keeps a short tracestate.
	// Without it callers say what trace a request belongs to, but not whether it is recorded.
	TrustParent bool
	// Report is told what goes wrong.
	Report func(what string, err error)
}

// Telemetry is told what happens. Its methods are safe for concurrent use, and do next to nothing where nobody watches.
type Telemetry struct {
	metrics *metrics // nil for none
	traces  *traces  // nil for none
	server  *server  // nil for none
}

// Start begins to listen, and to send traces, until Close.
func Start(ctx context.Context, o Options) (*Telemetry, error) {
	t := &Telemetry{}
	if o.Endpoint != "" {
		var err error
		if t.traces, err = newTraces(ctx, o); err != nil {
			return nil, err
		}
	}
	if o.Listen != "" {
		t.metrics = newMetrics(o.Version)
		var err error
		if t.server, err = serve(ctx, o, t.metrics.registry); err != nil {
			t.Close(ctx)
			return nil, err
		}
	}
	return t, nil
}

// Address is where metrics are served; "" where they are not.
func (t *Telemetry) Address() string {
	if t.server == nil {
		return ""
	}
	return t.server.address
}

// Watch counts the requests that are being answered, and begins a span for each, of which what the handler does is a
// part. [Telemetry.Request] completes both.
func (t *Telemetry) Watch(next http.Handler) http.Handler {
	if t.traces != nil {
		next = t.traces.watch(next)
	}
	if t.metrics != nil {
		next = t.metrics.watch(next)
	}
	return next
}

// Request notes a request that has been answered: the template of its path, "" for one that is none of ours, and the
// status, 0 where it was cut off.
func (t *Telemetry) Request(ctx context.Context, method, route string, status int, took time.Duration) {
	if t.metrics != nil {
		t.metrics.request(method, route, status, took)
	}
	if t.traces != nil {
		t.traces.request(ctx, method, route, status)
	}
}

// Operation notes an LDAP operation that has ended.
func (t *Telemetry) Operation(ctx context.Context, name, result string, begun time.Time, took time.Duration) {
	if t.metrics != nil {
		t.metrics.operation(name, result, took)
	}
	if t.traces != nil {
		t.traces.operation(ctx, name, result, begun, took)
	}
}

// Login notes a login by its method and its result.
func (t *Telemetry) Login(method, result string) {
	if t.metrics != nil {
		t.metrics.logins.WithLabelValues(method, result).Inc()
	}
}

// Audit notes an attempt to change something.
func (t *Telemetry) Audit(action, kind, result string) {
	if t.metrics != nil {
		t.metrics.audited.WithLabelValues(action, kind, result).Inc()
	}
}

// Lanes shows how much of the lanes of LDAP connections is used, and how many searches are held.
func (t *Telemetry) Lanes(lanes func() []Lane, held func() int) {
	if t.metrics != nil {
		t.metrics.registry.MustRegister(&pool{lanes, held})
	}
}

// Trace returns the id of the trace that a request belongs to, "" for none.
func (t *Telemetry) Trace(ctx context.Context) string {
	if t.traces == nil {
		return ""
	}
	return t.traces.id(ctx)
}

// Through makes spans for requests to others, and tells them of the trace. It is that of the request's context, or one
// of its own.
func (t *Telemetry) Through(next http.RoundTripper) http.RoundTripper {
	if t.traces == nil {
		return next
	}
	return t.traces.through(next)
}

// Flush sends the spans that wait, within the context.
func (t *Telemetry) Flush(ctx context.Context) {
	if t.traces != nil {
		t.traces.flush(ctx)
	}
}

// Close ends everything. It sends the spans that wait within the context; what is not sent by then is lost.
func (t *Telemetry) Close(ctx context.Context) {
	if t.traces != nil {
		t.traces.close(ctx)
	}
	if t.server != nil {
		t.server.close()
	}
}
