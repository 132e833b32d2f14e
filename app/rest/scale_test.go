//go:build !long

package rest_test

// How much the tests of many requests at once do.
const (
	increments    = 200
	mixedRequests = 1500
)
