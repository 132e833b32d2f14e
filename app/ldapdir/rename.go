package ldapdir

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// followTimeout is how long references may take to follow, or to be taken back.
const followTimeout = time.Minute

// Rename implements [directory.Directory] by one ModifyDN (RFC 4511 §4.9), or by a Modify where the name is no part of
// the DN. What refers to the entry refers to both DNs meanwhile, where the server lets it, so that a stop loses nothing.
func (d *Directory) Rename(ctx context.Context, kind *directory.Kind, name, newName string, condition directory.Condition) (directory.Entry, error) {
	m := d.of(kind.Name)
	server, err := d.pool.server(ctx)
	if err != nil {
		return directory.Entry{}, d.fault(err, m)
	}
	if condition.OneOf != nil && !server.assertion {
		return directory.Entry{}, lacks("assertions, which If-Match needs", oidAssertion)
	}
	for attempt := range maxAttempts {
		found, err := d.find(ctx, m, name)
		if directory.Is(err, directory.NotFound) {
			if failed := d.finishRenaming(directory.AsService(ctx), m, name, newName); failed != nil {
				return directory.Entry{}, failed
			}
		}
		if err != nil {
			return directory.Entry{}, err
		}
		current := d.decode(m, found)
		if err := condition.Check(current); err != nil {
			return directory.Entry{}, err
		}
		if current.Name() == newName {
			return current, nil
		}
		if err := d.free(ctx, m, found.DN, newName); err != nil {
			return directory.Entry{}, err
		}
		if err := d.leaveItself(ctx, m, current); err != nil {
			return directory.Entry{}, err
		}
		var entry directory.Entry
		if r, ok := m.renaming(found.DN, current.Name(), newName); ok {
			entry, err = d.move(ctx, server, found, current, r)
		} else {
			entry, err = d.Update(ctx, kind, name, condition, func(directory.Entry) (directory.Patch, error) {
				return directory.Patch{Set: map[string][]string{kind.Key: {newName}}}, nil
			})
		}
		if !hasCode(err, ldap.LDAPResultAssertionFailed) {
			return entry, d.nameFault(ctx, m, found.DN, name, newName, err)
		}
		if !backoff(ctx, attempt) {
			return directory.Entry{}, &directory.Error{Code: directory.Timeout, Cause: context.Cause(ctx)}
		}
	}
	return directory.Entry{}, &directory.Error{Code: directory.Busy}
}

// renaming is an entry's change of name.
type renaming struct {
	*mapping
	// from and to are the DNs, rdn is the new relative one.
	from, to, rdn string
}

// renaming returns what becomes of an entry with a DN when its name becomes another, or false where the name is no
// part of the DN. Of a relative DN of several parts (RFC 4512 §2.3.2) the others stay.
func (m *mapping) renaming(dn, name, newName string) (renaming, bool) {
	parsed, err := ldap.ParseDN(dn)
	if err != nil || len(parsed.RDNs) == 0 {
		return renaming{}, false
	}
	key, named := m.attributeOf(m.Kind.Key).Type, false
	var parts []string
	for _, part := range parsed.RDNs[0].Attributes {
		if strings.EqualFold(part.Type, key) && Fold(part.Value) == Fold(name) {
			parts, named = append(parts, key+"="+ldap.EscapeDN(newName)), true
		} else {
			parts = append(parts, part.String())
		}
	}
	rdn := strings.Join(parts, "+")
	above := ldap.DN{RDNs: parsed.RDNs[1:]}
	return renaming{m, dn, rdn + "," + above.String(), rdn}, named
}

// free returns already-exists where another entry than the one with the DN has a name, as far as the server would not
// say so itself.
func (d *Directory) free(ctx context.Context, m *mapping, dn, name string) error {
	if m.direct {
		return nil
	}
	other, err := d.find(directory.AsService(ctx), m, name)
	switch {
	case directory.Is(err, directory.NotFound), err == nil && SameDN(other.DN, dn):
		return nil
	case err == nil, directory.Is(err, directory.Ambiguous):
		return &directory.Error{Code: directory.AlreadyExists}
	}
	return err
}

// leaveItself takes a group out of itself, where another client has put it: slapo-memberof(5) would leave it the old name
// as memberOf, and so to the next group of that name.
func (d *Directory) leaveItself(ctx context.Context, m *mapping, group directory.Entry) error {
	itself := func(dn string) bool { return SameDN(dn, group.DN()) }
	if directory.PlanFrom(ctx) != nil || !slices.ContainsFunc(group.Values(directory.FieldMembers), itself) {
		return nil
	}
	_, err := d.removeValue(ctx, m, group.DN(), m.attributeOf(directory.FieldMembers).Type, group.DN(), nil)
	return d.writeFault(err, m)
}

// move renames an entry and takes along what refers to it: before, so that a stop loses no reference, and after, so
// that none is left. What somebody adds or removes in between counts.
func (d *Directory) move(ctx context.Context, server *features, found *ldap.Entry, current directory.Entry, r renaming) (directory.Entry, error) {
	release, err := d.claim(ctx, r.to)
	if err != nil {
		return directory.Entry{}, err
	}
	defer release()
	request := ldap.NewModifyDNRequest(r.from, r.rdn, true, "")
	if server.assertion && current.Version.CSN != "" {
		assertion, err := unchanged(r.from, current.Version.CSN)
		if err != nil {
			return directory.Entry{}, &directory.Error{Code: directory.Internal, Cause: err}
		}
		request.Controls = []ldap.Control{assertion}
	}
	moves := !SameDN(r.from, r.to) // else it is only spelled differently
	if moves {
		there, err := d.exists(ctx, r.to)
		if err == nil && there {
			err = &directory.Error{Code: directory.AlreadyExists}
		}
		if err == nil {
			_, err = d.sweep(ctx, r.to)
		}
		if err != nil {
			return directory.Entry{}, err
		}
	}
	if directory.PlanFrom(ctx) != nil {
		return current, d.planMove(ctx, r, request)
	}
	lasting, cancel := context.WithTimeout(directory.AsService(context.WithoutCancel(ctx)), followTimeout) // what is begun is ended
	defer cancel()
	var ahead []link
	if moves && server.assertion {
		if ahead, err = d.linkAhead(directory.AsService(ctx), r); err != nil {
			return directory.Entry{}, d.unlinkAhead(lasting, r, ahead, err)
		}
	}
	if err := d.rename(ctx, request); err != nil {
		return directory.Entry{}, d.unmoved(lasting, r, current, ahead, d.writeFault(err, r.mapping))
	}
	return d.follow(ctx, lasting, r, found, ahead)
}

// unmoved takes back what linkAhead did, unless the entry may have got the DN all the same, and returns why it has not.
func (d *Directory) unmoved(ctx context.Context, r renaming, current directory.Entry, ahead []link, fault error) error {
	if directory.Is(fault, directory.OutcomeUnknown) {
		other, err := d.findOne(ctx, r.mapping, r.search(r.to, ldap.ScopeBaseObject, "(objectClass=*)", r.request), r.to)
		if err != nil || d.decode(r.mapping, other).ID() == current.ID() {
			return fault
		}
	}
	return d.unlinkAhead(ctx, r, ahead, fault)
}

// planMove notes a ModifyDN, and what has to become of the references: they go before and come after it, which has the
// same effect whether the server sees to them or not. An only value can't go, and is replaced after.
func (d *Directory) planMove(ctx context.Context, r renaming, request *ldap.ModifyDNRequest) error {
	service := directory.AsService(ctx)
	found, err := d.referring(service, r.from)
	if err != nil {
		return err
	}
	var after []*ldap.ModifyRequest
	for _, l := range d.links(found) {
		result, err := d.search(service, l.search(l.dn, ldap.ScopeBaseObject, "("+l.attribute+"="+ldap.EscapeFilter(r.from)+")", []string{l.attribute}))
		if err != nil {
			return d.fault(err, l.mapping)
		}
		if len(result.Entries) == 0 {
			continue
		}
		others := slices.DeleteFunc(result.Entries[0].GetEqualFoldAttributeValues(l.attribute), func(dn string) bool { return SameDN(dn, r.from) || SameDN(dn, r.to) })
		before, come := ldap.NewModifyRequest(l.dn, nil), ldap.NewModifyRequest(l.dn, nil)
		if len(others) == 0 {
			come.Replace(l.attribute, []string{r.to})
		} else {
			before.Delete(l.attribute, []string{r.from})
			come.Add(l.attribute, []string{r.to})
			if _, err := d.modify(service, before); err != nil {
				return d.writeFault(err, l.mapping)
			}
		}
		after = append(after, come)
	}
	if err := d.rename(ctx, request); err != nil {
		return d.writeFault(err, r.mapping)
	}
	for _, come := range after {
		if _, err := d.modify(service, come); err != nil {
			return d.writeFault(err, r.mapping)
		}
	}
	return nil
}

// follow takes what refers to a renamed entry along, also where somebody renames it further meanwhile, and reads it.
func (d *Directory) follow(ctx, lasting context.Context, r renaming, before *ldap.Entry, ahead []link) (directory.Entry, error) {
	left := []string{r.from}
	for range maxAttempts {
		gone, failed := d.relink(lasting, left, r.to, ahead)
		reading := ctx
		if caller, ok := directory.CallerFrom(ctx); ok && SameDN(caller.DN, r.from) {
			caller.DN = r.to
			reading = directory.WithCaller(ctx, caller)
		}
		after, err := d.readRenamed(reading, r, before)
		if id := d.decode(r.mapping, before).ID(); directory.Is(err, directory.NotFound) && id != "" {
			if after, err = d.findOne(reading, r.mapping, r.searchFor(directory.FieldID, id), r.to); err == nil {
				left, r.to, ahead = append(left, r.to), after.DN, nil
				continue
			}
		}
		switch {
		case directory.Is(err, directory.NotFound):
			return directory.Entry{}, &directory.Error{Code: directory.Busy, Detail: "The entry was renamed, and another client deleted it at once."}
		case failed == nil && err != nil:
			return directory.Entry{}, &directory.Error{Code: directory.OutcomeUnknown, Detail: "The entry was renamed but could not be read.", Cause: err}
		case failed == nil:
			failed = d.unlinkRemoved(lasting, r, before, after, gone)
		}
		if failed != nil {
			return directory.Entry{}, &directory.Error{Code: directory.OutcomeUnknown,
				Detail: "The entry was renamed, but what refers to it may still do so by its old name. Repeat the request to put that right.", Cause: failed}
		}
		return d.decode(r.mapping, after), nil
	}
	return directory.Entry{}, &directory.Error{Code: directory.OutcomeUnknown, Detail: "The entry was renamed, and others rename it again and again."}
}

// readRenamed reads a renamed entry. Where only the spelling has changed, slapo-refint(5) takes the entry out of its groups
// and in again a little later, and slapo-memberof(5) shows that for a moment, which is waited for.
func (d *Directory) readRenamed(ctx context.Context, r renaming, before *ldap.Entry) (after *ldap.Entry, err error) {
	for attempt := range maxAttempts {
		after, err = d.findOne(ctx, r.mapping, r.search(r.to, ldap.ScopeBaseObject, r.Filter, r.request), r.to)
		if err != nil || !SameDN(r.from, r.to) || len(r.memberOf(after)) >= len(r.memberOf(before)) || !backoff(ctx, attempt) {
			break
		}
	}
	return after, err
}

// finishRenaming ends a renaming that was stopped: no entry has the old name any more, and what refers to it refers to
// the entry of the new name as well, or is a group that this entry's memberOf tells. All else is left as it is.
func (d *Directory) finishRenaming(ctx context.Context, m *mapping, name, newName string) error {
	renamed, err := d.find(ctx, m, newName)
	if directory.Is(err, directory.NotFound) || directory.Is(err, directory.Ambiguous) {
		return nil
	}
	if err != nil {
		return err
	}
	back, ok := m.renaming(renamed.DN, d.decode(m, renamed).Name(), name)
	if !ok {
		return nil
	}
	found, err := d.referring(ctx, back.to)
	if err != nil || len(found) == 0 {
		return err
	}
	if there, err := d.exists(ctx, back.to); err != nil || there {
		return err
	}
	groups := m.memberOf(renamed)
	for _, l := range d.links(found) {
		beside, err := d.search(ctx, l.search(l.dn, ldap.ScopeBaseObject, "("+l.attribute+"="+ldap.EscapeFilter(renamed.DN)+")", []string{"1.1"}))
		if err != nil {
			return d.fault(err, l.mapping)
		}
		if len(beside.Entries) == 0 && !SameDN(l.dn, renamed.DN) && !slices.ContainsFunc(groups, func(dn string) bool { return SameDN(dn, l.dn) }) {
			continue
		}
		if _, err := d.replaceReference(ctx, l, back.to, renamed.DN); err != nil {
			return d.writeFault(err, l.mapping)
		}
	}
	return nil
}

// linkAhead puts the new DN beside the old one, but for attributes where the server refuses DNs that nobody has, as
// slapo-memberof(5) may. It returns where it did, also with an error.
func (d *Directory) linkAhead(ctx context.Context, r renaming) ([]link, error) {
	found, err := d.referring(ctx, r.from)
	if err != nil {
		return nil, err
	}
	var ahead []link
	var refused []string
	for _, l := range d.links(found) {
		if containsFold(refused, l.attribute) || SameDN(l.dn, r.from) { // itself comes along
			continue
		}
		refers, err := asserted("("+l.attribute+"="+ldap.EscapeFilter(r.from)+")", l.dn)
		if err != nil {
			return ahead, &directory.Error{Code: directory.Internal, Cause: err}
		}
		add := ldap.NewModifyRequest(l.dn, []ldap.Control{refers})
		add.Add(l.attribute, []string{r.to})
		_, err = d.modify(ctx, add)
		switch {
		case err == nil:
			ahead = append(ahead, l)
		case hasCode(err, ldap.LDAPResultConstraintViolation), hasCode(err, ldap.LDAPResultUnwillingToPerform):
			refused = append(refused, l.attribute)
		case hasCode(err, ldap.LDAPResultAssertionFailed), hasCode(err, ldap.LDAPResultNoSuchObject), // it does not refer there
			hasCode(err, ldap.LDAPResultAttributeOrValueExists): // not by us
		default:
			return append(ahead, l), d.writeFault(err, l.mapping)
		}
	}
	return ahead, nil
}

// unlinkAhead takes back what linkAhead did, or may have done, and returns why.
func (d *Directory) unlinkAhead(ctx context.Context, r renaming, ahead []link, fault error) error {
	for _, l := range ahead {
		if _, err := d.removeValue(ctx, l.mapping, l.dn, l.attribute, r.to, nil); err != nil && !hasCode(err, ldap.LDAPResultNoSuchObject) {
			return &directory.Error{Code: directory.OutcomeUnknown, Detail: "The entry was not renamed, but some groups or hosts may refer to the new name already.", Cause: err}
		}
	}
	return fault
}

// relink makes what refers to one of the old DNs refer to the new one, to which some do already. The server may be doing
// the same at this moment. Of those some it returns where the old DN is not there any more.
func (d *Directory) relink(ctx context.Context, left []string, to string, ahead []link) (gone []link, err error) {
	for _, from := range left {
		found, err := d.referring(ctx, from)
		if err != nil {
			return nil, err
		}
		others := slices.DeleteFunc(d.links(found), func(l link) bool { return slices.Contains(ahead, l) })
		for i, l := range slices.Concat(ahead, others) {
			held, err := d.replaceReference(ctx, l, from, to)
			if err != nil && !hasCode(err, ldap.LDAPResultNoSuchObject) {
				return nil, d.writeFault(err, l.mapping)
			}
			if !held && i < len(ahead) {
				gone = append(gone, l)
			}
		}
		ahead = nil
	}
	return gone, nil
}

// unlinkRemoved removes the new DN where somebody has removed the old one while both were there. Where the server did
// that itself, as slapo-memberof(5) may, memberOf says that the entry is a member still.
func (d *Directory) unlinkRemoved(ctx context.Context, r renaming, before, after *ldap.Entry, gone []link) error {
	was, is := r.memberOf(before), r.memberOf(after)
	for _, l := range gone {
		this := func(dn string) bool { return SameDN(dn, l.dn) }
		if !slices.ContainsFunc(was, this) || slices.ContainsFunc(is, this) {
			continue
		}
		if _, err := d.removeValue(ctx, l.mapping, l.dn, l.attribute, r.to, nil); err != nil && !hasCode(err, ldap.LDAPResultNoSuchObject) {
			return d.writeFault(err, l.mapping)
		}
	}
	return nil
}

// replaceReference makes a reference to one DN one to another, and reports whether there was one.
func (d *Directory) replaceReference(ctx context.Context, l link, from, to string) (held bool, err error) {
	replace := ldap.NewModifyRequest(l.dn, nil)
	replace.Delete(l.attribute, []string{from})
	replace.Add(l.attribute, []string{to})
	_, err = d.modify(ctx, replace)
	switch {
	case hasCode(err, ldap.LDAPResultNoSuchAttribute):
		return false, nil
	case hasCode(err, ldap.LDAPResultAttributeOrValueExists):
		_, err = d.removeValue(ctx, l.mapping, l.dn, l.attribute, from, nil)
	}
	return true, err
}

// memberOf returns the DNs of the groups that an entry says it is in.
func (m *mapping) memberOf(found *ldap.Entry) []string {
	if _, ok := m.Kind.Field(directory.FieldMemberOfs); !ok {
		return nil
	}
	return found.GetEqualFoldAttributeValues(m.attributeOf(directory.FieldMemberOfs).Type)
}

// nameFault says of a failed renaming what is wrong with the name.
func (d *Directory) nameFault(ctx context.Context, m *mapping, dn, called, name string, err error) error {
	fault, ok := err.(*directory.Error) //nolint:errorlint // made here, not wrapped
	if !ok {
		return err
	}
	wrong := directory.Violation{Field: m.Kind.Key, Message: "is refused by the directory server"}
	switch {
	case fault.Code == directory.NotFound:
		return notFound(m.Kind.Name + "/" + called)
	case hasCode(err, ldap.LDAPResultUnwillingToPerform), hasCode(err, ldap.LDAPResultAffectsMultipleDSAs):
		return &directory.Error{Code: directory.UnsupportedByDirectory, Detail: "The directory server does not rename this entry.", Cause: err}
	case hasCode(err, ldap.LDAPResultOther) && !isASCII(name): // back-mdb: the DN, normalized, makes too long a key
		wrong.Message = "is too long for the directory server"
	case fault.Code != directory.Invalid || fault.Violations != nil:
		return err
	case hasCode(err, ldap.LDAPResultConstraintViolation): // slapo-unique(5) names no attribute
		result, failed := d.search(directory.AsService(ctx), m.searchFor(m.Kind.Key, name))
		if failed == nil && slices.ContainsFunc(result.Entries, func(e *ldap.Entry) bool { return !SameDN(e.DN, dn) }) {
			return &directory.Error{Code: directory.AlreadyExists, Cause: err}
		}
	}
	return &directory.Error{Code: directory.Invalid, Cause: err, Violations: []directory.Violation{wrong}}
}
