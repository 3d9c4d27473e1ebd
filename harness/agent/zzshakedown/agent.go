// Package zzshakedown is the agent of shakedown: it is built into the service under test
// by an overlay, without a change to the service's source, and answers the harness on a
// unix socket. Where SHAKEDOWN_AGENT is not set it does nothing at all.
//
// It is compiled as a part of the service, in the version of the language that the
// service's go.mod asks for: it uses the standard library only, no generics, and nothing
// that is younger than Go 1.20 without a build tag that says so.
package zzshakedown

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	maxQuestion = 64 << 10
	maxDump     = 64 << 20
)

func init() {
	socket := os.Getenv("SHAKEDOWN_AGENT")
	if socket == "" {
		return
	}
	os.Unsetenv("SHAKEDOWN_AGENT")
	streams := standard()
	alive, crash := inherited("SHAKEDOWN_ALIVE_FD"), inherited("SHAKEDOWN_CRASH_FD")
	if alive != nil {
		go outlive(alive)
	}
	features := []string{"goroutines", "flush", "census", "leaks", "heap"}
	if pprof.Lookup("goroutineleak") != nil {
		features = append(features, "goroutineleak")
	}
	if crash != nil && setCrashOutput(crash) == nil {
		features = append(features, "crash")
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return // no handshake: the harness sees a black box, and says so
	}
	hello, err := json.Marshal(struct {
		PID      int      `json:"pid"`
		Go       string   `json:"go"`
		Race     bool     `json:"race"`
		Features []string `json:"features"`
	}{os.Getpid(), runtime.Version(), race, features})
	if err != nil {
		return
	}
	go accept(l, hello, streams)
}

// inherited returns the file whose descriptor the variable names, and keeps both from
// what the service itself starts.
func inherited(name string) *os.File {
	fd, err := strconv.Atoi(os.Getenv(name))
	os.Unsetenv(name)
	if err != nil || fd < 3 {
		return nil
	}
	syscall.CloseOnExec(fd)
	// Pollable, so that waiting on it takes no thread.
	if syscall.SetNonblock(fd, true) != nil {
		return nil
	}
	return os.NewFile(uintptr(fd), name)
}

// outlive ends the process, and its group where that is its own, when the harness has
// gone without a word: then the other end of the pipe is closed.
func outlive(alive *os.File) {
	_, _ = alive.Read(make([]byte, 1))
	if syscall.Getpgrp() == os.Getpid() {
		_ = syscall.Kill(-os.Getpid(), syscall.SIGKILL)
	}
	os.Exit(3)
}

func accept(l net.Listener, hello []byte, streams []stream) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of descriptors, perhaps: the harness may be the cause
			time.Sleep(10 * time.Millisecond)
			continue
		}
		go serve(c, hello, streams)
	}
}

// serve says hello and then answers questions. A frame is a length of four bytes, big
// end first, and so many bytes; an answer begins with '+', or with '-' and an error.
func serve(c net.Conn, hello []byte, streams []stream) {
	defer c.Close()
	if write(c, '+', hello) != nil {
		return
	}
	for {
		var head [4]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > maxQuestion {
			return
		}
		question := make([]byte, n)
		if _, err := io.ReadFull(c, question); err != nil {
			return
		}
		sign, text := answer(string(question), streams)
		if write(c, sign, text) != nil {
			return
		}
	}
}

func write(c net.Conn, sign byte, text []byte) error {
	head := binary.BigEndian.AppendUint32(make([]byte, 0, 5), uint32(len(text)+1))
	_, err := (&net.Buffers{append(head, sign), text}).WriteTo(c)
	return err
}

func answer(question string, streams []stream) (sign byte, text []byte) {
	verb, arg, _ := strings.Cut(question, " ")
	switch verb {
	case "goroutines":
		return '+', goroutines(1 << 20)
	case "census":
		return '+', census(arg == "heap")
	case "heap":
		return '+', heap()
	case "leaks":
		return '+', leaks()
	case "flush":
		return '+', flush(arg, streams)
	}
	return '-', []byte("the agent does not know " + strconv.Quote(verb))
}

// goroutines returns the stacks of all goroutines, with what they wait for. It tries a buffer
// of that size first.
func goroutines(size int) []byte {
	for ; ; size *= 2 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, true); n < size || size >= maxDump {
			return buf[:n]
		}
	}
}

// stream is where the process prints: a descriptor, and the file that it leads to.
type stream struct {
	lane string
	fd   int
	file syscall.Stat_t
}

// standard returns the streams that the process was started with.
func standard() []stream {
	var out []stream
	for _, s := range []stream{{lane: "stdout", fd: 1}, {lane: "stderr", fd: 2}} {
		if syscall.Fstat(s.fd, &s.file) == nil {
			out = append(out, s)
		}
	}
	return out
}

// same reports whether the descriptor still leads to the same file. A service may close it,
// and get the number again for a connection: what is written there is somebody else's.
func (s stream) same() bool {
	var now syscall.Stat_t
	return syscall.Fstat(s.fd, &now) == nil && now.Dev == s.file.Dev && now.Ino == s.file.Ino
}

// flush writes the token to standard output and standard error, so that whoever reads
// them knows that all before it has been read. It returns the streams that took it.
func flush(token string, streams []stream) []byte {
	var took []string
	line := []byte(token + "\n")
	for _, s := range streams {
		if len(line) > 512 || !s.same() { // within PIPE_BUF a write is not torn
			continue
		}
		n, err := syscall.Write(s.fd, line)
		for tries := 0; tries < 100 && (err == syscall.EINTR || err == syscall.EAGAIN); tries++ {
			time.Sleep(time.Millisecond)
			n, err = syscall.Write(s.fd, line)
		}
		if err == nil && n == len(line) {
			took = append(took, s.lane)
		}
	}
	return []byte(strings.Join(took, " "))
}
