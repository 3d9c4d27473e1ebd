package detect

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/shakedown-go/shakedown/harness"
)

// Identity finds replies that speak of their caller alone, and name another lane's user.
// Who the lanes are, and which replies are such, the description declares.
//
// A name that the lane itself has sent before explains itself, and so does a call that was
// made with what another lane was given: it may have been made in that one's name.
var Identity = &harness.Detector{
	Name:    "identity",
	Doc:     "a reply that speaks of its caller alone names the user of another lane",
	Needs:   harness.CapIdentity,
	Minimum: 20,
	Proof:   true,
	Data:    true,
	Detect:  identity,
}

func identity(rec *harness.Record) harness.Judgement {
	var j harness.Judgement
	users := logins(rec)
	if slices.ContainsFunc(users, func(u user) bool { return !telling(u.name) }) {
		j.Unsure = append(j.Unsure, "a lane's identity could be anything: it has less than three characters, or no letter")
	}
	steps := labelled(rec.Case)
	asked := map[string]harness.Event{} // by lane
	sent := map[[2]string]bool{}        // by lane and name
	for _, e := range rec.Events {
		if e.Kind == harness.Invoke {
			asked[e.Lane] = e
			for _, u := range users {
				if sends(e, u.name) {
					sent[[2]string{e.Lane, u.name}] = true
				}
			}
		}
		if !e.Returned() {
			continue
		}
		call, known := asked[e.Lane]
		delete(asked, e.Lane)
		if !known || call.Name != e.Name || e.Args.Text("private") != "true" || lent(rec.Case, users, steps, e) {
			continue
		}
		others := strangers(users, e)
		for _, u := range others {
			if sent[[2]string{e.Lane, u.name}] || !reveals(e, u.name) {
				continue
			}
			add(&j, harness.Finding{
				Detector:  "identity",
				Signature: "identity: " + e.Name,
				Title:     fmt.Sprintf("the reply of %s to lane %s names the user of lane %s", e.Name, e.Lane, u.login.Lane),
				Detail:    fmt.Sprintf("lane %s is %s\n%s", u.login.Lane, u.name, e.Text),
				Evidence:  []uint64{u.login.Seq, call.Seq, e.Seq},
			})
		}
		if len(others) > 0 && complete(e) {
			j.Checked++
		}
	}
	return j
}

// user is who a lane is since a login.
type user struct {
	name  string
	login harness.Event
}

// logins returns who the lanes were, each name of a lane once.
func logins(rec *harness.Record) []user {
	var out []user
	for _, e := range rec.Events {
		name := e.Args.Text("identity")
		if e.Returned() && name != "" && !slices.ContainsFunc(out, func(u user) bool { return u.name == name && u.login.Lane == e.Lane }) {
			out = append(out, user{name, e})
		}
	}
	return out
}

// telling reports whether a name is not likely to be met by chance.
func telling(name string) bool {
	return utf8.RuneCountInString(name) >= 3 && strings.ContainsFunc(name, unicode.IsLetter)
}

// strangers returns who had logged in before a reply and can be told from everyone that its
// lane ever is, each name once.
func strangers(users []user, reply harness.Event) []user {
	var out []user
	for _, u := range users {
		own := func(x user) bool { return x.login.Lane == reply.Lane && strings.Contains(x.name, u.name) }
		taken := func(x user) bool { return x.name == u.name }
		if telling(u.name) && u.login.Seq < reply.Seq && !slices.ContainsFunc(users, own) && !slices.ContainsFunc(out, taken) {
			out = append(out, u)
		}
	}
	return out
}

// labelled returns the steps that others can refer to.
func labelled(c harness.Case) map[string]harness.Step {
	out := map[string]harness.Step{}
	for _, s := range c.Steps {
		if s.Label != "" && s.Verb == harness.VerbCall {
			out[s.Label] = s
		}
	}
	return out
}

// lent reports whether a call was made with what may be another's credentials: a field of
// the reply to a login, or in a header or the query one of the reply to another lane.
func lent(c harness.Case, users []user, steps map[string]harness.Step, reply harness.Event) bool {
	if reply.Step < 0 || reply.Step >= len(c.Steps) {
		return false
	}
	for _, a := range c.Steps[reply.Step].Args {
		where, _, _ := strings.Cut(a.Key, ".")
		for _, label := range a.Value.References() {
			from := steps[label]
			if slices.ContainsFunc(users, func(u user) bool { return u.login.Name == from.Name }) {
				return true
			}
			if from.Lane != reply.Lane && (where == "header" || where == "query") {
				return true
			}
		}
	}
	return false
}

// sends reports whether a call's arguments hold a name, be it as part of something longer.
func sends(call harness.Event, name string) bool {
	return slices.ContainsFunc(call.Args, func(a harness.Arg) bool {
		return strings.Contains(strings.ReplaceAll(a.Value.Text, "{{lane}}", call.Lane), name) || strings.Contains(a.Key, name)
	})
}

// reveals reports whether a reply holds a name: in a string or as a key where it is JSON.
func reveals(e harness.Event, name string) bool {
	if !strings.Contains(e.Text, name) && !strings.Contains(e.Text, `\`) {
		return false
	}
	if !json.Valid([]byte(e.Text)) {
		return mentions(e.Text, name, complete(e))
	}
	for d := json.NewDecoder(strings.NewReader(e.Text)); ; {
		t, err := d.Token()
		if err != nil {
			return false
		}
		if s, ok := t.(string); ok && mentions(s, name, true) {
			return true
		}
	}
}

// complete reports whether all of a reply is there.
func complete(e harness.Event) bool { return e.Args.Text("cut") == "" && e.Args.Text("error") == "" }

// mentions reports whether a text holds a name that is no part of a longer one. Of a text that
// is not whole, what its end belongs to is not known.
func mentions(text, name string, whole bool) bool {
	for from := 0; ; {
		i := strings.Index(text[from:], name)
		if i < 0 {
			return false
		}
		start, end := from+i, from+i+len(name)
		if !before(text[:start]) && !after(text[end:]) && (whole || end < len(text)) {
			return true
		}
		from = start + 1
	}
}

// before reports whether a name goes back into the text before it, and after whether it goes
// on in the one behind it. A full stop belongs to a name where more of it stands beyond.
func before(text string) bool {
	r, n := utf8.DecodeLastRuneInString(text)
	if r == '.' {
		r, n = utf8.DecodeLastRuneInString(text[:len(text)-n])
	}
	return n > 0 && inName(r)
}

func after(text string) bool {
	r, n := utf8.DecodeRuneInString(text)
	if r == '.' {
		r, n = utf8.DecodeRuneInString(text[n:])
	}
	return n > 0 && inName(r)
}

// inName reports whether a rune can be part of a name. An escape may hide one that is.
func inName(r rune) bool {
	return unicode.In(r, unicode.Letter, unicode.Number, unicode.Mark) || strings.ContainsRune("_-@+%~$\\\uFFFD", r)
}
