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
	rowsPerCustomer int // in a first load, as estimated; otherwise 0
	rowsRead        int // in sets, by this process
	customersRead   int // of those sets

	meters   []uuid.UUID        // of a first load, those not walked, largest first
	archived map[uuid.UUID]bool // meters that the mirror takes for archived
	added    []uuid.UUID        // customers of rows that were added, and who have not been swept since
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
	customersAtOnce = 10_000
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
	for _, step := range []func(context.Context) error{f.sweepMeter, f.sweepKnown, f.sweepNew, f.reconcileSweep, f.proveByRank} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// openSweep prepares the sweep, and chooses the meter that is walked first.
func (f *fullRun) openSweep(ctx context.Context, first *listedPage) error {
	s := &f.sweep
	s.rejected = map[polar.Key]bool{}
	var err error
	if s.archived, err = f.run.session.MeterStates(ctx); err != nil {
		return err
	}
	if f.resumed {
		if f.cursor.RowsRejected == 0 {
			return nil
		}
		keys, err := f.run.session.RejectedKeys(ctx, f.cursor.CustomerID, maxRejected)
		for _, key := range keys {
			s.rejected[key] = true
		}
		return err
	}
	mirrored, err := f.countListed(ctx)
	if err != nil || 2*mirrored >= f.cursor.TotalCount {
		return err
	}
	rows := map[uuid.UUID]int{} // of each meter on the first page
	for i := range first.Page.CustomerMeters {
		meter := first.Page.CustomerMeters[i].MeterID
		if _, counted := rows[meter]; counted {
			continue
		}
		page, err := f.run.reader.list(ctx, ofMeter(meter), span{limit: 1}, span{}.order())
		if err != nil {
			return err
		}
		rows[meter] = page.Page.TotalCount
	}
	s.meters = slices.SortedFunc(maps.Keys(rows), func(a, b uuid.UUID) int { return cmp.Compare(rows[b], rows[a]) })
	if len(s.meters) == 0 {
		return nil
	}
	largest := s.meters[0]
	f.run.log.Info("first load", zap.Int("total_count", f.cursor.TotalCount), zap.Int("meters", len(rows)), zap.Int("meter_rows", rows[largest]),
		zap.Int("requests", Estimate{}.Requests(f.cursor.TotalCount)))
	if rows[largest] > f.cursor.TotalCount-f.cursor.TotalCount/10 {
		return errOneMeter
	}
	f.cursor.MeterID, f.proof, s.meters = largest, newProof(f.run.reader.pageSize()), s.meters[1:]
	return nil
}

// sweepMeter walks the first meter of a first load, and then knows one row of each
// customer, for all that is known.
func (f *fullRun) sweepMeter(ctx context.Context) error {
	if f.cursor.MeterID != uuid.Nil {
		if err := f.walk(ctx, ofMeter(f.cursor.MeterID), &f.proof, nil); err != nil {
			return err
		}
		f.cursor.MeterID, f.cursor.Low, f.cursor.Offset = uuid.Nil, polar.Key{}, 0
	}
	mirrored, err := f.countListed(ctx)
	if 2*mirrored < f.cursor.TotalCount {
		f.sweep.rowsPerCustomer = (f.cursor.TotalCount + mirrored - 1) / max(mirrored, 1)
	}
	return err
}

// sweepKnown sweeps the customers that the mirror knows, also those of whom only
// rejected rows are known.
func (f *fullRun) sweepKnown(ctx context.Context) error {
	if err := f.sweepCustomers(ctx, f.cursor.CustomerID, f.run.session.ListedCustomers); err != nil {
		return err
	}
	f.cursor.CustomerID = allDone
	return nil
}

// sweepNew walks the rows that were created since the run began, and sweeps the
// customers of those that it added.
func (f *fullRun) sweepNew(ctx context.Context) error {
	p := newProof(f.run.reader.pageSize())
	p.to = f.cutoff()
	return f.walkAndSweep(ctx, Filter{}, p)
}

// A customerList returns up to limit customers with ids above after, in their order.
type customerList func(ctx context.Context, after uuid.UUID, limit int) ([]store.CustomerRows, error)

// sets lists the customers of list from those after after on, in sets that fit on a
// page, several at a time and in their order. A page that is shorter than its limit
// shows all listed rows of its set; with a full one a walk of these customers begins.
// Customers are expected to have as many rows as the mirror knows, or perCustomer if
// that is more, which is asked with the first of those that list returns at a time.
func (r *reader) sets(ctx context.Context, after uuid.UUID, list customerList, perCustomer func(first store.CustomerRows) int) iter.Seq2[listedPage, error] {
	return func(yield func(listedPage, error) bool) {
		var failed error
		plan := func(yield func(request) bool) {
			for {
				var customers []store.CustomerRows
				if customers, failed = list(ctx, after, customersAtOnce); failed != nil || len(customers) == 0 {
					return
				}
				after = customers[len(customers)-1].ID
				for _, set := range pack(customers, perCustomer(customers[0])) {
					if !yield(request{span{limit: r.pageSize(), newestFirst: true}, Filter{CustomerIDs: set}}) {
						return
					}
				}
			}
		}
		for page, err := range r.pages(ctx, plan, r.pagesInFlight()) {
			if err != nil {
				yield(page, err)
				return
			}
			p := newProof(r.pageSize())
			for page, err := range r.provenPages(ctx, page.filter, &p, &page) {
				if !yield(page, err) {
					return
				}
			}
		}
		if failed != nil {
			yield(listedPage{}, failed)
		}
	}
}

// pack makes sets of customers whose rows are expected to fit on a page: those that
// the mirror knows, but perCustomer at least.
func pack(customers []store.CustomerRows, perCustomer int) [][]uuid.UUID {
	var sets [][]uuid.UUID
	var set []uuid.UUID
	rows := 0
	for _, c := range customers {
		n := max(c.Rows, perCustomer)
		if len(set) > 0 && (rows+n > setRows || len(set) == customersPerSet) {
			sets, set, rows = append(sets, set), nil, 0
		}
		set, rows = append(set, c.ID), rows+n
	}
	return append(sets, set)
}

// sweepCustomers saves the rows of the customers of list, from those after after on.
func (f *fullRun) sweepCustomers(ctx context.Context, after uuid.UUID, list customerList) error {
	listOnceSaved := func(ctx context.Context, after uuid.UUID, limit int) ([]store.CustomerRows, error) {
		if err := f.saver.wait(ctx); err != nil {
			return nil, err
		}
		return list(ctx, after, limit)
	}
	err := f.save(ctx, f.run.reader.sets(ctx, after, listOnceSaved, f.sweep.expectedRows))
	f.sweep.added = nil // all rows of these customers were read
	return err
}

// expectedRows is how many rows each customer is expected to have at least, the first
// being as the mirror knows it.
func (s *sweep) expectedRows(first store.CustomerRows) int {
	switch {
	case s.rowsPerCustomer == 0 && first.Rows > 0: // the mirror knows them all
		return 1
	case s.customersRead == 0:
		return max(s.rowsPerCustomer, 1)
	}
	return (s.rowsRead + s.customersRead - 1) / s.customersRead
}

// sweepList is sweepCustomers of a list.
func (f *fullRun) sweepList(ctx context.Context, customers []uuid.UUID) error {
	slices.SortFunc(customers, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	var list []store.CustomerRows
	for _, id := range slices.Compact(customers) {
		list = append(list, store.CustomerRows{ID: id})
	}
	return f.sweepCustomers(ctx, uuid.Nil, func(context.Context, uuid.UUID, int) ([]store.CustomerRows, error) {
		all := list
		list = nil
		return all, nil
	})
}

// countListed counts the listed rows that the mirror has.
func (f *fullRun) countListed(ctx context.Context) (int, error) {
	return f.run.session.CountListed(ctx, polar.Key{}, endOfList, uuid.Nil, nil)
}

// walkAndSweep walks the list under filter, and sweeps the customers of the rows that
// it adds: they may have other rows that nobody has seen.
func (f *fullRun) walkAndSweep(ctx context.Context, filter Filter, p proof) error {
	if err := f.walk(ctx, filter, &p, nil); err != nil {
		return err
	}
	return f.sweepList(ctx, f.sweep.added)
}

// cutoff is the cutoff of this run.
func (f *fullRun) cutoff() polar.Key { return cutoffOf(f.cursor.PolarBeganAt) }

// cutoffOf is the key below which rows are older than a run that began at polarTime,
// less what transactions that commit late need.
func cutoffOf(polarTime time.Time) polar.Key {
	return polar.Key{CreatedAt: polarTime.Add(-tickOverlap)}
}

// noteSwept notes what a page shows that is added to the block. When a meter is listed
// again that the mirror takes for archived, all of its rows become suspects: those that
// were not listed since have to be listed once more.
func (f *fullRun) noteSwept(ctx context.Context, page listedPage) error {
	s := &f.sweep
	for i := range page.Page.CustomerMeters {
		if m := &page.Page.CustomerMeters[i]; s.archived[m.MeterID] && m.Meter.ArchivedAt.IsZero() {
			if err := f.saver.wait(ctx); err != nil {
				return err
			}
			if err := f.suspectMeter(ctx, m.MeterID); err != nil {
				return err
			}
		}
	}
	for _, row := range page.Page.Rejected {
		if !row.HasKey || len(s.rejected) >= maxRejected {
			return errNoRank
		}
	}
	set := page.filter.CustomerIDs
	if len(set) == 0 {
		return nil
	}
	s.rowsRead += page.Page.Size()
	f.cursor.Offset += page.Page.Size()
	if page.region.FromStart { // otherwise a walk of these customers goes on
		s.customersRead += len(set)
		if f.cursor.CustomerID != allDone {
			f.cursor.CustomerID = set[len(set)-1]
		}
	}
	return nil
}

// suspectMeter suspects the rows of a meter that was archived.
func (f *fullRun) suspectMeter(ctx context.Context, meter uuid.UUID) error {
	delete(f.sweep.archived, meter)
	return f.run.session.SuspectRowsOf(ctx, meter)
}

// reconcileSweep lists the customers of the suspects once more, and then asks for
// what was not found a second time.
func (f *fullRun) reconcileSweep(ctx context.Context) error {
	now, err := f.run.session.MeterStates(ctx)
	if err != nil {
		return err
	}
	for meter, wasArchived := range f.sweep.archived {
		if wasArchived && !now[meter] {
			if err := f.suspectMeter(ctx, meter); err != nil {
				return err
			}
		}
	}
	err = f.eachSuspects(ctx, customersPerSet, func(suspects []store.Suspect) error {
		var ids []uuid.UUID
		for _, s := range suspects {
			ids = append(ids, s.CustomerID)
		}
		return f.sweepList(ctx, ids)
	})
	if err != nil {
		return err
	}
	return f.reconcile(ctx)
}
