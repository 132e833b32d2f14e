package config

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/viper"
	"pgregory.net/rapid"
)

func TestFilesAreReadStrictly(t *testing.T) {
	const (
		noDuration = "write 500ms, 10s, 2m or 1h"
		anchors    = "anchors and aliases are not understood: write the value out, in quotes if it begins with & or *"
		noValue    = `has no value: write "" for an empty text, or leave the key out`
	)
	for _, test := range []struct{ rule, file, want string }{
		{"unknown section", "colour: {}", "colour (FILE:1): unknown key"},
		{"mistyped section", "ladp: {}", "ladp (FILE:1): unknown key; did you mean ldap?"},
		{"mistyped key", "ldap: {timeuot: 5s}", "ldap.timeuot (FILE:1): unknown key; did you mean timeout?"},
		{"mistyped key without a value", "ldap:\n  timeuot:", "ldap.timeuot (FILE:2): unknown key; did you mean timeout?"},
		{"a key in capitals", "ldap: {Timeout: 5s}", "ldap.Timeout (FILE:1): unknown key; did you mean timeout?"},
		{"a section in capitals", "LDAP: {timeout: 5s}", "LDAP (FILE:1): unknown key; did you mean ldap?"},
		{"a dotted key", "ldap.timeout: 5s", "ldap.timeout (FILE:1): unknown key; write timeout: below ldap:"},
		{"unknown key in a record", "users: {fields: [{name: a, attribute: b, lst: true}]}",
			"users.fields[0].lst (FILE:1): unknown key; did you mean list?"},
		{"placeholder outside groups", "users: {placeholder: cn=x}", "users.placeholder (FILE:1): unknown key"},
		{"environment in a file", "environment: testing", "environment (FILE:1): unknown key"},
		{"a merge key", "ldap: {<<: {timeout: 5s}}", "ldap.<< (FILE:1): unknown key"},
		{"a comma in braces", "log: {file: a, b}",
			"log (FILE:1): something in braces has no value: put a text that holds , or : in quotes"},
		{"a key with a newline", "log: {\"fi\\nle\": a}", "log.fi (FILE:1): unknown key"},
		{"a key that is a list", "? [ldap]\n: {}", "FILE:1: a key must be a plain name"},

		{"a key twice", "ldap:\n  timeout: 5s\n  timeout: 6s", "ldap.timeout (FILE:3): given twice"},
		{"a section twice", "log: {level: info}\nlog: {format: json}", "log (FILE:2): given twice"},
		{"a key of a record twice", "users: {attributes: [{field: a, attribute: b, field: a}]}",
			"users.attributes[0].field (FILE:1): given twice"},

		{"a duration without a unit", "ldap: {timeout: 5}", `ldap.timeout (FILE:1): "5" has no unit: ` + noDuration},
		{"a quoted duration without a unit", "ldap: {timeout: '5'}", `ldap.timeout (FILE:1): "5" has no unit: ` + noDuration},
		{"zero without a unit", "auth: {freshness: 0}", `auth.freshness (FILE:1): "0" has no unit: ` + noDuration},
		{"a fraction without a unit", "ldap: {timeout: 1.5}", `ldap.timeout (FILE:1): "1.5" has no unit: ` + noDuration},
		{"no duration at all", "ldap: {timeout: soon}",
			`ldap.timeout (FILE:1): must be a duration such as 500ms, 10s, 2m or 1h, not "soon"`},
		{"a text for a number", "ldap: {page_size: many}",
			`ldap.page_size (FILE:1): must be a whole number such as 10, not "many"`},
		{"a quoted number", "ldap: {page_size: '5'}",
			`ldap.page_size (FILE:1): must be a whole number such as 10, not "5"`},
		{"a fraction for a number", "ldap: {page_size: 1.0}",
			`ldap.page_size (FILE:1): must be a whole number such as 10, not "1.0"`},
		{"a text for a fraction", "telemetry: {sample_ratio: all}",
			`telemetry.sample_ratio (FILE:1): must be a number such as 0.1, not "all"`},
		{"a quoted fraction", "telemetry: {sample_ratio: '0.5'}",
			`telemetry.sample_ratio (FILE:1): must be a number such as 0.1, not "0.5"`},
		{"no number for a fraction", "telemetry: {sample_ratio: .nan}",
			`telemetry.sample_ratio (FILE:1): must be a number such as 0.1, not ".nan"`},
		{"an octal number", "ldap: {page_size: 010}",
			`ldap.page_size (FILE:1): must be a whole number such as 10, not "010"`},
		{"a number too large", "ldap: {max_message_bytes: 9223372036854775808}",
			`ldap.max_message_bytes (FILE:1): must be a whole number such as 10, not "9223372036854775808"`},
		{"a number for a text", "ldap: {bind_password: 12345}", "ldap.bind_password (FILE:1): must be text: put it in quotes"},
		{"true for a text", "auth: {admin_group: true}", "auth.admin_group (FILE:1): must be text: put it in quotes"},
		{"yes for true", "users: {deep: yes}", `users.deep (FILE:1): must be true or false, not "yes"`},
		{"1 for true", "users: {deep: 1}", `users.deep (FILE:1): must be true or false, not "1"`},
		{"a quoted true", "users: {deep: 'true'}", `users.deep (FILE:1): must be true or false, not "true"`},
		{"a text for a list", "auth: {protected: 'cn=a'}", "auth.protected (FILE:1): must be a list: [first, second]"},
		{"a list for a text", "log: {file: [a]}", "log.file (FILE:1): must be a single value"},
		{"a number in a list", "server: {trusted_proxies: ['::1', 5]}",
			"server.trusted_proxies[1] (FILE:1): must be text: put it in quotes"},
		{"a text for a record", "users: {fields: [badge]}", "users.fields[0] (FILE:1): must hold keys with values"},
		{"a map for a list of records", "users: {attributes: {displayName: gecos}}",
			"users.attributes (FILE:1): must be a list: [first, second]"},
		{"a text for a section", "ldap: here", "ldap (FILE:1): must hold keys with values"},
		{"a list for a section", "ldap: []", "ldap (FILE:1): must hold keys with values"},
		{"a text for the file", "ldap", "FILE:1: must hold keys with values"},
		{"no value", "ldap:\n  url:\n", "ldap.url (FILE:2): " + noValue},
		{"null for a list", "auth: {protected: null}", "auth.protected (FILE:1): must be a list: [first, second]"},

		{"an anchor", "ldap: {bind_password: &abc def}", "ldap.bind_password (FILE:1): " + anchors},
		{"an anchor on a section", "log: &log {}", "log (FILE:1): " + anchors},
		{"an anchor on nothing", "log: &log", "log (FILE:1): " + anchors},
		{"an alias", "&log log: {level: *log}", "log.level (FILE:1): " + anchors},
		{"an alias without an anchor", "log: {level: *other}",
			"FILE: an alias without an anchor: put a value that begins with * in quotes"},
		{"a tag", "ldap: {bind_password: !abc def}", "ldap.bind_password (FILE:1): must be text: put it in quotes"},
		{"broken YAML", "ldap: [", "FILE: yaml: line 1: did not find expected node content"},
		{"a tab", "ldap:\n\ttimeout: 5s", "FILE: yaml: line 2: found character that cannot start any token"},
		{"two documents", "log: {}\n---\nldap: {}", "FILE: there is more than one document in it"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			_, err := load(t, test.file)
			wantFaults(t, err, test.want)
		})
	}
}

func TestFilesMayBeEmpty(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "---\n", "null\n", "ldap:\n", "ldap: {}\n", "\ufeff"} {
		if _, err := load(t, text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAMissingFileIsNamed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "rollcall.yaml")
	_, err := Load(Options{File: missing})
	wantFaults(t, err, "--config FILE: no such file or directory")
}

func TestAnUnreadFileIsNoReasonToMissItsKeys(t *testing.T) {
	for text, want := range map[string]string{
		"ldap: [":  "FILE: yaml: line 1: did not find expected node content",
		"- ldap":   "FILE:1: must hold keys with values",
		"ldap: []": "ldap (FILE:1): must hold keys with values",
	} {
		_, err := Load(Options{File: write(t, text), Environ: []string{"ROLLCALL_AUTH_ADMIN_GROUP=cn=admins,dc=example", "ROLLCALL_AUTH_TOKEN_KEYS=token.key"}})
		wantFaults(t, err, want)
	}
}

func TestAGoodValueMendsABrokenOneBelowIt(t *testing.T) {
	_, err := load(t, "ldap: {connections: many}", "ROLLCALL_LDAP_CONNECTIONS=65")
	wantFaults(t, err,
		`ldap.connections (FILE:1): must be a whole number such as 10, not "many"`,
		`ldap.connections (ROLLCALL_LDAP_CONNECTIONS): must be from 1 to 64, not 65`)
}

func TestABrokenValueHidesWhatIsWrongBelowIt(t *testing.T) {
	_, err := load(t, "ldap: {connections: 65}", "ROLLCALL_LDAP_CONNECTIONS=")
	wantFaults(t, err,
		`ldap.connections (ROLLCALL_LDAP_CONNECTIONS): has no value: give it one, or unset the variable`)
}

func TestViperConvertsNothing(t *testing.T) {
	for path, value := range map[string]any{
		"ldap.page_size": "5", "users.deep": 1, "log.file": 5, "ldap.timeout": "5s", "auth.protected": "cn=a,cn=b",
	} {
		v := viper.New()
		v.Set(path, value)
		if err := v.UnmarshalExact(&Config{}, exactTypes); err == nil {
			t.Errorf("%s: %#v was let through", path, value)
		}
	}
}

func FuzzFile(f *testing.F) {
	for _, k := range []string{"base.yaml", "development.yaml", "testing.yaml", "production.yaml"} {
		text, err := files.ReadFile(k)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	for _, text := range []string{"? [a]\n: b", "a: &a [*a]", "<<: {}", "!!binary x", "ldap: {timeout: !!int 5s}", "---\n...\n---"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := load(t, string(text))
		printed(t, c)
		if err == nil && c.LDAP.Timeout <= 0 {
			t.Errorf("ldap.timeout %s was let through", c.LDAP.Timeout)
		}
	})
}

// TestOddYAMLNeverPanics mixes true keys with values of every shape.
func TestOddYAMLNeverPanics(t *testing.T) {
	var names []string
	for _, k := range keys() {
		section, key, _ := strings.Cut(k.path, ".")
		names = append(names, section, key)
	}
	names = append(names, "name", "field", "attribute", "list", "<<", "''", "? x", "&a b", "*a", "5", "~", "{}")
	scalars := []string{"", "~", "5", "-1", "0x1f", "1e9", "10s", "true", "yes", "''", "'x'", "ou=x", ".nan", "!!binary aGk=",
		"!x y", "&a b", "*a", "2001-01-01", "\"\\0\"", "|\n"}
	var value *rapid.Generator[string]
	value = rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 4).Draw(t, "shape") {
		case 0:
			return "[" + strings.Join(rapid.SliceOfN(value, 0, 3).Draw(t, "list"), ", ") + "]"
		case 1:
			var members []string
			for range rapid.IntRange(0, 4).Draw(t, "size") {
				members = append(members, rapid.SampledFrom(names).Draw(t, "key")+": "+value.Draw(t, "value"))
			}
			return "{" + strings.Join(members, ", ") + "}"
		default:
			return rapid.SampledFrom(scalars).Draw(t, "scalar")
		}
	})
	rapid.Check(t, func(r *rapid.T) {
		var text strings.Builder
		for range rapid.IntRange(0, 4).Draw(r, "sections") {
			k := rapid.SampledFrom(keys()).Draw(r, "key")
			section, key, _ := strings.Cut(k.path, ".")
			text.WriteString(section + ":\n  " + key + ": " + value.Draw(r, "value") + "\n")
		}
		c, _ := load(t, text.String(), variable(rapid.SampledFrom(keys()).Draw(r, "variable").path)+"="+value.Draw(r, "text"))
		printed(t, c)
	})
}
