package ldapdir_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// listSchema has a list without an equality rule. The arc 2.999 is for examples.
const listSchema = `
attributetype ( 2.999.3.1 NAME 'listNote' SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
attributetype ( 2.999.3.2 NAME 'listRoom' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 2.999.3.3 NAME 'listed' SUP top AUXILIARY MAY ( listNote $ listRoom ) )
`

func startWithLists(t *testing.T) *slapd.Server {
	t.Helper()
	return ldapdirtest.Start(t, slapd.Options{Config: func(conf string) string {
		return strings.Replace(conf, "\nmodulepath ", listSchema+"\nmodulepath ", 1)
	}})
}

// overheard is a directory of users with lists, of which the Modifies that it sends are heard.
type overheard struct {
	*ldapdir.Directory
	users *directory.Kind

	mutex    sync.Mutex
	modifies []string
}

func overhear(t *testing.T, server *slapd.Server) *overheard {
	t.Helper()
	o := &overheard{users: kindOf(t, directory.Users(), "cn",
		directory.Field{Name: "notes", List: true}, directory.Field{Name: "rooms", List: true})}
	p := newProxy(t, strings.TrimPrefix(server.URL(), "ldap://"))
	p.onRequest(func(_ *link, m message) int {
		if m.op == 0x66 {
			o.mutex.Lock()
			defer o.mutex.Unlock()
			o.modifies = append(o.modifies, changesOf(t, m))
		}
		return everything
	})
	options := ldapdirtest.Options(server)
	options.URL = "ldap://" + p.listener.Addr().String()
	options.Mappings[0].Kind = o.users
	options.Mappings[0].Attributes = map[string]ldapdir.Attribute{
		"notes": {Type: "listNote", ObjectClass: "listed"}, "rooms": {Type: "listRoom", ObjectClass: "listed"},
	}
	o.Directory = ldapdirtest.Open(t, options)
	return o
}

// changesOf says what a Modify (RFC 4511 §4.6) is made of. Its beginning must hold the changes.
func changesOf(t *testing.T, m message) string {
	header := 2
	if m.head[1] >= 0x80 {
		header += int(m.head[1] & 0x7f)
	}
	r := bytes.NewReader(m.head[header:])
	_, err := ber.ReadPacket(r) // the message's ID
	if err != nil {
		t.Error(err)
	}
	modify, err := ber.ReadPacket(r)
	if err != nil {
		t.Errorf("a Modify is too long to be overheard: %v", err)
		return err.Error()
	}
	var changes []string
	for _, change := range modify.Children[1].Children {
		operation := map[any]string{int64(ldap.AddAttribute): "add", int64(ldap.DeleteAttribute): "delete", int64(ldap.ReplaceAttribute): "replace"}
		words := []string{operation[change.Children[0].Value], change.Children[1].Children[0].Data.String() + ":"}
		for _, value := range change.Children[1].Children[1].Children {
			words = append(words, value.Data.String())
		}
		changes = append(changes, strings.Join(words, " "))
	}
	return strings.Join(changes, "; ")
}

// update sets one field, and returns the Modifies that this took.
func (o *overheard) update(t *testing.T, name, field string, values []string) []string {
	t.Helper()
	o.mutex.Lock()
	o.modifies = nil
	o.mutex.Unlock()
	entry := patchEntry(t, o, o.users, name, map[string][]string{field: values})
	if !directory.SameValues(entry.Values(field), values) {
		t.Errorf("%s is %q, want %q", field, entry.Values(field), values)
	}
	o.mutex.Lock()
	defer o.mutex.Unlock()
	return slices.Clone(o.modifies)
}

func TestAListChangesByValueWhereThatKeepsItsOrder(t *testing.T) {
	server := startWithLists(t)
	o := overhear(t, server)
	for i, c := range []struct {
		rule          string
		before, after string
		modify        string // the one that it takes, "" for none
		stored        string // as they are afterwards where that is not after
	}{
		{"what comes at the end is added", "a b", "a b c d", "add K: c d", ""},
		{"what goes is deleted", "a b c d", "b d", "delete K: a c", ""},
		{"what goes is deleted, then what comes is added", "a b c", "a c d", "delete K: b; add K: d", ""},
		{"all others", "a b", "c d", "delete K: a b; add K: c d", ""},
		{"the same but for the case of letters", "a b", "a B", "delete K: b; add K: B", ""},
		{"the first values bring their class", "", "a b", "add K: a b; add objectClass: ldapPublicKey", ""},
		{"the last values take their class with them", "a b", "", "delete K: a b; delete objectClass: ldapPublicKey", ""},
		{"another order is no change", "a b c", "c b a", "", "a b c"},
		{"a value at the beginning takes a replace", "a b", "c a b", "replace K: c a b", ""},
		{"a value in between takes a replace", "a b", "a c b", "replace K: a c b", ""},
		{"another value in the place of one takes a replace", "a b c", "a d c", "replace K: a d c", ""},
		{"another order and one value more take a replace", "a b c", "c a b d", "replace K: c a b d", ""},
		{"another order and one value less take a replace", "a b c", "c a", "replace K: c a", ""},
	} {
		t.Run(c.rule, func(t *testing.T) {
			l, name := on(t, server), fmt.Sprint("user", i)
			l.add(0, userDN(name), "sn", "x")
			if c.before != "" {
				l.modify(0, userDN(name), adding("objectClass", "ldapPublicKey"), adding("sshPublicKey", strings.Fields(c.before)...))
			}
			var want []string
			if c.modify != "" {
				want = []string{strings.ReplaceAll(c.modify, "K:", "sshPublicKey:")}
			}
			if diff := cmp.Diff(want, o.update(t, name, "sshPublicKeys", strings.Fields(c.after))); diff != "" {
				t.Errorf("from %q to %q (-want +sent):\n%s", c.before, c.after, diff)
			}
			if c.stored == "" {
				c.stored = c.after
			}
			l.has(userDN(name), "sshPublicKey", strings.Fields(c.stored)...)
		})
	}
}

func TestAValueThatIsNoTextIsDeletedAsItIsStored(t *testing.T) {
	server := startWithLists(t)
	o, l, dn := overhear(t, server), on(t, server), userDN("bytes")
	l.add(0, dn, "sn", "x")
	l.modify(0, dn, adding("objectClass", "ldapPublicKey"), adding("sshPublicKey", "a", "key \xff", "key \xfe", "b"))
	steps := []struct {
		values []string
		modify string
	}{
		{[]string{"a", "key \uFFFD", "b"}, "delete sshPublicKey: key \xfe"}, // they look the same: the first stays
		{[]string{"a", "b", "c"}, "delete sshPublicKey: key \xff; add sshPublicKey: c"},
	}
	for _, step := range steps {
		if got := o.update(t, "bytes", "sshPublicKeys", step.values); !slices.Equal(got, []string{step.modify}) {
			t.Errorf("%q took %q, want %q", step.values, got, step.modify)
		}
	}
	l.has(dn, "sshPublicKey", "a", "b", "c")
}

func TestAListWithoutAnEqualityRuleIsReplaced(t *testing.T) {
	server := startWithLists(t)
	o, l, dn := overhear(t, server), on(t, server), userDN("notes")
	l.add(0, dn, "sn", "x")
	l.modify(0, dn, adding("objectClass", "listed"), adding("listNote", "a", "b"))
	l.modify(18, dn, deleting("listNote", "a"))
	l.modify(18, dn, adding("listNote", "c"))

	for _, step := range []struct {
		values []string
		want   []string
	}{
		{[]string{"a", "b", "c"}, []string{"add listNote: c", "replace listNote: a b c"}},
		{[]string{"a", "c"}, []string{"delete listNote: b", "replace listNote: a c"}},
		{nil, []string{"delete listNote: a c; delete objectClass: listed", "replace listNote:; delete objectClass: listed"}},
		{[]string{"a"}, []string{"add listNote: a; add objectClass: listed"}},
	} {
		if diff := cmp.Diff(step.want, o.update(t, "notes", "notes", step.values)); diff != "" {
			t.Errorf("%q (-want +sent):\n%s", step.values, diff)
		}
		l.has(dn, "listNote", step.values...)
	}
}

func TestAClassGoesWithTheLastValueOfItsLists(t *testing.T) {
	server := startWithLists(t)
	o, l, dn := overhear(t, server), on(t, server), userDN("rooms")
	l.add(0, dn, "sn", "x")
	for _, step := range []struct {
		field  string
		values []string
		listed bool
	}{
		{"rooms", []string{"1"}, true},
		{"notes", []string{"a"}, true},
		{"rooms", []string{"2"}, true}, // deleted and added: never without
		{"rooms", nil, true},
		{"notes", nil, false},
	} {
		o.update(t, "rooms", step.field, step.values)
		if listed := slices.Contains(l.values(dn, "objectClass"), "listed"); listed != step.listed {
			t.Errorf("with %s %q, has the class: %t", step.field, step.values, listed)
		}
	}
}
