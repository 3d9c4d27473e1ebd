package spec

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

var blank = regexp.MustCompile(`\{\{([^{}]*)\}\}`)

// Fill replaces the placeholders of a text of Service.Env or Service.Args. Value is asked
// for each by its name, such as listen or link.db.
func Fill(text string, value func(name string) string) string {
	return blank.ReplaceAllStringFunc(text, func(m string) string {
		return value(strings.TrimSpace(m[2 : len(m)-2]))
	})
}

// Uses reports whether a placeholder stands in Env or Args.
func (s Service) Uses(name string) bool {
	return slices.ContainsFunc(append(slices.Collect(maps.Values(s.Env)), s.Args...), func(text string) bool {
		return slices.Contains(placeholders(text), name)
	})
}

// placeholders returns the names of the placeholders in a text.
func placeholders(text string) []string {
	var out []string
	Fill(text, func(name string) string {
		out = append(out, name)
		return ""
	})
	return out
}
