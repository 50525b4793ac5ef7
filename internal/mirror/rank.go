package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
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
	all := f.ranks(uuid.Nil)
	meters, err := all.meters(ctx, f.cursor.TotalCount)
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
		if err := f.saver.wait(ctx); err != nil {
			return err
		}
		s := &search{f: f, ranks: f.ranks(meter)}
		rank, fits, err := s.check(ctx)
		if err != nil || fits {
			return err
		}
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
			err = f.walkAndSweep(ctx, ofMeter(next), newProof(s.reader.pageSize()))
		default:
			check++
			err = s.run(ctx, high)
		}
		if err != nil {
			return err
		}
	}
}

func (f *fullRun) ranks(meter uuid.UUID) ranks {
	return ranks{reader: &f.run.reader, stored: &f.run.session.Writer, cutoff: f.cutoff(), rejected: f.sweep.rejected, meter: meter}
}

// ranks compares ranks of the mirror with Polar's.
type ranks struct {
	reader   *reader
	stored   *store.Writer
	cutoff   polar.Key          // the rows below it are older than the run
	rejected map[polar.Key]bool // rows that are listed and not mirrored
	meter    uuid.UUID          // only its rows are ranked; zero: all are
	probes   int                // pages read
}

// meters are the meters whose ranks are compared one after the other in a list of
// total rows: only the zero one, which stands for all, unless that is too long.
func (r *ranks) meters(ctx context.Context, total int) ([]uuid.UUID, error) {
	if total <= wholeRankRows {
		return []uuid.UUID{uuid.Nil}, nil
	}
	states, err := r.stored.MeterStates(ctx)
	maps.DeleteFunc(states, func(_ uuid.UUID, archived bool) bool { return archived })
	return slices.Collect(maps.Keys(states)), err
}

// check compares the mirror's rank of the last row that is older than the run with
// Polar's. It returns the number of those rows.
func (r *ranks) check(ctx context.Context) (n int, fits bool, err error) {
	last, err := r.stored.LastListed(ctx, r.cutoff, r.meter)
	if err != nil {
		return 0, false, err
	}
	if n, err = r.count(ctx, polar.Key{}, r.cutoff); err != nil {
		return 0, false, err
	}
	for _, key := range r.rejectedFrom(last, r.cutoff) {
		if key.Compare(last) > 0 {
			last = key
		}
	}
	page, err := r.page(ctx, pageAcross(n, polar.MaxPageSize))
	if err != nil {
		return 0, false, err
	}
	var keys []polar.Key
	for _, key := range page.Page.Keys() {
		keys = append(keys, key)
	}
	next := n - page.offset // the place on the page of the first row that is not older
	fits = len(keys) == page.Page.Size() &&
		(n == 0 || next <= len(keys) && keys[next-1].Compare(last) == 0) &&
		(next >= len(keys) || keys[next].Compare(r.cutoff) >= 0)
	return n, fits, nil
}

// count counts the listed rows from low up to, and not including, high: those of the
// mirror, and those that cannot be mirrored.
func (r *ranks) count(ctx context.Context, low, high polar.Key) (int, error) {
	return r.stored.CountListed(ctx, low, high, r.meter, r.rejectedFrom(low, high))
}

// rejectedFrom are the rejected rows from low up to, and not including, high.
func (r *ranks) rejectedFrom(low, high polar.Key) []polar.Key {
	var keys []polar.Key
	for key := range r.rejected {
		if key.Compare(low) >= 0 && key.Compare(high) < 0 && (r.meter == uuid.Nil || key.MeterID == r.meter) {
			keys = append(keys, key)
		}
	}
	return keys
}

// page reads a page oldest first.
func (r *ranks) page(ctx context.Context, s span) (listedPage, error) {
	r.probes++
	page, err := r.reader.list(ctx, ofMeter(r.meter), s, s.order())
	if err == nil {
		err = s.checkOrder(page.Page)
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

// pageAcross returns the longest page of at most size rows that holds both the row at
// index and the one before it, if there is one.
func pageAcross(index, size int) span {
	return best(index, size, func(s span) int { return min(index-s.offset, 1) })
}

// A mark is a row with its rank at Polar and in the mirror.
type mark struct {
	key            polar.Key
	polar, mirrors int
}

func (m mark) drift() int { return m.polar - m.mirrors }

// A search finds the rows that make ranks differ.
type search struct {
	ranks
	f *fullRun
}

// run finds what makes the ranks differ below high, and sees to it.
func (s *search) run(ctx context.Context, high mark) error {
	f := s.f
	// A meter may have come back from the archive with rows that no sweep asked for.
	if err := f.checkArchived(ctx, allArchivedChecks); err != nil {
		return err
	}
	find := s.between
	if max(high.drift(), -high.drift()) > high.polar/widespread {
		find = s.walk
	}
	if err := find(ctx, mark{}, high); err != nil {
		return err
	}
	f.run.log.Info("ranks searched", zap.Int("pages", s.probes), zap.Int("customers", len(f.sweep.added)))
	if err := f.sweepList(ctx, f.sweep.added); err != nil {
		return err
	}
	return f.reconcileSweep(ctx)
}

// top finds Polar's rank of the beginning of the run, looking from the mirror's.
func (s *search) top(ctx context.Context, rank int) (mark, error) {
	_, at, err := findBorder(ctx, rank, s.reader.pageSize(), s.page, func(page listedPage) (older int) {
		for i, key := range page.Page.Keys() {
			if key.Compare(s.cutoff) < 0 {
				older = i + 1
			}
		}
		return older
	})
	return mark{key: s.cutoff, polar: at, mirrors: rank}, err
}

// between sees to what differs between two rows. It begins with the newer half, so
// that what it saves moves no rank that has yet to be compared.
func (s *search) between(ctx context.Context, low, high mark) error {
	if low.drift() == high.drift() {
		return nil
	}
	size := s.reader.pageSize()
	if s.probes >= maxProbes || high.polar-low.polar < 2*size {
		return s.walk(ctx, low, high)
	}
	page, err := s.page(ctx, span{offset: (low.polar + high.polar) / 2 / size * size, limit: size})
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
	below, err := s.count(ctx, low.key, from.key)
	if err != nil {
		return err
	}
	within, err := s.count(ctx, from.key, to.key)
	if err != nil {
		return err
	}
	from.mirrors = low.mirrors + below
	to.mirrors = from.mirrors + within
	if err := s.between(ctx, to, high); err != nil {
		return err
	}
	if from.drift() != to.drift() {
		page.region = &store.Region{Low: from.key, High: to.key, Meters: page.filter.MeterIDs, LowestOffset: page.offset}
		if err := s.f.save(ctx, func(yield func(listedPage, error) bool) { yield(page, nil) }); err != nil {
			return err
		}
	}
	return s.between(ctx, low, from)
}

// walk reads what lies between two rows in overlapping pages.
func (s *search) walk(ctx context.Context, low, high mark) error {
	p := resumedProof(s.reader.pageSize(), s.f.cursor.TotalCount, high.polar, high.key)
	p.alone, p.to = high.polar-low.polar < 2*s.reader.pageSize(), low.key
	return s.f.walk(ctx, ofMeter(s.meter), &p, nil)
}
