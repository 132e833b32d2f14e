package rest_test

import (
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/rest"
)

// served is a certificate in use.
type served struct {
	t                 *testing.T
	authority         *ldapdirtest.Authority
	certFile, keyFile string
	address           string
	log               *logBuffer
}

func serve(t *testing.T) *served {
	t.Helper()
	s := &served{t: t, authority: ldapdirtest.NewAuthority(t), log: &logBuffer{}}
	s.certFile, s.keyFile = s.authority.Issue("one.example.org", time.Now().Add(time.Hour))
	log := logrus.New()
	log.SetOutput(s.log)
	certificate, err := rest.NewCertificate(s.certFile, s.keyFile, log)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.address = listener.Addr().String()
	server := &http.Server{
		Handler: http.NotFoundHandler(), TLSConfig: certificate.TLS(), ReadHeaderTimeout: time.Minute,
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ServeTLS(listener, "", "") }()
	t.Cleanup(func() { _ = server.Close(); <-done })
	return s
}

// dial returns a connection to the server under a name.
func (s *served) dial(name string, change func(*tls.Config)) (*tls.Conn, error) {
	s.t.Helper()
	c := &tls.Config{RootCAs: s.authority.Pool, ServerName: name, NextProtos: []string{"h2"}}
	if change != nil {
		change(c)
	}
	conn, err := tls.Dial("tcp", s.address, c)
	if err == nil {
		s.t.Cleanup(func() { _ = conn.Close() })
	}
	return conn, err
}

func TestACertificateIsReadAgainWhenItChanges(t *testing.T) {
	s := serve(t)
	old, err := s.dial("one.example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.authority.IssueTo(s.certFile, s.keyFile, "two.example.org", time.Now().Add(time.Hour))
	if _, err := s.dial("two.example.org", nil); err != nil {
		t.Errorf("the new certificate is not served: %v", err)
	}
	if _, err := s.dial("one.example.org", nil); err == nil {
		t.Error("the old certificate is served")
	}
	if _, err := old.Write([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")); err != nil {
		t.Errorf("the old connection is gone: %v", err)
	}
}

func TestABrokenCertificateLeavesTheOneBeforeInUse(t *testing.T) {
	s := serve(t)
	good, err := os.ReadFile(s.certFile)
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []func() error{
		func() error { return os.WriteFile(s.certFile, []byte("nothing"), 0o600) },
		func() error { return os.WriteFile(s.certFile, good[:len(good)/2], 0o600) },
		func() error { return os.Remove(s.certFile) },
	} {
		if err := broken(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.dial("one.example.org", nil); err != nil {
			t.Errorf("nothing is served: %v", err)
		}
		if !strings.Contains(s.log.text(), "certificate could not be read again") {
			t.Errorf("the log does not say so: %s", s.log.text())
		}
	}
	s.authority.IssueTo(s.certFile, s.keyFile, "two.example.org", time.Now().Add(time.Hour))
	if _, err := s.dial("two.example.org", nil); err != nil {
		t.Errorf("the mended certificate is not served: %v", err)
	}
}

func TestOldVersionsOfTLSAreRefused(t *testing.T) {
	s := serve(t)
	_, err := s.dial("one.example.org", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
	if err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	conn, err := s.dial("one.example.org", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })
	if err != nil {
		t.Fatal(err)
	}
	if conn.ConnectionState().NegotiatedProtocol != "h2" {
		t.Error("HTTP/2 is not spoken")
	}
}

func TestACertificateThatCanNotBeReadIsAnErrorAtOnce(t *testing.T) {
	s := serve(t)
	for _, files := range [][2]string{{"none.pem", s.keyFile}, {s.certFile, "none.pem"}, {s.keyFile, s.certFile}} {
		if _, err := rest.NewCertificate(files[0], files[1], logrus.New()); err == nil {
			t.Errorf("%q is taken", files)
		}
	}
}
