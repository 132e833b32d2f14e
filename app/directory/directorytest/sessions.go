package directorytest

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory"
)

// RunSessions runs the contract of [directory.Sessions]. open is called once for each rule.
func RunSessions(t *testing.T, open func(t *testing.T) directory.Sessions) {
	for _, rule := range []struct {
		name string
		test func(t *testing.T, s directory.Sessions)
	}{
		{"what is begun is what is read", begunIsRead},
		{"a token is exchanged once", rotatedOnce},
		{"a session that has ended is gone, and may end again", endedIsGone},
		{"a sweep takes what is older than a moment", swept},
		{"a strange id is of no session", strangeIDs},
		{"whatever is kept comes back as it was", oddStringsComeBack},
		{"a token is another as soon as one character differs", nearlyTheToken},
	} {
		t.Run(rule.name, func(t *testing.T) { rule.test(t, open(t)) })
	}
}

var aSession = directory.Session{ID: "ABC", UserID: "b5d5a3a0-3c1d-103f-8a57-6d1d4c0f8f9e", Token: "first", PasswordChanged: "20260131120000Z"}

func begin(t *testing.T, s directory.Sessions, session directory.Session) {
	t.Helper()
	if err := s.Begin(background(t), session); err != nil {
		t.Fatalf("begin %+v: %v", session, err)
	}
}

func begunIsRead(t *testing.T, s directory.Sessions) {
	never := aSession
	never.ID, never.PasswordChanged = "DEF", ""
	for _, session := range []directory.Session{aSession, never} {
		begin(t, s, session)
		got, err := s.Session(background(t), session.ID)
		if diff := cmp.Diff(session, got); err != nil || diff != "" {
			t.Errorf("%v (-begun +read)\n%s", err, diff)
		}
	}
}

func rotatedOnce(t *testing.T, s directory.Sessions) {
	begin(t, s, aSession)
	if won := rotatedAtOnce(t, s, aSession.ID, "first", "second"); won != 1 {
		t.Errorf("%d won", won)
	}
	got, err := s.Session(background(t), aSession.ID)
	want := aSession
	want.Token = "second"
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got)\n%s", err, diff)
	}
	if err := s.Rotate(background(t), "NONE", "first", "second"); !directory.Is(err, directory.NotFound) {
		t.Errorf("a session that is not there: %v", err)
	}
}

func endedIsGone(t *testing.T, s directory.Sessions) {
	begin(t, s, aSession)
	for range 2 {
		if err := s.End(background(t), aSession.ID); err != nil {
			t.Error(err)
		}
		if _, err := s.Session(background(t), aSession.ID); !directory.Is(err, directory.NotFound) {
			t.Errorf("it is there: %v", err)
		}
		if err := s.Rotate(background(t), aSession.ID, "first", "second"); !directory.Is(err, directory.NotFound) {
			t.Errorf("it is rotated: %v", err)
		}
	}
}

func swept(t *testing.T, s directory.Sessions) {
	begin(t, s, aSession)
	if err := s.Sweep(background(t), time.Now().Add(-time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Session(background(t), aSession.ID); err != nil {
		t.Errorf("it went too early: %v", err)
	}
	if err := s.Sweep(background(t), time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Session(background(t), aSession.ID); !directory.Is(err, directory.NotFound) {
		t.Errorf("it is there: %v", err)
	}
}

func strangeIDs(t *testing.T, s directory.Sessions) {
	begin(t, s, aSession)
	for _, id := range append([]string{"", "\x00", "ABC,ou=people", "ABC+cn=x", "a\nb", "abc", " ABC", "ABC ", "%41BC"}, Names...) {
		if _, err := s.Session(background(t), id); !directory.Is(err, directory.NotFound) {
			t.Errorf("%q: %v", id, err)
		}
		if err := s.Rotate(background(t), id, "first", "second"); !directory.Is(err, directory.NotFound) {
			t.Errorf("%q is rotated: %v", id, err)
		}
		if err := s.End(background(t), id); err != nil {
			t.Errorf("%q ends: %v", id, err)
		}
	}
	if _, err := s.Session(background(t), aSession.ID); err != nil {
		t.Errorf("another's end ended it: %v", err)
	}
}

// odd are strings that whoever keeps them may take apart, fold or refuse.
var odd = append([]string{
	"", " ", "  ", "a b", "A B", "a  b", ":", "::", "%", "%3a", "\x00", "\xff", "a\nb", "\uff21", "e\u0301", "\u00e9",
}, Names...)

func oddStringsComeBack(t *testing.T, s directory.Sessions) {
	var all []directory.Session
	for i, value := range odd {
		of := func(prefix string) directory.Session {
			return directory.Session{ID: prefix + strconv.Itoa(i), UserID: "user", Token: "token", PasswordChanged: "word"}
		}
		user, token, word, id, every := of("user"), of("token"), of("word"), of("id "+value), of("every"+value)
		user.UserID, token.Token, word.PasswordChanged = value, value, value
		every.UserID, every.Token, every.PasswordChanged = value, value, value
		all = append(all, user, token, word, id, every)
	}
	for _, session := range all {
		begin(t, s, session)
	}
	for _, session := range all {
		got, err := s.Session(background(t), session.ID)
		if diff := cmp.Diff(session, got); err != nil || diff != "" {
			t.Errorf("%+q: %v (-begun +read)\n%s", session, err, diff)
		}
		if err := s.Rotate(background(t), session.ID, session.Token, session.Token+"+"); err != nil {
			t.Errorf("%+q is not rotated: %v", session, err)
		}
		session.Token += "+"
		got, err = s.Session(background(t), session.ID)
		if diff := cmp.Diff(session, got); err != nil || diff != "" {
			t.Errorf("%+q: %v (-rotated +read)\n%s", session, err, diff)
		}
	}
}

func nearlyTheToken(t *testing.T, s directory.Sessions) {
	for i, pair := range [][2]string{{"AbC", "aBc"}, {"a b", "a  b"}, {" a", "a"}, {"\uff21", "A"}} {
		session := aSession
		session.ID, session.Token = "S"+strconv.Itoa(i), pair[0]
		begin(t, s, session)
		if err := s.Rotate(background(t), session.ID, pair[1], "third"); !directory.Is(err, directory.Stale) {
			t.Errorf("%q passes for %q: %v", pair[1], pair[0], err)
		}
		if won := rotatedAtOnce(t, s, session.ID, pair[0], pair[1]); won != 1 {
			t.Errorf("from %q to %q: %d won", pair[0], pair[1], won)
		}
	}
}

// rotatedAtOnce returns how many of many rotations at once succeed. The others find that they are too late.
func rotatedAtOnce(t *testing.T, s directory.Sessions, id, from, to string) int32 {
	t.Helper()
	var won atomic.Int32
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			switch err := s.Rotate(background(t), id, from, to); {
			case err == nil:
				won.Add(1)
			case !directory.Is(err, directory.Stale):
				t.Error(err)
			}
		})
	}
	all.Wait()
	return won.Load()
}
