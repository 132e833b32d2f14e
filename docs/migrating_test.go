package docs_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"rollcall/app/client"
)

func TestTheRequestsThatTakeThePlaceOfTheOldOnesAreAnsweredAsTheTableSays(t *testing.T) {
	address, _ := sample(t)
	rows := regexp.MustCompile("(?m)^\\|[^|]*\\| `([A-Z]+) (\\S+?)(?: (\\{.*\\}))?` \\| `(\\d{3})`")
	requests := section(t, page(t, "migrating.md"), "Requests")
	matches := rows.FindAllStringSubmatch(requests, -1)
	if want := strings.Count(requests, "\n|") - 2; len(matches) != want {
		t.Errorf("%d of %d rows name a request and a status", len(matches), want)
	}
	admin := client.Client{URL: address, Login: "admin", Password: "admin"}
	for _, m := range matches {
		method, path, body, status := m[1], m[2], m[3], m[4]
		var sent any
		if body != "" {
			sent = json.RawMessage(body)
		}
		answer, err := admin.Do(t.Context(), method, path, sent)
		if err != nil {
			t.Fatalf("%s %s: %v", method, path, err)
		}
		if strconv.Itoa(answer.Status) != status {
			t.Errorf("%s %s %s: want %s, got %d\n%s", method, path, body, status, answer.Status, answer.Body)
		}
	}
}

func TestTheGuideFromTheOldServiceDoesWhatItShows(t *testing.T) {
	dir := t.TempDir()
	address, _ := serve(t, []string{
		"ROLLCALL_ENV=development", "ROLLCALL_EMBEDDED_DIR=" + dir, "ROLLCALL_SERVER_LISTEN=127.0.0.1:0",
		"ROLLCALL_AUTH_READER_GROUP=cn=readers,ou=groups,dc=example,dc=org",
	})
	place := strings.NewReplacer(usual, address, "/etc/rollcall", dir, "/usr/local/bin", dir, "$dir", dir)
	script := place.Replace(page(t, "examples/authorized-keys"))
	if err := os.WriteFile(filepath.Join(dir, "authorized-keys"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	shell(t, t.TempDir(), blocks(place.Replace(page(t, "migrating.md"))))
}
