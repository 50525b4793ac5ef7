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
	m.lastNotices(ctx)
	return reports, errors.Join(errs...)
}

// An audit is one verification under way.
type audit struct {
	*worker
	client     *fetch.Client
	report     *Report
	candidates []uuid.UUID
}

func (w *worker) verify(ctx context.Context, repair bool) (*Report, error) {
	began := time.Now()
	if err := w.identify(ctx); err != nil {
		return nil, err
	}
	if floor, err := w.store.Floor(ctx, w.org.ID); err != nil {
		return nil, err
	} else if floor.At.IsZero() {
		return nil, ErrNeverMirrored // all that is missing would count as changed since
	}
	var counters fetch.Counters
	a := &audit{worker: w, client: w.org.Client.Counting(&counters), report: &Report{Organization: w.org.Name}}
	position, err := a.read(ctx)
	w.progress.Walked(w.org.Name, position, err)
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

// read goes through the list as a walk does, with the same proof, and notes the
// rows that seem to differ.
func (a *audit) read(ctx context.Context) (Position, error) {
	p := proof{size: a.opts.PageSize}
	at := Position{}
	first, err := a.listWalked(ctx, a.client, span{0, p.size})
	if err != nil {
		return at, err
	}
	at.Total = first.Page.TotalCount
	p.offset = max(first.Page.TotalCount, p.size)
	if first.Page.Size() < p.size {
		err = a.compare(ctx, &p, first)
	} else {
		err = a.measureStart(ctx, a.client)
	}
	if err != nil {
		return at, err
	}
	for !p.done {
		width := a.opts.PagesInFlight
		if p.searching() {
			width = 1
		}
		for page, err := range a.descend(ctx, a.client, p.next(), width) {
			if err != nil {
				return at, err
			}
			searching := p.searching()
			if err := a.compare(ctx, &p, page); err != nil {
				return at, err
			}
			at.Pages++
			at.Rows += page.Page.Size()
			at.Remaining = p.offset
			at.Left = a.left(p.offset)
			a.progress.Walking(a.org.Name, at)
			if p.done || searching || p.searching() || p.offset != page.offset {
				break
			}
		}
	}
	a.report.Exact = a.report.Rejected == 0
	return at, nil
}

// compare holds one page against the mirror.
func (a *audit) compare(ctx context.Context, p *proof, page fetched) error {
	before := *p
	verdict, err := p.take(page.span, page.Page)
	if err != nil || verdict != accepted {
		return err
	}
	a.screen(page.Page)
	var b block
	b.add(page, &before, p)
	if !b.proven {
		return nil // compared already
	}
	rows, err := a.store.StretchRows(ctx, a.org.ID, b.stretch)
	if err != nil {
		return err
	}
	mirrored := make(map[uuid.UUID]*store.Row, len(rows))
	for i := range rows {
		mirrored[rows[i].ID] = &rows[i]
	}
	for _, r := range page.Page.Rejected {
		if !r.HasKey || !before.known || r.Key.Compare(before.low) < 0 {
			a.report.Rejected++ // pages overlap
		}
		delete(mirrored, r.ID)
	}
	for i := range page.Page.CustomerMeters {
		m := &page.Page.CustomerMeters[i]
		if m.Key().Compare(before.low) < 0 || !before.known {
			a.report.Rows++ // pages overlap
		}
		row, there := mirrored[m.ID]
		delete(mirrored, m.ID)
		if inStretch(b.stretch, m.Key()) && (!there || len(polar.Diff(m, &row.CustomerMeter)) > 0) {
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

// inStretch reports whether the mirror's rows of the stretch include key: the
// upper part of a page that overlaps the one above it has been compared there.
func inStretch(s store.Stretch, key polar.Key) bool {
	return (s.ToEnd || key.Compare(s.High) <= 0) && (s.FromStart || key.Compare(s.Low) >= 0)
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
	floor, err := a.store.Floor(ctx, a.org.ID)
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
		singles, err := a.get(ctx, a.client, ids)
		if err != nil {
			return err
		}
		rows, err := a.store.Rows(ctx, ids)
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
	return a.withSession(ctx, true, func(session *store.Session) error {
		j, err := a.begin(ctx, session, store.Repair, time.Time{})
		if err != nil {
			return err
		}
		j.client = a.client
		return j.end(ctx, store.Outcome{Err: a.mend(ctx, j), NullRows: -1})
	})
}

func (a *audit) mend(ctx context.Context, j *job) error {
	var ids []uuid.UUID
	for _, f := range a.report.Findings {
		ids = append(ids, f.ID)
	}
	for chunk := range slices.Chunk(ids, askAtOnce) {
		gone, err := j.askAgain(ctx, chunk, true)
		if err != nil {
			return err
		}
		if len(gone) > 0 && a.report.Rows == 0 && !a.opts.AcceptDeletions {
			// A token that sees nothing gets 404 for every row.
			return &DeletionError{Missing: len(a.report.Findings), Live: len(a.report.Findings), Empty: true}
		}
		n, err := j.session.MarkDeleted(ctx, j.run, gone)
		if err != nil {
			return err
		}
		j.count(store.Counts{RowsDeleted: int64(n)})
		a.report.Repaired += len(chunk)
	}
	a.log.Info("differences repaired", zap.Int("rows", a.report.Repaired))
	return nil
}
