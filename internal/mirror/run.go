package mirror

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/fetch"
	"polarmirror/internal/store"
)

// lastWords bounds what is still written after a run was told to stop: the
// block in hand, and how the run ended.
const lastWords = 5 * time.Second

// detached returns a context that outlives the end of ctx by a bounded time.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), lastWords)
}

// outliving returns a context that ends a bounded time after ctx does, so that
// what is being written when ctx ends is not torn down with the connection.
func outliving(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(lastWords)
		defer timer.Stop()
		select {
		case <-longer.Done():
		case <-timer.C:
			cancel()
		}
	})
	return longer, func() {
		stop()
		cancel()
	}
}

// A job is one run under way.
type job struct {
	*worker
	session  *store.Session
	run      *store.Run
	client   *fetch.Client // counts into counters
	counters *fetch.Counters
	began    time.Time
	booked   store.Counts // of counters, what is in sync_runs already
	total    store.Counts // of the whole run
	told     store.Counts // of total, what listeners were told or will be
	log      *zap.Logger
}

func (w *worker) begin(ctx context.Context, session *store.Session, kind store.Kind, slot time.Time) (*job, error) {
	run, err := w.startRun(ctx, session, kind, slot)
	if err != nil {
		return nil, w.notStarted(ctx, kind, err)
	}
	w.outage.over(w.Mirror.log)
	counters := &fetch.Counters{}
	return &job{
		worker:   w,
		session:  session,
		run:      run,
		client:   w.org.Client.Counting(counters),
		counters: counters,
		began:    time.Now(),
		log:      w.log.With(zap.Int64("run_id", run.ID), zap.String("kind", string(kind))),
	}, nil
}

// startRun books a new run or, once ctx has ended, none: one that was booked
// while its answer was no longer waited for would stay without an end.
func (w *worker) startRun(ctx context.Context, session *store.Session, kind store.Kind, slot time.Time) (*store.Run, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := outliving(ctx)
	defer cancel()
	run, err := session.StartRun(ctx, kind, slot)
	w.buried(session.Abandoned())
	return run, err
}

// notStarted logs why there is no run to log its own end, and returns err. A
// slot that is taken is no fault, nor is being told to stop.
func (w *worker) notStarted(ctx context.Context, kind store.Kind, err error) error {
	switch {
	case ctx.Err() != nil || errors.Is(err, store.ErrSlotTaken):
	case lostDatabase(err):
		w.outage.lost(w.Mirror.log, err)
	default:
		w.log.Error("run not started", zap.String("kind", string(kind)), zap.Error(err))
	}
	return err
}

// requests returns what the client counted since it was last asked.
func (j *job) requests() store.Counts {
	now := store.Counts{
		Requests:    j.counters.Requests.Load(),
		Retries:     j.counters.Retries.Load(),
		RateLimited: j.counters.RateLimited.Load(),
	}
	since := store.Counts{
		Requests:    now.Requests - j.booked.Requests,
		Retries:     now.Retries - j.booked.Retries,
		RateLimited: now.RateLimited - j.booked.RateLimited,
	}
	j.booked = now
	return since
}

// save writes a block and books the requests behind it.
func (j *job) save(ctx context.Context, block *store.Block) (store.Saved, error) {
	j.book(block)
	saved, err := j.write(ctx, block)
	if err == nil {
		j.written(saved)
	}
	return saved, err
}

// book has the requests since the last block counted with this one.
func (j *job) book(block *store.Block) { block.Counts.Add(j.requests()) }

// write writes a block. One in hand when ctx ends is still written.
func (j *job) write(ctx context.Context, block *store.Block) (store.Saved, error) {
	ctx, cancel := outliving(ctx)
	defer cancel()
	return j.session.SaveBlock(ctx, j.run, block)
}

// written takes note of a block that is saved.
func (j *job) written(saved store.Saved) {
	j.count(saved.Counts)
	j.tell()
	j.log.Debug("block saved",
		zap.Int64("pages", saved.Counts.Pages),
		zap.Int64("rows_seen", saved.Counts.RowsSeen),
		zap.Int64("rows_inserted", saved.Counts.RowsInserted),
		zap.Int64("rows_updated", saved.Counts.RowsUpdated),
		zap.Int64("rows_rejected", saved.Counts.RowsRejected))
}

// tell has listeners told of what the run has written since they were last told.
func (j *job) tell() {
	since := store.Counts{
		RowsInserted: j.total.RowsInserted - j.told.RowsInserted,
		RowsUpdated:  j.total.RowsUpdated - j.told.RowsUpdated,
		RowsDeleted:  j.total.RowsDeleted - j.told.RowsDeleted,
	}
	j.told.Add(since)
	j.Changed(Change{Organization: j.org.Name, OrganizationID: j.org.ID, RunID: j.run.ID, Kind: j.run.Kind, Counts: since})
}

// end books how the run ended and logs its closing line. It returns outcome.Err,
// or [ErrStopped] if the run ended because ctx did.
func (j *job) end(ctx context.Context, outcome store.Outcome) error {
	if outcome.Err != nil && ctx.Err() != nil {
		outcome.Err = ErrStopped
		outcome.Stopped = true
	}
	outcome.Counts.Add(j.requests())
	j.count(outcome.Counts)
	j.tell()
	last, cancel := detached(ctx)
	defer cancel()
	if err := j.session.FinishRun(last, j.run, outcome); err != nil && !lostDatabase(outcome.Err) {
		outcome.Err = errors.Join(outcome.Err, err)
	}
	elapsed := time.Since(j.began)
	fields := append(countFields(j.total), zap.Duration("elapsed", elapsed))
	if outcome.Exact != nil {
		fields = append(fields, zap.Bool("exact", *outcome.Exact))
	}
	end := Succeeded
	switch {
	case outcome.Stopped:
		end = Abandoned
		j.log.Info("run stopped", fields...)
	case lostDatabase(outcome.Err):
		j.outage.lost(j.Mirror.log, outcome.Err)
		j.log.Debug("run lost with the database", fields...)
	case outcome.Err != nil:
		end = Failed
		j.log.Error("run failed", append(fields, zap.Error(outcome.Err))...)
	default:
		j.log.Info("run finished", fields...)
	}
	j.observer.Ended(j.org.Name, j.run.Kind, end, elapsed)
	return outcome.Err
}

// count adds to what the run has done so far.
func (j *job) count(c store.Counts) {
	j.total.Add(c)
	j.observer.Counted(j.org.Name, c)
}

func countFields(c store.Counts) []zap.Field {
	return []zap.Field{
		zap.Int64("requests", c.Requests),
		zap.Int64("pages", c.Pages),
		zap.Int64("rows_seen", c.RowsSeen),
		zap.Int64("rows_inserted", c.RowsInserted),
		zap.Int64("rows_updated", c.RowsUpdated),
		zap.Int64("rows_unchanged", c.RowsUnchanged),
		zap.Int64("rows_deleted", c.RowsDeleted),
		zap.Int64("rows_rejected", c.RowsRejected),
		zap.Int64("retries", c.Retries),
		zap.Int64("rate_limited", c.RateLimited),
	}
}
