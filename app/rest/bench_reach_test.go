//go:build bench

package rest_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
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
	reachBenchHosts  = 1_000
	reachBenchGroups = 2_000
	chainLength      = 10 // groups, each in the next; of every third chain the last is in the first
	chains           = reachBenchGroups / chainLength
	writesPerSecond  = 5
)

// TestBenchReach prints how many authorized keys a second Rollcall finds for hosts, each by its token, and how many of
// the same searches a bare go-ldap loop does: with nothing changing, and with writes after each of which the groups
// are read again. The two take turns; figures are medians.
func TestBenchReach(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{Seed: reachBenchSeed(t)})
	address, _ := startRollcall(t, server)
	loop := &reachLoop{ldapLoop: newLDAPLoop(t, server)}
	tokens := reachBenchTokens(t, address)

	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "\n%d users, %d hosts, %d groups %d deep, %d at a time, %d cores, medians of %d\n", benchUsers, reachBenchHosts, reachBenchGroups,
		chainLength, benchConcurrency, runtime.NumCPU(), benchRuns)
	fmt.Fprintln(table, "\tRollcall/s\tp99 ms\tgo-ldap loop/s\tp99 ms\tratio\t")
	for _, work := range []struct {
		name   string
		writes int
	}{{"authorized keys", 0}, {fmt.Sprintf("the same, %d writes a second", writesPerSecond), writesPerSecond}} {
		t.Run(work.name, func(t *testing.T) {
			var rollcall, bare []timing
			for range benchRuns {
				stop := rewriting(t, ldapdirtest.Bind(t, server), work.writes)
				rollcall = append(rollcall, timed(t, func(worker int) func(int64) error {
					h := dialHTTP(t, address, "Bearer "+tokens[worker])
					return func(i int64) error {
						user, host := reachPair(worker, i)
						return h.do("GET", "/authkeys?username="+user+"&host="+host, "", 200)
					}
				}))
				bare = append(bare, timed(t, func(worker int) func(int64) error {
					return func(i int64) error {
						user, host := reachPair(worker, i)
						return loop.standing(user, host)
					}
				}))
				stop()
			}
			r, b := median(rollcall), median(bare)
			fmt.Fprintf(table, "%s\t%.0f\t%.1f\t%.0f\t%.1f\t%.2f\t\n", work.name, r.perSecond, r.p99, b.perSecond, b.p99, r.perSecond/b.perSecond)
		})
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
}

// reachPair returns who wants to get in where. Three in four share a group, ten groups up.
func reachPair(worker int, i int64) (user, host string) {
	n := int(i)*7919%(benchUsers/chains)*chains + worker
	if i%4 == 0 {
		n++
	}
	return fmt.Sprintf("user%d", n%benchUsers), fmt.Sprintf("host%d", worker)
}

// reachBenchSeed is the sample directory, and users and hosts at the two ends of chains of groups.
func reachBenchSeed(t *testing.T) string {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString(seed)
	group := func(chain, i int) string { return groupDN(fmt.Sprintf("chain%d-%d", chain, i)) }
	key := strings.TrimSpace(bobsKey)
	for i := range benchUsers {
		fmt.Fprintf(&b, "\ndn: %[2]s\nobjectClass: inetOrgPerson\nobjectClass: ldapPublicKey\ncn: user%[1]d\nuid: user%[1]d\nsn: Bench\n"+
			"mail: user%[1]d@example.com\nsshPublicKey: %[3]s%[1]d\nmemberOf: %[4]s\n", i, benchDN(fmt.Sprintf("user%d", i)), key, group(i%chains, 0))
	}
	for i := range reachBenchHosts {
		fmt.Fprintf(&b, "\ndn: %[2]s\nobjectClass: device\ncn: host%[1]d\nmemberOf: %[3]s\n", i, hostDN(fmt.Sprintf("host%d", i)), group(i%chains, chainLength-1))
	}
	for chain := range chains {
		for i := range chainLength {
			fmt.Fprintf(&b, "\ndn: %s\nobjectClass: groupOfNames\ncn: chain%d-%d\n", group(chain, i), chain, i)
			if i < chainLength-1 {
				fmt.Fprintf(&b, "memberOf: %s\n", group(chain, i+1))
			} else {
				for host := chain; host < reachBenchHosts; host += chains {
					fmt.Fprintf(&b, "member: %s\n", hostDN(fmt.Sprintf("host%d", host)))
				}
			}
			if i > 0 {
				fmt.Fprintf(&b, "member: %s\n", group(chain, i-1))
				continue
			}
			for user := chain; user < benchUsers; user += chains {
				fmt.Fprintf(&b, "member: %s\n", benchDN(fmt.Sprintf("user%d", user)))
			}
			if chain%3 == 0 {
				fmt.Fprintf(&b, "member: %s\n", group(chain, chainLength-1))
			}
		}
		if chain%3 == 0 { // the entry that was written last
			fmt.Fprintf(&b, "memberOf: %s\n", group(chain, 0))
		}
	}
	return b.String()
}

// reachBenchTokens gives a host to each worker, and returns their tokens.
func reachBenchTokens(t *testing.T, address string) (tokens []string) {
	t.Helper()
	c := &client.Client{URL: "http://" + address, Login: "admin", Password: "admin"}
	for worker := range benchConcurrency {
		var made struct{ Token string }
		if _, err := c.Call(t.Context(), "POST", fmt.Sprintf("/hosts/host%d/token", worker), nil, &made); err != nil {
			t.Fatal(err)
		}
		tokens = append(tokens, made.Token)
	}
	return tokens
}

// rewriting changes one user so many times a second, until it is stopped.
func rewriting(t *testing.T, l *ldap.Conn, perSecond int) (stop func()) {
	t.Helper()
	if perSecond == 0 {
		return func() {}
	}
	done := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		tick := time.NewTicker(time.Second / time.Duration(perSecond))
		defer tick.Stop()
		for i := 0; ; i++ {
			modify := ldap.NewModifyRequest(benchDN("user0"), nil)
			modify.Replace("title", []string{fmt.Sprint(i)})
			if err := l.Modify(modify); err != nil {
				t.Error(err)
			}
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return func() { close(done); all.Wait() }
}

// reachLoop does by plain go-ldap what Rollcall does for a host: one search, and one for the groups after a write.
type reachLoop struct {
	*ldapLoop
	csn     atomic.Pointer[string]
	reading sync.Mutex
}

var standingAttributes = []string{"contextCSN", "description", "pwdEndTime", "pwdStartTime", "cn", "uid", "entryUUID", "memberOf", "pwdAccountLockedTime", "sshPublicKey"}

func (l *reachLoop) standing(user, host string) error {
	filter := "(|(entryDN=" + ldapdirtest.Base + ")(&(uid=" + user + ")(objectClass=inetOrgPerson))(&(cn=" + host + ")(objectClass=device))" +
		"(entryDN=cn=host-00000000-0000-0000-0000-000000000000," + sessions + "))"
	found, err := l.conn().Search(ldap.NewSearchRequest(ldapdirtest.Base, ldap.ScopeWholeSubtree, 0, 12, 0, false, filter, standingAttributes, nil))
	if err != nil || len(found.Entries) != 3 {
		return fmt.Errorf("%d entries: %w", len(found.Entries), err)
	}
	csn := ""
	for _, entry := range found.Entries {
		csn += entry.GetAttributeValue("contextCSN")
	}
	if last := l.csn.Load(); last != nil && *last == csn {
		return nil
	}
	l.reading.Lock()
	defer l.reading.Unlock()
	if last := l.csn.Load(); last != nil && *last >= csn {
		return nil
	}
	groups, err := l.conn().Search(ldap.NewSearchRequest("ou=groups,"+ldapdirtest.Base, ldap.ScopeSingleLevel, 0, 0, 0, false, "(objectClass=groupOfNames)", []string{"cn", "memberOf"}, nil))
	if err != nil || len(groups.Entries) < reachBenchGroups {
		return fmt.Errorf("%d groups: %w", len(groups.Entries), err)
	}
	l.csn.Store(&csn)
	return nil
}

// timing is how often something was done in a second, and how many milliseconds it took 99 times of 100.
type timing struct{ perSecond, p99 float64 }

func median(all []timing) timing {
	slices.SortFunc(all, func(a, b timing) int { return int(a.perSecond - b.perSecond) })
	return all[len(all)/2]
}

// timed is perSecond with the time that each took.
func timed(t *testing.T, worker func(worker int) func(i int64) error) timing {
	t.Helper()
	took := make([][]time.Duration, benchConcurrency)
	works := make([]func(int64) error, benchConcurrency)
	for i := range works {
		works[i] = worker(i)
	}
	var all sync.WaitGroup
	runtime.GC()
	begun := time.Now()
	for i, work := range works {
		all.Go(func() {
			for n := int64(0); time.Since(begun) < benchTime; n++ {
				started := time.Now()
				if err := work(n); err != nil {
					t.Error(err)
					return
				}
				took[i] = append(took[i], time.Since(started))
			}
		})
	}
	all.Wait()
	seconds := time.Since(begun).Seconds()
	every := slices.Concat(took...)
	slices.Sort(every)
	if len(every) == 0 {
		t.Fatal("nothing was done")
	}
	return timing{float64(len(every)) / seconds, float64(every[len(every)*99/100].Microseconds()) / 1000}
}
