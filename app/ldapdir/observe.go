package ldapdir

import (
	"context"
	"errors"
	"time"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// What operations are called where they are observed, RFC 4511 §4.2 and what follows it.
const (
	opBind     = "bind"
	opSearch   = "search"
	opCompare  = "compare"
	opAdd      = "add"
	opModify   = "modify"
	opDelete   = "delete"
	opModifyDN = "modifydn"
	opExtended = "extended"
)

// Results of operations that got no answer: in time; because there was no connection, or it broke; because whoever
// asked has gone.
const (
	resultTimeout   = "timeout"
	resultLost      = "connection-lost"
	resultAbandoned = "abandoned"
)

// resultUnknown is a code that no RFC names.
const resultUnknown = "unknown"

// resultNames are the names of result codes, RFC 4511 appendix A, and of those that others added.
var resultNames = map[uint16]string{
	0: "success", 1: "operationsError", 2: "protocolError", 3: "timeLimitExceeded", 4: "sizeLimitExceeded",
	5: "compareFalse", 6: "compareTrue", 7: "authMethodNotSupported", 8: "strongerAuthRequired",
	10: "referral", 11: "adminLimitExceeded", 12: "unavailableCriticalExtension", 13: "confidentialityRequired", 14: "saslBindInProgress",
	16: "noSuchAttribute", 17: "undefinedAttributeType", 18: "inappropriateMatching", 19: "constraintViolation",
	20: "attributeOrValueExists", 21: "invalidAttributeSyntax",
	32: "noSuchObject", 33: "aliasProblem", 34: "invalidDNSyntax", 36: "aliasDereferencingProblem",
	48: "inappropriateAuthentication", 49: "invalidCredentials", 50: "insufficientAccessRights", 51: "busy", 52: "unavailable",
	53: "unwillingToPerform", 54: "loopDetect",
	64: "namingViolation", 65: "objectClassViolation", 66: "notAllowedOnNonLeaf", 67: "notAllowedOnRDN", 68: "entryAlreadyExists",
	69: "objectClassModsProhibited", 71: "affectsMultipleDSAs", 80: "other",
	118: "canceled", 119: "noSuchOperation", 120: "tooLate", 121: "cannotCancel", // RFC 3909
	122:  "assertionFailed",     // RFC 4528
	123:  "authorizationDenied", // RFC 4370
	4096: "syncRefreshRequired", // RFC 4533
}

// resultOf returns the name of what became of an operation.
func resultOf(err error) string {
	if err == nil {
		return resultNames[ldap.LDAPResultSuccess]
	}
	if lost, ok := errors.AsType[*lostError](err); ok {
		switch {
		case errors.Is(lost.cause, context.Canceled):
			return resultAbandoned
		case lost.timeout:
			return resultTimeout
		}
		return resultLost
	}
	if answer, ok := errors.AsType[*ldap.Error](err); ok {
		if name, ok := resultNames[answer.ResultCode]; ok {
			return name
		}
	}
	return resultUnknown
}

// observe tells whoever watches of an operation that has ended, or could not be begun for lack of a connection.
func (p *pool) observe(ctx context.Context, name string, begun time.Time, took time.Duration, err error) {
	if p.options.Observe != nil && !errors.Is(err, errRetired) {
		p.options.Observe(ctx, name, resultOf(err), begun, took)
	}
}

// counted is await, counted in the request's usage and observed.
func counted[T any](ctx context.Context, c *conn, name string, operation func(*ldap.Conn) (T, error)) (T, error) {
	begun := time.Now()
	value, err := await(ctx, c, operation)
	took := time.Since(begun)
	directory.UsageFrom(ctx).Add(took)
	c.pool.observe(ctx, name, begun, took, err)
	return value, err
}

// observed is await for what no request has asked for.
func observed[T any](ctx context.Context, c *conn, name string, operation func(*ldap.Conn) (T, error)) (T, error) {
	begun := time.Now()
	value, err := await(ctx, c, operation)
	c.pool.observe(ctx, name, begun, time.Since(begun), err)
	return value, err
}

// Lane is how much of a lane of connections, or of the places for sorted searches, is used at the moment.
type Lane struct {
	// Name is shared, paged, logins or sorted.
	Name string
	// InUse are the places that are taken: of the shared lane, the connections that something runs on. Idle are open
	// connections besides.
	InUse, Idle int
	// Waiting are those who wait for a place, or for a connection that is being opened.
	Waiting int
	// Limit is how many places there are.
	Limit int
}

// Lanes returns how much of each lane is used.
func (d *Directory) Lanes() []Lane {
	p := d.pool
	shared := Lane{Name: "shared", Waiting: int(p.waiting.Load()), Limit: len(p.shared)}
	for i := range p.shared {
		switch c := p.shared[i].conn.Load(); {
		case c == nil || !c.usable():
		case c.busy():
			shared.InUse++
		default:
			shared.Idle++
		}
	}
	lanes := []Lane{shared, p.paged.usage("paged"), p.logins.usage("logins"), d.sorts.usage("sorted")}
	return lanes
}

// HeldSearches returns how many searches are kept open between pages.
func (d *Directory) HeldSearches() int {
	d.held.mutex.Lock()
	defer d.held.mutex.Unlock()
	return len(d.held.walks)
}

func (l *lane) usage(name string) Lane {
	return Lane{Name: name, InUse: len(l.places), Waiting: int(l.waiting.Load()), Limit: cap(l.places)}
}

func (e *exclusive) usage(name string) Lane {
	u := e.places.usage(name)
	e.mutex.Lock()
	defer e.mutex.Unlock()
	u.Idle = len(e.idle)
	return u
}
