package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"

	"github.com/shakedown-go/shakedown/harness"
)

// shell is an image with a shell, which testdata/images/build makes.
const shell = "shakedown/debian:12"

// connect skips the test where no engine answers or the image with a shell is missing, or
// fails it where SHAKEDOWN_REQUIRE names docker.
func connect(t *testing.T) *Engine {
	t.Helper()
	e, err := Connect(t.Context(), 0)
	if err == nil {
		t.Cleanup(func() { e.Close() })
		_, err = e.Image(t.Context(), shell)
	}
	if err == nil {
		return e
	}
	if slices.Contains(strings.Split(os.Getenv("SHAKEDOWN_REQUIRE"), ","), "docker") {
		t.Fatal(err)
	}
	t.Skip(err)
	return nil
}

func imageID(t *testing.T, e *Engine) string {
	t.Helper()
	i, err := e.Image(t.Context(), shell)
	if err != nil {
		t.Fatal(err)
	}
	return i.ID
}

// runDir makes the directory of a run, and wants that no container of it is left.
func runDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() {
		if left, err := Left(context.Background(), dir); err != nil || len(left) > 0 {
			t.Errorf("containers are left: %s, %v", left, err)
		}
	})
	return dir
}

// script makes a container that runs a shell script.
func script(t *testing.T, e *Engine, text string) (*Container, *events) {
	t.Helper()
	l := &events{}
	c, err := e.Create(t.Context(), Options{Name: "x", Image: imageID(t, e), Dir: runDir(t), Args: []string{"sh", "-c", text}, Emit: l.emit})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c, l
}

type events struct {
	mu  sync.Mutex // guards all
	all []harness.Event
}

func (l *events) emit(e harness.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, e)
}

// words returns the events: "stdout: text", "exit 7: exit status 7 expected".
func (l *events) words() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, e := range l.all {
		if e.Kind == harness.Exit {
			s := fmt.Sprintf("exit %v: %s", e.Value, e.Text)
			if e.Args.Text("expected") == "true" {
				s += " expected"
			}
			out = append(out, s)
		} else {
			out = append(out, e.Lane+": "+e.Text)
		}
	}
	return out
}

func start(t *testing.T, c *Container) *Life {
	t.Helper()
	l, err := c.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func await(t *testing.T, l *Life) {
	t.Helper()
	select {
	case <-l.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("it has not ended")
	}
}

// says waits until a line was printed.
func says(t *testing.T, l *events, line string) {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); !slices.Contains(l.words(), line); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("it has never said %q, only %q", line, l.words())
		}
	}
}

func TestOutputAndEndAreEvents(t *testing.T) {
	t.Parallel()
	c, l := script(t, connect(t), `echo out; echo err >&2; [ -e /mark ] && exit 8; touch /mark; exit 7`)
	for life, want := range []string{"exit 7: exit status 7", "exit 8: exit status 8"} { // the files are kept
		run := start(t, c)
		await(t, run)
		got := l.words()[3*life:]
		if len(got) != 3 || got[2] != want || !slices.Contains(got, "stdout: out") || !slices.Contains(got, "stderr: err") {
			t.Errorf("life %d: %q", life, got)
		}
		if status, code := run.Exited(); status != fmt.Sprintf("exit status %d", 7+life) || code != 7+life {
			t.Errorf("exited: %s, %d", status, code)
		}
		if tail := run.Tail(); len(tail) != 2 {
			t.Errorf("tail %q", tail)
		}
	}
}

func TestEndsThatAreOursAreExpected(t *testing.T) {
	t.Parallel()
	e := connect(t)
	for name, tt := range map[string]struct {
		script string
		end    func(context.Context, *Life) error
		want   string
	}{
		"kill": {`echo up; sleep 100 & wait`, kill, "exit 137: signal: killed expected"},
		"kill of a paused one": {`echo up; sleep 100 & wait`, func(ctx context.Context, l *Life) error {
			if _, err := l.Pause(ctx); err != nil {
				return err
			}
			return kill(ctx, l)
		}, "exit 137: signal: killed expected"},
		"stop":                     {`trap 'echo bye; exit 3' TERM; echo up; sleep 100 & wait`, stop, "exit 3: exit status 3 expected"},
		"stop of one that is deaf": {`trap '' TERM; echo up; sleep 100 & wait; sleep 100`, stop, "exit 137: signal: killed expected"},
		"stop of a paused one": {`trap 'exit 0' TERM; echo up; sleep 100 & wait`, func(ctx context.Context, l *Life) error {
			if _, err := l.Pause(ctx); err != nil {
				return err
			}
			return stop(ctx, l)
		}, "exit 0: exit status 0 expected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, l := script(t, e, tt.script)
			run := start(t, c)
			says(t, l, "stdout: up")
			for range 2 {
				if err := tt.end(t.Context(), run); err != nil {
					t.Fatal(err)
				}
				await(t, run)
			}
			if got := l.words(); got[len(got)-1] != tt.want {
				t.Errorf("got %q, want %q at the end", got, tt.want)
			}
		})
	}
}

// An engine that stops answering while a container runs, as it does when it is started anew.
type forgetful struct {
	client.APIClient
	gone bool // it does not come back
}

func (e forgetful) ContainerWait(ctx context.Context, id string, opts client.ContainerWaitOptions) client.ContainerWaitResult {
	if !e.gone && opts.Condition != container.WaitConditionNextExit {
		return e.APIClient.ContainerWait(ctx, id, opts)
	}
	failed := make(chan error, 1)
	failed <- errors.New("no longer there")
	return client.ContainerWaitResult{Error: failed}
}

func (e forgetful) ContainerInspect(ctx context.Context, id string, opts client.ContainerInspectOptions) (client.ContainerInspectResult, error) {
	if e.gone {
		return client.ContainerInspectResult{}, errors.New("not back yet")
	}
	return e.APIClient.ContainerInspect(ctx, id, opts)
}

func TestWaitIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		script string
		gone   bool
		want   string
	}{
		"it has ended meanwhile": {`exit 7`, false, "exit 7: exit status 7"},
		"it still runs":          {`sleep 3; exit 7`, false, "exit 7: exit status 7"},
		"nobody knows":           {`exit 7`, true, "exit 255: its end was not seen: no longer there; not back yet expected"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, l := script(t, connect(t), tt.script)
			engine := *c.engine
			engine.docker = forgetful{engine.docker, tt.gone}
			c.engine = &engine
			await(t, start(t, c))
			if got := l.words(); got[len(got)-1] != tt.want {
				t.Errorf("got %q, want %q at the end", got, tt.want)
			}
		})
	}
}

func kill(ctx context.Context, l *Life) error {
	_, err := l.Kill(ctx)
	return err
}

func stop(ctx context.Context, l *Life) error { return l.Stop(ctx, 2*time.Second) }

func TestPauseHoldsAllProcesses(t *testing.T) {
	t.Parallel()
	c, l := script(t, connect(t), `echo up; (while :; do echo tick; sleep 0.01; done) & sleep 100`)
	run := start(t, c)
	says(t, l, "stdout: tick")
	n, err := run.Pause(t.Context())
	if err != nil || n < 3 {
		t.Errorf("paused %d processes of three or more: %v", n, err)
	}
	time.Sleep(50 * time.Millisecond) // what was printed before comes out
	before := len(l.words())
	time.Sleep(200 * time.Millisecond)
	if after := len(l.words()); after != before {
		t.Errorf("%d lines while it was paused", after-before)
	}
	if _, err := run.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	for late := time.Now().Add(5 * time.Second); len(l.words()) == before; time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatal("no line after the pause")
		}
	}
	if n, err := run.Kill(t.Context()); err != nil || n < 3 {
		t.Errorf("killed %d processes of three or more: %v", n, err)
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	t.Parallel()
	e := connect(t)
	c, err := e.Create(t.Context(), Options{Name: "x", Image: imageID(t, e), Dir: runDir(t), Args: []string{"/no/such/program"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("got %v", err)
	}
	for range 2 {
		if err := c.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestBuild(t *testing.T) {
	t.Parallel()
	e := connect(t)
	for name, tt := range map[string]struct{ dockerfile, want string }{
		"good":            {"FROM scratch AS one\nCOPY x /x\nFROM one\nCOPY --from=one /x /y\n", ""},
		"fails":           {"FROM " + shell + "\nRUN echo the tool speaks && exit 3\n", "returned a non-zero code: 3"},
		"shows its words": {"FROM " + shell + "\nRUN echo the tool speaks >&2 && exit 3\n", "\tthe tool speaks\n"},
		"no such command": {"FROM scratch\nFLY away\n", "FLY"},
		"begins nowhere":  {"FROM --platform=linux/amd64 shakedown/nothing:1\n", "begins from shakedown/nothing:1, and there is no image shakedown/nothing:1; pull: true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			file := filepath.Join(dir, "Dockerfile")
			for path, text := range map[string]string{file: tt.dockerfile, filepath.Join(dir, "x"): name} {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := e.Build(t.Context(), BuildOptions{Dir: dir, Dockerfile: file})
			if tt.want != "" {
				if err == nil || !strings.Contains(err.Error()+"\n", tt.want) {
					t.Errorf("got %v\nwant %s", err, tt.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(got.Digest()) != 64 {
				t.Errorf("image %+v", got)
			}
			if _, err := e.docker.ImageRemove(t.Context(), got.Name, client.ImageRemoveOptions{PruneChildren: true}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBases(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ dockerfile, want string }{
		{"FROM scratch\n", ""},
		{"# FROM none\nfrom golang:1.24 as build\nRUN FROM=x go build\nFROM --platform=linux/amd64 debian:12\nCOPY --from=build /a /a\n", "golang:1.24 debian:12"},
		{"FROM a AS one\nFROM One\nFROM a\nCOPY --chown=me --from=0 x y\nCOPY --from=busybox:1 /bin/sh /sh\nCOPY --from=$IMAGE x y\n", "a busybox:1"},
		{"ARG V=1\nFROM a:$V\nFROM \\\n  b:2 \\\n  AS two\nFROM two\nFROM", "b:2"},
	} {
		if got := strings.Join(bases(tt.dockerfile), " "); got != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.dockerfile, got, tt.want)
		}
	}
}

func TestMissingImage(t *testing.T) {
	t.Parallel()
	_, err := connect(t).Image(t.Context(), "shakedown/nothing:1")
	if missing := new(MissingError); !errors.As(err, &missing) || missing.Image != "shakedown/nothing:1" {
		t.Errorf("got %v", err)
	}
}

func TestTestcontainersStartsNoReaperOfItsOwnAccord(t *testing.T) {
	e := connect(t)
	//lint:ignore SA1019 Nothing else tells which image that is.
	if _, err := e.Image(t.Context(), testcontainers.ReaperDefaultImage); err == nil {
		t.Skip("the reaper's image is there")
	}
	if !testcontainers.ReadConfig().Config.RyukDisabled {
		t.Error("the reaper would be pulled")
	}
}

func TestNoEngine(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix:///nowhere.sock")
	if _, err := Connect(t.Context(), 0); err == nil || !strings.Contains(err.Error(), "no Docker engine answers at unix:///nowhere.sock") {
		t.Errorf("got %v", err)
	}
	// Who has had no container asks no engine; who has had one does not forget it.
	dir := t.TempDir()
	if err := Bury(t.Context(), dir); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, journal), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Bury(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "no Docker engine answers") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, journal)); err != nil {
		t.Error("the containers are forgotten")
	}
}

func TestBuryWaitsForOneThatIsUnderWay(t *testing.T) {
	t.Parallel()
	e, dir := connect(t), runDir(t)
	// A harness died while it waited for the engine, which goes on.
	if err := note(dir, asked); err != nil {
		t.Fatal(err)
	}
	buried := make(chan error)
	go func() { buried <- Bury(t.Context(), dir) }()
	select {
	case err := <-buried:
		t.Fatalf("it does not wait: %v", err)
	case <-time.After(500 * time.Millisecond):
	}
	if _, err := e.docker.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Config: &container.Config{Image: imageID(t, e), Cmd: []string{"sleep", "60"}, Labels: map[string]string{RunLabel: dir}},
	}); err != nil {
		t.Fatal(err)
	}
	if err := <-buried; err != nil {
		t.Fatal(err)
	}
	if left, err := Left(t.Context(), dir); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	if held, err := Held(t.Context(), dir); err != nil || len(held) > 0 {
		t.Errorf("held: %q, %v", held, err)
	}
}

func TestStraysHaveLostTheirDirectory(t *testing.T) {
	t.Parallel()
	c, _ := script(t, connect(t), "sleep 60")
	dir := c.opts.Dir
	if got, stray := Strays(t.Context())[dir]; stray {
		t.Errorf("%q has a directory", got)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if got := Strays(t.Context())[dir]; !slices.Equal(got, []string{c.tc.GetContainerID()}) {
		t.Errorf("strays: %q", got)
	}
}

func TestBuryDoesNotWaitForWhatWasMade(t *testing.T) {
	t.Parallel()
	c, _ := script(t, connect(t), "sleep 60")
	dir := c.opts.Dir
	if held, err := Held(t.Context(), dir); err != nil || !slices.Equal(held, []string{c.tc.GetContainerID()}) {
		t.Errorf("held: %q, %v", held, err)
	}
	words, err := os.ReadFile(filepath.Join(dir, journal))
	if want := asked + "\n" + answered + "\n"; err != nil || string(words) != want {
		t.Errorf("the journal says %q, %v, want %q", words, err, want)
	}
	if err := Bury(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if held, err := Held(t.Context(), dir); err != nil || len(held) > 0 {
		t.Errorf("held: %q, %v", held, err)
	}
}

func TestHost(t *testing.T) {
	for _, tt := range []struct{ docker, override, want string }{
		{"", "", "127.0.0.1"},
		{"unix:///run/user/1000/docker.sock", "", "127.0.0.1"},
		{"tcp://docker:2375", "", "docker"},
		{"tcp://127.0.0.1:2375", "", "127.0.0.1"},
		{"unix:///var/run/docker.sock", "172.17.0.1", "172.17.0.1"},
		{"tcp://docker:2375", "other", "other"},
	} {
		t.Setenv("DOCKER_HOST", tt.docker)
		t.Setenv("TESTCONTAINERS_HOST_OVERRIDE", tt.override)
		if got, err := Host(); got != tt.want || err != nil {
			t.Errorf("DOCKER_HOST=%s, override %q: %q, %v, want %q", tt.docker, tt.override, got, err, tt.want)
		}
	}
	t.Setenv("DOCKER_HOST", "tcp://")
	t.Setenv("TESTCONTAINERS_HOST_OVERRIDE", "")
	if got, err := Host(); err == nil {
		t.Errorf("a host without a name is %q", got)
	}
	for host, want := range map[string]bool{"127.0.0.1": true, "localhost": true, "::1": true, "docker": false, "172.17.0.1": false} {
		if got := Local(host); got != want {
			t.Errorf("Local(%s) = %t", host, got)
		}
	}
}
