package providers

import (
	"os"
	"slices"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// What another program has under the key that a Postgres would take is not touched.
func TestSharedMemoryOfAnotherIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	key := int(int32(info.Sys().(*syscall.Stat_t).Ino))
	id, err := unix.SysvShmGet(key, 56, unix.IPC_CREAT|unix.IPC_EXCL|0o600)
	if err != nil {
		t.Skip("no System V shared memory to be had: ", err)
	}
	defer unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	removeSharedMemory(dir)
	if now, err := unix.SysvShmGet(key, 0, 0); err != nil || now != id {
		t.Errorf("it is gone: %d, %v", now, err)
	}
	if ids := slices.Collect(segments(dir)); len(ids) > 0 {
		t.Errorf("taken for a Postgres's: %v", ids)
	}
}
