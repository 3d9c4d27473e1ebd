// Package pool runs jobs on a bounded number of workers.
package pool

import (
	"context"
	"errors"
	"sync"
	"time"
)

// What a pool refuses.
var (
	ErrBusy   = errors.New("the queue is full")
	ErrClosed = errors.New("the pool is closed")
)

// Options say how many workers there are.
type Options struct {
	Min   int           // started at once, and kept
	Max   int           // the others are started when there is work, and end when there is none
	Queue int           // jobs that may wait
	Idle  time.Duration // after which a worker beyond Min ends; zero means 5s
}

// Job is work that ends soon after its context has.
type Job func(context.Context)

// Pool runs jobs. Close ends it.
type Pool struct {
	opts   Options
	ctx    context.Context // of the jobs
	cancel context.CancelFunc
	jobs   chan Job
	done   sync.WaitGroup

	mu      sync.Mutex // guards the rest, and who sends to jobs or closes it holds it
	workers int
	closed  bool
}

// New starts a pool.
func New(o Options) *Pool {
	if o.Idle <= 0 {
		o.Idle = 5 * time.Second
	}
	o.Max = max(o.Max, o.Min, 1)
	p := &Pool{opts: o, jobs: make(chan Job, max(o.Queue, 1))}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.mu.Lock()
	defer p.mu.Unlock()
	for range o.Min {
		p.start()
	}
	return p
}

// start starts a worker. The caller holds mu.
func (p *Pool) start() {
	p.workers++
	p.done.Go(p.work)
}

// Do hands a job over. It never waits: a caller who is told ErrBusy may come again.
func (p *Pool) Do(job Job) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	select {
	case p.jobs <- job:
	default:
		return ErrBusy
	}
	if p.workers < p.opts.Max && len(p.jobs) > 0 {
		p.start()
	}
	return nil
}

// Workers returns how many workers there are.
func (p *Pool) Workers() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.workers
}

// Close takes no further job, lets those that are waiting be done, and returns when all
// workers have ended. When ctx ends the jobs are told to stop.
func (p *Pool) Close(ctx context.Context) {
	p.mu.Lock()
	if !p.closed {
		p.closed = true
		close(p.jobs)
	}
	p.mu.Unlock()
	defer p.cancel()
	stop := context.AfterFunc(ctx, p.cancel)
	defer stop()
	p.done.Wait()
}

func (p *Pool) work() {
	idle := time.NewTimer(p.opts.Idle)
	defer idle.Stop()
	for {
		select {
		case job, open := <-p.jobs:
			if !open {
				p.leave(true)
				return
			}
			job(p.ctx)
		case <-idle.C:
			if p.leave(false) {
				return
			}
		}
		idle.Reset(p.opts.Idle)
	}
}

// leave takes a worker off the books, unless it is needed: Do sends under the lock, so that
// no job is left behind by the last one.
func (p *Pool) leave(always bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !always && (p.workers <= p.opts.Min || len(p.jobs) > 0) {
		return false
	}
	p.workers--
	return true
}
