package toxi

import (
	"bytes"
	"context"
	"encoding/json"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Embedded returns the engine whose toxiproxy runs in this process. Toxiproxy prints some of
// what it does through the logger that all of a process share: that is switched off.
func Embedded() *Engine {
	zerolog.SetGlobalLevel(zerolog.Disabled)
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	return &Engine{
		version: ownVersion, host: "127.0.0.1", own: "127.0.0.1", listen: "127.0.0.1:0",
		create: func(name, listen, upstream string) (proxy, error) {
			p := toxiproxy.NewProxy(server, name, listen, upstream)
			if err := p.Start(); err != nil {
				return nil, err
			}
			return &embedded{p: p, at: p.Listen}, nil
		},
	}
}

// embedded is a proxy in this process. Its Update is never called: that is a data race.
type embedded struct {
	p  *toxiproxy.Proxy
	at string
}

func (e *embedded) addr() string { return e.at }

func (e *embedded) add(t toxic) error {
	b, err := json.Marshal(t)
	if err != nil {
		return err
	}
	_, err = e.p.Toxics.AddToxicJson(bytes.NewReader(b))
	return err
}

func (e *embedded) remove(name string) error {
	return e.p.Toxics.RemoveToxic(context.Background(), name)
}

func (e *embedded) start() error { return e.p.Start() }

func (e *embedded) stop() error {
	e.p.Stop()
	return nil
}

// end implements proxy. Of a proxy that hangs this ends what can be ended.
func (e *embedded) end(bool) error { return e.stop() }
