package openapi

import (
	"iter"
	"math/rand/v2"

	"github.com/shakedown-go/shakedown/harness"
)

// raw is a domain whose texts are sent as they are.
type raw struct{ harness.Domain }

func (d raw) Draw(rng *rand.Rand) harness.Value { return harness.Raw(d.Domain.Draw(rng).Text) }

func (d raw) Mutate(rng *rand.Rand, v harness.Value) harness.Value {
	return harness.Raw(d.Domain.Mutate(rng, harness.Text(v.Text)).Text)
}

func (d raw) Simpler(v harness.Value) iter.Seq[harness.Value] {
	return func(yield func(harness.Value) bool) {
		for x := range d.Domain.Simpler(harness.Text(v.Text)) {
			if !yield(harness.Raw(x.Text)) {
				return
			}
		}
	}
}

// Bounds returns those of the domain of texts.
func (d raw) Bounds() []harness.Value {
	var out []harness.Value
	if b, ok := d.Domain.(harness.Bounded); ok {
		for _, v := range b.Bounds() {
			out = append(out, harness.Raw(v.Text))
		}
	}
	return out
}
