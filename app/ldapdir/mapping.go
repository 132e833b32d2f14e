package ldapdir

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
	"golang.org/x/text/unicode/norm"

	"rollcall/app/directory"
)

// Mapping says where the entries of a kind live and what they look like there.
type Mapping struct {
	Kind *directory.Kind
	// Container is the DN below which the entries are.
	Container string
	// Deep finds entries anywhere below the container. Otherwise they are directly in it.
	Deep bool
	// NamingAttribute is the attribute type of the entries' relative DN.
	NamingAttribute string
	// ObjectClasses are what a new entry gets.
	ObjectClasses []string
	// Filter says which entries count; the last object class when empty.
	Filter string
	// Attributes adds to, and overrides, the attributes that fields have by default.
	Attributes map[string]Attribute
	// Placeholder is the DN that stands in as the member of an empty group.
	Placeholder string
}

// Attribute is where a field's values are kept.
type Attribute struct {
	// Type is the attribute type.
	Type string
	// ObjectClass is the auxiliary class that brings the attribute; "" where the entry has it anyway.
	ObjectClass string
}

// attributes of the fields that every deployment has.
var attributes = map[string]Attribute{
	directory.FieldDN:            {Type: "entryDN"},
	directory.FieldID:            {Type: "entryUUID"},
	"createdAt":                  {Type: "createTimestamp"},
	"updatedAt":                  {Type: "modifyTimestamp"},
	"cn":                         {Type: "cn"},
	"uid":                        {Type: "uid"},
	"sn":                         {Type: "sn"},
	"givenName":                  {Type: "givenName"},
	"displayName":                {Type: "displayName"},
	"mail":                       {Type: "mail"},
	"telephoneNumber":            {Type: "telephoneNumber"},
	"mobile":                     {Type: "mobile"},
	"title":                      {Type: "title"},
	"employeeNumber":             {Type: "employeeNumber"},
	"departmentNumber":           {Type: "departmentNumber"},
	"description":                {Type: "description"},
	"preferredLanguage":          {Type: "preferredLanguage"},
	directory.FieldUserPassword:  {Type: "userPassword"},
	directory.FieldAccountLocked: {Type: attrLockedTime},
	directory.FieldSSHPublicKeys: {Type: "sshPublicKey", ObjectClass: "ldapPublicKey"},
	directory.FieldMemberOfs:     {Type: "memberOf"},
	directory.FieldMembers:       {Type: "member"},
	"owners":                     {Type: "owner"},
	"ipAddresses":                {Type: "ipHostNumber", ObjectClass: "ipHost"},
	"serialNumber":               {Type: "serialNumber"},
	"location":                   {Type: "l"},
	directory.FieldUIDNumber:     {Type: "uidNumber", ObjectClass: "posixAccount"},
	directory.FieldGIDNumber:     {Type: "gidNumber", ObjectClass: "posixAccount"},
	directory.FieldHomeDirectory: {Type: "homeDirectory", ObjectClass: "posixAccount"},
	directory.FieldLoginShell:    {Type: "loginShell", ObjectClass: "posixAccount"},
}

// otherNames are second names of attribute types (RFC 4519, RFC 4524) in lower case. Servers answer with the first,
// so that a field kept under a second one would look empty, and be overwritten.
var otherNames = map[string]string{
	"commonname": "cn", "surname": "sn", "gn": "givenName", "userid": "uid", "rfc822mailbox": "mail", "localityname": "l",
	"mobiletelephonenumber": "mobile", "pagertelephonenumber": "pager", "hometelephonenumber": "homePhone",
	"organizationname": "o", "organizationalunitname": "ou", "streetaddress": "street", "stateorprovincename": "st",
	"countryname": "c", "domaincomponent": "dc", "favouritedrink": "drink", "fax": "facsimileTelephoneNumber",
}

const (
	attrEntryCSN    = "entryCSN"
	attrModified    = "modifyTimestamp"
	attrObjectClass = "objectClass"
)

// mapping is a Mapping that has been found right, with what is derived from it.
type mapping struct {
	Mapping
	container *ldap.DN
	// fields are the attributes by the field's place in the kind's table.
	fields []Attribute
	// places are the fields' places by attribute type, as it is written and in lower case.
	places map[string]int
	// naming is the place of the field that names entries.
	naming int
	// direct tells that a name alone gives the DN.
	direct bool
	// placeholderStart is what the placeholder's DN begins with, however it is spelled.
	placeholderStart string
	// request are the attributes to ask for.
	request []string
	// references are the attribute types that hold DNs and can be written.
	references []string
}

// newMapping finds a mapping right, or says everything that is wrong with it.
func newMapping(m Mapping) (*mapping, error) {
	var problems []error
	wrong := func(format string, a ...any) {
		problems = append(problems, fmt.Errorf("%s: %w", m.Kind.Name, fmt.Errorf(format, a...)))
	}
	container, err := ldap.ParseDN(m.Container)
	if err != nil || len(container.RDNs) == 0 {
		wrong("the container %q is not a DN", m.Container)
	}
	switch {
	case len(m.ObjectClasses) == 0:
		wrong("no object class")
	case m.Filter == "":
		m.Filter = "(objectClass=" + ldap.EscapeFilter(m.ObjectClasses[len(m.ObjectClasses)-1]) + ")"
	}
	if m.Filter != "" {
		if _, err := ldap.CompileFilter(m.Filter); err != nil {
			wrong("the filter %q: %w", m.Filter, err)
		}
	}
	mapped := &mapping{Mapping: m, container: container, fields: make([]Attribute, len(m.Kind.Fields)), places: map[string]int{},
		naming: -1, request: []string{attrEntryCSN, attrObjectClass}}
	for i, field := range m.Kind.Fields {
		if err := mapped.mapField(i, field); err != nil {
			wrong("%w", err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Attributes)) {
		if _, ok := m.Kind.Field(name); !ok {
			wrong("an attribute is given for %q, which is no field", name)
		}
	}
	if mapped.naming < 0 {
		wrong("the naming attribute %q belongs to no single text field that can be written", m.NamingAttribute)
	} else {
		mapped.direct = !m.Deep && m.Kind.Fields[mapped.naming].Name == m.Kind.Key
	}
	if m.Placeholder != "" {
		dn, err := ldap.ParseDN(m.Placeholder)
		if err != nil || len(dn.RDNs) == 0 {
			wrong("the placeholder %q is not a DN", m.Placeholder)
		} else {
			mapped.placeholderStart, _, _ = strings.Cut(dn.RDNs[0].Attributes[0].String(), `\`)
		}
	}
	return mapped, errors.Join(problems...)
}

func (m *mapping) mapField(i int, field directory.Field) error {
	known := attributes[field.Name]
	if m.Kind.Name == directory.KindGroups && field.Name == directory.FieldGIDNumber {
		known.ObjectClass = "posixGroup"
	}
	attribute, given := m.Attributes[field.Name]
	if !given {
		attribute = known
	}
	fixed := field.Name == directory.FieldDN || field.Name == directory.FieldAccountLocked
	switch {
	case attribute.Type == "":
		return fmt.Errorf("the field %q has no attribute", field.Name)
	case fixed && !strings.EqualFold(attribute.Type, known.Type):
		return fmt.Errorf("the field %q can't have another attribute than %s", field.Name, known.Type)
	case strings.EqualFold(attribute.Type, known.Type) && attribute.ObjectClass == "":
		attribute.ObjectClass = known.ObjectClass
	}
	lower := strings.ToLower(attribute.Type)
	if name := otherNames[lower]; name != "" || lower[0] >= '0' && lower[0] <= '9' {
		return fmt.Errorf("the attribute %q of the field %q must go by the name that the server answers with, such as %s",
			attribute.Type, field.Name, cmp.Or(name, "cn"))
	}
	if other, taken := m.places[lower]; taken {
		return fmt.Errorf("the fields %q and %q have the same attribute", m.Kind.Fields[other].Name, field.Name)
	}
	m.fields[i], m.places[lower], m.places[attribute.Type] = attribute, i, i
	if strings.EqualFold(attribute.Type, m.NamingAttribute) && field.Type == directory.Text && !field.List && !field.ReadOnly && !field.WriteOnly {
		m.naming = i
	}
	if field.Type == directory.Reference && !field.ReadOnly && !field.Backlink {
		m.references = append(m.references, attribute.Type)
	}
	if field.Name != directory.FieldDN && !field.WriteOnly {
		m.request = append(m.request, attribute.Type)
	}
	if field.Name == directory.FieldAccountLocked {
		m.request = append(m.request, attrEndTime, attrStartTime)
	}
	return nil
}

// dn returns the DN of the entry with this value of the naming attribute, directly in the container.
func (m *mapping) dn(value string) string {
	return m.NamingAttribute + "=" + ldap.EscapeDN(value) + "," + m.Container
}

// holds reports whether an entry with this DN would be in the container.
func (m *mapping) holds(dn *ldap.DN) bool {
	return m.container.AncestorOfFold(dn) && (m.Deep || len(dn.RDNs) == len(m.container.RDNs)+1)
}

// decode turns what was found into an entry.
func (m *mapping) decode(found *ldap.Entry, now time.Time, lockout time.Duration) directory.Entry {
	entry := directory.NewEntry(m.Kind)
	for _, attribute := range found.Attributes {
		place, ok := m.places[attribute.Name]
		if !ok {
			place, ok = m.places[strings.ToLower(attribute.Name)]
		}
		if ok {
			entry.SetAt(place, m.show(found, place, attribute.Values))
		}
	}
	entry.SetAt(m.places["entrydn"], []string{found.DN})
	if place, ok := m.places[strings.ToLower(attrLockedTime)]; ok {
		entry.Lock = lockOf(found, now, lockout)
		entry.SetAt(place, []string{boolean(entry.Lock != nil)})
	}
	entry.Seal(found.GetEqualFoldAttributeValue(attrEntryCSN), found.GetEqualFoldAttributeValue(attrLockedTime) == lockedForGood)
	return entry
}

// show returns a field's values as the caller sees them.
func (m *mapping) show(found *ldap.Entry, place int, values []string) []string {
	field := &m.Kind.Fields[place]
	switch {
	case field.WriteOnly || len(values) == 0:
		return nil
	case field.List:
		values = slices.DeleteFunc(slices.Clone(values), m.isPlaceholder)
	default:
		at := m.shown(found, place, values)
		values = values[at : at+1]
	}
	for i, value := range values {
		if shown := display(field.Type, value); shown != value {
			values = slices.Clone(values)
			values[i] = shown
		}
	}
	return values
}

// shown returns which of several values a single-valued field shows: the first, but for the naming attribute
// the one in the DN.
func (m *mapping) shown(found *ldap.Entry, place int, values []string) int {
	if len(values) < 2 || place != m.naming {
		return 0
	}
	return max(slices.IndexFunc(values, func(v string) bool { return m.inName(found.DN, place, v) }), 0)
}

// inName reports whether a field's value is part of the relative DN.
func (m *mapping) inName(dn string, place int, value string) bool {
	parsed, err := ldap.ParseDN(dn)
	return err == nil && len(parsed.RDNs) > 0 && slices.ContainsFunc(parsed.RDNs[0].Attributes, func(part *ldap.AttributeTypeAndValue) bool {
		return strings.EqualFold(part.Type, m.fields[place].Type) && strings.EqualFold(part.Value, value)
	})
}

// isPlaceholder compares what DNs begin with first: a group may have thousands of members.
func (m *mapping) isPlaceholder(dn string) bool {
	start := m.placeholderStart
	return start != "" && len(dn) >= len(start) && strings.EqualFold(dn[:len(start)], start) && SameDN(dn, m.Placeholder)
}

// display returns one value as the caller sees it. What is not UTF-8 is shown with U+FFFD in the place of each
// byte that is not, and is not lost when it is sent back.
func display(t directory.Type, value string) string {
	switch t {
	case directory.Timestamp:
		if moment, err := ber.ParseGeneralizedTime([]byte(value)); err == nil {
			return moment.UTC().Format(time.RFC3339)
		}
	case directory.Boolean:
		return boolean(strings.EqualFold(value, "TRUE"))
	}
	return strings.ToValidUTF8(value, "\uFFFD")
}

// stored returns one value as LDAP writes it.
func stored(t directory.Type, value string) string {
	if t == directory.Boolean {
		return strings.ToUpper(value)
	}
	return value
}

func boolean(b bool) string {
	if b {
		return directory.True
	}
	return directory.False
}

// SameDN reports whether two DNs name the same entry.
func SameDN(a, b string) bool {
	if strings.EqualFold(a, b) {
		return true
	}
	return foldedDN(a) == foldedDN(b)
}

// foldedDN returns a DN in a form that is the same for all spellings of it: values differ neither by case nor by
// compatibility forms, and spaces count as one, or not at all at the ends (RFC 4518 §2, caseIgnoreMatch).
func foldedDN(dn string) string {
	parsed, err := ldap.ParseDN(dn)
	if err != nil {
		return dn
	}
	for _, rdn := range parsed.RDNs {
		for _, part := range rdn.Attributes {
			part.Type = strings.ToLower(part.Type)
			part.Value = Fold(part.Value)
		}
		slices.SortFunc(rdn.Attributes, func(a, b *ldap.AttributeTypeAndValue) int { return strings.Compare(a.Type, b.Type) })
	}
	return parsed.String()
}

// Fold returns what two values have in common that the directory takes for the same (RFC 4518).
func Fold(value string) string {
	return strings.ToLower(strings.Join(strings.Fields(norm.NFKC.String(value)), " "))
}
