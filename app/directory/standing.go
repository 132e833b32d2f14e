package directory

import "context"

// Standing is what decides whether a user may log in to a host, as it was at one moment.
type Standing struct {
	// User and Host are the two, without any fields but those that decide; the zero Entry where there is none.
	User, Host Entry
	// Ambiguous tells that there are several users or several hosts of the name.
	Ambiguous bool
	// HostToken is the digest that is kept of the token that was asked for, "" where none is kept.
	HostToken string
	// Groups returns which groups there are, and which are in which, at that moment or later.
	// Errors: unsupported-by-directory where the server does not keep who is in which group.
	Groups func(ctx context.Context) (*Nesting, error)
}

// Standings is the port for those who find out who may log in where. It always speaks as the service.
type Standings interface {
	// Standing reads the user with a login name, letter by letter, the host with a name, and what is kept of the token
	// of the host with an ID; "" asks for none of that kind. It takes one search, and its Groups one at most; two more
	// where one entry has the names of both.
	Standing(ctx context.Context, login, host, tokenOf string) (Standing, error)
	// Nesting reads which groups there are, and which are in which.
	Nesting(ctx context.Context) (*Nesting, error)
}
