package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheConfigurationTablesHoldEveryKeyAndItsDefault(t *testing.T) {
	want, name := map[string]string{}, ""
	for _, m := range regexp.MustCompile(`(?m)^(\w+):$|^  (\w+):(.*)$`).FindAllStringSubmatch(page(t, "../config/base.yaml"), -1) {
		if m[1] != "" {
			name = m[1]
			continue
		}
		want[name+"."+m[2]] = strings.Trim(m[3], ` "`)
	}
	got := map[string]string{}
	row := regexp.MustCompile("(?m)^\\| `([a-z_.]+)`(?: \\((\\w+) only\\))? \\|([^|]*)\\|")
	for _, m := range row.FindAllStringSubmatch(page(t, "configuration.md"), -1) {
		paths, defaults := []string{m[1]}, []string{strings.ReplaceAll(strings.TrimSpace(m[3]), "`", "")}
		switch {
		case m[2] != "":
			paths[0] = m[2] + "." + m[1]
		case !strings.Contains(m[1], "."):
			paths, defaults = []string{"users." + m[1], "groups." + m[1], "hosts." + m[1]}, strings.Split(defaults[0], ", ")
		}
		if len(defaults) == 1 {
			defaults = slices.Repeat(defaults, len(paths))
		}
		for i, path := range paths {
			if _, twice := got[path]; twice || len(defaults) != len(paths) {
				t.Fatalf("%s is there twice, or not with one default for each of %v", m[1], paths)
			}
			got[path] = defaults[i]
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config/base.yaml (-) and configuration.md (+) differ:\n%s", diff)
	}
}

func TestTheProgramAcceptsTheExamplesOfConfigurationFiles(t *testing.T) {
	for _, name := range []string{"own-directory.md"} {
		tried := 0
		for _, b := range blocks(page(t, name)) {
			if b.language != "yaml" {
				continue
			}
			tried++
			file := filepath.Join(t.TempDir(), "rollcall.yaml")
			if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
				t.Fatal(err)
			}
			words, err := rollcall([]string{"ROLLCALL_LDAP_BIND_PASSWORD=secret"}, "config", "--config", file).CombinedOutput()
			if err != nil {
				t.Errorf("%v\n%s\n%s", err, b.text, words)
			}
		}
		if tried == 0 {
			t.Errorf("%s has no example", name)
		}
	}
}

func TestTheReadmesTourDoesWhatItShowsAndLeavesNothingBehind(t *testing.T) {
	address, dir := sample(t)
	unchanged(t, dir)
	tour := section(t, page(t, "../README.md"), "A tour with curl")
	shell(t, t.TempDir(), blocks(strings.ReplaceAll(tour, usual, address)))
}
