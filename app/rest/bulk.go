package rest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

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
	// dry says what lines would change, and changes nothing.
	dry    bool
	format format

	// undone are the lines that were understood and are not done.
	undone []*line
	// unread is why no more lines could be read.
	unread error

	// due is when the line that is being read must be there.
	due time.Time

	// stopped tells that no more lines are begun.
	stopped atomic.Bool
	// gone is why nobody is calling any more.
	gone atomic.Pointer[error]
}

// line is an entry in a bulk request.
type line struct {
	number int
	name   string
	patch  directory.Patch
	// claims are what no other entry can have.
	claims []string

	// before is closed when all lines before are done, rival when the last of those is that claims the same.
	before, rival <-chan struct{}
	// done is closed when this line and all before it have come to their ends, which are:
	done    chan struct{}
	entry   directory.Entry
	created bool
	made    *directory.Plan // of a dry run
	err     error
}

// applyLines applies lines as they arrive, several at a time, and answers with their results in order. No more is
// read than can be worked on.
func (e entries) applyLines(w http.ResponseWriter, r *http.Request, apply func(context.Context, *line) (directory.Entry, bool, error)) error {
	dry, err := isDryRun(r, paramOnError)
	if err != nil {
		return err
	}
	offers := []string{typeNDJSON}
	if dry {
		offers = append(offers, typeLDIF)
	}
	mediaType := accepted(r, offers...)
	if mediaType == "" {
		return &directory.Error{Code: directory.NotAcceptable, Detail: "Accept " + strings.Join(offers, " or ") + "."}
	}
	b := &bulk{entries: e, r: r, control: http.NewResponseController(w), apply: apply, dry: dry, format: formatOf(mediaType, e.kind, directory.Query{})}
	if _, err := contentType(w, r, typeNDJSON); err != nil {
		return err
	}
	if err := unconditional(r); err != nil {
		return err
	}
	if err := showsItsEnd(r); err != nil {
		return err
	}
	if parameters := r.URL.Query(); parameters.Has(paramOnError) {
		onError := parameters.Get(paramOnError)
		if b.stop = onError == onErrorStop; !b.stop && onError != onErrorContinue {
			return badQuery("onError must be stop or continue.")
		}
	}
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
	none := make(chan struct{})
	close(none)
	before := none
	for number := 1; !b.stopped.Load(); number++ {
		text, err := b.readLine(reader)
		if err != nil && !directory.Is(err, directory.BodyTooLarge) {
			if !errors.Is(err, io.EOF) && !b.stopped.Load() {
				b.unread = bodyError(err)
			}
			return
		}
		if number == 1 {
			text = bytes.TrimPrefix(text, []byte("\ufeff")) // as RFC 8259 §8.1 allows
		}
		if err == nil && len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		l := &line{number: number, before: before, rival: none, done: make(chan struct{}), err: err}
		before = l.done
		if err == nil {
			b.guard(l, func() { b.understand(l, text) })
		}
		lines <- l
		slots <- struct{}{}
		working.Go(func() {
			b.work(l)
			<-slots
			<-l.before
			close(l.done)
		})
	}
}

// readBody reads from the body. The client has so long for each line; the server's deadline is for all of them.
func (b *bulk) readBody(p []byte) (int, error) {
	if b.ReadTimeout > 0 {
		_ = b.control.SetReadDeadline(b.due) // not every reader has deadlines
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
	b.due = time.Now().Add(b.ReadTimeout)
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
	b.undone = slices.DeleteFunc(b.undone, func(earlier *line) bool { return isClosed(earlier.done) })
	for _, earlier := range b.undone {
		if slices.ContainsFunc(l.claims, func(claim string) bool { return slices.Contains(earlier.claims, claim) }) {
			l.rival = earlier.done
		}
	}
	b.undone = append(b.undone, l)
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// work tries a line when it is its turn. One that fails while others before it are in work is tried once more after
// them.
func (b *bulk) work(l *line) {
	<-l.rival
	if l.err == nil && b.stopped.Load() {
		l.err = &directory.Error{Code: directory.NotAttempted}
		return
	}
	if l.err == nil {
		first := isClosed(l.before)
		b.guard(l, func() { b.try(l) })
		if !first && !b.dry && b.mendable(l.err) {
			if <-l.before; !b.stopped.Load() {
				b.guard(l, func() { b.try(l) })
			}
		}
	}
	if b.stop && l.err != nil {
		<-l.before
		b.halt()
	}
}

// mendable reports whether lines before may be what was missing, or in the way: what a line refers to, or a value that
// another entry has.
func (b *bulk) mendable(err error) bool {
	if !directory.Is(err, directory.Invalid) {
		return directory.Is(err, directory.Busy) || directory.Is(err, directory.LastAdmin)
	}
	return !slices.ContainsFunc(refusal(err).Violations, func(v directory.Violation) bool {
		f, _ := b.kind.Field(v.Field)
		return f.Type != directory.Reference && !f.Unique
	})
}

// guard has a panic fail the line only.
func (b *bulk) guard(l *line, does func()) {
	defer func() {
		if cause := recover(); cause != nil {
			b.logPanic(b.r, cause)
			l.err = &directory.Error{Code: directory.Internal}
		}
	}()
	does()
}

// try applies a line. One that was begun is ended, also where the client has gone.
func (b *bulk) try(l *line) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(b.r.Context()), b.RequestTimeout)
	defer cancel()
	if b.dry {
		l.made = &directory.Plan{}
		ctx = directory.WithPlan(ctx, l.made)
	}
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
		if broken = sendPiece(b.control, w, body, b.WriteTimeout, true); broken != nil {
			b.halt()
		}
		body = body[:0]
	}
	_ = b.control.SetWriteDeadline(time.Time{})
	w.Header().Set("Content-Type", b.format.mediaType)
	body = b.format.begin(body)
	for {
		if len(body) >= piece || len(body) > 0 && len(lines) == 0 {
			send()
		}
		l, more := <-lines
		if !more {
			break
		}
		if len(body) > 0 && !isClosed(l.done) {
			send()
		}
		<-l.done
		exchangeOf(b.r).lines++
		if l.err != nil && refusal(l.err).Code.Status >= http.StatusInternalServerError {
			b.Log.WithFields(logrus.Fields{"request_id": exchangeOf(b.r).id, "line": l.number, "error": l.err.Error()}).Error("line")
		}
		if b.format.sources {
			body = b.appendChanges(body, l)
		} else {
			body = b.appendResult(body, l)
		}
	}
	if b.unread != nil {
		exchangeOf(b.r).err = b.unread
		if b.format.failure != nil {
			body = b.format.failure(body, b.problemOf(b.r, b.unread))
		}
	}
	send()
	if broken != nil || b.unread != nil {
		panic(http.ErrAbortHandler)
	}
	_ = b.control.SetReadDeadline(time.Now().Add(lingering))
	_ = b.control.SetWriteDeadline(time.Now().Add(b.WriteTimeout)) // for what is left to be written
}

// result is the answer to a line.
type result struct {
	Line     int      `json:"line"`
	Status   int      `json:"status"`
	Name     string   `json:"name,omitempty"`
	Location string   `json:"location,omitempty"`
	ETag     string   `json:"etag,omitempty"`
	Problem  *problem `json:"problem,omitempty"`
	*plan             // of a dry run, but for its status
}

func (b *bulk) appendResult(body []byte, l *line) []byte {
	answer := result{Line: l.number, Name: shown(l.name), Status: http.StatusOK}
	if l.err != nil {
		problem := b.problemOf(b.r, l.err)
		if b.r.Method == http.MethodPut && l.name != "" {
			problem.Instance += "/" + url.PathEscape(answer.Name)
		}
		answer.Status, answer.Problem = problem.Status, &problem
	} else {
		if l.created {
			answer.Status = http.StatusCreated
		}
		answer.Name = l.entry.Name()
		switch {
		case b.dry:
			made := planOf(l.made, answer.Status)
			answer.plan = &made
		case l.created:
			answer.Location, answer.ETag = b.entryURL(b.r, l.entry), etag(l.entry)
		default:
			answer.ETag = etag(l.entry)
		}
	}
	text, _ := json.Marshal(answer) // strings and numbers: can't fail
	return append(append(body, text...), '\n')
}

// appendChanges appends what a line would change as LDIF or, in a comment, why it would be refused.
func (b *bulk) appendChanges(body []byte, l *line) []byte {
	if l.err == nil {
		for _, record := range l.made.Records() {
			body = record.AppendLDIF(body)
		}
		return body
	}
	refused := b.problemOf(b.r, l.err)
	comment := fmt.Appendf(nil, "# line %d would be refused: %d %s", l.number, refused.Status, refused.Code)
	for _, v := range refused.Violations {
		comment = fmt.Appendf(comment, "; %s %s", v.Field, v.Message)
	}
	return append(append(body, bytes.Map(safeChar, comment)...), '\n')
}

// safeChar returns what a comment of LDIF may hold (RFC 2849), a question mark in the place of the rest.
func safeChar(r rune) rune {
	if r < ' ' || r > '~' {
		return '?'
	}
	return r
}
