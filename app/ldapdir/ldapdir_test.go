package ldapdir_test

import (
	"testing"

	"rollcall/app/directory/directorytest"
	"rollcall/app/ldapdir/ldapdirtest"
	"rollcall/app/slapd"
)

func contract(t *testing.T) directorytest.Fixture {
	server := ldapdirtest.Start(t, slapd.Options{})
	d := ldapdirtest.Open(t, ldapdirtest.Options(server))
	return directorytest.Fixture{
		Directory: d, Accounts: d,
		Users: ldapdirtest.Users, Groups: ldapdirtest.Groups, Hosts: ldapdirtest.Hosts,
	}
}

func TestContract(t *testing.T) { directorytest.Run(t, contract) }
