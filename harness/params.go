package harness

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Check says what is wrong with the arguments of a fault on a target: a parameter that
// there is not, one that is missing, a value that is not in its domain, or the name of a
// link, a process or a store that the target does not have.
func (f *Fault) Check(args Args, t *Target) error {
	for _, a := range args {
		i := slices.IndexFunc(f.Params, func(p Param) bool { return p.Name == a.Key })
		if i < 0 {
			return fmt.Errorf("%s has no parameter %s, only %s", f.Name, a.Key, list(paramNames(f.Params)))
		}
		if err := f.Params[i].check(a.Value, t); err != nil {
			return fmt.Errorf("%s %s=%s: %w", f.Name, a.Key, word(a.Value.Text), err)
		}
	}
	for _, p := range f.Params {
		if _, given := args.Get(p.Name); given || p.Optional || p.Default != "" {
			continue
		}
		if p.Of != OfNothing {
			return fmt.Errorf("%s needs %s=, one of %s", f.Name, p.Name, list(p.Names(t)))
		}
		return fmt.Errorf("%s needs %s=, %s", f.Name, p.Name, p.Doc)
	}
	return nil
}

// CheckStep is Check for a step that injects f, with its trigger. It cannot be healed after
// its time to live.
func (f *Fault) CheckStep(s Step, t *Target) error {
	if err := errors.Join(f.Check(s.Args, t), s.When.Check(t)); err != nil {
		return err
	}
	ttl, err := time.ParseDuration(f.Fill(s.Args).Text(TTL.Name))
	if err == nil && s.For > ttl { // an error: it has none
		return fmt.Errorf("%s for=%s: it ends by itself after ttl=%s, its time to live, which can be set, up to %s", f.Name, s.For, ttl, MaxTTL)
	}
	return nil
}

// Fill returns args with the defaults of the parameters that are not given. Values become
// texts, as in a case file, where the arguments of a fault are words.
func (f *Fault) Fill(args Args) Args {
	out := slices.Clone(args)
	for i := range out {
		out[i].Value = Text(out[i].Value.Text)
	}
	for _, p := range f.Params {
		if _, given := out.Get(p.Name); !given && p.Default != "" {
			out = append(out, Arg{p.Name, Text(p.Default)})
		}
	}
	return out
}

func (p Param) check(v Value, t *Target) error {
	if p.Of != OfNothing {
		if names := p.Names(t); !slices.Contains(names, v.Text) {
			return fmt.Errorf("%s has no such %s, only %s", t.Name, strings.TrimSpace(p.Engine+" "+p.Name), list(names))
		}
	}
	for _, d := range []Domain{p.Domain, p.Given} {
		if c, ok := d.(Checker); ok {
			return c.Check(v.Text)
		}
	}
	return nil
}

func paramNames(params []Param) []string {
	names := make([]string, len(params))
	for i, p := range params {
		names[i] = p.Name
	}
	return names
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}
