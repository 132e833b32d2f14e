package ldapdir_test

import (
	"strings"
	"testing"

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
