// Package config reads Rollcall's configuration, strictly: what it does not
// understand is an error, and all errors are reported together.
//
// base.yaml names every key and says what it means. The environment's file, a
// file of the deployment's own and ROLLCALL_… variables override it, in this
// order.
package config

import (
	"errors"
	"net/url"
	"reflect"
	"regexp"
	"strings"
	"time"
)

// Config is the effective configuration. base.yaml describes the keys.
type Config struct {
	// Environment is development, testing or production.
	Environment string `mapstructure:"-"`

	Server    Server    `mapstructure:"server"`
	LDAP      LDAP      `mapstructure:"ldap"`
	Embedded  Embedded  `mapstructure:"embedded"`
	Auth      Auth      `mapstructure:"auth"`
	OIDC      OIDC      `mapstructure:"oidc"`
	SSH       SSH       `mapstructure:"ssh"`
	Log       Log       `mapstructure:"log"`
	Audit     Audit     `mapstructure:"audit"`
	Telemetry Telemetry `mapstructure:"telemetry"`
	Posix     Posix     `mapstructure:"posix"`
	Users     Kind      `mapstructure:"users"`
	Groups    Groups    `mapstructure:"groups"`
	Hosts     Kind      `mapstructure:"hosts"`

	settings map[string]setting
}

// Server is the HTTP side.
type Server struct {
	Listen            string        `mapstructure:"listen"`
	BasePath          string        `mapstructure:"base_path"`
	TrustedProxies    []string      `mapstructure:"trusted_proxies"` // addresses and CIDR ranges
	CORSOrigins       []string      `mapstructure:"cors_origins"`
	RequestTimeout    time.Duration `mapstructure:"request_timeout"`
	ReadHeaderTimeout time.Duration `mapstructure:"read_header_timeout"`
	ReadTimeout       time.Duration `mapstructure:"read_timeout"`
	WriteTimeout      time.Duration `mapstructure:"write_timeout"`
	IdleTimeout       time.Duration `mapstructure:"idle_timeout"`
	ShutdownTimeout   time.Duration `mapstructure:"shutdown_timeout"`
	MaxBodyBytes      int64         `mapstructure:"max_body_bytes"`
	BulkConcurrency   int           `mapstructure:"bulk_concurrency"` // lines
	RequireIfMatch    bool          `mapstructure:"require_if_match"`
	MaxHeaderBytes    int64         `mapstructure:"max_header_bytes"`
	TLSCertificate    string        `mapstructure:"tls_certificate"` // a file; empty: no TLS
	TLSKey            string        `mapstructure:"tls_key"`         // a file
}

// LDAP is the directory to connect to. When Embedded.Enabled is true, URL,
// BindDN and BindPassword are empty and BaseDN may be; else none of them is.
type LDAP struct {
	URL                  string        `mapstructure:"url"` // ldap://host:port or ldaps://host:port
	StartTLS             bool          `mapstructure:"start_tls"`
	CAFile               string        `mapstructure:"ca_file"`            // empty: the system's
	ClientCertificate    string        `mapstructure:"client_certificate"` // a file; empty: none
	ClientKey            string        `mapstructure:"client_key"`         // a file
	BaseDN               string        `mapstructure:"base_dn"`
	BindDN               string        `mapstructure:"bind_dn"`
	BindPassword         Secret        `mapstructure:"bind_password"`
	Timeout              time.Duration `mapstructure:"timeout"` // of one operation
	Connections          int           `mapstructure:"connections"`
	ExclusiveConnections int           `mapstructure:"exclusive_connections"`
	SortedSearches       int           `mapstructure:"sorted_searches"`
	HoldSearches         time.Duration `mapstructure:"hold_searches"` // 0: not at all
	MaxConnectionAge     time.Duration `mapstructure:"max_connection_age"`
	PageSize             int           `mapstructure:"page_size"` // entries
	MaxMessageBytes      int64         `mapstructure:"max_message_bytes"`
	PasswordPolicy       string        `mapstructure:"password_policy"` // relative to BaseDN
	HashesPasswords      bool          `mapstructure:"hashes_passwords"`
	ActAsCaller          bool          `mapstructure:"act_as_caller"`
	NoOp                 bool          `mapstructure:"no_op"`
	Decoy                string        `mapstructure:"decoy"` // relative to BaseDN
}

// Embedded is the private LDAP server.
type Embedded struct {
	Enabled bool   `mapstructure:"enabled"`
	Dir     string `mapstructure:"dir"`
	Sample  bool   `mapstructure:"sample"`
}

// Auth says who may do what.
type Auth struct {
	LoginField     string        `mapstructure:"login_field"`
	Freshness      time.Duration `mapstructure:"freshness"`       // 0: read every time
	PasswordMemory time.Duration `mapstructure:"password_memory"` // 0: never remember
	AdminGroup     string        `mapstructure:"admin_group"`     // a DN
	OperatorGroup  string        `mapstructure:"operator_group"`  // a DN, or empty
	ReaderGroup    string        `mapstructure:"reader_group"`    // a DN, or empty
	OwnFields      []string      `mapstructure:"own_fields"`
	Protected      []string      `mapstructure:"protected" separator:";"`
	MaxFailures    int           `mapstructure:"max_failures"`
	FailureWindow  time.Duration `mapstructure:"failure_window"`

	TokenIssuer          string        `mapstructure:"token_issuer"`
	TokenKeys            []string      `mapstructure:"token_keys"` // files
	AccessTokenLifetime  time.Duration `mapstructure:"access_token_lifetime"`
	RefreshTokenLifetime time.Duration `mapstructure:"refresh_token_lifetime"`
	Sessions             string        `mapstructure:"sessions"` // relative to LDAP.BaseDN; empty: in memory
}

// SSH says what is special about logins to hosts.
type SSH struct {
	LoginField       string   `mapstructure:"login_field"`
	TrustedNetworks  []string `mapstructure:"trusted_networks"`                // addresses and CIDR ranges
	EverywhereGroups []string `mapstructure:"everywhere_groups" separator:";"` // DNs
	LocalLogins      []string `mapstructure:"local_logins"`
}

// OIDC is another issuer whose tokens are accepted; none where Issuer is empty.
type OIDC struct {
	Issuer     string `mapstructure:"issuer"` // a URL
	Audience   string `mapstructure:"audience"`
	UserClaim  string `mapstructure:"user_claim"`
	RolesClaim string `mapstructure:"roles_claim"` // empty: roles come from groups
}

// Log says what to log, how and where.
type Log struct {
	Level  string `mapstructure:"level"`  // error, warn, info, debug or trace
	Format string `mapstructure:"format"` // json or text
	File   string `mapstructure:"file"`   // empty: standard error
}

// Audit says whether to record changes, and where.
type Audit struct {
	Enabled bool   `mapstructure:"enabled"`
	File    string `mapstructure:"file"` // empty: the log
}

// Telemetry says what to show whoever is on call.
type Telemetry struct {
	Listen           string  `mapstructure:"listen"` // empty: no metrics
	PProf            bool    `mapstructure:"pprof"`
	OTLPEndpoint     string  `mapstructure:"otlp_endpoint"` // a URL; empty: no traces
	OTLPHeaders      Secret  `mapstructure:"otlp_headers"`
	SampleRatio      float64 `mapstructure:"sample_ratio"`
	TrustTraceparent bool    `mapstructure:"trust_traceparent"`
}

// Headers returns those to send with traces, nil where they are not name=value pairs with commas between them. As in
// OpenTelemetry's own variables, what a value can't hold is written as in a URL.
func (t Telemetry) Headers() map[string]string {
	headers := map[string]string{}
	for pair := range strings.SplitSeq(string(t.OTLPHeaders), ",") {
		if t.OTLPHeaders == "" {
			break
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if name = strings.TrimSpace(name); !ok || err != nil || !headerName.MatchString(name) || !headerValue.MatchString(value) {
			return nil
		}
		headers[name] = value
	}
	return headers
}

// Headers as HTTP takes them, RFC 9110 §5.1 and §5.5.
var (
	headerName  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+.^_`|~-]+$")
	headerValue = regexp.MustCompile(`^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$`)
)

// Posix says whether users and groups are Linux accounts, and what they get then.
type Posix struct {
	Enabled       bool     `mapstructure:"enabled"`
	Min           int      `mapstructure:"min"` // the numbers that are given out
	Max           int      `mapstructure:"max"`
	PrimaryGID    int      `mapstructure:"primary_gid"`
	HomeDirectory string   `mapstructure:"home_directory"` // {uid} stands for the login name
	LoginShell    string   `mapstructure:"login_shell"`
	Counter       string   `mapstructure:"counter"` // relative to LDAP.BaseDN
	LocalGroups   []string `mapstructure:"local_groups"`
}

// Kind says where the entries of one kind live and how they look.
type Kind struct {
	Container       string      `mapstructure:"container"` // relative to LDAP.BaseDN
	Deep            bool        `mapstructure:"deep"`
	Key             string      `mapstructure:"key"` // a field
	NamingAttribute string      `mapstructure:"naming_attribute"`
	ObjectClasses   []string    `mapstructure:"object_classes"`
	Filter          string      `mapstructure:"filter"` // empty: the last of ObjectClasses
	Attributes      []Attribute `mapstructure:"attributes"`
	Fields          []Field     `mapstructure:"fields"`
}

// Groups is the kind that has members.
type Groups struct {
	Kind        `mapstructure:",squash"`
	Placeholder string `mapstructure:"placeholder"` // relative to LDAP.BaseDN
}

// Attribute keeps a field in another attribute than usual.
type Attribute struct {
	Field     string `mapstructure:"field"`
	Attribute string `mapstructure:"attribute"`
	// ObjectClass is the auxiliary class that brings the attribute.
	ObjectClass string `mapstructure:"object_class"`
}

// Field is an additional field of a kind.
type Field struct {
	Name        string `mapstructure:"name"`
	Attribute   string `mapstructure:"attribute"`
	List        bool   `mapstructure:"list"`
	Required    bool   `mapstructure:"required"`
	ReadOnly    bool   `mapstructure:"read_only"`
	ObjectClass string `mapstructure:"object_class"` // auxiliary class that brings the attribute
	Description string `mapstructure:"description"`
}

// Secret is a text that shows as *** wherever it is printed or marshalled.
// Convert it to a string to use it.
type Secret string

const hidden = "***"

// String returns ***.
func (Secret) String() string { return hidden }

// GoString returns ***.
func (Secret) GoString() string { return hidden }

// MarshalText returns ***.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Options say where to read from.
type Options struct {
	File    string   // the deployment's own file; empty: none
	Environ []string // NAME=value, as from os.Environ; ROLLCALL_ENV picks the environment
}

// Load reads and checks the configuration. Its error holds every problem there
// is, one a line, and no secret. The Config is never nil, but with an error it
// is good for Print only.
func Load(o Options) (*Config, error) {
	l := newLoader(reflect.TypeFor[Config]())
	l.embedded("base.yaml", "default")
	environment := l.environment(o.Environ)
	if environment != "" {
		l.embedded(environment+".yaml", environment+".yaml")
	}
	if o.File != "" {
		l.file(o.File)
	}
	l.variables(o.Environ)

	c := &Config{Environment: environment, settings: l.settings}
	l.fill(c)
	for _, p := range c.problems() {
		l.complain(p)
	}
	return c, errors.Join(l.faults...)
}
