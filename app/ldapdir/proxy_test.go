package ldapdir_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
)

// message is the beginning of one LDAP message. The rest has not been read from its connection.
type message struct {
	op   byte
	id   int64
	size int
	head []byte
}

const (
	everything = math.MaxInt
	swallow    = -1
	taken      = -2
)

// hook says how many bytes of a message to pass on; the connection is cut when that is not all. Other answers are
// swallow, which passes nothing on and goes on, and taken, which says that the hook has read the message itself.
// As long as the hook does not return, nothing more is read.
type hook func(l *link, m message) int

// proxy stands between a directory and its server, and does what networks do.
type proxy struct {
	listener  net.Listener
	target    atomic.Value
	running   sync.WaitGroup
	mutex     sync.Mutex
	request   hook
	answer    hook
	links     map[*link]bool
	listeners []net.Listener
	accepted  int
	most      int
	counts    map[byte]int
}

// link is one connection through the proxy.
type link struct {
	number         int
	client, server net.Conn
	answers        *bufio.Reader
	done           chan struct{}
	once           sync.Once
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	// So that a message of some MiB does not fit. It must be set before a connection is accepted.
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 256<<10) })
	}}
	listener, err := config.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, links: map[*link]bool{}, counts: map[byte]int{}}
	p.target.Store(target)
	p.serve(listener)
	return p
}

func (p *proxy) serve(listener net.Listener) {
	p.mutex.Lock()
	p.listeners = append(p.listeners, listener)
	p.mutex.Unlock()
	p.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", p.target.Load().(string))
			if err != nil {
				client.Close()
				continue
			}
			p.mutex.Lock()
			p.accepted++
			l := &link{number: p.accepted, client: client, server: server, answers: bufio.NewReader(server), done: make(chan struct{})}
			p.links[l] = true
			p.most = max(p.most, len(p.links))
			p.mutex.Unlock()
			p.running.Go(func() { p.pump(l, bufio.NewReader(client), server, &p.request) })
			p.running.Go(func() { p.pump(l, l.answers, client, &p.answer) })
		}
	})
}

func (p *proxy) pump(l *link, from *bufio.Reader, to net.Conn, asked *hook) {
	defer p.end(l)
	for {
		m, err := peek(from)
		if err != nil {
			return
		}
		p.mutex.Lock()
		p.counts[m.op]++
		decide := *asked
		p.mutex.Unlock()
		pass := everything
		if decide != nil {
			pass = decide(l, m)
		}
		switch {
		case pass == taken:
		case pass == swallow:
			_, err = from.Discard(m.size)
		case pass < m.size:
			_, _ = io.CopyN(to, from, int64(pass))
			return
		default:
			_, err = io.CopyN(to, from, int64(m.size))
		}
		if err != nil {
			return
		}
	}
}

// peek reads the beginning of a message, without taking it.
func peek(r *bufio.Reader) (message, error) {
	b, err := r.Peek(2)
	if err != nil {
		return message{}, err
	}
	header, length := 2, int(b[1])
	if b[1] >= 0x80 {
		header += int(b[1] & 0x7f)
		if b, err = r.Peek(header); err != nil {
			return message{}, err
		}
		length = 0
		for _, digit := range b[2:] {
			length = length<<8 | int(digit)
		}
	}
	m := message{size: header + length}
	if m.head, err = r.Peek(min(m.size, 512)); err != nil {
		return message{}, err
	}
	id := m.head[header+2:]
	for _, digit := range id[:m.head[header+1]] {
		m.id = m.id<<8 | int64(digit)
	}
	m.op = id[m.head[header+1]]
	return m, nil
}

func (p *proxy) end(l *link) {
	l.once.Do(func() {
		close(l.done)
		p.mutex.Lock() // first, so that what takes its place is not counted beside it
		delete(p.links, l)
		p.mutex.Unlock()
		l.client.Close()
		l.server.Close()
	})
}

// cut ends every connection.
func (p *proxy) cut() {
	p.mutex.Lock()
	links := make([]*link, 0, len(p.links))
	for l := range p.links {
		links = append(links, l)
	}
	p.mutex.Unlock()
	for _, l := range links {
		p.end(l)
	}
}

func (p *proxy) close() {
	p.mutex.Lock()
	listeners := p.listeners
	p.mutex.Unlock()
	for _, l := range listeners {
		l.Close()
	}
	p.cut()
	p.running.Wait()
}

func (p *proxy) onRequest(h hook) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.request = h
}

func (p *proxy) onAnswer(h hook) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.answer = h
}

// seen returns how many messages of an operation have come in.
func (p *proxy) seen(op byte) int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.counts[op]
}

func (p *proxy) openLinks() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return len(p.links)
}

func (p *proxy) mostLinks() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.most
}

// newest returns the number of the newest connection, which is how many there have been.
func (p *proxy) newest() int {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return p.accepted
}

func (p *proxy) String() string {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return fmt.Sprintf("%d connections made, %d open, %d at most", p.accepted, len(p.links), p.most)
}

// gate holds messages back until it is opened, or their connection ends.
type gate struct {
	opened chan struct{}
	once   sync.Once
}

func newGate() *gate { return &gate{opened: make(chan struct{})} }

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

func (g *gate) hold(l *link, _ message) int {
	select {
	case <-g.opened:
	case <-l.done:
	}
	return everything
}

// queue is how many connections wait for a listener that fullQueue returns, at least.
const queue = 64

// holdLarge holds back what fills the buffers.
func (g *gate) holdLarge(l *link, m message) int {
	if m.size > 1<<20 {
		return g.hold(l, m)
	}
	return everything
}

// fullQueue returns a listener that does not accept yet, and connections that leave no room for more.
func fullQueue(t *testing.T) (listener net.Listener, fillers []net.Conn) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "listener")
	defer file.Close()
	err = errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, queue))
	if err != nil {
		t.Fatal(err)
	}
	if listener, err = net.FileListener(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	for {
		filler, err := net.DialTimeout("tcp", listener.Addr().String(), timeout/5)
		if os.IsTimeout(err) {
			return listener, fillers
		}
		if err != nil {
			t.Fatal(err)
		}
		fillers = append(fillers, filler)
	}
}
