package runner_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/census"
	"github.com/shakedown-go/shakedown/harness/harnesstest"
	"github.com/shakedown-go/shakedown/harness/runner"
)

// leaving is a service in which a library holds so many goroutines after so many calls.
func leaving(state string, holds func(calls int) int) *harnesstest.Service {
	return &harnesstest.Service{
		Handle: func(_ context.Context, life *harnesstest.Life, _ harnesstest.Call) harness.Reply {
			life.Count("calls")
			return harnesstest.OK("")
		},
		Answer: func(life *harnesstest.Life, question string) string {
			n := holds(life.Counted("calls"))
			if question == "leaks" {
				var b strings.Builder
				for id := range n {
					fmt.Fprintf(&b, "goroutine %d [%s]:\npool.work(0x1)\n\t/pool.go:1 +0x1\ncreated by pool.start in goroutine 1\n\t/pool.go:2 +0x1\n\n", 100+id, state)
				}
				return b.String()
			}
			var ids []string
			for id := range n {
				ids = append(ids, fmt.Sprint(100+id))
			}
			return `{"pid":7,"goroutines":[{"by":"pool.start","root":"pool.work","ids":[` + strings.Join(ids, ",") + `]}]}`
		},
	}
}

// own is the same, but the service's own code has started them.
func own(s *harnesstest.Service) *harnesstest.Service {
	answer := s.Answer
	s.Answer = func(life *harnesstest.Life, question string) string {
		return strings.ReplaceAll(answer(life, question), "pool.", "main.")
	}
	return s
}

// samples lists what was looked at after which round.
func samples(rec *harness.Record) string {
	var out []string
	resets := 0 // in a row
	for _, e := range rec.Events {
		switch {
		case e.Kind == harness.Reset:
			resets++
			if n := len(out) - 1; n >= 0 && strings.HasPrefix(out[n], "reset") {
				out[n] = fmt.Sprintf("reset*%d", resets)
			} else {
				out, resets = append(out, "reset"), 1
			}
		case e.Kind == harness.Sample && e.Name == census.Name:
			c, ok := census.Read(e)
			if !ok {
				return "bad census " + e.Text
			}
			n := 0
			for _, name := range []string{"pool", "main"} {
				n += c.Counts()[census.Key{Sort: census.Goroutine, By: name + ".start", Name: name + ".work"}]
			}
			out = append(out, fmt.Sprintf("%s%d=%d", e.Args.Text("when"), e.Args.Int("round"), n))
		case e.Kind == harness.Sample:
			out = append(out, e.Name)
		}
	}
	return strings.Join(out, " ")
}

func TestCaseThatLeavesSomethingIsPlayedAgain(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, state string
		holds       func(calls int) int
		growth      int
		follow      string
		want        string
	}{
		{"nothing stays", "select", func(int) int { return 2 }, 1, "", "start1=2 end1=2"},
		{"few stay", "select", func(n int) int { return min(n, 2) }, 0, "", "start1=0 end1=2 reset end2=2"},
		{"nobody asks", "select", func(n int) int { return n }, -1, "", ""},
		{"a pool fills", "chan receive", func(n int) int { return min(n, 2) }, 1, "", "start1=0 end1=2 leaks reset end2=2"},
		{"a pool fills later", "chan receive", func(n int) int { return min(n, 3) }, 1, "", "start1=0 end1=2 leaks reset end2=3 leaks reset end3=3"},
		{"a leak", "chan receive", func(n int) int { return n }, 1, "",
			"start1=0 end1=2 leaks reset end2=4 leaks reset end3=6 leaks reset end4=8 leaks reset*37 end41=82 leaks late41=82 leaks"},
		{"a leak that no dump holds", "chan receive", func(n int) int { return 5_000 * n }, 1, "",
			"start1=0 end1=10000 leaks reset end2=20000 leaks reset end3=30000 leaks reset end4=40000 leaks late4=40000 leaks"},
		{"shards that are begun one by one", "chan receive", func(n int) int { return min(n, 64) }, 1, "",
			"start1=0 end1=2 leaks reset end2=4 leaks reset end3=6 leaks reset end4=8 leaks reset*36 end40=64 leaks"},
		{"a pool that fills slowly", "chan receive", func(n int) int { return min(n, 12) }, 1, "",
			"start1=0 end1=2 leaks reset end2=4 leaks reset end3=6 leaks reset end4=8 leaks reset*10 end14=12 leaks"},
		{"only what is beyond doubt", "chan receive (leaked)", func(n int) int { return n }, 1, census.Leaked, "start1=0 end1=2 leaks reset end2=4 leaks"},
		{"nothing is beyond doubt", "chan receive", func(n int) int { return n }, 1, census.Leaked, "start1=0 end1=2 leaks"},
		{"only files", "chan receive", func(n int) int { return n }, 1, census.File, "start1=0 end1=2"},
		{"a leak beyond doubt", "chan receive (leaked)", func(n int) int { return n }, 1, "", "start1=0 end1=2 leaks reset end2=4 leaks"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := leaving(tt.state, tt.holds)
				rec, worn, err := play(t, t.Context(), s, runner.Options{Growth: tt.growth, Follow: tt.follow}, "a get *2\n")
				if err != nil || worn != "" {
					t.Fatal(err, worn)
				}
				if diff := cmp.Diff(tt.want, samples(rec)); diff != "" {
					t.Errorf("want -, got +\n%s", diff)
				}
				if n := rec.Count(harness.Reset) + 1; rec.Count(harness.OK) != 2*n || int(s.Resets.Load()) != n {
					t.Errorf("%d rounds, but %d calls and %d resets", n, rec.Count(harness.OK), s.Resets.Load())
				}
			})
		})
	}
}

// TestDumpThatFailsIsTold holds that a record tells where growth could not be looked into.
func TestDumpThatFailsIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := leaving("chan receive", func(n int) int { return n })
		answer := s.Answer
		s.Answer = func(life *harnesstest.Life, question string) string {
			if question == "leaks" {
				return ""
			}
			return answer(life, question)
		}
		rec, _, err := play(t, t.Context(), s, runner.Options{Growth: 1}, "a get *2\n")
		if err != nil {
			t.Fatal(err)
		}
		last := rec.Events[len(rec.Events)-1]
		if last.Name != census.Leaks || last.Args.Text("error") == "" {
			t.Errorf("got %s, the last %+v", samples(rec), last)
		}
	})
}

func TestWhatEndsInTimeIsNoGrowth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		s := leaving("chan receive", func(calls int) int {
			if calls == 82 {
				looks++
			}
			if looks > 30 { // the last round is over
				return 0
			}
			return calls
		})
		rec, _, err := play(t, t.Context(), s, runner.Options{Growth: 1}, "a get *2\n")
		if err != nil {
			t.Fatal(err)
		}
		want := "start1=0 end1=2 leaks reset end2=4 leaks reset end3=6 leaks reset end4=8 leaks reset*37 end41=82 leaks late41=0 leaks"
		if diff := cmp.Diff(want, samples(rec)); diff != "" {
			t.Errorf("want -, got +\n%s", diff)
		}
	})
}

func TestGrowthIsNotFollowedAgainAndAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := harness.ParseCase([]byte("target test\na get *2\n"))
		if err != nil {
			t.Fatal(err)
		}
		var memory runner.Memory
		var took time.Duration
		rounds := func(s *harnesstest.Service, cases int) (out []int) {
			session, err := runner.Open(t.Context(), s.Target(), nil, runner.Options{Memory: &memory})
			if err != nil {
				t.Fatal(err)
			}
			for range cases {
				rec, err := session.Play(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, rec.Count(harness.Reset)+1)
			}
			took = session.Cost().Look
			if _, err := session.Close(t.Context()); err != nil {
				t.Error(err)
			}
			return out
		}
		pool := leaving("chan receive", func(n int) int { return min(n, 4) })
		if diff := cmp.Diff([]int{3, 2, 2}, rounds(pool, 3)); diff != "" {
			t.Errorf("of a pool: want -, got +\n%s", diff)
		}
		pool = leaving("chan receive", func(n int) int { return min(n, 4) })
		if diff := cmp.Diff([]int{3, 2, 2}, rounds(pool, 3)); diff != "" { // a level is known of one process
			t.Errorf("of the same pool in another process: want -, got +\n%s", diff)
		}
		leak := leaving("chan receive", func(n int) int { return n })
		got := rounds(leak, 16)
		followed := 0
		for _, n := range got {
			if n > 2 {
				followed++
			}
		}
		if followed != 3 {
			t.Errorf("a leak was followed %d times: %v", followed, got)
		}
		if took < 3*census.LongLook || took > 4*census.LongLook {
			t.Errorf("looking at it took %v", took)
		}
	})
}

func TestWhatEndsByItselfIsNotFollowedAgainAndAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var begun []time.Time
		s := own(leaving("sleep", func(calls int) int {
			for len(begun) < calls {
				begun = append(begun, time.Now())
			}
			n := 0
			for _, at := range begun {
				if time.Since(at) < 2*time.Second {
					n++
				}
			}
			return n
		}))
		session, err := runner.Open(t.Context(), s.Target(), nil, runner.Options{Fault: harnesstest.Fault})
		if err != nil {
			t.Fatal(err)
		}
		followed := map[string]int{}
		for _, text := range []string{"a get *2\n", "+ f1 = net/break link=db\na get *2\n- f1\n"} {
			c, err := harness.ParseCase([]byte("target test\n" + text))
			if err != nil {
				t.Fatal(err)
			}
			for range 8 {
				rec, err := session.Play(t.Context(), c)
				if err != nil {
					t.Fatal(err)
				}
				if rec.Count(harness.Reset) > 1 {
					followed[text]++
				}
				time.Sleep(3 * time.Second)
			}
			if followed[text] != 3 {
				t.Errorf("%q was followed %d times, want 3", text, followed[text])
			}
		}
		if _, err := session.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestLookThatIsCutShortIsNoReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		rec, _, err := play(t, ctx, leaving("chan receive", func(n int) int { return n }), runner.Options{Growth: 1}, "a get *2\n")
		if !errors.Is(err, context.DeadlineExceeded) || rec == nil || rec.Count(harness.OK) != 82 {
			t.Errorf("got %v, %s", err, samples(rec))
		}
	})
}

// TestOneMoreGoroutineOfOnesOwnIsFollowed holds that a search does not wait for more of them:
// what the service's own code starts is no pool of a library.
func TestOneMoreGoroutineOfOnesOwnIsFollowed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		service *harnesstest.Service
		want    string
	}{
		{"a library's", leaving("chan receive (leaked)", func(n int) int { return n }), "start1=0 end1=1"},
		{"its own", own(leaving("chan receive (leaked)", func(n int) int { return n })), "start1=0 end1=1 leaks reset end2=2 leaks"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				rec, _, err := play(t, t.Context(), tt.service, runner.Options{}, "+ f1 = net/break link=db\na get\n- f1\n")
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, samples(rec)); diff != "" {
					t.Errorf("want -, got +\n%s", diff)
				}
			})
		})
	}
}

// TestLeakOutOfAPoolIsSeen holds that growth is seen that begins late: at first the pool has
// more of what leaks.
func TestLeakOutOfAPoolIsSeen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := harness.ParseCase([]byte("target test\na get *2\n"))
		if err != nil {
			t.Fatal(err)
		}
		s := leaving("chan receive", func(calls int) int { return max(calls, 9) })
		session, err := runner.Open(t.Context(), s.Target(), nil, runner.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for range 3 {
			rec, err := session.Play(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, samples(rec))
		}
		if _, err := session.Close(t.Context()); err != nil {
			t.Error(err)
		}
		want := []string{"start1=9 end1=9 reset end2=9", "start1=9 end1=9 reset end2=9",
			"start1=9 end1=10 reset end2=12 leaks reset end3=14 leaks reset end4=16 leaks reset end5=18 leaks reset*37 end42=92 leaks late42=92 leaks"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("want -, got +\n%s", diff)
		}
	})
}

// TestRecordHoldsAllRounds holds that no more rounds are played than a record can hold: one
// that is cut proves nothing.
func TestRecordHoldsAllRounds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := leaving("chan receive", func(calls int) int { return min(calls/500, 64) })
		handle := s.Handle
		s.Handle = func(ctx context.Context, life *harnesstest.Life, c harnesstest.Call) harness.Reply {
			handle(ctx, life, c)
			return harnesstest.OK(strings.Repeat("x", 2<<10))
		}
		rec, _, err := play(t, t.Context(), s, runner.Options{Growth: 1}, "a get *500\n")
		if err != nil || rec.Truncated || rec.Count(harness.Reset) < 20 {
			t.Errorf("%v, truncated %v after %d rounds", err, rec.Truncated, rec.Count(harness.Reset)+1)
		}
	})
}
