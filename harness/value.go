package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// Form says how the text of a Value is to be read.
type Form uint8

// The forms of a value.
const (
	FormText Form = iota // a string; {{label.path}} in it is replaced
	FormJSON             // compact JSON other than a string
	FormRef              // a reference: label.path into the reply of an earlier step
	FormRaw              // bytes that are sent as they are
)

// Value is one argument: what stands behind the equals sign.
type Value struct {
	Form Form
	Text string
}

// Text returns a string value.
func Text(s string) Value { return Value{FormText, s} }

// Int returns a JSON number.
func Int(n int64) Value { return Value{FormJSON, strconv.FormatInt(n, 10)} }

// Ref returns a reference to a field of an earlier reply: Ref("o1.id").
func Ref(path string) Value { return Value{FormRef, path} }

// Raw returns bytes that are sent as they are.
func Raw(b string) Value { return Value{FormRaw, b} }

// JSON returns the value of a JSON text; a JSON string becomes a text.
func JSON(text []byte) (Value, error) {
	var s string
	if json.Unmarshal(text, &s) == nil && len(bytes.TrimSpace(text)) > 0 && bytes.TrimSpace(text)[0] == '"' {
		return Text(s), nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return Value{}, err
	}
	if b.Len() == 0 {
		return Value{}, errors.New("no JSON value")
	}
	return Value{FormJSON, b.String()}, nil
}

// String returns the value as case text, without the equals sign.
func (v Value) String() string {
	switch v.Form {
	case FormJSON:
		return v.Text
	case FormRef:
		return "{{" + v.Text + "}}"
	case FormRaw:
		return "!" + strconv.Quote(v.Text)
	}
	return strconv.Quote(v.Text)
}

// MarshalText writes the value as case text.
func (v Value) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Value) UnmarshalText(b []byte) error {
	got, rest, err := parseValue(string(b))
	if err == nil && rest != "" {
		err = fmt.Errorf("unexpected %q behind a value", rest)
	}
	*v = got
	return err
}

// json returns the value as JSON text; what is no JSON becomes a string.
func (v Value) json() string {
	if v.Form == FormJSON {
		return v.Text
	}
	b, err := json.Marshal(v.Text)
	if err != nil {
		panic("harness: a string that is no JSON: " + err.Error())
	}
	return string(b)
}

// Arg is one argument with its key: a dotted path such as body.items.0.sku.
type Arg struct {
	Key   string
	Value Value
}

// Args are the arguments of a step or an event, in order.
type Args []Arg

// Get returns the value of a key, and whether there is one.
func (a Args) Get(key string) (Value, bool) {
	for _, x := range a {
		if x.Key == key {
			return x.Value, true
		}
	}
	return Value{}, false
}

// Text returns the text of a key's value, or "".
func (a Args) Text(key string) string {
	v, _ := a.Get(key)
	return v.Text
}

// Set returns a with the key set to v, in its old place or at the end.
func (a Args) Set(key string, v Value) Args {
	out := append(Args(nil), a...)
	for i := range out {
		if out[i].Key == key {
			out[i].Value = v
			return out
		}
	}
	return append(out, Arg{key, v})
}

// Without returns a without the key.
func (a Args) Without(key string) Args {
	var out Args
	for _, x := range a {
		if x.Key != key {
			out = append(out, x)
		}
	}
	return out
}

// Float returns a key's value as a number; zero where there is none.
func (a Args) Float(key string) float64 {
	n, _ := strconv.ParseFloat(a.Text(key), 64)
	return n
}

// Duration returns a key's value as a duration; zero where there is none.
func (a Args) Duration(key string) time.Duration {
	d, _ := time.ParseDuration(a.Text(key))
	return d
}

// Int returns a key's value as a number; zero where there is none.
func (a Args) Int(key string) int64 {
	n, _ := strconv.ParseInt(a.Text(key), 10, 64)
	return n
}

// MarshalJSON writes an object whose members keep their order.
func (a Args) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, x := range a {
		if i > 0 {
			b.WriteByte(',')
		}
		k, err := json.Marshal(x.Key)
		if err != nil {
			return nil, err
		}
		v, err := json.Marshal(x.Value)
		if err != nil {
			return nil, err
		}
		b.Write(k)
		b.WriteByte(':')
		b.Write(v)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (a *Args) UnmarshalJSON(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(err, errors.New("arguments are not an object"))
	}
	*a = nil
	for dec.More() {
		k, err := dec.Token()
		if err != nil {
			return err
		}
		var v Value
		if err := dec.Decode(&v); err != nil {
			return err
		}
		*a = append(*a, Arg{k.(string), v})
	}
	_, err := dec.Token()
	return err
}

// Domain is the set of values that a parameter can have.
type Domain interface {
	// Draw returns a value, mostly a sensible one.
	Draw(*rand.Rand) Value
	// Mutate returns a neighbour of v: a boundary, a slip, a broken form.
	Mutate(*rand.Rand, Value) Value
	// Simpler yields simpler values than v, the simplest first.
	Simpler(v Value) iter.Seq[Value]
}

// Segment is one part of a dotted key: a name, or the index of an array.
type Segment struct {
	Name  string
	Index bool // a bare number: an element of an array
}

// SplitKey splits body.items.0."a.b" into its segments. Quoted ones may hold anything.
func SplitKey(key string) ([]Segment, error) {
	var out []Segment
	for rest := key; ; {
		var seg Segment
		if strings.HasPrefix(rest, `"`) {
			q, err := strconv.QuotedPrefix(rest)
			if err != nil {
				return nil, fmt.Errorf("key %s: unclosed quote", key)
			}
			if seg.Name, err = strconv.Unquote(q); err != nil {
				return nil, fmt.Errorf("key %s: bad quote", key)
			}
			rest = rest[len(q):]
		} else {
			n := 0
			for n < len(rest) && keyByte(rest[n]) {
				n++
			}
			if n == 0 {
				return nil, fmt.Errorf("key %q: empty part", key)
			}
			seg.Name = rest[:n]
			_, err := strconv.ParseUint(seg.Name, 10, 16)
			seg.Index = err == nil
			rest = rest[n:]
		}
		out = append(out, seg)
		if rest == "" {
			return out, nil
		}
		if rest[0] != '.' {
			return nil, fmt.Errorf("key %q: unexpected %q", key, rest[:1])
		}
		rest = rest[1:]
	}
}

// JoinKey is the inverse of SplitKey.
func JoinKey(segs ...Segment) string {
	parts := make([]string, len(segs))
	for i, s := range segs {
		parts[i] = s.Name
		back, err := SplitKey(s.Name)
		if err != nil || len(back) != 1 || back[0] != s {
			parts[i] = strconv.Quote(s.Name)
		}
	}
	return strings.Join(parts, ".")
}

// keyByte reports whether c may stand unquoted in a key.
func keyByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("_-$@[]", c) >= 0
}
