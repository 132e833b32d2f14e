package ldapdir

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
)

// Object identifiers of the controls in use.
const (
	oidAssertion            = "1.3.6.1.1.12"              // RFC 4528
	oidPostRead             = "1.3.6.1.1.13.2"            // RFC 4527
	oidPasswordPolicy       = "1.3.6.1.4.1.42.2.27.8.5.1" // draft-behera-ldap-password-policy
	oidProxiedAuthorization = "2.16.840.1.113730.3.4.18"  // RFC 4370
)

// features is what the server can do.
type features struct {
	assertion, postRead, passwordPolicy, proxiedAuthorization, sorting bool
	// passwordModify is the extended operation that changes a password.
	passwordModify bool
	// increment is that a Modify can count up.
	increment bool
	// lockout is how long a lock after failed logins holds; 0 is until an admin ends it.
	lockout time.Duration
}

// readFeatures reads the root DSE and, where one is named, the password policy.
func readFeatures(l *ldap.Conn, policyDN string) (*features, error) {
	result, err := l.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{"supportedControl", "supportedExtension", "supportedFeatures"}, nil))
	if err != nil {
		return nil, err
	}
	f := &features{}
	for _, root := range result.Entries {
		for _, oid := range root.GetAttributeValues("supportedControl") {
			switch oid {
			case oidAssertion:
				f.assertion = true
			case oidPostRead:
				f.postRead = true
			case oidPasswordPolicy:
				f.passwordPolicy = true
			case oidProxiedAuthorization:
				f.proxiedAuthorization = true
			case oidSort:
				f.sorting = true
			}
		}
		f.increment = slices.Contains(root.GetAttributeValues("supportedFeatures"), oidIncrement)
		f.passwordModify = slices.Contains(root.GetAttributeValues("supportedExtension"), oidPasswordModify)
	}
	if policyDN == "" {
		return f, nil
	}
	result, err = l.Search(ldap.NewSearchRequest(policyDN, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=pwdPolicy)", []string{"pwdLockoutDuration"}, nil))
	if err != nil {
		return nil, fmt.Errorf("read ldap.password_policy: %w", err)
	}
	for _, policy := range result.Entries {
		if seconds, err := strconv.Atoi(policy.GetAttributeValue("pwdLockoutDuration")); err == nil {
			f.lockout = time.Duration(seconds) * time.Second
		}
	}
	return f, nil
}

// control is a request control with its value.
type control struct {
	oid         string
	criticality bool
	value       []byte
}

// GetControlType implements [ldap.Control].
func (c control) GetControlType() string { return c.oid }

// String implements [ldap.Control].
func (c control) String() string { return "control " + c.oid }

// Encode implements [ldap.Control].
func (c control) Encode() *ber.Packet {
	p := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "Control")
	p.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, c.oid, "Control Type"))
	p.AppendChild(ber.NewLDAPBoolean(ber.ClassUniversal, ber.TypePrimitive, ber.TagBoolean, c.criticality, "Criticality"))
	if c.value != nil {
		p.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, string(c.value), "Control Value"))
	}
	return p
}

// unchanged is the assertion that an entry still has this entryCSN.
func unchanged(dn, csn string) (ldap.Control, error) {
	return asserted("(entryCSN="+ldap.EscapeFilter(csn)+")", dn)
}

// asserted is the assertion that a filter matches an entry. Overlays evaluate an operation's assertion against the
// other entries that they change along with it, and those are let through by the second half.
func asserted(filter, dn string) (ldap.Control, error) {
	compiled, err := ldap.CompileFilter("(|" + filter + "(!(entryDN=" + ldap.EscapeFilter(dn) + ")))")
	if err != nil {
		return nil, err
	}
	return control{oidAssertion, true, compiled.Bytes()}, nil
}

// postRead asks for the entry as it is after the change.
func postRead(attributes []string) ldap.Control {
	list := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "Attributes")
	for _, name := range attributes {
		list.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, name, "Attribute"))
	}
	return control{oidPostRead, false, list.Bytes()}
}

// postReadEntry returns the entry of a post-read response control, or nil where there is none.
func postReadEntry(controls []ldap.Control) (*ldap.Entry, error) {
	response, ok := ldap.FindControl(controls, oidPostRead).(*ldap.ControlString)
	if !ok {
		return nil, nil
	}
	packet, err := ber.DecodePacketErr([]byte(response.ControlValue))
	if err != nil {
		return nil, fmt.Errorf("post-read: %w", err)
	}
	if packet.Tag != ldap.ApplicationSearchResultEntry || len(packet.Children) != 2 {
		return nil, fmt.Errorf("post-read: not a search result entry")
	}
	entry := &ldap.Entry{DN: packet.Children[0].Data.String()}
	for _, attribute := range packet.Children[1].Children {
		if len(attribute.Children) != 2 {
			return nil, fmt.Errorf("post-read: not an attribute")
		}
		values := make([]string, len(attribute.Children[1].Children))
		for i, value := range attribute.Children[1].Children {
			values[i] = value.Data.String()
		}
		entry.Attributes = append(entry.Attributes, ldap.NewEntryAttribute(attribute.Children[0].Data.String(), values))
	}
	return entry, nil
}

// policyRefusals are the reasons that a password policy gives, by their number in the response control.
var policyRefusals = map[byte]string{
	3: "may not be changed by the policy",
	4: "may be changed only with the old password",
	5: "is too simple for the policy",
	6: "is too short for the policy",
	7: "was changed too recently",
	8: "was used before",
	9: "is too long for the policy",
}

// policyRefusal returns why the policy refused a password, or "" where it was not the policy. go-ldap takes the
// response control for malformed where the reason is a newer one.
func policyRefusal(err *ldap.Error) string {
	if err.Packet == nil || len(err.Packet.Children) < 3 {
		return ""
	}
	for _, child := range err.Packet.Children[2].Children {
		if len(child.Children) < 2 || child.Children[0].Data.String() != oidPasswordPolicy {
			continue
		}
		response, decodeErr := ber.DecodePacketErr(child.Children[len(child.Children)-1].Data.Bytes())
		if decodeErr != nil {
			continue
		}
		for _, part := range response.Children {
			if reason := part.Data.Bytes(); part.ClassType == ber.ClassContext && part.Tag == 1 && len(reason) == 1 {
				return policyRefusals[reason[0]]
			}
		}
	}
	return ""
}
