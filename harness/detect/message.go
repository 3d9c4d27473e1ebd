package detect

import (
	"regexp"
	"slices"
	"strings"

	"github.com/shakedown-go/shakedown/harness"
)

// maxKind bounds a message within a signature, in runes.
const maxKind = 80

// maxMessageBytes bounds how much of a message is looked at.
const maxMessageBytes = 2048

var (
	recoveredNote = regexp.MustCompile(` \[recovered(?:, repanicked)?\]$`)
	quoted        = regexp.MustCompile("\"(?:[^\"\\\\]|\\\\.)*\"|`[^`]*`|\\B'[^']*'\\B")
	hex           = regexp.MustCompile(`\b0x[0-9a-fA-F]+\b`)
	digits        = regexp.MustCompile(`[\pL\pN_.@+%:-]*\pN[\pL\pN_.@+%:-]*`)
	manyNs        = regexp.MustCompile(`\bN(?:[ ,;/]+N\b)+`)
	spaces        = regexp.MustCompile(`\s+`)
)

// Kind is a message as part of a signature: without numbers, addresses, quoted strings, and
// without what the calls of the record sent.
func Kind(rec *harness.Record, msg string) string { return kind(msg, sentValues(rec)) }

// kind turns a message into what is the same in every run: without numbers, addresses,
// quoted strings, and without what the calls sent.
func kind(msg string, sent []string) string {
	msg, _, _ = strings.Cut(msg[:min(len(msg), maxMessageBytes)], "\n")
	msg = recoveredNote.ReplaceAllString(strings.TrimSpace(msg), "")
	if rt, ok := strings.CutPrefix(msg, "runtime error: "); ok {
		msg, sent = rt, nil
		if strings.HasSuffix(msg, "nil pointer dereference") {
			return "nil pointer dereference"
		}
		if strings.Contains(msg, "out of range [") {
			msg, _, _ = strings.Cut(msg, " [")
		}
	}
	msg = strings.TrimPrefix(msg, "runtime: ")
	msg = quoted.ReplaceAllString(msg, `""`)
	for _, v := range sent {
		msg = mask(msg, v)
	}
	msg = hex.ReplaceAllString(msg, "")
	msg = digits.ReplaceAllStringFunc(msg, func(s string) string {
		// Punctuation at the end belongs to the sentence.
		return "N" + s[len(strings.TrimRight(s, ".:-")):]
	})
	msg = manyNs.ReplaceAllString(msg, "N")
	msg = strings.TrimSpace(spaces.ReplaceAllString(msg, " "))
	if r := []rune(msg); len(r) > maxKind {
		msg = strings.TrimSpace(string(r[:maxKind]))
	}
	if msg == "" {
		return "no message"
	}
	return msg
}

// mask replaces v by an underscore where it stands alone.
func mask(msg, v string) string {
	var b strings.Builder
	for {
		i := strings.Index(msg, v)
		if i < 0 {
			b.WriteString(msg)
			return b.String()
		}
		end := i + len(v)
		if i > 0 && word(msg[i-1]) && word(v[0]) || end < len(msg) && word(msg[end]) && word(v[len(v)-1]) {
			b.WriteString(msg[:end])
		} else {
			b.WriteString(msg[:i] + "_")
		}
		msg = msg[end:]
	}
}

func word(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// sentValues returns the texts that the calls sent, the longest first. Short ones are
// left out: they could be part of any sentence.
func sentValues(rec *harness.Record) []string {
	set := map[string]bool{}
	take := func(args harness.Args) {
		for _, a := range args {
			if t := strings.TrimSpace(a.Value.Text); len(t) >= 3 && a.Value.Form != harness.FormRef {
				set[t] = true
			}
		}
	}
	for _, s := range rec.Case.Steps {
		if s.Verb == harness.VerbCall {
			take(s.Args)
		}
	}
	for _, e := range rec.Events {
		if e.Kind == harness.Invoke {
			take(e.Args)
		}
	}
	out := make([]string, 0, len(set))
	for v := range set {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	return out
}
