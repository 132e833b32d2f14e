package auth_test

import (
	"testing"

	"rollcall/app/auth"
	"rollcall/app/directory"
	"rollcall/app/directory/directorytest"
)

func TestMemoryKeepsTheContractOfSessions(t *testing.T) {
	directorytest.RunSessions(t, func(*testing.T) directory.Sessions { return auth.NewMemory() })
}
