package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

var environments = []string{"development", "testing", "production"}

const environmentVariable = prefix + "ENV"

// environment returns what ROLLCALL_ENV picks, or "" if there is no such environment.
func (l *loader) environment(environ []string) string {
	name := "production"
	for _, entry := range environ {
		if value, found := strings.CutPrefix(entry, environmentVariable+"="); found && value != "" {
			name = value
		}
	}
	if !slices.Contains(environments, name) {
		l.misused(environmentVariable, "there is no environment %q; there are %s",
			name, strings.Join(environments, ", "))
		l.unread("")
		return ""
	}
	return name
}

// misused reports a fault in how a variable is used, rather than in its value.
func (l *loader) misused(name, format string, args ...any) {
	l.faults = append(l.faults, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
}

// variables takes in the ROLLCALL_… variables.
func (l *loader) variables(environ []string) {
	given := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(strings.ToUpper(name), prefix) {
			continue
		}
		if _, twice := given[name]; twice {
			l.misused(name, "given twice")
		}
		given[name] = value
	}
	delete(given, environmentVariable)
	for _, k := range keys() {
		l.take(k, given)
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		l.misused(name, "unknown variable%s", explain(name, given[name]))
	}
}

// take takes the variables of a key out of given.
func (l *loader) take(k key, given map[string]string) {
	name := variable(k.path)
	text, direct := given[name]
	delete(given, name)
	if k.secret() {
		fileName := name + "_FILE"
		path, indirect := given[fileName]
		delete(given, fileName)
		switch {
		case direct && indirect:
			l.broken[k.path] = true
			l.misused(fileName, "%s is set too: unset one of them", name)
			return
		case indirect:
			secret, err := readSecret(path)
			if err != nil {
				l.broken[k.path] = true
				l.misused(fileName, "cannot read the file that it names: %s", err)
				return
			}
			name, text, direct = fileName, secret, true
		}
	}
	if !direct {
		return
	}
	here := layer{loader: l, name: name}
	node, err := parse(k, text)
	if err != nil {
		l.broken[k.path] = true
		here.fault(k.path, nil, "%s", err)
		return
	}
	here.set(k.path, k.typ, node)
}

// readSecret returns the text of a file without the newline at its end.
func readSecret(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", reason(err)
	}
	secret, found := strings.CutSuffix(string(text), "\r\n")
	if !found {
		secret = strings.TrimSuffix(secret, "\n")
	}
	if secret == "" {
		return "", errors.New("it is empty")
	}
	return secret, nil
}

// parse makes a node of the text of a variable.
func parse(k key, text string) (*yaml.Node, error) {
	if k.typ.Kind() != reflect.Slice {
		if text == "" && k.typ.Kind() != reflect.String {
			return nil, errors.New("has no value: give it one, or unset the variable")
		}
		return scalarNode(text, k.typ), nil
	}
	if strings.HasPrefix(strings.TrimSpace(text), "[") {
		var document yaml.Node
		if !json.Valid([]byte(text)) || yaml.Unmarshal([]byte(text), &document) != nil {
			return nil, errors.New("is not a JSON array")
		}
		return document.Content[0], nil
	}
	if k.typ.Elem().Kind() == reflect.Struct {
		return nil, errors.New(`must be a JSON array of objects: [{"…": "…"}]`)
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	if strings.TrimSpace(text) == "" {
		return list, nil
	}
	for item := range strings.SplitSeq(text, k.separator) {
		list.Content = append(list.Content, scalarNode(strings.TrimSpace(item), k.typ.Elem()))
	}
	return list, nil
}

func scalarNode(text string, t reflect.Type) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Value: text}
	if t.Kind() == reflect.String {
		n.Tag = "!!str"
	}
	return n
}

// Kubernetes makes variables such as ROLLCALL_PORT=tcp://10.0.0.1:8080 and
// ROLLCALL_SERVICE_HOST=10.0.0.1 for a service named rollcall.
var (
	serviceLinkName  = regexp.MustCompile(`_SERVICE_(HOST|PORT)(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)`)
	serviceLinkValue = regexp.MustCompile(`^(tcp|udp|sctp)://`)
)

// explain says what an unknown variable may have been meant to be.
func explain(name, value string) string {
	if serviceLinkName.MatchString(name) || serviceLinkValue.MatchString(value) {
		return "; it looks like Kubernetes' link to a service: " +
			"set enableServiceLinks: false in the pod's spec"
	}
	known := []string{"ENV"}
	for _, k := range keys() {
		if name == variable(k.path)+"_FILE" {
			return "; only a secret can be read from a file"
		}
		known = append(known, strings.TrimPrefix(variable(k.path), prefix))
	}
	if near := nearest(name[len(prefix):], known); near != "" {
		return "; did you mean " + prefix + near + "?"
	}
	return ""
}
