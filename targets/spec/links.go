package spec

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// LinkEngines returns what can disturb links: our own proxy, or toxiproxy.
func LinkEngines() []string { return []string{"native", "toxiproxy"} }

func (c *checker) links(l Links) error {
	if l.Engine != "" && !slices.Contains(LinkEngines(), l.Engine) {
		return c.fail([]string{"links", "engine"}, "no engine is called %q; there are %s", l.Engine, strings.Join(LinkEngines(), ", "))
	}
	if l.URL == "" {
		return nil
	}
	at := []string{"links", "url"}
	if l.Engine != "toxiproxy" {
		return c.fail(at, "a url is given, but the engine is not toxiproxy: make it engine: toxiproxy, or take the url away")
	}
	u, err := url.Parse(l.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return c.fail(at, "expected the address of toxiproxy's HTTP API, such as http://127.0.0.1:8474")
	}
	if port, err := strconv.ParseUint(u.Port(), 10, 16); u.Port() != "" && (err != nil || port == 0) {
		return c.fail(at, "%s is not a port", u.Port())
	}
	if host := u.Hostname(); !Allowed(c.f.Allow, host) {
		return c.fail(at, "toxiproxy is at %s, which is not this machine: what passes the links passes it; if it may, add %q to allow", host, host)
	}
	return nil
}
