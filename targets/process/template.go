package process

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var placeholder = regexp.MustCompile(`\{\{([^{}]*)\}\}`)

// names returns the names of the placeholders in a text.
func names(text string) []string {
	var out []string
	for _, m := range placeholder.FindAllStringSubmatch(text, -1) {
		out = append(out, strings.TrimSpace(m[1]))
	}
	return out
}

// fill replaces the placeholders of a text: link says where a dependency's link listens.
func (s *System) fill(text, bugs string, link func(name string) string) (string, error) {
	var bad error
	out := placeholder.ReplaceAllStringFunc(text, func(m string) string {
		name := strings.TrimSpace(m[2 : len(m)-2])
		dep, isLink := strings.CutPrefix(name, "link.")
		_, known := s.file.Dependencies[dep]
		switch {
		case name == "listen" && s.port == nil: // before the start: only the form is checked
			return ""
		case name == "listen":
			return s.port.Addr()
		case name == "bugs":
			return bugs
		case name == "dir":
			return s.file.Dir
		case isLink && known:
			return link(dep)
		}
		if bad == nil {
			ways := []string{"{{listen}}", "{{bugs}}", "{{dir}}"}
			for _, d := range slices.Sorted(maps.Keys(s.file.Dependencies)) {
				ways = append(ways, "{{link."+d+"}}")
			}
			bad = fmt.Errorf("%s is not known; there are: %s", m, strings.Join(ways, ", "))
		}
		return m
	})
	return out, bad
}
