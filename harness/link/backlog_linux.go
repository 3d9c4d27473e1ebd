package link

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shakedown-go/shakedown/harness"
)

// backlog is the queue of connections that a listener has not accepted. Linux drops every SYN to
// a listener while one connection more waits than its backlog says, and the backlog can be set
// anew at any time: it is made small, and connections of our own wait in it.
//
//	accepts as ever:    backlog 4096    waiting: -
//	while it is full:   backlog    1    waiting: ours, ours      a SYN is dropped, and counted
//
// A backlog of 0 with one of our own would do, too, but then the kernel takes each SYN for an
// attack, and logs that. It takes no privilege, which a socket filter needs on some kernels.
type backlog struct {
	ours   map[string]*net.TCPConn // our own ends of those that wait, by their addresses
	before int                     // the backlog while connections are accepted
}

const (
	little   = 1          // the backlog while it is full
	fillers  = little + 1 // so many connections fill it
	fillings = 32         // one succeeds if nobody connects in its midst
	fillTime = time.Second
)

// fill makes the kernel drop SYNs. Whoever has connected before is admitted, but not before that
// is done: who is served connects again. A connect that is answered right now may find nobody to
// hear that it has come about, as if that segment were lost. Where fill fails all is as before.
func (b *backlog) fill(ln *net.TCPListener, admit func(*net.TCPConn)) (err error) {
	if b.before, err = askable(ln); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.empty(ln, admit))
		}
	}()
	var aside []*net.TCPConn
	defer func() {
		for _, c := range aside {
			admit(c)
		}
	}()
	limit := time.Now().Add(fillTime)
	for range fillings {
		if err := resize(ln, b.before); err != nil {
			return err
		}
		for range fillers {
			if err := b.join(ln, limit); err != nil {
				return fmt.Errorf("fill the backlog: %w", err)
			}
		}
		if err := resize(ln, little); err != nil { // from now on none comes behind
			return err
		}
		ours, err := b.drain(ln, fillers, limit, func(c *net.TCPConn) { aside = append(aside, c) })
		if err != nil {
			return fmt.Errorf("fill the backlog: %w", err)
		}
		if ours {
			return b.full(ln)
		}
	}
	return errors.New("fill the backlog: others connect all the time")
}

// full returns an error where the kernel sees room.
func (b *backlog) full(ln *net.TCPListener) error {
	if n, most, err := waiting(ln); err != nil || n <= most {
		return errors.Join(err, fmt.Errorf("%d connections fill no backlog of %d: %w", n, most, harness.ErrNotHere))
	}
	return nil
}

// empty lets connections be accepted as before, and takes our own out.
func (b *backlog) empty(ln *net.TCPListener, admit func(*net.TCPConn)) error {
	if err := resize(ln, b.before); err != nil {
		return err
	}
	_, _ = b.drain(ln, 0, time.Now().Add(fillTime), admit) // what is left the accept loop comes to
	return nil
}

// join connects to the listener, and returns when that connection waits there.
func (b *backlog) join(ln *net.TCPListener, limit time.Time) (err error) {
	d := net.Dialer{Deadline: limit, KeepAlive: -1}
	s, err := d.Dial("tcp", ln.Addr().String())
	if err != nil {
		return err
	}
	c := s.(*net.TCPConn)
	if b.ours == nil {
		b.ours = map[string]*net.TCPConn{}
	}
	b.ours[c.LocalAddr().String()] = c
	defer func() {
		if err != nil { // it may never wait there
			delete(b.ours, c.LocalAddr().String())
			reset(c)
		}
	}()
	if _, err := c.Write([]byte{0}); err != nil {
		return err
	}
	for { // who acknowledges a byte is there
		info, err := tcpInfo(c)
		if err != nil || info.Unacked == 0 {
			return err
		}
		if time.Now().After(limit) {
			return fmt.Errorf("a connection of our own is not taken within %s", fillTime)
		}
		time.Sleep(50 * time.Microsecond)
	}
}

// drain accepts all that wait but the last so many, and admits those that are not ours. It
// reports whether all that are left are: connections are accepted in the order in which they
// came, and all of ours had.
func (b *backlog) drain(ln *net.TCPListener, keep int, limit time.Time, admit func(*net.TCPConn)) (ours bool, err error) {
	n, _, err := waiting(ln)
	if err != nil {
		return false, err
	}
	if err := ln.SetDeadline(limit); err != nil {
		return false, err
	}
	defer ln.SetDeadline(past)
	for ; n > keep; n-- {
		c, err := ln.AcceptTCP()
		if err != nil {
			return false, err
		}
		if !b.discard(c) {
			admit(c)
		}
	}
	return len(b.ours) == keep, nil
}

// discard ends an accepted connection if it is one of ours, and reports whether it was.
func (b *backlog) discard(c *net.TCPConn) bool {
	own := b.ours[c.RemoteAddr().String()]
	if own == nil {
		return false
	}
	delete(b.ours, c.RemoteAddr().String())
	reset(c)
	own.Close()
	return true
}

// close lets go of our own connections. The listener is closed.
func (b *backlog) close() {
	for _, c := range b.ours {
		reset(c)
	}
}

// askable returns the backlog of a listener whose kernel can be asked how many wait and how many
// SYNs it has dropped, and does no more than drop them. Of any other the error is
// harness.ErrNotHere.
func askable(ln *net.TCPListener) (int, error) {
	const overflow = "/proc/sys/net/ipv4/tcp_abort_on_overflow"
	text, err := os.ReadFile(overflow)
	switch {
	case err != nil:
		return 0, fmt.Errorf("whether SYNs are dropped is not known: %w: %w", err, harness.ErrNotHere)
	case strings.TrimSpace(string(text)) != "0":
		return 0, fmt.Errorf("the kernel answers instead of dropping SYNs: %s is %s: %w", overflow, strings.TrimSpace(string(text)), harness.ErrNotHere)
	}
	_, most, err := waiting(ln)
	if err == nil {
		_, err = drops(ln)
	}
	if errors.Is(err, net.ErrClosed) {
		return 0, err
	}
	if err != nil || most == 0 {
		return 0, errors.Join(err, fmt.Errorf("this kernel does not tell what becomes of SYNs: %w", harness.ErrNotHere))
	}
	return most, nil
}

// waiting returns how many connections wait to be accepted, and the backlog. The kernel tells that
// of listeners in fields which mean something else otherwise.
func waiting(ln *net.TCPListener) (n, most int, err error) {
	info, err := tcpInfo(ln)
	if err != nil {
		return 0, 0, err
	}
	return int(info.Unacked), int(info.Sacked), nil
}

func tcpInfo(c syscall.Conn) (info *unix.TCPInfo, err error) {
	err = control(c, func(fd int) error {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	return info, err
}

func resize(ln *net.TCPListener, backlog int) error {
	return control(ln, func(fd int) error { return os.NewSyscallError("listen", unix.Listen(fd, backlog)) })
}

// drops returns how many SYNs to a listener the kernel has dropped since it was opened, modulo
// 1<<32. It counts the last segments of handshakes with them for which the backlog had no room.
func drops(ln *net.TCPListener) (uint32, error) {
	const dropped = 8 // SK_MEMINFO_DROPS of linux/sock_diag.h, since Linux 4.12
	var words [dropped + 1]uint32
	size := uint32(unsafe.Sizeof(words))
	err := control(ln, func(fd int) error {
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
			uintptr(unsafe.Pointer(&words)), uintptr(unsafe.Pointer(&size)), 0)
		if errno != 0 {
			return os.NewSyscallError("getsockopt", errno)
		}
		return nil
	})
	if err == nil && size < uint32(unsafe.Sizeof(words)) {
		err = errors.New("the kernel does not count what it drops")
	}
	return words[dropped], err
}

// control does something with the file descriptor of a socket.
func control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = f(int(fd)) })
	return errors.Join(err, failed)
}
