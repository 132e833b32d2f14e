package rest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// looksAfresh waits until a look at the directory is not told any more.
func looksAfresh() { time.Sleep(1100 * time.Millisecond) }

func TestReadinessNamesWhatWasLookedAt(t *testing.T) {
	a := newAPI(t).as("", "")
	want := `{"status":"ready","checks":[{"name":"directory","ok":true},{"name":"users","ok":true},{"name":"groups","ok":true},` +
		`{"name":"hosts","ok":true},{"name":"sessions","ok":true}]}`
	if x := a.do("GET", "/readyz", nil).want(200); strings.TrimSpace(string(x.Body)) != want {
		x.fail("want %s", want)
	}
}

func TestReadinessSaysWhatIsMissingAndWhatToDo(t *testing.T) {
	t.Parallel()
	const rest = ",dc=example,dc=org"
	for name, c := range map[string]struct {
		gone []string
		want string
	}{
		"an entry for sessions": {[]string{"ou=sessions"}, `The check "sessions" failed: The entry for sessions is not there, or the service account may not read it, ` +
			`so that nobody can log in for a token. Create it, or check auth.sessions.`},
		"containers": {[]string{"ou=hosts", "ou=sessions"}, `The check "hosts" failed: The container of the hosts is not there, or the service account may not read it. ` +
			`Create it, or check hosts.container and ldap.base_dn. The check "sessions" failed: `},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seed, err := openldap.Sample(openldap.Values{})
			if err != nil {
				t.Fatal(err)
			}
			root := `"cn=internal` + rest + `"`
			a := newAPIOn(t, ldapdirtest.Start(t, slapd.Options{Seed: seed, Config: func(conf string) string {
				return strings.Replace(conf, "rootdn "+root, "rootdn "+root+"\nrootpw root", 1)
			}}))
			l := ldapdirtest.Bind(t, a.slapd)
			if err := l.Bind("cn=internal"+rest, "root"); err != nil {
				t.Fatal(err)
			}
			for _, entry := range c.gone {
				found, err := l.Search(ldap.NewSearchRequest(entry+rest, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", []string{"1.1"}, nil))
				if err != nil {
					t.Fatal(err)
				}
				for _, below := range slices.Backward(found.Entries) {
					if err := l.Del(ldap.NewDelRequest(below.DN, nil)); err != nil {
						t.Fatal(err)
					}
				}
			}
			x := a.as("", "").do("GET", "/readyz", nil).refused(directory.Unavailable)
			if detail, _ := x.object()["detail"].(string); !strings.HasPrefix(detail, c.want) {
				x.fail("want the detail %s", c.want)
			}
			if line := a.logged(x); !strings.Contains(fmt.Sprint(line["error"]), "No Such Object") {
				x.fail("the log does not tell the cause: %v", line)
			}
			a.do("GET", "/users/alice", nil).want(200) // by HTTP Basic
		})
	}
}

func TestADeadDirectoryIsTheReasonAndNoneOfItsSecretsAre(t *testing.T) {
	a := newAPI(t)
	probe := a.as("", "")
	probe.do("GET", "/readyz", nil).want(200)
	if err := a.slapd.Kill(); err != nil {
		t.Fatal(err)
	}
	probe.do("GET", "/readyz", nil).want(200) // a moment ago it was
	looksAfresh()
	x := probe.do("GET", "/readyz", nil).refused(directory.Unavailable)
	want := `The check "directory" failed: The directory server does not answer the service account. ` +
		`See that it runs and can be reached, and check ldap.url, ldap.bind_dn and ldap.bind_password.`
	if x.object()["detail"] != want || x.Header.Get("Retry-After") == "" {
		x.fail("want the detail %s", want)
	}
	probe.do("GET", "/healthz", nil).want(200).field("status", "ok")
	again, err := a.slapd.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = again.Kill() })
	looksAfresh()
	probe.do("GET", "/readyz", nil).want(200)
}

func TestTheServicesWrongPasswordIsNotReady(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.ldap.BindPassword = "wrong-" + s.ldap.BindPassword })
	x := a.as("", "").do("GET", "/readyz", nil).refused(directory.Unavailable)
	if line := a.logged(x); !strings.Contains(fmt.Sprint(line["error"]), "Invalid Credentials") {
		x.fail("the log does not tell the cause: %v", line)
	}
}

// TestManyWhoAskAreOneLook: ten strangers for each of a hundred probes cost the directory server one look.
func TestManyWhoAskAreOneLook(t *testing.T) {
	var searches atomic.Int64
	a := newAPI(t, func(s *settings) {
		s.ldap.Observe = func(_ context.Context, operation, _ string, _ time.Time, _ time.Duration) {
			if operation == "search" {
				searches.Add(1)
			}
		}
	}).as("", "")
	a.do("GET", "/readyz", nil).want(200)
	looksAfresh()
	before := searches.Load()
	var strangers sync.WaitGroup
	begun := time.Now()
	for range 10 {
		strangers.Go(func() {
			for range 10 {
				if x := a.do("GET", "/readyz", nil); x.Status != 200 {
					t.Errorf("%d %s", x.Status, x.Body)
				}
			}
		})
	}
	strangers.Wait()
	const checks, connecting = 5, 2 * 4
	looks := int64(time.Since(begun)/time.Second) + 1
	if got := searches.Load() - before; got > looks*checks+connecting {
		t.Errorf("%d searches for 100 probes", got)
	}
}

func TestALookDoesNotEndWithWhoAskedFirst(t *testing.T) {
	hold := make(chan struct{})
	var runs atomic.Int64
	a := newAPI(t, func(s *settings) {
		s.rest.Checks = []directory.Check{{Name: "slow", Remedy: "Wait.", Run: func(ctx context.Context) error {
			runs.Add(1)
			<-hold
			return ctx.Err()
		}}}
	})
	first, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = a.Do(first, "GET", "/readyz", nil, "X-Request-Id", "first")
	}()
	for runs.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	leave()
	<-left
	for !strings.Contains(a.log.text(), `"request_id":"first"`) { // the server has noticed
		time.Sleep(time.Millisecond)
	}
	answered := make(chan *exchange, 1)
	go func() { answered <- a.do("GET", "/readyz", nil) }()
	close(hold)
	x := (<-answered).want(200)
	var got struct{ Checks []map[string]any }
	if err := json.Unmarshal(x.Body, &got); err != nil {
		x.fail("%v", err)
	}
	if diff := cmp.Diff([]map[string]any{{"name": "slow", "ok": true}}, got.Checks); diff != "" || runs.Load() != 1 {
		x.fail("%d looks: %s", runs.Load(), diff)
	}
}

func TestAProbeThatFindsAllWellIsLoggedForDebuggingOnly(t *testing.T) {
	a := newAPI(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		a.as("", "").do("GET", path, nil).want(200)
	}
	x := a.do("GET", "/users/alice", nil).want(200)
	if line := a.logged(x); line["address"] != "127.0.0.1" {
		t.Errorf("the address is not logged: %v", line)
	}
	if strings.Contains(a.log.text(), "/healthz") || strings.Contains(a.log.text(), "/readyz") {
		t.Errorf("probes are logged:\n%s", a.log.text())
	}
}
