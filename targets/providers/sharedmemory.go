//go:build linux || darwin

package providers

import (
	"encoding/binary"
	"iter"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// removeSharedMemory removes the System V segments by which a Postgres marks its data
// directory as in use: a killed one leaves one behind, and the system keeps only so many.
func removeSharedMemory(data string) {
	// Whoever still looks at a dead process's memory may hold it for a moment: then it
	// goes when they let go.
	for id := range segments(data) {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
}

// segmentKeys is how many keys are looked at. Postgres, since 13, counts them up from the
// directory's inode until it finds one that is free (src/backend/port/sysv_shmem.c).
const segmentKeys = 4

// segments returns the ids of the segments that say that they belong to a data directory.
// They say it from the start: a Postgres that was killed before it could write postmaster.pid
// has one, too, and what another's has under the same key is left alone.
func segments(data string) iter.Seq[int] {
	return func(yield func(int) bool) {
		info, err := os.Stat(data)
		if err != nil {
			return
		}
		stat := info.Sys().(*syscall.Stat_t)
		for key := range segmentKeys {
			id, err := unix.SysvShmGet(int(int32(stat.Ino+uint64(key))), 0, 0)
			if err == nil && marks(id, stat) && !yield(id) {
				return
			}
		}
	}
}

// pgMagic begins every segment of a Postgres, and its end are the device and the inode of
// the data directory: struct PGShmemHeader in src/include/storage/pg_shmem.h.
const pgMagic = 679834894

// marks reports whether a segment is a Postgres's, and names the directory.
func marks(id int, dir *syscall.Stat_t) bool {
	b, err := unix.SysvShmAttach(id, 0, unix.SHM_RDONLY)
	if err != nil {
		return false
	}
	defer func() { _ = unix.SysvShmDetach(b) }()
	if len(b) < 32 {
		return false
	}
	device, inode := b[len(b)-16:], b[len(b)-8:]
	of := binary.NativeEndian
	return of.Uint32(b) == pgMagic && of.Uint32(device) == uint32(dir.Dev) && of.Uint64(inode) == dir.Ino
}
