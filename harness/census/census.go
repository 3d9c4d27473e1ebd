// Package census counts what a service holds: goroutines by where they came from, open
// files by kind, connections on its links. Two censuses of one process show what has come
// to stay in between, and cost a fraction of the stacks of all goroutines.
package census

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// The names of the samples in a record.
const (
	Name  = "census" // what was counted
	Leaks = "leaks"  // the stacks of all goroutines, taken because something had come to stay
	Sites = "heap"   // where most of the heap that is in use was allocated, a line each
)

// The moments of a census, as the argument "when" of its event says. Beside it stands the
// argument "round": how often the case had been played by then.
const (
	Start = "start" // before the first call of the first round
	End   = "end"   // when the target was at rest after a round
	Late  = "late"  // some seconds after the last round
)

// Census is what a process was seen to hold.
type Census struct {
	PID        int            `json:"pid"`
	Goroutines []Group        `json:"goroutines"`
	Files      map[string]int `json:"files,omitempty"` // by kind: socket, pipe, file, other
	Links      map[string]int `json:"links,omitempty"` // connections that are open
	Heap       int64          `json:"heap,omitempty"`  // bytes in use after two collections; 0 where they were not counted
	Cut        bool           `json:"cut,omitempty"`   // there are more goroutines than were read
}

// Group is the goroutines that one go statement has started with one function.
type Group struct {
	By   string  `json:"by,omitempty"` // the function with the go statement; "" for the main goroutine
	Root string  `json:"root"`         // the outermost function on its stack
	IDs  []int64 `json:"ids"`
}

// Take asks the agent in the service, and counts the connections on the links. Heap says
// whether the heap is counted, too: the service then collects its garbage twice.
func Take(ctx context.Context, w harness.World, links []string, heap bool) (Census, error) {
	var c Census
	a, err := w.Agent(harness.Service)
	if err != nil {
		return c, err
	}
	question := "census"
	if heap {
		question = "census heap"
	}
	text, err := a.Ask(ctx, question)
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("census: %w", err)
	}
	c.Links = nil
	for _, name := range links {
		l, err := w.Link(name)
		if err != nil {
			return c, err
		}
		if c.Links == nil {
			c.Links = map[string]int{}
		}
		c.Links[name] = int(l.Stats().Open)
	}
	return c, nil
}

// Event is the census as a sample of a record.
func (c Census) Event(when string, round int) harness.Event {
	text, err := json.Marshal(c)
	if err != nil {
		panic("census: " + err.Error()) // there is nothing in it that JSON does not have
	}
	return harness.Event{Kind: harness.Sample, Step: -1, Name: Name, Args: Args(when, round), Text: string(text)}
}

// Args are those of a sample that was taken at that moment.
func Args(when string, round int) harness.Args {
	return harness.Args{{Key: "when", Value: harness.Text(when)}, {Key: "round", Value: harness.Int(int64(round))}}
}

// Read returns the census of an event; false says that the event holds none.
func Read(e harness.Event) (Census, bool) {
	var c Census
	if e.Kind != harness.Sample || e.Name != Name || e.Args.Text("error") != "" {
		return c, false
	}
	return c, json.Unmarshal([]byte(e.Text), &c) == nil && c.PID != 0 && !c.Cut
}

// The sorts of things that are counted. Leaked is a part of the goroutines: those that the
// runtime says nobody can wake any more.
const (
	Goroutine = "goroutine"
	Leaked    = "leaked"
	File      = "file"
	Link      = "link"
	Memory    = "heap"
)

// Key names what is counted together.
type Key struct {
	Sort string // Goroutine, File, Link or Memory
	By   string // goroutine: the function with the go statement
	Name string // goroutine: the outermost function; else the kind of file, the link
}

// Heap is the key of the heap in use.
var Heap = Key{Sort: Memory}

// The bounds of growth of the heap, in KiB. Every round must leave more behind than garbage
// and buffers make it vary, and all of them more than a cache commonly holds.
const (
	HeapRound = 128
	HeapTotal = 64 << 10
)

// Of returns the key of a goroutine on a dump.
func Of(g stack.Goroutine) Key {
	k := Key{Sort: Goroutine, By: g.Creator.Func}
	if n := len(g.Frames); n > 0 {
		k.Name = g.Frames[n-1].Func
	}
	return k
}

// Counts returns how much there is of everything, of the heap in KiB.
func (c Census) Counts() map[Key]int {
	out := make(map[Key]int, len(c.Goroutines)+len(c.Files)+len(c.Links))
	for _, g := range c.Goroutines {
		out[g.key()] += len(g.IDs)
	}
	for kind, n := range c.Files {
		out[Key{Sort: File, Name: kind}] = n
	}
	for link, n := range c.Links {
		out[Key{Sort: Link, Name: link}] = n
	}
	if c.Heap > 0 {
		out[Heap] = int(c.Heap >> 10)
	}
	return out
}

// key is what Of says of each goroutine of the group.
func (g Group) key() Key {
	return Key{Sort: Goroutine, By: stack.Shorten(g.By), Name: stack.Shorten(g.Root)}
}

// Own returns the keys of goroutines that code of a module has started.
func (c Census) Own(module string) map[Key]bool {
	out := map[Key]bool{}
	for _, g := range c.Goroutines {
		if stack.Own(module, g.By) {
			out[g.key()] = true
		}
	}
	return out
}

// IDs returns the numbers of all goroutines.
func (c Census) IDs() map[int64]bool {
	out := map[int64]bool{}
	for _, g := range c.Goroutines {
		for _, id := range g.IDs {
			out[id] = true
		}
	}
	return out
}

// Stayed returns the goroutines of a dump that were not there at the census, by key.
func (c Census) Stayed(dump string) map[Key][]stack.Goroutine {
	before := c.IDs()
	out := map[Key][]stack.Goroutine{}
	for _, g := range stack.Goroutines(strings.Split(dump, "\n")) {
		if !before[g.ID] && !strings.Contains(g.Creator.Func, "/zzshakedown.") {
			out[Of(g)] = append(out[Of(g)], g)
		}
	}
	return out
}

// Grown returns the keys of which there is more than before.
func Grown(before, now map[Key]int) map[Key]int {
	out := maps.Clone(now)
	maps.DeleteFunc(out, func(k Key, n int) bool { return n <= before[k] })
	return out
}

// Kept returns how much more of something a healthy service may come to keep for so many
// callers at once, be it one by one, round after round. A call may use two connections at the
// same time, a pool keeps what it was once asked for, and some open all eight that they
// may have before they use one again. Of goroutines and files there may be one for each
// shard, tenant or client, begun when that is first met: 64 are a common bound.
func Kept(k Key, callers int) int {
	bound := 8
	if k.Sort == Goroutine || k.Sort == File && k.Name != "socket" {
		bound = 64
	}
	return max(2*callers, bound)
}

// What has grown is given some time to end by itself: long where it may wait with a
// timeout, short where nothing but another goroutine can end the wait.
const (
	LongLook  = 8 * time.Second
	ShortLook = 2 * time.Second
)

// Patience returns how long a goroutine in that state must have stayed to be one that stays
// for good; false says that no time would tell, since it may wait with any timeout.
func Patience(state string) (look time.Duration, known bool) {
	switch {
	case state == "IO wait" || state == "chan receive":
		return LongLook, true
	case strings.HasPrefix(state, "chan ") || state == "select (no cases)":
		return ShortLook, true
	case strings.HasPrefix(state, "sync.") || state == "semacquire":
		return ShortLook, true
	}
	return LongLook, false
}
