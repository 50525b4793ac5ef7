package mirror

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
)

// An outage is a time without the database. All organizations meet it at once,
// and again at each of their ticks: the log says when it begins and when it
// ends. Its zero value is that all is well.
type outage struct {
	mu    sync.Mutex
	since time.Time // zero: the database is there
	ended time.Time // the last one
}

// unexpected reports whether err is to be logged by itself. It is not if ctx has
// ended, or if the database is lost: runs go on at the first tick after it is back.
func (m *Mirror) unexpected(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	lost := lostDatabase(err)
	if lost {
		m.databaseLost(err, time.Now())
	}
	return !lost
}

// databaseLost notes an error of a connection to the database, which was in use since
// connected. One from before the end of the last outage was lost in that.
func (m *Mirror) databaseLost(err error, connected time.Time) {
	m.outage.mu.Lock()
	defer m.outage.mu.Unlock()
	if m.outage.since.IsZero() && connected.After(m.outage.ended) {
		m.outage.since = time.Now()
		m.opts.Log.Warn("database lost", zap.Error(err))
		return
	}
	m.opts.Log.Debug("database still lost", zap.Error(err))
}

// databaseBack notes that the database took a write that was asked for then: one from
// before the outage may be noted late.
func (m *Mirror) databaseBack(asked time.Time) {
	m.outage.mu.Lock()
	defer m.outage.mu.Unlock()
	if since := m.outage.since; !since.IsZero() && asked.After(since) {
		m.outage.since, m.outage.ended = time.Time{}, time.Now()
		m.opts.Log.Info("database is back", zap.Duration("elapsed", m.outage.ended.Sub(since)))
	}
}
