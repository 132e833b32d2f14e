package rest

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"rollcall/app/directory"
)

// Names of schemas that are referred to.
const (
	schemaProblem   = "Problem"
	schemaViolation = "Violation"
	schemaErrorCode = "ErrorCode"
	schemaPlan      = "Plan"
	schemaRecord    = "Record"
	schemaBulk      = "BulkResult"
	schemaLogin     = "Login"
	schemaKeySet    = "KeySet"
	schemaAccess    = "Access"
	schemaJSONPatch = "JSONPatch"
	schemaLoginForm = "LoginRequest"
	schemaRefresh   = "RefreshRequest"
	schemaPassword  = "PasswordChange"
	schemaGenerated = "GeneratedPassword"
	schemaReadiness = "Readiness"
	schemaIndex     = "Index"
	schemaMe        = "Me"
	schemaFailure   = "Failure"
	schemaBulkLine  = "BulkLine"
)

// schema is a schema that stands where it is used, or a reference to one that has a name.
type schema = *openapi3.SchemaRef

// properties are those of an object.
type properties map[string]schema

// schemas are all that bodies are made of, by name.
func (a *api) schemas() openapi3.Schemas {
	pointer := text("A JSON pointer (RFC 6901).")
	all := openapi3.Schemas{
		schemaProblem: object("A problem document (RFC 9457).", properties{
			"type":       text("Where the error is explained."),
			"title":      text("What happened, for any occurrence."),
			"status":     integer("The HTTP status."),
			"detail":     text("What happened this time, or what to do."),
			"instance":   text("The path of the request."),
			"code":       text("A code of the catalogue."),
			"requestId":  text("What the log calls the request."),
			"violations": list("The fields at fault.", refTo(schemaViolation)),
		}, "type", "title", "status", "instance", "code", "requestId"),
		schemaViolation: object("What is wrong with a field.", properties{
			"field":   text("The field's name, as it was sent."),
			"message": text("What is wrong with it; reads on from the field's name."),
		}, "field", "message"),
		schemaErrorCode: object("A row of the error catalogue.", properties{
			"code": text(""), "status": integer("The HTTP status."), "title": text("What happened."),
			"remedy": text("What to do."), "type": text("Where it is explained."),
		}, "code", "status", "title", "remedy", "type"),
		schemaPlan: object("What a request would do.", properties{
			"dryRun":         boolean("True."),
			"status":         integer("What the request would be answered with."),
			"askedDirectory": boolean("Whether the directory server was asked as well, and would make the first change."),
			"changes":        list("In the order in which they would be made.", refTo(schemaRecord)),
		}, "dryRun", "status", "askedDirectory", "changes"),
		schemaRecord: object("A change to the directory in LDAP's terms, as a record of LDIF has it.", properties{
			"dn":     text("The entry's DN."),
			"change": oneOf("What is done to the entry.", directory.ChangeAdd, directory.ChangeModify, directory.ChangeDelete, directory.ChangeRename),
			"attributes": list("Of an entry that is added.", object("", properties{
				"type": text("The attribute type."), "values": list("", text("")), "secret": boolean("Whether there are values that are not shown."),
			})),
			"modifications": list("Of an entry that is changed.", object("", properties{
				"operation": text("add, delete or replace"), "type": text("The attribute type."), "values": list("", text("")), "secret": boolean("Whether there are values that are not shown."),
			})),
			"newRDN": text("The relative DN that the entry is given."),
		}, "dn"),
		schemaBulk: object("The answer to one line.", properties{
			"line": integer("The number of the line, from 1."), "status": integer("The HTTP status that it would have by itself."),
			"name": text("The entry's name."), "location": text("Where the entry is, if it is new."), "etag": text("The entry's ETag."),
			"problem": refTo(schemaProblem), "dryRun": boolean("True in a dry run."), "askedDirectory": boolean("As in Plan."),
			"changes": list("As in Plan.", refTo(schemaRecord)),
		}, "line", "status"),
		schemaLogin: object("A login (RFC 6749 §5.1).", properties{
			"access_token": text("To be sent as Authorization: Bearer."), "token_type": text("Bearer"),
			"expires_in": integer("Seconds until the access token expires."), "refresh_token": text("For POST /refresh, once."),
			"user":                a.userSchema(),
			"password_expires_in": integer("Seconds until the password expires, where the directory warns."),
			"grace_logins":        integer("Logins that are left with an expired password."),
		}, "access_token", "token_type", "expires_in", "refresh_token", "user"),
		schemaMe: {Value: &openapi3.Schema{Description: "Oneself.", AllOf: openapi3.SchemaRefs{a.userSchema(), object("", properties{
			"roles": list("The roles of one's groups.", oneOf("", directory.RoleAdmin, directory.RoleOperator, directory.RoleReader)),
			"may": list("What the roles may do.", object("", properties{
				"action": text("As in GET /docs/access."), "kind": text("The kind of entries."), "extent": text("How far it goes."),
			}, "action", "kind", "extent")),
		}, "roles", "may")}}},
		schemaFailure:  object("The last line of what broke off: it is not whole.", properties{"error": refTo(schemaProblem)}, "error"),
		schemaBulkLine: anyOf("A line: a result or, at the end of what broke off, why.", refTo(schemaBulk), refTo(schemaFailure)),
		schemaKeySet: object("A JSON Web Key Set (RFC 7517 §5).", properties{"keys": list("", object("A public key.", properties{
			"kty": text("OKP"), "crv": text("Ed25519"), "x": text("The key, base64url."), "kid": text("As in the header of tokens."),
			"alg": text("EdDSA"), "use": text("sig"),
		}, "kty", "kid"))}, "keys"),
		schemaLoginForm: formSchema("What to log in with.", loginForm), schemaRefresh: formSchema("A refresh token.", refreshForm),
		schemaPassword:  formSchema("One's own password takes currentPassword and newPassword; another's takes newPassword, or generate.", passwordForm),
		schemaGenerated: object("A password that was made up.", properties{directory.FieldNewPassword: text("Shown this once.")}, directory.FieldNewPassword),
		schemaJSONPatch: list("RFC 6902. What an operation has no use for is ignored.", anyOf("",
			open(object("", properties{"op": oneOf("", "add", "replace", "test"), "path": pointer, "value": {Value: &openapi3.Schema{Description: "Any value."}}}, "op", "path", "value")),
			open(object("", properties{"op": oneOf("", "remove"), "path": pointer}, "op", "path")),
			open(object("", properties{"op": oneOf("", "copy", "move"), "path": pointer, "from": pointer}, "op", "path", "from")))),
		schemaAccess: object("Who may do what.", properties{
			"extents": list("What the extents mean.", object("", properties{"extent": text(""), "description": text("")}, "extent", "description")),
			"rules": list("The table that decides.", object("", properties{
				"action": text(""), "kind": text(""), "roles": mapOf("How far each role may go.", text("An extent.")),
			}, "action", "kind", "roles")),
		}, "extents", "rules"),
		schemaReadiness: object("What is needed to serve requests.", properties{
			"status": text("ok, or ready"),
			"checks": list("What was looked at.", object("", properties{"name": text(""), "ok": boolean("")}, "name", "ok")),
		}, "status"),
		schemaIndex: object("What this is.", properties{
			"name": text("Rollcall"), "version": text(""), "login": text("How one logs in."), "links": mapOf("Where to go.", text("An address.")),
		}, "name", "version", "login", "links"),
	}
	maps.Copy(all, keySchemas())
	maps.Copy(all, reachSchemas())
	maps.Copy(all, nestedSchemas())
	for name, example := range sampleAnswers() {
		all[name].Value.Example = example
	}
	for _, kind := range a.Kinds {
		all[entryOf(kind)] = shownSchema("A "+kind.Singular+".", kind, directory.FieldDN, kind.Key)
		all[entryOf(kind)].Value.Example = shownExample(kind)
		all[listedOf(kind)] = shownSchema("A "+kind.Singular+" in a list: of its fields those that were asked for, or all.", kind)
		all[inputOf(kind)] = inputSchema("A "+kind.Singular+" as it is sent.", kind, required(kind))
		all[replacementOf(kind)] = inputSchema("A "+kind.Singular+" as it is sent to its own address. Its name may be left out.", kind, without(required(kind), kind.Key))
		all[patchOf(kind)] = inputSchema("What is named changes; null removes (RFC 7396).", kind, nil)
		all[renamingOf(kind)] = formSchema("The new name.", renamingForm(kind))
		all[streamedOf(kind)] = anyOf("A line: an entry or, at the end of what broke off, why.", refTo(listedOf(kind)), refTo(schemaFailure))
	}
	return all
}

// userSchema refers to users, where the API has them.
func (a *api) userSchema() schema {
	for _, kind := range a.Kinds {
		if kind.Name == directory.KindUsers {
			return refTo(entryOf(kind))
		}
	}
	return anything()
}

// entryOf is the name of a kind's schema.
func entryOf(kind *directory.Kind) string {
	return strings.ToUpper(kind.Singular[:1]) + kind.Singular[1:]
}

func listedOf(kind *directory.Kind) string { return entryOf(kind) + "Listed" }

func inputOf(kind *directory.Kind) string { return entryOf(kind) + "Input" }

func replacementOf(kind *directory.Kind) string { return entryOf(kind) + "Replacement" }

func patchOf(kind *directory.Kind) string { return entryOf(kind) + "Patch" }

func renamingOf(kind *directory.Kind) string { return entryOf(kind) + "Renaming" }

func streamedOf(kind *directory.Kind) string { return entryOf(kind) + "Line" }

// shownSchema is an entry as answers show it.
func shownSchema(description string, kind *directory.Kind, required ...string) schema {
	all := properties{}
	for i := range kind.Fields {
		if f := &kind.Fields[i]; !f.WriteOnly {
			shown := fieldSchema(f)
			shown.Value.ReadOnly = f.ReadOnly
			all[f.Name] = shown
		}
	}
	return object(description, all, required...)
}

// inputSchema is an entry, or a change to one, as requests have it. What was read may be sent back as a whole, and null
// is no value.
func inputSchema(description string, kind *directory.Kind, required []string) schema {
	all := properties{}
	for i := range kind.Fields {
		f := &kind.Fields[i]
		sent := fieldSchema(f)
		sent.Value.ReadOnly, sent.Value.WriteOnly, sent.Value.Nullable = f.ReadOnly, f.WriteOnly, !f.Required && !f.ReadOnly
		all[f.Name] = sent
	}
	return closed(object(description, all, required...))
}

// required are the fields that a new entry must have.
func required(kind *directory.Kind) []string {
	var names []string
	for i := range kind.Fields {
		if f := &kind.Fields[i]; f.Required {
			names = append(names, f.Name)
		}
	}
	return names
}

func without(names []string, name string) []string {
	return slices.DeleteFunc(names, func(n string) bool { return n == name })
}

func formSchema(description string, form *directory.Kind) schema {
	all := properties{}
	var required []string
	for i := range form.Fields {
		f := &form.Fields[i]
		all[f.Name] = fieldSchema(f)
		if f.Required {
			required = append(required, f.Name)
		}
	}
	return closed(object(description, all, required...))
}

// fieldSchema is what a field holds.
func fieldSchema(f *directory.Field) schema {
	value := openapi3.NewStringSchema()
	switch {
	case f.Type == directory.Boolean:
		value = openapi3.NewBoolSchema()
	case f.Type == directory.Integer:
		value = openapi3.NewIntegerSchema()
	case f.Type == directory.Timestamp:
		value.Format = "date-time"
	case f.Name == directory.FieldUserPassword:
		value.Format = "password"
	}
	if f.Example != "" {
		value.Example = exampleOf(f)
	}
	if f.List {
		value.Example = nil
		value = openapi3.NewArraySchema().WithItems(value)
		if f.Example != "" {
			value.Example = []any{f.Example}
		}
	}
	value.Description = f.Description
	return &openapi3.SchemaRef{Value: value}
}

func exampleOf(f *directory.Field) any {
	switch f.Type {
	case directory.Boolean:
		return f.Example == directory.True
	case directory.Integer:
		n, _ := strconv.Atoi(f.Example) // of our own tables
		return n
	}
	return f.Example
}

// named refers to a schema by its name.
func refTo(name string) schema {
	return &openapi3.SchemaRef{Ref: "#/components/schemas/" + name, Value: &openapi3.Schema{}}
}

func text(description string) schema { return of(openapi3.NewStringSchema(), description) }

func integer(description string) schema { return of(openapi3.NewIntegerSchema(), description) }

func boolean(description string) schema { return of(openapi3.NewBoolSchema(), description) }

func list(description string, item schema) schema {
	all := openapi3.NewArraySchema()
	all.Items = item
	return of(all, description)
}

func oneOf[T ~string](description string, values ...T) schema {
	value := openapi3.NewStringSchema()
	for _, v := range values {
		value.Enum = append(value.Enum, string(v))
	}
	return of(value, description)
}

func mapOf(description string, value schema) schema {
	all := openapi3.NewObjectSchema()
	all.AdditionalProperties = openapi3.AdditionalProperties{Schema: value}
	return of(all, description)
}

func object(description string, all properties, required ...string) schema {
	value := openapi3.NewObjectSchema()
	value.Required = required
	for name, property := range all {
		value.WithPropertyRef(name, property)
	}
	return of(value, description)
}

// anything is an object of whatever kind.
func anything() schema { return open(object("", nil)) }

// open has an object take what it does not name.
func open(object schema) schema { return taking(object, true) }

// closed has an object refuse what it does not name.
func closed(object schema) schema { return taking(object, false) }

func taking(object schema, more bool) schema {
	object.Value.AdditionalProperties = openapi3.AdditionalProperties{Has: &more}
	return object
}

func anyOf(description string, choices ...schema) schema {
	return of(&openapi3.Schema{AnyOf: choices}, description)
}

func of(value *openapi3.Schema, description string) schema {
	value.Description = strings.TrimSpace(description)
	return &openapi3.SchemaRef{Value: value}
}
