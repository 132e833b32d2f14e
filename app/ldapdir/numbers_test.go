package ldapdir_test

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// counting returns numbers of a replica of its own.
func counting(t *testing.T, server *slapd.Server, lowest, highest int) *ldapdir.Numbers {
	t.Helper()
	return ldapdirtest.Open(t, ldapdirtest.WithAccounts(ldapdirtest.Options(server))).Numbers(numbersDN, lowest, highest)
}

// draws demands these numbers, one after the other.
func draws(t *testing.T, n *ldapdir.Numbers, kind *directory.Kind, want ...int) {
	t.Helper()
	for _, number := range want {
		if got, err := n.Next(t.Context(), kind); err != nil || got != number {
			t.Fatalf("the next number of %s is %d (%v), want %d", kind.Name, got, err, number)
		}
	}
}

// refused demands an error of a code.
func refused(t *testing.T, err error, code *directory.Code, says string) {
	t.Helper()
	if !directory.Is(err, code) || !strings.Contains(err.Error(), says) {
		t.Fatalf("got %v, want %s that says %q", err, code.Name, says)
	}
}

func (l plain) account(name, number string) {
	l.t.Helper()
	l.add(0, userDN(name), "objectClass", "posixAccount", "sn", "x", "uid", name, "uidNumber", number, "gidNumber", "100", "homeDirectory", "/home/"+name)
}

func TestNumbersBeginAtTheLowestAndAreNeverGivenTwice(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	n := counting(t, server, 10000, 59999)
	draws(t, n, ldapdirtest.Accounts, 10000, 10001, 10002)
	draws(t, n, ldapdirtest.AccountGroups, 10000)
	draws(t, counting(t, server, 10000, 59999), ldapdirtest.Accounts, 10003)
	l := on(t, server)
	l.account("deleted", "10004")
	l.remove(0, userDN("deleted"))
	draws(t, n, ldapdirtest.Accounts, 10004) // it was never drawn
	l.account("deleted", "10004")
	l.remove(0, userDN("deleted"))
	draws(t, n, ldapdirtest.Accounts, 10005)
	draws(t, counting(t, server, 20000, 59999), ldapdirtest.Accounts, 20000, 20001)
}

func TestANumberThatAnEntryHasIsNotDrawn(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	n := counting(t, server, 10000, 12000)
	l := on(t, server)
	l.account("first", "10000")
	l.account("third", "10002")
	l.add(0, groupDN("third"), "objectClass", "posixGroup", "member", placeholder, "gidNumber", "10001")
	draws(t, n, ldapdirtest.Accounts, 10001, 10003)
	draws(t, n, ldapdirtest.AccountGroups, 10000, 10002)
	for i := range 600 { // as after an import: more than are looked for at a time
		l.account("imported"+strconv.Itoa(i), strconv.Itoa(10004+i))
	}
	draws(t, n, ldapdirtest.Accounts, 10604, 10605)
}

func TestAGroupIsNotGivenANumberThatUsersHaveAsTheirGroups(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	n := counting(t, server, 10000, 12000)
	l := on(t, server)
	users := 0
	in := func(group int) {
		name := "u" + strconv.Itoa(users)
		l.add(0, userDN(name), "objectClass", "posixAccount", "sn", "x", "uid", name, "uidNumber", strconv.Itoa(30000+users), "gidNumber", strconv.Itoa(group), "homeDirectory", "/")
		users++
	}
	in(10001)
	draws(t, n, ldapdirtest.AccountGroups, 10000, 10002)
	for i := range 300 { // each with a group of their own
		in(10003 + i)
	}
	for range 600 { // and all in one, which is more than are read at a time
		in(10304)
	}
	if got, err := n.Next(directory.WithPlan(t.Context(), &directory.Plan{}), ldapdirtest.AccountGroups); err != nil || got != 10303 {
		t.Errorf("a dry run says %d (%v), want 10303", got, err)
	}
	draws(t, n, ldapdirtest.AccountGroups, 10303, 10305)
	draws(t, n, ldapdirtest.Accounts, 10000)
}

func TestANumberThatIsYetToBeDrawnCannotBeChosen(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	n := counting(t, server, 10000, 10009)
	draws(t, n, ldapdirtest.Accounts, 10000, 10001)
	for number, right := range map[int]bool{9999: true, 10000: true, 10001: true, 10002: false, 10009: false, 10010: true} {
		err := n.Choose(t.Context(), ldapdirtest.Accounts, number)
		switch {
		case right && err != nil:
			t.Errorf("%d: %v", number, err)
		case !right:
			refused(t, err, directory.Invalid, "is yet to be given out, as all are from 10002 to 10009")
		}
	}
	refused(t, n.Choose(t.Context(), ldapdirtest.AccountGroups, 10000), directory.Invalid, "from 10000 to 10009")
	if err := n.Choose(t.Context(), ldapdirtest.AccountGroups, 9999); err != nil {
		t.Errorf("before any was drawn: %v", err)
	}
}

func TestWhereAGroupCannotHaveANumberBesideItsMembersThatIsSaid(t *testing.T) {
	mended := false
	server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string {
		if mended {
			return conf
		}
		return regexp.MustCompile(`(include "(.*)/inetorgperson.schema"\ninclude ").*/rfc2307bis.schema"`).ReplaceAllString(conf, `${1}${2}/nis.schema"`)
	}})
	n := counting(t, server, 10000, 12000)
	const says = "posixGroup is no auxiliary class"
	for range 2 {
		_, err := n.Next(t.Context(), ldapdirtest.AccountGroups)
		refused(t, err, directory.UnsupportedByDirectory, says)
		refused(t, n.Choose(t.Context(), ldapdirtest.AccountGroups, 5000), directory.UnsupportedByDirectory, says)
		refused(t, n.Ready(t.Context()), directory.UnsupportedByDirectory, says)
	}
	draws(t, n, ldapdirtest.Accounts, 10000)
	on(t, server).has(numbersDN, "gidNumber", "0")

	mended = true
	if err := server.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	restarted(t, server)
	draws(t, n, ldapdirtest.AccountGroups, 10000)
}

func TestWhenAllNumbersAreGivenOutNoneIsLostUntilThereAreMore(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	n := counting(t, server, 10000, 10002)
	on(t, server).account("last", "10002")
	draws(t, n, ldapdirtest.Accounts, 10000, 10001)
	draws(t, n, ldapdirtest.AccountGroups, 10000, 10001, 10002)
	for range 3 {
		for _, kind := range []*directory.Kind{ldapdirtest.Accounts, ldapdirtest.AccountGroups} {
			_, err := n.Next(t.Context(), kind)
			refused(t, err, directory.NoNumberLeft, "The last one is 10002.")
		}
	}
	more := counting(t, server, 10000, 10005)
	draws(t, more, ldapdirtest.Accounts, 10003)
	draws(t, more, ldapdirtest.AccountGroups, 10003)
}

func TestADryRunDrawsNoNumber(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	n := counting(t, server, 10000, 10005)
	on(t, server).account("first", "10000")
	for range 2 {
		plan := &directory.Plan{}
		got, err := n.Next(directory.WithPlan(t.Context(), plan), ldapdirtest.Accounts)
		if err != nil || got != 10001 || len(plan.Records()) > 0 {
			t.Fatalf("a dry run says %d (%v) and plans %v, want 10001 and nothing", got, err, plan.Records())
		}
	}
	draws(t, n, ldapdirtest.Accounts, 10001)
}

func TestADirectoryThatCannotCountSaysWhatIsMissing(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	d := ldapdirtest.Open(t, ldapdirtest.WithAccounts(ldapdirtest.Options(server)))
	bare := "cn=bare,ou=people," + ldapdirtest.Base
	l := on(t, server)
	l.add(0, bare, "sn", "x")
	const says = "posix.counter must name an entry with a uidNumber and a gidNumber that the service may write"
	for name, dn := range map[string]string{
		"no entry":         "cn=nothing,ou=services," + ldapdirtest.Base,
		"no numbers in it": bare,
	} {
		t.Run(name, func(t *testing.T) {
			n := d.Numbers(dn, 10000, 10001)
			_, err := n.Next(t.Context(), ldapdirtest.Accounts)
			refused(t, err, directory.UnsupportedByDirectory, says)
			refused(t, n.Check().Run(t.Context()), directory.UnsupportedByDirectory, says)
		})
	}
	t.Run("an entry that may not be written", func(t *testing.T) {
		_, err := d.Numbers("cn=decoy,ou=services,"+ldapdirtest.Base, 10000, 10001).Next(t.Context(), ldapdirtest.Accounts)
		refused(t, err, directory.UnsupportedByDirectory, says)
	})
	if err := d.Numbers(numbersDN, 10000, 10001).Check().Run(t.Context()); err != nil {
		t.Errorf("where all is there: %v", err)
	}
}

func TestNoNumberIsDrawnTwiceWhileTheServerIsKilledAndStartedAgain(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	replicas := []*ldapdir.Numbers{counting(t, server, 10000, 59999), counting(t, server, 10000, 59999)}
	const callers, wanted = 16, 400
	var mutex sync.Mutex
	var got []int
	enough := func() bool {
		mutex.Lock()
		defer mutex.Unlock()
		return len(got) >= wanted
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 3 {
			if err := server.Kill(); err != nil {
				t.Error(err)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			var err error
			if server, err = server.Restart(ctx); err != nil {
				t.Error(err)
			}
			cancel()
		}
	}()
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for !enough() && t.Context().Err() == nil {
				number, err := replicas[i%2].Next(t.Context(), ldapdirtest.Accounts)
				if err != nil {
					if !directory.Is(err, directory.Unavailable) && !directory.Is(err, directory.Timeout) {
						t.Errorf("got %v", err)
						return
					}
					continue
				}
				mutex.Lock()
				got = append(got, number)
				mutex.Unlock()
			}
		})
	}
	all.Wait()
	<-done
	t.Cleanup(func() { _ = server.Kill() })
	slices.Sort(got)
	if len(slices.Compact(slices.Clone(got))) != len(got) || got[0] < 10000 || got[len(got)-1] > 59999 {
		t.Errorf("drawn: %v", got)
	}
}
