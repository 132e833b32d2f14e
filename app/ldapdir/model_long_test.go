//go:build long

package ldapdir_test

import (
	"testing"

	"rollcall/app/directory/directorytest"
)

func TestModel(t *testing.T) { directorytest.RunModel(t, contract(t)) }
