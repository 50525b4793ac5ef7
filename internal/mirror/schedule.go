package mirror

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
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
	// maintainInterval is how often partitions are made ahead and old runs deleted.
	maintainInterval = 6 * time.Hour
	// abandonInterval is how often runs of dead processes are looked for that nobody
	// takes over.
	abandonInterval = time.Minute
)

// Schedules say when runs are due; nil means never.
type Schedules struct {
	Incremental, Full cron.Schedule
	RunOnStart        bool // run what is overdue at once
}

// Serve runs every organization on its schedules until ctx ends, and then
// waits for the runs under way to save their blocks. Any number of processes
// may serve one database.
func (m *Mirror) Serve(ctx context.Context, schedules Schedules) error {
	defer m.notices.start(ctx)()
	m.serving = time.Now()
	turns := make(chan struct{}, m.opts.Concurrency)
	var working sync.WaitGroup
	for _, org := range m.opts.Organizations {
		s := newScheduler(m.worker(org), turns, schedules)
		working.Go(func() { s.serve(ctx, schedules.RunOnStart) })
	}
	working.Go(func() { m.maintain(ctx) })
	working.Wait()
	return nil
}

// A scheduler runs one organization on its schedules. Whatever is due when a run
// ends is done next; several missed slots of one kind are one run.
type scheduler struct {
	worker      *worker
	turns       chan struct{} // holds one for each organization being worked on
	incremental *timetable
	full        *timetable

	fullDue   bool      // stays set until the run is done
	fullSlot  time.Time // the slot of the full run that is due; zero if it has none
	retryAt   time.Time // the full run is not tried before
	tried     bool      // a full run, by this process
	foundBusy bool      // the last attempt found another syncd at work
}

func newScheduler(w *worker, turns chan struct{}, schedules Schedules) *scheduler {
	share := rand.Float64()
	return &scheduler{
		worker:      w,
		turns:       turns,
		incremental: newTimetable(store.Incremental, schedules.Incremental, w, share),
		full:        newTimetable(store.Full, schedules.Full, w, share),
	}
}

// serve is the loop of one organization: wait until something is due, wait for a
// turn, and run it.
func (s *scheduler) serve(ctx context.Context, runOnStart bool) {
	if runOnStart {
		s.catchUp(ctx)
	}
	for s.wait(ctx) {
		s.advance(time.Now())
		select {
		case <-ctx.Done():
			return
		case s.turns <- struct{}{}:
		}
		s.runDue(ctx)
		<-s.turns
	}
}

// runDue does the full run that is due, which does due ticks between its blocks,
// and then the tick.
func (s *scheduler) runDue(ctx context.Context) {
	err := s.runFull(ctx)
	if err == nil && s.incremental.due(time.Now()) {
		err = s.runTick(ctx)
	}
	s.handle(ctx, err)
}

// catchUp makes what is overdue due now, the organizations a little apart.
func (s *scheduler) catchUp(ctx context.Context) {
	now := time.Now()
	if sleep(ctx, rand.N(startSpread)) != nil {
		return
	}
	last, err := s.worker.mirror.status(ctx, s.worker.org) // zero after an error: all is overdue then
	if s.worker.mirror.unexpected(ctx, err) {
		s.worker.log.Warn("last runs unknown, assuming that all is overdue", zap.Error(err))
	}
	slot := previous(s.full.schedule, now)
	if !s.full.next.IsZero() && (last.LastFull.Started.IsZero() || last.LastFull.Started.Before(slot)) {
		s.fullDue, s.fullSlot = true, slot
	}
	if slot := previous(s.incremental.schedule, now); !s.incremental.next.IsZero() && last.DataFrom.Before(slot) {
		s.incremental.next = slot
	}
}

// wait waits until there is something to do. It returns false once ctx has ended.
func (s *scheduler) wait(ctx context.Context) bool {
	wake := soonest(s.incremental.comesAt(), s.full.comesAt())
	if s.fullDue {
		wake = soonest(wake, later(s.retryAt, time.Unix(1, 0)))
	}
	if wake.IsZero() {
		<-ctx.Done()
		return false
	}
	return sleep(ctx, time.Until(wake)) == nil
}

// advance notes the full run whose slot has come.
func (s *scheduler) advance(now time.Time) {
	s.incremental.followClock(now)
	s.full.followClock(now)
	if comes := s.full.comesAt(); comes.IsZero() || comes.After(now) {
		return
	}
	s.fullDue, s.fullSlot = true, s.full.pass(now)
	s.retryAt = time.Time{}
}

// runFull does the full run that is due, if one is, and the tick under the same
// lock. Its error is one after which the session is of no use, or that it was
// stopped.
func (s *scheduler) runFull(ctx context.Context) error {
	if !s.fullDue || time.Now().Before(s.retryAt) {
		return nil
	}
	err := s.worker.withSlot(ctx, store.Full, s.fullSlot, func(session *store.Session) error {
		last, err := s.worker.mirror.status(ctx, s.worker.org)
		if err != nil {
			return err
		}
		ready, err := s.fullMayRun(ctx, session, last)
		if ready {
			err = s.fullWithTicks(ctx, session, last.FullFailures)
		}
		if err != nil {
			return err
		}
		return s.tickOn(ctx, session, false)
	})
	if errors.Is(err, store.ErrSlotTaken) {
		s.fullDue = false // done by another syncd
		return nil
	}
	return err
}

// fullMayRun reports whether nothing forbids the full run that is due: it may
// have failed too short a time ago, in this process or another, or the last one
// may have taken so long that it would be too soon. The first try of a process waits
// for no failure: whoever started it may have mended the cause.
func (s *scheduler) fullMayRun(ctx context.Context, session *store.Session, last store.OrgStatus) (bool, error) {
	now := time.Now()
	if s.tried && !last.FullFailedAt.IsZero() { // zero too if that is a time to come
		retry := soonest(last.FullFailedAt, now).Add(backoff(last.FullFailures)) // now, should the clocks differ
		if retry.After(now) {
			s.retryAt = retry
			return false, nil
		}
	}
	if err := s.full.logUnanswered(ctx, session, s.fullSlot); err != nil {
		return false, err
	}
	took, passed := last.LastFull.Duration(), now.Sub(last.LastFull.Started)
	if !last.LastFull.Started.IsZero() && passed >= 0 && passed < 2*took {
		s.fullDue = false
		s.full.skip(s.fullSlot, SkipTooSoon, "the last full run began less than twice its duration ago")
		return false, nil
	}
	return true, nil
}

// fullWithTicks runs a full run, and between its blocks the ticks that come due.
// A full run that failed, as failures did before it, stays due, and is tried again
// after a wait that grows.
func (s *scheduler) fullWithTicks(ctx context.Context, session *store.Session, failures int) error {
	s.tried = true
	tick := func(saved func(context.Context) error) {
		if s.incremental.due(time.Now()) && saved(ctx) == nil { // the full run returns its error
			_ = s.tickOn(ctx, session, true) // the next block meets its error too
		}
	}
	err := s.worker.full(ctx, session, fullOptions{kind: store.Full, slot: s.fullSlot, archivedChecks: fewArchivedChecks, between: tick})
	switch {
	case err == nil || errors.Is(err, store.ErrSlotTaken):
		s.fullDue = false
	case ctx.Err() != nil || lostDatabase(err):
		return err
	default: // the run has logged it
		s.retryAt = time.Now().Add(backoff(failures + 1))
	}
	return nil
}

// runTick does the tick that is due.
func (s *scheduler) runTick(ctx context.Context) error {
	now := time.Now()
	err := s.worker.withSlot(ctx, store.Incremental, s.incremental.lastDue(now), func(session *store.Session) error {
		return s.tickOn(ctx, session, false)
	})
	if errors.Is(err, store.ErrSlotTaken) {
		s.incremental.pass(now) // done, or being done, by another syncd
		s.worker.skipped(SkipAnswered)
		return nil
	}
	return err
}

// tickOn runs the tick on session if its slot has come. Its error is one after
// which the session is of no use.
func (s *scheduler) tickOn(ctx context.Context, session *store.Session, betweenBlocks bool) error {
	now := time.Now()
	if !s.incremental.due(now) || ctx.Err() != nil {
		return nil
	}
	slot := s.incremental.pass(now)
	if err := s.incremental.logUnanswered(ctx, session, slot); err != nil {
		return err
	}
	err := s.worker.tick(ctx, session, slot, betweenBlocks)
	switch {
	case errors.Is(err, errNoFloor):
		s.incremental.skip(slot, SkipNoFull, errNoFloor.Error())
	case errors.Is(err, store.ErrSlotTaken):
		s.worker.skipped(SkipAnswered)
		s.worker.log.Debug("slot answered by another syncd", zap.Time("slot", slot))
	case lostDatabase(err):
		return err
	}
	return nil // the run has logged it
}

// handle logs what kept this turn's runs from beginning, or cut them short, and
// puts off what is due.
func (s *scheduler) handle(ctx context.Context, err error) {
	w := s.worker
	if err == nil || ctx.Err() != nil {
		s.foundBusy = false
		return
	}
	if errors.Is(err, store.ErrBusy) {
		log := w.log.Info
		if s.foundBusy { // the same again says nothing new
			log = w.log.Debug
		}
		s.foundBusy = true
		log("organization left to another syncd", zap.String("reason", store.ErrBusy.Error()))
		w.skipped(SkipBusy)
	} else if w.mirror.unexpected(ctx, err) {
		w.skipped(SkipFailed)
		w.log.Error("round failed", zap.Error(err))
	}
	now := time.Now()
	if s.incremental.due(now) {
		s.incremental.pass(now)
	}
	if s.fullDue {
		// With the next tick, or soon if there is none: nothing is wrong with it.
		s.retryAt = soonest(s.incremental.comesAt(), now.Add(firstRetry))
	}
}

// backoff is how long after the last of so many failed full runs in a row the
// next one is tried.
func backoff(failures int) time.Duration {
	return min(firstRetry<<min(max(failures-1, 0), 10), lastRetry)
}

// maintain does what belongs to no run. All replicas do, at different moments.
func (m *Mirror) maintain(ctx context.Context) {
	maintained := time.Now() // by Migrate
	silence := silence{}
	for sleep(ctx, abandonInterval/2+rand.N(abandonInterval)) == nil {
		dead, err := m.opts.Store.AbandonDead(ctx)
		m.reportAbandoned(dead)
		if err == nil && time.Since(maintained) > maintainInterval {
			maintained = time.Now()
			err = m.opts.Store.Maintain(ctx)
		}
		if err == nil {
			err = m.warnOfSilence(ctx, silence)
		}
		if m.unexpected(ctx, err) {
			m.opts.Log.Warn("maintenance failed", zap.Error(err))
		}
	}
}
