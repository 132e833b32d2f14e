package rest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/rest"
)

const knownHosts = "/hosts/known_hosts"

// someHostKey is of no host of the sample directory.
const someHostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIjrzfyhaMKGRPBzV9hm6iGWjgrOqwYwA9FVppFpUYkT"

// addHost adds a host by another program, which has rules of its own.
func (a *api) addHost(name string, addresses, keys []string) {
	a.t.Helper()
	add := ldap.NewAddRequest("cn="+ldap.EscapeDN(name)+",ou=hosts,"+ldapdirtest.Base, nil)
	add.Attribute("objectClass", []string{"device", "ipHost", "ldapPublicKey"})
	add.Attribute("cn", []string{name})
	if addresses != nil {
		add.Attribute("ipHostNumber", addresses)
	} else {
		add.Attribute("ipHostNumber", []string{"none"})
	}
	if keys != nil {
		add.Attribute("sshPublicKey", keys)
	}
	if err := ldapdirtest.Bind(a.t, a.slapd).Add(add); err != nil {
		a.t.Fatalf("the host %q: %v", name, err)
	}
}

// keygen runs ssh-keygen on known hosts, and returns what it says.
func keygen(t *testing.T, known []byte, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(file, known, 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), "ssh-keygen", append(args, "-f", file)...).CombinedOutput()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && (!ok || exit.ExitCode() != 1 || len(said) > 0) { // 1: it finds none
		t.Fatalf("ssh-keygen %q: %v\n%s\n%s", args, err, said, known)
	}
	return string(said)
}

// TestSSHFindsHostsInKnownHosts by each of their names and addresses, and nothing by a pattern.
func TestSSHFindsHostsInKnownHosts(t *testing.T) {
	a := newAPI(t)
	a.do("PATCH", "/hosts/web2", object{"sshPublicKeys": []string{someHostKey + " a, b * c"}}).want(200)
	a.addHost("odd.example.org", []string{"2001:DB8:0:0::99", "198.51.100.99"}, []string{"no-pty " + someHostKey + " @revoked"})
	a.addHost("*", []string{"*", "198.51.100.98,*"}, []string{someHostKey})
	a.addHost("!web1", nil, []string{someHostKey})
	a.addHost("@cert-authority *", nil, []string{someHostKey})
	a.addHost("|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=", nil, []string{someHostKey})
	a.addHost("lines", nil, []string{someHostKey + "\n* " + someHostKey, "no key"})

	x := a.do("GET", knownHosts, nil).want(200)
	if got := x.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
		x.fail("the type is %q", got)
	}
	if x.Header.Get("Cache-Control") != "no-store" {
		x.fail("it may be kept")
	}
	lines := strings.Split(strings.TrimSpace(string(x.Body)), "\n")
	slices.Sort(lines)
	want := []string{
		"db1.example.org,192.0.2.20 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPqRY/Cxz9FxVYigysC+o5+VC1K5nnMD6RYQkdRfIkW9",
		"odd.example.org,2001:db8::99,198.51.100.99 " + someHostKey,
		"web1,192.0.2.10,2001:db8::10 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBE2qUwx5TywhFPHdi10VVB+nLKvWYqMF1mk9WD+0hNX",
		"web2,192.0.2.11,2001:db8::11 " + someHostKey,
	}
	if !slices.Equal(lines, want) {
		x.fail("want\n%s", strings.Join(want, "\n"))
	}

	if said := keygen(t, x.Body, "-l"); strings.Count(said, "\n") != len(want) || strings.Count(said, "256 SHA256:") != len(want) {
		t.Errorf("ssh-keygen -l sees\n%sin\n%s", said, x.Body)
	}
	for sought, line := range map[string]string{
		"web1": want[2], "WEB1": want[2], "192.0.2.10": want[2], "2001:db8::10": want[2], "db1.example.org": want[0], "192.0.2.20": want[0],
		"2001:db8::99": want[1], "198.51.100.99": want[1], "web2": want[3],
		"build1": "", "spare": "", "lines": "", "anything": "", "198.51.100.98": "", "web": "", "example.org": "",
	} {
		said := keygen(t, x.Body, "-F", sought)
		if _, found, _ := strings.Cut(strings.TrimSpace(said), "\n"); found != line {
			t.Errorf("ssh-keygen -F %s finds %q, want %q", sought, found, line)
		}
		only := a.do("GET", knownHosts+"?"+url.Values{"host": {sought}}.Encode(), nil).want(200)
		if strings.TrimSpace(string(only.Body)) != line {
			only.fail("want %q", line)
		}
	}
}

// TestOneKnownHostIsFoundAsSSHLooksForIt: as %H of ssh_config(5) has it.
func TestOneKnownHostIsFoundAsSSHLooksForIt(t *testing.T) {
	a := newAPI(t)
	a.addHost("192.0.2.77", nil, []string{someHostKey})
	for sought, want := range map[string]string{
		"[web1]:2222": "[web1]:2222,[192.0.2.10]:2222,[2001:db8::10]:2222 ssh-ed25519 ", "[2001:db8::10]:2222": "[web1]:2222,", "192.0.2.77": "192.0.2.77 ",
		"2001:0db8:0:0:0:0:0:10": "web1,", "nobody": "", "*": "", "web*": "", "we?1": "", "web1,web2": "", "web_1": "", "[web1]:": "", "web1)(cn=*": "", `w\65b1`: "",
		"web1\x00": "", "web1\n": "", "\xff": "", " ": "", "名前": "", strings.Repeat("a", 10_000): "", "[": "",
	} {
		x := a.do("GET", knownHosts+"?"+url.Values{"host": {sought}}.Encode(), nil).want(200)
		if body := string(x.Body); !strings.HasPrefix(body, want) || (body == "") != (want == "") || strings.Count(body, "\n") > 1 {
			x.fail("want %q", want)
		}
		if strings.HasPrefix(sought, "[") && want != "" {
			if said := keygen(t, x.Body, "-F", sought); !strings.Contains(said, want) {
				x.fail("ssh-keygen -F %s finds %q", sought, said)
			}
		}
	}
	for _, query := range []string{"host=", "host=web1&host=web2", "host=web1&nested=true", "hosts=web1", "host=%zz", "filter=cn%20pr"} {
		a.do("GET", knownHosts+"?"+query, nil).refused(directory.BadRequest)
	}
	a.do("GET", knownHosts, nil, "Accept", "application/json").refused(directory.NotAcceptable)
	if x := a.do("HEAD", knownHosts, nil).want(200); len(x.Body) > 0 {
		x.fail("HEAD has a body")
	}
}

// TestKnownHostsAreAllThereOrVisiblyNot: what is cut off is no shorter list.
func TestKnownHostsAreAllThereOrVisiblyNot(t *testing.T) {
	short := &shortPages{limit: 30}
	a := newAPI(t, func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory { short.Directory = d; return short }
	})
	var bulk strings.Builder
	for i := range 100 {
		fmt.Fprintf(&bulk, `{"cn":"many%d","ipAddresses":["203.0.113.%d"],"sshPublicKeys":["%s"]}`+"\n", i, i, someHostKey)
	}
	a.do("PUT", "/hosts", bulk.String(), asLines...).want(200)
	x := a.do("GET", knownHosts, nil).want(200)
	if got := regexp.MustCompile(`(?m)^many(\d+),203\.0\.113\.(\d+) `+regexp.QuoteMeta(someHostKey)+"$").FindAllString(string(x.Body), -1); len(got) != 100 {
		x.fail("of 100 hosts %d are there", len(got))
	}
	short.pages.Store(0)
	short.before = func(number int) {
		if number == 3 {
			if err := a.slapd.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	a.brokenOff(knownHosts, "text/plain", directory.Unavailable)
	short.before = nil
	a.do("GET", knownHosts, nil).refused(directory.Unavailable)
	a.do("GET", knownHosts+"?host=web1", nil).refused(directory.Unavailable)
}

// TestHostsReadKnownHosts by their own tokens, or from a network that is trusted, for as long as they may.
func TestHostsReadKnownHosts(t *testing.T) {
	short := &shortPages{limit: 2}
	a := newAPI(t, func(s *settings) {
		s.between = func(d directory.Directory) directory.Directory { short.Directory = d; return short }
	})
	token := a.do("POST", "/hosts/spare/token", nil).want(201).object()["token"].(string)
	host := a.bearing(token)
	all := string(a.do("GET", knownHosts, nil).want(200).Body)
	if x := host.do("GET", knownHosts, nil).want(200); string(x.Body) != all {
		x.fail("want\n%s", all)
	}
	host.do("GET", knownHosts+"?host=web1", nil).want(200)
	host.do("GET", "/hosts", nil).refused(directory.InvalidToken)
	short.before = func(number int) {
		if number == 2 {
			a.do("DELETE", "/hosts/spare/token", nil).want(204)
		}
	}
	short.pages.Store(0)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+knownHosts, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := a.HTTP.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the token was revoked, and the answer ends as if it were whole:\n%s", body)
	}
	short.before = nil
	host.do("GET", knownHosts, nil).refused(directory.InvalidToken)

	trusting := newAPIOn(t, a.slapd, func(s *settings) { s.rest.TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	if x := trusting.as("", "").do("GET", knownHosts, nil).want(200); string(x.Body) != all {
		x.fail("want\n%s", all)
	}
	trusting.as("alice", "alice-password").do("GET", knownHosts, nil).refused(directory.Forbidden)
	a.as("", "").do("GET", knownHosts, nil).refused(directory.CredentialsRequired)
}

// TestAWordInAPathIsNotTakenForAName, in whatever order the routes came about.
func TestAWordInAPathIsNotTakenForAName(t *testing.T) {
	routes := rest.Routes(rest.Options{Kinds: allKinds})
	for range 30 {
		handler := silent(t, func(*rest.Options) {})
		for path, methods := range routes {
			if strings.Contains(path, "{") {
				continue
			}
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, httptest.NewRequest(http.MethodOptions, path, nil))
			for _, method := range methods {
				if !slices.Contains(strings.Split(w.Header().Get("Allow"), ", "), method) {
					t.Fatalf("OPTIONS %s: %s, want %q", path, w.Header().Get("Allow"), methods)
				}
			}
		}
	}
	a := newAPI(t)
	a.do("POST", "/hosts", object{"cn": "known_hosts"}).refused(directory.Invalid, "cn")
	a.do("PUT", knownHosts, object{}).refused(directory.MethodNotAllowed)
	a.do("DELETE", knownHosts, nil).refused(directory.MethodNotAllowed)
}
