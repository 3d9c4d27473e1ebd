package harness

import (
	"context"
	"errors"
	"time"
)

// MaxTTL is the longest time to live of anything that is injected.
const MaxTTL = 10 * time.Minute

// TTL is the parameter of every fault that stays in force: when its time to live is over, it
// is ended by what enforces it, even if nobody heals it.
var TTL = Param{
	Name:    "ttl",
	Doc:     "time to live: it ends by itself after so long, if nothing has healed it",
	Default: "30s",
	Given:   Durations(time.Millisecond, MaxTTL),
}

// ErrExpired is what Heal returns of an injection whose time to live was over before. It is no
// failure of the harness: what was to be ended has ended.
var ErrExpired = errors.New("it had ended by itself when its time to live was over")

// expiryTime bounds the heal of an injection whose time to live is over.
const expiryTime = 30 * time.Second

// Within gives an injection a time to live, where what it disturbs has no clock of its own, as
// links do: it is healed when that is over, and Heal returns ErrExpired from then on. Where it
// could not be healed then, Heal tries once more. A ttl of 0 is none.
func (in Injection) Within(ttl time.Duration) Injection {
	if ttl <= 0 {
		return in
	}
	heal, ended := in.Heal, make(chan error, 1)
	timer := time.AfterFunc(ttl, func() {
		ctx, cancel := context.WithTimeout(context.Background(), expiryTime)
		defer cancel()
		ended <- heal(ctx)
	})
	in.Heal = func(ctx context.Context) error {
		if timer.Stop() {
			return heal(ctx)
		}
		select {
		case err := <-ended:
			if err != nil {
				return heal(ctx)
			}
			return ErrExpired
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return in
}
