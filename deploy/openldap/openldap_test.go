package openldap

import (
	"regexp"
	"strings"
	"testing"
)

var values = Values{SchemaDir: "/schema", ModuleDir: "/modules", ServicePasswordHash: "{ARGON2}$argon2i$x", AdminPasswordHash: "{ARGON2}$argon2i$y", TLSDir: "/tls"}

func TestFillsEveryPlaceholder(t *testing.T) {
	for name, render := range map[string]func(Values) (string, error){
		"config": Config, "network": Network, "base": Base, "admin": Admin, "sample": Sample,
	} {
		text, err := render(values)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if strings.Contains(text, "${SUFFIX}") || !strings.Contains(text, DefaultSuffix) {
			t.Errorf("%s: suffix not filled in", name)
		}
	}
	base, err := Base(Values{Suffix: "dc=corp,dc=test", ServicePasswordHash: "{X}y"})
	if err != nil || !strings.Contains(base, "\ndc: corp\n") {
		t.Errorf("dc not derived from the suffix: %v", err)
	}
}

func TestTheDecoyCostsWhatUsersDoAndIsNeverTheSame(t *testing.T) {
	v := values
	v.Argon2 = Argon2{MemoryKiB: 64, Passes: 2}
	hash := regexp.MustCompile(`(?m)^userPassword: (\{ARGON2\}\$argon2i\$v=19\$m=64,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43})$`)
	seen := map[string]bool{}
	for range 2 {
		base, err := Base(v)
		if err != nil {
			t.Fatal(err)
		}
		decoys := hash.FindAllStringSubmatch(base, -1)
		if len(decoys) != 1 || seen[decoys[0][1]] || !strings.Contains(base, "\ndn: "+DecoyDN(DefaultSuffix)+"\n") {
			t.Fatalf("decoys %q, after %v, in\n%s", decoys, seen, base)
		}
		seen[decoys[0][1]] = true
	}
}

func TestDataOfNISGetsItsSchemaInPlaceOfTheNewOne(t *testing.T) {
	v := values
	for nis, include := range map[bool]string{false: `include "./rfc2307bis.schema"`, true: `include "/schema/nis.schema"`} {
		v.NIS = nis
		text, err := Config(v)
		if err != nil || !strings.Contains(text, "\n"+include+"\n") || strings.Contains(text, "rfc2307bis.schema") == nis {
			t.Errorf("NIS %t: %v\n%s", nis, err, text)
		}
	}
}

func TestRefusesWhatBreaksOut(t *testing.T) {
	for name, change := range map[string]func(*Values){
		"newline in suffix":        func(v *Values) { v.Suffix = "dc=a\nrootpw x" },
		"quote in schema folder":   func(v *Values) { v.SchemaDir = `/a"b` },
		"backslash in module path": func(v *Values) { v.ModuleDir = `/a\b` },
		"tab in folder":            func(v *Values) { v.Dir = "/a\tb" },
		"no schema folder":         func(v *Values) { v.SchemaDir = "" },
	} {
		v := values
		change(&v)
		if text, err := Config(v); err == nil {
			t.Errorf("%s: accepted:\n%s", name, text)
		}
	}
	for name, v := range map[string]Values{
		"newline in hash":  {ServicePasswordHash: "{X}y\npwdAttribute: cn"},
		"no hash":          {},
		"suffix not of dc": {Suffix: "o=acme", ServicePasswordHash: "{X}y"},
	} {
		if text, err := Base(v); err == nil {
			t.Errorf("%s: accepted:\n%s", name, text)
		}
	}
	if text, err := Admin(Values{ServicePasswordHash: "{X}y"}); err == nil {
		t.Errorf("no administrator's hash: accepted:\n%s", text)
	}
	if text, err := Network(Values{TLSDir: "/a\"b"}); err == nil {
		t.Errorf("quote in folder of certificates: accepted:\n%s", text)
	}
	if _, err := Fill("x ${NOBODY}", values); err == nil {
		t.Error("unknown placeholder accepted")
	}
}

func TestLeavesOutBuiltInModules(t *testing.T) {
	if got := Modules(); len(got) != 8 || got[0] != "back_mdb" {
		t.Fatalf("modules: %q", got)
	}
	v := values
	v.BuiltIn = []string{"back_mdb", "unique"}
	text, err := Config(v)
	if err != nil {
		t.Fatal(err)
	}
	if regexp.MustCompile(`moduleload (back_mdb|unique)\b`).MatchString(text) || !strings.Contains(text, "moduleload refint") {
		t.Errorf("wrong modules in\n%s", text)
	}
	v.ModuleDir = ""
	if text, err = Config(v); err != nil || strings.Contains(text, "\nmodule") {
		t.Errorf("modules without a module folder: %v\n%s", err, text)
	}
}
