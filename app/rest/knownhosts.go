package rest

import (
	"net/http"
	"time"

	"rollcall/app/directory"
)

const typeText = "text/plain"

// paramHost names a host.
const paramHost = "host"

// knownHosts answers with the keys of hosts, for GlobalKnownHostsFile and KnownHostsCommand of ssh_config(5). A name
// that no host can have is no error: ssh gives up when the command fails, and the key may be known from elsewhere.
func (e entries) knownHosts(w http.ResponseWriter, r *http.Request) error {
	if err := acceptsText(r); err != nil {
		return err
	}
	parameters, err := e.parameters(r, paramHost)
	if err != nil {
		return err
	}
	known := directory.NewKnownHosts(time.Now())
	if parameters.Has(paramHost) {
		if parameters.Get(paramHost) == "" {
			return badQuery("host must be the name or the address of a host. Leave it out for all hosts.")
		}
		known = known.Only(parameters.Get(paramHost))
	}
	return e.stream(w, r, e.guest, known.Query(e.kind), format{
		mediaType: typePlain, begin: asItIs, end: asItIs,
		entry: func(b []byte, host directory.Entry, _ bool) []byte { return known.Append(b, host) },
	})
}
