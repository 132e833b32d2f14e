package telemetry

import (
	"context"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Bounds of what somebody can do who reaches the listener. A profile takes as long as was asked for on top.
const (
	readTimeout   = 5 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	scrapeTimeout = 10 * time.Second
	maxHeader     = 16 << 10
	maxScrapes    = 4 // at a time
)

// server is the private listener.
type server struct {
	*http.Server
	address string
	running sync.WaitGroup
}

// serve begins to listen. Who can reach the address can read everything there; on a loopback address, that is nobody
// else's page in a browser.
func serve(ctx context.Context, o Options, registry *prometheus.Registry) (*server, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("%w: set telemetry.listen to another address", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorLog: complaints{o.Report}, MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout,
	}))
	if o.Profiles {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("POST /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	var handler http.Handler = mux
	if address, err := netip.ParseAddrPort(listener.Addr().String()); err == nil && address.Addr().IsLoopback() {
		handler = withoutNames(mux)
	}
	s := &server{address: listener.Addr().String(), Server: &http.Server{
		Handler: handler, ReadHeaderTimeout: readTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeader, ErrorLog: stdlog.New(complaints{o.Report}, "", 0),
	}}
	s.running.Go(func() {
		if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			o.Report("metrics are not served any more", err)
		}
	})
	return s, nil
}

// withoutNames refuses hosts that are neither an address nor localhost: anybody can have a name of theirs lead here,
// and pages from there read what is answered (DNS rebinding).
func withoutNames(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = strings.TrimSuffix(strings.TrimPrefix(r.Host, "["), "]")
		}
		if _, err := netip.ParseAddr(host); err != nil && !strings.EqualFold(host, "localhost") {
			http.Error(w, "Ask for an IP address or localhost.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// close ends the listener and what is being read from it.
func (s *server) close() {
	_ = s.Close() // of a listener: nothing is lost
	s.running.Wait()
}

// complaints reports what others would write to a log.
type complaints struct {
	report func(what string, err error)
}

// Println implements promhttp.Logger.
func (c complaints) Println(words ...any) { c.report("metrics", errors.New(fmt.Sprint(words...))) }

// Write implements [io.Writer].
func (c complaints) Write(text []byte) (int, error) {
	c.report("the listener for metrics", errors.New(string(text)))
	return len(text), nil
}
