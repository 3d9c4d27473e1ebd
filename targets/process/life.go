package process

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/agent"
)

const (
	backTime  = 10 * time.Second     // for a killed service to be ready again, where no ready_within is given
	readyGap  = 5 * time.Millisecond // between two looks whether the service is ready
	readyTry  = time.Second          // for one look
	agentTime = time.Second          // for the agent's handshake, once the service is ready
	maxSaid   = 200                  // bytes of a reply that an error quotes
)

// life is one process of the service, or one container.
type life struct {
	unit
	let   func(context.Context) error // lets go of what the maker keeps for it; nil for nothing
	agent atomic.Pointer[agent.Conn]  // nil: a black box
	dir   string
	races *races
	late  bool     // it was started again and has not been ready yet; guarded by the instance's turn
	mute  []string // streams on which a flush did not come out, so that none is waited for
}

// unit is what runs: a *child.Child or a *container.Life.
type unit interface {
	Done() <-chan struct{}
	Exited() (status string, code int)
	Tail() []string
	Await(lane, token string) (seen <-chan struct{}, forget func())
	Kill(context.Context) (int, error)
	Pause(context.Context) (int, error)
	Resume(context.Context) (int, error)
	LimitFiles(more int) (n int, lift func() error, err error)
	SetClock(ctx context.Context, ahead time.Duration) (n int, err error)
	Confine(context.Context, harness.Quota) (harness.Injection, error)
	Starved() bool
	Stop(ctx context.Context, grace time.Duration) error
}

// launch starts the service for the first time and waits until it is ready. A failure
// leaves nothing running.
func (i *instance) launch(ctx context.Context) error {
	l, err := i.fork(ctx)
	if err != nil {
		return fmt.Errorf("start the service: %w", err)
	}
	within := cmp.Or(time.Duration(i.s.file.Service.Within), readyTime)
	wait, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if err := i.ready(wait, l); err != nil {
		ended := l.end(ctx, func() error { _, err := l.Kill(ctx); return err })
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), ended)
		}
		why := fmt.Sprintf("it was not ready within %s: %v; more time: ready_within", within, err)
		if unheard := new(net.OpError); errors.As(err, &unheard) && unheard.Op == "dial" {
			why += "; does it listen on {{listen}}?"
		}
		if no := new(refusal); errors.As(err, &no) {
			why += fmt.Sprintf("; it said %q", no.said)
		}
		if errors.Is(err, errExited) {
			status, _ := l.Exited()
			why = "it ended before it was ready: " + status
		}
		return errors.Join(errors.New("the service did not start: "+why+tail(l.Tail())), ended)
	}
	l.shake(ctx)
	i.env.settle(ctx)
	i.set(l)
	return nil
}

// relaunch starts the service again, at the address where it was, and waits until it is
// ready.
func (i *instance) relaunch(ctx context.Context) error {
	l, err := i.fork(ctx)
	if err != nil {
		return fmt.Errorf("start the service again: %w", err)
	}
	l.late = true
	i.set(l)
	return i.back(ctx, l)
}

// back waits until a service that was started again is ready. One that does not get there
// in its time is a harness.ErrNotReady and is left alone: it may wait for what another
// fault keeps away. The end of one that has ended is an event, which makes the instance
// worn, and no error.
func (i *instance) back(ctx context.Context, l *life) error {
	began := time.Now()
	wait, cancel := context.WithTimeout(ctx, cmp.Or(time.Duration(i.s.file.Service.Within), backTime))
	defer cancel()
	err := i.ready(wait, l)
	switch {
	case err == nil:
		l.late = false
		l.shake(ctx)
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case !errors.Is(err, errExited):
		return fmt.Errorf("%w after %s: %v", harness.ErrNotReady, time.Since(began).Round(10*time.Millisecond), err)
	}
	return nil
}

// set makes l the process that runs.
func (i *instance) set(l *life) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now, i.paused = l, 0
}

// shake connects to the agent of a service that is ready, once. The agent listens before
// main begins: where there is none by now, none will come.
func (l *life) shake(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, agentTime)
	defer cancel()
	if _, err := os.Stat(l.socket()); err != nil || l.agent.Load() != nil {
		return
	}
	if c, _, err := agent.Dial(ctx, l.socket()); err == nil {
		l.agent.Store(c)
	}
}

// fork starts the process.
func (i *instance) fork(ctx context.Context) (*life, error) {
	dir, err := i.s.epoch()
	if err != nil {
		return nil, err
	}
	l := &life{dir: dir, races: &races{dir: dir, emit: i.take}}
	if err := i.s.maker.start(ctx, i, l); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if i.ahead != 0 {
		if _, err := l.SetClock(ctx, i.ahead); err != nil {
			return nil, errors.Join(err, l.end(ctx, func() error { _, err := l.Kill(ctx); return err }))
		}
	}
	return l, nil
}

func (l *life) socket() string { return filepath.Join(l.dir, "agent") }

// end ends the process by the function and lets go of all that belongs to it.
func (l *life) end(ctx context.Context, stop func() error) error {
	err := stop()
	l.races.read() // what the service started may have outlived it, and raced
	if a := l.agent.Load(); a != nil {
		a.Close()
	}
	if l.let != nil {
		err = errors.Join(err, l.let(ctx))
	}
	return errors.Join(err, os.RemoveAll(l.dir))
}

var errExited = errors.New("the service has exited")

// ready waits until the service answers its readiness request with a status below 500,
// or, where none is described, until it listens.
func (i *instance) ready(ctx context.Context, l *life) error {
	t := &http.Transport{DisableKeepAlives: true}
	defer t.CloseIdleConnections()
	gap := time.NewTicker(readyGap)
	defer gap.Stop()
	last := errors.New("it was not asked")
	for {
		select {
		case <-l.Done():
			return errExited
		case <-ctx.Done():
			return last
		default:
		}
		err := i.look(ctx, t)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil { // otherwise the deadline is to blame for the error
			last = err
		}
		select {
		case <-gap.C:
		case <-l.Done():
		case <-ctx.Done():
		}
	}
}

// look asks once whether the service is ready.
func (i *instance) look(ctx context.Context, t *http.Transport) error {
	ctx, cancel := context.WithTimeout(ctx, readyTry)
	defer cancel()
	if i.s.file.Service.Ready == "" {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", i.s.port.Addr())
		if err != nil {
			return err
		}
		return c.Close()
	}
	return i.s.ask(ctx, t, i.s.file.Service.Ready, func(status int) bool { return status < 500 })
}

// ask makes a request of the service, "GET /healthz". It returns an error where no reply comes
// whose status is well.
func (s *System) ask(ctx context.Context, t *http.Transport, request string, well func(status int) bool) error {
	method, path, _ := strings.Cut(request, " ")
	url := "http://" + s.port.Addr() + path
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, url, err)
	}
	if !well(resp.StatusCode) {
		said, _, _ := strings.Cut(strings.TrimSpace(string(body[:min(len(body), maxSaid)])), "\n")
		return &refusal{fmt.Sprintf("%s %s answered %s", method, url, resp.Status), strings.TrimSpace(said)}
	}
	return nil
}

// refusal is a reply by which the service says that it is not ready, or not well. What the reply said
// may be another thing each time, and is no part of the error's words.
type refusal struct{ words, said string }

func (r *refusal) Error() string { return r.words }

// flush waits until all that the service has printed so far has been handed over. False
// says that the agent did not answer. Without an agent, nothing is known and nothing is
// waited for.
func (l *life) flush(ctx context.Context) bool {
	a := l.agent.Load()
	if a == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, flushTime)
	defer cancel()
	token := "shakedown-flush " + rand.Text()
	seen := map[string]<-chan struct{}{}
	for _, lane := range []string{"stdout", "stderr"} {
		came, forget := l.Await(lane, token)
		defer forget()
		seen[lane] = came
	}
	took, err := a.Ask(ctx, "flush "+token)
	if err != nil {
		return false
	}
	for _, lane := range strings.Fields(string(took)) {
		came, known := seen[lane]
		if !known || slices.Contains(l.mute, lane) {
			continue
		}
		select {
		case <-came:
		case <-ctx.Done(): // the service has made this stream lead elsewhere
			l.mute = append(l.mute, lane)
		}
	}
	return true
}
