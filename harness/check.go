package harness

import (
	"context"
	"errors"
	"time"
)

// Check is something that holds of a running target or does not.
type Check struct {
	Name string // "GET /healthz"
	// Look looks once. It returns nil where the check holds, and otherwise what is seen
	// instead; it does not fail for other reasons.
	Look func(context.Context, World) error
}

// Steady is a part of a target's steady state: a check that holds before a case, and again
// when the last fault of one is healed.
type Steady struct {
	Check
	Within time.Duration // for it to hold, and to hold again
}

// Limit is a check that must always hold. Where it does not, what is being done is aborted:
// somebody is worse off than the owner of the target allows.
type Limit struct {
	Check
	Every time.Duration // between two looks; zero is 100ms
	Times int           // in a row that it must not hold; zero is once
	// Median bounds the median time of the last LimitCalls calls; zero bounds nothing. Look is
	// nil where it is set.
	Median time.Duration
}

// LimitCalls is how many calls Limit.Median is of.
const LimitCalls = 20

// ErrAborted is what the cause of a cancelled context is where a Limit was exceeded.
var ErrAborted = errors.New("aborted")
