package mirror

import (
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

// lost notes an error of the connection to the database. Runs go on at the
// first tick after it is back.
func (o *outage) lost(log *zap.Logger, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = time.Now()
		log.Warn("database lost", zap.Error(err))
		return
	}
	log.Debug("database still lost", zap.Error(err))
}

// over notes that the database took a write.
func (o *outage) over(log *zap.Logger) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.since.IsZero() {
		log.Info("database is back", zap.Duration("elapsed", time.Since(o.since)))
		o.since = time.Time{}
	}
}
