// Package harness is the contract of shakedown: the data that every part reads and
// writes, and the few interfaces behind which targets, faults, probes, detectors and
// sources stand.
//
// Three plain types carry everything. A Case is the plan of one experiment, a Record is
// what happened when it was played, and a Judgement is what a detector made of the
// record. An error always says that the harness could not do its work; what the target
// did wrong is an Event first and a Finding then.
package harness

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"
)

// Caps are the abilities of a target, and what a fault or a detector needs of one.
type Caps uint32

// The abilities of a target.
const (
	CapLinks  Caps = 1 << iota // its dependencies stand behind links
	CapProcs                   // its processes can be ended and paused
	CapAgent                   // the agent inside the service answers
	CapRace                    // it was built with the race detector
	CapOutput                  // what it prints is seen
	CapStores                  // servers of its dependencies take an administrator's commands
	CapNative                  // its links are our own, and do whatever a Toxic says
)

// The abilities that the description of a target gives it. What needs them is not checked
// where they are missing, and that is no doubt: nothing was promised.
const (
	CapIdentity Caps = 1 << (16 + iota) // it says who a lane is, and which replies speak of their caller alone
	CapSteady                           // it says what holds while nothing disturbs it
)

// Declared are all the abilities that a description gives.
const Declared = CapIdentity | CapSteady

// Has reports whether c has every ability in need.
func (c Caps) Has(need Caps) bool { return c&need == need }

// Target is a system under test as described: it can be started any number of times.
type Target struct {
	Name, Doc string
	Caps      Caps
	Build     Build
	Env       map[string]string // what Start will use: rung and version per dependency, bugs
	Ops       []Op
	Links     []string          // names that World.Link knows
	Procs     []string          // names that World.Proc knows
	Stores    map[string]string // names that World.Store knows, with their engines: redis, postgres
	Steady    []Steady          // all must hold before and after a case
	Limits    []Limit           // watched while the target runs
	Start     func(context.Context, Setup) (Instance, error)
}

// Op returns the op of that name, or nil.
func (t *Target) Op(name string) *Op {
	for i := range t.Ops {
		if t.Ops[i].Name == name {
			return &t.Ops[i]
		}
	}
	return nil
}

// Setup is what one start of a target is given.
type Setup struct {
	Env  map[string]string // the case's env; zero means the target's own
	Emit func(Event)       // takes output, exit and login events at any time until Stop returns
}

// Op is one thing that a client can ask of a target.
type Op struct {
	Name, Doc string
	Route     string   // its method and path, "GET /items/{id}"; "" where it has none
	Mutates   bool     // it may change state, so a lost reply leaves its outcome unknown
	Params    []Param  // what a source draws
	Takes     []string // first parts of the keys that it takes beside those: "path", "header"
}

// Param is one argument of an op or a fault.
type Param struct {
	Name, Doc string
	Default   string   // in case text; "" for none
	Optional  bool     // a case may leave it out, though it has no default
	Domain    Domain   // draws, mutates and simplifies values; nil where From, Of or Given says it all
	Given     Domain   // in place of Domain: what a case may say, and sources leave at its default
	From      []string // where the value comes from: "create_order.id" is the field id of that op's reply
	Of        Of       // the value names a link, a process or a store of the target
	Engine    string   // with OfStore, the engine of the stores that it can name
}

// Of says what kind of thing of the target a parameter's value names.
type Of uint8

// The kinds of things that a parameter can name.
const (
	OfNothing Of = iota
	OfLink
	OfProc
	OfStore
)

// Names returns the values that a parameter which names something can have on t.
func (p Param) Names(t *Target) []string {
	switch p.Of {
	case OfLink:
		return t.Links
	case OfProc:
		return t.Procs
	case OfStore:
		var names []string
		for name, engine := range t.Stores {
			if engine == p.Engine {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	return nil
}

// Instance is one running copy of a target.
type Instance interface {
	World
	// Client logs a lane in, where the target wants that, and returns its client.
	Client(ctx context.Context, lane string) (Client, error)
	// Reset brings stores and links back to where they were after the start.
	Reset(context.Context) error
	// Quiesce waits until the target is at rest after a case and has handed over all
	// its output. Worn is not empty where this process life can serve no further case,
	// and says why.
	Quiesce(context.Context) (worn string, err error)
	// Stop ends everything that Start began; it may be called twice.
	Stop(context.Context) error
}

// Spent is what Quiesce says where a fault was injected that leaves in a process what a heal
// cannot take back, as times that it has written down by a clock that was moved. No later case is
// to meet that, and there is nothing to doubt.
const Spent = "a fault leaves something behind in it"

// World is what faults and probes see of an instance.
type World interface {
	Link(name string) (Link, error)
	Proc(name string) (Proc, error)
	Store(name string) (Store, error)
	Agent(proc string) (Agent, error)
}

// Client is the calling end of one lane. It is used by one goroutine at a time.
type Client interface {
	// Call asks for op with arguments in which no reference is left. It emits a
	// Forwarded event before the first byte is written. A call that fails is a Reply;
	// an error says that the call could not be made at all.
	Call(ctx context.Context, op string, args Args, emit func(Event)) (Reply, error)
	// Close lets go of the client's connections.
	Close()
}

// Reply is how a call ended.
type Reply struct {
	Outcome Kind   // OK, Fail or Unknown
	Status  int    // HTTP status; 0 where no reply came
	Expect  bool   // the target's description allows this status while nothing is injected
	Body    []byte // what came back, bounded by the client
	// Header holds what came with it that later calls can refer to, by canonical names; nil
	// for none.
	Header  map[string]string
	Error   string // transport error in the client's words
	Reused  bool   // it was asked on a connection that had served calls before
	Private bool   // it speaks of its caller alone, who was the lane's own user
}

// Agent answers questions from inside a service.
type Agent interface {
	// Ask returns the answer to one question; "goroutines" is a full dump.
	Ask(ctx context.Context, question string) ([]byte, error)
}

// Service is the name of the process that answers the calls. Every other process of a
// target has the name of a dependency.
const Service = "service"

// ErrNotReady says that the service was brought back, and was not ready when its time was
// up. That is the service's doing: it is no failure of the harness.
var ErrNotReady = errors.New("the service is not ready again")

// ErrNotHere says that a fault can never be had where it is aimed at.
var ErrNotHere = errors.New("it cannot be had here")

// Proc is the process tree of one part of a target.
type Proc interface {
	// Kill ends the whole tree at once, as a crash does, and returns how many
	// processes that were. Restart brings the part back and waits until it is ready; it
	// starts nothing where the part runs, and may be there together with an error, since
	// something may have ended. Of the service it returns ErrNotReady where that takes too
	// long, and nothing where the service ends meanwhile: that is an event.
	Kill(context.Context) (n int, restart func(context.Context) error, err error)
	// Pause stops the whole tree and returns how many processes were then seen stopped.
	Pause(context.Context) (n int, resume func(context.Context) error, err error)
	// LimitFiles lets each process of the tree open so many files more, sockets included,
	// and returns how many processes that is true of. Where it can never be done the error is
	// ErrNotHere.
	LimitFiles(ctx context.Context, more int) (n int, lift func(context.Context) error, err error)
	// Jump moves the clock that the tree reads, in whole seconds, forward or back from where it
	// is: several add up. The monotonic clock is not moved. What is started meanwhile reads the
	// moved clock, too. Acted counts what has met it. Where it can never be done the error is
	// ErrNotHere.
	Jump(ctx context.Context, by time.Duration) (Injection, error)
	// Confine leaves the tree, with all that it starts, no more than a quota. What the
	// injection counts is how often the system has held the tree to that: how often it was at its
	// limit of memory, and how many periods of processor time were cut short. Where the system
	// ends it for want of memory, its Exit is one that the harness brought about, and the heal
	// starts the part again, as a restart does. Where the quota can never be had the error
	// is ErrNotHere. One quota of a kind can be in force on a part.
	Confine(context.Context, Quota) (Injection, error)
}

// Quota is what a process tree gets of the machine, all its processes together. One of its fields
// is set.
type Quota struct {
	Memory int64 // bytes that it can still take; beyond, the system reclaims what it can, and then ends a process
	CPU    int   // of one processor's time, in percent; beyond, in each tenth of a second, the tree waits
}

// Fault is one way to disturb a target.
type Fault struct {
	Name, Doc string
	Needs     Caps
	Effect    Effect
	Params    []Param
	Variant   bool   // callers are likely to meet it as one of the others, or seldom: not every op has to
	Chance    bool   // it waits for something that a target may never do: a campaign can pass without its effect
	Named     bool   // it is injected only where it is asked for by its name
	Heals     string // what the heal does, in a few words; "" undoes all that the fault did
	Unit      string // what Injection.Acted counts
	// Inject puts the fault in force. An error that is ErrNotHere says that it cannot be had
	// where it is aimed at, ever.
	Inject func(ctx context.Context, w World, args Args, rng *rand.Rand) (Injection, error)
}

// Injection is a fault in force.
type Injection struct {
	// Heal ends the fault. It is called exactly once. An error other than ErrNotReady and
	// ErrExpired says that the harness could not end it.
	Heal func(context.Context) error
	// Acted counts what the fault has touched so far, in Unit: the proof that it took
	// effect. It may be called after Heal, and 0 then means that the fault did nothing.
	Acted func() int64
	// Unit is what Acted counts: bytes, connections, processes.
	Unit string
}

// Effect says what a fault can do to an operation that meets it.
type Effect uint8

// The effect classes, for the oracles that must know what an unknown outcome may mean.
const (
	EffectNone        Effect = iota // nothing is lost: late at most
	EffectNotExecuted               // the operation did not reach the dependency
	EffectAckLost                   // it was executed and its acknowledgement lost
	EffectMaybe                     // either of the two
	EffectDuplicate                 // it may have been executed twice
	EffectUndone                    // maybe; or it was executed and acknowledged, and is undone
	EffectCorrupt                   // what was asked, stored or answered may be wrong, and the service not to blame
)

func (e Effect) String() string {
	return [...]string{"none", "not-executed", "executed-ack-lost", "maybe", "duplicate", "undone", "corrupt"}[e]
}

// Detector judges records. Detect is a pure function of the record.
type Detector struct {
	Name, Doc string
	Needs     Caps
	Minimum   int    // a campaign passes it only if Checked adds up to this
	Faults    bool   // it judges what faults do: where none are injected nothing is asked of it
	Data      bool   // it judges what depends on stored data: where a fault may have changed bytes nothing is asked of it
	Proof     bool   // one sighting proves the finding, even where it cannot be shown again
	Repeats   string // what it judges the growth of where one process plays a case again and again, as package census names it; "" for no growth
	Detect    func(*Record) Judgement
}

// Judgement is what a detector made of a record. One that checked nothing is not a pass.
type Judgement struct {
	Findings []Finding `json:"findings,omitempty"`
	Checked  int       `json:"checked"`
	Unsure   []string  `json:"unsure,omitempty"` // what could not be decided, and why
}

// Finding is one violation. Its signature is its identity: it holds no address, number,
// time or line, and is the same on every machine.
type Finding struct {
	Detector  string   `json:"detector"`
	Signature string   `json:"signature"`
	Title     string   `json:"title"`
	Detail    string   `json:"detail,omitempty"`   // the report, dump or reply that shows it
	Evidence  []uint64 `json:"evidence,omitempty"` // Seq of the events that show it
}

// Probe measures a world; what it sees becomes events of the record.
type Probe struct {
	Name, Doc string
	Needs     Caps
	When      When
	Every     time.Duration // between two samples; zero means one sample
	Times     int           // how many samples; zero means one
	Sample    func(context.Context, World) ([]Event, error)
}

// When says at which moment of a case a probe samples.
type When uint8

// The moments at which probes sample.
const (
	AtStart    When = iota // before the first step
	AtQuiesced             // after the last step, when the target is at rest
	AtStuck                // while a call has passed its deadline; undisturbed, once more as long after that
)

// Source proposes cases.
type Source interface {
	// Next returns the next case to play; false says that there is none left.
	Next() (Case, bool)
	// Learn is told of every record played. Findings is not empty where the record is
	// that of a bug's minimal case: what triggers it should then be drawn rarely.
	Learn(rec *Record, proven []Finding)
}

// Sink takes bugs: once when first seen, and again when they are settled.
type Sink interface {
	Put(Bug, *Record) error
}

// Bug is a finding with its proof.
type Bug struct {
	Finding
	First     Case          `json:"first"`      // the case that showed it first
	Case      Case          `json:"case"`       // the smallest case known
	Minimal   bool          `json:"minimal"`    // nothing more can be taken away from Case
	Shown     int           `json:"shown"`      // of Replays, how many showed it
	Replays   int           `json:"replays"`    // how often Case was played in fresh processes
	Others    int           `json:"others"`     // replays of harder and of joined cases, none of which showed it
	Settled   bool          `json:"settled"`    // the proof is done, or has been given up
	Proven    bool          `json:"proven"`     // shown again, or beyond doubt by itself
	Disturbed bool          `json:"disturbed"`  // seen after faults of earlier cases in the same process
	Seen      int           `json:"seen"`       // records of the campaign that showed it, replays of other bugs included
	FirstSeen time.Duration `json:"first_seen"` // search time until it was first seen
}
