package auth

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"rollcall/app/directory"
)

// The limits of these tests; the waits are 1 s, 30 s and 15 min.
const (
	testMax    = 3
	testWindow = 15 * time.Minute
)

// door is limits, and what comes to them.
type door struct {
	t *testing.T
	*limits
}

func (d door) refused(name, address string, wait time.Duration) {
	d.t.Helper()
	a, err := d.begin(name, address)
	var e *directory.Error
	switch {
	case err == nil:
		a.dropped()
		d.t.Fatalf("%s from %s was let through", name, address)
	case !errors.As(err, &e) || e.Code != directory.TooManyLogins:
		d.t.Fatalf("%s from %s was refused with %v", name, address, err)
	case e.RetryAfter != wait:
		d.t.Fatalf("%s from %s has to wait %v, want %v", name, address, e.RetryAfter, wait)
	}
}

func (d door) through(name, address string) *attempt {
	d.t.Helper()
	a, err := d.begin(name, address)
	if err != nil {
		d.t.Fatalf("%s from %s: %v", name, address, err)
	}
	return a
}

func (d door) right(name, address string) { d.t.Helper(); d.through(name, address).succeeded() }
func (d door) wrong(name, address string) { d.t.Helper(); d.through(name, address).failed() }

// spent is a name, or an address, whose pairs fail until they may not any more, at once.
func (d door) spent(pairs int, name, address func(i int) string) {
	d.t.Helper()
	for i := range pairs {
		var parallel []*attempt
		for range testMax {
			parallel = append(parallel, d.through(name(i), address(i)))
		}
		for _, a := range parallel {
			a.failed()
		}
	}
}

func (d door) nameSpent(name string) {
	d.t.Helper()
	d.spent(nameBudgets, func(int) string { return name }, func(i int) string { return fmt.Sprintf("192.0.2.%d", i+1) })
}

func (d door) addressSpent(address string) {
	d.t.Helper()
	d.spent(addressBudgets, func(i int) string { return fmt.Sprintf("name%d", i) }, func(int) string { return address })
}

const home, office, elsewhere = "203.0.113.1", "203.0.113.2", "203.0.113.3"

func TestLoginLimits(t *testing.T) {
	tests := map[string]func(d door){
		"a right password never waits": func(d door) {
			for range 100 {
				d.right("alice", home)
			}
		},
		"each failure of a pair is followed by a longer wait": func(d door) {
			d.wrong("alice", home)
			d.refused("alice", home, time.Second)
			time.Sleep(time.Second)
			d.wrong("alice", home)
			d.refused("alice", home, 30*time.Second)
			time.Sleep(30 * time.Second)
			d.wrong("alice", home)
			d.refused("alice", home, testWindow)
		},
		"a wait is told in whole seconds, rounded up": func(d door) {
			d.wrong("alice", home)
			time.Sleep(time.Second)
			d.wrong("alice", home)
			time.Sleep(100 * time.Millisecond)
			d.refused("alice", home, 30*time.Second)
			time.Sleep(29*time.Second + 899*time.Millisecond)
			d.refused("alice", home, time.Second)
			time.Sleep(time.Millisecond)
			d.wrong("alice", home)
		},
		"after the window everything is as at first": func(d door) {
			d.nameSpent("alice")
			d.addressSpent(home)
			time.Sleep(testWindow - time.Millisecond)
			d.refused("alice", elsewhere, time.Second)
			d.refused("bob", home, time.Second)
			time.Sleep(time.Millisecond)
			d.nameSpent("alice")
			d.addressSpent(home)
		},
		"a spent pair does not keep the name out elsewhere, nor the address": func(d door) {
			d.spent(1, func(int) string { return "alice" }, func(int) string { return home })
			d.refused("alice", home, testWindow)
			d.right("alice", office)
			d.right("bob", home)
		},
		"strangers share the budget of a name": func(d door) {
			d.nameSpent("alice")
			d.refused("alice", elsewhere, testWindow)
			d.right("bob", elsewhere)
		},
		"strangers at an address share its budget": func(d door) {
			d.addressSpent(home)
			d.refused("alice", home, testWindow)
			d.right("alice", office)
		},
		"a known address is let in when strangers have spent the name": func(d door) {
			d.right("alice", home)
			d.nameSpent("alice")
			d.right("alice", home)
			d.refused("alice", office, testWindow)
		},
		"a known name is let in when strangers have spent the address": func(d door) {
			d.right("alice", home)
			d.addressSpent(home)
			d.right("alice", home)
			d.refused("bob", home, testWindow)
		},
		"a known address is bound by its own failures": func(d door) {
			d.right("alice", home)
			d.spent(1, func(int) string { return "alice" }, func(int) string { return home })
			d.refused("alice", home, testWindow)
		},
		"failures of a known address leave the strangers' budgets alone": func(d door) {
			d.right("alice", home)
			d.spent(1, func(int) string { return "alice" }, func(int) string { return home })
			d.nameSpent("alice")
			d.addressSpent(home)
		},
		"an address is known for a day after a login": func(d door) {
			d.right("alice", home)
			d.right("alice", office)
			time.Sleep(knownFor / 2)
			d.right("alice", home)
			time.Sleep(knownFor / 2)
			d.nameSpent("alice")
			d.refused("alice", office, testWindow)
			d.right("alice", home)
		},
		"a success forgives the pair's failures": func(d door) {
			d.wrong("alice", home)
			time.Sleep(time.Second)
			d.wrong("alice", home)
			time.Sleep(30 * time.Second)
			d.right("alice", home)
			d.wrong("alice", home)
			d.refused("alice", home, time.Second)
		},
		"a success gives back what the pair took of the name's budget": func(d door) {
			d.wrong("alice", home)
			time.Sleep(time.Second)
			d.right("alice", home)
			d.nameSpent("alice")
		},
		"a success does not forgive what others have done": func(d door) {
			d.right("alice", home)
			d.nameSpent("alice")
			d.right("alice", home)
			d.refused("alice", elsewhere, testWindow)
			d.refused("alice", "192.0.2.1", testWindow)
		},
		"an attacker's own account does not forgive the address": func(d door) {
			d.addressSpent(home)
			d.refused("mallory", home, testWindow)
			d.right("mallory", office)
			time.Sleep(testWindow)
			d.right("mallory", home)
			d.addressSpent(home)
			d.right("mallory", home)
			d.refused("alice", home, testWindow)
		},
		"an attacker's own account does not make other names known": func(d door) {
			d.right("mallory", home)
			d.nameSpent("alice")
			d.refused("alice", home, testWindow)
		},
		"attempts in flight count, and start no wait": func(d door) {
			var parallel []*attempt
			for range testMax {
				parallel = append(parallel, d.through("alice", home))
			}
			d.refused("alice", home, time.Second)
			parallel[0].dropped()
			d.through("alice", home).dropped()
		},
		"strangers in flight count for the name": func(d door) {
			for i := range nameBudgets * testMax {
				d.through("alice", fmt.Sprintf("192.0.2.%d", i))
			}
			d.refused("alice", elsewhere, time.Second)
		},
		"strangers in flight count for the address": func(d door) {
			for i := range addressBudgets * testMax {
				d.through(fmt.Sprintf("name%d", i), home)
			}
			d.refused("alice", home, time.Second)
		},
		"an attempt counts from its end": func(d door) {
			a := d.through("alice", home)
			time.Sleep(time.Hour)
			a.failed()
			d.refused("alice", home, time.Second)
		},
		"a password that was not tried leaves nothing behind": func(d door) {
			for range 100 {
				d.through("alice", home).dropped()
			}
			if n := len(d.pairs.byKey) + len(d.names.byKey) + len(d.addresses.byKey); n > 0 {
				d.t.Errorf("%d counters are left", n)
			}
		},
		"what a success forgives leaves nothing behind": func(d door) {
			right, wrong := d.through("alice", home), d.through("alice", home)
			right.succeeded()
			again := d.through("alice", home)
			wrong.failed()
			again.succeeded()
			if n := len(d.pairs.byKey) + len(d.names.byKey); n > 0 {
				d.t.Errorf("%d counters are left", n)
			}
		},
		"an attempt ends once": func(d door) {
			a := d.through("alice", home)
			a.failed()
			a.succeeded()
			a.dropped()
			a.failed()
			d.refused("alice", home, time.Second)
			time.Sleep(time.Second)
			d.wrong("alice", home)
			d.refused("alice", home, 30*time.Second)
		},
		"a success that ends while others are in flight leaves theirs to count": func(d door) {
			right, wrong := d.through("alice", home), d.through("alice", home)
			right.succeeded()
			wrong.failed()
			d.refused("alice", home, time.Second)
		},
		"IPv6 is counted by /64": func(d door) {
			d.wrong("alice", "2001:db8::1")
			d.refused("alice", "2001:db8::ffff:1", time.Second)
			d.right("alice", "2001:db8:0:1::1")
		},
		"a zone makes no other address": func(d door) {
			d.wrong("alice", "fe80::1%eth0")
			d.refused("alice", "fe80::1%eth1", time.Second)
		},
		"an IPv4 address is the same in IPv6": func(d door) {
			d.wrong("alice", "192.0.2.1")
			d.refused("alice", "::ffff:192.0.2.1", time.Second)
			d.right("alice", "::ffff:192.0.2.2")
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(door{t, newLimits(testMax, testWindow)}) })
		})
	}
}

func TestWaitsGrowUpToTheWindow(t *testing.T) {
	for _, most := range []int{1, 2, 3, 5, 10, 1000} {
		for _, window := range []time.Duration{time.Second, time.Minute, testWindow, 24 * time.Hour} {
			l := newLimits(most, window)
			last := time.Duration(0)
			for n := 1; n <= most; n++ {
				d := l.delay(n)
				if d < last || d < time.Second || d > window {
					t.Fatalf("at most %d in %v: %v after failure %d, %v before", most, window, d, n, last)
				}
				last = d
			}
			if last != window {
				t.Errorf("at most %d in %v: %v after the last", most, window, last)
			}
		}
	}
}

func TestOfAThousandParallelWrongPasswordsAPairsBudgetIsTried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimits(testMax, testWindow)
		var mutex sync.Mutex
		tried := 0
		var all sync.WaitGroup
		for range 1000 {
			all.Go(func() {
				a, err := l.begin("alice", home)
				if err != nil {
					return
				}
				mutex.Lock()
				tried++
				mutex.Unlock()
				time.Sleep(100 * time.Millisecond) // the bind
				a.failed()
			})
		}
		all.Wait()
		if tried != testMax {
			t.Errorf("%d passwords were tried, want %d", tried, testMax)
		}
	})
}

func TestLimitsForgetWhatHasRunOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := door{t, newLimits(testMax, testWindow)}
		for i := range 1000 {
			d.wrong("name"+strconv.Itoa(i), fmt.Sprintf("10.0.%d.%d", i/250, i%250))
		}
		d.right("alice", home)
		time.Sleep(knownFor)
		d.wrong("bob", office)
		d.right("carol", office)
		for what, c := range map[string]*counters{"pairs": d.pairs, "names": d.names, "addresses": d.addresses} {
			if len(c.byKey) != 1 || c.order.Len() != 1 {
				t.Errorf("%d %s are counted, want bob's failure alone", len(c.byKey), what)
			}
		}
		if len(d.known.byName) != 1 || d.known.total != 1 || d.known.order.Len() != 1 {
			t.Errorf("%d names are known, want carol alone", len(d.known.byName))
		}
	})
}

func TestUnderPressureTheOldestIsForgottenButNotWhatIsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := door{t, newLimits(testMax, testWindow)}
		for _, c := range []*counters{d.pairs, d.names, d.addresses} {
			c.max = 10
		}
		slow := d.through("slow", "10.0.0.1")
		for i := range 100 {
			d.wrong("name"+strconv.Itoa(i), fmt.Sprintf("10.0.1.%d", i))
		}
		for what, c := range map[string]*counters{"pairs": d.pairs, "names": d.names, "addresses": d.addresses} {
			if len(c.byKey) != 10 || c.order.Len() != 10 {
				t.Errorf("%d %s are counted, want 10", len(c.byKey), what)
			}
		}
		d.right("name0", "10.0.1.0")
		d.refused("name99", "10.0.1.99", time.Second)
		slow.failed()
		for i := range 5 {
			d.wrong("more"+strconv.Itoa(i), fmt.Sprintf("10.0.2.%d", i))
		}
		d.refused("slow", "10.0.0.1", time.Second)
	})
}

func TestNobodyDrivesOutTheKnownAddressesOfOthersWithOneAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := door{t, newLimits(testMax, testWindow)}
		d.known.max = 3 * maxKnownEach
		d.right("alice", home)
		for i := range 1000 {
			d.right("mallory", fmt.Sprintf("10.0.%d.%d", i/250, i%250))
		}
		d.nameSpent("alice")
		d.right("alice", home)
		if d.known.total != maxKnownEach+1 {
			t.Errorf("%d pairs are known", d.known.total)
		}
		for i := range 1000 { // with a thousand accounts the oldest goes
			d.right("mallory"+strconv.Itoa(i), elsewhere)
		}
		if d.known.total > d.known.max {
			t.Errorf("%d pairs are known, of at most %d", d.known.total, d.known.max)
		}
		d.refused("alice", home, testWindow)
	})
}

// tried is a password that the directory has seen.
type tried struct {
	name, address string
	known, right  bool
	at            time.Time
}

// step is one thing that happens to the limits.
type step struct {
	What       string // attack, hammer, end, wait
	Name, From string
	Right      bool
	Dropped    bool
	Which      int // of those in flight
	Wait       time.Duration
}

func steps() *rapid.Generator[[]step] {
	addresses := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6", home}
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
		return step{
			What:    rapid.SampledFrom([]string{"attack", "hammer", "end", "wait"}).Draw(t, "what"),
			Name:    rapid.SampledFrom([]string{"victim", "other"}).Draw(t, "name"),
			From:    rapid.SampledFrom(addresses).Draw(t, "from"),
			Right:   rapid.IntRange(0, 9).Draw(t, "right") == 9,
			Dropped: rapid.IntRange(0, 4).Draw(t, "dropped") == 4,
			Which:   rapid.IntRange(0, 100).Draw(t, "which"),
			Wait:    time.Duration(rapid.IntRange(1, 1200).Draw(t, "wait")) * time.Second,
		}
	}), 20, 200)
}

// TestLimitsHoldWhateverComes plays logins over simulated time, with attempts that take theirs, and compares with
// a plain record of what was tried.
func TestLimitsHoldWhateverComes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		most, steps := rapid.IntRange(1, 5).Draw(rt, "most"), steps().Draw(rt, "steps")
		var broken error
		synctest.Test(t, func(*testing.T) { broken = newWorld(most).play(steps) })
		if broken != nil {
			rt.Fatal(broken)
		}
	})
}

type flight struct {
	attempt *attempt
	tried   tried
}

// world is limits, and a record of what came through.
type world struct {
	limits  *limits
	most    int
	flights []flight
	tried   []tried
}

func newWorld(most int) *world { return &world{limits: newLimits(most, testWindow), most: most} }

func (w *world) play(steps []step) error {
	for _, s := range append([]step{{What: "attack", Name: "victim", From: home, Right: true}, {What: "end"}}, steps...) {
		switch s.What {
		case "attack":
			if err := w.try(s.Name, s.From, s.Right); err != nil {
				return err
			}
		case "hammer":
			for range 20 {
				if err := w.try("victim", s.From, false); err != nil {
					return err
				}
			}
		case "end":
			if n := len(w.flights); n > 0 {
				w.end(s.Which%n, s.Dropped)
			}
		case "wait":
			time.Sleep(s.Wait)
		}
		if err := w.check(); err != nil {
			return err
		}
	}
	return nil
}

// try begins a login. Where many are under way, the first of them ends.
func (w *world) try(name, address string, right bool) error {
	known := w.known(name, address)
	busy := slices.ContainsFunc(w.flights, func(f flight) bool {
		return f.tried.name == name && f.tried.address == address
	})
	a, err := w.limits.begin(name, address)
	switch {
	case err == nil:
		w.flights = append(w.flights, flight{a, tried{name: name, address: address, known: known, right: right}})
	case known && !busy && w.failures(name, address) == 0:
		return fmt.Errorf("%s is known at %s and has not failed: %w", name, address, err)
	}
	if len(w.flights) > 3*w.most {
		w.end(0, false)
	}
	return nil
}

func (w *world) end(i int, dropped bool) {
	f := w.flights[i]
	w.flights = slices.Delete(w.flights, i, i+1)
	switch {
	case dropped:
		f.attempt.dropped()
		return
	case f.tried.right:
		f.attempt.succeeded()
	default:
		f.attempt.failed()
	}
	f.tried.at = time.Now()
	w.tried = append(w.tried, f.tried)
}

// known tells whether a name has logged in from an address within a day.
func (w *world) known(name, address string) bool {
	return slices.ContainsFunc(w.tried, func(p tried) bool {
		return p.right && p.name == name && p.address == address && time.Since(p.at) < knownFor
	})
}

// failures counts a pair's within the last window, since its last success.
func (w *world) failures(name, address string) (n int) {
	for _, p := range w.tried {
		switch {
		case p.name != name || p.address != address:
		case p.right:
			n = 0
		case time.Since(p.at) < testWindow:
			n++
		}
	}
	return n
}

// check compares the passwords that were tried in the window that ends now with the limits.
func (w *world) check() error {
	type pair struct{ name, address string }
	pairs, strangers, known := map[pair]int{}, map[pair]int{}, map[pair]bool{}
	names, addresses := map[string]int{}, map[string]int{}
	for _, p := range w.tried {
		pair := pair{p.name, p.address}
		switch {
		case p.right: // what the pair tried before was the person; the directory forgets all of the name's failures
			delete(pairs, pair)
			delete(strangers, pair)
			delete(names, p.name)
			known[pair] = true
		case time.Since(p.at) < testWindow:
			pairs[pair]++
			names[p.name]++
			if !p.known {
				strangers[pair]++
				addresses[p.address]++
			}
		}
	}
	byStrangers, budgets := map[string]int{}, map[string]int{"victim": nameBudgets, "other": nameBudgets}
	for pair, n := range strangers {
		byStrangers[pair.name] += n
	}
	for pair := range known {
		budgets[pair.name]++
	}
	for pair, n := range pairs {
		if n > w.most {
			return fmt.Errorf("%v has tried %d passwords, of at most %d", pair, n, w.most)
		}
	}
	for name, n := range byStrangers {
		if most := nameBudgets * w.most; n > most {
			return fmt.Errorf("strangers have tried %d passwords of %s, of at most %d", n, name, most)
		}
	}
	for name, n := range names {
		if most := budgets[name] * w.most; n > most {
			return fmt.Errorf("%d passwords of %s were tried without a success, of at most %d", n, name, most)
		}
	}
	for address, n := range addresses {
		if most := addressBudgets * w.most; n > most {
			return fmt.Errorf("%d passwords were tried from %s, of at most %d", n, address, most)
		}
	}
	return nil
}

// Here one address tries as much as it can.
func TestARightPasswordFromANewAddressGetsInWhileOneAddressHammers(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		most := rapid.IntRange(1, 5).Draw(rt, "most")
		waits := rapid.SliceOfN(rapid.IntRange(0, 1200), 1, 100).Draw(rt, "waits")
		var refused error
		synctest.Test(t, func(*testing.T) {
			l := newLimits(most, testWindow)
			for i, wait := range waits {
				var attacks []*attempt
				for range 2 * most {
					if a, err := l.begin("victim", home); err == nil {
						attacks = append(attacks, a)
					}
				}
				a, err := l.begin("victim", fmt.Sprintf("10.0.0.%d", i))
				if err != nil {
					refused = fmt.Errorf("login %d: %w", i, err)
					return
				}
				time.Sleep(time.Duration(wait) * time.Second)
				for _, a := range attacks {
					a.failed()
				}
				a.succeeded()
			}
		})
		if refused != nil {
			rt.Fatal(refused)
		}
	})
}
