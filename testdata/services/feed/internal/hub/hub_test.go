package hub

import (
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
)

func TestSlowReaderIsDropped(t *testing.T) {
	t.Parallel()
	h := New(2, 3)
	slow, _ := h.Join("go")
	fast, _ := h.Join("go")
	if _, err := h.Join("go"); !errors.Is(err, ErrFull) {
		t.Errorf("a third reader: %v, want %v", err, ErrFull)
	}
	var got []string
	for i := range 5 {
		h.Publish("go", Message{ID: strconv.Itoa(i)})
		h.Publish("other", Message{ID: "none of theirs"})
		<-fast.Wake()
		batch, err := fast.Take()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range batch {
			got = append(got, m.ID)
		}
	}
	if want := []string{"0", "1", "2", "3", "4"}; !slices.Equal(got, want) {
		t.Errorf("the fast one got %v, want %v", got, want)
	}
	<-slow.Wake()
	if batch, err := slow.Take(); len(batch) != 3 || !errors.Is(err, ErrSlow) {
		t.Errorf("the slow one got %v, %v", batch, err)
	}
	slow.Leave()
	if now, dropped := h.Readers(); now != 1 || dropped != 1 {
		t.Errorf("%d readers and %d dropped, want 1 and 1", now, dropped)
	}
}

func TestCloseEndsReaders(t *testing.T) {
	t.Parallel()
	h := New(100, 4)
	var readers sync.WaitGroup
	for i := range 20 {
		r, err := h.Join(strconv.Itoa(i % 3))
		if err != nil {
			t.Fatal(err)
		}
		readers.Go(func() {
			defer r.Leave()
			for range r.Wake() {
				if _, err := r.Take(); err != nil {
					return
				}
			}
		})
	}
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for range 50 {
				h.Publish(strconv.Itoa(i), Message{})
			}
		})
	}
	writers.Wait()
	h.Close()
	readers.Wait()
	if now, _ := h.Readers(); now != 0 {
		t.Errorf("%d readers are left", now)
	}
	if _, err := h.Join("0"); !errors.Is(err, ErrClosed) {
		t.Errorf("joined a closed hub: %v", err)
	}
}
