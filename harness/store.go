package harness

import "context"

// Store is a dependency whose server takes an administrator's commands, past its link.
type Store interface {
	// Do runs one command on a connection of its own and returns the values of its reply, as
	// text and flat: of a Redis the words of the command, of a Postgres one SQL statement and
	// its arguments, and then row by row. What is nil or NULL is "". It is an error where the
	// server is down or paused. All connections of harnesses to a server have the name
	// "shakedown" there, in a Redis's CLIENT LIST as in a Postgres's pg_stat_activity.
	Do(ctx context.Context, command ...string) ([]string, error)
	// Change changes settings until the heal, which returns when they have been read back as
	// they were. Where the server outlives the harness, what undoes the change is on disk
	// before anything is done. Where it is down or paused at the heal, it is undone as soon as
	// it is back, and whoever brings it back is told of what goes wrong then.
	Change(context.Context, Change) (heal func(context.Context) error, err error)
	// Replicate brings up another server like the store's own, which follows it, and returns
	// when that has all its data. Until it is closed changes are refused, as while one is in
	// force. Where it can never be had the error is ErrNotHere.
	Replicate(context.Context) (Replica, error)
}

// Replica is a server that follows a store's server, and can take its place. One goroutine
// at a time uses it.
type Replica interface {
	// Detach ends the following. The replica has all that was acknowledged before Detach was
	// called, and nothing of what is told to the server when it has returned.
	Detach(context.Context) error
	// Promote has the replica take the server's place, with its settings: new connections on
	// the link lead to it, and the server is ended as a crash does, and does not come back. No
	// client may be connected then. Lost are the bytes of the replication stream which the
	// server had by then, and the replica has not: what was acknowledged and is undone. There
	// are none where the replica was not detached. Promoted is false where the server is down
	// or paused, is not the one that was followed, or was reset meanwhile: then nothing is done.
	Promote(context.Context) (lost int64, promoted bool, err error)
	// Close ends a replica that was not promoted. One that was stays the store's server, and is
	// seen to serve alone; where it is down or paused, as soon as it is back.
	Close(context.Context) error
}

// Change is a change of a store's settings, each part a list of commands.
type Change struct {
	// Read tells the settings: all that it answers before Do, it answers again after Undo. While
	// one change is in force on a store others are refused.
	Read     [][]string
	Do, Undo [][]string // Undo also undoes a Do that failed half way, and may be done twice
	// Set is what Read answers while the change is in force, in parts as it does before: Change
	// waits until it does. Who undoes the change in place of a harness that has died leaves
	// alone what reads otherwise, because somebody else has changed it since. Zero means that it
	// cannot be told, and the change is undone in any case.
	Set []string
}
