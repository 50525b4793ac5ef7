package mirror

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/store"
)

const (
	// maintainEvery is how often partitions are made ahead and old runs forgotten.
	maintainEvery = 6 * time.Hour
	// spread is the longest an overdue run waits at start-up for others to begin.
	spread = 3 * time.Second
	// firstRetry and lastRetry bound the wait before a failed full run is tried again.
	firstRetry = 30 * time.Second
	lastRetry  = 30 * time.Minute
)

// Schedules say when runs are due; nil means never.
type Schedules struct {
	Incremental, Full cron.Schedule
	RunOnStart        bool // run what is overdue at once
}

// Serve runs every organization on its schedules until ctx ends, and then
// waits for the runs under way to save their blocks.
func (m *Mirror) Serve(ctx context.Context, schedules Schedules) error {
	places := make(chan struct{}, m.opts.Concurrency)
	var group errgroup.Group
	for _, org := range m.opts.Organizations {
		group.Go(func() error {
			s := &server{
				worker:      m.worker(org),
				places:      places,
				incremental: orNever(schedules.Incremental),
				full:        orNever(schedules.Full),
			}
			s.serve(ctx, schedules.RunOnStart)
			return nil
		})
	}
	group.Go(func() error {
		m.maintain(ctx)
		return nil
	})
	return group.Wait()
}

func (m *Mirror) maintain(ctx context.Context) {
	for sleep(ctx, maintainEvery) == nil {
		if err := m.store.Maintain(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("maintenance failed", zap.Error(err))
		}
	}
}

// A server runs one organization on its schedules. Whatever is due when a run
// ends is done next; several missed slots of one kind are one run.
type server struct {
	*worker
	places            chan struct{} // organizations worked at a time
	incremental, full cron.Schedule

	nextTick, nextFull time.Time // zero: never
	fullSlot           time.Time // the slot of the full run that is due; zero if it has none
	fullDue            bool      // stays set until the run is done
	retryAt            time.Time // a failed full run is not tried before
	failures           int       // in a row
}

func (s *server) serve(ctx context.Context, runOnStart bool) {
	now := time.Now()
	s.nextTick, s.nextFull = s.incremental.Next(now), s.full.Next(now)
	if runOnStart {
		s.start(ctx, now)
	}
	for {
		if sleepUntil(ctx, s.wake()) != nil {
			return
		}
		s.due(time.Now())
		select {
		case <-ctx.Done():
			return
		case s.places <- struct{}{}:
		}
		s.round(ctx)
		<-s.places
	}
}

// start makes what is overdue due now, the organizations a little apart.
func (s *server) start(ctx context.Context, now time.Time) {
	if sleep(ctx, rand.N(spread)) != nil {
		return
	}
	last, err := s.lastSuccess(ctx)
	if err != nil {
		s.log.Warn("last runs unknown, assuming that all is overdue", zap.Error(err))
	}
	if slot := previous(s.full, now); !s.nextFull.IsZero() && (last.full.IsZero() || last.full.Before(slot)) {
		s.fullDue, s.fullSlot = true, slot
	}
	if slot := previous(s.incremental, now); !s.nextTick.IsZero() && last.any.Before(slot) {
		s.nextTick = slot
	}
}

// wake is when there is next something to do; zero for never.
func (s *server) wake() time.Time {
	wake := earlier(s.nextTick, s.nextFull)
	if s.fullDue {
		wake = earlier(wake, later(s.retryAt, time.Unix(1, 0)))
	}
	return wake
}

// due notes the full run whose slot has come.
func (s *server) due(now time.Time) {
	if s.nextFull.IsZero() || s.nextFull.After(now) {
		return
	}
	s.fullDue, s.fullSlot = true, s.nextFull
	s.nextFull = s.full.Next(now)
	s.retryAt = time.Time{}
}

// round does what is due: the full run, which runs due ticks between its
// blocks, and then the tick.
func (s *server) round(ctx context.Context) {
	err := s.withSession(ctx, false, func(session *store.Session) error {
		if s.fullDue && !time.Now().Before(s.retryAt) {
			s.runFull(ctx, session)
		}
		s.runTick(ctx, session, false)
		return nil
	})
	if err == nil || ctx.Err() != nil {
		return
	}
	if errors.Is(err, store.ErrBusy) {
		s.skip(SkipBusy)
	} else {
		s.observer.Skipped(s.org.Name, SkipFailed)
		s.log.Error("round failed", zap.Error(err))
	}
	now := time.Now()
	if s.tickDue(now) {
		s.passTick(now)
	}
	if s.fullDue {
		s.retryLater()
	}
}

// runFull runs the full run that is due. It stays due if it fails, and is tried
// again after a wait that grows.
func (s *server) runFull(ctx context.Context, session *store.Session) {
	if wait, err := s.tooSoon(ctx); err == nil && wait {
		s.skip(SkipTooSoon, zap.String("kind", string(store.Full)))
		s.fullDue = false
		return
	}
	err := s.walk(ctx, session, walkOptions{
		kind:    store.Full,
		slot:    s.fullSlot,
		between: func(ctx context.Context) { s.runTick(ctx, session, true) },
		due:     func() bool { return s.tickDue(time.Now()) },
		doubts:  someDoubts,
	})
	switch {
	case err == nil || errors.Is(err, store.ErrSlotTaken):
		s.fullDue, s.failures = false, 0
	default: // the run has logged it
		s.retryLater()
	}
}

// runTick runs the tick if its slot has come.
func (s *server) runTick(ctx context.Context, session *store.Session, betweenBlocks bool) {
	now := time.Now()
	if !s.tickDue(now) || ctx.Err() != nil {
		return
	}
	slot := s.passTick(now)
	err := s.tick(ctx, session, slot, betweenBlocks)
	switch {
	case errors.Is(err, errNoFloor):
		s.skip(SkipNoFull)
	case errors.Is(err, store.ErrSlotTaken):
		s.skip(SkipAnswered)
	}
}

func (s *server) tickDue(now time.Time) bool {
	return !s.nextTick.IsZero() && !s.nextTick.After(now)
}

// passTick moves on to the next slot and returns the last one that has come.
func (s *server) passTick(now time.Time) time.Time {
	slot := s.nextTick
	for next := slot; !next.IsZero() && !next.After(now); next = s.incremental.Next(next) {
		slot = next
	}
	s.nextTick = s.incremental.Next(later(slot, now))
	return slot
}

func (s *server) skip(why Skip, fields ...zap.Field) {
	s.log.Info("schedule skipped", append(fields, zap.Stringer("reason", why))...)
	s.observer.Skipped(s.org.Name, why)
}

func (s *server) retryLater() {
	wait := min(firstRetry<<min(s.failures, 10), lastRetry)
	s.failures++
	s.retryAt = time.Now().Add(wait)
}

// tooSoon reports whether the last full run took so long that another one now
// would leave Polar no rest. If it was resumed, what the whole would have taken
// counts.
func (s *server) tooSoon(ctx context.Context) (bool, error) {
	last, err := s.lastSuccess(ctx)
	if err != nil || last.full.IsZero() {
		return false, err
	}
	took := max(last.fullTook, s.left(s.tempo.resumed))
	return time.Since(last.full) < 2*took, nil
}

// success is when the last successful runs of an organization began.
type success struct {
	full, any time.Time
	fullTook  time.Duration
}

func (s *server) lastSuccess(ctx context.Context) (success, error) {
	states, err := s.store.Status(ctx)
	if err != nil {
		return success{}, err
	}
	for _, st := range states {
		if st.Organization == s.org.Name {
			return success{
				full:     st.LastFullStarted,
				any:      later(st.LastFullStarted, st.LastIncrementalStarted),
				fullTook: st.LastFullFinished.Sub(st.LastFullStarted),
			}, nil
		}
	}
	return success{}, nil
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

// sleepUntil waits for t, for ever if it is zero, or until ctx ends.
func sleepUntil(ctx context.Context, t time.Time) error {
	if t.IsZero() {
		<-ctx.Done()
		return ctx.Err()
	}
	return sleep(ctx, time.Until(t))
}
