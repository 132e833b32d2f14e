package ldapdir

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// pool keeps the connections, in lanes by what they are good for.
type pool struct {
	options  Options
	address  string
	secure   bool // from the first byte
	tls      *tls.Config
	features atomic.Pointer[features]

	// shared carries operations that end soon, many at a time on each connection.
	shared []slot
	turn   atomic.Uint32
	// writes is how many operations that may have changed something have ended.
	writes atomic.Uint64
	// waiting are those who wait while somebody else replaces a shared connection.
	waiting atomic.Int32
	// paged carries paged searches: a cookie is valid only on the connection that made it.
	paged exclusive
	// logins carries binds as somebody else: a bind changes what a connection may do.
	logins exclusive

	mutex  sync.Mutex
	conns  map[*conn]struct{} // every connection that is open
	closed bool
	// running is done when every connection is closed and every operation has ended.
	running sync.WaitGroup
}

func newPool(o Options) (*pool, error) {
	server, err := url.Parse(o.URL)
	if err != nil || server.Scheme != "ldap" && server.Scheme != "ldaps" || server.Host == "" || server.Scheme == "ldaps" && o.StartTLS {
		return nil, errors.New("the LDAP URL must look like ldap://ldap.example.org:389, or like ldaps://ldap.example.org:636 without StartTLS")
	}
	port := server.Port()
	if port == "" {
		port = map[string]string{"ldap": "389", "ldaps": "636"}[server.Scheme]
	}
	p := &pool{options: o, address: net.JoinHostPort(server.Hostname(), port), secure: server.Scheme == "ldaps", tls: &tls.Config{},
		shared: make([]slot, o.Connections), conns: make(map[*conn]struct{})}
	if o.TLS != nil {
		p.tls = o.TLS.Clone()
	}
	p.tls.MinVersion, p.tls.ServerName = max(p.tls.MinVersion, tls.VersionTLS12), server.Hostname()
	for i := range p.shared {
		p.shared[i].dialing = make(chan struct{}, 1)
	}
	p.paged = exclusive{pool: p, places: newLane(o.ExclusiveConnections), dial: p.dialService}
	p.logins = exclusive{pool: p, places: newLane(o.ExclusiveConnections), dial: p.dial}
	return p, nil
}

// close lets no operation begin any more, waits for those that somebody waits for, and closes every connection.
func (p *pool) close() {
	p.mutex.Lock()
	p.closed = true
	open := slices.Collect(maps.Keys(p.conns))
	p.mutex.Unlock()
	for _, c := range open {
		c.retire()
	}
	p.running.Wait()
}

// remember counts a connection in, unless the pool is closed.
func (p *pool) remember(c *conn) bool {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if !p.closed {
		p.conns[c] = struct{}{}
		p.running.Add(1)
	}
	return !p.closed
}

func (p *pool) forget(c *conn) {
	p.mutex.Lock()
	delete(p.conns, c)
	p.mutex.Unlock()
	p.running.Done()
}

// limit returns a context that ends when the server has had its time.
func (p *pool) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, p.options.Timeout, errSilent)
}

// dial opens an anonymous connection.
func (p *pool) dial(ctx context.Context) (*conn, error) {
	var dialer net.Dialer
	raw, err := dialer.DialContext(ctx, "tcp", p.address)
	if err != nil {
		return nil, &lostError{timeout: ctx.Err() != nil || os.IsTimeout(err), cause: err}
	}
	// A write that takes half of an operation's time has stalled: what waits behind it keeps the other half.
	w := &wire{Conn: raw, timeout: p.options.Timeout / 2}
	stream := net.Conn(w)
	if p.secure {
		secured := tls.Client(w, p.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, p.insecure(ctx, err)
		}
		stream = secured
	}
	c := &conn{Conn: ldap.NewConn(stream, p.secure), pool: p, wire: w, born: time.Now()}
	if !p.remember(c) {
		_ = raw.Close()
		return nil, &lostError{cause: errors.New("the pool is closed")}
	}
	c.SetTimeout(p.options.Timeout + time.Second) // a backstop: the context's deadline comes first
	c.Start()
	if p.options.StartTLS {
		if _, err := observed(ctx, c, opExtended, func(l *ldap.Conn) (struct{}, error) { return struct{}{}, l.StartTLS(p.tls) }); err != nil {
			c.retire()
			return nil, p.insecure(ctx, err)
		}
	}
	return c, nil
}

// insecure is that the server can't be spoken to in TLS. In clear nothing is ever said to it then.
func (p *pool) insecure(ctx context.Context, err error) error {
	return &lostError{timeout: ctx.Err() != nil, cause: fmt.Errorf(
		"TLS with %s failed; see that it offers TLS, that its certificate is for that name and valid, and that ldap.ca_file has its CA: %w", p.address, err)}
}

// dialService opens a connection that is bound as the service account, and learns what the server can do.
func (p *pool) dialService(ctx context.Context) (*conn, error) {
	c, err := p.dial(ctx)
	if err != nil {
		return nil, err
	}
	var found *features
	_, err = observed(ctx, c, opBind, func(l *ldap.Conn) (struct{}, error) {
		return struct{}{}, l.Bind(p.options.BindDN, p.options.BindPassword)
	})
	if err != nil {
		err = fmt.Errorf("log in as %s: %w", p.options.BindDN, err)
	} else {
		found, err = observed(ctx, c, opSearch, func(l *ldap.Conn) (*features, error) { return readFeatures(l, p.options.PasswordPolicy) })
	}
	if err != nil {
		c.retire()
		if lost, ok := errors.AsType[*lostError](err); ok {
			return nil, &lostError{timeout: lost.timeout, cause: lost.cause}
		}
		return nil, &lostError{cause: err}
	}
	p.features.Store(found)
	return c, nil
}

// server returns what the server can do, connecting to it where that is not known yet.
func (p *pool) server(ctx context.Context) (*features, error) {
	if f := p.features.Load(); f != nil {
		return f, nil
	}
	ctx, cancel := p.limit(ctx)
	defer cancel()
	if _, err := p.shared[0].take(ctx, p); err != nil {
		return nil, err
	}
	return p.features.Load(), nil
}

// slot is a place for one shared connection.
type slot struct {
	conn atomic.Pointer[conn]
	// dialing is held by the one who replaces the connection.
	dialing chan struct{}
}

// take returns the slot's connection, a new one where there is none or it is past use. The one before it closes
// when what runs on it has ended.
func (s *slot) take(ctx context.Context, p *pool) (*conn, error) {
	if c := s.conn.Load(); c != nil && c.usable() {
		return c, nil
	}
	if err := s.lock(ctx, p); err != nil {
		return nil, err
	}
	defer func() { <-s.dialing }()
	if c := s.conn.Load(); c != nil {
		if c.usable() {
			return c, nil
		}
		s.conn.Store(nil)
		c.retire()
	}
	c, err := p.dialService(ctx)
	if err != nil {
		return nil, err
	}
	s.conn.Store(c)
	return c, nil
}

// lock waits until nobody else replaces the connection.
func (s *slot) lock(ctx context.Context, p *pool) error {
	p.waiting.Add(1)
	defer p.waiting.Add(-1)
	select {
	case s.dialing <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &lostError{timeout: true, cause: context.Cause(ctx)}
	}
}

// next returns the slots in turn.
func (p *pool) next() *slot { return &p.shared[p.turn.Add(1)%uint32(len(p.shared))] }

// do runs one operation on a shared connection, within the configured time and the context's.
func do[T any](ctx context.Context, p *pool, name string, operation func(*ldap.Conn) (T, error)) (T, error) {
	ctx, cancel := p.limit(ctx)
	defer cancel()
	defer p.writes.Add(1)
	return doOn(ctx, p, p.next(), name, operation)
}

// read is do for operations that change nothing: on a connection that was found closed it is tried once more.
func read[T any](ctx context.Context, p *pool, name string, operation func(*ldap.Conn) (T, error)) (T, error) {
	ctx, cancel := p.limit(ctx)
	defer cancel()
	s := p.next()
	value, err := doOn(ctx, p, s, name, operation)
	if foundClosed(err) {
		return doOn(ctx, p, s, name, operation)
	}
	return value, err
}

// foundClosed reports whether an operation ended because the connection had.
func foundClosed(err error) bool {
	lost, ok := errors.AsType[*lostError](err)
	return ok && lost.sent && !lost.timeout
}

func doOn[T any](ctx context.Context, p *pool, s *slot, name string, operation func(*ldap.Conn) (T, error)) (T, error) {
	begun := time.Now()
	for {
		c, err := s.take(ctx, p)
		if err != nil {
			var none T
			p.observe(ctx, name, begun, time.Since(begun), err)
			return none, err
		}
		value, err := counted(ctx, c, name, operation)
		if !errors.Is(err, errRetired) {
			return value, err
		}
	}
}

// lane is a number of places, for each of which one has to wait its turn.
type lane struct {
	places  chan struct{}
	waiting atomic.Int32
	// evict asks those to leave who keep a place without using it.
	evict func()
}

func newLane(places int) lane { return lane{places: make(chan struct{}, places)} }

// enter takes a place.
func (l *lane) enter(ctx context.Context) error {
	select {
	case l.places <- struct{}{}:
		return nil
	default:
	}
	l.waiting.Add(1)
	defer l.waiting.Add(-1)
	if l.evict != nil {
		l.evict()
	}
	select {
	case l.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &lostError{timeout: true, cause: context.Cause(ctx)}
	}
}

// leave gives a place back.
func (l *lane) leave() { <-l.places }

// exclusive is a lane whose connections serve one caller at a time.
type exclusive struct {
	pool   *pool
	dial   func(context.Context) (*conn, error)
	places lane

	mutex sync.Mutex
	idle  []*conn
}

// lease lends a connection to use until it is called back.
func (e *exclusive) lease(ctx context.Context) (*conn, error) {
	if err := e.places.enter(ctx); err != nil {
		return nil, err
	}
	for {
		c := e.pop()
		if c == nil {
			break
		}
		if c.usable() {
			return c, nil
		}
		c.retire()
	}
	c, err := e.dial(ctx)
	if err != nil {
		e.places.leave()
		return nil, err
	}
	return c, nil
}

// borrow leases a connection and runs a first operation on it, within the configured time and the context's: once
// more where the connection was found closed. Unless there is an error, the caller gives the connection back.
func borrow[T any](ctx context.Context, e *exclusive, name string, operation func(*ldap.Conn) (T, error)) (*conn, T, error) {
	ctx, cancel := e.pool.limit(ctx)
	defer cancel()
	begun := time.Now()
	for again := true; ; again = false {
		c, err := e.lease(ctx)
		if err != nil {
			var none T
			e.pool.observe(ctx, name, begun, time.Since(begun), err)
			return nil, none, err
		}
		value, err := counted(ctx, c, name, operation)
		if err == nil {
			return c, value, nil
		}
		e.giveBack(c)
		if !again || !foundClosed(err) {
			return nil, value, err
		}
	}
}

func (e *exclusive) pop() *conn {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	if len(e.idle) == 0 {
		return nil
	}
	c := e.idle[len(e.idle)-1]
	e.idle = e.idle[:len(e.idle)-1]
	return c
}

// giveBack ends a lease. A connection on which something was abandoned is not lent again.
func (e *exclusive) giveBack(c *conn) {
	if c.busy() || !c.usable() {
		c.retire()
	} else {
		e.mutex.Lock()
		e.idle = append(e.idle, c)
		e.mutex.Unlock()
	}
	e.places.leave()
}

// backoff waits a random while that grows with the attempts, and reports whether the context still holds.
func backoff(ctx context.Context, attempt int) bool {
	most := time.Millisecond << min(attempt, 6)
	timer := time.NewTimer(rand.N(most)) //nolint:gosec // spreads retries, hides nothing
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
