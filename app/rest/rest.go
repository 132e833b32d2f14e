// Package rest puts HTTP in front of a [directory.Directory]. It is the only package that knows HTTP: it maps
// requests to calls, entries to JSON, and errors to problem documents (RFC 9457).
package rest

import (
	"context"
	"maps"
	"net/http"
	"net/netip"
	"slices"
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
	// Keyring adds and removes SSH keys, behind the same guards.
	Keyring *directory.Keyring
	// Reach finds out who may log in where by SSH.
	Reach *directory.Reach
	// Paths finds out who is in which groups, through others too.
	Paths *directory.Paths
	// TrustedNetworks are from where hosts may ask without a token of theirs.
	TrustedNetworks []netip.Prefix
	// Kinds are the collections, each at its name.
	Kinds []*directory.Kind
	// Authenticate returns the caller with these credentials.
	Authenticate func(ctx context.Context, credentials auth.Credentials) (directory.Caller, error)
	// Logins gives out tokens.
	Logins *auth.Authenticator
	// Checks are what must hold before requests can be served; where the first does not, the others can't.
	Checks []directory.Check
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
	// Observe is told of each request when it has been answered: the path as in the table of routes, "" for any other,
	// and status 0 where it was cut off before its answer. Nil: nobody watches.
	Observe func(ctx context.Context, method, route string, status int, took time.Duration)
	// Trace returns what the trace is called that a request belongs to, for the log; "" where there is none.
	Trace func(ctx context.Context) string
	Log   *logrus.Logger
}

type api struct {
	Options
	// documents describe the API, as JSON and as YAML.
	documents func() (asJSON, asYAML []byte)
	readiness readiness
}

// New returns the handler of the whole API.
func New(o Options) http.Handler {
	a := &api{Options: o, readiness: readiness{checks: o.Checks, timeout: o.RequestTimeout}}
	a.documents = sync.OnceValues(a.describe)
	router := mux.NewRouter().SkipClean(true).UseEncodedPath()
	router.NotFoundHandler = http.HandlerFunc(a.noSuchRoute)
	resources := a.resources()
	for _, path := range slices.Sorted(maps.Keys(resources)) { // the first that fits is taken, and a name comes before "{"
		router.Handle(o.BasePath+path, a.routed(o.BasePath+path, resources[path]))
	}
	router.Handle(o.BasePath+assetRoute, a.routed(o.BasePath+assetRoute, methods{http.MethodGet: a.bounded(a.asset)}))
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
		"/logout":  {http.MethodDelete: a.called(a.logout)},
		"/me":      {http.MethodGet: a.called(a.me)},

		"/authkeys": {http.MethodGet: a.bounded(a.authorizedKeys)},
		"/access":   {http.MethodGet: a.called(a.mayLogIn)},

		"/docs":                  {http.MethodGet: a.bounded(a.docs)},
		"/docs/access":           {http.MethodGet: a.bounded(a.access)},
		"/openapi.json":          {http.MethodGet: a.bounded(a.openapiJSON)},
		"/openapi.yaml":          {http.MethodGet: a.bounded(a.openapiYAML)},
		"/.well-known/jwks.json": {http.MethodGet: a.bounded(a.keys)},
	}
	for _, kind := range a.Kinds {
		maps.Copy(resources, entries{a, kind}.resources())
	}
	return resources
}

// resources are the paths of the kind and what may be done there.
func (e entries) resources() map[string]methods {
	all, one := "/"+e.kind.Name, "/"+e.kind.Name+"/{name}"
	resources := map[string]methods{
		all:             {http.MethodGet: e.authenticated(e.list), http.MethodPost: e.post, http.MethodPut: e.authenticated(e.putAll)},
		one:             {http.MethodGet: e.called(e.get), http.MethodPut: e.writing(e.put), http.MethodPatch: e.writing(e.patch), http.MethodDelete: e.writing(e.delete)},
		one + "/rename": {http.MethodPost: e.writing(e.rename)},
	}
	has := func(field string) bool { _, ok := e.kind.Field(field); return ok }
	if has(directory.FieldMemberOfs) {
		resources[one+"/groups"] = methods{http.MethodGet: e.called(e.groups)}
	}
	if has(directory.FieldMembers) {
		resources[one+"/members"] = methods{http.MethodGet: e.authenticated(e.members)}
		resources[one+"/members/{kind}/{member}"] = methods{http.MethodPut: e.writing(e.addMember), http.MethodDelete: e.writing(e.removeMember)}
	}
	if has(directory.FieldUserPassword) {
		resources[one+"/password"] = methods{http.MethodPut: e.writing(e.putPassword)}
	}
	if has(directory.FieldSSHPublicKeys) {
		resources[one+"/keys"] = methods{http.MethodGet: e.called(e.listKeys), http.MethodPost: e.writing(e.addKey)}
		resources[one+"/keys/{fingerprint}"] = methods{http.MethodGet: e.called(e.getKey), http.MethodDelete: e.writing(e.removeKey)}
	}
	switch e.kind.Name {
	case directory.KindUsers:
		resources[one+"/hosts"] = methods{http.MethodGet: e.authenticated(e.reached)}
	case directory.KindHosts:
		resources[one+"/users"] = methods{http.MethodGet: e.authenticated(e.reached)}
		resources[one+"/token"] = methods{http.MethodPost: e.called(e.postToken), http.MethodDelete: e.called(e.deleteToken)}
		resources[all+"/known_hosts"] = methods{http.MethodGet: e.asked(e.knownHosts)}
	}
	return resources
}
