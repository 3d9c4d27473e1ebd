package harness

// Aims returns every way in which f can be aimed at t: the arguments that name a link, a
// process or a store, one set for each. A fault without such a parameter has one aim, nil; one that
// t lacks the abilities or the things for has none.
func (f *Fault) Aims(t *Target) []Args {
	if !t.Caps.Has(f.Needs) {
		return nil
	}
	out := []Args{nil}
	for _, p := range f.Params {
		if p.Of == OfNothing {
			continue
		}
		var more []Args
		for _, args := range out {
			for _, name := range p.Names(t) {
				more = append(more, args.Set(p.Name, Text(name)))
			}
		}
		out = more
	}
	return out
}
