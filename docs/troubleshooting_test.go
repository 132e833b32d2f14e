package docs_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory"
)

func TestTheGuideToTroubleHasASectionForEachCodeAndNoOther(t *testing.T) {
	var want, got []string
	for _, code := range directory.Catalogue() {
		want = append(want, fmt.Sprintf("%s: %d · %s", code.Name, code.Status, code.Title))
	}
	codes := section(t, page(t, "troubleshooting.md"), "Codes")
	for _, m := range regexp.MustCompile(`(?m)^### (.*)\n\n(.*)\n\n\S`).FindAllStringSubmatch(codes, -1) {
		got = append(got, m[1]+": "+m[2])
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(want)), slices.Sorted(slices.Values(got))); diff != "" {
		t.Errorf("the catalogue (-) and the guide (+):\n%s", diff)
	}
}

func TestARequestIsFoundInTheLogByItsID(t *testing.T) {
	dir := t.TempDir()
	address, _ := serve(t, []string{
		"ROLLCALL_ENV=development", "ROLLCALL_EMBEDDED_DIR=" + filepath.Join(dir, "directory"), "ROLLCALL_SERVER_LISTEN=127.0.0.1:0",
		"ROLLCALL_LOG_FORMAT=json", "ROLLCALL_LOG_FILE=" + filepath.Join(dir, "rollcall.log"),
	})
	shell(t, dir, blocks(strings.ReplaceAll(page(t, "troubleshooting.md"), usual, address)))
}
