package mirror

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"polarmirror/internal/store"
)

// walkedRows is up to how many listed rows an organization is walked: that takes
// some 60 requests, none of which skips more than 2,500 rows. Beyond it, what
// OFFSET costs Polar grows with the square of the rows, and a sweep is cheaper.
const walkedRows = 5000

// A fullRun mirrors all of an organization's customer meters, or goes on where an
// unfinished one ended. A small organization, or one with a filter, is walked (see
// proof.go); a large one is swept (see sweep.go).
//
// A block and the cursor are saved in one transaction, so a run cut short anywhere
// goes on behind the last saved block. The proofs hold across the pause, since they
// never speak of the time between two pages.
type fullRun struct {
	run        *Run
	saver      saver
	cursor     store.Cursor
	checks     int         // archived meters to ask about
	checkpoint func() bool // between two blocks, for the caller; false to stop
	resumed    bool
	finished   bool

	proof  proof // of the walk, or of the walk of a sweep's first meter
	sweep  sweep
	pages  int
	seen   int         // rows on those pages
	listed []uuid.UUID // the last rows that Polar listed, a few
}

// fullOptions say why a full run runs, and how.
type fullOptions struct {
	kind           store.Kind // Full, or Incremental for a tick that is as cheap as a walk
	slot           time.Time  // the scheduled time it answers; zero if no schedule asked for it
	archivedChecks int        // archived meters to ask about; see checkArchived
}

// full runs a full run. It yields whenever the next block has begun to be saved;
// before the session is used for something else there, waitForSave has to be called.
// At last it yields once more, finished, or with the error that it failed with.
func (w *worker) full(ctx context.Context, session *store.Session, opts fullOptions) iter.Seq2[*fullRun, error] {
	return func(yield func(*fullRun, error) bool) {
		run, err := w.start(ctx, session, opts.kind, opts.slot)
		if err != nil {
			yield(nil, err)
			return
		}
		f := &fullRun{run: run, checks: opts.archivedChecks, cursor: store.Cursor{Fingerprint: w.fingerprint()}}
		f.saver = saver{run: run, cursor: f.moveCursor, onSave: f.saved}
		left := false // by whoever ranges over the run
		f.checkpoint = func() bool {
			left = !yield(f, nil)
			return !left
		}
		outcome := store.Outcome{Err: f.read(ctx)}
		exact := outcome.Err == nil && f.cursor.RowsRejected == 0
		outcome.Exact, outcome.Method = &exact, f.cursor.Method
		outcome.Walked = outcome.Err == nil || mustRestart(outcome.Err)
		outcome.Floor = f.cursor.PolarBeganAt
		err = run.finish(ctx, outcome)
		w.mirror.progress.Walked(w.org.Name, f.position(), err)
		if f.finished = true; !left {
			yield(f, err)
		}
	}
}

// finish goes through a full run to its end.
func finish(blocks iter.Seq2[*fullRun, error]) (*fullRun, error) {
	var last *fullRun
	for f, err := range blocks {
		last = f
		if err != nil {
			return last, err
		}
	}
	return last, nil
}

// mustRestart reports whether the run ended with what it would meet again if it
// went on from its cursor: the next one begins anew.
func mustRestart(err error) bool {
	var order *OrderError
	var deletion *DeletionError
	return errors.Is(err, ErrNotProven) || errors.As(err, &order) || errors.As(err, &deletion)
}

// read reads everything, and reconciles what it did not find.
func (f *fullRun) read(ctx context.Context) error {
	first, err := f.open(ctx)
	if err != nil {
		return err
	}
	if f.cursor.Method == store.Sweep {
		err = f.sweepAll(ctx, first)
		if !errors.Is(err, errNoRank) && !errors.Is(err, errOneMeter) {
			return err
		}
		f.run.log.Info("walked instead", zap.String("reason", err.Error()))
		if err := f.saver.flush(ctx); err != nil {
			return err
		}
		f.cursor.Method, f.proof, first = store.Walk, newProof(f.run.mirror.opts.PageSize), nil
	}
	if err := f.walk(ctx, f.run.org.Filter, &f.proof, first, nil); err != nil {
		return err
	}
	return f.reconcile(ctx)
}

// open takes up the unfinished run, or begins anew with the first page, whose
// answer says when, by Polar's clock, the run began and how long the list is.
// Whether archived meters still are is asked before the first block, whose
// suspects depend on it.
func (f *fullRun) open(ctx context.Context) (*listedPage, error) {
	r, opts := f.run, &f.run.mirror.opts
	cursor, err := r.session.LoadCursor(ctx, f.cursor.Fingerprint)
	if err != nil {
		return nil, err
	}
	if cursor != nil {
		f.cursor, f.resumed = *cursor, true
		f.proof = resumedProof(opts.PageSize, cursor.TotalCount, cursor.Offset, cursor.Low)
		r.log.Info("walk resumed", zap.String("method", string(cursor.Method)), zap.Int("offset", cursor.Offset), zap.Int("total_count", cursor.TotalCount))
		r.mirror.progress.Walking(r.org.Name, f.position())
		return nil, nil
	}
	f.cursor.BeganAt = r.record.StartedAt
	f.proof = newProof(opts.PageSize)
	if err := r.session.Scope(ctx, r.org.Filter); err != nil {
		return nil, err
	}
	first, err := r.reader.list(ctx, r.org.Filter, f.proof.next(), f.proof.next().order())
	if err != nil {
		return nil, err
	}
	f.cursor.PolarBeganAt, f.cursor.TotalCount = first.ServerTime, first.Page.TotalCount
	if first.Page.Size() == 0 && r.org.Filter.Empty() {
		if err := checkVisible(ctx, r.reader.client, r.org.ID); err != nil {
			return nil, err
		}
	}
	f.cursor.Method = store.Walk
	if opts.sweeps(r.org, f.cursor.TotalCount, f.cursor.PolarBeganAt) {
		f.cursor.Method = store.Sweep
	}
	return &first, f.checkArchived(ctx, f.checks)
}

// sweeps reports whether an organization that lists total rows is swept. The answer
// that said so was dated polarTime.
func (o *Options) sweeps(org Organization, total int, polarTime time.Time) bool {
	return !o.Walk && org.Filter.Empty() && total > o.WalkedRows && !polarTime.IsZero()
}

// waitForSave waits until all blocks so far are saved, so that the session is free.
func (f *fullRun) waitForSave(ctx context.Context) error { return f.saver.wait(ctx) }

// take notes what a page shows that has been added to the block.
func (f *fullRun) take(ctx context.Context, page listedPage) error {
	f.pages++
	f.run.counts.pages++
	f.seen += page.Page.Size()
	f.listed = remember(f.listed, page)
	f.run.mirror.progress.Walking(f.run.org.Name, f.position())
	if f.cursor.Method == store.Sweep {
		return f.sweep.take(ctx, f.run, &f.saver, page)
	}
	return nil
}

// saveFull begins to save the block if it is full, and lets the caller use the
// time between two blocks.
func (f *fullRun) saveFull(ctx context.Context) error {
	if !f.saver.block.full(f.run.mirror.opts.BlockRows) {
		return nil
	}
	if err := f.saver.startSave(ctx); err != nil {
		return err
	}
	if !f.checkpoint() {
		return ErrStopped
	}
	return nil
}

// moveCursor is where the run goes on once b, the block gathered by now, is saved;
// nil at the end of a walk, since a finished one has no cursor.
func (f *fullRun) moveCursor(b *store.Block) *store.Cursor {
	f.cursor.RowsRejected += int64(len(b.Rejected))
	switch {
	case f.cursor.Method == store.Sweep && f.cursor.MeterID == uuid.Nil:
		f.cursor.CustomerID, f.cursor.Offset = f.sweep.done, f.sweep.rows
	case !f.proof.known, f.proof.done && f.cursor.Method == store.Walk:
		return nil
	default:
		f.cursor.Low, f.cursor.Offset = f.proof.low, f.proof.remaining()
		if f.cursor.Method == store.Walk {
			f.cursor.TotalCount = f.proof.total
		}
	}
	cursor := f.cursor
	return &cursor
}

// saved notes what is known only after a block is saved: the rows that Postgres
// refused, and the customers that are new.
func (f *fullRun) saved(_ *store.Block, saved store.Saved) {
	f.cursor.RowsRejected += int64(len(saved.Refused))
	for _, row := range saved.Refused {
		if f.cursor.Method == store.Sweep {
			f.sweep.rejected[row.Key] = true
		}
	}
	if f.sweep.done == allDone { // before, all customers are still to be swept
		f.sweep.added = append(f.sweep.added, saved.NewCustomers...)
	}
}

func (f *fullRun) position() Position {
	remaining, perPage := f.proof.remaining(), float64(f.run.mirror.opts.PageSize)/overlap
	if f.cursor.Method == store.Sweep && f.cursor.MeterID == uuid.Nil {
		remaining, perPage = max(f.cursor.TotalCount-f.sweep.rows, 0), setRows
	}
	return Position{
		Pages:     f.pages,
		Rows:      f.seen,
		Remaining: remaining,
		Total:     max(f.cursor.TotalCount, remaining),
		Left:      f.run.reader.pace.left(float64(remaining) / perPage),
		Resumed:   f.resumed,
	}
}
