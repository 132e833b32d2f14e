package auth

import (
	"errors"

	"rollcall/app/directory"
)

// How a caller logs in: by POST /login, HTTP Basic, POST /refresh, or a bearer token.
const (
	methodLogin   = "login"
	methodBasic   = "basic"
	methodRefresh = "refresh"
	methodToken   = "token"
)

const resultSuccess = "success"

// observe tells whoever watches of a login. Every refusal counts, but of the successes only those that were found out
// anew: most requests rely on what is remembered, and how many there are the requests tell.
func (a *Authenticator) observe(method string, anew bool, err error) {
	switch {
	case a.options.Observe == nil:
	case err != nil:
		code := directory.Internal
		if refused, ok := errors.AsType[*directory.Error](err); ok {
			code = refused.Code
		}
		a.options.Observe(method, code.Name)
	case anew:
		a.options.Observe(method, resultSuccess)
	}
}
