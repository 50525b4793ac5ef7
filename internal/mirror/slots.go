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

// account notes the slots between the last one that was accounted for and slot
// as skipped, by whichever replica they were left out: whoever holds the lock
// speaks for all. If none ever was, those are since the organization was
// registered, or for an older one since this server began. It returns the one
// before slot, zero if there is none. Only the loss of the database is an error;
// not knowing what was skipped keeps nobody from working.
func (s *server) account(ctx context.Context, session *store.Session, kind store.Kind, schedule cron.Schedule, slot time.Time) (time.Time, error) {
	last, registered, err := session.LastSlot(ctx, kind)
	if err != nil {
		return last, s.unaccounted(ctx, kind, err)
	}
	since := last
	switch {
	case !last.IsZero():
	case !registered.IsZero():
		since = registered
	default:
		since = s.began
	}
	skip, found := between(schedule, since, slot)
	if !found {
		return last, nil
	}
	skip.Kind = kind
	return skip.Last, s.skip(ctx, session, skip)
}

// between returns the slots after last and before slot; none if slot is zero.
func between(schedule cron.Schedule, last, slot time.Time) (store.Skip, bool) {
	skip := store.Skip{After: last}
	for next := schedule.Next(last); !next.IsZero() && next.Before(slot) && skip.Slots < mostSlots; next = schedule.Next(next) {
		if skip.Slots == 0 {
			skip.First = next
		}
		skip.Last = next
		skip.Slots++
	}
	return skip, skip.Slots > 0
}

// skip notes slots as skipped, and logs it unless it goes on as before.
func (s *server) skip(ctx context.Context, session *store.Session, skip store.Skip) error {
	if skip.First.IsZero() {
		return nil // no schedule asked for it
	}
	reason, begins, err := session.Skip(ctx, skip)
	if err != nil {
		return s.unaccounted(ctx, skip.Kind, err)
	}
	if begins {
		s.log.Info("schedule skipped", zap.String("kind", string(skip.Kind)), zap.String("reason", reason),
			zap.Time("slot", skip.First), zap.Time("last_slot", skip.Last), zap.Int("slots", skip.Slots))
	}
	return nil
}

func (s *server) unaccounted(ctx context.Context, kind store.Kind, err error) error {
	if lostDatabase(err) || ctx.Err() != nil {
		return err
	}
	s.log.Warn("skipped slots not noted", zap.String("kind", string(kind)), zap.Error(err))
	return nil
}
