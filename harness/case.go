package harness

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Case is one experiment, complete and replayable: what is asked, by whom, and what goes
// wrong meanwhile. Its String is the case file.
type Case struct {
	Target string            // directory or file of the description
	Seed   uint64            // all randomness of a replay comes from it
	Env    map[string]string // bugs switched on, rung and version of each dependency
	Steps  []Step
}

// Verb says what a step does.
type Verb uint8

// The verbs.
const (
	VerbCall   Verb = iota // a lane calls an op
	VerbInject             // the nemesis injects a fault
	VerbHeal               // the nemesis heals it
	VerbReset              // stores, links and sessions go back to the start, as between two cases
	VerbWait               // nothing is done for a while: what runs by itself gets its turn
)

// Step is one planned line.
type Step struct {
	Verb   Verb
	Label  string // the name later steps use for this one; "" for none
	Lane   string // calls only: who calls
	Name   string // the op, the fault, or the label of what is healed
	Args   Args
	Group  int           // steps with the same number are released together; 0 is alone
	Repeat int           // calls only: how often; 0 is once
	When   Trigger       // inject only: what must happen first; the turn ends without it
	At     time.Duration // inject only: so long after the step's turn, or after When
	For    time.Duration // inject: heal after so long, 0 is at the end of the case; wait: how long; call: again and again for so long, instead of Repeat
}

// Times is how often the step is done, at least.
func (s Step) Times() int { return max(s.Repeat, 1) }

// Clone returns a copy that shares nothing with c.
func (c Case) Clone() Case {
	c.Env = maps.Clone(c.Env)
	c.Steps = slices.Clone(c.Steps)
	for i := range c.Steps {
		c.Steps[i].Args = slices.Clone(c.Steps[i].Args)
	}
	return c
}

// Lanes returns the lanes that call, sorted.
func (c Case) Lanes() []string {
	var out []string
	for _, s := range c.Steps {
		if s.Verb == VerbCall && !slices.Contains(out, s.Lane) {
			out = append(out, s.Lane)
		}
	}
	slices.Sort(out)
	return out
}

// Calls returns how many calls are planned.
func (c Case) Calls() int {
	n := 0
	for _, s := range c.Steps {
		if s.Verb == VerbCall {
			n += s.Times()
		}
	}
	return n
}

// Concurrent reports whether anything is done at once.
func (c Case) Concurrent() bool {
	return slices.ContainsFunc(c.Steps, func(s Step) bool { return s.Group != 0 })
}

// Faults returns the names of the faults that the case injects, in order.
func (c Case) Faults() []string {
	var out []string
	for _, s := range c.Steps {
		if s.Verb == VerbInject {
			out = append(out, s.Name)
		}
	}
	return out
}

// Turns splits the steps into what is done one after another: each turn is one step, or
// the steps of one group. It yields index ranges into Steps.
func (c Case) Turns() [][2]int {
	var out [][2]int
	for i := 0; i < len(c.Steps); {
		j := i + 1
		for c.Steps[i].Group != 0 && j < len(c.Steps) && c.Steps[j].Group == c.Steps[i].Group {
			j++
		}
		out = append(out, [2]int{i, j})
		i = j
	}
	return out
}

// Normalize returns the case as Parse would return it: groups numbered from one in order,
// a group of one step dissolved, and heals dropped whose fault is gone.
func (c Case) Normalize() Case {
	c = c.Clone()
	faults := map[string]bool{}
	c.Steps = slices.DeleteFunc(c.Steps, func(s Step) bool {
		switch s.Verb {
		case VerbInject:
			faults[s.Label] = true
		case VerbHeal:
			gone := !faults[s.Name]
			delete(faults, s.Name)
			return gone
		}
		return false
	})
	n := 0
	for _, t := range c.Turns() {
		g := 0
		if t[1]-t[0] > 1 {
			n++
			g = n
		}
		for i := t[0]; i < t[1]; i++ {
			c.Steps[i].Group = g
		}
	}
	for i := range c.Steps {
		if c.Steps[i].Repeat == 1 {
			c.Steps[i].Repeat = 0
		}
	}
	return c
}

// MarshalText writes the case file.
func (c Case) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText reads a case file.
func (c *Case) UnmarshalText(b []byte) (err error) {
	*c, err = ParseCase(b)
	return err
}

// Join returns one case that plays all of them, one after another, with a reset between
// two. Labels get a prefix, so that no two are the same.
func Join(cases ...Case) Case {
	last := cases[len(cases)-1]
	out := last.Clone()
	out.Steps = nil
	group := 0
	for i, c := range cases {
		if i > 0 {
			out.Steps = append(out.Steps, Step{Verb: VerbReset})
		}
		prefix := fmt.Sprintf("c%d_", i)
		next := group
		for _, s := range c.Clone().Steps {
			if s.Label != "" {
				s.Label = prefix + s.Label
			}
			if s.Verb == VerbHeal {
				s.Name = prefix + s.Name
			}
			for j := range s.Args {
				s.Args[j].Value = s.Args[j].Value.prefixed(prefix)
			}
			if s.Group != 0 {
				s.Group += group
				next = max(next, s.Group)
			}
			out.Steps = append(out.Steps, s)
		}
		group = next
	}
	return out.Normalize()
}

// prefixed returns the value with a prefix before every label it refers to.
func (v Value) prefixed(prefix string) Value {
	return v.MapRefs(func(path string) string { return prefix + path })
}

// References returns the labels that a value refers to.
func (v Value) References() []string {
	switch v.Form {
	case FormRef:
		label, _, _ := strings.Cut(v.Text, ".")
		return []string{label}
	case FormText:
		var out []string
		for _, m := range reference.FindAllStringSubmatch(v.Text, -1) {
			label, _, _ := strings.Cut(m[1], ".")
			out = append(out, label)
		}
		return out
	case FormJSON:
		var out []string
		replaceRefs(v.Text, func(path string) string {
			label, _, _ := strings.Cut(path, ".")
			out = append(out, label)
			return "null"
		})
		return out
	}
	return nil
}

// Resolve replaces references by what lookup returns for "label.path"; false says that
// one could not be resolved. A reference alone keeps the JSON type of what it refers to, and
// so does a string of a JSON value that is nothing but a reference.
func (v Value) Resolve(lookup func(path string) (Value, bool)) (Value, bool) {
	switch v.Form {
	case FormRef:
		return lookup(v.Text)
	case FormText:
		ok := true
		v.Text = reference.ReplaceAllStringFunc(v.Text, func(m string) string {
			got, found := lookup(m[2 : len(m)-2])
			ok = ok && found
			return got.Text
		})
		return v, ok
	case FormJSON:
		ok := true
		v.Text = replaceRefs(v.Text, func(path string) string {
			got, found := lookup(path)
			ok = ok && found
			return got.json()
		})
		return v, ok
	}
	return v, true
}

// MapRefs returns the value with the path of each reference in it, "label.path", replaced by
// what f returns for it.
func (v Value) MapRefs(f func(path string) string) Value {
	switch v.Form {
	case FormRef:
		v.Text = f(v.Text)
	case FormText:
		v.Text = reference.ReplaceAllStringFunc(v.Text, func(m string) string { return "{{" + f(m[2:len(m)-2]) + "}}" })
	case FormJSON:
		v.Text = replaceRefs(v.Text, func(path string) string { return `"{{` + f(path) + `}}"` })
	}
	return v
}

// replaceRefs replaces the strings of a compact JSON text that are nothing but a reference.
func replaceRefs(text string, f func(path string) string) string {
	if !strings.Contains(text, `"{{`) {
		return text
	}
	var b strings.Builder
	rest := 0
	for _, m := range quotedReference.FindAllStringSubmatchIndex(text, -1) {
		// Within a string, a backslash stands before the quote; a name of a member is no value.
		value := m[0] == 0 || strings.IndexByte("[,:", text[m[0]-1]) >= 0
		if !value || m[1] < len(text) && text[m[1]] == ':' {
			continue
		}
		b.WriteString(text[rest:m[0]])
		b.WriteString(f(text[m[2]:m[3]]))
		rest = m[1]
	}
	b.WriteString(text[rest:])
	return b.String()
}
