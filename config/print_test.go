package config

import (
	"errors"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func printed(t testing.TB, c *Config) string {
	t.Helper()
	var out strings.Builder
	if err := c.Print(&out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPrintSaysWhereEachValueCameFrom(t *testing.T) {
	secret := write(t, "hunter2\n")
	c := mustLoad(t, `
ldap: {page_size: 50}
users:
  fields:
    # a comment of the deployment's
    - name: badge # and another
      attribute: acmeBadge
`,
		append(outside, "ROLLCALL_LDAP_TIMEOUT=3s", "ROLLCALL_LDAP_BIND_PASSWORD_FILE="+secret,
			"ROLLCALL_SERVER_TRUSTED_PROXIES=10.0.0.0/8, ::1", "ROLLCALL_LOG_FILE=two\nlines")...)
	got := printed(t, c)
	_, file, _ := strings.Cut(got, "page_size: 50  # ")
	file, _, _ = strings.Cut(file, "\n")
	if !strings.HasSuffix(file, "/rollcall.yaml") {
		t.Errorf("ldap.page_size comes from %q", file)
	}
	for _, line := range []string{
		"# environment: testing",
		"server:",
		"  listen: 127.0.0.1:0  # testing.yaml",
		`  trusted_proxies: [10.0.0.0/8, '::1']  # ROLLCALL_SERVER_TRUSTED_PROXIES`,
		"  idle_timeout: 2m  # default",
		"  timeout: 3s  # ROLLCALL_LDAP_TIMEOUT",
		"  bind_password: '***'  # ROLLCALL_LDAP_BIND_PASSWORD_FILE",
		`  file: "two\nlines"  # ROLLCALL_LOG_FILE`,
		"  fields: [{name: badge, attribute: acmeBadge}]  # " + file,
		"  placeholder: cn=placeholder,ou=services  # default",
	} {
		if !strings.Contains("\n"+got, "\n"+line+"\n") {
			t.Errorf("no line %q in:\n%s", line, got)
		}
	}
}

func TestPrintedConfigurationLoadsAgain(t *testing.T) {
	first := printed(t, mustLoad(t, `
log: {file: "#odd: \"name\""}
users: {filter: "(&(a=b)(c=*))", fields: [{name: x, attribute: y, description: "yes"}]}
`))
	second := printed(t, mustLoad(t, first))
	if values(t, first) != values(t, second) {
		t.Errorf("first:\n%s\nsecond:\n%s", first, second)
	}
}

// values strips what Print wrote of its comments.
func values(t testing.TB, text string) string {
	t.Helper()
	var all map[string]any
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	plain, err := yaml.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func TestPrintShowsThatASecretIsNotSet(t *testing.T) {
	if got := printed(t, mustLoad(t, "")); !strings.Contains(got, `bind_password: ""  # default`) {
		t.Errorf("got:\n%s", got)
	}
}

func TestPrintWorksWithFaults(t *testing.T) {
	c, err := load(t, "ldap: {timeout: 5, url: 'ldap://rollcall:hunter2@localhost:389'}\nserver: {listen: nowhere}")
	if err == nil {
		t.Fatal("no error")
	}
	got := printed(t, c)
	for _, part := range []string{"  timeout: 5s  # default\n", "  url: '***'  # ", "  listen: nowhere  # "} {
		if !strings.Contains(got, part) {
			t.Errorf("no %q in:\n%s", part, got)
		}
	}
}

type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestPrintReportsAFailedWrite(t *testing.T) {
	if err := mustLoad(t, "").Print(full{}); !errors.Is(err, errFull) {
		t.Errorf("error %v", err)
	}
}
