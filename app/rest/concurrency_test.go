package rest_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"go.uber.org/goleak"

	"rollcall/app/ldapdir/ldapdirtest"
)

// TestNoUpdateIsLost: writers through two replicas and past them increment one field, while wrong passwords are
// tried against the same entry.
func TestNoUpdateIsLost(t *testing.T) { noUpdateIsLost(t, 200) }

func noUpdateIsLost(t *testing.T, increments int) {
	const writers = 32
	one := newAPI(t)
	two := newAPIOn(t, one.slapd)
	one.do("POST", "/users", object{"cn": "counter", "sn": "x", "employeeNumber": "0", "userPassword": "a long password"}).want(201)

	var begun atomic.Int64
	var writing sync.WaitGroup
	for i := range writers - 1 {
		a := []*api{one, two}[i%2]
		writing.Go(func() {
			for begun.Add(1) <= int64(increments) {
				if !a.increment() {
					t.Errorf("an increment failed")
				}
			}
		})
	}
	l := ldapdirtest.Bind(t, one.slapd)
	writing.Go(func() {
		for begun.Add(1) <= int64(increments) {
			if err := incrementByLDAP(l); err != nil {
				t.Error(err)
			}
		}
	})
	done := make(chan struct{})
	var guessing sync.WaitGroup
	guessing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				if x := two.as("counter", "wrong "+strconv.Itoa(i)).do("GET", "/users/counter", nil); x.Status != 401 {
					t.Errorf("a wrong password got %d", x.Status)
				}
			}
		}
	})
	writing.Wait()
	close(done)
	guessing.Wait()
	one.do("GET", "/users/counter", nil).want(200).field("employeeNumber", strconv.Itoa(increments))
}

// increment adds one under If-Match, until nobody else was faster.
func (a *api) increment() bool {
	for {
		read := a.do("GET", "/users/counter", nil)
		if read.Status != http.StatusOK {
			return false
		}
		n, err := strconv.Atoi(read.object()["employeeNumber"].(string))
		if err != nil {
			return false
		}
		switch a.do("PATCH", "/users/counter", object{"employeeNumber": strconv.Itoa(n + 1)}, "If-Match", read.etag()).Status {
		case http.StatusOK:
			return true
		case http.StatusPreconditionFailed:
		default:
			return false
		}
	}
}

// incrementByLDAP adds one by removing the value that was read and adding the next.
func incrementByLDAP(l *ldap.Conn) error {
	dn := "cn=counter,ou=people," + ldapdirtest.Base
	for {
		found, err := l.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", []string{"employeeNumber"}, nil))
		if err != nil {
			return err
		}
		value := found.Entries[0].GetAttributeValue("employeeNumber")
		n, err := strconv.Atoi(value)
		if err != nil {
			return err
		}
		modify := ldap.NewModifyRequest(dn, nil)
		modify.Delete("employeeNumber", []string{value})
		modify.Add("employeeNumber", []string{strconv.Itoa(n + 1)})
		if err := l.Modify(modify); !ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchAttribute) {
			return err
		}
	}
}

// TestManyRequestsAtOnce: whatever comes, 32 at a time, nothing fails on our side, and nothing is left.
func TestManyRequestsAtOnce(t *testing.T) { manyRequestsAtOnce(t, 1500) }

func manyRequestsAtOnce(t *testing.T, requests int64) {
	before := goleak.IgnoreCurrent()
	t.Run("requests", func(t *testing.T) {
		a := newAPI(t)
		var begun atomic.Int64
		var all sync.WaitGroup
		for range 32 {
			all.Go(func() {
				for begun.Add(1) <= requests {
					method, path, body := randomRequest()
					if x := a.do(method, path, body); x.Status >= 500 {
						t.Errorf("%s: %d %s", x.request, x.Status, x.Body)
					}
				}
			})
		}
		all.Wait()
		if n := connections(); n > 4+8+8 {
			t.Errorf("there are %d connections to the directory", n)
		}
	})
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// randomRequest returns one of all sorts, on few entries, so that requests meet.
func randomRequest() (method, path string, body any) {
	n := rand.IntN(12)
	user, group, host := fmt.Sprintf("/users/u%d", n), fmt.Sprintf("/groups/g%d", n%4), fmt.Sprintf("/hosts/h%d", n)
	switch rand.IntN(20) {
	case 0:
		return "POST", "/users", object{"cn": user[7:], "sn": "x", "mail": user[7:] + "@example.net"}
	case 1:
		return "PUT", user, object{"sn": "y", "mail": fmt.Sprintf("u%d@example.net", rand.IntN(12))}
	case 2:
		return "DELETE", user, nil
	case 3:
		return "PUT", group, object{"members": []string{"users/alice", "users/bob"}}
	case 4:
		return "DELETE", group, nil
	case 5:
		return "PUT", host, object{"owners": []string{"users/alice"}, "ipAddresses": []string{"192.0.2.1"}}
	case 6:
		return "DELETE", host, nil
	case 7, 8:
		return "PUT", group + "/members" + user, nil
	case 9, 10:
		return "DELETE", group + "/members" + user, nil
	case 11:
		return "PATCH", user, object{"accountLocked": rand.IntN(2) == 0}
	case 12:
		return "PATCH", host, object{"ipAddresses": nil}
	case 13:
		return "PATCH", group, object{"members": []string{"users/alice", user[1:]}}
	case 14:
		return "GET", []string{"/users", "/groups", "/hosts"}[n%3], nil
	case 15:
		return "PATCH", user, object{"title": strconv.Itoa(n)}
	case 16:
		return "GET", group + "/members", nil
	case 17:
		return "PATCH", user, object{"mail": "nowhere", "shoeSize": 1}
	default:
		return "GET", user, nil
	}
}

// connections counts the connections to LDAP servers that this process has open.
func connections() int {
	for range 50 { // what was given up on closes a moment later
		runtime.Gosched()
		time.Sleep(10 * time.Millisecond)
	}
	stacks := make([]byte, 4<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "ldap/v3.(*Conn).reader(")
}
