package mirror

import (
	"context"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/fetch"
)

// A tempo is what a worker knows of how fast its pages come. It outlives a walk,
// so that the next one begins with what this one learned. latency and width are
// told by each request, the rest by the one who takes the pages.
type tempo struct {
	latency *latency
	width   *width

	came      time.Time // when the last page was taken; zero at the start of a descent
	ours      average   // seconds that each page is worked on after it was taken
	elapsed   average   // seconds between two pages
	explained average   // what an [Outlook] says that they should be

	resumed int // rows of the last walk if it was a resumed one, whose run is a part of it; else 0
}

func newTempo(inFlight int) *tempo {
	return &tempo{latency: newLatency(), width: newWidth(inFlight)}
}

// An average is one over about the last hundred values: enough for the rhythm
// of blocks and of requests that set out together to even out.
type average struct {
	sum, weight float64
}

const averagePages = 128

func (a *average) add(v float64) {
	a.sum += v - a.sum/averagePages
	a.weight += 1 - a.weight/averagePages
}

func (a *average) value() float64 {
	if a.weight == 0 {
		return 0
	}
	return a.sum / a.weight
}

// pageTaken notes that a page at offset is taken now.
func (w *worker) pageTaken(offset int) {
	t, now := w.tempo, time.Now()
	if !t.came.IsZero() {
		start, perRow, _ := t.latency.line()
		t.elapsed.add(now.Sub(t.came).Seconds())
		t.explained.add(w.outlook().gap(float64(offset), start, perRow))
	}
	t.came = now
}

// pageDone notes that the work on the page taken last is done.
func (w *worker) pageDone() { w.tempo.ours.add(time.Since(w.tempo.came).Seconds()) }

// pageCame notes how long the request for a page took.
func (w *worker) pageCame(page fetched) {
	t := w.tempo
	t.latency.observe(page.offset, page.Took)
	from, to := t.width.observe(t.latency.slow(page.offset))
	if to == from || to > from && to < t.width.most {
		return
	}
	fields := []zap.Field{zap.Int("page", page.page()), zap.Duration("latency", page.Took), zap.Int("requests_in_flight", to)}
	if to < from {
		w.log.Warn("pages slow down, fewer requests in flight", fields...)
	} else {
		w.log.Info("pages are as fast as usual again", fields...)
	}
}

// measureStart learns how long a page at the start of the list takes, if that is
// in doubt: deep ones alone do not tell.
func (w *worker) measureStart(ctx context.Context, client *fetch.Client) error {
	for w.tempo.latency.doubtful() {
		if _, err := w.listWalked(ctx, client, span{0, 1}); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) outlook() Outlook {
	ours := time.Duration(w.tempo.ours.value() * float64(time.Second))
	return Outlook{
		PageSize: w.opts.PageSize,
		InFlight: w.tempo.width.current(),
		Interval: max(w.org.Client.Interval(), ours),
	}
}

// walked notes the walk that has succeeded.
func (t *tempo) walked(rows int, resumed bool) {
	t.resumed = 0
	if resumed {
		t.resumed = rows
	}
}

// left is how long it takes to read what lies below an offset, or -1 if that is
// not known yet. What slows pages down besides the limiter, Polar and our own
// work (others with the same token, answers 429) is taken to go on.
func (w *worker) left(offset int) time.Duration {
	start, perRow, known := w.tempo.latency.line()
	if !known {
		return -1
	}
	t := w.tempo
	const trust = averagePages / 4 // in the outlook, before anything was measured
	factor := 1.0
	if gap := t.explained.value(); gap > 0 {
		factor = (t.elapsed.sum + trust*gap) / (t.explained.sum + trust*gap)
	}
	return time.Duration(factor * w.outlook().seconds(float64(offset), start, perRow) * float64(time.Second))
}
