package ldapdir_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory/directorytest"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// assertion is the control of RFC 4528.
func assertion(t *testing.T, filter string) ldap.Control {
	t.Helper()
	compiled, err := ldap.CompileFilter(filter)
	if err != nil {
		t.Fatal(err)
	}
	return ldap.NewControlString("1.3.6.1.1.12", true, string(compiled.Bytes()))
}

// The three assertions that look as if each let a change through only while the entry is what was read.
func byCSN(entry *ldap.Entry) string {
	return fmt.Sprintf("(entryCSN=%s)", entry.GetAttributeValue("entryCSN"))
}

func byCSNOrOtherUUID(entry *ldap.Entry) string {
	return fmt.Sprintf("(|(entryCSN=%s)(!(entryUUID=%s)))", entry.GetAttributeValue("entryCSN"), entry.GetAttributeValue("entryUUID"))
}

// byCSNOrOtherDN is the one in use.
func byCSNOrOtherDN(entry *ldap.Entry) string {
	return fmt.Sprintf("(|(entryCSN=%s)(!(entryDN=%s)))", entry.GetAttributeValue("entryCSN"), ldap.EscapeFilter(entry.DN))
}

func TestFactsOfAssertions(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	for i, form := range []struct {
		filter   func(*ldap.Entry) string
		mail     uint16 // the answer to a change of a unique attribute
		memberOf bool   // whether a new member gets its memberOf
		remaking uint16 // the answer to a stale change of an entry that was deleted and made again
	}{
		{byCSN, 122, false, 122},
		{byCSNOrOtherUUID, 0, true, 0},
		{byCSNOrOtherDN, 0, true, 122},
	} {
		l := on(t, server)
		user, group := userDN(fmt.Sprint("user", i)), groupDN(fmt.Sprint("group", i))
		l.add(0, user, "sn", "x", "mail", fmt.Sprintf("user%d@example.org", i))
		l.add(0, group, "member", placeholder)
		state := func(l plain, dn string) *ldap.Entry { return l.read(dn, "entryCSN", "entryUUID") }
		name := form.filter(&ldap.Entry{DN: "<dn>"})

		t.Run(fmt.Sprintf("%s with slapo-unique: %d", name, form.mail), func(t *testing.T) {
			l := on(t, server)
			l.with(assertion(t, form.filter(state(l, user)))).modify(form.mail, user, replacing("mail", fmt.Sprintf("new%d@example.org", i)))
		})
		t.Run(fmt.Sprintf("%s with slapo-memberof: no error, memberOf written: %t", name, form.memberOf), func(t *testing.T) {
			l := on(t, server)
			l.with(assertion(t, form.filter(state(l, group)))).modify(0, group, adding("member", user))
			l.has(group, "member", placeholder, user)
			if got := l.values(user, "memberOf"); slices.Contains(got, group) != form.memberOf {
				t.Errorf("memberOf is %q", got)
			}
		})
		t.Run(name+" holds off a stale Modify and a stale Del", func(t *testing.T) {
			l := on(t, server)
			before := state(l, user)
			l.modify(0, user, replacing("title", "x"))
			stale := l.with(assertion(t, form.filter(before)))
			stale.modify(122, user, replacing("title", "y"))
			stale.remove(122, user)
		})
		t.Run(fmt.Sprintf("%s after deletion and remaking: %d", name, form.remaking), func(t *testing.T) {
			l := on(t, server)
			before := state(l, user)
			remake := func() {
				l.remove(0, user)
				l.add(0, user, "sn", "x")
			}
			remake()
			l.with(assertion(t, form.filter(before))).modify(form.remaking, user, replacing("title", "y"))
			l.with(assertion(t, form.filter(before))).remove(form.remaking, user)
			if form.remaking != 0 {
				l.remove(0, user)
			}
			l.add(0, user, "sn", "x")
		})
	}
	t.Run("byCSNOrOtherDN on a Del takes the entry out of its groups at once", func(t *testing.T) {
		l, user, group := on(t, server), userDN("deleted"), groupDN("deleted")
		l.add(0, user, "sn", "x")
		l.add(0, group, "member", placeholder, "member", user)
		l.with(assertion(t, byCSNOrOtherDN(l.read(user, "entryCSN")))).remove(0, user)
		l.has(group, "member", placeholder)
	})
	t.Run("(entryDN=…) knows every name", func(t *testing.T) {
		l := on(t, server)
		for _, name := range directorytest.Names {
			user := userDN("named " + name)
			l.add(0, user, "sn", "x")
			before := l.read(user, "entryCSN")
			l.with(assertion(t, byCSNOrOtherDN(before))).modify(0, user, replacing("title", "x"))
			l.with(assertion(t, byCSNOrOtherDN(before))).modify(122, user, replacing("title", "y"))
		}
	})
	t.Run("of many that assert the same state one gets through", func(t *testing.T) {
		user := userDN("contended")
		l := on(t, server)
		l.add(0, user, "sn", "x")
		conns := []plain{on(t, server), on(t, server), on(t, server), on(t, server)}
		for round := range 50 {
			control := assertion(t, byCSNOrOtherDN(l.read(user, "entryCSN")))
			outcomes := make([]error, len(conns))
			var all sync.WaitGroup
			for i, l := range conns {
				all.Go(func() {
					outcomes[i] = l.Modify(&ldap.ModifyRequest{DN: user, Controls: []ldap.Control{control},
						Changes: []ldap.Change{replacing("title", fmt.Sprintf("%d by %d", round, i))}})
				})
			}
			all.Wait()
			done := 0
			for _, err := range outcomes {
				if err == nil {
					done++
				} else if !ldap.IsErrorWithCode(err, 122) {
					t.Errorf("round %d: %v", round, err)
				}
			}
			if done != 1 {
				t.Fatalf("round %d: %d got through: %v", round, done, outcomes)
			}
		}
	})
}

// reading is the control of RFC 4527.
func reading(oid string, critical bool, attributes ...string) ldap.Control {
	list := ber.NewSequence("Attributes")
	for _, name := range attributes {
		list.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, name, "Attribute"))
	}
	return ldap.NewControlString(oid, critical, string(list.Bytes()))
}

const (
	preRead  = "1.3.6.1.1.13.1"
	postRead = "1.3.6.1.1.13.2"
)

// entryOf returns the entry in a response control of RFC 4527.
func entryOf(t *testing.T, controls []ldap.Control, oid string) *ldap.Entry {
	t.Helper()
	control, ok := ldap.FindControl(controls, oid).(*ldap.ControlString)
	if !ok {
		t.Fatalf("%s is no ControlString in %v", oid, controls)
	}
	packet, err := ber.DecodePacketErr([]byte(control.ControlValue))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for _, attribute := range packet.Children[1].Children {
		name := attribute.Children[0].Data.String()
		for _, value := range attribute.Children[1].Children {
			values[name] = append(values[name], value.Data.String())
		}
	}
	return ldap.NewEntry(packet.Children[0].Data.String(), values)
}

func asMap(entry *ldap.Entry) map[string][]string {
	values := map[string][]string{"dn": {entry.DN}}
	for _, attribute := range entry.Attributes {
		values[attribute.Name] = attribute.Values
	}
	return values
}

// tapped connects as the service account by a connection that keeps what the server sends.
func tapped(t *testing.T, server *slapd.Server) (plain, *tap) {
	t.Helper()
	wire, err := net.Dial("tcp", strings.TrimPrefix(server.URL(), "ldap://"))
	if err != nil {
		t.Fatal(err)
	}
	tap := &tap{Conn: wire}
	l := plain{Conn: ldap.NewConn(tap, false), t: t}
	l.Start()
	t.Cleanup(func() { _ = l.Close() })
	l.wanted(0, l.Bind(server.ServiceDN(), server.ServicePassword()), "bind")
	return l, tap
}

type tap struct {
	net.Conn
	mutex sync.Mutex
	bytes []byte
}

func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.bytes = append(c.bytes, b[:n]...)
	return n, err
}

// count says how often the server sent something.
func (c *tap) count(text string) int {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	return strings.Count(string(c.bytes), text)
}

func TestFactsOfReadingWithWriting(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	everything := []string{"*", "+"}
	t.Run("post-read returns what a search would find, operational attributes included, as a ControlString", func(t *testing.T) {
		l, alice, devs := on(t, server), userDN("alice"), groupDN("devs")
		l.add(0, alice, "sn", "Liddell", "mail", "b@b", "mail", "a@a")
		l.add(0, devs, "member", alice)
		before := l.read(alice, everything...)
		for _, changes := range [][]ldap.Change{
			{replacing("title", "b", "a"), replacing("mail", "b@b", "c@c", "a@a")},
			{replacing("userPassword", "a long password"), replacing("pwdEndTime", "20991231235959Z")},
			{adding("objectClass", "ldapPublicKey"), adding("sshPublicKey", "key")},
			{replacing("description")},
		} {
			request := &ldap.ModifyRequest{DN: alice, Changes: changes, Controls: []ldap.Control{reading(postRead, false, everything...)}}
			result, err := l.ModifyWithResult(request)
			l.wanted(0, err, request)
			said, found := entryOf(t, result.Controls, postRead), l.read(alice, everything...)
			if diff := cmp.Diff(asMap(found), asMap(said)); diff != "" {
				t.Errorf("%v: searched and post-read differ:\n%s", changes, diff)
			}
			for _, name := range []string{"entryCSN", "entryUUID", "memberOf", "createTimestamp", "modifyTimestamp"} {
				if said.GetAttributeValue(name) == "" {
					t.Errorf("no %s in %v", name, asMap(said))
				}
			}
			if said.GetAttributeValue("userPassword") != "" {
				t.Error("post-read shows a password")
			}
			if csn := said.GetAttributeValue("entryCSN"); csn == before.GetAttributeValue("entryCSN") {
				t.Errorf("the entryCSN is still %s", csn)
			}
		}
	})
	t.Run("post-read returns only what was asked for, and what the schema does not know is 17 where the control is critical", func(t *testing.T) {
		l, bob := on(t, server), userDN("bob")
		l.add(0, bob, "sn", "Hartmann")
		request := &ldap.ModifyRequest{DN: bob, Changes: []ldap.Change{replacing("title", "x")}, Controls: []ldap.Control{reading(postRead, false, "title", "nosuch", "mail")}}
		result, err := l.ModifyWithResult(request)
		l.wanted(0, err, request)
		if diff := cmp.Diff(map[string][]string{"dn": {bob}, "title": {"x"}}, asMap(entryOf(t, result.Controls, postRead))); diff != "" {
			t.Error(diff)
		}
		l.with(reading(postRead, true, "title", "nosuch")).modify(17, bob, replacing("title", "y"))
	})
	t.Run("a Modify that is refused or that fails its assertion sends no post-read", func(t *testing.T) {
		l, tap := tapped(t, server)
		carol := userDN("refused")
		l.add(0, carol, "sn", "x")
		l = l.with(reading(postRead, false, "*"), assertion(t, "(sn=x)"))
		l.modify(21, carol, replacing("mail", "名"))
		l.modify(0, carol, replacing("sn", "y"))
		l.modify(122, carol, replacing("sn", "z"))
		if n := tap.count(postRead); n != 1 {
			t.Errorf("the server sent %d post-reads", n)
		}
	})
	t.Run("a Modify that changes nothing, or has no changes, writes to the entry", func(t *testing.T) {
		l, bob := on(t, server), userDN("unchanged")
		l.add(0, bob, "sn", "x")
		for _, changes := range [][]ldap.Change{{replacing("sn", "x")}, nil} {
			before := l.values(bob, "entryCSN")
			l.modify(0, bob, changes...)
			if slices.Equal(before, l.values(bob, "entryCSN")) {
				t.Errorf("%v: the entryCSN is still %q", changes, before)
			}
		}
	})
	t.Run("the server answers Add and Del with controls, and go-ldap drops them", func(t *testing.T) {
		l, tap := tapped(t, server)
		carol := userDN("carol")
		l.with(reading(postRead, false, "*")).add(0, carol, "sn", "x") // returns nothing but an error, like Del
		if n := tap.count(postRead); n != 1 {
			t.Errorf("the server sent %d post-reads for an Add", n)
		}
		l.with(reading(preRead, false, "*")).remove(0, carol)
		if n := tap.count(preRead); n != 1 {
			t.Errorf("the server sent %d pre-reads for a Del", n)
		}
	})
}

func TestFactsOfConnections(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	t.Run("a bind changes who the connection is, and one that fails makes it nobody", func(t *testing.T) {
		l, alice := on(t, server), userDN("alice")
		l.add(0, alice, "sn", "x", "userPassword", "alice-password")
		l.wanted(0, l.Bind(alice, "alice-password"), "bind as alice")
		l.modify(50, alice, replacing("sn", "y"))
		who, err := l.WhoAmI(nil)
		if err != nil || who.AuthzID != "dn:"+alice {
			t.Errorf("after the bind: %+v, %v", who, err)
		}
		l.wanted(49, l.Bind(alice, "wrong"), "bind with a wrong password")
		who, err = l.WhoAmI(nil)
		if err != nil || who.AuthzID != "" {
			t.Errorf("after the failed bind: %+v, %v", who, err)
		}
	})
	t.Run("on a silent server SetTimeout ends a read, and the connection still looks healthy", func(t *testing.T) {
		l := on(t, server)
		l.SetTimeout(100 * time.Millisecond)
		pause(t, server)
		for range 2 {
			_, err := l.Search(rootDSE)
			l.wanted(ldap.ErrorNetwork, err, rootDSE)
			if !strings.Contains(err.Error(), "timed out") {
				t.Errorf("the error says %v", err)
			}
			if l.IsClosing() {
				t.Error("the connection closes")
			}
		}
		resume(t, server)
		l.SetTimeout(30 * time.Second)
		l.read("") // the late answers to the abandoned searches are in nobody's way
	})
	t.Run("a write that timed out is carried out all the same", func(t *testing.T) {
		l, alice := on(t, server), userDN("late")
		l.add(0, alice, "sn", "x")
		l.SetTimeout(100 * time.Millisecond)
		pause(t, server)
		l.modify(ldap.ErrorNetwork, alice, replacing("title", "late"))
		resume(t, server)
		l.SetTimeout(30 * time.Second)
		eventually(t, "the late write", func() bool { return slices.Equal(l.values(alice, "title"), []string{"late"}) })
	})
	t.Run("when the server dies the connection knows", func(t *testing.T) {
		server := ldapdirtest.Start(t, slapd.Options{})
		l := on(t, server)
		if err := server.Kill(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "IsClosing", l.IsClosing)
		l.modify(ldap.ErrorNetwork, userDN("alice"), replacing("title", "x"))
	})
}

// pause silences a server until resume, or the test's end at the latest.
func pause(t *testing.T, server *slapd.Server) {
	t.Helper()
	probe := on(t, server)
	probe.SetTimeout(50 * time.Millisecond)
	t.Cleanup(func() { _ = server.Resume() })
	if err := server.Pause(); err != nil {
		t.Fatal(err)
	}
	// A thread that runs goes on for a moment, and may answer one more request.
	eventually(t, "silence", func() bool {
		_, err := probe.Search(rootDSE)
		return ldap.IsErrorWithCode(err, ldap.ErrorNetwork)
	})
}

func resume(t *testing.T, server *slapd.Server) {
	t.Helper()
	if err := server.Resume(); err != nil {
		t.Fatal(err)
	}
}

var rootDSE = ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)", nil, nil)

// page asks for one page of the hosts.
func (l plain) page(code uint16, size uint32, cookie []byte) (names int, next []byte) {
	l.t.Helper()
	control := ldap.NewControlPaging(size)
	control.SetCookie(cookie)
	request := ldap.NewSearchRequest("ou=hosts,"+ldapdirtest.Base, ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=device)", []string{"1.1"}, []ldap.Control{control})
	result, err := l.Search(request)
	l.wanted(code, err, request)
	if answer, ok := ldap.FindControl(result.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging); ok {
		next = answer.Cookie
	}
	return len(result.Entries), next
}

func TestFactsOfPaging(t *testing.T) {
	const hosts, sizeLimit = 30, 10
	server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string {
		conf = strings.Replace(conf, "sizelimit     500", fmt.Sprint("sizelimit ", sizeLimit), 1)
		conf = strings.Replace(conf, "limits dn.onelevel=\"ou=people,", "limits dn.onelevel=\"ou=friends,", 1) // people have none of their own
		service := "by dn.exact=\"cn=rollcall,ou=services," + ldapdirtest.Base + "\" write"
		rule := "access to dn.children=\"ou=hosts," + ldapdirtest.Base + "\"\n\t" + service
		conf = strings.Replace(conf, rule, rule+"\n\tby users read", 1)
		return strings.Replace(conf, "access to dn.base=\"ou=hosts,", "access to dn.base=\"ou=hosts,"+ldapdirtest.Base+"\" attrs=entry by users read\naccess to dn.base=\"ou=hosts,", 1)
	}})
	l, alice := on(t, server), userDN("alice")
	l.add(0, alice, "sn", "x", "userPassword", "alice-password")
	for i := range hosts {
		l.add(0, hostDN(fmt.Sprint("host", i)))
	}
	search := ldap.NewSearchRequest("ou=hosts,"+ldapdirtest.Base, ldap.ScopeSingleLevel, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=device)", []string{"1.1"}, nil)

	t.Run("the service account goes past sizelimit, by pages and without", func(t *testing.T) {
		l := on(t, server)
		total, cookie := 0, []byte(nil)
		for {
			n, next := l.page(0, 7, cookie)
			total, cookie = total+n, next
			if len(cookie) == 0 {
				break
			}
		}
		if total != hosts {
			t.Errorf("%d hosts by pages", total)
		}
		result, err := l.Search(search)
		if l.wanted(0, err, search); len(result.Entries) != hosts {
			t.Errorf("%d hosts without pages", len(result.Entries))
		}
	})
	t.Run("another identity does not, by pages neither", func(t *testing.T) {
		l := on(t, server)
		l.wanted(0, l.Bind(alice, "alice-password"), "bind as alice")
		result, err := l.Search(search)
		if l.wanted(4, err, search); len(result.Entries) != sizeLimit {
			t.Errorf("%d hosts", len(result.Entries))
		}
		first, cookie := l.page(0, 7, nil)
		second, _ := l.page(4, 7, cookie)
		if first+second != sizeLimit {
			t.Errorf("%d and %d hosts by pages", first, second)
		}
	})
	t.Run("a search that was left unfinished is in no new one's way", func(t *testing.T) {
		l := on(t, server)
		for range 3 {
			if n, cookie := l.page(0, 7, nil); n != 7 || len(cookie) == 0 {
				t.Errorf("%d hosts, cookie %x", n, cookie)
			}
		}
	})
	t.Run("a cookie is no good on another connection", func(t *testing.T) {
		_, cookie := on(t, server).page(0, 7, nil)
		on(t, server).page(2, 7, cookie)
	})
	t.Run("a new paged search ends the older one's cookie, one without pages does not", func(t *testing.T) {
		l := on(t, server)
		_, cookie := l.page(0, 7, nil)
		_, err := l.Search(search)
		l.wanted(0, err, search)
		_, cookie = l.page(0, 7, cookie)
		l.page(0, 7, nil)
		l.page(2, 7, cookie)
	})
}
