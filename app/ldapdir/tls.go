package ldapdir

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// TLS returns whom to trust as the server, the CAs in a PEM file or, without one, the system's; and what certificate
// to show it, in two PEM files or none. It is read again for each connection: such files are replaced.
func TLS(caFile, certFile, keyFile string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	var problems []error
	if caFile != "" {
		t.RootCAs = x509.NewCertPool()
		text, err := os.ReadFile(filepath.Clean(caFile))
		if err == nil && !t.RootCAs.AppendCertsFromPEM(text) {
			err = errors.New("holds no certificate in PEM")
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("ldap.ca_file: %s: %w", caFile, err))
		}
	}
	if certFile != "" {
		read := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(certFile, keyFile)
			return &pair, err
		}
		if _, err := read(nil); err != nil {
			problems = append(problems, fmt.Errorf("ldap.client_certificate: %w", err))
		}
		t.GetClientCertificate = read
	}
	return t, errors.Join(problems...)
}
