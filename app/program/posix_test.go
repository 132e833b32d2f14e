package program

import (
	"encoding/json"
	"testing"

	"rollcall/app/client"
)

func TestADeploymentMakesUsersLinuxAccounts(t *testing.T) {
	t.Parallel()
	server := directoryServer(t)
	with := production(t, server).with(settings{
		"POSIX_ENABLED": "true", "POSIX_MIN": "20000", "POSIX_MAX": "20010", "POSIX_PRIMARY_GID": "1234", "POSIX_HOME_DIRECTORY": "/srv/{uid}", "POSIX_LOGIN_SHELL": "/bin/zsh",
	})
	p := start(t, with, "serve")
	p.do("POST", "/users", client.Entry{"cn": "zoe", "sn": "x"}, 201)
	p.do("POST", "/groups", client.Entry{"cn": "g"}, 201)
	p.do("GET", "/readyz", nil, 200)
	if found := search(t, server, "(|(&(objectClass=posixAccount)(uid=zoe)(uidNumber=20000)(gidNumber=1234)(homeDirectory=/srv/zoe)(loginShell=/bin/zsh))"+
		"(&(objectClass=posixGroup)(cn=g)(gidNumber=20000)))"); len(found) != 2 {
		t.Errorf("the directory has something else: %q", found)
	}
	p = start(t, with.with(settings{"POSIX_COUNTER": "cn=nothing,ou=services"}), "serve")
	var readiness struct {
		Checks []struct {
			Name string
			OK   bool
		}
	}
	if err := json.Unmarshal(p.do("GET", "/readyz", nil, 503).Body, &readiness); err != nil {
		t.Fatal(err)
	}
	for _, check := range readiness.Checks {
		if check.OK == (check.Name == "numbers") {
			t.Errorf("%s: %t", check.Name, check.OK)
		}
	}
	p.do("POST", "/users", client.Entry{"cn": "yan", "sn": "x"}, 501)
}

func TestUsersDoNotChooseTheirOwnNumbers(t *testing.T) {
	t.Parallel()
	start(t, production(t, directoryServer(t)).with(settings{"POSIX_ENABLED": "true", "AUTH_OWN_FIELDS": "mail,loginShell,gidNumber"}), "serve").
		ends(1, `auth.own_fields: "gidNumber" is no field of a user that users can read and write`)
}
