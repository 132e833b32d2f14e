package docs_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"rollcall/app/auth"
)

// composed is what these tests read of a Compose file.
type composed struct {
	Services map[string]struct{ Environment map[string]string }
}

var (
	composeVariable = regexp.MustCompile(`\$\{\w+:-([^}]*)\}`)
	commentedOut    = regexp.MustCompile(`(?m)^( *)# (ROLLCALL_\w+: \S+)`)
)

// compose reads a Compose file, with the settings that are commented out in it.
func compose(t *testing.T, text string) composed {
	t.Helper()
	text = commentedOut.ReplaceAllString(composeVariable.ReplaceAllString(text, "$1"), "$1$2")
	var c composed
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

// settings returns what a service's environment sets, on files that are here.
func (c composed) settings(t *testing.T, service string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	key, err := auth.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"service.password": []byte("secret"), "token.key": key, "ca.crt": nil} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all := map[string]string{}
	for name, value := range c.Services[service].Environment {
		if name != "ROLLCALL_LDAP_CA_FILE" { // there is no CA here
			all[name] = strings.ReplaceAll(value, "/run/rollcall/", dir+"/")
		}
	}
	return all
}

func assigned(settings map[string]string) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		all = append(all, name+"="+settings[name])
	}
	return all
}

func TestTheProgramAcceptsTheSettingsOfTheComposeFile(t *testing.T) {
	file := compose(t, page(t, "../docker-compose.yml"))
	settings := file.settings(t, "rollcall")
	words, err := rollcall(assigned(settings), "config").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, words)
	}
	for name := range settings {
		if name != "ROLLCALL_ENV" && !strings.Contains(string(words), "# "+name+"\n") {
			t.Errorf("%s has no effect:\n%s", name, words)
		}
	}
	for name := range file.Services["openldap"].Environment {
		if strings.HasPrefix(name, "ROLLCALL_") {
			t.Errorf("%s is in the environment of openldap, where it means nothing", name)
		}
	}
}

func TestTheProgramAcceptsTheExamplesOfTheComposeGuide(t *testing.T) {
	shipped := compose(t, page(t, "../docker-compose.yml")).settings(t, "rollcall")
	tried := 0
	for _, b := range blocks(page(t, "compose.md")) {
		if b.language != "yaml" || !strings.Contains(b.text, "ROLLCALL_") {
			continue
		}
		example := compose(t, b.text)
		tried++
		settings := example.settings(t, "rollcall")
		if settings["ROLLCALL_ENV"] == "" { // it lies on top of the one that is shipped
			on := maps.Clone(shipped)
			maps.Copy(on, settings)
			settings = on
		}
		if words, err := rollcall(assigned(settings), "config").CombinedOutput(); err != nil {
			t.Errorf("%v\n%s\n%s", err, b.text, words)
		}
	}
	if tried != 4 {
		t.Errorf("%d examples, want 4", tried)
	}
}

func TestTheComposeGuideNamesTheVariablesThatComposeReads(t *testing.T) {
	read := map[string]string{}
	for _, m := range regexp.MustCompile(`\$\{(\w+):-([^}]*)\}`).FindAllStringSubmatch(page(t, "../docker-compose.yml"), -1) {
		read[m[1]] = m[2]
	}
	read["SECRETS_DIR"] = "a volume"
	guide := page(t, "compose.md")
	for name, value := range read {
		row := fmt.Sprintf("| `%s` | `%s` |", name, value)
		if !strings.Contains(guide, row) && !strings.Contains(guide, strings.ReplaceAll(row, "`"+value+"`", value)) {
			t.Errorf("the guide has no row %s", row)
		}
	}
	if named := regexp.MustCompile("(?m)^\\| `[A-Z]\\w+` \\|").FindAllString(guide, -1); len(named) != len(read) {
		t.Errorf("the guide names %q, docker-compose.yml reads %v", named, read)
	}
	for name := range read {
		if strings.HasPrefix(name, "ROLLCALL_") {
			t.Errorf("%s would be an unknown setting to a Rollcall that is started with it", name)
		}
	}
}
