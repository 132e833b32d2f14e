//go:build bench

package rest_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"fmt"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/client"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

const (
	benchUsers       = 10_000
	benchConcurrency = 32
	benchConnections = 8 // the loop's; with 1, 4 or 32 its figures are about the same
	benchRuns        = 3
	benchTime        = 3 * time.Second
)

// TestBench prints how many requests a second Rollcall serves, and how many of the same operations a bare go-ldap
// loop does on the same slapd at the same concurrency. The two take turns; the figures are medians.
func TestBench(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{Seed: benchSeedOf(t, benchUsers)})
	address, _ := startRollcall(t, server)
	loop := newLDAPLoop(t, server)
	var created atomic.Int64
	name := func(i int64) string { return fmt.Sprintf("user%d", i*7919%benchUsers) }
	fresh := func() string { return fmt.Sprintf("new%d", created.Add(1)) }

	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "\n%d users, %d at a time, %d cores, medians of %d\n", benchUsers, benchConcurrency, runtime.NumCPU(), benchRuns)
	fmt.Fprintln(table, "\tRollcall/s\tgo-ldap loop/s\tratio\t")
	for _, work := range []struct {
		name, authorization string
		rollcall            func(h *httpConn, i int64) error
		bareLDAP            func(l *ldapLoop, i int64) error
	}{
		{"read by name", basic,
			func(h *httpConn, i int64) error { return h.do("GET", "/users/"+name(i), "", 200) },
			func(l *ldapLoop, i int64) error { return l.read(name(i)) }},
		{"read by name, with a token", "Bearer " + tokenFor(t, address),
			func(h *httpConn, i int64) error { return h.do("GET", "/users/"+name(i), "", 200) },
			func(l *ldapLoop, i int64) error { return l.read(name(i)) }},
		{"replace one field", basic,
			func(h *httpConn, i int64) error {
				return h.do("PATCH", "/users/"+name(i), `{"title":"`+strconv.FormatInt(i, 10)+`"}`, 200)
			},
			func(l *ldapLoop, i int64) error { return l.replace(name(i), strconv.FormatInt(i, 10)) }},
		{"create", basic,
			func(h *httpConn, _ int64) error {
				n := fresh()
				return h.do("POST", "/users", `{"cn":"`+n+`","sn":"Bench","mail":"`+n+`@example.org"}`, 201)
			},
			func(l *ldapLoop, _ int64) error { return l.create(fresh()) }},
	} {
		t.Run(work.name, func(t *testing.T) {
			var rollcall, bare []float64
			for range benchRuns {
				rollcall = append(rollcall, perSecond(t, func() func(int64) error {
					h := dialHTTP(t, address, work.authorization)
					return func(i int64) error { return work.rollcall(h, i) }
				}))
				bare = append(bare, perSecond(t, func() func(int64) error {
					return func(i int64) error { return work.bareLDAP(loop, i) }
				}))
			}
			slices.Sort(rollcall)
			slices.Sort(bare)
			r, b := rollcall[benchRuns/2], bare[benchRuns/2]
			fmt.Fprintf(table, "%s\t%.0f\t%.0f\t%.2f\t\n", work.name, r, b, r/b)
		})
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
}

// basic is the admin's login.
var basic = "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:admin"))

// tokenFor returns a token for the admin.
func tokenFor(t *testing.T, address string) string {
	t.Helper()
	var login session
	c := &client.Client{URL: "http://" + address}
	if _, err := c.Call(t.Context(), "POST", "/login", object{"username": "admin", "password": "admin"}, &login); err != nil {
		t.Fatal(err)
	}
	return login.AccessToken
}

// perSecond runs as many workers as benchConcurrency for benchTime and returns how often they succeeded in a second.
func perSecond(t *testing.T, worker func() func(i int64) error) float64 {
	t.Helper()
	var count atomic.Int64
	var all sync.WaitGroup
	works := make([]func(int64) error, benchConcurrency)
	for i := range works {
		works[i] = worker()
	}
	runtime.GC()
	begun := time.Now()
	for _, work := range works {
		all.Go(func() {
			for time.Since(begun) < benchTime {
				if err := work(count.Add(1)); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return float64(count.Load()) / time.Since(begun).Seconds()
}

// startRollcall builds the program and runs it on a slapd.
func startRollcall(t *testing.T, server *slapd.Server) (string, *os.Process) {
	t.Helper()
	return runRollcall(t, buildRollcall(t), server, server.URL())
}

// benchSeedOf is the sample directory and so many users more.
func benchSeedOf(t *testing.T, users int) string {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(seed)
	for i := range users {
		fmt.Fprintf(&b, "\ndn: cn=user%[1]d,ou=people,%[2]s\nobjectClass: inetOrgPerson\ncn: user%[1]d\nuid: user%[1]d\nsn: Bench\ngivenName: User\n"+
			"displayName: User %[1]d\nmail: user%[1]d@example.com\ntelephoneNumber: +1 555 %[1]d\ntitle: Tester\nemployeeNumber: %[1]d\n", i, ldapdirtest.Base)
	}
	return b.String()
}

// ldapLoop does by plain go-ldap what Rollcall does for a request.
type ldapLoop struct {
	conns []*ldap.Conn
	turn  atomic.Uint32
}

func newLDAPLoop(t *testing.T, server *slapd.Server) *ldapLoop {
	t.Helper()
	l := &ldapLoop{}
	for range benchConnections {
		l.conns = append(l.conns, ldapdirtest.Bind(t, server))
	}
	return l
}

func (l *ldapLoop) conn() *ldap.Conn { return l.conns[int(l.turn.Add(1))%len(l.conns)] }

func benchDN(name string) string { return "cn=" + name + ",ou=people," + ldapdirtest.Base }

var benchAttributes = []string{"entryCSN", "objectClass", "entryUUID", "createTimestamp", "modifyTimestamp", "cn", "uid", "sn", "givenName",
	"displayName", "mail", "telephoneNumber", "mobile", "title", "employeeNumber", "departmentNumber", "description", "preferredLanguage",
	"pwdAccountLockedTime", "pwdEndTime", "sshPublicKey", "memberOf"}

func (l *ldapLoop) read(name string) error {
	found, err := l.conn().Search(ldap.NewSearchRequest(benchDN(name), ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=inetOrgPerson)", benchAttributes, nil))
	if err == nil && len(found.Entries) != 1 {
		err = fmt.Errorf("%s: %d entries", name, len(found.Entries))
	}
	return err
}

func (l *ldapLoop) replace(name, title string) error {
	if err := l.read(name); err != nil {
		return err
	}
	modify := ldap.NewModifyRequest(benchDN(name), nil)
	modify.Replace("title", []string{title})
	return l.conn().Modify(modify)
}

func (l *ldapLoop) create(name string) error {
	add := ldap.NewAddRequest(benchDN(name), nil)
	add.Attribute("objectClass", []string{"inetOrgPerson"})
	for attribute, value := range map[string]string{"cn": name, "uid": name, "sn": "Bench", "mail": name + "@example.org"} {
		add.Attribute(attribute, []string{value})
	}
	if err := l.conn().Add(add); err != nil {
		return err
	}
	return l.read(name)
}

// httpConn is a connection to the API that costs next to nothing, so that it is the API that is measured.
type httpConn struct {
	net.Conn
	reader *bufio.Reader
	head   string
	buffer []byte
}

func dialHTTP(t *testing.T, address, authorization string) *httpConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &httpConn{Conn: conn, reader: bufio.NewReader(conn), head: " HTTP/1.1\r\nHost: " + address + "\r\nAuthorization: " + authorization + "\r\n"}
}

// do sends a request and reads the answer, which must have this status.
func (h *httpConn) do(method, path, body string, status int) error {
	b := h.buffer[:0]
	b = append(append(append(append(b, method...), ' '), path...), h.head...)
	if body != "" {
		b = append(b, "Content-Type: application/json\r\nContent-Length: "...)
		b = append(strconv.AppendInt(b, int64(len(body)), 10), "\r\n"...)
	}
	b = append(append(b, "\r\n"...), body...)
	h.buffer = b
	if _, err := h.Write(b); err != nil {
		return err
	}
	line, err := h.reader.ReadSlice('\n')
	if err != nil {
		return err
	}
	if got := string(line[9:12]); got != strconv.Itoa(status) {
		return fmt.Errorf("%s %s: %s", method, path, line)
	}
	length := 0
	for {
		line, err := h.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if len(line) <= 2 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		}
	}
	_, err = h.reader.Discard(length)
	return err
}
