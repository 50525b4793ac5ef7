package mirror

import (
	"math"
	"sync"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/polar"
)

// A pace is what is known of how fast one organization's pages come. It outlives
// a walk, so that the next one begins with what this one learned. It is safe for
// concurrent use.
type pace struct {
	mu      sync.Mutex
	most    int       // requests in flight, as configured
	limit   int       // requests in flight now
	hold    int       // pages to see before limit changes again: they were asked for under the old one
	usual   average   // seconds that a page takes
	recent  average   // the same, of the last few pages
	between average   // seconds from one page to the next
	last    time.Time // when a page was last yielded; zero at the start of a stretch
}

func newPace(most int) *pace {
	return &pace{
		most:    most,
		limit:   most,
		usual:   average{over: usualPages},
		recent:  average{over: recentPages},
		between: average{over: betweenPages},
	}
}

const (
	// Averages are of about so many pages. What is usual follows slowly, since
	// deeper pages take longer, and so that Polar is spared for a while when it
	// slows down.
	usualPages   = 512
	recentPages  = 16
	betweenPages = 128

	// patience is how many times what it usually takes a page is waited for,
	// and maxTimeout bounds that. Polar cuts its statements off after 30 s.
	patience   = 6
	maxTimeout = 5 * time.Minute
	// Pages are slow if they take at least three times as long as usual and a
	// quarter of a second more: less is noise, of the network or of this machine,
	// or depth.
	slowFactor  = 3
	calmFactor  = 2
	slowSeconds = 0.25
)

// An average is a moving one: until there are over values, of all of them.
type average struct {
	over  float64
	n     float64
	value float64
}

func (a *average) add(v float64) {
	a.n = min(a.n+1, a.over)
	a.value += (v - a.value) / a.n
}

// concurrency is how many requests may be in flight now, 1 at least. While pages
// are as fast as usual it is what was configured. When they slow down it halves,
// since Polar has other things to do then than to be read; once they are fast
// again it grows by one each time that as many pages have come as are in flight.
func (p *pace) concurrency() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.limit
}

// observe learns how long the request for a page took.
func (p *pace) observe(log *zap.Logger, page listedPage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.limit
	p.add(page.Took.Seconds())
	fields := []zap.Field{zap.Int("page", page.page()), zap.Duration("latency", page.Took), zap.Int("requests_in_flight", p.limit)}
	switch {
	case p.limit < before:
		log.Warn("pages slow down, fewer requests in flight", fields...)
	case p.limit > before && p.limit == p.most:
		log.Info("pages are as fast as usual again", fields...)
	}
}

func (p *pace) add(seconds float64) {
	p.recent.add(seconds)
	more := p.recent.value - p.usual.value
	slow := p.usual.n >= recentPages && p.recent.value > slowFactor*p.usual.value && more > slowSeconds
	calm := p.recent.value < calmFactor*p.usual.value || more < slowSeconds/2
	p.usual.add(seconds)
	switch {
	case p.hold > 0:
		p.hold--
	case slow && p.limit > 1:
		p.hold = p.limit + recentPages
		p.limit /= 2
	case calm && p.limit < p.most:
		p.limit++
		p.hold = p.limit
	}
}

// timeout is how long to wait for a page; zero, if nothing is known, for the
// client's own.
func (p *pace) timeout() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return min(seconds(patience*max(p.usual.value, p.recent.value)), maxTimeout)
}

// restart forgets when a page was last yielded: what follows is a pause.
func (p *pace) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.last = time.Time{}
}

// yielded notes that a page is being worked on.
func (p *pace) yielded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.last.IsZero() {
		p.between.add(now.Sub(p.last).Seconds())
	}
	p.last = now
}

// left is how long so many pages take if they go on coming as they do now, or -1 if
// that is not known yet.
func (p *pace) left(pages float64) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.between.n == 0 {
		return -1
	}
	return seconds(p.between.value * pages)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// overlap is how many more requests a walk takes because its pages overlap, for
// pages of Polar's size; see cover.
const overlap = 1.14

func pagesOf(rows, pageSize int) float64 { return float64(rows) * overlap / float64(pageSize) }

// left is how long reading so many rows takes as it goes now, in sets or in overlapping
// pages; -1 if that is not known yet.
func (r *reader) left(rows int, inSets bool) time.Duration {
	pages := pagesOf(rows, r.pageSize())
	if inSets {
		pages = float64(rows) / setRows
	}
	return r.worker.pace.left(pages)
}

// perRow is how much longer a page takes for each row before it. Polar's own query on
// 1,000,000 rows took 0.8 s at offset 100,000 and 6.8 s at 990,000.
const perRow = 7 * time.Microsecond

// An Estimate foretells what a first load takes.
type Estimate struct {
	InFlight int           // requests side by side
	Interval time.Duration // between two requests at least: what the limiter dictates
	Start    time.Duration // what a page at an end of the list takes
}

// usualMeters is how many meters an organization is assumed to have, of which one is
// walked before its customers are swept.
const usualMeters = 4

// split is how many of so many rows are walked, and how many are read in sets.
func (e Estimate) split(rows int) (walked, inSets int) {
	if rows <= walkedRows {
		return rows, 0
	}
	return rows / usualMeters, rows
}

// Requests is how many requests a first load of so many rows takes.
func (e Estimate) Requests(rows int) int {
	walked, inSets := e.split(rows)
	return max(1, int(math.Ceil(pagesOf(walked, polar.MaxPageSize)+float64(inSets)/setRows)))
}

// Duration is how long a first load of so many rows takes. A walk reads from both ends, so
// that its average page lies a quarter of its list deep; sets are always near an end.
func (e Estimate) Duration(rows int) time.Duration {
	walked, inSets := e.split(rows)
	between := func(page time.Duration) float64 {
		return float64(max(e.Interval, page/time.Duration(max(e.InFlight, 1))))
	}
	walk := math.Ceil(pagesOf(walked, polar.MaxPageSize)) * between(e.Start+perRow*time.Duration(walked/4))
	return time.Duration(walk + math.Ceil(float64(inSets)/setRows)*between(e.Start))
}
