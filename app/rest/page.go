package rest

import (
	"bytes"
	"embed"
	"html/template"
	"net/http"
	"strings"

	"rollcall/app/directory"
)

// pagePolicy lets a page have its stylesheet and its icon, and nothing else.
const pagePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// ui holds the pages, and what they are made of.
//
//go:embed ui
var ui embed.FS

// pageOf returns the page whose title and main part are in a file.
func pageOf(file string) *template.Template {
	return template.Must(template.New("page.html").Funcs(template.FuncMap{"statusText": http.StatusText}).ParseFS(ui, "ui/page.html", "ui/"+file))
}

// view is what a page is made from.
type view struct {
	// Root leads from the page to the address of the API: pages have relative addresses only, since proxies may serve
	// them below any path.
	Root string
	// Route is the page's own.
	Route   string
	Version string
	Data    any
}

// prefersPage reports whether the client likes a page better than JSON.
func prefersPage(w http.ResponseWriter, r *http.Request) (bool, error) {
	w.Header().Add("Vary", "Accept")
	mediaType := accepted(r, typeJSON, typeHTML)
	if mediaType == "" {
		return false, &directory.Error{Code: directory.NotAcceptable, Detail: "Accept " + typeJSON + " or " + typeHTML + "."}
	}
	return mediaType == typeHTML, nil
}

// answerPage answers with a document as JSON or, where a browser asks, with a page of some data.
func (a *api) answerPage(w http.ResponseWriter, r *http.Request, page *template.Template, document, data any) error {
	wanted, err := prefersPage(w, r)
	if err != nil {
		return err
	}
	if wanted {
		return a.showPage(w, r, page, pagePolicy, data)
	}
	return answerJSON(w, r, http.StatusOK, document)
}

// showPage answers with a page that may do what a Content-Security-Policy lets it.
func (a *api) showPage(w http.ResponseWriter, r *http.Request, page *template.Template, policy string, data any) error {
	route := strings.TrimPrefix(exchangeOf(r).route, a.BasePath)
	root := "./" + strings.Repeat("../", strings.Count(route, "/")-1)
	var text bytes.Buffer
	if err := page.Execute(&text, view{root, route, a.Version, data}); err != nil {
		return &directory.Error{Code: directory.Internal, Cause: err}
	}
	w.Header().Set("Content-Security-Policy", policy)
	answerAs(w, http.StatusOK, typeHTML+"; charset=utf-8", text.Bytes())
	return nil
}
