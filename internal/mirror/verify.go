package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// A Finding is one row in which mirror and Polar differ, after both were read
// again.
type Finding struct {
	ID     uuid.UUID          `json:"id"`
	Kind   FindingKind        `json:"kind"`
	Fields []polar.Difference `json:"fields"` // A is Polar's value, B the mirror's; for Different
}

// A FindingKind says how a row differs.
type FindingKind string

// The kinds of findings.
const (
	Missing   FindingKind = "missing"   // Polar lists it, the mirror has no live row of it
	Extra     FindingKind = "extra"     // the mirror has it live, Polar has it no longer
	Different FindingKind = "different" // both have it, not with the same values
)

// ErrNeverMirrored means that there is nothing to compare with yet.
var ErrNeverMirrored = errors.New("no full run has succeeded yet: run syncd --backfill, and then verify")

// maxFindings bounds what is kept of one organization's findings; beyond it
// they are counted. Candidates beyond it are not read again.
const maxFindings = 10_000

// A Report is what verify found out about one organization.
type Report struct {
	Organization string        `json:"organization"`
	Rows         int           `json:"rows"`          // listed by Polar
	Rejected     int           `json:"rejected"`      // of them, those that can't be mirrored
	Behind       int           `json:"changed_since"` // changed at Polar since the last successful run began, so not a finding
	Findings     []Finding     `json:"findings"`
	Unread       int           `json:"unread"` // candidates beyond maxFindings
	Exact        bool          `json:"exact"`  // the pages prove that no row was overlooked
	Method       store.Method  `json:"-"`      // by which they do
	Repaired     int           `json:"repaired"`
	Requests     int64         `json:"requests"`
	Elapsed      time.Duration `json:"-"`
}

// Equal reports whether mirror and Polar agree.
func (r *Report) Equal() bool { return len(r.Findings) == 0 && r.Unread == 0 }

// Verify reads every page of every organization again and compares it with the
// mirror. It takes no lock, so that runs go on meanwhile; a difference counts
// only if it is still there after the row was asked for by itself and the
// mirror was read again. With repair it then mends what it found, as a run of
// its own that holds the organization's lock.
func (m *Mirror) Verify(ctx context.Context, repair bool) ([]Report, error) {
	var reports []Report
	var errs []error
	for _, org := range m.opts.Organizations {
		report, err := m.worker(org).verify(ctx, repair)
		if err != nil {
			errs = append(errs, fmt.Errorf("organization %s: %w", org.Name, err))
			continue
		}
		reports = append(reports, *report)
	}
	m.notices.flush(ctx)
	return reports, errors.Join(errs...)
}

// An audit is one verification under way.
type audit struct {
	worker     *worker
	reader     reader
	report     *Report
	at         Position
	listed     []uuid.UUID // the last rows that Polar listed, a few
	candidates []uuid.UUID
}

func (w *worker) verify(ctx context.Context, repair bool) (*Report, error) {
	began := time.Now()
	if err := w.identify(ctx); err != nil {
		return nil, err
	}
	if floor, err := w.mirror.store.Floor(ctx, w.org.ID); err != nil {
		return nil, err
	} else if floor.At.IsZero() {
		return nil, ErrNeverMirrored // all that is missing would count as changed since
	}
	var counters fetch.Counters
	a := &audit{worker: w, reader: w.reader(&counters), report: &Report{Organization: w.org.Name}}
	position, err := a.read(ctx)
	w.mirror.progress.Walked(w.org.Name, position, err)
	if err != nil {
		return nil, err
	}
	if err := a.confirm(ctx); err != nil {
		return nil, err
	}
	if repair && len(a.report.Findings) > 0 {
		if err := a.repair(ctx); err != nil {
			return nil, fmt.Errorf("repair: %w", err)
		}
	}
	a.report.Requests, a.report.Elapsed = counters.Requests.Load(), time.Since(began)
	return a.report, nil
}

// read goes through the list as a full run does, over the same pages, and notes the
// rows that seem to differ. Where a sweep finds that ranks differ, all is walked.
func (a *audit) read(ctx context.Context) (Position, error) {
	p := newProof(a.reader.opts.PageSize)
	first, err := a.reader.list(ctx, a.reader.org.Filter, p.next(), p.next().order())
	if err != nil {
		return Position{}, err
	}
	a.at.Total = first.Page.TotalCount
	if a.reader.opts.sweeps(a.reader.org, a.at.Total, first.ServerTime) {
		fits := false
		err := a.worker.mirror.store.Reading(ctx, a.reader.org.ID, func(stored *store.Writer) (err error) {
			fits, err = a.sweep(ctx, stored, beforeRun(first.ServerTime))
			return err
		})
		if err != nil || fits {
			a.report.Method = store.Sweep
			return a.at, err
		}
		a.worker.log.Info("ranks differ, so that all is walked")
		a.report.Rows, a.report.Rejected, a.report.Unread, a.candidates = 0, 0, 0, nil
	}
	err = a.walk(ctx, a.reader.org.Filter, &p, &first, nil)
	a.report.Exact, a.report.Method = err == nil && a.report.Rejected == 0, store.Walk
	return a.at, err
}

// walk compares the proven pages of the list under filter.
func (a *audit) walk(ctx context.Context, filter Filter, p *proof, first *listedPage, until func() bool) error {
	for page, err := range a.reader.provenPages(ctx, filter, p, first) {
		if err == nil {
			err = a.compareProven(ctx, page)
		}
		if err != nil {
			return err
		}
		a.progress(page.listedPage, p.remaining(), pagesOf(p.remaining(), a.reader.opts.PageSize))
		if until != nil && until() {
			return nil
		}
	}
	return nil
}

// sweep compares the customers that the mirror knows and the rows that are new, and
// reports whether ranks prove that there are no others.
func (a *audit) sweep(ctx context.Context, stored *store.Writer, began polar.Key) (bool, error) {
	for after := uuid.Nil; ; {
		customers, err := stored.ListedCustomers(ctx, after, customersAtOnce)
		if err != nil {
			return false, err
		}
		if len(customers) == 0 {
			break
		}
		after = customers[len(customers)-1].ID
		for page, err := range a.reader.sets(ctx, pack(customers, 1)) {
			if err == nil {
				err = a.compareSet(ctx, page)
			}
			if err != nil {
				return false, err
			}
			left := max(a.at.Total-a.report.Rows, 0)
			a.progress(page, left, float64(left)/setRows)
		}
	}
	rows := a.report.Rows
	p := newProof(a.reader.opts.PageSize)
	if err := a.walk(ctx, Filter{}, &p, nil, func() bool { return p.low.Compare(began) < 0 }); err != nil {
		return false, err
	}
	a.report.Rows = rows // those that are new were counted with their customers, but for a few
	a.report.Exact = a.report.Rejected == 0
	if a.report.Rejected > 0 {
		return false, nil
	}
	ranks := ranks{reader: &a.reader, stored: stored, began: began}
	meters, err := ranks.meters(ctx, a.at.Total)
	for _, meter := range meters {
		if _, fits, err := ranks.check(ctx, meter); err != nil || !fits {
			return false, err
		}
	}
	return true, err
}

// compareSet compares the rows of a set of customers.
func (a *audit) compareSet(ctx context.Context, page listedPage) error {
	if page.Page.Size() == page.limit {
		p := newProof(a.reader.opts.PageSize)
		return a.walk(ctx, page.filter, &p, &page, nil)
	}
	if err := page.checkOrder(); err != nil {
		return err
	}
	a.reader.rejectForeign(page.Page)
	var b block
	b.addSet(page)
	return a.compare(ctx, page.Page, b.region, func(polar.Key) bool { return true })
}

func (a *audit) progress(page listedPage, remaining int, pages float64) {
	a.listed = remember(a.listed, page)
	a.at.Pages++
	a.at.Rows += page.Page.Size()
	a.at.Remaining = remaining
	a.at.Total = max(a.at.Total, remaining)
	a.at.Left = a.reader.pace.left(pages)
	a.worker.mirror.progress.Walking(a.reader.org.Name, a.at)
}

// compareProven compares what a page proves that the pages before did not.
func (a *audit) compareProven(ctx context.Context, page provenPage) error {
	var b block
	b.addProven(page)
	if b.region == nil {
		return nil // compared already
	}
	return a.compare(ctx, page.Page, b.region, func(key polar.Key) bool { // pages overlap
		return !page.before.known || key.Compare(page.before.low) < 0
	})
}

// compare compares a page with the mirror's rows of region, and counts the rows of
// which isNew is true.
func (a *audit) compare(ctx context.Context, page *polar.Page, region *store.Region, isNew func(polar.Key) bool) error {
	mirrored, err := a.worker.mirror.store.RegionRows(ctx, a.reader.org.ID, *region)
	if err != nil {
		return err
	}
	for _, r := range page.Rejected {
		if !r.HasKey || isNew(r.Key) {
			a.report.Rejected++
		}
		delete(mirrored, r.ID)
	}
	for i := range page.CustomerMeters {
		m := &page.CustomerMeters[i]
		if isNew(m.Key()) {
			a.report.Rows++
		}
		row, there := mirrored[m.ID]
		delete(mirrored, m.ID)
		if region.Holds(m.Key()) && (!there || len(polar.Diff(m, &row.CustomerMeter)) > 0) {
			a.suspect(m.ID)
		}
	}
	for id, row := range mirrored {
		if row.Meter.ArchivedAt.IsZero() {
			a.suspect(id)
		}
	}
	return nil
}

func (a *audit) suspect(id uuid.UUID) {
	if len(a.candidates) >= maxFindings {
		a.report.Unread++
		return
	}
	a.candidates = append(a.candidates, id)
}

// confirm asks Polar for each candidate by itself, reads the mirror again, and
// keeps what still differs.
func (a *audit) confirm(ctx context.Context) error {
	slices.SortFunc(a.candidates, func(x, y uuid.UUID) int { return slices.Compare(x[:], y[:]) })
	a.candidates = slices.Compact(a.candidates)
	floor, err := a.worker.mirror.store.Floor(ctx, a.reader.org.ID)
	if err != nil {
		return err
	}
	for range confirmations - 1 { // a run may have been between the two looks
		if err := a.judgeAll(ctx, floor); err != nil || len(a.report.Findings) == 0 {
			return err
		}
		a.candidates = a.candidates[:0]
		for _, f := range a.report.Findings {
			a.candidates = append(a.candidates, f.ID)
		}
		a.report.Findings = nil
	}
	return a.judgeAll(ctx, floor)
}

// confirmations is how often a row must have been found different before it
// counts.
const confirmations = 2

func (a *audit) judgeAll(ctx context.Context, floor store.Floor) error {
	for ids := range slices.Chunk(a.candidates, askAtOnce) {
		singles, err := a.reader.get(ctx, ids)
		if err != nil {
			return err
		}
		mirrored, err := a.worker.mirror.store.Rows(ctx, ids)
		if err != nil {
			return err
		}
		for i, id := range ids {
			a.judge(id, singles[i], mirrored[id], floor)
		}
	}
	return nil
}

// judge compares the second reading of one row. single is nil if Polar does
// not have it, row if the mirror does not.
func (a *audit) judge(id uuid.UUID, single *fetch.Single, row *store.Row, floor store.Floor) {
	live := row != nil && row.Live()
	switch {
	case single == nil:
		if live {
			a.report.Findings = append(a.report.Findings, Finding{ID: id, Kind: Extra})
		}
		return
	case single.CustomerMeter == nil:
		return // can't be mirrored, and is counted as that
	}
	m := single.CustomerMeter
	var fields []polar.Difference
	if live {
		if fields = polar.Diff(m, &row.CustomerMeter); len(fields) == 0 {
			return
		}
	}
	if latest(m).After(floor.Since(single.ServerTime)) {
		a.report.Behind++
		return
	}
	kind := Different
	if !live {
		kind = Missing
	}
	a.report.Findings = append(a.report.Findings, Finding{ID: id, Kind: kind, Fields: fields})
}

// latest is when anything of a customer meter last changed at Polar.
func latest(m *polar.CustomerMeter) time.Time {
	return later(m.ChangedAt(), later(m.Customer.ChangedAt(), m.Meter.ChangedAt()))
}

// repair mends the findings while holding the organization's lock, asking
// Polar for each row once more.
func (a *audit) repair(ctx context.Context) error {
	return a.worker.withSession(ctx, true, func(session *store.Session) error {
		run, err := a.worker.start(ctx, session, store.Repair, time.Time{})
		if err != nil {
			return err
		}
		return run.finish(ctx, store.Outcome{Err: a.mend(ctx, run)})
	})
}

func (a *audit) mend(ctx context.Context, run *Run) error {
	ids := make([]uuid.UUID, len(a.report.Findings))
	for i, f := range a.report.Findings {
		ids[i] = f.ID
	}
	for chunk := range slices.Chunk(ids, askAtOnce) {
		gone, err := run.ask(ctx, chunk, true)
		if err != nil {
			return err
		}
		if len(gone) > 0 && a.report.Rows == 0 && !a.reader.opts.AcceptDeletions {
			// A token that sees nothing gets 404 for every row.
			return &DeletionError{Missing: len(ids), Live: len(ids), Empty: true}
		}
		if len(gone) > 0 {
			if err := run.checkToken(ctx, a.listed); err != nil {
				return err
			}
		}
		if err := run.markDeleted(ctx, gone); err != nil {
			return err
		}
		a.report.Repaired += len(chunk)
	}
	a.worker.log.Info("differences repaired", zap.Int("rows", a.report.Repaired))
	return nil
}
