package mirror

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/store"
)

// round does what is due: the full run, which runs due ticks between its
// blocks, and then the tick.
func (s *server) round(ctx context.Context) {
	err := s.fullRound(ctx)
	if err == nil && s.tickDue(time.Now()) {
		err = s.tickRound(ctx)
	}
	s.settle(ctx, err)
}

// fullRound does the full run that is due, if it is, and with the same lock the
// tick.
func (s *server) fullRound(ctx context.Context) error {
	if !s.fullDue || time.Now().Before(s.retryAt) {
		return nil
	}
	err := s.withSlot(ctx, store.Full, s.fullSlot, func(session *store.Session) error {
		if err := s.runFull(ctx, session); err != nil {
			return err
		}
		return s.runTick(ctx, session, false)
	})
	if errors.Is(err, store.ErrSlotTaken) {
		s.fullDue = false // done by another syncd
		return nil
	}
	return err
}

// tickRound does the tick that is due.
func (s *server) tickRound(ctx context.Context) error {
	now := time.Now()
	err := s.withSlot(ctx, store.Incremental, s.lastTick(now), func(session *store.Session) error {
		return s.runTick(ctx, session, false)
	})
	if errors.Is(err, store.ErrSlotTaken) {
		s.passTick(now) // done, or being done, by another syncd
		s.observer.Skipped(s.org.Name, SkipAnswered)
		return nil
	}
	return err
}

// runFull runs the full run that is due. It stays due if it fails, and is tried
// again after a wait that grows. Its error is one after which the session is of
// no use, or that it was stopped.
func (s *server) runFull(ctx context.Context, session *store.Session) error {
	last, err := s.status(ctx)
	if err != nil {
		return err
	}
	if s.waits(last) {
		return nil
	}
	if err := s.account(ctx, session, store.Full, s.fullSlot); err != nil {
		return err
	}
	took, passed := last.LastFull.Duration(), time.Since(last.LastFull.Started)
	if !last.LastFull.Started.IsZero() && passed >= 0 && passed < 2*took {
		s.fullDue = false
		s.skip(store.Full, s.fullSlot, SkipTooSoon)
		return nil
	}
	s.tried = true
	err = s.walkWithTicks(ctx, session)
	switch {
	case err == nil || errors.Is(err, store.ErrSlotTaken):
		s.fullDue = false
	case ctx.Err() != nil || lostDatabase(err):
		return err
	default: // the run has logged it
		s.retryAt = time.Now().Add(backoff(last.FullFailures + 1))
	}
	return nil
}

// walkWithTicks runs a full run, and between its blocks the ticks that come due.
func (s *server) walkWithTicks(ctx context.Context, session *store.Session) error {
	for wk, err := range s.walk(ctx, session, walkOptions{kind: store.Full, slot: s.fullSlot, archivedChecks: fewArchivedChecks}) {
		switch {
		case err != nil:
			return err
		case wk.finished || !s.tickDue(time.Now()):
		case wk.settle(ctx) == nil: // the walk returns its error
			_ = s.runTick(ctx, session, true) // the next block meets its error too
		}
	}
	return nil
}

// waits reports whether the full run has failed too short a time ago, in this
// process or another. The first try of a process waits for nothing: whoever
// started it may have mended the cause.
func (s *server) waits(last store.OrgStatus) bool {
	if !s.tried || last.FullFailures == 0 || last.FullFailedAt.IsZero() {
		return false
	}
	now, wait := time.Now(), backoff(last.FullFailures)
	until := earlier(last.FullFailedAt.Add(wait), now.Add(wait)) // should the clocks differ
	if !until.After(now) {
		return false
	}
	s.retryAt = until
	return true
}

// runTick runs the tick if its slot has come. Its error is one after which the
// session is of no use.
func (s *server) runTick(ctx context.Context, session *store.Session, betweenBlocks bool) error {
	now := time.Now()
	if !s.tickDue(now) || ctx.Err() != nil {
		return nil
	}
	slot := s.passTick(now)
	if err := s.account(ctx, session, store.Incremental, slot); err != nil {
		return err
	}
	err := s.tick(ctx, session, slot, betweenBlocks)
	switch {
	case errors.Is(err, errNoFloor):
		s.skip(store.Incremental, slot, SkipNoFull)
	case errors.Is(err, store.ErrSlotTaken):
		s.observer.Skipped(s.org.Name, SkipAnswered)
		s.log.Debug("slot answered by another syncd", zap.Time("slot", slot))
	case lostDatabase(err):
		return err
	}
	return nil // the run has logged it
}
