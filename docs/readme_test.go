package docs_test

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
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

// bare is a configuration for production with nothing but what it can't go without.
const bare = `
ldap:
  url: ldap://127.0.0.1:389
  base_dn: dc=example,dc=org
  bind_dn: cn=rollcall,ou=services,dc=example,dc=org
auth:
  admin_group: cn=admins,ou=groups,dc=example,dc=org
  token_keys: [/etc/rollcall/token.key]
`

func TestTheProgramAcceptsTheExamplesOfConfigurationFiles(t *testing.T) {
	dir := t.TempDir()
	production := page(t, "production.md")
	certificates := exec.Command("sh", "-e")
	certificates.Dir, certificates.Stdin = dir, strings.NewReader(commands(section(t, production, "Tokens and sessions"), "openssl")+commands(section(t, production, "TLS"), "openssl"))
	if words, err := certificates.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, words)
	}
	for _, c := range []struct{ page, under string }{{"own-directory.md", ""}, {"production.md", bare}, {"monitoring.md", bare}, {"ssh.md", bare}} {
		tried := 0
		for _, b := range blocks(page(t, c.page)) {
			if b.language != "yaml" {
				continue
			}
			tried++
			file := filepath.Join(t.TempDir(), "rollcall.yaml")
			if err := os.WriteFile(file, []byte(strings.ReplaceAll(laid(t, b.text, c.under), "/etc/rollcall", dir)), 0o600); err != nil {
				t.Fatal(err)
			}
			words, err := rollcall([]string{"ROLLCALL_LDAP_BIND_PASSWORD=secret"}, "config", "--config", file).CombinedOutput()
			if err != nil {
				t.Errorf("%s: %v\n%s\n%s", c.page, err, b.text, words)
			}
		}
		if tried == 0 {
			t.Errorf("%s has no example", c.page)
		}
	}
}

// laid returns a configuration laid over another one.
func laid(t *testing.T, over, under string) string {
	t.Helper()
	var all, more map[string]map[string]any
	err := yaml.Unmarshal([]byte(under), &all)
	if err == nil {
		err = yaml.Unmarshal([]byte(over), &more)
	}
	if all == nil {
		all = more
	}
	for group, keys := range more {
		if all[group] == nil {
			all[group] = keys
		}
		maps.Copy(all[group], keys)
	}
	text, failed := yaml.Marshal(all)
	if err = errors.Join(err, failed); err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// commands are the lines of a section that a prompt stands before, and that hold a word.
func commands(text, word string) (all string) {
	for _, m := range regexp.MustCompile(`(?m)^\$ (.*)$`).FindAllStringSubmatch(text, -1) {
		if strings.Contains(m[1], word) {
			all += m[1] + "\n"
		}
	}
	return all
}

func TestTheReadmesTourDoesWhatItShowsAndLeavesNothingBehind(t *testing.T) {
	address, dir := sample(t)
	unchanged(t, dir)
	tour := section(t, page(t, "../README.md"), "A tour with curl")
	shell(t, t.TempDir(), blocks(strings.ReplaceAll(tour, usual, address)))
}
