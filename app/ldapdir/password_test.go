package ldapdir_test

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
	"rollcall/app/directory/directorytest"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

const (
	opExtended, opExtendedDone = 0x77, 0x78

	firstPassword  = "the first password"
	secondPassword = "the second password"
	thirdPassword  = "the third password"
)

// asGiven is a slapd.conf of a server that stores a userPassword as it is given.
func asGiven(conf string) string { return strings.Replace(conf, "\nppolicy_hash_cleartext", "", 1) }

// withRoot gives the root account a password, so that it can read what is stored.
func withRoot(conf string) string {
	return strings.Replace(conf, "\n\nindex ", "\nrootpw root\n\nindex ", 1)
}

// without hides an attribute of the root DSE, as on a server that has nothing to list there.
func without(attribute string) func(string) string {
	return func(conf string) string {
		const first = "\naccess to dn.base=\"\" "
		return strings.Replace(conf, first, first+"attrs="+attribute+" by * none"+first, 1)
	}
}

func onNonHashing(server *slapd.Server) ldapdir.Options {
	o := ldapdirtest.Options(server)
	o.HashesPasswords = false
	return o
}

func user(name string, more ...string) directory.Patch {
	set := map[string][]string{"cn": {name}, "uid": {name}, "sn": {"Parker"}}
	for i := 0; i+1 < len(more); i += 2 {
		set[more[i]] = []string{more[i+1]}
	}
	return directory.Patch{Set: set}
}

func createUser(t *testing.T, d directory.Directory, name string, more ...string) directory.Entry {
	t.Helper()
	entry, err := d.Create(t.Context(), ldapdirtest.Users, user(name, more...))
	if err != nil {
		t.Fatalf("create %s: %v", name, err)
	}
	return entry
}

func changePassword(t *testing.T, d directory.Directory, name string, change directory.PasswordChange) error {
	t.Helper()
	_, err := d.ChangePassword(t.Context(), ldapdirtest.Users, name, change)
	return err
}

func TestPasswordsOfAServerThatDoesNotHashThem(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{Config: asGiven})
	directorytest.RunPasswords(t, func(t *testing.T) directorytest.Fixture {
		d := ldapdirtest.Open(t, onNonHashing(server))
		for _, name := range []string{"alice", "bob", "locked", "without"} { // the rules share a server
			if err := d.Delete(t.Context(), ldapdirtest.Users, name, directory.Condition{}); err != nil && !directory.Is(err, directory.NotFound) {
				t.Fatal(err)
			}
		}
		return directorytest.Fixture{Directory: d, Accounts: d, Users: ldapdirtest.Users, Groups: ldapdirtest.Groups, Hosts: ldapdirtest.Hosts}
	})
}

func TestNothingButAStrongHashIsStored(t *testing.T) {
	for name, how := range map[string]struct {
		config  func(string) string
		options func(*slapd.Server) ldapdir.Options
	}{
		"hashing":     {func(conf string) string { return conf }, ldapdirtest.Options},
		"not hashing": {asGiven, onNonHashing},
	} {
		t.Run(name, func(t *testing.T) {
			server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string { return withRoot(how.config(conf)) }})
			d := directory.NewChecked(ldapdirtest.Open(t, how.options(server)))
			root := ldapdirtest.Bind(t, server)
			if err := root.Bind("cn=internal,"+server.Suffix(), "root"); err != nil {
				t.Fatal(err)
			}
			// slapd stores a byte or two beyond the hash's end.
			argon2 := regexp.MustCompile(`(?s)^\{ARGON2\}\$argon2id?\$v=19\$m=8,t=1,p=1\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]+(\x00.?)?$`)
			seen := map[string]bool{}
			stored := func(name, how string) {
				t.Helper()
				entry := plain{Conn: root, t: t}.read(userDN(name), "*", "+")
				values := entry.GetAttributeValues("userPassword")
				if len(values) != 1 || !argon2.MatchString(values[0]) || seen[values[0]] {
					t.Errorf("%s: stored as %q", how, values)
					return
				}
				seen[values[0]] = true
				for _, attribute := range entry.Attributes {
					if text := strings.Join(attribute.Values, " "); strings.Contains(text, "password") {
						t.Errorf("%s: %s holds %q", how, attribute.Name, text)
					}
				}
			}
			createUser(t, d, "alice", "userPassword", firstPassword)
			stored("alice", "create")
			_, err := d.Update(t.Context(), ldapdirtest.Users, "alice", directory.Condition{}, func(directory.Entry) (directory.Patch, error) {
				return directory.Patch{Set: map[string][]string{"userPassword": {secondPassword}}}, nil
			})
			if name == "hashing" {
				stored("alice", "patch")
			} else if refused, ok := errors.AsType[*directory.Error](err); !ok || refused.Code != directory.UnsupportedByDirectory ||
				!strings.Contains(refused.Detail, "PUT /users/{name}/password") {
				t.Errorf("patch: got %v, want %s that names another way", err, directory.UnsupportedByDirectory.Name)
			}
			for _, change := range []struct {
				how string
				directory.PasswordChange
			}{
				{"an admin's change", directory.PasswordChange{New: thirdPassword}},
				{"an admin's change to be changed", directory.PasswordChange{New: "the fourth password", MustChange: true}},
				{"one's own change", directory.PasswordChange{Current: "the fourth password", New: "the fifth password"}},
			} {
				if err := changePassword(t, d, "alice", change.PasswordChange); err != nil {
					t.Errorf("%s: %v", change.how, err)
				}
				stored("alice", change.how)
			}
			for _, hash := range []string{ssha, "{CLEARTEXT}a password", "{ARGON2}$argon2i$v=19$m=8,t=1,p=1$YWFhYWFhYWE$YWFhYWFhYWE"} {
				for _, change := range []directory.PasswordChange{{New: hash}, {Current: "the fifth password", New: hash}} {
					wantRefused(t, "change to "+hash, changePassword(t, d, "alice", change), directory.Invalid, directory.FieldNewPassword)
				}
				_, err := d.Create(t.Context(), ldapdirtest.Users, user("bob", "userPassword", hash))
				wantRefused(t, "create with "+hash, err, directory.Invalid, directory.FieldUserPassword)
			}
		})
	}
}

func TestThePolicysReasonIsSaidOfTheField(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{Base: policies(t, map[string]string{
		"young": "pwdMinAge: 1000", "theirs": "pwdAllowUserChange: FALSE", "long": "pwdMaxLength: 20",
	})})
	l := on(t, server)
	for name, d := range map[string]*ldapdir.Directory{
		"alice": ldapdirtest.Open(t, ldapdirtest.Options(server)), "bob": ldapdirtest.Open(t, onNonHashing(server)),
	} {
		createUser(t, d, name, "userPassword", thirdPassword)
		if err := changePassword(t, d, name, directory.PasswordChange{New: firstPassword}); err != nil { // slapd notes the time
			t.Fatal(err)
		}
		for _, c := range []struct {
			policy string
			change directory.PasswordChange
			reason string
		}{
			{"default", directory.PasswordChange{Current: firstPassword, New: "short"}, "is too short for the policy"},
			{"default", directory.PasswordChange{New: "short"}, "is too short for the policy"},
			{"default", directory.PasswordChange{Current: firstPassword, New: firstPassword}, "was used before"},
			{"default", directory.PasswordChange{New: firstPassword}, "was used before"},
			{"young", directory.PasswordChange{Current: firstPassword, New: secondPassword}, "was changed too recently"},
			{"theirs", directory.PasswordChange{Current: firstPassword, New: secondPassword}, "may not be changed by the policy"},
			{"long", directory.PasswordChange{Current: firstPassword, New: strings.Repeat("long ", 6)}, "is too long for the policy"},
		} {
			l.modify(0, userDN(name), replacing("pwdPolicySubentry", policyDN(c.policy)))
			err := changePassword(t, d, name, c.change)
			refused, ok := errors.AsType[*directory.Error](err)
			want := []directory.Violation{{Field: directory.FieldNewPassword, Message: c.reason}}
			if !ok || refused.Code != directory.PasswordRefused || !slices.Equal(refused.Violations, want) {
				t.Errorf("%s, policy %s, %+v: got %v, want %v", name, c.policy, c.change, err, want)
			}
		}
		if err := logIn(t, d, userDN(name), firstPassword); err != nil {
			t.Errorf("log in as %s after what was refused: %v", name, err)
		}
	}
}

func TestAPasswordThatIsRightIsToldWhenItExpires(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{Base: policies(t, map[string]string{
		"strict": "pwdMaxAge: 1", "lenient": "pwdMaxAge: 1\npwdGraceAuthNLimit: 2", "warning": "pwdMaxAge: 2000\npwdExpireWarning: 3000",
	})})
	d := ldapdirtest.Open(t, ldapdirtest.Options(server))
	person := func(name string) string {
		on(t, server).add(0, userDN(name), "sn", "x", "uid", name, "userPassword", firstPassword, "pwdPolicySubentry", policyDN(name))
		return userDN(name)
	}
	strict, lenient, warning := person("strict"), person("lenient"), person("warning")
	state, err := d.Authenticate(t.Context(), warning, firstPassword)
	if state.ExpiresIn <= 0 || state.ExpiresIn > 2000*time.Second || state.Expired || state.GraceLogins != 0 || err != nil {
		t.Errorf("one that will expire: %+v, %v", state, err)
	}
	eventually(t, "the first grace login", func() bool {
		state, err = d.Authenticate(t.Context(), lenient, firstPassword)
		return state.Expired || err != nil
	})
	if want := (directory.PasswordState{Expired: true, GraceLogins: 1}); state != want || err != nil {
		t.Errorf("the first grace login: %+v, %v", state, err)
	}
	state, err = d.Authenticate(t.Context(), lenient, firstPassword)
	if want := (directory.PasswordState{Expired: true}); state != want || err != nil {
		t.Errorf("the last grace login: %+v, %v", state, err)
	}
	for _, dn := range []string{lenient, strict} {
		wantRefused(t, "an expired password", logIn(t, d, dn, firstPassword), directory.PasswordExpired, "")
		wantRefused(t, "not the expired password", logIn(t, d, dn, secondPassword), directory.InvalidCredentials, "")
	}
	own := directory.PasswordChange{Current: firstPassword, New: secondPassword}
	wantRefused(t, "change of an expired password", changePassword(t, d, "strict", own), directory.PasswordExpired, "")
	on(t, server).modify(0, strict, replacing("pwdPolicySubentry", policyDN("lenient")))
	if err := changePassword(t, d, "strict", own); err != nil {
		t.Errorf("change by a grace login: %v", err)
	}
}

func TestWhatTheServerLacksForPasswordsIsSaidByName(t *testing.T) {
	lacking := func(config func(string) string, options func(*slapd.Server) ldapdir.Options) *ldapdir.Directory {
		return ldapdirtest.Open(t, options(ldapdirtest.Start(t, slapd.Options{Config: config})))
	}
	noOperation := without("supportedExtension")
	hashing, asked := lacking(noOperation, ldapdirtest.Options), lacking(noOperation, onNonHashing)
	createUser(t, hashing, "alice", "userPassword", firstPassword)
	createUser(t, asked, "alice")
	own, admins := directory.PasswordChange{Current: firstPassword, New: secondPassword}, directory.PasswordChange{New: secondPassword}
	wantLacks := func(what string, err error, name string) {
		t.Helper()
		if refused, ok := errors.AsType[*directory.Error](err); !ok || refused.Code != directory.UnsupportedByDirectory || !strings.Contains(refused.Detail, name) {
			t.Errorf("%s: got %v, want %s that names %s", what, err, directory.UnsupportedByDirectory.Name, name)
		}
	}
	wantLacks("one's own", changePassword(t, hashing, "alice", own), oidPasswordModify)
	if err := changePassword(t, hashing, "alice", admins); err != nil {
		t.Errorf("an admin's, where the server hashes: %v", err)
	}
	wantLacks("an admin's", changePassword(t, asked, "alice", admins), oidPasswordModify)
	_, err := asked.Create(t.Context(), ldapdirtest.Users, user("bob", "userPassword", firstPassword))
	wantLacks("create", err, oidPasswordModify)
	_, err = asked.Get(t.Context(), ldapdirtest.Users, "bob")
	wantRefused(t, "get who was not created", err, directory.NotFound, "")

	noPolicy := lacking(without("supportedControl"), ldapdirtest.Options)
	createUser(t, noPolicy, "alice", "userPassword", firstPassword)
	wantLacks("must change", changePassword(t, noPolicy, "alice", directory.PasswordChange{New: secondPassword, MustChange: true}), ldap.ControlTypeBeheraPasswordPolicy)
	wantRefused(t, "a short one, without the control", changePassword(t, noPolicy, "alice", directory.PasswordChange{New: "short"}),
		directory.PasswordRefused, directory.FieldNewPassword)
	if err := changePassword(t, noPolicy, "alice", own); err != nil {
		t.Errorf("one's own, without a policy: %v", err)
	}
}

func TestAServerThatLetsNobodyChangePasswordsForbidsIt(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string { return strings.Replace(conf, "by self =xw", "by self =x", 1) }})
	d := ldapdirtest.Open(t, ldapdirtest.Options(server))
	createUser(t, d, "alice", "userPassword", firstPassword)
	wantRefused(t, "one's own", changePassword(t, d, "alice", directory.PasswordChange{Current: firstPassword, New: secondPassword}), directory.Forbidden, "")
}

func TestNobodyActsAsWhoeverChangedAPasswordBefore(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	o := ldapdirtest.Options(server)
	o.ExclusiveConnections = 1
	d := ldapdirtest.Open(t, o)
	createUser(t, d, "alice", "userPassword", firstPassword)
	bob := createUser(t, d, "bob", "userPassword", firstPassword)
	for i, next := range []string{secondPassword, thirdPassword, "the fourth password"} {
		current := []string{firstPassword, secondPassword, thirdPassword}[i]
		wantRefused(t, "a wrong current password", changePassword(t, d, "alice", directory.PasswordChange{Current: "wrong", New: next}),
			directory.Invalid, directory.FieldCurrentPassword)
		if err := changePassword(t, d, "alice", directory.PasswordChange{Current: current, New: next}); err != nil {
			t.Errorf("alice's change %d: %v", i, err)
		}
		if err := logIn(t, d, bob.DN(), firstPassword); err != nil {
			t.Errorf("bob after alice's change %d: %v", i, err)
		}
		wantRefused(t, "bob's, with alice's password", changePassword(t, d, "bob", directory.PasswordChange{Current: next, New: "a fifth password"}),
			directory.Invalid, directory.FieldCurrentPassword)
	}
}

func TestAPasswordChangeThatWasCutOffIsNotRepeated(t *testing.T) {
	server := startServer(t)
	ctx := context.Background()
	admins := func(d *ldapdir.Directory, must bool) error {
		_, err := d.ChangePassword(ctx, ldapdirtest.Users, "carol", directory.PasswordChange{New: "cut by an admin " + time.Now().String(), MustChange: must})
		return err
	}
	for _, c := range []struct {
		name    string
		hashing bool
		op      byte
		do      func(d *ldapdir.Directory, name string) error
	}{
		{"one's own", true, opExtended, func(d *ldapdir.Directory, name string) error {
			_, err := d.ChangePassword(ctx, ldapdirtest.Users, name, directory.PasswordChange{Current: password, New: secondPassword})
			return err
		}},
		{"an admin's", true, opModify, func(d *ldapdir.Directory, _ string) error { return admins(d, false) }},
		{"an admin's, not hashed", false, opExtended, func(d *ldapdir.Directory, _ string) error { return admins(d, false) }},
		{"an admin's, to be changed", false, opModify, func(d *ldapdir.Directory, _ string) error { return admins(d, true) }},
	} {
		f := open(t, server, func(o *ldapdir.Options) { o.HashesPasswords = c.hashing })
		for at, name := range map[string]string{"before its last byte": "bob", "before its answer": "dave"} {
			sent := f.seen(c.op)
			if at == "before its last byte" {
				f.onRequest(func(_ *link, m message) int {
					if m.op == c.op {
						return m.size - 1
					}
					return everything
				})
			} else {
				f.onAnswer(func(_ *link, m message) int {
					if m.op == c.op+1 {
						return 0
					}
					return everything
				})
			}
			what := c.name + ", cut " + at
			f.wantOne(what, f.within(what, func() error { return c.do(f.Directory, name) }), codes(directory.OutcomeUnknown))
			f.onRequest(nil)
			f.onAnswer(nil)
			if got := f.seen(c.op) - sent; got != 1 {
				t.Errorf("%s: sent %d times", what, got)
			}
			f.wantOne(what+": the next login", f.run(login), nil)
		}
	}
}

func TestACreationWhosePasswordIsNotSetLeavesNoEntry(t *testing.T) {
	server := startServer(t)
	f := open(t, server, func(o *ldapdir.Options) { o.HashesPasswords = false })
	create := func(what, name string) error {
		return f.within(what, func() error {
			_, err := f.Create(context.Background(), ldapdirtest.Users, user(name, "userPassword", firstPassword))
			return err
		})
	}
	cut := func(op byte) hook {
		return func(_ *link, m message) int {
			if m.op == op {
				return 0
			}
			return everything
		}
	}
	for what, set := range map[string]func(hook){"before it was sent": f.onRequest, "before it was answered": f.onAnswer} {
		op := map[bool]byte{true: opExtended, false: opExtendedDone}[what == "before it was sent"]
		set(cut(op))
		err := create("cut "+what, "frank")
		set(nil)
		f.wantOne("cut "+what, err, codes(directory.Unavailable))
		if left := f.values(userDN("frank"), "cn"); len(left) > 0 {
			t.Errorf("cut %s: the entry is there", what)
		}
	}
	f.onRequest(func(_ *link, m message) int {
		if m.op == opExtended || m.op == opDelete {
			return 0
		}
		return everything
	})
	f.wantOne("cut twice", create("cut twice", "grace"), codes(directory.OutcomeUnknown))
	f.onRequest(nil)
	if left := f.values(userDN("grace"), "cn"); len(left) != 1 {
		t.Errorf("cut twice: the entry has the names %q", left)
	}
}

func TestWhoeverIsRefusedWithoutATryCostsADecoy(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	d, l := ldapdirtest.Open(t, ldapdirtest.Options(server)), on(t, server)
	alice := createUser(t, d, "alice", "userPassword", firstPassword)
	locked := createUser(t, d, "locked", "userPassword", firstPassword, "accountLocked", directory.True)
	passwordless := createUser(t, d, "passwordless")
	expired := createUser(t, d, "expired", "userPassword", firstPassword)
	l.modify(0, expired.DN(), replacing("pwdEndTime", "20010101000000Z"))
	tries := func() string {
		return l.read(openldap.DecoyDN(server.Suffix()), "entryCSN").GetAttributeValue("entryCSN")
	}
	for _, c := range []struct {
		who, dn, password string
		decoy             bool
	}{
		{"nobody", "", firstPassword, true},
		{"nobody, with no password", "", "", false},
		{"a user, with a wrong password", alice.DN(), secondPassword, false},
		{"a user, with no password", alice.DN(), "", false},
		{"a user, with the right password", alice.DN(), firstPassword, false},
		{"a locked user", locked.DN(), firstPassword, true},
		{"a locked user, with a wrong password", locked.DN(), secondPassword, true},
		{"a user without a password", passwordless.DN(), firstPassword, true},
		{"a user who has left", expired.DN(), firstPassword, true},
		{"a user who is gone", userDN("gone"), firstPassword, true},
	} {
		before := tries()
		_, _ = d.Authenticate(t.Context(), c.dn, c.password)
		if tried := tries() != before; tried != c.decoy {
			t.Errorf("%s: the decoy was tried: %t, want %t", c.who, tried, c.decoy)
		}
	}
}

func TestTheDecoyLetsNobodyIn(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{})
	o := ldapdirtest.Options(server)
	o.Decoy = userDN("alice") // one whose password is known
	d := ldapdirtest.Open(t, o)
	createUser(t, d, "alice", "userPassword", firstPassword)
	passwordless := createUser(t, d, "bob")
	for _, dn := range []string{"", passwordless.DN()} {
		wantRefused(t, "log in as "+dn, logIn(t, d, dn, firstPassword), directory.InvalidCredentials, "")
	}
	if err := logIn(t, d, userDN("alice"), firstPassword); err != nil {
		t.Error(err)
	}
}

func TestWhereNothingTellsWhoHasAPasswordNobodyCostsADecoyMore(t *testing.T) {
	server := ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string { return strings.Replace(conf, "=cw\n\tby self", "=w\n\tby self", 1) }})
	d, l := ldapdirtest.Open(t, ldapdirtest.Options(server)), on(t, server)
	createUser(t, d, "alice", "userPassword", firstPassword)
	wantRefused(t, "a wrong password", logIn(t, d, userDN("alice"), secondPassword), directory.InvalidCredentials, "")
	l.has(openldap.DecoyDN(server.Suffix()), "pwdFailureTime")
}

func TestAUserWhoCantHaveAPasswordIsNamedByTheFieldThatWasSent(t *testing.T) {
	f := startForeign(t, true)
	add := ldap.NewAddRequest("uid=robot,ou=staff,"+acmeSuffix, nil)
	add.Attribute("objectClass", []string{"account"})
	if err := f.root.Add(add); err != nil {
		t.Fatal(err)
	}
	_, d := f.open(t)
	_, err := d.ChangePassword(t.Context(), f.users, "robot", directory.PasswordChange{New: firstPassword})
	wantRefused(t, "a password for a class that has none", err, directory.Invalid, directory.FieldNewPassword)
}
