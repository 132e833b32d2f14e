package docs_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// collector takes traces, and keeps what it was sent.
type collector struct {
	*httptest.Server
	mutex  sync.Mutex
	header []http.Header
	bodies [][]byte
}

func collect(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var body []byte
		plain, err := gzip.NewReader(r.Body)
		if err == nil {
			body, err = io.ReadAll(plain)
		}
		if err != nil || r.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		c.mutex.Lock()
		defer c.mutex.Unlock()
		c.header, c.bodies = append(c.header, r.Header), append(c.bodies, body)
	}))
	t.Cleanup(c.Close)
	return c
}

func TestTheGuideToWatchingShowsTraces(t *testing.T) {
	c, guide := collect(t), section(t, page(t, "monitoring.md"), "Traces")
	variables := map[string]string{
		"OTEL_RESOURCE_ATTRIBUTES":       "deployment.environment.name=the-test",
		"OTEL_SERVICE_NAME":              "the-service",
		"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1",
		"OTEL_EXPORTER_OTLP_COMPRESSION": "none",
		"OTEL_SDK_DISABLED":              "true",
		"OTEL_TRACES_EXPORTER":           "none",
		"OTEL_TRACES_SAMPLER":            "always_off",
		"OTEL_EXPORTER_OTLP_ENDPOINT":    "http://127.0.0.1:1",
		"OTEL_EXPORTER_OTLP_HEADERS":     "X-Key=from-elsewhere",
	}
	for name, value := range variables {
		if !strings.Contains(guide, strings.Replace(name, "_MAX_EXPORT_BATCH_SIZE", "_*", 1)) {
			t.Errorf("the guide says nothing of %s", name)
		}
		t.Setenv(name, value)
	}
	for name, ratio := range map[string]string{"all": "1", "none": "0"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			address, _ := serve(t, []string{
				"ROLLCALL_ENV=development", "ROLLCALL_EMBEDDED_DIR=" + filepath.Join(dir, "directory"), "ROLLCALL_SERVER_LISTEN=127.0.0.1:0",
				"ROLLCALL_LOG_FORMAT=json", "ROLLCALL_LOG_FILE=" + filepath.Join(dir, "rollcall.log"),
				"ROLLCALL_TELEMETRY_OTLP_ENDPOINT=" + c.URL, "ROLLCALL_TELEMETRY_SAMPLE_RATIO=" + ratio,
			})
			shell(t, dir, examples(strings.ReplaceAll(guide, usual, address)))
		})
	}

	// The program has ended, and what waited was sent.
	c.mutex.Lock()
	defer c.mutex.Unlock()
	all := bytes.Join(c.bodies, nil)
	for _, text := range []string{"GET /users/{name}", "http.request.method", "http.route", "http.response.status_code", "LDAP search", "ldap.operation", "ldap.result", "the-test", "the-service"} {
		if !bytes.Contains(all, []byte(text)) {
			t.Errorf("no %q was sent", text)
		}
	}
	if n := bytes.Count(all, []byte("GET /users/{name}")); n != 1 {
		t.Errorf("of one request by each of two, one of which records none, %d were sent", n)
	}
	span := regexp.MustCompile(`(?:GET /|LDAP )[a-z]`)
	for i, body := range c.bodies {
		if len(span.FindAll(body, -1)) > 1 || c.header[i].Get("X-Key") != "" || bytes.Contains(body, []byte("alice")) {
			t.Errorf("%q was sent with %v", body, c.header[i])
		}
	}
}

func TestTheGuideToWatchingShowsMetricsAndProfiles(t *testing.T) {
	guide := page(t, "monitoring.md")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	serve(t, []string{
		"ROLLCALL_ENV=development", "ROLLCALL_EMBEDDED_DIR=" + t.TempDir(), "ROLLCALL_SERVER_LISTEN=127.0.0.1:0",
		"ROLLCALL_TELEMETRY_LISTEN=" + address, "ROLLCALL_TELEMETRY_PPROF=true",
	})
	private := strings.NewReplacer("127.0.0.1:9090", address, "seconds=10", "seconds=1")
	for _, heading := range []string{"See it at once", "Profiles"} {
		shell(t, t.TempDir(), examples(private.Replace(section(t, guide, heading))))
	}
}

// examples are the blocks of a section that are run, and what they print.
func examples(text string) (all []block) {
	for _, b := range blocks(text) {
		if b.language == "sh" || b.language == "text" {
			all = append(all, b)
		}
	}
	return all
}
