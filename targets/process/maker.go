package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/agent"
	"github.com/shakedown-go/shakedown/harness/gobuild"
	"github.com/shakedown-go/shakedown/targets/child"
)

// maker has the processes of a service made, of its source or of an image.
type maker interface {
	// build makes what is to run, and says what can be seen of it.
	build(context.Context) (built, error)
	// start starts a process for an instance, and sets the unit of l and what it lets go of.
	start(ctx context.Context, i *instance, l *life) error
	// close lets go of what build holds. It may be called without a build.
	close() error
}

// built is what a maker has built.
type built struct {
	harness.Build
	took   time.Duration
	cached bool
}

// binary is a Go program, built with the agent and the race detector.
type binary struct {
	gobuild.Options
	made gobuild.Binary
}

func (b *binary) build(ctx context.Context) (out built, err error) {
	b.made, err = gobuild.Build(ctx, b.Options)
	return built{
		Build: harness.Build{
			Module: b.made.Module, Go: b.made.Go, SHA256: b.made.SHA256,
			Caps: harness.CapProcs | harness.CapOutput | harness.CapAgent | harness.CapRace,
		},
		took: b.made.Took, cached: b.made.Cached,
	}, err
}

func (b *binary) close() error { return nil }

// firstExtra is the descriptor of a child's first extra file.
const firstExtra = 3

func (b *binary) start(_ context.Context, i *instance, l *life) error {
	o := child.Options{
		Name: harness.Service, Path: b.made.Path, Dir: i.s.file.Dir, Env: child.Environ(), Streams: []string{"crash"},
		Emit: func(e harness.Event) {
			if e.Kind == harness.Exit {
				l.races.read() // what was written last belongs before the end
			}
			i.take(e)
		},
	}
	for _, arg := range i.s.file.Service.Args {
		o.Args = append(o.Args, i.fill(arg))
	}
	gorace := ""
	for name, value := range i.s.file.Service.Env {
		if name == "GORACE" {
			gorace = i.fill(value)
			continue
		}
		o.Env = append(o.Env, name+"="+i.fill(value))
	}
	alive, hold, err := os.Pipe()
	if err != nil {
		return err
	}
	defer alive.Close()
	o.Files = []*os.File{alive}
	o.Env = append(o.Env,
		"GORACE="+b.gorace(l.dir, gorace),
		agent.AgentVar+"="+l.socket(),
		agent.AliveVar+"="+strconv.Itoa(firstExtra),
		agent.CrashVar+"="+strconv.Itoa(firstExtra+1),
	)
	c, err := child.Start(o)
	if err != nil {
		return errors.Join(err, hold.Close())
	}
	// Closing it ends the process, as the harness's death does.
	l.unit, l.let = c, func(context.Context) error { return hold.Close() }
	return nil
}

// gorace returns the settings of the race detector. The user's own come after ours and
// win, but for where the reports go.
func (b *binary) gorace(dir, user string) string {
	return fmt.Sprintf(`halt_on_error=0 atexit_sleep_ms=0 history_size=3 strip_path_prefix="%s/" %s log_path="%s"`, b.made.Dir, user, filepath.Join(dir, raceLog))
}
