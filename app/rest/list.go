package rest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"rollcall/app/directory"
)

// The parameters of a list.
const (
	paramFilter = "filter"
	paramSearch = "search"
	paramFields = "fields"
	paramSort   = "sort"
	paramLimit  = "limit"
	paramCount  = "count"
	paramCursor = "cursor"
)

const (
	defaultLimit = 100
	maxLimit     = 1000
)

// list answers with a page of entries, or in the formats that are streamed with all of them, unless there is a limit.
func (e entries) list(w http.ResponseWriter, r *http.Request) error {
	offers := []string{typeJSON, typeNDJSON, typeCSV, typeLDIF}
	mediaType := accepted(r, offers...)
	if mediaType == "" {
		return &directory.Error{Code: directory.NotAcceptable, Detail: "Accept one of " + strings.Join(offers, ", ") + "."}
	}
	query, parameters, err := e.queryOf(r)
	if err != nil {
		return err
	}
	format := formatOf(mediaType, e.kind, query)
	query.Sources = format.sources
	ctx, cancel := context.WithTimeout(r.Context(), e.RequestTimeout) // streams have none but to count
	defer cancel()
	if parameters.Get(paramCount) == directory.True && query.After == nil {
		count, err := e.Directory.Count(ctx, e.kind, query.Filter)
		if err != nil {
			return err
		}
		w.Header().Set("X-Total-Count", strconv.Itoa(count))
	}
	w.Header().Add("Vary", "Accept")
	if format.streamed && !parameters.Has(paramLimit) {
		return e.stream(w, r, e.identified, query, format)
	}
	page, err := e.Directory.Page(ctx, e.kind, query)
	if err != nil {
		return err
	}
	if page.Next != nil {
		parameters.Del(paramCount)
		sealed, err := e.Cursors.seal(e.kind.Name, parameters, page.Next, sightOf(ctx))
		if err != nil {
			return &directory.Error{Code: directory.Internal, Cause: err}
		}
		next := e.url(r, "/"+e.kind.Name) + "?" + url.Values{paramCursor: {sealed}}.Encode()
		w.Header().Set("Link", "<"+next+`>; rel="next"`)
	}
	var body []byte
	if query.After == nil || !format.streamed {
		body = format.begin(body)
	} else { // what follows a page of a stream begins like no document
		format.mediaType = strings.Replace(format.mediaType, "header=present", "header=absent", 1)
	}
	for i, entry := range page.Entries {
		body = format.entry(body, entry, i == 0)
	}
	answerAs(w, http.StatusOK, format.mediaType, format.end(body))
	return nil
}

// queryOf reads a query, and the parameters that it is made of.
func (e entries) queryOf(r *http.Request) (directory.Query, url.Values, error) {
	parameters, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return directory.Query{}, nil, badQuery("The query is not properly escaped.")
	}
	known := []string{paramFilter, paramSearch, paramFields, paramSort, paramLimit, paramCount, paramCursor}
	if err := onlyOnce(parameters, known); err != nil {
		return directory.Query{}, nil, err
	}
	var place *directory.Place
	if parameters.Has(paramCursor) {
		if len(parameters) > 1 {
			return directory.Query{}, nil, badQuery("A cursor stands alone: it holds the other parameters.")
		}
		if parameters, place, err = e.Cursors.open(e.kind.Name, parameters.Get(paramCursor), sightOf(r.Context())); err != nil {
			return directory.Query{}, nil, err
		}
	}
	query, err := e.parseQuery(parameters)
	query.After = place
	return query, parameters, err
}

// parseQuery reads the parameters of a query.
func (e entries) parseQuery(parameters url.Values) (query directory.Query, err error) {
	query.Limit = defaultLimit
	if parameters.Has(paramLimit) {
		query.Limit, err = strconv.Atoi(parameters.Get(paramLimit))
		if err != nil || query.Limit < 1 || query.Limit > maxLimit {
			return query, badQuery("limit must be a number from 1 to %d.", maxLimit)
		}
	}
	if count := parameters.Get(paramCount); parameters.Has(paramCount) && count != directory.True && count != directory.False {
		return query, badQuery("count must be true or false.")
	}
	if parameters.Has(paramFilter) {
		if query.Filter, err = directory.ParseFilter(e.kind, parameters.Get(paramFilter)); err != nil {
			return query, err
		}
	}
	if parameters.Has(paramSearch) {
		search, err := directory.SearchFilter(e.kind, parameters.Get(paramSearch))
		if err != nil {
			return query, err
		}
		query.Filter = directory.AllOf(query.Filter, search)
	}
	if parameters.Has(paramFields) {
		if query.Fields, err = directory.ParseFields(e.kind, parameters.Get(paramFields)); err != nil {
			return query, err
		}
	}
	if parameters.Has(paramSort) {
		query.Sort, err = directory.ParseSort(e.kind, parameters.Get(paramSort))
	}
	return query, err
}

// onlyOnce returns an error unless each parameter is known and given once.
func onlyOnce(parameters url.Values, known []string) error {
	for name, values := range parameters {
		if !slices.Contains(known, name) {
			return badQuery("There is no parameter %q here. There are: %s.", shown(name), strings.Join(known, ", "))
		}
		if len(values) > 1 {
			return badQuery("%s is given more than once.", name)
		}
	}
	return nil
}

func badQuery(format string, a ...any) error {
	return &directory.Error{Code: directory.BadRequest, Detail: fmt.Sprintf(format, a...)}
}

// piece is how many bytes of a stream are collected before they are sent.
const piece = 64 << 10

// identifier returns a context with whoever a request is from as they are now.
type identifier func(ctx context.Context, r *http.Request) (context.Context, error)

// pager returns the next page of what is streamed, and whether there are more.
type pager func(ctx context.Context) (page directory.Page, more bool, err error)

// stream answers with everything that a query asks for.
func (e entries) stream(w http.ResponseWriter, r *http.Request, identify identifier, query directory.Query, format format) error {
	query.Limit = maxLimit
	if r.Method == http.MethodHead {
		query.Limit = 1 // to find out whether it can be had
	}
	return e.streamPages(w, r, identify, func(ctx context.Context) (directory.Page, bool, error) {
		page, err := e.Directory.Page(ctx, e.kind, query)
		query.After = page.Next
		return page, page.Next != nil, err
	}, format)
}

// streamPages answers with everything, page by page: the next page is read while one is sent, and no more. Nothing is
// sent before the first is there, and what fails later breaks the answer off, so that a short answer never looks like a
// whole one.
func (a *api) streamPages(w http.ResponseWriter, r *http.Request, identify identifier, next pager, format format) error {
	if err := showsItsEnd(r); err != nil {
		return err
	}
	if r.Method == http.MethodHead {
		if _, _, err := next(r.Context()); err != nil {
			return err
		}
		w.Header().Set("Content-Type", format.mediaType)
		w.WriteHeader(http.StatusOK)
		return nil
	}
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Time{})
	defer func() { _ = control.SetWriteDeadline(time.Now().Add(a.WriteTimeout)) }() // for what is left to be written
	body := format.begin(make([]byte, 0, piece+piece/4))
	sent := false
	send := func(flush bool) {
		if !sent {
			w.Header().Set("Content-Type", format.mediaType)
			sent = true
		}
		if err := sendPiece(control, w, body, a.WriteTimeout, flush); err != nil {
			exchangeOf(r).err = fmt.Errorf("the answer was not read: %w", err)
			panic(http.ErrAbortHandler)
		}
		body = body[:0]
	}
	ctx, cancel := context.WithCancel(r.Context())
	pages := a.ahead(ctx, r, identify, next)
	defer func() {
		cancel()
		for range pages { // until the last read has ended
		}
	}()
	first := true
	for page := range pages {
		if page.err != nil && !sent && first {
			return page.err
		}
		if page.err != nil {
			exchangeOf(r).err = page.err
			if format.failure != nil {
				body = format.failure(body, a.problemOf(r, page.err))
			}
			send(true)
			panic(http.ErrAbortHandler)
		}
		for _, entry := range page.Entries {
			body = format.entry(body, entry, first)
			first = false
			if len(body) >= piece {
				send(false)
			}
		}
	}
	body = format.end(body)
	send(false)
	return nil
}

// showsItsEnd returns an error where the answer would end as the connection does, for whatever reason.
func showsItsEnd(r *http.Request) error {
	if r.ProtoAtLeast(1, 1) {
		return nil
	}
	return badQuery("What has no length takes HTTP/1.1, to tell its end from a failure. A proxy in between must speak it as well.")
}

// sendPiece writes a piece of an answer, and sends what is buffered where that is wanted. The client has so long for
// it, and between pieces there is no deadline: in HTTP/2 one that passes ends the stream, written to or not.
func sendPiece(control *http.ResponseController, w io.Writer, body []byte, timeout time.Duration, flush bool) error {
	_ = control.SetWriteDeadline(time.Now().Add(timeout)) // not every writer has deadlines
	_, err := w.Write(body)
	if err == nil && flush {
		err = control.Flush()
	}
	_ = control.SetWriteDeadline(time.Time{})
	return err
}

// readPage is a page, or why there is none.
type readPage struct {
	directory.Page
	err error
}

// ahead reads the pages that are next, one ahead of whoever receives them, until the context ends. Before each it finds
// out again who is calling, a stream may last: whoever sees less than at its beginning would take it for whole.
func (a *api) ahead(ctx context.Context, r *http.Request, identify identifier, next pager) <-chan readPage {
	pages := make(chan readPage)
	go func() {
		defer close(pages)
		for more := true; more; {
			var page directory.Page
			caller, err := identify(ctx, r)
			if err == nil && sightOf(caller) != sightOf(r.Context()) {
				err = errSightChanged(directory.Forbidden)
			}
			if err == nil {
				page, more, err = next(caller)
			}
			select {
			case pages <- readPage{page, err}:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return pages
}
