//go:build bench

package rest_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

const (
	manyUsers    = 100_000
	bulkUsers    = 4_000
	sortsAtATime = 4 // more the server refuses
)

// TestBenchLists prints how fast Rollcall lists, streams and loads, on a directory of many users, and how fast a bare
// go-ldap loop does the same work at the same concurrency on the same slapd. The two take turns; figures are medians.
func TestBenchLists(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{Seed: benchSeedOf(t, manyUsers)})
	address, process := startRollcall(t, server)
	base := "http://" + address
	var created atomic.Int64

	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "\n%d users, %d cores, medians of %d\n", manyUsers, runtime.NumCPU(), benchRuns)
	fmt.Fprintln(table, "\tat a time\tRollcall/s\tgo-ldap loop/s\tratio\t")
	for _, work := range []struct {
		name        string
		concurrency int
		rollcall    func() (float64, error) // how many of the things counted were done
		bareLDAP    func(l *ldap.Conn) (float64, error)
	}{
		{"list 50", benchConcurrency,
			func() (float64, error) { return fetch(base+"/users?limit=50", 50, 1) },
			func(l *ldap.Conn) (float64, error) { return searchPage(l, "(objectClass=inetOrgPerson)", 50, 1) }},
		{"list 50 sorted by sn", sortsAtATime,
			func() (float64, error) { return fetch(base+"/users?limit=50&sort=sn", 50, 1) },
			func(l *ldap.Conn) (float64, error) { return searchSorted(l, 50) }},
		{"find 50 by a filter", benchConcurrency,
			func() (float64, error) {
				return fetch(base+"/users?limit=50&filter="+`employeeNumber+sw+"777"+and+sn+eq+"Bench"`, 50, 1)
			},
			func(l *ldap.Conn) (float64, error) {
				return searchPage(l, "(&(objectClass=inetOrgPerson)(&(employeeNumber=777*)(sn=Bench)))", 50, 1)
			}},
		{"stream all, entries", 1,
			func() (float64, error) { return fetchAll(base + "/users") },
			searchAll},
		{"create in bulk, entries", 1,
			func() (float64, error) { return bulkCreate(base, created.Add(bulkUsers)-bulkUsers) },
			func(*ldap.Conn) (float64, error) { return addAll(t, server, created.Add(bulkUsers)-bulkUsers) }},
	} {
		t.Run(work.name, func(t *testing.T) {
			var rollcall, bare []float64
			conns := make([]*ldap.Conn, work.concurrency)
			for i := range conns {
				conns[i] = ldapdirtest.Bind(t, server)
			}
			for range benchRuns {
				rollcall = append(rollcall, rate(t, work.concurrency, func(int) (float64, error) { return work.rollcall() }))
				bare = append(bare, rate(t, work.concurrency, func(i int) (float64, error) { return work.bareLDAP(conns[i]) }))
			}
			slices.Sort(rollcall)
			slices.Sort(bare)
			r, b := rollcall[benchRuns/2], bare[benchRuns/2]
			fmt.Fprintf(table, "%s\t%d\t%.1f\t%.1f\t%.2f\t\n", work.name, work.concurrency, r, b, r/b)
		})
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, round := range []string{"before", "once", "twice"} {
		if round != "before" {
			if _, err := fetchAll(base + "/users"); err != nil {
				t.Fatal(err)
			}
		}
		fmt.Printf("most memory that Rollcall had while streaming all (%s): %s\n", round, peakMemory(t, process))
	}
}

// rate runs workers for benchTime, each at least once, and returns how much they did in a second.
func rate(t *testing.T, workers int, work func(worker int) (float64, error)) float64 {
	t.Helper()
	var mutex sync.Mutex
	var all sync.WaitGroup
	done := 0.0
	runtime.GC()
	begun := time.Now()
	for i := range workers {
		all.Go(func() {
			for first := true; first || time.Since(begun) < benchTime; first = false {
				n, err := work(i)
				if err != nil {
					t.Error(err)
					return
				}
				mutex.Lock()
				done += n
				mutex.Unlock()
			}
		})
	}
	all.Wait()
	return done / time.Since(begun).Seconds()
}

var benchClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func send(method, url, contentType, accept string, body io.Reader) (*http.Response, error) {
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", basic)
	request.Header.Set("Accept", accept)
	request.Header.Set("Content-Type", contentType)
	response, err := benchClient.Do(request)
	if err == nil && response.StatusCode != http.StatusOK {
		_ = response.Body.Close()
		err = fmt.Errorf("%s %s: %s", method, url, response.Status)
	}
	return response, err
}

// fetch reads one page, which must have so many entries.
func fetch(url string, want int, count float64) (float64, error) {
	response, err := send("GET", url, "", "application/json", nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if got := bytes.Count(body, []byte("\n{")); err == nil && got != want {
		err = fmt.Errorf("GET %s: %d entries, want %d", url, got, want)
	}
	return count, err
}

// fetchAll streams everything and returns how many entries there were.
func fetchAll(url string) (float64, error) {
	response, err := send("GET", url, "", "application/x-ndjson", nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	n, buffer := 0, make([]byte, 256<<10)
	for {
		read, err := response.Body.Read(buffer)
		n += bytes.Count(buffer[:read], []byte("\n"))
		if err == io.EOF {
			if n < manyUsers {
				return 0, fmt.Errorf("GET %s: %d entries", url, n)
			}
			return float64(n), nil
		}
		if err != nil {
			return 0, err
		}
	}
}

func bulkCreate(base string, from int64) (float64, error) {
	reader, writer := io.Pipe()
	go func() {
		lines := bufio.NewWriterSize(writer, 64<<10)
		for i := range bulkUsers {
			fmt.Fprintf(lines, `{"cn":"bulk%[1]d","sn":"Bulk","mail":"bulk%[1]d@example.org"}`+"\n", from+int64(i))
		}
		_ = writer.CloseWithError(lines.Flush())
	}()
	response, err := send("POST", base+"/users", "application/x-ndjson", "application/x-ndjson", reader)
	if err != nil {
		return 0, err
	}
	defer func() { _ = response.Body.Close() }()
	results := json.NewDecoder(response.Body)
	for i := range bulkUsers {
		var result struct{ Status int }
		if err := results.Decode(&result); err != nil || result.Status != http.StatusCreated {
			return 0, fmt.Errorf("line %d: %d %w", i+1, result.Status, err)
		}
	}
	return bulkUsers, nil
}

func searchRequest(filter string, controls ...ldap.Control) *ldap.SearchRequest {
	return ldap.NewSearchRequest("ou=people,"+ldapdirtest.Base, ldap.ScopeSingleLevel, 0, 0, 0, false, filter, benchAttributes, controls)
}

func searchPage(l *ldap.Conn, filter string, size uint32, count float64) (float64, error) {
	found, err := l.Search(searchRequest(filter, ldap.NewControlPaging(size)))
	if err == nil && len(found.Entries) != int(size) {
		err = fmt.Errorf("%d entries", len(found.Entries))
	}
	return count, err
}

// searchSorted has the server sort everything and send the first. It takes no page, and so keeps nothing.
func searchSorted(l *ldap.Conn, size int) (float64, error) {
	list := ber.NewSequence("SortKeyList")
	for attribute, rule := range map[string]string{"sn": "caseIgnoreOrderingMatch"} {
		key := ber.NewSequence("SortKey")
		key.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, attribute, ""))
		key.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, 0, rule, ""))
		list.AppendChild(key)
	}
	for {
		request := searchRequest("(objectClass=inetOrgPerson)", ldap.NewControlString("1.2.840.113556.1.4.473", true, string(list.Bytes())))
		request.SizeLimit = size
		found, err := l.Search(request)
		switch {
		case ldap.IsErrorWithCode(err, ldap.LDAPResultBusy):
			time.Sleep(time.Millisecond)
			continue
		case ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) && len(found.Entries) == size:
			return 1, nil
		case err == nil:
			err = fmt.Errorf("%d entries", len(found.Entries))
		}
		return 0, err
	}
}

func searchAll(l *ldap.Conn) (float64, error) {
	paging := ldap.NewControlPaging(1000)
	n := 0
	for {
		found, err := l.Search(searchRequest("(objectClass=inetOrgPerson)", paging))
		if err != nil {
			return 0, err
		}
		n += len(found.Entries)
		next, ok := ldap.FindControl(found.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		if !ok || len(next.Cookie) == 0 {
			return float64(n), nil
		}
		paging.SetCookie(next.Cookie)
	}
}

// addAll adds entries from as many workers as Rollcall has for a bulk request.
func addAll(t *testing.T, server *slapd.Server, from int64) (float64, error) {
	var next atomic.Int64
	failed := make(chan error, 8)
	for range cap(failed) {
		l := ldapdirtest.Bind(t, server)
		go func() {
			for i := next.Add(1) - 1; i < bulkUsers; i = next.Add(1) - 1 {
				name := "bulk" + strconv.FormatInt(from+i, 10)
				add := ldap.NewAddRequest(benchDN(name), nil)
				add.Attribute("objectClass", []string{"inetOrgPerson"})
				for attribute, value := range map[string]string{"cn": name, "uid": name, "sn": "Bulk", "mail": name + "@example.org"} {
					add.Attribute(attribute, []string{value})
				}
				if err := l.Add(add); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	for range cap(failed) {
		if err := <-failed; err != nil {
			return 0, err
		}
	}
	return bulkUsers, nil
}

// peakMemory returns the most memory that a process has had since the last call.
func peakMemory(t *testing.T, process *os.Process) string {
	t.Helper()
	dir := filepath.Join("/proc", strconv.Itoa(process.Pid))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		t.Fatal(err)
	}
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	peak, _, _ = strings.Cut(peak, "\n")
	if err := os.WriteFile(filepath.Join(dir, "clear_refs"), []byte("5"), 0o600); err != nil { // proc(5): resets it
		t.Fatal(err)
	}
	return strings.TrimSpace(peak)
}
