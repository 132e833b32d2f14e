package program

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"

	"rollcall/config"
)

// announce says where the API is and how to log in, all at once.
func announce(out io.Writer, c *config.Config, version, address, metrics string) {
	url := localURL(c.Server, address) + c.Server.BasePath
	elsewhere := ""
	if host, _, err := net.SplitHostPort(address); err == nil && isUnspecified(host) {
		elsewhere = ", and on every other address of this machine"
	}
	text := fmt.Sprintf("Rollcall %s, %s environment\n  listens on   %s%s\n  directory    %s, ", version, c.Environment, url, elsewhere, c.LDAP.URL)
	if c.Embedded.Enabled {
		text += "a private OpenLDAP that keeps its data in " + c.Embedded.Dir + "\n"
	} else {
		text += c.LDAP.BaseDN + "\n"
	}
	if metrics != "" {
		text += "  metrics at   http://" + metrics + "/metrics\n"
	}
	if c.Embedded.Enabled && c.Embedded.Sample {
		text += "  log in as    admin with the password admin (HTTP Basic)\n\n  curl -u admin:admin " + url + "/users/alice\n\n"
	}
	_, _ = io.WriteString(out, text) // whoever does not read it can't be told so either
}

// localURL returns where a server that listens on the address is reached from this machine.
func localURL(c config.Server, listen string) string {
	scheme := "http://"
	if c.TLSCertificate != "" {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return scheme + listen
	}
	if isUnspecified(host) {
		host = "127.0.0.1"
	}
	return scheme + net.JoinHostPort(host, port)
}

// isUnspecified reports whether a host to listen on means all of this machine's.
func isUnspecified(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || err == nil && ip.IsUnspecified()
}

// inClear reports whether passwords travel to the directory server for others to read.
func inClear(c config.LDAP) bool { return !c.StartTLS && readable(c.URL) }

// readable reports whether others can read what is sent to a URL: it leaves this machine, and without TLS.
func readable(text string) bool {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "ldap" && u.Scheme != "http" {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback())
}
