package ldapdir_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

func personDN(name string) string { return "cn=" + name + ",ou=people," + ldapdirtest.Base }

// actingDirectory is one whose server lets the admin do everything in the containers, alice change her mobile number
// and add members to devs, and others nothing.
func actingDirectory(t *testing.T, change ...func(*ldapdir.Options)) (*ldapdir.Directory, *slapd.Server) {
	t.Helper()
	seed, err := openldap.Sample(openldap.Values{Suffix: openldap.DefaultSuffix})
	if err != nil {
		t.Fatal(err)
	}
	server := ldapdirtest.Start(t, slapd.Options{Seed: seed, Config: func(conf string) string {
		return strings.Replace(conf, "# Passwords, old ones included", `
access to dn.base="cn=devs,ou=groups,`+ldapdirtest.Base+`" attrs=member
	by dn.exact="`+personDN("alice")+`" write
	by * break
access to dn.children="ou=people,`+ldapdirtest.Base+`" attrs=mobile
	by self write
	by * break
access to *
	by dn.exact="`+personDN("admin")+`" write
	by dn.exact="`+personDN("alice")+`" read
	by * break
# Passwords, old ones included`, 1)
	}})
	o := ldapdirtest.Options(server)
	o.ActAsCaller = true
	for _, f := range change {
		f(&o)
	}
	return ldapdirtest.Open(t, o), server
}

func as(t *testing.T, name string) context.Context {
	t.Helper()
	return directory.WithCaller(t.Context(), directory.Caller{Login: name, Name: name, DN: personDN(name)})
}

func patch(field string, values ...string) directory.Change {
	return func(directory.Entry) (directory.Patch, error) {
		return directory.Patch{Set: map[string][]string{field: values}}, nil
	}
}

// modifier returns who the server says changed an entry last.
func modifier(t *testing.T, server *slapd.Server, dn string) string {
	t.Helper()
	return operational(t, server, dn, "modifiersName")
}

// operational returns the value of an operational attribute as the service sees it.
func operational(t *testing.T, server *slapd.Server, dn, attribute string) string {
	t.Helper()
	found, err := ldapdirtest.Bind(t, server).Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, 0, 0, 0, false,
		"(objectClass=*)", []string{attribute}, nil))
	if err != nil {
		t.Fatal(err)
	}
	return found.Entries[0].GetAttributeValue(attribute)
}

func TestTheServerDecidesWhatACallerMayDo(t *testing.T) {
	d, server := actingDirectory(t)
	alice := as(t, "alice")
	if _, err := d.Update(alice, ldapdirtest.Users, "alice", directory.Condition{}, patch("mobile", "+1 555 0100")); err != nil {
		t.Errorf("alice's own mobile: %v", err)
	}
	if got := modifier(t, server, personDN("alice")); got != personDN("alice") {
		t.Errorf("the server thinks that %s changed alice", got)
	}
	if err := d.AddValue(alice, ldapdirtest.Groups, "devs", directory.FieldMembers, personDN("bob"), directory.Condition{}); err != nil {
		t.Errorf("alice adds a member to devs: %v", err)
	}
	for _, refused := range []struct {
		name string
		do   func(ctx context.Context) error
	}{
		{"a change", func(ctx context.Context) error {
			_, err := d.Update(ctx, ldapdirtest.Users, "alice", directory.Condition{}, patch("title", "Chief"))
			return err
		}},
		{"a creation", func(ctx context.Context) error {
			_, err := d.Create(ctx, ldapdirtest.Hosts, directory.Patch{Set: map[string][]string{"cn": {"new"}}})
			return err
		}},
		{"a new member", func(ctx context.Context) error {
			return d.AddValue(ctx, ldapdirtest.Groups, "ops", directory.FieldMembers, personDN("alice"), directory.Condition{})
		}},
		{"a member less", func(ctx context.Context) error {
			return d.RemoveValue(ctx, ldapdirtest.Groups, "admins", directory.FieldMembers, personDN("admin"), directory.Condition{})
		}},
		{"another password", func(ctx context.Context) error {
			_, err := d.ChangePassword(ctx, ldapdirtest.Users, "bob", directory.PasswordChange{New: "another password"})
			return err
		}},
		{"a deletion", func(ctx context.Context) error {
			return d.Delete(ctx, ldapdirtest.Hosts, "spare", directory.Condition{})
		}},
	} {
		if err := refused.do(alice); !directory.Is(err, directory.Forbidden) {
			t.Errorf("%s by alice: %v", refused.name, err)
		}
	}
}

func TestAnAdminDoesEverythingAsItself(t *testing.T) {
	d, server := actingDirectory(t)
	admin := as(t, "admin")
	if _, err := d.Create(admin, ldapdirtest.Users, directory.Patch{Set: map[string][]string{"cn": {"new"}, "uid": {"new"}, "sn": {"x"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Update(admin, ldapdirtest.Users, "new", directory.Condition{}, patch("accountLocked", "true")); err != nil {
		t.Error(err)
	}
	if got := modifier(t, server, personDN("new")); got != personDN("admin") {
		t.Errorf("the server thinks that %s changed the user", got)
	}
	if got := operational(t, server, personDN("new"), "creatorsName"); got != personDN("admin") {
		t.Errorf("the server thinks that %s created the user", got)
	}
	if _, err := d.ChangePassword(admin, ldapdirtest.Users, "new", directory.PasswordChange{New: "a new password"}); err != nil {
		t.Error(err)
	}
	if err := d.AddValue(admin, ldapdirtest.Groups, "devs", directory.FieldMembers, personDN("new"), directory.Condition{}); err != nil {
		t.Error(err)
	}
	// What the post-read of a change shows is what is read: memberOf too, which the server keeps itself.
	changed, err := d.Update(admin, ldapdirtest.Users, "new", directory.Condition{}, patch("title", "x"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Get(admin, ldapdirtest.Users, "new")
	if err != nil || !slices.Equal(got.Values(directory.FieldMemberOfs), []string{"cn=devs,ou=groups," + ldapdirtest.Base}) ||
		!slices.Equal(changed.Values(directory.FieldMemberOfs), got.Values(directory.FieldMemberOfs)) || changed.Version != got.Version {
		t.Errorf("changed to %v of version %v, read %v of version %v, %v",
			changed.Values(directory.FieldMemberOfs), changed.Version, got.Values(directory.FieldMemberOfs), got.Version, err)
	}
	if err := d.RemoveValue(admin, ldapdirtest.Groups, "devs", directory.FieldMembers, personDN("bob"), directory.Condition{}); err != nil {
		t.Errorf("who is no member is removed: %v", err)
	}
	if err := d.Delete(admin, ldapdirtest.Users, "new", directory.Condition{}); err != nil {
		t.Error(err)
	}
	devs, err := d.Get(admin, ldapdirtest.Groups, "devs")
	if err != nil || slices.Contains(devs.Values(directory.FieldMembers), personDN("new")) {
		t.Errorf("the membership is left: %v", err)
	}
}

// TestWhoMaySeeNothingSeesNothing: bob may read but himself.
func TestWhoMaySeeNothingSeesNothing(t *testing.T) {
	d, _ := actingDirectory(t)
	bob := as(t, "bob")
	if _, err := d.Get(bob, ldapdirtest.Users, "bob"); err != nil {
		t.Error(err)
	}
	if _, err := d.Get(bob, ldapdirtest.Users, "alice"); !directory.Is(err, directory.NotFound) {
		t.Errorf("bob sees alice: %v", err)
	}
	if _, err := d.Resolve(bob, personDN("alice")); !directory.Is(err, directory.NotFound) {
		t.Errorf("bob resolves alice: %v", err)
	}
	for entry, err := range directory.Each(bob, d, ldapdirtest.Users, directory.Query{Limit: 7}) {
		if err == nil && entry.Name() != "bob" {
			t.Errorf("bob lists %s", entry.Name())
		}
	}
	if _, err := d.Get(directory.AsService(bob), ldapdirtest.Users, "alice"); err != nil {
		t.Errorf("the service does not see alice: %v", err)
	}
	account, err := d.Account(bob, "uid", "alice")
	if err != nil || account.Name != "alice" {
		t.Errorf("logins are looked up as bob: %v", err)
	}
	groups, err := d.Groups(bob, personDN("alice"))
	if err != nil || len(groups) == 0 {
		t.Errorf("groups are looked up as bob: %v", err)
	}
}

// TestTheServiceActsAsPeopleOnly: not as itself, as the root account, or as nobody.
func TestTheServiceActsAsPeopleOnly(t *testing.T) {
	d, server := actingDirectory(t)
	for _, dn := range []string{"cn=internal," + ldapdirtest.Base, "cn=placeholder,ou=services," + ldapdirtest.Base, "cn=devs,ou=groups," + ldapdirtest.Base} {
		ctx := directory.WithCaller(t.Context(), directory.Caller{DN: dn})
		if _, err := d.Update(ctx, ldapdirtest.Users, "alice", directory.Condition{}, patch("title", "x")); !directory.Is(err, directory.Forbidden) {
			t.Errorf("as %q: %v", dn, err)
		}
	}
	anybody := directory.WithCaller(t.Context(), directory.Caller{})
	if _, err := d.Get(anybody, ldapdirtest.Users, "alice"); err == nil {
		t.Error("a caller without an entry sees alice")
	}
	if got := modifier(t, server, personDN("alice")); strings.HasPrefix(got, "cn=rollcall") {
		t.Errorf("%s changed alice", got)
	}
}

// TestSessionsAreTheServicesWhoeverAsks: bob may neither see nor write them.
func TestSessionsAreTheServicesWhoeverAsks(t *testing.T) {
	d, _ := actingDirectory(t)
	s, bob := d.Sessions("ou=sessions,"+ldapdirtest.Base), as(t, "bob")
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"ready", func() error { return s.Ready(bob) }},
		{"begin", func() error { return s.Begin(bob, directory.Session{ID: "a", UserID: "u", Token: "first"}) }},
		{"session", func() error { _, err := s.Session(bob, "a"); return err }},
		{"rotate", func() error { return s.Rotate(bob, "a", "first", "second") }},
		{"end", func() error { return s.End(bob, "a") }},
		{"begin again", func() error { return s.Begin(bob, directory.Session{ID: "a", UserID: "u", Token: "first"}) }},
		{"sweep", func() error { return s.Sweep(bob, time.Now().Add(time.Minute)) }},
	} {
		if err := step.do(); err != nil {
			t.Errorf("%s: %v", step.name, err)
		}
	}
	if _, err := s.Session(bob, "a"); !directory.Is(err, directory.NotFound) {
		t.Errorf("it was not swept: %v", err)
	}
}

// TestWhatTheServiceMayNotDoIsOurFault: the server's no to the service is none to whoever asked.
func TestWhatTheServiceMayNotDoIsOurFault(t *testing.T) {
	d, _ := actingDirectory(t, func(o *ldapdir.Options) { o.Mappings[2].Container = "ou=policies," + ldapdirtest.Base })
	spare := directory.Patch{Set: map[string][]string{"cn": {"new"}}}
	if _, err := d.Create(t.Context(), ldapdirtest.Hosts, spare); !directory.Is(err, directory.Internal) {
		t.Errorf("the service: %v", err)
	}
	if _, err := d.Create(as(t, "bob"), ldapdirtest.Hosts, spare); !directory.Is(err, directory.Forbidden) {
		t.Errorf("bob: %v", err)
	}
}

// TestAServerThatCannotActAsCallersIsToldByName: nothing is done as the service instead.
func TestAServerThatCannotActAsCallersIsToldByName(t *testing.T) {
	o := ldapdirtest.Options(ldapdirtest.Start(t, slapd.Options{Config: without("supportedControl")}))
	o.ActAsCaller = true
	d := ldapdirtest.Open(t, o)
	createUser(t, d, "alice")
	for name, act := range portOperations(d, "alice") {
		err := act(as(t, "alice"))
		if refused, ok := errors.AsType[*directory.Error](err); !ok || refused.Code != directory.UnsupportedByDirectory ||
			!strings.Contains(refused.Detail, "ldap.act_as_caller") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := d.Get(t.Context(), ldapdirtest.Users, "alice"); err != nil {
		t.Errorf("the service: %v", err)
	}
}

// TestCallersListMoreThanTheServersLimit: its limits are of whom the service acts as.
func TestCallersListMoreThanTheServersLimit(t *testing.T) {
	const people = 600
	var seed strings.Builder
	for i := range people {
		fmt.Fprintf(&seed, "dn: cn=u%d,ou=people,%s\nobjectClass: inetOrgPerson\ncn: u%d\nsn: x\n\n", i, ldapdirtest.Base, i)
	}
	o := ldapdirtest.Options(ldapdirtest.Start(t, slapd.Options{Seed: seed.String(), Config: func(conf string) string {
		return strings.Replace(conf, "# Passwords, old ones included", `
access to *
	by dn.exact="`+personDN("u1")+`" read
	by * break
# Passwords, old ones included`, 1)
	}}))
	o.ActAsCaller = true
	d, listed := ldapdirtest.Open(t, o), 0
	for _, err := range directory.Each(as(t, "u1"), d, ldapdirtest.Users, directory.Query{Limit: 7}) {
		if err != nil {
			t.Fatalf("after %d: %v", listed, err)
		}
		listed++
	}
	if listed != people {
		t.Errorf("%d are listed", listed)
	}
}

// TestANameIsTakenForThoseWhoMayNotSeeIt: in a deep tree an entry elsewhere may have it.
func TestANameIsTakenForThoseWhoMayNotSeeIt(t *testing.T) {
	seed := "dn: ou=far,ou=hosts," + ldapdirtest.Base + "\nobjectClass: organizationalUnit\nou: far\n\n" +
		"dn: cn=web,ou=far,ou=hosts," + ldapdirtest.Base + "\nobjectClass: device\ncn: web\n"
	o := ldapdirtest.Options(ldapdirtest.Start(t, slapd.Options{Seed: seed, Config: func(conf string) string {
		return strings.Replace(conf, "# Passwords, old ones included", `
access to dn.subtree="ou=far,ou=hosts,`+ldapdirtest.Base+`"
	by dn.exact="`+personDN("alice")+`" none
	by * break
access to dn.subtree="ou=hosts,`+ldapdirtest.Base+`"
	by dn.exact="`+personDN("alice")+`" write
	by * break
# Passwords, old ones included`, 1)
	}}))
	o.ActAsCaller, o.Mappings[2].Deep = true, true
	d := ldapdirtest.Open(t, o)
	createUser(t, d, "alice")
	if _, err := d.Get(as(t, "alice"), ldapdirtest.Hosts, "web"); !directory.Is(err, directory.NotFound) {
		t.Errorf("alice sees it: %v", err)
	}
	create := func(name string) error {
		_, err := d.Create(as(t, "alice"), ldapdirtest.Hosts, directory.Patch{Set: map[string][]string{"cn": {name}}})
		return err
	}
	if err := create("web"); !directory.Is(err, directory.AlreadyExists) {
		t.Errorf("alice makes another: %v", err)
	}
	if err := create("web2"); err != nil {
		t.Error(err)
	}
}

// portOperations are what the port can be asked, each by its method's name, of a directory with a user of a name.
func portOperations(d *ldapdir.Directory, name string) map[string]func(context.Context) error {
	one := func(_ directory.Entry, err error) error { return err }
	ops := map[string]func(context.Context) error{
		"Get":     func(ctx context.Context) error { return one(d.Get(ctx, ldapdirtest.Users, name)) },
		"Resolve": func(ctx context.Context) error { return one(d.Resolve(ctx, personDN(name))) },
		"Page": func(ctx context.Context) error {
			for _, err := range directory.Each(ctx, d, ldapdirtest.Users, directory.Query{Limit: 7}) {
				if err != nil {
					return err
				}
			}
			return nil
		},
		"Count": func(ctx context.Context) error {
			_, err := d.Count(ctx, ldapdirtest.Users, directory.Filter{})
			return err
		},
		"Create": func(ctx context.Context) error {
			return one(d.Create(ctx, ldapdirtest.Users, directory.Patch{Set: map[string][]string{
				"cn": {"new"}, "sn": {"x"}, "userPassword": {"a good password"}}}))
		},
		"Update": func(ctx context.Context) error {
			return one(d.Update(ctx, ldapdirtest.Users, name, directory.Condition{}, patch("title", "Chief")))
		},
		"AddValue": func(ctx context.Context) error {
			return d.AddValue(ctx, ldapdirtest.Groups, "contractors", directory.FieldMembers, personDN(name), directory.Condition{})
		},
		"RemoveValue": func(ctx context.Context) error {
			return d.RemoveValue(ctx, ldapdirtest.Groups, "contractors", directory.FieldMembers, personDN(name), directory.Condition{})
		},
		"ChangePassword": func(ctx context.Context) error {
			return one(d.ChangePassword(ctx, ldapdirtest.Users, name, directory.PasswordChange{New: "another password", MustChange: true}))
		},
		"SetToken": func(ctx context.Context) error { return one(d.SetToken(ctx, ldapdirtest.Hosts, "web1", "x")) },
		"Rename": func(ctx context.Context) error {
			return one(d.Rename(ctx, ldapdirtest.Users, "new", "newer", directory.Condition{}))
		},
		"Delete": func(ctx context.Context) error { return d.Delete(ctx, ldapdirtest.Users, name, directory.Condition{}) },
	}
	return ops
}

// asService are the requests that an operation makes as the service whoever asks: to keep references and names whole.
var asService = map[string][]string{
	"Create": {"search " + ldapdirtest.Base},
	"Rename": {"search " + ldapdirtest.Base, "search " + personDN("newer")},
	"Delete": {"search " + ldapdirtest.Base},
	// whether the member is there still
	"AddValue": {"search " + personDN("nguyen")},
	// what is kept of a token is nobody's to write
	"SetToken": {"modify cn=host-UUID,ou=sessions," + ldapdirtest.Base, "add cn=host-UUID,ou=sessions," + ldapdirtest.Base},
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// TestEveryOperationOfThePortIsDoneAsTheCaller watches what goes over the wire.
func TestEveryOperationOfThePortIsDoneAsTheCaller(t *testing.T) {
	for _, hashes := range []bool{true, false} {
		t.Run(fmt.Sprintf("hashes_passwords=%t", hashes), func(t *testing.T) {
			watched := &watchedServer{}
			d, _ := actingDirectory(t, func(o *ldapdir.Options) {
				o.URL, o.HashesPasswords, o.PageSize, o.Connections = watched.before(t, o.URL), hashes, 7, 1
			})
			for _, warm := range []func() error{func() error { return d.Ready(t.Context()) }, func() error { // both lanes
				for _, err := range directory.Each(t.Context(), d, ldapdirtest.Hosts, directory.Query{Limit: 7}) {
					if err != nil {
						return err
					}
				}
				return nil
			}} {
				if err := warm(); err != nil {
					t.Fatal(err)
				}
			}
			ops := portOperations(d, "nguyen") // nobody refers to them
			port := reflect.TypeFor[directory.Directory]()
			if port.NumMethod() != len(ops) {
				t.Errorf("the port has %d methods, and %d are tested", port.NumMethod(), len(ops))
			}
			for method := range port.Methods() {
				if ops[method.Name] == nil {
					t.Errorf("%s is not tested", method.Name)
				}
			}
			for _, name := range []string{"Get", "Resolve", "Page", "Count", "Create", "Update", "AddValue", "RemoveValue", "ChangePassword", "SetToken", "Rename", "Delete"} {
				watched.take()
				if err := ops[name](as(t, "admin")); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				requests, asCaller := watched.take(), 0
				for _, r := range requests {
					switch {
					case r.as == "dn:"+personDN("admin"):
						asCaller++
					case r.as != "" || !slices.Contains(asService[name], uuid.ReplaceAllString(r.what, "UUID")):
						t.Errorf("%s makes the request %q as %q", name, r.what, cmp.Or(r.as, "the service"))
					}
				}
				if asCaller == 0 {
					t.Errorf("%s makes no request as the caller: %v", name, requests)
				}
				if name == "List" && asCaller < 3 {
					t.Errorf("%d pages", asCaller)
				}
			}
		})
	}
}

// watchedServer stands before a server and reads every request to it.
type watchedServer struct {
	mutex    sync.Mutex
	requests []watchedRequest
}

// watchedRequest is one request: what it does, and whom its control names.
type watchedRequest struct{ what, as string }

// before returns the URL at which it stands before a server's.
func (w *watchedServer) before(t *testing.T, target string) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); running.Wait() })
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", strings.TrimPrefix(target, "ldap://"))
			if err != nil {
				_ = client.Close()
				continue
			}
			running.Go(func() { _, _ = io.Copy(client, server); _ = client.Close() })
			running.Go(func() { w.watch(client, server) })
		}
	})
	return "ldap://" + listener.Addr().String()
}

func (w *watchedServer) watch(client, server net.Conn) {
	defer server.Close()
	for {
		var raw bytes.Buffer
		packet, err := ber.ReadPacket(io.TeeReader(client, &raw))
		if err != nil {
			return
		}
		w.record(packet)
		if _, err := server.Write(raw.Bytes()); err != nil {
			return
		}
	}
}

func (w *watchedServer) record(packet *ber.Packet) {
	op := packet.Children[1]
	what := map[ber.Tag]string{
		ldap.ApplicationSearchRequest: "search", ldap.ApplicationAddRequest: "add", ldap.ApplicationModifyRequest: "modify",
		ldap.ApplicationDelRequest: "delete", ldap.ApplicationExtendedRequest: "extended",
	}[op.Tag]
	dn := op.Data.String()
	if len(op.Children) > 0 {
		dn = op.Children[0].Data.String()
	}
	r := watchedRequest{what: cmp.Or(what, fmt.Sprint(op.Tag)) + " " + dn}
	if len(packet.Children) > 2 {
		for _, c := range packet.Children[2].Children {
			if c.Children[0].Data.String() == "2.16.840.1.113730.3.4.18" {
				r.as = c.Children[len(c.Children)-1].Data.String()
				if critical := len(c.Children) == 3 && bytes.Equal(c.Children[1].Data.Bytes(), []byte{0xff}); !critical {
					r.as = "not critical: " + r.as
				}
			}
		}
	}
	w.mutex.Lock()
	defer w.mutex.Unlock()
	w.requests = append(w.requests, r)
}

// take returns the requests since the last time.
func (w *watchedServer) take() []watchedRequest {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	requests := w.requests
	w.requests = nil
	return requests
}
