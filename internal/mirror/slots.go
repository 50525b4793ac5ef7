package mirror

import (
	"context"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"polarmirror/internal/store"
)

// mostSlots bounds how many skipped slots are counted one by one.
const mostSlots = 100_000

// A slotRange is slots in a row.
type slotRange struct {
	first, last time.Time
	count       int
}

// between returns the slots after last and before slot; none if slot is zero.
func between(schedule cron.Schedule, last, slot time.Time) slotRange {
	var r slotRange
	for next := schedule.Next(last); !next.IsZero() && next.Before(slot) && r.count < mostSlots; next = schedule.Next(next) {
		if r.count == 0 {
			r.first = next
		}
		r.last = next
		r.count++
	}
	return r
}

// A skipped is the last slot of a kind that a server logged as skipped.
type skipped struct {
	slot   time.Time
	reason string
}

// account logs the slots before slot that no run answered, whichever replica left
// them out: the one that holds the lock speaks for all. It begins after the last
// slot that a run answered or that this server logged, or if there is none, when
// this server began.
func (s *server) account(ctx context.Context, session *store.Session, kind store.Kind, slot time.Time) error {
	last, err := session.LastSlot(ctx, kind)
	if err != nil {
		return err
	}
	since := later(last, s.skipped[kind].slot)
	if since.IsZero() {
		since = s.began
	}
	r := between(s.schedule(kind), since, slot)
	if r.count == 0 {
		return nil
	}
	reason, err := session.WhySkipped(ctx, r.first, r.last)
	if err != nil {
		return err
	}
	s.logSkipped(kind, r, reason)
	return nil
}

// skip leaves a slot out.
func (s *server) skip(kind store.Kind, slot time.Time, why Skip) {
	s.observer.Skipped(s.org.Name, why)
	if !slot.IsZero() { // a full run may be due without one
		s.logSkipped(kind, slotRange{first: slot, last: slot, count: 1}, why.String())
	}
}

// logSkipped logs slots as skipped, in a debug line if the one before them was
// skipped for the same reason.
func (s *server) logSkipped(kind store.Kind, r slotRange, reason string) {
	log := s.log.Info
	if before := s.skipped[kind]; before.reason == reason && s.schedule(kind).Next(before.slot).Equal(r.first) {
		log = s.log.Debug
	}
	s.skipped[kind] = skipped{slot: r.last, reason: reason}
	log("schedule skipped", zap.String("kind", string(kind)), zap.String("reason", reason),
		zap.Time("slot", r.first), zap.Time("last_slot", r.last), zap.Int("slots", r.count))
}

func (s *server) schedule(kind store.Kind) cron.Schedule {
	if kind == store.Full {
		return s.full
	}
	return s.incremental
}
