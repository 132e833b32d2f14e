package ldapdir

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"sync"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// walk is a search whose answer is read page by page. It has a connection to itself from its first page to its last:
// a cookie is good only there.
type walk struct {
	*listing
	directory *Directory
	search    ldap.SearchRequest
	paging    *ldap.ControlPaging
	conn      *conn // nil before the first page and after the last
	sorting   bool  // it has a place among the searches that the server sorts
	begun     bool
	// since is before it began by whoever's clock, as entryCSN begins; held tells that it was begun for another page.
	since string
	held  bool
	// rest are entries that were read and not asked for yet.
	rest []*ldap.Entry

	place string // what it is called while it is held
	timer *time.Timer
}

// clockSkew is how far the server's clock may be behind.
const clockSkew = time.Minute

func (d *Directory) newWalk(l *listing) *walk {
	w := &walk{listing: l, directory: d, search: *l.request, paging: ldap.NewControlPaging(d.options.PageSize)}
	w.search.Controls = append(slices.Clip(w.search.Controls), w.paging)
	return w
}

func (w *walk) sorted() bool { return len(w.sort) > 0 }

// done reports whether everything has been read and asked for.
func (w *walk) done() bool { return w.begun && w.conn == nil && len(w.rest) == 0 }

// next returns the next entries, fewer than n only where there are no more. It reads one further, so that it is known
// whether any come after them.
func (w *walk) next(ctx context.Context, n int) ([]*ldap.Entry, error) {
	for len(w.rest) <= n && (!w.begun || w.conn != nil) {
		if err := w.read(ctx, n+1-len(w.rest)); err != nil {
			return nil, err
		}
	}
	n = min(n, len(w.rest))
	found := w.rest[:n:n]
	w.rest = w.rest[n:]
	return found, nil
}

// seek reads on to a place, past everything that came before it.
func (w *walk) seek(ctx context.Context, place *directory.Place, limit int) error {
	size := place.Passed + limit + 1
	if w.sorted() {
		return w.skip(ctx, size, func() int { return w.after(place) })
	}
	for last := digestOf(place.ID); ; {
		passed := false
		var left []byte // of the entries that came last before the place, the last one that is still there
		err := w.skip(ctx, size, func() int {
			return slices.IndexFunc(w.rest, func(entry *ldap.Entry) bool {
				if passed {
					return true
				}
				digest := digestOf(w.idOf(entry))
				passed = bytes.Equal(digest, last)
				if isRecent(digest, place) {
					left = digest
				}
				return false
			})
		})
		if err != nil || passed {
			return err
		}
		w.rewind()
		switch {
		case left != nil:
			last = left
		case place.Passed > len(place.Recent)/digestLength:
			return &directory.Error{Code: directory.CursorLost}
		default: // everything that came before the place is known, and gone
			return nil
		}
	}
}

// after returns where in what was read the entries after a place begin, -1 where they don't. The entry at the place
// says so for certain. Where it is gone, the order does, as far as texts compare here as the server has them.
func (w *walk) after(place *directory.Place) int {
	at := -1
	for i, entry := range w.rest {
		switch order := w.compare(w.keysOf(entry), place.Keys); {
		case order == 0 && i+1 == len(w.rest):
			return -1
		case order == 0:
			return i + 1
		case order > 0 && at < 0:
			at = i
		}
	}
	return at
}

// skip reads on, at first so many entries, to where those that are wanted begin in what was read, if they do.
func (w *walk) skip(ctx context.Context, size int, begin func() int) error {
	for !w.begun || w.conn != nil {
		if err := w.read(ctx, size); err != nil {
			return err
		}
		if at := begin(); at >= 0 {
			w.rest = w.rest[at:]
			return nil
		}
		w.rest = nil
		size = int(w.directory.options.PageSize)
	}
	return nil
}

// inOrder reports whether entries that follow a place are sorted, and what comes next after them. They are not where
// one has changed since the server sorted them: it sends entries as they are now, at the place that they had.
func (w *walk) inOrder(place *directory.Place, found []*ldap.Entry) bool {
	if !w.sorted() {
		return true
	}
	var last []*string
	if place != nil {
		last = place.Keys
	}
	for _, entry := range append(slices.Clip(found), w.rest[:min(1, len(w.rest))]...) {
		keys := w.keysOf(entry)
		if last != nil && w.compare(last, keys) >= 0 {
			return false
		}
		last = keys
	}
	return true
}

// endsSurely reports whether the last of some entries has not changed since the server sorted them: everything that did
// not change either is before its place if it was sent before it, and else behind. By the place of one that has moved
// on, with all that follow it on the page, those that it has passed would be missed.
func (w *walk) endsSurely(found []*ldap.Entry) bool {
	if !w.sorted() || !w.held || w.done() || len(found) == 0 {
		return true
	}
	last := found[len(found)-1]
	changed := cmp.Or(last.GetEqualFoldAttributeValue(attrEntryCSN), last.GetEqualFoldAttributeValue(attrModified))
	return changed != "" && changed < w.since
}

// read asks the server for the next entries, at most size.
func (w *walk) read(ctx context.Context, size int) error {
	ctx, cancel := w.directory.pool.limit(ctx)
	defer cancel()
	if w.sorted() && !w.sorting {
		if err := w.directory.sorts.enter(ctx); err != nil {
			return err
		}
		w.sorting = true
	}
	if !w.begun {
		w.since = time.Now().Add(-clockSkew).UTC().Format("20060102150405.000000Z")
	}
	w.paging.PagingSize = uint32(min(size, int(w.directory.options.PageSize)))
	nextPage := func(l *ldap.Conn) (*ldap.SearchResult, error) { return l.Search(&w.search) }
	var result *ldap.SearchResult
	for attempt := 0; ; attempt++ {
		var err error
		result, err = acting(ctx, w.directory, &w.search.Controls, func() (found *ldap.SearchResult, err error) {
			if w.conn != nil {
				return counted(ctx, w.conn, opSearch, nextPage)
			}
			w.conn, found, err = borrow(ctx, &w.directory.pool.paged, opSearch, nextPage)
			return found, err
		})
		if err == nil {
			break
		}
		// slapd says so between two pages for a moment, and where it sorts too much at once.
		if !w.sorted() || !hasCode(err, ldap.LDAPResultBusy) || !backoff(ctx, attempt) {
			return err
		}
		if !w.begun {
			w.directory.sorts.evict()
		}
	}
	w.begun = true
	w.rest = append(w.rest, result.Entries...)
	next, ok := ldap.FindControl(result.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
	if !ok || len(next.Cookie) == 0 {
		w.release()
		return nil
	}
	w.paging.SetCookie(next.Cookie)
	return nil
}

// rewind has the walk begin again.
func (w *walk) rewind() {
	w.close()
	w.begun = false
	w.paging.SetCookie(nil)
}

// release gives back what the walk needed while there was more to read.
func (w *walk) release() {
	if w.conn != nil {
		w.directory.pool.paged.giveBack(w.conn)
		w.conn = nil
	}
	if w.sorting {
		w.sorting = false
		w.directory.sorts.leave()
	}
}

// close ends the walk. What the server has sorted it keeps until the connection ends.
func (w *walk) close() {
	if w.conn != nil && w.sorted() {
		w.conn.retire()
	}
	w.release()
	w.rest, w.begun = nil, true
}

// shelf holds walks between pages, so many at most: those that are read to the end hold no connection.
type shelf struct {
	most int

	mutex  sync.Mutex
	walks  []*walk // the one that was put first is first
	closed bool
}

// put holds a walk for some time, in place of the one that is held the longest where there are too many, and returns
// what it is called meanwhile.
func (s *shelf) put(w *walk, patience time.Duration) string {
	s.mutex.Lock()
	if s.closed || patience <= 0 {
		s.mutex.Unlock()
		w.close()
		return ""
	}
	place := rand.Text()
	w.place, w.held = place, true
	w.timer = time.AfterFunc(patience, func() { s.drop(func(other *walk) bool { return other == w }) })
	s.walks = append(s.walks, w)
	full := len(s.walks) > s.most
	s.mutex.Unlock()
	if full {
		s.drop(func(*walk) bool { return true })
	}
	return place
}

// take returns the walk that is held at a place in the same answer, nil where there is none.
func (s *shelf) take(place *directory.Place, identity string) *walk {
	if place == nil || place.Walk == "" {
		return nil
	}
	return s.remove(func(w *walk) bool { return w.place == place.Walk && w.identity == identity })
}

// drop closes the walk that is held the longest of those that are meant.
func (s *shelf) drop(meant func(*walk) bool) {
	if w := s.remove(meant); w != nil {
		w.close()
	}
}

func (s *shelf) remove(meant func(*walk) bool) *walk {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	at := slices.IndexFunc(s.walks, meant)
	if at < 0 {
		return nil
	}
	w := s.walks[at]
	s.walks = slices.Delete(s.walks, at, at+1)
	w.timer.Stop()
	w.place = ""
	return w
}

// close drops all walks and holds no more.
func (s *shelf) close() {
	s.mutex.Lock()
	s.closed = true
	s.mutex.Unlock()
	for {
		w := s.remove(func(*walk) bool { return true })
		if w == nil {
			return
		}
		w.close()
	}
}
