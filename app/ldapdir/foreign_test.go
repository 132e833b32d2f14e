package ldapdir_test

import (
	"context"
	_ "embed"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// Acme's directory: entries, schema and database as somebody else laid them out. What the tests give to
// ldapdir are options, and nothing else makes it fit.
var (
	//go:embed testdata/acme.ldif
	acmeEntries string
	//go:embed testdata/acme.schema
	acmeSchema string
	//go:embed testdata/acme.conf
	acmeDatabase string
)

const (
	acmeSuffix = "o=Acme,c=DE"
	nobody     = `CN=nobody\, really, o=acme, c=de` // as its admin would type it; slapd writes cn=Nobody\2C really,…
	anna       = "uid=anna,ou=berlin,ou=staff," + acmeSuffix
	jean       = "uid=jean,ou=paris,ou=staff," + acmeSuffix
	karl       = `cn=Müller\2C Karl+uid=karl,ou=berlin,ou=staff,` + acmeSuffix
	zoe        = "uid=zoe,ou=paris,ou=staff," + acmeSuffix
	backup     = "uid=backup,ou=staff," + acmeSuffix
	ops        = "cn=ops,ou=it,ou=teams," + acmeSuffix
	empty      = "cn=empty,ou=it,ou=teams," + acmeSuffix
	mixed      = "cn=mixed,ou=teams," + acmeSuffix
	printer    = "cn=printer,ou=machines," + acmeSuffix
	db1        = "cn=db1.acme.test,ou=machines," + acmeSuffix
)

var overlayLines = regexp.MustCompile(`(?m)^(memberOf:|pwd\w+:|objectClass: pwdPolicy|moduleload (memberof|refint|unique|ppolicy)\b).*\n`)

// foreign is a server with Acme's directory, its kinds as configured, and a connection that may see everything.
type foreign struct {
	server               *slapd.Server
	options              ldapdir.Options
	users, groups, hosts *directory.Kind
	root                 *ldap.Conn
}

// startForeign starts a server with memberof and ppolicy, or with no overlay at all.
func startForeign(t *testing.T, overlays bool) *foreign {
	t.Helper()
	entries := acmeEntries
	if !overlays {
		entries = overlayLines.ReplaceAllString(entries, "")
	}
	server := ldapdirtest.Start(t, slapd.Options{Suffix: acmeSuffix, Base: entries, Config: func(conf string) string {
		global, _, _ := strings.Cut(conf, "\ndatabase ")
		database := strings.ReplaceAll(acmeDatabase, "${SUFFIX}", acmeSuffix)
		if !overlays {
			global = overlayLines.ReplaceAllString(global, "")
			database, _, _ = strings.Cut(database, "\noverlay ")
		}
		before, after, _ := strings.Cut(global, "\nmodulepath ")
		return before + "\n" + acmeSchema + "\nmodulepath " + after + "\n" + database
	}})
	f := &foreign{
		server: server, options: ldapdirtest.Options(server), root: ldapdirtest.Bind(t, server),
		users: kindOf(t, directory.Users(), "uid",
			directory.Field{Name: "badge"},
			directory.Field{Name: "rooms", List: true},
			directory.Field{Name: "since", ReadOnly: true},
			directory.Field{Name: "photos", List: true, ReadOnly: true}),
		groups: kindOf(t, directory.Groups(), "cn"),
		hosts:  kindOf(t, directory.Hosts(), "cn"),
	}
	if err := f.root.Bind("cn=root,"+acmeSuffix, "root"); err != nil {
		t.Fatalf("bind as root: %v", err)
	}
	f.options.PageSize, f.options.PasswordPolicy, f.options.HashesPasswords = 2, "", overlays
	if overlays {
		f.options.PasswordPolicy = "cn=policy,ou=services," + acmeSuffix
	}
	f.options.Mappings = []ldapdir.Mapping{
		{
			Kind: f.users, Container: "ou=staff," + acmeSuffix, Deep: true, NamingAttribute: "uid",
			ObjectClasses: []string{"inetOrgPerson"}, Filter: "(|(objectClass=inetOrgPerson)(objectClass=account))",
			Attributes: map[string]ldapdir.Attribute{
				"badge": {Type: "acmeBadge", ObjectClass: "acmePerson"},
				"rooms": {Type: "acmeRoom", ObjectClass: "acmePerson"},
				"since": {Type: "acmeSince", ObjectClass: "acmePerson"}, "photos": {Type: "jpegPhoto"},
			},
		},
		{
			Kind: f.groups, Container: "ou=teams," + acmeSuffix, Deep: true, NamingAttribute: "cn",
			ObjectClasses: []string{"groupOfNames"}, Placeholder: nobody,
		},
		{Kind: f.hosts, Container: "ou=machines," + acmeSuffix, NamingAttribute: "cn", ObjectClasses: []string{"device"}},
	}
	return f
}

func kindOf(t *testing.T, base directory.Kind, key string, more ...directory.Field) *directory.Kind {
	t.Helper()
	kind, err := directory.NewKind(base, key, more...)
	if err != nil {
		t.Fatal(err)
	}
	return kind
}

// open returns the directory with the rules on top, as the API uses it, and the bare one.
func (f *foreign) open(t *testing.T) (*directory.Checked, *ldapdir.Directory) {
	t.Helper()
	d := ldapdirtest.Open(t, f.options)
	return directory.NewChecked(d), d
}

func (f *foreign) kinds() []*directory.Kind { return []*directory.Kind{f.users, f.groups, f.hosts} }

// raw returns everything that the server has of an entry.
func (f *foreign) raw(t *testing.T, dn string) map[string][]string {
	t.Helper()
	result, err := f.root.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{"*", "+"}, nil))
	if err != nil || len(result.Entries) != 1 {
		t.Fatalf("search for %s: %v, %v", dn, result, err)
	}
	entry := make(map[string][]string)
	for _, attribute := range result.Entries[0].Attributes {
		entry[attribute.Name] = attribute.Values
	}
	return entry
}

// replace sets an attribute behind Rollcall's back; no values remove it.
func (f *foreign) replace(t *testing.T, dn, attribute string, values ...string) {
	t.Helper()
	modify := ldap.NewModifyRequest(dn, nil)
	modify.Replace(attribute, values)
	if err := f.root.Modify(modify); err != nil {
		t.Fatalf("modify %s, %s: %q: %v", dn, attribute, values, err)
	}
}

// wantRaw fails unless an entry is as it was but for the attributes in changed. Values must be the same bytes
// in the same order.
func (f *foreign) wantRaw(t *testing.T, request, dn string, before, changed map[string][]string) {
	t.Helper()
	want := maps.Clone(before)
	maps.Copy(want, changed)
	maps.DeleteFunc(want, func(_ string, values []string) bool { return len(values) == 0 })
	after := f.raw(t, dn)
	for _, bookkeeping := range []string{"entryCSN", "modifyTimestamp", "modifiersName"} {
		want[bookkeeping] = after[bookkeeping]
	}
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("%s\nleft %s otherwise than it should be (-want +got):\n%s", request, dn, diff)
	}
}

// patch updates an entry by its name and returns what the answer shows, failing where there is none.
func patchEntry(t *testing.T, d directory.Directory, kind *directory.Kind, name string, set map[string][]string) directory.Entry {
	t.Helper()
	entry, err := tryPatch(t.Context(), d, kind, name, set)
	if err != nil {
		t.Fatalf("PATCH %s/%s %q: %v", kind.Name, name, set, err)
	}
	return entry
}

func tryPatch(ctx context.Context, d directory.Directory, kind *directory.Kind, name string, set map[string][]string) (directory.Entry, error) {
	return d.Update(ctx, kind, name, directory.Condition{}, func(directory.Entry) (directory.Patch, error) {
		return directory.Patch{Set: maps.Clone(set)}, nil
	})
}

func getEntry(t *testing.T, d directory.Directory, kind *directory.Kind, name string) directory.Entry {
	t.Helper()
	entry, err := d.Get(t.Context(), kind, name)
	if err != nil {
		t.Fatalf("GET %s/%s: %v", kind.Name, name, err)
	}
	return entry
}

func listEntries(t *testing.T, d directory.Directory, kind *directory.Kind) []directory.Entry {
	t.Helper()
	var entries []directory.Entry
	for entry, err := range directory.Each(t.Context(), d, kind, directory.Query{Limit: 7}) {
		if err != nil {
			t.Fatalf("GET %s: %v", kind.Name, err)
		}
		entries = append(entries, entry)
	}
	return entries
}

func shownFields(entry directory.Entry) map[string][]string {
	values := make(map[string][]string)
	for i := range entry.Kind.Fields {
		if v := entry.At(i); len(v) > 0 {
			values[entry.Kind.Fields[i].Name] = v
		}
	}
	return values
}

func wantShown(t *testing.T, entry directory.Entry, field string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, entry.Values(field)); diff != "" && len(want)+len(entry.Values(field)) > 0 {
		t.Errorf("%s of %s (-want +got):\n%s", field, entry.DN(), diff)
	}
}

// wantError fails unless err is of the code and, where a field is given, a violation of it.
func wantRefused(t *testing.T, request string, err error, code *directory.Code, field string) {
	t.Helper()
	var fields []string
	if refused, ok := err.(*directory.Error); ok { //nolint:errorlint // a Directory's errors are never wrapped
		for _, v := range refused.Violations {
			fields = append(fields, v.Field)
		}
	}
	if !directory.Is(err, code) || field != "" && !slices.Equal(fields, []string{field}) {
		t.Errorf("%s: want %s %s, got %v", request, code.Name, field, err)
	}
}

func TestATreeOfSomebodyElsesIsReadAfterNothingButConfiguration(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	for kind, want := range map[*directory.Kind][]string{
		f.users:  {"anna", "backup", "chris", "chris", "jean", "karl", "zoe"},
		f.groups: {"empty", "mixed", "ops"},
		f.hosts:  {"db1.acme.test", "printer"},
	} {
		var names []string
		for _, entry := range listEntries(t, d, kind) {
			names = append(names, entry.Name())
			resolved, err := d.Resolve(t.Context(), entry.DN())
			if err != nil {
				t.Errorf("resolve %s: %v", entry.DN(), err)
			} else if diff := cmp.Diff(shownFields(entry), shownFields(resolved)); diff != "" {
				t.Errorf("%s in the list and by its DN (-list +DN):\n%s", entry.DN(), diff)
			}
			if entry.Name() == "chris" {
				continue
			}
			for _, reference := range []string{kind.Name + "/" + entry.Name(), strings.ToUpper(entry.DN()), strings.ReplaceAll(entry.DN(), ",ou=", " , ou = ")} {
				if resolved, err := d.Resolve(t.Context(), reference); err != nil || resolved.ID() != entry.ID() {
					t.Errorf("resolve %q: want %s, got %s, %v", reference, entry.DN(), resolved.DN(), err)
				}
			}
			if diff := cmp.Diff(shownFields(entry), shownFields(getEntry(t, d, kind, entry.Name()))); diff != "" {
				t.Errorf("%s in the list and by its name (-list +name):\n%s", entry.DN(), diff)
			}
		}
		slices.Sort(names)
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("GET %s (-want +got):\n%s", kind.Name, diff)
		}
	}
	want := map[string][]string{
		"dn": {anna}, "uid": {"anna"}, "cn": {"Anna Müller"}, "sn": {"Müller"}, "givenName": {"Anna"}, "displayName": {"Anna M."},
		"mail": {"anna@acme.test"}, "telephoneNumber": {"+49 30 1234"}, "mobile": {"+49 170 1234"}, "title": {"Engineer"},
		"employeeNumber": {"1001"}, "departmentNumber": {"R1"}, "description": {"Knows the old machines"}, "preferredLanguage": {"de"},
		"accountLocked": {"false"}, "badge": {"caf\uFFFD \uFFFD"}, "rooms": {"R17", "A3"}, "since": {"1999"}, "memberOfs": {ops},
		"sshPublicKeys": {
			"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAID4j6BYAOVlKM4lPZWThsTSLvXoAiNQsSstz7q7VnACd ren\uFFFD@b\uFFFDro",
			"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqXgRLKG73K+sIxs5oj3E2nhu/4FHxOcrmAd4Wv7ki7 Zoé@laptop",
		},
	}
	got := shownFields(getEntry(t, d, f.users, "anna"))
	if photos := got["photos"]; len(photos) != 2 || !strings.Contains(photos[1], "JFIF\x00second\n\r\x00") {
		t.Errorf("GET users/anna photos: got %q", photos)
	}
	for _, given := range []string{"id", "createdAt", "updatedAt", "photos"} {
		want[given] = got[given]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("GET users/anna (-want +got):\n%s", diff)
	}
}

func TestANameThatTwoHaveIsNobodys(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	before := f.raw(t, "uid=chris,ou=paris,ou=staff,"+acmeSuffix)
	_, err := d.Get(t.Context(), f.users, "chris")
	wantRefused(t, "GET users/chris", err, directory.Ambiguous, "")
	_, err = tryPatch(t.Context(), d, f.users, "chris", map[string][]string{"title": {"Boss"}})
	wantRefused(t, "PATCH users/chris", err, directory.Ambiguous, "")
	wantRefused(t, "DELETE users/chris", d.Delete(t.Context(), f.users, "chris", directory.Condition{}), directory.Ambiguous, "")
	err = d.AddValue(t.Context(), f.groups, "ops", "members", "users/chris", directory.Condition{})
	wantRefused(t, "PUT groups/ops/members/users/chris", err, directory.Ambiguous, "")
	_, err = d.Create(t.Context(), f.users, directory.Patch{Set: map[string][]string{"uid": {"chris"}, "cn": {"Chris"}, "sn": {"Third"}}})
	if !directory.Is(err, directory.Ambiguous) && !directory.Is(err, directory.AlreadyExists) {
		t.Errorf("POST users chris: want ambiguous-name or already-exists, got %v", err)
	}
	f.wantRaw(t, "what was refused", "uid=chris,ou=paris,ou=staff,"+acmeSuffix, before, nil)
}

func TestWhatIsNoEntryOfOursIsNotFound(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	for _, reference := range []string{
		"users/annie", "uid=annie,ou=paris,ou=staff," + acmeSuffix, // an alias
		"ou=remote,ou=staff," + acmeSuffix, "uid=x,ou=remote,ou=staff," + acmeSuffix, // a referral, and below it
		"ou=berlin,ou=staff," + acmeSuffix, "cn=smiths,ou=guilds," + acmeSuffix, "cn=rollcall,ou=services," + acmeSuffix,
		"uid=anna,ou=staff," + acmeSuffix, "users/Müller, Karl", "groups/nobody", nobody,
	} {
		entry, err := d.Resolve(t.Context(), reference)
		if !directory.Is(err, directory.NotFound) {
			t.Errorf("resolve %q: want not-found, got %s, %v", reference, entry.DN(), err)
		}
	}
}

// newValues are values for every field that can be written; a single-valued field takes the first.
func newValues() map[string][]string {
	return map[string][]string{
		"cn": {"Other Name"}, "uid": {"other"}, "sn": {"Other"}, "givenName": {"Otto"}, "displayName": {"O. T. Her"},
		"mail": {"other@acme.test"}, "telephoneNumber": {"+49 30 9999"}, "mobile": {"+49 170 9999"}, "title": {"Other"},
		"employeeNumber": {"9999"}, "departmentNumber": {"Z9"}, "description": {"Ötherwise"}, "preferredLanguage": {"fr"},
		"userPassword": {"another-password"}, "accountLocked": {directory.True},
		"sshPublicKeys": {
			"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEteV/brL0K5A5s9HhOSkpXyMXScUQy+NBzWgDbZr5fi web",
			"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMqXgRLKG73K+sIxs5oj3E2nhu/4FHxOcrmAd4Wv7ki7 a",
		},
		"badge": {"new badge"}, "rooms": {"Z1", "A1"},
		"members": {zoe, db1}, "owners": {zoe, ops},
		"ipAddresses": {"192.0.2.200", "192.0.2.100"}, "serialNumber": {"SN-0"}, "location": {"Attic"},
	}
}

// attributeOf tells where Acme keeps a field, and which class brings it.
func attributeOf(field string) (attribute, class string) {
	switch field {
	case "badge":
		return "acmeBadge", "acmePerson"
	case "rooms":
		return "acmeRoom", "acmePerson"
	case "members":
		return "member", ""
	case "owners":
		return "owner", ""
	case "ipAddresses":
		return "ipHostNumber", "ipHost"
	case "sshPublicKeys":
		return "sshPublicKey", "ldapPublicKey"
	case "location":
		return "l", ""
	}
	return field, ""
}

func TestAnUpdateOfOneFieldLeavesEveryOtherAttributeAsItWas(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	for _, entry := range []struct {
		kind     *directory.Kind
		name, dn string
	}{
		{f.users, "anna", anna}, {f.users, "jean", jean}, {f.users, "karl", karl}, {f.users, "zoe", zoe}, {f.users, "backup", backup},
		{f.groups, "ops", ops}, {f.groups, "empty", empty}, {f.groups, "mixed", mixed},
		{f.hosts, "db1.acme.test", db1}, {f.hosts, "printer", printer},
	} {
		for _, field := range entry.kind.Fields {
			if !field.ReadOnly && !field.Backlink {
				f.updateOneField(t, d, entry.kind, entry.name, entry.dn, &field)
			}
		}
	}
}

// updateOneField changes a field and then removes it, and each time compares everything that the entry holds.
func (f *foreign) updateOneField(t *testing.T, d directory.Directory, kind *directory.Kind, name, dn string, field *directory.Field) {
	t.Helper()
	before := f.raw(t, dn)
	attribute, class := attributeOf(field.Name)
	classes := before["objectClass"]
	wanted := newValues()[field.Name]
	if len(wanted) == 0 {
		t.Fatalf("newValues has none for %s", field.Name)
	}
	set := func(values []string) map[string][]string { return map[string][]string{field.Name: values} }
	changed := func(attributes ...string) map[string][]string {
		after, only := f.raw(t, dn), map[string][]string{}
		for _, a := range attributes {
			if only[a] = after[a]; slices.Equal(before[a], after[a]) {
				t.Errorf("PATCH %s/%s %q left %s as it was", kind.Name, name, set(wanted), a)
			}
		}
		return only
	}
	refused := func(values []string, blamed string, sofar map[string][]string) {
		t.Helper()
		_, err := tryPatch(t.Context(), d, kind, name, set(values))
		request := fmt.Sprintf("PATCH %s/%s %q", kind.Name, name, set(values))
		wantRefused(t, request, err, directory.Invalid, blamed)
		f.wantRaw(t, request, dn, before, sofar)
	}
	patched := func(values []string, want map[string][]string, show ...string) {
		t.Helper()
		wantShown(t, patchEntry(t, d, kind, name, set(values)), field.Name, show...)
		if field.Type == directory.Reference { // a set: the values that stay are not sent again
			if got := f.raw(t, dn)[attribute]; slices.EqualFunc(slices.Sorted(slices.Values(want[attribute])), slices.Sorted(slices.Values(got)), ldapdir.SameDN) {
				want[attribute] = got
			}
		}
		f.wantRaw(t, fmt.Sprintf("PATCH %s/%s %q", kind.Name, name, set(values)), dn, before, want)
	}
	switch {
	case field.Name == kind.Key:
		refused(wanted, field.Name, nil)
		return
	case dn == backup && slices.Contains(accountLacks, field.Name):
		refused(wanted, field.Name, nil)
		return
	case field.WriteOnly:
		patchEntry(t, d, kind, name, set(wanted))
		only := changed("userPassword", "pwdChangedTime")
		only["pwdHistory"] = f.raw(t, dn)["pwdHistory"]
		f.wantRaw(t, "PATCH userPassword", dn, before, only)
		return
	case field.Type == directory.Boolean:
		patchEntry(t, d, kind, name, set([]string{directory.True}))
		f.wantRaw(t, "PATCH accountLocked: true", dn, before, changed("pwdAccountLockedTime", "pwdEndTime"))
		patched([]string{directory.False}, nil, directory.False)
		return
	}

	others := before[attribute][min(1, len(before[attribute])):]
	if field.List {
		others = nil
	}
	if class != "" && len(before[attribute]) == 0 && !slices.Contains(classes, class) {
		classes = append(slices.Clone(classes), class)
	}
	now := map[string][]string{attribute: slices.Concat(wanted, others), "objectClass": classes}
	patched(wanted, now, wanted...)
	switch {
	case field.Required:
		refused(nil, field.Name, now)
		return
	case class == "ipHost" && before["manager"] != nil: // which only the class allows, as it demands an address
		refused(nil, field.Name, now)
		return
	case class == "acmePerson" && (before["acmeShoeSize"] != nil || before["acmeRoom"] != nil): // which only the class allows
	case class != "" && len(others) == 0:
		classes = slices.DeleteFunc(slices.Clone(classes), func(c string) bool { return c == class })
	}
	if field.Name == directory.FieldMembers {
		others = []string{nobody}
		patched(nil, map[string][]string{attribute: others})
		return
	}
	patched(nil, map[string][]string{attribute: others, "objectClass": classes}, others[:min(1, len(others))]...)
}

// accountLacks are the fields that the object class account has no attribute for.
var accountLacks = []string{"cn", "sn", "givenName", "displayName", "mail", "telephoneNumber", "mobile", "title",
	"employeeNumber", "departmentNumber", "preferredLanguage"}

func TestSendingBackWhatWasReadChangesNothing(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	for _, kind := range f.kinds() {
		for _, entry := range listEntries(t, d, kind) {
			if entry.Name() == "chris" {
				continue
			}
			before := f.raw(t, entry.DN())
			sent := directory.Patch{Set: shownFields(entry)}
			for verb, change := range map[string]directory.Change{
				"PATCH": func(directory.Entry) (directory.Patch, error) { return sent, nil },
				"PUT":   kind.Replacement(sent),
			} {
				if _, err := d.Update(t.Context(), kind, entry.Name(), directory.Condition{}, change); err != nil {
					t.Errorf("%s %s/%s %q: %v", verb, kind.Name, entry.Name(), sent.Set, err)
				}
				if diff := cmp.Diff(before, f.raw(t, entry.DN())); diff != "" {
					t.Errorf("%s %s/%s of what was read (-before +after):\n%s", verb, kind.Name, entry.Name(), diff)
				}
			}
		}
	}
}

func TestAValueInTheNameIsNotChanged(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	f.replace(t, karl, "cn", "Müller, Karl", "Karl Müller")
	before := f.raw(t, karl)
	_, err := tryPatch(t.Context(), d, f.users, "karl", map[string][]string{"cn": {"Karl"}})
	wantRefused(t, "PATCH users/karl cn, half of the name", err, directory.Invalid, "cn")
	f.wantRaw(t, "PATCH users/karl cn", karl, before, nil)
}

func TestTheNameBeatsASecondNameOfSomebodyElse(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	f.replace(t, zoe, "uid", "jean", "zoe", "karl")
	for name, dn := range map[string]string{"jean": jean, "karl": karl, "zoe": zoe} {
		wantShown(t, getEntry(t, d, f.users, name), directory.FieldDN, dn)
	}
}

func TestBytesThatAreNoTextSurviveUpdates(t *testing.T) {
	f := startForeign(t, true)
	d, bare := f.open(t)
	before := f.raw(t, zoe)
	keys := getEntry(t, d, f.users, "zoe").Values("sshPublicKeys")
	added := newValues()["sshPublicKeys"][0]
	set := map[string][]string{"sshPublicKeys": append(slices.Clone(keys), added), "badge": {"\uFFFD"}, "title": {"Keyholder"}}
	if diff := cmp.Diff([]string{"key \uFFFD", "key \uFFFD"}, keys); diff != "" {
		t.Errorf("GET users/zoe sshPublicKeys (-want +got):\n%s", diff)
	}
	patchEntry(t, d, f.users, "zoe", set)
	now := map[string][]string{"sshPublicKey": append(slices.Clone(before["sshPublicKey"]), added), "title": {"Keyholder"}}
	f.wantRaw(t, "PATCH users/zoe of two values that look the same, and one more", zoe, before, now)
	patchEntry(t, bare, f.users, "zoe", map[string][]string{"sshPublicKeys": {added, keys[0]}})
	now["sshPublicKey"] = []string{added, before["sshPublicKey"][0]}
	f.wantRaw(t, "PATCH users/zoe without one of them", zoe, before, now)
}

func TestAnAuxiliaryClassIsNotWantedWhereAnotherAllowsTheAttribute(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	f.replace(t, jean, "objectClass", "inetOrgPerson", "acmeDoor")
	f.replace(t, jean, "sshPublicKey", "key")
	before := f.raw(t, jean)
	keys := newValues()["sshPublicKeys"]
	patchEntry(t, d, f.users, "jean", map[string][]string{"sshPublicKeys": keys})
	f.wantRaw(t, "PATCH users/jean sshPublicKeys", jean, before, map[string][]string{"sshPublicKey": keys})
	patchEntry(t, d, f.users, "jean", map[string][]string{"sshPublicKeys": nil})
	f.wantRaw(t, "PATCH users/jean no sshPublicKeys", jean, before, map[string][]string{"sshPublicKey": nil})
}

func TestAClassStaysAsLongAsAnyFieldOfItHasAValue(t *testing.T) {
	f := startForeign(t, true)
	d, bare := f.open(t)
	before := f.raw(t, jean)
	with := append(slices.Clone(before["objectClass"]), "acmePerson")
	patchEntry(t, d, f.users, "jean", map[string][]string{"badge": {"b"}, "rooms": {"1"}})
	f.wantRaw(t, "PATCH badge and rooms", jean, before, map[string][]string{"acmeBadge": {"b"}, "acmeRoom": {"1"}, "objectClass": with})
	patchEntry(t, d, f.users, "jean", map[string][]string{"badge": nil})
	f.wantRaw(t, "PATCH no badge", jean, before, map[string][]string{"acmeRoom": {"1"}, "objectClass": with})
	patchEntry(t, d, f.users, "jean", map[string][]string{"rooms": nil, "badge": {"c"}})
	f.wantRaw(t, "PATCH badge, no rooms", jean, before, map[string][]string{"acmeBadge": {"c"}, "objectClass": with})
	if err := d.AddValue(t.Context(), f.users, "jean", "rooms", "2", directory.Condition{}); err != nil {
		t.Errorf("add room 2: %v", err)
	}
	patchEntry(t, d, f.users, "jean", map[string][]string{"badge": nil})
	if err := d.RemoveValue(t.Context(), f.users, "jean", "rooms", "2", directory.Condition{}); err != nil {
		t.Errorf("remove room 2: %v", err)
	}
	f.wantRaw(t, "the last room removed", jean, before, nil)
	for _, key := range []string{"a key", "A KEY"} { // base64 tells them apart
		if err := bare.AddValue(t.Context(), f.users, "jean", "sshPublicKeys", key, directory.Condition{}); err != nil {
			t.Errorf("add %s: %v", key, err)
		}
	}
	if err := bare.RemoveValue(t.Context(), f.users, "jean", "sshPublicKeys", "A KEY", directory.Condition{}); err != nil {
		t.Errorf("remove A KEY: %v", err)
	}
	wantShown(t, getEntry(t, d, f.users, "jean"), "sshPublicKeys", "a key")
}

func TestThePlaceholderIsWhatTheConfigurationSaysHoweverItIsSpelled(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	wantMembers := func(request, dn string, want ...string) {
		t.Helper()
		got := f.raw(t, dn)["member"]
		if !slices.EqualFunc(want, got, ldapdir.SameDN) {
			t.Errorf("%s: %s has the members %q, want %q", request, dn, got, want)
		}
	}
	wantShown(t, getEntry(t, d, f.groups, "empty"), "members")
	wantShown(t, getEntry(t, d, f.groups, "mixed"), "members", jean)
	for _, step := range []struct {
		request string
		do      func(ctx context.Context, kind *directory.Kind, name, field, value string, condition directory.Condition) error
		value   string
		want    []string
	}{
		{"PUT groups/empty/members/users/jean", d.AddValue, "users/jean", []string{jean}},
		{"PUT groups/empty/members/users/anna", d.AddValue, "users/anna", []string{jean, anna}},
		{"PUT groups/empty/members/users/anna again", d.AddValue, strings.ToUpper(anna), []string{jean, anna}},
		{"DELETE groups/empty/members/users/jean", d.RemoveValue, "users/jean", []string{anna}},
		{"DELETE groups/empty/members/users/anna", d.RemoveValue, "users/anna", []string{nobody}},
		{"DELETE groups/empty/members/users/anna again", d.RemoveValue, "users/anna", []string{nobody}},
	} {
		if err := step.do(t.Context(), f.groups, "empty", "members", step.value, directory.Condition{}); err != nil {
			t.Errorf("%s: %v", step.request, err)
		}
		wantMembers(step.request, empty, step.want...)
	}
	if _, err := d.Create(t.Context(), f.groups, directory.Patch{Set: map[string][]string{"cn": {"new"}}}); err != nil {
		t.Fatalf("POST groups new: %v", err)
	}
	wantMembers("POST groups new", "cn=new,ou=teams,"+acmeSuffix, nobody)
	patchEntry(t, d, f.groups, "mixed", map[string][]string{"members": nil})
	wantMembers("PATCH groups/mixed members []", mixed, nobody)
}

func TestAMemberIsTheSameHoweverItsDNIsSpelled(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	before := f.raw(t, ops)
	patchEntry(t, d, f.groups, "ops", map[string][]string{"members": {"users/anna", "uid=JEAN, ou=paris,ou=staff," + acmeSuffix}})
	if diff := cmp.Diff(before, f.raw(t, ops)); diff != "" {
		t.Errorf("PATCH groups/ops, the members it has (-before +after):\n%s", diff)
	}
	exists := directory.Condition{Exists: true}
	if err := d.AddValue(t.Context(), f.groups, "ops", "members", "users/anna", exists); err != nil {
		t.Errorf("PUT groups/ops/members/users/anna, If-Match: *: %v", err)
	}
	if diff := cmp.Diff(before, f.raw(t, ops)); diff != "" {
		t.Errorf("PUT of a member that it has (-before +after):\n%s", diff)
	}
	if err := d.RemoveValue(t.Context(), f.groups, "ops", "members", "users/anna", exists); err != nil {
		t.Errorf("DELETE groups/ops/members/users/anna, If-Match: *: %v", err)
	}
	f.wantRaw(t, "DELETE groups/ops/members/users/anna", ops, before, map[string][]string{"member": {jean}})
}

func TestTheFirstValueIsReplacedInItsPlaceAndTheOthersStay(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	before := f.raw(t, anna)
	for _, step := range []struct{ set, want, shown []string }{
		{[]string{"new@acme.test"}, []string{"new@acme.test", "a.mueller@acme.test", "Anna.Mueller@acme.test"}, []string{"new@acme.test"}},
		{nil, []string{"a.mueller@acme.test", "Anna.Mueller@acme.test"}, []string{"a.mueller@acme.test"}},
		{[]string{"Anna.Mueller@acme.test"}, []string{"Anna.Mueller@acme.test"}, []string{"Anna.Mueller@acme.test"}},
		{nil, nil, nil},
		{[]string{"anna@acme.test"}, []string{"anna@acme.test"}, []string{"anna@acme.test"}},
	} {
		wantShown(t, patchEntry(t, d, f.users, "anna", map[string][]string{"mail": step.set}), "mail", step.shown...)
		f.wantRaw(t, fmt.Sprintf("PATCH users/anna mail %q", step.set), anna, before, map[string][]string{"mail": step.want})
	}
}

func TestWhoIsDeletedIsInNoGroupAndOwnsNothing(t *testing.T) {
	for name, overlays := range map[string]bool{"memberof without refint": true, "no overlays": false} {
		t.Run(name, func(t *testing.T) {
			f := startForeign(t, overlays)
			d, _ := f.open(t)
			if err := d.AddValue(t.Context(), f.groups, "ops", "members", "users/karl", directory.Condition{}); err != nil {
				t.Fatalf("PUT groups/ops/members/users/karl: %v", err)
			}
			group, other, host := f.raw(t, ops), f.raw(t, mixed), f.raw(t, db1)
			for _, name := range []string{"anna", "jean", "karl"} {
				if err := d.Delete(t.Context(), f.users, name, directory.Condition{}); err != nil {
					t.Fatalf("DELETE users/%s: %v", name, err)
				}
				_, err := d.Get(t.Context(), f.users, name)
				wantRefused(t, "GET users/"+name, err, directory.NotFound, "")
				err = d.Delete(t.Context(), f.users, name, directory.Condition{})
				wantRefused(t, "DELETE users/"+name+" again", err, directory.NotFound, "")
			}
			member := f.raw(t, ops)["member"]
			if len(member) != 1 || !ldapdir.SameDN(member[0], nobody) {
				t.Errorf("DELETE users/anna, users/jean left the members %q", member)
			}
			f.wantRaw(t, "DELETE users/anna, users/jean", ops, group, map[string][]string{"member": member})
			f.wantRaw(t, "DELETE users/anna, users/jean", db1, host, map[string][]string{"owner": nil})
			f.wantRaw(t, "DELETE users/jean", mixed, other, map[string][]string{"member": other["member"][:1]})
		})
	}
}

func TestWhatIsCreatedIsAsTheConfigurationSays(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	team := f.raw(t, mixed)
	f.replace(t, mixed, "member", append(slices.Clone(team["member"]), `uid=o'neil\2C \22x\22,ou=staff,`+acmeSuffix)...)
	set := map[string][]string{"uid": {`o'neil, "x"`}, "cn": {"Neil"}, "sn": {"O'Neil"}, "rooms": {"2", "1"}, "userPassword": {"neils-password"}}
	entry, err := d.Create(t.Context(), f.users, directory.Patch{Set: set})
	if err != nil {
		t.Fatalf("POST users %q: %v", set, err)
	}
	f.wantRaw(t, "POST users of a name that is still in a group", mixed, team, nil)
	found := f.raw(t, entry.DN())
	for attribute, want := range map[string][]string{
		"objectClass": {"inetOrgPerson", "acmePerson"}, "uid": {`o'neil, "x"`}, "cn": {"Neil"}, "sn": {"O'Neil"}, "acmeRoom": {"2", "1"},
	} {
		if diff := cmp.Diff(want, found[attribute]); diff != "" {
			t.Errorf("POST users %q, %s (-want +got):\n%s", set, attribute, diff)
		}
	}
	if want := `uid=o'neil\, \"x\",ou=staff,` + acmeSuffix; !ldapdir.SameDN(entry.DN(), want) {
		t.Errorf("POST users %q: want %s, got %s", set, want, entry.DN())
	}
	_, err = d.Create(t.Context(), f.users, directory.Patch{Set: map[string][]string{"uid": {"anna"}, "cn": {"A"}, "sn": {"B"}}})
	wantRefused(t, "POST users anna, who is in a sub-container", err, directory.AlreadyExists, "")
	_, err = d.Create(t.Context(), f.users, directory.Patch{Set: map[string][]string{"uid": {"no"}, "cn": {"A"}, "sn": {"B"}, "since": {"now"}}})
	wantRefused(t, "POST users with a field that can't be set", err, directory.Invalid, "since")
}

func TestPeopleOfAnyContainerAndClassLogIn(t *testing.T) {
	for name, overlays := range map[string]bool{"with a policy": true, "no overlays": false} {
		t.Run(name, func(t *testing.T) {
			f := startForeign(t, overlays)
			_, d := f.open(t)
			for login, dn := range map[string]string{"anna": anna, "ANNAM": anna, "karl": karl, "backup": backup} {
				account, err := d.Account(t.Context(), "uid", login)
				if err != nil || !ldapdir.SameDN(account.DN, dn) || account.Locked {
					t.Errorf("account of %s: want %s, unlocked, got %+v, %v", login, dn, account, err)
					continue
				}
				password := account.Name + "-password"
				if err := logIn(t, d, account.DN, password); err != nil {
					t.Errorf("log in as %s with %q: %v", account.DN, password, err)
				}
				for _, wrong := range []string{password + "x", ""} {
					wantRefused(t, "log in as "+login+" with "+wrong, logIn(t, d, account.DN, wrong), directory.InvalidCredentials, "")
				}
			}
			for login, code := range map[string]*directory.Code{"chris": directory.Ambiguous, "annie": directory.NotFound, "*": directory.NotFound, "": directory.NotFound} {
				_, err := d.Account(t.Context(), "uid", login)
				wantRefused(t, "account of "+login, err, code, "")
			}
			wantRefused(t, "log in without a password of one's own", logIn(t, d, jean, "jean-password"), directory.InvalidCredentials, "")
			for _, member := range []struct {
				group, dn string
				want      bool
			}{
				{ops, anna, true}, {strings.ToUpper(ops), "uid=ANNA , ou=berlin,ou=staff," + acmeSuffix, true},
				{ops, zoe, false}, {empty, anna, false}, {"cn=gone," + acmeSuffix, anna, false},
			} {
				if got := isMember(t, d, member.group, member.dn); got != member.want {
					t.Errorf("%s is a member of %s: want %v, got %v", member.dn, member.group, member.want, got)
				}
			}
		})
	}
}

func logIn(t *testing.T, d *ldapdir.Directory, dn, password string) error {
	t.Helper()
	_, err := d.Authenticate(t.Context(), dn, password)
	return err
}

func isMember(t *testing.T, d *ldapdir.Directory, group, dn string) bool {
	t.Helper()
	groups, err := d.Groups(t.Context(), dn)
	if err != nil {
		t.Errorf("the groups of %s: %v", dn, err)
	}
	return slices.ContainsFunc(groups, func(g string) bool { return ldapdir.SameDN(g, group) })
}

// at is a moment as LDAP writes it.
func at(fromNow time.Duration) string { return time.Now().UTC().Add(fromNow).Format("20060102150405Z") }

func TestAnEndDateOfSomebodyElsesSurvivesALockAndItsEnd(t *testing.T) {
	f := startForeign(t, true)
	d, bare := f.open(t)
	password := "anna-password"
	for _, end := range []string{
		"", "20991231235959Z", "20991231235959.125Z", "20991231235959+0130", "209912312359Z", "2099123123-08", "209912312359,5Z",
	} {
		values := slices.DeleteFunc([]string{end}, func(s string) bool { return s == "" })
		f.replace(t, anna, "pwdEndTime", values...)
		before := f.raw(t, anna)
		wantShown(t, getEntry(t, d, f.users, "anna"), "accountLocked", directory.False)
		for range 2 {
			wantShown(t, patchEntry(t, d, f.users, "anna", map[string][]string{"accountLocked": {directory.True}}), "accountLocked", directory.True)
		}
		wantRefused(t, "log in with a lock, the end date "+end, logIn(t, bare, anna, password), directory.InvalidCredentials, "")
		password = "another-password" + end
		wantShown(t, patchEntry(t, d, f.users, "anna", map[string][]string{"userPassword": {password}}), "accountLocked", directory.True)
		wantRefused(t, "log in with a new password and a lock", logIn(t, bare, anna, password), directory.InvalidCredentials, "")
		wantShown(t, patchEntry(t, d, f.users, "anna", map[string][]string{"accountLocked": {directory.False}}), "accountLocked", directory.False)
		if err := logIn(t, bare, anna, password); err != nil {
			t.Errorf("log in after the lock, the end date %q: %v", end, err)
		}
		after := f.raw(t, anna)
		f.wantRaw(t, "locked, given a password and unlocked, the end date "+end, anna, before, map[string][]string{
			"userPassword": after["userPassword"], "pwdChangedTime": after["pwdChangedTime"], "pwdHistory": after["pwdHistory"]})
	}
}

func TestAccountLockedIsWhatTheServerSays(t *testing.T) {
	f := startForeign(t, true)
	d, bare := f.open(t)
	const lockout = 2 * time.Hour // the policy's
	for _, state := range []struct {
		name, attribute, value string
		locked                 bool
		// fixed locks are a date of somebody else's, and not for an admin here to end
		fixed bool
	}{
		{"no lock", "pwdEndTime", "", false, false},
		{"a fresh lock by failed logins", "pwdAccountLockedTime", at(-time.Minute), true, false},
		{"a lock that lasts for a while yet", "pwdAccountLockedTime", at(-lockout + 10*time.Minute), true, false},
		{"a lock that is over", "pwdAccountLockedTime", at(-lockout - 10*time.Minute), false, false},
		{"a lock that is to come", "pwdAccountLockedTime", at(time.Hour), false, false},
		{"a lock for good by another client", "pwdAccountLockedTime", "000001010000Z", true, false},
		{"an end date in the past", "pwdEndTime", at(-time.Hour), true, true},
		{"an end date long ago", "pwdEndTime", "19700101000007Z", true, false}, // ours
		{"an end date to come", "pwdEndTime", at(time.Hour), false, false},
		{"a start date to come", "pwdStartTime", at(time.Hour), true, true},
		{"a start date in the past", "pwdStartTime", at(-time.Hour), false, false},
	} {
		t.Run(state.name, func(t *testing.T) {
			set := slices.DeleteFunc([]string{state.value}, func(s string) bool { return s == "" })
			f.replace(t, anna, state.attribute, set...)
			defer f.replace(t, anna, state.attribute)
			before := f.raw(t, anna)
			wantShown(t, getEntry(t, d, f.users, "anna"), "accountLocked", fmt.Sprint(state.locked))
			account, err := bare.Account(t.Context(), "uid", "anna")
			if err != nil || account.Locked != state.locked {
				t.Errorf("account of anna: want locked %v, got %+v, %v", state.locked, account, err)
			}
			f.wantRaw(t, "reading", anna, before, nil)
			if err := logIn(t, bare, anna, "anna-password"); (err != nil) != state.locked {
				t.Errorf("accountLocked says %v, and a login %v", state.locked, err)
			}
			before = f.raw(t, anna) // a login may have removed a lock that is over
			_, err = tryPatch(t.Context(), d, f.users, "anna", map[string][]string{"accountLocked": {directory.False}})
			if state.fixed {
				wantRefused(t, "PATCH users/anna accountLocked: false", err, directory.Invalid, "accountLocked")
				f.wantRaw(t, "a PATCH that was refused", anna, before, nil)
				return
			}
			if err != nil {
				t.Errorf("PATCH users/anna accountLocked: false: %v", err)
			}
			if err := logIn(t, bare, anna, "anna-password"); err != nil {
				t.Errorf("log in after PATCH users/anna accountLocked: false: %v", err)
			}
		})
	}
}

func TestALockThatOutlastsTheEndDateCantBeEnded(t *testing.T) {
	f := startForeign(t, true)
	d, _ := f.open(t)
	f.replace(t, anna, "pwdEndTime", at(time.Hour))
	patchEntry(t, d, f.users, "anna", map[string][]string{"accountLocked": {directory.True}})
	ours := f.raw(t, anna)["pwdEndTime"][0]
	f.replace(t, anna, "pwdEndTime", strings.Replace(ours, at(time.Hour)[:4], "2001", 1))
	_, err := tryPatch(t.Context(), d, f.users, "anna", map[string][]string{"accountLocked": {directory.False}})
	wantRefused(t, "PATCH users/anna accountLocked: false, with the end date "+f.raw(t, anna)["pwdEndTime"][0], err, directory.Invalid, "accountLocked")
}

func TestWithoutAPasswordPolicyLocksAreRefusedByName(t *testing.T) {
	f := startForeign(t, false)
	d, _ := f.open(t)
	for _, entry := range listEntries(t, d, f.users) {
		wantShown(t, entry, "accountLocked", directory.False)
		wantShown(t, entry, "memberOfs")
	}
	before := f.raw(t, anna)
	patchEntry(t, d, f.users, "anna", map[string][]string{"accountLocked": {directory.False}})
	lock := map[string][]string{"accountLocked": {directory.True}, "title": {"Locked out"}}
	_, err := tryPatch(t.Context(), d, f.users, "anna", lock)
	wantRefused(t, fmt.Sprintf("PATCH users/anna %q", lock), err, directory.UnsupportedByDirectory, "")
	f.wantRaw(t, "what was refused", anna, before, nil)
	lock = map[string][]string{"accountLocked": {directory.True}, "uid": {"new"}, "cn": {"New"}, "sn": {"New"}}
	_, err = d.Create(t.Context(), f.users, directory.Patch{Set: lock})
	wantRefused(t, fmt.Sprintf("POST users %q", lock), err, directory.UnsupportedByDirectory, "")
	_, err = tryPatch(t.Context(), d, f.users, "anna", map[string][]string{"userPassword": {"kept in clear"}})
	wantRefused(t, "PATCH users/anna userPassword, where passwords are not hashed", err, directory.UnsupportedByDirectory, "")
	f.wantRaw(t, "what was refused", anna, before, nil)
	patchEntry(t, d, f.users, "anna", map[string][]string{"title": {"Chief"}})
	f.wantRaw(t, "PATCH users/anna title", anna, before, map[string][]string{"title": {"Chief", "First aider"}})
}

func TestAFlatContainerMayBeNamedByAnotherFieldThanTheKey(t *testing.T) {
	f := startForeign(t, true)
	f.options.Mappings[0].Container, f.options.Mappings[0].Deep, f.options.Mappings[0].NamingAttribute = "ou=contractors,"+acmeSuffix, false, "cn"
	d, bare := f.open(t)
	const bo, eve = "cn=Bo Ek,ou=contractors," + acmeSuffix, `employeeNumber=77+cn=Eve\2C the \22Auditor\22,ou=contractors,` + acmeSuffix
	for name, dn := range map[string]string{"bo": bo, "eve": eve} {
		entry := getEntry(t, d, f.users, name)
		wantShown(t, entry, "cn", map[string]string{"bo": "Bo Ek", "eve": `Eve, the "Auditor"`}[name])
		if !ldapdir.SameDN(entry.DN(), dn) {
			t.Errorf("GET users/%s: want %s, got %s", name, dn, entry.DN())
		}
		before := f.raw(t, dn)
		_, err := tryPatch(t.Context(), d, f.users, name, map[string][]string{"cn": {"Other"}})
		wantRefused(t, "PATCH users/"+name+" cn", err, directory.Invalid, "cn")
		_, err = tryPatch(t.Context(), d, f.users, name, map[string][]string{"uid": {"other"}})
		wantRefused(t, "PATCH users/"+name+" uid", err, directory.Invalid, "uid")
		patchEntry(t, d, f.users, name, map[string][]string{"title": {"Guest"}, "cn": entry.Values("cn")})
		f.wantRaw(t, "PATCH users/"+name+" title", dn, before, map[string][]string{"title": {"Guest"}})
		if err := d.AddValue(t.Context(), f.groups, "ops", "members", "users/"+name, directory.Condition{}); err != nil {
			t.Errorf("PUT groups/ops/members/users/%s: %v", name, err)
		}
		if member := isMember(t, bare, ops, dn); !member {
			t.Errorf("%s is a member of ops: got %v", name, member)
		}
		wantShown(t, getEntry(t, d, f.users, name), "memberOfs", ops)
		if err := d.Delete(t.Context(), f.users, name, directory.Condition{}); err != nil {
			t.Errorf("DELETE users/%s: %v", name, err)
		}
		if member := isMember(t, bare, ops, dn); member {
			t.Errorf("%s is a member of ops after DELETE: got %v", name, member)
		}
	}
	entry, err := d.Create(t.Context(), f.users, directory.Patch{Set: map[string][]string{"uid": {"new"}, "cn": {"Brand New"}, "sn": {"New"}}})
	if err != nil || !ldapdir.SameDN(entry.DN(), "cn=Brand New,ou=contractors,"+acmeSuffix) {
		t.Errorf("POST users new: got %s, %v", entry.DN(), err)
	}
	_, err = d.Create(t.Context(), f.users, directory.Patch{Set: map[string][]string{"uid": {"new2"}, "cn": {"Brand New"}, "sn": {"New"}}})
	wantRefused(t, "POST users of a taken cn", err, directory.AlreadyExists, "")
	_, err = d.Create(t.Context(), f.users, directory.Patch{Set: map[string][]string{"uid": {"new"}, "cn": {"Brand Newer"}, "sn": {"New"}}})
	wantRefused(t, "POST users of a taken uid", err, directory.AlreadyExists, "")
}

func TestDeepConfigurationFindsNamesOfTwoPartsInAFlatContainer(t *testing.T) {
	f := startForeign(t, true)
	f.options.Mappings[0].Container = "ou=interns," + acmeSuffix
	d, _ := f.open(t)
	for _, name := range []string{"ida", "ines"} {
		wantShown(t, patchEntry(t, d, f.users, name, map[string][]string{"title": {"Intern"}}), "title", "Intern")
	}
}

func TestFieldsMayBeKeptInOtherAttributes(t *testing.T) {
	f := startForeign(t, true)
	users, groups, hosts := &f.options.Mappings[0], &f.options.Mappings[1], &f.options.Mappings[2]
	f.users = kindOf(t, directory.Users(), "uid",
		directory.Field{Name: "uidNumber", Required: true}, directory.Field{Name: "gidNumber", Required: true}, directory.Field{Name: "home", Required: true})
	users.Kind, users.ObjectClasses = f.users, []string{"inetOrgPerson", "posixAccount"}
	users.Attributes = map[string]ldapdir.Attribute{
		"displayName": {Type: "gecos"}, "description": {Type: "description;lang-de"}, "sshPublicKeys": {Type: "labeledURI"},
		"uidNumber": {Type: "uidNumber"}, "gidNumber": {Type: "gidNumber"}, "home": {Type: "homeDirectory"},
	}
	groups.Container, groups.ObjectClasses = "ou=guilds,"+acmeSuffix, []string{"groupOfUniqueNames"}
	groups.Attributes = map[string]ldapdir.Attribute{"members": {Type: "uniqueMember"}}
	hosts.Attributes = map[string]ldapdir.Attribute{"owners": {Type: "manager", ObjectClass: "ipHost"}}
	d, bare := f.open(t)

	before := f.raw(t, anna)
	wantShown(t, getEntry(t, d, f.users, "anna"), "displayName", "Anna Mueller,R1,1234")
	wantShown(t, getEntry(t, d, f.users, "anna"), "description", "Kennt die alten Maschinen")
	patchEntry(t, d, f.users, "anna", map[string][]string{"displayName": {"Anna"}, "description": {"Neu"}, "home": {"/home/a"}})
	f.wantRaw(t, "PATCH users/anna", anna, before, map[string][]string{"gecos": {"Anna"}, "description;lang-de": {"Neu"}, "homeDirectory": {"/home/a"}})
	_, err := tryPatch(t.Context(), d, f.users, "anna", map[string][]string{"displayName": {"Ännä"}}) // gecos is ASCII
	wantRefused(t, "PATCH users/anna displayName, which the attribute does not take", err, directory.Invalid, "displayName")
	_, err = tryPatch(t.Context(), d, f.users, "jean", map[string][]string{"displayName": {"Jean"}})
	wantRefused(t, "PATCH users/jean displayName, who has no posixAccount", err, directory.Invalid, "displayName")
	set := map[string][]string{"uid": {"new"}, "cn": {"New"}, "sn": {"New"}, "displayName": {"N"}, "uidNumber": {"9"}, "gidNumber": {"9"}}
	_, err = d.Create(t.Context(), f.users, directory.Patch{Set: set})
	wantRefused(t, fmt.Sprintf("POST users %q", set), err, directory.Invalid, "home")
	set["home"] = []string{"/home/new"}
	if _, err := d.Create(t.Context(), f.users, directory.Patch{Set: set}); err != nil {
		t.Errorf("POST users %q: %v", set, err)
	}

	const smiths = "cn=smiths,ou=guilds," + acmeSuffix
	wantShown(t, getEntry(t, d, f.groups, "smiths"), "members", anna)
	if err := d.AddValue(t.Context(), f.groups, "smiths", "members", "users/jean", directory.Condition{}); err != nil {
		t.Errorf("PUT groups/smiths/members/users/jean: %v", err)
	}
	if member := isMember(t, bare, smiths, jean); !member {
		t.Errorf("jean is a member of smiths: got %v", member)
	}
	wantShown(t, getEntry(t, d, f.hosts, "db1.acme.test"), "owners", anna)
	for _, name := range []string{"anna", "jean"} {
		if err := d.Delete(t.Context(), f.users, name, directory.Condition{}); err != nil {
			t.Errorf("DELETE users/%s: %v", name, err)
		}
	}
	wantShown(t, getEntry(t, d, f.groups, "smiths"), "members")
	wantShown(t, getEntry(t, d, f.hosts, "db1.acme.test"), "owners")
	if _, err := d.Create(t.Context(), f.groups, directory.Patch{Set: map[string][]string{"cn": {"tailors"}}}); err != nil {
		t.Errorf("POST groups tailors: %v", err)
	}
}

func TestOptionsThatCantBeRightAreRefusedAllAtOnce(t *testing.T) {
	f := startForeign(t, true)
	f.users = kindOf(t, directory.Users(), "uid", directory.Field{Name: "unmapped"}, directory.Field{Name: "twice"}, directory.Field{Name: "images", List: true})
	users, groups, hosts := &f.options.Mappings[0], &f.options.Mappings[1], &f.options.Mappings[2]
	users.Kind, users.Container, users.NamingAttribute, users.Filter, users.ObjectClasses = f.users, "nowhere", "jpegPhoto", "(objectClass=person", nil
	users.Attributes = map[string]ldapdir.Attribute{
		"twice": {Type: "MAIL"}, "images": {Type: "jpegPhoto"}, "noField": {Type: "carLicense"}, "sn": {Type: "Surname"}, "title": {Type: "2.5.4.12"},
		"accountLocked": {Type: "nsAccountLock"},
	}
	groups.Container, groups.Placeholder, groups.NamingAttribute = "", "nobody", ""
	hosts.Filter, hosts.Placeholder = "objectClass=device", " "
	f.options.LoginField, f.options.BaseDN, f.options.URL = "login", "Acme", "acme"
	d, err := ldapdir.New(f.options)
	if err == nil {
		d.Close()
		t.Fatal("New takes them")
	}
	for _, want := range []string{
		`the LDAP URL`, `the base "Acme" is not a DN`,
		`users: the container "nowhere" is not a DN`, `users: no object class`, `users: the filter "(objectClass=person"`,
		`users: the field "unmapped" has no attribute`, `users: the fields "mail" and "twice" have the same attribute`,
		`users: the attribute "Surname" of the field "sn" must go by the name that the server answers with, such as sn`,
		`users: the attribute "2.5.4.12" of the field "title" must`,
		`users: an attribute is given for "noField", which is no field`, `users: the naming attribute "jpegPhoto" belongs to no`,
		`users: the field "accountLocked" can't have another attribute than pwdAccountLockedTime`, `users: the login field "login" is no field`,
		`groups: the container "" is not a DN`, `groups: the placeholder "nobody" is not a DN`, `groups: the naming attribute "" belongs to no`,
		`hosts: the filter "objectClass=device"`, `hosts: the placeholder " " is not a DN`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New does not say %s, but:\n%v", want, err)
		}
	}
	f.options = startForeign(t, true).options
	f.options.BaseDN = "ou=staff," + acmeSuffix
	if d, err := ldapdir.New(f.options); err == nil || !strings.Contains(err.Error(), `groups: the container "ou=teams,`+acmeSuffix+`" is not below the base`) {
		if d != nil {
			d.Close()
		}
		t.Errorf("a container that is not below the base: got %v", err)
	}
}
