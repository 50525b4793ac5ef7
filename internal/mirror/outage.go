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
}

// unexpected reports whether err is to be logged by itself. It is not if ctx has
// ended, or if the database is lost: runs go on at the first tick after it is back.
func (m *Mirror) unexpected(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return false
	}
	lost := lostDatabase(err)
	if lost {
		m.databaseLost(err)
	}
	return !lost
}

// databaseLost notes an error of the connection to the database.
func (m *Mirror) databaseLost(err error) {
	m.outage.mu.Lock()
	defer m.outage.mu.Unlock()
	if m.outage.since.IsZero() {
		m.outage.since = time.Now()
		m.opts.Log.Warn("database lost", zap.Error(err))
		return
	}
	m.opts.Log.Debug("database still lost", zap.Error(err))
}

// databaseBack notes that the database took a write.
func (m *Mirror) databaseBack() {
	m.outage.mu.Lock()
	defer m.outage.mu.Unlock()
	if !m.outage.since.IsZero() {
		m.opts.Log.Info("database is back", zap.Duration("elapsed", time.Since(m.outage.since)))
		m.outage.since = time.Time{}
	}
}
