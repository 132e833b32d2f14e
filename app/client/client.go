// Package client is a Go client of the API, for the command line and the tests.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"rollcall/app/directory"
)

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
)

// ErrUnexpected is what a server of another kind, or version, leads to.
var ErrUnexpected = errors.New("the answer is not what was expected")

// Client talks to one API as one caller, and follows no redirects: they might lead its password elsewhere. It is safe
// for concurrent use.
type Client struct {
	// URL is the address of the API, base path included.
	URL string
	// Login and Password are sent by HTTP Basic where Login is not "".
	Login, Password string
	// Token is sent as a bearer token where it is not "".
	Token string
	// HTTP is what requests go through; http.DefaultClient when nil.
	HTTP *http.Client
}

// Entry is a user, group or host, by field.
type Entry map[string]any

// Response is what came back for one request.
type Response struct {
	Status int
	Header http.Header
	Body   []byte
}

// Problem is an answer that is no success, RFC 9457.
type Problem struct {
	Type       string                `json:"type"`
	Title      string                `json:"title"`
	Status     int                   `json:"status"`
	Detail     string                `json:"detail"`
	Instance   string                `json:"instance"`
	Code       string                `json:"code"`
	RequestID  string                `json:"requestId"`
	Violations []directory.Violation `json:"violations"`
}

// Error says what the API said.
func (p *Problem) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%d)", p.Title, p.Status)
	if p.Detail != "" {
		b.WriteString(": " + p.Detail)
	}
	for i, v := range p.Violations {
		b.WriteString([]string{" ", "; "}[min(i, 1)] + v.Field + " " + v.Message)
	}
	return b.String()
}

// Path returns the path of an entry, or of what is below it, each part escaped.
func Path(parts ...string) string {
	var b strings.Builder
	for _, part := range parts {
		escaped := url.PathEscape(part)
		if part == "." || part == ".." { // clients and proxies would take it for a step
			escaped = strings.ReplaceAll(part, ".", "%2E")
		}
		b.WriteString("/" + escaped)
	}
	return b.String()
}

// Do sends a request and returns whatever comes back. A body that is no []byte is sent as JSON. Headers come in
// pairs of name and value.
func (c *Client) Do(ctx context.Context, method, path string, body any, headers ...string) (*Response, error) {
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case []byte:
		content = bytes.NewReader(b)
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(encoded)
	}
	if content != nil {
		headers = append([]string{"Content-Type", typeJSON}, headers...)
	}
	response, err := c.open(ctx, method, path, content, headers...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return &Response{response.StatusCode, response.Header, answer}, nil
}

// open sends a request and returns the answer with its body still to be read, and to be closed.
func (c *Client) open(ctx context.Context, method, path string, content io.Reader, headers ...string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, strings.TrimRight(c.URL, "/")+path, content)
	if err != nil {
		return nil, err
	}
	switch {
	case c.Token != "":
		request.Header.Set("Authorization", "Bearer "+c.Token)
	case c.Login != "":
		request.SetBasicAuth(c.Login, c.Password)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	through := http.Client{}
	if c.HTTP != nil {
		through = *c.HTTP
	}
	through.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return through.Do(request)
}

// Call sends a request, decodes a success into result unless that is nil, and returns anything else as a [*Problem].
func (c *Client) Call(ctx context.Context, method, path string, body, result any, headers ...string) (*Response, error) {
	response, err := c.Do(ctx, method, path, body, headers...)
	if err != nil {
		return nil, err
	}
	if response.Status >= http.StatusMultipleChoices {
		return response, problemOf(response.Status, response.Header, response.Body)
	}
	if result == nil {
		return response, nil
	}
	if err := isOf(typeJSON, response.Header); err != nil {
		return response, err
	}
	if err := json.Unmarshal(response.Body, result); err != nil {
		return response, fmt.Errorf("%s %s: %w: %w", method, path, ErrUnexpected, err)
	}
	return response, nil
}

// isOf returns an error unless an answer is of a media type.
func isOf(mediaType string, header http.Header) error {
	if found, _, _ := mime.ParseMediaType(header.Get("Content-Type")); found != mediaType {
		return fmt.Errorf("%w: it is %q, not %s", ErrUnexpected, found, mediaType)
	}
	return nil
}

// problemOf reads an answer that is no success.
func problemOf(status int, header http.Header, body []byte) *Problem {
	var problem Problem
	if err := json.Unmarshal(body, &problem); err == nil && problem.Code != "" {
		problem.Status = status
		if wait := header.Get("Retry-After"); wait != "" {
			problem.Detail += " Retry-After: " + wait + " seconds."
		}
		return &problem
	}
	problem = Problem{Status: status, Title: http.StatusText(status), Detail: "The answer is no problem document."}
	if location := header.Get("Location"); location != "" && status < http.StatusBadRequest {
		problem.Detail = "It is at " + location + ". Redirects are not followed."
	}
	return &problem
}
