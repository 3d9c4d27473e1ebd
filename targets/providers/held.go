package providers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shakedown-go/shakedown/targets/container"
)

// Held names what stores hold beside their directories, and Bury removes: "container
// 1f2e3d4c5b6a", "shared memory 65538".
func Held(ctx context.Context, dir string) (names []string, err error) {
	servers, _ := os.ReadDir(dir)
	for _, s := range servers {
		for id := range segments(filepath.Join(dir, s.Name(), dataDir)) {
			names = append(names, fmt.Sprintf("shared memory %d", id))
		}
	}
	ids, err := container.Held(ctx, dir)
	for _, id := range ids {
		names = append(names, fmt.Sprintf("container %.12s", id))
	}
	return names, err
}
