package rest

import (
	"context"
	"crypto/rand"
	"errors"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"rollcall/app/auth"
	"rollcall/app/directory"
)

// handler answers a request, or returns the error to answer with.
type handler func(w http.ResponseWriter, r *http.Request) error

// methods are what a resource can do. HEAD and OPTIONS need no mention.
type methods map[string]handler

// exchange is what is learned of one request and its answer, for the log.
type exchange struct {
	id, route, caller string
	// address is the client's.
	address string
	err     error
	usage   directory.Usage
	lines   int  // of a bulk request
	probe   bool // one of many, by a machine that watches
}

type exchangeKey struct{}

func exchangeOf(r *http.Request) *exchange {
	return r.Context().Value(exchangeKey{}).(*exchange)
}

// observed gives each request an id and logs it when it has been answered.
func (a *api) observed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		x := &exchange{id: requestID(r), address: a.address(r)}
		w.Header().Set("X-Request-Id", x.id)
		a.protect(w.Header(), r)
		answer := &answer{ResponseWriter: w}
		ctx := directory.WithUsage(context.WithValue(r.Context(), exchangeKey{}, x), &x.usage)
		defer func() {
			took := time.Since(begun)
			if a.Observe != nil {
				a.Observe(ctx, r.Method, x.route, answer.status, took)
			}
			a.log(r, x, answer, took)
		}()
		next.ServeHTTP(answer, r.WithContext(ctx))
	})
}

// log writes the one line of a request. It names no query, body or header: any may hold a secret.
func (a *api) log(r *http.Request, x *exchange, answer *answer, took time.Duration) {
	level := logrus.InfoLevel
	switch {
	case answer.status >= http.StatusInternalServerError && r.Context().Err() == nil: // else the client has gone
		level = logrus.ErrorLevel
	case x.probe && answer.status == http.StatusOK:
		level = logrus.DebugLevel
	}
	if !a.Log.IsLevelEnabled(level) {
		return
	}
	fields := logrus.Fields{
		"request_id": x.id, "method": r.Method, "route": x.route, "status": answer.status, "address": x.address,
		"duration_ms": milliseconds(took), "ldap_operations": x.usage.Operations(), "ldap_ms": milliseconds(x.usage.Time()),
	}
	if x.caller != "" {
		fields["caller"] = x.caller
	}
	if x.lines > 0 {
		fields["lines"] = x.lines
	}
	if x.err != nil {
		fields["error"] = x.err.Error()
	}
	if a.Trace != nil {
		if trace := a.Trace(r.Context()); trace != "" {
			fields["trace_id"] = trace
		}
	}
	a.Log.WithFields(fields).Log(level, "request")
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// recovered answers a panic with a problem and logs where it came from.
func (a *api) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			cause := recover()
			if cause == nil {
				return
			}
			if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(cause)
			}
			a.logPanic(r, cause)
			if w.(*answer).status != 0 {
				panic(http.ErrAbortHandler)
			}
			a.refuse(w, r, &directory.Error{Code: directory.Internal})
		}()
		next.ServeHTTP(w, r)
	})
}

// logPanic is called while a panic unwinds.
func (a *api) logPanic(r *http.Request, cause any) {
	a.Log.WithField("request_id", exchangeOf(r).id).Errorf("panic: %v\n%s", cause, debug.Stack())
}

// routed serves a resource by its methods (RFC 9110 §9).
func (a *api) routed(route string, methods methods) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		exchangeOf(r).route = route
		method := r.Method
		if method == http.MethodHead {
			method = http.MethodGet
		}
		handle, ok := methods[method]
		if ok {
			if err := handle(w, r); err != nil {
				a.refuse(w, r, err)
			}
			return
		}
		w.Header().Set("Allow", methods.allowed())
		if method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		a.refuse(w, r, &directory.Error{Code: directory.MethodNotAllowed})
	})
}

func (m methods) allowed() string {
	names := []string{http.MethodOptions}
	for name := range m {
		names = append(names, name)
		if name == http.MethodGet {
			names = append(names, http.MethodHead)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

func (a *api) noSuchRoute(w http.ResponseWriter, r *http.Request) {
	a.refuse(w, r, &directory.Error{Code: directory.NoSuchRoute})
}

// bounded gives the request its deadline. One that may write is not given up because its client has gone.
func (a *api) bounded(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx := r.Context()
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			ctx = context.WithoutCancel(ctx)
		}
		ctx, cancel := context.WithTimeout(ctx, a.RequestTimeout)
		defer cancel()
		return next(w, r.WithContext(ctx))
	}
}

// authenticated finds out who is calling, by a bearer token (RFC 6750) or HTTP Basic (RFC 7617).
func (a *api) authenticated(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, err := a.identified(r.Context(), r)
		if err != nil {
			return err
		}
		caller, _ := directory.CallerFrom(ctx)
		exchangeOf(r).caller = caller.Login
		return next(w, r.WithContext(ctx))
	}
}

// called gives a handler its deadline and its caller.
func (a *api) called(next handler) handler { return a.bounded(a.authenticated(next)) }

// identified returns a context with the caller of a request as it is now.
func (a *api) identified(ctx context.Context, r *http.Request) (context.Context, error) {
	credentials, ok := credentialsOf(r)
	if !ok {
		return nil, &directory.Error{Code: directory.CredentialsRequired}
	}
	credentials.Address = exchangeOf(r).address
	caller, err := a.Authenticate(ctx, credentials)
	if err != nil {
		return nil, err
	}
	caller.Address, caller.RequestID = credentials.Address, exchangeOf(r).id
	return directory.WithCaller(ctx, caller), nil
}

// credentialsOf returns what the Authorization header holds, if it is anything that is understood.
func credentialsOf(r *http.Request) (auth.Credentials, bool) {
	if login, password, ok := r.BasicAuth(); ok {
		return auth.Credentials{Login: login, Password: password}, true
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return auth.Credentials{Token: token}, strings.EqualFold(scheme, "Bearer") && token != ""
}

// requestID returns the client's X-Request-Id where it is fit to be logged, else a new one.
func requestID(r *http.Request) string {
	id := r.Header.Get("X-Request-Id")
	sane := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-_.:/+=", c)
	}
	if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(c rune) bool { return !sane(c) }) {
		return rand.Text()
	}
	return id
}

// answer remembers the status of what it answers.
type answer struct {
	http.ResponseWriter
	status int
}

// WriteHeader implements [http.ResponseWriter].
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap is for [http.ResponseController].
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
