package ldapdir_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// startSecured starts a slapd that can go on in TLS, with more lines in its configuration.
func startSecured(t *testing.T, certFile, keyFile, caFile, more string) *slapd.Server {
	t.Helper()
	return ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string {
		return strings.Replace(conf, "loglevel ", "TLSCertificateFile "+certFile+"\nTLSCertificateKeyFile "+keyFile+
			"\nTLSCACertificateFile "+caFile+"\n"+more+"\nloglevel ", 1)
	}})
}

// relay is a listener in front of a server that keeps every byte that clients send.
type relay struct {
	listener net.Listener
	address  string // of the server
	running  sync.WaitGroup

	mutex sync.Mutex
	sent  bytes.Buffer
	conns []net.Conn
}

func startRelay(t *testing.T, listener net.Listener, server *slapd.Server) *relay {
	t.Helper()
	r := &relay{listener: listener, address: strings.TrimPrefix(server.URL(), "ldap://")}
	r.running.Go(r.run)
	t.Cleanup(func() {
		_ = listener.Close()
		r.mutex.Lock()
		for _, c := range r.conns {
			_ = c.Close()
		}
		r.mutex.Unlock()
		r.running.Wait()
	})
	return r
}

func (r *relay) run() {
	for {
		client, err := r.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", r.address)
		if err != nil {
			_ = client.Close()
			continue
		}
		r.mutex.Lock()
		r.conns = append(r.conns, client, server)
		r.mutex.Unlock()
		r.running.Go(func() {
			_, _ = io.Copy(io.MultiWriter(server, r), client)
			_ = server.Close()
		})
		r.running.Go(func() {
			_, _ = io.Copy(client, server)
			_ = client.Close()
		})
	}
}

// Write keeps what a client sent.
func (r *relay) Write(b []byte) (int, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return r.sent.Write(b)
}

func (r *relay) saw(text string) bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return strings.Contains(r.sent.String(), text)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// url is of a listener on this machine, by name.
func url(scheme string, l net.Listener) string {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return scheme + "://localhost:" + port
}

// leaksNothing demands that no goroutine is left when everything that the test starts from here on has been closed.
func leaksNothing(t *testing.T) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) })
}

func soon() time.Time { return time.Now().Add(time.Hour) }

func TestTLSWorksEitherWay(t *testing.T) {
	leaksNothing(t)
	authority := ldapdirtest.NewAuthority(t)
	certFile, keyFile := authority.Issue("localhost", soon())
	server := startSecured(t, certFile, keyFile, authority.File, "")
	for _, scheme := range []string{"ldap", "ldaps"} {
		t.Run(scheme, func(t *testing.T) {
			l := listen(t)
			front := l
			if scheme == "ldaps" {
				front = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{ldapdirtest.Pair(t, certFile, keyFile)}})
			}
			r := startRelay(t, front, server)
			o := ldapdirtest.Options(server)
			o.URL, o.StartTLS, o.TLS = url(scheme, l), scheme == "ldap", &tls.Config{RootCAs: authority.Pool}
			d := ldapdirtest.Open(t, o)
			if _, err := d.Create(t.Context(), ldapdirtest.Users, directory.Patch{Set: map[string][]string{
				"cn": {scheme}, "uid": {scheme}, "sn": {"x"}, "userPassword": {"a good password"}}}); err != nil {
				t.Fatal(err)
			}
			if _, err := d.Authenticate(t.Context(), "cn="+scheme+",ou=people,"+ldapdirtest.Base, "a good password"); err != nil {
				t.Error(err)
			}
			if scheme == "ldap" && (r.saw(o.BindPassword) || r.saw("a good password")) {
				t.Error("a password travels in clear")
			}
		})
	}
}

// TestWhoCanNotBeTrustedIsToldNothing: not the password, whatever is wrong with the server.
func TestWhoCanNotBeTrustedIsToldNothing(t *testing.T) {
	authority, other := ldapdirtest.NewAuthority(t), ldapdirtest.NewAuthority(t)
	for _, c := range []struct {
		name, host string
		until      time.Time
		issuer     *ldapdirtest.Authority // nil: the server has no TLS
	}{
		{"another authority's", "localhost", soon(), other},
		{"for another name", "ldap.example.org", soon(), authority},
		{"expired", "localhost", time.Now().Add(-time.Hour), authority},
		{"no certificate", "", soon(), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			leaksNothing(t)
			var server *slapd.Server
			if c.issuer == nil {
				server = ldapdirtest.Start(t, slapd.Options{})
			} else {
				certFile, keyFile := c.issuer.Issue(c.host, c.until)
				server = startSecured(t, certFile, keyFile, c.issuer.File, "")
			}
			for _, scheme := range []string{"ldap", "ldaps"} {
				l := listen(t)
				front := l
				if c.issuer != nil && scheme == "ldaps" {
					certFile, keyFile := c.issuer.Issue(c.host, c.until)
					front = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{ldapdirtest.Pair(t, certFile, keyFile)}})
				}
				r := startRelay(t, front, server)
				o := ldapdirtest.Options(server)
				o.URL, o.StartTLS, o.TLS = url(scheme, l), scheme == "ldap", &tls.Config{RootCAs: authority.Pool}
				d := ldapdirtest.Open(t, o)
				err := d.Ready(t.Context())
				if !directory.Is(err, directory.Unavailable) || !strings.Contains(err.Error(), "TLS with localhost") {
					t.Errorf("%s: %v", scheme, err)
				}
				if r.saw(o.BindPassword) {
					t.Errorf("%s: the password was told", scheme)
				}
			}
		})
	}
}

// TestAHandshakeThatNeverEndsIsGivenUp: the server takes the connection and says nothing, or nothing after it agreed to
// StartTLS.
func TestAHandshakeThatNeverEndsIsGivenUp(t *testing.T) {
	leaksNothing(t)
	const handshake = 0x16 // the type of a record, RFC 8446 §5.1
	agreed := []byte{0x30, 0x0c, 0x02, 0x01, 0x01, 0x78, 0x07, 0x0a, 0x01, 0x00, 0x04, 0x00, 0x04, 0x00}
	for _, says := range [][]byte{nil, agreed} {
		for _, scheme := range []string{"ldap", "ldaps"} {
			l := listen(t)
			var running sync.WaitGroup
			var begun atomic.Bool
			running.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					running.Go(func() {
						defer func() { _ = c.Close() }()
						b := make([]byte, 4096)
						_, _ = c.Read(b) // who answers before being asked is not heard
						_, _ = c.Write(says)
						if n, _ := c.Read(b); n > 0 && b[0] == handshake {
							begun.Store(true)
						}
						_, _ = io.Copy(io.Discard, c)
					})
				}
			})
			d, err := ldapdir.New(ldapdir.Options{
				URL: url(scheme, l), StartTLS: scheme == "ldap", BaseDN: ldapdirtest.Base, BindDN: "cn=x", BindPassword: "x", Timeout: time.Second,
				Connections: 1, ExclusiveConnections: 1, SortedSearches: 1, MaxConnectionAge: time.Hour, PageSize: 1, MaxMessageBytes: 1 << 20,
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := d.Ready(context.Background()); !directory.Is(err, directory.Timeout) && !directory.Is(err, directory.Unavailable) {
				t.Errorf("%s: %v", scheme, err)
			}
			d.Close()
			_ = l.Close()
			running.Wait()
			if says != nil && scheme == "ldap" && !begun.Load() {
				t.Error("the server agreed to StartTLS, and no handshake began")
			}
		}
	}
}

func TestAServerMayDemandACertificate(t *testing.T) {
	authority, other := ldapdirtest.NewAuthority(t), ldapdirtest.NewAuthority(t)
	certFile, keyFile := authority.Issue("localhost", soon())
	server := startSecured(t, certFile, keyFile, authority.File, "TLSVerifyClient demand")
	ours := ldapdirtest.Pair(t, certFile, keyFile)
	certFile, keyFile = other.Issue("localhost", soon())
	theirs := ldapdirtest.Pair(t, certFile, keyFile)
	for _, c := range []struct {
		name  string
		shown []tls.Certificate
		good  bool
	}{{"the right one", []tls.Certificate{ours}, true}, {"another authority's", []tls.Certificate{theirs}, false}, {"none", nil, false}} {
		o := ldapdirtest.Options(server)
		o.URL = strings.Replace(o.URL, "127.0.0.1", "localhost", 1)
		o.StartTLS, o.TLS = true, &tls.Config{RootCAs: authority.Pool, Certificates: c.shown}
		if err := ldapdirtest.Open(t, o).Ready(t.Context()); (err == nil) != c.good {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestACertificateForTheServerIsReadAgainForEachConnection(t *testing.T) {
	authority, other := ldapdirtest.NewAuthority(t), ldapdirtest.NewAuthority(t)
	certFile, keyFile := authority.Issue("localhost", soon())
	server := startSecured(t, certFile, keyFile, authority.File, "TLSVerifyClient demand")
	certFile, keyFile = other.Issue("rollcall", soon())
	secured, err := ldapdir.TLS(authority.File, certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	o := ldapdirtest.Options(server)
	o.URL = strings.Replace(o.URL, "127.0.0.1", "localhost", 1)
	o.StartTLS, o.TLS = true, secured
	d := ldapdirtest.Open(t, o)
	if err := d.Ready(t.Context()); !directory.Is(err, directory.Unavailable) {
		t.Errorf("another authority's: %v", err)
	}
	authority.IssueTo(certFile, keyFile, "rollcall", soon())
	if err := d.Ready(t.Context()); err != nil {
		t.Errorf("replaced by the right one: %v", err)
	}
}

func TestTLSComesBackAfterTheServerDoes(t *testing.T) {
	authority := ldapdirtest.NewAuthority(t)
	certFile, keyFile := authority.Issue("localhost", soon())
	server := startSecured(t, certFile, keyFile, authority.File, "")
	o := ldapdirtest.Options(server)
	o.URL = strings.Replace(o.URL, "127.0.0.1", "localhost", 1)
	o.StartTLS, o.TLS = true, &tls.Config{RootCAs: authority.Pool}
	d := ldapdirtest.Open(t, o)
	if err := d.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	server, err := server.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Kill() })
	if err := d.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}
