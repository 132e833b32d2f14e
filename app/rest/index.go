package rest

import (
	"context"
	"net/http"
	"strings"
	"time"

	"rollcall/app/directory"
)

// indexPatience is how long the page waits for the directory server to give a sign of life.
const indexPatience = 2 * time.Second

// index says what this is and where to go.
func (a *api) index(w http.ResponseWriter, r *http.Request) error {
	wanted, err := prefersPage(w, r)
	if err != nil {
		return err
	}
	if wanted {
		return a.showPage(w, r, indexPage, pagePolicy, a.state(r))
	}
	links := map[string]string{"errors": a.url(r, "/errors"), "health": a.url(r, "/healthz"), "readiness": a.url(r, "/readyz"),
		"access": a.url(r, "/docs/access"), "me": a.url(r, "/me"), "docs": a.url(r, "/docs"), "openapi": a.url(r, "/openapi.json")}
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

var indexPage = pageOf("index.html")

// state is what the first page shows.
type state struct {
	Kinds         []*directory.Kind
	URL, BasePath string
	// Fault is why the directory is not ready; nil where it is.
	Fault *directory.Error
}

func (a *api) state(r *http.Request) state {
	s := state{Kinds: a.Kinds, URL: a.url(r, ""), BasePath: a.BasePath}
	ctx, cancel := context.WithTimeout(r.Context(), indexPatience)
	defer cancel()
	if _, err := a.readiness.look(ctx); err != nil {
		exchangeOf(r).err = err
		s.Fault = refusal(err)
	}
	return s
}

// Last is the place of the last of the kinds.
func (s state) Last() int { return len(s.Kinds) - 1 }

// Quoted is the address of a path as a shell takes it for one word: a host name may hold what means something to a
// shell.
func (s state) Quoted(path string) string {
	return "'" + strings.ReplaceAll(s.URL+path, "'", `'\''`) + "'"
}
