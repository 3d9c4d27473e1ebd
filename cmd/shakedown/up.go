package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/gate"
	"github.com/shakedown-go/shakedown/harness/link"
	"github.com/shakedown-go/shakedown/harness/link/control"
	"github.com/shakedown-go/shakedown/harness/report"
	"github.com/shakedown-go/shakedown/targets/process"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// upFlags are the flags of shakedown up.
type upFlags struct {
	settings
	seed    uint64
	control string
	bugs    string
}

func upCommand() *cobra.Command {
	var f upFlags
	c := &cobra.Command{
		Use:   "up TARGET",
		Short: "bring a service up with its dependencies behind links, to disturb by hand",
		Long: `Up brings up what run would, prints where everything is, and keeps it until Ctrl-C. The links
are driven by toxiproxy's HTTP API: by its clients, by toxiproxy-cli, or by curl.

Exit codes: 0 ended by Ctrl-C, 4 by Ctrl-C before it was up, 3 the service ended by itself or could not be brought up, 2 usage.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return f.run(c.Context(), args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().StringVar(&f.control, "control", "127.0.0.1:8474", "where the API listens; port 0 takes a free one")
	c.Flags().Uint64Var(&f.seed, "seed", 1, "which connections a toxicity below 1 is for, and all other chance of toxics, comes from it")
	c.Flags().StringVar(&f.bugs, "bugs", "", "planted bugs to switch on, for services that have some")
	f.flags(c)
	return c
}

func (f upFlags) run(ctx context.Context, path string, stdout, stderr io.Writer) (err error) {
	if !spec.Loopback(f.control) {
		return usagef("--control %s: an address of this machine alone, such as 127.0.0.1:8474", f.control)
	}
	p, err := f.prepare(path, switchedOn(f.bugs))
	if err != nil {
		return err
	}
	if engine := cmp.Or(p.opts.Engine, p.file.Links.Engine, nativeEngine); engine != nativeEngine {
		return usagef("the links are of %s, which has an API of its own; --engine %s has them driven by ours", engine, nativeEngine)
	}
	ln, err := net.Listen("tcp", f.control)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return usagef("--control %s: somebody listens there; --control 127.0.0.1:0 takes a free port", f.control)
	case err != nil:
		return usagef("--control: %w", err)
	}
	defer ln.Close()
	sys, lab, err := p.assemble(ctx, stderr)
	if err != nil {
		return err
	}
	defer closing(ctx, sys, &err)
	watch := &watcher{w: stderr, ended: make(chan struct{}, 1)}
	in, err := lab.Target.Start(ctx, harness.Setup{Env: lab.Target.Env, Emit: watch.emit})
	if err != nil {
		return fmt.Errorf("start %s: %w", path, err)
	}
	api := control.New(control.Options{Seed: f.seed, Allow: func(addr string) bool { return spec.Allowed(p.file.Allow, addr) }})
	defer func() { err = errors.Join(err, api.Close()) }()
	if err := adopt(api, in, lab.Target.Links); err != nil {
		return err
	}
	server := &http.Server{Handler: api, ReadHeaderTimeout: 5 * time.Second}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(ln) }) // it ends with Close
	defer serving.Wait()
	defer server.Close()
	if err := addresses(stdout, sys, in, "http://"+ln.Addr().String()); err != nil {
		return err
	}
	reports := time.NewTicker(reportsEvery)
	defer reports.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.ended:
			return verdict(gate.Failed)
		case <-reports.C: // of races, which the detector writes to a file
			sys.Reports()
		}
	}
}

// reportsEvery is how often reports of races are read.
const reportsEvery = time.Second

// adopt hands all links of an instance over to the API.
func adopt(api *control.Server, in harness.Instance, names []string) error {
	for _, name := range names {
		l, err := in.Link(name)
		if err != nil {
			return err
		}
		own, ok := l.(*link.Link)
		if !ok {
			return fmt.Errorf("link %s is a %T, which the API cannot drive", name, l)
		}
		api.Adopt(name, own)
	}
	return nil
}

// addresses says where everything is, and how to begin.
func addresses(w io.Writer, sys *process.System, in harness.Instance, api string) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "service\thttp://%s\n", sys.Addr())
	links := sys.Target.Links
	for _, name := range links {
		l, err := in.Link(name)
		if err != nil {
			return err
		}
		own := l.(*link.Link) // as adopt has found
		fmt.Fprintf(t, "link %s\t%s -> %s\t%s\n", name, own.Addr(), own.Upstream(), sys.Target.Env[name])
	}
	fmt.Fprintf(t, "control\t%s\n", api)
	if err := t.Flush(); err != nil {
		return err
	}
	if len(links) > 0 {
		name := links[len(links)-1]
		fmt.Fprintf(w, "\ncurl -d '{\"type\": \"latency\", \"attributes\": {\"latency\": 500}}' %s/proxies/%s/toxics\n", api, name)
		fmt.Fprintf(w, "curl -X DELETE %s/proxies/%s/toxics/latency_downstream\n", api, name)
	}
	_, err := fmt.Fprintln(w, "\nup, until Ctrl-C")
	return err
}

// watcher passes on what the service prints, and tells of the end of it and of dependencies.
type watcher struct {
	mu    sync.Mutex // guards w
	w     io.Writer
	ended chan struct{} // gets something when the service has ended by itself
}

func (x *watcher) emit(e harness.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case e.Kind == harness.Exit && e.Args.Text("expected") != "true":
		fmt.Fprintf(x.w, "shakedown: %s ended by itself: %s\n", e.Name, report.Clean(e.Text))
		if e.Name == harness.Service {
			select {
			case x.ended <- struct{}{}:
			default:
			}
		}
	case e.Kind == harness.Output && e.Name == harness.Service:
		fmt.Fprintf(x.w, "service | %s\n", report.Clean(strings.TrimSuffix(e.Text, "\n")))
	}
}
