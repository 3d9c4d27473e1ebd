package generate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
)

func target() *harness.Target {
	words := harness.OneOf(harness.Text("red"), harness.Text("blue"))
	return &harness.Target{
		Name: "x", Caps: harness.CapLinks, Links: []string{"cache", "db"}, Env: map[string]string{"db": "local@15"},
		Ops: []harness.Op{
			{Name: "create", Params: []harness.Param{{Name: "body.n", Domain: harness.Ints(1, 9)}}},
			{Name: "get", Params: []harness.Param{{Name: "path.id", From: []string{"create.id"}}, {Name: "query.c", Domain: words, Optional: true}}},
			{Name: "pay", Params: []harness.Param{{Name: "path.id", From: []string{"get.order.id"}}}},
		},
	}
}

func faults() []*harness.Fault {
	link := harness.Param{Name: "link", Of: harness.OfLink}
	return []*harness.Fault{
		{Name: "net/stop", Effect: harness.EffectMaybe, Needs: harness.CapLinks, Params: []harness.Param{link, {Name: "delay", Default: "1s", Domain: harness.Durations(time.Millisecond, time.Second)}, harness.TTL}},
		{Name: "proc/kill", Needs: harness.CapProcs, Params: []harness.Param{{Name: "proc", Of: harness.OfProc}}},
	}
}

func TestCasesAreCompleteAndReadable(t *testing.T) {
	t.Parallel()
	tg := target()
	s := New(Options{Target: tg, Faults: faults(), Seed: 1})
	aimed, lanes, groups := map[string]int{}, map[int]int{}, 0
	for range 500 {
		c, ok := s.Next()
		if !ok {
			t.Fatal("no case")
		}
		back, err := harness.ParseCase([]byte(c.String()))
		if err != nil {
			t.Fatalf("%v\n%s", err, c)
		}
		if diff := cmp.Diff(c.String(), back.String()); diff != "" {
			t.Fatalf("read back (-want +got):\n%s", diff)
		}
		lanes[len(c.Lanes())]++
		labels := map[string]bool{}
		for i, st := range c.Steps {
			if st.Group != 0 {
				groups++
			}
			if st.Verb == harness.VerbInject {
				f := faults()[0]
				if st.Name != f.Name {
					t.Fatalf("%s needs what the target does not have", st.Name)
				}
				if err := f.CheckStep(st, tg); err != nil {
					t.Fatalf("%v\n%s", err, c)
				}
				if _, set := st.Args.Get(harness.TTL.Name); set {
					t.Fatalf("the time to live is not the source's to set\n%s", c)
				}
				aimed[st.Args.Text("link")]++
			}
			for _, a := range st.Args {
				for _, l := range a.Value.References() {
					if !labels[l] {
						t.Fatalf("step %d refers to %s, which no step before it makes\n%s", i, l, c)
					}
				}
			}
			labels[st.Label] = true
		}
	}
	if aimed["cache"] < 100 || aimed["db"] < 100 {
		t.Errorf("faults are not aimed evenly: %v", aimed)
	}
	if len(lanes) != 4 || groups == 0 {
		t.Errorf("lanes %v, %d steps in groups", lanes, groups)
	}
}

func TestSameSeedDrawsTheSameCases(t *testing.T) {
	t.Parallel()
	a, b := New(Options{Target: target(), Faults: faults(), Seed: 7}), New(Options{Target: target(), Faults: faults(), Seed: 7})
	for range 50 {
		x, _ := a.Next()
		y, _ := b.Next()
		if diff := cmp.Diff(x.String(), y.String()); diff != "" {
			t.Fatalf("(-first +second):\n%s", diff)
		}
	}
}

func TestFixedInputsDifferInFaultsOnly(t *testing.T) {
	t.Parallel()
	s := New(Options{Target: target(), Faults: faults(), Seed: 1, Fixed: true})
	calls := func(c harness.Case) []string {
		var out []string
		for _, st := range c.Steps {
			if st.Verb == harness.VerbCall {
				out = append(out, st.String())
			}
		}
		return out
	}
	first, _ := s.Next()
	texts := map[string]bool{}
	for range 20 {
		c, _ := s.Next()
		c.Seed = 0
		texts[c.String()] = true
		if diff := cmp.Diff(calls(first), calls(c)); diff != "" {
			t.Fatalf("calls (-want +got):\n%s", diff)
		}
	}
	if len(texts) < 10 {
		t.Errorf("only %d different cases of 20", len(texts))
	}
}

func TestKnownBugIsDrawnRarely(t *testing.T) {
	t.Parallel()
	share := func(learn bool) int {
		s := New(Options{Target: target(), Seed: 3})
		if learn {
			s.Learn(&harness.Record{Case: harness.Case{Steps: []harness.Step{{Name: "pay", Lane: "a"}}}}, []harness.Finding{{}})
		}
		n := 0
		for range 500 {
			c, _ := s.Next()
			if slices.ContainsFunc(c.Steps, func(st harness.Step) bool { return st.Name == "pay" }) {
				n++
			}
		}
		return n
	}
	before, after := share(false), share(true)
	if after == 0 || after > before/2 {
		t.Errorf("drawn %d times of 500 before, %d after", before, after)
	}
}

func TestTargetWithoutOpsHasNoCases(t *testing.T) {
	t.Parallel()
	if _, ok := New(Options{Target: &harness.Target{}}).Next(); ok {
		t.Error("a case was drawn of nothing")
	}
}

func TestEveryOpAloneAndEveryBoundAreTriedFirst(t *testing.T) {
	t.Parallel()
	s := New(Options{Target: target(), Seed: 5})
	alone := map[string]bool{}
	for range s.Target.Ops {
		c, _ := s.Next()
		last := c.Steps[len(c.Steps)-1]
		if len(c.Lanes()) != 1 || c.Concurrent() || c.Calls() < fewCalls {
			t.Errorf("no op is called a few times by one lane\n%s", c)
		}
		alone[last.Name] = true
	}
	if len(alone) != len(s.Target.Ops) {
		t.Errorf("called alone: %v, want all of them", alone)
	}
	for _, op := range []string{"get", "pay"} {
		c, _ := s.Next()
		for i, st := range c.Steps[len(c.Steps)-2*fewCalls:] {
			if ref := c.Steps[0].Label + ".id"; st.Name != op || st.Lane != []string{"b", "a"}[i%2] || op == "get" && st.Args[0].Value.Text != ref {
				t.Errorf("%s is not called by a stranger and its owner in turn: %s\n%s", op, st, c)
			}
		}
	}
	c, _ := s.Next()
	want := len(harness.Ints(1, 9).(harness.Bounded).Bounds())
	if got := len(c.Steps); got != want || len(c.Lanes()) != 1 || c.Concurrent() {
		t.Errorf("got %d steps, want %d\n%s", got, want, c)
	}
	s.Next()
	if c, _ = s.Next(); len(s.sweep.bounds) != 0 {
		t.Errorf("%d are left\n%s", len(s.sweep.bounds), c)
	}
}

func TestSlowOpsDoNotStarveOthers(t *testing.T) {
	t.Parallel()
	s := New(Options{Target: target(), Seed: 5})
	s.sweep.bounds = nil
	var rec harness.Record
	for i := range uint64(100) {
		at := time.Duration(i) * time.Second
		rec.Events = append(rec.Events,
			harness.Event{Seq: 2*i + 1, At: at, Kind: harness.Invoke, Lane: "a", Name: "get"},
			harness.Event{Seq: 2*i + 2, At: at + 200*time.Millisecond, Kind: harness.OK, Lane: "a", Name: "get"})
	}
	s.Learn(&rec, nil)
	most := 0
	for range 200 {
		c, _ := s.Next()
		for _, turn := range c.Turns() {
			calls := map[string]int{}
			for _, st := range c.Steps[turn[0]:turn[1]] {
				if st.Name == "get" {
					calls[st.Lane] += st.Times()
					most = max(most, calls[st.Lane])
				}
			}
		}
	}
	if most < 1 || most > 3 {
		t.Errorf("an op that takes 200ms is called %d times by one lane of a group", most)
	}
}

func TestEveryOpMeetsFaultsAtEveryPlace(t *testing.T) {
	t.Parallel()
	for _, slow := range []bool{false, true} {
		s := New(Options{Target: target(), Faults: faults(), Seed: 5})
		for _, op := range s.Target.Ops {
			s.pace[op.Name] = 2 * time.Millisecond
		}
		for _, link := range s.Target.Links {
			took := 10 * time.Millisecond
			if slow {
				took = 2 * time.Second
			}
			s.tolls["net/stop "+link+" true"] = toll{took, 1}
		}
		met := map[string]int{}
		values := map[string]bool{}
		late := 0
		for range 60 {
			c := s.meet()
			late += len(slices.DeleteFunc(slices.Clone(c.Steps), func(st harness.Step) bool { return st.At == 0 }))
			link := c.Steps[slices.IndexFunc(c.Steps, func(st harness.Step) bool { return st.Verb == harness.VerbInject })].Args.Text("link")
			lanes := map[string][]string{}
			for _, turn := range c.Turns() {
				for _, st := range c.Steps[turn[0]:turn[1]] {
					if st.Verb != harness.VerbCall || st.Group == 0 {
						continue
					}
					met[st.Name+"@"+link]++
					lanes[st.String()[1:]] = append(lanes[st.String()[1:]], st.Lane)
					for _, a := range st.Args {
						values[a.Value.Text] = true
					}
				}
			}
			for call, by := range lanes {
				if slow && len(by) != 1 {
					t.Fatalf("%s is made by %d lanes, want 1: nobody knows that it takes long\n%s", call, len(by), c)
				}
			}
		}
		if slow != (late == 0) || late > 50 {
			t.Errorf("slow %v: %d of 60 faults begin while calls are under way", slow, late)
		}
		for _, op := range s.Target.Ops {
			for _, link := range s.Target.Links {
				if met[op.Name+"@"+link] == 0 {
					t.Errorf("slow %v: %s met no fault at %s: %v", slow, op.Name, link, met)
				}
			}
		}
		if !slow && (!values["red"] || !values["blue"] || !values["1"] || !values["9"] || values["0"]) {
			t.Errorf("valid bounds are not all tried, or others: %v", values)
		}
	}
}

func TestEveryBoundMeetsWhatFailsHoweverMuchDelays(t *testing.T) {
	t.Parallel()
	link := harness.Param{Name: "link", Of: harness.OfLink}
	all := []*harness.Fault{{Name: "net/lose", Effect: harness.EffectMaybe, Needs: harness.CapLinks, Params: []harness.Param{link}}}
	for i := range 9 {
		all = append(all, &harness.Fault{Name: fmt.Sprintf("net/delay%d", i), Needs: harness.CapLinks, Params: []harness.Param{link}})
	}
	tg := target()
	tg.Links = []string{"db"}
	s := New(Options{Target: tg, Faults: all, Seed: 7})
	left := map[string]bool{}
	for i := range tg.Ops {
		for _, x := range trials(&tg.Ops[i]) {
			left[x.op.Name+" "+x.arg.Value.Text] = true
		}
	}
	for range 10 { // two rounds, and as many of the faults that delay
		c := s.meet()
		if c.Faults()[0] != "net/lose" {
			continue
		}
		for _, st := range c.Steps {
			delete(left, st.Name+" ")
			for _, a := range st.Args {
				delete(left, st.Name+" "+a.Value.Text)
			}
		}
	}
	if len(left) > 0 {
		t.Errorf("these have met nothing that fails: %v", left)
	}
}

func TestAStoreIsTheDependencyOfItsName(t *testing.T) {
	t.Parallel()
	tg := target()
	tg.Caps |= harness.CapStores
	tg.Stores = map[string]string{"cache": "redis", "db": "postgres"}
	full := &harness.Fault{Name: "dep/full", Effect: harness.EffectNotExecuted, Needs: harness.CapStores, Params: []harness.Param{{Name: "store", Of: harness.OfStore, Engine: "redis"}}}
	s := New(Options{Target: tg, Faults: []*harness.Fault{faults()[0], full}, Seed: 1})
	if got := s.place(s.aims.all[2]); len(s.aims.all) != 3 || got != (place{"cache", failing}) || got != s.place(s.aims.all[0]) {
		t.Errorf("of %d aims, the third is at %v", len(s.aims.all), got)
	}
	drawn := map[string]int{}
	for range 200 {
		c, _ := s.Next()
		for _, st := range c.Steps {
			if st.Verb == harness.VerbInject {
				drawn[st.Name+" "+at(st)]++
			}
		}
	}
	if drawn["dep/full cache"] == 0 || len(drawn) != 3 {
		t.Errorf("drawn: %v", drawn)
	}
}

func TestWhatTakesLongUnderAFaultIsMadeByTwoLanesNext(t *testing.T) {
	t.Parallel()
	s := New(Options{Target: target(), Faults: faults()[:1], Seed: 5})
	stop := harness.Step{Verb: harness.VerbInject, Name: "net/stop", Label: "f2", At: time.Millisecond, Args: harness.Args{{Key: "link", Value: harness.Text("db")}}}
	n := harness.Args{{Key: "body.n", Value: harness.Int(7)}}
	for range 2 { // what is known already is not asked again
		s.linger(harness.Step{Name: "create", Args: n}, stop, false)
		s.linger(harness.Step{Name: "get"}, stop, false)
		s.linger(harness.Step{Name: "pay"}, stop, true)
	}
	for i, want := range [][]string{{"create", "pay"}, nil, {"get"}} { // one that took long, but was not stuck, waits for another or for the next round
		if i == 2 {
			new(round).begin(s, place{"db", waiting})
		}
		lanes := map[string][]string{}
		for _, st := range s.together().Steps {
			if st.Verb == harness.VerbCall && st.Group > 0 {
				lanes[st.Name] = append(lanes[st.Name], st.Lane)
				if st.Name == "create" && !slices.Equal(st.Args, n) {
					t.Errorf("other arguments: %s", st)
				}
			}
		}
		if got := slices.Sorted(maps.Keys(lanes)); !slices.Equal(got, want) {
			t.Errorf("calls of %v are made together, want %v", got, want)
		}
		for op, by := range lanes {
			if slices.Sort(by); len(slices.Compact(by)) != 2 {
				t.Errorf("%s is made by lanes %v, want two", op, by)
			}
		}
	}
}

func TestKnownBugIsNotTheStandIn(t *testing.T) {
	t.Parallel()
	for _, lanes := range []int{1, 4} {
		s := New(Options{Target: target(), Faults: faults()[:1], Seed: 5, Lanes: lanes})
		fault := harness.Step{Verb: harness.VerbInject, Name: "net/stop", Args: harness.Args{{Key: "link", Value: harness.Text("db")}}}
		for range 9 { // pay alone feels anything, and what it feels crashes the service
			s.felt.add("pay", "db", true)
			s.felt.add("get", "db", false)
			s.felt.add("create", "db", false)
		}
		s.known = append(s.known, traits(harness.Case{Steps: []harness.Step{fault, {Verb: harness.VerbCall, Name: "pay"}}}))
		cases, shown := map[string]int{}, 0
		for range 200 {
			c := s.meet()
			if at(c.Steps[slices.IndexFunc(c.Steps, func(st harness.Step) bool { return st.Verb == harness.VerbInject })]) != "db" {
				continue
			}
			if s.shunned(c) {
				shown++
			}
			for _, st := range c.Steps {
				if st.Verb == harness.VerbCall && st.Label == "" {
					cases[st.Name]++
				}
			}
		}
		if shown > 25 || cases["get"] < 20 || cases["create"] < 20 {
			t.Errorf("%d lanes: the known bug is shown %d times; calls %v", lanes, shown, cases)
		}
	}
}

func TestOpsThatFaultsActOnMeetThemFirst(t *testing.T) {
	t.Parallel()
	s := New(Options{Target: target(), Faults: faults(), Seed: 5})
	s.Faults = append(s.Faults, &harness.Fault{Name: "net/maybe", Chance: true})
	for _, tt := range []struct {
		fault, ops string
		acted      float64
	}{
		{"net/stop", "create pay", 9}, {"net/stop", "create get", 0}, {"net/stop", "pay", 3}, {"net/maybe", "get pay", 5},
		{"net/maybe", "create pay", 0}, // which says nothing
	} { // all of them answer well, and in time
		rec := harness.Record{Case: harness.Case{Steps: []harness.Step{
			{Verb: harness.VerbInject, Name: tt.fault, Label: "f1", Args: harness.Args{{Key: "link", Value: harness.Text("db")}}},
		}}}
		event := func(kind harness.Kind, step int, lane, name string, value float64) {
			rec.Events = append(rec.Events, harness.Event{Seq: uint64(len(rec.Events)) + 1, At: time.Duration(len(rec.Events)) * time.Millisecond, Kind: kind, Step: step, Lane: lane, Name: name, Value: value, Text: "bytes"})
		}
		event(harness.Inject, 0, "f1", "", 0)
		for i, op := range strings.Fields(tt.ops) {
			rec.Case.Steps = append(rec.Case.Steps, harness.Step{Verb: harness.VerbCall, Lane: "a", Name: op})
			event(harness.Invoke, i+1, "a", op, 0)
			event(harness.OK, i+1, "a", op, 0)
		}
		event(harness.Heal, 0, "f1", "", 0)
		event(harness.Acted, 0, "f1", "", tt.acted)
		s.Learn(&rec, nil)
	}
	if want := (affinity{{"create", "db"}: {1, 2}, {"pay", "db"}: {3, 3}, {"get", "db"}: {1, 2}}); !maps.Equal(s.felt, want) {
		t.Errorf("felt %v, want %v", s.felt, want)
	}
	if s.felt.likely("create", "db") || !s.felt.likely("pay", "db") {
		t.Errorf("likely: create %v, pay %v", s.felt.likely("create", "db"), s.felt.likely("pay", "db"))
	}
	where := place{"db", waiting}
	r := new(round)
	r.begin(s, where)
	if got := r.next(where, s.felt).op.Name; got != "pay" {
		t.Errorf("%s meets the fault first, want pay: %v", got, s.felt)
	}
}

func TestWhatHasNotTakenEffectComesMoreOften(t *testing.T) {
	t.Parallel()
	s := New(Options{Target: target(), Faults: faults(), Seed: 5})
	met := func(link string, acted ...float64) {
		rec := harness.Record{Case: harness.Case{Steps: []harness.Step{
			{Verb: harness.VerbInject, Name: "net/stop", Label: "f1", Args: harness.Args{{Key: "link", Value: harness.Text(link)}}},
			{Verb: harness.VerbCall, Lane: "a", Name: "pay"},
		}}}
		rec.Events = []harness.Event{{Kind: harness.Inject, Lane: "f1"}, {Kind: harness.Invoke, Step: 1, Lane: "a", Name: "pay"}, {Kind: harness.OK, Step: 1, Lane: "a", Name: "pay"}}
		for _, n := range acted {
			rec.Events = append(rec.Events, harness.Event{Kind: harness.Acted, Lane: "f1", Value: n, Text: "bytes"})
		}
		s.Learn(&rec, nil)
	}
	share := func() (cache float64) {
		n := 0
		for range 400 {
			for _, f := range s.faults() {
				n++
				if at(f) == "cache" {
					cache++
				}
			}
		}
		return cache / float64(n)
	}
	met("db", 7)
	met("cache") // it could not be injected
	if got := share(); got < 0.45 || got > 0.55 {
		t.Errorf("one of two that nothing is known of is drawn in %.2f of the cases", got)
	}
	met("cache", 0)
	if got := share(); got < 0.58 || got > 0.68 {
		t.Errorf("the only one that has not taken effect is drawn in %.2f of the cases", got)
	}
	met("cache", 1)
	met("cache", 0)
	if got := share(); got < 0.45 || got > 0.55 {
		t.Errorf("one of two that have taken effect is drawn in %.2f of the cases", got)
	}
}

// list draws a list that refers to what an op made.
type list struct{ harness.Domain }

func (list) Draw(*rand.Rand) harness.Value {
	return harness.Value{Form: harness.FormJSON, Text: `[{"sku":"{{make.id}}"},{"sku":"{{make.id}}"}]`}
}

func (l list) Bounds() []harness.Value { return []harness.Value{l.Draw(nil)} }

// TestReferencesWithinValues draws bodies that refer to other calls: these are made before.
func TestReferencesWithinValues(t *testing.T) {
	t.Parallel()
	target := &harness.Target{Name: "x", Ops: []harness.Op{
		{Name: "make", Mutates: true},
		{Name: "order", Params: []harness.Param{{Name: "body.items", Domain: list{harness.Const(harness.Int(1))}}}},
	}}
	s := New(Options{Target: target, Seed: 3})
	referred := 0
	for range 50 {
		c, _ := s.Next()
		made := map[string]bool{}
		for _, step := range c.Steps {
			for _, a := range step.Args {
				for _, l := range a.Value.References() {
					if referred++; !made[l] {
						t.Fatalf("%s is referred to before it is made:\n%s", l, c)
					}
				}
			}
			made[step.Label] = step.Name == "make"
		}
		if _, err := harness.ParseCase([]byte(c.String())); err != nil {
			t.Fatalf("%v:\n%s", err, c)
		}
	}
	if referred == 0 {
		t.Error("nothing was referred to")
	}
}
