package auth

import (
	"container/list"
	"crypto/sha256"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"rollcall/app/directory"
)

// limits bound failed logins, by name and by address, in the memory of this process. They are safe for
// concurrent use.
//
// A pair of a name and an address from which that name has logged in is known; the others are strangers. In any
// window there are at most
//
//   - maxFailures of a pair, each followed by a longer wait than the one before;
//   - 2*maxFailures of a name, by strangers;
//   - 10*maxFailures of an address, by strangers.
//
// A known pair is bound by the first alone, so that strangers who spend a name's budget don't lock its owner out.
// No single address can spend it, so that its owner gets in from new addresses too.
//
// In a window without a success, a name so fails at most (2+k)*maxFailures times, k being its known addresses:
// 3*maxFailures where there is one. The directory counts these failures too. Its pwdMaxFailure must be higher than
// that times the number of replicas, and its pwdFailureCountInterval no longer than the window and not 0: else
// strangers can lock people out there (draft-behera-ldap-password-policy).
type limits struct {
	maxFailures int
	window      time.Duration
	start       time.Time

	mutex                   sync.Mutex
	pairs, names, addresses *counters
	known                   *acquaintances
}

// What is remembered at most.
const (
	maxCounters  = 100_000 // pairs, names and addresses, each
	maxKnown     = 100_000 // known pairs
	maxKnownEach = 16      // known pairs of one name
	knownFor     = 24 * time.Hour
)

// A pair has one budget, a name this many among strangers, and an address this many.
const (
	nameBudgets    = 2
	addressBudgets = 10
)

func newLimits(maxFailures int, window time.Duration) *limits {
	return &limits{
		maxFailures: maxFailures, window: window, start: time.Now(),
		pairs: newCounters(maxCounters, window), names: newCounters(maxCounters, window),
		addresses: newCounters(maxCounters, window), known: newAcquaintances(maxKnown, maxKnownEach),
	}
}

// attempt is a login that was let through to the directory. It counts as a failure until it ends.
type attempt struct {
	limits *limits
	ended  bool
	// pair counts it; so do name and address, where it is a stranger's.
	pair, name, address *counter
	nameKey, addressKey limitKey
}

// begin lets a login through, or says how long to wait. It takes a name as the directory compares it, and an IP
// address. Errors: too-many-logins.
func (l *limits) begin(name, address string) (*attempt, error) {
	return l.look(name, address, true)
}

// check says how long a login would have to wait. Errors: too-many-logins.
func (l *limits) check(name, address string) error {
	_, err := l.look(name, address, false)
	return err
}

// look is begin, or check where nothing is to be entered.
func (l *limits) look(name, address string, enter bool) (*attempt, error) {
	network := networkOf(address)
	a := &attempt{limits: l, nameKey: keyOf(name), addressKey: keyOf(network)}
	pairKey := keyOf(name + "\x00" + network)
	l.mutex.Lock()
	defer l.mutex.Unlock()
	now := time.Since(l.start)
	stranger := !l.known.has(a.nameKey, a.addressKey, now)
	wait := l.pairWait(l.pairs.find(pairKey, now), now)
	if stranger {
		wait = max(wait,
			l.budgetWait(l.names.find(a.nameKey, now), nameBudgets*l.maxFailures, now),
			l.budgetWait(l.addresses.find(a.addressKey, now), addressBudgets*l.maxFailures, now))
	}
	if wait > 0 {
		// Retry-After has whole seconds (RFC 9110 section 10.2.3).
		wait = (wait + time.Second - 1).Truncate(time.Second)
		return nil, &directory.Error{Code: directory.TooManyLogins, RetryAfter: wait}
	}
	if !enter {
		return a, nil
	}
	a.pair = l.pairs.enter(pairKey, now)
	if stranger {
		a.name, a.address = l.names.enter(a.nameKey, now), l.addresses.enter(a.addressKey, now)
	}
	return a, nil
}

// pairWait is budgetWait, and failures are followed by a wait.
func (l *limits) pairWait(c *counter, now time.Duration) time.Duration {
	if c == nil {
		return 0
	}
	wait := l.budgetWait(c, l.maxFailures, now)
	if n := len(c.failures); n > 0 {
		wait = max(wait, c.failures[n-1].at+l.delay(n)-now)
	}
	return wait
}

// budgetWait returns how long it takes until one more failure is within a budget.
func (l *limits) budgetWait(c *counter, budget int, now time.Duration) time.Duration {
	if c == nil || len(c.failures)+c.inFlight < budget {
		return 0
	}
	if i := len(c.failures) + c.inFlight - budget; i < len(c.failures) {
		return c.failures[i].at + l.window - now
	}
	return time.Second // attempts in flight end soon
}

// delay returns the wait after n failures: a second after the first, the window after the last, and between them
// each is the same multiple of the one before.
func (l *limits) delay(n int) time.Duration {
	if n >= l.maxFailures {
		return l.window
	}
	growth := math.Pow(l.window.Seconds(), float64(n-1)/float64(l.maxFailures-1))
	return min(time.Duration(growth*float64(time.Second)), l.window)
}

// succeeded ends an attempt whose password was right. It forgives what this pair has done, which was the person.
// What others did stays: they would get a fresh budget with each login of their victim. What the address did stays
// as well: an attacker's own account would forgive it.
func (a *attempt) succeeded() {
	a.end(func(l *limits, now time.Duration) {
		l.known.add(a.nameKey, a.addressKey, now)
		a.pair.failures = nil
		if name := l.names.find(a.nameKey, now); name != nil {
			name.failures = slices.DeleteFunc(name.failures, func(f failure) bool { return f.pair == a.pair.key })
			l.names.removeIdle(name)
		}
	})
}

// failed ends an attempt whose password was wrong.
func (a *attempt) failed() {
	a.end(func(l *limits, now time.Duration) {
		f := failure{at: now, pair: a.pair.key}
		l.pairs.fail(a.pair, f)
		if a.name != nil {
			l.names.fail(a.name, f)
			l.addresses.fail(a.address, f)
		}
	})
}

// dropped ends an attempt whose password was not tried. Once the attempt has ended it does nothing.
func (a *attempt) dropped() { a.end(func(*limits, time.Duration) {}) }

// end does what the outcome asks for, once, and takes the attempt out of flight.
func (a *attempt) end(outcome func(l *limits, now time.Duration)) {
	l := a.limits
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if a.ended {
		return
	}
	a.ended = true
	outcome(l, time.Since(l.start))
	l.pairs.leave(a.pair)
	if a.name != nil {
		l.names.leave(a.name)
		l.addresses.leave(a.address)
	}
}

// limitKey stands for a name, an address, or both. It takes the same room whatever they are, and does not show
// the password that somebody typed as a name.
type limitKey [16]byte

func keyOf(s string) limitKey {
	sum := sha256.Sum256([]byte(s))
	return limitKey(sum[:])
}

// networkOf returns what addresses are counted by: the address, and of IPv6 the /64, which is one customer's
// (RFC 6177 section 2).
func networkOf(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return address
	}
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}

// failure is a wrong password: when it was tried, since the limits began, and by whom.
type failure struct {
	at   time.Duration
	pair limitKey
}

// counter is what is counted under one key.
type counter struct {
	key      limitKey
	failures []failure // oldest first
	inFlight int
}

// counters hold at most max counters, but for those with attempts in flight, and none that have run out for long.
type counters struct {
	max    int
	window time.Duration
	byKey  map[limitKey]*list.Element
	order  *list.List // of *counter, the one untouched for longest first
}

func newCounters(most int, window time.Duration) *counters {
	return &counters{max: most, window: window, byKey: map[limitKey]*list.Element{}, order: list.New()}
}

// find returns a counter, without what has run out; nil where nothing is counted.
func (t *counters) find(key limitKey, now time.Duration) *counter {
	element := t.byKey[key]
	if element == nil {
		return nil
	}
	c := element.Value.(*counter)
	c.failures = slices.DeleteFunc(c.failures, func(f failure) bool { return f.at+t.window <= now })
	return c
}

// enter counts an attempt in flight.
func (t *counters) enter(key limitKey, now time.Duration) *counter {
	element := t.byKey[key]
	if element == nil {
		t.makeRoom(now)
		element = t.order.PushBack(&counter{key: key})
		t.byKey[key] = element
	}
	t.order.MoveToBack(element)
	c := element.Value.(*counter)
	c.inFlight++
	return c
}

// leave is the end of enter.
func (t *counters) leave(c *counter) {
	c.inFlight--
	t.removeIdle(c)
}

// fail counts a failure of an attempt in flight.
func (t *counters) fail(c *counter, f failure) {
	c.failures = append(c.failures, f)
	t.order.MoveToBack(t.byKey[c.key])
}

// removeIdle forgets a counter that counts nothing.
func (t *counters) removeIdle(c *counter) {
	if len(c.failures) == 0 && c.inFlight == 0 {
		t.remove(c)
	}
}

func (t *counters) remove(c *counter) {
	t.order.Remove(t.byKey[c.key])
	delete(t.byKey, c.key)
}

// makeRoom forgets the counters that have run out and, where they are too many, the oldest.
func (t *counters) makeRoom(now time.Duration) {
	for element := t.order.Front(); element != nil; {
		c, full := element.Value.(*counter), t.order.Len() >= t.max
		element = element.Next()
		n := len(c.failures)
		switch runOut := n == 0 || c.failures[n-1].at+t.window <= now; {
		case c.inFlight == 0 && (full || runOut):
			t.remove(c)
		case !full:
			return
		}
	}
}

// acquaintances are the known pairs: at most max, and at most maxEach of a name, so that nobody can drive out
// those of others with an account of their own.
type acquaintances struct {
	max, maxEach int
	total        int
	byName       map[limitKey]*list.Element
	order        *list.List // of *acquaintance, the one that logged in longest ago first
}

type acquaintance struct {
	name limitKey
	seen []sighting // the latest last
}

// sighting is a name's latest login from an address.
type sighting struct {
	address limitKey
	at      time.Duration
}

func newAcquaintances(most, each int) *acquaintances {
	return &acquaintances{max: most, maxEach: each, byName: map[limitKey]*list.Element{}, order: list.New()}
}

func (k *acquaintances) has(name, address limitKey, now time.Duration) bool {
	element := k.byName[name]
	return element != nil && slices.ContainsFunc(element.Value.(*acquaintance).seen, func(s sighting) bool {
		return s.address == address && now < s.at+knownFor
	})
}

// add remembers a login. Where there are too many, the name's oldest goes, and then the oldest name.
func (k *acquaintances) add(name, address limitKey, now time.Duration) {
	element := k.byName[name]
	if element == nil {
		element = k.order.PushBack(&acquaintance{name: name})
		k.byName[name] = element
	}
	k.order.MoveToBack(element)
	who := element.Value.(*acquaintance)
	before := len(who.seen)
	who.seen = slices.DeleteFunc(who.seen, func(s sighting) bool { return s.address == address })
	who.seen = append(who.seen, sighting{address, now})
	if len(who.seen) > k.maxEach {
		who.seen = slices.Delete(who.seen, 0, 1)
	}
	k.total += len(who.seen) - before
	for element := k.order.Front(); element.Value != who; element = k.order.Front() {
		oldest := element.Value.(*acquaintance)
		if k.total <= k.max && now < oldest.seen[len(oldest.seen)-1].at+knownFor {
			return
		}
		k.total -= len(oldest.seen)
		delete(k.byName, oldest.name)
		k.order.Remove(element)
	}
}
