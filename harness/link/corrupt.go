package link

// harm changes the bytes that are about to pass as the toxics that corrupt say, and counts them.
// What several toxics flip in one byte is flipped once.
func (p *pipe) harm(b []byte) {
	toxics := p.flow().corrupt
	if len(toxics) == 0 {
		return
	}
	for i := range b {
		var mask byte
		for _, t := range toxics {
			if m := t.flips(p.conn.id, p.dir, p.sentOn+uint64(i)); m != 0 {
				t.acted.Add(1)
				mask |= m
			}
		}
		b[i] ^= mask
	}
}

// flips returns the bits that the toxic flips in the n-th byte of a connection's direction. They
// depend on its arguments alone: how a stream comes in chunks makes no difference.
func (t *toxic) flips(conn uint64, dir int, n uint64) (mask byte) {
	const harmed = 1 << 60 // no chunk has such an ordinal
	r := t.pcg(conn, dir, harmed|n)
	if float64(r.Uint64()>>11)/(1<<53) >= t.Corrupt {
		return 0
	}
	for left := t.Bits; left > 0; {
		if bit := byte(1) << (r.Uint64() >> 61); mask&bit == 0 {
			mask |= bit
			left--
		}
	}
	return mask
}
