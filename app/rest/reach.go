package rest

import (
	"net/http"
	"time"

	"rollcall/app/directory"
)

const paramUser = "user"

// verdict is a [directory.Verdict] as clients see it.
type verdict struct {
	User    string        `json:"user"`
	Host    string        `json:"host"`
	Allowed bool          `json:"allowed"`
	Steps   []verdictStep `json:"steps"`
	Group   *verdictGroup `json:"group,omitempty"`
	Keys    []verdictKey  `json:"keys"`
}

type verdictStep struct {
	Step    string `json:"step"`
	Holds   bool   `json:"holds"`
	Message string `json:"message"`
}

type verdictGroup struct {
	Name       string   `json:"name"`
	Everywhere bool     `json:"everywhere"`
	UserPath   []string `json:"userPath"`
	HostPath   []string `json:"hostPath"`
}

type verdictKey struct {
	Fingerprint string     `json:"fingerprint"`
	Usable      bool       `json:"usable"`
	Wrong       string     `json:"wrong,omitempty"`
	ExpiresAt   *time.Time `json:"expiresAt,omitempty"`
}

func verdictOf(v directory.Verdict) verdict {
	shown := verdict{User: v.User, Host: v.Host, Allowed: v.Allowed, Steps: []verdictStep{}, Keys: []verdictKey{}}
	for _, step := range v.Steps {
		shown.Steps = append(shown.Steps, verdictStep{step.Name, step.Holds, step.Message})
	}
	if v.Shared != nil {
		shown.Group = &verdictGroup{v.Shared.Group, v.Shared.Everywhere, v.Shared.UserPath, append([]string{}, v.Shared.HostPath...)}
	}
	for _, key := range v.Keys {
		one := verdictKey{Fingerprint: key.Fingerprint, Usable: key.Wrong == "", Wrong: key.Wrong}
		if !key.Expires.IsZero() {
			one.ExpiresAt = &key.Expires
		}
		shown.Keys = append(shown.Keys, one)
	}
	return shown
}

// mayLogIn answers with whether a user may log in to a host, and why.
func (a *api) mayLogIn(w http.ResponseWriter, r *http.Request) error {
	parameters, err := a.parameters(r, paramUser, paramHost)
	if err != nil {
		return err
	}
	for _, name := range []string{paramUser, paramHost} {
		if parameters.Get(name) == "" {
			return badQuery("%s is required: the name of a %s.", name, name)
		}
	}
	v, err := a.Reach.Verdict(r.Context(), parameters.Get(paramUser), parameters.Get(paramHost))
	if err != nil {
		return err
	}
	return answerJSON(w, r, http.StatusOK, verdictOf(v))
}

// reached answers with who may log in to a host, or where a user may, with all who share a group.
func (e entries) reached(w http.ResponseWriter, r *http.Request) error {
	name, err := variable(r, "name")
	if err != nil {
		return err
	}
	if _, err := e.parameters(r); err != nil {
		return err
	}
	ask := e.Reach.HostsOf
	if e.kind.Name == directory.KindHosts {
		ask = e.Reach.UsersOf
	}
	verdicts, err := ask(r.Context(), name)
	if err != nil {
		return err
	}
	shown := make([]verdict, len(verdicts))
	for i, v := range verdicts {
		shown[i] = verdictOf(v)
	}
	return answerJSON(w, r, http.StatusOK, shown)
}
