//go:build bench || long

package rest_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"rollcall/app/auth"
	"rollcall/app/slapd"
)

// buildRollcall builds the program.
func buildRollcall(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "rollcall")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "rollcall").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return binary
}

// runRollcall runs the program in the production environment, logging to a file, on a slapd that is reached by a URL.
// It returns the address and the process.
func runRollcall(t *testing.T, binary string, server *slapd.Server, url string) (string, *os.Process) {
	t.Helper()
	dir := t.TempDir()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	key, err := auth.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(dir, "token.key")
	if err := os.WriteFile(keyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "serve")
	cmd.Env = []string{"ROLLCALL_SERVER_LISTEN=" + address, "ROLLCALL_LDAP_URL=" + url, "ROLLCALL_LDAP_BASE_DN=" + server.Suffix(),
		"ROLLCALL_LDAP_BIND_DN=" + server.ServiceDN(), "ROLLCALL_LDAP_BIND_PASSWORD=" + server.ServicePassword(),
		"ROLLCALL_LDAP_HASHES_PASSWORDS=true", "ROLLCALL_LDAP_PASSWORD_POLICY=cn=default,ou=policies",
		"ROLLCALL_AUTH_ADMIN_GROUP=" + adminGroup, "ROLLCALL_AUTH_TOKEN_KEYS=" + keyFile, "ROLLCALL_LOG_FILE=" + filepath.Join(dir, "log")}
	cmd.Stderr = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for {
		if conn, err := net.Dial("tcp", address); err == nil {
			_ = conn.Close()
			return address, cmd.Process
		}
		select {
		case <-t.Context().Done():
			t.Fatal("Rollcall does not listen")
		case <-time.After(10 * time.Millisecond):
		}
	}
}
