package rest_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestKeysAreRightWhileGroupsChangeAndTheServerDies: 32 hosts at a time ask while one group goes in and out of another,
// and slapd is killed and comes back. Each answer is that of a moment between question and answer, or a clear refusal.
func TestKeysAreRightWhileGroupsChangeAndTheServerDies(t *testing.T) { keysAreRightMeanwhile(t, 2, 6) }

func keysAreRightMeanwhile(t *testing.T, deaths, changes int) {
	before := goleak.IgnoreCurrent()
	t.Run("requests", func(t *testing.T) {
		a := newAPI(t)
		server := a.slapd
		a.newGroups("low", "middle", "high")
		a.do("PUT", "/groups/low/members/users/bob", nil).want(204)
		a.do("PUT", "/groups/high/members/groups/middle", nil).want(204)
		a.do("PUT", "/groups/high/members/hosts/spare", nil).want(204)
		token := a.hostToken("spare")
		s := &shifting{}
		done := make(chan struct{})
		var asking sync.WaitGroup
		var answers [2]atomic.Int64
		var refusals atomic.Int64
		for range 32 {
			asking.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					from := s.now()
					x := a.authkeys("bob", "spare", token...)
					given := x.Status == 200 && x.text() == bobsKey
					switch {
					case x.Status == 503 || x.Status == 504:
						refusals.Add(1)
						time.Sleep(time.Millisecond)
					case x.Status != 200 || !given && x.text() != "":
						t.Errorf("%s: %d %s", x.request, x.Status, x.Body)
					case !s.may(from, given):
						t.Errorf("%s: keys are given: %t, which was so at no moment of the request", x.request, given)
					case given:
						answers[1].Add(1)
					default:
						answers[0].Add(1)
					}
				}
			})
		}
		for death := range deaths {
			for i := range changes {
				if death > 0 && i == changes/2 {
					if err := server.Kill(); err != nil {
						t.Error(err)
					}
					s.begin()
					a.do("PUT", "/groups/middle/members/groups/low", nil).want(503)
					again, err := server.Restart(context.Background())
					if err != nil {
						t.Fatal(err)
					}
					server = again
					t.Cleanup(func() { _ = again.Kill() })
				}
				s.begin()
				for !a.settles([]string{"DELETE", "PUT"}[i%2]) {
				}
				s.end(i%2 == 1)
			}
		}
		close(done)
		asking.Wait()
		if answers[0].Load() == 0 || answers[1].Load() == 0 {
			t.Errorf("there were %d answers without keys, %d with, and %d refusals", answers[0].Load(), answers[1].Load(), refusals.Load())
		}
	})
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// settles takes the group out, and puts it in where that is what is wanted: a server that was killed may have kept half
// of a change, which the other way round makes whole.
func (a *api) settles(method string) bool {
	const path = "/groups/middle/members/groups/low"
	if x := a.do("DELETE", path, nil); x.Status != 204 {
		return false
	}
	return method == "DELETE" || a.do("PUT", path, nil).Status == 204
}

// shifting is a fact that changes: for certain one or the other between changes, either during one.
type shifting struct {
	mutex   sync.Mutex
	changes int  // begun and ended
	value   bool // for certain where changes is even
}

// now returns a moment.
func (s *shifting) now() int {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.changes
}

func (s *shifting) begin() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.changes |= 1
}

func (s *shifting) end(value bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.changes, s.value = s.changes+1, value
}

// may reports whether the fact may have had a value between a moment and now.
func (s *shifting) may(from int, value bool) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return from != s.changes || from%2 == 1 || s.value == value
}
