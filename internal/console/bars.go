package console

import (
	"fmt"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

const (
	refresh  = 120 * time.Millisecond
	barWidth = 24 // characters
	// patience is how long work goes on before a bar that does not stay is
	// shown at all: what is over at once only flickers.
	patience = time.Second
)

// A State is how far one piece of work is.
type State struct {
	Pages int
	Rows  int
	Done  int // of Total
	Total int
	Left  time.Duration // until it is done; negative while that is not known
}

// Bars are progress bars, one for each named piece of work. It is safe for
// concurrent use.
type Bars struct {
	screen *Screen
	keep   bool

	mu       sync.Mutex
	progress *mpb.Progress // nil while no bar is shown
	lines    map[string]*line
	shown    int // bars that have not ended
}

// NewBars returns Bars on a screen. With keep they stay there when their work
// is done; without, they show up for work that takes longer and then vanish.
func NewBars(screen *Screen, keep bool) *Bars {
	return &Bars{screen: screen, keep: keep, lines: map[string]*line{}}
}

// Set shows how far the named work is.
func (b *Bars) Set(name string, s State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.lines[name]
	if !ok {
		l = &line{name: name, began: time.Now()}
		b.lines[name] = l
	}
	l.update(s)
	if l.bar == nil && (b.keep || time.Since(l.began) > patience) {
		b.add(l)
	}
	if l.bar != nil {
		l.bar.SetTotal(int64(s.Total), false)
		l.bar.SetCurrent(int64(s.Done))
	}
}

// End ends the named work. What it is called that time is shown behind its bar.
func (b *Bars) End(name, as string, s State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, ok := b.lines[name]
	if !ok {
		return
	}
	delete(b.lines, name)
	l.update(s)
	l.finish(as)
	if l.bar == nil {
		return
	}
	if s.Done >= s.Total {
		l.bar.SetTotal(int64(s.Total), false)
		l.bar.SetCurrent(int64(s.Total))
		l.bar.SetTotal(-1, true)
	} else {
		l.bar.Abort(!b.keep)
	}
	if b.shown--; b.shown == 0 && !b.keep {
		b.screen.hide()
		b.progress = nil
	}
}

// Close ends all bars and leaves the screen to others.
func (b *Bars) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, l := range b.lines {
		l.finish("stopped")
		if l.bar != nil {
			l.bar.Abort(!b.keep)
		}
		delete(b.lines, name)
	}
	b.screen.hide()
	b.progress, b.shown = nil, 0
}

func (b *Bars) add(l *line) {
	if b.progress == nil {
		b.progress = b.screen.show()
	}
	b.shown++
	l.bar = b.progress.New(0, mpb.BarStyle().Lbound("").Rbound("").Filler("█").Tip("█").Padding("░"),
		mpb.BarWidth(barWidth),
		mpb.BarOptional(mpb.BarRemoveOnComplete(), !b.keep),
		mpb.PrependDecorators(decor.Name(Clean(l.name), decor.WCSyncSpaceR)),
		mpb.AppendDecorators(
			decor.Any(l.percent, decor.WCSyncSpace),
			decor.Any(l.pages, decor.WCSyncSpace),
			decor.Any(l.rows, decor.WCSyncSpace),
			decor.Any(l.speed, decor.WCSyncSpace),
			decor.Any(l.left, decor.WCSyncSpace),
		))
}

// A line is one bar and the words behind it, which the drawing goroutine asks
// for.
type line struct {
	name  string
	began time.Time
	bar   *mpb.Bar // nil until it is shown

	mu    sync.Mutex
	state State
	since time.Time // when state was set
	pace  Pace
	took  time.Duration // until it ended; 0 while it goes on
	ended string        // what became of the work then
}

func (l *line) update(s State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state, l.since = s, time.Now()
	l.pace.Add(l.since, s.Rows)
}

func (l *line) finish(as string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = max(time.Since(l.began), time.Millisecond)
	l.ended = fmt.Sprintf("%s after %s", as, Span(l.took))
}

func (l *line) percent(decor.Statistics) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Total <= 0 {
		return ""
	}
	return fmt.Sprintf("%d%%", 100*l.state.Done/l.state.Total)
}

func (l *line) pages(decor.Statistics) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state.Pages == 1 {
		return "1 page"
	}
	return Count(int64(l.state.Pages)) + " pages"
}

func (l *line) rows(decor.Statistics) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Count(int64(l.state.Rows)) + " rows"
}

func (l *line) speed(decor.Statistics) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.took > 0 {
		return Count(int64(float64(l.state.Rows)/l.took.Seconds())) + " rows/s"
	}
	return Count(int64(l.pace.RowsPerSecond())) + " rows/s"
}

func (l *line) left(decor.Statistics) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.took > 0 {
		return l.ended
	}
	if l.state.Left < 0 {
		return "time left unknown"
	}
	left := max(l.state.Left-time.Since(l.since), 0) // news may be seconds apart
	return Span(left.Round(time.Second)) + " left"
}
