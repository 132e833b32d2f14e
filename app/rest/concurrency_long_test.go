//go:build long

package rest_test

import "testing"

// TestNoUpdateIsLostForLong is [TestNoUpdateIsLost] with more updates.
func TestNoUpdateIsLostForLong(t *testing.T) { noUpdateIsLost(t, 2000) }

// TestManyRequestsAtOnceForLong is [TestManyRequestsAtOnce] with more requests.
func TestManyRequestsAtOnceForLong(t *testing.T) { manyRequestsAtOnce(t, 10_000) }
