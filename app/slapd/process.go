package slapd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"
)

// ExitError says that slapd, or one of its tools, ended by itself.
type ExitError struct {
	Command string // slapd, slapadd or slappasswd
	Status  string // "exit status 1", "signal: segmentation fault"
	Words   string // the last lines it wrote, without time stamps
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("slapd: %s ended with %s: %s", e.Command, e.Status, e.Words)
}

// process is a child and its last words.
type process struct {
	cmd    *exec.Cmd
	output bytes.Buffer // standard output, complete when done is closed
	words  tail
	done   chan struct{}
}

// start runs slapd's binary in dir below the home: with an empty environment, in a process
// group of its own so that Ctrl-C does not reach it, as the unprivileged user, and with the
// lock. The context's end kills it.
func (h home) start(ctx context.Context, dir string, stdin io.Reader, args ...string) (*process, error) {
	folder, err := os.Open(h.path(dir))
	if err != nil {
		return nil, err
	}
	defer folder.Close()
	binary := h.binary
	if h.confined {
		binary = "./" + ownBinary
	}
	p := &process{cmd: exec.CommandContext(ctx, binary, args...), done: make(chan struct{})}
	p.cmd.Dir = enterable(folder)
	p.cmd.Env = []string{}
	p.cmd.Stdin = stdin
	p.cmd.Stdout = &p.output
	p.cmd.Stderr = &p.words
	p.cmd.ExtraFiles = []*os.File{h.lock}
	p.cmd.SysProcAttr = attributes(h.user)
	p.cmd.WaitDelay = time.Second

	started := make(chan error, 1)
	go func() {
		// On Linux the child gets its death signal when the thread that made it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = p.cmd.Wait() // what there is to know is in ProcessState
		close(p.done)
	}()
	return p, <-started
}

// run is start for a tool that ends: it returns what the tool printed, or an *ExitError.
func (h home) run(ctx context.Context, dir string, stdin io.Reader, args ...string) (string, error) {
	p, err := h.start(ctx, dir, stdin, args...)
	if err != nil {
		return "", err
	}
	<-p.done
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if !p.cmd.ProcessState.Success() {
		return "", p.exitError()
	}
	return p.output.String(), nil
}

// exitError may be called when the process is done.
func (p *process) exitError() *ExitError {
	command := filepath.Base(p.cmd.Path)
	if tool, ok := strings.CutPrefix(p.cmd.Args[1], "-T"); ok {
		command = "slap" + tool
	}
	return &ExitError{Command: command, Status: p.cmd.ProcessState.String(), Words: p.words.String()}
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 4 << 10

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if over := len(t.text) - tailSize; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(b), nil
}

var (
	stamp  = regexp.MustCompile(`(?m)^[0-9a-f]{8}(\.[0-9a-f]+)? (0x[0-9a-f]+ )?`)
	banner = regexp.MustCompile(`(?m)^(@\(#\)|\t|slapd (starting|stopped)|connections_destroy: nothing).*\n`)
)

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(banner.ReplaceAll(stamp.ReplaceAll(t.text, nil), nil)))
}
