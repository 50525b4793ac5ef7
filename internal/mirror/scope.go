package mirror

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// explainByScope finds the suspects that Polar still has and that only left a
// filter by external ids. A customer's external id is no fixed thing: Polar clears
// it when the customer is deleted, and sellers change it. So the suspects'
// customers are listed by Polar's own ids, and what their external ids are now
// says whose rows are out of scope. A token that sees nothing explains nothing by
// this.
func (f *fullRun) explainByScope(ctx context.Context) error {
	if len(f.run.org.Filter.ExternalCustomerIDs) == 0 {
		return nil
	}
	any := false
	err := f.eachSuspects(ctx, customersPerSet, func(suspects []store.Suspect) error {
		any = true
		return f.relist(ctx, suspects)
	})
	if err != nil || !any {
		return err
	}
	return f.run.session.MarkOutOfScope(ctx, f.run.org.Filter)
}

// relist saves what Polar lists of suspects, whatever external ids their
// customers have.
func (f *fullRun) relist(ctx context.Context, suspects []store.Suspect) error {
	r := f.run
	filter := Filter{MeterIDs: r.org.Filter.MeterIDs}
	suspect := map[uuid.UUID]bool{}
	for _, s := range suspects {
		filter.CustomerIDs = append(filter.CustomerIDs, s.CustomerID)
		suspect[s.ID] = true
	}
	filter.CustomerIDs = slices.Compact(filter.CustomerIDs)
	var b block
	p := newProof(r.reader.pageSize())
	for page, err := range r.reader.provenPages(ctx, filter, &p, nil) {
		if err != nil {
			return err
		}
		b.add(page, func(m *polar.CustomerMeter) bool { return suspect[m.ID] })
	}
	b.Rejected = nil // the walk that follows meets them
	if len(b.CustomerMeters) == 0 {
		return nil
	}
	_, err := r.save(ctx, b.take())
	return err
}
