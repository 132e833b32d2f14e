package rest

import (
	"maps"

	"rollcall/app/directory"
)

// example is a JSON object that shows how something is said. Those here work on the sample directory.
type example map[string]any

const samplePassword = "higher-further-faster"

var (
	sampleLogin = example{"username": "alice", "password": "alice-password"}

	sampleNames    = map[string]string{directory.KindUsers: "alice", directory.KindGroups: "devs", directory.KindHosts: "web1"}
	sampleNewNames = map[string]string{directory.KindUsers: "alice2", directory.KindGroups: "developers", directory.KindHosts: "web3"}
	sampleFilters  = map[string]string{
		directory.KindUsers:  `sn sw "L" and not (accountLocked eq true)`,
		directory.KindGroups: `members eq "users/alice"`,
		directory.KindHosts:  `ipAddresses pr or location co "Amsterdam"`,
	}
	sampleEntries = map[string]example{
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

func without(sample example, name string) example {
	rest := maps.Clone(sample)
	delete(rest, name)
	return rest
}

func sampleProblem(code *directory.Code) problem {
	return problem{Type: "/errors/" + code.Name, Title: code.Title, Status: code.Status, Detail: code.Remedy, Instance: "/users/alice",
		Code: code.Name, RequestID: "V67SF7OTYQSCRX3IOYF3I4B76D"}
}
