package rest

import (
	"maps"
	"net/http"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"

	"rollcall/app/directory"
)

// operations describe what can be done with entries of the kind.
func (e entries) operations() map[string]documented {
	kind, path := e.kind, "/"+e.kind.Name
	one, many, title := kind.Singular, kind.Name, entryOf(kind)
	sample := sampleEntry(kind)
	conditional := slices.Concat(callerCodes, writeCodes, conditionCodes)
	lastAdmin := lastAdminCodes(kind)
	more := moreSamples(sample)
	entry := openapi3.Content{typeJSON: media(refTo(title))}
	all := map[string]documented{
		"GET " + path: {id: "list" + title + "s", summary: "List " + many + ", or find some",
			description: "A page of at most `limit` entries as JSON, with a `Link` to the next. As NDJSON (an entry a line), CSV or LDIF, and without a limit, everything that matches is streamed.",
			parameters:  e.listParameters(),
			answers: map[int]*openapi3.Response{http.StatusOK: withHeadersIfAny(answered("Those that match.", openapi3.Content{
				typeJSON:   media(list("", refTo(listedOf(kind))), []any{shownExample(kind)}),
				typeNDJSON: lines("An entry a line.", streamedOf(kind), shownExample(kind)),
				typeCSV:    media(text("A header, then an entry a line."), sampleCSV(kind)),
				typeLDIF:   media(text("A record for each entry, in the directory's own terms.")),
			}), headerLink, headerTotal)},
			codes: slices.Concat(callerCodes, []*directory.Code{directory.BadRequest, directory.Invalid, directory.NotAcceptable,
				directory.CursorLost, directory.TooManyResults, directory.UnsupportedByDirectory})},
		"POST " + path: {id: "create" + title, summary: "Create a " + one + ", or many",
			description: "Of NDJSON, one is created from each line, and the answer has a line for each.",
			parameters:  []*openapi3.Parameter{dryRunParameter(), onErrorParameter()},
			request:     openapi3.Content{typeJSON: media(refTo(inputOf(kind)), sample), typeNDJSON: lines("An entry a line.", inputOf(kind), more...)},
			answers: map[int]*openapi3.Response{
				http.StatusOK:      answered("Of a dry run, what would be changed; of lines, the results.", orResults(planContent())),
				http.StatusCreated: withHeaders(answered("The new "+one+".", entry), headerETag, headerLocation),
			},
			codes: slices.Concat(callerCodes, writeCodes, bodyCodes, passwordCodes(kind), numberCodes(kind), []*directory.Code{directory.AlreadyExists})},
		"PUT " + path: {id: "put" + title + "s", summary: "Create and replace many " + many,
			description: "Each line of NDJSON creates an entry, or replaces the one of that name. The answer has a line for each, in order.",
			parameters:  []*openapi3.Parameter{dryRunParameter(), onErrorParameter()},
			request:     openapi3.Content{typeNDJSON: lines("An entry a line.", inputOf(kind), more...)},
			answers:     map[int]*openapi3.Response{http.StatusOK: answered("The results.", orResults(openapi3.Content{typeLDIF: media(text("Of a dry run, the changes."))}))},
			codes:       slices.Concat(loginCodes, []*directory.Code{directory.BadRequest, directory.NotAcceptable, directory.UnsupportedMediaType})},
		"GET " + path + "/{name}": {id: "read" + title, summary: "Read a " + one,
			description: "Who may not read all of it gets a part, or 403.",
			parameters:  []*openapi3.Parameter{headerParameter("If-None-Match", "The ETag of what the client has already.")},
			answers: map[int]*openapi3.Response{
				http.StatusOK:          withHeaders(answered("The "+one+".", entry), headerETag),
				http.StatusNotModified: withHeaders(answered("What the client has is still current.", nil), headerETag),
			},
			codes: slices.Concat(callerCodes, findCodes, []*directory.Code{directory.NotAcceptable})},
		"PUT " + path + "/{name}": {id: "replace" + title, summary: "Replace a " + one + ", or create it",
			description: replacing(kind),
			parameters:  conditionParameters(headerParameter("If-None-Match", "`*` only creates.")),
			request:     openapi3.Content{typeJSON: media(refTo(replacementOf(kind)), unnamed(sample, kind.Key))},
			answers: map[int]*openapi3.Response{
				http.StatusOK:      withHeadersIfAny(answered("The "+one+" as it is now, or what a dry run would change.", orPlan(refTo(title))), headerETag),
				http.StatusCreated: withHeaders(answered("The new "+one+".", entry), headerETag, headerLocation),
			},
			codes: slices.Concat(conditional, bodyCodes, passwordCodes(kind), numberCodes(kind), lastAdmin, []*directory.Code{directory.AlreadyExists})},
		"PATCH " + path + "/{name}": {id: "change" + title, summary: "Change a " + one,
			description: "By a merge patch (RFC 7396), as application/json too, or a JSON Patch (RFC 6902). It holds for the entry as it is read for it, or not at all.",
			parameters:  conditionParameters(),
			request: openapi3.Content{
				typeMergePatch: media(refTo(patchOf(kind)), samplePatches[kind.Name]), typeJSON: media(refTo(patchOf(kind)), samplePatches[kind.Name]),
				typeJSONPatch: media(refTo(schemaJSONPatch), sampleJSONPatches[kind.Name]),
			},
			answers: map[int]*openapi3.Response{http.StatusOK: withHeadersIfAny(answered("The "+one+" as it is now, or what a dry run would change.", orPlan(refTo(title))), headerETag)},
			codes:   slices.Concat(conditional, bodyCodes, passwordCodes(kind), numberCodes(kind), lastAdmin, []*directory.Code{directory.NotFound, directory.PatchConflict})},
		"DELETE " + path + "/{name}": {id: "delete" + title, summary: "Delete a " + one,
			description: "References to it go with it.",
			parameters:  conditionParameters(),
			answers:     orPlanned(http.StatusNoContent, answered("It is gone.", nil)),
			codes:       slices.Concat(conditional, lastAdmin, []*directory.Code{directory.NotFound, directory.HasChildren, directory.ProtectedEntry})},
		"POST " + path + "/{name}/rename": {id: "rename" + title, summary: "Rename a " + one,
			description: "Its id, its memberships and what it owns stay.",
			parameters:  conditionParameters(),
			request:     openapi3.Content{typeJSON: media(refTo(renamingOf(kind)), example{kind.Key: sampleNewNames[kind.Name]})},
			answers: map[int]*openapi3.Response{http.StatusOK: withHeadersIfAny(answered("The "+one+" by its new name, or what a dry run would change.", orPlan(refTo(title))),
				headerETag, headerLocation)},
			codes: slices.Concat(conditional, bodyCodes, []*directory.Code{directory.NotFound, directory.AlreadyExists, directory.ProtectedEntry})},
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
			codes: slices.Concat(callerCodes, writeCodes, bodyCodes, findCodes, passwordCodes(kind))}
	}
	if _, ok := kind.Field(directory.FieldMembers); ok {
		members := slices.Concat(callerCodes, writeCodes, findCodes, []*directory.Code{directory.NoSuchRoute, directory.Stale})
		all["PUT "+path+"/{name}/members/{kind}/{member}"] = documented{id: "add" + title + "Member", summary: "Add a member",
			description: "One that is a member already stays one.",
			parameters:  []*openapi3.Parameter{headerParameter("If-Match", "The ETag of the "+one+" that is meant."), dryRunParameter()},
			answers:     orPlanned(http.StatusNoContent, answered("It is a member.", nil)), codes: append(slices.Clip(members), directory.Invalid)}
		all["DELETE "+path+"/{name}/members/{kind}/{member}"] = documented{id: "remove" + title + "Member", summary: "Remove a member",
			description: "What is none stays none.",
			parameters:  []*openapi3.Parameter{headerParameter("If-Match", "The ETag of the "+one+" that is meant."), dryRunParameter()},
			answers:     orPlanned(http.StatusNoContent, answered("It is no member.", nil)), codes: append(slices.Clip(members), lastAdmin...)}
	}
	maps.Copy(all, e.keyOperations())
	maps.Copy(all, e.nestedOperations())
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

// replacing says what a replacement leaves as it is.
func replacing(kind *directory.Kind) string {
	kept := "accountLocked, memberOfs and write-only fields"
	if directory.NumberField(kind) != "" {
		kept = "accountLocked, memberOfs, write-only fields and those of Linux accounts"
	}
	return "Fields that are left out are removed, but for " + kept + ", which stay as they are."
}

// numberCodes come from numbers that are drawn, where the kind has them.
func numberCodes(kind *directory.Kind) []*directory.Code {
	if directory.NumberField(kind) != "" {
		return []*directory.Code{directory.NoNumberLeft}
	}
	return nil
}

// lastAdminCodes come from users, and the groups that make them admins.
func lastAdminCodes(kind *directory.Kind) []*directory.Code {
	if kind.Name == directory.KindHosts {
		return nil
	}
	return []*directory.Code{directory.LastAdmin}
}

func (e entries) listParameters() []*openapi3.Parameter {
	limit := openapi3.NewIntegerSchema().WithMin(1).WithMax(maxLimit).WithDefault(defaultLimit)
	parameters := []*openapi3.Parameter{
		openapi3.NewQueryParameter(paramFilter).WithSchema(openapi3.NewStringSchema()).
			WithDescription("Of fields, in the grammar of RFC 7644 §3.4.2.2, such as `" + sampleFilters[e.kind.Name] + "`."),
		openapi3.NewQueryParameter(paramSearch).WithSchema(openapi3.NewStringSchema()).
			WithDescription("Words that the entry's names begin with, such as `" + sampleSearches[e.kind.Name] + "`."),
		openapi3.NewQueryParameter(paramFields).WithSchema(openapi3.NewStringSchema()).
			WithDescription("The fields to show, separated by commas, such as `" + e.kind.Key + ",description`."),
		openapi3.NewQueryParameter(paramSort).WithSchema(openapi3.NewStringSchema()).
			WithDescription("Fields to sort by, separated by commas; `-` before one turns it round, such as `-" + e.kind.Key + "`."),
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
