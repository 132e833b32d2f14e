package ldapdir

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// oidIncrement is the feature Modify-Increment (RFC 4525).
const oidIncrement = "1.3.6.1.1.14"

// counterAttributes are what of the entry that counts holds the last number that entries of a kind were given.
var counterAttributes = map[string]string{directory.KindUsers: "uidNumber", directory.KindGroups: "gidNumber"}

// Numbers counts the numbers of Linux accounts up in an entry, by one operation each that gives back what it counted: so
// all who write to this directory server draw from it, and none draws what another has drawn.
type Numbers struct {
	directory *Directory
	dn        string
	// lowest and highest are the first and the last number to draw.
	lowest, highest int
}

// Numbers returns those that an entry counts, from the lowest to the highest.
func (d *Directory) Numbers(dn string, lowest, highest int) *Numbers {
	return &Numbers{d, dn, lowest, highest}
}

// Next returns the next number that no account has, and draws it, unless it is for a dry run. See [directory.Posix].
func (n *Numbers) Next(ctx context.Context, kind *directory.Kind) (int, error) {
	ctx = directory.AsService(ctx)
	attribute := counterAttributes[kind.Name]
	if err := n.fits(ctx, kind.Name); err != nil {
		return 0, err
	}
	for range maxAttempts {
		drawn, err := n.draw(ctx, attribute)
		if err != nil {
			return 0, err
		}
		free, err := n.free(ctx, kind, max(drawn, n.lowest))
		if err != nil || free == drawn || directory.PlanFrom(ctx) != nil {
			return free, err
		}
		if err := n.raise(ctx, attribute, free-1); err != nil {
			return 0, err
		}
	}
	return 0, &directory.Error{Code: directory.Busy}
}

// draw counts up by one and returns what it counted. At the end it stays, so that all are there when the end is moved.
func (n *Numbers) draw(ctx context.Context, attribute string) (int, error) {
	if directory.PlanFrom(ctx) != nil {
		last, err := n.last(ctx, attribute)
		return last + 1, err
	}
	server, err := n.directory.pool.server(ctx)
	if err != nil {
		return 0, n.directory.fault(err, nil)
	}
	if err := n.able(server); err != nil {
		return 0, err
	}
	request := ldap.NewModifyRequest(n.dn, []ldap.Control{postRead([]string{attribute})})
	request.Increment(attribute, "1")
	if server.assertion {
		below, err := asserted(fmt.Sprintf("(!(%s=%d))", attribute, n.highest), n.dn)
		if err != nil {
			return 0, &directory.Error{Code: directory.Internal, Cause: err}
		}
		request.Controls = append(request.Controls, below)
	}
	result, err := n.directory.modify(ctx, request)
	switch {
	case hasCode(err, ldap.LDAPResultAssertionFailed):
		return 0, n.ended()
	case err != nil:
		return 0, n.fault(err)
	}
	counted, err := postReadEntry(result.Controls)
	if err != nil || counted == nil {
		return 0, &directory.Error{Code: directory.Internal, Cause: errors.Join(errors.New("an increment gave nothing back"), err)}
	}
	return n.value(counted, attribute)
}

// free returns the first number from one on that no account has, nor any other entry in a field of that name: who is
// given a group's number before the group is made would be in it.
func (n *Numbers) free(ctx context.Context, kind *directory.Kind, from int) (int, error) {
	const many = 256
	for width := 1; from <= n.highest; {
		taken, err := n.taken(ctx, directory.NumberField(kind), from, width)
		switch {
		case hasCode(err, ldap.LDAPResultSizeLimitExceeded) && width > 1: // many have one of them
			width = 1
			continue
		case hasCode(err, ldap.LDAPResultSizeLimitExceeded):
			taken = map[string]bool{strconv.Itoa(from): true}
		case err != nil:
			return 0, n.directory.fault(err, nil)
		}
		for range width {
			if from <= n.highest && !taken[strconv.Itoa(from)] {
				return from, nil
			}
			from++
		}
		width = many
	}
	return 0, n.ended()
}

// taken returns which of some numbers, from one on, entries have in a field. Where more entries do than are worth
// reading, that is an error of the directory server's.
func (n *Numbers) taken(ctx context.Context, field string, from, width int) (map[string]bool, error) {
	var filter strings.Builder
	var types []string
	for _, m := range n.directory.mappings {
		if _, has := m.Kind.Field(field); !has {
			continue
		}
		attribute := m.attributeOf(field)
		accounts := m.Filter
		if attribute.ObjectClass != "" {
			accounts = "(objectClass=" + attribute.ObjectClass + ")" // wherever they are
		}
		filter.WriteString("(&" + accounts + "(|")
		for number := from; number < from+width; number++ {
			fmt.Fprintf(&filter, "(%s=%d)", attribute.Type, number)
		}
		filter.WriteString("))")
		types = append(types, attribute.Type)
	}
	result, err := n.directory.search(ctx, ldap.NewSearchRequest(n.directory.options.BaseDN, ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 2*width, 0, false,
		"(|"+filter.String()+")", types, nil))
	if err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	for _, found := range result.Entries {
		for _, attribute := range types {
			for _, value := range found.GetEqualFoldAttributeValues(attribute) {
				taken[value] = true
			}
		}
	}
	return taken, nil
}

// Choose refuses a number that is yet to be drawn. See [directory.Posix].
func (n *Numbers) Choose(ctx context.Context, kind *directory.Kind, number int) error {
	if err := n.fits(ctx, kind.Name); err != nil || number < n.lowest || number > n.highest {
		return err
	}
	last, err := n.last(ctx, counterAttributes[kind.Name])
	if err != nil || number <= last {
		return err
	}
	return &directory.Error{Code: directory.Invalid, Violations: []directory.Violation{{Field: directory.NumberField(kind),
		Message: fmt.Sprintf("is yet to be given out, as all are from %d to %d: leave it out, or choose another", max(last+1, n.lowest), n.highest)}}}
}

// fits reports, as an error, that the class which holds a kind's numbers can't go beside the classes that entries have
// already: posixGroup as RFC 2307 has it. A server that does not show its schema is believed.
func (n *Numbers) fits(ctx context.Context, kind string) error {
	m := n.directory.of(kind)
	class := m.attributeOf(directory.NumberField(m.Kind)).ObjectClass
	if class == "" || slices.Contains(m.ObjectClasses, class) {
		return nil
	}
	for asked := time.Now(); ; {
		known, err := n.directory.schemaOf(ctx)
		if err != nil {
			return err
		}
		if auxiliary, shown := known.auxiliary[strings.ToLower(class)]; auxiliary || !shown {
			return nil
		}
		if known.read.After(asked) {
			break
		}
		n.directory.schema.CompareAndSwap(known, nil) // it may have been mended since
	}
	return &directory.Error{Code: directory.UnsupportedByDirectory, Detail: "By the directory server's schema " + class +
		" is no auxiliary class, and can't go with what entries are already. Groups with numbers need rfc2307bis.schema in place of nis.schema."}
}

// raise has the count go on after a number, unless it has come as far already. Many may do so at once: they don't draw
// meanwhile, so one of them gets there.
func (n *Numbers) raise(ctx context.Context, attribute string, to int) error {
	for attempt := range maxAttempts {
		last, err := n.last(ctx, attribute)
		if err != nil || last >= to {
			return err
		}
		request := ldap.NewModifyRequest(n.dn, nil)
		request.Delete(attribute, []string{strconv.Itoa(last)})
		request.Add(attribute, []string{strconv.Itoa(to)})
		if _, err := n.directory.modify(ctx, request); !hasCode(err, ldap.LDAPResultNoSuchAttribute) {
			return n.fault(err)
		}
		if !backoff(ctx, attempt) {
			return &directory.Error{Code: directory.Timeout, Cause: context.Cause(ctx)}
		}
	}
	return &directory.Error{Code: directory.Busy}
}

// last reads the last number that was drawn.
func (n *Numbers) last(ctx context.Context, attribute string) (int, error) {
	result, err := n.directory.search(directory.AsService(ctx), ldap.NewSearchRequest(n.dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{attribute}, nil))
	if err != nil {
		return 0, n.fault(err)
	}
	if len(result.Entries) != 1 {
		return 0, n.missing(nil)
	}
	return n.value(result.Entries[0], attribute)
}

func (n *Numbers) value(entry *ldap.Entry, attribute string) (int, error) {
	value, err := strconv.Atoi(entry.GetEqualFoldAttributeValue(attribute))
	if err != nil {
		return 0, n.missing(err)
	}
	return value, nil
}

// able reports, as an error, that the server can't count.
func (n *Numbers) able(server *features) error {
	switch {
	case !server.increment:
		return lacks("increments, by which numbers are counted", oidIncrement)
	case !server.postRead:
		return lacks("post-read, which shows what was counted", oidPostRead)
	}
	return nil
}

// fault is [Directory.fault] for the entry that counts. That it is not known whether it has counted does no harm.
func (n *Numbers) fault(err error) error {
	if hasCode(err, ldap.LDAPResultNoSuchObject) || hasCode(err, ldap.LDAPResultNoSuchAttribute) || hasCode(err, ldap.LDAPResultInsufficientAccessRights) {
		return n.missing(err)
	}
	return n.directory.fault(err, nil)
}

func (n *Numbers) missing(err error) error {
	return &directory.Error{Code: directory.UnsupportedByDirectory, Cause: err,
		Detail: "The directory has no place to count numbers: posix.counter must name an entry with a uidNumber and a gidNumber that the service may write."}
}

func (n *Numbers) ended() error {
	return &directory.Error{Code: directory.NoNumberLeft, Detail: fmt.Sprintf("The last one is %d.", n.highest)}
}

// Ready reports, as an error, that no numbers can be drawn.
func (n *Numbers) Ready(ctx context.Context) error {
	server, err := n.directory.pool.server(ctx)
	if err != nil {
		return n.directory.fault(err, nil)
	}
	if err := n.able(server); err != nil {
		return err
	}
	for kind, attribute := range counterAttributes {
		if _, err := n.last(ctx, attribute); err != nil {
			return err
		}
		if err := n.fits(ctx, kind); err != nil {
			return err
		}
	}
	return nil
}

// Check is that numbers can be drawn.
func (n *Numbers) Check() directory.Check {
	return directory.Check{Name: "numbers", Run: n.Ready, Remedy: "The entry that counts the numbers of accounts is not there, lacks uidNumber or gidNumber, " +
		"or the service account may not read it; or the directory server can't count, or has no auxiliary posixGroup. Create the entry, or check posix.counter."}
}
