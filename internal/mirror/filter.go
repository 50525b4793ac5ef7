package mirror

import (
	"context"

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
	after := uuid.Nil
	for {
		customers, err := f.run.session.SuspectsByCustomer(ctx, after, customersPerSet)
		if err != nil {
			return err
		}
		if len(customers) == 0 && after == uuid.Nil {
			return nil // nothing is suspect
		}
		if len(customers) == 0 {
			return f.run.session.Scope(ctx, f.run.org.Filter)
		}
		after = customers[len(customers)-1].CustomerID
		if err := f.relist(ctx, customers); err != nil {
			return err
		}
	}
}

// relist saves what Polar lists of suspects, whatever external ids their
// customers have.
func (f *fullRun) relist(ctx context.Context, customers []store.CustomerSuspects) error {
	r := f.run
	filter := Filter{MeterIDs: r.org.Filter.MeterIDs}
	suspect := map[uuid.UUID]bool{}
	for _, c := range customers {
		filter.CustomerIDs = append(filter.CustomerIDs, c.CustomerID)
		for _, id := range c.CustomerMeterIDs {
			suspect[id] = true
		}
	}
	for s := (span{limit: polar.MaxPageSize}); ; s.offset = s.end() {
		page, err := r.reader.list(ctx, filter, s, s.order())
		if err != nil {
			return err
		}
		r.reader.rejectForeign(page.Page)
		var b block
		b.add(page, func(m *polar.CustomerMeter) bool { return suspect[m.ID] })
		b.rejected = nil // the walk that follows meets them
		if len(b.rows) > 0 {
			if _, err := r.save(ctx, b.take()); err != nil {
				return err
			}
		}
		if page.Page.Size() < polar.MaxPageSize {
			return nil
		}
	}
}
