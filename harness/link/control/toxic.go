package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// toxic is one of toxiproxy's, on a link of ours.
type toxic struct {
	Name       string           `json:"name"`
	Type       string           `json:"type"`
	Stream     string           `json:"stream"`
	Toxicity   float64          `json:"toxicity"`
	Attributes map[string]int64 `json:"attributes"`

	// What it has done so far, in Unit. Toxiproxy has no such fields.
	Acted int64  `json:"acted"`
	Unit  string `json:"unit"`

	in harness.Injection // without Heal where there is nothing to do
}

// attribute is a whole number in a unit of toxiproxy's.
type attribute struct {
	name        string
	least, most int64
}

// kind is a type of toxic.
type kind struct {
	attributes []attribute
	toxic      func(a map[string]int64) harness.Toxic // nothing: the attributes say so
}

// The longest time and the largest number that an attribute may be.
const (
	hour = int64(time.Hour / time.Millisecond)
	most = 1 << 30
)

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// kinds are toxiproxy's types by name.
var kinds = map[string]kind{
	"latency": {
		[]attribute{{"latency", 0, hour}, {"jitter", 0, hour}},
		func(a map[string]int64) harness.Toxic {
			return harness.Toxic{Delay: ms(a["latency"]), Jitter: ms(a["jitter"])}
		},
	},
	"bandwidth": {
		[]attribute{{"rate", 0, most}},
		func(a map[string]int64) harness.Toxic { return harness.Toxic{Rate: a["rate"], Hold: a["rate"] == 0} },
	},
	"slow_close": {
		[]attribute{{"delay", 0, hour}},
		func(a map[string]int64) harness.Toxic { return harness.Toxic{Linger: ms(a["delay"])} },
	},
	"timeout": {
		[]attribute{{"timeout", 0, hour}},
		func(a map[string]int64) harness.Toxic { return harness.Toxic{Drop: true, Expire: ms(a["timeout"])} },
	},
	"reset_peer": {
		[]attribute{{"timeout", 0, hour}},
		func(a map[string]int64) harness.Toxic {
			return harness.Toxic{Refuse: true, Reset: true, Age: ms(a["timeout"]), Drop: a["timeout"] > 0}
		},
	},
	"slicer": {
		[]attribute{{"average_size", 1, most}, {"size_variation", 0, most}, {"delay", 0, hour * 1000}},
		func(a map[string]int64) harness.Toxic {
			return harness.Toxic{Slice: a["average_size"], Vary: a["size_variation"], Gap: time.Duration(a["delay"]) * time.Microsecond}
		},
	},
	"limit_data": {
		[]attribute{{"bytes", 0, most}},
		func(a map[string]int64) harness.Toxic { return harness.Toxic{Cut: true, CutAfter: a["bytes"]} },
	},
}

var streams = map[string]harness.Dir{"upstream": harness.Up, "downstream": harness.Down}

// toxicBody is what a request says of a toxic. What it does not say is nil.
type toxicBody struct {
	Name       *string                    `json:"name"`
	Type       *string                    `json:"type"`
	Stream     *string                    `json:"stream"`
	Toxicity   *float64                   `json:"toxicity"`
	Attributes map[string]json.RawMessage `json:"attributes"`

	Acted *int64  `json:"acted"` // what was read from here may be sent back: these say nothing
	Unit  *string `json:"unit"`
}

// create returns the toxic that a request describes.
func (b toxicBody) create() (*toxic, error) {
	t := &toxic{Stream: "downstream", Toxicity: 1, Attributes: map[string]int64{}}
	for _, f := range []struct{ to, from *string }{{&t.Name, b.Name}, {&t.Type, b.Type}, {&t.Stream, b.Stream}} {
		if f.from != nil && *f.from != "" {
			*f.to = *f.from
		}
	}
	if t.Name == "" {
		t.Name = t.Type + "_" + t.Stream
	}
	if err := named("toxic", t.Name); err != nil {
		return nil, err
	}
	if _, known := kinds[t.Type]; !known {
		return nil, badRequest("invalid toxic type: %q; there are %s", t.Type, strings.Join(slices.Sorted(maps.Keys(kinds)), ", "))
	}
	return t, b.apply(t)
}

// named refuses what no path can name.
func named(what, name string) error {
	if strings.Contains(name, "/") || name == "." || name == ".." {
		return badRequest("%q is no name for a %s: no path leads there", name, what)
	}
	return nil
}

// update returns a copy of a toxic with what a request says of it. What a toxic is cannot
// be changed.
func (b toxicBody) update(old *toxic) (*toxic, error) {
	for _, f := range []struct {
		what, is string
		want     *string
	}{{"name", old.Name, b.Name}, {"type", old.Type, b.Type}, {"stream", old.Stream, b.Stream}} {
		if f.want != nil && *f.want != "" && *f.want != f.is {
			return nil, badRequest("the %s of a toxic cannot be changed: it is %q", f.what, f.is)
		}
	}
	t := *old
	t.Attributes, t.in = maps.Clone(old.Attributes), harness.Injection{}
	return &t, b.apply(&t)
}

// apply sets toxicity and attributes, and checks all of them.
func (b toxicBody) apply(t *toxic) error {
	if _, known := streams[t.Stream]; !known {
		return badRequest("stream was invalid, can be either upstream or downstream: %q", t.Stream)
	}
	if b.Toxicity != nil {
		t.Toxicity = *b.Toxicity
	}
	if !(t.Toxicity >= 0 && t.Toxicity <= 1) {
		return badRequest("toxicity is %v: it must be from 0 to 1", t.Toxicity)
	}
	k := kinds[t.Type]
	for _, name := range slices.Sorted(maps.Keys(b.Attributes)) {
		if !slices.ContainsFunc(k.attributes, func(a attribute) bool { return a.name == name }) {
			var names []string
			for _, a := range k.attributes {
				names = append(names, a.name)
			}
			return badRequest("toxic %s has no attribute %q; there are: %s", t.Type, name, strings.Join(names, ", "))
		}
		n, err := whole(b.Attributes[name])
		if err != nil {
			return badRequest("attribute %q of toxic %s: %v", name, t.Type, err)
		}
		t.Attributes[name] = n
	}
	for _, a := range k.attributes {
		if n := t.Attributes[a.name]; n < a.least || n > a.most {
			return badRequest("attribute %q of toxic %s is %d: it must be from %d to %d", a.name, t.Type, n, a.least, a.most)
		}
		t.Attributes[a.name] += 0 // all of them are shown
	}
	if t.Attributes["size_variation"] > 0 && t.Attributes["size_variation"] >= t.Attributes["average_size"] {
		return badRequest("attribute \"size_variation\" of toxic slicer must be less than \"average_size\"")
	}
	return nil
}

// whole reads a whole number, which clients also write as 100.0.
func whole(b json.RawMessage) (int64, error) {
	if n, err := strconv.ParseInt(string(b), 10, 64); err == nil {
		return n, nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, fmt.Errorf("%s is no whole number", b)
	}
	return int64(f), nil
}

// on returns what a link is to do. False says that it is nothing.
func (t *toxic) on(seed uint64) (harness.Toxic, bool) {
	x := kinds[t.Type].toxic(t.Attributes)
	if t.Toxicity == 0 || x == (harness.Toxic{}) {
		return harness.Toxic{}, false
	}
	x.Dir, x.Share, x.Seed = streams[t.Stream], t.Toxicity, seed
	return x, true
}

// shown returns the toxic with what it has done until now.
func (t *toxic) shown() toxic {
	out := *t
	if t.in.Acted != nil {
		out.Acted, out.Unit = t.in.Acted(), t.in.Unit
	}
	return out
}

// maxBody bounds what a request may say, in bytes.
const maxBody = 1 << 20

// read reads a body that says one thing, and nothing that is not known.
func read(body io.Reader, into any) error {
	b, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	if err != nil {
		return badRequest("bad request body: %v", err)
	}
	if len(b) > maxBody {
		return badRequest("bad request body: more than %d bytes", maxBody)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return badRequest("bad request body: %v", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return badRequest("bad request body: something follows the first value")
	}
	return nil
}
