package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"rollcall/app/directory"
)

// decodePatch reads a JSON object (RFC 8259) as wanted values, by the rules of a merge patch (RFC 7396): null
// removes. What is no JSON object is an error; whatever else is wrong becomes a fault of the patch.
func decodePatch(body []byte, kind *directory.Kind) (directory.Patch, error) {
	if !utf8.Valid(body) {
		return directory.Patch{}, malformed("The body is not UTF-8.")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	if !opens(decoder, '{') {
		return directory.Patch{}, malformed("The body must be one JSON object.")
	}
	patch := directory.Patch{Set: make(map[string][]string)}
	seen := make(map[string]bool)
	err := decodeMembers(decoder, func(name string, value json.RawMessage) {
		if seen[name] {
			patch.Faults = append(patch.Faults, directory.Violation{Field: shown(name), Message: "is given more than once"})
			return
		}
		seen[name] = true
		decodeField(&patch, kind, name, value)
	})
	if err != nil {
		return directory.Patch{}, err
	}
	return patch, decodeEnd(decoder)
}

// opens reports whether an object or array begins here.
func opens(decoder *json.Decoder, delim json.Delim) bool {
	token, err := decoder.Token()
	return err == nil && token == delim
}

// decodeMembers reads the members of an object that has been opened, and its end.
func decodeMembers(decoder *json.Decoder, member func(name string, value json.RawMessage)) error {
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return syntaxError(err, decoder)
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return syntaxError(err, decoder)
		}
		member(token.(string), value) // a name, or Token had failed
	}
	if _, err := decoder.Token(); err != nil {
		return syntaxError(err, decoder)
	}
	return nil
}

// decodeEnd demands that nothing follows.
func decodeEnd(decoder *json.Decoder) error {
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return malformed("Something follows the JSON document.")
	}
	return nil
}

// decodeField adds to a patch what a field is wanted to be, or what is wrong with that.
func decodeField(patch *directory.Patch, kind *directory.Kind, name string, value json.RawMessage) {
	field, known := kind.Field(name)
	if !known {
		patch.Faults = append(patch.Faults, directory.UnknownField(kind, shown(name)))
		return
	}
	values, wrong := decodeValues(field, value)
	if wrong != "" {
		patch.Faults = append(patch.Faults, directory.Violation{Field: name, Message: wrong})
		return
	}
	patch.Set[name] = values
}

// decodeValues reads the values of one field, or says what is wrong with them.
func decodeValues(field directory.Field, raw json.RawMessage) (values []string, wrong string) {
	if raw[0] == 'n' {
		return nil, ""
	}
	if !field.List {
		value, wrong := decodeValue(field, raw)
		return []string{value}, wrong
	}
	var list []json.RawMessage
	if raw[0] != '[' || json.Unmarshal(raw, &list) != nil {
		return nil, "must be a list of strings"
	}
	for _, item := range list {
		value, wrong := decodeValue(field, item)
		if wrong != "" {
			return nil, "must be a list, of which each value " + wrong
		}
		values = append(values, value)
	}
	return values, ""
}

func decodeValue(field directory.Field, raw json.RawMessage) (value, wrong string) {
	if field.Type == directory.Boolean {
		if s := string(raw); s == directory.True || s == directory.False {
			return s, ""
		}
		return "", "must be true or false"
	}
	if field.Type == directory.Integer {
		if s := string(raw); directory.IsInteger(s) {
			return s, ""
		}
		return "", "must be a whole number"
	}
	if raw[0] != '"' || json.Unmarshal(raw, &value) != nil {
		return "", "must be a string"
	}
	if hasLoneSurrogate(value, raw) {
		return "", "must not contain half of a surrogate pair"
	}
	return value, ""
}

// hasLoneSurrogate reports whether decoding put a U+FFFD where raw has none.
func hasLoneSurrogate(value string, raw []byte) bool {
	const replacement = "\uFFFD"
	made := strings.Count(value, replacement)
	if made == 0 {
		return false
	}
	escaped := bytes.Count(bytes.ToLower(raw), []byte(`\ufffd`))
	return made > bytes.Count(raw, []byte(replacement))+escaped
}

func malformed(detail string) error {
	return &directory.Error{Code: directory.BadRequest, Detail: detail}
}

func syntaxError(err error, decoder *json.Decoder) error {
	return &directory.Error{Code: directory.BadRequest, Cause: err,
		Detail: fmt.Sprintf("The body is not valid JSON, at about byte %d.", decoder.InputOffset())}
}

// shown returns a field's name as answers and logs repeat it: as the client wrote it, but not at any length.
func shown(name string) string {
	const most = 100
	if runes := []rune(name); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return name
}
