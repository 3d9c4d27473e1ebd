package spec

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shakedown-go/shakedown/targets/openapi"
)

// document is the path of the OpenAPI document, "" for none.
func (f *File) document() string { return cmp.Or(f.API.OpenAPI, f.OpenAPI) }

// readDocument reads the OpenAPI document, and adds what it says to what the file says.
func (f *File) readDocument() error {
	key := []string{"api", "openapi"}
	if f.OpenAPI != "" {
		key = key[1:]
	}
	at := f.document()
	if !filepath.IsLocal(at) {
		return f.Mistake(key, "%s is not below this directory: put the document beside this file", at)
	}
	file := filepath.Join(filepath.Dir(f.src.file), at)
	skipped := map[string]bool{}
	doc, err := openapi.Read(file, func(op string) bool {
		o := f.API.Ops[op]
		skipped[op] = o != nil && o.Skip
		return skipped[op]
	})
	var e *openapi.Error
	switch {
	case errors.As(err, &e) && e.Line > 0:
		return ErrorAt(e.File, e.Text, e.Line, e.Column, e.Msg)
	case errors.As(err, &e) && e.Text == nil:
		if e.File != file { // one that it refers to
			at = e.File
		}
		return f.Mistake(key, "%s: %s", at, e.Msg)
	case errors.As(err, &e):
		return &Error{File: e.File, Msg: e.Msg}
	case err != nil:
		return &Error{File: file, Msg: err.Error()}
	}
	f.Notes = doc.Notes
	if f.API.Ops == nil {
		f.API.Ops = map[string]*Op{}
	}
	for _, o := range doc.Ops {
		f.API.Ops[o.Name] = merge(f.API.Ops[o.Name], o)
	}
	maps.DeleteFunc(f.API.Ops, func(name string, _ *Op) bool { return skipped[name] })
	f.follow(doc)
	if l := doc.Login; f.API.Login == nil && l != nil {
		f.API.Login = &Login{Op: l.Op, Token: "{{reply." + l.Token + "}}"}
		said := fmt.Sprintf("op: %s, token: %q", l.Op, f.API.Login.Token)
		if l.Register != "" {
			f.API.Login.Register = l.Register
			said += ", register: " + l.Register
		}
		f.Assumed = append(f.Assumed, fmt.Sprintf("api.login is {%s}: it takes a password and gives a token", said))
	}
	if l := f.API.Login; l != nil && f.API.Ops[l.Op] != nil {
		for _, p := range f.API.Ops[l.Op].Params {
			if p != nil && p.inferred { // it comes first
				p.From = nil
			}
		}
	}
	if err := (&checker{f: f}).api(); err != nil {
		return err
	}
	if len(f.API.Ops) == 0 {
		return f.Mistake(key, "%s has no operation that is made use of", at)
	}
	return f.authorize(doc)
}

// merge returns an operation of the document with what the file says about it.
func merge(o *Op, d openapi.Op) *Op {
	if o == nil {
		o = new(Op)
	}
	if o.Request != "" { // it stands for itself
		return o
	}
	o.Request = d.Method + " " + d.Path
	o.Doc = cmp.Or(o.Doc, d.Doc)
	o.Media, o.Members, o.known, o.Login = d.Media, d.Members, d.Allowed, true
	params := map[string]*Param{}
	for _, p := range d.Params {
		params[p.Key] = &Param{Optional: p.Optional, Raw: p.Raw, From: p.From, Style: p.Style, drawn: p.Domain, meaning: p.About, inferred: true}
	}
	for key, p := range o.Params {
		was := params[key]
		maps.DeleteFunc(params, func(k string, _ *Param) bool {
			return k == key || strings.HasPrefix(k, key+".") || strings.HasPrefix(key, k+".")
		})
		params[key] = p
		if p == nil || was == nil {
			continue
		}
		p.Style = was.Style
		if slices.Equal(p.kinds(), []string{"from"}) { // now and then it is another one
			p.drawn, p.meaning = was.drawn, was.meaning
		}
	}
	o.Params = params
	return o
}

// usualStream is how long a reply without an end is read where nobody says.
const usualStream = Duration(300 * time.Millisecond)

// follow says how long the streams of the document are read. Where calls have little time,
// it is half of that.
func (f *File) follow(doc *openapi.Doc) {
	for _, d := range doc.Ops {
		o := f.API.Ops[d.Name]
		if !d.Stream || o == nil || !o.Login || o.Stream > 0 {
			continue
		}
		o.Stream = min(usualStream, cmp.Or(f.Service.Timeout, DefaultTimeout)/2)
		f.Assumed = append(f.Assumed, fmt.Sprintf("api.ops.%s.stream is %s: it answers with server-sent events", d.Name, time.Duration(o.Stream)))
	}
}

// authorize says for every operation of the document what its calls carry, and notes those
// that nothing can authorize.
func (f *File) authorize(doc *openapi.Doc) error {
	for _, name := range slices.Sorted(maps.Keys(f.API.Auth)) {
		if _, known := doc.Schemes[name]; !known {
			return f.Mistake([]string{"api", "auth", name}, "the document has no security scheme %q; there are: %s", name, names(doc.Schemes))
		}
	}
	lacking := map[string][]string{} // ops by what they lack
	for _, d := range doc.Ops {
		o := f.API.Ops[d.Name]
		if o == nil || !o.Login || len(d.Security) == 0 || f.API.Login != nil && d.Name == f.API.Login.Op {
			continue
		}
		var lacks []string
		found := false
		for _, need := range d.Security {
			var got []Credential
			var missing []string
			for _, scheme := range need {
				c, why := f.credential(scheme, doc.Schemes[scheme], len(need) == 1)
				if why != "" {
					missing = append(missing, why)
				}
				got = append(got, c)
			}
			if len(missing) > 0 {
				lacks = append(lacks, missing...)
				continue
			}
			if found = true; len(got) > 0 || len(o.Auth) == 0 {
				o.Auth = got
			}
			if len(got) > 0 {
				break
			}
		}
		if !found {
			why := strings.Join(slices.Compact(lacks), "; ")
			lacking[why] = append(lacking[why], d.Name)
		}
	}
	for _, why := range slices.Sorted(maps.Keys(lacking)) {
		f.Notes = append(f.Notes, fmt.Sprintf("not authorized: %s: %s", strings.Join(lacking[why], ", "), why))
	}
	return nil
}

// credential returns what a call carries for a security scheme, or why there is nothing.
// The login's token serves those that take one, and a key where nothing else is asked for.
func (f *File) credential(name string, s openapi.Scheme, alone bool) (c Credential, why string) {
	given, has := f.API.Auth[name]
	value := "{{token}}"
	switch {
	case has:
		value = given
	case s.Kind == "basic":
		return c, fmt.Sprintf("%s is basic authorization: give api.auth %s: user:password", name, name)
	case s.Kind == "":
		return c, fmt.Sprintf("the document does not say what %s is", name)
	case f.API.Login == nil:
		return c, fmt.Sprintf("nothing logs in for %s: give api.login, or api.auth %s", name, name)
	case s.Kind == "key" && !alone:
		return c, fmt.Sprintf("%s is a key beside something else: give api.auth %s", name, name)
	}
	if s.Kind == "key" && s.In == "header" && strings.EqualFold(s.Name, "Authorization") && !has {
		s.Kind = "bearer" // a token of which the document does not say that
	}
	switch {
	case s.Kind == "key" && slices.Contains([]string{"header", "query", "cookie"}, s.In) && headerName.MatchString(s.Name):
		return Credential{In: s.In, Name: s.Name, Value: value}, ""
	case s.Kind == "key":
		return c, fmt.Sprintf("the key %s has no place", name)
	case s.Kind == "basic":
		return Credential{In: "header", Name: "Authorization", Value: value, Basic: true}, ""
	case s.Kind == "bearer" || s.Kind == "oauth2" || s.Kind == "openid":
		if !has && f.API.Login.Header != "" {
			name, value := f.API.Login.Carry("{{token}}")
			return Credential{In: "header", Name: name, Value: value}, ""
		}
		return Credential{In: "header", Name: "Authorization", Value: "Bearer " + value}, ""
	case has:
		return Credential{In: "header", Name: "Authorization", Value: value}, ""
	}
	return c, fmt.Sprintf("%s is %s authorization, which is not made: give api.auth %s, the whole of the header's value", name, s.Kind, name)
}
