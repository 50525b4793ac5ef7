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
	*job
	floor time.Time // rows older than this need not be looked at
	block block
}

// tick runs an incremental run for slot. It returns [errNoFloor], and is no
// run, before the first walk has succeeded. An organization that fits on one
// page is walked instead: that is as cheap, and sees everything. Between the
// blocks of a walk that would meddle with the walk's own suspects.
func (w *worker) tick(ctx context.Context, session *store.Session, slot time.Time, betweenBlocks bool) error {
	floor, known, err := session.LoadFloor(ctx)
	if err != nil {
		return w.notStarted(ctx, store.Incremental, err)
	}
	if !known {
		return errNoFloor
	}
	if floor.Few && !betweenBlocks {
		return w.walk(ctx, session, walkOptions{kind: store.Incremental, slot: slot})
	}
	j, err := w.begin(ctx, session, store.Incremental, slot)
	if err != nil {
		return err
	}
	t := &tick{job: j}
	outcome := store.Outcome{}
	outcome.Floor, outcome.NullRows, outcome.Err = t.do(ctx, floor)
	return j.end(ctx, outcome)
}

// do returns when, by Polar's clock, the tick began, and where the rows that
// changed begin.
func (t *tick) do(ctx context.Context, floor store.Floor) (began time.Time, border int, err error) {
	first, err := t.list(ctx, t.client, span{0, t.opts.PageSize}, addedOrder())
	if err != nil {
		return began, -1, err
	}
	began = first.ServerTime
	t.floor = floor.Since(began).Add(-tickOverlap)

	if err := t.added(ctx, first); err != nil {
		return began, -1, err
	}
	if first.Page.Size() < t.opts.PageSize {
		// One page is the whole organization: what changed is on it too.
		return began, -1, t.flush(ctx)
	}
	border, err = t.changed(ctx, floor.NullRows)
	if err != nil {
		return began, -1, err
	}
	return began, border, t.flush(ctx)
}

// added reads the newest rows until one is older than the floor.
func (t *tick) added(ctx context.Context, page fetched) error {
	for {
		if err := t.take(ctx, page); err != nil {
			return err
		}
		rows := page.Page.CustomerMeters
		if page.Page.Size() < page.limit || (len(rows) > 0 && rows[len(rows)-1].CreatedAt.Before(t.floor)) {
			return nil
		}
		next, err := t.list(ctx, t.client, span{page.end(), page.limit}, addedOrder())
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
		next, err := t.list(ctx, t.client, span{page.end(), page.limit}, changedOrder())
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

// take adds the rows of a page that may be news. Those from before the floor
// are left out: the mirror has them, and comparing them would cost a look at
// each.
func (t *tick) take(ctx context.Context, page fetched) error {
	t.screen(page.Page)
	whole := page.offset == 0 && page.Page.Size() < page.limit
	if t.block.pages == 0 || page.Began.Before(t.block.oldest) {
		t.block.oldest = page.Began
	}
	t.block.pages++
	for i := range page.Page.CustomerMeters {
		m := &page.Page.CustomerMeters[i]
		if whole || !m.ChangedAt().Before(t.floor) {
			t.block.rows = append(t.block.rows, m)
		}
	}
	for _, r := range page.Page.Rejected {
		t.block.rejected = append(t.block.rejected, store.RejectedRow{RejectedRow: r, Offset: page.offset})
	}
	if t.block.full(t.opts.BlockRows) {
		return t.flush(ctx)
	}
	return nil
}

// flush saves what the tick has gathered; a tick has no cursor.
func (t *tick) flush(ctx context.Context) error {
	if t.block.empty() {
		return nil
	}
	saved, err := t.save(ctx, t.block.take())
	if err != nil {
		return err
	}
	return t.settle(ctx, saved.Older)
}
