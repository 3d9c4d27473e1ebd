package generate

import "github.com/shakedown-go/shakedown/harness"

// bound is a parameter of an op that is to be tried at its bounds.
type bound struct {
	op    *harness.Op
	param int
}

// bounds returns the parameters whose domains know their bounds: before anything is drawn
// by chance, each is tried once with each of those values and everything else as it should
// be.
func bounds(t *harness.Target) []bound {
	var out []bound
	for i := range t.Ops {
		for j, p := range t.Ops[i].Params {
			if d, ok := p.Domain.(harness.Bounded); ok && len(d.Bounds()) > 0 {
				out = append(out, bound{&t.Ops[i], j})
			}
		}
	}
	return out
}

// atBounds returns the case that makes one call for each bound of a parameter.
func (s *Source) atBounds(x bound) harness.Case {
	b := s.builder()
	p := x.op.Params[x.param]
	for _, v := range p.Domain.(harness.Bounded).Bounds() {
		call := b.call(x.op, laneName(0), 0)
		call.Args = call.Args.Set(p.Name, v)
		b.c.Steps = append(b.c.Steps, call)
	}
	return b.c.Normalize()
}
