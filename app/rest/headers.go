package rest

import (
	"net/http"
	"time"

	"github.com/rs/cors"
)

// protect sets the headers that keep browsers from doing with an answer what nobody means them to. A page that needs
// more than nothing sets a policy of its own.
func (a *api) protect(h http.Header, r *http.Request) {
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if a.scheme(r) == "https" {
		h.Set("Strict-Transport-Security", "max-age=31536000") // a year, RFC 6797
	}
}

// scheme returns how the client reaches the API, as trusted proxies say.
func (a *api) scheme(r *http.Request) string {
	if proto := firstOf(r, "X-Forwarded-Proto"); (proto == "http" || proto == "https") && a.trusts(r) {
		return proto
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// preflightAge is how long browsers may remember what other origins may do.
const preflightAge = 10 * time.Minute

// shared lets the pages of CORSOrigins use the API. They send credentials of their own: a browser adds none.
func (a *api) shared(next http.Handler) http.Handler {
	if len(a.CORSOrigins) == 0 {
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: a.CORSOrigins,
		AllowedMethods: []string{
			http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		},
		AllowedHeaders: []string{"Authorization", "Content-Type", "If-Match", "If-None-Match", "X-Request-Id"},
		ExposedHeaders: []string{"ETag", "Link", "Location", "Retry-After", "X-Request-Id", "X-Total-Count"},
		MaxAge:         int(preflightAge.Seconds()),
	}).Handler(next)
}
