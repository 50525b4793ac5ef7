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

// A Walk is where a walk is that goes on.
type Walk struct {
	Organization string
	mirror.Position
	Rate float64 // rows a second, since it began in this process
}

type walk struct {
	Walk
	began time.Time
	bar   *mpb.Bar               // nil until it is shown
	text  atomic.Pointer[string] // what stands behind the bar, for the goroutine that draws
}

// Walking implements [mirror.Progress].
func (s *Screen) Walking(organization string, at mirror.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.walks[organization]
	if w == nil {
		w = &walk{began: time.Now()}
		w.Organization = organization
		s.walks[organization] = w
	}
	left := "time left unknown"
	if at.Left >= 0 {
		left = Span(at.Left.Round(time.Second)) + " left"
	}
	w.move(at, left)
	if s.visible && w.bar == nil && (s.keep || time.Since(w.began) > patience) {
		s.show(w)
	}
	w.draw()
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
		s.end(w, at, outcome)
	}
}

// Walk returns where the organization's walk is, if one goes on.
func (s *Screen) Walk(organization string) (at mirror.Position, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.walks[organization]; w != nil {
		return w.Position, true
	}
	return at, false
}

// Walks returns the walks that go on.
func (s *Screen) Walks() []Walk {
	s.mu.Lock()
	defer s.mu.Unlock()
	var walks []Walk
	for _, w := range s.walks {
		walks = append(walks, w.Walk)
	}
	return walks
}

// Close ends all bars and leaves the terminal to others, even if walks go on.
func (s *Screen) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.visible = false
	for _, w := range s.walks {
		s.end(w, w.Position, "stopped")
	}
}

// move notes where the walk is; the text behind its bar ends with ending.
func (w *walk) move(at mirror.Position, ending string) {
	w.Position, w.Rate = at, float64(at.Rows)/max(time.Since(w.began), time.Millisecond).Seconds()
	percent, pages := "", "pages"
	if at.Total > 0 {
		percent = fmt.Sprintf("%d%%", 100*(at.Total-at.Remaining)/at.Total)
	}
	if at.Pages == 1 {
		pages = "page "
	}
	text := fmt.Sprintf(" %4s %6s %s %11s rows %9s rows/s  %s", percent,
		Count(int64(at.Pages)), pages, Count(int64(at.Rows)), Count(int64(w.Rate)), ending)
	w.text.Store(&text)
}

func (w *walk) draw() {
	if w.bar != nil {
		w.bar.SetTotal(int64(w.Total), false)
		w.bar.SetCurrent(int64(w.Total - w.Remaining))
	}
}

func (s *Screen) show(w *walk) {
	if s.bars == nil {
		s.bars = mpb.New(mpb.WithOutput(s.out), mpb.WithAutoRefresh())
	}
	s.shown++
	// With a total from the start, a bar would end there, though the total may grow.
	w.bar = s.bars.New(0, mpb.BarStyle().Lbound("").Rbound("").Filler("█").Tip("█").Padding("░"),
		mpb.BarWidth(barWidth),
		mpb.BarOptional(mpb.BarRemoveOnComplete(), !s.keep),
		mpb.PrependDecorators(decor.Name(Clean(w.Organization), decor.WCSyncSpaceR)),
		mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return *w.text.Load() }, decor.WCSyncSpaceR)))
}

func (s *Screen) end(w *walk, at mirror.Position, outcome string) {
	delete(s.walks, w.Organization)
	w.move(at, outcome+" after "+Span(time.Since(w.began)))
	if w.bar == nil {
		return
	}
	w.draw()
	if at.Remaining <= 0 {
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
