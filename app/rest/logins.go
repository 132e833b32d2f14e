package rest

import (
	"encoding/json"
	"net/http"

	"rollcall/app/auth"
	"rollcall/app/directory"
)

const maxSecretLength = 4096

// secret takes anything: what is wrong with it is for nobody to know.
func secret(string) string { return "" }

var (
	loginForm = directory.NewForm("login",
		directory.Field{Name: "username", Required: true, MaxLength: maxSecretLength, Syntax: secret},
		directory.Field{Name: "password", Required: true, MaxLength: maxSecretLength, Syntax: secret})
	refreshForm = directory.NewForm("refresh request",
		directory.Field{Name: "refresh_token", Required: true, MaxLength: maxSecretLength, Syntax: secret})
)

// loggedIn is the answer to a login (RFC 6749 §5.1).
type loggedIn struct {
	AccessToken  string          `json:"access_token"`
	TokenType    string          `json:"token_type"`
	ExpiresIn    int             `json:"expires_in"` // seconds, as all that follows
	RefreshToken string          `json:"refresh_token"`
	User         json.RawMessage `json:"user"`
	// PasswordExpiresIn and GraceLogins are there when the directory warns.
	PasswordExpiresIn int  `json:"password_expires_in,omitempty"`
	GraceLogins       *int `json:"grace_logins,omitempty"`
}

func (a *api) login(w http.ResponseWriter, r *http.Request) error {
	form, err := a.form(w, r, loginForm)
	if err != nil {
		return err
	}
	login, err := a.Logins.Login(r.Context(), auth.Credentials{
		Login: form["username"], Password: form["password"], Address: exchangeOf(r).address})
	if err != nil {
		return err
	}
	return a.answerLogin(w, r, login)
}

func (a *api) refresh(w http.ResponseWriter, r *http.Request) error {
	form, err := a.form(w, r, refreshForm)
	if err != nil {
		return err
	}
	login, err := a.Logins.Refresh(r.Context(), form["refresh_token"])
	if err != nil {
		return err
	}
	return a.answerLogin(w, r, login)
}

func (a *api) answerLogin(w http.ResponseWriter, r *http.Request, login auth.Login) error {
	exchangeOf(r).caller = login.Caller.Login
	user, err := a.own(r, login.Caller)
	if err != nil {
		return err
	}
	answer := loggedIn{
		AccessToken: login.Access, TokenType: "Bearer", ExpiresIn: int(login.ExpiresIn.Seconds()), RefreshToken: login.Refresh,
		User: appendEntry(nil, user), PasswordExpiresIn: int(login.Password.ExpiresIn.Seconds()),
	}
	if login.Password.Expired {
		answer.GraceLogins = &login.Password.GraceLogins
	}
	w.Header().Set("Pragma", "no-cache") // RFC 6749 §5.1
	return answerJSON(w, r, http.StatusOK, answer)
}

// logout ends the session that the caller's token belongs to. Without one there is nothing to end.
func (a *api) logout(w http.ResponseWriter, r *http.Request) error {
	if caller, _ := directory.CallerFrom(r.Context()); caller.Session != "" {
		if err := a.Logins.Logout(r.Context(), caller.Session); err != nil {
			return err
		}
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// me answers with the caller's own entry, its roles, and what they may do.
func (a *api) me(w http.ResponseWriter, r *http.Request) error {
	if err := acceptsJSON(r); err != nil {
		return err
	}
	caller, _ := directory.CallerFrom(r.Context())
	entry, err := a.own(r, caller)
	if err != nil {
		return err
	}
	type permission struct {
		Action directory.Action `json:"action"`
		Kind   string           `json:"kind"`
		Extent string           `json:"extent"`
	}
	more := struct {
		Roles []directory.Role `json:"roles"`
		May   []permission     `json:"may"`
	}{Roles: append([]directory.Role{}, caller.Roles...)}
	for _, p := range directory.Permissions(caller) {
		more.May = append(more.May, permission{p.Action, p.Kind, p.Extent.String()})
	}
	body := appendEntry(make([]byte, 0, 4096), entry)
	rest, _ := json.Marshal(more) // strings: can't fail
	body = append(append(body[:len(body)-1], ','), rest[1:]...)
	answerBytes(w, http.StatusOK, append(body, '\n'))
	return nil
}

// own reads a caller's own entry.
func (a *api) own(r *http.Request, caller directory.Caller) (directory.Entry, error) {
	for _, kind := range a.Kinds {
		if kind.Name == directory.KindUsers {
			return a.Directory.Get(directory.WithCaller(r.Context(), caller), kind, caller.Name)
		}
	}
	return directory.Entry{}, &directory.Error{Code: directory.NotFound}
}

// keys are the public keys of our tokens (RFC 7517). They may be kept a while.
func (a *api) keys(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Cache-Control", "public, max-age=300")
	return answerJSON(w, r, http.StatusOK, a.Logins.KeySet())
}

// form reads a request's body as a form.
func (a *api) form(w http.ResponseWriter, r *http.Request, form *directory.Kind) (map[string]string, error) {
	patch, err := a.patchFrom(w, r, form, typeJSON)
	if err != nil {
		return nil, err
	}
	return form.Fill(patch)
}
