package mirror

import (
	"context"
	"errors"
	"time"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// tickOverlap is how much farther back than the floor a tick looks, for
// transactions at Polar that commit late: their rows carry the time at which
// they began.
const tickOverlap = 2 * time.Minute

// errNoFloor means that no run has succeeded yet, so that there is no moment
// from which on changes could be looked for.
var errNoFloor = errors.New("no full run has succeeded yet")

// addedOrder brings the newest rows first.
func addedOrder() []string { return []string{"-created_at", "customer_id", "meter_id"} }

// changedOrder brings the rows changed last first, after those that never
// changed (see border).
func changedOrder() []string { return []string{"-modified_at", "customer_id", "meter_id"} }

// A tick reads what was added or changed since the last successful run began.
// It may miss what shifted under it; the next full run can't.
type tick struct {
	run   *Run
	saver saver
	floor time.Time // rows older than this need not be looked at
}

// tick runs an incremental run for slot. It returns [errNoFloor], and is no
// run, before the first walk has succeeded. An organization that fits on one
// page is walked instead: that is as cheap, and sees everything. Between the
// blocks of a walk that would meddle with the walk's own suspects.
func (w *worker) tick(ctx context.Context, session *store.Session, slot time.Time, betweenBlocks bool) error {
	floor, err := session.LoadFloor(ctx)
	if err != nil {
		return w.notStarted(ctx, store.Incremental, err)
	}
	if floor.At.IsZero() {
		return errNoFloor
	}
	if floor.OnePage && !betweenBlocks {
		_, err := finish(w.full(ctx, session, fullOptions{kind: store.Incremental, slot: slot}))
		return err
	}
	run, err := w.start(ctx, session, store.Incremental, slot)
	if err != nil {
		return err
	}
	t := &tick{run: run, saver: saver{run: run}}
	began, border, err := t.read(ctx, floor)
	if err != nil {
		err = errors.Join(err, t.saver.wait(ctx)) // or the end of the run would share the connection with a block
	}
	return run.finish(ctx, store.Outcome{Err: err, Floor: began, NullRows: border})
}

// read returns when, by Polar's clock, the tick began, and where the rows that
// changed begin; nil if it did not look.
func (t *tick) read(ctx context.Context, floor store.Floor) (began time.Time, border *int, err error) {
	first, err := t.list(ctx, span{limit: t.pageSize()}, addedOrder())
	if err != nil {
		return began, nil, err
	}
	began = first.ServerTime
	t.floor = floor.Since(began).Add(-tickOverlap)

	if err := t.added(ctx, first); err != nil {
		return began, nil, err
	}
	if first.Page.Size() < first.limit {
		// One page is the whole organization: what changed is on it too.
		return began, nil, t.saver.flush(ctx)
	}
	at, err := t.changed(ctx, floor.NullRows)
	if err != nil {
		return began, nil, err
	}
	return began, &at, t.saver.flush(ctx)
}

func (t *tick) pageSize() int { return t.run.mirror.opts.PageSize }

func (t *tick) list(ctx context.Context, s span, order []string) (listedPage, error) {
	return t.run.reader.list(ctx, t.run.org.Filter, s, order)
}

// added reads the newest rows until one is older than the floor.
func (t *tick) added(ctx context.Context, page listedPage) error {
	for {
		if err := t.take(ctx, page); err != nil {
			return err
		}
		rows := page.Page.CustomerMeters
		if page.Page.Size() < page.limit || (len(rows) > 0 && rows[len(rows)-1].CreatedAt.Before(t.floor)) {
			return nil
		}
		next, err := t.list(ctx, span{offset: page.end(), limit: page.limit}, addedOrder())
		if err != nil {
			return err
		}
		page = next
	}
}

// changed reads the rows that changed last until one is older than the floor.
// It returns the offset at which they begin.
func (t *tick) changed(ctx context.Context, guess int) (int, error) {
	page, border, err := t.findBorder(ctx, guess)
	if err != nil {
		return -1, err
	}
	for {
		if err := t.take(ctx, page); err != nil {
			return -1, err
		}
		if page.Page.Size() < page.limit || t.reachesFloor(page.Page) {
			return border, nil
		}
		next, err := t.list(ctx, span{offset: page.end(), limit: page.limit}, changedOrder())
		if err != nil {
			return -1, err
		}
		page = next
	}
}

// reachesFloor reports whether the page ends with a row that changed before
// the floor.
func (t *tick) reachesFloor(page *polar.Page) bool {
	if len(page.CustomerMeters) == 0 {
		return false
	}
	last := page.CustomerMeters[len(page.CustomerMeters)-1]
	return !last.ModifiedAt.IsZero() && last.ModifiedAt.Before(t.floor)
}

// take adds the rows of a page that may have changed. Those from before the floor
// are left out: the mirror has them, and comparing them would cost a look at
// each.
func (t *tick) take(ctx context.Context, page listedPage) error {
	t.run.reader.rejectForeign(page.Page)
	whole := page.offset == 0 && page.Page.Size() < page.limit
	t.run.counts.pages++
	t.saver.block.add(page, func(m *polar.CustomerMeter) bool {
		return whole || !m.ChangedAt().Before(t.floor)
	})
	if t.saver.block.full(t.run.mirror.opts.BlockRows) {
		return t.saver.startSave(ctx)
	}
	return nil
}
