package rest

import (
	"net/http"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"

	"rollcall/app/directory"
)

// reachOperations describe what says who gets in where, and by which keys.
func reachOperations() map[string]documented {
	onlyAllowed := openapi3.NewQueryParameter(paramAllowed).WithSchema(openapi3.NewBoolSchema().WithDefault(false)).
		WithDescription("Whether only those are wanted whom nothing keeps out, such as `true`.")
	return map[string]documented{
		"GET /hosts/known_hosts": {id: "listKnownHosts", tag: directory.KindHosts, summary: "The keys of hosts, for ssh",
			description: "A line for each key of each host, as sshd(8) has it under SSH_KNOWN_HOSTS FILE FORMAT, streamed.",
			parameters: []*openapi3.Parameter{openapi3.NewQueryParameter(paramHost).WithSchema(openapi3.NewStringSchema()).
				WithDescription("Only the host with this name or address, such as `web1`: what %H of ssh_config(5) stands for.")},
			answers: map[int]*openapi3.Response{http.StatusOK: answered("The lines; none where there are none.", openapi3.Content{
				typeText: media(text("Names, type and key."), sampleKnownHost)})},
			codes: slices.Concat(callerCodes, []*directory.Code{directory.BadRequest, directory.NotAcceptable, directory.TooManyResults})},

		"GET /authkeys": {id: "authorizedKeys", tag: tagReach, summary: "The keys by which a user may log in to a host now",
			description: "For AuthorizedKeysCommand of sshd_config(5). Nothing allowed is an empty answer; a directory that can't be asked is 503. " +
				"It takes the host's own token, a network of `ssh.trusted_networks`, or somebody who may read all users, groups and hosts.",
			parameters: []*openapi3.Parameter{
				given(paramUsername, "The login name, letter by letter: %u of sshd_config(5).", "bob"), given(paramHost, "The name of the host.", "web1"),
				openapi3.NewQueryParameter(paramFingerprint).WithSchema(openapi3.NewStringSchema()).
					WithDescription("Only the key with this fingerprint: %f of sshd_config(5), such as `SHA256:xZuTLpFGg3pFz8XJbfz1aMtbbwCGQXQZg6ZTBp0Xb1Y`."),
			},
			answers: map[int]*openapi3.Response{http.StatusOK: answered("Lines of authorized_keys; none where nothing is allowed.", openapi3.Content{
				typeText: media(text("Options, type, key and comment."), "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOF78gNmJ1IDuVd4lV98KUh+OH8/Tz6yO6UGo87/sjJq bob\n")})},
			codes: slices.Concat(callerCodes, []*directory.Code{directory.BadRequest, directory.Invalid, directory.NotAcceptable, directory.Ambiguous, directory.TooManyResults, directory.UnsupportedByDirectory})},
		"GET /access": {id: "mayLogIn", tag: tagReach, summary: "Whether a user may log in to a host, and why",
			description: "Step by step, each with a sentence. That there is no such user or host is an answer too.",
			parameters:  []*openapi3.Parameter{given(paramUser, "The name of the user.", "bob"), given(paramHost, "The name of the host.", "web1")},
			answers:     answers(http.StatusOK, "Yes or no, and why.", refTo(schemaVerdict)),
			codes:       slices.Concat(callerCodes, []*directory.Code{directory.BadRequest, directory.Invalid, directory.NotAcceptable, directory.Ambiguous, directory.TooManyResults, directory.UnsupportedByDirectory})},
		"GET /hosts/{name}/users": {id: "listHostUsers", tag: directory.KindHosts, summary: "Who shares a group with a host, and may log in or not",
			description: "All users who share a group with it, also those whom something else keeps out, each with why.",
			parameters:  []*openapi3.Parameter{onlyAllowed},
			answers:     answers(http.StatusOK, "A verdict for each.", list("", refTo(schemaVerdict))),
			codes:       slices.Concat(callerCodes, findCodes, []*directory.Code{directory.BadRequest, directory.NotAcceptable, directory.TooManyResults, directory.UnsupportedByDirectory})},
		"GET /users/{name}/hosts": {id: "listUserHosts", tag: directory.KindUsers, summary: "Which hosts share a group with a user, and let them in or not",
			description: "All hosts that share a group with the user, each with why.",
			parameters:  []*openapi3.Parameter{onlyAllowed},
			answers:     answers(http.StatusOK, "A verdict for each.", list("", refTo(schemaVerdict))),
			codes:       slices.Concat(callerCodes, findCodes, []*directory.Code{directory.BadRequest, directory.NotAcceptable, directory.TooManyResults, directory.UnsupportedByDirectory})},
		"POST /hosts/{name}/token": {id: "createHostToken", tag: directory.KindHosts, summary: "Give a host a token",
			description: "In the place of the one that it has had, which is good no more. It is good for asking for the authorized keys of that host, and for known hosts.",
			answers:     answers(http.StatusCreated, "The token, shown this once.", refTo(schemaHostToken)),
			codes: slices.Concat(callerCodes, findCodes, []*directory.Code{directory.BadRequest, directory.NotAcceptable,
				directory.UnsupportedByDirectory, directory.OutcomeUnknown})},
		"DELETE /hosts/{name}/token": {id: "removeHostToken", tag: directory.KindHosts, summary: "Revoke the token of a host",
			description: "Where it has none, nothing is done.",
			answers:     map[int]*openapi3.Response{http.StatusNoContent: answered("It has none.", nil)},
			codes:       slices.Concat(callerCodes, findCodes, []*directory.Code{directory.BadRequest, directory.UnsupportedByDirectory, directory.OutcomeUnknown})},
	}
}

// given is a parameter that has to be given.
func given(name, description, sample string) *openapi3.Parameter {
	parameter := openapi3.NewQueryParameter(name).WithSchema(openapi3.NewStringSchema()).WithDescription(description).WithRequired(true)
	parameter.Example = sample
	return parameter
}

// reachSchemas are what answers about logins to hosts are made of.
func reachSchemas() openapi3.Schemas {
	path := func(description string) schema { return list(description, text("The name of a group.")) }
	return openapi3.Schemas{
		schemaVerdict: object("Whether a user may log in to a host.", properties{
			"user": text("The user's name."), "login": text("The name of the user's account on hosts."), "host": text("The host's name."), "allowed": boolean("Whether the user may."),
			"steps": list("What it takes, each as it was found.", object("", properties{
				"step":  oneOf("What was looked at.", "user", "host", "account", "group", "key"),
				"holds": boolean("Whether it is as it must be."), "message": text("The same in a sentence, with what is missing."),
			}, "step", "holds", "message")),
			"group": object("The group that allows it, where one does.", properties{
				"name": text("Its name."), "everywhere": boolean("Whether it allows logging in to every host (`ssh.everywhere_groups`)."),
				"userPath": path("From the group that the user is in to that one."), "hostPath": path("From the group that the host is in to that one."),
			}, "name", "everywhere", "userPath", "hostPath"),
			"keys": list("The user's keys.", object("", properties{
				"fingerprint": text("SHA-256, as ssh-keygen -l shows it."), "usable": boolean("Whether it may be used."),
				"reason": text("Why not; reads on from the fingerprint."), "expiresAt": moment("When it expires, where it does."),
			}, "fingerprint", "usable")),
		}, "user", "host", "allowed", "steps", "keys"),
		schemaHostToken: object("A host's token.", properties{"host": text("The host's name."), "token": text("To be sent as Authorization: Bearer.")}, "host", "token"),
	}
}

const (
	tagReach        = "ssh"
	schemaVerdict   = "LoginVerdict"
	schemaHostToken = "HostToken"
)

const sampleKnownHost = "web1,192.0.2.10,2001:db8::10 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBE2qUwx5TywhFPHdi10VVB+nLKvWYqMF1mk9WD+0hNX\n"
