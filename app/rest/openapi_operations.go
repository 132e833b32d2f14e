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
	// callerCodes come from finding out who is calling, and what they may do.
	callerCodes = []*directory.Code{
		directory.CredentialsRequired, directory.InvalidCredentials, directory.InvalidToken, directory.PasswordExpired, directory.PasswordMustChange,
		directory.Forbidden, directory.TooManyLogins,
	}
	// directoryCodes come from any use of the directory server.
	directoryCodes = []*directory.Code{directory.Internal, directory.Unavailable, directory.Timeout}
	// writeCodes come from changing something.
	writeCodes = []*directory.Code{
		directory.BadRequest, directory.NotAcceptable, directory.Busy, directory.ProtectedEntry, directory.UnsupportedByDirectory, directory.OutcomeUnknown,
	}
	// conditionCodes come from changing an entry as a whole.
	conditionCodes = []*directory.Code{directory.Stale, directory.PreconditionRequired, directory.NotFound, directory.Ambiguous}
	// bodyCodes come from reading a body, and what it holds.
	bodyCodes = []*directory.Code{directory.BadRequest, directory.RequestTimeout, directory.BodyTooLarge, directory.UnsupportedMediaType, directory.Invalid}
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
		"GET /docs": {id: "docs", tag: tagService, open: true, summary: "This document as a page to try it out on",
			answers: map[int]*openapi3.Response{http.StatusOK: answered("A page.", openapi3.Content{typeHTML: media(text(""))})}, codes: []*directory.Code{directory.NotAcceptable}},
		"GET /docs/access": {id: "access", tag: tagService, open: true, summary: "Who may do what", description: "A browser gets a page.",
			answers: page(schemaAccess, "The table that decides."), codes: []*directory.Code{directory.NotAcceptable}},
		"GET /openapi.json": {id: "openapiJSON", tag: tagService, open: true, summary: "This document as JSON", description: "With the fields that this deployment has.",
			answers: answers(http.StatusOK, "OpenAPI 3.0.3.", object("", nil)), codes: []*directory.Code{directory.NotAcceptable}},
		"GET /openapi.yaml": {id: "openapiYAML", tag: tagService, open: true, summary: "This document as YAML", description: "With the fields that this deployment has.",
			answers: map[int]*openapi3.Response{http.StatusOK: answered("OpenAPI 3.0.3.", openapi3.Content{typeYAML: media(object("", nil))})},
			codes:   []*directory.Code{directory.NotAcceptable}},
		"GET /.well-known/jwks.json": {id: "keys", tag: tagLogin, open: true, summary: "The public keys that access tokens can be verified with", description: "May be kept for five minutes.",
			answers: answers(http.StatusOK, "A JSON Web Key Set.", refTo(schemaKeySet)), codes: []*directory.Code{directory.NotAcceptable}},

		"POST /login": {id: "login", tag: tagLogin, open: true, summary: "Log in with a name and a password", description: "Failed logins are counted by name and by address.",
			request: openapi3.Content{typeJSON: media(refTo(schemaLoginForm), sampleLogin)},
			answers: answers(http.StatusOK, "An access token, and one to get the next with.", refTo(schemaLogin)),
			codes: slices.Concat(bodyCodes, directoryCodes, []*directory.Code{directory.NotAcceptable, directory.InvalidCredentials,
				directory.PasswordExpired, directory.PasswordMustChange, directory.TooManyLogins})},
		"POST /refresh": {id: "refresh", tag: tagLogin, open: true, summary: "Get the next tokens",
			description: "A refresh token is good for one use. One that is used again ends the session.",
			request:     openapi3.Content{typeJSON: media(refTo(schemaRefresh), example{"refresh_token": "…"})},
			answers:     answers(http.StatusOK, "The next pair of tokens.", refTo(schemaLogin)),
			codes:       slices.Concat(bodyCodes, directoryCodes, []*directory.Code{directory.NotAcceptable, directory.InvalidToken})},
		"DELETE /logout": {id: "logout", tag: tagLogin, summary: "End the session",
			description: "The session that the token belongs to ends, and its tokens with it.",
			answers:     map[int]*openapi3.Response{http.StatusNoContent: answered("It has ended.", nil)},
			codes:       slices.Concat(callerCodes, directoryCodes)},
		"GET /me": {id: "me", tag: tagLogin, summary: "Who one is, and what one may do", description: "The entry, the roles of its groups, and what they may do.",
			answers: answers(http.StatusOK, "One's own entry.", &openapi3.SchemaRef{Value: &openapi3.Schema{AllOf: openapi3.SchemaRefs{
				refTo("User"), object("", properties{
					"roles": list("", oneOf("", directory.RoleAdmin, directory.RoleOperator, directory.RoleReader)),
					"may":   list("", object("", properties{"action": text(""), "kind": text(""), "extent": text("")}, "action", "kind", "extent")),
				}, "roles", "may")}}}),
			codes: slices.Concat(callerCodes, directoryCodes, []*directory.Code{directory.NotAcceptable, directory.NotFound})},
	}
	for _, kind := range a.Kinds {
		maps.Copy(all, entries{a, kind}.operations())
	}
	return all
}

// operations describe what can be done with entries of the kind.
func (e entries) operations() map[string]documented {
	kind, path := e.kind, "/"+e.kind.Name
	one, many, title := kind.Singular, kind.Name, entryOf(kind)
	sample := sampleEntry(kind)
	conditional := slices.Concat(callerCodes, directoryCodes, writeCodes, conditionCodes)
	all := map[string]documented{
		"GET " + path: {id: "list" + title + "s", summary: "List " + many + ", or find some",
			description: "A page of at most `limit` entries as JSON, with a `Link` to the next. As NDJSON (an entry a line), CSV or LDIF, and without a limit, everything that matches is streamed.",
			parameters:  e.listParameters(),
			answers: map[int]*openapi3.Response{http.StatusOK: withHeaders(answered("Those that match.", openapi3.Content{
				typeJSON: media(list("", refTo(title))), typeNDJSON: media(refTo(title)), typeCSV: media(text("A header, then an entry a line.")),
				typeLDIF: media(text("A record for each entry, in the directory's own terms.")),
			}), headerLink, headerTotal)},
			codes: slices.Concat(callerCodes, directoryCodes, []*directory.Code{directory.BadRequest, directory.Invalid, directory.NotAcceptable,
				directory.CursorLost, directory.TooManyResults, directory.UnsupportedByDirectory})},
		"POST " + path: {id: "create" + title, summary: "Create a " + one + ", or many",
			description: "Of NDJSON, one is created from each line, and the answer has a line for each.",
			parameters:  []*openapi3.Parameter{dryRunParameter(), onErrorParameter()},
			request:     openapi3.Content{typeJSON: media(requiring(kind, ""), sample), typeNDJSON: media(requiring(kind, ""))},
			answers: withBulk(map[int]*openapi3.Response{
				http.StatusOK:      answered("Of a dry run, what would be changed; of lines, the results.", planContent()),
				http.StatusCreated: withHeaders(answered("The new "+one+".", openapi3.Content{typeJSON: media(refTo(title))}), headerETag, headerLocation),
			}),
			codes: slices.Concat(callerCodes, directoryCodes, writeCodes, bodyCodes, passwordCodes(kind), []*directory.Code{directory.AlreadyExists, directory.LastAdmin})},
		"PUT " + path: {id: "put" + title + "s", summary: "Create and replace many " + many,
			description: "Each line of NDJSON creates an entry, or replaces the one of that name. The answer has a line for each, in order.",
			parameters:  []*openapi3.Parameter{dryRunParameter(), onErrorParameter()},
			request:     openapi3.Content{typeNDJSON: media(requiring(kind, ""))},
			answers:     withBulk(map[int]*openapi3.Response{http.StatusOK: answered("The results.", openapi3.Content{typeLDIF: media(text("Of a dry run, the changes."))})}),
			codes:       slices.Concat(callerCodes, directoryCodes, []*directory.Code{directory.BadRequest, directory.NotAcceptable, directory.UnsupportedMediaType})},
		"GET " + path + "/{name}": {id: "read" + title, summary: "Read a " + one,
			description: "Who may not read all of it gets a part, or 403.",
			parameters:  []*openapi3.Parameter{headerParameter("If-None-Match", "The ETag of what the client has already.")},
			answers: map[int]*openapi3.Response{
				http.StatusOK:          withHeaders(answered("The "+one+".", openapi3.Content{typeJSON: media(refTo(title))}), headerETag),
				http.StatusNotModified: withHeaders(answered("What the client has is still current.", nil), headerETag),
			},
			codes: slices.Concat(callerCodes, directoryCodes, []*directory.Code{directory.NotAcceptable, directory.NotFound, directory.Ambiguous})},
		"PUT " + path + "/{name}": {id: "replace" + title, summary: "Replace a " + one + ", or create it",
			description: "Fields that are left out are removed, but for accountLocked, memberOfs and write-only fields, which stay as they are.",
			parameters:  conditionParameters(headerParameter("If-None-Match", "`*` only creates.")),
			request:     openapi3.Content{typeJSON: media(requiring(kind, kind.Key), without(sample, kind.Key))},
			answers: map[int]*openapi3.Response{
				http.StatusOK:      withHeaders(answered("The "+one+" as it is now, or what a dry run would change.", orPlan(refTo(title))), headerETag),
				http.StatusCreated: withHeaders(answered("The new "+one+".", openapi3.Content{typeJSON: media(refTo(title))}), headerETag, headerLocation),
			},
			codes: slices.Concat(conditional, bodyCodes, passwordCodes(kind), []*directory.Code{directory.AlreadyExists, directory.LastAdmin})},
		"PATCH " + path + "/{name}": {id: "change" + title, summary: "Change a " + one,
			description: "By a merge patch (RFC 7396), as application/json too, or a JSON Patch (RFC 6902). It holds for the entry as it is read for it, or not at all.",
			parameters:  conditionParameters(),
			request: openapi3.Content{
				typeMergePatch: media(refTo(patchOf(kind)), samplePatches[kind.Name]), typeJSON: media(refTo(patchOf(kind)), samplePatches[kind.Name]),
				typeJSONPatch: media(refTo(schemaJSONPatch), sampleJSONPatches[kind.Name]),
			},
			answers: map[int]*openapi3.Response{http.StatusOK: withHeaders(answered("The "+one+" as it is now, or what a dry run would change.", orPlan(refTo(title))), headerETag)},
			codes:   slices.Concat(conditional, bodyCodes, passwordCodes(kind), []*directory.Code{directory.PatchConflict, directory.LastAdmin})},
		"DELETE " + path + "/{name}": {id: "delete" + title, summary: "Delete a " + one,
			description: "References to it go with it.",
			parameters:  conditionParameters(),
			answers:     orPlanned(http.StatusNoContent, answered("It is gone.", nil)),
			codes:       slices.Concat(conditional, []*directory.Code{directory.HasChildren, directory.LastAdmin})},
		"POST " + path + "/{name}/rename": {id: "rename" + title, summary: "Rename a " + one,
			description: "Its id, its memberships and what it owns stay.",
			parameters:  conditionParameters(),
			request:     openapi3.Content{typeJSON: media(renameSchema(kind), example{kind.Key: sampleNewNames[kind.Name]})},
			answers: map[int]*openapi3.Response{http.StatusOK: withHeaders(answered("The "+one+" by its new name, or what a dry run would change.", orPlan(refTo(title))),
				headerETag, headerLocation)},
			codes: slices.Concat(conditional, bodyCodes, []*directory.Code{directory.AlreadyExists})},
	}
	if _, ok := kind.Field(directory.FieldUserPassword); ok {
		all["PUT "+path+"/{name}/password"] = documented{id: "set" + title + "Password", summary: "Set a password",
			description: "One's own with the current one, by the directory's policy; another's without, which admins may.",
			parameters:  []*openapi3.Parameter{dryRunParameter()},
			request:     openapi3.Content{typeJSON: media(refTo(schemaPassword), example{directory.FieldNewPassword: samplePassword})},
			answers: map[int]*openapi3.Response{
				http.StatusNoContent: answered("It is set.", nil),
				http.StatusOK:        answered("The password that was made up, or what a dry run would change.", orPlan(refTo(schemaGenerated))),
			},
			codes: slices.Concat(callerCodes, directoryCodes, writeCodes, bodyCodes, passwordCodes(kind),
				[]*directory.Code{directory.NotFound, directory.Ambiguous})}
	}
	if _, ok := kind.Field(directory.FieldMembers); ok {
		members := slices.Concat(callerCodes, directoryCodes, writeCodes, []*directory.Code{directory.NotFound, directory.Ambiguous, directory.Stale, directory.Invalid})
		all["GET "+path+"/{name}/members"] = documented{id: "list" + title + "Members", summary: "List the direct members of a " + one,
			description: "Their DNs, of whatever kind they are.",
			parameters:  []*openapi3.Parameter{headerParameter("If-None-Match", "The ETag of what the client has already.")},
			answers: map[int]*openapi3.Response{
				http.StatusOK:          withHeaders(answered("Their DNs.", openapi3.Content{typeJSON: media(list("", text("")))}), headerETag),
				http.StatusNotModified: withHeaders(answered("What the client has is still current.", nil), headerETag),
			},
			codes: slices.Concat(callerCodes, directoryCodes, []*directory.Code{directory.NotAcceptable, directory.NotFound, directory.Ambiguous})}
		all["PUT "+path+"/{name}/members/{kind}/{member}"] = documented{id: "add" + title + "Member", summary: "Add a member",
			description: "One that is a member already stays one.",
			parameters:  []*openapi3.Parameter{headerParameter("If-Match", "The ETag of the "+one+" that is meant."), dryRunParameter()},
			answers:     orPlanned(http.StatusNoContent, answered("It is a member.", nil)), codes: members}
		all["DELETE "+path+"/{name}/members/{kind}/{member}"] = documented{id: "remove" + title + "Member", summary: "Remove a member",
			description: "What is none stays none.",
			parameters:  []*openapi3.Parameter{headerParameter("If-Match", "The ETag of the "+one+" that is meant."), dryRunParameter()},
			answers:     orPlanned(http.StatusNoContent, answered("It is no member.", nil)), codes: append(slices.Clip(members), directory.LastAdmin)}
	}
	for name, o := range all {
		o.tag = kind.Name
		all[name] = o
	}
	return all
}

// passwordCodes come from passwords, where the kind has them.
func passwordCodes(kind *directory.Kind) []*directory.Code {
	if _, ok := kind.Field(directory.FieldUserPassword); ok {
		return []*directory.Code{directory.PasswordRefused}
	}
	return nil
}

func (e entries) listParameters() []*openapi3.Parameter {
	limit := openapi3.NewIntegerSchema().WithMin(1).WithMax(maxLimit).WithDefault(defaultLimit)
	parameters := []*openapi3.Parameter{
		openapi3.NewQueryParameter(paramFilter).WithSchema(openapi3.NewStringSchema()).
			WithDescription("Of fields, in the grammar of RFC 7644 §3.4.2.2, such as `" + sampleFilters[e.kind.Name] + "`."),
		openapi3.NewQueryParameter(paramSearch).WithSchema(openapi3.NewStringSchema()).
			WithDescription("Words that the entry's names begin with."),
		openapi3.NewQueryParameter(paramFields).WithSchema(openapi3.NewStringSchema()).
			WithDescription("The fields to show, separated by commas."),
		openapi3.NewQueryParameter(paramSort).WithSchema(openapi3.NewStringSchema()).
			WithDescription("Fields to sort by, separated by commas; `-` before one turns it round."),
		openapi3.NewQueryParameter(paramLimit).WithSchema(limit).WithDescription("The most entries of a page."),
		openapi3.NewQueryParameter(paramCount).WithSchema(openapi3.NewBoolSchema().WithDefault(false)).WithDescription("Whether to count all that match, for X-Total-Count."),
		openapi3.NewQueryParameter(paramCursor).WithSchema(openapi3.NewStringSchema()).
			WithDescription("A place in a list, from the Link of the page before. It stands alone."),
	}
	return parameters
}

func conditionParameters(more ...*openapi3.Parameter) []*openapi3.Parameter {
	return append([]*openapi3.Parameter{headerParameter("If-Match", "The ETag of the state that is meant: of any other, nothing is changed."), dryRunParameter()}, more...)
}

func dryRunParameter() *openapi3.Parameter {
	return openapi3.NewQueryParameter(paramDryRun).WithSchema(openapi3.NewBoolSchema().WithDefault(false)).
		WithDescription("Whether only to say what would be changed.")
}

func onErrorParameter() *openapi3.Parameter {
	return openapi3.NewQueryParameter(paramOnError).WithSchema(oneOf("", onErrorContinue, onErrorStop).Value.WithDefault(onErrorContinue)).
		WithDescription("Of lines, what becomes of those after one that failed.")
}

func headerParameter(name, description string) *openapi3.Parameter {
	return openapi3.NewHeaderParameter(name).WithSchema(openapi3.NewStringSchema()).WithDescription(description)
}

// media is a body, with an example where there is one.
func media(schema schema, example ...any) *openapi3.MediaType {
	body := &openapi3.MediaType{Schema: schema}
	if len(example) > 0 {
		body.Example = example[0]
	}
	return body
}

func answered(description string, content openapi3.Content) *openapi3.Response {
	return openapi3.NewResponse().WithDescription(description).WithContent(content)
}

func answers(status int, description string, schema schema) map[int]*openapi3.Response {
	return map[int]*openapi3.Response{status: answered(description, openapi3.Content{typeJSON: media(schema)})}
}

// page is a document that browsers get as a page. Without a name it is the list of errors.
func page(name, description string) map[int]*openapi3.Response {
	document := refTo(name)
	if name == "" {
		document = list("", refTo(schemaErrorCode))
	}
	return map[int]*openapi3.Response{http.StatusOK: answered(description, openapi3.Content{typeJSON: media(document), typeHTML: media(text("A page."))})}
}

func withHeaders(response *openapi3.Response, names ...string) *openapi3.Response {
	response.Headers = openapi3.Headers{}
	for _, name := range names {
		response.Headers[name] = headerRef(name)
	}
	return response
}

// orPlan is a document or, of a dry run, a plan.
func orPlan(document schema) openapi3.Content {
	content := planContent()
	content[typeJSON] = media(&openapi3.SchemaRef{Value: &openapi3.Schema{AnyOf: openapi3.SchemaRefs{refTo(schemaPlan), document}}})
	return content
}

func planContent() openapi3.Content {
	return openapi3.Content{typeJSON: media(refTo(schemaPlan)), typeLDIF: media(text("Of a dry run, the changes."))}
}

// orPlanned is an answer without a body or, of a dry run, a plan.
func orPlanned(status int, response *openapi3.Response) map[int]*openapi3.Response {
	return map[int]*openapi3.Response{status: response, http.StatusOK: answered("What a dry run would change.", planContent())}
}

// withBulk adds the results of lines to a success.
func withBulk(answers map[int]*openapi3.Response) map[int]*openapi3.Response {
	answers[http.StatusOK].Content[typeNDJSON] = media(refTo(schemaBulk))
	return answers
}

func renameSchema(kind *directory.Kind) schema {
	return formSchema("The new name.", renamingForm(kind))
}
