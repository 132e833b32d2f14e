package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestValues checks one key at a time. A want of "" means that the value is good;
// otherwise it is how the only fault goes on after the key and its place.
func TestValues(t *testing.T) {
	const (
		listen = "must be address:port"
		base   = "must be empty or like /api"
		proxy  = "must be an address or a CIDR range"
		from   = "must be an origin such as https://admin.example.org"
		server = "must be ldap://host:port"
		entry  = "must be a DN"
		schema = "must be a name from the LDAP schema"
		field  = "must be the name of a field"
		tree   = "must be an LDAP filter"
		zero   = "must be more than 0s"
		below  = "must not be negative"
		size   = "must be from 1024 to 1073741824"

		receiver = "must be a URL such as http://collector.example.org:4318, without a name, a password or a query"
		headers  = "must be name=value, with a comma before the next"
	)
	for _, test := range []struct{ key, value, want string }{
		{"server.listen", `":8080"`, ""},
		{"server.listen", `"[::1]:8080"`, ""},
		{"server.listen", `"rollcall_1.example.org:0"`, ""},
		{"server.listen", `"8080"`, listen},
		{"server.listen", `""`, listen},
		{"server.listen", `"localhost"`, listen},
		{"server.listen", `"localhost:"`, listen},
		{"server.listen", `"localhost:http"`, listen},
		{"server.listen", `"localhost:65536"`, listen},
		{"server.listen", `"::1:80"`, listen},
		{"server.listen", `"http://localhost:80"`, listen},
		{"server.listen", `"two words:80"`, listen},

		{"server.base_path", `""`, ""},
		{"server.base_path", "/api", ""},
		{"server.base_path", "/directory/v1.2_~-", ""},
		{"server.base_path", "/", base},
		{"server.base_path", "api", base},
		{"server.base_path", "/api/", base},
		{"server.base_path", "/a//b", base},
		{"server.base_path", "/a/../b", base},
		{"server.base_path", "/.", base},
		{"server.base_path", "/a b", base},
		{"server.base_path", "/a%2Fb", base},
		{"server.base_path", "/{name}", base},
		{"server.base_path", "/a?b", base},
		{"server.base_path", `"/a\n"`, base},

		{"server.trusted_proxies", "[10.0.0.0/8, 192.0.2.1, '2001:db8::/32', '::1']", ""},
		{"server.trusted_proxies", "[0.0.0.0/0]", ""},
		{"server.trusted_proxies", "[proxy.example.org]", "[0]: " + proxy},
		{"server.trusted_proxies", "['::1', 10.0.0.0/33]", "[1]: " + proxy},
		{"server.trusted_proxies", "[10.1.2.3/8]", "[0]: 10.1.2.3/8 has bits beyond its mask: write 10.0.0.0/8"},
		{"server.trusted_proxies", "['::1', '::1']", `[1]: "::1" is given twice`},

		{"server.cors_origins", "['https://admin.example.org', 'http://localhost:3000', 'https://[::1]:8443', 'https://192.0.2.1']", ""},
		{"server.cors_origins", "['*']", "[0]: " + from},
		{"server.cors_origins", "['https://*.example.org']", "[0]: " + from},
		{"server.cors_origins", "['null']", "[0]: " + from},
		{"server.cors_origins", "[admin.example.org]", "[0]: " + from},
		{"server.cors_origins", "['https://admin.example.org/']", "[0]: " + from},
		{"server.cors_origins", "['https://admin.example.org?x']", "[0]: " + from},
		{"server.cors_origins", "['https://me@admin.example.org']", "[0]: " + from},
		{"server.cors_origins", "['https://admin.example.org:']", "[0]: " + from},
		{"server.cors_origins", "['https://Admin.example.org']", "[0]: " + from},
		{"server.cors_origins", "['ftp://admin.example.org']", "[0]: " + from},
		{"server.cors_origins", "['https://']", "[0]: " + from},
		{"server.cors_origins", "['https://a.org:443']", `[0]: "https://a.org:443" has the port that browsers leave out: write https://a.org`},
		{"server.cors_origins", "['http://a.org:80']", `[0]: "http://a.org:80" has the port that browsers leave out`},

		{"server.request_timeout", "29s", ""},
		{"server.request_timeout", "30s", "30s must be shorter than server.write_timeout, which is 30s"},
		{"server.request_timeout", "0s", zero},
		{"server.read_header_timeout", "-1s", zero},
		{"server.read_timeout", "0s", zero},
		{"server.write_timeout", "10001ms", ""},
		{"server.idle_timeout", "0s", zero},
		{"server.shutdown_timeout", "0s", zero},
		{"server.max_body_bytes", "1024", ""},
		{"server.max_body_bytes", "0", size},
		{"server.max_body_bytes", "-1", size},
		{"server.max_header_bytes", "1073741825", size},

		{"ldap.url", "ldap://ldap.example.org:389", ""},
		{"ldap.url", "ldap://[::1]:389", ""},
		{"ldap.url", "ldap://127.0.0.1:1", ""},
		{"ldap.url", "ldap://ldap.example.org", server},
		{"ldap.url", "ldap://ldap.example.org:0", server},
		{"ldap.url", "ldap://:389", server},
		{"ldap.url", "ldaps://ldap.example.org:636", ""},
		{"ldap.url", "ldaps://ldap.example.org", server},
		{"ldap.client_key", "client.key", "must be given together with ldap.client_certificate"},
		{"ldap.start_tls", "true", "is true, but the embedded server has no TLS"},
		{"server.tls_key", "server.key", "must be given together with server.tls_certificate"},
		{"ldap.url", "ldap.example.org:389", server},
		{"ldap.url", "LDAP://ldap.example.org:389", server},
		{"ldap.url", "ldap://ldap.example.org:389/", server},
		{"ldap.url", "ldap://ldap.example.org:389/dc=example", server},
		{"ldap.url", "ldap://me:secret@ldap.example.org:389", server},
		{"ldap.url", "ldap://%zz:389", server},

		{"ldap.base_dn", "dc=example,dc=org", ""},
		{"ldap.base_dn", "o=Acme Ltd", ""},
		{"ldap.base_dn", "example.org", entry},
		{"ldap.base_dn", "dc=example dc=org,", entry},
		{"ldap.bind_dn", `'cn=O''Brien\, "Jr",dc=org'`, entry},
		{"ldap.bind_dn", `'cn=O''Brien\, \"Jr\" \+\3b名前+uid=x, 2.5.4.3=y'`, ""},
		{"ldap.bind_dn", "cn=a,,dc=b", entry},
		{"ldap.bind_dn", "cn=,dc=b", entry},
		{"ldap.bind_dn", "rollcall", entry},
		{"ldap.timeout", "0s", zero},
		{"ldap.connections", "64", ""},
		{"ldap.connections", "0", "must be from 1 to 64, not 0"},
		{"ldap.connections", "65", "must be from 1 to 64, not 65"},
		{"server.bulk_concurrency", "65", "must be from 1 to 64, not 65"},
		{"ldap.sorted_searches", "0", "must be from 1 to 64, not 0"},
		{"ldap.hold_searches", "0s", ""},
		{"ldap.hold_searches", "-1s", below},
		{"ldap.exclusive_connections", "0", "must be from 1 to 256, not 0"},
		{"ldap.max_connection_age", "0s", zero},
		{"ldap.page_size", "0", "must be from 1 to 100000, not 0"},
		{"ldap.max_message_bytes", "0", size},

		{"ldap.password_policy", "cn=default,ou=policies", ""},
		{"ldap.password_policy", "default", entry},
		{"ldap.decoy", "cn=decoy,ou=services", ""},
		{"ldap.decoy", "decoy", entry},

		{"embedded.dir", `""`, "is missing"},

		{"auth.login_field", "mail", ""},
		{"auth.login_field", `""`, field},
		{"auth.freshness", "0s", ""},
		{"auth.freshness", "-1s", below},
		{"auth.password_memory", "0s", ""},
		{"auth.password_memory", "-1s", below},
		{"auth.admin_group", "admins", entry},
		{"auth.admin_group", `""`, "is missing"},
		{"auth.admin_group", "cn=admins,", entry},
		{"auth.protected", "['cn=a', 'CN=A']", `[1]: "CN=A" is given twice`},
		{"auth.protected", "[a]", "[0]: " + entry},

		{"posix.min", "1000", ""},
		{"posix.min", "999", "must be from 1000 to 4294967293, not 999"},
		{"posix.max", "9999", "must be from 10000 to 4294967293, not 9999"},
		{"posix.max", "65533", ""},
		{"posix.max", "65534", "must not leave 65534 and 65535 between it and posix.min"},
		{"posix.primary_gid", "100", ""},
		{"posix.primary_gid", "0", "must be from 100 to 4294967293, not 0"},
		{"posix.home_directory", "/srv/home/{uid}/unix", ""},
		{"posix.home_directory", "/home", "must have {uid} where the login name belongs"},
		{"posix.home_directory", "home/{uid}", "must be an absolute path"},
		{"posix.login_shell", "/usr/sbin/nologin", ""},
		{"posix.login_shell", "'/bin/sh:0'", "must be an absolute path"},
		{"posix.login_shell", "/bin/../sh", "must be an absolute path"},
		{"posix.counter", "numbers", entry},
		{"posix.counter", `""`, "is missing"},

		{"log.level", "trace", ""},
		{"log.level", "INFO", "must be one of error, warn, info, debug, trace"},
		{"log.format", "xml", "must be one of json, text"},

		{"telemetry.listen", `""`, ""},
		{"telemetry.listen", "127.0.0.1:9464", ""},
		{"telemetry.listen", `"9464"`, listen},
		{"telemetry.pprof", "true", "is true, but there is nowhere to serve profiles: set telemetry.listen"},
		{"telemetry.otlp_endpoint", "http://collector.example.org:4318", ""},
		{"telemetry.otlp_endpoint", "https://collector.example.org/otlp/v1/traces", ""},
		{"telemetry.otlp_endpoint", "collector.example.org:4318", receiver},
		{"telemetry.otlp_endpoint", "grpc://collector.example.org:4317", receiver},
		{"telemetry.otlp_endpoint", "https://me:secret@collector.example.org", receiver},
		{"telemetry.otlp_endpoint", "https://collector.example.org/?key=secret", receiver},
		{"telemetry.otlp_headers", "a=b", "is given, but telemetry.otlp_endpoint is not"},
		{"telemetry.otlp_headers", "Bearer secret", headers},
		{"telemetry.otlp_headers", "a=b,", headers},
		{"telemetry.otlp_headers", "two words=x", headers},
		{"telemetry.otlp_headers", "a=", headers},
		{"telemetry.otlp_headers", "a=x%0d%0ab", headers},
		{"telemetry.otlp_headers", "a=%zz", headers},
		{"telemetry.sample_ratio", "0", ""},
		{"telemetry.sample_ratio", "1", ""},
		{"telemetry.sample_ratio", "0.001", ""},
		{"telemetry.sample_ratio", "1.5", "must be from 0 to 1, not 1.5"},
		{"telemetry.sample_ratio", "-0.1", "must be from 0 to 1, not -0.1"},

		{"users.container", `""`, ""},
		{"users.container", "ou=people,ou=staff", ""},
		{"users.container", "people", entry},
		{"users.container", "ou=people,DC=example,dc=net", `is relative to ldap.base_dn: leave "dc=Example,dc=net" off its end`},
		{"users.container", "dc=example,dc=net", "is relative to ldap.base_dn"},
		{"users.key", `""`, field},
		{"users.key", "employeeNumber", ""},
		{"groups.naming_attribute", "two words", schema},
		{"groups.naming_attribute", "2.5.4.3", ""},
		{"groups.placeholder", `""`, "is missing"},
		{"groups.placeholder", "placeholder", entry},
		{"groups.placeholder", "cn=x,dc=example,dc=net", "is relative to ldap.base_dn"},
		{"hosts.object_classes", "[]", "must hold at least one class"},
		{"hosts.object_classes", "[top, '']", "[1]: " + schema},
		{"hosts.object_classes", "[device, Device]", `[1]: "Device" is given twice`},
		{"hosts.filter", "(objectClass=device)", ""},
		{"hosts.filter", `"(&(a=b)(!(c=d\\28\\29)))"`, ""},
		{"hosts.filter", "objectClass=device", tree},
		{"hosts.filter", "(a=b)(c=d)", tree},
		{"hosts.filter", "((a=b)", tree},
		{"hosts.filter", "(a=b))", tree},
		{"hosts.filter", "a)(b=c", tree},
		{"hosts.filter", "()", tree},

		{"users.attributes", "[{field: cn, attribute: uid}, {field: uid, attribute: cn}]", ""},
		{"users.attributes", "[{attribute: uid}]", "[0].field: " + field},
		{"users.attributes", "[{field: cn}]", "[0].attribute: " + schema},
		{"users.attributes", "[{field: cn, attribute: cn, object_class: a b}]", "[0].object_class: " + schema},
		{"users.attributes", "[{field: cn, attribute: a}, {field: CN, attribute: b}]", `[1].field: "CN" is given twice`},
		{"users.attributes", "[{field: a, attribute: cn}, {field: b, attribute: CN}]", `[1].attribute: "CN" is given twice`},
		{"hosts.fields", "[{name: rack, attribute: acmeRack, object_class: acmeHost}]", ""},
		{"hosts.fields", "[{attribute: acmeRack}]", "[0].name: " + field},
		{"hosts.fields", "[{name: rack}]", "[0].attribute: " + schema},
		{"hosts.fields", "[{name: rack, attribute: a, object_class: 'x y'}]", "[0].object_class: " + schema},
		{"hosts.fields", "[{name: a b, attribute: a}]", "[0].name: " + field},
		{"hosts.fields", "[{name: rack, attribute: a}, {name: rack, attribute: b}]", `[1].name: "rack" is given twice`},
		{"hosts.fields", "[{name: a, attribute: rack}, {name: b, attribute: rack}]", `[1].attribute: "rack" is given twice`},
		{"hosts.fields", "[{name: a, attribute: b, required: true, read_only: true}]", "[0]: cannot be both required and read_only"},
	} {
		t.Run(test.key+" "+test.value, func(t *testing.T) {
			section, key, _ := strings.Cut(test.key, ".")
			variables := []string{"ROLLCALL_LDAP_BASE_DN=dc=Example,dc=net"}
			switch test.key {
			case "ldap.url", "ldap.bind_dn":
				variables = append(slices.Clone(production), "ROLLCALL_EMBEDDED_ENABLED=false")
				variables = slices.DeleteFunc(variables, func(v string) bool { return strings.HasPrefix(v, variable(test.key)+"=") })
			case "ldap.base_dn":
				variables = nil
			}
			_, err := load(t, section+":\n  "+key+": "+test.value, variables...)
			if test.want == "" {
				wantFaults(t, err)
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			item, what, found := strings.Cut(test.want, ": ")
			if !found || !strings.HasPrefix(item, "[") {
				item, what = "", test.want
			}
			path, rest, _ := strings.Cut(err.Error(), " (")
			_, got, _ := strings.Cut(rest, ":2): ")
			if path != test.key+item || !strings.HasPrefix(got, what) || strings.Contains(got, "\n") {
				t.Errorf("got  %s\nwant %s%s (…): %s", err, test.key, item, what)
			}
		})
	}
}

func TestWriteTimeoutMustBePositive(t *testing.T) {
	_, err := load(t, "server: {write_timeout: 0s}")
	wantFaults(t, err,
		"server.request_timeout (default): 10s must be shorter than server.write_timeout, which is 0s",
		"server.write_timeout (FILE:1): must be more than 0s, not 0s")
}

func TestStartTLSIsForConnectionsThatAreNotTLSYet(t *testing.T) {
	for url, want := range map[string]string{
		"ldap://ldap.example.org:389":  "",
		"ldaps://ldap.example.org:636": "ldap.start_tls (ROLLCALL_LDAP_START_TLS): is true, but ldap.url begins with ldaps: and is TLS already: set one of them",
	} {
		_, err := Load(Options{Environ: append(production[1:len(production):len(production)], "ROLLCALL_LDAP_URL="+url, "ROLLCALL_LDAP_START_TLS=true")})
		if want == "" {
			wantFaults(t, err)
		} else {
			wantFaults(t, err, want)
		}
	}
}

func TestMetricsAreNotServedWhereTheAPIIs(t *testing.T) {
	for _, test := range []struct {
		api, metrics string
		clash        bool
	}{
		{"127.0.0.1:8080", "127.0.0.1:8080", true},
		{"127.0.0.1:8080", ":8080", true},
		{":8080", "127.0.0.1:8080", true},
		{"0.0.0.0:8080", "[::1]:8080", true},
		{"[::]:8080", "0.0.0.0:08080", true},
		{"localhost:8080", "127.0.0.1:8080", true},
		{"Rollcall.example.org:8080", "rollcall.example.org:8080", true},
		{"[::ffff:127.0.0.1]:8080", "127.0.0.1:8080", true},
		{"[0::1]:8080", "[::1]:8080", true},
		{"127.0.0.1:8080", "127.0.0.1:8081", false},
		{":8080", "127.0.0.1:9090", false},
		{"192.0.2.1:8080", "127.0.0.1:8080", false},
		{"rollcall.example.org:8080", "127.0.0.1:8080", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{":8080", "", false},
	} {
		t.Run(test.api+" and "+test.metrics, func(t *testing.T) {
			_, err := load(t, "server: {listen: '"+test.api+"'}\ntelemetry: {listen: '"+test.metrics+"'}")
			if !test.clash {
				wantFaults(t, err)
				return
			}
			wantFaults(t, err, fmt.Sprintf("telemetry.listen (FILE:2): %q has the port of server.listen, which is %q: metrics need another", test.metrics, test.api))
		})
	}
}

func TestHeadersOfTracesAreWrittenAsInOpenTelemetrysOwnVariables(t *testing.T) {
	for text, want := range map[Secret]map[string]string{
		"": {},
		"Authorization=Bearer%20a%2Cb%25, X-Scope-OrgID = me": {"Authorization": "Bearer a,b%", "X-Scope-OrgID": "me"},
		"key=a=b": {"key": "a=b"},
	} {
		if got := (Telemetry{OTLPHeaders: text}).Headers(); !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", string(text), got, want)
		}
	}
}

func TestWithoutABaseDNThereIsNothingToLeaveOff(t *testing.T) {
	_, err := load(t, "users: {container: 'ou=people,'}")
	wantFaults(t, err,
		`users.container (FILE:1): must be a DN such as ou=people,dc=example,dc=org, not "ou=people,"`)
}

func TestAFieldAndAnAttributeAreClaimedOnce(t *testing.T) {
	_, err := load(t, `
users:
  attributes:
    - {field: mail, attribute: badge}
  fields:
    - {name: mail, attribute: x}
    - {name: badge, attribute: badge}
`)
	wantFaults(t, err,
		`users.fields[0].name (FILE:6): "mail" is given twice`,
		`users.fields[1].attribute (FILE:6): "badge" is given twice`)
}

func TestOneDirectoryOnly(t *testing.T) {
	_, err := load(t, "ldap: {url: 'ldap://localhost:389', bind_dn: cn=x, bind_password: y}")
	const why = " (FILE:1): is given, but embedded.enabled is true and brings a server of its own: " +
		"set embedded.enabled to false, or leave "
	wantFaults(t, err,
		"ldap.url"+why+"ldap.url out", "ldap.bind_dn"+why+"ldap.bind_dn out", "ldap.bind_password"+why+"ldap.bind_password out")
}
