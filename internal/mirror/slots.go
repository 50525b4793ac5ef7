package mirror

import (
	"context"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"polarmirror/internal/store"
)

// A slot is a scheduled time. (organization, kind, slot) is answered by one run at
// most, whichever replica does it.

// A timetable is the schedule of one kind of run of one organization.
type timetable struct {
	worker   *worker
	kind     store.Kind
	schedule cron.Schedule
	share    float64 // of the time after a slot within which a replica comes to it
	began    time.Time
	next     time.Time // the slot to come; zero: never

	loggedSlot   time.Time // the last slot that was logged as skipped
	loggedReason string
}

func newTimetable(kind store.Kind, schedule cron.Schedule, w *worker, share float64) *timetable {
	if schedule == nil {
		schedule = never{}
	}
	now := time.Now()
	return &timetable{worker: w, kind: kind, schedule: schedule, share: share, began: now, next: schedule.Next(now)}
}

// never is a schedule without slots.
type never struct{}

func (never) Next(time.Time) time.Time { return time.Time{} }

// maxSpread is the longest a replica waits after a slot before it comes to an
// organization.
const maxSpread = 2 * time.Second

// comesAt is when this replica comes to the next slot, up to a tenth of the time to the
// slot after it later; zero for never. Each organization has a moment of its own,
// another one in each replica. So the organizations of one replica don't all begin at
// the full second, and of several replicas the same one comes first to an organization
// each time, while the others come to find the slot answered. Should that one be gone,
// or busy, the next one is there in a moment.
func (t *timetable) comesAt() time.Time {
	if t.next.IsZero() {
		return t.next
	}
	window := maxSpread
	if after := t.schedule.Next(t.next); !after.IsZero() {
		window = min(window, after.Sub(t.next)/10)
	}
	return t.next.Add(time.Duration(t.share * float64(window)))
}

// due reports whether the next slot has come. Whoever has the organization's lock
// anyway does not wait for this replica's own moment after it.
func (t *timetable) due(now time.Time) bool { return !t.next.IsZero() && !t.next.After(now) }

// lastDue is the last slot that has come.
func (t *timetable) lastDue(now time.Time) time.Time { return later(t.next, previous(t.schedule, now)) }

// pass moves on to the next slot and returns the last one that has come.
func (t *timetable) pass(now time.Time) time.Time {
	slot := t.lastDue(now)
	t.next = t.schedule.Next(later(slot, now))
	return slot
}

// followClock takes back a slot to come that is later than the next one: this
// machine's clock was ahead when it was planned.
func (t *timetable) followClock(now time.Time) { t.next = soonest(t.next, t.schedule.Next(now)) }

// maxLoggedSlots bounds how many skipped slots are counted one by one.
const maxLoggedSlots = 100_000

// logUnanswered logs the slots before slot that no run answered, whichever replica
// left them out: the one that holds the lock speaks for all. It begins after the
// last slot that a run answered or that this process logged, or if there is none,
// when this process began.
func (t *timetable) logUnanswered(ctx context.Context, session *store.Session, slot time.Time) error {
	answered, err := session.LastSlot(ctx, t.kind)
	if err != nil {
		return err
	}
	since := later(answered, t.loggedSlot)
	if since.IsZero() {
		since = t.began
	}
	first, last, count := between(t.schedule, since, slot)
	if count == 0 {
		return nil
	}
	reason, err := session.WhySkipped(ctx, first, last)
	if err == nil {
		t.logSkipped(first, last, count, reason)
	}
	return err
}

// skip leaves a slot out.
func (t *timetable) skip(slot time.Time, why Skip, reason string) {
	t.worker.skipped(why)
	if !slot.IsZero() { // a full run may be due without one
		t.logSkipped(slot, slot, 1, reason)
	}
}

// logSkipped logs slots as skipped, in a debug line if the one before them was
// skipped for the same reason.
func (t *timetable) logSkipped(first, last time.Time, count int, reason string) {
	log := t.worker.log.Info
	if t.loggedReason == reason && t.schedule.Next(t.loggedSlot).Equal(first) {
		log = t.worker.log.Debug
	}
	t.loggedSlot, t.loggedReason = last, reason
	log("schedule skipped", zap.String("kind", string(t.kind)), zap.String("reason", reason),
		zap.Time("slot", first), zap.Time("last_slot", last), zap.Int("slots", count))
}

// between returns the first and the last of the slots after after and before slot, and
// how many there are; none if slot is zero.
func between(schedule cron.Schedule, after, slot time.Time) (first, last time.Time, count int) {
	for next := schedule.Next(after); !next.IsZero() && next.Before(slot) && count < maxLoggedSlots; next = schedule.Next(next) {
		if count == 0 {
			first = next
		}
		last = next
		count++
	}
	return first, last, count
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

// soonest returns the earlier of two times; zero means never.
func soonest(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
