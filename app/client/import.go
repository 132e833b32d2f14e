package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"time"
)

const (
	// alreadyExists is the code of a creation of what is there.
	alreadyExists = "already-exists"
	// maxLine is the longest line that is read, in bytes.
	maxLine = 16 << 20
	// A request has so many lines, or bytes: a proxy may collect a whole one before it passes it on.
	batchLines = 1000
	batchBytes = 512 << 10
	// gathering is how long the first line of a request waits for others.
	gathering = 100 * time.Millisecond
	// silence is how long a server may say nothing before it is given up.
	silence = 2 * time.Minute
	// The first and the longest wait before trying again.
	firstWait   = 200 * time.Millisecond
	longestWait = 10 * time.Second
)

// Line is an entry to be imported, as JSON on one line.
type Line struct {
	Number int
	Text   []byte
	// End is where the line ends, in bytes from the beginning of what it was read from.
	End int64
	// Again tells that it has been sent before, by a request that broke off.
	Again bool
}

// Result is what became of one line.
type Result struct {
	Line    int      `json:"line"`
	Status  int      `json:"status"`
	Name    string   `json:"name"`
	Problem *Problem `json:"problem"`
	// Changes are what a dry run would have the directory change.
	Changes []json.RawMessage `json:"changes"`
	// Error is there in place of all else where the server can't go on.
	Error *Problem `json:"error"`
}

// WasThere reports whether a creation was refused that may have been made by a request that broke off.
func (r Result) WasThere(line Line) bool {
	return line.Again && r.Problem != nil && r.Problem.Code == alreadyExists
}

// Lines are read while others are being sent.
type Lines struct {
	read chan Line
	err  error // when read is closed: why before the end
}

// ReadLines reads the lines that are not empty from the one with a number on, until the context ends. Whether they are
// right is the server's to say, but a first one that is no object is of another kind of file.
func ReadLines(ctx context.Context, r io.Reader, from int) *Lines {
	l := &Lines{read: make(chan Line)}
	go func() {
		defer close(l.read)
		l.err = l.scan(ctx, r, from)
	}()
	return l
}

func (l *Lines) scan(ctx context.Context, r io.Reader, from int) error {
	end, number := int64(0), 0
	scanner := bufio.NewScanner(r)
	scanner.Buffer(nil, maxLine)
	scanner.Split(func(data []byte, atEOF bool) (int, []byte, error) {
		advance, text, err := bufio.ScanLines(data, atEOF)
		end += int64(advance)
		return advance, text, err
	})
	for first := true; scanner.Scan(); {
		number++
		text := scanner.Bytes()
		if number == 1 {
			text = bytes.TrimPrefix(text, []byte("\ufeff"))
		}
		text = bytes.TrimSpace(text)
		if len(text) == 0 || number < from {
			continue
		}
		if first && !(text[0] == '{' && json.Valid(text)) {
			return fmt.Errorf("line %d is no JSON object: each line must be one, such as {\"cn\":\"alice\"}; jq -c '.[]' makes lines of an array", number)
		}
		first = false
		select {
		case l.read <- Line{Number: number, Text: bytes.Clone(text), End: end}:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	if errors.Is(scanner.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("line %d is longer than %d MiB", number+1, maxLine>>20)
	}
	return scanner.Err()
}

// batch returns the next lines, as many as a request has; none at the end.
func (l *Lines) batch(ctx context.Context) ([]Line, error) {
	var batch []Line
	var over <-chan time.Time
	for size := 0; len(batch) < batchLines && size < batchBytes; {
		select {
		case line, more := <-l.read:
			if !more && len(batch) == 0 {
				return nil, l.err
			}
			if !more {
				return batch, nil
			}
			if len(batch) == 0 {
				over = time.After(gathering)
			}
			batch = append(batch, line)
			size += len(line.Text)
		case <-over:
			return batch, nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return batch, nil
}

// Import creates or replaces entries. Where a connection breaks, or the server or its directory is away for a while,
// it goes on with the first line that has no result.
type Import struct {
	Client *Client
	// Path is the collection, such as "/users".
	Path string
	// Create refuses what is there already, in place of replacing it.
	Create bool
	// Stop ends the import with the first line that is refused.
	Stop bool
	// DryRun only finds out what would become of the lines.
	DryRun bool
	// RetryFor is how long to try again without getting on before giving up.
	RetryFor time.Duration
	// Result is called for each line, in order.
	Result func(Line, Result)
	// Retrying is called before each wait, unless it is nil.
	Retrying func(err error, wait time.Duration)

	refused bool
}

// Run imports lines until there are no more.
func (i *Import) Run(ctx context.Context, lines *Lines) error {
	for {
		batch, err := lines.batch(ctx)
		if len(batch) == 0 {
			return err
		}
		if err := i.apply(ctx, batch); err != nil || i.stopped() {
			return err
		}
	}
}

func (i *Import) stopped() bool { return i.Stop && i.refused }

// apply sends lines until each has a result.
func (i *Import) apply(ctx context.Context, batch []Line) error {
	retry := newRetry(i.RetryFor, i.Retrying)
	for len(batch) > 0 && !i.stopped() {
		done, err := i.send(ctx, batch)
		batch = batch[done:]
		if done > 0 {
			retry = newRetry(i.RetryFor, i.Retrying)
		}
		if err == nil {
			continue
		}
		for n := range batch {
			batch[n].Again = true
		}
		if err := retry.wait(ctx, err); err != nil {
			return err
		}
	}
	return nil
}

// send makes one request, and returns how many of the lines have a result. Without an error the others were not begun.
func (i *Import) send(ctx context.Context, batch []Line) (done int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silent := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer silent.Stop()
	defer func() {
		if err != nil && errors.Is(context.Cause(ctx), errSilent) {
			err = errSilent
		}
	}()
	answer, err := i.open(ctx, batch)
	if err != nil {
		return 0, err
	}
	defer answer.Close()
	failed := false
	for results := json.NewDecoder(answer); ; {
		var result Result
		err := results.Decode(&result)
		silent.Reset(silence)
		switch {
		case errors.Is(err, io.EOF) && (done == len(batch) || i.Stop && failed):
			return done, nil
		case errors.Is(err, io.EOF):
			return done, io.ErrUnexpectedEOF
		case err != nil:
			return done, err
		case result.Error != nil:
			return done, result.Error
		case done == len(batch) || result.Line != done+1 || (result.Problem == nil) == (result.Status >= http.StatusBadRequest):
			return done, fmt.Errorf("%w: a result for line %d, not %d", ErrUnexpected, result.Line, done+1)
		case result.Problem != nil && (temporary(result.Problem) || result.Status == http.StatusUnauthorized):
			return done, result.Problem
		case result.Status == http.StatusFailedDependency && !i.refused: // after one that was there
			return done, nil
		}
		line := batch[done]
		failed = failed || result.Problem != nil
		i.refused = i.refused || result.Problem != nil && !result.WasThere(line)
		done++
		i.Result(line, result)
	}
}

// open sends lines and returns where their results are to be read.
func (i *Import) open(ctx context.Context, batch []Line) (io.ReadCloser, error) {
	method, query := http.MethodPut, url.Values{}
	if i.Create {
		method = http.MethodPost
	}
	if i.Stop {
		query.Set("onError", "stop")
	}
	if i.DryRun {
		query.Set("dryRun", "true")
	}
	var body []byte
	for _, line := range batch {
		body = append(append(body, line.Text...), '\n')
	}
	response, err := i.Client.open(ctx, method, i.Path+"?"+query.Encode(), bytes.NewReader(body), "Content-Type", typeNDJSON, "Accept", typeNDJSON)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK {
		if err := isOf(typeNDJSON, response.Header); err != nil {
			return nil, errors.Join(err, response.Body.Close())
		}
		return response.Body, nil
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	return nil, problemOf(response.StatusCode, response.Header, answer)
}

// retry waits longer and longer, until it has been too long.
type retry struct {
	next     time.Duration
	deadline time.Time
	tell     func(err error, wait time.Duration)
}

func newRetry(patience time.Duration, tell func(error, time.Duration)) *retry {
	return &retry{firstWait, time.Now().Add(patience), tell}
}

// wait waits before the next attempt, or returns why there is none.
func (r *retry) wait(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case !temporary(err) || time.Now().After(r.deadline):
		return err
	}
	if r.tell != nil {
		r.tell(err, r.next)
	}
	select {
	case <-time.After(r.next):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	r.next = min(2*r.next, longestWait)
	return nil
}

// errSilent ends a request that nobody answers.
var errSilent = fmt.Errorf("the server has said nothing for %v", silence)

// passing are the statuses of what passes. Too many logins fail where others try to guess a password; an upload stalls
// where the way to the server does.
var passing = []int{http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout}

// temporary reports whether trying again may help.
func temporary(err error) bool {
	if problem, ok := errors.AsType[*Problem](err); ok {
		return slices.Contains(passing, problem.Status)
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok && unknown.IsNotFound {
		return false
	}
	return !errors.Is(err, ErrUnexpected) && !errors.Is(err, http.ErrSchemeMismatch)
}
