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
