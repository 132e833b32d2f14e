package ldapdir

import (
	"cmp"
	"context"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// rules is how the values of an attribute compare, by the server's schema (RFC 4512 §4.1.2): names of matching
// rules, "" where there is none, and the syntax's object identifier.
type rules struct {
	equality, ordering, substring, syntax string
}

// schema is the rules of attribute types, and whether object classes are auxiliary, by their names in lower case.
type schema struct {
	read      time.Time
	types     map[string]rules
	auxiliary map[string]bool
}

// Object identifiers of syntaxes, RFC 4517 §3.3.
const (
	syntaxBits          = "1.3.6.1.4.1.1466.115.121.1.6"
	syntaxBoolean       = "1.3.6.1.4.1.1466.115.121.1.7"
	syntaxCountry       = "1.3.6.1.4.1.1466.115.121.1.11"
	syntaxDN            = "1.3.6.1.4.1.1466.115.121.1.12"
	syntaxText          = "1.3.6.1.4.1.1466.115.121.1.15"
	syntaxTime          = "1.3.6.1.4.1.1466.115.121.1.24"
	syntaxASCII         = "1.3.6.1.4.1.1466.115.121.1.26"
	syntaxInteger       = "1.3.6.1.4.1.1466.115.121.1.27"
	syntaxNumericString = "1.3.6.1.4.1.1466.115.121.1.36"
	syntaxOctets        = "1.3.6.1.4.1.1466.115.121.1.40"
	syntaxAddress       = "1.3.6.1.4.1.1466.115.121.1.41"
	syntaxPrintable     = "1.3.6.1.4.1.1466.115.121.1.44"
	syntaxTelephone     = "1.3.6.1.4.1.1466.115.121.1.50"
	syntaxUUID          = "1.3.6.1.1.16.1" // RFC 4530
)

// schemaOf returns the server's schema, read anew once in the age of a connection.
func (d *Directory) schemaOf(ctx context.Context) (*schema, error) {
	if s := d.schema.Load(); s != nil && time.Since(s.read) < d.options.MaxConnectionAge {
		return s, nil
	}
	ctx = directory.AsService(ctx)
	root, err := d.search(ctx, ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{"subschemaSubentry"}, nil))
	if err != nil {
		return nil, d.fault(err, nil)
	}
	s := &schema{read: time.Now(), types: map[string]rules{}, auxiliary: map[string]bool{}}
	for _, entry := range root.Entries {
		result, err := d.search(ctx, ldap.NewSearchRequest(entry.GetAttributeValue("subschemaSubentry"), ldap.ScopeBaseObject,
			ldap.NeverDerefAliases, 0, 0, false, "(objectClass=subschema)", []string{"attributeTypes", "objectClasses"}, nil))
		if err != nil {
			return nil, d.fault(err, nil)
		}
		for _, found := range result.Entries {
			s.learn(found.GetAttributeValues("attributeTypes"))
			s.learnClasses(found.GetAttributeValues("objectClasses"))
		}
	}
	d.schema.Store(s)
	return s, nil
}

var (
	typeNames = regexp.MustCompile(`\bNAME\s+(?:'([^']*)'|\(([^)]*)\))`)
	typeWords = regexp.MustCompile(`\b(SUP|EQUALITY|ORDERING|SUBSTR|SYNTAX)\s+([\w.;-]+)`)
	quoted    = regexp.MustCompile(`'[^']*'`)
	auxiliary = regexp.MustCompile(`\bAUXILIARY\b`)
)

// namesOf returns the names of an attribute type or object class in lower case, and its identifier, from its description
// (RFC 4512 §4.1).
func namesOf(description string) []string {
	names := typeNames.FindStringSubmatch(description)
	if names == nil {
		return nil
	}
	identifier, _, _ := strings.Cut(strings.TrimLeft(description, "( "), " ")
	return strings.Fields(strings.ToLower(identifier + " " + names[1] + strings.ReplaceAll(names[2], "'", " ")))
}

// learnClasses reads object class descriptions.
func (s *schema) learnClasses(descriptions []string) {
	for _, description := range descriptions {
		for _, name := range namesOf(description) {
			s.auxiliary[name] = auxiliary.MatchString(quoted.ReplaceAllString(description, ""))
		}
	}
}

// learn reads attribute type descriptions. A type has what it does not say itself from its supertype.
func (s *schema) learn(descriptions []string) {
	type attributeType struct {
		rules
		super string
	}
	found := map[string]attributeType{}
	for _, description := range descriptions {
		var t attributeType
		for _, word := range typeWords.FindAllStringSubmatch(quoted.ReplaceAllString(description, ""), -1) {
			switch word[1] {
			case "SUP":
				t.super = strings.ToLower(word[2])
			case "EQUALITY":
				t.equality = word[2]
			case "ORDERING":
				t.ordering = word[2]
			case "SUBSTR":
				t.substring = word[2]
			case "SYNTAX":
				t.syntax = word[2]
			}
		}
		for _, name := range namesOf(description) {
			found[name] = t
		}
	}
	const depth = 16 // no schema is so deep, unless it goes round
	for name, t := range found {
		all := t.rules
		for super, step := t.super, 0; super != "" && step < depth; step++ {
			above := found[super]
			all.equality = cmp.Or(all.equality, above.equality)
			all.ordering = cmp.Or(all.ordering, above.ordering)
			all.substring = cmp.Or(all.substring, above.substring)
			all.syntax = cmp.Or(all.syntax, above.syntax)
			super = above.super
		}
		s.types[name] = all
	}
}

// of returns the rules of an attribute type; unknown ones where the server does not show its schema.
func (s *schema) of(attribute string) (r rules, known bool) {
	r, known = s.types[strings.ToLower(attribute)]
	return r, known
}

// orderingRule returns the rule to sort by, "" where there is none. Many text attributes have none of their own, but
// take that of texts.
func (r rules) orderingRule() string {
	if r.ordering != "" {
		return r.ordering
	}
	switch baseSyntax(r.syntax) {
	case syntaxText, syntaxASCII, syntaxPrintable, syntaxTelephone:
		return "caseIgnoreOrderingMatch"
	case syntaxNumericString:
		return "numericStringOrderingMatch"
	case syntaxInteger:
		return "integerOrderingMatch"
	}
	return ""
}

// holds reports whether a value is one that an attribute with these rules can hold, or part of one. Of a DN the types
// must be known as well. Where the syntax is not one that is known here, known is false.
func (s *schema) holds(r rules, value string, part bool) (holds, known bool) {
	is, known := values[baseSyntax(r.syntax)]
	switch {
	case !utf8.ValidString(value):
		return false, known
	case part && baseSyntax(r.syntax) == syntaxCountry:
		return printable(value), true
	case baseSyntax(r.syntax) == syntaxDN:
		return s.holdsDN(value), true
	case !known:
		return false, false
	}
	return is(value), true
}

func (s *schema) holdsDN(value string) bool {
	dn, err := ldap.ParseDN(value)
	if err != nil {
		return false
	}
	for _, rdn := range dn.RDNs {
		for _, part := range rdn.Attributes {
			of, known := s.of(part.Type)
			if holds, _ := s.holds(of, part.Value, false); !known || !holds {
				return false
			}
		}
	}
	return true
}

// values tell what is a value of a syntax. Where a value is none, slapd takes a comparison with it, and its negation
// too, for neither true nor false.
var values = map[string]func(string) bool{
	syntaxDN:        nil, // see holds
	syntaxText:      anyText,
	syntaxAddress:   anyText,
	syntaxOctets:    func(string) bool { return true },
	syntaxASCII:     func(value string) bool { return isASCII(value) && !strings.Contains(value, "\x00") }, // where slapd ends one
	syntaxPrintable: printable, syntaxTelephone: printable,
	syntaxCountry:       func(value string) bool { return len(value) == 2 && printable(value) },
	syntaxUUID:          regexp.MustCompile(`^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`).MatchString,
	syntaxInteger:       regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`).MatchString,
	syntaxNumericString: regexp.MustCompile(`^[0-9 ]+$`).MatchString,
	syntaxBoolean:       func(value string) bool { return value == "TRUE" || value == "FALSE" },
	syntaxBits:          regexp.MustCompile(`^'[01]*'B$`).MatchString,
	syntaxTime: func(value string) bool {
		_, err := ber.ParseGeneralizedTime([]byte(value))
		return err == nil
	},
}

func anyText(value string) bool { return value != "" }

func printable(value string) bool { return value != "" && !strings.ContainsFunc(value, notPrintable) }

func notPrintable(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(`'()+,-./:=? `, r)
}

// baseSyntax returns a syntax without the length that it suggests, as in 1.2.3{256}.
func baseSyntax(syntax string) string {
	base, _, _ := strings.Cut(syntax, "{")
	return base
}
