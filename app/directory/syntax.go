package directory

import (
	"net/mail"
	"net/netip"
	"strings"
	"unicode"
)

const (
	maxNameLength    = 64 // ub-common-name, RFC 5280 appendix A
	defaultMaxLength = 1024
)

// hasControl reports whether s holds a control character other than those allowed.
func hasControl(s, allowed string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) && !strings.ContainsRune(allowed, r) })
}

func textSyntax(s string) string {
	switch {
	case strings.TrimSpace(s) == "":
		return "must not be blank"
	case hasControl(s, ""):
		return "must not contain control characters"
	}
	return ""
}

func multilineSyntax(s string) string {
	switch {
	case strings.TrimSpace(s) == "":
		return "must not be blank"
	case hasControl(s, "\t\r\n"):
		return "must not contain control characters"
	}
	return ""
}

func asciiSyntax(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) {
		return "must be ASCII"
	}
	return textSyntax(s)
}

// printableSyntax is PrintableString, RFC 4517 §3.3.29.
func printableSyntax(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !isPrintableString(r) }) {
		return `may contain letters and digits of ASCII, spaces and '()+,-.=/:? only`
	}
	return textSyntax(s)
}

func isPrintableString(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(`'()+,-.=/:? `, r)
}

func telephoneSyntax(s string) string {
	if wrong := printableSyntax(s); wrong != "" {
		return wrong
	}
	if !strings.ContainsFunc(s, unicode.IsDigit) {
		return "must contain a digit"
	}
	return ""
}

// mailSyntax is the addr-spec of RFC 5322 §3.4.1, in ASCII as the mail attribute demands (RFC 4524 §2.16).
func mailSyntax(s string) string {
	const wrong = "must be a mail address such as alice@example.org, in ASCII"
	if asciiSyntax(s) != "" {
		return wrong
	}
	if address, err := mail.ParseAddress(s); err != nil || address.Address != s {
		return wrong
	}
	return ""
}

func passwordSyntax(s string) string {
	switch {
	case s == "":
		return "must not be empty"
	case strings.ContainsRune(s, 0):
		return "must not contain a NUL"
	case s[0] == '{' && strings.Contains(s, "}"):
		return "must be the password itself, not a hash such as {SSHA}…"
	}
	return ""
}

// hostNameSyntax is a domain name of RFC 1123 §2.1.
func hostNameSyntax(s string) string {
	const wrong = "must be a host name: labels of letters, digits and inner hyphens, at most 63 characters each, with dots between"
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return wrong
		}
		for _, r := range label {
			if r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') {
				return wrong
			}
		}
	}
	return ""
}

func ipAddressSyntax(s string) string {
	if address, err := netip.ParseAddr(s); err != nil || address.Zone() != "" {
		return "must be an IPv4 or IPv6 address"
	}
	return ""
}

func sshPublicKeySyntax(s string) string {
	if hasControl(s, "\t") {
		return "must be one line"
	}
	key, err := ParseSSHKey(s)
	if err != nil {
		return err.Error()
	}
	return key.wrong()
}
