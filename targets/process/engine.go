package process

import (
	"fmt"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/link"
	"github.com/shakedown-go/shakedown/harness/link/toxi"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// edge is a link of either engine.
type edge interface {
	harness.Link
	Addr() string
	SetUpstream(addr string)
	Reset() error
	Close() error
}

// native starts a link of our own.
func native(name, upstream string) (edge, error) { return link.Listen(name, upstream) }

// engage readies the engine of the links: that of Options, or else that of the description.
func (s *System) engage() error {
	name, _, _ := strings.Cut(s.opts.Engine, "@")
	if name == "" {
		name = s.file.Links.Engine
	}
	if name == "" || name == "native" || len(s.deps) == 0 {
		return nil
	}
	if name != "toxiproxy" {
		return fmt.Errorf("no engine is called %q; there are %s", name, strings.Join(spec.LinkEngines(), ", "))
	}
	if url := s.file.Links.URL; url == "" {
		s.toxi = toxi.Embedded()
	} else {
		var err error
		if s.toxi, err = toxi.Remote(url); err != nil {
			return err
		}
	}
	s.toxi.Say = func(text string) {
		s.tap.emit(harness.Event{Kind: harness.Output, Step: -1, Name: name, Lane: "stderr", Text: text + "\n"})
	}
	for i := range s.deps {
		s.deps[i].listen = func(name, upstream string) (edge, error) { return s.toxi.Listen(name, upstream) }
	}
	return nil
}

// Notes says what went wrong on the way that is neither the service's doing nor a reason to
// stop.
func (s *System) Notes() []string {
	if s.toxi == nil {
		return nil
	}
	return s.toxi.Notes()
}
