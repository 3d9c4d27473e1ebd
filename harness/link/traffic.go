package link

// Traffic is what has come to a link from both sides since it was started, whatever became
// of it. What stands between two links can be told from what came to the one and not to the
// other.
type Traffic struct {
	Up, Down         int64 // bytes
	UpEnds, DownEnds int64 // streams that were ended by who sent them
	HungUp           int64 // connections that the side of the dependency ended first, or never took
}

// Traffic returns live counts. What has come is counted before it is passed on.
func (l *Link) Traffic() Traffic {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.gone
	for c := range l.conns {
		t.add(c)
	}
	return t
}

func (t *Traffic) add(c *conn) {
	t.Up += c.pipes[up].came.Load()
	t.Down += c.pipes[down].came.Load()
	if c.pipes[up].ended.Load() {
		t.UpEnds++
	}
	if c.pipes[down].ended.Load() {
		t.DownEnds++
	}
	if c.first.Load() == int32(down)+1 {
		t.HungUp++
	}
}
