package pool

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWorkersComeAndGo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Min: 1, Max: 3, Queue: 8, Idle: time.Second})
		var done atomic.Int32
		for range 6 {
			if err := p.Do(func(context.Context) { time.Sleep(100 * time.Millisecond); done.Add(1) }); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if n := p.Workers(); n != 3 {
			t.Errorf("%d workers while there is work, want 3", n)
		}
		time.Sleep(250 * time.Millisecond)
		if n := done.Load(); n != 6 {
			t.Errorf("%d jobs done after two rounds, want 6", n)
		}
		time.Sleep(3 * time.Second)
		if n := p.Workers(); n != 1 {
			t.Errorf("%d workers while there is none, want 1", n)
		}
		p.Close(t.Context())
		if n := p.Workers(); n != 0 {
			t.Errorf("%d workers after the end", n)
		}
	})
}

func TestFullAndClosedPoolsRefuse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := New(Options{Max: 1, Queue: 2})
		stopped := 0
		job := func(ctx context.Context) { <-ctx.Done(); stopped++ }
		if err := p.Do(job); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the worker has it
		for i, want := range []error{nil, nil, ErrBusy} {
			if err := p.Do(job); !errors.Is(err, want) {
				t.Errorf("job %d: %v, want %v", i, err, want)
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		p.Close(ctx) // those that wait are told to stop as soon as they begin
		if stopped != 3 {
			t.Errorf("%d jobs ended, want 3", stopped)
		}
		if err := p.Do(job); !errors.Is(err, ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
		p.Close(t.Context()) // twice is well
	})
}
