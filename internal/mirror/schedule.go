package mirror

import (
	"time"

	"github.com/robfig/cron/v3"
)

// anchored is "@every d" with slots counted from the Unix epoch, so that
// replicas agree on them whenever they were started. (robfig/cron counts from
// the moment the schedule is asked.)
type anchored time.Duration

// Next returns the first slot after t.
func (a anchored) Next(t time.Time) time.Time {
	d := time.Duration(a)
	since := t.Sub(time.Unix(0, 0))
	return time.Unix(0, 0).Add(since.Truncate(d) + d).In(t.Location())
}

// ParseSchedule reads a cron expression of robfig/cron's standard five fields,
// a descriptor (@hourly) or "@every 30s", to be read in zone. An empty
// expression is nil: never.
func ParseSchedule(expression string, zone *time.Location) (cron.Schedule, error) {
	if expression == "" {
		return nil, nil
	}
	schedule, err := cron.ParseStandard(expression)
	if err != nil {
		return nil, err
	}
	switch s := schedule.(type) {
	case cron.ConstantDelaySchedule:
		return anchored(s.Delay), nil
	case *cron.SpecSchedule:
		if s.Location == time.Local { // no CRON_TZ= in the expression itself
			s.Location = zone
		}
	}
	return schedule, nil
}

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
