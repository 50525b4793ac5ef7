package mirror

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"polarmirror/internal/polar"
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
	run     *Run
	opts    fullOptions
	saver   saver
	cursor  store.Cursor // where the run goes on once all pages so far are saved; see moveCursor
	resumed bool

	proof  proof // of the walk, or of the walk of a sweep's first meter
	sweep  sweep
	seen   int         // rows on pages
	listed []uuid.UUID // the last rows that Polar listed, a few
}

// fullOptions say why a full run runs, and how.
type fullOptions struct {
	kind           store.Kind // Full, or Incremental for a tick that is as cheap as a walk
	slot           time.Time  // the scheduled time it answers; zero if no schedule asked for it
	archivedChecks int        // archived meters to ask about; see checkArchived

	// between, unless it is nil, may use the time between two blocks: when one has begun
	// to be saved, or some suspects were answered. saved waits until the session is free,
	// which it is not after an error.
	between func(saved func(context.Context) error)
}

// full runs a full run.
func (w *worker) full(ctx context.Context, session *store.Session, opts fullOptions) error {
	run, err := w.start(ctx, session, opts.kind, opts.slot)
	if err != nil {
		return err
	}
	f := &fullRun{run: run, opts: opts, cursor: store.Cursor{Fingerprint: w.fingerprint()}}
	f.saver = saver{run: run, cursor: f.moveCursor, onSave: f.saved}
	outcome := store.Outcome{Err: f.read(ctx)}
	if outcome.Err == nil && f.resumed {
		outcome.Err = f.readChanges(ctx)
	}
	exact := outcome.Err == nil && f.cursor.RowsRejected == 0
	outcome.Exact, outcome.Method = &exact, f.cursor.Method
	outcome.DropCursor = outcome.Err == nil || mustRestart(outcome.Err)
	outcome.Floor, outcome.Fingerprint = f.cursor.PolarBeganAt, f.cursor.Fingerprint
	err = run.finish(ctx, outcome)
	w.mirror.opts.Progress.Walked(w.org.Name, f.position(), err)
	return err
}

// readChanges reads what changed since a run that resumed first began, less what ticks
// have read since: the age of its data is counted from the resumption.
func (f *fullRun) readChanges(ctx context.Context) error {
	floor, err := f.run.session.LoadFloor(ctx)
	if err != nil {
		return err
	}
	floor.At = later(floor.At, f.cursor.PolarBeganAt)
	t := &tick{run: f.run, saver: saver{run: f.run}}
	before := f.run.counts.total.RowsRejected
	err = t.readAndSave(ctx, floor)
	f.cursor.RowsRejected += f.run.counts.total.RowsRejected - before
	f.cursor.PolarBeganAt = t.ended.Floor
	return err
}

// checkpoint lets the caller of full use the time between two blocks.
func (f *fullRun) checkpoint() {
	if f.opts.between != nil {
		f.opts.between(f.saver.wait)
	}
}

// mustRestart reports whether the run ended with what it would meet again if it
// went on from its cursor: the next one begins anew.
func mustRestart(err error) bool {
	var order *polar.OrderError
	var deletion *DeletionError
	return errors.Is(err, ErrNotProven) || errors.Is(err, errNoBorder) || errors.As(err, &order) || errors.As(err, &deletion)
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
		f.cursor.Method, f.proof, first = store.Walk, newProof(f.run.reader.pageSize()), nil
	}
	if err := f.walk(ctx, f.run.org.Filter, &f.proof, first); err != nil {
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
		f.proof = resumedProof(r.reader.pageSize(), cursor.TotalCount, cursor.Offset, cursor.Low)
		r.log.Info("full run resumed", zap.String("method", string(cursor.Method)), zap.Int("offset", cursor.Offset), zap.Int("total_count", cursor.TotalCount))
		r.mirror.opts.Progress.Walking(r.org.Name, f.position())
		return nil, nil
	}
	f.proof = newProof(r.reader.pageSize())
	if err := r.session.MarkOutOfScope(ctx, r.org.Filter); err != nil {
		return nil, err
	}
	first, err := r.reader.list(ctx, r.org.Filter, f.proof.next(), f.proof.next().order())
	if err != nil {
		return nil, err
	}
	f.cursor.PolarBeganAt, f.cursor.TotalCount = first.ServerTime, first.Page.TotalCount
	if first.Page.Size() == 0 {
		if err := r.org.checkVisible(ctx, r.reader.client); err != nil {
			return nil, err
		}
	}
	f.cursor.Method = store.Walk
	if opts.sweeps(r.org, f.cursor.TotalCount) {
		f.cursor.Method = store.Sweep
	}
	return &first, f.checkArchived(ctx, f.opts.archivedChecks)
}

// sweeps reports whether an organization that lists total rows is swept.
func (o *Options) sweeps(org Organization, total int) bool {
	return !o.Walk && org.Filter.Empty() && total > o.WalkedRows
}

// walk saves the proven pages of the list under filter; see provenPages.
func (f *fullRun) walk(ctx context.Context, filter Filter, p *proof, first *listedPage) error {
	return f.save(ctx, f.run.reader.provenPages(ctx, filter, p, first))
}

// save saves pages that show regions.
func (f *fullRun) save(ctx context.Context, pages iter.Seq2[listedPage, error]) error {
	var failed error
	for page, err := range pages {
		if err == nil {
			err = f.add(ctx, page)
		}
		if err != nil {
			failed = err
			break
		}
	}
	// What was shown before an error is worth keeping: the next start goes on there.
	if err := f.saver.flush(ctx); !errors.Is(failed, err) {
		return errors.Join(failed, err)
	}
	return failed
}

// add adds a page to the block, and begins to save the block if it is full. Then the
// caller may use the time between two blocks.
func (f *fullRun) add(ctx context.Context, page listedPage) error {
	b := &f.saver.block
	if !b.fits(page) {
		if err := f.saver.startSave(ctx); err != nil {
			return err
		}
	}
	if f.cursor.Method == store.Sweep {
		if err := f.noteSwept(ctx, page); err != nil {
			return err
		}
	}
	b.addRegion(page)
	f.run.counts.pages++
	f.seen += page.Page.Size()
	f.listed = remember(f.listed, page)
	f.run.mirror.opts.Progress.Walking(f.run.org.Name, f.position())
	if !b.full(f.run.mirror.opts.BlockRows) {
		return nil
	}
	if err := f.saver.startSave(ctx); err != nil {
		return err
	}
	f.checkpoint()
	return nil
}

// moveCursor is where the run goes on once b, the block gathered by now, is saved;
// nil if that is where it goes on already, as after the last page of a walk.
func (f *fullRun) moveCursor(b *store.Block) *store.Cursor {
	f.cursor.RowsRejected += int64(len(b.Rejected))
	if f.cursor.Method == store.Walk {
		if f.proof.done {
			return nil
		}
		f.cursor.TotalCount = f.proof.total
	}
	if !f.inSets() { // otherwise noteSwept has moved it
		f.cursor.Low, f.cursor.Offset = f.proof.low, f.proof.remaining()
	}
	cursor := f.cursor
	return &cursor
}

// saved notes what is known only after a block is saved: the rows that Postgres
// refused, and, in a sweep, those that are listed and not mirrored; once all known
// customers are swept, the customers that are new and the suspects that were listed
// after all.
func (f *fullRun) saved(ctx context.Context, b *store.Block, saved store.Saved) error {
	f.cursor.RowsRejected += int64(len(saved.Refused))
	if f.cursor.Method != store.Sweep {
		return nil
	}
	maps.DeleteFunc(f.sweep.rejected, func(key polar.Key, _ bool) bool { return b.Region != nil && b.Region.Holds(key) })
	for _, row := range slices.Concat(b.Rejected, saved.Refused) {
		f.sweep.rejected[row.Key] = true
	}
	if f.cursor.CustomerID != allDone {
		return nil
	}
	f.sweep.added = append(f.sweep.added, saved.NewCustomers...)
	listed := make([]uuid.UUID, len(b.CustomerMeters))
	for i, m := range b.CustomerMeters {
		listed[i] = m.ID
	}
	return f.run.session.DropSuspects(ctx, listed)
}

// inSets reports whether a sweep has come to its sets of customers.
func (f *fullRun) inSets() bool {
	return f.cursor.Method == store.Sweep && f.cursor.MeterID == uuid.Nil
}

func (f *fullRun) position() Position {
	remaining := f.proof.remaining()
	if f.inSets() {
		remaining = max(f.cursor.TotalCount-f.cursor.Offset, 0)
	}
	return Position{
		Pages:     int(f.run.counts.pages),
		Rows:      f.seen,
		Remaining: remaining,
		Total:     max(f.cursor.TotalCount, remaining),
		Left:      f.run.reader.left(remaining, f.inSets()),
		Resumed:   f.resumed,
	}
}
