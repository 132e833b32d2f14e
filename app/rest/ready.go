package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"rollcall/app/directory"
)

// readyFor is how long what was seen is told to whoever asks, so that probes cost the directory server next to nothing.
const readyFor = time.Second

// readiness looks whether all is there that requests need, once for all who ask at a time.
type readiness struct {
	checks []directory.Check
	// timeout is how long one look may take.
	timeout time.Duration

	mutex sync.Mutex
	last  *look
}

// look is one look at everything. All but done is there when done is closed.
type look struct {
	done  chan struct{}
	found []found
	err   error
	until time.Time
}

// found is what became of a check.
type found struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
}

// look returns what was found, and the error that says what is missing.
func (r *readiness) look(ctx context.Context) ([]found, error) {
	l := r.current(ctx)
	select {
	case <-l.done:
		return l.found, l.err
	case <-ctx.Done():
		return nil, missing(r.checks[:min(1, len(r.checks))], context.Cause(ctx))
	}
}

// current returns the look that is good, or under way, or begins one, which does not end with whoever asked first.
func (r *readiness) current(ctx context.Context) *look {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if r.last != nil && !r.last.old() {
		return r.last
	}
	l := &look{done: make(chan struct{})}
	r.last = l
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.timeout)
	go func() {
		defer cancel()
		l.found, l.err = r.run(ctx)
		l.until = time.Now().Add(readyFor)
		close(l.done)
	}()
	return l
}

func (l *look) old() bool {
	select {
	case <-l.done:
		return time.Now().After(l.until)
	default:
		return false
	}
}

// run runs the first check and, where it holds, all others at a time.
func (r *readiness) run(ctx context.Context) ([]found, error) {
	all := make([]found, len(r.checks))
	errs := make([]error, len(r.checks))
	check := func(i int) {
		errs[i] = r.checks[i].Run(ctx)
		all[i] = found{r.checks[i].Name, errs[i] == nil}
	}
	var running sync.WaitGroup
	for i := range r.checks {
		if i == 0 {
			check(i)
		} else if errs[0] == nil {
			running.Go(func() { check(i) })
		}
	}
	running.Wait()
	var failed []directory.Check
	for i, err := range errs {
		if err != nil {
			failed = append(failed, r.checks[i])
		}
	}
	if failed != nil {
		return nil, missing(failed, errors.Join(errs...))
	}
	return all, nil
}

// missing is the error that some checks do not hold.
func missing(failed []directory.Check, cause error) error {
	var details []string
	for _, c := range failed {
		details = append(details, fmt.Sprintf("The check %q failed: %s", c.Name, c.Remedy))
	}
	return &directory.Error{Code: directory.Unavailable, Detail: strings.Join(details, " "), Cause: cause}
}

// healthy answers as long as the process does.
func (a *api) healthy(w http.ResponseWriter, r *http.Request) error {
	exchangeOf(r).probe = true
	return answerJSON(w, r, http.StatusOK, status{Status: "ok"})
}

// ready answers when all is there that requests need, and else says what is missing.
func (a *api) ready(w http.ResponseWriter, r *http.Request) error {
	exchangeOf(r).probe = true
	checks, err := a.readiness.look(r.Context())
	if err != nil {
		return err
	}
	return answerJSON(w, r, http.StatusOK, status{"ready", checks})
}

type status struct {
	Status string  `json:"status"`
	Checks []found `json:"checks,omitempty"`
}
