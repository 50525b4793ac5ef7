package mirror

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// The rank check proves that a sweep has seen everything.
//
// Let the mirror have n listed rows that are older than the run, counted before
// Polar is asked for the page with the rows at offsets n-1 and n. If the row at n-1
// is the mirror's last one of these, and the next one, if there is any, is not older
// than the run, then Polar has exactly n rows older than the run: one statement says
// so, whatever is created meanwhile. Every row that the mirror counts was listed in
// the run, so that none of them has vanished since unless Polar removed it for good.
// A set of n rows within a set of n rows is all of it.
//
// If the rows do not fit, the places where the ranks of mirror and Polar drift apart
// are searched for by halving: a page's offset is Polar's rank of its first row, and
// the mirror can count its own rank of it. Between two rows whose ranks differ by the
// same number nothing is missing. What the pages there show is saved, what they lack
// is asked for, and the ranks are compared again.

const (
	// rankChecks is how often ranks are compared before the run gives up.
	rankChecks = 4
	// maxProbes bounds the pages of one search; what differs then is walked.
	maxProbes = 200
	// widespread is the share of the list, one row in so many, beyond which rows that
	// the mirror lacks are everywhere, and searching costs more than walking.
	widespread = 200
	// wholeRankRows is up to how many rows ranks are compared over the whole list.
	// Beyond it Polar would take more than its 30 s to come to the offset.
	wholeRankRows = 3_000_000
)

// endOfList is behind every key.
var endOfList = polar.Key{CreatedAt: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), CustomerID: uuid.Max, MeterID: uuid.Max}

// proveByRank checks the ranks, and searches for what was overlooked until they fit.
func (f *fullRun) proveByRank(ctx context.Context) error {
	meters, err := f.ranks().meters(ctx, f.cursor.TotalCount)
	if err != nil {
		return err
	}
	for _, meter := range meters {
		if err := f.proveMeter(ctx, meter); err != nil {
			return err
		}
	}
	return nil
}

func (f *fullRun) proveMeter(ctx context.Context, meter uuid.UUID) error {
	for check := 1; ; {
		if err := f.waitForSave(ctx); err != nil {
			return err
		}
		rank, fits, err := f.ranks().check(ctx, meter)
		if err != nil || fits {
			return err
		}
		s := &search{f: f, meter: meter}
		high, err := s.top(ctx, rank)
		if err != nil {
			return err
		}
		f.run.log.Info("ranks differ", zap.Int("mirror", rank), zap.Int("polar", high.polar), zap.Int("check", check))
		switch {
		case check == rankChecks:
			return fmt.Errorf("%w: of rows older than the run, Polar has %d and the mirror counts %d", ErrNotProven, high.polar, rank)
		case len(f.sweep.meters) > 0 && high.drift() > high.polar/widespread:
			// Not all customers have a row of the meters walked so far.
			next := f.sweep.meters[0]
			f.sweep.meters = f.sweep.meters[1:]
			err = f.walkMeter(ctx, next)
		default:
			check++
			err = s.run(ctx, high)
		}
		if err != nil {
			return err
		}
	}
}

func (f *fullRun) ranks() *ranks {
	return &ranks{reader: &f.run.reader, stored: &f.run.session.Writer, began: f.beganAt(), rejected: f.sweep.rejected}
}

// walkMeter walks a meter, and sweeps the customers that are new by it.
func (f *fullRun) walkMeter(ctx context.Context, meter uuid.UUID) error {
	p := newProof(f.run.mirror.opts.PageSize)
	if err := f.walk(ctx, ofMeter(meter), &p, nil, nil); err != nil {
		return err
	}
	return f.sweepAdded(ctx)
}

// ranks compares ranks of the mirror with Polar's.
type ranks struct {
	reader   *reader
	stored   *store.Writer
	began    polar.Key          // the rows below it are older than the run
	rejected map[polar.Key]bool // rows that are listed and not mirrored
}

// meters are the meters whose ranks are compared one after the other in a list of
// total rows: only the zero one, which stands for all, unless that is too long.
func (r *ranks) meters(ctx context.Context, total int) ([]uuid.UUID, error) {
	if total <= r.reader.opts.WholeRankRows {
		return []uuid.UUID{uuid.Nil}, nil
	}
	states, err := r.stored.MeterStates(ctx)
	var meters []uuid.UUID
	for meter, archived := range states {
		if !archived {
			meters = append(meters, meter)
		}
	}
	return meters, err
}

// check compares the mirror's rank of the last row that is older than the run with
// Polar's. It returns the number of those rows.
func (r *ranks) check(ctx context.Context, meter uuid.UUID) (n int, fits bool, err error) {
	last, _, err := r.stored.LastListed(ctx, r.began, meter)
	if err != nil {
		return 0, false, err
	}
	if n, err = r.count(ctx, polar.Key{}, r.began, meter); err != nil {
		return 0, false, err
	}
	for key := range r.rejected {
		if key.Compare(r.began) < 0 && key.Compare(last) > 0 && (meter == uuid.Nil || key.MeterID == meter) {
			last = key
		}
	}
	page, err := r.page(ctx, pageWith(n-1, n, polar.MaxPageSize), meter)
	if err != nil {
		return 0, false, err
	}
	at := n - 1 - page.offset // of the last row, on the page
	fits = n == 0
	keys := 0
	for i, key := range page.Page.Keys() {
		keys++
		switch {
		case i == at:
			fits = key.Compare(last) == 0
		case i == at+1:
			fits = fits && key.Compare(r.began) >= 0
		}
	}
	return n, fits && keys == page.Page.Size(), nil
}

// count counts the listed rows from low up to, and not including, high: those of the
// mirror, and those that cannot be mirrored.
func (r *ranks) count(ctx context.Context, low, high polar.Key, meter uuid.UUID) (int, error) {
	n, err := r.stored.CountListed(ctx, low, high, meter)
	if err != nil || len(r.rejected) == 0 {
		return n, err
	}
	var keys []polar.Key
	for key := range r.rejected {
		if key.Compare(low) >= 0 && key.Compare(high) < 0 && (meter == uuid.Nil || key.MeterID == meter) {
			keys = append(keys, key)
		}
	}
	keys, err = r.stored.NotMirrored(ctx, keys)
	return n + len(keys), err
}

// page reads a page oldest first.
func (r *ranks) page(ctx context.Context, s span, meter uuid.UUID) (listedPage, error) {
	page, err := r.reader.list(ctx, ofMeter(meter), s, s.order())
	if err == nil {
		err = page.checkOrder()
	}
	return page, err
}

// ofMeter is the filter of one meter or, if that is zero, of all.
func ofMeter(meter uuid.UUID) Filter {
	if meter == uuid.Nil {
		return Filter{}
	}
	return Filter{MeterIDs: []uuid.UUID{meter}}
}

// pageWith returns the longest page of at most size rows that holds both the rows at
// low and high; the zero span if there is none. Below zero there are no rows.
func pageWith(low, high, size int) span {
	low = max(low, 0)
	for limit := size; limit > high-low; limit-- {
		if low/limit == high/limit {
			return span{offset: low / limit * limit, limit: limit}
		}
	}
	return span{}
}

// A mark is a row with its rank at Polar and in the mirror.
type mark struct {
	key            polar.Key
	polar, mirrors int
}

func (m mark) drift() int { return m.polar - m.mirrors }

// A search finds the rows that make ranks differ.
type search struct {
	f      *fullRun
	meter  uuid.UUID
	probes int
}

// run finds what makes the ranks differ below high, and sees to it.
func (s *search) run(ctx context.Context, high mark) error {
	f := s.f
	// A meter may have come back from the archive with rows that no sweep asked for.
	if err := f.checkArchived(ctx, allArchivedChecks); err != nil {
		return err
	}
	f.sweep.added = nil
	find := func() error { return s.between(ctx, mark{}, high) }
	if max(high.drift(), -high.drift()) > high.polar/widespread {
		find = func() error { return s.walk(ctx, mark{}, high) }
	}
	if err := f.clearListed(ctx, find); err != nil {
		return err
	}
	f.run.log.Info("ranks searched", zap.Int("pages", s.probes), zap.Int("customers", len(f.sweep.added)))
	if err := f.sweepAdded(ctx); err != nil {
		return err
	}
	return f.reconcileSweep(ctx)
}

// top finds Polar's rank of the beginning of the run, looking from where the mirror's
// is outward in doubling steps.
func (s *search) top(ctx context.Context, n int) (mark, error) {
	began := s.f.beganAt()
	step := s.f.run.mirror.opts.PageSize
	for low, high, at := 0, -1, n; ; {
		page, err := s.page(ctx, at)
		if err != nil {
			return mark{}, err
		}
		older, size := 0, page.Page.Size()
		for i, key := range page.Page.Keys() {
			if key.Compare(began) < 0 {
				older = i + 1
			}
		}
		switch {
		case older > 0 && (older < size || size < page.limit), older == 0 && page.offset == 0:
			return mark{began, page.offset + older, n}, nil
		case older > 0:
			low = page.offset + size
		default:
			high = page.offset
		}
		switch {
		case high >= 0 && high <= low:
			return mark{began, high, n}, nil
		case high < 0:
			at, step = low+step, 2*step
		case low > 0:
			at = (low + high) / 2
		default:
			at, step = max(high-step, 0), 2*step
		}
	}
}

// page reads the page with the row at Polar's rank at.
func (s *search) page(ctx context.Context, at int) (listedPage, error) {
	s.probes++
	size := s.f.run.mirror.opts.PageSize
	return s.f.ranks().page(ctx, span{offset: at / size * size, limit: size}, s.meter)
}

// between sees to what differs between two rows. It begins with the newer half, so
// that what it saves moves no rank that has yet to be compared.
func (s *search) between(ctx context.Context, low, high mark) error {
	if low.drift() == high.drift() {
		return nil
	}
	if s.probes >= maxProbes || high.polar-low.polar < 2*s.f.run.mirror.opts.PageSize {
		return s.walk(ctx, low, high)
	}
	page, err := s.page(ctx, (low.polar+high.polar)/2)
	if err != nil {
		return err
	}
	first, last, ok := page.Page.Edges()
	if !ok {
		return errNoRank
	}
	from := mark{key: first.Key, polar: page.offset + first.Index}
	to := mark{key: last.Key, polar: page.offset + last.Index}
	if from.key.Compare(low.key) <= 0 || to.key.Compare(high.key) >= 0 {
		return s.walk(ctx, low, high) // the list has shifted
	}
	below, err := s.f.ranks().count(ctx, low.key, from.key, s.meter)
	if err != nil {
		return err
	}
	within, err := s.f.ranks().count(ctx, from.key, to.key, s.meter)
	if err != nil {
		return err
	}
	from.mirrors = low.mirrors + below
	to.mirrors = from.mirrors + within
	if err := s.between(ctx, to, high); err != nil {
		return err
	}
	if from.drift() != to.drift() {
		if err := s.save(ctx, page); err != nil {
			return err
		}
	}
	return s.between(ctx, low, from)
}

// save saves what a page shows, and suspects what it lacks.
func (s *search) save(ctx context.Context, page listedPage) error {
	f := s.f
	f.run.reader.rejectForeign(page.Page)
	first, last, _ := page.Page.Edges()
	f.saver.block.add(page, nil)
	f.saver.block.region = &store.Region{Low: first.Key, High: last.Key, Meters: page.filter.MeterIDs, LowestOffset: page.offset}
	if err := f.take(ctx, page); err != nil {
		return err
	}
	return f.saver.flush(ctx)
}

// walk reads what lies between two rows in overlapping pages.
func (s *search) walk(ctx context.Context, low, high mark) error {
	p := resumedProof(s.f.run.mirror.opts.PageSize, s.f.cursor.TotalCount, high.polar, high.key)
	p.alone = high.polar-low.polar < 2*s.f.run.mirror.opts.PageSize
	return s.f.walk(ctx, ofMeter(s.meter), &p, nil, func() bool { return p.low.Compare(low.key) <= 0 })
}
