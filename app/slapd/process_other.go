//go:build unix && !linux

package slapd

import (
	"os"
	"syscall"
)

func attributes(user *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: user}
}

func enterable(folder *os.File) string { return folder.Name() }
