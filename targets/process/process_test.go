package process

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/gobuild"
	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// source is a service that does on request what services do by accident.
const source = `package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

var (
	counter int
	kept    [][]byte
)

func main() {
	mode := os.Getenv("MODE")
	fmt.Fprintln(os.Stderr, "mode", mode, "bugs", os.Getenv("BUGS"), "args", os.Args[1:])
	switch {
	case mode == "exits":
		log.Fatal("there is no configuration")
	case mode == "hangs":
		select {}
	case mode == "late":
		time.Sleep(300 * time.Millisecond)
	case strings.HasPrefix(mode, "once"):
		if _, err := os.Stat(os.Getenv("MARK")); err != nil {
			os.WriteFile(os.Getenv("MARK"), nil, 0o600)
		} else if mode == "once" {
			log.Fatal("once is enough")
		} else {
			time.Sleep(time.Second)
		}
	}
	var broken sync.Once
	sick := make(chan struct{})
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-sick:
			http.Error(w, "sick", 500)
		default:
		}
		if mode == "never" {
			http.Error(w, "no", 503)
		}
	})
	http.HandleFunc("GET /sicken", func(w http.ResponseWriter, r *http.Request) { broken.Do(func() { close(sick) }) })
	http.HandleFunc("GET /pid", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, os.Getpid()) })
	http.HandleFunc("GET /time", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, time.Now().Unix()) })
	http.HandleFunc("GET /env", func(w http.ResponseWriter, r *http.Request) {
		for _, e := range os.Environ() {
			fmt.Fprintln(w, e)
		}
	})
	http.HandleFunc("GET /print", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("to stdout")
		fmt.Fprint(os.Stderr, "to stderr, unfinished")
	})
	http.HandleFunc("GET /race", func(w http.ResponseWriter, r *http.Request) {
		var wg sync.WaitGroup
		for range 2 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 1000 {
					counter++
				}
			}()
		}
		wg.Wait()
	})
	http.HandleFunc("GET /crash", func(w http.ResponseWriter, r *http.Request) {
		go func() { panic("the sky falls") }()
		time.Sleep(time.Minute)
	})
	http.HandleFunc("GET /stuck", func(w http.ResponseWriter, r *http.Request) { waitForGodot(r) })
	http.HandleFunc("GET /spawn", func(w http.ResponseWriter, r *http.Request) {
		c := exec.Command("sh", "-c", "trap '' TERM; exec sleep 1000")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := c.Start(); err != nil {
			panic(err)
		}
		fmt.Fprint(w, c.Process.Pid)
	})
	http.HandleFunc("GET /grow", func(w http.ResponseWriter, r *http.Request) {
		for range 64 {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			kept = append(kept, b)
		}
		fmt.Fprint(w, "grown")
	})
	http.HandleFunc("GET /flood", func(w http.ResponseWriter, r *http.Request) {
		line := []byte(strings.Repeat("x", 1<<16-1) + "\n")
		for range 1100 {
			os.Stdout.Write(line)
		}
		go func() { panic("after the flood") }()
		time.Sleep(time.Minute)
	})
	if mode == "panics at the end" {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		go func() {
			<-c
			panic("not like this")
		}()
	}
	if mode == "graceful" {
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		go func() {
			<-c
			counter++ // a report of the last moment
			fmt.Fprintln(os.Stderr, "going down")
			os.Exit(0)
		}()
		go func() { counter++ }()
	}
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}

func waitForGodot(r *http.Request) { <-r.Context().Done() }
`

// homeVar tells a test that was started again as a harness where home is.
const homeVar = "PROCESS_TEST_HOME"

// home is where the service's module and its binaries are for all tests.
var home = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv(homeVar); dir != "" {
		return dir, nil
	}
	dir, err := os.MkdirTemp("", "process-test-")
	if err != nil {
		return "", err
	}
	for name, text := range map[string]string{"go.mod": "module example.com/svc\n\ngo 1.22\n", "cmd/svcd/main.go": source} {
		path := filepath.Join(dir, "svc", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := home(); err == nil && os.Getenv(homeVar) == "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// file describes the service in one of its modes.
func file(t *testing.T, mode string) *spec.File {
	t.Helper()
	dir, err := home()
	if err != nil {
		t.Fatal(err)
	}
	return &spec.File{
		Path: filepath.Join(dir, "svc", "shakedown.yaml"),
		Dir:  filepath.Join(dir, "svc"),
		Service: spec.Service{
			Build: "./cmd/svcd",
			Env:   map[string]string{"ADDR": "{{listen}}", "MODE": mode, "BUGS": "{{bugs}}", "HERE": "{{dir}}"},
			Ready: "GET /healthz",
		},
		API: spec.API{Ops: map[string]*spec.Op{}},
	}
}

func open(t *testing.T, f *spec.File, o Options) *System {
	t.Helper()
	dir, err := home()
	if err != nil {
		t.Fatal(err)
	}
	o.Cache = filepath.Join(dir, "cache")
	s, err := Open(t.Context(), f, o)
	if err != nil {
		t.Fatal(err)
	}
	scratch := s.scratch.dir
	t.Cleanup(func() {
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
		if _, err := os.Stat(scratch); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", scratch, err)
		}
	})
	return s
}

// log keeps events.
type log struct {
	mu     sync.Mutex
	events []harness.Event
}

func (l *log) emit(e harness.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// lines returns what came on a stream, "" for the exits.
func (l *log) lines(lane string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, e := range l.events {
		if e.Lane == lane && (lane != "" || e.Kind == harness.Exit) {
			out = append(out, e.Text)
		}
	}
	return out
}

// running starts an instance and sees to it that no process of it stays.
func running(t *testing.T, s *System) (*instance, *log) {
	t.Helper()
	l := &log{}
	in, err := s.Target.Start(t.Context(), harness.Setup{Emit: l.emit})
	if err != nil {
		t.Fatal(err)
	}
	i := in.(*instance)
	pid := i.now.unit.(*child.Child).Pid()
	t.Cleanup(func() {
		if err := i.Stop(t.Context()); err != nil {
			t.Errorf("stop: %v", err)
		}
		gone(t, pid)
	})
	return i, l
}

// gone fails if a process is there. A zombie is not: nobody may reap orphans here.
func gone(t *testing.T, pid int) {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err == nil && !strings.Contains(string(stat), ") Z ") {
		t.Errorf("process %d is still there: %s", pid, stat)
	}
}

// get asks the service; "" is the answer where none comes within the time.
func get(t *testing.T, i *instance, path string, within time.Duration) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+i.s.port.Addr()+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return ""
	}
	return string(b)
}

// until waits until a condition holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

func quiesce(t *testing.T, i *instance) string {
	t.Helper()
	worn, err := i.Quiesce(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return worn
}

func TestServiceIsBuiltStartedAndStopped(t *testing.T) {
	t.Parallel()
	f := file(t, "plain")
	f.Service.Args = []string{"-x", "{{ dir }}"}
	s := open(t, f, Options{Bugs: "one,two", Name: "svc"})
	if got, want := s.Target.Build, (harness.Build{Module: "example.com/svc", Go: s.maker.(*binary).made.Go, SHA256: s.maker.(*binary).made.SHA256, Caps: s.Target.Caps}); got != want {
		t.Errorf("build %+v, want %+v", got, want)
	}
	if !s.Target.Caps.Has(harness.CapAgent|harness.CapRace|harness.CapProcs|harness.CapOutput) || s.Target.Caps.Has(harness.CapLinks) {
		t.Errorf("caps %b", s.Target.Caps)
	}
	began := time.Now()
	i, l := running(t, s)
	t.Logf("started in %v", time.Since(began))
	if i.now.agent.Load() == nil || !s.Target.Build.Caps.Has(harness.CapAgent) {
		t.Error("the agent does not answer")
	}
	if want := "mode plain bugs one,two args [-x " + f.Dir + "]"; !slices.Contains(l.lines("stderr"), want) {
		t.Errorf("stderr %q, want %q", l.lines("stderr"), want)
	}
	env := get(t, i, "/env", time.Second)
	if strings.Contains(env, "SHAKEDOWN_AGENT") || strings.Contains(env, "_FD=") || !strings.Contains(env, "HERE="+f.Dir+"\n") || !strings.Contains(env, "PATH=") {
		t.Errorf("environment of the service:\n%s", env)
	}
	if _, err := s.Target.Start(t.Context(), harness.Setup{}); err == nil || !strings.Contains(err.Error(), "runs already") {
		t.Errorf("second instance: %v", err)
	}
	began = time.Now()
	if worn := quiesce(t, i); worn != "" {
		t.Errorf("worn: %s", worn)
	}
	t.Logf("quiesced in %v", time.Since(began))
	began = time.Now()
	if err := i.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	t.Logf("stopped in %v", time.Since(began))
	if got := l.lines(""); !slices.Equal(got, []string{"signal: terminated"}) {
		t.Errorf("exits %q", got)
	}
	began = time.Now()
	again, l2 := running(t, s)
	t.Logf("started again in %v", time.Since(began))
	if len(l2.lines("stderr")) == 0 || again == i {
		t.Errorf("second life: %q", l2.lines("stderr"))
	}
}

func TestQuiesceHandsOverAllOutput(t *testing.T) {
	t.Parallel()
	i, l := running(t, open(t, file(t, "plain"), Options{}))
	for n := range 20 {
		get(t, i, "/print", time.Second)
		if worn := quiesce(t, i); worn != "" {
			t.Fatal(worn)
		}
		if got := l.lines("stdout"); len(got) != n+1 || got[n] != "to stdout" {
			t.Fatalf("after %d: stdout %q", n, got)
		}
		if got := l.lines("stderr"); len(got) != n+2 || got[n+1] != "to stderr, unfinished" {
			t.Fatalf("after %d: stderr %q", n, got)
		}
	}
}

func TestRaceReportIsReadWhenQuiesced(t *testing.T) {
	t.Parallel()
	i, l := running(t, open(t, file(t, "plain"), Options{}))
	get(t, i, "/race", 5*time.Second)
	if worn := quiesce(t, i); worn != "" {
		t.Errorf("worn: %s", worn)
	}
	text := strings.Join(l.lines("race"), "\n")
	if !strings.Contains(text, "WARNING: DATA RACE") || !strings.Contains(text, "\n      cmd/svcd/main.go:") {
		t.Errorf("race report:\n%s", text)
	}
	if strings.Contains(strings.Join(l.lines("stderr"), "\n"), "DATA RACE") {
		t.Error("the report is on stderr, too")
	}
	quiesce(t, i)
	if again := strings.Join(l.lines("race"), "\n"); again != text {
		t.Errorf("it was emitted twice:\n%s", again)
	}
}

func TestLastRaceReportComesBeforeTheExit(t *testing.T) {
	t.Parallel()
	i, l := running(t, open(t, file(t, "graceful"), Options{}))
	if err := i.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(l.lines("race"), "\n"); !strings.Contains(text, "DATA RACE") {
		t.Errorf("race report: %q, stderr %q, exit %q", text, l.lines("stderr"), l.lines(""))
	}
	if last := l.events[len(l.events)-1]; last.Kind != harness.Exit || last.Args.Text("expected") != "true" {
		t.Errorf("last event %+v", last)
	}
}

func TestPanicWhileBeingStoppedIsHandedOver(t *testing.T) {
	t.Parallel()
	i, l := running(t, open(t, file(t, "panics at the end"), Options{}))
	if err := i.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(l.lines("crash"), "\n"); !strings.HasPrefix(text, "panic: not like this\n") {
		t.Errorf("crash output: %q", text)
	}
	if last := l.events[len(l.events)-1]; last.Kind != harness.Exit || last.Value != 2 {
		t.Errorf("last event %+v", last)
	}
}

func TestFloodLeavesThePanicAndWearsTheInstance(t *testing.T) {
	t.Parallel()
	i, l := running(t, open(t, file(t, "plain"), Options{}))
	get(t, i, "/flood", 10*time.Second)
	if worn := quiesce(t, i); worn != "it has printed more than is read" {
		t.Errorf("worn: %q", worn)
	}
	if text := strings.Join(l.lines("crash"), "\n"); !strings.HasPrefix(text, "panic: after the flood\n") {
		t.Errorf("crash output: %q", text)
	}
	dropped := 0
	for _, e := range l.events {
		if e.Args.Text("dropped") == "true" {
			dropped++
		}
	}
	if dropped != 1 {
		t.Errorf("%d events say that output was dropped", dropped)
	}
}

func TestRaceReportsBeyondTheBoundAreDroppedAndSaidOnce(t *testing.T) {
	t.Parallel()
	l := &log{}
	r := &races{dir: t.TempDir(), emit: l.emit}
	line := strings.Repeat("x", 1<<10-1) + "\n"
	for n, size := range []int{maxRaceBytes / len(line), 1, 1} {
		f, err := os.OpenFile(filepath.Join(r.dir, raceLog+".1"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(strings.Repeat(line, size)); err != nil {
			t.Fatal(err)
		}
		f.Close()
		r.read()
		want := maxRaceBytes/len(line) + min(n, 1)
		if got := len(l.events); got != want {
			t.Errorf("after %d: %d events, want %d", n, got, want)
		}
		if last := l.events[len(l.events)-1]; last.Lane != "race" || (last.Args.Text("dropped") == "true") != (n > 0) {
			t.Errorf("after %d: %+v", n, last)
		}
	}
}

func TestCrashWearsTheInstance(t *testing.T) {
	t.Parallel()
	s := open(t, file(t, "plain"), Options{})
	i, l := running(t, s)
	get(t, i, "/crash", 5*time.Second)
	if worn := quiesce(t, i); worn != "the service exited: exit status 2" {
		t.Errorf("worn: %q", worn)
	}
	crash := strings.Join(l.lines("crash"), "\n")
	if !strings.HasPrefix(crash, "panic: the sky falls\n") || !strings.Contains(crash, "main.main.func") {
		t.Errorf("crash output:\n%s", crash)
	}
	last := l.events[len(l.events)-1]
	if last.Kind != harness.Exit || last.Value != 2 || last.Args != nil || last.Name != "service" {
		t.Errorf("last event %+v", last)
	}
	if err := i.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if next, _ := running(t, s); quiesce(t, next) != "" {
		t.Error("the next instance is worn")
	}
}

func TestServiceThatStaysSickIsWorn(t *testing.T) {
	t.Parallel()
	i, _ := running(t, open(t, file(t, "plain"), Options{}))
	get(t, i, "/sicken", time.Second)
	if worn := quiesce(t, i); !strings.Contains(worn, "not ready 5s after the case") || !strings.Contains(worn, "answered 500") {
		t.Errorf("worn: %q", worn)
	}
}

func TestAgentShowsWhereACallIsStuck(t *testing.T) {
	t.Parallel()
	i, _ := running(t, open(t, file(t, "plain"), Options{}))
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { get(t, i, "/stuck", 2*time.Second) })
	a, err := i.Agent("service")
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the dump shows where", func() bool {
		dump, err := a.Ask(t.Context(), "goroutines")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(string(dump), "main.waitForGodot")
	})
}

func TestKillAndRestartKeepTheAddress(t *testing.T) {
	t.Parallel()
	i, l := running(t, open(t, file(t, "plain"), Options{}))
	p, err := i.Proc("service")
	if err != nil {
		t.Fatal(err)
	}
	before := get(t, i, "/pid", time.Second)
	spawned := get(t, i, "/spawn", time.Second)
	until(t, "what the service starts has neither of the agent's pipes", func() bool {
		_, alive := os.Stat("/proc/" + spawned + "/fd/3") // its loader may use the numbers for a moment
		_, crash := os.Stat("/proc/" + spawned + "/fd/4")
		return alive != nil && crash != nil
	})
	n, restart, err := p.Kill(t.Context())
	if err != nil || n != 2 {
		t.Fatalf("Kill() = %d, %v; want 2", n, err)
	}
	for _, s := range []string{before, spawned} {
		pid, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		gone(t, pid)
	}
	if got := get(t, i, "/pid", time.Second); got != "" {
		t.Errorf("process %s answers", got)
	}
	if _, err := i.Agent("service"); err == nil {
		t.Error("the agent of a dead service")
	}
	if n, _, err := p.Kill(t.Context()); n != 0 || err != nil {
		t.Errorf("second Kill() = %d, %v", n, err)
	}
	if err := restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := get(t, i, "/pid", time.Second); after == "" || after == before {
		t.Errorf("before %s, after %q", before, after)
	}
	if a, err := i.Agent("service"); err != nil {
		t.Error(err)
	} else if _, err := a.Ask(t.Context(), "goroutines"); err != nil {
		t.Error(err)
	}
	if worn := quiesce(t, i); worn != "" {
		t.Errorf("worn: %s", worn)
	}
	if got := l.lines(""); !slices.Equal(got, []string{"signal: killed"}) {
		t.Errorf("exits %q", got)
	}
}

func TestServiceThatDoesNotComeBack(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode, worn string
		late       bool // it is left alone, said to be late, and ready when it is looked at again
	}{
		{"once", "the service exited: exit status 1", false},
		{"once, then slowly", "", true},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			t.Parallel()
			f := file(t, tt.mode)
			f.Service.Env["MARK"] = filepath.Join(t.TempDir(), "mark")
			s := open(t, f, Options{})
			i, _ := running(t, s)
			if tt.late {
				s.file.Service.Within = spec.Duration(200 * time.Millisecond)
			}
			p, _ := i.Proc("service")
			_, restart, err := p.Kill(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := restart(t.Context()); errors.Is(err, harness.ErrNotReady) != tt.late || !tt.late && err != nil {
				t.Errorf("restart: %v", err)
			}
			s.file.Service.Within = 0
			if err := restart(t.Context()); err != nil {
				t.Errorf("waiting once more: %v", err)
			}
			if _, err := i.Agent("service"); (err == nil) != (tt.worn == "") {
				t.Errorf("agent: %v", err)
			}
			if worn := quiesce(t, i); worn != tt.worn {
				t.Errorf("worn: %q, want %q", worn, tt.worn)
			}
		})
	}
}

func TestServiceThatIsLeftDownIsWorn(t *testing.T) {
	t.Parallel()
	i, _ := running(t, open(t, file(t, "plain"), Options{}))
	p, _ := i.Proc("service")
	if _, _, err := p.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if worn := quiesce(t, i); worn != "the service is down" {
		t.Errorf("worn: %q", worn)
	}
}

// confine skips the test where this user may make no control group, or fails it where
// SHAKEDOWN_REQUIRE names cgroups.
func confine(t *testing.T, i *instance, q harness.Quota) harness.Injection {
	t.Helper()
	p, err := i.Proc("service")
	if err != nil {
		t.Fatal(err)
	}
	in, err := p.Confine(t.Context(), q)
	switch {
	case errors.Is(err, harness.ErrNotHere) && !slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), "cgroups"):
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
	return in
}

func TestServiceThatStarvesIsStartedAgain(t *testing.T) {
	t.Parallel()
	i, l := running(t, open(t, file(t, "plain"), Options{}))
	before := get(t, i, "/pid", 5*time.Second)
	in := confine(t, i, harness.Quota{Memory: 32 << 20})
	if got := get(t, i, "/grow", 10*time.Second); got != "" {
		t.Errorf("it has %s", got)
	}
	until(t, "its end is seen", func() bool { return len(l.lines("")) > 0 })
	if _, err := i.Agent("service"); err == nil {
		t.Error("the agent of a dead service")
	}
	if err := in.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if in.Acted() == 0 {
		t.Error("it has not acted")
	}
	if after := get(t, i, "/pid", 5*time.Second); after == "" || after == before {
		t.Errorf("before %s, after %q", before, after)
	}
	if err := in.Heal(t.Context()); err != nil { // as after an error
		t.Error(err)
	}
	if got := get(t, i, "/grow", 10*time.Second); got != "grown" {
		t.Errorf("after the heal: %q", got)
	}
	if worn := quiesce(t, i); worn != "" {
		t.Errorf("worn: %s", worn)
	}
	if got := l.lines(""); !slices.Equal(got, []string{"signal: killed, for want of memory"}) {
		t.Errorf("exits %q", got)
	}
}

func TestServiceThatStarvedAndIsLeftDownIsWorn(t *testing.T) {
	t.Parallel()
	i, l := running(t, open(t, file(t, "plain"), Options{}))
	confine(t, i, harness.Quota{Memory: 16 << 20})
	get(t, i, "/grow", 10*time.Second)
	until(t, "its end is seen", func() bool { return len(l.lines("")) > 0 })
	if worn := quiesce(t, i); worn != "the service is down" {
		t.Errorf("worn: %q", worn)
	}
	// Whoever else kills it brings it back.
	p, _ := i.Proc("service")
	n, restart, err := p.Kill(t.Context())
	if n != 0 || err != nil {
		t.Errorf("killed %d, %v", n, err)
	}
	if none, err := p.Confine(t.Context(), harness.Quota{CPU: 10}); err != nil || none.Acted() != 0 || none.Heal(t.Context()) != nil {
		t.Errorf("a quota on a service that is down: %v", err)
	}
	if err := restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := get(t, i, "/pid", 5*time.Second); got == "" {
		t.Error("it does not answer")
	}
}

func TestServiceThatHasEnoughIsNotTouched(t *testing.T) {
	t.Parallel()
	i, l := running(t, open(t, file(t, "plain"), Options{}))
	before := get(t, i, "/pid", 5*time.Second)
	in := confine(t, i, harness.Quota{Memory: 256 << 20})
	if got := get(t, i, "/grow", 10*time.Second); got != "grown" {
		t.Errorf("it has %q", got)
	}
	if err := in.Heal(t.Context()); err != nil || in.Acted() != 0 {
		t.Errorf("acted %d, %v", in.Acted(), err)
	}
	if after := get(t, i, "/pid", 5*time.Second); after != before || len(l.lines("")) > 0 {
		t.Errorf("before %s, after %s, exits %q", before, after, l.lines(""))
	}
}

func TestPauseHoldsAnswersBack(t *testing.T) {
	t.Parallel()
	i, _ := running(t, open(t, file(t, "plain"), Options{}))
	p, _ := i.Proc("service")
	n, first, err := p.Pause(t.Context())
	if err != nil || n != 1 {
		t.Fatalf("Pause() = %d, %v", n, err)
	}
	_, second, err := p.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got := get(t, i, "/pid", 200*time.Millisecond); got != "" {
		t.Errorf("process %s answers", got)
	}
	if err := first(t.Context()); err != nil {
		t.Error(err)
	}
	if got := get(t, i, "/pid", 200*time.Millisecond); got != "" {
		t.Errorf("process %s answers, while one pause is in force", got)
	}
	if err := second(t.Context()); err != nil {
		t.Error(err)
	}
	if got := get(t, i, "/pid", 5*time.Second); got == "" {
		t.Error("no answer after the pause")
	}
	if worn := quiesce(t, i); worn != "" {
		t.Errorf("worn: %s", worn)
	}
}

// The clock of a service that is started again while it is moved is moved from the start.
func TestClockOfTheServiceJumps(t *testing.T) {
	t.Parallel()
	if err := child.ClockFixed(); err != nil {
		t.Skip(err)
	}
	i, _ := running(t, open(t, file(t, "plain"), Options{}))
	p, _ := i.Proc("service")
	is := func(want time.Duration, when string) {
		t.Helper()
		seconds, err := strconv.ParseInt(get(t, i, "/time", 5*time.Second), 10, 64)
		if got := time.Until(time.Unix(seconds, 0)); err != nil || (got-want).Abs() > 30*time.Second {
			t.Errorf("%s its clock is %s ahead, want %s, %v", when, got, want, err)
		}
	}
	hour, err := p.Jump(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	is(time.Hour, "after a jump")
	if n := hour.Acted(); n != 1 {
		t.Errorf("acted on %d %s", n, hour.Unit)
	}
	_, restart, err := p.Kill(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	minute, err := p.Jump(t.Context(), -time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if err := restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	is(59*time.Minute, "started again")
	for _, in := range []harness.Injection{hour, minute} {
		if err := in.Heal(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	is(0, "healed")
	if worn := quiesce(t, i); worn != harness.Spent {
		t.Errorf("worn: %q: what it remembers would meet the next case", worn)
	}
}

func TestServiceThatDoesNotComeUp(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mode string
		want []string
	}{
		{"exits", []string{"it ended before it was ready: exit status 1", "there is no configuration"}},
		{"hangs", []string{"it was not ready within 1s", "/healthz", "connection refused", "more time: ready_within; does it listen on {{listen}}?", "mode hangs"}},
		{"never", []string{"it was not ready within 1s", "/healthz answered 503 Service Unavailable; more time: ready_within; it said \"no\"\n", "mode never"}},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			t.Parallel()
			f := file(t, tt.mode)
			f.Service.Within = spec.Duration(time.Second)
			s := open(t, f, Options{})
			l := &log{}
			_, err := s.Target.Start(t.Context(), harness.Setup{Emit: l.emit})
			if err == nil {
				t.Fatal("it started")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in:\n%v", want, err)
				}
			}
			if got := l.lines(""); len(got) != 1 {
				t.Errorf("exits %q", got)
			}
			if s.running != nil {
				t.Error("an instance runs")
			}
		})
	}
}

func TestLateServiceIsWaitedFor(t *testing.T) {
	t.Parallel()
	f := file(t, "late")
	f.Service.Ready = ""
	i, _ := running(t, open(t, f, Options{}))
	if get(t, i, "/pid", time.Second) == "" {
		t.Error("it does not answer")
	}
}

func TestCancelledStartLeavesNothing(t *testing.T) {
	t.Parallel()
	s := open(t, file(t, "hangs"), Options{})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	l := &log{}
	if _, err := s.Target.Start(ctx, harness.Setup{Emit: l.emit}); !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "interrupted while starting the service: ") {
		t.Errorf("got %v", err)
	}
	if got := l.lines(""); !slices.Equal(got, []string{"signal: killed"}) {
		t.Errorf("exits %q", got)
	}
}

func TestInterruptedOpenSaysSo(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := file(t, "plain")
	f.Dependencies = map[string]spec.Dependency{"cache": {Engine: "redis"}}
	for _, f := range []*spec.File{file(t, "plain"), f} {
		_, err := Open(ctx, f, Options{Cache: t.TempDir()})
		if !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "interrupted while building the service") {
			t.Errorf("got %v", err)
		}
	}
	if _, err := Open(ctx, &spec.File{}, Options{Bugs: "x"}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("a mistake that has nothing to do with it: %v", err)
	}
}

func TestUnknownNamesAreErrors(t *testing.T) {
	t.Parallel()
	i, _ := running(t, open(t, file(t, "plain"), Options{}))
	_, linkErr := i.Link("x")
	_, procErr := i.Proc("x")
	_, storeErr := i.Store("x")
	_, agentErr := i.Agent("x")
	for what, err := range map[string]error{"link": linkErr, "proc": procErr, "store": storeErr, "agent": agentErr} {
		if err == nil || !strings.Contains(err.Error(), `"x"`) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestDescriptionsThatCannotBe(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*spec.File, *Options)
		want   string
	}{
		{"bugs without a place", func(f *spec.File, o *Options) { f.Service.Env["BUGS"] = ""; o.Bugs = "x" }, "bugs are to be switched on (x)"},
		{"elsewhere", func(f *spec.File, _ *Options) {
			f.Dependencies = map[string]spec.Dependency{"cache": {Engine: "redis", Provide: "url", URL: "redis://192.0.2.1:6379/0"}}
		}, `dependency cache is at 192.0.2.1, which is not this machine`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := file(t, "plain")
			var o Options
			tt.change(f, &o)
			_, err := Open(t.Context(), f, o)
			var mistake *spec.Error
			if !errors.As(err, &mistake) || !strings.Contains(mistake.Msg, tt.want) || mistake.File != f.Path {
				t.Errorf("got %v, want a mistake with %q", err, tt.want)
			}
		})
	}
}

func TestBuildErrorIsTheCompilers(t *testing.T) {
	t.Parallel()
	f := file(t, "plain")
	f.Service.Build = "./cmd/none"
	_, err := Open(t.Context(), f, Options{Cache: t.TempDir()})
	var wrong *gobuild.Error
	if !errors.As(err, &wrong) || !strings.Contains(err.Error(), "there is no directory") {
		t.Errorf("got %v", err)
	}
}
