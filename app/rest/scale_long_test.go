//go:build long

package rest_test

// How much the tests of many requests at once do.
const (
	increments    = 2000
	mixedRequests = 10_000
)
