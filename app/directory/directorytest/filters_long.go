//go:build long

package directorytest

// filtersInACheck is how many filters each check of a property tries.
const filtersInACheck = 100
