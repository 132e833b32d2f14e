package directory_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"pgregory.net/rapid"

	"rollcall/app/directory"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// hostEntry is a host as a directory has it that others write to as well.
func hostEntry(t testing.TB, name string, addresses, keys []string) directory.Entry {
	t.Helper()
	kind, err := directory.NewKind(directory.Hosts(), "cn")
	if err != nil {
		t.Fatal(err)
	}
	entry := directory.NewEntry(kind)
	for i, field := range kind.Fields {
		switch field.Name {
		case "cn":
			entry.SetAt(i, []string{name})
		case "ipAddresses":
			entry.SetAt(i, addresses)
		case directory.FieldSSHPublicKeys:
			entry.SetAt(i, keys)
		}
	}
	return entry
}

// hostKey is a key by its number, as a line of authorized_keys without a comment.
func hostKey(t testing.TB, number byte) string {
	t.Helper()
	key, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed(bytes.Repeat([]byte{number}, ed25519.SeedSize)).Public())
	if err != nil {
		t.Fatal(err)
	}
	return key.Type() + " " + base64.StdEncoding.EncodeToString(key.Marshal())
}

func TestAHostKeyIsOneLineOfKnownHosts(t *testing.T) {
	one, two := hostKey(t, 1), hostKey(t, 2)
	dsa := "ssh-dss AAAAB3NzaC1kc3MAAAADAAEBAAAAAwABAQAAAAMAAQEAAAADAAEB"
	for _, c := range []struct {
		what, name      string
		addresses, keys []string
		want            []string
	}{
		{"a host", "web1", []string{"192.0.2.1", "2001:db8::1"}, []string{one}, []string{"web1,192.0.2.1,2001:db8::1 " + one}},
		{"keys", "web1", nil, []string{one, two}, []string{"web1 " + one, "web1 " + two}},
		{"a key twice", "web1", nil, []string{one + " root@web1", one}, []string{"web1 " + one}},
		{"options and a comment", "web1", nil, []string{`no-pty,from="*" ` + one + " @revoked * " + two}, []string{"web1 " + one}},
		{"letters of both cases", "WEB1.Example.ORG", nil, []string{one}, []string{"web1.example.org " + one}},
		{"addresses as ssh writes them", "web1", []string{"2001:DB8:0:0::0:1", "2001:db8::1", "::ffff:192.0.2.1"}, []string{one}, []string{"web1,2001:db8::1,::ffff:192.0.2.1 " + one}},
		{"a name that is an address", "192.0.2.1", []string{"192.0.2.1"}, []string{one}, []string{"192.0.2.1 " + one}},
		{"a key that has expired", "web1", nil, []string{`expiry-time="20260531Z" ` + one, `expiry-time="20260602Z" ` + two}, []string{"web1 " + two}},
		{"an authority", "web1", nil, []string{"cert-authority " + one}, nil},
		{"a weak key", "web1", nil, []string{dsa}, nil},
		{"no key", "web1", []string{"192.0.2.1"}, nil, nil},
		{"no usable key", "web1", nil, []string{"", "ssh-ed25519", "ssh-ed25519 AAAA", "# " + one, one + "\n" + two}, nil},
		{"no name but an address", "*", []string{"192.0.2.1"}, []string{one}, []string{"192.0.2.1 " + one}},
		{"patterns for names", "web?", []string{"192.0.2.*", "!192.0.2.1", "0.0.0.0/0", "192.0.2.1,*", "fe80::1%eth0", "fe80::1%*", "[192.0.2.1]:22", "192.0.2.01", ""}, []string{one}, nil},
		{"a negated name", "!web1", nil, []string{one}, nil},
		{"a marker", "@cert-authority", nil, []string{one}, nil},
		{"a marker before a pattern", "@cert-authority *", nil, []string{one}, nil},
		{"several names", "web1,web2", nil, []string{one}, nil},
		{"a hashed name", "|1|F1E1KeoE/eEWhi10WpGv4OdiO6Y=|3988QV0VE8wmZL7suNrYQLITLCg=", nil, []string{one}, nil},
		{"a comment", "#web1", nil, []string{one}, nil},
		{"a line of its own", "web1\n*", []string{"192.0.2.1\n*"}, []string{one}, nil},
		{"a name with a port", "[web1]:22", nil, []string{one}, nil},
	} {
		got := string(directory.NewKnownHosts(now).Append([]byte("before\n"), hostEntry(t, c.name, c.addresses, c.keys)))
		want := "before\n"
		for _, line := range c.want {
			want += line + "\n"
		}
		if got != want {
			t.Errorf("%s: got\n%swant\n%s", c.what, got, want)
		}
	}
}

func TestOnlyTheHostThatSSHLooksForIsWritten(t *testing.T) {
	key := hostKey(t, 1)
	host := hostEntry(t, "Web1.example.org", []string{"192.0.2.1", "2001:DB8:0::1"}, []string{key})
	plain := "web1.example.org,192.0.2.1,2001:db8::1 " + key + "\n"
	with := "[web1.example.org]:2222,[192.0.2.1]:2222,[2001:db8::1]:2222 " + key + "\n"
	for sought, want := range map[string]string{
		"web1.example.org": plain, "WEB1.example.ORG": plain, "192.0.2.1": plain, "2001:db8::1": plain, "2001:0db8:0:0:0:0:0:1": plain,
		"[web1.example.org]:2222": with, "[192.0.2.1]:2222": with, "[2001:db8::1]:2222": with,
		"web1": "", "web1.example.org.": "", "web2": "", "*": "", "web1*": "", "?": "", "!web2": "", "web1.example.org,web2": "", " web1.example.org": "", "": "",
		"[web1.example.org]": "", "[web1.example.org]:": "", "[web1.example.org]:0": "", "[web1.example.org]:65536": "", "[web1.example.org]:+22": "",
		"[web1.example.org]:22,*": "", "[web1.example.org]:022": "", "[web1.example.org": "", "[]:22": "", "[[192.0.2.1]:22]:22": "", "2001:db8::1%eth0": "", "192.0.2.1:22": "",
	} {
		if got := string(directory.NewKnownHosts(now).Only(sought).Append(nil, host)); got != want {
			t.Errorf("for %q: got %q, want %q", sought, got, want)
		}
	}
	if got := directory.NewKnownHosts(now).Only("").Append(nil, hostEntry(t, "", []string{""}, []string{key})); len(got) > 0 {
		t.Errorf("what has no name is %q", got)
	}
}

var plainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// TestWhateverADirectoryHoldsIsNoPatternInKnownHosts: each line is a line by itself, names what the host is called, and
// holds a key of the host.
func TestWhateverADirectoryHoldsIsNoPatternInKnownHosts(t *testing.T) {
	keys := []string{hostKey(t, 1), hostKey(t, 2)}
	pieces := append([]string{"web1", "example.org", "192.0.2.1", "2001:db8::1", "*", "?", "!", ",", " ", "\t", "\n", "\r", "#", "@revoked", "@cert-authority", "|1|", "[", "]", ":22",
		`no-pty `, `command="`, `" `, "%", "\x00", "é", "\xff", "cert-authority ", `expiry-time="20200101" `}, keys...)
	value := rapid.Custom(func(t *rapid.T) string {
		return strings.Join(rapid.SliceOfN(rapid.SampledFrom(pieces), 0, 4).Draw(t, "pieces"), "")
	})
	rapid.Check(t, func(r *rapid.T) {
		values := rapid.SliceOfN(value, 0, 4)
		entry := hostEntry(t, value.Draw(r, "name"), values.Draw(r, "addresses"), values.Draw(r, "keys"))
		known := directory.NewKnownHosts(now)
		if rapid.Bool().Draw(r, "one") {
			known = known.Only(rapid.OneOf(value, rapid.SampledFrom([]string{"web1", "192.0.2.1", "2001:db8::1"})).Draw(r, "sought"))
		}
		for line := range strings.Lines(string(known.Append(nil, entry))) {
			marker, names, key, comment, rest, err := ssh.ParseKnownHosts([]byte(line))
			if err != nil || marker != "" || comment != "" || len(rest) > 0 || strings.Count(line, " ") != 2 {
				r.Fatalf("%q is no plain line: %v", line, err)
			}
			if !slices.Contains(keys, key.Type()+" "+base64.StdEncoding.EncodeToString(key.Marshal())) {
				r.Fatalf("%q has a key of its own", line)
			}
			for _, name := range names {
				if inner, ok := strings.CutPrefix(name, "["); ok {
					name, _, _ = strings.Cut(inner, "]:")
				}
				address, err := netip.ParseAddr(name)
				if !plainName.MatchString(name) && (err != nil || address.String() != name || address.Zone() != "") {
					r.Fatalf("%q names %q", line, name)
				}
			}
		}
	})
}
