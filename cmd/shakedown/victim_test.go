package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shakedown-go/shakedown/fuzz/engine"
	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/harness/store"
	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/container"
)

// victim is a command that was killed.
type victim struct {
	home, out string // its TMPDIR, and the directory for its results
	stdout    string
	moment    string
	last      string // of the files of a bug; "" where that depends
	killed    time.Time
	listeners []string // inodes of its tree's listening sockets
	memory    []string // ids of its tree's shared memory
	harness   string   // its identity; "" where it had not said it yet
	running   int      // processes, and
	stopped   int      // those that were stopped
	groups    int      // control groups
}

// member is a process of a victim's.
type member struct {
	pid, state, name string
	supervises       bool
}

// processes are those that have the victim's directory in their environment, or work in it.
func (v *victim) processes() (out []member) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		env, err := os.ReadFile(filepath.Join(dir, "environ"))
		if err != nil {
			continue
		}
		at, _ := os.Readlink(filepath.Join(dir, "cwd"))
		if !bytes.Contains(env, []byte(v.home)) && !strings.HasPrefix(at, v.home+"/") {
			continue
		}
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		open, shut := bytes.IndexByte(stat, '('), bytes.LastIndexByte(stat, ')')
		if state := string(stat[shut+2]); state != "Z" && state != "X" {
			out = append(out, member{filepath.Base(dir), state, string(stat[open+1 : shut]), bytes.Contains(env, []byte("SHAKEDOWN_TREE=supervisor"))})
		}
	}
	return out
}

// paused reports whether some of them are stopped.
func (v *victim) paused() bool {
	return slices.ContainsFunc(v.processes(), func(p member) bool { return p.state == "T" })
}

// look takes down what the victim has, a moment before it is killed.
func (v *victim) look() {
	listening := listening()
	var pids []string
	for _, p := range v.processes() {
		pids = append(pids, p.pid)
		v.running++
		if p.state == "T" {
			v.stopped++
		}
		fds, _ := filepath.Glob("/proc/" + p.pid + "/fd/*")
		for _, fd := range fds {
			to, _ := os.Readlink(fd)
			if inode := strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]"); slices.Contains(listening, inode) {
				v.listeners = append(v.listeners, inode)
			}
		}
	}
	dirs, _ := filepath.Glob(filepath.Join(v.home, "shakedown-*"))
	for _, dir := range dirs {
		if parts := strings.Split(filepath.Base(dir), "-"); len(parts) == 4 {
			v.harness = parts[1] + "-" + parts[2]
		}
	}
	v.groups = len(child.Groups(v.harness))
	for id, creator := range memory() {
		if slices.Contains(pids, creator) {
			v.memory = append(v.memory, id)
		}
	}
}

// listening returns the inodes of all sockets that listen.
func listening() (inodes []string) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		b, _ := os.ReadFile(table)
		for line := range strings.Lines(string(b)) {
			if f := strings.Fields(line); len(f) > 9 && f[3] == "0A" {
				inodes = append(inodes, f[9])
			}
		}
	}
	return inodes
}

// memory returns the ids of all shared memory, with who has made it.
func memory() map[string]string {
	out := map[string]string{}
	b, _ := os.ReadFile("/proc/sysvipc/shm")
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 4 {
			out[f[1]] = f[4]
		}
	}
	return out
}

// await waits until nothing is left, and says how long that took for the processes and
// what they listen at, and for all.
func (v *victim) await(t *testing.T) (left []string, processes, all time.Duration) {
	t.Helper()
	for {
		left = nil
		open := listening()
		for _, inode := range v.listeners {
			if slices.Contains(open, inode) {
				left = append(left, "a socket that listens: "+inode)
			}
		}
		supervised := false
		for _, p := range v.processes() {
			if p.supervises {
				supervised = true // it is there until all is gone
				continue
			}
			left = append(left, fmt.Sprintf("process %s %s (%s)", p.pid, p.state, p.name))
		}
		took := time.Since(v.killed)
		if len(left) == 0 && processes == 0 {
			processes = took
		}
		if supervised {
			left = append(left, "its supervisor")
		}
		dirs, _ := filepath.Glob(filepath.Join(v.home, "shakedown-*"))
		left = append(append(left, dirs...), child.Groups(v.harness)...)
		for _, id := range v.memory {
			if _, there := memory()[id]; there {
				left = append(left, "shared memory "+id)
			}
		}
		if len(left) == 0 { // only then is an engine asked: it takes a while
			if ids, err := container.Left(context.Background(), v.home); err == nil {
				left = append(left, ids...)
			}
		}
		if took = time.Since(v.killed); len(left) == 0 || took > leakBound {
			if processes == 0 {
				processes = took
			}
			return left, processes, took
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// clean removes what is left after all, so that a test that fails leaves nothing.
func (v *victim) clean() string {
	cmd := exec.Command("shakedown", "clean")
	cmd.Env = append(os.Environ(), "TMPDIR="+v.home)
	said, err := cmd.CombinedOutput()
	return fmt.Sprintf("shakedown clean: %v\n%s", err, said)
}

// findings looks for every finding that was printed, and reads all that is on disk.
func (v *victim) findings() (printed int, wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	said, err := os.ReadFile(v.stdout)
	if err != nil {
		say("%v", err)
	}
	runs, _ := filepath.Glob(filepath.Join(v.out, "2*"))
	for line := range strings.Lines(string(said)) {
		if told := regexp.MustCompile(`^(BUG   |seen  |unsure) `).MatchString(line); told {
			if printed++; len(runs) != 1 {
				say("printed, and %d runs are on disk: %s", len(runs), line)
			} else if !v.kept(store.Run{Dir: runs[0]}, strings.TrimSuffix(line, "\n")) {
				say("not on disk: %s", line)
			}
		}
	}
	_ = filepath.WalkDir(v.out, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || d.IsDir() && d.Name() == ".new":
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		if err := readable(path); err != nil {
			say("%s: %v", path, err)
		}
		return nil
	})
	return printed, wrong
}

// kept reports whether a run has the bug that a line tells of: its directory is named by the
// signature, which the line begins with.
func (v *victim) kept(run store.Run, line string) bool {
	for rest := line[len("unsure "):]; rest != ""; rest = rest[:len(rest)-1] {
		dir := run.BugDir(rest)
		entries, err := os.ReadDir(dir)
		if err != nil || len(entries) == 0 {
			continue
		}
		_, err = os.Stat(filepath.Join(dir, v.last))
		return err == nil
	}
	return false
}

// readable reads a file as who is to read it.
func readable(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	switch name := filepath.Base(path); {
	case strings.HasSuffix(name, ".case"):
		_, err = harness.ParseCase(b)
	case strings.HasSuffix(name, ".json"):
		err = json.Unmarshal(b, new(any))
	case name == "record.jsonl":
		_, err = harness.ReadRecord(bytes.NewReader(b))
	case name == "input.fuzz" || filepath.Base(filepath.Dir(path)) == "text":
		_, err = engine.Read(path)
	case strings.Contains(name, ".new") || strings.HasPrefix(name, ".tmp"):
		err = fmt.Errorf("what was being written is left")
	}
	return err
}
