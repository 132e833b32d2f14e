package docs_test

import (
	"net"
	"sync"
	"testing"
)

// relay stands between a client and a server, and does what networks do.
type relay struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mutex sync.Mutex
	// request and answer see what comes, and say how much of it to pass on, and whether the connection goes on after it.
	request, answer hook
	down            bool
	open            map[net.Conn]bool
}

// hook returns how many bytes of a part to pass on, and whether the connection goes on.
type hook func(part []byte) (pass int, goOn bool)

// all passes everything on.
func all(part []byte) (pass int, goOn bool) { return len(part), true }

// newRelay returns a relay to a host and port.
func newRelay(t *testing.T, target string, request, answer hook) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, target: target, request: request, answer: answer, open: map[net.Conn]bool{}}
	r.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() { r.join(client) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		r.set(true)
		r.running.Wait()
	})
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

// set cuts the connections, and those to come while it is down.
func (r *relay) set(down bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.down = down
	for conn := range r.open {
		_ = conn.Close()
	}
}

// join passes on what comes from both sides, until one of them ends.
func (r *relay) join(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		return
	}
	r.mutex.Lock()
	if r.down {
		_ = server.Close()
	}
	r.open[client], r.open[server] = true, true
	r.mutex.Unlock()
	r.running.Go(func() { r.pass(server, client, r.request) })
	r.pass(client, server, r.answer)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	delete(r.open, client)
	delete(r.open, server)
}

// pass copies until the one side ends, or the hook says so.
func (r *relay) pass(to, from net.Conn, decide hook) {
	defer to.Close()
	defer from.Close()
	for part := make([]byte, 64<<10); ; {
		n, err := from.Read(part)
		if err != nil {
			return
		}
		r.mutex.Lock()
		pass, goOn := decide(part[:n])
		r.mutex.Unlock()
		if _, err := to.Write(part[:pass]); err != nil || !goOn {
			return
		}
	}
}

// isModify reports whether a part of what a client sends begins with an LDAP Modify (RFC 4511 §4.6).
func isModify(part []byte) bool {
	if len(part) < 2 || part[0] != 0x30 {
		return false
	}
	body := part[2:]
	if part[1] > 0x80 { // the length has a length
		body = body[min(int(part[1]&0x7f), len(body)):]
	}
	return len(body) > 2 && len(body) > 2+int(body[1]) && body[2+int(body[1])] == 0x66
}
