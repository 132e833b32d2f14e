package rest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"rollcall/app/rest"
)

// recorded is the handler of an API whose every answer is held against the API's own OpenAPI document. What does not
// fit fails the test. Benchmarks are left alone.
func recorded(t testing.TB, o rest.Options) http.Handler {
	t.Helper()
	handler := rest.New(o)
	if _, ok := t.(*testing.B); ok {
		return handler
	}
	document, err := describedBy(o.Kinds)
	if err != nil {
		t.Fatalf("the OpenAPI document: %v", err)
	}
	r := &recorder{t: t, next: handler, document: document, basePath: o.BasePath}
	t.Cleanup(r.end)
	return r
}

// recorder stands between a server and the handler.
type recorder struct {
	next     http.Handler
	document *described
	basePath string

	judging sync.RWMutex // held for reading by those that judge
	mutex   sync.Mutex
	t       testing.TB // nil when the test has ended
}

// mostRecorded is how many bytes of a body are kept.
const mostRecorded = 4 << 20

// answered is a request with its answer.
type answered struct {
	*http.Request
	sent, body kept
	status     int
	header     http.Header
	// brokenOff tells that the answer has no end.
	brokenOff bool
}

// ServeHTTP implements [http.Handler].
func (r *recorder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	x := &answered{Request: request}
	passed := *request
	if request.Body != http.NoBody {
		passed.Body = &teeReader{request.Body, &x.sent}
	}
	defer func() {
		cause := recover()
		x.brokenOff = cause != nil
		r.judge(x)
		if cause != nil {
			panic(cause)
		}
	}()
	r.next.ServeHTTP(&teeWriter{w, x}, &passed)
}

func (r *recorder) judge(x *answered) {
	r.judging.RLock()
	defer r.judging.RUnlock()
	if x.status == 0 && x.brokenOff {
		return // nobody was answered
	}
	if x.status == 0 {
		x.status, x.header = http.StatusOK, http.Header{}
	}
	o, code, faults := r.document.judge(x, r.basePath)
	if len(faults) > 0 {
		r.fail(fmt.Sprintf("%sdoes not fit the OpenAPI document: %s", x, strings.Join(faults, "; ")))
	} else if o.Operation != nil {
		seen.add(o, x.status, code)
	}
}

func (r *recorder) fail(what string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.t == nil {
		belated.add(what)
		return
	}
	r.t.Error(what)
}

func (r *recorder) end() {
	r.judging.Lock() // until the last has judged
	defer r.judging.Unlock()
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.t = nil
}

// String returns the request and the answer.
func (x *answered) String() string {
	return fmt.Sprintf("%s %s (%s) %.2000s\nanswered by %d %v\n%.4000s\n", x.Method, x.RequestURI, x.Request.Header.Get("Content-Type"), x.sent.bytes(),
		x.status, x.header, x.body.bytes())
}

// kept is the beginning of a body.
type kept struct {
	mutex sync.Mutex
	text  bytes.Buffer
	// more tells that it went on.
	more bool
}

func (k *kept) add(p []byte) {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	room := mostRecorded - k.text.Len()
	k.more = k.more || len(p) > room
	k.text.Write(p[:min(len(p), room)])
}

func (k *kept) bytes() []byte {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.text.Bytes()
}

type teeReader struct {
	io.ReadCloser
	kept *kept
}

// Read implements [io.Reader].
func (t *teeReader) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	t.kept.add(p[:n])
	return n, err
}

type teeWriter struct {
	http.ResponseWriter
	x *answered
}

// WriteHeader implements [http.ResponseWriter].
func (t *teeWriter) WriteHeader(status int) {
	if t.x.status == 0 {
		t.x.status, t.x.header = status, t.Header().Clone()
	}
	t.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (t *teeWriter) Write(p []byte) (int, error) {
	if t.x.status == 0 {
		t.x.status, t.x.header = http.StatusOK, t.Header().Clone()
	}
	n, err := t.ResponseWriter.Write(p)
	t.x.body.add(p[:n])
	return n, err
}

// Unwrap is for [http.ResponseController].
func (t *teeWriter) Unwrap() http.ResponseWriter { return t.ResponseWriter }
