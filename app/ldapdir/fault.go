package ldapdir

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// verdicts are the codes that LDAP result codes mean where nothing better is known (RFC 4511 appendix A).
var verdicts = map[uint16]*directory.Code{
	ldap.LDAPResultNoSuchObject:                 directory.NotFound,
	ldap.LDAPResultEntryAlreadyExists:           directory.AlreadyExists,
	ldap.LDAPResultNotAllowedOnNonLeaf:          directory.HasChildren,
	ldap.LDAPResultConstraintViolation:          directory.Invalid,
	ldap.LDAPResultInvalidAttributeSyntax:       directory.Invalid,
	ldap.LDAPResultAttributeOrValueExists:       directory.Invalid,
	ldap.LDAPResultInvalidDNSyntax:              directory.Invalid,
	ldap.LDAPResultNamingViolation:              directory.Invalid,
	ldap.LDAPResultObjectClassViolation:         directory.Invalid,
	ldap.LDAPResultNotAllowedOnRDN:              directory.Invalid,
	ldap.LDAPResultAssertionFailed:              directory.Stale,
	ldap.LDAPResultTimeLimitExceeded:            directory.Timeout,
	ldap.LDAPResultAdminLimitExceeded:           directory.TooManyResults,
	ldap.LDAPResultSizeLimitExceeded:            directory.TooManyResults,
	ldap.LDAPResultBusy:                         directory.Unavailable,
	ldap.LDAPResultUnavailable:                  directory.Unavailable,
	ldap.LDAPResultUnavailableCriticalExtension: directory.UnsupportedByDirectory,
}

// atFault finds the attribute in diagnostics such as "mail: value #0 invalid per syntax".
var atFault = regexp.MustCompile(`(?:^|[ :/])([A-Za-z][A-Za-z0-9-]*): (value #\d+ [a-z ]+|no values? [a-z ]+|[a-z ]*single-valued[a-z ]*|multiple values provided)`)

// atFaultByClass finds it in those about object classes, such as "object class 'person' requires attribute 'sn'".
var atFaultByClass = regexp.MustCompile(`(requires )?attribute '([A-Za-z][A-Za-z0-9-]*)'( not allowed)?$`)

// answered reports whether an operation ended with the server's answer, and not for a lack of one, for which go-ldap
// has some codes of its own.
func answered(err error) bool {
	answer, ok := errors.AsType[*ldap.Error](err)
	return err == nil || ok && (answer.ResultCode < ldap.ErrorNetwork || answer.ResultCode > ldap.ErrorEmptyPassword)
}

// hasCode reports whether an operation was answered with a code. What the server said while we were connecting, and
// why that failed, is no answer to the operation.
func hasCode(err error, code uint16) bool {
	_, lost := errors.AsType[*lostError](err)
	return !lost && ldap.IsErrorWithCode(err, code)
}

// fault turns what went wrong with a read into an error of the catalogue. With a mapping it names the field.
func (d *Directory) fault(err error, m *mapping) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*directory.Error](err); ok {
		return err
	}
	if lost, ok := errors.AsType[*lostError](err); ok {
		if lost.timeout {
			return &directory.Error{Code: directory.Timeout, Cause: err}
		}
		return &directory.Error{Code: directory.Unavailable, Cause: err}
	}
	answer, ok := errors.AsType[*ldap.Error](err)
	if !ok {
		return &directory.Error{Code: directory.Internal, Cause: err}
	}
	code := verdicts[answer.ResultCode]
	switch {
	case answer.ResultCode == ldap.LDAPResultOther && strings.Contains(answer.Err.Error(), "busy"):
		code = directory.Unavailable
	case code == nil:
		code = directory.Internal
	}
	fault := &directory.Error{Code: code, Cause: err}
	switch code {
	case directory.UnsupportedByDirectory:
		fault.Detail = "The directory server lacks a control that this needs."
	case directory.Invalid:
		if reason := policyRefusal(answer); reason != "" {
			return &directory.Error{Code: directory.PasswordRefused, Cause: err,
				Violations: []directory.Violation{{Field: directory.FieldUserPassword, Message: reason}}}
		}
		fault.Detail = "The directory server's own rules refuse it."
		fault.Violations = m.blame(answer.Err.Error())
	}
	return fault
}

// writeFault is fault for writes: when the server may have got the request, whether it was carried out is not known.
func (d *Directory) writeFault(err error, m *mapping) error {
	if lost, ok := errors.AsType[*lostError](err); ok && lost.sent {
		return &directory.Error{Code: directory.OutcomeUnknown, Cause: err}
	}
	return d.fault(err, m)
}

// blame finds the field at fault in the server's words.
func (m *mapping) blame(diagnostic string) []directory.Violation {
	if m == nil {
		return nil
	}
	match := atFault.FindStringSubmatch(diagnostic)
	if byClass := atFaultByClass.FindStringSubmatch(diagnostic); byClass != nil {
		match = []string{"", byClass[2], byClass[1] + byClass[3]}
	}
	if _, ok := m.Kind.Field(directory.FieldMembers); ok && strings.Contains(diagnostic, "non-existing object as group member") { // slapo-memberof
		return []directory.Violation{{Field: directory.FieldMembers, Message: "refers to an entry that is gone"}}
	}
	if match == nil {
		return nil
	}
	place, ok := m.places[strings.ToLower(match[1])]
	if !ok {
		return nil
	}
	message := "is refused by the directory server"
	switch {
	case match[2] == "requires ":
		message = "can't be empty by the directory server's schema"
	case match[2] == " not allowed":
		message = "is not among what the directory server's schema allows this entry"
	case strings.Contains(match[2], "invalid per syntax"):
		message = "is not of the form that the directory server demands"
	case strings.Contains(match[2], "already exists"), strings.Contains(match[2], "provided more than once"):
		message = "holds a value more than once"
	case strings.Contains(match[2], "single-valued"), strings.Contains(match[2], "multiple values"):
		message = "takes one value"
	}
	return []directory.Violation{{Field: m.Kind.Fields[place].Name, Message: message}}
}

// lacks says by name what the server can't do.
func lacks(what, oid string) error {
	return &directory.Error{Code: directory.UnsupportedByDirectory, Detail: fmt.Sprintf("The directory server does not support %s (%s).", what, oid)}
}
