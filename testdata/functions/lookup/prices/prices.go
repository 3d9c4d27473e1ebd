// Package prices looks prices up in a Redis.
package prices

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// Price is what an item costs.
type Price struct{ Cents int }

// Store is a Redis.
type Store struct {
	Addr string
	// Careless looks at the price even where asking for it has failed.
	Careless bool
}

// Label returns what stands on the shelf.
func (s Store) Label(item string) string {
	p, err := s.get(item)
	if err != nil && !s.Careless {
		return "ask at the desk"
	}
	return fmt.Sprintf("%d.%02d", p.Cents/100, p.Cents%100)
}

// get returns no price where there is an error. What the store does not have costs a euro.
func (s Store) get(item string) (*Price, error) {
	c, err := net.DialTimeout("tcp", s.Addr, time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(item), item); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(line, "$") {
		return nil, fmt.Errorf("unexpected answer %q", line)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(line[1:])); err != nil || n > 0 {
		return nil, fmt.Errorf("unexpected value of %d bytes: %v", n, err)
	}
	return &Price{Cents: 100}, nil
}
