package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/sirupsen/logrus"

	"rollcall/app/rest"
	"rollcall/config"
)

// serverTLS returns how to serve HTTPS, nil where there is no certificate.
func serverTLS(c config.Server, log *logrus.Logger) (*tls.Config, error) {
	if c.TLSCertificate == "" {
		return nil, nil
	}
	certificate, err := rest.NewCertificate(c.TLSCertificate, c.TLSKey, log)
	if err != nil {
		return nil, fmt.Errorf("server.tls_certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate.Get}, nil
}

// directoryTLS returns whom to trust as the directory server, and what to show it.
func directoryTLS(c config.LDAP) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	var problems []error
	if c.CAFile != "" {
		pool, err := certificates(c.CAFile)
		if err != nil {
			problems = append(problems, fmt.Errorf("ldap.ca_file: %w", err))
		}
		t.RootCAs = pool
	}
	if c.ClientCertificate != "" {
		read := func() (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(c.ClientCertificate, c.ClientKey)
			return &pair, err
		}
		if _, err := read(); err != nil {
			problems = append(problems, fmt.Errorf("ldap.client_certificate: %w", err))
		}
		t.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return read() } // they are replaced
	}
	return t, errors.Join(problems...)
}

// certificates reads a PEM file of certificates.
func certificates(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return pool, nil
}

// ownHTTP returns a client that trusts the certificate that the server has, for whatever name that is.
func ownHTTP(c config.Server) (*http.Client, error) {
	if c.TLSCertificate == "" {
		return nil, nil
	}
	pool, err := certificates(c.TLSCertificate)
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCertificate, c.TLSKey)
	if err != nil {
		return nil, err
	}
	name := ""
	switch leaf := pair.Leaf; {
	case len(leaf.DNSNames) > 0:
		name = strings.Replace(leaf.DNSNames[0], "*", "any", 1)
	case len(leaf.IPAddresses) > 0:
		name = leaf.IPAddresses[0].String()
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool, ServerName: name}}
	return &http.Client{Transport: transport}, nil
}

// inClear reports whether passwords travel to the directory server for others to read.
func inClear(c config.LDAP) bool {
	address, plain := strings.CutPrefix(c.URL, "ldap://")
	host, _, err := net.SplitHostPort(address)
	if !plain || c.StartTLS || err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host != "localhost" && (err != nil || !ip.IsLoopback())
}
