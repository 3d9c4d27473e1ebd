package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
)

// maxNesting bounds how deep a body is: it is written by recursion.
const maxNesting = 256

// body returns the body that the arguments describe, and whether there is one. The
// argument body is the whole of it, and wins over body.* beside it.
func body(args harness.Args) (payload []byte, has bool, err error) {
	if v, ok := args.Get("body"); ok {
		if v.Form == harness.FormRaw {
			return []byte(v.Text), true, nil
		}
		return encode(v), true, nil
	}
	var root node
	for _, a := range args {
		if !strings.HasPrefix(a.Key, "body.") {
			continue
		}
		segs, err := harness.SplitKey(a.Key)
		if err != nil {
			return nil, false, err
		}
		if len(segs) > maxNesting {
			return nil, false, fmt.Errorf("a body nested deeper than %d levels", maxNesting)
		}
		root.set(segs[1:], encode(a.Value))
	}
	if root.kids == nil {
		return nil, false, nil
	}
	var b bytes.Buffer
	root.write(&b)
	return b.Bytes(), true, nil
}

// encode returns a value as JSON; what is no JSON becomes a string.
func encode(v harness.Value) []byte {
	if v.Form == harness.FormJSON && json.Valid([]byte(v.Text)) {
		return []byte(v.Text)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v.Text); err != nil {
		panic("api: a string that is no JSON: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// node is a place in a body: a leaf with its JSON, or an object or array with its
// members in the order in which they were given.
type node struct {
	leaf  []byte
	order []harness.Segment
	kids  map[harness.Segment]*node
}

// set puts a leaf at the end of a path. Where a leaf stands on the way, it gives way.
func (n *node) set(path []harness.Segment, leaf []byte) {
	if len(path) == 0 {
		n.leaf = leaf
		return
	}
	if n.kids == nil {
		n.kids = map[harness.Segment]*node{}
	}
	kid := n.kids[path[0]]
	if kid == nil {
		kid = new(node)
		n.kids[path[0]] = kid
		n.order = append(n.order, path[0])
	}
	kid.set(path[1:], leaf)
}

func (n *node) write(b *bytes.Buffer) {
	switch {
	case n.kids == nil:
		b.Write(n.leaf)
	case n.array():
		n.list(b)
	default:
		n.object(b)
	}
}

// array reports whether every member is named by an index.
func (n *node) array() bool {
	for s := range maps.Keys(n.kids) {
		if !s.Index {
			return false
		}
	}
	return true
}

// list writes the elements in the order of their indices, and closes gaps.
func (n *node) list(b *bytes.Buffer) {
	order := slices.Clone(n.order)
	slices.SortStableFunc(order, func(x, y harness.Segment) int {
		i, _ := strconv.ParseUint(x.Name, 10, 16)
		j, _ := strconv.ParseUint(y.Name, 10, 16)
		return int(i) - int(j)
	})
	b.WriteByte('[')
	for i, s := range order {
		if i > 0 {
			b.WriteByte(',')
		}
		n.kids[s].write(b)
	}
	b.WriteByte(']')
}

func (n *node) object(b *bytes.Buffer) {
	b.WriteByte('{')
	for i, s := range n.order {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(encode(harness.Text(s.Name)))
		b.WriteByte(':')
		n.kids[s].write(b)
	}
	b.WriteByte('}')
}
