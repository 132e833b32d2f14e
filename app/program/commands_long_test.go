//go:build long

package program

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"testing"
)

func TestFiftyThousandUsersAreImportedAndExported(t *testing.T) {
	t.Parallel()
	p, _ := private(t, development(t.TempDir()))
	want := people(50_000)
	out := filepath.Join(t.TempDir(), "out")
	for _, args := range [][]string{
		{"import", "--create", file(t, want)},
		{"export", "--filter", `description eq "` + imported + `"`, "--output", out},
	} {
		command := p.shell(args...)
		<-command.done
		command.ends(0, "50,000 ")
		t.Logf("%s%s at most %d MiB", command.stderr.text(), args[0], command.cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss>>10)
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("the server %s", regexp.MustCompile(`VmHWM:\s+(.*)`).FindSubmatch(status)[1])
	}
	same(t, sorted(t, out), slices.Sorted(slices.Values(want)))
}
