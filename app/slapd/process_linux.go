package slapd

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

func attributes(user *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, Credential: user}
}

// stopped waits until all threads of a process that was sent SIGSTOP have stopped (proc(5), stat).
func stopped(pid int) error {
	for range 1000 {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil || len(threads) == 0 {
			return fmt.Errorf("slapd: process %d is gone: %w", pid, os.ErrProcessDone)
		}
		if !slices.ContainsFunc(threads, running) {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return fmt.Errorf("slapd: process %d does not stop", pid)
}

func running(stat string) bool {
	text, err := os.ReadFile(stat)
	if err != nil {
		return false // the thread has ended
	}
	_, state, _ := bytes.Cut(text, []byte(") ")) // behind the name, which is in parentheses
	return !bytes.HasPrefix(state, []byte("T"))
}

// enterable names an open folder in a way that a child can follow when it starts, even where
// its user may not pass through the folders above.
func enterable(folder *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", folder.Fd()) }
