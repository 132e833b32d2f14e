package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// write puts text into a new file and returns its path.
func write(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "rollcall.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load reads text as the deployment's file in the testing environment.
func load(t testing.TB, text string, variables ...string) (*Config, error) {
	t.Helper()
	environ := append([]string{"ROLLCALL_ENV=testing"}, variables...)
	return Load(Options{File: write(t, text), Environ: environ})
}

func mustLoad(t testing.TB, text string, variables ...string) *Config {
	t.Helper()
	c, err := load(t, text, variables...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// wantFaults compares the lines of err with want, in which FILE stands for the deployment's file.
func wantFaults(t testing.TB, err error, want ...string) {
	t.Helper()
	var got []string
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			dir, rest, found := strings.Cut(line, os.TempDir())
			if _, tail, in := strings.Cut(rest, "rollcall.yaml"); found && in {
				line = dir + "FILE" + tail
			}
			got = append(got, line)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

// production holds what the production environment asks for; outside, what takes testing to
// a server other than the embedded one, except for the password.
var (
	outside    = append(production[:3:3], "ROLLCALL_EMBEDDED_ENABLED=false", "ROLLCALL_AUTH_TOKEN_KEYS=token.key")
	production = []string{
		"ROLLCALL_LDAP_URL=ldap://ldap.example.org:389",
		"ROLLCALL_LDAP_BASE_DN=dc=example,dc=org",
		"ROLLCALL_LDAP_BIND_DN=cn=rollcall,dc=example,dc=org",
		"ROLLCALL_LDAP_BIND_PASSWORD=hunter2",
		"ROLLCALL_AUTH_ADMIN_GROUP=cn=admins,dc=example",
		"ROLLCALL_AUTH_TOKEN_KEYS=token.key",
	}
)

func TestBaseNamesEveryKey(t *testing.T) {
	text, err := files.ReadFile("base.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var got []string
	sections := document.Content[0].Content
	for i := 0; i < len(sections); i += 2 {
		members := sections[i+1].Content
		for j := 0; j < len(members); j += 2 {
			path := sections[i].Value + "." + members[j].Value
			got = append(got, path)
			if members[j].HeadComment == "" {
				t.Errorf("%s has no comment", path)
			}
		}
	}
	var want []string
	for _, k := range keys() {
		want = append(want, k.path)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys of base.yaml (-struct +file):\n%s", diff)
	}
}

func TestEveryKeyHasItsOwnVariable(t *testing.T) {
	owner := map[string]string{"ROLLCALL_ENV": "the environment"}
	for _, k := range keys() {
		names := []string{variable(k.path)}
		if k.secret() {
			names = append(names, names[0]+"_FILE")
		}
		for _, name := range names {
			if owner[name] != "" {
				t.Errorf("%s belongs to %s and to %s", name, owner[name], k.path)
			}
			owner[name] = k.path
		}
	}
}

func TestEveryEnvironmentLoads(t *testing.T) {
	for _, test := range []struct {
		environment string
		variables   []string
		listen      string
		embedded    bool
	}{
		{"development", nil, "127.0.0.1:8080", true},
		{"testing", nil, "127.0.0.1:0", true},
		{"production", production, ":8080", false},
	} {
		t.Run(test.environment, func(t *testing.T) {
			c, err := Load(Options{Environ: append(test.variables, "ROLLCALL_ENV="+test.environment)})
			if err != nil {
				t.Fatal(err)
			}
			if c.Environment != test.environment {
				t.Errorf("environment %q", c.Environment)
			}
			if c.Server.Listen != test.listen || c.Embedded.Enabled != test.embedded {
				t.Errorf("server.listen %s, embedded.enabled %t", c.Server.Listen, c.Embedded.Enabled)
			}
		})
	}
}

func TestProductionIsTheDefault(t *testing.T) {
	for _, extra := range []string{"PATH=/bin", "ROLLCALL_ENV="} {
		c, err := Load(Options{Environ: append([]string{extra}, production...)})
		if err != nil || c.Environment != "production" {
			t.Errorf("with %s: environment %q, error %v", extra, c.Environment, err)
		}
	}
}

func TestProductionNamesTheKeysItMisses(t *testing.T) {
	_, err := Load(Options{})
	wantFaults(t, err,
		"ldap.url (default): is missing: set url: below ldap: in the --config file, or ROLLCALL_LDAP_URL",
		"ldap.base_dn (default): is missing: set base_dn: below ldap: in the --config file, or ROLLCALL_LDAP_BASE_DN",
		"ldap.bind_dn (default): is missing: set bind_dn: below ldap: in the --config file, or ROLLCALL_LDAP_BIND_DN",
		"ldap.bind_password (default): is missing: set bind_password: below ldap: in the --config file, or "+
			"ROLLCALL_LDAP_BIND_PASSWORD, or ROLLCALL_LDAP_BIND_PASSWORD_FILE to the name of a file that holds it",
		"auth.admin_group (default): is missing: set admin_group: below auth: in the --config file, or ROLLCALL_AUTH_ADMIN_GROUP",
		"auth.token_keys (default): is missing: set token_keys: below auth: in the --config file, or ROLLCALL_AUTH_TOKEN_KEYS: "+
			`files, as "openssl genpkey -algorithm ed25519" writes them`,
	)
}

func TestEmbeddedBringsItsOwnLDAPKeys(t *testing.T) {
	_, err := Load(Options{Environ: []string{"ROLLCALL_EMBEDDED_ENABLED=true"}})
	wantFaults(t, err,
		"auth.admin_group (default): is missing: set admin_group: below auth: in the --config file, or ROLLCALL_AUTH_ADMIN_GROUP")
}

func TestUnknownEnvironmentIsTheOnlyComplaint(t *testing.T) {
	_, err := Load(Options{Environ: []string{"ROLLCALL_ENV=Production"}})
	wantFaults(t, err, `ROLLCALL_ENV: there is no environment "Production"; there are development, testing, production`)
}

func TestDefaults(t *testing.T) {
	got := mustLoad(t, "")
	if got.Server.RequestTimeout != 10*time.Second || got.Server.IdleTimeout != 2*time.Minute {
		t.Errorf("durations: %+v", got.Server)
	}
	if got.LDAP.MaxMessageBytes != 16<<20 || got.LDAP.PageSize != 1000 {
		t.Errorf("numbers: %+v", got.LDAP)
	}
	want := Groups{
		Kind: Kind{
			Container: "ou=groups", Key: "cn", NamingAttribute: "cn", ObjectClasses: []string{"groupOfNames"},
			Attributes: []Attribute{}, Fields: []Field{},
		},
		Placeholder: "cn=placeholder,ou=services",
	}
	if diff := cmp.Diff(want, got.Groups); diff != "" {
		t.Errorf("groups (-want +got):\n%s", diff)
	}
}

func TestLaterLayersWin(t *testing.T) {
	c := mustLoad(t, "ldap: {timeout: 6s, page_size: 10}\nlog: {level: error}", "ROLLCALL_LDAP_PAGE_SIZE=20")
	if c.Log.Format != "text" || c.Log.Level != "error" || c.LDAP.Timeout != 6*time.Second || c.LDAP.PageSize != 20 {
		t.Errorf("log %+v, ldap %+v", c.Log, c.LDAP)
	}
}

func TestAListReplacesTheListBelowIt(t *testing.T) {
	c := mustLoad(t, "auth: {protected: []}\nusers: {object_classes: [top, person]}")
	if diff := cmp.Diff([]string{}, c.Auth.Protected); diff != "" {
		t.Errorf("auth.protected (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"top", "person"}, c.Users.ObjectClasses); diff != "" {
		t.Errorf("users.object_classes (-want +got):\n%s", diff)
	}
}

func TestNamesInRecordsKeepTheirCapitals(t *testing.T) {
	c := mustLoad(t, `
users:
  attributes: [{field: displayName, attribute: gecosName}]
  fields:
    - {name: badgeNumber, attribute: acmeBadge, list: true, required: true, object_class: acmePerson, description: A Badge}
    - {name: hired, attribute: acmeHired, read_only: true}
`)
	if diff := cmp.Diff([]Attribute{{Field: "displayName", Attribute: "gecosName"}}, c.Users.Attributes); diff != "" {
		t.Errorf("attributes (-want +got):\n%s", diff)
	}
	want := []Field{
		{Name: "badgeNumber", Attribute: "acmeBadge", List: true, Required: true, ObjectClass: "acmePerson", Description: "A Badge"},
		{Name: "hired", Attribute: "acmeHired", ReadOnly: true},
	}
	if diff := cmp.Diff(want, c.Users.Fields); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
}

func TestAllFaultsAreReportedTogether(t *testing.T) {
	_, err := load(t, "ldap:\n  timeout: 5\n  colour: red\nserver: {listen: nowhere}\nlog: {level: loud}\n",
		"ROLLCALL_LDAP_PAGE_SIZE=many", "ROLLCALL_COLOUR=red", "ROLLCALL_LDAP_CONNECTIONS=65")
	wantFaults(t, err,
		`ldap.timeout (FILE:2): "5" has no unit: write 500ms, 10s, 2m or 1h`,
		`ldap.colour (FILE:3): unknown key`,
		`ldap.page_size (ROLLCALL_LDAP_PAGE_SIZE): must be a whole number such as 10, not "many"`,
		`ROLLCALL_COLOUR: unknown variable`,
		`server.listen (FILE:4): must be address:port, such as 127.0.0.1:8080, or :port, not "nowhere"`,
		`ldap.connections (ROLLCALL_LDAP_CONNECTIONS): must be from 1 to 64, not 65`,
		`log.level (FILE:5): must be one of error, warn, info, debug, trace, not "loud"`,
	)
}

func TestSecretsDoNotShow(t *testing.T) {
	c := mustLoad(t, "ldap: {bind_password: hunter2}", outside...)
	if string(c.LDAP.BindPassword) != "hunter2" {
		t.Errorf("the password itself is %q", string(c.LDAP.BindPassword))
	}
	marshalled, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(c.LDAP), fmt.Sprintf("%+v %#v %q", c.LDAP, c.LDAP, c.LDAP.BindPassword), string(marshalled), printed(t, c),
	} {
		if strings.Contains(text, "hunter2") {
			t.Errorf("the password is in %s", text)
		}
	}
}

func TestFaultsHideSecrets(t *testing.T) {
	empty := write(t, "")
	for _, test := range []struct {
		rule, file string
		variables  []string
	}{
		{"wrong type", "ldap: {bind_password: [hunter2]}", nil},
		{"a mapping", "ldap: {bind_password: {hunter2: x}}", nil},
		{"no space after the colon", "ldap: {bind_password:hunter2}", nil},
		{"no space, in a block", "ldap:\n  bind_password:hunter2\n  timeout: 5s", nil},
		{"an equals sign", "ldap: {bind_password=hunter2}", nil},
		{"a comma", "ldap: {bind_password: abc, hunter2}", nil},
		{"an equals sign, in a block", "ldap:\n  bind_password=hunter2", nil},
		{"a null byte", "ldap: {bind_password: hunter2\x00}", nil},
		{"taken for an alias", "ldap: {bind_password: *hunter2}", nil},
		{"taken for an anchor", "ldap: {bind_password: &hunter2 abc}", nil},
		{"taken for a tag", "ldap: {bind_password: !hunter2 abc}", nil},
		{"an unclosed quote", "ldap: {bind_password: \"hunter2}", nil},
		{"given twice", "ldap:\n  bind_password: hunter2\n  bind_password: hunter2", nil},
		{"within the URL", "ldap: {url: 'ldap://rollcall:hunter2@localhost:389'}\nembedded: {enabled: false}", nil},
		{"within a broken URL", "ldap: {url: 'ldap://rollcall:hunter2@%zz'}\nembedded: {enabled: false}", nil},
		{"given twice by variables", "", []string{
			"ROLLCALL_LDAP_BIND_PASSWORD=hunter2", "ROLLCALL_LDAP_BIND_PASSWORD_FILE=" + empty}},
		{"in place of a file's name", "", []string{"ROLLCALL_LDAP_BIND_PASSWORD_FILE=/hunter2"}},
		{"in an unknown variable", "", []string{"ROLLCALL_LDAP_PASSWORT=hunter2"}},
	} {
		t.Run(test.rule, func(t *testing.T) {
			c, err := load(t, test.file, test.variables...)
			if err == nil {
				t.Fatal("no error")
			}
			if text := err.Error() + printed(t, c); strings.Contains(text, "hunter2") {
				t.Errorf("the password is in %s", text)
			}
		})
	}
}
