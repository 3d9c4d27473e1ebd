package process

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// onEngine returns a system with one fake dependency, whose description and options say what
// its links are.
func onEngine(links spec.Links, option string) (*System, *fake) {
	f := &fake{}
	return &System{
		file: &spec.File{Path: "shakedown.yaml", Links: links},
		opts: Options{Engine: option},
		deps: []dependency{{name: "db", Provider: f}},
	}, f
}

func TestEngineIsChosen(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		links        spec.Links
		option, want string
		err          string
	}{
		{want: "native"},
		{links: spec.Links{Engine: "native"}, want: "native"},
		{links: spec.Links{Engine: "toxiproxy"}, want: "toxiproxy@2.12.0"},
		{links: spec.Links{Engine: "toxiproxy"}, option: "native", want: "native"},
		{option: "toxiproxy", want: "toxiproxy@2.12.0"},
		{option: "toxiproxy@1.0.0", want: "toxiproxy@2.12.0"},
		{option: "moon@1", err: `no engine is called "moon"; there are native, toxiproxy`},
		{links: spec.Links{Engine: "toxiproxy", URL: "http://127.0.0.1:1"}, err: "toxiproxy at http://127.0.0.1:1"},
		{links: spec.Links{Engine: "toxiproxy", URL: "http://127.0.0.1:1"}, option: "native", want: "native"},
	} {
		s, _ := onEngine(tt.links, tt.option)
		err := s.engage()
		if err != nil || tt.err != "" {
			if err == nil || tt.err == "" || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%+v %s: got %v, want %q", tt.links, tt.option, err, tt.err)
			}
			continue
		}
		got := "native"
		if s.toxi != nil {
			got = s.toxi.Name()
		}
		if got != tt.want || len(s.Notes()) > 0 {
			t.Errorf("%+v %s: got %s with notes %q, want %s", tt.links, tt.option, got, s.Notes(), tt.want)
		}
	}
	s, _ := onEngine(spec.Links{Engine: "toxiproxy"}, "")
	s.deps = nil
	if err := s.engage(); err != nil || s.toxi != nil {
		t.Errorf("without links there is an engine: %v", err)
	}
}

func TestDependenciesComeUpBehindToxiproxy(t *testing.T) {
	t.Parallel()
	s, f := onEngine(spec.Links{Engine: "toxiproxy"}, "")
	if err := s.engage(); err != nil {
		t.Fatal(err)
	}
	e, err := bringUp(t.Context(), s.deps, "", nobody)
	if err != nil {
		t.Fatal(err)
	}
	addr := e.links["db"].Addr()
	ask := func() (string, error) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return "", err
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(5 * time.Second))
		fmt.Fprintln(c, "how many?")
		return bufio.NewReader(c).ReadString('\n')
	}
	if got, err := ask(); got != "0\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := e.links["db"].Disturb(t.Context(), harness.Toxic{Refuse: true, Close: true}); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(); err == nil {
		t.Errorf("a link that is down answers %q", got)
	}
	if err := e.reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(); got != "1\n" { // the toxic is gone
		t.Errorf("got %q, %v", got, err)
	}
	e.links["db"].SetUpstream("127.0.0.1:1") // as where a container comes back on another port
	if got, err := ask(); err == nil {
		t.Errorf("a link to nowhere answers %q", got)
	}
	e.links["db"].SetUpstream(e.stores["db"].Addr())
	if got, err := ask(); got != "1\n" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := e.close(t.Context()); err != nil {
		t.Error(err)
	}
	if f.stops != 1 {
		t.Errorf("stopped %d times", f.stops)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the link still listens")
	}
}
