package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// asker asks by a clock of its own.
type asker struct {
	AuthKeysSettings
	clock time.Time
	told  []string
}

func (a *asker) ask(ctx context.Context, args ...string) (string, error) {
	a.told = nil
	return authKeys(ctx, a.AuthKeysSettings, args, func() time.Time { return a.clock }, func(line string) { a.told = append(a.told, line) })
}

// newAsker returns one without a token, whose answers are kept for an hour.
func newAsker(dir string, urls ...string) *asker {
	return &asker{
		AuthKeysSettings{URLs: urls, Host: "web1", Timeout: 20 * time.Second, CacheDir: dir, CacheFor: time.Hour},
		time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC), nil,
	}
}

// moody is a server in one of several states, or what is in its place.
type moody struct {
	status atomic.Int64 // 401 and 403 as Rollcall says them, 404 as others do
	keys   atomic.Value // of text
	asked  atomic.Int64
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.asked.Add(1)
	status := int(m.status.Load())
	problem := map[int]string{401: "invalid-token", 403: "forbidden", 409: "ambiguous-name", 503: "directory-unavailable"}[status]
	switch {
	case problem != "":
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"code":%q}`, problem)
		return
	case status == 404:
		w.Header().Set("Content-Type", "text/html")
	default:
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	w.WriteHeader(status)
	keys, _ := m.keys.Load().(string)
	if keys != "" {
		keys += " of " + r.URL.Query().Get("username") + "\n"
	}
	_, _ = io.WriteString(w, keys)
}

func TestWhatIsPrintedIsTheLastAnswerWhileItMayBe(t *testing.T) {
	servers, urls := []*moody{{}, {}}, []string{}
	for _, server := range servers {
		listening := httptest.NewServer(server)
		defer listening.Close()
		urls = append(urls, listening.URL)
	}
	type answer struct {
		keys  string
		asked time.Time
	}
	dir, hosts := t.TempDir(), 0
	rapid.Check(t, func(r *rapid.T) {
		hosts++
		host := newAsker(filepath.Join(dir, fmt.Sprint(hosts)), urls...)
		statuses, keys := []int{200, 200}, ""
		kept := map[string]answer{}
		for range rapid.IntRange(1, 25).Draw(r, "steps") {
			switch rapid.SampledFrom([]string{"server", "clock", "ask", "ask"}).Draw(r, "step") {
			case "server":
				status := rapid.SampledFrom([]int{200, 200, 401, 401, 403, 404, 409, 503, 302})
				statuses = []int{status.Draw(r, "status"), status.Draw(r, "the other's")}
				keys = rapid.SampledFrom([]string{"", "first", "second"}).Draw(r, "keys")
			case "clock":
				host.clock = host.clock.Add(rapid.SampledFrom([]time.Duration{
					0, 1, time.Second, 29 * time.Minute, 31 * time.Minute, time.Hour, time.Hour + 1, -1, -time.Minute, -2 * time.Hour,
				}).Draw(r, "later"))
			case "ask":
				user := rapid.SampledFrom([]string{"alice", "bob"}).Draw(r, "user")
				refusals := 0
				for i, server := range servers {
					server.status.Store(int64(statuses[i]))
					server.keys.Store(keys)
					if statuses[i] == 401 || statuses[i] == 403 || statuses[i] == 409 {
						refusals++
					}
				}
				want, fails := "", false
				switch {
				case slices.Contains(statuses, 200):
					if keys != "" {
						want = keys + " of " + user + "\n"
					}
					kept[user] = answer{want, host.clock}
					for other, a := range kept {
						if host.clock.Sub(a.asked) > time.Hour { // pruned
							delete(kept, other)
						}
					}
				case refusals == 2:
					fails = true
					delete(kept, user)
				case refusals == 1: // neither used nor forgotten
					fails = true
				default:
					a, is := kept[user]
					age := host.clock.Sub(a.asked)
					fails = !is || age < 0 || age > time.Hour
					if !fails {
						want = a.keys
					}
				}
				got, err := host.ask(t.Context(), user)
				if got != want || (err != nil) != fails {
					r.Fatalf("%d: prints %q, want %q; error %v, want one: %t; says %q", statuses, got, want, err, fails, host.told)
				}
			}
		}
	})
}

func TestAServerThatHasNotAnsweredIsAskedLastForAWhile(t *testing.T) {
	first, second := &moody{}, &moody{}
	servers := map[*moody]string{}
	for _, m := range []*moody{first, second} {
		m.status.Store(200)
		listening := httptest.NewServer(m)
		defer listening.Close()
		servers[m] = listening.URL
	}
	host := newAsker(t.TempDir()+"/cache", servers[first], servers[second])
	asks := func(what string, wantFirst, wantSecond int64) {
		t.Helper()
		before := [2]int64{first.asked.Load(), second.asked.Load()}
		if _, err := host.ask(t.Context(), "alice"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if got := [2]int64{first.asked.Load() - before[0], second.asked.Load() - before[1]}; got != [2]int64{wantFirst, wantSecond} {
			t.Errorf("%s: the first was asked %d times, the second %d, want %d and %d", what, got[0], got[1], wantFirst, wantSecond)
		}
	}
	asks("both are well", 1, 0)
	first.status.Store(401)
	asks("the first refuses", 1, 1)
	asks("a refusal is an answer", 1, 1)
	first.status.Store(503)
	asks("the first has just failed", 1, 1)
	asks("the first is known to fail", 0, 1)
	host.clock = host.clock.Add(markedFor - 1)
	asks("it is still known", 0, 1)
	host.clock = host.clock.Add(1)
	asks("it is tried again", 1, 1)
	second.status.Store(503)
	first.status.Store(200)
	asks("the second fails, and the first is well again", 1, 1)
	asks("the first is first again", 1, 0)
	first.status.Store(503)
	second.status.Store(200)
	asks("the first has failed again, and the second is well again", 1, 1)
	asks("the second is first now", 0, 1)
	host.clock = host.clock.Add(-time.Hour)
	asks("the clock was set back", 1, 1)
	first.status.Store(503)
	second.status.Store(503)
	asks("both fail, and both are asked", 1, 1)
	asks("both are known to fail, and both are asked", 1, 1)
}

func TestAMarkIsNotRenewedWhileItCounts(t *testing.T) {
	server := &moody{}
	server.status.Store(503)
	listening := httptest.NewServer(server)
	defer listening.Close()
	host := newAsker(t.TempDir()+"/cache", listening.URL)
	cache, err := openAuthKeysCache(host.CacheDir, host.CacheFor, host.Host, func() time.Time { return host.clock })
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []bool{true, false, true, false} {
		if _, err := host.ask(t.Context(), "alice"); err == nil {
			t.Error("503 is an answer")
		}
		host.clock = host.clock.Add(markedFor / 2)
		if got := cache.away(listening.URL); got != want {
			t.Errorf("after failure %d, and half the time of a mark: away is %t, want %t", i+1, got, want)
		}
	}
}

func TestALateAnswerDoesNotReplaceALaterOne(t *testing.T) {
	clock := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	cache, err := openAuthKeysCache(t.TempDir()+"/cache", time.Hour, "web1", func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	put := func(keys string, asked time.Time, want string) {
		t.Helper()
		err := cache.put("alice", keys, asked, true)
		kept, readErr := cache.read("alice")
		if err := errors.Join(err, readErr); err != nil || kept.Keys != want {
			t.Errorf("after %q of %v: %q is kept, want %q: %v", keys, asked, kept.Keys, want, err)
		}
	}
	put("", clock, "")
	put("removed meanwhile", clock.Add(-time.Second), "")
	put("given again", clock, "given again")
	clock = clock.Add(-time.Hour)
	put("after the clock was set back", clock, "after the clock was set back")
}

func TestAnAnswerIsWholeWheneverItIsRead(t *testing.T) {
	cache, err := openAuthKeysCache(t.TempDir()+"/cache", time.Hour, "web1", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	var writers, readers sync.WaitGroup
	if err := cache.put("alice", "", time.Now(), true); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	readers.Go(func() {
		for {
			if _, err := cache.get("alice"); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for i := range 8 {
		writers.Go(func() {
			for range 25 {
				if err := cache.put("alice", strings.Repeat("a key\n", i*1000), time.Now(), true); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

func TestOldAnswersAreRemovedInTheCourseOfTime(t *testing.T) {
	const old = 3 * prunedAtOnce
	clock := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	dir := t.TempDir() + "/cache"
	cache, err := openAuthKeysCache(dir, time.Hour, "web1", func() time.Time { return clock })
	if err != nil {
		t.Fatal(err)
	}
	files := func() int {
		t.Helper()
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	put := func(user string) {
		t.Helper()
		before := files()
		if err := cache.put(user, "a key\n", clock, true); err != nil {
			t.Fatal(err)
		}
		if gone := before + 1 - files(); gone > prunedAtOnce+1 {
			t.Errorf("%d files were removed at once", gone)
		}
	}
	for i := range old {
		put(fmt.Sprint("u", i))
	}
	if err := cache.note("http://a", false); err != nil {
		t.Fatal(err)
	}
	digest := strings.Repeat("0a", 32)
	theirs := []string{ // of others, who use the folder too
		"notes.txt", "server.keys", "download.part", "alice.keys.123.part", "a.away", digest, digest + ".part", digest + ".keys.part.gz", digest + ".txt",
		digest + ".keys2", "0" + digest + ".keys", digest[1:] + ".keys", strings.ToUpper(digest) + ".keys", digest + ".key", digest + ".keys.1", "x" + digest + ".away",
	}
	for _, name := range append(theirs, digest+".keys.123.part", digest+".away.4.part") {
		name = filepath.Join(dir, name)
		if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Chtimes(name, clock, clock)); err != nil {
			t.Fatal(err)
		}
	}
	clock = clock.Add(time.Hour)
	put("bob")
	if got, all := files(), old+4+len(theirs); got != all && got != all-1 { // the mark may have been among those that were looked at
		t.Errorf("%d files: some were removed before their time", got)
	}
	for i := range 1000 {
		clock = clock.Add(time.Duration(i*37 + 1))
		put("bob")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	left := []string{}
	for _, entry := range entries {
		left = append(left, entry.Name())
	}
	want := slices.Sorted(slices.Values(append(theirs, filepath.Base(cache.path(suffixAnswer, "web1", "bob")))))
	if diff := cmp.Diff(want, left); diff != "" {
		t.Errorf("what is left, but for bob's answer and the files of others (-want +got):\n%s", diff)
	}
}
