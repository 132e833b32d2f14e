package docs_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

// tree is a directory as somebody else laid it out, and the account that it has for Rollcall.
type tree struct {
	*slapd.Server
	// database is what slapd.conf has for it; it counts from the next start on.
	database string
	// dir is where the steps of the guide run.
	dir string
}

// loadTree starts a server with a tree of the examples.
func loadTree(t *testing.T, file, suffix, database string, without ...string) *tree {
	t.Helper()
	grown := &tree{database: database, dir: t.TempDir()}
	grown.Server = ldapdirtest.Start(t, slapd.Options{Suffix: suffix, Base: page(t, file), Config: func(conf string) string {
		global, _, _ := strings.Cut(conf, "\ndatabase ")
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

func TestTheGuideToYourOwnDirectoryLeadsThroughAFlatTree(t *testing.T) {
	const account, describe, try, write = "1. An account for Rollcall", "3. Describe it", "4. Try it without the right to write", "5. Let it write"
	guide := page(t, "own-directory.md")
	if entry := the(t, "ldif", guide, account); !strings.Contains(page(t, "examples/flat.ldif"), entry) {
		t.Errorf("the tree has no such account:\n%s", entry)
	}
	d := loadTree(t, "examples/flat.ldif", "dc=acme,dc=example", the(t, "conf", guide, account),
		"moduleload memberof", "moduleload refint", "moduleload unique", "moduleload ppolicy", "moduleload sssvlv", `include "./openssh-lpk.schema"`)
	d.write(t, "rollcall.yaml", the(t, "yaml", guide, describe))
	d.run(t, section(t, guide, "2. Look at what is there"), "")
	d.run(t, section(t, guide, describe), "")
	address, log := onSlapd(t, d.Server, nil, "--config", filepath.Join(d.dir, "rollcall.yaml"))
	d.run(t, section(t, guide, try), address)
	if !strings.Contains(log.String(), "Insufficient Access Rights") {
		t.Errorf("the log does not say why it may not write:\n%s", log)
	}

	d.database = the(t, "conf", guide, write)
	restarted, err := d.Restart(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = restarted.Kill() })
	d.run(t, section(t, guide, write), address)
}

func TestTheGuideToYourOwnDirectoryServesADeepTree(t *testing.T) {
	const heading = "Second example: a deep tree, people known by mail"
	guide := page(t, "own-directory.md")
	d := loadTree(t, "examples/deep.ldif", "dc=globex,dc=example", page(t, "examples/deep.conf"))
	d.write(t, "rollcall.yaml", the(t, "yaml", guide, heading))
	address, _ := onSlapd(t, d.Server, nil, "--config", filepath.Join(d.dir, "rollcall.yaml"))
	d.run(t, section(t, guide, heading), address)
}
