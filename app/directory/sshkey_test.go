package directory_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"rollcall/app/directory"
)

// keyLines are keys of all types, made by ssh-keygen; those of security keys are like it.
func keyLines(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/keys.pub")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

const (
	bare   = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDQYmucd2S7kKCCciRFNgqEn0w3t7K1CCEaNxXsxaVdC"
	bareIs = "SHA256:k4srxbliPqYJubVUnuxsFrlTzvmNAb+0HtjJ6y8e8LU"
)

// shown is what ssh-keygen -l shows of a line, up to the fingerprint.
func shown(t *testing.T, line string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "ssh-keygen", "-lf", "-")
	command.Stdin = strings.NewReader(line + "\n")
	said, err := command.CombinedOutput()
	if err != nil || bytes.Count(said, []byte("\n")) != 1 {
		t.Fatalf("ssh-keygen -lf - takes %q for no key, or for several: %v\n%s", line, err, said)
	}
	words := strings.Fields(string(said))
	return words[0] + " " + words[1]
}

// TestAKeyIsWhatSSHKeygenSaysItIs, its length and its fingerprint, as it was read and as it is written.
func TestAKeyIsWhatSSHKeygenSaysItIs(t *testing.T) {
	lines := keyLines(t)
	for _, line := range slices.Clip(lines) {
		lines = append(lines, `no-pty,command="echo \"a, b\"; \\n",from="10.0.0.0/8,*.example.org" `+line, "\t"+strings.Replace(line, " ", "\t \t", 1)+" ")
	}
	for _, line := range lines {
		key, err := directory.ParseSSHKey(line)
		if err != nil {
			t.Errorf("%q: %v", line, err)
			continue
		}
		want := shown(t, line)
		if written := shown(t, key.Line()); written != want {
			t.Errorf("%q is %s, and written as %q it is %s", line, want, key.Line(), written)
		}
		if got := fmt.Sprint(key.Bits, " ", key.Fingerprint); got != want {
			t.Errorf("%q is %s, want %s", line, got, want)
		}
	}
}

func TestALineIsReadAsSSHDReadsIt(t *testing.T) {
	added := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name, line, comment, written string
		options                      []string
		added                        time.Time
	}{
		{name: "a bare key", line: bare, written: bare},
		{name: "a comment", line: bare + " alice  at\tlaptop ", comment: "alice  at laptop", written: bare + " alice  at laptop"},
		{name: "the end of a line", line: bare + " x\r\n", comment: "x", written: bare + " x"},
		{name: "when it was added", line: bare + " x added=2026-11-21T12:00:00Z", comment: "x", added: added, written: bare + " x added=2026-11-21T12:00:00Z"},
		{name: "nothing but when it was added", line: bare + " added=2026-11-21T12:00:00Z", added: added, written: bare + " added=2026-11-21T12:00:00Z"},
		{name: "when it was added, twice", line: bare + " added=2020-01-01T00:00:00Z added=2026-11-21T12:00:00Z", comment: "added=2020-01-01T00:00:00Z", added: added,
			written: bare + " added=2020-01-01T00:00:00Z added=2026-11-21T12:00:00Z"},
		{name: "when it was added, not at the end", line: bare + " added=2026-11-21T12:00:00Z x", comment: "added=2026-11-21T12:00:00Z x", written: bare + " added=2026-11-21T12:00:00Z x"},
		{name: "when it was added, at no time", line: bare + " added=yesterday", comment: "added=yesterday", written: bare + " added=yesterday"},
		{name: "options", line: `no-pty,from="*.example.org,10.0.0.0/8" ` + "\t " + bare, options: []string{"no-pty", `from="*.example.org,10.0.0.0/8"`}, written: `no-pty,from="*.example.org,10.0.0.0/8" ` + bare},
		{name: "quotes in quotes", line: `command="say \"a b\", then \\n" ` + bare + " x", comment: "x", options: []string{`command="say \"a b\", then \\n"`},
			written: `command="say \"a b\", then \\n" ` + bare + " x"},
		{name: "a key in quotes", line: `command="` + keyLines(t)[1] + `" ` + bare, options: []string{`command="` + keyLines(t)[1] + `"`}, written: `command="` + keyLines(t)[1] + `" ` + bare},
		{name: "nothing in quotes", line: `command="",restrict ` + bare, options: []string{`command=""`, "restrict"}, written: `command="",restrict ` + bare},
		{name: "what is no ASCII", line: bare + " 名前\uFFFD", comment: "名前\uFFFD", written: bare + " 名前\uFFFD"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key, err := directory.ParseSSHKey(c.line)
			if err != nil {
				t.Fatalf("%q: %v", c.line, err)
			}
			if diff := cmp.Diff(c.options, key.Options); diff != "" || key.Comment != c.comment || !key.Added.Equal(c.added) || key.Fingerprint != bareIs || key.Type != "ssh-ed25519" {
				t.Errorf("%q was read as %+v, options %s", c.line, key, diff)
			}
			if key.Line() != c.written {
				t.Errorf("%q was written as %q, want %q", c.line, key.Line(), c.written)
			}
		})
	}
}

func TestWhatIsNotOneKeyIsRefused(t *testing.T) {
	lines := keyLines(t)
	certificate, err := os.ReadFile("testdata/certificate.pub")
	if err != nil {
		t.Fatal(err)
	}
	blob, err := base64.StdEncoding.DecodeString(strings.Fields(lines[7])[1])
	if err != nil {
		t.Fatal(err)
	}
	var rsa struct{ Type, E, N string }
	if err := ssh.Unmarshal(blob, &rsa); err != nil {
		t.Fatal(err)
	}
	rsa.N = "\x00" + rsa.N
	for name, line := range map[string]string{
		"a number with a zero before it":    "ssh-rsa " + base64.StdEncoding.EncodeToString(ssh.Marshal(rsa)),
		"nothing":                           "",
		"spaces":                            " \t ",
		"a comment line":                    "# " + bare,
		"a comment before a key":            "# x\n" + bare,
		"a key after a key":                 bare + "\n" + lines[1],
		"a key after a carriage return":     bare + "\r" + lines[1],
		"a key after an empty line":         bare + " x\n\n" + lines[1],
		"an empty line before a key":        "\n" + bare,
		"a line in an option":               `command="a` + "\n" + `b" ` + bare,
		"a tab in an option":                `command="a` + "\t" + `b" ` + bare,
		"a NUL":                             bare + " x\x00",
		"an escape":                         bare + " \x1b[2J",
		"a next line of Latin 1":            bare + " \u0085" + lines[1],
		"what is no UTF-8":                  bare + " \xff",
		"garbage after a key":               bare + "AAAA",
		"garbage in a key":                  strings.Replace(bare, "AAAAC3", "AAA*C3", 1),
		"half a key":                        bare[:60],
		"no key":                            "ssh-ed25519",
		"no type":                           strings.Fields(bare)[1],
		"another type":                      strings.Replace(bare, "ssh-ed25519", "ssh-rsa", 1),
		"an algorithm of signatures":        strings.Replace(lines[7], "ssh-rsa", "rsa-sha2-512", 1),
		"a type for an option":              "ssh-rsa " + bare,
		"a certificate":                     string(certificate),
		"an option without a closing quote": `command="x ` + bare,
		"a backslash before a quote":        `command="x\\" ` + bare,
		"an option without quotes":          "from=10.0.0.1 " + bare,
		"an option in halves":               `command="a"b ` + bare,
		"a comma after the options":         "no-pty, " + bare,
		"a comma before the options":        ",no-pty " + bare,
		"two commas":                        "no-pty,,restrict " + bare,
		"two lists of options":              "no-pty restrict " + bare,
		"bits that are not zero":            strings.Replace(lines[4], "HQ== ", "HR== ", 1),
		"a private key":                     "-----BEGIN OPENSSH PRIVATE KEY-----",
	} {
		if key, err := directory.ParseSSHKey(line); err == nil {
			t.Errorf("%s: %q was read as %+v", name, line, key)
		} else if !strings.HasPrefix(err.Error(), "must be ") {
			t.Errorf("%s: %q is refused with %q, which does not follow a field's name", name, line, err)
		}
	}
}

func TestAKeyExpiresWhenItsOptionsSay(t *testing.T) {
	at := func(text string) time.Time {
		moment, err := time.Parse(time.DateTime, text)
		if err != nil {
			t.Fatal(err)
		}
		return moment
	}
	never := time.Time{}
	for _, c := range []struct {
		options       string
		expires, over time.Time
	}{
		{`no-pty`, never, never},
		{`expiry-time="20261231"`, at("2026-12-31 00:00:00"), at("2026-12-31 12:00:00")},
		{`expiry-time="20261231Z"`, at("2026-12-31 00:00:00"), at("2026-12-31 00:00:00")},
		{`expiry-time="202612312359"`, at("2026-12-31 23:59:00"), at("2027-01-01 11:59:00")},
		{`expiry-time="202612312359Z"`, at("2026-12-31 23:59:00"), at("2026-12-31 23:59:00")},
		{`expiry-time="20261231235958"`, at("2026-12-31 23:59:58"), at("2027-01-01 11:59:58")},
		{`expiry-time="20261231235958z"`, at("2026-12-31 23:59:58"), at("2026-12-31 23:59:58")},
		{`EXPIRY-TIME="20261231Z"`, at("2026-12-31 00:00:00"), at("2026-12-31 00:00:00")},
		{`expiry-time="20280101Z",no-pty,expiry-time="20270101Z"`, at("2027-01-01 00:00:00"), at("2027-01-01 00:00:00")},
		{`expiry-time="20270101",expiry-time="202701010600Z"`, at("2027-01-01 06:00:00"), at("2027-01-01 06:00:00")},
		{`command="expiry-time=\"20200101Z\""`, never, never},
	} {
		key, err := directory.ParseSSHKey(c.options + " " + bare)
		if err != nil {
			t.Errorf("%s: %v", c.options, err)
			continue
		}
		if !key.Expires.Equal(c.expires) {
			t.Errorf("%s expires at %v, want %v", c.options, key.Expires, c.expires)
		}
		if c.over.IsZero() {
			c.over = at("9999-12-31 23:59:59")
		} else if !key.HasExpired(c.over) {
			t.Errorf("%s has not expired at %v", c.options, c.over)
		}
		if key.HasExpired(c.over.Add(-time.Second)) {
			t.Errorf("%s has expired before %v", c.options, c.over)
		}
	}
}

// TestAnExpiryThatIsNoTimeIsOver: sshd refuses such a key.
func TestAnExpiryThatIsNoTimeIsOver(t *testing.T) {
	for _, options := range []string{
		`expiry-time`, `expiry-time=""`, `expiry-time="never"`, `expiry-time="2027"`, `expiry-time="20271301"`, `expiry-time="20270230"`,
		`expiry-time="202701012460"`, `expiry-time="2027-01-01"`, `expiry-time="20270101T000000Z"`, `expiry-time="20270101ZZ"`, `expiry-time="19700101Z"`,
		`expiry-time="18991231Z"`, `expiry-time="-20270101"`, `expiry-time=" 20270101"`, `expiry-time="20270101235959.5Z"`, `expiry-time="20990101Z",expiry-time="x"`,
	} {
		key, err := directory.ParseSSHKey(options + " " + bare)
		if err != nil {
			t.Errorf("%s: %v", options, err)
		} else if !key.HasExpired(time.Time{}) {
			t.Errorf("%s has not expired", options)
		}
	}
}

func TestAKeyUntilATimeExpiresThen(t *testing.T) {
	key, err := directory.ParseSSHKey("no-pty " + bare + " x")
	if err != nil {
		t.Fatal(err)
	}
	end := time.Date(2027, 1, 2, 5, 4, 5, 0, time.FixedZone("", 2*60*60))
	until := key.Until(end)
	if want := `no-pty,expiry-time="20270102030405Z" ` + bare + " x"; until.Line() != want || !until.HasExpired(end) || until.HasExpired(end.Add(-time.Second)) {
		t.Errorf("got %q, which expires at %v; want %q", until.Line(), until.Expires, want)
	}
	if key.HasExpired(end) || len(key.Options) != 1 {
		t.Errorf("the key itself is %+v now", key)
	}
}

func TestWeakKeysAreCalledSo(t *testing.T) {
	for line, want := range map[string]string{
		"weak": "has 1024 bits; RSA needs 2048", "dsa": "is DSA, which OpenSSH takes no more; make an Ed25519 key",
	} {
		for _, key := range keyLines(t) {
			if strings.HasSuffix(key, " "+line) {
				if parsed, err := directory.ParseSSHKey(key); err != nil || parsed.Weak() != want {
					t.Errorf("%s is %q (%v), want %q", line, parsed.Weak(), err, want)
				}
			}
		}
	}
	for _, line := range keyLines(t)[:8] {
		if key, err := directory.ParseSSHKey(line); err != nil || key.Weak() != "" {
			t.Errorf("%q is weak: %q, %v", line, key.Weak(), err)
		}
	}
}

func FuzzSSHKey(f *testing.F) {
	for _, line := range keyLines(f) {
		f.Add(line)
		f.Add(`command="a \"b\"",expiry-time="20270101Z",no-pty ` + line + "\tx added=2026-11-21T12:00:00.5Z")
		f.Add("# x\n" + line + "\r\n" + line)
	}
	f.Add(bare + " added=2020-01-01T00:00:00Z added=0001-01-01T00:00:00.9Z")
	f.Fuzz(func(t *testing.T, line string) {
		key, err := directory.ParseSSHKey(line)
		if err != nil {
			return
		}
		written := key.Line()
		if strings.ContainsFunc(written, unicode.IsControl) || strings.HasPrefix(written, "#") || strings.TrimSpace(written) == "" {
			t.Errorf("%q is written as %q", line, written)
		}
		again, err := directory.ParseSSHKey(written)
		if err != nil || !reflect.DeepEqual(again, key) {
			t.Errorf("%q is read as %+v, written as %q, and read again as %+v (%v)", line, key, written, again, err)
		}
	})
}
