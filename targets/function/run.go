package function

import (
	"context"
	"sync"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/child"
)

// Command is a program to run.
type Command struct {
	Name, Path string
	Args       []string
	Env        []string // the whole environment; nil means child.Environ
	Dir        string
}

// Run runs a program to its end and hands over each line that it prints, one at a time;
// lane is stdout or stderr. When ctx ends, the program and all that it has started are ended first.
// An error says that it could not be run, or not be ended.
func Run(ctx context.Context, c Command, line func(lane, text string)) (code int, err error) {
	var mu sync.Mutex // holds line to one call at a time
	p, err := child.Start(child.Options{Name: c.Name, Path: c.Path, Args: c.Args, Env: c.Env, Dir: c.Dir, Emit: func(e harness.Event) {
		if e.Kind == harness.Output && line != nil {
			mu.Lock()
			defer mu.Unlock()
			line(e.Lane, e.Text)
		}
	}})
	if err != nil {
		return 0, err
	}
	select {
	case <-p.Done():
	case <-ctx.Done():
	}
	// What it has started may outlive it.
	_, err = p.Kill(ctx)
	_, code = p.Exited()
	return code, err
}

// replayed is a program that was run for a record.
type replayed struct {
	events []harness.Event
	late   bool // it did not end in time
}

// replay runs a program and records what it prints and how it ends. One that takes longer
// than limit is told to print its stacks and to end.
func replay(ctx context.Context, c Command, limit time.Duration, signal func(*child.Child)) (replayed, error) {
	var out replayed
	var mu sync.Mutex // guards out.events
	began := time.Now()
	size := 0
	p, err := child.Start(child.Options{Name: c.Name, Path: c.Path, Args: c.Args, Env: c.Env, Dir: c.Dir, Emit: func(e harness.Event) {
		mu.Lock()
		defer mu.Unlock()
		if size += e.Size(); size > harness.MaxRecord && e.Kind == harness.Output {
			return
		}
		e.Seq, e.At, e.Step = uint64(len(out.events)+2), time.Since(began), -1
		out.events = append(out.events, e)
	}})
	if err != nil {
		return out, err
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-p.Done():
	case <-ctx.Done():
	case <-t.C:
		out.late = true
		signal(p)
		last := time.NewTimer(5 * time.Second) // to print its stacks
		defer last.Stop()
		select {
		case <-p.Done():
		case <-ctx.Done():
		case <-last.C:
		}
	}
	if _, err = p.Kill(ctx); err != nil {
		return out, err
	}
	<-p.Done()
	return out, ctx.Err()
}
