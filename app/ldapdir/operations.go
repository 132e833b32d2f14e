package ldapdir

import (
	"context"
	"slices"

	"github.com/go-ldap/ldap/v3"

	"rollcall/app/directory"
)

// The operations that requests are made of. Where ldap.act_as_caller says so, each is done as the context's caller,
// by proxied authorization (RFC 4370); what has no caller, as the service.

func (d *Directory) search(ctx context.Context, request *ldap.SearchRequest) (*ldap.SearchResult, error) {
	return acting(ctx, d, &request.Controls, func() (*ldap.SearchResult, error) {
		return read(ctx, d.pool, opSearch, func(l *ldap.Conn) (*ldap.SearchResult, error) { return l.Search(request) })
	})
}

func (d *Directory) add(ctx context.Context, request *ldap.AddRequest) error {
	if plan := directory.PlanFrom(ctx); plan != nil {
		return d.planned(ctx, plan, d.addRecord(request), &request.Controls, func() error { return d.add(directory.WithPlan(ctx, nil), request) })
	}
	_, err := acting(ctx, d, &request.Controls, func() (struct{}, error) {
		return do(ctx, d.pool, opAdd, func(l *ldap.Conn) (struct{}, error) { return struct{}{}, l.Add(request) })
	})
	return err
}

func (d *Directory) modify(ctx context.Context, request *ldap.ModifyRequest) (*ldap.ModifyResult, error) {
	if plan := directory.PlanFrom(ctx); plan != nil {
		return &ldap.ModifyResult{}, d.planned(ctx, plan, d.modifyRecord(request), &request.Controls, func() error {
			_, err := d.modify(directory.WithPlan(ctx, nil), request)
			return err
		})
	}
	return acting(ctx, d, &request.Controls, func() (*ldap.ModifyResult, error) {
		return do(ctx, d.pool, opModify, func(l *ldap.Conn) (*ldap.ModifyResult, error) { return l.ModifyWithResult(request) })
	})
}

func (d *Directory) remove(ctx context.Context, request *ldap.DelRequest) error {
	if plan := directory.PlanFrom(ctx); plan != nil {
		return d.planned(ctx, plan, directory.Record{DN: request.DN, Change: directory.ChangeDelete}, &request.Controls,
			func() error { return d.remove(directory.WithPlan(ctx, nil), request) })
	}
	_, err := acting(ctx, d, &request.Controls, func() (struct{}, error) {
		return do(ctx, d.pool, opDelete, func(l *ldap.Conn) (struct{}, error) { return struct{}{}, l.Del(request) })
	})
	return err
}

func (d *Directory) rename(ctx context.Context, request *ldap.ModifyDNRequest) error {
	if plan := directory.PlanFrom(ctx); plan != nil {
		return d.planned(ctx, plan, directory.Record{DN: request.DN, Change: directory.ChangeRename, NewRDN: request.NewRDN}, &request.Controls,
			func() error { return d.rename(directory.WithPlan(ctx, nil), request) })
	}
	_, err := acting(ctx, d, &request.Controls, func() (struct{}, error) {
		return do(ctx, d.pool, opModifyDN, func(l *ldap.Conn) (struct{}, error) { return struct{}{}, l.ModifyDN(request) })
	})
	return err
}

func (d *Directory) extended(ctx context.Context, request *ldap.ExtendedRequest) error {
	_, err := acting(ctx, d, &request.Controls, func() (*ldap.ExtendedResponse, error) {
		return do(ctx, d.pool, opExtended, func(l *ldap.Conn) (*ldap.ExtendedResponse, error) { return l.Extended(request) })
	})
	return err
}

// acting runs an operation with the control that it needs among its own. The directory's no to the caller is
// forbidden; its no to the service is our fault.
func acting[T any](ctx context.Context, d *Directory, controls *[]ldap.Control, operation func() (T, error)) (T, error) {
	var none T
	caller, ok := directory.CallerFrom(ctx)
	if !ok || caller.Guest || !d.options.ActAsCaller {
		return operation()
	}
	server, err := d.pool.server(ctx)
	if err != nil {
		return none, err
	}
	if !server.proxiedAuthorization {
		return none, lacks("proxied authorization, which ldap.act_as_caller needs", oidProxiedAuthorization)
	}
	if ldap.FindControl(*controls, oidProxiedAuthorization) == nil { // else the request is sent again
		*controls = append(slices.Clip(*controls), control{oidProxiedAuthorization, true, []byte("dn:" + caller.DN)})
	}
	value, err := operation()
	if hasCode(err, ldap.LDAPResultInsufficientAccessRights) || hasCode(err, ldap.LDAPResultAuthorizationDenied) {
		return none, &directory.Error{Code: directory.Forbidden, Detail: "The directory server does not let you do this.", Cause: err}
	}
	return value, err
}
