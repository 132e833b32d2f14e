//go:build unix && !linux

package slapd

import (
	"os"
	"syscall"
)

func attributes(user *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: user}
}

// stopped takes it that a process stops as soon as it is sent SIGSTOP.
func stopped(int) error { return nil }

func enterable(folder *os.File) string { return folder.Name() }
