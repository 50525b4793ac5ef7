package mirror

import (
	"time"

	"github.com/robfig/cron/v3"
)

// never is a schedule without slots.
type never struct{}

func (never) Next(time.Time) time.Time { return time.Time{} }

func orNever(s cron.Schedule) cron.Schedule {
	if s == nil {
		return never{}
	}
	return s
}

// previous returns the last slot at or before now, or zero if there was none
// within the last years. A cron schedule can only be asked for what comes next,
// so it is asked from ever farther back.
func previous(s cron.Schedule, now time.Time) time.Time {
	for back := time.Minute; back < 5*366*24*time.Hour; back *= 2 {
		slot := s.Next(now.Add(-back))
		if slot.IsZero() || slot.After(now) {
			continue
		}
		for next := s.Next(slot); !next.IsZero() && !next.After(now); next = s.Next(slot) {
			slot = next
		}
		return slot
	}
	return time.Time{}
}
