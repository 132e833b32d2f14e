package rest

import (
	"net/http"
	"net/url"

	"rollcall/app/directory"
)

const paramDryRun = "dryRun"

// plan is the answer to a dry run.
type plan struct {
	DryRun bool `json:"dryRun"`
	// Status is what the request would be answered with.
	Status int `json:"status"`
	// AskedDirectory tells that the directory server was asked as well, and would make the first change.
	AskedDirectory bool               `json:"askedDirectory"`
	Changes        []directory.Record `json:"changes"`
}

// writing gives a handler that changes something its deadline, its caller, and dry runs.
func (a *api) writing(next handler) handler { return a.called(a.planned(next)) }

// planned has a request only say what it would change, where it asks for that by dryRun=true. Everything is done but
// the changes, which are answered in place of what the request would be answered with.
func (a *api) planned(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		dry, err := isDryRun(r)
		if err != nil {
			return err
		}
		if !dry {
			return next(w, r)
		}
		mediaType := accepted(r, typeJSON, typeLDIF)
		if mediaType == "" {
			return &directory.Error{Code: directory.NotAcceptable, Detail: "Accept " + typeJSON + " or " + typeLDIF + "."}
		}
		made := &directory.Plan{}
		unseen := &unseenAnswer{header: w.Header(), status: http.StatusOK}
		asJSON := r.Clone(directory.WithPlan(r.Context(), made))
		asJSON.Header.Del("Accept")
		if err := next(unseen, asJSON); err != nil {
			return err
		}
		for _, name := range []string{"ETag", "Location", "Content-Length"} {
			w.Header().Del(name)
		}
		if mediaType == typeLDIF {
			body := []byte("version: 1\n\n")
			for _, record := range made.Records() {
				body = record.AppendLDIF(body)
			}
			answerAs(w, http.StatusOK, typeLDIF+"; charset=utf-8", body)
			return nil
		}
		return answerJSON(w, r, http.StatusOK, planOf(made, unseen.status))
	}
}

func planOf(made *directory.Plan, status int) plan {
	return plan{true, status, made.Asked(), append([]directory.Record{}, made.Records()...)}
}

// isDryRun reads the parameters of a request that changes something. One that is not known may be one misspelt, and
// the change not meant.
func isDryRun(r *http.Request, others ...string) (bool, error) {
	parameters, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return false, badQuery("The query is not properly escaped.")
	}
	if err := onlyOnce(parameters, append(others, paramDryRun)); err != nil {
		return false, err
	}
	dry := parameters.Get(paramDryRun)
	if parameters.Has(paramDryRun) && dry != directory.True && dry != directory.False {
		return false, badQuery("dryRun must be true or false.")
	}
	return dry == directory.True, nil
}

// unseenAnswer is an answer that nobody gets.
type unseenAnswer struct {
	header http.Header
	status int
}

// Header implements [http.ResponseWriter].
func (u *unseenAnswer) Header() http.Header { return u.header }

// WriteHeader implements [http.ResponseWriter].
func (u *unseenAnswer) WriteHeader(status int) { u.status = status }

// Write implements [http.ResponseWriter].
func (u *unseenAnswer) Write(b []byte) (int, error) { return len(b), nil }
