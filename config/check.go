package config

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// problem is something wrong with an effective value.
type problem struct{ path, what string }

// problems lists what is wrong with the values and with how they go together.
func (c *Config) problems() []problem {
	all := []problem{
		{"server.listen", listenAddress(c.Server.Listen)},
		{"server.base_path", basePath(c.Server.BasePath)},
		{"server.request_timeout", first(positive(c.Server.RequestTimeout), inTime(c.Server))},
		{"server.read_header_timeout", positive(c.Server.ReadHeaderTimeout)},
		{"server.read_timeout", positive(c.Server.ReadTimeout)},
		{"server.write_timeout", positive(c.Server.WriteTimeout)},
		{"server.idle_timeout", positive(c.Server.IdleTimeout)},
		{"server.shutdown_timeout", positive(c.Server.ShutdownTimeout)},
		{"server.max_body_bytes", between(c.Server.MaxBodyBytes, kibi, gibi)},
		{"server.bulk_concurrency", between(c.Server.BulkConcurrency, 1, 64)},
		{"server.tls_key", together("server.tls_certificate", c.Server.TLSCertificate, c.Server.TLSKey)},
		{"server.max_header_bytes", between(c.Server.MaxHeaderBytes, kibi, gibi)},

		{"ldap.url", first(c.outside("ldap.url", c.LDAP.URL), optional(c.LDAP.URL, ldapURL))},
		{"ldap.start_tls", c.startTLS()},
		{"ldap.client_key", together("ldap.client_certificate", c.LDAP.ClientCertificate, c.LDAP.ClientKey)},
		{"ldap.base_dn", c.baseDN()},
		{"ldap.bind_dn", first(c.outside("ldap.bind_dn", c.LDAP.BindDN), optional(c.LDAP.BindDN, dn))},
		{"ldap.bind_password", c.outside("ldap.bind_password", string(c.LDAP.BindPassword))},
		{"ldap.timeout", positive(c.LDAP.Timeout)},
		{"ldap.connections", between(c.LDAP.Connections, 1, 64)},
		{"ldap.exclusive_connections", between(c.LDAP.ExclusiveConnections, 1, 256)},
		{"ldap.sorted_searches", between(c.LDAP.SortedSearches, 1, 64)},
		{"ldap.hold_searches", notNegative(c.LDAP.HoldSearches)},
		{"ldap.max_connection_age", positive(c.LDAP.MaxConnectionAge)},
		{"ldap.page_size", between(c.LDAP.PageSize, 1, 100_000)},
		{"ldap.max_message_bytes", between(c.LDAP.MaxMessageBytes, kibi, gibi)},

		{"ldap.password_policy", c.relative(c.LDAP.PasswordPolicy)},
		{"ldap.decoy", c.relative(c.LDAP.Decoy)},

		{"embedded.dir", required("embedded.dir", c.Embedded.Dir)},

		{"auth.login_field", fieldName(c.Auth.LoginField)},
		{"auth.freshness", notNegative(c.Auth.Freshness)},
		{"auth.password_memory", notNegative(c.Auth.PasswordMemory)},
		{"auth.admin_group", first(required("auth.admin_group", c.Auth.AdminGroup), optional(c.Auth.AdminGroup, dn))},
		{"auth.operator_group", optional(c.Auth.OperatorGroup, dn)},
		{"auth.reader_group", optional(c.Auth.ReaderGroup, dn)},
		{"auth.max_failures", between(c.Auth.MaxFailures, 1, 100)},
		{"auth.failure_window", positive(c.Auth.FailureWindow)},
		{"auth.token_issuer", required("auth.token_issuer", c.Auth.TokenIssuer)},
		{"auth.token_keys", c.tokenKeys()},
		{"auth.access_token_lifetime", positive(c.Auth.AccessTokenLifetime)},
		{"auth.refresh_token_lifetime", positive(c.Auth.RefreshTokenLifetime)},
		{"auth.sessions", c.relative(c.Auth.Sessions)},

		{"ssh.login_field", fieldName(c.SSH.LoginField)},

		{"oidc.issuer", optional(c.OIDC.Issuer, issuerURL)},
		{"oidc.audience", c.withIssuer("oidc.audience", c.OIDC.Audience)},
		{"oidc.user_claim", c.withIssuer("oidc.user_claim", c.OIDC.UserClaim)},

		{"log.level", oneOf(c.Log.Level, "error", "warn", "info", "debug", "trace")},
		{"log.format", oneOf(c.Log.Format, "json", "text")},

		{"telemetry.listen", first(optional(c.Telemetry.Listen, listenAddress), c.apart())},
		{"telemetry.pprof", c.profiles()},
		{"telemetry.otlp_endpoint", optional(c.Telemetry.OTLPEndpoint, receiverURL)},
		{"telemetry.otlp_headers", c.headers()},
		{"telemetry.sample_ratio", c.sampleRatio()},

		{"posix.min", between(c.Posix.Min, lowestID, highestID)},
		{"posix.max", c.lastID()},
		{"posix.primary_gid", between(c.Posix.PrimaryGID, 100, highestID)},
		{"posix.home_directory", homeDirectory(c.Posix.HomeDirectory)},
		{"posix.login_shell", absolutePath(c.Posix.LoginShell)},
		{"posix.counter", first(required("posix.counter", c.Posix.Counter), c.relative(c.Posix.Counter))},

		{"groups.placeholder", first(required("groups.placeholder", c.Groups.Placeholder), c.relative(c.Groups.Placeholder))},
	}
	all = append(all, each("server.trusted_proxies", c.Server.TrustedProxies, proxy)...)
	all = append(all, each("server.cors_origins", c.Server.CORSOrigins, origin)...)
	all = append(all, each("auth.protected", c.Auth.Protected, dn)...)
	all = append(all, each("ssh.trusted_networks", c.SSH.TrustedNetworks, proxy)...)
	all = append(all, each("ssh.everywhere_groups", c.SSH.EverywhereGroups, dn)...)
	all = append(all, each("auth.own_fields", c.Auth.OwnFields, fieldName)...)
	all = append(all, c.kindProblems("users", c.Users)...)
	all = append(all, c.kindProblems("groups", c.Groups.Kind)...)
	all = append(all, c.kindProblems("hosts", c.Hosts)...)
	return slices.DeleteFunc(all, func(p problem) bool { return p.what == "" })
}

func (c *Config) kindProblems(section string, k Kind) []problem {
	all := []problem{
		{section + ".container", c.relative(k.Container)},
		{section + ".key", fieldName(k.Key)},
		{section + ".naming_attribute", schemaName(k.NamingAttribute)},
		{section + ".filter", optional(k.Filter, filter)},
	}
	if len(k.ObjectClasses) == 0 {
		all = append(all, problem{section + ".object_classes", "must hold at least one class"})
	}
	all = append(all, each(section+".object_classes", k.ObjectClasses, schemaName)...)

	seenField, seenAttribute := seen{}, seen{}
	for i, a := range k.Attributes {
		path := fmt.Sprintf("%s.attributes[%d]", section, i)
		all = append(all,
			problem{path + ".field", first(fieldName(a.Field), seenField.again(a.Field))},
			problem{path + ".attribute", first(schemaName(a.Attribute), seenAttribute.again(a.Attribute))},
			problem{path + ".object_class", optional(a.ObjectClass, schemaName)})
	}
	for i, f := range k.Fields {
		path := fmt.Sprintf("%s.fields[%d]", section, i)
		all = append(all,
			problem{path + ".name", first(fieldName(f.Name), seenField.again(f.Name))},
			problem{path + ".attribute", first(schemaName(f.Attribute), seenAttribute.again(f.Attribute))},
			problem{path + ".object_class", optional(f.ObjectClass, schemaName)})
		if f.Required && f.ReadOnly {
			all = append(all, problem{path, "cannot be both required and read_only"})
		}
	}
	return all
}

// Each check below returns what is wrong, or "".

// first returns the first complaint.
func first(whats ...string) string {
	for _, what := range whats {
		if what != "" {
			return what
		}
	}
	return ""
}

// seen holds names in small letters: LDAP does not tell them from capitals.
type seen map[string]bool

func (s seen) again(text string) string {
	folded := strings.ToLower(text)
	if s[folded] {
		return fmt.Sprintf("%q is given twice", text)
	}
	s[folded] = true
	return ""
}

// each checks the items of a list, which must differ.
func each(path string, list []string, check func(string) string) []problem {
	var all []problem
	given := seen{}
	for i, item := range list {
		what := first(check(item), given.again(item))
		all = append(all, problem{fmt.Sprintf("%s[%d]", path, i), what})
	}
	return all
}

func optional(text string, check func(string) string) string {
	if text == "" {
		return ""
	}
	return check(text)
}

func required(path, text string) string {
	if text != "" {
		return ""
	}
	section, key, _ := strings.Cut(path, ".")
	what := fmt.Sprintf("is missing: set %s: below %s: in the --config file, or %s",
		key, section, variable(path))
	if path == "ldap.bind_password" {
		what += ", or " + variable(path) + "_FILE to the name of a file that holds it"
	}
	return what
}

// outside checks a key that leads to a server other than the embedded one.
func (c *Config) outside(path, text string) string {
	switch {
	case !c.Embedded.Enabled:
		return required(path, text)
	case text != "":
		return "is given, but embedded.enabled is true and brings a server of its own: " +
			"set embedded.enabled to false, or leave " + path + " out"
	default:
		return ""
	}
}

func (c *Config) baseDN() string {
	if c.LDAP.BaseDN == "" && c.Embedded.Enabled {
		return ""
	}
	return first(required("ldap.base_dn", c.LDAP.BaseDN), dn(c.LDAP.BaseDN))
}

func (c *Config) startTLS() string {
	switch {
	case !c.LDAP.StartTLS:
		return ""
	case c.Embedded.Enabled:
		return "is true, but the embedded server has no TLS: set embedded.enabled to false, or leave ldap.start_tls out"
	case strings.HasPrefix(c.LDAP.URL, "ldaps:"):
		return "is true, but ldap.url begins with ldaps: and is TLS already: set one of them"
	}
	return ""
}

// together checks that a key's file is given where its certificate's is, and only there.
func together(certificate, certificateFile, keyFile string) string {
	if (certificateFile == "") != (keyFile == "") {
		return "must be given together with " + certificate
	}
	return ""
}

func (c *Config) tokenKeys() string {
	if c.Embedded.Enabled || len(c.Auth.TokenKeys) > 0 {
		return ""
	}
	return required("auth.token_keys", "") + `: files, as "openssl genpkey -algorithm ed25519" writes them`
}

// withIssuer checks a key that an issuer needs.
func (c *Config) withIssuer(path, text string) string {
	if c.OIDC.Issuer == "" {
		return ""
	}
	return required(path, text)
}

func issuerURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "must be a URL such as https://login.example.org/realms/main"
	}
	return ""
}

// apart sees to it that metrics are not to be served where the API is.
func (c *Config) apart() string {
	host, port, ok := hostPort(c.Telemetry.Listen)
	apiHost, apiPort, apiOK := hostPort(c.Server.Listen)
	if !ok || !apiOK || port != apiPort || port == 0 {
		return ""
	}
	if host, apiHost = meaning(host), meaning(apiHost); host == apiHost || host == everywhere || apiHost == everywhere {
		return fmt.Sprintf("%q has the port of server.listen, which is %q: metrics need another", c.Telemetry.Listen, c.Server.Listen)
	}
	return ""
}

const everywhere = "all of this machine's addresses"

// meaning returns one text for all that mean the same host to listen on.
func meaning(host string) string {
	if strings.EqualFold(host, "localhost") {
		host = "127.0.0.1"
	}
	address, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && address.Unmap().IsUnspecified():
		return everywhere
	case err != nil:
		return strings.ToLower(host)
	}
	return address.Unmap().String()
}

func (c *Config) profiles() string {
	if c.Telemetry.PProf && c.Telemetry.Listen == "" {
		return "is true, but there is nowhere to serve profiles: set telemetry.listen"
	}
	return ""
}

// receiverURL never quotes the URL: there may be a password in it.
func receiverURL(text string) string {
	if issuerURL(text) != "" {
		return "must be a URL such as http://collector.example.org:4318, without a name, a password or a query; " +
			"what the receiver wants to know belongs in telemetry.otlp_headers"
	}
	return ""
}

// headers never quotes any: they are a secret.
func (c *Config) headers() string {
	switch {
	case c.Telemetry.Headers() == nil:
		return "must be name=value, with a comma before the next, and in values percent signs, commas and spaces written as in a URL"
	case c.Telemetry.OTLPHeaders != "" && c.Telemetry.OTLPEndpoint == "":
		return "is given, but telemetry.otlp_endpoint is not"
	}
	return ""
}

func (c *Config) sampleRatio() string {
	if !(c.Telemetry.SampleRatio >= 0 && c.Telemetry.SampleRatio <= 1) {
		return fmt.Sprintf("must be from 0 to 1, not %g", c.Telemetry.SampleRatio)
	}
	return ""
}

const (
	kibi = 1 << 10
	gibi = 1 << 30
)

func between[N int | int64](n, least, most N) string {
	if n < least || n > most {
		return fmt.Sprintf("must be from %d to %d, not %d", least, most, n)
	}
	return ""
}

func positive(d time.Duration) string {
	if d <= 0 {
		return fmt.Sprintf("must be more than 0s, not %s", d)
	}
	return ""
}

func notNegative(d time.Duration) string {
	if d < 0 {
		return fmt.Sprintf("must not be negative, but is %s", d)
	}
	return ""
}

// inTime sees to it that a request that took too long can still be answered.
func inTime(s Server) string {
	if s.RequestTimeout >= s.WriteTimeout {
		return fmt.Sprintf("%s must be shorter than server.write_timeout, which is %s",
			s.RequestTimeout, s.WriteTimeout)
	}
	return ""
}

func oneOf(text string, choices ...string) string {
	if !slices.Contains(choices, text) {
		return fmt.Sprintf("must be one of %s, not %q", strings.Join(choices, ", "), text)
	}
	return ""
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)

// hostPort splits host:port. The host may be empty.
func hostPort(text string) (host string, port uint64, ok bool) {
	host, digits, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, false
	}
	port, err = strconv.ParseUint(digits, 10, 16)
	if err != nil {
		return "", 0, false
	}
	_, err = netip.ParseAddr(host)
	return host, port, err == nil || host == "" || hostName.MatchString(host)
}

func listenAddress(text string) string {
	if _, _, ok := hostPort(text); !ok {
		return fmt.Sprintf("must be address:port, such as 127.0.0.1:8080, or :port, not %q", text)
	}
	return ""
}

var basePathSyntax = regexp.MustCompile(`^(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*$`)

func basePath(text string) string {
	if !basePathSyntax.MatchString(text) {
		return fmt.Sprintf("must be empty or like /api or /directory/v1: a slash before each part, "+
			"none at the end, and only letters, digits and - . _ ~ in between, not %q", text)
	}
	return ""
}

func proxy(text string) string {
	if _, err := netip.ParseAddr(text); err == nil {
		return ""
	}
	network, err := netip.ParsePrefix(text)
	if err != nil {
		return fmt.Sprintf("must be an address or a CIDR range such as 10.0.0.0/8, not %q", text)
	}
	if network != network.Masked() {
		return fmt.Sprintf("%s has bits beyond its mask: write %s", network, network.Masked())
	}
	return ""
}

// origin checks an origin as browsers write it (RFC 6454 §6.2).
func origin(text string) string {
	u, err := url.Parse(text)
	if err == nil && (u.Scheme == "https" || u.Scheme == "http") && text == u.Scheme+"://"+u.Host && text == strings.ToLower(text) {
		if u.Port() == "443" && u.Scheme == "https" || u.Port() == "80" && u.Scheme == "http" {
			return fmt.Sprintf("%q has the port that browsers leave out: write %s://%s", text, u.Scheme, strings.TrimSuffix(u.Host, ":"+u.Port()))
		}
		address := u.Host
		if u.Port() == "" {
			address += ":0"
		}
		if host, _, ok := hostPort(address); ok && host != "" && !strings.HasSuffix(u.Host, ":") {
			return ""
		}
	}
	return fmt.Sprintf("must be an origin such as https://admin.example.org or http://localhost:3000, in small letters and no more than that, not %q", text)
}

// ldapURL never quotes the URL: there may be a password in it.
func ldapURL(text string) string {
	u, err := url.Parse(text)
	if err == nil {
		host, port, ok := hostPort(u.Host)
		if ok && host != "" && port > 0 && (text == "ldap://"+u.Host || text == "ldaps://"+u.Host) {
			return ""
		}
	}
	return "must be ldap://host:port, such as ldap://ldap.example.org:389, or ldaps://host:port, and no more than that; " +
		"a name and a password belong in ldap.bind_dn and ldap.bind_password"
}

var (
	attributeSyntax = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9-]*|\d+(\.\d+)+)$`)
	nameSyntax      = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]*$`)
	dnSyntax        = regexp.MustCompile(`^` + pair + `(\s*[,+]\s*` + pair + `)*$`)
)

// pair is a type and a value of a DN, RFC 4514.
const pair = `([A-Za-z][A-Za-z0-9-]*|\d+(\.\d+)+)\s*=\s*([^\\,+;"<>\x00-\x1f]|\\[^\x00-\x1f])+`

func schemaName(text string) string {
	if !attributeSyntax.MatchString(text) {
		return fmt.Sprintf("must be a name from the LDAP schema, such as inetOrgPerson or cn, not %q", text)
	}
	return ""
}

func fieldName(text string) string {
	if !nameSyntax.MatchString(text) {
		return fmt.Sprintf("must be the name of a field: a letter, then letters, digits, - and _, not %q", text)
	}
	return ""
}

func dn(text string) string {
	if !dnSyntax.MatchString(text) {
		return fmt.Sprintf("must be a DN such as ou=people,dc=example,dc=org, not %q", text)
	}
	return ""
}

// relative checks a DN that ldap.base_dn will be appended to.
func (c *Config) relative(text string) string {
	base := strings.ToLower(c.LDAP.BaseDN)
	if base != "" && strings.HasSuffix(","+strings.ToLower(text), ","+base) {
		return fmt.Sprintf("is relative to ldap.base_dn: leave %q off its end", c.LDAP.BaseDN)
	}
	return optional(text, dn)
}

// filter sees to it that there is one pair of parentheses around everything.
// Those in values are written \28 and \29.
func filter(text string) string {
	depth := 0
	for i, r := range text {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth <= 0 && i < len(text)-1 {
			depth = -1
			break
		}
	}
	if depth != 0 || len(text) < len("(a=b)") {
		return fmt.Sprintf("must be an LDAP filter such as (objectClass=person), not %q", text)
	}
	return ""
}
