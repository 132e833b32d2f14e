// Package openldap holds the files that a Rollcall directory server starts from: slapd's
// configuration, the schema it adds, and the first entries. They are templates with ${NAME}
// placeholders; the functions here fill them in.
package openldap

import (
	"crypto/rand"
	_ "embed"
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// DefaultSuffix is the top of the tree when Values names none.
const DefaultSuffix = "dc=example,dc=org"

// DefaultMaxFailures is what one Rollcall needs that keeps its count: strangers can fail nine logins of a name.
const DefaultMaxFailures = 10

// Argon2 is the cost of one password hash. The zero value means DefaultArgon2.
type Argon2 struct {
	MemoryKiB int
	Passes    int
}

// DefaultArgon2 takes about 130 ms on one core of a small server. It is what OWASP's password
// storage advice asks of argon2id, with a third pass because slapd's argon2 is argon2i.
var DefaultArgon2 = Argon2{MemoryKiB: 19456, Passes: 3}

// CheapArgon2 is for tests, and for passwords that are random anyway.
var CheapArgon2 = Argon2{MemoryKiB: 8, Passes: 1}

// Values fill the placeholders.
type Values struct {
	Suffix              string   // DN of the top entry; DefaultSuffix when empty
	Dir                 string   // slapd's folder, with the files of Schemas and a folder "data"; slapd's working folder when empty
	SchemaDir           string   // where core.schema and its siblings are
	ModuleDir           string   // where slapd's modules are; empty when everything is built in
	BuiltIn             []string // modules that this slapd has built in, and so must not load
	Argon2              Argon2   // cost of new passwords
	ServicePasswordHash string   // userPassword of the service account, as {SCHEME}hash
	AdminPasswordHash   string   // userPassword of the first administrator, likewise
	MaxFailures         int      // failed logins of a name that lock it; DefaultMaxFailures when 0
	TLSDir              string   // folder with ca.crt and server.pem, for Network
	NIS                 bool     // OpenLDAP's nis.schema in place of rfc2307bis.schema, for data that has NISGroups
}

var (
	//go:embed slapd.conf
	config string
	//go:embed network.conf
	network string
	//go:embed base.ldif
	base string
	//go:embed admin.ldif
	admin string
	//go:embed sample.ldif
	sample string
	//go:embed numbers.ldif
	numbers string
	//go:embed rfc2307bis.schema
	accounts string
	//go:embed openssh-lpk.schema
	keys string
)

// Config returns slapd.conf. It fails when a value cannot be quoted there.
func Config(v Values) (string, error) {
	var kept strings.Builder
	for line := range strings.Lines(config) {
		if module, ok := loads(line); ok && (v.ModuleDir == "" || slices.Contains(v.BuiltIn, module)) {
			continue
		}
		if v.ModuleDir == "" && strings.HasPrefix(line, "modulepath ") {
			continue
		}
		if v.NIS && strings.HasPrefix(line, "include ") {
			line = strings.Replace(line, "${DIR}/rfc2307bis.schema", "${SCHEMA_DIR}/nis.schema", 1)
		}
		kept.WriteString(line)
	}
	return Fill(kept.String(), v)
}

// Network returns what goes before Config's text on a server that is reached over a network: TLS, without which nothing
// is answered, and root's way in through the Unix socket.
func Network(v Values) (string, error) { return Fill(network, v) }

// Modules lists the modules that slapd.conf loads.
func Modules() []string {
	var modules []string
	for line := range strings.Lines(config) {
		if module, ok := loads(line); ok {
			modules = append(modules, module)
		}
	}
	return modules
}

func loads(line string) (module string, ok bool) {
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != "moduleload" {
		return "", false
	}
	return fields[1], true
}

// Schemas returns the texts of the schema files that slapd.conf includes in the folder Values.Dir, by their names.
func Schemas() map[string]string {
	return map[string]string{"rfc2307bis.schema": accounts, "openssh-lpk.schema": keys}
}

// Indexes returns the lines of a slapd.conf that say what is indexed. Where they change, slapindex(8) must run before
// slapd: what it does not find in a new index it takes for not there.
func Indexes(conf string) string {
	var lines strings.Builder
	for line := range strings.Lines(conf) {
		if strings.HasPrefix(line, "index ") {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// NISGroups is the filter of entries that are a posixGroup and nothing else, as nis.schema has it (RFC 2307). By
// rfc2307bis.schema they could be neither changed nor loaded.
const NISGroups = "(structuralObjectClass=posixGroup)"

// NISMark goes after the Indexes of data that was found to have NISGroups. Such data is looked at again at each start.
const NISMark = "nis.schema\n"

// NISWarning says what follows from the NISGroups that slapcat(8) wrote; it is "" where there are none.
func NISWarning(ldif string) string {
	names := entryName.FindAllStringSubmatch(ldif, -1)
	if len(names) == 0 {
		return ""
	}
	return fmt.Sprintf("nis.schema stays in force, for entries whose structural class is posixGroup: %d, such as %s. "+
		"Until they are gone, or are groups of another class too, posix.enabled can't give groups a number: see docs/compose.md, Upgrade", len(names), names[0][1])
}

var entryName = regexp.MustCompile(`(?m)^dn:+ (.*)$`)

// Base returns the LDIF of the entries that every Rollcall directory begins with: the
// containers, the service account, the decoy, the placeholder of empty groups, the policies and
// the entry of Numbers. It fails when the suffix is not made of dc= parts.
func Base(v Values) (string, error) { return Fill(base+"\n"+numbers, v) }

// Numbers returns the LDIF of the entry that counts the numbers of accounts. Directories that were made before there
// was one get it by slapadd.
func Numbers(v Values) (string, error) { return Fill(numbers, v) }

// Admin returns the LDIF of the first administrator, "admin", and of the group "admins", to be loaded by slapadd after Base.
func Admin(v Values) (string, error) { return Fill(admin, v) }

// Sample returns the LDIF of the development directory, to be loaded by slapadd after Base:
// 20 users (admin with the password "admin", alice with "alice-password"), 6 groups, 5 hosts.
func Sample(v Values) (string, error) { return Fill(sample, v) }

// ServiceDN is the account that the API binds as.
func ServiceDN(suffix string) string { return "cn=rollcall,ou=services," + suffix }

// PlaceholderDN is the entry that stands in for the member of an empty group.
func PlaceholderDN(suffix string) string { return "cn=placeholder,ou=services," + suffix }

var (
	placeholder = regexp.MustCompile(`\$\{\w+\}`)
	dcSuffix    = regexp.MustCompile(`^dc=([A-Za-z0-9-]+)(,dc=[A-Za-z0-9-]+)*$`)
	unsafe      = regexp.MustCompile(`[[:cntrl:]"\\]`)
)

// NumbersDN is the entry that counts the numbers of accounts.
func NumbersDN(suffix string) string { return "cn=numbers,ou=services," + suffix }

// DecoyDN is the entry that takes as long to refuse as a user, and that nobody can log in as.
func DecoyDN(suffix string) string { return "cn=decoy,ou=services," + suffix }

// decoyHash returns a hash, as slapd's argon2 writes them, that random bytes stand for: nobody has a password of it.
func decoyHash(cost Argon2) string {
	random := make([]byte, 16+32)
	rand.Read(random)
	salt, sum := base64.RawStdEncoding.EncodeToString(random[:16]), base64.RawStdEncoding.EncodeToString(random[16:])
	return fmt.Sprintf("{ARGON2}$argon2i$v=19$m=%d,t=%d,p=1$%s$%s", cost.MemoryKiB, cost.Passes, salt, sum)
}

// Fill replaces the placeholders of a text: ${SUFFIX}, ${DC} (the value of the suffix's first
// part), ${DIR}, ${SCHEMA_DIR}, ${MODULE_DIR}, ${TLS_DIR}, ${ARGON2_KIB}, ${ARGON2_PASSES},
// ${MAX_FAILURES}, ${SERVICE_PASSWORD_HASH}, ${ADMIN_PASSWORD_HASH} and ${DECOY_PASSWORD_HASH}, each time another. It
// fails on an unknown or empty one, and on a value that could break out of its line or its quotes.
func Fill(text string, v Values) (string, error) {
	if v.Suffix == "" {
		v.Suffix = DefaultSuffix
	}
	if v.Dir == "" {
		v.Dir = "."
	}
	if v.Argon2 == (Argon2{}) {
		v.Argon2 = DefaultArgon2
	}
	if v.MaxFailures == 0 {
		v.MaxFailures = DefaultMaxFailures
	}
	values := map[string]string{
		"${SUFFIX}":                v.Suffix,
		"${DIR}":                   v.Dir,
		"${SCHEMA_DIR}":            v.SchemaDir,
		"${MODULE_DIR}":            v.ModuleDir,
		"${ARGON2_KIB}":            strconv.Itoa(v.Argon2.MemoryKiB),
		"${ARGON2_PASSES}":         strconv.Itoa(v.Argon2.Passes),
		"${MAX_FAILURES}":          strconv.Itoa(v.MaxFailures),
		"${TLS_DIR}":               v.TLSDir,
		"${SERVICE_PASSWORD_HASH}": v.ServicePasswordHash,
		"${ADMIN_PASSWORD_HASH}":   v.AdminPasswordHash,
		"${DECOY_PASSWORD_HASH}":   decoyHash(v.Argon2),
	}
	if dc := dcSuffix.FindStringSubmatch(v.Suffix); dc != nil {
		values["${DC}"] = dc[1]
	}
	var failed error
	filled := placeholder.ReplaceAllStringFunc(text, func(name string) string {
		value := values[name]
		switch {
		case failed != nil:
		case value == "":
			failed = fmt.Errorf("openldap: no value for %s (suffix %q)", name, v.Suffix)
		case unsafe.MatchString(value):
			failed = fmt.Errorf("openldap: %s cannot be %q: control characters, quotes and backslashes are not allowed", name, value)
		}
		return value
	})
	if failed != nil {
		return "", failed
	}
	return filled, nil
}
