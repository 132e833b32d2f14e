package rest

import (
	"context"
	"net/http"
	"time"

	"rollcall/app/directory"
)

const (
	paramUser    = "user"
	paramAllowed = "allowed"
)

// verdict is a [directory.Verdict] as clients see it.
type verdict struct {
	User    string        `json:"user"`
	Login   string        `json:"login,omitempty"`
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
	Fingerprint string    `json:"fingerprint"`
	Usable      bool      `json:"usable"`
	Reason      string    `json:"reason,omitempty"`
	ExpiresAt   time.Time `json:"expiresAt,omitzero"`
}

func verdictOf(v directory.Verdict) verdict {
	shown := verdict{User: v.User, Login: v.Login, Host: v.Host, Allowed: v.Allowed, Steps: []verdictStep{}, Keys: []verdictKey{}}
	for _, step := range v.Steps {
		shown.Steps = append(shown.Steps, verdictStep{step.Name, step.Holds, step.Message})
	}
	if v.Shared != nil {
		shown.Group = &verdictGroup{v.Shared.Group, v.Shared.Everywhere, v.Shared.UserPath, append([]string{}, v.Shared.HostPath...)}
	}
	for _, key := range v.Keys {
		shown.Keys = append(shown.Keys, verdictKey{key.Fingerprint, key.Reason == "", key.Reason, key.Expires})
	}
	return shown
}

// mayLogIn answers with whether a user may log in to a host, and why.
func (a *api) mayLogIn(w http.ResponseWriter, r *http.Request) error {
	parameters, err := a.parameters(r, paramUser, paramHost)
	if err != nil {
		return err
	}
	missing := &directory.Error{Code: directory.Invalid}
	for _, name := range []string{paramUser, paramHost} {
		if parameters.Get(name) == "" {
			missing.Violations = append(missing.Violations, directory.Violation{Field: name, Message: "is required"})
		}
	}
	if missing.Violations != nil {
		return missing
	}
	v, err := a.Reach.Verdict(r.Context(), parameters.Get(paramUser), parameters.Get(paramHost))
	if err != nil {
		return err
	}
	return answerJSON(w, r, http.StatusOK, verdictOf(v))
}

// reached answers with who may log in to a host, or where a user may: with all who share a group, or by allowed=true only
// with those whom nothing keeps out.
func (e entries) reached(w http.ResponseWriter, r *http.Request) error {
	name, err := e.nameOf(r)
	if err != nil {
		return err
	}
	parameters, err := e.parameters(r, paramAllowed)
	if err != nil {
		return err
	}
	allowed, err := isTrue(parameters, paramAllowed)
	if err != nil {
		return err
	}
	ask := e.Reach.HostsOf
	if e.kind.Name == directory.KindHosts {
		ask = e.Reach.UsersOf
	}
	ctx, cancel := context.WithTimeout(r.Context(), e.RequestTimeout) // each page has a time of its own
	defer cancel()
	verdicts, err := ask(ctx, name, allowed)
	if err != nil {
		return err
	}
	return e.streamPages(w, r, e.identified, verdicts.Next, listOf(func(other directory.Entry) any { return verdictOf(verdicts.On(other)) }))
}
