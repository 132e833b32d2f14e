// Package app_test holds the doors of the house shut.
package app_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// house says which room may import what: other rooms, modules, and of the standard library what is not everybody's.
var house = map[string]string{
	"main":                        "app/program, app/cli",
	"app/program":                 "config, app/directory, app/ldapdir, app/rest, app/auth, app/cli, app/client, app/slapd, app/logs, app/telemetry, deploy/openldap, cobra, logrus, net/http",
	"config":                      "viper, mapstructure, yaml",
	"app/directory":               "filter-parser, x/crypto",
	"app/ldapdir":                 "app/directory, go-ldap, asn1-ber, x/text",
	"app/rest":                    "app/directory, app/auth, mux, logrus, kin-openapi, cors, compress, swgui, yaml, net/http",
	"app/auth":                    "app/directory, jwt, go-oidc, x/time, net/http",
	"app/cli":                     "app/directory, app/client, cobra, x/crypto, net/http",
	"app/client":                  "app/directory, net/http",
	"app/slapd":                   "deploy/openldap",
	"app/logs":                    "app/directory, logrus",
	"app/telemetry":               "prometheus, otel, otel/sdk, otel/trace, otlptracehttp, otelhttp, net/http",
	"deploy/openldap":             "",
	"deploy/openldap/start":       "deploy/openldap",
	"app/directory/directorytest": "app/directory, go-cmp, rapid, testing",
	"app/ldapdir/ldapdirtest":     "app/directory, app/ldapdir, app/slapd, deploy/openldap, go-ldap, testing",
	"app":                         "", // holds this test
	"docs":                        "", // holds the README's
	"deploy/postman":              "", // holds the collection's
}

// tests may import all rooms, what their own may, and this.
const tests = "go-ldap, asn1-ber, logrus, go-cmp, rapid, goleak, porcupine, json-patch, chromedp, cdproto, kin-openapi, x/crypto, yaml, net/http, testing"

// modules are all that the house stands on.
var modules = map[string]string{
	"asn1-ber":      "github.com/go-asn1-ber/asn1-ber",
	"cdproto":       "github.com/chromedp/cdproto",
	"chromedp":      "github.com/chromedp/chromedp",
	"cobra":         "github.com/spf13/cobra",
	"compress":      "github.com/klauspost/compress",
	"cors":          "github.com/rs/cors",
	"filter-parser": "github.com/scim2/filter-parser/v2",
	"go-cmp":        "github.com/google/go-cmp",
	"go-ldap":       "github.com/go-ldap/ldap/v3",
	"go-oidc":       "github.com/coreos/go-oidc/v3",
	"goleak":        "go.uber.org/goleak",
	"json-patch":    "github.com/evanphx/json-patch/v5",
	"jwt":           "github.com/golang-jwt/jwt/v5",
	"kin-openapi":   "github.com/getkin/kin-openapi",
	"logrus":        "github.com/sirupsen/logrus",
	"mapstructure":  "github.com/go-viper/mapstructure/v2",
	"mux":           "github.com/gorilla/mux",
	"otel":          "go.opentelemetry.io/otel",
	"otel/sdk":      "go.opentelemetry.io/otel/sdk",
	"otel/trace":    "go.opentelemetry.io/otel/trace",
	"otelhttp":      "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp",
	"otlptracehttp": "go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp",
	"porcupine":     "github.com/anishathalye/porcupine",
	"prometheus":    "github.com/prometheus/client_golang",
	"rapid":         "pgregory.net/rapid",
	"swgui":         "github.com/swaggest/swgui",
	"viper":         "github.com/spf13/viper",
	"x/crypto":      "golang.org/x/crypto",
	"x/text":        "golang.org/x/text",
	"x/time":        "golang.org/x/time",
	"yaml":          "go.yaml.in/yaml/v3",
}

// guarded are the packages of the standard library that are not everybody's.
var guarded = []string{"net/http", "testing"}

type goPackage struct {
	ImportPath                               string
	Imports, TestImports, XTestImports, Deps []string
}

func TestRoomsImportOnlyWhatTheTableAllows(t *testing.T) {
	found := map[string]bool{}
	for _, p := range packages(t) {
		room := roomOf(p.ImportPath)
		found[room] = true
		row, ok := house[room]
		if !ok {
			t.Errorf("%s is a room that the table does not know", room)
			continue
		}
		allowed := strings.Split(row, ", ")
		for _, path := range p.Imports {
			if name := nameOf(path); name != "" && !slices.Contains(allowed, name) {
				t.Errorf("%s may not import %s", room, path)
			}
		}
		allowed = append(allowed, strings.Split(tests, ", ")...)
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			name := nameOf(path)
			if _, other := house[name]; name != "" && !other && !slices.Contains(allowed, name) {
				t.Errorf("tests of %s may not import %s", room, path)
			}
		}
		if room == "app/directory" && slices.Contains(p.Deps, "net/http") {
			t.Error("app/directory needs net/http, if only for something that it imports")
		}
	}
	for room := range house {
		if !found[room] {
			t.Errorf("the table has a row for %s, which is not there", room)
		}
	}
}

func TestTheHouseStandsOnNoOtherModules(t *testing.T) {
	var file struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(run(t, "mod", "edit", "-json"), &file); err != nil {
		t.Fatal(err)
	}
	for _, module := range file.Require {
		if name := nameOf(module.Path); !module.Indirect && modules[name] != module.Path {
			t.Errorf("go.mod requires %s, which the table does not have", module.Path)
		}
	}
}

// roomOf returns a package's name in the table.
func roomOf(path string) string {
	if path == "rollcall" {
		return "main"
	}
	return strings.TrimPrefix(path, "rollcall/")
}

// nameOf returns what the table calls an import, "" for what anybody may import.
func nameOf(path string) string {
	if i := slices.IndexFunc(guarded, func(g string) bool { return within(path, g) }); i >= 0 {
		return guarded[i]
	}
	first, _, _ := strings.Cut(path, "/")
	switch {
	case first == "rollcall":
		return roomOf(path)
	case !strings.Contains(first, "."):
		return ""
	}
	longest := ""
	for name, module := range modules {
		if within(path, module) && len(module) > len(modules[longest]) { // one module may lie within another
			longest = name
		}
	}
	return cmp.Or(longest, path)
}

func within(path, parent string) bool { return path == parent || strings.HasPrefix(path, parent+"/") }

// packages returns the packages of the module, with the imports of the tests that have tags.
func packages(t *testing.T) []goPackage {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(run(t, "list", "-tags=long,bench,browser", "-json=ImportPath,Imports,TestImports,XTestImports,Deps", "rollcall/...")))
	var all []goPackage
	for {
		var p goPackage
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// run returns what the go command prints.
func run(t *testing.T, args ...string) []byte {
	t.Helper()
	command := exec.Command("go", args...)
	var words bytes.Buffer
	command.Stderr = &words
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, words.String())
	}
	return out
}
