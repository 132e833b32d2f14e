//go:build long

package rest_test

import "testing"

// TestNoNumberIsGivenTwiceInAThousand is [TestNoNumberIsGivenTwice] with more users.
func TestNoNumberIsGivenTwiceInAThousand(t *testing.T) { noNumberIsGivenTwice(t, 1000) }
