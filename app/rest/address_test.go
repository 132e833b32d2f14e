package rest

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// behind is an API behind the proxies of these ranges.
func behind(proxies ...string) *api {
	a := &api{}
	for _, p := range proxies {
		a.TrustedProxies = append(a.TrustedProxies, netip.MustParsePrefix(p))
	}
	return a
}

func (a *api) addressOf(peer string, forwarded ...string) string {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.RemoteAddr = peer
	for _, line := range forwarded {
		r.Header.Add("X-Forwarded-For", line)
	}
	return a.address(r)
}

func TestTheAddressIsThePeersUnlessTrustedProxiesSayOtherwise(t *testing.T) {
	a := behind("10.0.0.0/8", "2001:db8:1::/48")
	const stranger, proxy = "203.0.113.9:4711", "10.0.0.1:80"
	for _, c := range []struct {
		what, peer string
		forwarded  []string
		want       string
	}{
		{"no header", stranger, nil, "203.0.113.9"},
		{"a stranger's header", stranger, []string{"192.0.2.1"}, "203.0.113.9"},
		{"IPv6 with a zone", "[fe80::1%eth0]:80", nil, "fe80::1"},
		{"IPv4 as IPv6", "[::ffff:203.0.113.9]:80", []string{"192.0.2.1"}, "203.0.113.9"},
		{"no address", "@", []string{"192.0.2.1"}, "@"},
		{"a proxy by itself", proxy, nil, "10.0.0.1"},
		{"a proxy as IPv4 in IPv6", "[::ffff:10.0.0.1]:80", []string{"192.0.2.1"}, "192.0.2.1"},
		{"one proxy", proxy, []string{"192.0.2.1"}, "192.0.2.1"},
		{"two proxies", proxy, []string{"192.0.2.1, 10.2.2.2"}, "192.0.2.1"},
		{"two proxies on two lines", proxy, []string{"192.0.2.1", "10.2.2.2"}, "192.0.2.1"},
		{"an IPv6 proxy", "[2001:db8:1::5]:443", []string{"2001:db8::7"}, "2001:db8::7"},
		{"what the client made up", proxy, []string{"127.0.0.1, 10.9.9.9", "192.0.2.1 ,10.2.2.2"}, "192.0.2.1"},
		{"a made up proxy", proxy, []string{"198.51.100.1, 10.9.9.9, 192.0.2.1"}, "192.0.2.1"},
		{"proxies only", proxy, []string{"10.3.3.3, 10.2.2.2"}, "10.3.3.3"},
		{"a port", proxy, []string{"192.0.2.1:5678"}, "192.0.2.1"},
		{"brackets", proxy, []string{"[2001:db8::7]"}, "2001:db8::7"},
		{"brackets and a port", proxy, []string{"[2001:db8::7]:5678"}, "2001:db8::7"},
		{"quotes, RFC 7239", proxy, []string{`"[2001:db8::7]:5678"`}, "2001:db8::7"},
		{"a forwarded zone", proxy, []string{"fe80::7%eth0"}, "fe80::7"},
		{"a forwarded zone and a port", proxy, []string{"[fe80::7%eth0]:80"}, "fe80::7"},
		{"forwarded IPv4 as IPv6", proxy, []string{"192.0.2.1, ::ffff:10.2.2.2"}, "192.0.2.1"},
		{"garbage", proxy, []string{"192.0.2.1, garbage"}, "10.0.0.1"},
		{"garbage behind a proxy", proxy, []string{"192.0.2.1, unknown, 10.2.2.2"}, "10.2.2.2"},
		{"an obfuscated name, RFC 7239", proxy, []string{"192.0.2.1, _hidden:1"}, "10.0.0.1"},
		{"nothing where an address should be", proxy, []string{"192.0.2.1,"}, "10.0.0.1"},
		{"an empty header", proxy, []string{""}, "10.0.0.1"},
		{"IPv4 in brackets", proxy, []string{"[192.0.2.1]"}, "10.0.0.1"},
		{"half a bracket", proxy, []string{"["}, "10.0.0.1"},
		{"half a quote", proxy, []string{`"`}, "10.0.0.1"},
		{"a line feed", proxy, []string{"192.0.2.1\n"}, "192.0.2.1"},
	} {
		if got := a.addressOf(c.peer, c.forwarded...); got != c.want {
			t.Errorf("%s: %s with %q is %q, want %q", c.what, c.peer, c.forwarded, got, c.want)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, seed := range [][3]string{
		{"10.0.0.1:80", "192.0.2.1", "10.2.2.2"}, {"203.0.113.9:1", "127.0.0.1", ""}, {"[fe80::1%x]:1", "[::1]:2,", `"[::1]"`},
		{"@", "10.0.0.1", "_x"}, {"10.0.0.1:80", ",,,", "[::ffff:10.0.0.1%z]:"}, {"10.0.0.1:80", "::ffff:10.0.0.1", "fe80::1%a,b"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	a, nobody := behind("10.0.0.0/8", "fd00::/8"), behind()
	f.Fuzz(func(t *testing.T, peer, first, second string) {
		for _, a := range []*api{a, nobody} {
			got, direct := a.addressOf(peer, first, second), a.addressOf(peer)
			at, err := netip.ParseAddr(got)
			_, odd := netip.ParseAddrPort(peer)
			switch {
			case odd != nil: // no network's: it stays what it is
				if got != peer {
					t.Errorf("%q became %q", peer, got)
				}
			case err != nil || at.Zone() != "" || at.Is4In6():
				t.Errorf("%q is no plain address", got)
			case !a.isProxy(netip.MustParseAddr(direct)) && got != direct:
				t.Errorf("%q made the stranger %s into %s", first+"|"+second, direct, got)
			}
		}
		// What stands left of an address that is no proxy's changes nothing.
		if a.addressOf(peer, "192.0.2.1") == "192.0.2.1" && a.addressOf(peer, first, second, "192.0.2.1") != "192.0.2.1" {
			t.Errorf("%q was believed", first+"|"+second)
		}
	})
}
