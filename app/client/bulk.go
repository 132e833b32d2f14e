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
	"sync"
	"time"
)

const (
	typeNDJSON = "application/x-ndjson"
	// requestTimeout is the code of a server that has waited for lines in vain.
	requestTimeout = "request-timeout"
)

// Result is what became of one line of a bulk request.
type Result struct {
	Line     int      `json:"line"`
	Status   int      `json:"status"`
	Name     string   `json:"name"`
	Location string   `json:"location"`
	ETag     string   `json:"etag"`
	Problem  *Problem `json:"problem"`
	// Error is there in place of all else where the server can't go on.
	Error *Problem `json:"error"`
}

// Line is an entry to be imported, as JSON on one line.
type Line struct {
	Number int
	Text   []byte
	// End is where the line ends, in bytes from the beginning of what it was read from.
	End int64
}

// ReadLines reads the lines that are not empty from the one with a number on, until the context ends. When the channel
// is closed, err says why the last was not the end.
func ReadLines(ctx context.Context, r io.Reader, from int) (lines <-chan Line, err func() error) {
	read := make(chan Line)
	var failure error
	go func() {
		defer close(read)
		reader := bufio.NewReader(r)
		end := int64(0)
		for number := 1; ; number++ {
			text, err := reader.ReadBytes('\n')
			end += int64(len(text))
			if text = bytes.TrimSpace(text); number >= from && len(text) > 0 && (err == nil || errors.Is(err, io.EOF)) {
				select {
				case read <- Line{number, text, end}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					failure = err
				}
				return
			}
		}
	}()
	return read, func() error { return failure }
}

// Import is a bulk request that is made again from where it broke off.
type Import struct {
	Client *Client
	// Path is the collection, such as "/users".
	Path string
	// Create refuses what is there already, in place of replacing it.
	Create bool
	// Stop ends the import with the first line that is refused.
	Stop bool
	// RetryFor is how long to try again without getting on before giving up.
	RetryFor time.Duration
	// Result is called for each line, in order.
	Result func(Line, Result)
	// Retrying is called before each wait.
	Retrying func(err error, wait time.Duration)

	// sent are the lines without a result, of which the first so many are in the request that is under way.
	mutex  sync.Mutex
	sent   []Line
	next   int
	source <-chan Line
	ended  bool // the source has
	failed bool // a line was refused
}

// The first and the longest wait before trying again.
const (
	firstWait   = 200 * time.Millisecond
	longestWait = 10 * time.Second
	// silence is how long a server may say nothing before it is given up.
	silence = 2 * time.Minute
)

// Run sends lines until there are no more. Where a connection breaks, or the server or its directory is away for a
// while, it goes on with the first line that has no result.
func (i *Import) Run(ctx context.Context, lines <-chan Line) error {
	i.source = lines
	wait, deadline := firstWait, time.Now().Add(i.RetryFor)
	for {
		whole, err := i.awaitLine(ctx)
		if whole || err != nil {
			return err
		}
		results := 0
		err = i.request(ctx, &results)
		if results > 0 {
			wait, deadline = firstWait, time.Now().Add(i.RetryFor)
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && i.Stop && i.failed:
			return nil
		case err == nil || isCode(err, requestTimeout) && results > 0: // the lines came too slowly: begin again with the next
			continue
		case !temporary(err) || time.Now().After(deadline):
			return err
		}
		i.Retrying(err, wait)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, longestWait)
	}
}

// awaitLine returns when there is a line to send, or reports that none is left.
func (i *Import) awaitLine(ctx context.Context) (whole bool, err error) {
	if len(i.sent) > 0 || i.ended {
		return len(i.sent) == 0, nil
	}
	select {
	case line, more := <-i.source:
		if !more {
			i.ended = true
			return true, nil
		}
		i.sent = append(i.sent, line)
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// request sends lines and takes their results until either ends.
func (i *Import) request(ctx context.Context, results *int) error {
	ctx, cancel := context.WithCancel(ctx)
	silent := time.AfterFunc(silence, cancel)
	defer silent.Stop()
	body, pipe := io.Pipe()
	i.next = 0
	var sending sync.WaitGroup
	sending.Go(func() { _ = pipe.CloseWithError(i.send(ctx, pipe)) })
	defer sending.Wait()
	defer body.Close()
	defer cancel()

	method, query := http.MethodPut, ""
	if i.Create {
		method = http.MethodPost
	}
	if i.Stop {
		query = "?onError=stop"
	}
	response, err := i.Client.open(ctx, method, i.Path+query, body, "Content-Type", typeNDJSON, "Accept", typeNDJSON)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		answer, err := io.ReadAll(response.Body)
		if err != nil {
			return err
		}
		return problemOf(response.StatusCode, answer)
	}
	answer := bufio.NewReader(response.Body)
	for {
		text, err := answer.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			return i.wasWhole()
		}
		if err != nil {
			return err
		}
		silent.Reset(silence)
		var result Result
		if err := json.Unmarshal(text, &result); err != nil {
			return fmt.Errorf("%w: %w", errUnexpected, err)
		}
		if result.Error != nil {
			return result.Error
		}
		*results++
		if err := i.take(result, *results); err != nil {
			return err
		}
	}
}

// take takes the result of the first line that has none.
func (i *Import) take(result Result, number int) error {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	if result.Line != number || i.next == 0 || (result.Problem == nil) == (result.Status >= http.StatusBadRequest) {
		return fmt.Errorf("%w: a result for line %d, not %d", errUnexpected, result.Line, number)
	}
	if result.Problem != nil && (temporary(result.Problem) || result.Status == http.StatusUnauthorized) {
		return result.Problem
	}
	line := i.sent[0]
	i.sent = i.sent[1:]
	i.next--
	i.failed = i.failed || result.Problem != nil
	result.Line = line.Number
	i.Result(line, result)
	return nil
}

// wasWhole returns an error unless every line has a result.
func (i *Import) wasWhole() error {
	i.mutex.Lock()
	defer i.mutex.Unlock()
	if i.Stop && i.failed || i.ended && len(i.sent) == 0 {
		return nil
	}
	return io.ErrUnexpectedEOF
}

// send writes lines: first those that have been sent before. An error ends the request as broken off.
func (i *Import) send(ctx context.Context, w io.Writer) error {
	for {
		i.mutex.Lock()
		if i.next == len(i.sent) && !i.ended {
			i.mutex.Unlock()
			select {
			case line, more := <-i.source:
				i.mutex.Lock()
				if i.ended = !more; more {
					i.sent = append(i.sent, line)
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if i.next == len(i.sent) {
			i.mutex.Unlock()
			return nil
		}
		line := i.sent[i.next]
		i.next++
		i.mutex.Unlock()
		if _, err := w.Write(append(bytes.Clone(line.Text), '\n')); err != nil {
			return err
		}
	}
}

func isCode(err error, code string) bool {
	problem, ok := errors.AsType[*Problem](err)
	return ok && problem.Code == code
}

// errUnexpected is what a server of another kind, or version, leads to.
var errUnexpected = errors.New("the server's answer is not what was expected")

// temporary reports whether trying again may help.
func temporary(err error) bool {
	if problem, ok := errors.AsType[*Problem](err); ok {
		return problem.Status == http.StatusBadGateway || problem.Status == http.StatusServiceUnavailable ||
			problem.Status == http.StatusGatewayTimeout || problem.Code == requestTimeout
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	if unknown, ok := errors.AsType[*net.DNSError](err); ok && unknown.IsNotFound {
		return false
	}
	return !errors.Is(err, errUnexpected) && !errors.Is(err, http.ErrSchemeMismatch)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
