package campaign

import (
	"testing"

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
