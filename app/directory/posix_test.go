package directory_test

import (
	"strings"
	"testing"

	"rollcall/app/directory"
)

func TestALoginNameIsAPathOnlyWhereItLeadsNowhereElse(t *testing.T) {
	for login, want := range map[string]string{
		"alice":      "/home/alice",
		"Al.ice-2_@": "/home/Al.ice-2_@",
		"../etc":     "/home/_etc-10001",
		"..":         "/home/-10001",
		".":          "/home/-10001",
		"a/b":        "/home/a_b-10001",
		"a:b":        "/home/a_b-10001",
		"a b\n":      "/home/a_b_-10001",
		"名前":         "/home/__-10001",
		"{uid}":      "/home/_uid_-10001",
		"$(reboot)":  "/home/__reboot_-10001",

		strings.Repeat("x", 65): "/home/" + strings.Repeat("x", 64) + "-10001",
	} {
		got := directory.PathFor("/home/{uid}", login, "10001")
		if got != want {
			t.Errorf("of %q is made %q, want %q", login, got, want)
		}
		if wrong := syntaxOf(t, directory.FieldHomeDirectory)(got); wrong != "" {
			t.Errorf("of %q is made %q, which %s", login, got, wrong)
		}
	}
}

func syntaxOf(t *testing.T, field string) func(string) string {
	t.Helper()
	for _, f := range directory.PosixFields(directory.KindUsers) {
		if f.Name == field {
			return f.Syntax
		}
	}
	t.Fatalf("no field %s", field)
	return nil
}

func TestHomesAndShellsAreAbsolutePathsWithAPlaceInPasswd(t *testing.T) {
	for value, right := range map[string]bool{
		"/home/alice": true, "/": true, "/home/alice/": true, "/home/a..b/.c": true, "/srv/My Documents": true,
		"": false, "home/alice": false, "/home/../etc": false, "/..": false, "/./x": false, "/home/a:0:0": false, "/home/a\nroot:": false,
		"/home/名前": false, "/home/\x00": false, "~": false,
	} {
		for _, field := range []string{directory.FieldHomeDirectory, directory.FieldLoginShell} {
			if wrong := syntaxOf(t, field)(value); (wrong == "") != right {
				t.Errorf("%s %q: %q", field, value, wrong)
			}
		}
	}
}

func TestNoAccountIsTheSystemsOwn(t *testing.T) {
	for value, right := range map[string][2]bool{ // as uidNumber, as gidNumber
		"0": {true, true}, // asks for the next, and is never stored
		"1": {}, "99": {}, "100": {false, true}, "999": {false, true}, "1000": {true, true}, "65533": {true, true}, "65534": {}, "65535": {}, "65536": {true, true},
		"4294967293": {true, true}, "4294967294": {}, "4294967295": {}, "4294967296": {}, "-1": {}, "-4294966296": {},
		"99999999999999999999999": {}, "": {}, "10001.0": {}, "1e4": {}, "0x2710": {},
	} {
		for i, field := range []string{directory.FieldUIDNumber, directory.FieldGIDNumber} {
			if wrong := syntaxOf(t, field)(value); (wrong == "") != right[i] {
				t.Errorf("%s %q: %q", field, value, wrong)
			}
		}
	}
}

func TestIntegersAreWhatJSONWritesWithoutPointOrExponent(t *testing.T) {
	for value, want := range map[string]bool{
		"0": true, "7": true, "-7": true, "123456789012345678901234567890": true,
		"": false, "-0": false, "007": false, "+7": false, "7.0": false, "7e1": false, " 7": false, "7\n": false, "٧": false, `"7"`: false,
	} {
		if got := directory.IsInteger(value); got != want {
			t.Errorf("%q: %t", value, got)
		}
	}
}
