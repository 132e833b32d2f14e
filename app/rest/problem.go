package rest

import (
	"cmp"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
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
	exchangeOf(r).err = err
	refused := refusal(err)
	code := refused.Code
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
	body, _ := json.Marshal(a.problemOf(r, refused)) // strings and numbers: can't fail
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(code.Status)
	_, _ = w.Write(append(body, '\n')) // the client has gone, or reads it
}

// refusal returns an error as one of the catalogue.
func refusal(err error) *directory.Error {
	refused, ok := errors.AsType[*directory.Error](err)
	if !ok {
		return &directory.Error{Code: directory.Internal}
	}
	return refused
}

// problemOf returns the document of an error in the answer to a request.
func (a *api) problemOf(r *http.Request, err error) problem {
	refused := refusal(err)
	code := refused.Code
	return problem{
		Type: a.errorPath(r, code), Title: code.Title, Status: code.Status, Detail: cmp.Or(refused.Detail, code.Remedy),
		Instance: r.URL.EscapedPath(), Code: code.Name, RequestID: exchangeOf(r).id, Violations: refused.Violations,
	}
}

func (a *api) errorPath(r *http.Request, code *directory.Code) string {
	return a.path(r, "/errors/"+code.Name)
}

// catalogued is one row of the error catalogue as clients see it.
type catalogued struct {
	Code   string `json:"code"`
	Status int    `json:"status"`
	Title  string `json:"title"`
	Remedy string `json:"remedy"`
	Type   string `json:"type"`
}

// catalogued returns the row of a code.
func (a *api) catalogued(r *http.Request, code *directory.Code) catalogued {
	return catalogued{code.Name, code.Status, code.Title, code.Remedy, a.errorPath(r, code)}
}

// errorsOfStatus are the errors with one status, for the page.
type errorsOfStatus struct {
	Status int
	Errors []catalogued
}

func (a *api) listErrors(w http.ResponseWriter, r *http.Request) error {
	var rows []catalogued
	for _, code := range directory.Catalogue() {
		rows = append(rows, a.catalogued(r, code))
	}
	var groups []errorsOfStatus
	for _, row := range slices.SortedStableFunc(slices.Values(rows), func(x, y catalogued) int { return x.Status - y.Status }) {
		if len(groups) == 0 || groups[len(groups)-1].Status != row.Status {
			groups = append(groups, errorsOfStatus{Status: row.Status})
		}
		group := &groups[len(groups)-1]
		group.Errors = append(group.Errors, row)
	}
	return a.answerPage(w, r, errorsPage, rows, groups)
}

func (a *api) getError(w http.ResponseWriter, r *http.Request) error {
	name := mux.Vars(r)["code"]
	for _, code := range directory.Catalogue() {
		if code.Name != name {
			continue
		}
		row := a.catalogued(r, code)
		example, _ := json.MarshalIndent(problem{ // strings and numbers: can't fail
			Type: row.Type, Title: row.Title, Status: row.Status, Detail: row.Remedy, Instance: a.BasePath + "/…",
			Code: row.Code, RequestID: exchangeOf(r).id,
		}, "", "  ")
		return a.answerPage(w, r, errorPage, row, struct {
			catalogued
			Wait    int
			Example string
		}{row, int(math.Ceil(code.RetryAfter.Seconds())), string(example)})
	}
	return &directory.Error{Code: directory.NotFound, Detail: "There is no such error code. GET /errors lists them."}
}

var (
	errorsPage = pageOf("errors.html")
	errorPage  = pageOf("error.html")
)
