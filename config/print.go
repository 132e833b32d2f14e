package config

import (
	"bufio"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Print writes the configuration to w as YAML. A comment behind each value says
// where it came from; secrets show as ***. The error is w's.
func (c *Config) Print(w io.Writer) error {
	out := bufio.NewWriter(w)
	if c.Environment != "" {
		fmt.Fprintf(out, "# environment: %s\n", c.Environment)
	}
	for _, section := range fieldsOf(reflect.TypeFor[Config]()) {
		fmt.Fprintf(out, "%s:\n", section.name)
		for _, f := range fieldsOf(section.typ) {
			path := section.name + "." + f.name
			s := c.settings[path]
			text, err := oneLine(shown(path, f, s.node))
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "  %s: %s  # %s\n", f.name, text, s.layer.name)
		}
	}
	return out.Flush()
}

// shown returns what may be seen of a value. An @ in ldap.url means that
// somebody has put a name and a password into it.
func shown(path string, f field, n *yaml.Node) *yaml.Node {
	if f.secret() && n.Value != "" || path == "ldap.url" && strings.Contains(n.Value, "@") {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: hidden}
	}
	return n
}

// oneLine writes n in YAML's flow style.
func oneLine(n *yaml.Node) (string, error) {
	text, err := yaml.Marshal(flow(n))
	return strings.TrimSuffix(string(text), "\n"), err
}

// flow copies n without its comments, so that it fits on one line.
func flow(n *yaml.Node) *yaml.Node {
	plain := &yaml.Node{Kind: n.Kind, Value: n.Value, Style: yaml.FlowStyle}
	if n.Kind == yaml.ScalarNode {
		plain.Tag, plain.Style = n.ShortTag(), 0
		if strings.Contains(n.Value, "\n") {
			plain.Style = yaml.DoubleQuotedStyle
		}
	}
	for _, member := range n.Content {
		plain.Content = append(plain.Content, flow(member))
	}
	return plain
}
