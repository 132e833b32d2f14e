package config

import (
	"cmp"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestAnyKeyCanComeFromAVariable(t *testing.T) {
	byPath := map[string]string{
		"server.listen": ":9", "server.base_path": "/api", "server.request_timeout": "9s",
		"server.trusted_proxies": "::1", "ssh.trusted_networks": "::1", "ssh.login_field": "uid", "server.cors_origins": "https://a.example", "ldap.url": "ldap://h:9", "ldap.base_dn": "dc=y",
		"embedded.enabled": "false", "ldap.start_tls": "false", "auth.login_field": "uid", "auth.own_fields": "mail", "oidc.issuer": "https://issuer.example", "log.level": "info", "log.format": "json",
		"posix.min": "1000", "posix.max": "1001", "posix.primary_gid": "100", "posix.home_directory": "/{uid}", "posix.login_shell": "/bin/sh",
		"telemetry.listen": ":10", "telemetry.otlp_endpoint": "http://h:4318", "telemetry.otlp_headers": "a=b",
	}
	byName := map[string]string{"key": "uid", "naming_attribute": "uid", "filter": "(a=b)", "object_classes": "top"}
	byType := map[string]string{
		"bool": "true", "float64": "0.5", "int": "9", "int64": "9999", "time.Duration": "11s",
		"string": "cn=x", "config.Secret": "x", "[]string": `["cn=x"]`,
		"[]config.Attribute": `[{"field": "a", "attribute": "b"}]`,
		"[]config.Field":     `[{"name": "c", "attribute": "d", "list": true}]`,
	}
	environ := []string{"ROLLCALL_ENV=testing"}
	for _, k := range keys() {
		text := cmp.Or(byPath[k.path], byName[k.name], byType[k.typ.String()])
		environ = append(environ, variable(k.path)+"="+text)
	}
	c, err := Load(Options{Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys() {
		if from := c.settings[k.path].layer.name; from != variable(k.path) {
			t.Errorf("%s came from %s", k.path, from)
		}
	}
	if c.LDAP.Timeout != 11*time.Second || c.LDAP.URL != "ldap://h:9" || !c.Hosts.Deep || c.Embedded.Enabled {
		t.Errorf("values: %+v", c)
	}
	if diff := gocmp.Diff([]Field{{Name: "c", Attribute: "d", List: true}}, c.Groups.Fields); diff != "" {
		t.Errorf("groups.fields (-want +got):\n%s", diff)
	}
}

func TestListsInVariables(t *testing.T) {
	dns := func(c *Config) []string { return c.Auth.Protected }
	classes := func(c *Config) []string { return c.Users.ObjectClasses }
	proxies := func(c *Config) []string { return c.Server.TrustedProxies }
	for _, test := range []struct {
		rule, variable string
		list           func(*Config) []string
		want           []string
	}{
		{"commas", "ROLLCALL_USERS_OBJECT_CLASSES=top, person", classes, []string{"top", "person"}},
		{"JSON", `ROLLCALL_USERS_OBJECT_CLASSES=["top","person"]`, classes, []string{"top", "person"}},
		{"one", "ROLLCALL_SERVER_TRUSTED_PROXIES=10.0.0.0/8", proxies, []string{"10.0.0.0/8"}},
		{"empty", "ROLLCALL_AUTH_PROTECTED=", dns, []string{}},
		{"one DN", "ROLLCALL_AUTH_PROTECTED=cn=a,dc=b", dns, []string{"cn=a,dc=b"}},
		{"DNs with semicolons between them", "ROLLCALL_AUTH_PROTECTED=cn=a,dc=b; cn=c,dc=d", dns, []string{"cn=a,dc=b", "cn=c,dc=d"}},
		{"DNs in JSON", `ROLLCALL_AUTH_PROTECTED=["cn=a\\;b,dc=c", "cn=d"]`, dns, []string{`cn=a\;b,dc=c`, "cn=d"}},
	} {
		t.Run(test.rule, func(t *testing.T) {
			c := mustLoad(t, "", test.variable)
			if diff := gocmp.Diff(test.want, test.list(c)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestVariablesAreReadStrictly(t *testing.T) {
	const link = ": unknown variable; it looks like Kubernetes' link to a service: " +
		"set enableServiceLinks: false in the pod's spec"
	for _, test := range []struct{ rule, variable, want string }{
		{"unknown", "ROLLCALL_COLOUR=red", "ROLLCALL_COLOUR: unknown variable"},
		{"mistyped", "ROLLCALL_LDAP_TIMEUOT=5s",
			"ROLLCALL_LDAP_TIMEUOT: unknown variable; did you mean ROLLCALL_LDAP_TIMEOUT?"},
		{"mistyped environment", "ROLLCALL_ENVV=testing", "ROLLCALL_ENVV: unknown variable; did you mean ROLLCALL_ENV?"},
		{"small letters", "rollcall_ldap_timeout=5s",
			"rollcall_ldap_timeout: unknown variable; did you mean ROLLCALL_LDAP_TIMEOUT?"},
		{"a file for what is no secret", "ROLLCALL_LDAP_URL_FILE=/dev/null",
			"ROLLCALL_LDAP_URL_FILE: unknown variable; only a secret can be read from a file"},
		{"Kubernetes: port", "ROLLCALL_PORT=tcp://10.0.0.1:80", "ROLLCALL_PORT" + link},
		{"Kubernetes: host", "ROLLCALL_SERVICE_HOST=10.0.0.1", "ROLLCALL_SERVICE_HOST" + link},
		{"Kubernetes: named port", "ROLLCALL_SERVICE_PORT_HTTP=80", "ROLLCALL_SERVICE_PORT_HTTP" + link},
		{"Kubernetes: protocol", "ROLLCALL_PORT_80_TCP_PROTO=tcp", "ROLLCALL_PORT_80_TCP_PROTO" + link},
		{"no unit", "ROLLCALL_LDAP_TIMEOUT=5",
			`ldap.timeout (ROLLCALL_LDAP_TIMEOUT): "5" has no unit: write 500ms, 10s, 2m or 1h`},
		{"an empty duration", "ROLLCALL_LDAP_TIMEOUT=",
			`ldap.timeout (ROLLCALL_LDAP_TIMEOUT): has no value: give it one, or unset the variable`},
		{"an empty number", "ROLLCALL_LDAP_PAGE_SIZE=",
			`ldap.page_size (ROLLCALL_LDAP_PAGE_SIZE): has no value: give it one, or unset the variable`},
		{"a wrong bool", "ROLLCALL_USERS_DEEP=1", `users.deep (ROLLCALL_USERS_DEEP): must be true or false, not "1"`},
		{"records that are not JSON", "ROLLCALL_USERS_FIELDS=badge",
			`users.fields (ROLLCALL_USERS_FIELDS): must be a JSON array of objects: [{"…": "…"}]`},
		{"broken JSON", "ROLLCALL_AUTH_PROTECTED=[cn=a]", "auth.protected (ROLLCALL_AUTH_PROTECTED): is not a JSON array"},
		{"a record's unknown key", `ROLLCALL_USERS_FIELDS=[{"name":"a","attribute":"b","lst":true}]`,
			"users.fields[0].lst (ROLLCALL_USERS_FIELDS): unknown key; did you mean list?"},
		{"a record's key twice", `ROLLCALL_USERS_ATTRIBUTES=[{"field":"a","field":"a","attribute":"b"}]`,
			"users.attributes[0].field (ROLLCALL_USERS_ATTRIBUTES): given twice"},
		{"a wrong type in JSON", `ROLLCALL_AUTH_PROTECTED=["cn=a",5]`,
			"auth.protected[1] (ROLLCALL_AUTH_PROTECTED): must be text: put it in quotes"},
		{"an empty item", "ROLLCALL_AUTH_PROTECTED=cn=a;",
			`auth.protected[1] (ROLLCALL_AUTH_PROTECTED): must be a DN such as ou=people,dc=example,dc=org, not ""`},
		{"DNs with a comma between them", "ROLLCALL_AUTH_PROTECTED=cn=a,cn=b;c",
			`auth.protected[1] (ROLLCALL_AUTH_PROTECTED): must be a DN such as ou=people,dc=example,dc=org, not "c"`},
	} {
		t.Run(test.rule, func(t *testing.T) {
			_, err := load(t, "", test.variable)
			wantFaults(t, err, test.want)
		})
	}
}

func TestAVariableGivenTwiceIsAFault(t *testing.T) {
	_, err := load(t, "", "ROLLCALL_LDAP_TIMEOUT=5s", "ROLLCALL_LDAP_TIMEOUT=6s")
	wantFaults(t, err, "ROLLCALL_LDAP_TIMEOUT: given twice")
}

func TestOtherVariablesAreLeftAlone(t *testing.T) {
	mustLoad(t, "", "PATH=/bin", "ROLLCALLER=me", "LDAP_TIMEOUT=5", "NONSENSE")
}

func TestTextInAVariableIsTakenAsItIs(t *testing.T) {
	for _, text := range []string{"12345", "true", "null", "~", "&a *b", " x ", "{}", "[", "", "a: b # c"} {
		c := mustLoad(t, "", "ROLLCALL_LOG_FILE="+text)
		if c.Log.File != text {
			t.Errorf("%q became %q", text, c.Log.File)
		}
	}
}

func TestASecretComesFromAFileWithoutItsLastNewline(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"hunter2", "hunter2"}, {"hunter2\n", "hunter2"}, {"hunter2\r\n", "hunter2"},
		{"hunter2\n\n", "hunter2\n"}, {"hunter2\r", "hunter2\r"}, {" 5 ", " 5 "},
	} {
		c := mustLoad(t, "", append(outside, "ROLLCALL_LDAP_BIND_PASSWORD_FILE="+write(t, test.text))...)
		if got := string(c.LDAP.BindPassword); got != test.want {
			t.Errorf("%q became %q", test.text, got)
		}
	}
}

func TestSecretFilesThatCannotBeUsed(t *testing.T) {
	const name = "ROLLCALL_LDAP_BIND_PASSWORD_FILE"
	for _, test := range []struct {
		rule      string
		variables []string
		want      string
	}{
		{"missing", []string{name + "=/nowhere"}, "cannot read the file that it names: no such file or directory"},
		{"no name", []string{name + "="}, "cannot read the file that it names: no such file or directory"},
		{"a folder", []string{name + "=/"}, "cannot read the file that it names: is a directory"},
		{"empty", []string{name + "=" + write(t, "\n")}, "cannot read the file that it names: it is empty"},
		{"the variable is set too", []string{name + "=" + write(t, "a"), "ROLLCALL_LDAP_BIND_PASSWORD=b"},
			"ROLLCALL_LDAP_BIND_PASSWORD is set too: unset one of them"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			_, err := load(t, "", append(test.variables, outside...)...)
			wantFaults(t, err, name+": "+test.want)
		})
	}
}
