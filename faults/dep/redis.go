package dep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/shakedown-go/shakedown/harness"
)

const redis = "redis"

// setting is a setting of a Redis, and the value that a fault gives it.
type setting struct{ name, value string }

// configure changes settings of a Redis in order and puts them back in the reverse one. More
// is done behind that, and undone before. The proof are the commands that the Redis refuses
// with an error code meanwhile, whoever they come from, but no more than the target has sent
// bytes: one that sent nothing was refused nothing.
func configure(ctx context.Context, w harness.World, args harness.Args, codes []string, settings []setting, more harness.Change) (harness.Injection, error) {
	s, err := w.Store(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	l, err := w.Link(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	var c harness.Change
	for _, x := range settings {
		was, err := get(ctx, s, x.name)
		if err != nil {
			return harness.Injection{}, err
		}
		c.Read = append(c.Read, []string{"CONFIG", "GET", x.name})
		c.Do = append(c.Do, []string{"CONFIG", "SET", x.name, x.value})
		c.Undo = append(c.Undo, []string{"CONFIG", "SET", x.name, was})
		c.Set = append(c.Set, x.name, x.value)
	}
	slices.Reverse(c.Undo)
	if c.Set = append(c.Set, more.Set...); len(more.Read) > 0 && more.Set == nil {
		c.Set = nil // it cannot be told of all
	}
	c.Read = append(c.Read, more.Read...)
	c.Do = append(c.Do, more.Do...)
	c.Undo = slices.Concat(more.Undo, c.Undo)
	m, err := newMeter(ctx, func(ctx context.Context) (int64, error) { return refusals(ctx, s, codes) })
	if err != nil {
		return harness.Injection{}, err
	}
	from := l.Stats().Up
	heal, err := s.Change(ctx, c)
	if err != nil {
		return harness.Injection{}, err
	}
	// What the target sends is counted a moment after it has been passed on, and may have been
	// refused by then: so the last look at it is behind the heal.
	var last atomic.Pointer[int64]
	sent := func() int64 {
		if n := last.Load(); n != nil {
			return *n
		}
		return l.Stats().Up - from
	}
	return within(args, harness.Injection{
		Heal: m.closing(func(ctx context.Context) error {
			err := heal(ctx)
			n := sent()
			last.Store(&n)
			return err
		}),
		Acted: func() int64 { return min(m.acted(), sent()) },
		Unit:  "commands refused with " + strings.Join(codes, " or "),
	}, nil)
}

// orphan makes a replica of a Redis, of a master that does not answer. It keeps its data,
// and still has them when it is a master again.
func orphan(ctx context.Context, w harness.World, args harness.Args, codes []string, stale string) (harness.Injection, error) {
	s, err := w.Store(args.Text("store"))
	if err != nil {
		return harness.Injection{}, err
	}
	role, err := s.Do(ctx, "ROLE") // master, an offset, and its replicas
	if err != nil {
		return harness.Injection{}, err
	}
	if len(role) != 2 || role[0] != "master" {
		return harness.Injection{}, errors.New("this redis is a replica already, or has one: it would not be again what it was")
	}
	return configure(ctx, w, args, codes, []setting{{"replica-read-only", "yes"}, {"replica-serve-stale-data", stale}}, harness.Change{
		Read: [][]string{{"CONFIG", "GET", "replicaof"}},
		Do:   [][]string{{"REPLICAOF", "127.0.0.1", "1"}}, // nothing listens there
		Undo: [][]string{{"REPLICAOF", "NO", "ONE"}},
		Set:  []string{"replicaof", "127.0.0.1 1"},
	})
}

// client is a connection to a Redis as that describes it: id, name, flags, cmd and others.
type client map[string]string

// own is what the harness's own connections are called.
const own = "shakedown"

// clients lists the connections to a Redis that words ask for, all where there are none, but for
// the harness's own.
func clients(ctx context.Context, s harness.Store, words ...string) (all []client, err error) {
	got, err := s.Do(ctx, append([]string{"CLIENT", "LIST"}, words...)...)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(strings.Join(got, "\n")) {
		c := client{}
		for _, field := range strings.Fields(line) {
			k, v, _ := strings.Cut(field, "=")
			c[k] = v
		}
		if c["id"] != "" && c["name"] != own {
			all = append(all, c)
		}
	}
	return all, nil
}

// get returns the value of a setting.
func get(ctx context.Context, s harness.Store, name string) (string, error) {
	got, err := s.Do(ctx, "CONFIG", "GET", name)
	if err != nil {
		return "", err
	}
	if len(got) != 2 {
		return "", fmt.Errorf("this redis has no setting %s", name)
	}
	return got[1], nil
}

// refusals returns how many commands a Redis has refused with error codes since it was
// started.
func refusals(ctx context.Context, s harness.Store, codes []string) (sum int64, err error) {
	got, err := s.Do(ctx, "INFO", "errorstats")
	if err != nil {
		return 0, err
	}
	if len(got) != 1 || !strings.HasPrefix(got[0], "# Errorstats") {
		return 0, errors.New("this redis does not count what it refuses: 6.2 is the first that does")
	}
	for line := range strings.Lines(got[0]) {
		code, count, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "errorstat_"), ":count=")
		if slices.Contains(codes, code) {
			n, err := strconv.ParseInt(count, 10, 64)
			if err != nil {
				return 0, fmt.Errorf("INFO errorstats: %w", err)
			}
			sum += n
		}
	}
	return sum, nil
}
