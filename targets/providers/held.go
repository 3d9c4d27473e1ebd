package providers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shakedown-go/shakedown/harness/journal"
	"github.com/shakedown-go/shakedown/targets/container"
)

// Held names what stores hold beside their directories, and Bury removes or undoes: "container
// 1f2e3d4c5b6a", "shared memory 65538", "changed settings of the redis at 127.0.0.1".
func Held(ctx context.Context, dir string) (names []string, err error) {
	servers, _ := os.ReadDir(dir)
	for _, s := range servers {
		for id := range segments(filepath.Join(dir, s.Name(), dataDir)) {
			names = append(names, fmt.Sprintf("shared memory %d", id))
		}
	}
	notes, unread := journal.Read(dir)
	for _, n := range notes {
		name := "changed settings of a " + n.Engine
		if e, known := engines()[n.Engine]; known && e.host != nil {
			if host, err := e.host(n.URL); err == nil {
				name = fmt.Sprintf("changed settings of the %s at %s", n.Engine, host)
			}
		}
		names = append(names, name)
	}
	ids, err := container.Held(ctx, dir)
	for _, id := range ids {
		names = append(names, fmt.Sprintf("container %.12s", id))
	}
	return names, errors.Join(unread, err)
}
