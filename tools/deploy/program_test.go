// Package deploy_test checks what is below deploy/ against what it is for: the types of Kubernetes, the metrics of
// the program, and the settings that it takes. scripts/verify-deploy runs it.
package deploy_test

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// top is where the project is.
const top = "../.."

// built is the program, built once for all tests.
var built = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "rollcall")
	if err != nil {
		return "", err
	}
	file := filepath.Join(folder, "rollcall")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", file, ".")
	build.Dir, build.Stderr = top, os.Stderr
	return file, build.Run()
})

func TestMain(m *testing.M) {
	status := m.Run()
	if file, err := built(); err == nil {
		_ = os.RemoveAll(filepath.Dir(file))
	}
	os.Exit(status)
}

func program(t *testing.T, environment []string, arguments ...string) *exec.Cmd {
	t.Helper()
	file, err := built()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(file, arguments...)
	c.Env, c.Stderr = environment, &strings.Builder{}
	return c
}

// effective returns what rollcall config prints.
func effective(t *testing.T, environment []string, arguments ...string) string {
	t.Helper()
	c := program(t, environment, append([]string{"config"}, arguments...)...)
	printed, err := c.Output()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", strings.Join(environment, "\n"), err, c.Stderr)
	}
	return string(printed)
}

// serve starts the program on free ports, waits until it listens, and returns what it says of itself by name, such as
// "listens on". It stops with the test.
func serve(t *testing.T, environment []string, arguments ...string) map[string]string {
	t.Helper()
	environment = append(environment, "ROLLCALL_SERVER_LISTEN=127.0.0.1:0", "ROLLCALL_TELEMETRY_LISTEN=127.0.0.1:0")
	c := program(t, environment, append([]string{"serve"}, arguments...)...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		_, _ = io.Copy(io.Discard, out)
		if err := c.Wait(); err != nil {
			t.Errorf("it did not end well: %v\n%s", err, c.Stderr)
		}
	})
	said := map[string]string{}
	line := regexp.MustCompile(`^  (listens on|metrics at) +(\S+)$`)
	for lines := bufio.NewScanner(out); len(said) < 2; {
		if !lines.Scan() {
			t.Fatalf("it ended before it listened:\n%s\n%s", strings.Join(environment, "\n"), c.Stderr)
		}
		if m := line.FindStringSubmatch(lines.Text()); m != nil {
			said[m[1]] = m[2]
		}
	}
	return said
}

// ask sends a request, as name with the password "name" unless it is "", and returns status and body.
func ask(t *testing.T, method, url, name, password, body string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if name != "" {
		r.SetBasicAuth(name, password)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	answer, err := (&http.Client{Timeout: 30 * time.Second}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{top}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// write writes a file, and the folders that it is in.
func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
