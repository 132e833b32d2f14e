package config

import (
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

func TestAHostNeedsToNameNoMoreThanURLs(t *testing.T) {
	c, err := LoadAuthKeys(write(t, "urls: [https://a.example.org/api, http://127.0.0.1:8080, 'http://[::1]', http://localhost]"))
	wantFaults(t, err)
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	want := &AuthKeys{
		URLs:      []string{"https://a.example.org/api", "http://127.0.0.1:8080", "http://[::1]", "http://localhost"},
		Host:      name,
		TokenFile: "/etc/rollcall/token",
		Timeout:   2 * time.Second,
		CacheDir:  "/var/cache/rollcall",
		CacheFor:  24 * time.Hour,
		Syslog:    "/dev/log",
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
}

func TestAHostMaySetEveryKey(t *testing.T) {
	c, err := LoadAuthKeys(write(t, `
urls: [https://a.example.org/api]
host: web1.example.org
token_file: ""
ca_file: /etc/rollcall/ca.pem
timeout: 10s
cache_dir: /var/lib/rollcall
cache_for: 0s
syslog: ""
`))
	wantFaults(t, err)
	want := &AuthKeys{
		URLs: []string{"https://a.example.org/api"}, Host: "web1.example.org", CAFile: "/etc/rollcall/ca.pem",
		Timeout: 10 * time.Second, CacheDir: "/var/lib/rollcall",
	}
	if diff := cmp.Diff(want, c); diff != "" {
		t.Error(diff)
	}
}

func TestTheExampleOfAHostNamesEveryKey(t *testing.T) {
	text, err := files.ReadFile("authkeys.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for i := 0; i < len(document.Content[0].Content); i += 2 {
		name := document.Content[0].Content[i]
		got = append(got, name.Value)
		if name.HeadComment == "" {
			t.Errorf("%s has no comment", name.Value)
		}
	}
	for _, k := range keysOf(reflect.TypeFor[AuthKeys]()) {
		want = append(want, k.path)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys of authkeys.yaml (-struct +file):\n%s", diff)
	}
}

func TestAHostsFileIsReadStrictly(t *testing.T) {
	const (
		fine   = "urls: [https://a.example.org]\n"
		aURL   = "must be a URL such as https://rollcall.example.org/api, without a name, a password or a query"
		inTLS  = "must begin with https://: over http:// others can read the token, and hand in keys of their own"
		aPath  = "must be a path that begins with /"
		aURLAt = "urls[0] (FILE:1): "
	)
	for _, test := range []struct{ rule, file, want string }{
		{"no URL", "", "urls (default): must hold at least one URL, such as https://rollcall.example.org/api"},
		{"an empty list of URLs", "urls: []", "urls (FILE:1): must hold at least one URL, such as https://rollcall.example.org/api"},
		{"a text for the URLs", "urls: https://a.example.org", "urls (FILE:1): must be a list: [first, second]"},
		{"a name without a scheme", "urls: [a.example.org]", aURLAt + aURL},
		{"another scheme", "urls: ['ldap://a.example.org']", aURLAt + aURL},
		{"a password in a URL", "urls: ['https://a:hunter2@a.example.org']", aURLAt + aURL},
		{"a query", "urls: ['https://a.example.org?x=1']", aURLAt + aURL},
		{"a query without anything", "urls: ['https://a.example.org/?']", aURLAt + aURL},
		{"a fragment without anything", "urls: ['https://a.example.org/#']", aURLAt + aURL},
		{"a URL twice", "urls: ['https://a.example.org', 'https://A.example.org']", `urls[1] (FILE:1): "https://A.example.org" is given twice`},
		{"http to another machine", "urls: ['http://a.example.org']", aURLAt + inTLS},
		{"http to an address", "urls: ['http://192.0.2.1:8080']", aURLAt + inTLS},
		{"http to a name that looks like this machine's", "urls: ['http://localhost.example.org']", aURLAt + inTLS},
		{"http to all addresses", "urls: ['http://0.0.0.0']", aURLAt + inTLS},
		{"an unknown key", fine + "cachefor: 1h", "cachefor (FILE:2): unknown key; did you mean cache_for?"},
		{"a key of the server's", fine + "ldap: {url: a}", "ldap (FILE:2): unknown key"},
		{"a key twice", fine + "timeout: 1s\ntimeout: 2s", "timeout (FILE:3): given twice"},
		{"no unit", fine + "timeout: 2", `timeout (FILE:2): "2" has no unit: write 500ms, 10s, 2m or 1h`},
		{"zero without a unit", fine + "cache_for: 0", `cache_for (FILE:2): "0" has no unit: write 500ms, 10s, 2m or 1h`},
		{"no time to answer", fine + "timeout: 0s", "timeout (FILE:2): must be more than 0s, not 0s"},
		{"longer than sshd waits", "urls: ['https://a', 'https://b', 'https://c']\ntimeout: 4s",
			"timeout (FILE:2): 4s for each of 3 URLs is too long: give them 10s in all, or sshd may not wait"},
		{"a negative age", fine + "cache_for: -1s", "cache_for (FILE:2): must not be negative, but is -1s"},
		{"a relative token", fine + "token_file: token", "token_file (FILE:2): " + aPath},
		{"a relative CA", fine + "ca_file: ca.pem", "ca_file (FILE:2): " + aPath},
		{"a relative folder", fine + "cache_dir: cache", "cache_dir (FILE:2): " + aPath},
		{"no folder", fine + `cache_dir: ""`, "cache_dir (FILE:2): " + aPath},
		{"a relative socket", fine + "syslog: log", "syslog (FILE:2): " + aPath},
		{"a host with a newline", fine + `host: "a\nb"`, "host (FILE:2): must not hold control characters"},
		{"a number for the host", fine + "host: 1", "host (FILE:2): must be text: put it in quotes"},
		{"no value", fine + "host:", `host (FILE:2): has no value: write "" for an empty text, or leave the key out`},
		{"no mapping", "[a]", "FILE:1: must hold keys with values"},
	} {
		t.Run(test.rule, func(t *testing.T) {
			_, err := LoadAuthKeys(write(t, test.file))
			wantFaults(t, err, test.want)
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Error("a password is shown")
			}
		})
	}
}

func TestAllFaultsOfAHostsFileAreReportedAtOnce(t *testing.T) {
	c, err := LoadAuthKeys(write(t, "urls: ['http://a.example.org']\ntimeout: 2\nhots: a\nsyslog: /run/log\n"))
	wantFaults(t, err,
		`timeout (FILE:2): "2" has no unit: write 500ms, 10s, 2m or 1h`,
		"hots (FILE:3): unknown key; did you mean host?",
		"urls[0] (FILE:1): must begin with https://: over http:// others can read the token, and hand in keys of their own")
	if c.Syslog != "/run/log" {
		t.Errorf("Syslog is %q: nobody would learn of the faults below sshd", c.Syslog)
	}
}

func TestAHostsFileThatOthersCouldHaveChangedIsNotRead(t *testing.T) {
	const remedy = ": run chown root and chmod go-w on it, and see that what it says is yours"
	file := write(t, "urls: [https://a.example.org]\nhots: a\nsyslog: /run/log\n")
	refused := func(want string) {
		t.Helper()
		c, err := LoadAuthKeys(file)
		wantFaults(t, err, "--config FILE: "+want+remedy)
		if len(c.URLs) > 0 || c.Syslog != "/dev/log" {
			t.Errorf("it is read all the same: URLs %q, Syslog %q", c.URLs, c.Syslog)
		}
	}
	for mode, text := range map[os.FileMode]string{
		0o620: "-rw--w----", 0o602: "-rw-----w-", 0o664: "-rw-rw-r--", 0o646: "-rw-r--rw-", 0o666: "-rw-rw-rw-", 0o777: "-rwxrwxrwx",
	} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		refused("others than its owner may write it (" + text + ")")
	}
	for _, mode := range []os.FileMode{0o644, 0o640, 0o600, 0o400, 0o755} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, err := LoadAuthKeys(file)
		wantFaults(t, err, "hots (FILE:2): unknown key; did you mean host?")
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(file, 12345, 0); err != nil {
			t.Fatal(err)
		}
		refused("it belongs to somebody else")
	}
}

func TestAHostsFileThatIsNotThereIsAFault(t *testing.T) {
	c, err := LoadAuthKeys("/nowhere/authkeys.yaml")
	wantFaults(t, err, "--config /nowhere/authkeys.yaml: no such file or directory")
	if c.Syslog != "/dev/log" {
		t.Errorf("Syslog is %q: nobody would learn of the fault below sshd", c.Syslog)
	}
}
