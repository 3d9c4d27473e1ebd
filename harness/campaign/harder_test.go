package campaign

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
)

func TestHarderCasesDoMoreAtOnceAndLonger(t *testing.T) {
	t.Parallel()
	c, err := harness.ParseCase([]byte("target x\no: a new\n+ f = net/x at=1ms for=5ms &\na get id={{o.id}} *2 &\nb put\nc end\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"o: a new\n+ f = net/x at=1ms for=5ms &\na get id={{o.id}} *8 &\nb put *4\nc end\n",
		"o: a new\n+ f = net/x at=1ms for=5ms &\na get id={{o.id}} *32 &\nb put *16\nc end\n",
		"o: a new\nwait 20ms\n+ f = net/x at=1ms for=5ms &\na get id={{o.id}} *2 &\nb put\nwait 20ms\nc end\nwait 20ms\n",
		"c0_o: a new\n+ c0_f = net/x at=1ms for=5ms &\na get id={{c0_o.id}} *2 &\nb put\nc end\nreset\n" +
			"c1_o: a new\n+ c1_f = net/x at=1ms for=5ms &\na get id={{c1_o.id}} *2 &\nb put\nc end\nreset\n" +
			"c2_o: a new\n+ c2_f = net/x at=1ms for=5ms &\na get id={{c2_o.id}} *2 &\nb put\nc end\n",
		"o: a new\n+ f = net/x at=1ms for=5ms &\na get id={{o.id}} *8 &\nb put *4 &\nt1 get id={{o.id}} *8 &\nt2 put *4\nc end *4 &\nt3 end *4\n",
		"o: a new\n+ f = net/x &\na get id={{o.id}} *2 &\nb put\nc end\n",
		"o: a new\n+ f = net/x &\na get id={{o.id}} *32 &\nb put *16\nc end\n",
		"o: a new\n+ f = net/x &\na get id={{o.id}} *8 &\nb put *4 &\nt1 get id={{o.id}} *8 &\nt2 put *4\nc end *4 &\nt3 end *4\n",
	}
	var got []string
	for v := range harder(c, false) {
		if _, err := harness.ParseCase([]byte(v.String())); err != nil {
			t.Errorf("%v\n%s", err, v)
		}
		got = append(got, v.String()[len("target x\nseed 0\n"):])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("harder cases (-want +got):\n%s", diff)
	}
}

var yes = harness.Value{Form: harness.FormJSON, Text: "true"}

func TestOnlyWhatWasUnderWayIsKept(t *testing.T) {
	t.Parallel()
	const text = "target x\nseed 0\n+ f = net/x\nmade: a make\n- f\n+ g = net/y\na old\na get of={{made.id}} *9 &\nb put *9 &\nc put\n- g\na end\n"
	const made, old, get, put, other = 1, 4, 5, 6, 7
	at := func(ms int, kind harness.Kind, step int) harness.Event {
		return harness.Event{Kind: kind, Step: step, At: time.Duration(ms) * time.Millisecond}
	}
	before := []harness.Event{
		at(0, harness.Inject, 0), at(1, harness.Invoke, made), at(2, harness.OK, made), at(3, harness.Heal, 2), at(4, harness.Inject, 3),
		at(5, harness.Invoke, old), at(6, harness.OK, old),
	}
	race := harness.Event{Kind: harness.Output, Step: -1, At: time.Second}
	later := []harness.Event{at(1001, harness.OK, get), at(1100, harness.Invoke, 9), at(1101, harness.OK, 9)}
	for _, tt := range []struct {
		name   string
		events []harness.Event
		want   string
	}{
		{"one is under way and one just over", []harness.Event{at(7, harness.Invoke, other), at(8, harness.OK, other), at(900, harness.Invoke, get), at(901, harness.Invoke, put), at(950, harness.OK, put), race},
			"target x\nseed 0\nmade: a make\n+ g = net/y\na get of={{made.id}} *9 &\nb put *9\n"},
		{"all calls were long over", []harness.Event{race}, text},
		{"nothing was printed", []harness.Event{at(900, harness.Invoke, get), {Kind: harness.Sample, Step: -1}}, text},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := harness.ParseCase([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			rec := &harness.Record{Case: c, Events: slices.Concat(before, tt.events, later)}
			for i := range rec.Events {
				rec.Events[i].Seq = uint64(i + 1)
			}
			spoken := uint64(len(before) + len(tt.events))
			if diff := cmp.Diff(tt.want, moment(rec, harness.Finding{Evidence: []uint64{spoken}}, 100*time.Millisecond).String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOnlyWhatWasPlayedIsKept(t *testing.T) {
	t.Parallel()
	const text = "target x\nseed 0\n+ f = net/x\na get *9 &\nb put *9\n- f\na end\n"
	call := func(step int) harness.Event { return harness.Event{Kind: harness.Invoke, Step: step} }
	expected := harness.Args{{Key: "expected", Value: yes}}
	for _, tt := range []struct {
		name   string
		events []harness.Event
		want   string
	}{
		{"a call was stuck", []harness.Event{{Kind: harness.Inject}, call(1), call(2), call(2), {Kind: harness.Stuck, Step: 2}},
			"target x\nseed 0\n+ f = net/x\na get &\nb put *2\n"},
		{"the service ended", []harness.Event{{Kind: harness.Inject}, call(2), {Kind: harness.Exit, Step: -1}},
			"target x\nseed 0\n+ f = net/x\nb put\n"},
		{"a fault ended the service", []harness.Event{{Kind: harness.Inject}, call(2), {Kind: harness.Exit, Step: -1, Args: expected}}, text},
		{"all was played", []harness.Event{{Kind: harness.Inject}, call(1), call(2), call(4)}, text},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := harness.ParseCase([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, played(&harness.Record{Case: c, Events: tt.events}).String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
