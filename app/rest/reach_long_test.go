//go:build long

package rest_test

import "testing"

// TestWhoMayLogInWhereIsWhatAPlainEvaluationFindsForLong is [TestWhoMayLogInWhereIsWhatAPlainEvaluationFinds] with more checks.
func TestWhoMayLogInWhereIsWhatAPlainEvaluationFindsForLong(t *testing.T) {
	whoMayLogInWhere(t, "50", "30")
}

// TestKeysAreRightWhileGroupsChangeAndTheServerDiesForLong is [TestKeysAreRightWhileGroupsChangeAndTheServerDies] with more
// of both.
func TestKeysAreRightWhileGroupsChangeAndTheServerDiesForLong(t *testing.T) {
	keysAreRightMeanwhile(t, 8, 60)
}
