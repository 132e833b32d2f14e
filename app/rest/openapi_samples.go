package rest

import (
	"maps"
	"net/http"

	"rollcall/app/directory"
)

// example is a JSON object that shows how something is said. Those here work on the sample directory.
type example map[string]any

const (
	samplePassword  = "higher-further-faster"
	sampleRequestID = "V67SF7OTYQSCRX3IOYF3I4B76D"
	sampleETag      = `"20260131120000.000000Z#000000#000#000000.5f2c9d1ab3e0.91c4a7d20b6f"`
)

var (
	sampleLogin = example{"username": "alice", "password": "alice-password"}

	sampleNames    = map[string]string{directory.KindUsers: "alice", directory.KindGroups: "devs", directory.KindHosts: "web1"}
	sampleNewNames = map[string]string{directory.KindUsers: "alice2", directory.KindGroups: "developers", directory.KindHosts: "web3"}
	sampleFilters  = map[string]string{
		directory.KindUsers:  `sn sw "L" and not (accountLocked eq true)`,
		directory.KindGroups: `members eq "users/alice"`,
		directory.KindHosts:  `ipAddresses pr or location co "Amsterdam"`,
	}
	sampleSearches = map[string]string{directory.KindUsers: "ali", directory.KindGroups: "dev", directory.KindHosts: "web"}
	sampleEntries  = map[string]example{
		directory.KindUsers:  {"cn": "carol", "uid": "carol", "sn": "Danvers", "givenName": "Carol", "mail": "carol@example.org", "memberOfs": []string{"groups/devs"}},
		directory.KindGroups: {"cn": "pilots", "description": "Those who fly", "members": []string{"users/alice"}},
		directory.KindHosts:  {"cn": "hangar1", "location": "Hangar 1", "ipAddresses": []string{"192.0.2.90"}, "owners": []string{"users/alice"}},
	}
	samplePatches = map[string]example{
		directory.KindUsers:  {"title": "Captain", "mobile": nil},
		directory.KindGroups: {"description": "Those who fly"},
		directory.KindHosts:  {"location": "Hangar 1"},
	}
	sampleJSONPatches = map[string][]example{
		directory.KindUsers:  {{"op": "test", "path": "/sn", "value": "Liddell"}, {"op": "add", "path": "/title", "value": "Captain"}},
		directory.KindGroups: {{"op": "add", "path": "/description", "value": "Those who fly"}},
		directory.KindHosts:  {{"op": "add", "path": "/ipAddresses/-", "value": "192.0.2.91"}},
	}
)

// sampleEntry is an entry of the kind that has all that is required.
func sampleEntry(kind *directory.Kind) example {
	sample := maps.Clone(sampleEntries[kind.Name])
	for i := range kind.Fields {
		f := &kind.Fields[i]
		if _, there := sample[f.Name]; there || !f.Required {
			continue
		}
		sample[f.Name] = "…"
		if f.Example != "" {
			sample[f.Name] = f.Example
		}
		if f.List {
			sample[f.Name] = []any{sample[f.Name]}
		}
	}
	return sample
}

// moreSamples are entries of the same kind by other names.
func moreSamples(sample example) []any {
	var all []any
	for _, prefix := range []string{"one-", "two-"} {
		another := maps.Clone(sample)
		for _, name := range []string{"cn", "uid", "mail"} {
			if value, ok := another[name].(string); ok {
				another[name] = prefix + value
			}
		}
		all = append(all, another)
	}
	return all
}

// shownExample is an entry of the kind as answers show it.
func shownExample(kind *directory.Kind) example {
	shown := example{}
	for i := range kind.Fields {
		f := &kind.Fields[i]
		switch {
		case f.WriteOnly, f.Example == "" && !f.List:
		case f.List && f.Example == "":
			shown[f.Name] = []any{}
		case f.List:
			shown[f.Name] = []any{exampleOf(f)}
		default:
			shown[f.Name] = exampleOf(f)
		}
	}
	return shown
}

// sampleCSV is an entry of the kind in a list of names.
func sampleCSV(kind *directory.Kind) string {
	key, _ := kind.Field(kind.Key)
	return kind.Key + "\r\n" + key.Example + "\r\n"
}

// unnamed is a sample without its name.
func unnamed(sample example, key string) example {
	rest := maps.Clone(sample)
	delete(rest, key)
	return rest
}

func sampleProblem(code *directory.Code) problem {
	return problem{Type: "/errors/" + code.Name, Title: code.Title, Status: code.Status, Detail: code.Remedy, Instance: "/users/alice",
		Code: code.Name, RequestID: sampleRequestID}
}

// sampleAnswers are examples of what is answered, by the name of the schema.
func sampleAnswers() map[string]any {
	change := example{"dn": "cn=alice,ou=people,dc=example,dc=org", "change": "modify", "modifications": []any{
		example{"operation": "replace", "type": "title", "values": []any{"Captain"}},
	}}
	return map[string]any{
		schemaErrorCode: example{"code": directory.NotFound.Name, "status": directory.NotFound.Status, "title": directory.NotFound.Title,
			"remedy": directory.NotFound.Remedy, "type": "/errors/" + directory.NotFound.Name},
		schemaViolation: example{"field": "mail", "message": "must be a mail address"},
		schemaPlan:      example{"dryRun": true, "status": http.StatusOK, "askedDirectory": true, "changes": []any{change}},
		schemaRecord:    change,
		schemaBulk: example{"line": 1, "status": http.StatusCreated, "name": "carol", "location": "http://127.0.0.1:8080/users/carol",
			"etag": sampleETag},
		schemaGenerated: example{directory.FieldNewPassword: "K7QXA-m2vhd-RT5WE-zqlc6f"},
		schemaReadiness: example{"status": "ready", "checks": []any{example{"name": "directory", "ok": true}}},
		schemaIndex: example{"name": "Rollcall", "version": "1.0.0", "login": "POST /login, or HTTP Basic",
			"links": example{"users": "http://127.0.0.1:8080/users", "docs": "http://127.0.0.1:8080/docs"}},
		schemaKeySet: example{"keys": []any{example{"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
			"kid": "hWvjJ4ZpOaXAnr9xQ2mCvg", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}},
		schemaAccess: example{"extents": []any{example{"extent": "own", "description": directory.Own.Describe()}},
			"rules": []any{example{"action": directory.ActionRead, "kind": directory.KindUsers, "roles": example{"admin": "all", "self": "own"}}}},
	}
}
