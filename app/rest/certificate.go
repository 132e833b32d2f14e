package rest

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"sync"

	"github.com/sirupsen/logrus"
)

// Certificate is a TLS certificate in two PEM files, which are read again when they change.
type Certificate struct {
	certFile, keyFile string
	log               *logrus.Logger

	mutex     sync.Mutex
	cert, key []byte // as they were last read, good or bad
	current   *tls.Certificate
	told      string // what was logged last
}

// NewCertificate reads a certificate. What goes wrong when it is read again is told to the log, and the one before
// stays in use.
func NewCertificate(certFile, keyFile string, log *logrus.Logger) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, log: log}
	return c, c.read()
}

// get is for [tls.Config.GetCertificate].
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	err := c.read()
	if err != nil && err.Error() != c.told {
		c.told = err.Error()
		c.log.WithError(err).Error("the TLS certificate could not be read again; the one before stays in use")
	}
	return c.current, nil
}

// TLS returns how to serve HTTPS with the certificate.
func (c *Certificate) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// read reads the files and, where they have changed, what they hold.
func (c *Certificate) read() error {
	cert, err := os.ReadFile(filepath.Clean(c.certFile))
	if err != nil {
		return err
	}
	key, err := os.ReadFile(filepath.Clean(c.keyFile))
	if err != nil {
		return err
	}
	if bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return nil
	}
	c.cert, c.key = cert, key
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return err
	}
	c.current, c.told = &pair, ""
	return nil
}
