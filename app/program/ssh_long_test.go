//go:build long

package program

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/ldapdir/ldapdirtest"
)

func TestALoginIsRefusedForEachCauseUntilItIsPutRight(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	alice, other := s.account(ofPeople), s.account(ofPeople)
	web1, web2 := s.host("web1.test"), s.host("web2.test")
	s.group("third", "users/"+alice.name)
	s.group("second", "groups/third")
	s.group("first", "groups/second", "hosts/web1.test", "hosts/web2.test")
	s.join(everywhere, "users/"+other.name)
	byLDAP := func(change func(*ldap.ModifyRequest)) {
		t.Helper()
		modify := ldap.NewModifyRequest("cn=first,ou=groups,"+ldapdirtest.Base, nil)
		change(modify)
		if err := ldapdirtest.Bind(t, s.directory).Modify(modify); err != nil {
			t.Fatal(err)
		}
	}
	second := []string{"cn=second,ou=groups," + ldapdirtest.Base}

	web1.letsIn("at first", alice)
	for _, c := range []struct {
		cause      string
		take, give func()
		refused    func(when string, p account, words ...string)
		words      []string
	}{
		{cause: "the key is removed", take: func() { s.removeKey(alice) }, give: func() { s.addKey(alice, nil) }},
		{cause: "the user is locked", take: func() { s.lock(alice, true) }, give: func() { s.lock(alice, false) }},
		{cause: "the user is taken out three levels down", take: func() { s.leave("third", "users/"+alice.name) }, give: func() { s.join("third", "users/"+alice.name) }},
		{cause: "a group is taken out", take: func() { s.leave("first", "groups/second") }, give: func() { s.join("first", "groups/second") }},
		{cause: "the host is taken out", take: func() { s.leave("first", "hosts/web1.test") }, give: func() { s.join("first", "hosts/web1.test") }},
		{
			cause: "an LDAP client takes a group out", refused: web1.refusesSoon,
			take: func() { byLDAP(func(m *ldap.ModifyRequest) { m.Delete("member", second) }) },
			give: func() { byLDAP(func(m *ldap.ModifyRequest) { m.Add("member", second) }) },
		},
	} {
		if c.refused == nil {
			c.refused = web1.refuses
		}
		c.take()
		c.refused(c.cause, alice)
		web1.letsIn(c.cause, other)
		c.give()
		web1.eventually("it is put right: "+c.cause, func() bool { in, _, _ := web1.ssh(alice); return in })
	}

	const revoked = "the host's token is revoked"
	s.do(http.MethodDelete, "/hosts/web1.test/token", nil, http.StatusNoContent)
	for _, p := range []account{alice, other} {
		web1.refuses(revoked, p, "The token is not valid", "every server has refused", "AuthorizedKeysCommand "+web1.file("rollcall"))
		web2.letsIn(revoked+", of another", p)
	}
	web1.newToken()
	web1.letsIn("there is a new token", alice)
}

func TestSshdSeesToItselfThatAKeyEnds(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	alice, other := s.account(ofPeople), s.account(ofPeople)
	s.join(everywhere, "users/"+alice.name)
	s.join(everywhere, "users/"+other.name)
	asking, alone := s.host("web1.test"), s.host("web2.test")
	s.removeKey(alice)
	ends := time.Now().Add(patience / 2)
	s.addKey(alice, &ends)
	for _, h := range []*loginHost{asking, alone} {
		h.letsIn("the key is good", alice)
		h.letsIn("the key is good", other)
	}
	alone.asks(longEnough, nobodys(t))
	const over = "the key is over"
	asking.refusesSoon(over, alice)
	alone.refusesSoon(over, alice, "is used", "Refused by key options", "connection refused")
	asking.letsIn(over, other)
	alone.letsIn(over, other)
	s.removeKey(alice)
	s.addKey(alice, nil)
	asking.letsIn("the key is good again", alice)
}

// nobodys returns the URL of a port where nobody listens.
func nobodys(t *testing.T) string {
	t.Helper()
	return "http://" + onPort(t, settings{})["SERVER_LISTEN"]
}

func TestTheLastAnswerCountsWhileNobodyAnswers(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	alice, locked, stranger := s.account(ofPeople), s.account(ofPeople), s.account(ofPeople)
	for _, p := range []account{alice, locked, stranger} {
		s.join(everywhere, "users/"+p.name)
	}
	h := s.host("web1.test")
	h.letsIn("at first", alice)
	h.letsIn("at first", locked)
	s.lock(locked, true)
	h.refuses("the user is locked", locked)

	lastAnswers := func(when string, words ...string) {
		t.Helper()
		h.letsIn(when, alice)
		h.refuses(when+", and the last answer was a refusal", locked, append(words, "is used")...)
		h.refuses(when+", and there is no last answer", stranger, append(words, "no answer is kept", "AuthorizedKeysCommand "+h.file("rollcall"))...)
	}
	if err := s.directory.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	lastAnswers("the directory is away", "(503)")
	s.killed()
	lastAnswers("Rollcall and the directory are away", "connection refused")

	h.asks("1s", s.address)
	h.refusesSoon("the last answer is too old", alice, "connection refused", "too long ago", "AuthorizedKeysCommand "+h.file("rollcall"))
	h.asks(longEnough, s.address)
	h.letsIn("the last answer is not too old", alice)

	restarted, err := s.directory.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = restarted.Kill() })
	s.serve(t)
	h.refuses("all are back, and the user is still locked", locked)
	s.lock(locked, false)
	for _, p := range []account{alice, locked, stranger} {
		h.letsIn("all are back", p)
	}
}

func TestTheDirectoryLetsInToNoAccountButThoseOfPeople(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	person, service := s.account(ofPeople), s.account(ofServices)
	h := s.host("web1.test")
	for _, p := range []account{person, service} {
		s.join(everywhere, "users/"+p.name)
	}
	h.letsIn("the directory lets in", person)
	h.refuses("the directory would let in", service)
	for _, p := range []account{person, service} {
		s.leave(everywhere, "users/"+p.name)
		h.write(p.name+".keys", p.public)
		if err := os.Chmod(h.file(p.name+".keys"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	h.refuses("a file would let in", person)
	h.letsIn("a file lets in", service)
}

func TestAServerThatHangsKeepsNobodyOut(t *testing.T) {
	t.Parallel()
	hangs, err := net.Listen("tcp", anyPort) // the system takes connections, and nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	s := newSite(t)
	alice := s.account(ofPeople)
	s.join(everywhere, "users/"+alice.name)
	h := s.host("web1.test")
	h.asks(longEnough, "http://"+hangs.Addr().String(), s.address)
	if in, said, logged := h.ssh(alice); !in || !strings.Contains(logged, "has not answered in") || strings.Contains(logged, "is used") {
		h.fatalf("the first server should be asked, and the second answer\nssh:\n%s\nsshd:\n%s", said, logged)
	}
	s.lock(alice, true)
	h.refusesSoon("the second server says no", alice)
	s.lock(alice, false)
	h.letsIn("the second server says yes", alice)
}

func TestSshKnowsAHostByTheKeyThatRollcallShows(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	alice := s.account(ofPeople)
	s.join(everywhere, "users/"+alice.name)
	h := s.host("web1.test")
	h.write("curl", "silent\nfail\nget\nurl = \""+s.url()+"/hosts/known_hosts\"\nheader = \"Authorization: Bearer "+string(h.read("token"))+"\"\n")
	asking := []string{"-oGlobalKnownHostsFile=/dev/null", "-oKnownHostsCommand=/usr/bin/curl --config " + h.file("curl") + " --data-urlencode host=%H"}

	h.letsIn("the key is in a file", alice)
	h.letsIn("the key is asked for", alice, asking...)
	own := s.do(http.MethodGet, "/hosts/web1.test?fields=sshPublicKeys", nil, http.StatusOK).Body
	_, others, _ := newSSHKey(t)
	s.do(http.MethodPatch, "/hosts/web1.test", map[string]any{"sshPublicKeys": []string{others}}, http.StatusOK)
	h.knows()
	for _, options := range [][]string{nil, asking} {
		if in, said, logged := h.ssh(alice, options...); in || !strings.Contains(said, "Host key verification failed") {
			h.fatalf("a host with another key is taken for web1.test\nssh:\n%s\nsshd:\n%s", said, logged)
		}
	}
	s.do(http.MethodPatch, "/hosts/web1.test", json.RawMessage(own), http.StatusOK)
	h.knows()
	h.letsIn("the key is in the file again", alice)
	h.letsIn("the key is asked for again", alice, asking...)
}

func TestSshdSaysWhatTheGuideToTroubleSaysThatItSays(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/ssh.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "\n## Troubleshooting\n")
	s := newSite(t)
	alice := s.account(ofPeople)
	s.join(everywhere, "users/"+alice.name)
	h := s.host("web1.test")
	h.letsIn("at first", alice)
	stranger := alice
	stranger.name += "-2"
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	password := func(hash string) { must(exec.Command("usermod", "--password", hash, alice.name).Run()) }
	keyFrom := func(options string) {
		s.do(http.MethodPatch, "/users/"+alice.name, map[string]any{"sshPublicKeys": []string{options + alice.public}}, http.StatusOK)
	}
	for _, c := range []struct {
		who        account
		wrong, not func()
		words      []string
	}{
		{stranger, func() {}, func() {}, []string{"Invalid user"}},
		{alice, func() { password("!") }, func() { password("*") }, []string{"not allowed because account is locked"}},
		{alice, func() { must(os.Chmod(h.dir, 0o777)) }, func() { must(os.Chmod(h.dir, 0o755)) }, []string{"Unsafe AuthorizedKeysCommand", "bad ownership or modes"}},
		{
			alice, func() { must(os.Rename(h.file("rollcall"), h.file("other"))) }, func() { must(os.Rename(h.file("other"), h.file("rollcall"))) },
			[]string{"Could not stat AuthorizedKeysCommand"},
		},
		{alice, func() { keyFrom(`from="192.0.2.1" `) }, func() { keyFrom("") }, []string{"Refused by key options"}},
		{alice, func() { h.write("token", "other") }, h.newToken, []string{"failed, status 1", "The token is not valid, or not any more"}},
		{alice, func() { must(os.Chmod(h.file("token"), 0o644)) }, func() { must(os.Chmod(h.file("token"), 0o600)) }, []string{"failed, status 1", "may read or write it"}},
	} {
		c.wrong()
		in, said, logged := h.ssh(c.who)
		for _, w := range c.words {
			if in || !strings.Contains(logged, w) || !strings.Contains(table, w) {
				h.fatalf("%q should be in the log, and in the guide\nssh:\n%s\nsshd:\n%s", w, said, logged)
			}
		}
		c.not()
		h.letsIn("it is put right", alice)
	}
}
