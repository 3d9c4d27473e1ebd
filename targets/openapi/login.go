package openapi

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// login returns the op that plainly is a login: it takes a password, asks for no login
// itself, and gives a token.
func (r *reader) login(all []*request) *Login {
	if len(r.doc.Schemes) == 0 {
		return nil
	}
	var best *Login
	for _, q := range all {
		if q.Method != http.MethodPost || len(q.Security) > 0 && !slices.ContainsFunc(q.Security, func(s []string) bool { return len(s) == 0 }) {
			continue
		}
		secret := slices.ContainsFunc(q.params, func(p input) bool {
			words := split(p.name)
			return p.in == "body" && (p.shape.format == "password" || slices.ContainsFunc(words, func(w string) bool {
				return slices.Contains([]string{"password", "passwd", "pass", "passphrase", "pin", "secret"}, w)
			}))
		})
		if !secret || q.reply == nil {
			continue
		}
		path := tokenOf(q.reply, "", 0)
		if path == "" {
			continue
		}
		// Others may give a token, too: one that makes a user, say.
		says := append(split(q.Name), split(q.Path)...)
		plainly := slices.ContainsFunc(says, func(w string) bool {
			return slices.Contains([]string{"login", "signin", "token", "tokens", "session", "sessions", "authenticate"}, w)
		})
		if best == nil || plainly {
			best = &Login{Op: q.Name, Token: path}
		}
		if plainly {
			break
		}
	}
	return best
}

// tokenOf returns the field of a reply that plainly is a token.
func tokenOf(s *shape, path string, depth int) string {
	for len(s.alts) > 0 {
		s = s.alts[0]
	}
	if depth > 2 || s.kind != "object" {
		return ""
	}
	names := []string{"access token", "token", "auth token", "jwt", "bearer", "session token", "id token", "api key", "session id"}
	for _, want := range names {
		for _, p := range s.props {
			if p.plain() && strings.Join(split(p.name), " ") == want && plainField.MatchString(p.name) {
				return path + p.name
			}
		}
	}
	for _, p := range s.props {
		if !p.plain() && plainField.MatchString(p.name) {
			if got := tokenOf(p.shape, path+p.name+".", depth+1); got != "" {
				return got
			}
		}
	}
	return ""
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
