// Package console is what people see on a terminal: progress bars, tables, and
// numbers in the form people read.
//
// Its invariants: a log line written through a [Screen] never tears a bar, and
// no text that came from elsewhere reaches the terminal with control characters
// in it. It knows nothing of Polar or of the mirror.
package console

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	barWidth = 24 // characters
	// patience is how long work goes on before a bar that does not stay is
	// shown at all: what is over at once only flickers.
	patience = time.Second
)

// A Screen is where logs, messages and progress bars go, one bar for each named
// piece of work. What is written while bars are shown appears above them. It is safe
// for concurrent use.
type Screen struct {
	out io.Writer

	mu    sync.Mutex
	works map[string]*work
	bars  *mpb.Progress // nil while no bar is shown
	shown int           // bars that have not ended
}

// NewScreen returns a Screen that writes to out.
func NewScreen(out io.Writer) *Screen { return &Screen{out: out, works: map[string]*work{}} }

// Write writes whole lines.
func (s *Screen) Write(lines []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bars != nil {
		// An error says that the bars are gone, by a panic in one of them say;
		// the line is still worth seeing.
		if n, err := s.bars.Write(lines); err == nil {
			return n, nil
		}
	}
	return s.out.Write(lines)
}

// Sync is for loggers: nothing is held back.
func (s *Screen) Sync() error { return nil }

// A State is how far one piece of work is.
type State struct {
	Pages int
	Rows  int
	Done  int // of Total
	Total int
	Left  time.Duration // until it is done; negative while that is not known
}

// A work is one piece of work that goes on.
type work struct {
	began time.Time
	speed Speed
	state State
	keep  bool
	bar   *mpb.Bar // nil until it is shown

	// text returns what stands behind the bar. The goroutine that draws asks for
	// it, so it reads nothing that may change.
	text atomic.Pointer[func() string]
}

// Set shows how far the named work is. With keep its bar stays when the work is
// done; without, it shows up for work that takes longer and then vanishes.
func (s *Screen) Set(name string, keep bool, state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.works[name]
	if w == nil {
		w = &work{began: time.Now(), keep: keep}
		s.works[name] = w
	}
	now := time.Now()
	w.update(state, w.speed.Add(now, state.Rows), func() string {
		if state.Left < 0 {
			return "time left unknown"
		}
		left := max(state.Left-time.Since(now), 0) // news may be seconds apart
		return Span(left.Round(time.Second)) + " left"
	})
	if w.bar == nil && (keep || time.Since(w.began) > patience) {
		s.show(name, w)
	}
	w.draw()
}

// End ends the named work. What became of it is shown behind its bar.
func (s *Screen) End(name, outcome string, state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.works[name]; w != nil {
		s.end(name, w, outcome, state)
	}
}

// Close ends all bars and leaves the terminal to others.
func (s *Screen) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, w := range s.works {
		s.end(name, w, "stopped", w.state)
	}
}

func (w *work) update(state State, rate float64, ending func() string) {
	w.state = state
	percent, pages := "", "pages"
	if state.Total > 0 {
		percent = fmt.Sprintf("%d%%", 100*state.Done/state.Total)
	}
	if state.Pages == 1 {
		pages = "page "
	}
	text := func() string {
		return fmt.Sprintf(" %4s %6s %s %11s rows %9s rows/s  %s", percent,
			Count(int64(state.Pages)), pages, Count(int64(state.Rows)), Count(int64(rate)), ending())
	}
	w.text.Store(&text)
}

func (w *work) draw() {
	if w.bar != nil {
		w.bar.SetTotal(int64(w.state.Total), false)
		w.bar.SetCurrent(int64(w.state.Done))
	}
}

func (s *Screen) show(name string, w *work) {
	if s.bars == nil {
		s.bars = mpb.New(mpb.WithOutput(s.out), mpb.WithAutoRefresh())
	}
	s.shown++
	// With a total from the start, a bar would end there, though the total may grow.
	w.bar = s.bars.New(0, mpb.BarStyle().Lbound("").Rbound("").Filler("█").Tip("█").Padding("░"),
		mpb.BarWidth(barWidth),
		mpb.BarOptional(mpb.BarRemoveOnComplete(), !w.keep),
		mpb.PrependDecorators(decor.Name(Clean(name), decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return (*w.text.Load())() }, decor.WCSyncSpaceR)))
}

func (s *Screen) end(name string, w *work, outcome string, state State) {
	delete(s.works, name)
	took := max(time.Since(w.began), time.Millisecond)
	w.update(state, float64(state.Rows)/took.Seconds(), func() string { return outcome + " after " + Span(took) })
	if w.bar == nil {
		return
	}
	w.draw()
	if state.Done >= state.Total {
		w.bar.SetTotal(-1, true)
	} else {
		w.bar.Abort(!w.keep)
	}
	// mpb loses lines that are written after the last bar has ended and before
	// Wait, so none may be written meanwhile.
	if s.shown--; s.shown == 0 {
		s.bars.Wait()
		s.bars = nil
	}
}

// speedWindow is the time over which speed is measured, at least: long enough to be
// steady, short enough to notice that some pages are slower than others.
const speedWindow = 8 * time.Second

// A Speed tells how fast work went lately. Its zero value is ready for use.
type Speed struct{ from, next point } // where the work was at the start of this window, and of the next

type point struct {
	at   time.Time
	rows int
}

// Add notes how many rows have been handled at a time and returns how many were so
// each second, over the last one or two windows; 0 if that is not known yet.
func (s *Speed) Add(at time.Time, rows int) float64 {
	now := point{at, rows}
	if s.from.at.IsZero() {
		s.from, s.next = now, now
	}
	if at.Sub(s.next.at) >= speedWindow {
		s.from, s.next = s.next, now
	}
	if passed := at.Sub(s.from.at); passed > 0 {
		return float64(rows-s.from.rows) / passed.Seconds()
	}
	return 0
}
