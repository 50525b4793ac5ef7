package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/console"
	"polarmirror/internal/mirror"
)

// logEvery is how often a walk is logged where there are no bars.
const logEvery = 10 * time.Second

// newProgress returns how walks are shown: bars on a terminal, else lines in the
// log. With keep the bars stay there in the end.
func (p *program) newProgress(keep bool) mirror.Progress {
	if p.bars() {
		p.onClose("bars", func(context.Context) error {
			p.screen.Close()
			return nil
		})
		return barProgress{p.screen, keep}
	}
	l := &logProgress{log: p.log, walks: map[string]*loggedWalk{}}
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { l.watch(ctx) })
	p.onClose("progress", func(context.Context) error {
		cancel()
		watching.Wait()
		return nil
	})
	return l
}

// barProgress shows walks as bars.
type barProgress struct {
	screen *console.Screen
	keep   bool // the bars, in the end
}

func (b barProgress) Walking(organization string, at mirror.Position) {
	b.screen.Set(organization, b.keep, state(at))
}

func (b barProgress) Walked(organization string, at mirror.Position, err error) {
	as := "done"
	switch {
	case errors.Is(err, mirror.ErrStopped):
		as = "stopped"
	case err != nil:
		as = "failed"
	}
	b.screen.End(organization, as, state(at))
}

func state(at mirror.Position) console.State {
	return console.State{Pages: at.Pages, Rows: at.Rows, Done: at.Total - at.Remaining, Total: at.Total, Left: at.Left}
}

// logProgress logs now and then where each walk is.
type logProgress struct {
	log *zap.Logger

	mu    sync.Mutex
	walks map[string]*loggedWalk
}

type loggedWalk struct {
	at    mirror.Position
	since time.Time // when it was there
	speed console.Speed
	rate  float64 // rows a second
}

func (l *logProgress) Walking(organization string, at mirror.Position) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := l.walks[organization]
	if !ok {
		w = &loggedWalk{}
		l.walks[organization] = w
	}
	w.at, w.since = at, time.Now()
	w.rate = w.speed.Add(w.since, at.Rows)
}

func (l *logProgress) Walked(organization string, _ mirror.Position, _ error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.walks, organization)
}

func (l *logProgress) watch(ctx context.Context) {
	ticker := time.NewTicker(logEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			l.report()
		}
	}
}

func (l *logProgress) report() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, w := range l.walks {
		fields := []zap.Field{
			zap.String("organization", name),
			zap.Int("pages", w.at.Pages),
			zap.Int("rows", w.at.Rows),
			zap.Int("remaining", w.at.Remaining),
			zap.Float64("rows_per_second", float64(int(w.rate))),
		}
		if w.at.Left >= 0 {
			left := max(w.at.Left-time.Since(w.since), 0) // pages may be seconds apart
			fields = append(fields, zap.Duration("time_left", left.Round(time.Second)))
		}
		l.log.Info("walk under way", fields...)
	}
}
