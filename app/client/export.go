package client

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxPage is the most entries that the server puts on a page.
const maxPage = 1000

// Export is a list that is read page by page. Where a connection breaks, or the server or its directory is away for a
// while, it goes on with the page that is missing.
type Export struct {
	Client *Client
	// Path is the collection, such as "/users".
	Path string
	// Accept is the media type.
	Accept string
	// Query are the parameters of the list, such as filter. Pages are as large as they may be unless it has a limit.
	Query url.Values
	// Count has the entries counted first.
	Count bool
	// RetryFor is how long to try again for a page before giving up.
	RetryFor time.Duration
	// Page is called for each page, and with how many entries there are in all; 0 where that is not known.
	Page func(page []byte, total int) error
	// Retrying is called before each wait, unless it is nil.
	Retrying func(err error, wait time.Duration)
}

// Run reads all pages.
func (e *Export) Run(ctx context.Context) error {
	query := maps.Clone(e.Query)
	if query == nil {
		query = url.Values{}
	}
	if !query.Has("limit") {
		query.Set("limit", strconv.Itoa(maxPage))
	}
	if e.Count {
		query.Set("count", "true")
	}
	total := 0
	for {
		response, err := e.page(ctx, query)
		if err != nil {
			return err
		}
		if n, err := strconv.Atoi(response.Header.Get("X-Total-Count")); err == nil {
			total = n
		}
		if err := e.Page(response.Body, total); err != nil {
			return err
		}
		cursor := nextCursor(response.Header)
		if cursor == "" {
			return nil
		}
		query = url.Values{"cursor": {cursor}}
	}
}

// page reads a page, again where the connection breaks.
func (e *Export) page(ctx context.Context, query url.Values) (*Response, error) {
	for retry := newRetry(e.RetryFor, e.Retrying); ; {
		timed, cancel := context.WithTimeout(ctx, silence)
		response, err := e.Client.Call(timed, http.MethodGet, e.Path+"?"+query.Encode(), nil, nil, "Accept", e.Accept)
		cancel()
		if err == nil {
			return response, isOf(e.Accept, response.Header)
		}
		if err := retry.wait(ctx, err); err != nil {
			return nil, err
		}
	}
}

// nextCursor returns the cursor of the next page, "" on the last. Where the server thinks that it is reached does not
// matter.
func nextCursor(header http.Header) string {
	for _, link := range header.Values("Link") {
		target, parameters, _ := strings.Cut(link, ">")
		if !strings.Contains(parameters, `rel="next"`) {
			continue
		}
		if next, err := url.Parse(strings.TrimPrefix(target, "<")); err == nil {
			return next.Query().Get("cursor")
		}
	}
	return ""
}
