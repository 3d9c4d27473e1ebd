package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// The bounds of a case file: files come from elsewhere and are not trusted.
const (
	maxCaseBytes = 1 << 20
	maxSteps     = 10_000
	maxLanes     = 256
	maxRepeat    = 10_000
	maxWait      = 10 * time.Minute
)

var (
	name      = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_./-]*`)
	label     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)
	reference = regexp.MustCompile(`\{\{([A-Za-z_][A-Za-z0-9_-]*(?:\.[A-Za-z0-9_$@-]+)+)\}\}`)

	quotedReference = regexp.MustCompile(`"` + reference.String() + `"`)
)

// SyntaxError is a mistake in a case file.
type SyntaxError struct {
	Line, Column int // from one
	Text         string
	Msg          string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%d:%d: %s\n\t%s\n\t%s^", e.Line, e.Column, e.Msg, e.Text, strings.Repeat(" ", max(e.Column-1, 0)))
}

// String returns the case file.
func (c Case) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "target %s\nseed %d\n", word(c.Target), c.Seed)
	if len(c.Env) > 0 {
		b.WriteString("env")
		for _, k := range slices.Sorted(maps.Keys(c.Env)) {
			fmt.Fprintf(&b, " %s=%s", k, word(c.Env[k]))
		}
		b.WriteByte('\n')
	}
	for i, s := range c.Steps {
		b.WriteString(s.String())
		if s.Group != 0 && i+1 < len(c.Steps) && c.Steps[i+1].Group == s.Group {
			b.WriteString(" &")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// String returns the step as a line of a case file, without the joining ampersand.
func (s Step) String() string {
	var b strings.Builder
	switch s.Verb {
	case VerbReset:
		return "reset"
	case VerbWait:
		return "wait " + plain(s.For)
	case VerbHeal:
		return "- " + s.Name
	case VerbInject:
		b.WriteString("+ ")
		if s.Label != "" {
			b.WriteString(s.Label + " = ")
		}
		b.WriteString(s.Name)
		for _, a := range s.Args {
			fmt.Fprintf(&b, " %s=%s", a.Key, word(a.Value.Text))
		}
		if s.When != (Trigger{}) {
			fmt.Fprintf(&b, " when=%s", word(s.When.String()))
		}
		if s.At != 0 {
			fmt.Fprintf(&b, " at=%s", plain(s.At))
		}
		if s.For != 0 {
			fmt.Fprintf(&b, " for=%s", plain(s.For))
		}
		return b.String()
	}
	if s.Label != "" {
		b.WriteString(s.Label + ": ")
	}
	b.WriteString(s.Lane + " " + s.Name)
	for _, a := range s.Args {
		b.WriteByte(' ')
		b.WriteString(a.Key)
		if a.Value.Form == FormRaw {
			b.WriteString("!=" + strconv.Quote(a.Value.Text))
		} else {
			b.WriteString("=" + a.Value.String())
		}
	}
	switch {
	case s.For > 0:
		fmt.Fprintf(&b, " *%s", plain(s.For))
	case s.Repeat > 1:
		fmt.Fprintf(&b, " *%d", s.Repeat)
	}
	return b.String()
}

// plain writes a duration in letters that a bare word can have: 500us.
func plain(d time.Duration) string { return strings.ReplaceAll(d.String(), "µ", "u") }

// ReadCase reads a case file to its end.
func ReadCase(r io.Reader) (Case, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxCaseBytes+1))
	if err != nil {
		return Case{}, err
	}
	return ParseCase(b)
}

// ParseCase reads a case file. Its errors are of type *SyntaxError.
func ParseCase(b []byte) (Case, error) {
	if len(b) > maxCaseBytes {
		return Case{}, &SyntaxError{Line: 1, Column: 1, Msg: fmt.Sprintf("the file is larger than %d bytes", maxCaseBytes)}
	}
	p := &caseParser{env: map[string]string{}, labels: map[string]Verb{}, healed: map[string]bool{}}
	lines := strings.Split(string(b), "\n")
	for i, text := range lines {
		text = strings.TrimSuffix(text, "\r")
		p.line, p.text, p.rest = i+1, text, text
		if !utf8.ValidString(text) {
			return Case{}, p.fail("the line is not UTF-8")
		}
		if i == len(lines)-1 && text != "" {
			p.rest = ""
			return Case{}, p.fail("the file ends within a line; if it is complete, end it with a newline")
		}
		if err := p.readLine(); err != nil {
			return Case{}, err
		}
	}
	p.line, p.text, p.rest = len(lines), "", ""
	switch {
	case p.joined:
		return Case{}, p.fail("the file ends within a group: a line must follow the ampersand")
	case p.c.Target == "":
		return Case{}, p.fail("no target line")
	}
	if len(p.env) > 0 {
		p.c.Env = p.env
	}
	return p.c.Normalize(), nil
}

// caseParser reads a case line by line. rest is what is left of the line.
type caseParser struct {
	c          Case
	env        map[string]string
	labels     map[string]Verb // what each label names
	healed     map[string]bool
	line       int
	text, rest string
	group      int
	joined     bool // the line before ended with an ampersand
	seeded     bool
}

// fail returns an error at the place where rest begins.
func (p *caseParser) fail(format string, args ...any) error {
	column := utf8.RuneCountInString(p.text[:len(p.text)-len(p.rest)]) + 1
	return &SyntaxError{Line: p.line, Column: column, Text: strings.ToValidUTF8(p.text, "?"), Msg: fmt.Sprintf(format, args...)}
}

func (p *caseParser) readLine() error {
	p.space()
	if p.rest == "" {
		return nil
	}
	if len(p.c.Steps) == 0 && !p.joined {
		switch p.first() {
		case "target", "seed", "env":
			return p.header()
		}
	}
	if p.c.Target == "" {
		return p.fail("the first line must be: target DIRECTORY")
	}
	if len(p.c.Steps) == maxSteps {
		return p.fail("more than %d steps", maxSteps)
	}
	s, err := p.step()
	if err != nil {
		return err
	}
	joins := strings.HasPrefix(p.rest, "&")
	if joins {
		p.rest = p.rest[1:]
		p.space()
	}
	if p.rest != "" {
		return p.fail("unexpected %q", p.rest)
	}
	if (joins || p.joined) && s.Verb == VerbReset {
		return p.fail("a reset cannot be part of a group")
	}
	if joins && !p.joined {
		p.group++
	}
	if joins || p.joined {
		s.Group = p.group
	}
	p.joined = joins
	p.c.Steps = append(p.c.Steps, s)
	return nil
}

// first is the word that rest begins with, up to a blank.
func (p *caseParser) first() string {
	if n := strings.IndexAny(p.rest, " \t\r"); n >= 0 {
		return p.rest[:n]
	}
	return p.rest
}

func (p *caseParser) header() error {
	w := p.first()
	p.rest = p.rest[len(w):]
	p.space()
	switch w {
	case "target":
		if p.c.Target != "" {
			return p.fail("a second target")
		}
		v, err := p.word()
		if err != nil {
			return err
		}
		if v == "" {
			return p.fail("the target is empty")
		}
		p.c.Target = v
	case "seed":
		if p.seeded {
			return p.fail("a second seed")
		}
		at := *p
		v, err := p.word()
		if err != nil {
			return err
		}
		if p.c.Seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			return at.fail("the seed is not a number from 0 to 2^64-1")
		}
		p.seeded = true
	case "env":
		for p.rest != "" {
			k, raw, err := p.key()
			if err != nil {
				return err
			}
			if raw {
				return p.fail("env values are words")
			}
			if _, twice := p.env[k]; twice {
				return p.fail("env %s is given twice", k)
			}
			if p.env[k], err = p.word(); err != nil {
				return err
			}
		}
	}
	if p.rest != "" {
		return p.fail("unexpected %q", p.rest)
	}
	return nil
}

func (p *caseParser) step() (Step, error) {
	switch w := p.first(); {
	case w == "reset":
		p.rest = p.rest[len(w):]
		p.space()
		return Step{Verb: VerbReset}, nil
	case w == "wait":
		return p.wait()
	case p.rest[0] == '+':
		return p.inject()
	case p.rest[0] == '-':
		return p.heal()
	}
	return p.call()
}

func (p *caseParser) wait() (Step, error) {
	p.rest = p.rest[len("wait"):]
	p.space()
	at := *p
	w, err := p.word()
	if err != nil {
		return Step{}, err
	}
	d, err := time.ParseDuration(w)
	if err != nil || d < 0 || d > maxWait {
		return Step{}, at.fail("a wait takes a duration from 0 to %s, such as 200ms", maxWait)
	}
	return Step{Verb: VerbWait, For: d}, nil
}

func (p *caseParser) inject() (Step, error) {
	s := Step{Verb: VerbInject}
	p.rest = p.rest[1:]
	p.space()
	at := *p
	first, err := p.name("a fault")
	if err != nil {
		return s, err
	}
	if strings.HasPrefix(p.rest, "=") {
		if err := at.declare(first, VerbInject); err != nil {
			return s, err
		}
		s.Label = first
		p.rest = p.rest[1:]
		p.space()
		if first, err = p.name("a fault"); err != nil {
			return s, err
		}
	}
	s.Name = first
	for p.rest != "" && p.rest[0] != '&' {
		at := *p
		k, raw, err := p.key()
		if err != nil {
			return s, err
		}
		if raw {
			return s, at.fail("a fault takes words, not raw bytes")
		}
		v, err := p.word()
		if err != nil {
			return s, err
		}
		switch k {
		case "at", "for":
			d, err := time.ParseDuration(v)
			if err != nil || d < 0 || d > time.Hour {
				return s, at.fail("%s= takes a duration from 0 to 1h, such as 200ms", k)
			}
			if k == "at" {
				s.At = d
			} else {
				s.For = d
			}
		case "when":
			if s.When, err = ParseTrigger(v); err != nil {
				return s, at.fail("%v", err)
			}
		default:
			if _, twice := s.Args.Get(k); twice {
				return s, at.fail("%s is given twice", k)
			}
			s.Args = append(s.Args, Arg{k, Text(v)})
		}
	}
	return s, nil
}

func (p *caseParser) heal() (Step, error) {
	p.rest = p.rest[1:]
	p.space()
	at := *p
	l, err := p.name("the label of a fault")
	if err != nil {
		return Step{}, err
	}
	if v, known := p.labels[l]; !known || v != VerbInject {
		return Step{}, at.fail("no fault before this line has the label %s", l)
	}
	if p.healed[l] {
		return Step{}, at.fail("%s is healed twice", l)
	}
	p.healed[l] = true
	return Step{Verb: VerbHeal, Name: l}, nil
}

func (p *caseParser) call() (Step, error) {
	s := Step{Verb: VerbCall}
	at := *p
	first, err := p.name("a lane")
	if err != nil {
		return s, err
	}
	if strings.HasPrefix(p.rest, ":") {
		if err := at.declare(first, VerbCall); err != nil {
			return s, err
		}
		s.Label = first
		p.rest = p.rest[1:]
		p.space()
		at = *p
		if first, err = p.name("a lane"); err != nil {
			return s, err
		}
	}
	if !label.MatchString(first) || slices.Contains([]string{"target", "seed", "env", "reset", "wait"}, first) {
		return s, at.fail("%q cannot name a lane", first)
	}
	s.Lane = first
	if lanes := p.c.Lanes(); len(lanes) >= maxLanes && !slices.Contains(lanes, first) {
		return s, at.fail("more than %d lanes", maxLanes)
	}
	if s.Name, err = p.name("an op"); err != nil {
		return s, err
	}
	for p.rest != "" && p.rest[0] != '&' {
		at := *p
		if p.rest[0] == '*' {
			w, err := p.word()
			if err != nil {
				return s, err
			}
			if s.For, err = time.ParseDuration(w[1:]); err == nil && s.For > 0 && s.For <= maxWait {
				return s, nil
			}
			s.For = 0
			if s.Repeat, err = strconv.Atoi(w[1:]); err != nil || s.Repeat < 1 || s.Repeat > maxRepeat {
				return s, at.fail("a repeat is *1 to *%d, or a duration up to %s, such as *30s", maxRepeat, maxWait)
			}
			return s, nil
		}
		k, raw, err := p.key()
		if err != nil {
			return s, err
		}
		if _, twice := s.Args.Get(k); twice {
			return s, at.fail("%s is given twice", k)
		}
		v, err := p.value(raw)
		if err != nil {
			return s, err
		}
		s.Args = append(s.Args, Arg{k, v})
	}
	return s, nil
}

// declare takes note of a label. A label may be used once.
func (p *caseParser) declare(l string, v Verb) error {
	if !label.MatchString(l) {
		return p.fail("%q cannot be a label", l)
	}
	if _, known := p.labels[l]; known {
		return p.fail("the label %s is used twice", l)
	}
	p.labels[l] = v
	return nil
}

// space skips blanks and a comment.
func (p *caseParser) space() {
	p.rest = strings.TrimLeft(p.rest, " \t\r")
	if strings.HasPrefix(p.rest, "#") {
		p.rest = ""
	}
}

func (p *caseParser) name(what string) (string, error) {
	m := name.FindString(p.rest)
	if m == "" {
		return "", p.fail("expected %s", what)
	}
	p.rest = p.rest[len(m):]
	p.space()
	return m, nil
}

// key reads up to and with the equals sign; raw is true for key!=.
func (p *caseParser) key() (key string, raw bool, err error) {
	n := 0
	for n < len(p.rest) {
		if p.rest[n] == '"' {
			q, err := strconv.QuotedPrefix(p.rest[n:])
			if err != nil {
				return "", false, p.fail("unclosed quote")
			}
			n += len(q)
		} else if p.rest[n] == '.' || keyByte(p.rest[n]) {
			n++
		} else {
			break
		}
	}
	key = p.rest[:n]
	segs, err := SplitKey(key)
	if err != nil {
		return "", false, p.fail("expected an argument key=value")
	}
	p.rest = p.rest[n:]
	if raw = strings.HasPrefix(p.rest, "!="); raw {
		p.rest = p.rest[1:]
	}
	if !strings.HasPrefix(p.rest, "=") {
		return "", false, p.fail("expected = behind %s", key)
	}
	p.rest = p.rest[1:]
	return JoinKey(segs...), raw, nil
}

// word reads a bare or quoted word.
func (p *caseParser) word() (string, error) {
	if strings.HasPrefix(p.rest, `"`) {
		return p.quoted()
	}
	n := 0
	for n < len(p.rest) && wordByte(p.rest[n]) {
		n++
	}
	if n == 0 {
		return "", p.fail("expected a word")
	}
	w := p.rest[:n]
	p.rest = p.rest[n:]
	return w, p.end()
}

func (p *caseParser) quoted() (string, error) {
	q, err := strconv.QuotedPrefix(p.rest)
	if err != nil {
		return "", p.fail("unclosed or broken quote")
	}
	s, err := strconv.Unquote(q)
	if err != nil {
		return "", p.fail("broken quote")
	}
	p.rest = p.rest[len(q):]
	return s, p.end()
}

// value reads the value of a call's argument.
func (p *caseParser) value(raw bool) (Value, error) {
	if raw {
		if !strings.HasPrefix(p.rest, `"`) {
			return Value{}, p.fail("raw bytes must be quoted")
		}
		s, err := p.quoted()
		return Raw(s), err
	}
	v, rest, err := parseValue(p.rest)
	if err != nil {
		return v, p.fail("%v", err)
	}
	p.rest = rest
	return v, p.end()
}

// end asks for a blank or the end of the line behind a value.
func (p *caseParser) end() error {
	if p.rest != "" && strings.IndexByte(" \t\r", p.rest[0]) < 0 {
		return p.fail("expected a blank, not %q", p.rest)
	}
	p.space()
	return nil
}

// parseValue reads one value from the start of text.
func parseValue(text string) (v Value, rest string, err error) {
	quoted := func(s string) (string, error) {
		q, err := strconv.QuotedPrefix(s)
		if err != nil || s[0] != '"' {
			return "", errors.New("unclosed or broken quote")
		}
		rest = s[len(q):]
		return strconv.Unquote(q)
	}
	switch {
	case strings.HasPrefix(text, `!"`):
		s, err := quoted(text[1:])
		return Raw(s), rest, err
	case strings.HasPrefix(text, `"`):
		s, err := quoted(text)
		return Text(s), rest, err
	case strings.HasPrefix(text, "{{"):
		m := reference.FindStringSubmatchIndex(text)
		if m == nil || m[0] != 0 {
			return v, "", errors.New("expected a reference {{label.path}}")
		}
		return Ref(text[m[2]:m[3]]), text[m[1]:], nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return v, "", errors.New(`expected a JSON value, a "string" or a {{label.path}}`)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return v, "", err
	}
	return Value{FormJSON, b.String()}, text[dec.InputOffset():], nil
}

// wordByte reports whether c may stand in a bare word.
func wordByte(c byte) bool {
	return c > ' ' && c < 0x7f && c != '"' && c != '#'
}

// word writes s bare where that can be read back, else quoted.
func word(s string) string {
	for i := range len(s) {
		if !wordByte(s[i]) {
			return strconv.Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}
