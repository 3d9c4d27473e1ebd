package harness

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
)

// Lookup returns what a reference finds in a reply: a field of its body, or else what came
// with it: header.Location is a header field, and header.Location.last the last part of the
// path in it, which is how a reply without a body names what it has made.
func (r Reply) Lookup(path string) (Value, bool) {
	if v, ok := Lookup(r.Body, path); ok {
		return v, true
	}
	name, found := strings.CutPrefix(path, "header.")
	if !found {
		return Value{}, false
	}
	if name, found = strings.CutSuffix(name, ".last"); !found {
		v, ok := r.Header[name]
		return Text(v), ok
	}
	where, _, _ := strings.Cut(r.Header[name], "?")
	where = strings.TrimRight(where, "/")
	last, err := url.PathUnescape(where[strings.LastIndexByte(where, '/')+1:])
	return Text(last), err == nil && last != ""
}

// Lookup returns a field of a JSON reply by its dotted path, such as items.0.id. Numbers
// keep their text, objects and arrays become compact JSON; the empty path is the whole
// reply. It returns false where the body is not JSON or has no such field.
func Lookup(body []byte, path string) (Value, bool) {
	raw := json.RawMessage(body)
	if path != "" {
		for name := range strings.SplitSeq(path, ".") {
			var ok bool
			if raw, ok = field(bytes.TrimSpace(raw), name); !ok {
				return Value{}, false
			}
		}
	}
	v, err := JSON(raw)
	return v, err == nil
}

// field returns a member of a JSON object, or an element of a JSON array.
func field(raw json.RawMessage, name string) (json.RawMessage, bool) {
	switch {
	case bytes.HasPrefix(raw, []byte("{")):
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) != nil {
			return nil, false
		}
		got, ok := members[name]
		return got, ok
	case bytes.HasPrefix(raw, []byte("[")):
		var elements []json.RawMessage
		i, err := strconv.ParseUint(name, 10, 31)
		if err != nil || json.Unmarshal(raw, &elements) != nil || i >= uint64(len(elements)) {
			return nil, false
		}
		return elements[i], true
	}
	return nil, false
}
