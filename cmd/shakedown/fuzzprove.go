package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/fuzz/engine"
	"github.com/shakedown-go/shakedown/fuzz/nemesis"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/report"
	"github.com/shakedown-go/shakedown/targets/function"
)

// fuzzBug is a failure that was shown in a build as the module has it.
type fuzzBug struct {
	harness.Finding
	Package   string        `json:"package"`
	Func      string        `json:"func"`
	Sort      function.Sort `json:"sort"`
	Way       way           `json:"way"`
	Shown     int           `json:"shown"` // of Replays
	Replays   int           `json:"replays"`
	Other     *count        `json:"other,omitempty"` // without the fault of Way, or else in the build with the race detector where Way is without, and the other way round
	Minimal   bool          `json:"minimal"`
	Size      int           `json:"size"`  // bytes of the input
	First     int           `json:"first"` // of the one that the engine reported
	Seen      int           `json:"seen"`
	FirstSeen time.Duration `json:"first_seen"`

	input engine.Input
}

type count struct {
	Shown   int `json:"shown"`
	Replays int `json:"replays"`
}

// way is how an input is run.
type way struct {
	Race  bool   `json:"race"`
	Calls int    `json:"calls"`           // in one process
	Needs string `json:"needs,omitempty"` // the fault in force
}

const (
	proofReplays = 10
	manyCalls    = 100
	// faultCalls is few: each may wait for its own deadline.
	faultCalls = 5
)

// played is one replay.
type played struct {
	rec   *harness.Record
	found []harness.Finding
	acted bool // the fault took effect
}

// play runs an input once, in a fresh process.
func (l *fuzzLab) play(ctx context.Context, fn function.Func, in engine.Input, w way) (played, error) {
	var p played
	r, err := l.replayer(ctx, fn, w.Race)
	if err != nil {
		return p, err
	}
	if len(l.file.Dependencies) > 0 {
		// It has a limit of its own, and a reset that is cut short says less than one late.
		if err := l.around.Reset(context.WithoutCancel(ctx)); err != nil {
			return p, err
		}
	}
	do := func(ctx context.Context) (err error) {
		p.rec, p.found, err = r.Replay(ctx, given(fn, in), w.Calls)
		return err
	}
	if w.Needs == "" {
		return p, do(ctx)
	}
	aim, err := nemesis.Parse(w.Needs, l.aims)
	if err != nil {
		return p, err
	}
	p.acted, err = nemesis.Under(ctx, l.around, aim, l.seed, do)
	// What a held connection is waited for is no hang of the function's.
	p.found = slices.DeleteFunc(p.found, func(f harness.Finding) bool { return f.Detector == "hang" })
	return p, err
}

// given is an input as a function is run with it.
func given(fn function.Func, in engine.Input) function.Input {
	out := function.Input{File: in.Text(), Texts: texts(in)}
	if raw, ok := in.Raw(); ok && fn.Sort == function.GoFuzz {
		out.File = raw
	}
	out.Own, _ = in.Own()
	return out
}

// attempt is a way in which a suspect is tried, so many times.
type attempt struct {
	way
	times int
}

// ways are those in which a suspect is tried, the plainest first.
func (l *fuzzLab) ways(s *suspect) []attempt {
	first := l.race || strings.HasPrefix(s.Signature, "race: ")
	out := []attempt{{way{Race: first, Calls: 1}, 3}, {way{Race: !first, Calls: 1}, 2}}
	var under []string
	if s.during != "" {
		under = append(under, s.during)
	}
	for _, a := range l.aims {
		if l.tallies[a.String()].Acted > 0 && a.String() != s.during {
			under = append(under, a.String())
		}
	}
	for _, needs := range under {
		out = append(out, attempt{way{Race: first, Calls: 1, Needs: needs}, 1})
	}
	out = append(out, attempt{way{Race: first, Calls: manyCalls}, 2}, attempt{way{Race: !first, Calls: manyCalls}, 1})
	for _, needs := range under {
		out = append(out, attempt{way{Race: first, Calls: faultCalls, Needs: needs}, 1})
	}
	return slices.DeleteFunc(out, func(a attempt) bool { return a.Race && l.raceless != "" })
}

// builds has both builds made: what that takes is not taken from the time for proofs.
// Where there is none with the race detector, raceless says why.
func (l *fuzzLab) builds(ctx context.Context, fn function.Func) error {
	if _, err := l.replayer(ctx, fn, false); err != nil || l.raceless != "" {
		return err
	}
	_, err := l.replayer(ctx, fn, true)
	var words *function.Error
	if errors.As(err, &words) && !l.race {
		l.raceless, _, _ = strings.Cut(words.Msg, "\n")
		fmt.Fprintf(l.stderr, "without a build with the race detector: %s\n", report.Clean(words.Msg))
		return nil
	}
	return err
}

// prover proves one suspect.
type prover struct {
	lab     *fuzzLab
	s       *suspect
	ctx     context.Context // ends when the time for the proof is up
	want    string          // the signature; "" takes any
	replays int
	last    played                                                                  // the last that showed it
	play    func(context.Context, function.Func, engine.Input, way) (played, error) // the lab's
}

// prove shows a suspect again, makes its input small, and counts how often that shows it.
// An error says that the harness failed.
func (l *fuzzLab) prove(ctx context.Context, s *suspect, row *fuzzRow) error {
	if err := l.builds(ctx, s.fn); err != nil && ctx.Err() == nil {
		return err
	}
	proving, cancel := context.WithTimeout(ctx, l.triage)
	defer cancel()
	p := &prover{lab: l, s: s, play: l.play, ctx: proving, want: s.Signature}
	b, err := p.show()
	if err == nil && b != nil {
		err = p.refine(b)
	}
	s.Replays = p.replays
	if proving.Err() != nil && (errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled)) {
		err = nil // out of time: what is known is told
	}
	switch {
	case err != nil:
		return err
	case b == nil:
		l.suspects = append(l.suspects, s)
		s.late = proving.Err() != nil
		fmt.Fprintf(l.stdout, "unsure %s: %s\n", report.Clean(s.name()), s.doubt())
		return nil
	}
	if i := slices.IndexFunc(l.bugs, func(c *fuzzBug) bool { return c.Signature == b.Signature }); i >= 0 {
		l.bugs[i].Seen += s.Seen
		return nil
	}
	row.Bugs++
	l.bugs = append(l.bugs, b)
	return l.tell(b, p.last, s)
}

// doubt says why a suspect is no bug.
func (s *suspect) doubt() string {
	if s.Replays == 0 {
		return fmt.Sprintf("seen %d times, and not replayed: the time for the proof was up", s.Seen)
	}
	where := "seen only while fuzzing"
	if s.fn.Sort == function.GoFuzz {
		where = "seen only in the go-fuzz build"
	}
	why := fmt.Sprintf("%s (%d times), not shown in %d replays of a build as the module has it", where, s.Seen, s.Replays)
	if s.late {
		why += "; the time for the proof was up"
	}
	return why
}

// show looks for a way in which one of the inputs shows the suspect.
func (p *prover) show() (*fuzzBug, error) {
	for _, a := range p.lab.ways(p.s) {
		for range a.times {
			for _, in := range p.s.inputs {
				ok, err := p.shows(in, a.way)
				if err != nil {
					return nil, err
				}
				if ok {
					w := a.way
					if !p.last.acted { // chance showed it, and not the fault
						w.Needs = ""
					}
					return p.bug(in, w), nil
				}
			}
		}
	}
	// Perhaps the engine's build and the module's fail on it in different ways.
	if p.want != "" {
		p.want = ""
		for _, a := range p.lab.ways(p.s)[:1] {
			ok, err := p.shows(p.s.inputs[0], a.way)
			if err != nil {
				return nil, err
			}
			if ok {
				return p.bug(p.s.inputs[0], a.way), nil
			}
		}
	}
	return nil, nil
}

// bug is what the last replay has shown.
func (p *prover) bug(in engine.Input, w way) *fuzzBug {
	return &fuzzBug{
		Finding: p.last.found[0], Package: p.lab.pkg.ImportPath, Func: p.s.fn.Name, Sort: p.s.fn.Sort, Way: w, input: in,
		First: p.s.inputs[0].Size(), Size: in.Size(), Shown: 1, Replays: 1, Seen: p.s.Seen, FirstSeen: p.s.at,
	}
}

// shows runs an input and reports whether it showed what is wanted. The first finding of
// the last replay is then that.
func (p *prover) shows(in engine.Input, w way) (bool, error) {
	if err := p.ctx.Err(); err != nil {
		return false, err
	}
	got, err := p.play(p.ctx, p.s.fn, in, w)
	if err != nil {
		return false, err
	}
	p.replays++
	for _, f := range got.found {
		// A replay on a busy machine may be late: that is none but where the engine said so.
		if p.want == "" && f.Detector != "hang" || f.Signature == p.want && p.want != "" {
			got.found = []harness.Finding{f}
			p.last = got
			return true, nil
		}
	}
	return false, nil
}

// refine makes the input of a bug small and counts how surely that shows it. Whatever is
// known when the time is up stands in the bug.
func (p *prover) refine(b *fuzzBug) error {
	p.want = b.Signature
	if err := p.measure(b, b.Way, &b.Shown, &b.Replays); err != nil {
		return err
	}
	tries := 1
	if b.Shown < b.Replays { // three times the mean number of replays to the first success
		tries = min(10, 3*b.Replays/max(1, b.Shown)+1)
	}
	var failure error
	until := time.Now().Add(p.lab.triage / 2) // what is left is for measuring
	small, done := engine.Minimize(b.input, func(in engine.Input) (yes, more bool) {
		for range tries {
			if time.Now().After(until) {
				return false, false
			}
			ok, err := p.shows(in, b.Way)
			if err != nil {
				failure = err
				return false, false
			}
			if ok {
				return true, true
			}
		}
		return false, true
	})
	b.Minimal = done
	if small.Name() != b.input.Name() {
		b.input, b.Size, b.Shown, b.Replays = small, small.Size(), 1, 1
		if failure == nil {
			failure = p.measure(b, b.Way, &b.Shown, &b.Replays)
		}
	}
	w := way{Race: !b.Way.Race, Calls: b.Way.Calls}
	switch {
	case failure != nil:
		return failure
	case b.Way.Needs != "": // a few replays did not show it without: that may have been chance
		w.Race = b.Way.Race
	case b.Detector == "race" || p.lab.raceless != "": // only one build can show it
		return nil
	}
	other := count{}
	err := p.measure(b, w, &other.Shown, &other.Replays)
	if other.Replays > 0 {
		b.Other = &other
	}
	return err
}

// measure counts how often the input of a bug shows it.
func (p *prover) measure(b *fuzzBug, w way, shown, replays *int) error {
	k, n := 0, 0
	for range proofReplays {
		ok, err := p.shows(b.input, w)
		if err != nil {
			return err
		}
		if n++; ok {
			k++
		}
		*shown, *replays = k, n
	}
	return nil
}

// tell prints a bug and keeps it.
func (l *fuzzLab) tell(b *fuzzBug, last played, s *suspect) error {
	var lines []string
	if last.rec != nil {
		for _, e := range last.rec.Events {
			if e.Kind == harness.Output {
				lines = append(lines, e.Text)
			}
		}
	}
	kept := files(b.input, b, lines)
	for name, data := range files(s.inputs[0], nil, nil) {
		kept["first-"+name] = data
	}
	if err := l.dir.Keep(b.Signature, kept); err != nil {
		return err
	}
	fmt.Fprintf(l.stdout, "BUG    %s\n       %s\n", report.Clean(b.Signature), report.Clean(b.Title))
	n := 0
	for line := range strings.Lines(string(b.input.Text())) {
		if n++; n > 1 && n < 12 { // without the line that says what format this is
			fmt.Fprintf(l.stdout, "       | %s\n", shorten(strings.TrimSuffix(line, "\n")))
		}
	}
	fmt.Fprintf(l.stdout, "       %s; %s; %s\n", b.size(), b.proof(), b.needs())
	fmt.Fprintf(l.stdout, "       replay: %s\n", l.replayLine(b))
	return nil
}

func shorten(line string) string {
	const most = 200
	if len(line) > most {
		return report.Clean(strings.ToValidUTF8(line[:most], "")) + fmt.Sprintf("... (%d bytes)", len(line))
	}
	return report.Clean(line)
}

// size says how small the input of a bug is.
func (b *fuzzBug) size() string {
	if name, own := b.input.Own(); own {
		return "an input of the function's own, " + name
	}
	if b.Minimal {
		return fmt.Sprintf("%d bytes of %d, minimal", b.Size, b.First)
	}
	return fmt.Sprintf("%d bytes of %d, not known to be minimal", b.Size, b.First)
}

// proof says how often a bug was shown, and in which builds.
func (b *fuzzBug) proof() string {
	with := map[bool]string{true: "with -race", false: "without -race"}
	out, other := fmt.Sprintf("shown %d of %d times %s", b.Shown, b.Replays, with[b.Way.Race]), with[!b.Way.Race]
	if b.Way.Needs != "" {
		other = "without the fault"
	}
	if b.Other != nil {
		out += fmt.Sprintf(", %d of %d %s", b.Other.Shown, b.Other.Replays, other)
	}
	return out
}

// needs says what a bug needs beside its input. What was shown without the fault, too, does
// not need it.
func (b *fuzzBug) needs() string {
	parts := []string{"1 call"}
	if b.Way.Calls > 1 {
		parts[0] = fmt.Sprintf("up to %d calls in one process", b.Way.Calls)
	}
	if b.Way.Needs != "" && (b.Other == nil || b.Other.Shown == 0) {
		return "needs " + strings.Join(append(parts, b.Way.Needs), ", ")
	}
	return "needs " + strings.Join(append(parts, "no fault"), ", ")
}

// replayLine is the command that shows a bug again.
func (l *fuzzLab) replayLine(b *fuzzBug) string {
	file := filepath.Join(l.dir.BugDir(b.Signature), "input")
	if b.Sort == function.Native {
		file += ".fuzz"
	}
	if own, ok := b.input.Own(); ok {
		file = own
	}
	line := fmt.Sprintf("fuzz %s --func %s --replay %s -n %d", quote(l.path), b.Func, quote(file), proofReplays)
	if b.Way.Race {
		line += " --race"
	}
	if b.Way.Calls > 1 {
		line += fmt.Sprintf(" --calls %d", b.Way.Calls)
	}
	if b.Way.Needs != "" {
		line += " --under " + quote(b.Way.Needs)
	}
	if l.config != "" {
		line += " --config " + quote(l.config)
	}
	return program() + " " + line
}

// files are what is kept of a failure: the input in both formats, and what is known of it.
func files(in engine.Input, about any, lines []string) map[string][]byte {
	out := map[string][]byte{}
	if _, own := in.Own(); !own {
		out["input.fuzz"] = in.Text()
	}
	if raw, ok := in.Raw(); ok {
		out["input"] = raw
	}
	if about != nil {
		if b, err := json.MarshalIndent(about, "", "  "); err == nil {
			out["bug.json"] = append(b, '\n')
		}
	}
	if len(lines) > 0 {
		out["output.txt"] = []byte(strings.Join(lines, "\n") + "\n")
	}
	return out
}

// call is an input as a function takes it.
type call struct {
	fn function.Func
	in engine.Input
}

// taking returns the functions that take an input: a package may have one of each sort of
// the same name.
func (l *fuzzLab) taking(in engine.Input) ([]call, error) {
	var out []call
	for _, fn := range l.funcs {
		as, ok := in, fn.Sort == function.Native
		if _, own := in.Own(); !own && fn.Types != "" { // else its types are hidden
			as, ok = in.As(fn.Types)
		}
		if ok {
			out = append(out, call{fn, as})
		}
	}
	if len(out) == 0 {
		fn, is := l.funcs[0], in.Types()
		if _, own := in.Own(); own {
			is = "one that only a native function has"
		}
		return nil, usagef("%s: %s takes %s, and this is %s", l.fuzzFlags.replay, fn.Name, fn.Types, is)
	}
	return out, nil
}

// ran says whether a replay has run its input: one that a function does not take, or has
// not, says nothing about it.
func (c call) ran(p played) error {
	own, _ := c.in.Own()
	run := own == ""
	for _, e := range p.rec.Events {
		if _, why, ok := strings.Cut(e.Text, `/shakedown": `); ok && strings.Contains(why, " in corpus entry: ") {
			return fmt.Errorf("%s does not take it: %s", c.fn.Name, why)
		}
		run = run || strings.HasSuffix(e.Text, c.fn.Name+"/"+own)
	}
	if !run && len(p.found) == 0 {
		return fmt.Errorf("%s has no input %s of its own", c.fn.Name, own)
	}
	return nil
}

// replay runs one input again and says how often it shows what.
func (l *fuzzLab) replay(ctx context.Context, in engine.Input) error {
	calls, err := l.taking(in)
	if err != nil {
		return err
	}
	if l.under != "" {
		if _, err := nemesis.Parse(l.under, l.aims); err != nil {
			return usagef("--under: %w", err)
		}
	}
	shown := map[string]int{}
	idle := 0
	for i := range l.times {
		found, acted := map[string]bool{}, false
		for _, c := range calls {
			p, err := l.play(ctx, c.fn, c.in, way{Race: l.race, Calls: l.calls, Needs: l.under})
			if ctx.Err() != nil {
				fmt.Fprintf(l.stdout, "interrupted after %d of %d replays\n", i, l.times)
				return verdict(gate.Inconclusive)
			}
			if err != nil {
				return fmt.Errorf("replay %d of %d: %w", i+1, l.times, mistaken(err))
			}
			if err := c.ran(p); err != nil {
				return usagef("%s: %w", l.fuzzFlags.replay, err)
			}
			acted = acted || p.acted
			for _, f := range p.found {
				if shown[f.Signature] == 0 && !found[f.Signature] {
					fmt.Fprintf(l.stdout, "%s\n%s\n", report.Clean(f.Title), report.Clean(f.Detail))
				}
				found[f.Signature] = true
			}
		}
		if l.under != "" && !acted {
			idle++
		}
		for s := range found {
			shown[s]++
		}
	}
	for _, s := range sortedKeys(shown) {
		fmt.Fprintf(l.stdout, "shown %d of %d: %s\n", shown[s], l.times, report.Clean(s))
	}
	if len(shown) == 0 {
		fmt.Fprintf(l.stdout, "shown 0 of %d\n", l.times)
	}
	if idle > 0 {
		fmt.Fprintf(l.stdout, "but in %d of %d: the fault took no effect\n", idle, l.times)
	}
	switch {
	case len(shown) > 0:
		return verdict(gate.Findings)
	case idle > 0:
		return verdict(gate.Inconclusive)
	}
	return nil
}
