package mirror

import (
	"context"
	"errors"
	"iter"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/fetch"
	"polarmirror/internal/store"
)

// A walk mirrors an organization's customer meters, from the newest row or from
// where an unfinished walk ended, to the oldest.
//
// Pages overlap, so no row that exists throughout can hide between two of them
// (see proof). A block and the cursor are saved in one transaction, so a walk cut
// short anywhere resumes below the last saved block; the proof holds across the
// pause, since it never spoke of the time between two pages.
type walk struct {
	run     *Run
	saver   saver
	proof   proof
	cursor  store.Cursor
	checks  int // archived meters to ask about
	resumed bool
	pages   int
	seen    int // rows on proven pages

	finished bool
}

// walkOptions say why a walk runs.
type walkOptions struct {
	kind           store.Kind // Full, or Incremental for a tick that is as cheap as a walk
	slot           time.Time  // the scheduled time it answers; zero if no schedule asked for it
	archivedChecks int        // archived meters to ask about; see checkArchived
}

// walk runs a walk. It yields whenever the next block has begun to be saved;
// before the session is used for something else there, waitForSave has to be called.
// At last it yields once more, finished, or with the error that it failed with.
func (w *worker) walk(ctx context.Context, session *store.Session, opts walkOptions) iter.Seq2[*walk, error] {
	return func(yield func(*walk, error) bool) {
		run, err := w.start(ctx, session, opts.kind, opts.slot)
		if err != nil {
			yield(nil, err)
			return
		}
		wk := &walk{run: run, checks: opts.archivedChecks, cursor: store.Cursor{Fingerprint: w.fingerprint()}}
		wk.saver = saver{run: run, cursor: wk.moveCursor, onSave: wk.countRejected}
		outcome := store.Outcome{}
		left := false // by whoever ranges over the walk
		outcome.Err = wk.read(ctx, func() bool {
			left = !yield(wk, nil)
			return !left
		})
		exact := outcome.Err == nil && wk.cursor.RowsRejected == 0
		outcome.Exact = &exact
		outcome.Walked = outcome.Err == nil || mustRestart(outcome.Err)
		outcome.Floor = wk.cursor.PolarBeganAt
		err = run.finish(ctx, outcome)
		w.mirror.progress.Walked(w.org.Name, wk.position(), err)
		if wk.finished = true; !left {
			yield(wk, err)
		}
	}
}

// finish goes through a walk to its end.
func finish(blocks iter.Seq2[*walk, error]) (*walk, error) {
	var last *walk
	for wk, err := range blocks {
		last = wk
		if err != nil {
			return last, err
		}
	}
	return last, nil
}

// mustRestart reports whether the walk ended with what it would meet again if it
// went on from its cursor: the next one begins anew.
func mustRestart(err error) bool {
	var order *OrderError
	var deletion *DeletionError
	return errors.Is(err, ErrNotProven) || errors.As(err, &order) || errors.As(err, &deletion)
}

func (wk *walk) read(ctx context.Context, betweenBlocks func() bool) error {
	if err := wk.open(ctx); err != nil {
		return err
	}
	for page, err := range wk.run.reader.provenPages(ctx, wk.run.org.Filter, &wk.proof) {
		if err == nil {
			err = wk.take(ctx, page)
		}
		if err != nil {
			// What was proven before the error is worth keeping: the next start
			// goes on below it.
			return errors.Join(err, wk.saver.flush(ctx))
		}
		if wk.saver.block.full(wk.run.mirror.opts.BlockRows) && !wk.proof.done {
			if err := wk.saver.startSave(ctx); err != nil {
				return err
			}
			if !betweenBlocks() {
				return ErrStopped
			}
		}
	}
	if err := wk.saver.flush(ctx); err != nil {
		return err
	}
	return wk.reconcile(ctx)
}

// waitForSave waits until all blocks so far are saved, so that the session is free.
func (wk *walk) waitForSave(ctx context.Context) error { return wk.saver.wait(ctx) }

// open takes up the unfinished walk, or prepares one that begins anew.
func (wk *walk) open(ctx context.Context) error {
	m := wk.run.mirror
	cursor, err := wk.run.session.LoadCursor(ctx, wk.cursor.Fingerprint)
	if err != nil {
		return err
	}
	if cursor != nil {
		wk.cursor, wk.resumed = *cursor, true
		wk.proof = resumedProof(m.opts.PageSize, cursor.TotalCount, cursor.Offset, cursor.Low)
		wk.run.log.Info("walk resumed", zap.Int("offset", cursor.Offset), zap.Int("total_count", cursor.TotalCount))
		m.progress.Walking(wk.run.org.Name, wk.position())
		return nil
	}
	wk.cursor.BeganAt = wk.run.record.StartedAt
	wk.proof = newProof(m.opts.PageSize)
	return wk.run.session.Scope(ctx, wk.run.org.Filter.scope())
}

// take adds a proven page to the block.
func (wk *walk) take(ctx context.Context, page provenPage) error {
	if !page.before.known && !wk.resumed {
		if err := wk.takeFirst(ctx, page); err != nil {
			return err
		}
	}
	wk.pages++
	wk.run.counts.pages++
	wk.seen += page.Page.Size()
	wk.saver.block.addProven(page)
	wk.run.mirror.progress.Walking(wk.run.org.Name, wk.position())
	return nil
}

// takeFirst learns from the first page when, by Polar's clock, the walk began,
// and how long the list is. Whether archived meters still are is asked before the
// first block, whose suspects depend on it.
func (wk *walk) takeFirst(ctx context.Context, page provenPage) error {
	wk.cursor.PolarBeganAt, wk.cursor.TotalCount = page.ServerTime, page.Page.TotalCount
	if page.Page.Size() == 0 {
		if err := wk.checkVisible(ctx); err != nil {
			return err
		}
	}
	return wk.checkArchived(ctx)
}

// checkVisible tells an organization without customer meters from one that the
// token cannot see: Polar answers both with an empty list.
func (wk *walk) checkVisible(ctx context.Context) error {
	org := wk.run.org
	if !org.Filter.empty() {
		return nil
	}
	any, err := wk.run.reader.client.List(ctx, fetch.ListParams{Page: 1, Limit: 1})
	if err != nil {
		return err
	}
	for _, m := range any.Page.CustomerMeters {
		if m.Meter.OrganizationID != org.ID {
			return &WrongOrganizationError{Configured: org.ID, Seen: m.Meter.OrganizationID}
		}
	}
	return nil
}

// moveCursor is where the walk goes on once b, the block gathered by now, is saved;
// nil at the end, since a finished walk has no cursor.
func (wk *walk) moveCursor(b *store.Block) *store.Cursor {
	wk.cursor.RowsRejected += int64(len(b.Rejected))
	if !wk.proof.known || wk.proof.done {
		return nil
	}
	wk.cursor.Low, wk.cursor.Offset = wk.proof.low, wk.proof.remaining()
	wk.cursor.TotalCount = wk.proof.total
	cursor := wk.cursor
	return &cursor
}

// countRejected adds rows that Postgres refused, which are known only after the
// block is saved; the cursor of the next block has them.
func (wk *walk) countRejected(b *store.Block, saved store.Saved) {
	wk.cursor.RowsRejected += saved.Counts.RowsRejected - int64(len(b.Rejected))
}

func (wk *walk) position() Position {
	remaining := wk.proof.remaining()
	return Position{
		Pages:     wk.pages,
		Rows:      wk.seen,
		Remaining: remaining,
		Total:     max(wk.cursor.TotalCount, remaining),
		Left:      wk.run.reader.pace.left(remaining, wk.run.mirror.opts.PageSize),
		Resumed:   wk.resumed,
	}
}
