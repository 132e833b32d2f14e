//go:build bench

package rest_test

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/sirupsen/logrus"

	"rollcall/app/auth"
	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/rest"
)

// constant is a directory of one user that costs nothing to read, so that what is measured is what is before it.
type constant struct {
	directory.Directory

	entry directory.Entry
}

func (c constant) Get(context.Context, *directory.Kind, string) (directory.Entry, error) {
	return c.entry, nil
}

func (c constant) Account(context.Context, string, string) (directory.Account, error) {
	return directory.Account{DN: c.entry.DN(), ID: c.entry.ID(), Name: c.entry.Name()}, nil
}

func (c constant) Authenticate(context.Context, string, string) (directory.PasswordState, error) {
	return directory.PasswordState{}, nil
}

func (c constant) Groups(context.Context, string) ([]string, error) { return []string{adminGroup}, nil }

// TestBenchAuthentication prints the CPU time that the handler takes for a read, without authentication and with
// each kind of it, on a directory that costs nothing.
func TestBenchAuthentication(t *testing.T) {
	entry := directory.NewEntry(ldapdirtest.Users)
	for i, f := range ldapdirtest.Users.Fields {
		if f.Example != "" && !f.WriteOnly {
			entry.SetAt(i, []string{f.Example})
		}
	}
	d, sessions := constant{entry: entry}, auth.NewMemory()
	handler := func(freshness time.Duration, authenticate func(context.Context, auth.Credentials) (directory.Caller, error)) (http.Handler, *auth.Authenticator) {
		authenticator, err := auth.New(d, sessions, auth.Options{
			LoginField: "uid", SameDN: ldapdir.SameDN, Fold: ldapdir.Fold, Freshness: freshness, PasswordMemory: time.Hour,
			MaxFailures: 3, FailureWindow: time.Minute, Groups: map[directory.Role]string{directory.RoleAdmin: adminGroup},
			Tokens: auth.TokenOptions{Issuer: "rollcall", Keys: []ed25519.PrivateKey{tokenKey}, AccessLifetime: time.Hour, RefreshLifetime: time.Hour},
		})
		if err != nil {
			t.Fatal(err)
		}
		if authenticate == nil {
			authenticate = authenticator.Authenticate
		}
		log := logrus.New()
		log.SetLevel(logrus.ErrorLevel)
		return rest.New(rest.Options{
			Directory: directory.NewGuarded(d, directory.Protection{}, nil, "uid"), Kinds: []*directory.Kind{ldapdirtest.Users},
			Authenticate: authenticate, Logins: authenticator, RequestTimeout: time.Minute, WriteTimeout: time.Minute, MaxBodyBytes: 1 << 20, Log: log,
		}), authenticator
	}
	everybody := func(context.Context, auth.Credentials) (directory.Caller, error) {
		return directory.Caller{Login: "admin", Roles: []directory.Role{directory.RoleAdmin}}, nil
	}
	none, _ := handler(time.Hour, everybody)
	remembering, authenticator := handler(time.Hour, nil)
	forgetting, _ := handler(0, nil)
	login, err := authenticator.Login(t.Context(), auth.Credentials{Login: "admin", Password: "admin"})
	if err != nil {
		t.Fatal(err)
	}
	var base time.Duration
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(table, "\nCPU time of the handler for a read, medians of %d\n", benchRuns)
	fmt.Fprintln(table, "\tper request\tauthentication\t")
	for _, way := range []struct {
		name, authorization string
		handler             http.Handler
	}{
		{"authentication taken out", basic, none},
		{"Basic", basic, remembering},
		{"token", "Bearer " + login.Access, remembering},
		{"token, verified anew", "Bearer " + login.Access, forgetting},
	} {
		var runs []time.Duration
		for range benchRuns {
			runs = append(runs, cpuOf(t, way.handler, way.authorization))
		}
		slices.Sort(runs)
		took := runs[benchRuns/2]
		if base == 0 {
			base = took
		}
		fmt.Fprintf(table, "%s\t%.1f µs\t%.1f µs\t\n", way.name, microseconds(took), microseconds(took-base))
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// cpuOf returns the CPU time of one request.
func cpuOf(t *testing.T, handler http.Handler, authorization string) time.Duration {
	t.Helper()
	const requests = 50_000
	request := httptest.NewRequest(http.MethodGet, "/users/alice", nil)
	request.Header.Set("Authorization", authorization)
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		t.Fatal(err)
	}
	for range requests {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != http.StatusOK {
			t.Fatalf("%d %s", answer.Code, answer.Body)
		}
	}
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		t.Fatal(err)
	}
	spent := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	return time.Duration(spent / requests)
}
