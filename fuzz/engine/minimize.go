package engine

import (
	"bytes"
	"slices"
)

// Minimize makes an input smaller while shows holds, to a fixed point: the texts by taking
// chunks out of them, halves first (Zeller and Hildebrandt, Simplifying and Isolating
// Failure-Inducing Input, 2002) and by writing plain characters, the numbers by going to
// zero. Every input that shows is asked about is simpler than the best so far; it says
// more = false when no time is left. Done reports whether the fixed point was reached.
func Minimize(in Input, shows func(Input) (yes, more bool)) (best Input, done bool) {
	m := minimizer{best: slices.Clone(in), shows: shows, more: true, tried: map[string]bool{}}
	for again := true; again && m.more; {
		again = false
		for i, v := range m.best {
			switch v.(type) {
			case []byte, string:
				again = m.chunks(i) || again
				again = m.letters(i) || again
			default:
				again = m.number(i) || again
			}
		}
	}
	return m.best, m.more
}

type minimizer struct {
	best  Input
	shows func(Input) (yes, more bool)
	more  bool
	tried map[string]bool
}

// try replaces a value, and keeps it if the input still shows what it showed.
func (m *minimizer) try(i int, v any) bool {
	if !m.more {
		return false
	}
	next := slices.Clone(m.best)
	next[i] = v
	name := next.Name()
	if m.tried[name] {
		return false
	}
	m.tried[name] = true
	var yes bool
	if yes, m.more = m.shows(next); yes {
		m.best = next
	}
	return yes
}

// text is a value as bytes; as turns bytes into a value of its type.
func (m *minimizer) text(i int) (text []byte, as func([]byte) any) {
	if s, ok := m.best[i].(string); ok {
		return []byte(s), func(b []byte) any { return string(b) }
	}
	return m.best[i].([]byte), func(b []byte) any { return b }
}

// chunks takes chunks away, large ones first.
func (m *minimizer) chunks(i int) (any bool) {
	text, as := m.text(i)
	for size := len(text); size >= 1; size /= 2 {
		for at := 0; at < len(text); {
			end := min(at+size, len(text))
			if !m.try(i, as(append(append([]byte{}, text[:at]...), text[end:]...))) {
				at = end
				continue
			}
			any = true
			text, _ = m.text(i)
		}
		size = min(size, max(len(text), 1))
	}
	return any
}

// letters writes the plainest character at each place.
func (m *minimizer) letters(i int) (any bool) {
	text, as := m.text(i)
	for at := range text {
		for _, plain := range []byte("0a ") {
			if rank(text[at]) <= rank(plain) {
				break
			}
			next := bytes.Clone(text)
			next[at] = plain
			if m.try(i, as(next)) {
				any, text = true, next
				break
			}
		}
	}
	return any
}

// rank orders characters by how plain they are.
func rank(c byte) int {
	if at := bytes.IndexByte([]byte("0a "), c); at >= 0 {
		return at
	}
	return 3
}

// number tries zero, and then halves.
func (m *minimizer) number(i int) (any bool) {
	for _, v := range simpler(m.best[i]) {
		if m.try(i, v) {
			return true
		}
	}
	return any
}

// simpler returns simpler values of the same type, the simplest first.
func simpler(v any) []any {
	switch v := v.(type) {
	case bool:
		if v {
			return []any{false}
		}
	case int:
		return toZero(v)
	case int8:
		return toZero(v)
	case int16:
		return toZero(v)
	case int32:
		return toZero(v)
	case int64:
		return toZero(v)
	case uint:
		return toZero(v)
	case uint8:
		return toZero(v)
	case uint16:
		return toZero(v)
	case uint32:
		return toZero(v)
	case uint64:
		return toZero(v)
	case float32:
		if v != 0 {
			return []any{float32(0), float32(1)}
		}
	case float64:
		if v != 0 {
			return []any{float64(0), float64(1)}
		}
	}
	return nil
}

func toZero[T int | int8 | int16 | int32 | int64 | uint | uint8 | uint16 | uint32 | uint64](v T) []any {
	if v == 0 {
		return nil
	}
	out := []any{T(0)}
	if v/2 != 0 {
		out = append(out, v/2)
	}
	one := T(1)
	if v < 0 {
		return append(out, v+one)
	}
	return append(out, v-one)
}
