package rest

import (
	"encoding/json"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"rollcall/app/directory"
)

// The media types that entries come in.
const (
	typeNDJSON = "application/x-ndjson"
	typeCSV    = "text/csv"
	typeLDIF   = "text/ldif"
)

// format is how a list is written.
type format struct {
	mediaType string
	// streamed formats hold everything that matches, unless there is a limit.
	streamed bool
	// sources tells that entries are written in the directory server's own terms.
	sources bool
	begin   func(b []byte) []byte
	entry   func(b []byte, entry directory.Entry, first bool) []byte
	end     func(b []byte) []byte
	// failure says that what follows is missing; nil where the format has no words for it.
	failure func(b []byte, problem problem) []byte
}

// formatOf returns how to write the answer to a query as one of the media types.
func formatOf(mediaType string, kind *directory.Kind, query directory.Query) format {
	switch mediaType {
	case typeNDJSON:
		return ndjsonFormat
	case typeCSV:
		return csvFormat(kind, query)
	case typeLDIF:
		return ldifFormat
	}
	return jsonFormat
}

func asItIs(b []byte) []byte { return b }

var jsonFormat = format{
	mediaType: typeJSON,
	begin:     func(b []byte) []byte { return append(b, '[') },
	entry: func(b []byte, entry directory.Entry, first bool) []byte {
		if !first {
			b = append(b, ',')
		}
		return appendEntry(append(b, '\n'), entry)
	},
	end: func(b []byte) []byte { return append(b, "\n]\n"...) },
}

var ndjsonFormat = format{
	mediaType: typeNDJSON,
	streamed:  true,
	begin:     asItIs,
	entry: func(b []byte, entry directory.Entry, _ bool) []byte {
		return append(appendEntry(b, entry), '\n')
	},
	end: asItIs,
	failure: func(b []byte, problem problem) []byte {
		line, _ := json.Marshal(map[string]any{"error": problem}) // strings and numbers: can't fail
		return append(append(b, line...), '\n')
	},
}

// csvFormat is RFC 4180: a header, then a line for each entry. Values of a list have a line feed between them.
func csvFormat(kind *directory.Kind, query directory.Query) format {
	var places []int
	var names []string
	for i, field := range kind.Fields {
		if !field.WriteOnly && query.Wants(field.Name) {
			places = append(places, i)
			names = append(names, field.Name)
		}
	}
	return format{
		mediaType: typeCSV + "; charset=utf-8; header=present",
		streamed:  true,
		begin:     func(b []byte) []byte { return appendCSV(b, names) },
		entry: func(b []byte, entry directory.Entry, _ bool) []byte {
			cells := make([]string, len(places))
			for i, place := range places {
				cells[i] = spreadsheetSafe(strings.Join(entry.At(place), "\n"))
			}
			return appendCSV(b, cells)
		},
		end: asItIs,
	}
}

// appendCSV appends a line. Unlike encoding/csv it leaves carriage returns and line feeds in cells as they are, and
// makes no empty line, which readers skip.
func appendCSV(b []byte, cells []string) []byte {
	for i, cell := range cells {
		if i > 0 {
			b = append(b, ',')
		}
		if strings.ContainsAny(cell, "\",\r\n") || strings.TrimSpace(cell) != cell || len(cells) == 1 && cell == "" {
			cell = `"` + strings.ReplaceAll(cell, `"`, `""`) + `"`
		}
		b = append(b, cell...)
	}
	return append(b, '\r', '\n')
}

// spreadsheetSafe returns a cell that no spreadsheet takes for a formula: what begins like one gets an apostrophe.
func spreadsheetSafe(cell string) string {
	if cell != "" && strings.ContainsRune("=+-@\t\r\n\x00", rune(cell[0])) {
		return "'" + cell
	}
	return cell
}

// ldifFormat is RFC 2849, as ldapadd takes it.
var ldifFormat = format{
	mediaType: typeLDIF + "; charset=utf-8",
	streamed:  true,
	sources:   true,
	begin:     func(b []byte) []byte { return append(b, "version: 1\n\n"...) },
	entry: func(b []byte, entry directory.Entry, _ bool) []byte {
		return entry.Source.AppendLDIF(b)
	},
	end: asItIs,
}

// accepted returns which of the media types that are offered the client likes best (RFC 9110 §12.5.1), the first of
// equals; "" where it takes none.
func accepted(r *http.Request, offers ...string) string {
	header := strings.Join(r.Header.Values("Accept"), ",")
	if header == "" {
		return offers[0]
	}
	best, highest := "", 0.0
	for _, offer := range offers {
		main, _, _ := strings.Cut(offer, "/")
		quality, precision := 0.0, 0
		for part := range strings.SplitSeq(header, ",") {
			name, parameters, err := mime.ParseMediaType(part)
			if err != nil {
				continue
			}
			precise := map[string]int{offer: 3, main + "/*": 2, "*/*": 1}[name]
			if precise <= precision {
				continue
			}
			precision, quality = precise, 1
			if q, given := parameters["q"]; given {
				quality, _ = strconv.ParseFloat(q, 64)
			}
		}
		if quality > highest {
			best, highest = offer, quality
		}
	}
	return best
}
