package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// loginGuide is the guide with what it has of this system put into a folder of the test's.
type loginGuide struct {
	// dir is in the place of /etc/rollcall, /etc/ssh and /usr/local/bin.
	dir    string
	blocks []block
	// conf is what the guide has for sshd, and for ssh.
	conf []string
}

// readLoginGuide returns the guide with commands for an API at an address. The user nobody, whom no system lacks, is in
// the place of somebody whom the directory lets in, and all groups in that of the group of those.
func readLoginGuide(t *testing.T, address string) loginGuide {
	t.Helper()
	g := loginGuide{dir: t.TempDir()}
	_, host, _ := strings.Cut(address, "://")
	here := strings.NewReplacer(
		"127.0.0.1:8080", host, "/etc/rollcall", g.dir, "/etc/ssh", g.dir, "/usr/local/bin", g.dir, "rollcall authkeys", "rollcall authkeys --config "+g.dir+"/authkeys.yaml",
		"host: web1\n", "host: web1\ntoken_file: "+g.dir+"/token\ncache_dir: "+g.dir+"/cache\ntimeout: 5s\n",
		"sshd -", "sshd -f "+g.dir+"/sshd_config -", "-C user=alice", "-C user=nobody",
	)
	for _, b := range blocks(page(t, "ssh.md")) {
		switch b.language {
		case "sh":
			g.blocks = append(g.blocks, block{"sh", here.Replace(b.text)})
		case "text":
			g.blocks = append(g.blocks, block{"text", strings.NewReplacer("127.0.0.1:8080", host, "/etc/rollcall", g.dir).Replace(b.text)})
		case "conf":
			g.conf = append(g.conf, strings.ReplaceAll(b.text, "Match Group users ", "Match Group * "))
		}
	}
	if len(g.conf) != 2 {
		t.Fatalf("the guide has %d files for OpenSSH, want one for sshd and one for ssh", len(g.conf))
	}
	return g
}

func (g loginGuide) file(name string) string { return filepath.Join(g.dir, name) }

func (g loginGuide) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(g.file(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestTheGuideToLoginsBySshDoesWhatItShows(t *testing.T) {
	t.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin") // where Debian has sshd
	config := filepath.Join(t.TempDir(), "rollcall.yaml")
	if err := os.WriteFile(config, []byte(the(t, "yaml", page(t, "ssh.md"), "1. A group of users and hosts")), 0o600); err != nil {
		t.Fatal(err)
	}
	address, _ := serve(t, []string{"ROLLCALL_ENV=development", "ROLLCALL_EMBEDDED_DIR=" + t.TempDir(), "ROLLCALL_SERVER_LISTEN=127.0.0.1:0"}, "--config", config)

	g := readLoginGuide(t, address)
	hostKey := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", g.file("ssh_host_ed25519_key"))
	if words, err := hostKey.CombinedOutput(); err != nil {
		t.Fatalf("%v: scripts/install-sshd installs it\n%s", err, words)
	}
	g.write(t, "sshd_config", g.conf[0]+"Match all\n\tHostbasedAuthentication no\n")
	if os.Getuid() == 0 { // sshd looks for it when root runs it, and the system makes it before it starts its own
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	work := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(work, "rollcall")); err != nil {
		t.Fatal(err)
	}
	shell(t, work, g.blocks)
}

func TestARequestThatIsRefusedLeavesTheTokenAsItWas(t *testing.T) {
	address, _ := sample(t)
	asking := regexp.MustCompile(`(?m)^\(\n(?:  .*\n)*  curl .*/token .*\n(?:  .*\n)*\)\n`)
	for name, kept := range map[string]string{"ssh.md": "a token", "migrating.md": ""} {
		recipes := asking.FindAllString(page(t, name), -1)
		if len(recipes) != strings.Count(page(t, name), "-X POST $api/hosts/web1/token") {
			t.Errorf("%s gets a token in another way too than\n%s", name, recipes)
		}
		for _, recipe := range recipes {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "token"), []byte(kept), 0o600); err != nil {
				t.Fatal(err)
			}
			sh := exec.Command("sh", "-c", strings.NewReplacer("/etc/rollcall", ".", "admin:admin", "admin:wrong", "$api", address).Replace(recipe))
			sh.Dir = dir
			words, err := sh.CombinedOutput()
			files, _ := filepath.Glob(filepath.Join(dir, "*"))
			var held string
			for _, f := range files {
				held += page(t, f)
			}
			if err == nil || held != kept || !strings.Contains(string(words), "returned error: 4") {
				t.Errorf("%s: with a wrong password\n%sends with %v and prints %q. The files hold %q, want %q", name, recipe, err, words, held, kept)
			}
		}
	}
}

func TestSshTakesWhatTheGuideSaysOfKnownHosts(t *testing.T) {
	g := readLoginGuide(t, usual)
	g.write(t, "ssh_config", g.conf[1])
	words, err := exec.Command("ssh", "-G", "-F", g.file("ssh_config"), "web1").CombinedOutput()
	command := regexp.MustCompile(`(?m)^\s*KnownHostsCommand (.*)$`).FindStringSubmatch(g.conf[1])
	if err != nil || command == nil || !slices.Contains(strings.Split(string(words), "\n"), "knownhostscommand "+command[1]) {
		t.Errorf("ssh -G: %v\n%s", err, words)
	}
}
