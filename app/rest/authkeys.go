package rest

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"rollcall/app/auth"
	"rollcall/app/directory"
)

const (
	typePlain = typeText + "; charset=utf-8"

	paramUsername    = "username"
	paramFingerprint = "fingerprint"
)

// authorizedKeys answers with what AuthorizedKeysCommand of sshd_config(5) has to print. Nothing is an answer too, but
// a directory that can't be asked is an error: it must not look like a no.
func (a *api) authorizedKeys(w http.ResponseWriter, r *http.Request) error {
	if err := acceptsText(r); err != nil {
		return err
	}
	parameters, err := a.parameters(r, paramUsername, paramHost, paramFingerprint)
	if err != nil {
		return err
	}
	ctx, asker, err := a.asker(r.Context(), r)
	if err != nil {
		return err
	}
	fingerprint := parameters.Get(paramFingerprint)
	if fingerprint != "" {
		fingerprint = standardFingerprint(fingerprint)
	}
	lines, err := a.Reach.AuthorizedKeys(ctx, asker, parameters.Get(paramUsername), parameters.Get(paramHost), fingerprint)
	if err != nil {
		return err
	}
	a.logAsker(r, asker)
	var body strings.Builder
	for _, line := range lines {
		body.WriteString(line + "\n")
	}
	answerAs(w, http.StatusOK, typePlain, []byte(body.String()))
	return nil
}

// acceptsText returns not-acceptable where Accept (RFC 9110 §12.5.1) rules plain text out.
func acceptsText(r *http.Request) error {
	if accepted(r, typeText) == "" {
		return &directory.Error{Code: directory.NotAcceptable, Detail: "Accept " + typeText + "."}
	}
	return nil
}

// parameters reads a query of no other parameters, each given once at most.
func (a *api) parameters(r *http.Request, known ...string) (url.Values, error) {
	parameters, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badQuery("The query is not properly escaped.")
	}
	return parameters, onlyOnce(parameters, known)
}

// asker returns who asks for a host's sake: a host by its token, whose it is to be found out yet; a caller; or, without
// credentials, anybody in a trusted network.
func (a *api) asker(ctx context.Context, r *http.Request) (context.Context, directory.Asker, error) {
	x := exchangeOf(r)
	credentials, ok := credentialsOf(r)
	if hostID, digest, isHost := auth.ParseHostToken(credentials.Token); ok && isHost {
		return ctx, directory.Asker{HostID: hostID, Digest: digest}, nil
	}
	if address, err := netip.ParseAddr(x.address); !ok && r.Header.Get("Authorization") == "" && err == nil &&
		slices.ContainsFunc(a.TrustedNetworks, func(network netip.Prefix) bool { return network.Contains(address.Unmap()) }) {
		return ctx, directory.Asker{Trusted: true}, nil
	}
	ctx, err := a.identified(ctx, r)
	if err == nil {
		caller, _ := directory.CallerFrom(ctx)
		x.caller = caller.Login
	}
	return ctx, directory.Asker{}, err
}

// logAsker has the log say which host asked, once its token was found right.
func (a *api) logAsker(r *http.Request, asker directory.Asker) {
	if asker.HostID != "" {
		exchangeOf(r).caller = "host " + asker.HostID
	}
}

// asked lets hosts and trusted networks read what readers may, and callers what is theirs to read.
func (a *api) asked(next handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		ctx, err := a.guest(r.Context(), r)
		if err != nil {
			return err
		}
		return next(w, r.WithContext(ctx))
	}
}

// guest is an [identifier] of those whom asked lets in.
func (a *api) guest(ctx context.Context, r *http.Request) (context.Context, error) {
	ctx, asker, err := a.asker(ctx, r)
	if err != nil || asker == (directory.Asker{}) {
		return ctx, err
	}
	if err := a.Reach.MayAsk(ctx, asker); err != nil {
		return ctx, err
	}
	a.logAsker(r, asker)
	return directory.WithCaller(ctx, directory.Caller{Guest: true, Roles: []directory.Role{directory.RoleReader}, RequestID: exchangeOf(r).id}), nil
}

// postToken gives the host a token, shown this once, in the place of the one that it has had.
func (e entries) postToken(w http.ResponseWriter, r *http.Request) error {
	if err := acceptsJSON(r); err != nil {
		return err
	}
	secret, digest := auth.NewHostSecret()
	host, err := e.setToken(r, digest)
	if err != nil {
		return err
	}
	return answerJSON(w, r, http.StatusCreated, map[string]string{"host": host.Name(), "token": auth.HostToken(host.ID(), secret)})
}

// deleteToken makes no token good for the host.
func (e entries) deleteToken(w http.ResponseWriter, r *http.Request) error {
	if _, err := e.setToken(r, ""); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (e entries) setToken(r *http.Request, digest string) (directory.Entry, error) {
	name, err := variable(r, "name")
	if err != nil {
		return directory.Entry{}, err
	}
	if err := unconditional(r); err != nil {
		return directory.Entry{}, err
	}
	if _, err := e.parameters(r); err != nil {
		return directory.Entry{}, err
	}
	return e.Directory.SetToken(r.Context(), e.kind, name, digest)
}
