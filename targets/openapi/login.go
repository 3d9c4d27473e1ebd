package openapi

import (
	"cmp"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// login returns the op that plainly is a login: it takes a password, asks for no login
// itself, and gives a token. Where the document has no example of a user, one that plainly
// makes users comes before.
func (r *reader) login(all []*request) *Login {
	if len(r.doc.Schemes) == 0 {
		return nil
	}
	var best, maker *request
	var token string
	for _, q := range all {
		if q.Method != http.MethodPost || q.guarded() || !slices.ContainsFunc(q.params, secret) {
			continue
		}
		if q.says("register", "signup", "sign_up", "sign-up", "users", "accounts", "createuser", "createaccount") {
			if maker == nil && !q.says("login", "signin", "reset", "refresh") {
				maker = q
			}
		}
		path := ""
		if q.reply != nil && !q.says("reset", "refresh") {
			path = tokenOf(q.reply, "", 0)
		}
		// Others may give a token, too: the one that makes a user, say.
		plainly := q.says("login", "signin", "sign_in", "sign-in", "token", "session", "authenticate")
		if path != "" && (best == nil || plainly && !best.says("login", "signin", "sign_in", "sign-in", "token", "session", "authenticate")) {
			best, token = q, path
		}
	}
	if best == nil {
		return nil
	}
	l := &Login{Op: best.Name, Token: token}
	if maker != nil && maker != best && !slices.ContainsFunc(best.params, func(p input) bool { return secret(p) && len(p.shape.examples) > 0 }) {
		l.Register = maker.Name
	}
	return l
}

// secret reports whether a param is a password.
func secret(p input) bool {
	return p.in == "body" && (p.shape.format == "password" || slices.ContainsFunc(split(p.name), func(w string) bool {
		return slices.Contains([]string{"password", "passwd", "pass", "passphrase", "pin", "secret"}, w)
	}))
}

// guarded reports whether a request says itself that it asks for a login.
func (q *request) guarded() bool {
	return q.op.Security != nil && len(q.Security) > 0 && !slices.ContainsFunc(q.Security, func(s []string) bool { return len(s) == 0 })
}

// says reports whether the name or the path of a request has one of some words.
func (q *request) says(words ...string) bool {
	all := strings.ToLower(q.Name + " " + q.Path)
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(all, w) })
}

// tokenOf returns the field of a reply that plainly is a token.
func tokenOf(s *shape, path string, depth int) string {
	s = s.main()
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
