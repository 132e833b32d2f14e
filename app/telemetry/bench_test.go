package telemetry_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"rollcall/app/telemetry"
)

// BenchmarkARead is what a read of one entry costs besides its work: a request and an LDAP operation.
func BenchmarkARead(b *testing.B) {
	receiver := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer receiver.Close()
	for _, c := range []struct {
		name    string
		options telemetry.Options
	}{
		{"off", telemetry.Options{}},
		{"metrics", telemetry.Options{Listen: anyPort}},
		{"metrics and a tenth of the traces", telemetry.Options{Listen: anyPort, Endpoint: receiver.URL, SampleRatio: 0.1}},
		{"metrics and all traces", telemetry.Options{Listen: anyPort, Endpoint: receiver.URL, SampleRatio: 1}},
	} {
		b.Run(c.name, func(b *testing.B) {
			c.options.Report = func(string, error) {}
			w, err := telemetry.Start(b.Context(), c.options)
			if err != nil {
				b.Fatal(err)
			}
			handler := w.Watch(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				w.Operation(r.Context(), "search", "success", time.Now(), time.Millisecond)
				w.Request(r.Context(), r.Method, "/users/{name}", http.StatusOK, time.Millisecond)
				_ = w.Trace(r.Context())
			}))
			r, answer := httptest.NewRequest(http.MethodGet, "/users/alice", nil), httptest.NewRecorder()
			b.ReportAllocs()
			for b.Loop() {
				handler.ServeHTTP(answer, r)
			}
			w.Close(b.Context())
		})
	}
}
