// Package net holds the faults of links: what a network between a service and a
// dependency can do. Each of them is a toxic on one link.
package net

import (
	"context"
	"slices"

	"github.com/shakedown-go/shakedown/harness"
)

// onLink is the parameter that all faults of this package have.
var onLink = harness.Param{Name: "link", Doc: "the link to disturb", Of: harness.OfLink}

// direction returns the parameter dir, with the default first.
func direction(dirs ...string) harness.Param {
	var values []harness.Value
	for _, d := range dirs {
		values = append(values, harness.Text(d))
	}
	doc := "which direction: up to the dependency, or down to the service"
	if slices.Contains(dirs, "both") {
		doc = "which bytes: up to the dependency, down to the service, or both"
	}
	return harness.Param{Name: "dir", Doc: doc, Default: dirs[0], Domain: harness.OneOf(values...)}
}

// choice returns a parameter that is true or false.
func choice(name, doc, standard string) harness.Param {
	return harness.Param{Name: name, Doc: doc + ": true or false", Default: standard, Domain: harness.OneOf(harness.Text("true"), harness.Text("false"))}
}

// ending returns the parameter how, with the default first.
func ending(standard string) harness.Param {
	other := map[string]string{"rst": "fin", "fin": "rst"}[standard]
	return harness.Param{Name: "how", Doc: "by a reset, or in good order", Default: standard, Domain: harness.OneOf(harness.Text(standard), harness.Text(other))}
}

// orderly reports whether connections are to end in good order.
func orderly(args harness.Args) bool { return args.Text("how") == "fin" }

// disturb puts a toxic on the link that args name, in the direction and with the time to live
// that they name.
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
	t.TTL = args.Duration(harness.TTL.Name)
	return l.Disturb(ctx, t)
}
