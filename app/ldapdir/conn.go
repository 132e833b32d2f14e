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
	wire *wire
	born time.Time
	// timeouts counts operations in a row that got no answer in time. go-ldap gives up on the operation and
	// goes on using the connection, which may be dead.
	timeouts atomic.Int32

	mutex sync.Mutex
	// pending counts operations that still run, abandoned ones included.
	pending int
	retired bool
	// closed counts the connections that are not closed yet.
	closed *sync.WaitGroup
}

// maxTimeouts in a row, and a connection is taken for dead.
const maxTimeouts = 2

// usable reports whether new operations may go over the connection.
func (c *conn) usable(maxAge time.Duration) bool {
	return !c.dead() && time.Since(c.born) < maxAge
}

func (c *conn) dead() bool {
	return c.IsClosing() || c.wire.broken.Load() || c.timeouts.Load() >= maxTimeouts
}

// begin counts an operation in, and reports whether the connection still takes any.
func (c *conn) begin() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if !c.retired {
		c.pending++
	}
	return !c.retired
}

func (c *conn) end() {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.pending--
	c.closeIfIdle()
}

// busy reports whether something still runs on the connection.
func (c *conn) busy() bool {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return c.pending > 0
}

// retire closes the connection when its operations have ended, or at once where it is dead.
func (c *conn) retire() {
	if c.dead() {
		_ = c.wire.Close()
	}
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.retired = true
	c.closeIfIdle()
}

func (c *conn) closeIfIdle() {
	if c.retired && c.pending == 0 {
		go func() {
			_ = c.Close()
			c.closed.Done()
		}()
	}
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

var errRetired = errors.New("the connection has been retired")

// await runs one operation on the connection until it ends or the context does, whichever is first. What is
// abandoned ends by go-ldap's own timeout, a little later.
func await[T any](ctx context.Context, c *conn, operation func(*ldap.Conn) (T, error)) (T, error) {
	var none T
	if !c.begin() {
		return none, &lostError{cause: errRetired}
	}
	type outcome struct {
		value T
		err   error
	}
	done := make(chan outcome, 1)
	go func() {
		value, err := operation(c.Conn)
		c.end()
		done <- outcome{value, err}
	}()
	select {
	case o := <-done:
		if o.err != nil && !answered(o.err) {
			return none, &lostError{sent: true, cause: o.err}
		}
		c.timeouts.Store(0)
		return o.value, o.err
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			c.timeouts.Add(1)
		}
		return none, &lostError{sent: true, timeout: true, cause: context.Cause(ctx)}
	}
}
