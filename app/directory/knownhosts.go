package directory

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

const fieldIPAddresses = "ipAddresses"

// KnownHosts writes the keys of hosts as ssh(1) takes them: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
type KnownHosts struct {
	all bool
	// sought is the name or the address of the only host that is wanted, "" for one that no host can have.
	sought string
	// port is what the host is looked for with, "" for the usual one.
	port string
	now  time.Time
}

// NewKnownHosts returns one for all hosts.
func NewKnownHosts(now time.Time) KnownHosts { return KnownHosts{all: true, now: now} }

// Only returns one for the host that ssh looks for: the name or the address that %H of ssh_config(5) stands for, as
// "[name]:port" where the port is not 22. Lines name it in the same way.
func (k KnownHosts) Only(sought string) KnownHosts {
	k.all = false
	if inner, ok := strings.CutPrefix(sought, "["); ok {
		name, port, _ := strings.Cut(inner, "]:")
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || port[0] == '0' {
			return k
		}
		sought, k.port = name, port
	}
	if address := hostAddress(sought); address != "" {
		k.sought = address
	} else if hostNameSyntax(sought) == "" {
		k.sought = strings.ToLower(sought)
	}
	return k
}

// Query returns the query for the hosts to write. It may find more than are wanted.
func (k KnownHosts) Query(kind *Kind) Query {
	query := Query{Fields: []string{kind.Key, fieldIPAddresses, FieldSSHPublicKeys}}
	switch {
	case k.all, strings.Contains(k.sought, ":"): // an IPv6 address may be kept in any of its spellings
	case k.sought == "":
		query.Filter = not(Filter{Operator: Present, Field: FieldID})
	case hostAddress(k.sought) != "":
		query.Filter = Filter{Operator: Or, Of: []Filter{
			{Operator: Equal, Field: kind.Key, Value: k.sought}, {Operator: Equal, Field: fieldIPAddresses, Value: k.sought},
		}}
	default:
		query.Filter = Filter{Operator: Equal, Field: kind.Key, Value: k.sought}
	}
	return query
}

// Append appends a line for each key of a host that is good now, without options and comment. What is no host name, no
// address or no key is left out: it might be a pattern, a marker or another line. So are keys that are weak, or
// authorities.
func (k KnownHosts) Append(b []byte, host Entry) []byte {
	names := hostNames(host)
	if len(names) == 0 || !k.all && !slices.Contains(names, k.sought) {
		return b
	}
	if k.port != "" {
		for i, name := range names {
			names[i] = "[" + name + "]:" + k.port
		}
	}
	start := strings.Join(names, ",") + " "
	var written []string
	for _, value := range host.Values(FieldSSHPublicKeys) {
		key, err := ParseSSHKey(value)
		if err != nil || key.HasExpired(k.now) || key.Weak() != "" || key.Delegates() != "" || slices.Contains(written, key.Key) {
			continue
		}
		written = append(written, key.Key)
		b = append(b, start+key.Type+" "+key.Key+"\n"...)
	}
	return b
}

// hostNames returns the name and the addresses of a host as ssh looks for them, each once.
func hostNames(host Entry) []string {
	var names []string
	if name := host.Name(); hostNameSyntax(name) == "" {
		names = append(names, strings.ToLower(name))
	}
	for _, value := range host.Values(fieldIPAddresses) {
		if address := hostAddress(value); address != "" && !slices.Contains(names, address) {
			names = append(names, address)
		}
	}
	return names
}

// hostAddress returns an IP address as getnameinfo(3) writes it, "" for what is none.
func hostAddress(s string) string {
	if ipAddressSyntax(s) != "" {
		return ""
	}
	return netip.MustParseAddr(s).String()
}
