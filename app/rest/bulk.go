package rest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/app/directory"
)

// What becomes of the lines after one that failed.
const (
	paramOnError    = "onError"
	onErrorStop     = "stop"
	onErrorContinue = "continue"
)

// linesAhead is how many times as many lines as are worked on at a time may wait for the result of an earlier one.
const linesAhead = 4

// post creates an entry or, of lines, one from each.
func (e entries) post(w http.ResponseWriter, r *http.Request) error {
	if mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); mediaType == typeNDJSON {
		return e.authenticated(e.createAll)(w, r)
	}
	return e.writing(e.create)(w, r)
}

func (e entries) createAll(w http.ResponseWriter, r *http.Request) error {
	return e.applyLines(w, r, func(ctx context.Context, l *line) (directory.Entry, bool, error) {
		entry, err := e.Directory.Create(ctx, e.kind, l.patch)
		return entry, true, err
	})
}

// putAll replaces entries and creates those that are not there. The line says which.
func (e entries) putAll(w http.ResponseWriter, r *http.Request) error {
	return e.applyLines(w, r, func(ctx context.Context, l *line) (directory.Entry, bool, error) {
		if l.name != "" && !e.RequireIfMatch {
			return e.replace(ctx, l.name, l.patch, directory.Condition{}, false)
		}
		entry, err := e.Directory.Create(ctx, e.kind, l.patch) // which says what is wrong where there is no name
		if directory.Is(err, directory.AlreadyExists) && e.RequireIfMatch {
			err = &directory.Error{Code: directory.PreconditionRequired, Detail: "There is such an entry, and a line can't say which state of it is meant. PUT it by itself."}
		}
		return entry, true, err
	})
}

// bulk is a request that is a line for each entry (NDJSON), and its answer.
type bulk struct {
	entries
	r       *http.Request
	control *http.ResponseController
	apply   func(ctx context.Context, l *line) (entry directory.Entry, created bool, err error)
	// stop ends it with the first line that fails.
	stop bool

	// undone are lines that are worked on, or wait for it or for those before them.
	undone []*line
	// unread is why no more lines could be read.
	unread error

	// done is how many lines are, stopped that none is begun any more.
	done    atomic.Int64
	stopped atomic.Bool
	// gone is why nobody is calling any more.
	gone atomic.Pointer[error]
}

// line is an entry in a bulk request.
type line struct {
	number int
	name   string
	patch  directory.Patch
	// claims are what no other entry can have, and after the lines before that are not done and claim the same.
	claims []string
	after  []*line

	// before is how many lines come before, and early that not all of them were done when this was begun.
	before int64
	begun  bool
	early  bool
	// tried is closed when entry, created and err are there, done when they stay.
	tried, done chan struct{}
	entry       directory.Entry
	created     bool
	err         error
}

// applyLines applies lines as they arrive, several at a time, and answers with their results in order. No more is
// read than can be worked on.
func (e entries) applyLines(w http.ResponseWriter, r *http.Request, apply func(context.Context, *line) (directory.Entry, bool, error)) error {
	if accepted(r, typeNDJSON) == "" {
		return &directory.Error{Code: directory.NotAcceptable, Detail: "Accept " + typeNDJSON + "."}
	}
	if _, err := contentType(w, r, typeNDJSON); err != nil {
		return err
	}
	if r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != "" {
		return &directory.Error{Code: directory.BadRequest, Detail: "If-Match and If-None-Match are for requests about a single entry."}
	}
	dry, err := isDryRun(r, paramOnError)
	if err != nil {
		return err
	}
	if dry {
		return badQuery("dryRun is for requests about a single entry.")
	}
	parameters := r.URL.Query()
	onError := parameters.Get(paramOnError)
	if parameters.Has(paramOnError) && onError != onErrorStop && onError != onErrorContinue {
		return badQuery("onError must be stop or continue.")
	}
	b := &bulk{entries: e, r: r, control: http.NewResponseController(w), apply: apply, stop: onError == onErrorStop}
	if r.ProtoMajor == 1 {
		if err := b.control.EnableFullDuplex(); err != nil {
			return &directory.Error{Code: directory.Internal, Cause: err}
		}
		w.Header().Set("Connection", "close") // what may be left of the body is no request
	}
	lines := make(chan *line, linesAhead*e.BulkConcurrency)
	var reading sync.WaitGroup
	reading.Go(func() { b.read(lines) })
	defer reading.Wait()
	b.answer(w, lines)
	return nil
}

// read reads lines and has them worked on. It returns when all of that has ended.
func (b *bulk) read(lines chan<- *line) {
	slots := make(chan struct{}, b.BulkConcurrency)
	var working sync.WaitGroup
	defer working.Wait()
	defer close(lines)
	reader := bufio.NewReaderSize(readerFunc(b.readBody), piece)
	place := int64(0)
	for number := 1; !b.stopped.Load(); number++ {
		text, err := b.readLine(reader)
		if err != nil && !directory.Is(err, directory.BodyTooLarge) {
			if !errors.Is(err, io.EOF) && !b.stopped.Load() {
				b.unread = bodyError(err)
			}
			return
		}
		if err == nil && len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		l := &line{number: number, before: place, err: err, tried: make(chan struct{}), done: make(chan struct{})}
		place++
		if err == nil {
			b.understand(l, text)
		}
		lines <- l
		slots <- struct{}{}
		working.Go(func() {
			b.work(l)
			<-slots
		})
	}
}

// readBody reads from the body. The client has so long for each piece; the server's deadline is for all of it.
func (b *bulk) readBody(p []byte) (int, error) {
	if b.ReadTimeout > 0 {
		_ = b.control.SetReadDeadline(time.Now().Add(b.ReadTimeout)) // not every reader has deadlines
	}
	if b.stopped.Load() {
		return 0, context.Canceled
	}
	n, err := b.r.Body.Read(p)
	_ = b.control.SetReadDeadline(time.Time{}) // in HTTP/2 one that passes ends the stream, read from or not
	return n, err
}

type readerFunc func(p []byte) (int, error)

// Read implements [io.Reader].
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// readLine returns the next line. What is too long it reads away.
func (b *bulk) readLine(reader *bufio.Reader) ([]byte, error) {
	var text []byte
	var tooLarge error
	for {
		part, err := reader.ReadSlice('\n')
		if tooLarge == nil {
			text = append(text, part...)
			if int64(len(bytes.TrimSuffix(text, []byte("\n")))) > b.MaxBodyBytes {
				text, tooLarge = nil, &directory.Error{Code: directory.BodyTooLarge}
			}
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && (len(text) > 0 || tooLarge != nil):
			return text, tooLarge
		case err != nil:
			return nil, err
		default:
			return text, tooLarge
		}
	}
}

// understand reads what a line holds, and which lines it must wait for.
func (b *bulk) understand(l *line, text []byte) {
	if l.patch, l.err = decodePatch(text, b.kind); l.err != nil {
		return
	}
	for i := range b.kind.Fields {
		f := &b.kind.Fields[i]
		values := l.patch.Set[f.Name]
		if len(values) == 0 {
			values = l.patch.Set[f.DefaultsTo]
		}
		if len(values) != 1 || f.Name != b.kind.Key && !f.Unique {
			continue
		}
		l.claims = append(l.claims, f.Name+"="+strings.ToLower(values[0]))
		if f.Name == b.kind.Key {
			l.name = values[0]
		}
	}
	b.undone = slices.DeleteFunc(b.undone, (*line).isDone)
	for _, earlier := range b.undone {
		if slices.ContainsFunc(l.claims, func(claim string) bool { return slices.Contains(earlier.claims, claim) }) {
			l.after = append(l.after, earlier)
		}
	}
	b.undone = append(b.undone, l)
}

func (l *line) isDone() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// work tries a line when it is its turn, unless the turn never comes.
func (b *bulk) work(l *line) {
	defer close(l.tried)
	for _, earlier := range l.after {
		<-earlier.done
	}
	l.after = nil
	switch {
	case l.err != nil:
	case b.stopped.Load():
		l.err = &directory.Error{Code: directory.NotAttempted}
	default:
		l.begun, l.early = true, b.done.Load() < l.before
		b.try(l)
	}
}

// try applies a line. One that was begun is ended, also where the client has gone.
func (b *bulk) try(l *line) {
	defer func() {
		if cause := recover(); cause != nil {
			b.logPanic(b.r, cause)
			l.err = &directory.Error{Code: directory.Internal}
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.r.Context()), b.RequestTimeout)
	defer cancel()
	if ctx, l.err = b.stillCalling(ctx); l.err == nil {
		l.entry, l.created, l.err = b.apply(ctx, l)
	}
}

// stillCalling returns a context with the caller as it is now. One who is none any more does not become one again.
func (b *bulk) stillCalling(ctx context.Context) (context.Context, error) {
	if gone := b.gone.Load(); gone != nil {
		return ctx, *gone
	}
	identified, err := b.identified(ctx, b.r)
	if err != nil {
		if refusal(err).Code.Status == http.StatusUnauthorized {
			b.gone.Store(&err)
		}
		return ctx, err
	}
	return identified, nil
}

// finish makes the result of a line final, when those before it are.
func (b *bulk) finish(l *line) {
	if l.begun && l.early && mendable(l.err) && !b.stopped.Load() {
		b.try(l)
	}
	b.done.Add(1)
	close(l.done)
	exchangeOf(b.r).lines++
	if b.stop && l.err != nil {
		b.halt()
	}
}

// mendable reports whether lines before may have been what was missing, or in the way.
func mendable(err error) bool {
	return directory.Is(err, directory.Invalid) || directory.Is(err, directory.Busy) || directory.Is(err, directory.LastAdmin)
}

// halt has no more lines begun or read.
func (b *bulk) halt() {
	b.stopped.Store(true)
	_ = b.control.SetReadDeadline(time.Now())
}

// lingering is how long a client may take to notice that nobody reads what it sends.
const lingering = time.Second

// answer sends the results, in pieces: whatever is there when there is nothing else to do.
func (b *bulk) answer(w http.ResponseWriter, lines <-chan *line) {
	var body []byte
	var broken error
	send := func() {
		if broken != nil {
			return
		}
		_ = b.control.SetWriteDeadline(time.Now().Add(b.WriteTimeout))
		if _, broken = w.Write(body); broken == nil {
			broken = b.control.Flush()
		}
		_ = b.control.SetWriteDeadline(time.Time{})
		if broken != nil {
			b.halt()
		}
		body = body[:0]
	}
	w.Header().Set("Content-Type", typeNDJSON)
	for {
		if len(body) >= piece || len(body) > 0 && len(lines) == 0 {
			send()
		}
		l, more := <-lines
		if !more {
			break
		}
		select {
		case <-l.tried:
		default:
			if len(body) > 0 {
				send()
			}
			<-l.tried
		}
		b.finish(l)
		body = b.appendResult(body, l)
	}
	if b.unread != nil {
		exchangeOf(b.r).err = b.unread
		body = ndjsonFormat.failure(body, b.problemOf(b.r, b.unread))
	}
	send()
	if broken != nil || b.unread != nil {
		panic(http.ErrAbortHandler)
	}
	_ = b.control.SetReadDeadline(time.Now().Add(lingering))
}

// result is the answer to a line.
type result struct {
	Line     int      `json:"line"`
	Status   int      `json:"status"`
	Name     string   `json:"name,omitempty"`
	Location string   `json:"location,omitempty"`
	ETag     string   `json:"etag,omitempty"`
	Problem  *problem `json:"problem,omitempty"`
}

func (b *bulk) appendResult(body []byte, l *line) []byte {
	answer := result{Line: l.number, Name: shown(l.name), Status: http.StatusOK}
	switch {
	case l.err != nil:
		problem := b.problemOf(b.r, l.err)
		if b.r.Method == http.MethodPut && l.name != "" {
			problem.Instance += "/" + url.PathEscape(answer.Name)
		}
		answer.Status, answer.Problem = problem.Status, &problem
	case l.created:
		answer.Status, answer.Location = http.StatusCreated, b.entryURL(b.r, l.entry)
	}
	if l.err == nil {
		answer.Name, answer.ETag = l.entry.Name(), etag(l.entry)
	}
	text, _ := json.Marshal(answer) // strings and numbers: can't fail
	return append(append(body, text...), '\n')
}
