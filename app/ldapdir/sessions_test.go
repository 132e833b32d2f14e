package ldapdir_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/directory/directorytest"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

func TestSessionsKeepTheirContract(t *testing.T) {
	directorytest.RunSessions(t, func(t *testing.T) directory.Sessions {
		d := ldapdirtest.Open(t, ldapdirtest.Options(ldapdirtest.Start(t, slapd.Options{})))
		s := d.Sessions("ou=sessions," + ldapdirtest.Base)
		if err := s.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// TestASweepTakesAllThatIsOld: more than one search finds, whoever made them and whatever they are called.
func TestASweepTakesAllThatIsOld(t *testing.T) {
	const container, old = "ou=sessions," + ldapdirtest.Base, 250
	var seed strings.Builder
	entry := func(rdn, modified string) {
		fmt.Fprintf(&seed, "dn: %s,%s\nobjectClass: applicationProcess\ncn: another\n%s\ndescription: x\nmodifyTimestamp: %s\n\n",
			rdn, container, strings.Replace(rdn, "=", ": ", 1), modified)
	}
	now := time.Now()
	for i := range old {
		entry(fmt.Sprintf("cn=old%d", i), now.Add(-time.Hour).UTC().Format("20060102150405Z"))
	}
	entry("ou=old", now.Add(-time.Hour).UTC().Format("20060102150405Z"))
	entry("cn=new", now.UTC().Format("20060102150405Z"))
	server := ldapdirtest.Start(t, slapd.Options{Seed: seed.String()})
	s := ldapdirtest.Open(t, ldapdirtest.Options(server)).Sessions(container)
	names := func() []string {
		t.Helper()
		found, err := ldapdirtest.Bind(t, server).Search(ldap.NewSearchRequest(container, ldap.ScopeSingleLevel, 0, 0, 0, false,
			"(objectClass=*)", []string{"1.1"}, nil))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, e := range found.Entries {
			all = append(all, e.DN)
		}
		return all
	}
	if got := len(names()); got != old+2 {
		t.Fatalf("%d sessions to begin with", got)
	}
	if err := s.Sweep(t.Context(), now.Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got := names(); len(got) != 1 || got[0] != "cn=new,"+container {
		t.Errorf("%d are left: %.10q", len(got), got)
	}
}

// TestARotatedSessionIsYoung: what was rotated since is not swept.
func TestARotatedSessionIsYoung(t *testing.T) {
	const container = "ou=sessions," + ldapdirtest.Base
	long := time.Now().Add(-time.Hour)
	seed := fmt.Sprintf("dn: cn=a,%s\nobjectClass: applicationProcess\ncn: a\ndescription: user:first:\nmodifyTimestamp: %s\n",
		container, long.UTC().Format("20060102150405Z"))
	s := ldapdirtest.Open(t, ldapdirtest.Options(ldapdirtest.Start(t, slapd.Options{Seed: seed}))).Sessions(container)
	if err := s.Rotate(t.Context(), "a", "first", "second"); err != nil {
		t.Fatal(err)
	}
	if err := s.Sweep(t.Context(), long.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Session(t.Context(), "a"); err != nil || got.Token != "second" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestWhatIsNoSessionIsNotFound: entries that somebody else put there, or that were tampered with.
func TestWhatIsNoSessionIsNotFound(t *testing.T) {
	const container = "ou=sessions," + ldapdirtest.Base
	var seed strings.Builder
	descriptions := []string{"x", "a:b", "a:b:c:d", "a:%zz:c", "a:%6:c", "A:b:c", "a:%61:c", "a b:c:d"}
	for i, description := range descriptions {
		fmt.Fprintf(&seed, "dn: cn=s%d,%s\nobjectClass: applicationProcess\ncn: s%d\ndescription: %s\n\n", i, container, i, description)
	}
	fmt.Fprintf(&seed, "dn: cn=bare,%s\nobjectClass: applicationProcess\ncn: bare\n", container)
	s := ldapdirtest.Open(t, ldapdirtest.Options(ldapdirtest.Start(t, slapd.Options{Seed: seed.String()}))).Sessions(container)
	for i, description := range append(descriptions, "") {
		id := fmt.Sprintf("s%d", i)
		if description == "" {
			id = "bare"
		}
		if got, err := s.Session(t.Context(), id); !directory.Is(err, directory.NotFound) {
			t.Errorf("%q is read as %+v, %v", description, got, err)
		}
	}
}

// TestSessionsAreNobodysButTheServices: neither a person nor whoever is not logged in sees them.
func TestSessionsAreNobodysButTheServices(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	d := ldapdirtest.Open(t, ldapdirtest.Options(server))
	createUser(t, d, "alice", "userPassword", firstPassword)
	const container = "ou=sessions," + ldapdirtest.Base
	if err := d.Sessions(container).Begin(t.Context(), directory.Session{ID: "a", UserID: "u", Token: "t"}); err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"", "cn=alice,ou=people," + ldapdirtest.Base} {
		l, err := ldap.DialURL(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if who != "" {
			if err := l.Bind(who, firstPassword); err != nil {
				t.Fatal(err)
			}
		}
		for _, scope := range []int{ldap.ScopeBaseObject, ldap.ScopeWholeSubtree} {
			for _, base := range []string{container, "cn=a," + container, ldapdirtest.Base} {
				found, err := l.Search(ldap.NewSearchRequest(base, scope, 0, 0, 0, false, "(objectClass=*)", nil, nil))
				if err != nil {
					continue
				}
				for _, e := range found.Entries {
					if strings.HasSuffix(e.DN, container) {
						t.Errorf("%q sees %s", who, e.DN)
					}
				}
			}
		}
		if err := l.Del(ldap.NewDelRequest("cn=a,"+container, nil)); err == nil {
			t.Errorf("%q ends it", who)
		}
	}
}

// TestWithoutAPlaceForSessionsTheErrorNamesTheKey: an entry that is not there, and one that the service may not write below.
func TestWithoutAPlaceForSessionsTheErrorNamesTheKey(t *testing.T) {
	d := ldapdirtest.Open(t, ldapdirtest.Options(ldapdirtest.Start(t, slapd.Options{})))
	for _, container := range []string{"ou=nowhere," + ldapdirtest.Base, "ou=policies," + ldapdirtest.Base} {
		err := d.Sessions(container).Begin(t.Context(), directory.Session{ID: "x", UserID: "y", Token: "z"})
		if !directory.Is(err, directory.UnsupportedByDirectory) || !strings.Contains(err.Error(), "auth.sessions") {
			t.Errorf("%s: %v", container, err)
		}
	}
	if err := d.Sessions("ou=nowhere," + ldapdirtest.Base).Ready(t.Context()); !directory.Is(err, directory.NotFound) {
		t.Error(err)
	}
}
