package directory

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Code is one row of the error catalogue. Declaring one with newCode is all it takes to add it.
type Code struct {
	// Name is the code as clients see it, such as "not-found".
	Name string
	// Status is the HTTP status.
	Status int
	// Title says in a few words what happened, for any occurrence.
	Title string
	// Remedy says what the caller, or whoever runs the service, can do.
	Remedy string
	// RetryAfter is how long a client does well to wait; 0 where waiting does not help.
	RetryAfter time.Duration
}

var catalogue []*Code

func newCode(status int, name, title, remedy string) *Code {
	code := &Code{Name: name, Status: status, Title: title, Remedy: remedy}
	catalogue = append(catalogue, code)
	return code
}

func (c *Code) retryAfter(d time.Duration) *Code {
	c.RetryAfter = d
	return c
}

// Catalogue returns every code, by name.
func Catalogue() []*Code {
	return slices.SortedFunc(slices.Values(catalogue), func(a, b *Code) int { return strings.Compare(a.Name, b.Name) })
}

// What a caller did, or asked for.
var (
	BadRequest = newCode(400, "bad-request", "The request could not be understood",
		"Mend the path, the query, the headers or the body; the detail says what is wrong.")
	CredentialsRequired = newCode(401, "credentials-required", "Log in first",
		"Send a token, from POST /login, or a user name and a password by HTTP Basic.")
	InvalidCredentials = newCode(401, "invalid-credentials", "The user name or the password is wrong",
		"Check both. A locked account answers the same; an admin can see it in accountLocked.")
	InvalidToken = newCode(401, "invalid-token", "The token is not valid, or not any more",
		"Get a new one by POST /refresh, or log in again.")
	PasswordExpired = newCode(403, "password-expired", "The password has expired",
		"Ask an admin for a new one.")
	PasswordMustChange = newCode(403, "password-must-change", "The password must be changed first",
		"PUT /users/{name}/password with currentPassword and newPassword, by HTTP Basic; nothing else is open until then.")
	Forbidden = newCode(403, "forbidden", "You may not do this",
		"Ask an admin to do it, or to make you a member of a group that may.")
	ProtectedEntry = newCode(403, "protected-entry", "This entry is protected",
		"Entries listed in auth.protected, the admin group, and the groups of ssh.everywhere_groups, can't be deleted or renamed through the API.")
	NotFound = newCode(404, "not-found", "There is no such entry",
		"Check the name. A list of the collection shows what there is.")
	NoSuchRoute = newCode(404, "no-such-route", "There is nothing at this address",
		"Check the path, which ends without a slash. GET / names the collections.")
	MethodNotAllowed = newCode(405, "method-not-allowed", "This address does not take that method",
		"Use one of the methods in the Allow header.")
	NotAcceptable = newCode(406, "not-acceptable", "No such representation",
		"Accept what the detail names, or application/json.")
	RequestTimeout = newCode(408, "request-timeout", "The request took too long to arrive",
		"Send it again, faster. server.read_timeout is the limit.")
	AlreadyExists = newCode(409, "already-exists", "The name is taken",
		"Choose another name, or change the entry there is with PUT or PATCH.")
	HasChildren = newCode(409, "has-children", "Other entries lie below this one",
		"Remove the entries below it first, with an LDAP client.")
	Ambiguous = newCode(409, "ambiguous-name", "Several entries have this name",
		"Give each its own name with an LDAP client, or configure a key field that is unique.")
	LastAdmin = newCode(409, "last-admin", "Nobody would be left to administer the directory",
		"Add another unlocked user to the admin group first.")
	Busy = newCode(409, "busy", "Others keep changing this entry",
		"Try again.").retryAfter(time.Second)
	PatchConflict = newCode(409, "patch-conflict", "The patch does not fit the entry",
		"Read the entry again, and make a patch for what you find. The detail names the operation that does not fit, counted from 0.")
	Stale = newCode(412, "stale", "The entry is not in the state you named",
		"Read it again, apply your change to what you find, and send it with the new ETag.")
	CursorLost = newCode(410, "cursor-lost", "The list can't go on from that cursor",
		"Begin again without a cursor. Either every entry near the place is gone, through which sort= keeps places, or you may see other entries than before.")
	PreconditionRequired = newCode(428, "precondition-required", "Say which state of the entry you mean to change",
		"Send If-Match with the ETag that you read, or If-None-Match: * to create. server.require_if_match demands it.")
	BodyTooLarge = newCode(413, "body-too-large", "The request body is too large",
		"Send less at a time. server.max_body_bytes is the limit.")
	TooManyResults = newCode(413, "too-many-results", "The directory server stopped the search at its limit",
		"Ask for less, or give the service account \"size=unlimited\" in the server's limits.")
	UnsupportedMediaType = newCode(415, "unsupported-media-type", "The body is of a type this address does not take",
		"Send application/json; PATCH also takes application/merge-patch+json and application/json-patch+json.")
	Invalid = newCode(422, "invalid", "Some fields are not right",
		"Correct the fields named in violations.")
	NotAttempted = newCode(424, "not-attempted", "This line was not begun",
		"Mend the line that failed before it, and send this one again. onError=stop asks for that.")
	PasswordRefused = newCode(422, "password-refused", "The directory refused the password",
		"Choose a password that the directory's policy allows; violations says what it minded.")
	TooManyLogins = newCode(429, "too-many-logins", "Too many logins have failed",
		"Wait as long as Retry-After says. Failed logins are counted by name and by address.").retryAfter(time.Minute)
)

// What happened on our side.
var (
	Internal = newCode(500, "internal", "Something went wrong here",
		"Give the requestId to whoever runs this service: the log says more.")
	NoNumberLeft = newCode(507, "no-number-left", "All numbers for Linux accounts are given out",
		"Whoever runs this service raises posix.max. An admin can give an entry a number of their own meanwhile.")
	UnsupportedByDirectory = newCode(501, "unsupported-by-directory", "The directory server can't do this",
		"The detail names what it lacks.")
	Unavailable = newCode(503, "directory-unavailable", "The directory server can't be reached",
		"Try again in a moment.").retryAfter(2 * time.Second)
	OutcomeUnknown = newCode(503, "outcome-unknown", "It is not known whether the change was made",
		"Read the entry to see, then decide. The connection to the directory ended before it had answered.").retryAfter(2 * time.Second)
	Timeout = newCode(504, "directory-timeout", "The directory server took too long",
		"Try again, or ask for less. ldap.timeout and server.request_timeout are the limits.")
)

// Violation is one thing that is wrong with one field.
type Violation struct {
	Field   string `json:"field"`
	Message string `json:"message"`
}

// Error is how a Directory says no.
type Error struct {
	Code *Code
	// Detail is a sentence about this occurrence, fit for the caller's eyes; may be "".
	Detail string
	// Violations name the fields at fault.
	Violations []Violation
	// RetryAfter is how long to wait this time, where the code's is not it.
	RetryAfter time.Duration
	// Cause is for the log only.
	Cause error
}

// Error describes the error for the log.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Code.Name)
	if e.Detail != "" {
		fmt.Fprintf(&b, ": %s", e.Detail)
	}
	for _, v := range e.Violations {
		fmt.Fprintf(&b, "; %s %s", v.Field, v.Message)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, ": %v", e.Cause)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether err is of the given code.
func Is(err error, code *Code) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == code
}

// maxViolations is how many violations an error names.
const maxViolations = 100

// invalid returns an error for the violations, or nil where there are none.
func invalid(violations []Violation) error {
	switch n := len(violations); {
	case n == 0:
		return nil
	case n > maxViolations:
		return &Error{Code: Invalid, Violations: violations[:maxViolations],
			Detail: fmt.Sprintf("There are %d violations; these are the first %d.", n, maxViolations)}
	}
	return &Error{Code: Invalid, Violations: violations}
}
