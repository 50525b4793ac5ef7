package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// blockAge is how long a block may gather: pages can be slow.
const blockAge = 15 * time.Second

// A walk mirrors an organization's customer meters from the run's cursor down
// to the start of the list.
//
// Pages come from the end downward, each overlapping the one above it, so no
// row that exists throughout can hide between two of them (see proof). A block
// and the cursor are saved in one transaction, so a walk cut short anywhere
// resumes below the last saved block; the proof holds across the pause, since
// it never spoke of the time between two pages.
type walk struct {
	*job
	proof   proof
	cursor  store.Cursor
	block   block
	saving  *saving // nil if none is under way
	lost    bool    // a block could not be saved
	seen    int     // rows on accepted pages
	resumed bool
	pages   int
	rows    int
	between func(context.Context)
	due     func() bool
	doubts  int // archived meters to ask about
}

// walkOptions say why a walk runs.
type walkOptions struct {
	kind    store.Kind            // Full, or Incremental for a tick that is as cheap as a walk
	slot    time.Time             // the scheduled time it answers; zero if no schedule asked for it
	between func(context.Context) // runs what is due between two blocks; may be nil
	due     func() bool           // whether anything is due; nil: ask between itself
	catchUp bool                  // after a resumed walk, read what changed since it began
	doubts  int                   // archived meters to ask about; see doubtArchived
}

// walk runs a full run.
func (w *worker) walk(ctx context.Context, session *store.Session, opts walkOptions) error {
	j, err := w.begin(ctx, session, opts.kind, opts.slot)
	if err != nil {
		return err
	}
	wk := &walk{job: j, between: opts.between, due: opts.due, doubts: opts.doubts}
	outcome := store.Outcome{NullRows: -1}
	outcome.Err = wk.do(ctx)
	exact := outcome.Err == nil && wk.cursor.RowsRejected == 0
	outcome.Exact = &exact
	if outcome.Err == nil {
		outcome.Walked = true
		outcome.Floor = wk.cursor.PolarBeganAt
	}
	if hopeless(outcome.Err) {
		outcome.Walked = true
	}
	err = j.end(ctx, outcome)
	w.progress.Walked(w.org.Name, wk.position(), err)
	if err == nil {
		w.tempo.walked(wk.cursor.TotalCount, wk.resumed)
	}
	if err == nil && opts.catchUp && wk.resumed {
		return w.tick(ctx, session, time.Time{}, true)
	}
	return err
}

// hopeless reports whether the walk ended with what it would meet again if it
// went on from its cursor: the next one begins anew.
func hopeless(err error) bool {
	var order *OrderError
	var deletion *DeletionError
	return errors.Is(err, ErrNotProven) || errors.As(err, &order) || errors.As(err, &deletion)
}

func (wk *walk) do(ctx context.Context) error {
	if err := wk.open(ctx); err != nil {
		return err
	}
	wk.progress.Walking(wk.org.Name, wk.position())
	for !wk.proof.done {
		if err := wk.descent(ctx); err != nil {
			// What was proven before the error is worth keeping: the next start
			// goes on below it.
			return errors.Join(err, wk.flush(ctx))
		}
	}
	if err := wk.flush(ctx); err != nil {
		return err
	}
	return wk.reconcile(ctx)
}

// open takes up the unfinished walk, or begins one with the first page: alone,
// since a token Polar has not seen for a while is held to few requests until it
// has been answered. If the page is not full it is the whole walk.
func (wk *walk) open(ctx context.Context) error {
	fingerprint := wk.fingerprint()
	cursor, err := wk.session.LoadCursor(ctx, fingerprint)
	if err != nil {
		return err
	}
	if cursor != nil {
		wk.cursor, wk.resumed = *cursor, true
		wk.proof = proof{size: wk.opts.PageSize, low: cursor.Low, known: true, offset: cursor.Offset}
		wk.log.Info("walk resumed", zap.Int("offset", cursor.Offset), zap.Int("total_count", cursor.TotalCount))
		return wk.measureStart(ctx, wk.client)
	}
	if err := wk.session.Scope(ctx, wk.org.Filter.scope()); err != nil {
		return err
	}
	wk.proof = proof{size: wk.opts.PageSize}
	first, err := wk.listWalked(ctx, wk.client, span{0, wk.opts.PageSize})
	if err != nil {
		return err
	}
	wk.cursor = store.Cursor{
		BeganAt:      wk.run.StartedAt,
		PolarBeganAt: first.ServerTime,
		TotalCount:   first.Page.TotalCount,
		Fingerprint:  fingerprint,
	}
	if err := wk.doubtArchived(ctx); err != nil {
		return err
	}
	if first.Page.Size() < wk.opts.PageSize {
		if err := wk.checkVisible(ctx, first.Page); err != nil {
			return err
		}
		return wk.take(first)
	}
	wk.pages, wk.rows = 1, first.Page.Size()
	wk.proof.offset = max(first.Page.TotalCount, wk.opts.PageSize)
	return wk.measureStart(ctx, wk.client)
}

// checkVisible tells an organization without customer meters from one that the
// token cannot see: Polar answers both with an empty list.
func (wk *walk) checkVisible(ctx context.Context, page *polar.Page) error {
	if page.Size() > 0 || !wk.org.Filter.empty() {
		return nil
	}
	any, err := wk.client.List(ctx, fetch.ListParams{Page: 1, Limit: 1})
	if err != nil {
		return err
	}
	for _, m := range any.Page.CustomerMeters {
		if m.Meter.OrganizationID != wk.org.ID {
			return &WrongOrganizationError{Configured: wk.org.ID, Seen: m.Meter.OrganizationID}
		}
	}
	return nil
}

// descent reads pages downward until one of them calls for another plan.
func (wk *walk) descent(ctx context.Context) error {
	width := wk.opts.PagesInFlight
	if wk.proof.searching() {
		width = 1
	}
	for page, err := range wk.descend(ctx, wk.client, wk.proof.next(), width) {
		if err != nil {
			return err
		}
		searching := wk.proof.searching()
		if err := wk.take(page); err != nil {
			return err
		}
		if wk.proof.done || searching || wk.proof.searching() || wk.proof.offset != page.offset {
			return nil // what was planned ahead no longer fits
		}
		if wk.block.full(wk.opts.BlockRows) {
			if err := wk.breathe(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// breathe saves the block, and lets what is due between two blocks be done.
func (wk *walk) breathe(ctx context.Context) error {
	if err := wk.hand(ctx); err != nil {
		return err
	}
	if wk.between == nil || (wk.due != nil && !wk.due()) {
		return nil
	}
	if err := wk.drain(ctx); err != nil {
		return err
	}
	wk.between(ctx)
	return nil
}

// take adds a page to the block if it proves something.
func (wk *walk) take(page fetched) error {
	wk.pages++
	wk.rows += page.Page.Size()
	before := wk.proof
	verdict, err := wk.proof.take(page.span, page.Page)
	if err != nil {
		return err
	}
	if verdict != accepted {
		wk.log.Debug("page left a gap", zap.Int("page", page.page()), zap.Int("limit", page.limit), zap.Int("misses", wk.proof.misses))
		return nil
	}
	wk.screen(page.Page)
	wk.block.add(page, &before, &wk.proof)
	wk.seen += page.Page.Size()
	wk.progress.Walking(wk.org.Name, wk.position())
	return nil
}

// screen rejects rows that belong to another organization. Rejected rows keep
// their places within the page.
func (w *worker) screen(page *polar.Page) {
	if !w.foreign(page.CustomerMeters) {
		return
	}
	var own []polar.CustomerMeter
	var rejected []polar.RejectedRow
	usable, unusable := page.CustomerMeters, page.Rejected
	for i := range page.Size() {
		if len(unusable) > 0 && (unusable[0].Index == i || len(usable) == 0) {
			rejected, unusable = append(rejected, unusable[0]), unusable[1:]
			continue
		}
		m := usable[0]
		usable = usable[1:]
		if !w.foreign([]polar.CustomerMeter{m}) {
			own = append(own, m)
			continue
		}
		rejected = append(rejected, polar.RejectedRow{
			Index: i, ID: m.ID, Key: m.Key(), HasKey: true,
			Raw:    fmt.Appendf(nil, `{"id":%q,"customer":%s,"meter":%s}`, m.ID, m.Customer.Raw, m.Meter.Raw),
			Reason: fmt.Sprintf("belongs to organization %s, not to %s", m.Meter.OrganizationID, w.org.ID),
		})
	}
	page.CustomerMeters, page.Rejected = own, rejected
}

// foreign reports whether any of rows belongs to another organization.
func (w *worker) foreign(rows []polar.CustomerMeter) bool {
	for i := range rows {
		if rows[i].Meter.OrganizationID != w.org.ID || rows[i].Customer.OrganizationID != w.org.ID {
			return true
		}
	}
	return false
}

func (wk *walk) position() Position {
	remaining := wk.proof.offset
	if wk.proof.done {
		remaining = 0
	}
	return Position{
		Pages:     wk.pages,
		Rows:      wk.rows,
		Remaining: remaining,
		Total:     max(wk.cursor.TotalCount, remaining),
		Left:      wk.left(remaining),
		Resumed:   wk.resumed,
	}
}
