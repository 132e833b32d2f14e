package rest

import (
	"net/http"
	"slices"

	"github.com/getkin/kin-openapi/openapi3"

	"rollcall/app/directory"
)

const (
	schemaSSHKey     = "SSHKey"
	schemaSSHKeyForm = "SSHKeyAddition"
)

var (
	// sampleFingerprints are of keys that the sample directory has.
	sampleFingerprints = map[string]string{
		directory.KindUsers: "SHA256:ZP4pT+m/s9Y18BQHvg8KxEmkFw6Tpa1i5nERynjxbmc",
		directory.KindHosts: "SHA256:BXjeUXImqF+WxTldjorN1/OABy9GcU4LtdFOcBZ5UDE",
	}
	// sampleKeys are keys that it does not have.
	sampleKeys = map[string]example{
		directory.KindUsers: {directory.FieldKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKsxHgzN4ky9Tal82AMXJw/BXASQrgNy6qQiZd8nBZTH alice@laptop", directory.FieldExpiresAt: "2099-12-31T23:59:59Z"},
		directory.KindHosts: {directory.FieldKey: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHyeFCkfLiBzrvsp8MDyxS5/VrOnMTIgiH+k9SBRApA1 web1"},
	}
)

// keySchemas are what bodies about keys are made of.
func keySchemas() openapi3.Schemas {
	shown := object("An SSH public key of an entry.", properties{
		"fingerprint": text("SHA-256, as ssh-keygen -l shows it."),
		"type":        text("Such as ssh-ed25519."),
		"bits":        integer("Its length, as ssh-keygen -l shows it."),
		"comment":     text("What follows the key in its line."),
		"options":     list("Those before the type, each as it is written there (sshd(8)).", text("")),
		"addedAt":     moment("When it was added through the API, where that is known. Whoever may change the entry may write another time there."),
		"expiresAt":   moment("The earliest expiry-time of its options. One without a zone is the host's local time, and shown as if it were UTC."),
		"expired":     boolean("Whether it is certainly over: in all time zones, where its expiry-time names none. Also true where that is no time, for sshd refuses the key then."),
		"usable":      boolean("Whether it may be used to log in."),
		"reason":      text("Why not; reads on from the fingerprint."),
		"key":         text("The line for authorized_keys."),
	}, "fingerprint", "type", "bits", "comment", "options", "expired", "usable", "key")
	shown.Value.Example = example{"fingerprint": "SHA256:ogMBQnOUaqV5RQmFNAmGj2uo76VDWBkekNGMzJRERsM", "type": "ssh-ed25519", "bits": 256, "comment": "alice@laptop",
		"options": []any{`expiry-time="20991231235959Z"`}, "addedAt": "2026-01-31T12:00:00Z", "expiresAt": "2099-12-31T23:59:59Z", "expired": false, "usable": true,
		"key": `expiry-time="20991231235959Z" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKsxHgzN4ky9Tal82AMXJw/BXASQrgNy6qQiZd8nBZTH alice@laptop added=2026-01-31T12:00:00Z`}
	form := formSchema("A key to be added.", directory.SSHKeyForm)
	form.Value.Properties[directory.FieldExpiresAt].Value.Nullable = true
	return openapi3.Schemas{schemaSSHKey: shown, schemaSSHKeyForm: form}
}

func moment(description string) schema { return of(openapi3.NewDateTimeSchema(), description) }

// keyOperations describe what can be done with the keys of the kind's entries.
func (e entries) keyOperations() map[string]documented {
	if _, ok := e.kind.Field(directory.FieldSSHPublicKeys); !ok {
		return nil
	}
	one, title, path := e.kind.Singular, entryOf(e.kind), "/"+e.kind.Name+"/{name}/keys"
	key := openapi3.Content{typeJSON: media(refTo(schemaSSHKey))}
	write := slices.Concat(callerCodes, writeCodes, findCodes, []*directory.Code{directory.Stale})
	condition := []*openapi3.Parameter{headerParameter("If-Match", "The ETag of the "+one+" that is meant."), dryRunParameter()}
	return map[string]documented{
		"GET " + path: {id: "list" + title + "Keys", summary: "List the SSH keys of a " + one,
			description: "Values of `sshPublicKeys` that are no keys are not among them.",
			answers:     map[int]*openapi3.Response{http.StatusOK: answered("Its keys.", openapi3.Content{typeJSON: media(list("", refTo(schemaSSHKey)))})},
			codes:       slices.Concat(callerCodes, findCodes, []*directory.Code{directory.NotAcceptable})},
		"POST " + path: {id: "add" + title + "Key", summary: "Add an SSH key",
			description: "The others stay as they are. A weak key, an authority and a key that somebody else has are refused. `expiresAt` becomes the option `expiry-time`, which sshd enforces.",
			parameters:  condition,
			request:     openapi3.Content{typeJSON: media(refTo(schemaSSHKeyForm), sampleKeys[e.kind.Name])},
			answers: map[int]*openapi3.Response{
				http.StatusCreated: withHeaders(answered("The key, under the "+one+"'s ETag.", key), headerETag, headerLocation),
				http.StatusOK:      answered("What a dry run would change.", planContent()),
			},
			codes: slices.Concat(write, bodyCodes, []*directory.Code{directory.AlreadyExists})},
		"GET " + path + "/{fingerprint}": {id: "read" + title + "Key", summary: "Read an SSH key",
			description: "By its fingerprint.",
			answers:     map[int]*openapi3.Response{http.StatusOK: answered("The key.", key)},
			codes:       slices.Concat(callerCodes, findCodes, []*directory.Code{directory.NotAcceptable})},
		"DELETE " + path + "/{fingerprint}": {id: "remove" + title + "Key", summary: "Remove an SSH key",
			description: "Every line of the " + one + " that holds it. The others stay as they are.",
			parameters:  condition,
			answers:     orPlanned(http.StatusNoContent, answered("It is gone.", nil)), codes: write},
	}
}
