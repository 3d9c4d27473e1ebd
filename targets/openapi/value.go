package openapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
)

// value is a JSON value that keeps the order of members.
type value struct {
	kind    kind
	leaf    harness.Value // of a scalar: a text or JSON
	members []field       // of an object
	items   []value       // of an array
}

type kind uint8

const (
	scalar kind = iota
	object
	array
)

// field is one member of an object.
type field struct {
	name string
	value
}

func null() value { return value{leaf: harness.Value{Form: harness.FormJSON, Text: "null"}} }

func (v value) isNull() bool {
	return v.kind == scalar && v.leaf.Form == harness.FormJSON && v.leaf.Text == "null"
}

// reference reports whether v stands for a field of a reply.
func (v value) reference() bool {
	return v.kind == scalar && v.leaf.Form == harness.FormText && strings.HasPrefix(v.leaf.Text, "{{") && strings.HasSuffix(v.leaf.Text, "}}")
}

// find returns the index of a member, or -1.
func (v value) find(name string) int {
	return slices.IndexFunc(v.members, func(m field) bool { return m.name == name })
}

// clone returns a copy that shares nothing.
func (v value) clone() value {
	v.members, v.items = slices.Clone(v.members), slices.Clone(v.items)
	for i := range v.members {
		v.members[i].value = v.members[i].clone()
	}
	for i := range v.items {
		v.items[i] = v.items[i].clone()
	}
	return v
}

// contract returns v as a value of the contract.
func (v value) contract() harness.Value {
	if v.kind == scalar {
		return v.leaf
	}
	var b bytes.Buffer
	v.write(&b)
	return harness.Value{Form: harness.FormJSON, Text: b.String()}
}

func (v value) write(b *bytes.Buffer) {
	switch v.kind {
	case object:
		b.WriteByte('{')
		for i, m := range v.members {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(quote(m.name))
			b.WriteByte(':')
			m.write(b)
		}
		b.WriteByte('}')
	case array:
		b.WriteByte('[')
		for i, x := range v.items {
			if i > 0 {
				b.WriteByte(',')
			}
			x.write(b)
		}
		b.WriteByte(']')
	default:
		if v.leaf.Form == harness.FormJSON {
			b.WriteString(v.leaf.Text)
		} else {
			b.WriteString(quote(v.leaf.Text))
		}
	}
}

// quote returns a text as a JSON string.
func quote(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("openapi: a string that is no JSON: " + err.Error())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// maxNesting bounds how deep a value is that is read.
const maxNesting = 128

// readValue reads a value of the contract.
func readValue(v harness.Value) (value, error) {
	if v.Form != harness.FormJSON {
		return value{leaf: harness.Text(v.Text)}, nil
	}
	dec := json.NewDecoder(strings.NewReader(v.Text))
	dec.UseNumber()
	return decode(dec, 0)
}

func decode(dec *json.Decoder, depth int) (value, error) {
	t, err := dec.Token()
	if err != nil {
		return value{}, err
	}
	if depth > maxNesting {
		return value{}, errors.New("nested too deep")
	}
	switch t := t.(type) {
	case json.Delim:
		v := value{kind: array}
		if t == '{' {
			v.kind = object
		}
		for dec.More() {
			var name string
			if v.kind == object {
				key, err := dec.Token()
				if err != nil {
					return v, err
				}
				name, _ = key.(string)
			}
			x, err := decode(dec, depth+1)
			if err != nil {
				return v, err
			}
			if v.kind == object {
				v.members = append(v.members, field{name, x})
			} else {
				v.items = append(v.items, x)
			}
		}
		_, err := dec.Token()
		return v, err
	case string:
		return value{leaf: harness.Text(t)}, nil
	case json.Number:
		return value{leaf: harness.Value{Form: harness.FormJSON, Text: t.String()}}, nil
	case bool:
		if t {
			return value{leaf: harness.Value{Form: harness.FormJSON, Text: "true"}}, nil
		}
		return value{leaf: harness.Value{Form: harness.FormJSON, Text: "false"}}, nil
	}
	return null(), nil
}

// given returns what a document gives as a value, such as an example; false where it cannot
// be written as JSON.
func given(x any) (value, bool) {
	b, err := json.Marshal(x)
	if err != nil {
		return value{}, false
	}
	v, err := harness.JSON(b)
	if err != nil {
		return value{}, false
	}
	got, err := readValue(v)
	return got, err == nil
}

// example returns what a document gives as an example; false where it gives none, or one that
// a case would take for a reference.
func example(x any) (value, bool) {
	v, ok := given(x)
	return v, ok && x != nil && len(v.contract().References()) == 0
}
