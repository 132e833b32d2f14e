package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"unicode/utf8"
)

// maxAuthKeys is the most bytes of an answer, some thousand keys.
const maxAuthKeys = 1 << 20

// AuthKeys returns the lines of authorized_keys (sshd(8)) by which a user may log in to a host now. An answer that may
// not be all of it is an error. A [*Problem] has a Code only if it is of type application/problem+json (RFC 9457 §3).
func (c *Client) AuthKeys(ctx context.Context, host, user string) (string, error) {
	query := url.Values{"host": {host}, "username": {user}}
	response, err := c.open(ctx, http.MethodGet, "/authkeys?"+query.Encode(), nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAuthKeys+1))
	switch {
	case response.StatusCode != http.StatusOK:
		if isOf("application/problem+json", response.Header) != nil {
			body = nil // of somebody in between, whose codes are not the API's
		}
		return "", problemOf(response.StatusCode, response.Header, body)
	case err != nil:
		return "", err
	case len(body) > maxAuthKeys:
		return "", fmt.Errorf("%w: it is longer than %d bytes", ErrUnexpected, maxAuthKeys)
	case endsUnsaid(response):
		return "", fmt.Errorf("%w: it has no Content-Length", ErrUnexpected)
	case !utf8.Valid(body):
		return "", fmt.Errorf("%w: it is not UTF-8", ErrUnexpected)
	}
	return string(body), isOf("text/plain", response.Header)
}

// endsUnsaid reports whether an answer ends with its connection, and so whole or cut off alike (RFC 9112 §6.3).
func endsUnsaid(r *http.Response) bool {
	return r.ProtoMajor == 1 && r.ContentLength < 0 && !slices.Contains(r.TransferEncoding, "chunked") && !r.Uncompressed
}
