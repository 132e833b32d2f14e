package rest

import (
	"net/http"
	"time"
)

// piece is how many bytes of a list are collected before they are sent.
const piece = 64 << 10

// list streams every entry. Nothing is sent before the first is there, and what fails later breaks the answer
// off, so that a short list never looks like a whole one.
func (e entries) list(w http.ResponseWriter, r *http.Request) error {
	if err := acceptsJSON(r); err != nil {
		return err
	}
	control := http.NewResponseController(w)
	body := make([]byte, 0, piece+piece/4)
	body = append(body, '[')
	sent := false
	send := func() error {
		if !sent {
			w.Header().Set("Content-Type", typeJSON)
			sent = true
		}
		_ = control.SetWriteDeadline(time.Now().Add(e.WriteTimeout)) // not every writer has deadlines
		_, err := w.Write(body)
		body = body[:0]
		return err
	}
	separator := "\n"
	for entry, err := range e.Directory.List(r.Context(), e.kind) {
		if err != nil && sent {
			exchangeOf(r).err = err
			panic(http.ErrAbortHandler)
		}
		if err != nil {
			return err
		}
		body = appendEntry(append(body, separator...), entry)
		separator = ",\n"
		if len(body) >= piece {
			if err := send(); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
	}
	body = append(body, "\n]\n"...)
	_ = send() // the client has gone, or reads it
	return nil
}
