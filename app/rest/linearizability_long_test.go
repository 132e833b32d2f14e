//go:build long

package rest_test

import "testing"

// TestEveryEntryIsLinearizableForLong is [TestEveryEntryIsLinearizable] again and again.
func TestEveryEntryIsLinearizableForLong(t *testing.T) { linearizable(t, 60) }
