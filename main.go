// Rollcall is a REST API for an LDAP directory of users, groups and hosts.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"rollcall/app/cli"
	"rollcall/app/program"
)

// version is set by the linker.
var version = "development"

// gcPercent lets the heap grow to five times what is in use before it is collected: little is in use, and each
// request leaves much behind. GOGC overrides it.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if err := program.Command(version).ExecuteContext(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		if exit, ok := errors.AsType[cli.ExitError](err); ok {
			os.Exit(exit.Status)
		}
		os.Exit(1)
	}
}
