// Package providers brings up the stores that a service depends on: in a container, as a
// local server, as an embedded one, or one that is already there.
//
// Choose picks the way, called rung, without starting anything; Start brings the store up
// empty, or as its init file makes it. The first Reset takes what it then finds, after the
// service has come up and has migrated and seeded, as the state that every Reset comes
// back to.
package providers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/container"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// Provider is a way to have one dependency, chosen but not started: its rung.
type Provider interface {
	// Rung names what was chosen, with its version: "docker@7.0.15", "local@15.18".
	Rung() string
	// Start brings it up. What it keeps on disk is below dir, which must let every user
	// through, as a store may run as another one, and which names the run: see Bury. Emit takes its output and exit events.
	Start(ctx context.Context, dir string, emit func(harness.Event)) (Dependency, error)
}

// Dependency is a store that runs.
type Dependency interface {
	// Addr is where it listens: host:port. Of a container it is another one after a restart.
	Addr() string
	// Proc is its process tree; an error where nothing of it can be ended or paused.
	Proc() (harness.Proc, error)
	// Store takes an administrator's commands; an error where it has no server of its own.
	Store() (harness.Store, error)
	// Reset brings its data back to what they were at the first Reset. Connections of
	// others stay open, unless one holds up the reset within a transaction.
	Reset(context.Context) error
	// Stop ends it and removes what it left on disk. It may be called twice.
	Stop(context.Context) error
}

// engine is a kind of store.
type engine struct {
	// choose is given a dependency that nothing is wrong with, its Provide not "".
	choose func(ctx context.Context, name string, dep spec.Dependency, dir string) (Provider, error)
	host   func(url string) (string, error)  // nil where there is no provide: url
	dial   func(url string) (command, error) // to the server at a URL; nil as host
}

// engines returns what is behind each of spec.Engines.
func engines() map[string]engine {
	return map[string]engine{
		"mysql":    {chooseMySQL, nil, nil},
		"postgres": {choosePostgres, postgresHost, dialPostgres},
		"redis":    {chooseRedis, redisHost, dialRedis},
	}
}

// Choose picks how a dependency will be had. Name is its name in the description, and dir
// the directory that the description stands in. With provide: url the server is asked for
// its version: check Host first. The database at a URL is the harness's to overwrite.
//
// Errors say what was looked for, where, and the ways out.
func Choose(ctx context.Context, name string, dep spec.Dependency, dir string) (Provider, error) {
	e, err := check(&dep)
	if err != nil {
		return nil, fmt.Errorf("dependency %s: %w", name, err)
	}
	p, err := e.choose(ctx, name, dep, dir)
	if err != nil {
		return nil, fmt.Errorf("dependency %s: %w", name, err)
	}
	return p, nil
}

// Host returns the host that a dependency is at: "127.0.0.1", with provide: url the host
// that its URL leads to, with provide: docker the one that the engine publishes ports at.
func Host(dep spec.Dependency) (string, error) {
	e, err := check(&dep)
	switch {
	case err != nil:
		return "", err
	case dep.Provide == "url":
		return e.host(dep.URL)
	case dep.Provide == "docker":
		return container.Host()
	}
	return "127.0.0.1", nil
}

// Bury removes what stores hold beside their directories, when those are about to be
// removed: dir is what they were started with by a harness that has died or is about to. In
// servers that outlive it, it undoes what the journal there still holds; what somebody else has
// changed since is left as it is, and an error until Undo says so.
func Bury(ctx context.Context, dir string, gone Gone) error {
	servers, _ := os.ReadDir(dir)
	for _, s := range servers {
		removeSharedMemory(filepath.Join(dir, s.Name(), dataDir))
	}
	return errors.Join(undoAll(ctx, dir, gone), container.Bury(ctx, dir))
}

// check returns the engine of a dependency and sets its Provide.
func check(dep *spec.Dependency) (engine, error) {
	if _, err := dep.Check(); err != nil {
		return engine{}, err
	}
	if dep.Provide == "" {
		dep.Provide = "auto"
	}
	return engines()[dep.Engine], nil
}

// isVersion reports whether a version is the wanted one: "15" wants any 15, "" any at all.
func isVersion(have, want string) bool {
	return want == "" || have == want || strings.HasPrefix(have, want+".")
}
