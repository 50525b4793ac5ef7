package mirror

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// A sweep reads a large organization by sets of customers, which costs Polar a
// few milliseconds a request wherever the rows are in the list:
//
//  1. The customers that the mirror knows, set by set. A page that is shorter than
//     its limit is one statement's answer about all listed rows of its customers.
//     A mirror that knows little of the organization first walks the largest meter:
//     Polar makes a row of each meter for each customer that it computes.
//  2. New rows: the newest page, and overlapping ones behind it, until older than
//     the run. The customers of the rows that they added are swept.
//  3. Rows that were not found are listed once more, and then asked for one by one.
//  4. The rank check, which proves that nothing was overlooked, or finds it; see
//     rank.go.
type sweep struct {
	first bool      // the mirror knows less than half of the list
	usual int       // rows of a customer of whom the mirror knows less
	done  uuid.UUID // the last customer of the sets in the block
	rows  int       // read in sets so far
	sized int       // customers of those sets

	meters   []uuid.UUID        // of a first load, those not walked, largest first
	archived map[uuid.UUID]bool // meters that the mirror takes for archived
	added    []uuid.UUID        // customers of rows that were added since it was emptied
	rejected map[polar.Key]bool // rows that are listed and not mirrored
}

const (
	// setRows is how many rows a set of customers is expected to have at most. It
	// leaves room for rows that the mirror does not know below the limit of a page,
	// which would have to be followed by another.
	setRows = 95
	// customersPerSet keeps addresses below 4 KB.
	customersPerSet = 75
	// customersAtOnce is how many customers are read from the mirror at a time.
	customersAtOnce = 3000
	// maxRejected is how many rejected rows a sweep keeps in mind.
	maxRejected = 10_000
	// controls is how many listed rows are remembered, to be asked for should Polar
	// answer 404 to others.
	controls = 3
)

// errNoRank means that ranks can't be compared.
var errNoRank = errors.New("rows that cannot be mirrored have no place in the list that could be read, or are too many")

// errOneMeter means that walking the largest meter is walking everything.
var errOneMeter = errors.New("nearly all rows are of one meter")

// allDone is behind all customers: the first step is done.
var allDone = uuid.Max

// sweepAll goes through the steps of a sweep.
func (f *fullRun) sweepAll(ctx context.Context, first *listedPage) error {
	if err := f.openSweep(ctx, first); err != nil {
		return err
	}
	if f.cursor.MeterID != uuid.Nil {
		if err := f.walk(ctx, ofMeter(f.cursor.MeterID), &f.proof, nil, nil); err != nil {
			return err
		}
		f.cursor.MeterID, f.cursor.Low = uuid.Nil, polar.Key{}
	}
	if err := f.estimateRows(ctx); err != nil {
		return err
	}
	if err := f.sweepCustomers(ctx, f.sweep.done, f.run.session.ListedCustomers); err != nil {
		return err
	}
	f.sweep.done = allDone
	if err := f.sweepCustomers(ctx, uuid.Nil, f.run.session.RejectedCustomers); err != nil {
		return err
	}
	if err := f.sweepNew(ctx); err != nil {
		return err
	}
	if err := f.reconcileSweep(ctx); err != nil {
		return err
	}
	return f.proveByRank(ctx)
}

// openSweep prepares the sweep, and chooses the meter that is walked first.
func (f *fullRun) openSweep(ctx context.Context, first *listedPage) error {
	s := &f.sweep
	var err error
	if s.archived, err = f.run.session.MeterStates(ctx); err != nil {
		return err
	}
	s.rejected = map[polar.Key]bool{}
	if f.resumed {
		s.done = f.cursor.CustomerID
		if f.cursor.MeterID == uuid.Nil {
			s.rows = f.cursor.Offset
		}
		if f.cursor.RowsRejected > 0 {
			return f.recallRejected(ctx)
		}
		return nil
	}
	mirrored, err := f.run.session.CountListed(ctx, polar.Key{}, endOfList, uuid.Nil)
	if err != nil || 2*mirrored >= f.cursor.TotalCount {
		return err
	}
	meters, rows, err := f.metersBySize(ctx, first)
	switch {
	case err != nil || len(meters) == 0:
		return err
	case rows > f.cursor.TotalCount-f.cursor.TotalCount/10:
		return errOneMeter
	}
	f.cursor.MeterID, f.proof = meters[0], newProof(f.run.mirror.opts.PageSize)
	s.meters = meters[1:]
	return nil
}

// metersBySize returns the meters on the first page, those with the most rows first,
// and how many rows the largest has.
func (f *fullRun) metersBySize(ctx context.Context, first *listedPage) (meters []uuid.UUID, rows int, err error) {
	counts := map[uuid.UUID]int{}
	for i := range first.Page.CustomerMeters {
		meter := first.Page.CustomerMeters[i].MeterID
		if _, counted := counts[meter]; counted {
			continue
		}
		page, err := f.run.reader.list(ctx, ofMeter(meter), span{limit: 1}, span{}.order())
		if err != nil {
			return nil, 0, err
		}
		counts[meter] = page.Page.TotalCount
	}
	meters = slices.SortedFunc(maps.Keys(counts), func(a, b uuid.UUID) int { return cmp.Compare(counts[b], counts[a]) })
	if len(meters) > 0 {
		rows = counts[meters[0]]
		f.run.log.Info("first load", zap.Int("total_count", f.cursor.TotalCount), zap.Int("meters", len(meters)), zap.Int("meter_rows", rows),
			zap.Int("requests", Estimate{}.Requests(f.cursor.TotalCount)))
	}
	return meters, rows, nil
}

// sweepCustomers lists the customers that next returns, from those after after on.
// Sets are asked for side by side, and saved in the order of their ids.
func (f *fullRun) sweepCustomers(ctx context.Context, after uuid.UUID, next func(context.Context, uuid.UUID, int) ([]store.CustomerRows, error)) error {
	for {
		if err := f.saver.wait(ctx); err != nil {
			return err
		}
		customers, err := next(ctx, after, customersAtOnce)
		if err != nil {
			return err
		}
		if len(customers) == 0 {
			return f.saver.flush(ctx)
		}
		sets := f.pack(customers)
		if len(customers) == customersAtOnce && len(sets) > 1 {
			sets = sets[:len(sets)-1] // the last one may not be full yet
		}
		last := sets[len(sets)-1]
		after = last[len(last)-1]
		if err := f.sweepSets(ctx, sets); err != nil {
			return errors.Join(err, f.saver.flush(ctx))
		}
	}
}

// sweepList is sweepCustomers of a list.
func (f *fullRun) sweepList(ctx context.Context, customers []uuid.UUID) error {
	slices.SortFunc(customers, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	customers = slices.Compact(customers)
	return f.sweepCustomers(ctx, uuid.Nil, func(context.Context, uuid.UUID, int) ([]store.CustomerRows, error) {
		var list []store.CustomerRows
		for _, id := range customers {
			list = append(list, store.CustomerRows{ID: id})
		}
		customers = nil
		return list, nil
	})
}

// estimateRows estimates how many rows a customer has, where the mirror cannot
// know: before the first load is done it has one row of each customer, for all that
// is known.
func (f *fullRun) estimateRows(ctx context.Context) error {
	mirrored, err := f.run.session.CountListed(ctx, polar.Key{}, endOfList, uuid.Nil)
	if err != nil {
		return err
	}
	f.sweep.first = 2*mirrored < f.cursor.TotalCount
	f.sweep.usual = 1
	if f.sweep.first {
		f.sweep.usual = (f.cursor.TotalCount + mirrored - 1) / max(mirrored, 1)
	}
	return nil
}

// pack makes sets of customers whose rows are expected to fit on a page.
func (f *fullRun) pack(customers []store.CustomerRows) [][]uuid.UUID {
	s := &f.sweep
	usual := 1
	if s.first || customers[0].Rows == 0 {
		usual = s.usual
		if s.sized > 0 {
			usual = (s.rows + s.sized - 1) / s.sized
		}
	}
	return pack(customers, usual)
}

// pack makes sets of customers who have the rows that the mirror knows, or usual ones
// if those are more.
func pack(customers []store.CustomerRows, usual int) [][]uuid.UUID {
	var sets [][]uuid.UUID
	var set []uuid.UUID
	rows := 0
	for _, c := range customers {
		n := max(c.Rows, usual)
		if len(set) > 0 && (rows+n > setRows || len(set) == customersPerSet) {
			sets, set, rows = append(sets, set), nil, 0
		}
		set, rows = append(set, c.ID), rows+n
	}
	return append(sets, set)
}

// sets lists sets of customers, several at a time, in their order. A page that is
// shorter than its limit shows all listed rows of its set.
func (r *reader) sets(ctx context.Context, sets [][]uuid.UUID) iter.Seq2[listedPage, error] {
	nth := 0
	ask := func() request {
		return request{span: span{limit: r.opts.PageSize, newestFirst: true}, filter: Filter{CustomerIDs: sets[nth]}}
	}
	next := func(request) (request, bool) {
		if nth++; nth == len(sets) {
			return request{}, false
		}
		return ask(), true
	}
	return r.pages(ctx, ask(), next, r.opts.PagesInFlight)
}

// sweepSets lists sets of customers and saves their rows.
func (f *fullRun) sweepSets(ctx context.Context, sets [][]uuid.UUID) error {
	for page, err := range f.run.reader.sets(ctx, sets) {
		if err == nil {
			err = f.takeSet(ctx, page)
		}
		if err == nil {
			err = f.saveFull(ctx)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// takeSet adds the rows of a set of customers. Should they not fit on the page, the
// page is where a walk of these customers begins.
func (f *fullRun) takeSet(ctx context.Context, page listedPage) error {
	set := page.filter.CustomerIDs
	before := f.seen
	if page.Page.Size() < page.limit {
		if err := page.checkOrder(); err != nil {
			return err
		}
		f.run.reader.rejectForeign(page.Page)
		f.saver.block.addSet(page)
		if err := f.take(ctx, page); err != nil {
			return err
		}
	} else {
		if err := f.saver.startSave(ctx); err != nil {
			return err
		}
		p := newProof(f.run.mirror.opts.PageSize)
		if err := f.walk(ctx, page.filter, &p, &page, nil); err != nil {
			return err
		}
	}
	f.sweep.rows += f.seen - before
	f.sweep.sized += len(set)
	if last := set[len(set)-1]; f.sweep.done != allDone {
		f.sweep.done = last
	}
	return nil
}

// sweepNew reads the rows that were created since the run began, and sweeps their
// customers: they may have other rows that nobody has seen.
func (f *fullRun) sweepNew(ctx context.Context) error {
	f.sweep.added = nil
	began := f.beganAt()
	p := newProof(f.run.mirror.opts.PageSize)
	if err := f.walk(ctx, Filter{}, &p, nil, func() bool { return p.low.Compare(began) < 0 }); err != nil {
		return err
	}
	return f.sweepAdded(ctx)
}

// sweepAdded sweeps the customers of rows that were added.
func (f *fullRun) sweepAdded(ctx context.Context) error {
	added := f.sweep.added
	f.sweep.added = nil
	if len(added) == 0 {
		return nil
	}
	return f.sweepList(ctx, added)
}

// beganAt is the end of the list when the run began, by Polar's clock, less what
// transactions that commit late need.
func (f *fullRun) beganAt() polar.Key { return beforeRun(f.cursor.PolarBeganAt) }

func beforeRun(polarTime time.Time) polar.Key {
	return polar.Key{CreatedAt: polarTime.Add(-tickOverlap)}
}

// take notes what a page shows beside its rows. When a meter is listed again that
// the mirror takes for archived, all of its rows become suspects: those that were
// not listed since have to be listed once more.
func (s *sweep) take(ctx context.Context, r *Run, saver *saver, page listedPage) error {
	for i := range page.Page.CustomerMeters {
		m := &page.Page.CustomerMeters[i]
		if s.archived[m.MeterID] && m.Meter.ArchivedAt.IsZero() {
			if err := saver.wait(ctx); err != nil {
				return err
			}
			if err := r.session.SuspectMeter(ctx, m.MeterID); err != nil {
				return err
			}
			delete(s.archived, m.MeterID)
		}
	}
	for _, row := range page.Page.Rejected {
		if !row.HasKey || len(s.rejected) == maxRejected {
			return errNoRank
		}
		s.rejected[row.Key] = true
	}
	return nil
}

// reconcileSweep lists the customers of the suspects once more, and then asks for
// what was not found a second time.
func (f *fullRun) reconcileSweep(ctx context.Context) error {
	if err := f.suspectUnarchived(ctx); err != nil {
		return err
	}
	after := uuid.Nil
	for {
		customers, err := f.run.session.SuspectsByCustomer(ctx, after, customersPerSet)
		if err != nil {
			return err
		}
		if len(customers) == 0 {
			break
		}
		after = customers[len(customers)-1].CustomerID
		if err := f.listAgain(ctx, customers); err != nil {
			return err
		}
	}
	return f.reconcile(ctx)
}

// suspectUnarchived suspects the rows of meters that were archived when the sweep
// began, and are not now.
func (f *fullRun) suspectUnarchived(ctx context.Context) error {
	now, err := f.run.session.MeterStates(ctx)
	if err != nil {
		return err
	}
	for meter, wasArchived := range f.sweep.archived {
		if wasArchived && !now[meter] {
			if err := f.run.session.SuspectMeter(ctx, meter); err != nil {
				return err
			}
			delete(f.sweep.archived, meter)
		}
	}
	return nil
}

// listAgain sweeps the customers of suspects, and clears those that are listed.
func (f *fullRun) listAgain(ctx context.Context, customers []store.CustomerSuspects) error {
	var ids []uuid.UUID
	for _, c := range customers {
		ids = append(ids, c.CustomerID)
	}
	return f.clearListed(ctx, func() error { return f.sweepList(ctx, ids) })
}

// clearListed reads something, and clears the suspects that it lists and the rejected
// rows that it does not list any more.
func (f *fullRun) clearListed(ctx context.Context, read func() error) error {
	var listed []uuid.UUID
	onSave := f.saver.onSave
	f.saver.onSave = func(b *store.Block, saved store.Saved) {
		onSave(b, saved)
		for _, m := range b.CustomerMeters {
			listed = append(listed, m.ID)
		}
		f.sweep.forgetRejected(b, saved.Refused)
	}
	err := read()
	f.saver.onSave = onSave
	if err != nil || len(listed) == 0 {
		return err
	}
	return f.run.session.DropSuspects(ctx, listed)
}

// forgetRejected forgets the rejected rows of the block's region that it lacks.
func (s *sweep) forgetRejected(b *store.Block, refused []store.RejectedRow) {
	shown := map[polar.Key]bool{}
	for _, r := range slices.Concat(b.Rejected, refused) {
		shown[r.Key] = true
	}
	for key := range s.rejected {
		if b.Region != nil && b.Region.Holds(key) && !shown[key] {
			delete(s.rejected, key)
		}
	}
}

// recallRejected takes up the rejected rows of a sweep that is resumed.
func (f *fullRun) recallRejected(ctx context.Context) error {
	keys, err := f.run.session.RejectedKeys(ctx, f.cursor.CustomerID, maxRejected+1)
	if err != nil {
		return err
	}
	if len(keys) > maxRejected {
		return errNoRank
	}
	for _, key := range keys {
		f.sweep.rejected[key] = true
	}
	return nil
}
