package detect

import (
	"fmt"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/census"
	"github.com/shakedown-go/shakedown/harness/stack"
)

// HeapGrowth finds memory that calls leave behind and no collection gives back.
//
// Caches, session stores and buffers grow with calls as well, and are meant to, up to a
// bound that nobody outside knows. So much is asked for: the same case, played at least
// eight times in one process, left 128 KiB or more behind in every round, 64 MiB in all,
// and the later half of the rounds no less than two thirds of what the earlier half left. What
// is smaller than that takes minutes of load to tell from a cache, and is not looked for.
var HeapGrowth = &harness.Detector{
	Name:    "heap-growth",
	Doc:     "memory stays in use, 64 MiB of it after rounds of the same calls, and more with every one",
	Needs:   harness.CapAgent,
	Minimum: 20,
	Repeats: census.Memory,
	Detect:  heapGrowth,
}

// heapRounds is how many rounds it takes to see that the heap grows steadily.
const heapRounds = 8

func heapGrowth(rec *harness.Record) harness.Judgement {
	var j harness.Judgement
	t := trailOf(rec)
	if t == nil {
		return j
	}
	n := t.rounds()
	at := func(round int) int { return t.counts[round][census.Heap] }
	if at(0) == 0 || at(1) == 0 {
		return j // it was not counted
	}
	j.Checked = t.calls
	if n < heapRounds || at(n)-at(0) < census.HeapTotal {
		return j
	}
	for i := 1; i <= n; i++ {
		if at(i)-at(i-1) < census.HeapRound {
			return j
		}
	}
	// The first round fills what is filled once.
	half := (n - 1) / 2
	early, late := at(1+half)-at(1), at(n)-at(n-half)
	if 3*late < 2*early {
		return j
	}
	site := allocator(rec)
	where := ""
	if site != "" {
		where = ", most of it allocated in " + stack.Short(site)
	}
	add(&j, harness.Finding{
		Detector:  "heap-growth",
		Signature: "heap grows",
		Title: fmt.Sprintf("%d calls have left %d MiB of memory in use, about %d KiB each%s, more with every round",
			t.calls, (at(n)-at(0))>>10, (at(n)-at(0))/max(t.calls, 1), where),
		Detail:   t.series(census.Heap) + " (KiB)",
		Evidence: t.evidence(),
	})
	return j
}

// allocator names the function of the service that has allocated most of what is in use; ""
// where that is not known.
func allocator(rec *harness.Record) string {
	for _, e := range rec.Events {
		if e.Kind != harness.Sample || e.Name != census.Sites {
			continue
		}
		first, _, _ := strings.Cut(e.Text, "\n")
		words := strings.Fields(first)
		for _, fn := range words[min(1, len(words)):] {
			if fn = stack.Shorten(fn); stack.Own(rec.Build.Module, fn) {
				return fn
			}
		}
	}
	return ""
}
