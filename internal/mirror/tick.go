package mirror

import (
	"context"
	"errors"
	"slices"
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

// changedOrder brings the rows changed last first, after those that never changed.
func changedOrder() []string { return []string{"-modified_at", "customer_id", "meter_id"} }

// A tick reads what was added or changed since the last successful run began.
// It may miss what shifted under it; the next full run can't.
type tick struct {
	run   *Run
	saver saver
	floor time.Time // rows older than this need not be looked at
	ended store.Outcome
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
		return w.full(ctx, session, fullOptions{kind: store.Incremental, slot: slot})
	}
	run, err := w.start(ctx, session, store.Incremental, slot)
	if err != nil {
		return err
	}
	t := &tick{run: run, saver: saver{run: run}}
	t.ended.Err = t.readAndSave(ctx, floor)
	return run.finish(ctx, t.ended)
}

// readAndSave is read, and after an error waits for the block that is being saved: the
// end of the run would share the connection with it.
func (t *tick) readAndSave(ctx context.Context, floor store.Floor) error {
	if err := t.read(ctx, floor); err != nil {
		return errors.Join(err, t.saver.wait(ctx))
	}
	return nil
}

// read reads what was added and what changed.
func (t *tick) read(ctx context.Context, floor store.Floor) error {
	first, err := t.list(ctx, span{limit: t.pageSize()}, addedOrder())
	if err != nil {
		return err
	}
	t.ended.Floor = first.ServerTime
	t.floor = floor.Since(first.ServerTime).Add(-tickOverlap)
	err = t.readUntil(ctx, first, addedOrder(), func(m *polar.CustomerMeter) bool { return m.CreatedAt.Before(t.floor) })
	if err == nil && first.Page.Size() == first.limit { // otherwise what changed is on it too
		err = t.changed(ctx, floor.UndatedRows)
	}
	if err != nil {
		return err
	}
	return t.saver.flush(ctx)
}

func (t *tick) pageSize() int { return t.run.reader.pageSize() }

func (t *tick) list(ctx context.Context, s span, order []string) (listedPage, error) {
	return t.run.reader.list(ctx, t.run.org.Filter, s, order)
}

// readUntil takes the rows of a page and of those behind it, until one ends with an old row.
func (t *tick) readUntil(ctx context.Context, page listedPage, order []string, old func(*polar.CustomerMeter) bool) error {
	for {
		if err := t.take(ctx, page); err != nil {
			return err
		}
		rows := inOrder(page.Page)
		if len(rows) < page.limit || old(rows[len(rows)-1]) {
			return nil
		}
		var err error
		if page, err = t.list(ctx, span{offset: page.end(), limit: page.limit}, order); err != nil {
			return err
		}
	}
}

// changed reads the rows that changed last until one is older than the floor.
//
// Rows that never changed have no modified_at, and Polar's Postgres puts them first
// under descending order: there can be very many before the first row that changed.
// Where they end is guessed from the last tick (or the mirror's own count); should they
// come last or not at all, the same search ends at page 1.
func (t *tick) changed(ctx context.Context, guess int) error {
	list := func(ctx context.Context, s span) (listedPage, error) { return t.list(ctx, s, changedOrder()) }
	page, border, err := findBorder(ctx, guess, t.pageSize(), list, undated)
	if err == nil && page.offset > 0 && undated(page) == page.Page.Size() {
		// Nothing has changed at all, or rows without modified_at come last.
		var first listedPage
		if first, err = list(ctx, span{limit: t.pageSize()}); err == nil && undated(first) == 0 {
			page, border = first, 0
		}
	}
	if err != nil {
		return err
	}
	t.ended.UndatedRows = &border
	return t.readUntil(ctx, page, changedOrder(), func(m *polar.CustomerMeter) bool {
		return !m.ModifiedAt.IsZero() && m.ModifiedAt.Before(t.floor)
	})
}

// undated counts the rows without modified_at at the beginning of a page.
func undated(page listedPage) int {
	rows := inOrder(page.Page)
	if n := slices.IndexFunc(rows, func(m *polar.CustomerMeter) bool { return !m.ModifiedAt.IsZero() }); n >= 0 {
		return n
	}
	return len(rows)
}

// inOrder returns the rows of a page in their order. Of rejected ones it knows only the
// times, and what is unknown of these is later than everything.
func inOrder(page *polar.Page) []*polar.CustomerMeter {
	rows := make([]*polar.CustomerMeter, 0, page.Size())
	for i := range page.CustomerMeters {
		rows = append(rows, &page.CustomerMeters[i])
	}
	for _, r := range page.Rejected {
		m := &polar.CustomerMeter{CreatedAt: endOfList.CreatedAt, ModifiedAt: endOfList.CreatedAt}
		if !r.CreatedAt.IsZero() {
			m.CreatedAt = r.CreatedAt
		}
		if r.ModifiedAt != nil {
			m.ModifiedAt = *r.ModifiedAt
		}
		rows = slices.Insert(rows, r.Index, m)
	}
	return rows
}

// take adds the rows of a page that may have changed. Those from before the floor
// are left out: the mirror has them, and comparing them would cost a look at
// each.
func (t *tick) take(ctx context.Context, page listedPage) error {
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
