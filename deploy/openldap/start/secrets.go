//go:build linux

package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"
)

// The files in the folder of secrets.
const (
	serviceFile = "service.password"
	adminFile   = "admin.password"
	tokenFile   = "token.key"
	tokenFiles  = "token*.key" // with those that are being rotated
)

// Least lengths of passwords. The service account's is hashed cheaply, and so has to be hard to guess; the
// administrator's is bound by the password policy.
const (
	leastService = 20
	leastAdmin   = 8
)

func (s *server) servicePassword() (string, error) { return s.password(serviceFile, leastService) }
func (s *server) adminPassword() (string, error)   { return s.password(adminFile, leastAdmin) }

// password reads a password, and makes it first where there is none.
func (s *server) password(name string, least int) (string, error) {
	text, err := s.secret(name, func() (string, error) { return rand.Text() + "\n", nil })
	if err != nil {
		return "", err
	}
	password := strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	switch {
	case len(password) < least:
		return "", fmt.Errorf("%s: the password is too short: give it at least %d characters, or remove the file to have one made", s.secretPath(name), least)
	case strings.ContainsFunc(password, unicode.IsControl):
		return "", fmt.Errorf("%s: the password must be one line of text", s.secretPath(name))
	}
	return password, nil
}

// makeTokenKey makes the key that signs tokens where there is none.
func (s *server) makeTokenKey() error {
	_, err := s.secret(tokenFile, func() (string, error) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return "", err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return string(pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})), err
	})
	return err
}

// secret reads a secret, and makes it first where there is none. Only root can read what it makes.
func (s *server) secret(name string, made func() (string, error)) (string, error) {
	text, err := os.ReadFile(s.secretPath(name))
	if !errors.Is(err, fs.ErrNotExist) {
		return string(text), err
	}
	fresh, err := made()
	if err != nil {
		return "", err
	}
	if err := write(s.secretPath(name), fresh, 0o600, -1); err != nil {
		return "", fmt.Errorf("%s is missing, and can't be made: %w", s.secretPath(name), err)
	}
	return fresh, nil
}

// handOver copies what the API needs to where it reads it, for nobody else. It is never shown the rest.
func (s *server) handOver(password string) error {
	ca, err := os.ReadFile(s.path(tlsDir, caFile))
	if err != nil {
		return err
	}
	files := map[string]string{serviceFile: password, caFile: string(ca)}
	keys, err := filepath.Glob(s.secretPath(tokenFiles))
	if err != nil {
		return err
	}
	for _, key := range keys {
		text, err := os.ReadFile(filepath.Clean(key))
		if err != nil {
			return err
		}
		files[filepath.Base(key)] = string(text)
	}
	for name, text := range files {
		if err := write(filepath.Join(s.handover, name), text, 0o400, s.reader); err != nil {
			return err
		}
	}
	there, err := os.ReadDir(s.handover)
	if err != nil {
		return err
	}
	for _, file := range there {
		if _, current := files[file.Name()]; !current {
			if err := os.RemoveAll(filepath.Join(s.handover, file.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *server) secretPath(name string) string { return filepath.Join(s.secrets, name) }

// write puts a file in place as a whole or not at all. It belongs to a user, where that is not negative and may be.
func write(path, text string, mode fs.FileMode, owner int) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && owner >= 0 && os.Geteuid() == 0 {
		err = f.Chown(owner, owner)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
