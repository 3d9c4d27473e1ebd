package main

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/campaign"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/harness/runner"
)

func TestReplaySaysWhatItCouldNotSee(t *testing.T) {
	t.Parallel()
	looks := func(j harness.Judgement) *harness.Detector {
		return &harness.Detector{Name: "looks", Detect: func(*harness.Record) harness.Judgement { return j }}
	}
	bug := harness.Judgement{Checked: 1, Findings: []harness.Finding{{Signature: "bug"}}}
	for _, tt := range []struct {
		name  string
		d     *harness.Detector
		steps string
		want  gate.Verdict
		says  []string
	}{
		{"nothing", looks(harness.Judgement{Checked: 1}), "a get\n", gate.Pass, []string{"shown 0 of 2\n"}},
		{"a finding", looks(bug), "a get\n", gate.Findings, []string{"shown 2 of 2: bug\n"}},
		{"a finding and an idle fault", looks(bug), "+ net/idle link=db\na get\n", gate.Findings, []string{"shown 2 of 2: bug\n", "but in 2 of 2: a fault took no effect\n"}},
		{"an idle fault", looks(harness.Judgement{Checked: 1}), "+ net/idle link=db\na get\n", gate.Inconclusive, []string{"shown 0 of 2\n", "but in 2 of 2: a fault took no effect\n"}},
		{"doubt", looks(harness.Judgement{Checked: 1, Unsure: []string{"dark", "dark"}}), "a get\n", gate.Inconclusive, []string{"but in 2 of 2: looks is unsure: dark\n"}},
		{"a blind detector", &harness.Detector{Name: "looks", Needs: harness.CapProcs}, "a get\n", gate.Inconclusive, []string{"looks was not checked"}},
		{"a detector that does not judge", &harness.Detector{Name: "looks", Data: true, Detect: looks(bug).Detect}, "+ net/harm link=db\na get\n", gate.Inconclusive, []string{"shown 0 of 2\n", "looks did not judge: bytes were changed on their way\n"}},
		{"nothing to look at", looks(harness.Judgement{}), "a get\n", gate.Inconclusive, []string{"no detector had anything to look at"}},
	} {
		s := &harnesstest.Service{Handle: func(context.Context, *harnesstest.Life, harnesstest.Call) harness.Reply {
			return harnesstest.OK("")
		}}
		idle := *harnesstest.Break
		idle.Inject = func(context.Context, harness.World, harness.Args, *rand.Rand) (harness.Injection, error) {
			return harness.Injection{Heal: func(context.Context) error { return nil }, Acted: func() int64 { return 0 }}, nil
		}
		harm := *harnesstest.Break
		harm.Name, harm.Effect = "net/harm", harness.EffectCorrupt
		lab := campaign.Lab{Target: s.Target(), Detectors: []*harness.Detector{tt.d}, Runner: runner.Options{Fault: func(name string) *harness.Fault {
			if name == harm.Name {
				return &harm
			}
			return &idle
		}}}
		c, err := harness.ParseCase([]byte("target test\n" + tt.steps))
		if err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		got := gate.Pass
		switch err := tally(t.Context(), lab, c, 2, &out).(type) {
		case nil:
		case verdict:
			got = gate.Verdict(err)
		default:
			t.Errorf("%s: %v", tt.name, err)
		}
		if got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
		for _, line := range tt.says {
			if !strings.Contains(out.String(), line) {
				t.Errorf("%s: no %q in\n%s", tt.name, line, out.String())
			}
		}
	}
}
