package link

import (
	"errors"
	"net"
	"sync"
	"time"
)

// ear is how a link becomes deaf: while a toxic wants connects to get no answer its backlog is
// full, and the kernel drops SYNs. The accept loop alone fills the backlog and empties it, since
// nobody else may accept meanwhile.
type ear struct {
	asks   chan chan error // the loop looks what the rules say, and answers
	closed chan struct{}   // closed with the link

	turn sync.Mutex // guards what follows; held by who asks, until the answer has come
	deaf bool       // the backlog is full
}

// heed has SYNs lost or answered as the rules say, and returns when they are. It waits for the
// accept loop, which takes no longer than its own bounds but may wait for l.mu: the caller does not
// hold it.
func (l *Link) heed() error {
	l.ear.turn.Lock()
	defer l.ear.turn.Unlock()
	want := l.wantsDeaf()
	if l.ear.deaf == want {
		return nil
	}
	done := make(chan error, 1)
	l.listener.SetDeadline(past) // the loop comes back from its accept; an error says that it has ended
	select {
	case l.ear.asks <- done:
		if err := <-done; l.ear.deaf != want { // else it is of what somebody wants who will ask, too
			return err
		}
		return nil
	case <-l.ear.closed:
		return nil
	}
}

func (l *Link) wantsDeaf() bool { return len(l.rules.Load().deaf) > 0 }

// attend is the accept loop's part of heed. It returns when connections are to be accepted again,
// or the link is closed.
func (l *Link) attend(b *backlog, admit func(*net.TCPConn)) {
	for {
		select {
		case done := <-l.ear.asks:
			deaf, err := l.tune(b, admit)
			if !deaf {
				l.listener.SetDeadline(time.Time{})
			}
			done <- err
			if !deaf {
				return
			}
		case <-l.ear.closed:
			return
		}
	}
}

// tune fills the backlog or empties it, unless it is as the rules say: they may have changed since
// somebody asked. It reports whether the backlog is full now. Who asked holds l.ear.turn.
func (l *Link) tune(b *backlog, admit func(*net.TCPConn)) (deaf bool, err error) {
	deaf = l.ear.deaf
	switch wants := l.wantsDeaf(); {
	case wants && !deaf:
		err = b.fill(l.listener, admit)
		deaf = err == nil
	case !wants && deaf:
		err = b.empty(l.listener, admit)
		deaf = err != nil // whoever asks next has it tried again
	}
	l.ear.deaf = deaf
	return deaf, err
}

// deafen puts a toxic in force that has just been published, or takes it back where that cannot
// be. The caller holds l.mu, which others may hold meanwhile.
func (l *Link) deafen(x *toxic) error {
	l.mu.Unlock()
	err := l.heed()
	l.mu.Lock()
	switch {
	case l.closed:
		return net.ErrClosed
	case err != nil:
		l.lift(x.is)
	}
	return err
}

// settle is heed for a toxic that has changed by the clock: its heal tells of the first error.
func (l *Link) settle(x *toxic) {
	if !x.Deaf {
		return
	}
	if err := l.heed(); err != nil && !errors.Is(err, net.ErrClosed) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if x.failed == nil {
			x.failed = err
		}
	}
}

// tally counts the SYNs that were lost since the last time, for the toxics in force. The caller
// holds l.mu.
func (l *Link) tally() {
	if l.closed {
		return
	}
	now, err := drops(l.listener)
	if err != nil {
		return // what cannot be read is not claimed
	}
	for _, t := range l.rules.Load().deaf {
		t.acted.Add(int64(now - l.dropped)) // modulo 1<<32, as the kernel counts
	}
	l.dropped = now
}

// lost is what a toxic has touched that loses SYNs: nobody else is told of them.
func (l *Link) lost(x *toxic) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tally()
	return x.acted.Load()
}
