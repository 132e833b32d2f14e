package rest

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"rollcall/app/directory"
)

// appendEntry appends an entry as JSON, its fields in the order of the kind's table. Lists are there even when
// empty, other fields only with a value.
func appendEntry(b []byte, entry directory.Entry) []byte {
	b = append(b, '{')
	first := true
	for i := range entry.Kind.Fields {
		field := &entry.Kind.Fields[i]
		values := entry.At(i)
		if field.WriteOnly || len(values) == 0 && (!field.List || entry.HiddenAt(i)) {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendString(b, field.Name)
		b = append(b, ':')
		switch {
		case field.List:
			b = append(b, '[')
			for j, value := range values {
				if j > 0 {
					b = append(b, ',')
				}
				b = appendValue(b, field.Type, value)
			}
			b = append(b, ']')
		default:
			b = appendValue(b, field.Type, values[0])
		}
	}
	return append(b, '}')
}

func appendValue(b []byte, t directory.Type, value string) []byte {
	if t == directory.Boolean || t == directory.Integer && directory.IsInteger(value) {
		return append(b, value...)
	}
	return appendString(b, value)
}

// appendString appends a JSON string. HTML's characters stand for themselves: nobody reads this as HTML.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
			continue
		}
		b = append(b, s[from:i]...)
		if c == '"' || c == '\\' {
			b = append(b, '\\', c)
		} else {
			b = append(b, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		from = i + 1
	}
	return append(append(b, s[from:]...), '"')
}

// answerJSON answers with a document that is no entry.
func answerJSON(w http.ResponseWriter, r *http.Request, status int, document any) error {
	if err := acceptsJSON(r); err != nil {
		return err
	}
	body, err := json.Marshal(document)
	if err != nil {
		return &directory.Error{Code: directory.Internal, Cause: err}
	}
	answerBytes(w, status, append(body, '\n'))
	return nil
}

func answerBytes(w http.ResponseWriter, status int, body []byte) { answerAs(w, status, typeJSON, body) }

func answerAs(w http.ResponseWriter, status int, mediaType string, body []byte) {
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone, or reads it
}

// acceptsJSON returns not-acceptable where Accept (RFC 9110 §12.5.1) rules JSON out.
func acceptsJSON(r *http.Request) error {
	accept := strings.Join(r.Header.Values("Accept"), ",")
	if accept == "" || accept == "*/*" || accept == typeJSON || accepted(r, typeJSON) != "" {
		return nil
	}
	return &directory.Error{Code: directory.NotAcceptable, Detail: "Accept " + typeJSON + "."}
}

// url returns the address of a path of the API as the client reaches it. Trusted proxies say how that is.
func (a *api) url(r *http.Request, path string) string {
	host := r.Host
	if forwarded := firstOf(r, "X-Forwarded-Host"); isHost(forwarded) && a.trusts(r) {
		host = forwarded
	}
	if host == "" { // HTTP/1.0
		return a.path(r, path)
	}
	return a.scheme(r) + "://" + host + a.path(r, path)
}

// path returns a path of the API as the client knows it, with what trusted proxies have taken away.
func (a *api) path(r *http.Request, path string) string {
	prefix := firstOf(r, "X-Forwarded-Prefix")
	if !isPath(prefix) || !a.trusts(r) {
		prefix = ""
	}
	return strings.TrimRight(prefix, "/") + a.BasePath + path
}

// isPath reports whether a text is a path that leads nowhere else (RFC 3986 §3.3): what begins with two slashes is a
// host.
func isPath(s string) bool {
	return strings.HasPrefix(s, "/") && !strings.Contains(s, "//") && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("/-._~%!$&'()*+,;=:@", r)
	})
}

// isHost reports whether a text can be the host and port of a URL (RFC 3986 §3.2.2).
func isHost(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._~:[]", r)
	})
}

// trusts reports whether the request comes from a trusted proxy.
func (a *api) trusts(r *http.Request) bool {
	address, ok := peer(r)
	return ok && a.isProxy(address)
}

func firstOf(r *http.Request, header string) string {
	first, _, _ := strings.Cut(r.Header.Get(header), ",")
	return strings.TrimSpace(first)
}
