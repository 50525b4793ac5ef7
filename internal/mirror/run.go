package mirror

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"polarmirror/internal/fetch"
	"polarmirror/internal/store"
)

// A Run is one organization's run under way: what it reads with, where it writes
// and what it has done.
type Run struct {
	mirror  *Mirror
	org     Organization
	reader  reader
	session *store.Session // nil: it holds no lock
	record  *store.Run     // its row in sync_runs
	counts  counts
	log     *zap.Logger
	began   time.Time

	foundChange time.Time // see silence
}

// counts are what a run has done. The run alone adds to them.
type counts struct {
	requests *fetch.Counters // of the run's client
	pages    int64           // accepted
	recorded store.Counts    // of requests and pages, what sync_runs has
	total    store.Counts    // of rows, what was written; of the rest, what was recorded
}

// unrecorded are the requests and pages that sync_runs does not have yet. They
// are recorded by the transaction that saves the next block, or by the one that
// finishes the run: a block that could not be saved loses none of them.
func (c *counts) unrecorded() store.Counts {
	return store.Counts{
		Requests:    c.requests.Requests.Load() - c.recorded.Requests,
		Retries:     c.requests.Retries.Load() - c.recorded.Retries,
		RateLimited: c.requests.RateLimited.Load() - c.recorded.RateLimited,
		Pages:       c.pages - c.recorded.Pages,
	}
}

// start begins a run for slot, the scheduled time that it answers; zero if no
// schedule asked for it. Once ctx has ended it starts none: a run that was
// recorded while nobody waited for the answer would stay without an end.
func (w *worker) start(ctx context.Context, session *store.Session, kind store.Kind, slot time.Time) (*Run, error) {
	if err := ctx.Err(); err != nil {
		return nil, w.notStarted(ctx, kind, err)
	}
	graceful, cancel := withGrace(ctx)
	defer cancel()
	asked := time.Now()
	record, err := session.StartRun(graceful, kind, slot)
	w.mirror.reportAbandoned(session.Abandoned())
	if err != nil {
		return nil, w.notStarted(ctx, kind, err)
	}
	w.mirror.databaseBack(asked)
	run := w.newRun(session, record)
	run.log = run.log.With(zap.Int64("run_id", record.ID))
	return run, nil
}

// newRun returns a run that is recorded already, or has no session and is recorded
// once it has ended.
func (w *worker) newRun(session *store.Session, record *store.Run) *Run {
	requests := &fetch.Counters{}
	return &Run{
		mirror:  w.mirror,
		org:     w.org,
		reader:  w.reader(requests),
		session: session,
		record:  record,
		counts:  counts{requests: requests},
		log:     w.log.With(zap.String("kind", string(record.Kind))),
		began:   time.Now(),
	}
}

// notStarted logs why there is no run to log its own end, and returns err. A
// slot that is taken is no fault, nor is being told to stop.
func (w *worker) notStarted(ctx context.Context, kind store.Kind, err error) error {
	if !errors.Is(err, store.ErrSlotTaken) && w.mirror.unexpected(ctx, err) {
		w.log.Error("run not started", zap.String("kind", string(kind)), zap.Error(err))
	}
	return err
}

// save writes a block. One in hand when ctx ends is still written.
func (r *Run) save(ctx context.Context, b *store.Block) (store.Saved, error) {
	b.Counts = r.counts.unrecorded()
	saved, err := r.write(ctx, b)
	if err == nil {
		r.saved(b, saved)
	}
	return saved, err
}

// write is the part of save that touches nothing but the session and the block.
func (r *Run) write(ctx context.Context, b *store.Block) (store.Saved, error) {
	ctx, cancel := withGrace(ctx)
	defer cancel()
	return r.session.SaveBlock(ctx, r.record, b)
}

// saved notes that a block is stored.
func (r *Run) saved(b *store.Block, saved store.Saved) {
	r.counts.recorded.Add(b.Counts)
	r.count(saved.Counts)
	r.noteChange(b, saved)
	r.mirror.notify(r.org, r.record.ID, r.record.Kind, saved.Counts, saved.Changed)
	r.log.Debug("block saved", countFields(saved.Counts)...)
}

// count adds to what the run has done so far.
func (r *Run) count(c store.Counts) {
	r.counts.total.Add(c)
	r.mirror.opts.Observer.Counted(r.org.Name, c)
}

// markDeleted marks rows that Polar, asked for each of them, does not have.
func (r *Run) markDeleted(ctx context.Context, gone []uuid.UUID) error {
	if len(gone) == 0 {
		return nil
	}
	customers, err := r.session.MarkDeleted(ctx, r.record, gone)
	if err != nil {
		return err
	}
	deleted := store.Counts{RowsDeleted: int64(len(customers))}
	r.count(deleted)
	r.mirror.notify(r.org, r.record.ID, r.record.Kind, deleted, customers)
	return nil
}

// finish records how the run ended, logs its closing line and tells the observer. It
// returns outcome.Err, or [ErrStopped] if a run that can be gone on with ended because
// ctx did.
func (r *Run) finish(ctx context.Context, outcome store.Outcome) error {
	outcome.Stopped = outcome.Err != nil && ctx.Err() != nil
	if outcome.Stopped && r.session != nil {
		outcome.Err = ErrStopped
	}
	outcome.Counts, outcome.FoundChange = r.counts.unrecorded(), r.foundChange
	r.count(outcome.Counts)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
	defer cancel()
	var err error
	if r.session != nil {
		err = r.session.FinishRun(last, r.record, outcome)
	} else {
		outcome.Counts = r.counts.total
		r.record.ID, err = r.mirror.opts.Store.RecordRun(last, r.org.ID, r.record.Kind, time.Since(r.began), outcome)
		r.log = r.log.With(zap.Int64("run_id", r.record.ID))
	}
	if err != nil && !lostDatabase(outcome.Err) {
		outcome.Err = errors.Join(outcome.Err, err)
	}
	r.logEnd(outcome)
	return outcome.Err
}

// logEnd logs the closing line, and tells the observer.
func (r *Run) logEnd(outcome store.Outcome) {
	elapsed := time.Since(r.began)
	fields := append(countFields(r.counts.total), zap.Duration("elapsed", elapsed))
	if outcome.Exact != nil {
		fields = append(fields, zap.Bool("exact", *outcome.Exact), zap.String("method", string(outcome.Method)))
	}
	end := Succeeded
	switch {
	case outcome.Stopped:
		end = Abandoned
		r.log.Info("run stopped", fields...)
	case lostDatabase(outcome.Err):
		r.mirror.databaseLost(outcome.Err, r.began)
		r.log.Debug("run lost with the database", fields...)
	case outcome.Err != nil:
		end = Failed
		r.log.Error("run failed", append(fields, zap.Error(outcome.Err))...)
	default:
		r.log.Info("run finished", fields...)
	}
	r.mirror.opts.Observer.Ended(r.org.Name, r.record.Kind, end, elapsed)
}

// shutdownGrace bounds what is still written after a run was told to stop: the
// block in hand, and how the run ended.
const shutdownGrace = 5 * time.Second

// withGrace returns a context that ends shutdownGrace after ctx does, so that
// what is being written when ctx ends is not torn down with the connection.
func withGrace(ctx context.Context) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-longer.Done():
		case <-time.After(shutdownGrace):
			cancel()
		}
	})
	return longer, func() {
		stop()
		cancel()
	}
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
