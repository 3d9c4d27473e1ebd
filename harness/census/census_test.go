package census_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/census"
)

// world has an agent in the service, and one link with three connections open.
type world struct {
	harness.World
	answer string
	err    error
}

func (w world) Agent(string) (harness.Agent, error)                                  { return w, nil }
func (w world) Ask(context.Context, string) ([]byte, error)                          { return []byte(w.answer), w.err }
func (w world) Link(name string) (harness.Link, error)                               { return link{}, nil }
func (link) Stats() harness.LinkStats                                                { return harness.LinkStats{Conns: 9, Open: 3} }
func (link) Disturb(context.Context, harness.Toxic) (i harness.Injection, err error) { return }

type link struct{}

const answer = `{"pid":7,"goroutines":[{"root":"main.main","ids":[1]},{"by":"shop.New","root":"shop.(*Map[go.shape.string,int]).run","ids":[8,9]}],"files":{"socket":4},"heap":7168}`

func TestCensusIsReadAsItWasTaken(t *testing.T) {
	t.Parallel()
	took, err := census.Take(t.Context(), world{answer: answer}, []string{"db"}, true)
	if err != nil {
		t.Fatal(err)
	}
	e := took.Event(census.End, 2)
	if e.Kind != harness.Sample || e.Name != census.Name || e.Args.Text("when") != census.End || e.Args.Int("round") != 2 {
		t.Errorf("got %+v", e)
	}
	got, ok := census.Read(e)
	if diff := cmp.Diff(took, got); diff != "" || !ok {
		t.Errorf("ok %v, want -, got +\n%s", ok, diff)
	}
	want := map[census.Key]int{
		{Sort: census.Goroutine, Name: "main.main"}:                            1,
		{Sort: census.Goroutine, By: "shop.New", Name: "shop.(*Map[...]).run"}: 2,
		{Sort: census.File, Name: "socket"}:                                    4,
		{Sort: census.Link, Name: "db"}:                                        3,
		census.Heap:                                                            7,
	}
	if diff := cmp.Diff(want, got.Counts()); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
	grown := census.Grown(map[census.Key]int{{Sort: census.Goroutine, Name: "main.main"}: 1, {Sort: census.File, Name: "socket"}: 3, {Sort: census.Link, Name: "db"}: 4, census.Heap: 7}, got.Counts())
	want = map[census.Key]int{{Sort: census.Goroutine, By: "shop.New", Name: "shop.(*Map[...]).run"}: 2, {Sort: census.File, Name: "socket"}: 4}
	if diff := cmp.Diff(want, grown); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}

func TestWhatIsNoCensusIsNotRead(t *testing.T) {
	t.Parallel()
	for _, w := range []world{{answer: "census"}, {err: errors.New("no answer")}} {
		if c, err := census.Take(t.Context(), w, nil, false); err == nil {
			t.Errorf("%+v gave %+v", w, c)
		}
	}
	for _, text := range []string{"", "{}", `{"pid":7,"cut":true}`, `{"pid":"x"}`} {
		if c, ok := census.Read(harness.Event{Kind: harness.Sample, Name: census.Name, Text: text}); ok {
			t.Errorf("%q gave %+v", text, c)
		}
	}
	if _, ok := census.Read(harness.Event{Kind: harness.Sample, Name: "other", Text: answer}); ok {
		t.Error("another sample was read as a census")
	}
}

func TestStayedIsWhatTheCensusDoesNotKnow(t *testing.T) {
	t.Parallel()
	c, _ := census.Read(harness.Event{Kind: harness.Sample, Name: census.Name, Text: answer})
	const by = "created by shop.New in goroutine 1\n\t/shop.go:1 +0x1\n\n"
	stayed := c.Stayed("goroutine 9 [select]:\nshop.(*Map[...]).run(0x1)\n\t/shop.go:1 +0x1\n" + by +
		"goroutine 10 [chan receive (leaked)]:\nsync.x()\n\t/x.go:1 +0x1\nshop.(*Map[...]).run(0x1)\n\t/shop.go:1 +0x1\n" + by +
		"goroutine 11 [running]:\nshop/zzshakedown.serve()\n\t/x.go:1 +0x1\ncreated by shop/zzshakedown.accept in goroutine 2\n\t/x.go:1 +0x1\n")
	k := census.Key{Sort: census.Goroutine, By: "shop.New", Name: "shop.(*Map[...]).run"}
	if len(stayed) != 1 || len(stayed[k]) != 1 || stayed[k][0].ID != 10 || !stayed[k][0].Leaked {
		t.Errorf("got %+v", stayed)
	}
}

func TestPatience(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]bool{
		"chan receive": true, "IO wait": true, "chan send (nil chan)": true, "sync.Mutex.Lock": true, "semacquire": true,
		"select": false, "sleep": false, "running": false, "": false, "syscall": false,
	} {
		if look, known := census.Patience(state); known != want || look < census.ShortLook {
			t.Errorf("%q: %v, %v", state, look, known)
		}
	}
}
