package rest_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"

	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
)

// TestWhatIsNoKeyIsGivenToNobody whatever others have written into the directory.
func TestWhatIsNoKeyIsGivenToNobody(t *testing.T) {
	k1, k2 := newKey(t), newKey(t)
	blob := strings.Fields(k1)[1]
	rows := []struct {
		name   string
		values []string
		given  []string
	}{
		{"two-lines", []string{k1 + "\n" + k2}, nil},
		{"two-lines-crlf", []string{k1 + "\r\n" + k2}, nil},
		{"line-then-command", []string{k1 + " x\ncommand=\"/bin/sh\" " + k2}, nil},
		{"two-in-a-line", []string{k1 + " " + k2}, []string{k1 + " " + k2}}, // sshd takes what follows for a comment
		{"ends", []string{k1 + "\r\n", " " + k2 + "\t"}, []string{k1, k2}},
		{"nul", []string{k1 + "\x00" + k2}, nil},
		{"nul-in-comment", []string{k1 + " a\x00b"}, nil},
		{"next-line", []string{k1 + " a\u0085b"}, nil},
		{"no-utf-8", []string{k1 + " \xff"}, []string{k1 + " \ufffd"}},
		{"comment-sign", []string{"# " + k1, "#" + k1}, nil},
		{"nothing", []string{" ", "-", "ssh-ed25519", "ssh-ed25519 ", "ssh-ed25519 AAAA", "ssh-ed25519 " + blob[:40]}, nil},
		{"another-type", []string{"ssh-rsa " + blob, "ssh-ed25519-cert-v01@openssh.com " + blob, "ecdsa-sha2-nistp256 " + blob, "SSH-ED25519 " + blob}, nil},
		{"authority", []string{"cert-authority " + k1, "CERT-AUTHORITY " + k1, `no-pty,Cert-Authority,restrict ` + k1, `principals="bob" ` + k1, `cert-authority="" ` + k1}, nil},
		{"options", []string{`restrict,from="192.0.2.0/24",command="echo \"a, b\" cert-authority" ` + k1}, []string{`restrict,from="192.0.2.0/24",command="echo \"a, b\" cert-authority" ` + k1}},
		{"half-options", []string{`command="x ` + k1, `from="*", ` + k1, `,` + k1, `restrict,,no-pty ` + k1, `command="a"b ` + k1, `command=a ` + k1}, nil},
		{"expired", []string{`expiry-time="19990101" ` + k1, `EXPIRY-TIME="199901010000Z" ` + k1, `expiry-time="20990101Z",expiry-time="19990101Z" ` + k1}, nil},
		{"no-time", []string{`expiry-time="" ` + k1, `expiry-time="never" ` + k1, `expiry-time ` + k1, `expiry-time="99999999" ` + k1}, nil},
		{"good", []string{`expiry-time="20990101Z" ` + k1 + " till the end"}, []string{`expiry-time="20990101Z" ` + k1 + " till the end"}},
		{"looks-like-it", []string{k1 + " cert-authority " + k2, k1 + " # " + k2}, []string{k1 + " cert-authority " + k2, k1 + " # " + k2}},
		{"one-of-many", []string{"x", k1 + "\n" + k2, k2, "\x00"}, []string{k2}},
		{"long", []string{k1 + " " + strings.Repeat("x", 100<<10)}, []string{k1 + " " + strings.Repeat("x", 100<<10)}},
	}
	l := &ldif{}
	for _, row := range rows {
		var keys []string
		for _, value := range row.values {
			keys = append(keys, "sshPublicKey", value)
		}
		l.person(row.name, []string{groupDN("web")}, keys...)
	}
	a := newStrangeAPI(t, l)
	token := a.hostToken("web1")
	for _, row := range rows {
		a.authkeys(row.name, "web1", token...).gives(row.given...)
		verdict := a.do("GET", "/access?user="+row.name+"&host=web1", nil).want(200).object()
		if verdict["allowed"] != (len(row.given) > 0) {
			t.Errorf("%s: the verdict is %v", row.name, verdict)
		}
	}
}

// TestStrangeEntriesOpenNothing: what others than Rollcall may have written, with a key for each user that is named.
func TestStrangeEntriesOpenNothing(t *testing.T) {
	keys := map[string]string{}
	l := &ldif{}
	person := func(name string, groups []string, more ...string) {
		keys[name] = newKey(t) + " " + name
		l.person(name, groups, append(more, "sshPublicKey", keys[name])...)
	}
	people, groups, device := "ou=people,"+ldapdirtest.Base, "ou=groups,"+ldapdirtest.Base, []string{"objectClass", "device"}
	web := groupDN("web")
	host := func(dn string, memberOfs ...string) {
		attributes := slices.Clone(device)
		for _, group := range memberOfs {
			attributes = append(attributes, "memberOf", group)
		}
		l.entry(dn, attributes...)
	}
	person("twin1", []string{web}, "uid", "twin")
	person("twin2", nil, "uid", "twin")
	person("several", []string{web}, "uid", "first", "uid", "second", "uid", "Third")
	person("half", nil, "uid", "half", "uid", "taken")
	person("taken", []string{web}) // another has this name too
	person("gone", []string{groupDN("gone"), "cn=web", "ou=groups," + ldapdirtest.Base, ldapdirtest.Base, "cn=web,ou=people," + ldapdirtest.Base, "cn=web,cn=web," + groups})
	person("outside", []string{"cn=outside," + ldapdirtest.Base, "cn=outside,ou=services," + ldapdirtest.Base})
	person("deeper", []string{"cn=deep,ou=below," + groups})
	person("spelled", []string{`CN=Web\20 , OU=groups,` + ldapdirtest.Base})
	person("nextto", []string{groupDN("webs"), groupDN("we"), `cn=web\00,` + groups, `cn=we\, b,` + groups, "cn=web+ou=x," + groups})
	weird := []string{`cn=a\, b`, `cn=\"q\"`, `cn=back\\slash`, `cn=\#x`, `cn=\ lead`, `cn=plus\+x+description=p\=q`, `cn=名前`, `cn=x\00y`}
	for i, rdn := range weird {
		person("weird"+string(rune('0'+i)), []string{rdn + "," + groups})
		l.entry(rdn+",ou=groups", "objectClass", "groupOfNames", "member", people)
		host("cn=hw"+string(rune('0'+i))+",ou=hosts", rdn+","+groups)
	}
	l.entry("cn=webs,ou=groups", "objectClass", "groupOfNames", "member", people)
	l.entry("cn=we,ou=groups", "objectClass", "groupOfNames", "member", people)
	l.entry("cn=outside", "objectClass", "groupOfNames", "member", people)
	l.entry("ou=below,ou=groups", "objectClass", "organizationalUnit")
	l.entry("cn=deep,ou=below,ou=groups", "objectClass", "groupOfNames", "member", people)
	l.entry("cn=outside,ou=services", "objectClass", "groupOfNames", "member", people)
	host("cn=hout,ou=hosts", "cn=outside,"+ldapdirtest.Base, "cn=outside,ou=services,"+ldapdirtest.Base, "cn=deep,ou=below,"+groups, groupDN("gone"))
	host("cn=misplaced,ou=people", web)
	host("cn=misplaced", web)
	l.entry("cn=second+serialNumber=1,ou=hosts", append(device, "memberOf", web, "cn", "alias")...)
	l.entry("cn=user-as-host,ou=hosts", "objectClass", "inetOrgPerson", "objectClass", "ldapPublicKey", "sn", "x", "uid", "user-as-host", "memberOf", web, "sshPublicKey", newKey(t))
	l.entry("ou=below,ou=people", "objectClass", "organizationalUnit")
	l.entry("cn=low,ou=below,ou=people", "objectClass", "inetOrgPerson", "objectClass", "ldapPublicKey", "sn", "x", "uid", "low", "memberOf", web, "sshPublicKey", newKey(t))
	l.entry("cn=noperson,ou=people", "objectClass", "device", "objectClass", "ldapPublicKey", "uid", "noperson", "memberOf", web, "sshPublicKey", newKey(t))
	l.entry("cn=web1,ou=people", "objectClass", "device", "objectClass", "ldapPublicKey", "uid", "hostlike", "memberOf", web, "sshPublicKey", newKey(t))
	a := newStrangeAPI(t, l)
	for _, c := range []struct {
		user, host string
		keyOf      string // "" for none
	}{
		{"first", "web1", "several"}, {"second", "web1", "several"}, {"Third", "web1", "several"}, {"third", "web1", ""}, {"several", "web1", ""}, // logins are uids
		{"gone", "web1", ""}, {"outside", "web1", ""}, {"outside", "hout", ""}, {"gone", "hout", ""}, {"deeper", "hout", ""}, {"deeper", "web1", ""}, {"nextto", "web1", ""},
		{"spelled", "web1", "spelled"}, {"spelled", "WEB1", "spelled"}, {"spelled", "web1 ", ""}, {"spelled", "ｗｅｂ１", ""},
		{"bob", "misplaced", ""}, {"bob", "alias", ""}, {"bob", "user-as-host", ""}, {"user-as-host", "web1", ""}, {"user-as-host", "user-as-host", ""},
		{"low", "web1", ""}, {"noperson", "web1", ""}, {"noperson", "noperson", ""}, {"hostlike", "web1", ""}, {"web1", "web1", ""},
		{"weird0", "hw0", "weird0"}, {"weird1", "hw1", "weird1"}, {"weird2", "hw2", "weird2"}, {"weird3", "hw3", "weird3"}, {"weird4", "hw4", "weird4"},
		{"weird5", "hw5", "weird5"}, {"weird6", "hw6", "weird6"}, {"weird7", "hw7", "weird7"}, {"weird0", "hw1", ""}, {"weird5", "hw0", ""}, {"weird0", "web1", ""},
	} {
		x := a.authkeys(c.user, c.host)
		if c.keyOf == "" {
			x.gives()
			continue
		}
		x.gives(keys[c.keyOf])
		if strings.HasPrefix(c.user, "weird") {
			for path, one := range map[string]string{"/hosts/" + c.host + "/users": "user", "/users/" + c.user + "/hosts": "host"} {
				y := a.do("GET", path, nil).want(200)
				if all := y.array(); len(all) != 1 || all[0][one] != map[string]string{"user": c.user, "host": c.host}[one] {
					y.fail("want one %s", one)
				}
			}
		}
	}
	a.authkeys("twin", "web1").refused(directory.Ambiguous)
	a.authkeys("taken", "web1").refused(directory.Ambiguous)
	a.authkeys("half", "web1").gives()
}

// TestEntriesOfAllKindsInOnePlace lie anywhere below the suffix, and are found by the same searches.
func TestEntriesOfAllKindsInOnePlace(t *testing.T) {
	l := &ldif{}
	key := newKey(t)
	site := "ou=site," + ldapdirtest.Base
	g := "cn=shared," + site
	l.entry("ou=site", "objectClass", "organizationalUnit")
	l.entry("cn=shared,ou=site", "objectClass", "groupOfNames", "member", "cn=carol,"+site)
	l.entry("cn=carol,ou=site", "objectClass", "inetOrgPerson", "objectClass", "ldapPublicKey", "sn", "x", "uid", "carol", "memberOf", g, "sshPublicKey", key)
	l.entry("cn=vm1,ou=site", "objectClass", "device", "memberOf", g)
	l.entry("cn=lost,ou=site", "objectClass", "device")
	l.entry("cn=vm2,ou=site", "objectClass", "inetOrgPerson", "sn", "x", "uid", "vm2", "memberOf", g)                                                           // no host
	l.entry("cn=dave,ou=site", "objectClass", "device", "objectClass", "ldapPublicKey", "uid", "dave", "memberOf", g, "sshPublicKey", newKey(t))                // no user
	l.entry("cn=eve,ou=site", "objectClass", "inetOrgPerson", "objectClass", "ldapPublicKey", "sn", "x", "uid", "eve", "uid", "vm1", "sshPublicKey", newKey(t)) // named as a host is
	l.entry("cn=bob,ou=site", "objectClass", "inetOrgPerson", "sn", "x", "uid", "bob")                                                                          // another bob
	a := newStrangeAPI(t, l, func(s *settings) {
		for i := range s.ldap.Mappings {
			s.ldap.Mappings[i].Container, s.ldap.Mappings[i].Deep = ldapdirtest.Base, true
		}
	})
	vm1, web1 := a.hostToken("vm1"), a.hostToken("web1")
	a.authkeys("carol", "vm1", vm1...).gives(key)
	a.authkeys("carol", "VM1", vm1...).gives(key)
	a.authkeys("carol", "web1", web1...).gives()
	a.authkeys("carol", "web1", vm1...).refused(directory.Forbidden)
	a.authkeys("carol", "lost").gives()
	a.authkeys("alice", "web1", web1...).gives()
	a.authkeys("bob", "web1", web1...).refused(directory.Ambiguous)
	for _, user := range []string{"carol", "dave", "vm1", "vm2", "eve"} {
		for _, host := range []string{"vm2", "carol", "eve", "shared"} {
			a.authkeys(user, host).gives()
		}
	}
	for _, user := range []string{"dave", "vm1", "vm2", "shared", "site"} {
		a.authkeys(user, "vm1").gives()
	}
	for range 3 { // the second and the third search see the token as the first does
		a.authkeys("carol", "vm1", vm1...).gives(key)
	}
	a.do("DELETE", "/hosts/vm1/token", nil).want(204)
	a.authkeys("carol", "vm1", vm1...).refused(directory.InvalidToken)
}

// TestAUserWhomTheFilterLeavesOutIsNotFoundAsAHost: the two are found by one search, each by a filter of its own.
func TestAUserWhomTheFilterLeavesOutIsNotFoundAsAHost(t *testing.T) {
	l := &ldif{}
	web := groupDN("web")
	l.person("web1", []string{web}, "employeeType", "left", "sshPublicKey", newKey(t))
	l.entry("cn=out,ou=hosts", "objectClass", "device", "objectClass", "ldapPublicKey", "description", "out", "uid", "bob", "memberOf", web)
	a := newStrangeAPI(t, l, func(s *settings) {
		s.ldap.Mappings[0].Filter = "(&(objectClass=*)(!(employeeType=left)))"
		s.ldap.Mappings[2].Filter = "(&(objectClass=*)(!(description=out)))"
	})
	a.do("GET", "/users/web1", nil).refused(directory.NotFound)
	a.do("GET", "/hosts/out", nil).refused(directory.NotFound)
	a.authkeys("web1", "web1").gives()
	a.authkeys("bob", "out").gives()
	a.authkeys("bob", "web1").gives(bobsLine)
}

// TestNamesThatTheDirectoryTakesForOneAreOneHost but no two logins.
func TestNamesThatTheDirectoryTakesForOneAreOneHost(t *testing.T) {
	l := &ldif{}
	l.entry("cn=Big.Example.org,ou=hosts", "objectClass", "device", "memberOf", groupDN("web"))
	l.person("Case", []string{groupDN("web")}, "sshPublicKey", newKey(t))
	a := newStrangeAPI(t, l)
	token := a.hostToken("Big.Example.org")
	for _, host := range []string{"Big.Example.org", "big.example.org", "BIG.EXAMPLE.ORG"} {
		a.authkeys("bob", host, token...).gives(bobsLine)
		a.authkeys("case", host, token...).gives()
		if got := a.authkeys("Case", host, token...).want(200).text(); !strings.HasPrefix(got, "ssh-ed25519 ") {
			t.Errorf("on %s: %q", host, got)
		}
	}
	for _, host := range []string{"big.example.org ", "big.example.org.", "big.example.orɡ", "big"} {
		a.authkeys("bob", host, token...).refused(directory.Forbidden)
	}
}

// FuzzAuthorizedKeys gives keys to those who are named, letter by letter, on hosts that they share a group with.
func FuzzAuthorizedKeys(f *testing.F) {
	l := &ldif{}
	l.person("other", []string{groupDN("web")}, "uid", "Bob", "sshPublicKey", newKey(f))
	l.person("wide", []string{groupDN("web")}, "uid", "ｗｉｄｅ", "uid", "sp ace", "sshPublicKey", newKey(f))
	// The overlay that keeps uids unique knows no case: slapadd has let Bob in beside bob.
	a := newStrangeAPI(f, l)
	token := a.hostToken("web1")
	prefix, id, secret := parts(strings.TrimPrefix(token[1], "Bearer "))
	for _, seed := range [][4]string{
		{"bob", "web1", "", "id.secret"}, {"Bob", "WEB1", "", "id.secret"}, {"alice", "web1", "SHA256:", "id.secret"}, {"bob", "web2", "", "id.secret"},
		{"*", "*", "*", "*.*"}, {"a*)(uid=*", "web1)(cn=*", "SHA256:)(", "id.secret"}, {"bob\x00", "web1\x00", "\xff", "id"}, {" bob", "ｗｅｂ１", "", "id."}, {`\62ob`, "", "", "."},
		{"ｗｉｄｅ", "web1", "", "id.secret"}, {"sp  ace", "web1", "", "id.secret"}, {"bob", "web1", "", "id.secretx"}, {"bob", "web1", "", "ID.secret"},
	} {
		f.Add(seed[0], seed[1], seed[2], seed[3])
	}
	allowed := []string{"bob", "Bob", "ｗｉｄｅ", "sp ace"}
	f.Fuzz(func(t *testing.T, user, host, fingerprint, tail string) {
		a := *a
		a.t = t
		bearer := prefix + "." + strings.NewReplacer("id", id, "secret", secret).Replace(strings.Map(func(r rune) rune {
			if r < ' ' || r == 0x7f { // no header can hold it
				return -1
			}
			return r
		}, tail))
		x := a.do("GET", "/authkeys?"+url.Values{"username": {user}, "host": {host}, "fingerprint": {fingerprint}}.Encode(), nil, "Authorization", "Bearer "+bearer)
		switch {
		case x.Status >= 500 || x.Status == 409:
			x.fail("that is no answer")
		case x.Status != 200 && strings.Contains(x.text(), "ssh-ed25519 "):
			x.fail("a refusal holds a key")
		case x.Status == 200 && strings.TrimSpace(bearer) != prefix+"."+id+"."+secret:
			x.fail("this is not the token")
		case x.Status == 200 && !strings.EqualFold(host, "web1"):
			x.fail("this is not the host")
		case x.Status == 200 && x.text() != "" && (!slices.Contains(allowed, user) || fingerprint != "" && fingerprintOf(t, strings.TrimSpace(x.text())) != fingerprint):
			x.fail("this key is not to be given")
		case x.Status == 200 && x.text() == "" && slices.Contains(allowed, user) && fingerprint == "":
			x.fail("a key is missing")
		}
	})
}
