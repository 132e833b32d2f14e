package slapd

import (
	"fmt"
	"os"
	"syscall"
)

func attributes(user *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: user}
}

// enterable names an open folder in a way that a child can follow when it starts, even where
// its user may not pass through the folders above.
func enterable(folder *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", folder.Fd()) }
