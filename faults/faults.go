// Package faults lists the ways in which a target can be disturbed. To add one, write a
// file in the package of its kind and a line here.
package faults

import (
	"github.com/shakedown-go/shakedown/faults/clock"
	"github.com/shakedown-go/shakedown/faults/dep"
	"github.com/shakedown-go/shakedown/faults/net"
	"github.com/shakedown-go/shakedown/faults/proc"
	"github.com/shakedown-go/shakedown/harness"
)

// All returns every fault, sorted by name.
func All() []*harness.Fault {
	return []*harness.Fault{
		clock.Jump,
		dep.ClientKill,
		dep.ClientPause,
		dep.ConnLimit,
		dep.Crash,
		dep.Failover,
		dep.MasterDown,
		dep.NoReplicas,
		dep.OOM,
		dep.Standby,
		dep.ReadOnly,
		dep.Terminate,
		net.AcceptClose,
		net.AcceptHang,
		net.Bandwidth,
		net.Blackhole,
		net.ConnCap,
		net.Corrupt,
		net.Cut,
		net.Down,
		net.FIN,
		net.Flap,
		net.HalfClose,
		net.Latency,
		net.Loss,
		net.Profile,
		net.Refuse,
		net.RST,
		net.Slice,
		net.SlowClose,
		net.Stall,
		net.SynDrop,
		net.Timeout,
		proc.CPU,
		proc.Files,
		proc.Kill,
		proc.Memory,
		proc.Pause,
		proc.Restart,
		proc.Slow,
	}
}

// ByName returns the fault of that name, or nil.
func ByName(name string) *harness.Fault {
	for _, f := range All() {
		if f.Name == name {
			return f
		}
	}
	return nil
}
