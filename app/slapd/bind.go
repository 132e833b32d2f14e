package slapd

import (
	"context"
	"encoding/asn1"
	"fmt"
	"net"
	"time"
)

const bindTimeout = time.Second

// bind makes one LDAP simple bind (RFC 4511 §4.2) and fails unless the server accepts it.
func bind(ctx context.Context, address, dn, password string) error {
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return err
		}
	}

	type bindRequest struct {
		Version  int
		Name     []byte
		Password []byte `asn1:"tag:0"`
	}
	request, err := asn1.Marshal(struct {
		ID   int
		Bind bindRequest `asn1:"application,tag:0"`
	}{1, bindRequest{3, []byte(dn), []byte(password)}})
	if err != nil {
		return err
	}
	if _, err := conn.Write(request); err != nil {
		return err
	}

	var answer struct {
		ID   int
		Bind struct {
			Code      asn1.Enumerated
			MatchedDN []byte
			Message   []byte
		} `asn1:"application,tag:1"`
	}
	buf := make([]byte, 1024)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	if _, err := asn1.Unmarshal(buf[:n], &answer); err != nil {
		return err
	}
	if answer.Bind.Code != 0 {
		return fmt.Errorf("bind as %s: LDAP result %d %s", dn, answer.Bind.Code, answer.Bind.Message)
	}
	return nil
}
