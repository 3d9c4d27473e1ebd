// Package net holds the faults of links: what a network between a service and a
// dependency can do. Each of them is a toxic on one link.
package net

import (
	"context"

	"github.com/shakedown-go/shakedown/harness"
)

// onLink is the parameter that all faults of this package have.
var onLink = harness.Param{Name: "link", Doc: "the link to disturb", Of: harness.OfLink}

// direction returns the parameter dir, with the default first.
func direction(first, second, third string) harness.Param {
	return harness.Param{
		Name:    "dir",
		Doc:     "which bytes: up to the dependency, down to the service, or both",
		Default: first,
		Domain:  harness.OneOf(harness.Text(first), harness.Text(second), harness.Text(third)),
	}
}

// disturb puts a toxic on the link that args name, in the direction that they name.
func disturb(ctx context.Context, w harness.World, args harness.Args, t harness.Toxic) (harness.Injection, error) {
	l, err := w.Link(args.Text("link"))
	if err != nil {
		return harness.Injection{}, err
	}
	switch args.Text("dir") {
	case "up":
		t.Dir = harness.Up
	case "down":
		t.Dir = harness.Down
	}
	return l.Disturb(ctx, t)
}
