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
	ID     uuid.UUID
	Kind   FindingKind
	Fields []polar.Difference // A is Polar's value, B the mirror's; for Different
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
	Organization string
	Rows         int // listed by Polar
	Rejected     int // of them, those that can't be mirrored
	Behind       int // changed at Polar since the last successful run began, so not a finding
	Findings     []Finding
	Unread       int  // candidates beyond maxFindings
	Exact        bool // the pages prove that no row was overlooked
	Repaired     int
	Requests     int64
	Elapsed      time.Duration
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

// read goes through the list as a walk does, over the same proven pages, and
// notes the rows that seem to differ.
func (a *audit) read(ctx context.Context) (Position, error) {
	p := newProof(a.reader.opts.PageSize)
	at := Position{}
	for page, err := range a.reader.provenPages(ctx, a.reader.org.Filter, &p) {
		if err == nil {
			err = a.compare(ctx, page)
		}
		if err != nil {
			return at, err
		}
		at.Pages++
		at.Rows += page.Page.Size()
		at.Remaining = p.remaining()
		at.Total = max(p.total, at.Remaining)
		at.Left = a.reader.pace.left(at.Remaining, a.reader.opts.PageSize)
		a.worker.mirror.progress.Walking(a.reader.org.Name, at)
	}
	a.report.Exact = a.report.Rejected == 0
	return at, nil
}

// compare compares one page with the mirror.
func (a *audit) compare(ctx context.Context, page provenPage) error {
	var b block
	b.addProven(page)
	if b.region == nil {
		return nil // compared already
	}
	rows, err := a.worker.mirror.store.RegionRows(ctx, a.reader.org.ID, *b.region)
	if err != nil {
		return err
	}
	mirrored := make(map[uuid.UUID]*store.Row, len(rows))
	for i := range rows {
		mirrored[rows[i].ID] = &rows[i]
	}
	isNew := func(key polar.Key) bool { return !page.before.known || key.Compare(page.before.low) < 0 } // pages overlap
	for _, r := range page.Page.Rejected {
		if !r.HasKey || isNew(r.Key) {
			a.report.Rejected++
		}
		delete(mirrored, r.ID)
	}
	for i := range page.Page.CustomerMeters {
		m := &page.Page.CustomerMeters[i]
		if isNew(m.Key()) {
			a.report.Rows++
		}
		row, there := mirrored[m.ID]
		delete(mirrored, m.ID)
		if inRegion(b.region, m.Key()) && (!there || len(polar.Diff(m, &row.CustomerMeter)) > 0) {
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

// inRegion reports whether the mirror's rows of the region include key: the upper
// part of a page that overlaps the one above it has been compared there.
func inRegion(r *store.Region, key polar.Key) bool {
	return (r.ToEnd || key.Compare(r.High) <= 0) && (r.FromStart || key.Compare(r.Low) >= 0)
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
		rows, err := a.worker.mirror.store.Rows(ctx, ids)
		if err != nil {
			return err
		}
		mirrored := make(map[uuid.UUID]*store.Row, len(rows))
		for i := range rows {
			mirrored[rows[i].ID] = &rows[i]
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
		if err := run.markDeleted(ctx, gone); err != nil {
			return err
		}
		a.report.Repaired += len(chunk)
	}
	a.worker.log.Info("differences repaired", zap.Int("rows", a.report.Repaired))
	return nil
}
