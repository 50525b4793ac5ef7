package config

import (
	"errors"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// A Cron is an expression of robfig/cron's standard five fields, a descriptor
// such as "@hourly", or "@every 30s". "" is never.
type Cron string

// Never reports whether the expression has no time at all.
func (c Cron) Never() bool { return c == "" }

// In returns the schedule that the expression means in loc. An expression from a
// loaded [Config] gives no error. The schedule of "" answers the zero time,
// which robfig/cron takes as never.
//
// "@every" counts from the Unix epoch, not from the start of the process as
// robfig/cron has it, so that replicas fire at the same moments.
func (c Cron) In(loc *time.Location) (cron.Schedule, error) {
	text := strings.TrimSpace(string(c))
	switch {
	case c.Never():
		return never{}, nil
	case strings.Contains(text, "="):
		// robfig's own TZ= prefix would contradict loc (and panics where nothing follows it).
		return nil, errors.New("has a time zone of its own; set schedule.timezone instead")
	}
	if every, found := strings.CutPrefix(text, "@every"); found {
		return parseEvery(strings.TrimSpace(every))
	}
	schedule, err := cron.ParseStandard(text)
	spec, ok := schedule.(*cron.SpecSchedule)
	if err != nil || !ok {
		return nil, errCronShape // robfig's error quotes the text, which may have come from the environment
	}
	spec.Location = loc
	// Robfig looks five years ahead; from here that takes in a 29 February.
	if spec.Next(time.Date(2023, time.January, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, errors.New(`names a date that never comes; write "" for never`)
	}
	return &zoned{spec}, nil
}

// A zoned schedule is robfig/cron's, which matches what a clock in its time zone
// shows: a time that a change of the clocks skips does not come on that day, and
// one that it repeats comes twice.
type zoned struct{ spec *cron.SpecSchedule }

// Next returns the first time after t. On its way from day to day robfig/cron
// passes over a whole day whose midnight does not exist, so it is asked again
// from each change of the clocks on the way.
func (z *zoned) Next(t time.Time) time.Time {
	next := z.spec.Next(t)
	for {
		_, change := t.In(z.spec.Location).ZoneBounds()
		if change.IsZero() || !change.Before(next) {
			return next
		}
		if sooner := z.spec.Next(change.Add(-1)); !sooner.IsZero() && sooner.Before(next) {
			next = sooner.In(t.Location())
		}
		t = change.In(t.Location())
	}
}

var errCronShape = errors.New(`want five fields, each within its range (minute 0-59, hour 0-23, day 1-31, month 1-12 or JAN-DEC, weekday 0-6 or SUN-SAT), ` +
	`a descriptor such as "@hourly", or "@every 30s"`)

// every fires at whole multiples of its seconds since the Unix epoch.
type every int64

func parseEvery(text string) (cron.Schedule, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second || d%time.Second != 0 {
		return nil, errors.New(`want whole seconds, at least one, such as "@every 30s"`)
	}
	return every(d / time.Second), nil
}

// Next returns the first multiple after t.
func (e every) Next(t time.Time) time.Time {
	now := t.Unix() // rounds towards the past, so next is after t whatever its fraction
	past := now % int64(e)
	if past < 0 {
		past += int64(e)
	}
	return time.Unix(now-past+int64(e), 0).In(t.Location())
}

type never struct{}

func (never) Next(time.Time) time.Time { return time.Time{} }
