package rest

import (
	"net/http"
	"net/netip"
	"strings"
)

// address returns the IP address that the request comes from: the peer's or, behind trusted proxies, the last one in
// X-Forwarded-For that is not a trusted proxy itself. What stands before that, anybody may have written. Where the
// header holds something else than addresses, it is the proxy's that passed it on.
func (a *api) address(r *http.Request) string {
	last, ok := peer(r)
	if !ok {
		return r.RemoteAddr
	}
	rest, more := strings.Join(r.Header.Values("X-Forwarded-For"), ","), true
	for more && a.isProxy(last) {
		var text string
		if i := strings.LastIndexByte(rest, ','); i >= 0 {
			rest, text = rest[:i], rest[i+1:]
		} else {
			text, more = rest, false
		}
		hop, ok := forwardedAddress(strings.TrimSpace(text))
		if !ok {
			break
		}
		last = hop
	}
	return last.String()
}

// peer returns the address of whoever the connection is to.
func peer(r *http.Request) (netip.Addr, bool) {
	remote, err := netip.ParseAddrPort(r.RemoteAddr)
	return remote.Addr().Unmap().WithZone(""), err == nil
}

// isProxy reports whether an address is a trusted proxy's.
func (a *api) isProxy(address netip.Addr) bool {
	for _, proxies := range a.TrustedProxies {
		if proxies.Contains(address) {
			return true
		}
	}
	return false
}

// forwardedAddress reads an address as proxies write it, with a port or without, as RFC 7239 §6 has it too.
func forwardedAddress(text string) (netip.Addr, bool) {
	if len(text) > 1 && text[0] == '"' && text[len(text)-1] == '"' {
		text = text[1 : len(text)-1]
	}
	if with, err := netip.ParseAddrPort(text); err == nil {
		return with.Addr().Unmap().WithZone(""), true
	}
	if len(text) > 1 && text[0] == '[' && text[len(text)-1] == ']' && strings.Contains(text, ":") {
		text = text[1 : len(text)-1]
	}
	address, err := netip.ParseAddr(text)
	return address.Unmap().WithZone(""), err == nil
}
