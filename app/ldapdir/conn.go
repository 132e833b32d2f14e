package ldapdir

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// conn is a connection to the server and what the pool knows of it.
type conn struct {
	*ldap.Conn
	pool *pool
	wire *wire
	born time.Time
	// unanswered counts operations in a row that got no answer. go-ldap gives up on the operation after a while
	// and goes on using the connection, which may be dead.
	unanswered atomic.Int32

	mutex sync.Mutex
	// running counts operations, abandoned ones included; awaited those that somebody waits for.
	running, awaited int
	retired, closed  bool
}

// maxUnanswered operations in a row, and a connection is taken for dead.
const maxUnanswered = 2

// usable reports whether new operations may go over the connection.
func (c *conn) usable() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return !c.retired && !c.IsClosing() && !c.wire.broken.Load() && c.unanswered.Load() < maxUnanswered &&
		time.Since(c.born) < c.pool.options.MaxConnectionAge
}

// begin counts an operation in, and reports whether the connection still takes any.
func (c *conn) begin() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !c.retired {
		c.running++
		c.awaited++
	}
	return !c.retired
}

// end counts an operation out.
func (c *conn) end() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.running--
}

// leave counts out somebody who waited for an operation.
func (c *conn) leave() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.awaited--
	c.closeIfIdle()
}

// busy reports whether something still runs on the connection.
func (c *conn) busy() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.running > 0
}

// retire closes the connection as soon as nobody waits for an operation on it.
func (c *conn) retire() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.retired = true
	c.closeIfIdle()
}

func (c *conn) closeIfIdle() {
	if !c.retired || c.awaited > 0 || c.closed {
		return
	}
	c.closed = true
	_ = c.wire.Close() // ends what was abandoned, and a write that stalls
	go func() {
		_ = c.Close()
		c.pool.forget(c)
	}()
}

// wire is a net.Conn whose writes have a deadline. go-ldap sends all of a connection's requests from one
// goroutine, so a write that stalls would stop every one of them, and no timeout of go-ldap's covers it.
type wire struct {
	net.Conn
	timeout time.Duration
	broken  atomic.Bool
}

// Write writes all of b or closes the connection: after a part of a message nothing more can be sent.
func (w *wire) Write(b []byte) (int, error) {
	err := w.SetWriteDeadline(time.Now().Add(w.timeout))
	n := 0
	if err == nil {
		n, err = w.Conn.Write(b)
	}
	if err != nil {
		w.broken.Store(true)
		_ = w.Close()
	}
	return n, err
}

// lostError is an operation that the server did not answer.
type lostError struct {
	// sent tells that the server may have got the request.
	sent    bool
	timeout bool
	cause   error
}

func (e *lostError) Error() string {
	if e.timeout {
		return fmt.Sprintf("no answer in time: %v", e.cause)
	}
	return fmt.Sprintf("no connection: %v", e.cause)
}

func (e *lostError) Unwrap() error { return e.cause }

var (
	errRetired = errors.New("the connection has been retired")
	// errSilent is the cause of a context that ends because the server took too long, and not the caller's.
	errSilent = errors.New("the directory server does not answer")
)

// await runs one operation on the connection until it ends or the context does, whichever is first. What is
// abandoned ends by go-ldap's own timeout, a little later.
func await[T any](ctx context.Context, c *conn, operation func(*ldap.Conn) (T, error)) (T, error) {
	var none T
	if ctx.Err() != nil {
		return none, &lostError{timeout: true, cause: context.Cause(ctx)}
	}
	if !c.begin() {
		return none, &lostError{cause: errRetired}
	}
	defer c.leave()
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	var counted atomic.Bool // so that an operation is counted as unanswered once
	unanswered := func() {
		if !counted.Swap(true) {
			c.unanswered.Add(1)
		}
	}
	c.pool.running.Go(func() {
		value, err := operation(c.Conn)
		if answered(err) {
			c.unanswered.Store(0)
		} else {
			unanswered()
		}
		c.end()
		done <- outcome{value, err}
	})
	select {
	case o := <-done:
		if !answered(o.err) {
			return none, &lostError{sent: true, cause: o.err}
		}
		return o.value, o.err
	case <-ctx.Done():
		if errors.Is(context.Cause(ctx), errSilent) {
			unanswered()
		}
		return none, &lostError{sent: true, timeout: true, cause: context.Cause(ctx)}
	}
}
