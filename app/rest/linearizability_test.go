package rest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/go-ldap/ldap/v3"

	"rollcall/app/client"
	"rollcall/app/directory"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
	"rollcall/deploy/openldap"
)

// TestEveryEntryIsLinearizable: whatever clients of two replicas and plain LDAP clients do to an entry at the same
// time, while slapd is killed, restarted and stopped for a while, there is an order in which one after the other did
// it, that explains every answer and has nothing happen before it was asked for or after it was answered. What is
// answered as outcome-unknown, or not at all, may have been done, at any time; every other failure was not done.
func TestEveryEntryIsLinearizable(t *testing.T) { linearizable(t, 2) }

func TestTheModelOfAnEntryTellsRightFromWrong(t *testing.T) {
	const host = "hosts/h"
	a := state{exists: true, id: "id", value: "a", list: "x", csn: "1"}
	b, withY := a, a
	b.value, b.csn = "b", "2"
	withY.list, withY.csn = "x y", "2"
	asked := func(call, end int64, in input, outcome string, seen ...state) porcupine.Operation {
		in.entry = host
		out := output{outcome: outcome}
		if outcome == gotUnknown {
			end = math.MaxInt64
		}
		if seen != nil {
			out.seen = seen[0]
		}
		return porcupine.Operation{Input: in, Output: out, Call: call, Return: end}
	}
	reads := func(at int64, s state) porcupine.Operation { return asked(at, at+1, input{verb: "read"}, gotDone, s) }
	sets := input{verb: "set", value: "b"}
	setsA := input{verb: "set", value: "b", conditional: true, match: a}
	adds := input{verb: "append", list: "y"}
	again := b
	again.csn = "3"
	for _, c := range []struct {
		name  string
		right bool
		after []porcupine.Operation // after the entry was created, and read as a
	}{
		{"a write is read", true, []porcupine.Operation{asked(10, 20, sets, gotDone, b), reads(30, b)}},
		{"a read is stale", false, []porcupine.Operation{asked(10, 20, sets, gotDone, b), reads(30, a)}},
		{"a read during a write is as before it", true, []porcupine.Operation{asked(10, 20, sets, gotDone, b), reads(15, a)}},
		{"a write comes and goes", false, []porcupine.Operation{asked(10, 40, sets, gotDone, b), reads(15, b), reads(25, a)}},
		{"of what is unknown nothing is seen", true, []porcupine.Operation{asked(10, 0, sets, gotUnknown), reads(30, a)}},
		{"what is unknown happens late", true, []porcupine.Operation{asked(10, 0, sets, gotUnknown), reads(30, a), reads(40, b)}},
		{"what is unknown happens twice", false, []porcupine.Operation{asked(10, 0, sets, gotUnknown), reads(30, b),
			asked(40, 41, input{verb: "set", value: "c"}, gotDone), reads(50, again)}},
		{"a value that is there already was refused to whoever added it", false, []porcupine.Operation{asked(10, 20, adds, gotTwice), reads(30, withY)}},
		{"If-Match holds", true, []porcupine.Operation{asked(10, 20, setsA, gotDone, b)}},
		{"If-Match holds of what has changed", false, []porcupine.Operation{asked(10, 20, adds, gotDone), asked(30, 40, setsA, gotDone)}},
		{"If-Match does not hold of what is as it was", false, []porcupine.Operation{asked(10, 20, setsA, gotStale)}},
		{"of two with the same If-Match both are done", false, []porcupine.Operation{asked(10, 20, setsA, gotDone), asked(11, 21, setsA, gotDone)}},
		{"an ETag is that of a later state", false, []porcupine.Operation{asked(10, 20, sets, gotDone, again), asked(30, 40, input{verb: "set", value: "c"}, gotDone),
			reads(50, state{exists: true, id: "id", value: "c", list: "x", csn: "3"})}},
		{"a change goes with what another wrote", false, []porcupine.Operation{asked(10, 20, adds, gotDone), asked(11, 21, sets, gotDone), reads(30, b)}},
		{"what was deleted is there", false, []porcupine.Operation{asked(10, 20, input{verb: "delete"}, gotDone), reads(30, a)}},
		{"If-Match holds of another entry of the name", false, []porcupine.Operation{asked(10, 20, input{verb: "delete"}, gotDone),
			asked(30, 40, input{verb: "create", value: "a", list: "x"}, gotCreated), asked(50, 60, setsA, gotDone)}},
	} {
		before := []porcupine.Operation{asked(0, 1, input{verb: "create", value: "a", list: "x"}, gotCreated), reads(2, a)}
		if porcupine.CheckOperations(entryModel, append(before, c.after...)) != c.right {
			t.Errorf("%s: right is %v, want %v", c.name, !c.right, c.right)
		}
	}
}

// state is one state of an entry. Its id and its CSN are "" as long as no answer has shown them.
type state struct {
	exists          bool
	id, value, list string // the values of the list have a blank in between
	csn, before     string // before is the last one known
}

// input is what is asked of an entry, known by its kind and name.
type input struct {
	entry, verb string
	value, list string
	at          int   // the place in the list
	plain       bool  // past the API
	match       state // what If-Match names, and If-None-Match of a read; not there for none
	conditional bool
	onlyCreate  bool // If-None-Match: *
}

// output is what was answered: an outcome, and the entry where it is shown.
type output struct {
	outcome string
	seen    state
	words   string // of the problem, for people
}

// Outcomes.
const (
	gotUnknown   = "unknown" // it may have been done, or be done yet
	gotNothing   = "nothing" // it was not done, whatever state the entry was in
	gotDone      = "done"
	gotCreated   = "created"
	gotAbsent    = "absent"    // there is no such entry
	gotExists    = "exists"    // there is one
	gotStale     = "stale"     // it is in another state
	gotUnchanged = "unchanged" // it is in the state that was named
	gotConflict  = "conflict"  // the patch does not fit
	gotTwice     = "twice"     // the value is there already
	gotMissing   = "missing"   // the value is not there
	gotRefused   = "refused"   // the schema does not allow it
)

// apply returns what becomes of an entry, and what the answer must be.
func (s state) apply(in input) (next state, outcome string) {
	creates := in.verb == "create" || in.verb == "put" && !in.conditional
	matches := s.csn != "" && s.csn == in.match.csn || !in.plain && s.id != "" && s.id == in.match.id && s.value == in.match.value && s.list == in.match.list
	values := strings.Fields(s.list)
	switch {
	case !s.exists && creates:
		return state{exists: true, value: in.value, list: merged(in, nil), before: s.before}, gotCreated
	case !s.exists && in.verb == "put":
		return s, gotStale
	case !s.exists:
		return s, gotAbsent
	case in.verb == "create":
		return s, gotExists
	case in.verb == "read" && in.conditional && s.csn == in.match.csn:
		return s, gotUnchanged
	case in.verb == "read":
		return s, gotDone
	case in.conditional && !matches:
		return s, gotStale
	}
	next = s
	switch in.verb {
	case "delete":
		return state{before: cmp.Or(s.csn, s.before)}, gotDone
	case "set":
		next.value = in.value
	case "replace":
		next.list = merged(in, values)
	case "put":
		next.value, next.list = in.value, merged(in, values)
	case "append":
		switch has := slices.Contains(values, in.list); {
		case has:
			return s, gotTwice
		case in.plain && in.hosts() && len(values) == 0: // the class of the attribute came with the first, and went with the last
			return s, gotRefused
		}
		next.list = joined(in, append(values, in.list))
	case "remove":
		if in.at >= len(values) || values[in.at] != in.list {
			return s, gotConflict
		}
		next.list = strings.Join(slices.Delete(values, in.at, in.at+1), " ")
	case "take":
		switch at := slices.Index(values, in.list); {
		case at < 0:
			return s, gotMissing
		case len(values) == 1:
			return s, gotRefused
		default:
			next.list = strings.Join(slices.Delete(values, at, at+1), " ")
		}
	case "join":
		if !slices.Contains(values, in.list) {
			next.list = joined(in, append(values, in.list))
		}
	case "leave":
		next.list = strings.Join(slices.DeleteFunc(values, func(v string) bool { return v == in.list }), " ")
	}
	if next != s || in.plain {
		next.csn, next.before = "", cmp.Or(s.csn, s.before)
	}
	return next, gotDone
}

func (in input) hosts() bool { return strings.HasPrefix(in.entry, "hosts/") }

// merged returns a list that is sent as a whole as it is then.
func merged(in input, values []string) string {
	wanted := strings.Fields(in.list)
	if directory.SameValues(wanted, values) {
		return joined(in, values)
	}
	return joined(in, wanted)
}

// joined returns a list as states hold it. What is sent of references comes, and what is not goes, in whatever order.
func joined(in input, values []string) string {
	if !in.hosts() {
		values = slices.Sorted(slices.Values(values))
	}
	return strings.Join(values, " ")
}

// step is a step of the model: whether an entry in this state can have answered so, and its state from then on.
func (s state) step(in input, out output) (bool, state) {
	next, outcome := s.apply(in)
	switch {
	case out.outcome == gotUnknown:
		return true, next
	case out.outcome != outcome:
		return false, s
	case !out.seen.exists:
		return true, next
	}
	if next.id == "" {
		next.id = out.seen.id
	}
	if next.csn == "" && out.seen.csn != next.before {
		next.csn = out.seen.csn
	}
	seen := out.seen
	seen.before = next.before
	return seen == next, next
}

// entryModel is the model of entries, each by itself.
var entryModel = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		entries := map[string][]porcupine.Operation{}
		for _, o := range all {
			entries[o.Input.(input).entry] = append(entries[o.Input.(input).entry], o)
		}
		return slices.Collect(maps.Values(entries))
	},
	Init:              func() any { return state{} },
	Step:              func(s, in, out any) (bool, any) { return s.(state).step(in.(input), out.(output)) },
	DescribeOperation: func(in, out any) string { return describe(in.(input), out.(output)) },
	DescribeState:     func(s any) string { return s.(state).String() },
}

func (s state) String() string {
	if !s.exists {
		return "absent"
	}
	return fmt.Sprintf("%q [%s] csn %s id %.8s", s.value, s.list, cmp.Or(s.csn, "?"), cmp.Or(s.id, "?"))
}

func describe(in input, out output) string {
	var b strings.Builder
	if in.plain {
		b.WriteString("LDAP ")
	}
	fmt.Fprintf(&b, "%s %s", in.verb, in.entry)
	switch in.verb {
	case "remove":
		fmt.Fprintf(&b, " %d, which is %s", in.at, in.list)
	case "read", "delete":
	default:
		fmt.Fprintf(&b, " %q [%s]", in.value, in.list)
	}
	if in.conditional {
		fmt.Fprintf(&b, " if (%v)", in.match)
	}
	fmt.Fprintf(&b, ": %s %s", out.outcome, out.words)
	if out.seen.exists {
		fmt.Fprintf(&b, " (%v)", out.seen)
	}
	return b.String()
}

// history is what clients did to some entries at the same time.
type history struct {
	t     *testing.T
	began time.Time
	// values are what lists are made of, by kind.
	values map[string][]string

	mutex      sync.Mutex
	operations []porcupine.Operation
	undone     []porcupine.Operation // what was answered as not done
	processes  int
	outcomes   map[string]int
}

// process returns a number for the next that does one thing after the other.
func (h *history) process() int {
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.processes++
	return h.processes - 1
}

// record records what was asked and answered, and returns what to go on as: of something that may still be done
// there is no end to wait for.
func (h *history) record(process int, call time.Duration, in input, out output) int {
	o := porcupine.Operation{ClientId: process, Input: in, Output: out, Call: int64(call), Return: int64(time.Since(h.began))}
	if out.outcome == gotUnknown {
		o.Return, process = math.MaxInt64, h.process()
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	h.outcomes[out.outcome]++
	switch {
	case in.verb == "read" && (out.outcome == gotUnknown || out.outcome == gotNothing):
	case out.outcome == gotNothing:
		h.undone = append(h.undone, o)
	default:
		h.operations = append(h.operations, o)
	}
	return process
}

// actor is one client, by the API or by LDAP.
type actor struct {
	*history
	random  *rand.Rand
	process int
	api     *api // nil for a plain LDAP client
	server  *slapd.Server
	conn    *ldap.Conn
	writes  int
	known   map[string]state  // the last state seen
	tags    map[string]string // its entity tag
	gone    map[string]bool   // whether the last answer was that there is no such entry
}

// act asks for something and records the answer.
func (a *actor) act(in input) output {
	call := time.Since(a.began)
	var out output
	if a.api != nil {
		out = a.request(in)
	} else {
		in.plain = true
		out = a.operate(in)
	}
	if out.seen.exists {
		a.known[in.entry] = out.seen
	}
	a.gone[in.entry] = out.outcome == gotAbsent
	if out.outcome == gotCreated { // the entry is added, and then read
		at := int64(time.Since(a.began))
		read := porcupine.Operation{ClientId: a.history.process(), Input: input{entry: in.entry, verb: "read"}, Output: output{outcome: gotDone, seen: out.seen}, Call: int64(call), Return: at}
		if out.seen.exists {
			a.mutex.Lock()
			a.operations = append(a.operations, read)
			a.mutex.Unlock()
		}
		a.process = a.record(a.process, call, in, output{outcome: gotCreated})
		return out
	}
	a.process = a.record(a.process, call, in, out)
	return out
}

// next returns something to ask for.
func (a *actor) next(entry string) input {
	in := input{entry: entry}
	kind, _, _ := strings.Cut(entry, "/")
	pool := a.values[kind]
	a.writes++
	in.value = fmt.Sprintf("%d-%d", a.process, a.writes)
	in.list = pool[a.random.IntN(len(pool))]
	match, known := a.known[entry]
	verbs := []string{"read", "read", "read", "set", "set", "append", "append", "delete", "create", "create", "put", "replace"}
	switch {
	case a.api == nil && in.hosts():
		verbs = []string{"read", "read", "set", "set", "append", "take", "take", "delete", "create"}
	case a.api == nil:
		verbs = []string{"read", "read", "set", "set", "append"}
	case !in.hosts():
		verbs = append(verbs, "join", "join", "join", "leave", "leave", "leave")
	}
	if values := strings.Fields(match.list); a.api != nil && in.hosts() && len(values) > 0 {
		verbs = append(verbs, "remove", "remove", "remove")
		in.at = a.random.IntN(len(values))
	}
	in.verb = verbs[a.random.IntN(len(verbs))]
	if a.gone[entry] && slices.Contains(verbs, "create") && a.random.IntN(2) == 0 {
		in.verb = "create"
	}
	switch in.verb {
	case "remove":
		in.list = strings.Fields(match.list)[in.at]
	case "create", "put", "replace":
		in.list = a.some(pool)
		in.onlyCreate = in.verb == "create" && a.random.IntN(2) == 0
	}
	may := known && in.hosts() && in.verb != "create" && (a.api != nil || in.verb == "set")
	if in.conditional = may && a.random.IntN(2) == 0; in.conditional {
		in.match = match
	}
	if in.verb == "replace" && known && in.hosts() && a.random.IntN(2) == 0 { // what was read, and one more
		in.list, in.match, in.conditional = match.list, match, true
		if value := pool[a.random.IntN(len(pool))]; !slices.Contains(strings.Fields(match.list), value) {
			in.list = strings.TrimSpace(in.list + " " + value)
		}
	}
	return in
}

// some returns some of the values, in any order.
func (a *actor) some(values []string) string {
	chosen := slices.Clone(values)
	a.random.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	return strings.Join(chosen[:a.random.IntN(len(chosen)+1)], " ")
}

// outcomes are what the API's problems mean. What is not here must not happen.
var outcomes = map[*directory.Code]string{
	directory.NotFound: gotAbsent, directory.Stale: gotStale, directory.AlreadyExists: gotExists, directory.PatchConflict: gotConflict, directory.Invalid: gotTwice,
	directory.OutcomeUnknown: gotUnknown, directory.Unavailable: gotNothing, directory.Timeout: gotNothing, directory.Busy: gotNothing,
}

// request asks the API.
func (a *actor) request(in input) output {
	method, body, headers := http.MethodPatch, any(nil), []string(nil)
	kind, name, _ := strings.Cut(in.entry, "/")
	path, field := client.Path(kind, name), listOf[kind]
	wanted := append([]string{}, strings.Fields(in.list)...)
	patch := func(operations ...object) {
		body, headers = operations, []string{"Content-Type", "application/json-patch+json"}
	}
	switch in.verb {
	case "read":
		method = http.MethodGet
	case "set":
		body = object{"description": in.value}
	case "replace":
		body = object{field: wanted}
	case "append":
		patch(object{"op": "add", "path": "/" + field + "/-", "value": in.list})
	case "remove":
		at := fmt.Sprintf("/%s/%d", field, in.at)
		patch(object{"op": "test", "path": at, "value": in.list}, object{"op": "remove", "path": at})
	case "create":
		method, body, path = http.MethodPost, object{"cn": name, "description": in.value, field: wanted}, "/"+kind
	case "put":
		method, body = http.MethodPut, object{"description": in.value, field: wanted}
	case "delete":
		method = http.MethodDelete
	case "join", "leave":
		method = map[string]string{"join": http.MethodPut, "leave": http.MethodDelete}[in.verb]
		cn, _, _ := strings.Cut(strings.TrimPrefix(in.list, "cn="), ",")
		path += client.Path("members", "users", cn)
	}
	if in.onlyCreate {
		method, path, headers = http.MethodPut, client.Path(kind, name), []string{"If-None-Match", "*"}
		delete(body.(object), "cn")
	}
	if in.conditional {
		headers = append(headers, map[bool]string{true: "If-None-Match", false: "If-Match"}[in.verb == "read"], a.tags[in.entry])
	}
	patience := time.Minute
	if a.random.IntN(30) == 0 {
		patience = time.Duration(a.random.IntN(4000)) * time.Microsecond
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	response, err := a.api.Do(ctx, method, path, body, headers...)
	if err != nil {
		return output{outcome: gotUnknown}
	}
	x := exchange{a.t, "", response}
	switch {
	case x.Status == http.StatusNotModified:
		return output{outcome: gotUnchanged}
	case x.Status == http.StatusNoContent:
		return output{outcome: gotDone}
	case x.Status < 300:
		return output{outcome: map[bool]string{true: gotCreated, false: gotDone}[x.Status == http.StatusCreated], seen: a.shown(&x, in)}
	}
	var problem client.Problem
	if err := json.Unmarshal(x.Body, &problem); err != nil {
		a.t.Errorf("%s: %d %s", describe(in, output{}), x.Status, x.Body)
	}
	at := slices.IndexFunc(directory.Catalogue(), func(c *directory.Code) bool { return c.Name == problem.Code })
	outcome, ok := outcomes[directory.Catalogue()[max(at, 0)]]
	creates := in.verb == "create" || in.verb == "put"
	switch {
	case !ok || outcome == gotTwice && (in.verb != "append" || !strings.Contains(string(x.Body), "more than once")):
		a.t.Errorf("%s: %d %s", describe(in, output{}), x.Status, x.Body)
		outcome = gotUnknown
	case outcome == gotExists && in.verb == "put": // twice somebody else was faster
		outcome = gotNothing
	case outcome == gotStale && in.onlyCreate:
		outcome = gotExists
	case problem.Code == directory.Busy.Name && creates: // it was created, and another deleted it
		outcome = gotUnknown
	}
	return output{outcome: outcome, words: fmt.Sprintf("%s: %s %v", problem.Code, problem.Detail, problem.Violations)}
}

// listOf are the lists of the kinds, and attributeOf the attributes behind them.
var (
	listOf      = map[string]string{"hosts": "ipAddresses", "groups": "members"}
	attributeOf = map[string]string{"hosts": "ipHostNumber", "groups": "member"}
)

// shown returns the entry that the API shows, without its CSN where it is a group's: that also changes when the
// placeholder comes or goes, or memberOf is mended.
func (a *actor) shown(x *exchange, in input) state {
	var entry struct {
		ID, Description      string
		IPAddresses, Members []string
	}
	x.decode(&entry)
	version, ok := directory.ParseVersion(strings.Trim(x.etag(), `"`))
	if !ok || entry.ID == "" {
		a.t.Errorf("%s: %v %s", describe(in, output{}), x.Header, x.Body)
	}
	a.tags[in.entry] = x.etag()
	s := state{exists: true, id: entry.ID, value: entry.Description, list: joined(in, append(entry.IPAddresses, entry.Members...))}
	if in.hosts() {
		s.csn = version.CSN
	}
	return s
}

// operate asks slapd.
func (a *actor) operate(in input) output {
	if a.conn == nil || a.conn.IsClosing() {
		var err error
		if a.conn, err = ldap.DialURL(a.server.URL()); err != nil {
			a.conn = nil
			return output{outcome: gotNothing}
		}
		a.conn.SetTimeout(impatience)
		if a.conn.Bind(a.server.ServiceDN(), a.server.ServicePassword()) != nil {
			a.close()
			return output{outcome: gotNothing}
		}
	}
	kind, name, _ := strings.Cut(in.entry, "/")
	dn := "cn=" + name + ",ou=" + kind + "," + ldapdirtest.Base
	modify := ldap.NewModifyRequest(dn, nil)
	out, err := output{outcome: gotDone}, error(nil)
	switch in.verb {
	case "read":
		out.seen, err = a.search(dn, in)
	case "create":
		add := ldap.NewAddRequest(dn, nil)
		classes := []string{"device"}
		if values := strings.Fields(in.list); len(values) > 0 {
			classes = append(classes, "ipHost")
			add.Attribute(attributeOf[kind], values)
		}
		add.Attribute("objectClass", classes)
		add.Attribute("description", []string{in.value})
		out.outcome, err = gotCreated, a.conn.Add(add)
	case "delete":
		err = a.conn.Del(ldap.NewDelRequest(dn, nil))
	case "set":
		modify.Replace("description", []string{in.value})
	case "append":
		modify.Add(attributeOf[kind], []string{in.list})
	case "take":
		modify.Delete(attributeOf[kind], []string{in.list})
	}
	if in.conditional {
		filter, bad := ldap.CompileFilter("(entryCSN=" + in.match.csn + ")")
		if bad != nil {
			a.t.Fatal(bad)
		}
		modify.Controls = []ldap.Control{ldap.NewControlString("1.3.6.1.1.12", true, string(filter.Bytes()))} // RFC 4528
	}
	if len(modify.Changes) > 0 {
		err = a.conn.Modify(modify)
	}
	if err == nil {
		return out
	}
	code := uint16(ldap.ErrorNetwork)
	if answer, ok := errors.AsType[*ldap.Error](err); ok {
		code = answer.ResultCode
	}
	switch code {
	case ldap.LDAPResultNoSuchObject:
		return output{outcome: gotAbsent}
	case ldap.LDAPResultEntryAlreadyExists:
		return output{outcome: gotExists}
	case ldap.LDAPResultAssertionFailed:
		return output{outcome: gotStale}
	case ldap.LDAPResultAttributeOrValueExists:
		return output{outcome: gotTwice}
	case ldap.LDAPResultNoSuchAttribute:
		return output{outcome: gotMissing}
	case ldap.LDAPResultObjectClassViolation:
		return output{outcome: gotRefused}
	case ldap.ErrorNetwork, ldap.LDAPResultUnavailable, ldap.LDAPResultBusy:
	default:
		a.t.Errorf("%s: %v", describe(in, out), err)
	}
	a.close()
	return output{outcome: gotUnknown}
}

func (a *actor) search(dn string, in input) (state, error) {
	kind, _, _ := strings.Cut(in.entry, "/")
	result, err := a.conn.Search(ldap.NewSearchRequest(dn, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false,
		"(objectClass=*)", []string{"entryUUID", "entryCSN", "description", attributeOf[kind]}, nil))
	if err != nil {
		return state{}, err
	}
	if len(result.Entries) != 1 {
		return state{}, ldap.NewError(ldap.ErrorNetwork, errors.New("cut off"))
	}
	entry := result.Entries[0]
	values := slices.DeleteFunc(entry.GetAttributeValues(attributeOf[kind]), func(v string) bool { return v == openldap.PlaceholderDN(ldapdirtest.Base) })
	s := state{exists: true, id: entry.GetAttributeValue("entryUUID"), value: entry.GetAttributeValue("description"), list: joined(in, values)}
	if in.hosts() {
		s.csn = entry.GetAttributeValue("entryCSN")
	}
	return s, nil
}

func (a *actor) close() {
	if a.conn != nil {
		a.conn.Close()
		a.conn = nil
	}
}

// impatience is how long the API and LDAP clients wait for slapd.
const impatience = 400 * time.Millisecond

// havoc kills slapd and starts it again, or stops it for a while, again and again until the channel is closed. It
// returns the one that runs then.
func havoc(t *testing.T, server *slapd.Server, random *rand.Rand, over <-chan struct{}) *slapd.Server {
	for {
		select {
		case <-over:
			return server
		case <-time.After(time.Duration(100+random.IntN(300)) * time.Millisecond):
		}
		var err error
		if random.IntN(5) == 0 {
			err = server.Pause()
			time.Sleep(time.Duration(random.IntN(int(3 * impatience / 2))))
			err = errors.Join(err, server.Resume())
		} else {
			err = server.Kill()
			time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
			if again, failed := server.Restart(context.Background()); failed == nil {
				server = again
				t.Cleanup(func() { _ = again.Kill() })
			} else {
				err = errors.Join(err, failed)
			}
		}
		if err != nil {
			t.Errorf("slapd: %v", err)
			return server
		}
	}
}

// linearizable makes some histories and checks them.
func linearizable(t *testing.T, histories int) {
	impatient := func(s *settings) { s.ldap.Timeout = impatience }
	one := newAPI(t, impatient)
	two := newAPIOn(t, one.slapd, impatient)
	two = two.bearing(newAPIOn(t, one.slapd).login("admin", "admin").AccessToken)
	values := map[string][]string{"hosts": {"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"}}
	for _, name := range []string{"alice", "bob", "anna"} {
		values["groups"] = append(values["groups"], "cn="+name+",ou=people,"+ldapdirtest.Base)
	}
	server, total := one.slapd, map[string]int{}
	seed := rand.Uint64()
	for i := range histories {
		h := &history{t: t, began: time.Now(), values: values, outcomes: map[string]int{}}
		entries := []string{fmt.Sprintf("hosts/h%d", i), fmt.Sprintf("groups/g%d", i)}
		server = h.make(seed+uint64(i), entries, server, one, one, one, two, two, two, nil, nil)
		for outcome, n := range h.outcomes {
			total[outcome] += n
		}
		h.check(seed + uint64(i))
		if t.Failed() {
			break
		}
	}
	t.Logf("%d histories from the seed %d; outcomes: %v", histories, seed, total)
}

// make makes a history of some clients, each of which gets so many answers, and returns the slapd that runs then. An
// API that is nil is a plain LDAP client.
func (h *history) make(seed uint64, entries []string, server *slapd.Server, apis ...*api) *slapd.Server {
	const answers = 40
	over := make(chan struct{})
	var working, breaking sync.WaitGroup
	actors := make([]*actor, len(apis))
	for i, api := range apis {
		a := &actor{history: h, random: rand.New(rand.NewPCG(seed, uint64(i))), process: h.process(), api: api, server: server, known: map[string]state{}, tags: map[string]string{}, gone: map[string]bool{}}
		actors[i] = a
		working.Go(func() {
			for n := 0; n < answers && !h.t.Failed(); {
				switch a.act(a.next(entries[a.random.IntN(len(entries))])).outcome {
				case gotNothing:
					time.Sleep(5 * time.Millisecond)
				case gotUnknown:
				default:
					n++
				}
			}
			a.close()
		})
	}
	breaking.Go(func() { server = havoc(h.t, server, rand.New(rand.NewPCG(seed, math.MaxUint64)), over) })
	working.Wait()
	close(over)
	breaking.Wait()
	for _, entry := range entries {
		for n := 0; n < 1000 && !slices.Contains([]string{gotDone, gotAbsent}, actors[0].act(input{entry: entry, verb: "read"}).outcome); n++ {
			time.Sleep(time.Millisecond)
		}
	}
	return server
}

// check fails with the shortest beginning of an entry's history that nothing explains.
func (h *history) check(seed uint64) {
	h.t.Helper()
	for _, all := range entryModel.Partition(h.operations) {
		if porcupine.CheckOperationsTimeout(entryModel, all, time.Minute) == porcupine.Ok {
			continue
		}
		ends := make([]int64, 0, len(all))
		for _, o := range all {
			ends = append(ends, o.Return)
		}
		slices.Sort(ends)
		entry, verdict := all[0].Input.(input).entry, "no order explains"
		var short, undone []porcupine.Operation
		for _, end := range ends {
			short = until(all, end)
			result := porcupine.CheckOperationsTimeout(entryModel, short, time.Minute)
			if result == porcupine.Ok {
				continue
			}
			if result == porcupine.Unknown {
				verdict = "it takes too long to find an order that explains"
			}
			undone = slices.DeleteFunc(slices.Clone(h.undone), func(o porcupine.Operation) bool { return o.Input.(input).entry != entry || o.Call > end })
			break
		}
		h.log(withoutEffectless(short))
		h.t.Log("any of these would explain it, had it been done, whatever the answer was:")
		h.log(suspects(short, undone))
		h.t.Errorf("seed %d: %s these answers about %s%s", seed, verdict, entry, drawn(short))
	}
}

// log logs operations in the order in which they were asked for.
func (h *history) log(operations []porcupine.Operation) {
	h.t.Helper()
	slices.SortFunc(operations, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, o := range operations {
		end := "open"
		if o.Return != math.MaxInt64 {
			end = time.Duration(o.Return).String()
		}
		h.t.Logf("%12v to %-12s %3d %s", time.Duration(o.Call), end, o.ClientId, describe(o.Input.(input), o.Output.(output)))
	}
}

// until returns the part of a history that is known at a time: what has no answer then may have been done or not.
func until(all []porcupine.Operation, end int64) []porcupine.Operation {
	var part []porcupine.Operation
	for _, o := range all {
		if o.Call > end {
			continue
		}
		if o.Return > end {
			o.Return, o.Output = math.MaxInt64, output{outcome: gotUnknown}
		}
		part = append(part, o)
	}
	return part
}

// withoutEffectless leaves out what changed nothing, as long as what is left has no explanation.
func withoutEffectless(all []porcupine.Operation) []porcupine.Operation {
	for i, o := range slices.Backward(all) {
		in, out := o.Input.(input), o.Output.(output)
		if in.verb != "read" && (out.outcome == gotDone || out.outcome == gotCreated || out.outcome == gotUnknown) {
			continue
		}
		if less := slices.Delete(slices.Clone(all), i, i+1); porcupine.CheckOperationsTimeout(entryModel, less, time.Second/4) == porcupine.Illegal {
			all = less
		}
	}
	return all
}

// suspects returns what was answered as not done and would explain a history, had it been.
func suspects(all, undone []porcupine.Operation) []porcupine.Operation {
	var found []porcupine.Operation
	for i, o := range slices.Concat(all, undone) {
		in, out := o.Input.(input), o.Output.(output)
		if in.verb == "read" || slices.Contains([]string{gotDone, gotCreated, gotUnknown}, out.outcome) {
			continue
		}
		more := slices.Clone(all)
		if i < len(all) {
			more = slices.Delete(more, i, i+1)
		}
		open := o
		open.Return, open.Output = math.MaxInt64, output{outcome: gotUnknown}
		if porcupine.CheckOperationsTimeout(entryModel, append(more, open), time.Second/4) == porcupine.Ok {
			found = append(found, o)
		}
	}
	return found
}

// drawn draws a history into a file that stays, and says where.
func drawn(all []porcupine.Operation) string {
	file, err := os.CreateTemp("", "history-*.html") // not of the test: it is to be looked at after it
	if err != nil {
		return ""
	}
	defer file.Close()
	_, info := porcupine.CheckOperationsVerbose(entryModel, all, 10*time.Second)
	if porcupine.Visualize(entryModel, info, file) != nil {
		return ""
	}
	return "; drawn in " + file.Name()
}
