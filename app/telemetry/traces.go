package telemetry

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// defaultPath is where an OTLP receiver takes traces (OTLP specification, "OTLP/HTTP request").
const defaultPath = "/v1/traces"

const (
	// exportTimeout is for one batch of spans, with all attempts to send it.
	exportTimeout = 10 * time.Second
	// reportEvery is how often it is told that traces can't be sent, at most.
	reportEvery = time.Minute
	// maxState is how many bytes of tracestate are passed on: the least that has to be (W3C Trace Context §3.3.1.5).
	maxState = 512
)

// traces are sent by OTLP over HTTP. What the span of a request or of an LDAP operation says is what it was and what
// came of it, and nothing of what somebody asked for: no name of an entry, no path, no filter. Spans of requests to
// others have the URL as well, without a name and a password: those are an issuer's, and public.
type traces struct {
	provider  *sdktrace.TracerProvider
	batches   sdktrace.SpanProcessor
	tracer    trace.Tracer
	exporter  *exporter
	transport *http.Transport
	parents   propagation.TraceContext
	sampler   sampler
	report    func(what string, err error)
}

func newTraces(ctx context.Context, o Options) (*traces, error) {
	endpoint, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, err
	}
	if endpoint.Path == "" || endpoint.Path == "/" {
		endpoint.Path = defaultPath
	}
	t := &traces{transport: http.DefaultTransport.(*http.Transport).Clone(), sampler: sampler{o.SampleRatio, o.TrustParent}, report: o.Report}
	next, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(endpoint.String()), otlptracehttp.WithHeaders(o.Headers),
		otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
		otlptracehttp.WithHTTPClient(&http.Client{Transport: t.transport, Timeout: exportTimeout, CheckRedirect: stayThere}))
	if err != nil {
		return nil, err
	}
	// OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say more, or otherwise.
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(semconv.ServiceName("rollcall"), semconv.ServiceVersion(o.Version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	t.exporter = &exporter{SpanExporter: next, report: o.Report}
	t.batches = sdktrace.NewBatchSpanProcessor(t.exporter, sdktrace.WithExportTimeout(exportTimeout))
	t.provider = sdktrace.NewTracerProvider(sdktrace.WithResource(about), sdktrace.WithSampler(t.sampler),
		sdktrace.WithSpanProcessor(t.batches))
	t.tracer = t.provider.Tracer("rollcall")
	return t, nil
}

// stayThere follows no redirection: headers may hold a secret.
func stayThere(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// watch begins the span of each request, as a part of the trace that its traceparent names (W3C Trace Context).
func (t *traces) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		caller := callerHeaders{propagation.HeaderCarrier(r.Header), t.sampler.trustParent}
		ctx, span := t.tracer.Start(t.parents.Extract(r.Context(), caller), "HTTP", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// callerHeaders are a request's. Every span of the trace would carry its tracestate: a stranger's counts for nothing.
type callerHeaders struct {
	propagation.HeaderCarrier
	trusted bool
}

// Get implements [propagation.TextMapCarrier].
func (c callerHeaders) Get(key string) string {
	value := c.HeaderCarrier.Get(key)
	if key == "tracestate" && (!c.trusted || len(value) > maxState) {
		return ""
	}
	return value
}

func (t *traces) request(ctx context.Context, method, route string, status int) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	name := method
	if !methods[method] {
		method, name = "_OTHER", "HTTP"
	}
	attributes := []attribute.KeyValue{semconv.HTTPRequestMethodKey.String(method)}
	if route != "" {
		name += " " + route
		attributes = append(attributes, semconv.HTTPRoute(route))
	}
	if status != 0 {
		attributes = append(attributes, semconv.HTTPResponseStatusCode(status))
	}
	span.SetName(name)
	span.SetAttributes(attributes...)
	if status == 0 || status >= http.StatusInternalServerError {
		span.SetStatus(codes.Error, "")
	}
}

// troubles are the results of an operation that are the directory server's fault, or the connection's.
var troubles = map[string]bool{
	"timeout": true, "connection-lost": true, "busy": true, "unavailable": true, "operationsError": true, "protocolError": true, "other": true, "unknown": true,
}

// operation makes a span for an LDAP operation that belongs to one that is recorded.
func (t *traces) operation(ctx context.Context, name, result string, begun time.Time, took time.Duration) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return
	}
	_, span := t.tracer.Start(ctx, "LDAP "+name, trace.WithTimestamp(begun), trace.WithSpanKind(trace.SpanKindClient),
		trace.WithAttributes(attribute.String("ldap.operation", name), attribute.String("ldap.result", result)))
	if troubles[result] {
		span.SetStatus(codes.Error, result)
		span.SetAttributes(semconv.ErrorTypeKey.String(result))
	}
	span.End(trace.WithTimestamp(begun.Add(took)))
}

func (t *traces) id(ctx context.Context) string {
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		return span.TraceID().String()
	}
	return ""
}

func (t *traces) through(next http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(next, otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(t.parents))
}

func (t *traces) flush(ctx context.Context) {
	if err := t.batches.ForceFlush(ctx); err != nil {
		t.report("traces could not be sent before the end", err)
	}
}

// close sends what waits. When the context ends it gives up what is not sent: the provider's own Shutdown would leave
// that running.
func (t *traces) close(ctx context.Context) {
	patient := context.WithoutCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = t.exporter.Shutdown(patient) })
	defer stop()
	if err := t.batches.Shutdown(patient); err != nil {
		t.report("traces could not be sent before the end", err)
	}
	t.transport.CloseIdleConnections()
}

// sampler draws by lot which requests are recorded. By the id of the trace, as is usual, strangers could choose: they
// can send one.
type sampler struct {
	ratio       float64
	trustParent bool
}

// ShouldSample implements [sdktrace.Sampler].
func (s sampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	parent := trace.SpanContextFromContext(p.ParentContext)
	result := sdktrace.SamplingResult{Decision: sdktrace.Drop, Tracestate: parent.TraceState()}
	sampled := rand.Float64() < s.ratio //nolint:gosec // a lot, not a secret
	if parent.IsValid() && (!parent.IsRemote() || s.trustParent) {
		sampled = parent.IsSampled()
	}
	if sampled {
		result.Decision = sdktrace.RecordAndSample
	}
	return result
}

// Description implements [sdktrace.Sampler].
func (s sampler) Description() string {
	return fmt.Sprintf("rollcall{ratio:%g,trustParent:%t}", s.ratio, s.trustParent)
}

// exporter reports what can't be sent, once in a while.
type exporter struct {
	sdktrace.SpanExporter
	report func(what string, err error)

	mutex    sync.Mutex
	reported time.Time
	lost     int // spans since then
}

// ExportSpans implements [sdktrace.SpanExporter].
func (e *exporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := e.SpanExporter.ExportSpans(ctx, spans)
	if err == nil {
		return nil
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	e.lost += lost(err, len(spans))
	now := time.Now()
	if !e.reported.IsZero() && now.Sub(e.reported) < reportEvery {
		return nil
	}
	what := "the receiver of traces warns"
	if e.lost > 0 {
		what = fmt.Sprintf("traces can't be sent; %d spans are lost", e.lost)
	}
	e.report(what, brief{err})
	e.reported, e.lost = now, 0
	return nil
}

// partial is the error of a batch that the receiver took in part, or as a whole with a warning. It has no type that
// others can see.
var partial = regexp.MustCompile(`(?s)^traces export: OTLP partial success: .*\((\d+) spans rejected\)$`)

// lost returns how many of a batch of spans are, by the error that sending it ended with.
func lost(err error, batch int) int {
	if match := partial.FindStringSubmatch(err.Error()); match != nil {
		if rejected, err := strconv.Atoi(match[1]); err == nil {
			return min(rejected, batch)
		}
	}
	return batch
}

// maxCause is how much is told of what a receiver answers.
const maxCause = 300

// brief is an error that does not say at length what others sent.
type brief struct{ error }

// Error implements error.
func (b brief) Error() string {
	if text := b.error.Error(); len(text) > maxCause {
		return text[:maxCause] + "…"
	}
	return b.error.Error()
}

// Unwrap returns the error.
func (b brief) Unwrap() error { return b.error }
