package rest

import (
	"html/template"
	"net/http"
	"strings"
)

// answerPage answers with a page of some data where a browser asks, else with a document as JSON.
func answerPage(w http.ResponseWriter, r *http.Request, page *template.Template, document, data any) error {
	w.Header().Add("Vary", "Accept")
	if !strings.Contains(r.Header.Get("Accept"), "text/html") {
		return answerJSON(w, r, http.StatusOK, document)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	return page.Execute(w, data)
}

// pageHead is what every page begins with, given its title.
var pageHead = template.Must(template.New("head").Parse(`<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Rollcall: {{.}}</title>
<style>
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
body { max-width: 44rem; margin: 2rem auto; padding: 0 1rem }
h2 { margin: 2rem 0 0; font-size: 1.1rem }
p { margin: .2rem 0 }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #8884 }
dt { font-weight: bold }
</style>
`))
