package gofuzz

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	base "github.com/dvyukov/go-fuzz/go-fuzz-defs"

	"github.com/shakedown-go/shakedown/fuzz/engine"
)

// MaxInput is the largest input that the engine takes, in bytes.
const MaxInput = base.MaxInputSize

// look is how often new crashers are looked for.
const look = 250 * time.Millisecond

// Options say how a function is fuzzed.
type Options struct {
	Tools   Tools
	Archive string // of Build
	Func    string
	Dir     string // for the corpus, the crashers and what the engine keeps; it must be empty
	Race    bool   // Archive was built so
	GODEBUG string // for the function: of GODEBUG
	Env     []string
	Seeds   [][]byte
	Procs   int // processes; zero means one for each processor
	Tick    func(engine.Stats)
	Crash   func(engine.Crasher)
}

// Result is what fuzzing came to.
type Result struct {
	engine.Stats
	Corpus [][]byte // seeds included
}

// Fuzz fuzzes a function until ctx ends. An engine that ends before is an error.
func Fuzz(ctx context.Context, run engine.Run, o Options) (Result, error) {
	var res Result
	corpus := filepath.Join(o.Dir, "corpus")
	if err := os.MkdirAll(corpus, 0o700); err != nil {
		return res, err
	}
	given := map[string]bool{}
	seeds := o.Seeds
	if len(seeds) == 0 {
		seeds = [][]byte{nil} // the engine's own first input
	}
	for _, seed := range seeds {
		if len(seed) > MaxInput {
			continue
		}
		sum := sha1.Sum(seed)
		name := hex.EncodeToString(sum[:])
		given[name] = true
		if err := os.WriteFile(filepath.Join(corpus, name), seed, 0o600); err != nil {
			return res, err
		}
	}
	args := []string{"-bin", o.Archive, "-workdir", o.Dir, "-func", o.Func, "-minimize", "5s"}
	if o.Procs > 0 {
		args = append(args, "-procs", strconv.Itoa(o.Procs))
	}
	p := engine.Program{Name: "go-fuzz", Path: o.Tools.Fuzz, Args: args, Env: environ(o), Dir: o.Dir}
	lines := make(chan string)
	done := make(chan error, 1)
	engineCtx, end := context.WithCancel(ctx)
	defer end()
	var last []string
	go func() {
		code, err := run(engineCtx, p, func(text string) { lines <- text })
		if err == nil && engineCtx.Err() == nil {
			err = fmt.Errorf("go-fuzz ended with code %d", code)
		}
		done <- err
	}()
	t := time.NewTicker(look)
	defer t.Stop()
	taken := map[string]bool{}
	for {
		select {
		case text := <-lines:
			if s, ok := parseStats(text); ok {
				s.Seeds, s.Grown = len(given), max(0, s.Corpus-len(given))
				if res.Stats = s; o.Tick != nil {
					o.Tick(s)
				}
			} else {
				last = append(last, text)[max(0, len(last)-20):]
			}
		case <-t.C:
			if err := crashers(o, taken); err != nil && ctx.Err() == nil {
				end()
				return res, errors.Join(err, finish(lines, done))
			}
		case err := <-done:
			if err != nil {
				return res, fmt.Errorf("%w\n%s", err, strings.Join(last, "\n"))
			}
			return collect(o, res, corpus, given, taken)
		}
	}
}

// finish waits for the engine's end.
func finish(lines <-chan string, done <-chan error) error {
	for {
		select {
		case <-lines:
		case err := <-done:
			return err
		}
	}
}

// collect takes what the engine has left.
func collect(o Options, res Result, corpus string, given, taken map[string]bool) (Result, error) {
	err := crashers(o, taken)
	entries, readErr := os.ReadDir(corpus)
	err = errors.Join(err, readErr)
	grown := 0
	for _, e := range entries {
		b, readErr := os.ReadFile(filepath.Join(corpus, e.Name()))
		if err = errors.Join(err, readErr); readErr == nil {
			res.Corpus = append(res.Corpus, b)
		}
		if !given[e.Name()] {
			grown++
		}
	}
	res.Stats.Seeds, res.Stats.Grown = len(given), grown
	// The engine says how many it has executed up to nine seconds late. What it has found
	// it has executed.
	res.Execs = max(res.Execs, int64(grown+len(taken)))
	res.Stats.Corpus = max(res.Stats.Corpus, len(entries))
	return res, err
}

// environ is the engine's environment, and the function's, which inherits it.
func environ(o Options) []string {
	env := append([]string{}, o.Env...)
	env = append(env, "TMPDIR="+o.Dir)
	if o.GODEBUG != "" {
		own := ""
		for _, kv := range o.Env {
			if value, ok := strings.CutPrefix(kv, "GODEBUG="); ok && value != "" {
				own = "," + value // the user's own word is the last
			}
		}
		env = append(env, "GODEBUG="+o.GODEBUG+own)
	}
	if o.Race {
		env = append(env, "GORACE=halt_on_error=1")
	}
	return env
}

// crasherName is that of an input; what was printed stands beside it.
var crasherName = regexp.MustCompile(`^[0-9a-f]{40}$`)

// crashers reports those that are new. The engine writes the input first and what was
// printed next, so one without the latter is left for the next time.
func crashers(o Options, taken map[string]bool) error {
	dir := filepath.Join(o.Dir, "crashers")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !crasherName.MatchString(e.Name()) || taken[e.Name()] {
			continue
		}
		input, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		said, err := os.ReadFile(filepath.Join(dir, e.Name()+".output"))
		if err != nil || len(said) == 0 {
			continue
		}
		taken[e.Name()] = true
		if o.Crash != nil {
			o.Crash(engine.Crasher{Input: engine.Input{input}, Output: strings.Split(strings.ToValidUTF8(string(said), "\uFFFD"), "\n")})
		}
	}
	return nil
}

// 2026/01/02 15:04:05 workers: 2, corpus: 12 (3s ago), crashers: 0, restarts: 1/9876, execs: 98765 (32921/sec), cover: 55, uptime: 3s
var stats = regexp.MustCompile(`workers: \d+, corpus: (\d+) .*execs: (\d+) \(`)

func parseStats(line string) (engine.Stats, bool) {
	m := stats.FindStringSubmatch(line)
	if m == nil {
		return engine.Stats{}, false
	}
	corpus, _ := strconv.Atoi(m[1])
	execs, err := strconv.ParseInt(m[2], 10, 64)
	return engine.Stats{Execs: execs, Corpus: corpus}, err == nil
}
