// Package rest puts HTTP in front of a [directory.Directory]. It is the only package that knows HTTP: it maps
// requests to calls, entries to JSON, and errors to problem documents (RFC 9457).
package rest

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gorilla/mux"
	"github.com/sirupsen/logrus"

	"rollcall/app/auth"
	"rollcall/app/directory"
)

// Options say what the API serves, and within which limits.
type Options struct {
	// Directory is the outermost of the chain: whatever comes over HTTP goes through it.
	Directory directory.Directory
	// Kinds are the collections, each at its name.
	Kinds []*directory.Kind
	// Authenticate returns the caller with these credentials.
	Authenticate func(ctx context.Context, credentials auth.Credentials) (directory.Caller, error)
	// Logins gives out tokens.
	Logins *auth.Authenticator
	// Ready reports whether the directory server can be reached.
	Ready func(ctx context.Context) error
	// Version is the program's.
	Version string
	// Cursors seals the places in lists that clients are given.
	Cursors Cursors
	// BasePath is what every path starts with: "", or as "/api".
	BasePath string
	// TrustedProxies may say, by X-Forwarded-Proto, -Host and -Prefix, what the client asked for, and by -For who it is.
	TrustedProxies []netip.Prefix
	// CORSOrigins are the origins whose pages may use the API, each as a browser names it.
	CORSOrigins []string
	// RequestTimeout is how long a request may take, but for a stream or a bulk request, whose every step has its own time.
	RequestTimeout time.Duration
	// ReadTimeout is how long a client may take to send the next line of a bulk request; for ever where it is 0.
	ReadTimeout time.Duration
	// WriteTimeout is how long a client may take to read one piece of a stream or of a bulk request's answer.
	WriteTimeout time.Duration
	// MaxBodyBytes is the largest request body and, of a bulk request, the largest line.
	MaxBodyBytes int64
	// BulkConcurrency is how many lines of one bulk request are worked on at a time.
	BulkConcurrency int
	// RequireIfMatch refuses changes and deletions that do not say which state of the entry is meant.
	RequireIfMatch bool
	Log            *logrus.Logger
}

type api struct {
	Options
	// documents describe the API, as JSON and as YAML.
	documents func() (asJSON, asYAML []byte)
}

// New returns the handler of the whole API.
func New(o Options) http.Handler {
	a := &api{Options: o}
	a.documents = sync.OnceValues(a.describe)
	router := mux.NewRouter().SkipClean(true).UseEncodedPath()
	router.NotFoundHandler = http.HandlerFunc(a.noSuchRoute)
	for path, resource := range a.resources() {
		router.Handle(o.BasePath+path, a.routed(o.BasePath+path, resource))
	}
	return a.observed(a.recovered(a.shared(router)))
}

// resources are all paths and what may be done there.
func (a *api) resources() map[string]methods {
	resources := map[string]methods{
		"/":              {http.MethodGet: a.bounded(a.index)},
		"/healthz":       {http.MethodGet: a.bounded(a.healthy)},
		"/readyz":        {http.MethodGet: a.bounded(a.ready)},
		"/errors":        {http.MethodGet: a.bounded(a.listErrors)},
		"/errors/{code}": {http.MethodGet: a.bounded(a.getError)},

		"/login":   {http.MethodPost: a.bounded(a.login)},
		"/refresh": {http.MethodPost: a.bounded(a.refresh)},
		"/logout":  {http.MethodDelete: a.bounded(a.authenticated(a.logout))},
		"/me":      {http.MethodGet: a.bounded(a.authenticated(a.me))},

		"/docs/access":           {http.MethodGet: a.bounded(a.access)},
		"/openapi.json":          {http.MethodGet: a.bounded(a.openapiJSON)},
		"/openapi.yaml":          {http.MethodGet: a.bounded(a.openapiYAML)},
		"/.well-known/jwks.json": {http.MethodGet: a.bounded(a.keys)},
	}
	for _, kind := range a.Kinds {
		e := entries{a, kind}
		resources["/"+kind.Name] = methods{
			http.MethodGet:  a.authenticated(e.list),
			http.MethodPost: e.post,
			http.MethodPut:  a.authenticated(e.putAll),
		}
		resources["/"+kind.Name+"/{name}"] = methods{
			http.MethodGet:    a.bounded(a.authenticated(e.get)),
			http.MethodPut:    a.writing(e.put),
			http.MethodPatch:  a.writing(e.patch),
			http.MethodDelete: a.writing(e.delete),
		}
		resources["/"+kind.Name+"/{name}/rename"] = methods{
			http.MethodPost: a.writing(e.rename),
		}
		if _, ok := kind.Field(directory.FieldUserPassword); ok {
			resources["/"+kind.Name+"/{name}/password"] = methods{
				http.MethodPut: a.writing(e.putPassword),
			}
		}
		if _, ok := kind.Field(directory.FieldMembers); ok {
			resources["/"+kind.Name+"/{name}/members"] = methods{
				http.MethodGet: a.bounded(a.authenticated(e.members)),
			}
			resources["/"+kind.Name+"/{name}/members/{kind}/{member}"] = methods{
				http.MethodPut:    a.writing(e.addMember),
				http.MethodDelete: a.writing(e.removeMember),
			}
		}
	}
	return resources
}

// index says what this is and where to go.
func (a *api) index(w http.ResponseWriter, r *http.Request) error {
	links := map[string]string{"errors": a.url(r, "/errors"), "health": a.url(r, "/healthz"), "readiness": a.url(r, "/readyz"),
		"access": a.url(r, "/docs/access"), "me": a.url(r, "/me")}
	for _, kind := range a.Kinds {
		links[kind.Name] = a.url(r, "/"+kind.Name)
	}
	return answerJSON(w, r, http.StatusOK, struct {
		Name    string            `json:"name"`
		Version string            `json:"version"`
		Login   string            `json:"login"`
		Links   map[string]string `json:"links"`
	}{"Rollcall", a.Version, "POST /login, or HTTP Basic", links})
}

// healthy answers as long as the process does.
func (a *api) healthy(w http.ResponseWriter, r *http.Request) error {
	return answerJSON(w, r, http.StatusOK, status{"ok"})
}

// ready answers when the directory server does.
func (a *api) ready(w http.ResponseWriter, r *http.Request) error {
	if err := a.Ready(r.Context()); err != nil {
		return err
	}
	return answerJSON(w, r, http.StatusOK, status{"ready"})
}

type status struct {
	Status string `json:"status"`
}
