package directorytest

import (
	"testing"

	"rollcall/app/directory"
)

const (
	firstPassword  = "the first password"
	secondPassword = "the second password"
	shortPassword  = "short"
)

// RunPasswords runs what the contract says of passwords. It is part of [Run].
func RunPasswords(t *testing.T, open func(t *testing.T) Fixture) {
	runRules(t, open, []rule{
		{"a password that is created logs in, and a refused one leaves no entry", createdPasswords},
		{"users change their own password with the one they have", ownPasswords},
		{"who must change the password has changed it once it is another", mustChange},
		{"a lock survives a new password", lockedPasswords},
		{"whoever has no such password is refused alike", refusedLogins},
	})
}

func (f Fixture) change(t *testing.T, name string, change directory.PasswordChange) directory.Entry {
	t.Helper()
	entry, err := f.Directory.ChangePassword(background(t), f.Users, name, change)
	if err != nil {
		t.Fatalf("change %s's password, %+v: %v", name, change, err)
	}
	return entry
}

// refuses tries a change that is to be refused for one field.
func (f Fixture) refuses(t *testing.T, name string, change directory.PasswordChange, code *directory.Code, field string) {
	t.Helper()
	_, err := f.Directory.ChangePassword(background(t), f.Users, name, change)
	wantCode(t, "change "+name+"'s password", err, code)
	if refused, ok := err.(*directory.Error); !ok || len(refused.Violations) != 1 || refused.Violations[0].Field != field { //nolint:errorlint // the contract says what it is
		t.Errorf("change %s's password, %+v: got %v, want a violation of %s", name, change, err, field)
	}
}

// logIn proves a password that is right.
func (f Fixture) logIn(t *testing.T, entry directory.Entry, password string) directory.PasswordState {
	t.Helper()
	state, err := f.Accounts.Authenticate(background(t), entry.DN(), password)
	if err != nil {
		t.Errorf("log in as %s with %q: %v", entry.DN(), password, err)
	}
	return state
}

func (f Fixture) wantNoLogin(t *testing.T, dn string, passwords ...string) {
	t.Helper()
	for _, password := range passwords {
		_, err := f.Accounts.Authenticate(background(t), dn, password)
		wantCode(t, "log in as "+dn+" with "+password, err, directory.InvalidCredentials)
	}
}

func createdPasswords(t *testing.T, f Fixture) {
	alice := f.create(t, f.Users, person("alice", directory.FieldUserPassword, firstPassword))
	if state := f.logIn(t, alice, firstPassword); state != (directory.PasswordState{}) {
		t.Errorf("the state of a new password is %+v", state)
	}
	f.wantNoLogin(t, alice.DN(), secondPassword)
	_, err := f.Directory.Create(background(t), f.Users, person("bob", directory.FieldUserPassword, shortPassword))
	wantCode(t, "create with a short password", err, directory.PasswordRefused)
	if refused, ok := err.(*directory.Error); !ok || len(refused.Violations) != 1 || refused.Violations[0].Field != directory.FieldUserPassword { //nolint:errorlint // the contract says what it is
		t.Errorf("create with a short password: got %v, want a violation of userPassword", err)
	}
	_, err = f.Directory.Get(background(t), f.Users, "bob")
	wantCode(t, "get who was refused", err, directory.NotFound)
	f.logIn(t, f.create(t, f.Users, person("bob", directory.FieldUserPassword, secondPassword)), secondPassword)
}

func ownPasswords(t *testing.T, f Fixture) {
	alice := f.create(t, f.Users, person("alice", directory.FieldUserPassword, firstPassword))
	for _, wrong := range []string{"wrong", secondPassword, firstPassword + " "} {
		f.refuses(t, "alice", directory.PasswordChange{Current: wrong, New: secondPassword}, directory.Invalid, directory.FieldCurrentPassword)
	}
	for _, refused := range []string{shortPassword, firstPassword} {
		f.refuses(t, "alice", directory.PasswordChange{Current: firstPassword, New: refused}, directory.PasswordRefused, directory.FieldNewPassword)
	}
	f.logIn(t, alice, firstPassword)
	f.wantNoLogin(t, alice.DN(), secondPassword, shortPassword)

	changed := f.change(t, "alice", directory.PasswordChange{Current: firstPassword, New: secondPassword})
	if read := f.get(t, f.Users, "alice"); changed.ID() != alice.ID() || changed.Version != read.Version {
		t.Errorf("got %v, then read %v", changed, read)
	}
	f.logIn(t, alice, secondPassword)
	f.wantNoLogin(t, alice.DN(), firstPassword)
	f.refuses(t, "alice", directory.PasswordChange{Current: secondPassword, New: firstPassword}, directory.PasswordRefused, directory.FieldNewPassword)

	for _, name := range []string{"nobody", "", "*"} {
		for _, current := range []string{"", firstPassword} {
			_, err := f.Directory.ChangePassword(background(t), f.Users, name, directory.PasswordChange{Current: current, New: secondPassword})
			wantCode(t, "change the password of "+name, err, directory.NotFound)
		}
	}
}

func mustChange(t *testing.T, f Fixture) {
	alice := f.create(t, f.Users, person("alice", directory.FieldUserPassword, firstPassword))
	for _, change := range []struct {
		directory.PasswordChange
		must bool
	}{
		{directory.PasswordChange{New: "one that was set"}, false},
		{directory.PasswordChange{New: "set to be changed", MustChange: true}, true},
		{directory.PasswordChange{New: "set again to be changed", MustChange: true}, true},
		{directory.PasswordChange{New: "set for good"}, false},
		{directory.PasswordChange{New: "set once more to be changed", MustChange: true}, true},
		{directory.PasswordChange{Current: "set once more to be changed", New: "changed by herself"}, false},
		{directory.PasswordChange{Current: "changed by herself", New: "changed again"}, false},
	} {
		if entry := f.change(t, "alice", change.PasswordChange); entry.ID() != alice.ID() {
			t.Errorf("got %s", entry.DN())
		}
		if state := f.logIn(t, alice, change.New); state.MustChange != change.must {
			t.Errorf("%+v: must change is %t", change.PasswordChange, state.MustChange)
		}
	}
	f.wantNoLogin(t, alice.DN(), firstPassword, "set for good")
	f.refuses(t, "alice", directory.PasswordChange{New: shortPassword, MustChange: true}, directory.PasswordRefused, directory.FieldNewPassword)
	if f.logIn(t, alice, "changed again").MustChange {
		t.Error("a change that was refused makes her change it")
	}
}

func lockedPasswords(t *testing.T, f Fixture) {
	alice := f.create(t, f.Users, person("alice", directory.FieldUserPassword, firstPassword))
	f.update(t, f.Users, "alice", directory.FieldAccountLocked, directory.True)
	f.wantNoLogin(t, alice.DN(), firstPassword, "wrong")
	f.refuses(t, "alice", directory.PasswordChange{Current: firstPassword, New: secondPassword}, directory.Invalid, directory.FieldCurrentPassword)
	for _, must := range []bool{false, true} {
		entry := f.change(t, "alice", directory.PasswordChange{New: secondPassword + map[bool]string{true: "!"}[must], MustChange: must})
		wantValues(t, entry, directory.FieldAccountLocked, directory.True)
		wantValues(t, f.get(t, f.Users, "alice"), directory.FieldAccountLocked, directory.True)
		f.wantNoLogin(t, alice.DN(), secondPassword, secondPassword+"!", firstPassword)
	}
	wantValues(t, f.update(t, f.Users, "alice", directory.FieldAccountLocked, directory.False), directory.FieldAccountLocked, directory.False)
	if !f.logIn(t, alice, secondPassword+"!").MustChange {
		t.Error("the lock's end ended that the password must be changed")
	}
}

func refusedLogins(t *testing.T, f Fixture) {
	alice := f.create(t, f.Users, person("alice", directory.FieldUserPassword, firstPassword))
	locked := f.create(t, f.Users, person("locked", directory.FieldUserPassword, firstPassword, directory.FieldAccountLocked, directory.True))
	without := f.create(t, f.Users, person("without"))
	gone := f.create(t, f.Users, person("gone", directory.FieldUserPassword, firstPassword))
	if err := f.Directory.Delete(background(t), f.Users, "gone", directory.Condition{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ dn, password string }{
		{alice.DN(), secondPassword}, {alice.DN(), ""}, {locked.DN(), firstPassword}, {locked.DN(), secondPassword}, {locked.DN(), ""},
		{without.DN(), firstPassword}, {without.DN(), ""}, {gone.DN(), firstPassword}, {gone.DN(), ""}, {"", firstPassword}, {"", ""},
	} {
		state, err := f.Accounts.Authenticate(background(t), c.dn, c.password)
		wantCode(t, "log in as "+c.dn+" with "+c.password, err, directory.InvalidCredentials)
		if refused, ok := err.(*directory.Error); ok && (refused.Detail != "" || refused.Violations != nil) || state != (directory.PasswordState{}) { //nolint:errorlint // the contract says what it is
			t.Errorf("log in as %s with %q: %+v, %v", c.dn, c.password, state, err)
		}
	}
	f.logIn(t, alice, firstPassword)
}
