package docs_test

import (
	"encoding/json"
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
	address, dir := sample(t)
	shell(t, t.TempDir(), blocks(strings.NewReplacer(usual, address, "$dir", dir).Replace(page(t, "migrating.md"))))
}
