package toxi

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	toxiproxy "github.com/Shopify/toxiproxy/v2/client"
)

// Remote returns the engine whose toxiproxy is asked through its HTTP API at a URL such as
// http://127.0.0.1:8474, wherever it runs. Its proxies and this process must be able to
// reach each other.
func Remote(api string) (*Engine, error) {
	u, err := url.Parse(api)
	if err != nil {
		return nil, fmt.Errorf("toxiproxy: %w", err)
	}
	c := toxiproxy.NewClient(u.Scheme + "://" + u.Host)
	c.UserAgent = "shakedown"
	answer, err := bounded(c.Version)
	if err != nil {
		return nil, fmt.Errorf("toxiproxy at %s: %w", api, err)
	}
	var is struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal(answer, &is); err != nil || is.Version == "" {
		return nil, fmt.Errorf("toxiproxy at %s: it does not say its version, so it may be something else: %.80q", api, answer)
	}
	own, err := toward(u)
	if err != nil {
		return nil, fmt.Errorf("toxiproxy at %s: %w", api, err)
	}
	sweep(c, own)
	e := &Engine{version: is.Version, host: u.Hostname(), own: own, listen: "0.0.0.0:0", remote: true}
	if ip := net.ParseIP(own); ip != nil && ip.IsLoopback() {
		e.listen = "127.0.0.1:0"
		e.host = "127.0.0.1"
	}
	e.create = func(name, listen, upstream string) (proxy, error) {
		p, err := c.CreateProxy(name, listen, upstream)
		if err != nil {
			return nil, err
		}
		return &remote{p}, nil
	}
	return e, nil
}

// sweep deletes the proxies that harnesses of this machine have left there which were killed:
// nobody listens where they lead. It is best effort; a toxiproxy in which a proxy hangs does
// not list any, and must not be asked to delete one.
func sweep(c *toxiproxy.Client, own string) {
	all, err := bounded(c.Proxies)
	if err != nil {
		return
	}
	for name, p := range all {
		host, _, err := net.SplitHostPort(p.Upstream)
		if err != nil || host != own || !strings.HasPrefix(name, prefix) {
			continue
		}
		dead, err := net.DialTimeout("tcp", p.Upstream, limit)
		if err == nil {
			dead.Close()
		} else if errors.Is(err, syscall.ECONNREFUSED) && do(p.Delete) != nil {
			return
		}
	}
}

// toward returns the address of this machine from which a URL's host is reached, and at which
// that host then reaches us. Nothing is sent.
func toward(u *url.URL) (string, error) {
	port := u.Port()
	if port == "" {
		port = "80"
	}
	c, err := net.Dial("udp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return "", err
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	return host, err
}

// remote is a proxy elsewhere.
type remote struct{ p *toxiproxy.Proxy }

func (r *remote) addr() string { return r.p.Listen }

func (r *remote) add(t toxic) error {
	attributes := toxiproxy.Attributes{}
	for k, v := range t.Attributes {
		attributes[k] = v
	}
	_, err := r.p.AddToxic(t.Name, t.Type, t.Stream, t.Toxicity, attributes)
	return err
}

func (r *remote) remove(name string) error { return r.p.RemoveToxic(name) }
func (r *remote) start() error             { return r.p.Enable() }
func (r *remote) stop() error              { return r.p.Disable() }

// end implements proxy. One that hangs is left as it is: to delete it would hang, too, with
// the lock that every other proxy there needs.
func (r *remote) end(hung bool) error {
	if hung {
		return nil
	}
	defer http.DefaultClient.CloseIdleConnections() // the client of toxiproxy uses its transport
	return r.p.Delete()
}
