package web

import (
	"sync"
	"time"
)

// A complaint is something that the log says once a minute at most, however often
// there is cause to.
type complaint struct {
	mu   sync.Mutex
	said time.Time
}

// due reports whether the log should say it now, and takes it that it does.
func (c *complaint) due(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.said.IsZero() && now.Sub(c.said) < time.Minute {
		return false
	}
	c.said = now
	return true
}
