package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/shakedown-go/shakedown/harness/agent/zzshakedown"
)

// The test binary holds the agent, so that it can be started as a service.
func TestMain(m *testing.M) {
	switch os.Getenv("AGENT_TEST_SERVICE") {
	case "":
		os.Exit(m.Run())
	case "panics":
		os.Stdin.Read(make([]byte, 1))
		panic("at the disco")
	case "moves": // its standard output's number goes to a file
		syscall.Close(1)
		if _, err := os.Create(os.Getenv("AGENT_TEST_FILE")); err != nil {
			panic(err)
		}
		os.Stdout.WriteString("its own\n")
		os.Stderr.WriteString("moved\n")
	case "spawns":
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		os.Stdout.WriteString("spawned\n")
	}
	os.Stdin.Read(make([]byte, 1))
}

// svc is a started service.
type svc struct {
	cmd           *exec.Cmd
	in            io.Closer // closing it ends the service
	socket        string
	alive         *os.File
	crash, stdout *os.File
	stderr        *os.File
}

func serve(t *testing.T, mode string) *svc {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent-")
	if err != nil {
		t.Fatal(err)
	}
	s := &svc{cmd: exec.Command(os.Args[0]), socket: filepath.Join(dir, "s")}
	var theirs [4]*os.File
	for i, at := range []**os.File{nil, &s.crash, &s.stdout, &s.stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			theirs[i], s.alive = r, w
			continue
		}
		*at, theirs[i] = r, w
		r.SetReadDeadline(time.Now().Add(20 * time.Second))
	}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	s.cmd.ExtraFiles, s.cmd.Stdout, s.cmd.Stderr = theirs[:2], theirs[2], theirs[3]
	s.cmd.Env = append(os.Environ(), "AGENT_TEST_SERVICE="+mode, AgentVar+"="+s.socket, AliveVar+"=3", CrashVar+"=4")
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, f := range theirs {
		f.Close()
	}
	t.Cleanup(func() {
		s.in.Close()
		s.alive.Close()
		syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		s.cmd.Wait()
		os.RemoveAll(dir)
	})
	return s
}

func dial(t *testing.T, socket string) (*Conn, Hello) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, h, err := Dial(ctx, socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, h
}

func TestAgentAnswers(t *testing.T) {
	t.Parallel()
	s := serve(t, "waits")
	c, h := dial(t, s.socket)
	if h.PID != s.cmd.Process.Pid || !strings.HasPrefix(h.Go, "go1.") || !slices.Equal(h.Features, []string{"goroutines", "flush", "census", "leaks", "heap", "crash"}) {
		t.Errorf("hello %+v", h)
	}
	dump, err := c.Ask(t.Context(), "goroutines")
	if err != nil || !strings.Contains(string(dump), "\ngoroutine 1 [") { // main may not have begun
		t.Errorf("%v, dump:\n%s", err, dump)
	}
	if took, err := c.Ask(t.Context(), "flush token-7"); err != nil || string(took) != "stdout stderr" {
		t.Errorf("flush: %q, %v", took, err)
	}
	for lane, f := range map[string]*os.File{"stdout": s.stdout, "stderr": s.stderr} {
		b := make([]byte, len("token-7\n"))
		if _, err := io.ReadFull(f, b); err != nil || string(b) != "token-7\n" {
			t.Errorf("%s: %q, %v", lane, b, err)
		}
	}
	text, err := c.Ask(t.Context(), "census")
	var held struct {
		PID        int
		Goroutines []struct {
			By, Root string
			IDs      []int64
		}
		Files map[string]int
	}
	if err != nil || json.Unmarshal(text, &held) != nil || held.PID != h.PID || len(held.Goroutines) == 0 || held.Goroutines[0].Root == "" {
		t.Errorf("%v, census: %s", err, text)
	}
	if strings.Contains(string(text), "zzshakedown") { // the agent does not count itself
		t.Errorf("census: %s", text)
	}
	if runtime.GOOS == "linux" && (held.Files["pipe"] < 4 || held.Files["socket"] < 2) {
		t.Errorf("files: %v", held.Files)
	}
	if text, err := c.Ask(t.Context(), "census heap"); err != nil || !strings.Contains(string(text), `"heap":`) {
		t.Errorf("%v, census: %s", err, text)
	}
	if sites, err := c.Ask(t.Context(), "heap"); err != nil {
		t.Errorf("%v, sites: %s", err, sites)
	}
	if dump, err := c.Ask(t.Context(), "leaks"); err != nil || !strings.Contains(string(dump), "\ngoroutine 1 [") {
		t.Errorf("%v, dump:\n%s", err, dump)
	}
	if _, err := c.Ask(t.Context(), "weather"); err == nil || !strings.Contains(err.Error(), `does not know "weather"`) {
		t.Errorf("got %v", err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if dump, err := c.Ask(t.Context(), "goroutines"); err != nil || !strings.HasPrefix(string(dump), "goroutine ") {
				t.Errorf("%.40q, %v", dump, err)
			}
		})
	}
	wg.Wait()
	c.Close()
	if _, err := c.Ask(t.Context(), "goroutines"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestFlushWritesToNothingElse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	t.Setenv("AGENT_TEST_FILE", file)
	s := serve(t, "moves")
	if _, err := io.ReadFull(s.stderr, make([]byte, len("moved\n"))); err != nil {
		t.Fatal(err)
	}
	c, _ := dial(t, s.socket)
	if took, err := c.Ask(t.Context(), "flush token-7"); err != nil || string(took) != "stderr" {
		t.Errorf("flush: %q, %v", took, err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "its own\n" {
		t.Errorf("%v, the service's own file holds %q", err, text)
	}
}

func TestCrashGoesToItsPipe(t *testing.T) {
	t.Parallel()
	s := serve(t, "panics")
	dial(t, s.socket)
	s.in.Close()
	text, err := io.ReadAll(s.crash)
	if err != nil || !strings.HasPrefix(string(text), "panic: at the disco\n\ngoroutine 1 ") {
		t.Errorf("%v, crash output:\n%s", err, text)
	}
}

func TestServiceEndsWithTheHarness(t *testing.T) {
	t.Parallel()
	s := serve(t, "spawns")
	dial(t, s.socket)
	if _, err := io.ReadFull(s.stdout, make([]byte, len("spawned\n"))); err != nil {
		t.Fatal(err)
	}
	s.alive.Close()
	// The end of the output says that what it started, which holds the pipe, is gone too.
	if rest, err := io.ReadAll(s.stdout); err != nil || len(rest) > 0 {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestWithoutTheVariableThereIsNoAgent(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "AGENT_TEST_SERVICE=waits", AliveVar+"=3", AgentVar+"=")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{r}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	w.Close()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		t.Errorf("it ended: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	in.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// liar listens as an agent does, and does what f says with each connection.
func liar(t *testing.T, f func(net.Conn)) (socket string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent-")
	if err != nil {
		t.Fatal(err)
	}
	socket = filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
		os.RemoveAll(dir)
	})
	return socket
}

func frame(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

func TestAskEndsWithItsContext(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	asked := 0
	socket := liar(t, func(c net.Conn) {
		c.Write(frame(`+{"pid":1}`))
		if _, err := io.ReadFull(c, make([]byte, 4+len("goroutines"))); err != nil {
			return
		}
		mu.Lock()
		asked++
		first := asked == 1
		mu.Unlock()
		if first {
			c.Write(frame("+late answer")[:7]) // and no more: it was stopped
			io.Copy(io.Discard, c)
			return
		}
		c.Write(frame("+fresh"))
	})
	c, _ := dial(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := c.Ask(ctx, "goroutines"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	// The rest of the late answer is not taken for the next one.
	if got, err := c.Ask(t.Context(), "goroutines"); err != nil || string(got) != "fresh" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDialEndsWithItsContext(t *testing.T) {
	t.Parallel()
	silent := liar(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	for _, socket := range []string{"/no/such/socket", silent} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if _, _, err := Dial(ctx, socket); err == nil {
			t.Errorf("dialled %s", socket)
		}
	}
}

func TestBadFramesAreErrors(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", "\x00\x00", "\x00\x00\x00\x00", "\xff\xff\xff\xff+", "\x00\x00\x00\x05+ab", "\x00\x00\x00\x02?x", "\x00\x00\x00\x03-no",
	} {
		if got, err := readFrame(strings.NewReader(bad), 1<<10); err == nil {
			t.Errorf("%q gave %q", bad, got)
		}
	}
	if got, err := readFrame(strings.NewReader("\x00\x00\x00\x03+abrest"), 1<<10); err != nil || string(got) != "ab" {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add(frame("+abc"))
	f.Add(frame("-no"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := readFrame(strings.NewReader(string(b)), 1<<10)
		if err == nil && !strings.HasPrefix(string(b), string(frame("+"+string(got)))) {
			t.Errorf("%q gave %q", b, got)
		}
	})
}

func TestSourceIsComplete(t *testing.T) {
	t.Parallel()
	files, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"agent.go", "census.go", "crash.go", "crash_old.go", "race_on.go", "race_off.go"} {
		if !strings.Contains(string(files[want]), "package "+Package) {
			t.Errorf("%s: %q", want, files[want])
		}
	}
}
