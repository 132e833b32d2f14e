package docs_test

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestTheAnswersInTheGuideToProductionAreThoseOfTheProgram(t *testing.T) {
	dir := t.TempDir()
	address, _ := serve(t, []string{
		"ROLLCALL_ENV=development", "ROLLCALL_EMBEDDED_DIR=" + filepath.Join(dir, "directory"), "ROLLCALL_SERVER_LISTEN=127.0.0.1:0",
		"ROLLCALL_AUDIT_FILE=" + filepath.Join(dir, "audit.log"),
	})
	guide := page(t, "production.md")
	// shown is the line beneath a command.
	shown := func(command string) block {
		_, text, ok := strings.Cut(guide, "\n$ "+command+"\n")
		line, _, _ := strings.Cut(text, "\n")
		if !ok {
			t.Fatalf("the guide has no command %q", command)
		}
		return block{"text", line + "\n"}
	}
	shell(t, dir, []block{
		{"sh", "curl -s " + address + "/readyz | grep .\n"},
		shown("curl -s --cacert ca.pem https://rollcall.example.org:8443/readyz"),
		{"sh", `curl -s -o /dev/null -u admin:admin --json '{"cn":"operators","members":["users/bob"]}' ` + address + "/groups\ntail -n 1 audit.log\n"},
		shown("tail -n 1 /var/log/rollcall/audit.log"),
	})
}
