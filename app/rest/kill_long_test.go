//go:build long

package rest_test

import (
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/app/client"
	"rollcall/app/ldapdir/ldapdirtest"
)

// severals are requests that change several entries, each on the entries that [killing.begin] makes.
var severals = []struct {
	what, method, path string
	body               any
	headers            []string
}{
	{"a new user in two groups", "POST", "/users", object{"cn": "new", "sn": "New", "userPassword": "a long one 4", "memberOfs": refs("a", "b")}, nil},
	{"a new host by PUT", "PUT", "/hosts/new", object{"owners": []string{"users/e"}, "memberOfs": refs("a", "b")}, nil},
	{"a merge patch of memberships", "PATCH", "/users/e", object{"title": "Dr", "memberOfs": refs("b", "c")}, nil},
	{"a replacement", "PUT", "/users/e", object{"sn": "Other", "memberOfs": refs("c")}, nil},
	{"a renaming", "POST", "/users/e/rename", object{"cn": "f"}, nil},
	{"a renamed group", "POST", "/groups/a/rename", object{"cn": "z"}, nil},
	{"a deletion", "DELETE", "/users/e", nil, nil},
	{"creations in bulk", "POST", "/users", []byte(`{"cn":"n1","sn":"N","memberOfs":["groups/a"]}
{"cn":"n2","sn":"N","memberOfs":["groups/b","groups/c"]}
{"cn":"n3","sn":"N"}`), []string{"Content-Type", "application/x-ndjson", "Accept", "application/x-ndjson"}},
	{"replacements in bulk", "PUT", "/users", []byte(`{"cn":"n1","sn":"N","memberOfs":["groups/a"]}
{"cn":"e","sn":"Other","memberOfs":["groups/b"]}
{"cn":"n1","sn":"N again"}`), []string{"Content-Type", "application/x-ndjson", "Accept", "application/x-ndjson"}},
}

// TestWhoeverIsKilledAtWhateverStep kills the program, and the directory server, at each step of each request: before
// the server gets the step, and after it has done it but before the answer is there. The same request to what is
// started again makes of the directory what it would have made at once.
func TestWhoeverIsKilledAtWhateverStep(t *testing.T) {
	binary := buildRollcall(t)
	for _, request := range severals {
		t.Run(request.what, func(t *testing.T) {
			t.Parallel()
			k := &killing{a: newAPI(t), binary: binary}
			send := func(a *api) *exchange { return a.do(request.method, request.path, request.body, request.headers...) }
			k.begin(t)
			send(k.a).want2xx()
			want := k.dump(t)
			for _, mode := range []struct {
				what         string
				server, done bool
			}{
				{"Rollcall killed before", false, false}, {"Rollcall killed after", false, true},
				{"slapd killed before", true, false}, {"slapd killed after", true, true},
			} {
				for n := 1; ; n++ {
					k.begin(t)
					broken := k.during(t, n, mode.server, mode.done, func(a *client.Client) {
						body := request.body
						_, _ = a.Do(t.Context(), request.method, request.path, body, request.headers...)
					})
					if broken == "" {
						break
					}
					x := send(k.a)
					if diff := cmp.Diff(want, k.dump(t)); diff != "" {
						t.Errorf("%s step %d, %s: repeated, the request is answered\n%d %s\nand the directory is not as it should be (-):\n%s",
							mode.what, n, broken, x.Status, x.Body, diff)
					} else {
						t.Logf("%s step %d, %s: repeated, %d", mode.what, n, broken, x.Status)
					}
				}
			}
		})
	}
}

// killing is a directory where one request after another is broken off.
type killing struct {
	a      *api // which nobody kills
	binary string
	fresh  map[string][]string
}

// begin makes the entries that requests change, and nothing of what they make is left. It begins again where
// slapo-refint(5), which goes on after a deletion was answered, has met a new entry of an old name.
func (k *killing) begin(t *testing.T) {
	t.Helper()
	for {
		k.make()
		time.Sleep(20 * time.Millisecond)
		state := k.dump(t)
		if k.fresh == nil {
			k.fresh = state
		}
		if cmp.Equal(k.fresh, state) {
			return
		}
		t.Logf("what is made is not what it was: %s", cmp.Diff(k.fresh, state))
	}
}

func (k *killing) make() {
	k.a.t.Helper()
	for _, path := range []string{"/users/e", "/users/f", "/users/new", "/users/n1", "/users/n2", "/users/n3", "/hosts/new", "/hosts/h",
		"/groups/a", "/groups/b", "/groups/c", "/groups/z"} {
		if x := k.a.do("DELETE", path, nil); x.Status != 404 {
			x.want(204)
		}
	}
	k.a.do("POST", "/users", object{"cn": "e", "sn": "E"}).want(201)
	k.a.do("POST", "/hosts", object{"cn": "h", "owners": []string{"users/e"}}).want(201)
	k.a.do("POST", "/groups", object{"cn": "a", "members": []string{"users/e", "hosts/h"}}).want(201)
	k.a.do("POST", "/groups", object{"cn": "b", "members": []string{"users/e", "groups/a"}}).want(201)
	k.a.do("POST", "/groups", object{"cn": "c"}).want(201)
}

// dump returns what is in the directory, but for what the server sets by itself, and passwords.
func (k *killing) dump(t *testing.T) map[string][]string {
	t.Helper()
	l := ldapdirtest.Bind(t, k.a.slapd)
	defer l.Close()
	found, err := l.Search(ldap.NewSearchRequest(ldapdirtest.Base, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 0, 0, false,
		"(|(objectClass=inetOrgPerson)(objectClass=groupOfNames)(objectClass=device))", []string{"*", "memberOf"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for _, entry := range found.Entries {
		for _, attribute := range entry.Attributes {
			if attribute.Name != "userPassword" {
				values[entry.DN+": "+attribute.Name] = slices.Sorted(slices.Values(attribute.Values))
			}
		}
	}
	return values
}

// during makes a request to a new process, and kills it or the directory server at the step with a number. It returns
// what the step was, "" where there are fewer. The directory server is there again afterwards.
func (k *killing) during(t *testing.T, step int, server, done bool, request func(*client.Client)) (broken string) {
	t.Helper()
	r := newRelay(t, strings.TrimPrefix(k.a.slapd.URL(), "ldap://"))
	defer r.close()
	address, process := runRollcall(t, k.binary, k.a.slapd, "ldap://"+r.listener.Addr().String())
	c := &client.Client{URL: "http://" + address, Login: "admin", Password: "admin"}
	if _, err := c.Call(t.Context(), "GET", "/me", nil, nil); err != nil { // which writes nothing any more
		t.Fatal(err)
	}
	r.at(step, done, func(what string) {
		broken = what
		var err error
		if server {
			err = k.a.slapd.Kill()
		} else {
			err = process.Kill()
		}
		if err != nil {
			t.Error(err)
		}
	})
	request(c)
	r.close()
	if err := process.Kill(); err != nil && !strings.Contains(err.Error(), os.ErrProcessDone.Error()) {
		t.Error(err)
	}
	if broken != "" && server {
		again, err := k.a.slapd.Restart(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = again.Kill() })
		k.a.slapd = again
	}
	return broken
}

// relay stands between Rollcall and its directory, and can do something at one of the writes.
type relay struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mutex  sync.Mutex
	conns  []net.Conn
	writes int
	step   int
	done   bool
	strike func(what string)
}

func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: listener, target: target}
	r.running.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", target)
			if err != nil {
				_ = from.Close()
				continue
			}
			r.mutex.Lock()
			r.conns = append(r.conns, from, to)
			r.mutex.Unlock()
			struck := make(chan int64, 1) // the id of the message whose answer is to be the last
			r.running.Go(func() { r.pump(from, to, func(m *ber.Packet) bool { return r.request(m, struck) }) })
			r.running.Go(func() { r.pump(to, from, func(m *ber.Packet) bool { return r.answer(m, struck) }) })
		}
	})
	return r
}

// at has something done at the write with a number from now on: before it is passed on, or when it was done.
func (r *relay) at(step int, done bool, strike func(what string)) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.writes, r.step, r.done, r.strike = 0, step, done, strike
}

// pump passes messages on until one is not to be.
func (r *relay) pump(from, to net.Conn, pass func(*ber.Packet) bool) {
	defer to.Close()
	defer from.Close()
	for {
		message, err := ber.ReadPacket(from)
		if err != nil || !pass(message) {
			return
		}
		if _, err := to.Write(message.Bytes()); err != nil {
			return
		}
	}
}

// writing are LDAP's operations that write, RFC 4511 §4.
var writing = map[ber.Tag]string{ldap.ApplicationModifyRequest: "modify", ldap.ApplicationAddRequest: "add", ldap.ApplicationDelRequest: "delete",
	ldap.ApplicationModifyDNRequest: "rename", ldap.ApplicationExtendedRequest: "extended"}

func (r *relay) request(message *ber.Packet, struck chan<- int64) bool {
	operation := message.Children[1]
	name, writes := writing[operation.Tag]
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if !writes || r.strike == nil {
		return true
	}
	r.writes++
	if r.writes != r.step {
		return r.writes < r.step || r.done // nothing comes after the last
	}
	dn := operation.Data.String()
	if len(operation.Children) > 0 {
		dn = operation.Children[0].Data.String()
	}
	if name != "extended" {
		name += " of " + dn
	}
	if r.done {
		strike := r.strike
		r.strike = func(string) { strike(name) }
		struck <- message.Children[0].Value.(int64)
		return true
	}
	r.strike(name)
	return false
}

func (r *relay) answer(message *ber.Packet, struck chan int64) bool {
	select {
	case id := <-struck:
		if message.Children[0].Value == id {
			r.mutex.Lock()
			defer r.mutex.Unlock()
			r.strike("")
			return false
		}
		struck <- id
	default:
	}
	return true
}

// close ends all connections and waits for what is under way.
func (r *relay) close() {
	_ = r.listener.Close()
	r.mutex.Lock()
	for _, conn := range r.conns {
		_ = conn.Close()
	}
	r.mutex.Unlock()
	r.running.Wait()
}
