package mirror

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"polarmirror/internal/store"
)

const (
	// startSpread is the longest an overdue run waits at start-up for others to
	// begin.
	startSpread = 3 * time.Second
	// firstRetry and lastRetry bound the wait before a failed full run is tried
	// again, by whichever replica.
	firstRetry = 30 * time.Second
	lastRetry  = 30 * time.Minute
)

// A server runs one organization on its schedules. Whatever is due when a run
// ends is done next; several missed slots of one kind are one run.
type server struct {
	*worker
	places            chan struct{} // organizations worked at a time
	spread            spread
	incremental, full cron.Schedule
	began             time.Time
	skipped           map[store.Kind]skipped

	nextTick, nextFull time.Time // the slots to come; zero: never
	fullSlot           time.Time // the slot of the full run that is due; zero if it has none
	fullDue            bool      // stays set until the run is done
	retryAt            time.Time // the full run is not tried before
	tried              bool      // a full run, by this process
	bounced            bool      // the last round found the organization busy
}

func newServer(w *worker, places chan struct{}, spread spread, schedules Schedules) *server {
	return &server{
		worker:      w,
		places:      places,
		spread:      spread,
		incremental: orNever(schedules.Incremental),
		full:        orNever(schedules.Full),
		began:       time.Now(),
		skipped:     map[store.Kind]skipped{},
	}
}

func (s *server) serve(ctx context.Context, runOnStart bool) {
	now := time.Now()
	s.nextTick, s.nextFull = s.incremental.Next(now), s.full.Next(now)
	if runOnStart {
		s.start(ctx, now)
	}
	for s.rest(ctx) {
		now := time.Now()
		s.followClock(now)
		s.due(now)
		select {
		case <-ctx.Done():
			return
		case s.places <- struct{}{}:
		}
		s.round(ctx)
		<-s.places
	}
}

// rest waits until there is something to do. It returns false once ctx has ended.
func (s *server) rest(ctx context.Context) bool {
	wake := s.wake()
	if wake.IsZero() {
		<-ctx.Done()
		return false
	}
	return sleep(ctx, time.Until(wake)) == nil
}

// start makes what is overdue due now, the organizations a little apart.
func (s *server) start(ctx context.Context, now time.Time) {
	if sleep(ctx, rand.N(startSpread)) != nil {
		return
	}
	last, err := s.status(ctx)
	switch {
	case err == nil || ctx.Err() != nil:
	case lostDatabase(err):
		s.outage.lost(s.Mirror.log, err) // all is overdue then
	default:
		s.log.Warn("last runs unknown, assuming that all is overdue", zap.Error(err))
	}
	if slot := previous(s.full, now); !s.nextFull.IsZero() && (last.LastFull.Started.IsZero() || last.LastFull.Started.Before(slot)) {
		s.fullDue, s.fullSlot = true, slot
	}
	if slot := previous(s.incremental, now); !s.nextTick.IsZero() && last.DataFrom.Before(slot) {
		s.nextTick = slot
	}
}

// status is how the organization stands.
func (s *server) status(ctx context.Context) (store.OrgStatus, error) {
	list, err := s.store.OrgStatus(ctx, store.OrgStatusQuery{Organizations: []store.Organization{{Name: s.org.Name, ID: s.org.ID}}})
	if err != nil {
		return store.OrgStatus{}, err
	}
	return list[0], nil
}

// comesAt is when this replica comes to the slots to come; zero for never.
func (s *server) comesAt(slot time.Time, schedule cron.Schedule) time.Time {
	if slot.IsZero() {
		return slot
	}
	return slot.Add(s.spread.after(slot, schedule, s.org.Name))
}

// wake is when there is next something to do; zero for never.
func (s *server) wake() time.Time {
	wake := earlier(s.comesAt(s.nextTick, s.incremental), s.comesAt(s.nextFull, s.full))
	if s.fullDue {
		wake = earlier(wake, later(s.retryAt, time.Unix(1, 0)))
	}
	return wake
}

// followClock takes back slots to come that are later than the next ones: this
// machine's clock was ahead when they were planned.
func (s *server) followClock(now time.Time) {
	s.nextTick = earlier(s.nextTick, s.incremental.Next(now))
	s.nextFull = earlier(s.nextFull, s.full.Next(now))
}

// due notes the full run whose slot has come.
func (s *server) due(now time.Time) {
	if s.nextFull.IsZero() || s.comesAt(s.nextFull, s.full).After(now) {
		return
	}
	s.fullDue, s.fullSlot = true, s.nextFull
	s.nextFull = s.full.Next(now)
	s.retryAt = time.Time{}
}

// tickDue reports whether the slot of a tick has come. A server that has the
// organization's lock anyway does not wait for its own moment after the slot.
func (s *server) tickDue(now time.Time) bool {
	return !s.nextTick.IsZero() && !s.nextTick.After(now)
}

// passTick moves on to the next slot and returns the last one that has come.
func (s *server) passTick(now time.Time) time.Time {
	slot := s.lastTick(now)
	s.nextTick = s.incremental.Next(later(slot, now))
	return slot
}

// lastTick is the last slot that has come.
func (s *server) lastTick(now time.Time) time.Time {
	slot := s.nextTick
	for next := slot; !next.IsZero() && !next.After(now); next = s.incremental.Next(next) {
		slot = next
	}
	return slot
}

// retryFull has the full run tried again with the next tick, or soon if there is
// none: nothing is wrong with it.
func (s *server) retryFull(now time.Time) {
	s.retryAt = earlier(s.comesAt(s.nextTick, s.incremental), now.Add(firstRetry))
}

// backoff is how long after the last of so many failed full runs in a row the
// next one is tried.
func backoff(failures int) time.Duration {
	return min(firstRetry<<min(max(failures-1, 0), 10), lastRetry)
}

// leftTo logs that another syncd has the organization: each time the same says
// nothing new.
func (s *server) leftTo() {
	log := s.log.Debug
	if !s.bounced {
		log = s.log.Info
	}
	s.bounced = true
	log("organization left to another syncd", zap.String("reason", store.ErrBusy.Error()))
}

// settle sees to what a round ended with.
func (s *server) settle(ctx context.Context, err error) {
	if err == nil || ctx.Err() != nil {
		s.bounced = s.bounced && err != nil
		return
	}
	switch {
	case errors.Is(err, store.ErrBusy):
		s.leftTo()
		s.observer.Skipped(s.org.Name, SkipBusy)
	case lostDatabase(err):
		s.outage.lost(s.Mirror.log, err)
	default:
		s.observer.Skipped(s.org.Name, SkipFailed)
		s.log.Error("round failed", zap.Error(err))
	}
	now := time.Now()
	if s.tickDue(now) {
		s.passTick(now)
	}
	if s.fullDue {
		s.retryFull(now)
	}
}

// earlier returns the earlier of two times; zero means never.
func earlier(a, b time.Time) time.Time {
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
