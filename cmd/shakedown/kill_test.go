package main

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/targets/providers"
	"github.com/shakedown-go/shakedown/targets/spec"
)

var (
	kills    = flag.Int("kills", 1, "how many commands of each kind are killed by TestKilledLeavesNothing")
	killSeed = flag.Uint64("kill-seed", 0, "which moments they are killed at (default: a random one)")
)

// The bounds of what is left of a command that was killed.
const (
	processBound = 2 * time.Second  // for its processes, and what they listen at
	allBound     = 10 * time.Second // for its containers, directories, shared memory and control groups, too
	leakBound    = time.Minute      // what is there then stays
)

// sort is a kind of command that is killed.
type sort struct {
	name  string
	args  []string // without the directory for the results
	needs map[string]spec.Dependency
	ready string // on stdout, once it plays
}

func sorts() []sort {
	local := map[string]spec.Dependency{"cache": {Engine: "redis", Provide: "local"}, "db": {Engine: "postgres", Provide: "local"}}
	docker := map[string]spec.Dependency{"cache": {Engine: "redis", Provide: "docker"}, "db": {Engine: "postgres", Provide: "docker"}}
	shop := filepath.Join("testdata", "services", "shop")
	run := []string{"run", shop, "--bugs", "all", "--budget", "2m", "--triage", "10s"}
	return []sort{
		{"run", append(slices.Clone(run), "--provide", "local"), local, "seed "},
		{"pause", append(slices.Clone(run), "--provide", "local", "--faults", "proc/pause"), local, "seed "},
		{"confine", append(slices.Clone(run), "--provide", "local", "--faults", "proc/memory,proc/cpu"), local, "seed "},
		{"bench", []string{"bench", shop, "--seeds", "2", "--budget", "20s", "--triage", "10s", "--provide", "local", "--modes", "both"}, local, "bug "},
		{"up", []string{"up", shop, "--control", "127.0.0.1:0", "--provide", "local"}, local, "up, until Ctrl-C"},
		{"fuzz", []string{"fuzz", filepath.Join("testdata", "functions", "lookup"), "--budget", "2m"}, map[string]spec.Dependency{"cache": local["cache"]}, "seed "},
		{"docker", append(slices.Clone(run), "--provide", "docker", "--faults", "proc/,net/"), docker, "seed "},
		{"failover", append(slices.Clone(run), "--provide", "local", "--faults", "dep/failover"), local, "seed "},
	}
}

// moments are when commands are killed. Half of those that build begin with an empty cache.
func moments() []string { return []string{"building", "starting", "playing", "stopping"} }

// TestKilledLeavesNothing kills commands at random moments, and looks at what is left. For
// the figures of many: go test ./cmd/shakedown -run Killed -kills 100 -timeout 0 -v
func TestKilledLeavesNothing(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux shows what descends from a harness")
	}
	if testing.Short() {
		t.Skip("it takes a while")
	}
	t.Parallel()
	seed := *killSeed
	if seed == 0 {
		seed = rand.Uint64N(1_000_000) + 1
	}
	for i, s := range sorts() {
		t.Run(s.name, func(t *testing.T) {
			s.need(t)
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			var sum toll
			for n := range *kills {
				v := s.kill(t, rng, moments()[(i+n+int(seed%4))%len(moments())])
				if wrong := sum.add(t, v); len(wrong) > 0 {
					t.Errorf("-kill-seed %d, kill %d, while %s: %q", seed, n+1, v.moment, wrong)
				}
			}
			t.Logf("-kill-seed %d: %s", seed, sum)
			// A machine that is busy with other things may be late for a few.
			if late := *kills - min(sum.quick, sum.clean); late > max(1, *kills/20) {
				t.Errorf("late %d times of %d", late, *kills)
			}
		})
	}
	// Behind the others: what cleans up after a victim cleans up after all.
	t.Run("url", func(t *testing.T) {
		sorts()[0].need(t)
		rng := rand.New(rand.NewPCG(seed, uint64(len(sorts()))))
		servers := newOutside(t)
		var sum undone
		for n := range *kills {
			if wrong := sum.killBoth(t, rng, servers); len(wrong) > 0 {
				t.Errorf("-kill-seed %d, kill %d: %q", seed, n+1, wrong)
			}
		}
		t.Logf("-kill-seed %d: %s", seed, sum)
	})
}

// need skips the test where a store is missing, or fails it where SHAKEDOWN_REQUIRE names that.
func (s sort) need(t *testing.T) {
	t.Helper()
	for name, dep := range s.needs {
		_, err := providers.Choose(t.Context(), name, dep, ".")
		missing := dep.Engine
		if dep.Provide == "docker" {
			missing = "docker"
		}
		switch {
		case err == nil:
		case slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), missing):
			t.Fatal(err)
		default:
			t.Skip(err)
		}
	}
}

// toll sums up kills.
type toll struct {
	kills              int
	moments            map[string]int
	running, stopped   int // processes when they were killed, and kills that met some that were stopped
	listeners, memory  int
	groups             int
	quick, clean, kept int // kills after which all was as it must be
	printed            int // findings
	gone, all          time.Duration
}

// add waits until nothing is left of a victim, and returns what is wrong.
func (x *toll) add(t *testing.T, v *victim) (wrong []string) {
	t.Helper()
	left, gone, all := v.await(t)
	if len(left) > 0 {
		wrong = append(wrong, fmt.Sprintf("left after %s: %q", leakBound, left), v.clean())
	}
	printed, lost := v.findings()
	if err := os.RemoveAll(v.home); err != nil { // many of them need much room
		t.Error(err)
	}
	if x.moments == nil {
		x.moments = map[string]int{}
	}
	x.kills++
	x.moments[v.moment]++
	x.running, x.listeners, x.memory, x.printed = x.running+v.running, x.listeners+len(v.listeners), x.memory+len(v.memory), x.printed+printed
	x.groups += v.groups
	x.gone, x.all = max(x.gone, gone), max(x.all, all)
	for n, good := range map[*int]bool{&x.stopped: v.stopped > 0, &x.quick: gone <= processBound, &x.clean: all <= allBound, &x.kept: len(lost) == 0} {
		if good {
			*n++
		}
	}
	return append(wrong, lost...)
}

func (x toll) String() string {
	return fmt.Sprintf(`killed while %v; there were %d processes (some stopped: %d times), %d listeners, %d segments of shared memory, %d control groups
%d of %d: no process and no listener after %s, the last after %s
%d of %d: no container, no directory, no shared memory, no control group, no supervisor after %s, the last after %s
%d of %d: all findings that were printed (%d) are on disk, and nothing is half written`,
		x.moments, x.running, x.stopped, x.listeners, x.memory, x.groups,
		x.quick, x.kills, processBound, x.gone.Round(time.Millisecond),
		x.clean, x.kills, allBound, x.all.Round(time.Millisecond),
		x.kept, x.kills, x.printed)
}

// kill starts a command and kills it while it does something.
func (s sort) kill(t *testing.T, rng *rand.Rand, moment string) *victim {
	t.Helper()
	// A name that is longer would not be taken: it must have room for sockets.
	home, err := os.MkdirTemp("/tmp", "killed-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	if err := os.Chmod(home, 0o711); err != nil {
		t.Fatal(err)
	}
	v := &victim{home: home, moment: moment, out: filepath.Join(home, "out"), stdout: filepath.Join(home, "stdout")}
	stdout, err := os.Create(v.stdout)
	if err != nil {
		t.Fatal(err)
	}
	defer stdout.Close()
	stderr, err := os.Create(filepath.Join(home, "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	args := slices.Clone(s.args)
	if args[0] == "run" {
		v.last = "bug.json"
	}
	if slices.Contains([]string{"run", "fuzz"}, args[0]) {
		args = append(args, "--out", v.out, "--seed", strconv.Itoa(rng.IntN(1000)))
	}
	cmd := exec.Command("shakedown", args...) // TestMain puts it into PATH
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "TMPDIR="+home)
	if empty := rng.IntN(2) == 0; empty && moment == "building" {
		gocache, err := exec.Command("go", "env", "GOCACHE").Output()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(cmd.Env, "XDG_CACHE_HOME="+filepath.Join(home, "cache"), "GOCACHE="+strings.TrimSpace(string(gocache)))
	}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	defer func() {
		_ = cmd.Process.Kill()
		<-ended
	}()
	// reads waits until a file has a text, or the command has ended.
	reads := func(file *os.File, text string) {
		for late := time.Now().Add(5 * time.Minute); time.Now().Before(late); {
			if b, err := os.ReadFile(file.Name()); err == nil && regexp.MustCompile(text).Match(b) {
				return
			}
			select {
			case <-ended:
				b, _ := os.ReadFile(stderr.Name())
				t.Fatalf("shakedown %q ended before it was killed: %s", args, b)
			case <-time.After(5 * time.Millisecond):
			}
		}
		t.Fatalf("shakedown %q says nothing of %q", args, text)
	}
	soon := func(most time.Duration) {
		select {
		case <-time.After(time.Duration(rng.Int64N(int64(most)))):
		case <-ended:
		}
	}
	switch moment {
	case "building":
		soon(4 * time.Second)
	case "starting":
		if s.name == "fuzz" {
			reads(stdout, "(?m)^environment ")
		} else {
			reads(stderr, "built in|up to date in")
		}
		soon(time.Second)
	case "playing":
		reads(stdout, "(?m)^"+s.ready)
		soon(8 * time.Second)
		// A fault is in force for a moment only: with this one it is waited for.
		for late := time.Now().Add(time.Minute); s.name == "pause" && !v.paused() && time.Now().Before(late); {
			soon(20 * time.Millisecond)
		}
	case "stopping":
		reads(stdout, "(?m)^"+s.ready)
		soon(3 * time.Second)
		_ = cmd.Process.Signal(os.Interrupt)
		soon(time.Second)
	}
	v.look()
	v.killed = time.Now()
	_ = cmd.Process.Kill() // while stopping it may have ended
	return v
}
