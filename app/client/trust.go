package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// Trusting returns a client that trusts the server with the certificate in a PEM file, its key in another, whatever
// name the server is reached by.
func Trusting(certFile, keyFile string) (*http.Client, error) {
	text, err := os.ReadFile(filepath.Clean(certFile))
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text) // it holds one, or there were no pair
	trust := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	switch {
	case len(pair.Leaf.DNSNames) > 0:
		trust.ServerName = strings.Replace(pair.Leaf.DNSNames[0], "*", "any", 1)
	case len(pair.Leaf.IPAddresses) > 0:
		trust.ServerName = pair.Leaf.IPAddresses[0].String()
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: trust}}, nil
}

// TrustingCAs returns a client that trusts the CAs in a PEM text as well as the system's.
func TrustingCAs(text []byte) (*http.Client, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, err
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, errors.New("holds no certificate")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: pool}
	return &http.Client{Transport: transport}, nil
}
