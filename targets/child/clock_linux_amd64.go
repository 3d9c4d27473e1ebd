package child

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/shakedown-go/shakedown/harness"
)

// The time of day is read without a system call, from a page of code that the kernel maps into
// every process: the vDSO. A process has its own copy of that page as soon as somebody writes to
// it, as a debugger does for a breakpoint, and its forks inherit the copy. So the clock of a
// process is moved by a jump at the head of each of the three functions that tell the time of
// day, to code behind the end of the image that asks the kernel and adds to that. Neither the
// program nor its libraries are touched, the monotonic clock is not moved, and while nothing is
// moved the bytes are those of the kernel.

// image is a vDSO as the kernel maps it, the same in every process of the machine.
type image struct {
	bytes []byte
	at    int // of our code, behind what is used
	heads []head
}

// head is a function of the image and what stands in its place.
type head struct {
	name  string
	at    int    // in the image
	code  []byte // asks the kernel, and adds seconds
	added int    // where the seconds stand in code, in 8 bytes
}

// jumpSize is the length of the instruction that leads from a head to its code.
const jumpSize = 5

// codes are the functions that tell the time of day, by the ABI of Linux on amd64: what they
// take is in rdi and rsi, and they may leave anything in rcx.
func codes() []head {
	return []head{
		{name: "__vdso_clock_gettime", added: 22, code: []byte{
			0xb8, 228, 0, 0, 0, // mov eax, SYS_clock_gettime
			0x0f, 0x05, // syscall
			0x85, 0xc0, 0x75, 22, // it failed: return
			0x85, 0xff, 0x74, 5, // CLOCK_REALTIME: add
			0x83, 0xff, 0x05, 0x75, 13, // not CLOCK_REALTIME_COARSE: return
			0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, // add: mov rcx, seconds
			0x48, 0x01, 0x0e, // add [rsi], rcx
			0xc3,
		}},
		{name: "__vdso_gettimeofday", added: 18, code: []byte{
			0xb8, 96, 0, 0, 0, // mov eax, SYS_gettimeofday
			0x0f, 0x05, // syscall
			0x85, 0xc0, 0x75, 18, // it failed: return
			0x48, 0x85, 0xff, 0x74, 13, // only the time zone was asked for: return
			0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, // mov rcx, seconds
			0x48, 0x01, 0x0f, // add [rdi], rcx
			0xc3,
		}},
		{name: "__vdso_time", added: 9, code: []byte{
			0xb8, 201, 0, 0, 0, // mov eax, SYS_time
			0x0f, 0x05, // syscall
			0x48, 0xb9, 0, 0, 0, 0, 0, 0, 0, 0, // mov rcx, seconds
			0x48, 0x01, 0xc8, // add rax, rcx
			0x48, 0x85, 0xff, 0x74, 3, // nowhere to write it: return
			0x48, 0x89, 0x07, // mov [rdi], rax
			0xc3,
		}},
	}
}

// ownImage returns the vDSO of this process, which nobody moves the clock of.
func ownImage() (im image, err error) {
	from, to, err := vdso("self")
	if err != nil {
		return im, err
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		return im, err
	}
	defer mem.Close()
	im.bytes = make([]byte, to-from)
	if _, err := mem.ReadAt(im.bytes, from); err != nil {
		return im, err
	}
	return im, im.find()
}

// find finds the heads in the image, and room for their code.
func (im *image) find() error {
	f, err := elf.NewFile(bytes.NewReader(im.bytes))
	if err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("read the vDSO: %w", err)
	}
	size := 0
	for _, h := range codes() {
		for _, s := range symbols {
			if s.Name == h.name {
				h.at = int(s.Value)
			}
		}
		if h.at == 0 || h.at+jumpSize > len(im.bytes) {
			return fmt.Errorf("the vDSO has no %s", h.name)
		}
		im.heads = append(im.heads, h)
		size += len(h.code)
	}
	im.at = (len(bytes.TrimRight(im.bytes, "\x00")) + 63) &^ 63
	if im.at+size > len(im.bytes) {
		return errors.New("the vDSO has no room")
	}
	return nil
}

// moved returns the image by which a clock is so many seconds ahead.
func (im image) moved(seconds int64) []byte {
	out := bytes.Clone(im.bytes)
	if seconds == 0 {
		return out
	}
	at := im.at
	for _, h := range im.heads {
		copy(out[at:], h.code)
		binary.LittleEndian.PutUint64(out[at+h.added:], uint64(seconds))
		out[h.at] = 0xe9 // jmp
		binary.LittleEndian.PutUint32(out[h.at+1:], uint32(at-h.at-jumpSize))
		at += len(h.code)
	}
	return out
}

// vdso returns where the vDSO of a process lies.
func vdso(pid string) (from, to int64, err error) {
	maps, err := os.ReadFile("/proc/" + pid + "/maps")
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		if strings.HasSuffix(line, "[vdso]\n") {
			_, err := fmt.Sscanf(line, "%x-%x ", &from, &to)
			return from, to, err
		}
	}
	return 0, 0, errors.New("it has no vDSO")
}

// ClockFixed says why no clock can be moved on this system; nil where that is not so.
func ClockFixed() error {
	if _, err := ownImage(); err != nil {
		return fmt.Errorf("%w: %w", err, harness.ErrNotHere)
	}
	return nil
}

// SetClock has every process of the tree read a time of day that is so much ahead of the
// machine's, or behind it; 0 is the machine's. What they start from then on reads the same, but
// for programs that are executed anew. It returns how many processes that are. Seconds are what
// counts, fractions are left out. The tree stands still meanwhile, for some milliseconds; one
// that was paused before stays so. Where it can never be done the error is harness.ErrNotHere;
// processes of other users are touched by the privileged only.
func (c *Child) SetClock(ctx context.Context, ahead time.Duration) (n int, err error) {
	im, err := ownImage()
	if err != nil {
		return 0, fmt.Errorf("%w: %w", err, harness.ErrNotHere)
	}
	ctx, cancel := context.WithTimeout(ctx, killTime)
	defer cancel()
	for {
		n, busy, err := c.setClock(ctx, im, im.moved(int64(ahead/time.Second)))
		if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EIO) { // the latter where not even a debugger may write
			err = fmt.Errorf("%w: %w", err, harness.ErrNotHere)
		}
		if err == nil && busy {
			err = wait(ctx, poll)
			if err == nil {
				continue
			}
		}
		if err != nil {
			return 0, fmt.Errorf("move the clock of %s: %w", c.name, err)
		}
		return n, nil
	}
}

// setClock stops the tree, every thread of it, gives each process another image, and lets those
// go on that were not stopped before. It has to be tried again where a thread stands in the
// midst of what is overwritten.
func (c *Child) setClock(ctx context.Context, im image, image []byte) (n int, busy bool, err error) {
	paused := map[member]bool{}
	for _, m := range c.members() {
		paused[m.identity()] = m.state == 'T'
	}
	_, err = c.Pause(ctx)
	still := c.members() // of which none can start another
	defer func() {
		for _, m := range still {
			if !paused[m.identity()] {
				_ = m.signal(syscall.SIGCONT) // it may have ended by now
			}
		}
	}()
	if err != nil {
		return 0, false, err
	}
	for _, m := range still {
		for !m.still() {
			if err := wait(ctx, poll); err != nil {
				return n, false, fmt.Errorf("process %d does not stand still: %w", m.pid, err)
			}
		}
		switch busy, err := m.write(im, image); {
		case busy:
			return n, true, nil
		case err == nil:
			n++
		case !m.gone():
			return n, false, fmt.Errorf("process %d: %w", m.pid, err)
		}
	}
	return n, false, nil
}

// still reports whether every thread of a process has stopped.
func (m member) still() bool {
	return !slices.ContainsFunc(m.threads(), func(t member) bool { return !t.stopped() })
}

// threads returns the threads of a process.
func (m member) threads() (out []member) {
	dir := "/proc/" + strconv.Itoa(m.pid) + "/task/"
	entries, _ := os.ReadDir(dir) // it may have ended by now
	for _, e := range entries {
		b, err := os.ReadFile(dir + e.Name() + "/stat")
		if t, ok := parseStat(b); ok && err == nil && t.state != 'Z' && t.state != 'X' {
			out = append(out, t)
		}
	}
	return out
}

// gone reports whether a process has ended.
func (m member) gone() bool {
	now, there := readMember(m.pid)
	return !there || now.start != m.start || now.state == 'Z' || now.state == 'X'
}

// write gives a process that stands still another image, unless that has to wait.
func (m member) write(im image, image []byte) (busy bool, err error) {
	pid := strconv.Itoa(m.pid)
	from, to, err := vdso(pid)
	if err != nil {
		return false, err
	}
	mem, err := os.OpenFile("/proc/"+pid+"/mem", os.O_RDWR, 0)
	if err != nil {
		return false, err
	}
	defer mem.Close()
	// It is the machine's, but for what is ours.
	was := make([]byte, to-from)
	if _, err := mem.ReadAt(was, from); err != nil {
		return false, err
	}
	if len(was) != len(im.bytes) || !bytes.Equal(was[:elfHeader], im.bytes[:elfHeader]) {
		return false, fmt.Errorf("it is no program of this machine's kind: %w", harness.ErrNotHere)
	}
	if bytes.Equal(was, image) {
		return false, nil
	}
	for _, h := range im.heads {
		if m.within(from+int64(h.at)+1, from+int64(h.at)+jumpSize) {
			return true, nil
		}
	}
	// The code that the heads lead to comes first. It is left where the heads are the kernel's
	// again: a thread may still be there.
	if !bytes.Equal(image, im.bytes) {
		if err := overwrite(mem, from, image, im.at, len(image)-im.at); err != nil {
			return false, err
		}
	}
	for _, h := range im.heads {
		if err := overwrite(mem, from, image, h.at, jumpSize); err != nil {
			return false, err
		}
	}
	return false, nil
}

const elfHeader = 64 // bytes

// overwrite writes so many bytes of an image, and reads them back.
func overwrite(mem *os.File, from int64, image []byte, at, n int) error {
	part := image[at : at+n]
	if _, err := mem.WriteAt(part, from+int64(at)); err != nil {
		return err
	}
	got := make([]byte, n)
	if _, err := mem.ReadAt(got, from+int64(at)); err != nil {
		return err
	}
	if !bytes.Equal(got, part) {
		return errors.New("what was written is not there")
	}
	return nil
}

// within reports whether a thread of a process that stands still goes on at one of these
// addresses.
func (m member) within(from, to int64) bool {
	for _, t := range m.threads() {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(m.pid) + "/task/" + strconv.Itoa(t.pid) + "/syscall")
		fields := strings.Fields(string(b))
		if err != nil || len(fields) < 3 {
			continue
		}
		pc, err := strconv.ParseInt(strings.TrimPrefix(fields[len(fields)-1], "0x"), 16, 64)
		if err == nil && pc >= from && pc < to {
			return true
		}
	}
	return false
}
