package process

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/shakedown-go/shakedown/harness"
	"github.com/shakedown-go/shakedown/targets/child"
	"github.com/shakedown-go/shakedown/targets/spec"
)

// The gaps between two looks at a limit where the description gives none.
const (
	limitEvery   = spec.Duration(100 * time.Millisecond)
	requestEvery = spec.Duration(200 * time.Millisecond)
	requestTimes = 3
)

// steady returns the checks of the steady state that the description has.
func (s *System) steady() []harness.Steady {
	var out []harness.Steady
	for _, c := range s.file.Steady {
		look := s.answers(c.Request, c.Status, 0)
		out = append(out, harness.Steady{
			Check:  harness.Check{Name: c.Request, Look: look},
			Within: time.Duration(cmp.Or(c.Within, spec.DefaultWithin)),
		})
	}
	return out
}

// answers is the check that a request is answered with a status, or below 400 where that is
// 0; within is a bound for one look, 0 is its caller's. What is not there, or is not told to
// those who do not say who they are, is not looked at.
func (s *System) answers(request string, status int, within time.Duration) func(context.Context, harness.World) error {
	return func(ctx context.Context, _ harness.World) error {
		if within > 0 {
			var cancel func()
			ctx, cancel = context.WithTimeout(ctx, within)
			defer cancel()
		}
		t := &http.Transport{DisableKeepAlives: true}
		defer t.CloseIdleConnections()
		return s.ask(ctx, t, request, func(is int) bool { return is == status || status == 0 && is < 400 })
	}
}

// limits returns what the description says that everything is to be aborted for.
func (s *System) limits() []harness.Limit {
	up := time.Now()
	var out []harness.Limit
	for _, a := range s.file.Abort {
		l := harness.Limit{Every: time.Duration(cmp.Or(a.Every, limitEvery)), Times: a.Times}
		switch {
		case a.Request != "":
			l.Every, l.Times = time.Duration(cmp.Or(a.Every, requestEvery)), cmp.Or(a.Times, requestTimes)
			l.Check = harness.Check{Name: a.Request, Look: s.answers(a.Request, 0, l.Every)}
		case a.Memory > 0:
			l.Check = harness.Check{Name: "memory", Look: func(_ context.Context, w harness.World) error {
				return w.(*instance).holds(int64(a.Memory))
			}}
		case a.Latency > 0:
			l.Name, l.Median = "latency", time.Duration(a.Latency)
		case a.Time > 0:
			l.Check = harness.Check{Name: "time", Look: func(context.Context, harness.World) error {
				if d := time.Duration(a.Time); time.Since(up) > d {
					return fmt.Errorf("%s are over", d)
				}
				return nil
			}}
		}
		out = append(out, l)
	}
	return out
}

// holds returns an error where the processes of the service have more than so many bytes
// resident. A service that is down has none.
func (i *instance) holds(most int64) error {
	now, _ := i.life()
	if now == nil {
		return nil
	}
	c, ok := now.unit.(*child.Child)
	if !ok {
		return errors.New("it is not measured of a container")
	}
	n, err := c.Resident()
	if err == nil && n > most {
		err = fmt.Errorf("the service has %.1f MiB resident, more than %.1f", float64(n)/(1<<20), float64(most)/(1<<20))
	}
	return err
}
