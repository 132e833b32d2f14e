package rest

import (
	"cmp"
	"encoding/json"
	"errors"
	"html/template"
	"math"
	"net/http"
	"strconv"

	"github.com/gorilla/mux"

	"rollcall/app/directory"
)

// problem is a problem document, RFC 9457.
type problem struct {
	Type       string                `json:"type"`
	Title      string                `json:"title"`
	Status     int                   `json:"status"`
	Detail     string                `json:"detail,omitempty"`
	Instance   string                `json:"instance"`
	Code       string                `json:"code"`
	RequestID  string                `json:"requestId"`
	Violations []directory.Violation `json:"violations,omitempty"`
}

// refuse answers with the problem that an error is.
func (a *api) refuse(w http.ResponseWriter, r *http.Request, err error) {
	x := exchangeOf(r)
	x.err = err
	refused, ok := errors.AsType[*directory.Error](err)
	if !ok {
		refused = &directory.Error{Code: directory.Internal}
	}
	code := refused.Code
	detail := refused.Detail
	if detail == "" {
		detail = code.Remedy
	}
	if code.Status == http.StatusUnauthorized {
		challenge := `Bearer realm="Rollcall"`
		if code == directory.InvalidToken {
			challenge += `, error="invalid_token"`
		}
		w.Header()["Www-Authenticate"] = []string{`Basic realm="Rollcall", charset="UTF-8"`, challenge}
	}
	if wait := cmp.Or(refused.RetryAfter, code.RetryAfter); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	}
	body, _ := json.Marshal(problem{ // strings and numbers: can't fail
		Type: a.errorPath(code), Title: code.Title, Status: code.Status, Detail: detail,
		Instance: r.URL.EscapedPath(), Code: code.Name, RequestID: x.id, Violations: refused.Violations,
	})
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(code.Status)
	_, _ = w.Write(append(body, '\n')) // the client has gone, or reads it
}

func (a *api) errorPath(code *directory.Code) string { return a.BasePath + "/errors/" + code.Name }

// catalogued is one row of the error catalogue as clients see it.
type catalogued struct {
	Code   string `json:"code"`
	Status int    `json:"status"`
	Title  string `json:"title"`
	Remedy string `json:"remedy"`
	Type   string `json:"type"`
}

func (a *api) listErrors(w http.ResponseWriter, r *http.Request) error {
	var rows []catalogued
	for _, code := range directory.Catalogue() {
		rows = append(rows, catalogued{code.Name, code.Status, code.Title, code.Remedy, a.errorPath(code)})
	}
	return answerPage(w, r, errorsPage, rows, rows)
}

func (a *api) getError(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["code"]
	for _, code := range directory.Catalogue() {
		if code.Name == name {
			row := catalogued{code.Name, code.Status, code.Title, code.Remedy, a.errorPath(code)}
			return answerPage(w, r, errorsPage, row, []catalogued{row})
		}
	}
	return &directory.Error{Code: directory.NotFound, Detail: "There is no such error code. GET /errors lists them."}
}

var errorsPage = template.Must(template.Must(pageHead.Clone()).New("page").Parse(`{{template "head" "errors"}}
<h1>{{if eq (len .) 1}}{{(index . 0).Title}}{{else}}Errors{{end}}</h1>
{{range .}}<h2 id="{{.Code}}"><a href="{{.Type}}">{{.Code}}</a> · {{.Status}}</h2>
<p><strong>{{.Title}}.</strong></p>
<p>{{.Remedy}}</p>
{{end}}</html>
`))
