//go:build linux || darwin

package providers

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// removeSharedMemory removes the System V segment by which a Postgres marks its data
// directory as in use: a killed one leaves it behind, and the system keeps only so many.
// The seventh line of postmaster.pid holds its key and its id.
func removeSharedMemory(data string) {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 7 {
		return
	}
	fields := strings.Fields(lines[6])
	if len(fields) != 2 {
		return
	}
	key, keyErr := strconv.ParseUint(fields[0], 10, 64)
	id, idErr := strconv.Atoi(fields[1])
	if keyErr != nil || idErr != nil {
		return
	}
	// The machine may have been started anew since, and the id be another's.
	if now, err := unix.SysvShmGet(int(int32(key)), 0, 0); err != nil || now != id {
		return
	}
	// Whoever still looks at a dead process's memory may hold it for a moment: then it
	// goes when they let go.
	_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
}
