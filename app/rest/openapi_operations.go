package rest

import (
	"maps"
	"net/http"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"

	"rollcall/app/directory"
)

// Groups of operations that are about no kind.
const (
	tagLogin   = "login"
	tagService = "service"
)

const typeHTML = "text/html"

// The errors that operations have in common.
var (
	// directoryCodes come from any use of the directory server.
	directoryCodes = []*directory.Code{directory.Internal, directory.Unavailable, directory.Timeout}
	// loginCodes come from finding out who is calling.
	loginCodes = append([]*directory.Code{
		directory.CredentialsRequired, directory.InvalidCredentials, directory.InvalidToken, directory.PasswordExpired, directory.TooManyLogins,
	}, directoryCodes...)
	// callerCodes come from finding out who is calling, and what they may do.
	callerCodes = append([]*directory.Code{directory.PasswordMustChange, directory.Forbidden}, loginCodes...)
	// bodyCodes come from reading a body, and what it holds.
	bodyCodes = []*directory.Code{
		directory.BadRequest, directory.NotAcceptable, directory.RequestTimeout, directory.BodyTooLarge, directory.UnsupportedMediaType, directory.Invalid,
	}
	// writeCodes come from changing something.
	writeCodes = []*directory.Code{directory.BadRequest, directory.NotAcceptable, directory.Busy, directory.UnsupportedByDirectory, directory.OutcomeUnknown}
	// findCodes come from looking for an entry by its name.
	findCodes = []*directory.Code{directory.NotFound, directory.Ambiguous}
	// conditionCodes come from changing an entry as a whole.
	conditionCodes = []*directory.Code{directory.Stale, directory.PreconditionRequired, directory.Ambiguous}
)

// operations describe what can be done, by method and path.
func (a *api) operations() map[string]documented {
	all := map[string]documented{
		"GET /": {id: "index", tag: tagService, open: true, summary: "What this is, and where to go", description: "A browser gets a page.",
			answers: page(schemaIndex, "Links to all that there is."), codes: []*directory.Code{directory.NotAcceptable}},
		"GET /healthz": {id: "health", tag: tagService, open: true, summary: "Whether the process answers", description: "Answers as long as the process does, whatever the directory server does.",
			answers: answers(http.StatusOK, "It does.", refTo(schemaReadiness)), codes: []*directory.Code{directory.NotAcceptable}},
		"GET /readyz": {id: "readiness", tag: tagService, open: true, summary: "Whether requests can be served", description: "The directory server is asked. What is missing is named.",
			answers: answers(http.StatusOK, "They can.", refTo(schemaReadiness)), codes: []*directory.Code{directory.NotAcceptable, directory.Unavailable}},
		"GET /errors": {id: "listErrors", tag: tagService, open: true, summary: "The error catalogue", description: "A browser gets a page.",
			answers: page("", "Every code, by name."), codes: []*directory.Code{directory.NotAcceptable}},
		"GET /errors/{code}": {id: "readError", tag: tagService, open: true, summary: "An error, and what to do about it", description: "A browser gets a page.",
			answers: page(schemaErrorCode, "The code's row."), codes: []*directory.Code{directory.NotAcceptable, directory.NotFound}},
		"GET /docs": {id: "docs", tag: tagService, open: true, summary: "This document, for a browser as a page to try it out on", description: "With the fields that this deployment has.",
			answers: map[int]*openapi3.Response{http.StatusOK: answered("OpenAPI 3.0.3.", openapi3.Content{typeJSON: media(anything()), typeHTML: media(text("A page."))})},
			codes:   []*directory.Code{directory.NotAcceptable}},
		"GET /docs/access": {id: "access", tag: tagService, open: true, summary: "Who may do what", description: "A browser gets a page.",
			answers: page(schemaAccess, "The table that decides."), codes: []*directory.Code{directory.NotAcceptable}},
		"GET /openapi.json": {id: "openapiJSON", tag: tagService, open: true, summary: "This document as JSON", description: "With the fields that this deployment has.",
			answers: answers(http.StatusOK, "OpenAPI 3.0.3.", anything()), codes: []*directory.Code{directory.NotAcceptable}},
		"GET /openapi.yaml": {id: "openapiYAML", tag: tagService, open: true, summary: "This document as YAML", description: "With the fields that this deployment has.",
			answers: map[int]*openapi3.Response{http.StatusOK: answered("OpenAPI 3.0.3.", openapi3.Content{typeYAML: media(anything())})},
			codes:   []*directory.Code{directory.NotAcceptable}},
		"GET /.well-known/jwks.json": {id: "keys", tag: tagLogin, open: true, summary: "The public keys that access tokens can be verified with", description: "May be kept for five minutes.",
			answers: answers(http.StatusOK, "A JSON Web Key Set.", refTo(schemaKeySet)), codes: []*directory.Code{directory.NotAcceptable}},

		"POST /login": {id: "login", tag: tagLogin, open: true, summary: "Log in with a name and a password", description: "Failed logins are counted by name and by address.",
			request: openapi3.Content{typeJSON: media(refTo(schemaLoginForm), sampleLogin)},
			answers: answers(http.StatusOK, "An access token, and one to get the next with.", refTo(schemaLogin)),
			codes: slices.Concat(bodyCodes, directoryCodes, []*directory.Code{directory.InvalidCredentials,
				directory.PasswordExpired, directory.PasswordMustChange, directory.TooManyLogins})},
		"POST /refresh": {id: "refresh", tag: tagLogin, open: true, summary: "Get the next tokens",
			description: "A refresh token is good for one use. One that is used again ends the session.",
			request:     openapi3.Content{typeJSON: media(refTo(schemaRefresh), example{"refresh_token": "…"})},
			answers:     answers(http.StatusOK, "The next pair of tokens.", refTo(schemaLogin)),
			codes:       slices.Concat(bodyCodes, directoryCodes, []*directory.Code{directory.InvalidToken})},
		"DELETE /logout": {id: "logout", tag: tagLogin, summary: "End the session",
			description: "The session that the token belongs to ends, and its tokens with it.",
			answers:     map[int]*openapi3.Response{http.StatusNoContent: answered("It has ended.", nil)},
			codes:       loginCodes},
		"GET /me": {id: "me", tag: tagLogin, summary: "Who one is, and what one may do", description: "The entry, the roles of its groups, and what they may do.",
			answers: answers(http.StatusOK, "One's own entry.", refTo(schemaMe)),
			codes:   append([]*directory.Code{directory.NotAcceptable, directory.PasswordMustChange}, loginCodes...)},
	}
	for _, kind := range a.Kinds {
		maps.Copy(all, entries{a, kind}.operations())
	}
	maps.Copy(all, reachOperations())
	return all
}
