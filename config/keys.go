package config

import (
	"reflect"
	"strings"
)

// field is a named field of one of the configuration's structs.
type field struct {
	name      string
	typ       reflect.Type
	separator string // between the items of a list in a variable
}

// fieldsOf lists the fields of struct t that a file can set.
func fieldsOf(t reflect.Type) []field {
	var all []field
	for _, f := range reflect.VisibleFields(t) {
		name := f.Tag.Get("mapstructure")
		if !f.IsExported() || f.Anonymous || name == "-" {
			continue
		}
		separator := f.Tag.Get("separator")
		if separator == "" {
			separator = ","
		}
		all = append(all, field{name, f.Type, separator})
	}
	return all
}

// key is one key of a file, such as ldap.timeout.
type key struct {
	field
	path string
}

// keys lists every key of a Config.
func keys() []key { return keysOf(reflect.TypeFor[Config]()) }

// keysOf lists every key of a file for struct t, in its order.
func keysOf(t reflect.Type) []key {
	var all []key
	for _, f := range fieldsOf(t) {
		if f.typ.Kind() != reflect.Struct {
			all = append(all, key{f, f.name})
			continue
		}
		for _, member := range fieldsOf(f.typ) {
			all = append(all, key{member, f.name + "." + member.name})
		}
	}
	return all
}

const prefix = "ROLLCALL_"

// variable returns the name of the environment variable that sets path.
func variable(path string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(path, ".", "_"))
}

func (f field) secret() bool { return f.typ == reflect.TypeFor[Secret]() }

// nearest returns the candidate most like name, or "" where none is.
func nearest(name string, candidates []string) string {
	best, least := "", max(len(name)/3, min(len(name)/2, 2))+1
	for _, candidate := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(candidate)); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance is the number of bytes to insert, drop or replace to make b of a.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}
