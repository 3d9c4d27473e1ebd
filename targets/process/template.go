package process

import (
	"strings"

	"github.com/shakedown-go/shakedown/targets/spec"
)

// fill replaces the placeholders of a text, which are those that a description may have.
func (i *instance) fill(text string) string {
	return spec.Fill(text, func(name string) string {
		switch name {
		case "listen":
			return i.s.port.Addr()
		case "port":
			return i.s.port.Addr()[strings.LastIndexByte(i.s.port.Addr(), ':')+1:]
		case "bugs":
			return i.bugs
		case "dir":
			return i.s.file.Dir
		}
		return i.env.links[strings.TrimPrefix(name, "link.")].Addr()
	})
}
