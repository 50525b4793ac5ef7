package mirror

import (
	"math"
	"sync"
	"time"
)

// A latency is how long one organization's pages take, by how deep they lie. It
// is safe for concurrent use.
//
// Polar reads past all rows before a page, so a page at an offset takes
//
//	level * (base + perRow*offset)
//
// The part in parentheses is what is usual. base is measured by pages at the
// start of the list; both are corrected slowly by all others, each in proportion
// to its share in what such a page takes. level says how the last few pages
// compare to what is usual, and is about 1 while Polar is as it was; steady is
// the same over more pages. Of one page that takes very long nothing is learned
// but that it was slow.
type latency struct {
	mu     sync.Mutex
	base   float64 // seconds
	perRow float64 // seconds
	level  float64
	steady float64
	starts int // pages at the start of the list seen
	deep   int // and others
}

const (
	// usualBase and usualPerRow, in seconds, stand until pages were seen. Polar's
	// own query on 1,000,000 rows took 0.8 s at offset 100,000 and 6.8 s at 990,000.
	usualBase   = 0.2
	usualPerRow = 7e-6

	levelPages  = 16  // about so many pages make up level
	steadyPages = 96  // and steady
	usualPages  = 256 // and what is usual
	startPages  = 4   // of which so many at the start of the list
	// outlier is how many times what it was expected to take a page may count.
	outlier = 3
)

func newLatency() *latency {
	return &latency{base: usualBase, perRow: usualPerRow, level: 1, steady: 1}
}

// observe notes how long a page at offset took.
func (l *latency) observe(offset int, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	seconds := max(took.Seconds(), 1e-6)
	if offset == 0 {
		l.observeStart(seconds)
		return
	}
	l.deep++
	if l.deep == 1 {
		l.base = min(l.base, 0.9*seconds) // depth costs something
		l.perRow = (seconds - l.base) / float64(offset)
		return
	}
	usual := l.usual(offset)
	if l.deep > levelPages { // until then, what is usual is hardly known
		counts := min(seconds/usual, outlier*max(l.level, 1))
		l.level += (counts - l.level) / levelPages
		l.steady += (counts - l.steady) / steadyPages
		seconds = min(seconds, outlier*usual)
	}
	l.correct(offset, seconds)
}

// correct moves base and perRow a little towards a page at offset that took
// some seconds: at first in logarithms, since one odd page among a few must not
// count for what it took.
func (l *latency) correct(offset int, seconds float64) {
	usual := l.usual(offset)
	off := seconds/usual - 1
	if l.deep <= levelPages {
		off = math.Log(seconds / usual)
	}
	ofBase := l.base / usual
	ofDepth := 1 - ofBase
	step := off / min(float64(l.deep), usualPages) / (ofBase*ofBase + ofDepth*ofDepth)
	l.base *= math.Exp(step * ofBase)
	l.perRow *= math.Exp(step * ofDepth)
}

// doubtful reports whether a page at the start of the list should be measured:
// none was, or but one, which took so long that it may say more about the
// connection that was made for it.
func (l *latency) doubtful() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.starts == 0 || l.starts == 1 && l.base > 5*usualBase
}

// observeStart notes how long a page at offset 0 took.
func (l *latency) observeStart(seconds float64) {
	l.starts++
	switch l.starts {
	case 1:
		l.base = seconds
	case 2:
		l.base = min(l.base, seconds)
	default:
		l.base += (min(seconds, outlier*l.base) - l.base) / startPages
	}
}

// usual is what a page at offset takes when Polar is as it was, in seconds.
func (l *latency) usual(offset int) float64 { return l.base + l.perRow*float64(offset) }

// line returns what pages take now: start, and so much more for each row before
// them, in seconds. known is false until a page off the start was seen.
func (l *latency) line() (start, perRow float64, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.steady * l.base, l.steady * l.perRow, l.deep > 0
}

// slow reports whether the last pages around offset took well above what is
// usual, and calm whether they did not take much more.
func (l *latency) slow(offset int) (slow, calm bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	more := (l.level - 1) * l.usual(offset)
	return l.level > slowLevel && more > slowSeconds, l.level < calmLevel || more < slowSeconds/2
}

// Pages are slow if they take at least twice as long as usual and a quarter of a
// second more: less is noise, of the network or of this machine.
const (
	slowLevel   = 2
	calmLevel   = 1.5
	slowSeconds = 0.25
)

const (
	// patience is how many times what it is expected to take a page is waited for.
	patience = 6
	// maxWait bounds that. Polar's statements are cut off after half a minute.
	maxWait = 5 * time.Minute
)

// timeout is how long to wait for a page at offset.
func (l *latency) timeout(offset int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	seconds := patience * max(l.level, 1) * l.usual(offset)
	return time.Duration(min(seconds, maxWait.Seconds()) * float64(time.Second))
}
