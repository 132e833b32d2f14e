package config

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

//go:embed base.yaml development.yaml testing.yaml production.yaml authkeys.yaml
var files embed.FS

// setting is the value of a key and where it came from.
type setting struct {
	node  *yaml.Node
	layer layer
}

// loader lays one layer over another. viper holds the values and fills the
// Config; the loader lets no value through that is not of the key's type.
type loader struct {
	viper    *viper.Viper
	typ      reflect.Type // the struct to fill
	settings map[string]setting
	faults   []error
	broken   map[string]bool // keys with a fault: no need to complain again
}

func newLoader(t reflect.Type) *loader {
	return &loader{viper: viper.New(), typ: t, settings: map[string]setting{}, broken: map[string]bool{}}
}

// fill gives c, which points to a struct of the loader's type, the values.
func (l *loader) fill(c any) {
	if err := l.viper.UnmarshalExact(c, exactTypes); err != nil {
		l.faults = append(l.faults, err)
	}
}

// exactTypes turns viper's conversions off.
func exactTypes(c *mapstructure.DecoderConfig) {
	c.WeaklyTypedInput = false
	c.DecodeHook = nil
}

// layer is a file or a variable.
type layer struct {
	*loader
	name  string
	lines bool // whether the line of a node means anything
}

func (l layer) where(n *yaml.Node) string {
	if l.lines && n.Line > 0 {
		return fmt.Sprintf("%s:%d", l.name, n.Line)
	}
	return l.name
}

func (l layer) fault(path string, n *yaml.Node, format string, args ...any) {
	place := l.where(n)
	if path != "" {
		place = fmt.Sprintf("%s (%s)", path, place)
	}
	l.faults = append(l.faults, fmt.Errorf("%s: %s", place, fmt.Sprintf(format, args...)))
}

// complain reports a problem with an effective value, unless its key is known to be broken.
func (l *loader) complain(p problem) {
	path, _, _ := strings.Cut(p.path, "[")
	if l.broken[path] {
		return
	}
	s := l.settings[path]
	s.layer.fault(p.path, s.node, "%s", p.what)
}

// embedded takes in a file that is part of the binary.
func (l *loader) embedded(fileName, name string) {
	text, err := files.ReadFile(fileName)
	if err != nil {
		panic(err)
	}
	layer{loader: l, name: name}.read(text)
}

// file takes in a file of the deployment.
func (l *loader) file(path string) {
	text, err := os.ReadFile(path)
	if err != nil {
		l.unread("")
		l.faults = append(l.faults, fmt.Errorf("--config %s: %w", path, reason(err)))
		return
	}
	layer{loader: l, name: path, lines: true}.read(text)
}

// unread keeps the keys that begin with path from being complained about: what
// was said of them could not be read.
func (l *loader) unread(path string) {
	for _, k := range keysOf(l.typ) {
		if strings.HasPrefix(k.path, path) {
			l.broken[k.path] = true
		}
	}
}

// reason strips the path from err: it may be a secret put in the wrong place.
func reason(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}

// read takes in a file.
func (l layer) read(text []byte) {
	var document, another yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	err := decoder.Decode(&document)
	if errors.Is(err, io.EOF) {
		return
	}
	if err == nil {
		err = decoder.Decode(&another)
		if err == nil {
			err = errors.New("there is more than one document in it")
		}
	}
	if !errors.Is(err, io.EOF) {
		l.unread("")
		l.faults = append(l.faults, fmt.Errorf("%s: %s", l.name, syntax(err)))
		return
	}
	root := document.Content[0]
	if empty(root) {
		return
	}
	l.section("", root, l.typ)
}

// section takes in the keys of struct t, which is the whole file where path is "".
func (l layer) section(path string, n *yaml.Node, t reflect.Type) {
	prefix := strings.TrimPrefix(path+".", ".")
	if n.Kind != yaml.MappingNode {
		l.unread(prefix)
	}
	for f, node := range l.members(path, n, t) {
		switch {
		case f.typ.Kind() != reflect.Struct:
			l.set(prefix+f.name, f.typ, node)
		case !empty(node):
			l.section(prefix+f.name, node, f.typ)
		}
	}
}

// syntax says what is wrong with a YAML file. The parser shows the name of an
// unknown anchor, which may be a password that begins with an asterisk.
func syntax(err error) string {
	if strings.Contains(err.Error(), "unknown anchor") {
		return "an alias without an anchor: put a value that begins with * in quotes"
	}
	return err.Error()
}

func empty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Anchor == "" && n.ShortTag() == "!!null"
}

// set gives a key its value, if it is of type t.
func (l layer) set(path string, t reflect.Type, n *yaml.Node) {
	before := len(l.faults)
	value := l.value(path, n, t)
	l.broken[path] = len(l.faults) > before
	if l.broken[path] {
		return
	}
	l.viper.Set(path, value)
	l.settings[path] = setting{n, l}
}

// members goes through the fields of t that a mapping gives, and reports what
// is not a field of t or is there twice. It does not show a key without a value
// in braces, which may be the rest of a password: {bind_password: abc, def}.
func (l layer) members(path string, n *yaml.Node, t reflect.Type) iter.Seq2[field, *yaml.Node] {
	return func(yield func(field, *yaml.Node) bool) {
		if !l.plain(path, n) {
			return
		}
		if n.Kind != yaml.MappingNode {
			l.fault(path, n, "must hold keys with values")
			return
		}
		known := fieldsOf(t)
		seen := map[string]bool{}
		for i := 0; i < len(n.Content); i += 2 {
			name, value := n.Content[i], n.Content[i+1]
			at := strings.TrimPrefix(path+"."+printable.FindString(name.Value), ".")
			f := slices.IndexFunc(known, func(f field) bool { return f.name == name.Value })
			switch {
			case name.Kind != yaml.ScalarNode:
				l.fault(path, name, "a key must be a plain name")
			case f < 0 && n.Style&yaml.FlowStyle != 0 && empty(value):
				l.fault(path, name, "something in braces has no value: put a text that holds , or : in quotes")
			case f < 0:
				l.fault(at, name, "unknown key%s", l.suggest(at, known))
			case seen[name.Value]:
				l.fault(at, name, "given twice")
			default:
				if !yield(known[f], value) {
					return
				}
			}
			seen[name.Value] = true
		}
	}
}

// printable matches the part of a key that fits on a line.
var printable = regexp.MustCompile(`^[^\s[:cntrl:]]*`)

// suggest says what the unknown key at path may have been meant to be.
func (l *loader) suggest(path string, known []field) string {
	if slices.ContainsFunc(keysOf(l.typ), func(k key) bool { return k.path == path }) {
		section, name, _ := strings.Cut(path, ".")
		return fmt.Sprintf("; write %s: below %s:", name, section)
	}
	var names []string
	for _, f := range known {
		names = append(names, f.name)
	}
	if near := nearest(path[strings.LastIndex(path, ".")+1:], names); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}

// plain refuses aliases and anchors. A password that begins with & would lose
// its first word as an anchor.
func (l layer) plain(path string, n *yaml.Node) bool {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		l.fault(path, n, "anchors and aliases are not understood: write the value out, "+
			"in quotes if it begins with & or *")
		return false
	}
	return true
}

// value returns what n holds as a value for viper, and reports what is not of type t.
func (l layer) value(path string, n *yaml.Node, t reflect.Type) any {
	if !l.plain(path, n) {
		return nil
	}
	switch t.Kind() {
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			l.fault(path, n, "must be a list: [first, second]")
			return nil
		}
		list := []any{}
		for i, item := range n.Content {
			list = append(list, l.value(fmt.Sprintf("%s[%d]", path, i), item, t.Elem()))
		}
		return list
	case reflect.Struct:
		record := map[string]any{}
		for f, member := range l.members(path, n, t) {
			record[f.name] = l.value(path+"."+f.name, member, f.typ)
		}
		return record
	default:
		value, err := scalar(n, t)
		if err != nil {
			l.fault(path, n, "%s", err)
		}
		return value
	}
}

func scalar(n *yaml.Node, t reflect.Type) (any, error) {
	if n.Kind != yaml.ScalarNode {
		return nil, errors.New("must be a single value")
	}
	if n.ShortTag() == "!!null" {
		return nil, errors.New(`has no value: write "" for an empty text, or leave the key out`)
	}
	switch t {
	case reflect.TypeFor[time.Duration]():
		return duration(n.Value)
	case reflect.TypeFor[bool]():
		b, err := strconv.ParseBool(n.Value)
		if err != nil || n.ShortTag() != "!!bool" {
			return nil, fmt.Errorf("must be true or false, not %q", n.Value)
		}
		return b, nil
	case reflect.TypeFor[int](), reflect.TypeFor[int64]():
		i, err := strconv.ParseInt(n.Value, 10, 64)
		if err != nil || n.ShortTag() != "!!int" || strconv.FormatInt(i, 10) != n.Value {
			return nil, fmt.Errorf("must be a whole number such as 10, not %q", n.Value)
		}
		return i, nil
	case reflect.TypeFor[float64]():
		f, err := strconv.ParseFloat(n.Value, 64)
		if tag := n.ShortTag(); err != nil || tag != "!!float" && tag != "!!int" {
			return nil, fmt.Errorf("must be a number such as 0.1, not %q", n.Value)
		}
		return f, nil
	default:
		if n.ShortTag() != "!!str" {
			return nil, errors.New("must be text: put it in quotes")
		}
		return n.Value, nil
	}
}

func duration(s string) (time.Duration, error) {
	if strings.Trim(s, "+-.0123456789") == "" {
		return 0, fmt.Errorf("%q has no unit: write 500ms, 10s, 2m or 1h", s)
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, fmt.Errorf("must be a duration such as 500ms, 10s, 2m or 1h, not %q", s)
	}
	return d, nil
}
