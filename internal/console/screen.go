// Package console is what people see on a terminal: progress bars, tables, and
// numbers in the form people read.
//
// Its invariants: a log line written through a [Screen] never tears a bar, and
// no text that came from elsewhere reaches the terminal with control characters
// in it.
package console

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"polarmirror/internal/mirror"
)

const (
	barWidth = 24 // characters
	// patience is how long a walk goes on before a bar that does not stay is
	// shown at all: what is over at once only flickers.
	patience = time.Second
)

// A Screen is where logs, messages and the progress of walks go. What is written
// while bars are shown appears above them. It is a [mirror.Progress], and safe for
// concurrent use.
type Screen struct {
	out io.Writer

	mu      sync.Mutex
	walks   map[string]*walk // by organization
	visible bool             // as bars
	keep    bool             // the bars of walks that have ended
	bars    *mpb.Progress    // nil while no bar is shown
	shown   int              // bars that have not ended
}

// NewScreen returns a Screen that writes to out.
func NewScreen(out io.Writer) *Screen { return &Screen{out: out, walks: map[string]*walk{}} }

// ShowBars shows walks as bars from now on. With keep a bar stays when its walk has
// ended; without, it shows up for walks that take longer and then vanishes.
func (s *Screen) ShowBars(keep bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visible, s.keep = true, keep
}

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

// A walk is one that goes on.
type walk struct {
	began, since time.Time // since when it is where it is
	at           mirror.Position
	speed        Speed
	rate         float64  // rows a second
	bar          *mpb.Bar // nil until it is shown

	// text returns what stands behind the bar. The goroutine that draws asks for
	// it, so it reads nothing that may change.
	text atomic.Pointer[func() string]
}

// Walking implements [mirror.Progress].
func (s *Screen) Walking(organization string, at mirror.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	w := s.walks[organization]
	if w == nil {
		w = &walk{began: now}
		s.walks[organization] = w
	}
	w.at, w.since, w.rate = at, now, w.speed.Add(now, at.Rows)
	w.describe(func() string {
		if at.Left < 0 {
			return "time left unknown"
		}
		return Span(timeLeft(at, now)) + " left"
	})
	if s.visible && w.bar == nil && (s.keep || now.Sub(w.began) > patience) {
		s.show(organization, w)
	}
	w.draw()
}

// timeLeft is how long a walk will take from now on that was at a position some time
// ago: pages may be seconds apart.
func timeLeft(at mirror.Position, since time.Time) time.Duration {
	return max(at.Left-time.Since(since), 0).Round(time.Second)
}

// Walked implements [mirror.Progress].
func (s *Screen) Walked(organization string, at mirror.Position, err error) {
	outcome := "done"
	switch {
	case errors.Is(err, mirror.ErrStopped):
		outcome = "stopped"
	case err != nil:
		outcome = "failed"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.walks[organization]; w != nil {
		w.at = at
		s.end(organization, w, outcome)
	}
}

// A Walk is where a walk is, with the time that is left now.
type Walk struct {
	Organization string
	mirror.Position
	Rate float64 // rows a second
}

// Walks returns the walks that go on.
func (s *Screen) Walks() []Walk {
	s.mu.Lock()
	defer s.mu.Unlock()
	var walks []Walk
	for organization, w := range s.walks {
		at := w.at
		if at.Left >= 0 {
			at.Left = timeLeft(at, w.since)
		}
		walks = append(walks, Walk{organization, at, w.rate})
	}
	return walks
}

// Close ends all bars and leaves the terminal to others.
func (s *Screen) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for organization, w := range s.walks {
		s.end(organization, w, "stopped")
	}
}

// describe sets the text behind the bar, which ends with ending.
func (w *walk) describe(ending func() string) {
	at, rate, percent, pages := w.at, w.rate, "", "pages"
	if at.Total > 0 {
		percent = fmt.Sprintf("%d%%", 100*(at.Total-at.Remaining)/at.Total)
	}
	if at.Pages == 1 {
		pages = "page "
	}
	text := func() string {
		return fmt.Sprintf(" %4s %6s %s %11s rows %9s rows/s  %s", percent,
			Count(int64(at.Pages)), pages, Count(int64(at.Rows)), Count(int64(rate)), ending())
	}
	w.text.Store(&text)
}

func (w *walk) draw() {
	if w.bar != nil {
		w.bar.SetTotal(int64(w.at.Total), false)
		w.bar.SetCurrent(int64(w.at.Total - w.at.Remaining))
	}
}

func (s *Screen) show(organization string, w *walk) {
	if s.bars == nil {
		s.bars = mpb.New(mpb.WithOutput(s.out), mpb.WithAutoRefresh())
	}
	s.shown++
	// With a total from the start, a bar would end there, though the total may grow.
	w.bar = s.bars.New(0, mpb.BarStyle().Lbound("").Rbound("").Filler("█").Tip("█").Padding("░"),
		mpb.BarWidth(barWidth),
		mpb.BarOptional(mpb.BarRemoveOnComplete(), !s.keep),
		mpb.PrependDecorators(decor.Name(Clean(organization), decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return (*w.text.Load())() }, decor.WCSyncSpaceR)))
}

func (s *Screen) end(organization string, w *walk, outcome string) {
	delete(s.walks, organization)
	took := max(time.Since(w.began), time.Millisecond)
	w.rate = float64(w.at.Rows) / took.Seconds()
	w.describe(func() string { return outcome + " after " + Span(took) })
	if w.bar == nil {
		return
	}
	w.draw()
	if w.at.Remaining <= 0 {
		w.bar.SetTotal(-1, true)
	} else {
		w.bar.Abort(!s.keep)
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
