//go:build linux

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"
)

// The folder of certificates and what is in it.
const (
	tlsDir     = "tls"
	authority  = "ca.pem"     // the CA with its key, for root
	caFile     = "ca.crt"     // the CA, for clients
	serverFile = "server.pem" // slapd's certificate with its key
)

const (
	keyBlock         = "PRIVATE KEY"
	certificateBlock = "CERTIFICATE"
)

// A certificate is renewed at start, when less than renewal is left of it: whoever restarts slapd once in that time
// never sees one run out.
const (
	year           = 365 * 24 * time.Hour
	caLifetime     = 30 * year
	serverLifetime = 3 * year
	renewal        = 2 * year
)

// makeCertificates makes the CA where there is none, and slapd's certificate where there is none that is good for long.
func (s *server) makeCertificates() error {
	if err := os.MkdirAll(s.path(tlsDir), 0o755); err != nil { //nolint:gosec // slapd's user passes through
		return err
	}
	owner := -1
	if s.user != nil {
		owner = int(s.user.Uid)
	}
	ca, err := read(s.path(tlsDir, authority))
	if errors.Is(err, fs.ErrNotExist) {
		ca, err = issue(nil, &x509.Certificate{
			Subject: pkix.Name{CommonName: "Rollcall's OpenLDAP " + time.Now().UTC().Format(time.DateOnly)}, NotAfter: time.Now().Add(caLifetime),
			IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
		})
		if err == nil {
			err = write(s.path(tlsDir, authority), text(ca, true), 0o600, -1)
		}
	}
	if err != nil {
		return fmt.Errorf("the CA in %s: %w", s.path(tlsDir, authority), err)
	}
	if err := write(s.path(tlsDir, caFile), text(ca, false), 0o644, -1); err != nil {
		return err
	}
	if current, err := read(s.path(tlsDir, serverFile)); err == nil && s.lasts(current.Leaf, ca.Leaf) {
		return nil
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "openldap"}, NotAfter: earlier(time.Now().Add(serverLifetime), ca.Leaf.NotAfter),
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for host := range strings.SplitSeq(s.hosts, ",") {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	certificate, err := issue(ca, template)
	if err != nil {
		return err
	}
	return write(s.path(tlsDir, serverFile), text(certificate, true), 0o400, owner)
}

// lasts reports whether a certificate is the CA's, for all hosts, and good for long enough.
func (s *server) lasts(c, ca *x509.Certificate) bool {
	for host := range strings.SplitSeq(s.hosts, ",") {
		if c.VerifyHostname(host) != nil {
			return false
		}
	}
	return c.CheckSignatureFrom(ca) == nil && time.Until(c.NotAfter) > renewal
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// issue makes a key and a certificate that the CA has signed, or itself where there is no CA.
func issue(ca *tls.Certificate, template *x509.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template.NotBefore = time.Now().Add(-time.Hour) // clocks differ
	parent, signer := template, crypto.PrivateKey(key)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// text returns a certificate in PEM, with its key or without.
func text(c *tls.Certificate, withKey bool) string {
	written := pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: c.Certificate[0]})
	if withKey {
		der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
		if err != nil {
			panic(err) // it was made or read here
		}
		written = append(written, pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})...)
	}
	return string(written)
}

// read reads a certificate with its key.
func read(path string) (*tls.Certificate, error) {
	both, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := tls.X509KeyPair(both, both)
	return &c, err
}
