package mirror

import "sync"

// A width is how many requests for pages may be in flight. While pages are as
// fast as usual it is what was configured. When they slow down it halves, since
// Polar has other things to do then than to be read; once they are fast again it
// grows by one each time that as many pages have come as are in flight. It is
// safe for concurrent use.
type width struct {
	mu   sync.Mutex
	most int
	now  int
	hold int // pages to see before it changes again: they were asked for under the old width
}

func newWidth(most int) *width { return &width{most: most, now: most} }

// current is how many requests may be in flight now, 1 at least.
func (w *width) current() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// observe notes that a page came, and whether pages are slow or calm now. It
// returns how the width changed.
func (w *width) observe(slow, calm bool) (from, to int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	from = w.now
	switch {
	case w.hold > 0:
		w.hold--
	case slow && w.now > 1:
		w.hold = w.now + levelPages
		w.now /= 2
	case calm && w.now < w.most:
		w.now++
		w.hold = w.now
	}
	return from, w.now
}
