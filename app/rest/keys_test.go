package rest_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/ldapdir"
	"rollcall/app/ldapdir/ldapdirtest"
)

// Keys that are too weak, made by ssh-keygen.
const (
	rsa1024Key = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDGtS1hG/6y9zX7OFfC16cKHO5TP5hYoP0DjH82tYshP28WSgJ5k7cqtyn8rLrpMUMoBufOMMvnpXUDq8Im/e60RzO4pHMv3Uk8Pb2uO0U18H2TnrGglF+D7iBAlVtnvjwOJ7a4bVMGYmqacbtoxM9KzuImG1kpXuyO9XkHMsbSrQ== weak"
	dsaKey     = "ssh-dss AAAAB3NzaC1kc3MAAACBALgI5lA4LfNLO46LA09opG7lJAz4q2KrX5gqbsmECjLLhMVtckSlMrLG1ierNS57U9bw/4GRfIiGjkd6TDgoGxoBw70Z64hoQqnPSRkH9DCcC80ojI0BhFvwn9SNBPqaG7oqEyJFVN847T/RMhhVon0TZmDt4r36+INCAbUjASR1AAAAFQDdGzrB+jkboaDMYWY0SNb+ZaLwcwAAAIA0T6722pKEQu3szAz3tg7dIe/CqUeJFujlMgkgr5WzwrxILThSRzS+dcdLYETjAR5cjuq9XN0ostu79Y+YbkMW6SpJCtNGSpqpdTS8N9QDbQi8bRt6b9KBWHy7ld4cNAliC9YqhLmrIKaqumJAeObEF1nnFaITtqDCO2NRkR0PaQAAAIB48RTj0Wg5/ITsMz9qU6+qXBmpgTGosG50o9/LCQeU5ko+pz+Vu6rcd9EvevI8EXXUIWEnHoc0q6AMhU/SLdtAApX1dB8FPcx12aCaiO/g8v48bJn1FqhPPY9fiaUoeHv5GXaapOBLxM2BVkDc5nuO37Gr/7XTkGXc6hMjjevShA== dsa"
)

// newKey returns a key that nobody has.
func newKey(t testing.TB) string {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// fingerprintOf returns a key's fingerprint.
func fingerprintOf(t testing.TB, line string) string {
	t.Helper()
	key, err := directory.ParseSSHKey(line)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return key.Fingerprint
}

// withKey gives the target of a route about a key one, and returns the path to it.
func (w *world) withKey(path string) string {
	w.t.Helper()
	entry, variable := strings.CutSuffix(path, "/keys/{fingerprint}")
	if !variable {
		return path
	}
	key := newKey(w.t)
	w.do("PATCH", entry, object{"sshPublicKeys": []string{key}}).want(200)
	return entry + "/keys/" + strings.NewReplacer("+", "-", "/", "_").Replace(fingerprintOf(w.t, key))
}

// shownKey is a key as answers show it.
type shownKey struct {
	Fingerprint, Type, Comment, Reason, Key string
	Bits                                    int
	Options                                 []string
	AddedAt, ExpiresAt                      *time.Time
	Expired, Usable                         bool
}

func (x *exchange) key() (key shownKey) {
	x.t.Helper()
	x.decode(&key)
	return key
}

// keysOf returns the keys of an entry.
func (a *api) keysOf(path string) (keys []shownKey) {
	a.t.Helper()
	a.do("GET", path+"/keys", nil).want(200).decode(&keys)
	return keys
}

func TestAKeyIsAddedAndRemoved(t *testing.T) {
	a := newAPI(t)
	for _, path := range []string{"/users/alice", "/hosts/web1", "/hosts/printer"} {
		if path == "/hosts/printer" {
			a.do("POST", "/hosts", object{"cn": "printer"}).want(201)
		}
		before := a.do("GET", path, nil).want(200).object()["sshPublicKeys"].([]any)
		line := newKey(t)
		began := time.Now().Truncate(time.Second)
		added := a.do("POST", path+"/keys", object{"key": "no-pty " + line + "  a\tcomment added=2001-01-01T00:00:00Z\n", "expiresAt": "2099-12-31T23:30:00.999+02:00"}).want(201)
		key := added.key()
		text := `no-pty,expiry-time="20991231213000Z" ` + line + "  a comment"
		text = strings.Replace(text, line+" ", line, 1)
		end := time.Date(2099, 12, 31, 21, 30, 0, 0, time.UTC)
		if key.Fingerprint != fingerprintOf(t, line) || key.Type != "ssh-ed25519" || key.Bits != 256 || key.Comment != "a comment" || key.Expired || key.Reason != "" || !key.Usable ||
			key.AddedAt == nil || key.AddedAt.Before(began) || key.ExpiresAt == nil || !key.ExpiresAt.Equal(end) ||
			key.Key != text+" added="+key.AddedAt.Format(time.RFC3339) || !slices.Equal(key.Options, []string{"no-pty", `expiry-time="20991231213000Z"`}) {
			added.fail("the key is not what was sent, as %s", text)
		}
		entry := a.do("GET", path, nil).want(200)
		if entry.etag() != added.etag() || added.etag() == "" {
			entry.fail("the tag was %s", added.etag())
		}
		var lines []string
		for _, value := range append(slices.Clone(before), key.Key) {
			lines = append(lines, value.(string))
		}
		entry.field("sshPublicKeys", lines)
		if keys := a.keysOf(path); len(keys) != len(lines) || !cmp.Equal(keys[len(keys)-1], key) {
			t.Errorf("%s has the keys %+v", path, keys)
		}
		location := strings.TrimPrefix(added.Header.Get("Location"), a.URL)
		if read := a.do("GET", location, nil).want(200); !cmp.Equal(read.key(), key) {
			read.fail("the key is not what was added")
		}
		a.do("DELETE", location, nil).want(204)
		a.do("DELETE", location, nil).refused(directory.NotFound)
		a.do("GET", location, nil).refused(directory.NotFound)
		a.do("GET", path, nil).field("sshPublicKeys", lines[:len(before)])
	}
	a.do("GET", "/groups/devs/keys", nil).refused(directory.NoSuchRoute)
	a.do("PUT", "/users/alice/keys", nil).refused(directory.MethodNotAllowed)
	a.do("GET", "/users/nobody/keys", nil).refused(directory.NotFound)
	a.do("POST", "/users/nobody/keys", object{"key": newKey(t)}).refused(directory.NotFound)
}

// TestAFingerprintIsFoundHoweverItIsWritten in the path, for names with a slash as well.
func TestAFingerprintIsFoundHoweverItIsWritten(t *testing.T) {
	a := newAPI(t)
	const name = `x/keys/y%2F?#ü`
	a.do("POST", "/users", object{"cn": name, "sn": "x"}).want(201)
	path := client.Path("users", name)
	line, fingerprint := newKey(t), ""
	for !strings.Contains(fingerprint, "/") || !strings.Contains(fingerprint, "+") {
		line = newKey(t)
		fingerprint = fingerprintOf(t, line)
	}
	x := a.do("POST", path+"/keys", object{"key": line}).want(201)
	bare := strings.TrimPrefix(fingerprint, "SHA256:")
	safe := strings.NewReplacer("+", "-", "/", "_").Replace(fingerprint)
	if want := a.URL + path + "/keys/" + safe; x.Header.Get("Location") != want {
		x.fail("want the Location %s", want)
	}
	for _, form := range []string{url.PathEscape(fingerprint), url.QueryEscape(fingerprint), url.PathEscape(bare), safe, strings.TrimPrefix(safe, "SHA256:")} {
		if x := a.do("GET", path+"/keys/"+form, nil).want(200); x.key().Fingerprint != fingerprint {
			x.fail("want the key %s", fingerprint)
		}
	}
	for _, form := range []string{"x", "MD5:" + url.PathEscape(bare), "sha256:" + url.PathEscape(bare), url.PathEscape(bare) + "%3D", url.PathEscape(line), "%00", "*", strings.Repeat("A", 10_000)} {
		a.do("GET", path+"/keys/"+form, nil).refused(directory.NotFound)
		a.do("DELETE", path+"/keys/"+form, nil).refused(directory.NotFound)
	}
	a.do("GET", path+"/keys/"+fingerprint, nil).refused(directory.NoSuchRoute) // its slash is one of the path
	a.do("DELETE", path+"/keys/"+safe, nil).want(204)
}

func TestAKeyThatIsNotFitIsRefused(t *testing.T) {
	a := newAPI(t)
	key := newKey(t)
	past, future := time.Now().Add(-time.Second), time.Now().Add(time.Hour)
	form := func(key string, expiresAt ...any) object {
		o := object{"key": key}
		if expiresAt != nil {
			o["expiresAt"] = expiresAt[0]
		}
		return o
	}
	for name, row := range map[string]struct {
		body   any
		fields []string
	}{
		"nothing":                          {object{}, []string{"key"}},
		"no text":                          {object{"key": []string{key}}, []string{"key"}},
		"null":                             {object{"key": nil}, []string{"key"}},
		"an unknown field":                 {object{"key": key, "comment": "x"}, []string{"comment"}},
		"everything at once":               {object{"key": "x", "expiresAt": "x", "y": "z"}, []string{"key", "expiresAt", "y"}},
		"no key":                           {form("hello"), []string{"key"}},
		"two keys":                         {form(key + "\n" + newKey(t)), []string{"key"}},
		"a key behind a comment line":      {form("# x\n" + key), []string{"key"}},
		"a line in an option":              {form("command=\"x\n" + newKey(t) + "\" " + key), []string{"key"}},
		"a carriage return in a comment":   {form(key + " x\r" + newKey(t)), []string{"key"}},
		"a NUL in a comment":               {form(key + " x\x00y"), []string{"key"}},
		"a comment of 16 kB":               {form(key + " " + strings.Repeat("x", 16384)), []string{"key"}},
		"DSA":                              {form(dsaKey), []string{"key"}},
		"short RSA":                        {form(rsa1024Key), []string{"key"}},
		"an authority":                     {form("cert-authority " + key), []string{"key"}},
		"an authority in capitals":         {form("no-pty,Cert-Authority " + key), []string{"key"}},
		"principals":                       {form(`principals="root" ` + key), []string{"key"}},
		"an option that has expired":       {form(`expiry-time="20200101Z" ` + key), []string{"key"}},
		"an option that is no time":        {form(`expiry-time="soon" ` + key), []string{"key"}},
		"a time that is over":              {form(key, past), []string{"expiresAt"}},
		"a time that is over elsewhere":    {form(key, past.In(time.FixedZone("", 14*60*60))), []string{"expiresAt"}},
		"now, but for a fraction":          {form(key, time.Now().Truncate(time.Second).Add(time.Second-time.Nanosecond).Format(time.RFC3339Nano)), []string{"expiresAt"}},
		"a date":                           {form(key, "2099-12-31"), []string{"expiresAt"}},
		"a time without a zone":            {form(key, "2099-12-31T23:59:59"), []string{"expiresAt"}},
		"a time that is none":              {form(key, "2099-02-30T00:00:00Z"), []string{"expiresAt"}},
		"a time with a comma":              {form(key, "2099-12-31T23:59:59,5Z"), []string{"expiresAt"}},
		"an hour of one digit":             {form(key, "2099-12-31T3:59:59Z"), []string{"expiresAt"}},
		"no time at all":                   {form(key, ""), []string{"expiresAt"}},
		"a number":                         {form(key, 4102444800), []string{"expiresAt"}},
		"the year 10000 in UTC":            {form(key, "9999-12-31T23:59:59-12:00"), []string{"expiresAt"}},
		"a time with a quote":              {form(key, `2099-12-31T23:59:59Z",command="x`), []string{"expiresAt"}},
		"two times":                        {form(`expiry-time="20990101Z" `+key, future), []string{"expiresAt"}},
		"two times, of which one is wrong": {form(`Expiry-Time="20990101Z" `+key, past), []string{"expiresAt"}},
	} {
		t.Run(name, func(t *testing.T) {
			a.do("POST", "/users/alice/keys", row.body).refused(directory.Invalid, row.fields...)
			a.do("POST", "/users/alice/keys?dryRun=true", row.body).refused(directory.Invalid, row.fields...)
		})
	}
	if keys := a.keysOf("/users/alice"); len(keys) != 1 {
		t.Errorf("alice has %+v", keys)
	}
	a.do("POST", "/users/alice/keys", object{"key": key + " " + strings.Repeat("x", 16384-128-len(key)-1), "expiresAt": future, "y": "z"}).refused(directory.Invalid, "y")
	a.do("POST", "/users/alice/keys", object{"key": key + " " + strings.Repeat("x", 16384-128-len(key)-1), "expiresAt": future}).want(201)
	a.do("POST", "/users/bob/keys", object{"key": newKey(t), "expiresAt": nil}).want(201)
}

// TestAWeakKeyIsNewNowhere, and stays where it is.
func TestAWeakKeyIsNewNowhere(t *testing.T) {
	a := newAPI(t)
	kept := newKey(t)
	writeKeys(t, a, "bob", dsaKey, rsa1024Key, "cert-authority "+kept)
	for _, key := range []string{dsaKey + " again", rsa1024Key + " again", "cert-authority " + newKey(t), `expiry-time="x" ` + newKey(t)} {
		a.do("PATCH", "/users/bob", object{"sshPublicKeys": []string{dsaKey, rsa1024Key, "cert-authority " + kept, key}}).refused(directory.Invalid, "sshPublicKeys")
		a.do("POST", "/users", object{"cn": "x", "sn": "x", "sshPublicKeys": []string{key}}).refused(directory.Invalid, "sshPublicKeys")
	}
	a.do("POST", "/users/bob/keys", object{"key": newKey(t)}).want(201)
	var reasons []string
	for _, key := range a.keysOf("/users/bob") {
		if key.Usable != (key.Reason == "") {
			t.Errorf("%s is usable: %t, because it %q", key.Fingerprint, key.Usable, key.Reason)
		}
		reasons = append(reasons, key.Reason)
	}
	if want := []string{"is DSA, which OpenSSH takes no more; make an Ed25519 key", "has 1024 bits; RSA needs 2048",
		"has the option cert-authority, by which keys that are not in the directory could log in", ""}; !slices.Equal(reasons, want) {
		t.Errorf("the reasons are %q, want %q", reasons, want)
	}
}

// TestNobodyGetsTheKeyOfAnother, nor hears whose it is who may not read that.
func TestNobodyGetsTheKeyOfAnother(t *testing.T) {
	a := newAPI(t)
	a.do("POST", "/groups", object{"cn": "operators", "members": []string{"users/bob"}}).want(201)
	a.do("PUT", "/users/bob/password", object{"newPassword": "bob-password"}).want(204)
	alice, bob := a.as("alice", "alice-password"), a.as("bob", "bob-password")
	usersKey, hostsKey, own := newKey(t), newKey(t), newKey(t)
	a.do("POST", "/users/minjun/keys", object{"key": "no-pty " + usersKey + " minjun's"}).want(201)
	a.do("POST", "/hosts/web2/keys", object{"key": hostsKey}).want(201)
	alice.do("POST", "/users/alice/keys", object{"key": own}).want(201)
	for _, row := range []struct {
		as                 *api
		path, key, message string
	}{
		{a, "/users/alice", usersKey, "is the key of users/minjun already"},
		{a, "/hosts/web1", usersKey + " x", "is the key of users/minjun already"},
		{bob, "/users/alice", `expiry-time="20990101Z" ` + usersKey, "is the key of users/minjun already"},
		{bob, "/hosts/web1", hostsKey, "is the key of hosts/web2 already"},
		{a, "/users/alice", hostsKey, "is the key of hosts/web2 already"},
		{alice, "/users/alice", usersKey, "is somebody else's key already"},
		{alice, "/users/alice", hostsKey, "is somebody else's key already"},
	} {
		for _, query := range []string{"", "?dryRun=true"} {
			x := row.as.do("POST", row.path+"/keys"+query, object{"key": row.key}).refused(directory.Invalid, "key")
			if message := x.problem().Violations[0].Message; message != row.message {
				x.fail("want the message %q", row.message)
			}
		}
	}
	for _, key := range []string{own, "no-pty " + own + " another comment"} {
		alice.do("POST", "/users/alice/keys", object{"key": key}).refused(directory.AlreadyExists)
	}
	alice.do("POST", "/users/bob/keys", object{"key": usersKey}).refused(directory.Forbidden)
	alice.do("POST", "/hosts/web1/keys", object{"key": usersKey}).refused(directory.Forbidden)
	a.do("DELETE", "/users/minjun/keys/"+url.PathEscape(fingerprintOf(t, usersKey)), nil).want(204)
	alice.do("POST", "/users/alice/keys", object{"key": usersKey}).want(201)
}

// TestAKeyIsOneValueOfLDAP: what else is there is not sent, whatever it is.
func TestAKeyIsOneValueOfLDAP(t *testing.T) {
	a := newAPI(t)
	before := []string{newKey(t) + " one", "no key", "\xff\x00\xfe", newKey(t) + " caf\xe9", newKey(t) + " two"}
	writeKeys(t, a, "bob", before...)
	line := newKey(t)
	planned := func(x *exchange) string {
		t.Helper()
		var plan struct {
			Changes []struct {
				Modifications []struct {
					Operation, Type string
					Values          []string
				}
			}
		}
		if x.want(200).decode(&plan); len(plan.Changes) != 1 || len(plan.Changes[0].Modifications) != 1 || len(plan.Changes[0].Modifications[0].Values) != 1 {
			x.fail("this is not one value")
		}
		m := plan.Changes[0].Modifications[0]
		return m.Operation + " " + m.Type + " " + m.Values[0]
	}
	if got := planned(a.do("POST", "/users/bob/keys?dryRun=true", object{"key": line})); !strings.HasPrefix(got, "add sshPublicKey "+line+" added=") {
		t.Errorf("to add a key is to %s", got)
	}
	added := a.do("POST", "/users/bob/keys", object{"key": line}).want(201)
	location := strings.TrimPrefix(added.Header.Get("Location"), a.URL)
	if got := planned(a.do("DELETE", location+"?dryRun=true", nil)); got != "delete sshPublicKey "+added.key().Key {
		t.Errorf("to remove a key is to %s", got)
	}
	if got := readKeys(t, a, "bob"); !slices.Equal(got, append(slices.Clone(before), added.key().Key)) {
		t.Errorf("LDAP has %q", got)
	}
	a.do("DELETE", location, nil).want(204)
	for _, gone := range []int{3, 0} { // the one in Latin 1 as well
		a.do("DELETE", "/users/bob/keys/"+url.PathEscape(fingerprintOf(t, strings.ToValidUTF8(before[gone], ""))), nil).want(204)
		before = slices.Delete(before, gone, gone+1)
		if got := readKeys(t, a, "bob"); !slices.Equal(got, before) {
			t.Errorf("LDAP has %q, want %q", got, before)
		}
	}
}

// TestAValueOfAnotherClientIsOneKeyOrNone, and the last key takes its class along.
func TestAValueOfAnotherClientIsOneKeyOrNone(t *testing.T) {
	a := newAPI(t)
	fit := []string{newKey(t), newKey(t) + " with the end of its line\n", newKey(t) + " and of DOS\r\n", "\t" + newKey(t), `expiry-time="20200101" ` + newKey(t), `expiry-time="x" ` + newKey(t)}
	double := newKey(t)
	writeKeys(t, a, "bob", append(slices.Clone(fit), newKey(t)+"\n"+newKey(t), "# "+newKey(t), "# x\n"+newKey(t), newKey(t)+"\r"+newKey(t), "", "\n", newKey(t)+"\x00x",
		"no-pty "+double, double+" twice")...)
	keys := a.keysOf("/users/bob")
	if len(keys) != len(fit)+2 {
		t.Errorf("got %d keys, want %d: %+v", len(keys), len(fit)+2, keys)
	}
	for i, key := range keys {
		if strings.ContainsAny(key.Key, "\r\n\t\x00") || key.Expired != (i == 4 || i == 5) {
			t.Errorf("got %+v", key)
		}
		want := 204
		if i == len(fit)+1 { // went with the one before
			want = 404
		}
		a.do("DELETE", "/users/bob/keys/"+url.PathEscape(key.Fingerprint), nil).want(want)
	}
	if keys := a.keysOf("/users/bob"); len(keys) != 0 {
		t.Errorf("got %+v", keys)
	}
	writeKeys(t, a, "bob", fit[0])
	a.do("DELETE", "/users/bob/keys/"+url.PathEscape(fingerprintOf(t, fit[0])), nil).want(204)
	if keys := readKeys(t, a, "bob"); len(keys) > 0 {
		t.Errorf("got %q", keys)
	}
	a.do("POST", "/users/bob/keys", object{"key": fit[0]}).want(201)
}

// TestAllWhoAddKeysAtOnceSucceed, through two replicas, while others are removed.
func TestAllWhoAddKeysAtOnceSucceed(t *testing.T) {
	one := newAPI(t)
	two := newAPIOn(t, one.slapd)
	const adders = 8
	var old, want []string
	for range adders {
		old = append(old, newKey(t))
		want = append(want, newKey(t))
	}
	one.do("PATCH", "/users/bob", object{"sshPublicKeys": old}).want(200)
	var working sync.WaitGroup
	for i := range adders {
		a := []*api{one, two}[i%2]
		working.Go(func() {
			a.patiently("POST", "/users/bob/keys", object{"key": want[i]}, 201)
		})
		working.Go(func() {
			a.patiently("DELETE", "/users/bob/keys/"+url.PathEscape(fingerprintOf(t, old[i])), nil, 204)
		})
	}
	working.Wait()
	var got, fingerprints []string
	for _, key := range one.keysOf("/users/bob") {
		got = append(got, key.Fingerprint)
	}
	for _, key := range want {
		fingerprints = append(fingerprints, fingerprintOf(t, key))
	}
	slices.Sort(got)
	slices.Sort(fingerprints)
	if diff := cmp.Diff(fingerprints, got); diff != "" {
		t.Errorf("bob's keys: %s", diff)
	}
}

// patiently repeats what was answered with busy, as its Retry-After asks for.
func (a *api) patiently(method, path string, body any, want int) {
	for range 20 {
		x := a.do(method, path, body)
		switch {
		case x.Status == want:
			return
		case x.Status != 409 || x.problem().Code != directory.Busy.Name:
			a.t.Errorf("%s: got %d %s, want %d", x.request, x.Status, x.Body, want)
			return
		}
	}
	a.t.Errorf("%s %s is busy for ever", method, path)
}

func TestAKeyIsAddedToTheStateThatIsMeant(t *testing.T) {
	a := newAPI(t, func(s *settings) { s.rest.RequireIfMatch = true })
	tag := a.do("GET", "/users/bob", nil).etag()
	x := a.do("POST", "/users/bob/keys", object{"key": newKey(t)}, "If-Match", tag).want(201)
	location := strings.TrimPrefix(x.Header.Get("Location"), a.URL)
	a.do("POST", "/users/bob/keys", object{"key": newKey(t)}, "If-Match", tag).refused(directory.Stale)
	a.do("DELETE", location, nil, "If-Match", tag).refused(directory.Stale)
	a.do("POST", "/users/bob/keys", object{"key": newKey(t)}, "If-None-Match", "*").refused(directory.BadRequest)
	a.do("DELETE", location, nil, "If-Match", x.etag()).want(204)
	a.do("POST", "/users/bob/keys", object{"key": newKey(t)}).want(201)
}

// TestAUserWhoMayNotChangeKeysLearnsNothingOfThem: where sshPublicKeys is none of auth.own_fields.
func TestAUserWhoMayNotChangeKeysLearnsNothingOfThem(t *testing.T) {
	a, trail := newAudited(t)
	b := newAPIOn(t, a.slapd, func(s *settings) {
		d := ldapdirtest.Open(t, s.ldap)
		s.rest.Directory = directory.NewGuarded(directory.NewChecked(d), directory.Protection{SameDN: ldapdir.SameDN, Groups: d.Groups}, []string{"mobile"}, "uid")
	})
	taken := newKey(t)
	a.do("POST", "/users/minjun/keys", object{"key": taken}).want(201)
	alice := b.as("alice", "alice-password")
	for _, key := range []string{newKey(t), taken} {
		alice.do("POST", "/users/alice/keys", object{"key": key}).refused(directory.Forbidden, "sshPublicKeys")
	}
	x := a.as("alice", "alice-password").do("POST", "/users/alice/keys", object{"key": newKey(t)}).want(201)
	want := []directory.FieldChange{{Field: "sshPublicKeys", After: []string{x.key().Key}}}
	if events := trail.of(x); len(events) != 1 || !cmp.Equal(events[0].Changes, want) || events[0].Action != directory.ActionChange || events[0].Caller != "alice" {
		t.Errorf("the trail has %+v", events)
	}
}

// writeKeys gives a user keys as another LDAP client may.
func writeKeys(t *testing.T, a *api, name string, keys ...string) {
	t.Helper()
	modify := ldap.NewModifyRequest("cn="+name+",ou=people,"+ldapdirtest.Base, nil)
	modify.Replace("sshPublicKey", keys)
	if len(readKeys(t, a, name)) == 0 {
		modify.Add("objectClass", []string{"ldapPublicKey"})
	}
	if err := ldapdirtest.Bind(t, a.slapd).Modify(modify); err != nil {
		t.Fatal(err)
	}
}

// readKeys returns a user's keys as they are in LDAP.
func readKeys(t *testing.T, a *api, name string) []string {
	t.Helper()
	found, err := ldapdirtest.Bind(t, a.slapd).Search(ldap.NewSearchRequest("cn="+name+",ou=people,"+ldapdirtest.Base, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{"sshPublicKey"}, nil))
	if err != nil {
		t.Fatal(err)
	}
	return found.Entries[0].GetAttributeValues("sshPublicKey")
}
