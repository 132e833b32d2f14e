package docs_test

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// tree is a directory as somebody else laid it out, and the account that it has for Rollcall.
type tree struct {
	*slapd.Server
	// home is the server's folder.
	home string
	// database is what slapd.conf has for it; it counts from the next start on.
	database string
	// dir is where the steps of the guide run.
	dir string
}

// loadTree starts a server with a tree of the examples.
func loadTree(t *testing.T, file, suffix, database string, without ...string) *tree {
	t.Helper()
	home, err := os.MkdirTemp("", "rollcall") //nolint:usetesting // t.TempDir's names are too long for some systems
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	grown := &tree{home: home, database: database, dir: t.TempDir()}
	grown.Server = ldapdirtest.Start(t, slapd.Options{Dir: home, Suffix: suffix, Base: page(t, file), Config: func(conf string) string {
		global, _, _ := strings.Cut(conf, "\ndatabase ")
		_, schema, _ := strings.Cut(global, "include \"")
		schema, _, _ = strings.Cut(schema, "core.schema")
		global = strings.Replace(global, "./rfc2307bis.schema", schema+"nis.schema", 1) // what most have
		for _, line := range without {
			before, after, ok := strings.Cut(global, "\n"+line)
			_, after, _ = strings.Cut(after, "\n")
			if !ok {
				t.Errorf("slapd.conf has no line %q", line)
			}
			global = before + "\n" + after
		}
		return global + "\ndatabase mdb\nsuffix \"" + suffix + "\"\ndirectory ./data\nmaxsize 1073741824\n" + grown.database
	}})
	grown.write(t, "bind-password", grown.ServicePassword())
	return grown
}

func (d *tree) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs the steps of a section, and compares.
func (d *tree) run(t *testing.T, text, address string) {
	t.Helper()
	var steps []block
	for _, b := range blocks(strings.NewReplacer("/etc/rollcall", d.dir, "ldap://127.0.0.1:389", d.URL(), usual, address).Replace(text)) {
		if b.language == "sh" || b.language == "text" && len(steps)%2 == 1 {
			steps = append(steps, b)
		}
	}
	shell(t, d.dir, steps)
}

// the returns the blocks of a language in a section.
func the(t *testing.T, language, text, heading string) string {
	t.Helper()
	var found strings.Builder
	for _, b := range blocks(section(t, text, heading)) {
		if b.language == language {
			found.WriteString(b.text)
		}
	}
	if found.Len() == 0 {
		t.Fatalf("%q has no block of %s", heading, language)
	}
	return found.String()
}

const account, describe, try, write = "1. An account for Rollcall", "3. Describe it", "4. Try it without the right to write", "5. Let it write"

// loadFlatTree starts a server that has neither overlays nor a schema for SSH keys.
func loadFlatTree(t *testing.T, database string) *tree {
	t.Helper()
	return loadTree(t, "examples/flat.ldif", "dc=acme,dc=example", database,
		"moduleload memberof", "moduleload refint", "moduleload unique", "moduleload ppolicy", "moduleload sssvlv", `include "./openssh-lpk.schema"`)
}

// through follows the guide from its second step on; allow lets Rollcall write.
func (d *tree) through(t *testing.T, guide string, allow func()) {
	t.Helper()
	d.write(t, "rollcall.yaml", the(t, "yaml", guide, describe))
	d.run(t, section(t, guide, "2. Look at what is there"), "")
	d.run(t, section(t, guide, describe), "")
	address, log := onSlapd(t, d.Server, []string{"ROLLCALL_LDAP_BIND_PASSWORD=" + page(t, filepath.Join(d.dir, "bind-password"))},
		"--config", filepath.Join(d.dir, "rollcall.yaml"))
	d.run(t, section(t, guide, try), address)
	if !strings.Contains(log.String(), "Insufficient Access Rights") {
		t.Errorf("the log does not say why it may not write:\n%s", log)
	}
	allow()
	d.run(t, section(t, guide, write), address)
}

func TestTheGuideToYourOwnDirectoryLeadsThroughAFlatTree(t *testing.T) {
	guide := page(t, "own-directory.md")
	d := loadFlatTree(t, the(t, "conf", guide, account))
	d.through(t, guide, func() {
		d.database = the(t, "conf", guide, write)
		restarted, err := d.Restart(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = restarted.Kill() })
	})
}

const (
	modify = "```sh\nldapmodify -Q -Y EXTERNAL -H ldapi:/// -f rules.ldif\n```\n```text\nmodifying entry …\n\n```\n"
	// debian are the rules that Debian's package comes with.
	debian = `dn: olcDatabase={1}mdb,cn=config
changetype: modify
replace: olcAccess
olcAccess: to attrs=userPassword by self write by anonymous auth by * none
olcAccess: to attrs=shadowLastChange by self write by * read
olcAccess: to * by * read
`
)

func TestTheGuideToYourOwnDirectoryLeadsThroughAFlatTreeThatIsConfiguredByCnConfig(t *testing.T) {
	const admin, password = "cn=admin,dc=acme,dc=example", "the administrator's"
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin") // where Debian has slapd and slappasswd
	guide := page(t, "own-directory.md")
	d := loadFlatTree(t, fmt.Sprintf(`
rootdn %s
rootpw "%s"
access to * by anonymous auth

database config
access to * by dn.exact="gidNumber=%d+uidNumber=%d,cn=peercred,cn=external,cn=auth" manage
`, admin, password, os.Getgid(), os.Getuid()))
	ldapi := d.convert(t)
	d.write(t, "admin-password", password)
	local := func(text string) string {
		return strings.NewReplacer(" -W ", " -y admin-password ", "ldapi:///", ldapi).Replace(text)
	}

	// The guide makes the account and its password, which are there.
	if err := os.Remove(filepath.Join(d.dir, "bind-password")); err != nil {
		t.Fatal(err)
	}
	forget := exec.Command("ldapdelete", "-x", "-y", "admin-password", "-H", d.URL(), "-D", admin, d.ServiceDN())
	forget.Dir = d.dir
	if words, err := forget.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, words)
	}
	d.write(t, "rules.ldif", debian)
	d.run(t, local(modify), "")
	d.write(t, "rules.ldif", the(t, "ldif", guide, account))
	d.run(t, local(section(t, guide, account)), "")
	if file, err := os.Stat(filepath.Join(d.dir, "bind-password")); err != nil || file.Mode() != 0o600 {
		t.Errorf("the file with the password: %v, %v", file, err)
	}

	d.through(t, guide, func() {
		d.write(t, "rules.ldif", the(t, "ldif", guide, write))
		d.run(t, local(modify), "")
	})
}

// convert has the server of the tree configured by cn=config, and returns the URL of a socket for whom it runs as.
func (d *tree) convert(t *testing.T) (ldapi string) {
	t.Helper()
	if err := d.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "rollcall") //nolint:usetesting // t.TempDir's names are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ldapi = "ldapi://" + url.QueryEscape(filepath.Join(dir, "ldapi"))
	log := &lines{}
	in := func(args ...string) *exec.Cmd {
		cmd := exec.Command("slapd", args...)
		cmd.Dir, cmd.Stderr = filepath.Join(d.home, "slapd"), log
		return cmd
	}
	if err := in("-T", "test", "-f", "slapd.conf", "-F", dir).Run(); err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	server := in("-d", "none", "-F", dir, "-h", d.URL()+"/ "+ldapi)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	for range 1000 {
		if err := exec.Command("ldapwhoami", "-Q", "-Y", "EXTERNAL", "-H", ldapi).Run(); err == nil {
			return ldapi
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("slapd does not answer:\n%s", log)
	return ""
}

func TestTheGuideToYourOwnDirectoryServesADeepTree(t *testing.T) {
	const heading = "Second example: a deep tree, people known by mail"
	guide := page(t, "own-directory.md")
	d := loadTree(t, "examples/deep.ldif", "dc=globex,dc=example", page(t, "examples/deep.conf"))
	d.write(t, "rollcall.yaml", the(t, "yaml", guide, heading))
	address, _ := onSlapd(t, d.Server, nil, "--config", filepath.Join(d.dir, "rollcall.yaml"))
	d.run(t, section(t, guide, heading), address)
}
