package deploy_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// secret returns what may stand in a file of that name.
func secret(t *testing.T, name string) string {
	t.Helper()
	block := &pem.Block{Type: "PRIVATE KEY"}
	var err error
	switch name {
	case "bind-password":
		return "correct horse\n"
	case "token.key":
		_, key, _ := ed25519.GenerateKey(nil)
		block.Bytes, err = x509.MarshalPKCS8PrivateKey(key)
	case "ca.pem":
		block.Type, block.Bytes = "CERTIFICATE", authority(t)
	default:
		t.Fatalf("nobody knows what %s holds", name)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block))
}

func authority(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Example CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}
