package deploy_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var assignment = regexp.MustCompile(`(?m)^(Environment|LoadCredential)=(.*)$`)

func TestTheProgramStartsWithWhatTheUnitGivesIt(t *testing.T) {
	for _, c := range []struct {
		name  string
		files []string
	}{
		{"the unit alone", []string{"rollcall.service"}},
		{"the audit trail in a file", []string{"rollcall.service", "audit-file.conf"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			folder := t.TempDir()
			names := strings.NewReplacer("%d", filepath.Join(folder, "credentials"), "%L", filepath.Join(folder, "logs"))
			write(t, filepath.Join(folder, "logs/rollcall/.keep"), "")
			var environment []string
			for _, file := range c.files {
				for _, line := range assignment.FindAllStringSubmatch(read(t, "deploy/systemd", file), -1) {
					if line[1] == "Environment" {
						environment = append(environment, names.Replace(line[2]))
						continue
					}
					name, _, _ := strings.Cut(line[2], ":")
					write(t, filepath.Join(folder, "credentials", name), secret(t, name))
				}
			}
			config := filepath.Join(folder, "rollcall.yaml")
			write(t, config, "ldap:\n  url: ldap://127.0.0.1:1\n  base_dn: dc=example,dc=org\n  bind_dn: cn=rollcall,dc=example,dc=org\n"+
				"auth:\n  admin_group: cn=admins,ou=groups,dc=example,dc=org\n")
			said := serve(t, environment, "--config", config)
			if status, body := ask(t, "GET", said["listens on"]+"/healthz", "", "", ""); status != 200 {
				t.Errorf("liveness: %d\n%s", status, body)
			}
		})
	}
}
