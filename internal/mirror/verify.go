package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
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
	err := m.forEach(ctx, 1, func(w *worker) error {
		report, err := w.verify(ctx, repair)
		if err == nil {
			reports = append(reports, *report)
		}
		return err
	})
	return reports, err
}

// An audit is one verification under way.
type audit struct {
	reader     reader
	report     *Report
	at         Position
	listed     []uuid.UUID // the last rows that Polar listed, a few
	candidates []uuid.UUID
	cutoff     polar.Key // of a sweep
	unlisted   bool      // rows below it are in the mirror, and Polar does not list them
}

func (w *worker) verify(ctx context.Context, repair bool) (*Report, error) {
	began := time.Now()
	if err := w.identify(ctx); err != nil {
		return nil, err
	}
	floor, err := w.mirror.opts.Store.Floor(ctx, w.org.ID)
	if err == nil && floor.At.IsZero() {
		err = ErrNeverMirrored // all that is missing would count as changed since
	}
	if err != nil {
		return nil, err
	}
	var counters fetch.Counters
	a := &audit{reader: w.reader(&counters), report: &Report{Organization: w.org.Name}}
	err = a.read(ctx)
	w.mirror.opts.Progress.Walked(w.org.Name, a.at, err)
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
func (a *audit) read(ctx context.Context) error {
	w := a.reader.worker
	p := newProof(a.reader.pageSize())
	first, err := a.reader.list(ctx, w.org.Filter, p.next(), p.next().order())
	if err != nil {
		return err
	}
	a.at.Total = first.Page.TotalCount
	if w.mirror.opts.sweeps(w.org, a.at.Total) {
		a.report.Method = store.Sweep
		err := w.mirror.opts.Store.WithWriter(ctx, w.org.ID, func(stored *store.Writer) error {
			a.cutoff = cutoffOf(first.ServerTime)
			return a.sweep(ctx, stored)
		})
		if a.report.Exact = err == nil; !errors.Is(err, ErrNotProven) {
			return err
		}
		w.log.Info("ranks prove nothing, so that all is walked")
		a.report.Rows, a.report.Rejected, a.report.Unread, a.candidates = 0, 0, 0, nil
	}
	a.report.Method = store.Walk
	err = a.compare(ctx, a.reader.provenPages(ctx, w.org.Filter, &p, &first))
	a.report.Exact = err == nil && a.report.Rejected == 0
	return err
}

// sweep compares the customers that the mirror knows and the rows that are new. It
// returns ErrNotProven unless ranks prove that there are no others, as they cannot if
// the mirror has rows that Polar does not list: each would stand for one that the mirror
// lacks.
func (a *audit) sweep(ctx context.Context, stored *store.Writer) error {
	asKnown := func(store.CustomerRows) int { return 1 }
	if err := a.compare(ctx, a.reader.sets(ctx, uuid.Nil, stored.ListedCustomers, asKnown)); err != nil {
		return err
	}
	rows := a.report.Rows
	p := newProof(a.reader.pageSize())
	p.to = a.cutoff
	if err := a.compare(ctx, a.reader.provenPages(ctx, Filter{}, &p, nil)); err != nil {
		return err
	}
	a.report.Rows = rows // those that are new were counted with their customers, but for a few
	if a.report.Rejected > 0 || a.unlisted {
		return ErrNotProven
	}
	ranks := ranks{reader: &a.reader, stored: stored, cutoff: a.cutoff}
	meters, err := ranks.meters(ctx, a.at.Total)
	for _, ranks.meter = range meters {
		if _, fits, err := ranks.check(ctx); err != nil || !fits {
			return cmp.Or(err, ErrNotProven)
		}
	}
	return err
}

// compare compares pages with the mirror's rows of the regions that they show.
func (a *audit) compare(ctx context.Context, pages iter.Seq2[listedPage, error]) error {
	w := a.reader.worker
	for page, err := range pages {
		if err != nil {
			return err
		}
		region := page.region
		mirrored, err := w.mirror.opts.Store.RegionRows(ctx, w.org.ID, *region)
		if err != nil {
			return err
		}
		isNew := func(key polar.Key) bool { return region.ToEnd || key.Compare(region.High) < 0 } // pages overlap
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
			if region.Holds(m.Key()) && (!there || len(polar.Diff(m, &row.CustomerMeter)) > 0) {
				a.suspect(m.ID)
			}
		}
		for id, row := range mirrored {
			if row.Meter.ArchivedAt.IsZero() {
				a.suspect(id)
				a.unlisted = a.unlisted || row.Key().Compare(a.cutoff) < 0
			}
		}
		a.progress(page)
	}
	return nil
}

func (a *audit) progress(page listedPage) {
	w := a.reader.worker
	a.listed = remember(a.listed, page)
	a.at.Pages++
	a.at.Rows += page.Page.Size()
	a.at.Remaining = max(a.at.Total-a.report.Rows-a.report.Rejected, 0)
	a.at.Left = a.reader.left(a.at.Remaining, a.report.Method == store.Sweep)
	w.mirror.opts.Progress.Walking(w.org.Name, a.at)
}

func (a *audit) suspect(id uuid.UUID) {
	if len(a.candidates) >= maxFindings {
		a.report.Unread++
		return
	}
	a.candidates = append(a.candidates, id)
}

// confirmations is how often a row must have been found different before it
// counts: a run may have been between the two looks.
const confirmations = 2

// confirm asks Polar for each candidate by itself, reads the mirror again, and
// keeps what still differs.
func (a *audit) confirm(ctx context.Context) error {
	w := a.reader.worker
	slices.SortFunc(a.candidates, func(x, y uuid.UUID) int { return slices.Compare(x[:], y[:]) })
	floor, err := w.mirror.opts.Store.Floor(ctx, w.org.ID)
	if err != nil {
		return err
	}
	candidates := slices.Compact(a.candidates)
	for range confirmations {
		a.report.Findings = nil
		for ids := range slices.Chunk(candidates, askAtOnce) {
			singles, err := a.reader.get(ctx, ids)
			if err != nil {
				return err
			}
			mirrored, err := w.mirror.opts.Store.Rows(ctx, ids)
			if err != nil {
				return err
			}
			for i, id := range ids {
				a.judge(id, singles[i], mirrored[id], floor)
			}
		}
		candidates = a.report.ids()
	}
	return nil
}

// ids are those of the findings.
func (r *Report) ids() []uuid.UUID {
	ids := make([]uuid.UUID, len(r.Findings))
	for i, f := range r.Findings {
		ids[i] = f.ID
	}
	return ids
}

// judge compares the second reading of one row. single is nil if Polar does
// not have it, row if the mirror does not.
func (a *audit) judge(id uuid.UUID, single *fetch.Single, row *store.Row, floor store.Floor) {
	finding := Finding{ID: id, Kind: Missing}
	live := row != nil && row.Live()
	switch {
	case single == nil && live:
		finding.Kind = Extra
	case single == nil || single.CustomerMeter == nil:
		return // neither has it, or it can't be mirrored, and is counted as that
	default:
		m := single.CustomerMeter
		if live {
			finding.Kind, finding.Fields = Different, polar.Diff(m, &row.CustomerMeter)
			if len(finding.Fields) == 0 {
				return
			}
		}
		if latest(m).After(floor.Since(single.ServerTime)) {
			a.report.Behind++
			return
		}
	}
	a.report.Findings = append(a.report.Findings, finding)
}

// latest is when anything of a customer meter last changed at Polar.
func latest(m *polar.CustomerMeter) time.Time {
	return later(m.ChangedAt(), later(m.Customer.ChangedAt(), m.Meter.ChangedAt()))
}

// repair mends the findings while holding the organization's lock, asking
// Polar for each row once more.
func (a *audit) repair(ctx context.Context) error {
	w := a.reader.worker
	return w.withSession(ctx, true, func(session *store.Session) error {
		run, err := w.start(ctx, session, store.Repair, time.Time{})
		if err != nil {
			return err
		}
		return run.finish(ctx, store.Outcome{Err: a.mend(ctx, run)})
	})
}

func (a *audit) mend(ctx context.Context, run *Run) error {
	ids := a.report.ids()
	for chunk := range slices.Chunk(ids, askAtOnce) {
		gone, err := run.ask(ctx, chunk, true)
		if err != nil {
			return err
		}
		if len(gone) > 0 && a.report.Rows == 0 && !run.mirror.opts.AcceptDeletions {
			// A token that sees nothing gets 404 for every row.
			return &DeletionError{Missing: len(ids), Live: len(ids), Empty: true}
		}
		if err := run.checkToken(ctx, gone, a.listed); err != nil {
			return err
		}
		if err := run.markDeleted(ctx, gone); err != nil {
			return err
		}
		a.report.Repaired += len(chunk)
	}
	run.log.Info("differences repaired", zap.Int("rows", a.report.Repaired))
	return nil
}
