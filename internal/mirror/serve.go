package mirror

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"
)

const (
	// maintainEvery is how often partitions are made ahead and old runs forgotten.
	maintainEvery = 6 * time.Hour
	// abandonInterval is how often runs of dead processes are looked for that nobody
	// takes over.
	abandonInterval = time.Minute
)

// Schedules say when runs are due; nil means never.
type Schedules struct {
	Incremental, Full cron.Schedule
	RunOnStart        bool // run what is overdue at once
}

// Serve runs every organization on its schedules until ctx ends, and then
// waits for the runs under way to save their blocks. Any number of processes
// may serve one database.
func (m *Mirror) Serve(ctx context.Context, schedules Schedules) error {
	places, spread := make(chan struct{}, m.opts.Concurrency), newSpread()
	var working sync.WaitGroup
	for _, org := range m.opts.Organizations {
		s := newServer(m.worker(org), places, spread, schedules)
		working.Go(func() { s.serve(ctx, schedules.RunOnStart) })
	}
	working.Go(func() { m.maintain(ctx) })
	working.Wait()
	m.lastNotices(ctx)
	return nil
}

// lastNotices waits until listeners were told of all changes, not for long once
// ctx has ended.
func (m *Mirror) lastNotices(ctx context.Context) {
	if m.notices == nil {
		return
	}
	limit := noticeTime
	if ctx.Err() != nil {
		limit = noticeStopTime
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	m.notices.drain(ctx)
}

// maintain sees to what belongs to no organization's worker. All replicas do, at
// different moments.
func (m *Mirror) maintain(ctx context.Context) {
	maintained := time.Now() // by Migrate
	for sleep(ctx, abandonInterval/2+rand.N(abandonInterval)) == nil {
		dead, err := m.store.AbandonDead(ctx)
		m.reportAbandoned(dead)
		if err == nil && time.Since(maintained) > maintainEvery {
			maintained = time.Now()
			err = m.store.Maintain(ctx)
		}
		switch {
		case err == nil || ctx.Err() != nil:
		case lostDatabase(err):
			m.outage.lost(m.log, err)
		default:
			m.log.Warn("maintenance failed", zap.Error(err))
		}
	}
}
