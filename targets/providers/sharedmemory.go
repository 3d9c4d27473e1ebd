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
func removeSharedMemory(data string) {
	// Whoever still looks at a dead process's memory may hold it for a moment: then it
	// goes when they let go.
	if id, there := segment(data); there {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
}

// segment returns the id of that segment. The seventh line of postmaster.pid holds its
// key and its id.
func segment(data string) (id int, there bool) {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return 0, false
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 7 {
		return 0, false
	}
	fields := strings.Fields(lines[6])
	if len(fields) != 2 {
		return 0, false
	}
	key, keyErr := strconv.ParseUint(fields[0], 10, 64)
	id, idErr := strconv.Atoi(fields[1])
	if keyErr != nil || idErr != nil {
		return 0, false
	}
	// The machine may have been started anew since, and the id be another's.
	now, err := unix.SysvShmGet(int(int32(key)), 0, 0)
	return id, err == nil && now == id
}
