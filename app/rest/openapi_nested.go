package rest

import (
	"maps"
	"net/http"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"

	"rollcall/app/directory"
)

const (
	schemaGroupPath = "GroupPath"
	schemaMember    = "Member"
)

var (
	sampleGroupPath = example{"name": "engineering", "dn": "cn=engineering,ou=groups,dc=example,dc=org", "direct": false, "path": []any{"devs", "engineering"}}
	sampleMember    = example{"kind": directory.KindUsers, "name": "alice", "dn": "cn=alice,ou=people,dc=example,dc=org", "direct": false, "path": []any{"devs"}}
)

// nestedSchemas are what bodies about memberships are made of.
func nestedSchemas() openapi3.Schemas {
	shown := func(path string) properties {
		return properties{
			"name": text("The name, as the key field has it."), "dn": text("The distinguished name."), "direct": boolean("Whether no other group is in between."),
			"path": list(path, text("")),
		}
	}
	member := shown("The names of the groups by which it holds, a shortest way: from below the group down to the one that has the member; none of a direct member.")
	member["kind"] = oneOf("What the member is.", directory.KindUsers, directory.KindGroups, directory.KindHosts)
	all := openapi3.Schemas{
		schemaGroupPath: object("A group that an entry is in.", shown("The names of the groups by which it holds, a shortest way: from the one that has the entry up to this one."),
			slices.Sorted(maps.Keys(sampleGroupPath))...),
		schemaMember: object("A member of a group.", member, slices.Sorted(maps.Keys(sampleMember))...),
	}
	all[schemaGroupPath].Value.Example, all[schemaMember].Value.Example = sampleGroupPath, sampleMember
	return all
}

// nestedOperations describe who is in which groups.
func (e entries) nestedOperations() map[string]documented {
	one, title, path := e.kind.Singular, entryOf(e.kind), "/"+e.kind.Name+"/{name}"
	nested := func(description string) *openapi3.Parameter {
		return openapi3.NewQueryParameter(paramNested).WithSchema(openapi3.NewBoolSchema().WithDefault(false)).WithDescription(description)
	}
	codes := slices.Concat(callerCodes, findCodes, []*directory.Code{directory.BadRequest, directory.NotAcceptable, directory.TooManyResults, directory.UnsupportedByDirectory})
	all := map[string]documented{}
	if _, ok := e.kind.Field(directory.FieldMemberOfs); ok {
		all["GET "+path+"/groups"] = documented{id: "list" + title + "Groups", summary: "List the groups that a " + one + " is in",
			description: "The nearest first, each with the way to it, as far as they may be seen.",
			parameters:  []*openapi3.Parameter{nested("Whether the groups that those are in count as well, such as `true`.")},
			answers: map[int]*openapi3.Response{http.StatusOK: answered("The groups.", openapi3.Content{
				typeJSON: media(list("", refTo(schemaGroupPath)), []any{sampleGroupPath})})},
			codes: codes}
	}
	if _, ok := e.kind.Field(directory.FieldMembers); ok {
		kind := openapi3.NewQueryParameter(paramKind).WithSchema(oneOf("", directory.KindUsers, directory.KindGroups, directory.KindHosts).Value).
			WithDescription("Only members that are of this kind, such as `users`.")
		all["GET "+path+"/members"] = documented{id: "list" + title + "Members", summary: "List the members of a " + one,
			description: "The DNs of the direct ones, of whatever kind they are. With a parameter, what they are and the way to each.",
			parameters: []*openapi3.Parameter{nested("Whether the members of the groups in it count as well, such as `true`."), kind,
				headerParameter("If-None-Match", "The ETag of what the client has already. It is for DNs.")},
			answers: map[int]*openapi3.Response{
				http.StatusOK: withHeadersIfAny(answered("Their DNs or, with a parameter, the members.", openapi3.Content{typeJSON: media(
					anyOf("", list("", text("")), list("", refTo(schemaMember))), []any{"cn=alice,ou=people,dc=example,dc=org"})}), headerETag),
				http.StatusNotModified: withHeaders(answered("What the client has is still current.", nil), headerETag),
			},
			codes: codes}
	}
	return all
}
