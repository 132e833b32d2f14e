package rest

import (
	"maps"
	"slices"
)

// Routes returns every path of the API and the methods that it takes, for tests that must not forget one.
func Routes(o Options) map[string][]string {
	routes := map[string][]string{}
	for path, methods := range (&api{Options: o}).resources() {
		routes[path] = slices.Sorted(maps.Keys(methods))
	}
	return routes
}
