package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

const (
	// lookupTime bounds asking Polar about unknown meters: the organization's other
	// deliveries wait meanwhile.
	lookupTime = 10 * time.Second
	// lookupLease is after what time a delivery whose meters are being asked for is
	// taken up again by whoever sees it, should this process be gone by then.
	lookupLease = time.Minute
	// lookupTries is how many customer meters of one meter are asked for before the
	// next attempt.
	lookupTries = 3

	// firstReattempt is the wait before a delivery that could not be applied is
	// tried again. It doubles each time up to [store.MaxDeliveryWait], so that
	// maxAttempts take half a day.
	firstReattempt = 5 * time.Second
	maxAttempts    = 20
)

// lookups are the meters that the mirror lacks and some deliveries need: first
// what to ask Polar for, then what it answered.
type lookups struct {
	deliveries     []string                  // that wait for the answers
	customerMeters map[uuid.UUID][]uuid.UUID // of each unknown meter

	answered bool
	gone     map[uuid.UUID]bool   // customer meters that Polar does not have
	reasons  map[uuid.UUID]string // why a meter is still unknown
}

// withoutGone leaves out the rows that Polar does not have.
func (l *lookups) withoutGone(rows []*polar.CustomerMeter) []*polar.CustomerMeter {
	return slices.DeleteFunc(rows, func(m *polar.CustomerMeter) bool { return l.gone[m.ID] })
}

// postpone returns the result of a delivery that needs unknown meters. Before
// Polar is asked that is a lease, which a crash leaves to run out.
func (l *lookups) postpone(d store.Delivery, unknown []*polar.CustomerMeter) store.DeliveryResult {
	if !l.answered {
		l.deliveries = append(l.deliveries, d.ID)
		for _, m := range unknown {
			l.customerMeters[m.MeterID] = append(l.customerMeters[m.MeterID], m.ID)
		}
		return store.DeliveryResult{Status: store.DeliveryPending, Wait: lookupLease}
	}
	meter := unknown[0].MeterID
	result := store.DeliveryResult{
		Status: store.DeliveryPending,
		Wait:   min(firstReattempt<<min(d.Attempts, 10), store.MaxDeliveryWait),
		Error:  fmt.Sprintf("meter %s is not known yet: %s", meter, cmp.Or(l.reasons[meter], "Polar no longer has the customer meters asked for")),
	}
	if d.Attempts+1 >= maxAttempts {
		result.Status = store.DeliveryFailed
	}
	return result
}

// fetchAndApply fetches the unknown meters of l and applies the deliveries that
// wait for them.
func (w *inboxWorker) fetchAndApply(ctx context.Context, l *lookups) error {
	fetching, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	for meter := range l.customerMeters {
		if err := w.fetchMeter(fetching, l, meter); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	l.answered = true
	_, err := w.apply(ctx, store.DeliveryQuery{Organization: w.org.ID, Limit: len(l.deliveries), IDs: l.deliveries}, l)
	return err
}

// fetchMeter asks Polar for customer meters of an unknown meter, one after the
// other until it has one, and saves that: the meter is nested in it. Its error is
// the database's; what is wrong with Polar's answers is noted in l.
func (w *inboxWorker) fetchMeter(ctx context.Context, l *lookups, meter uuid.UUID) error {
	ids := l.customerMeters[meter]
	for _, id := range ids[:min(len(ids), lookupTries)] {
		single, err := w.org.Client.Get(ctx, id)
		switch {
		case errors.Is(err, fetch.ErrNotFound):
			l.gone[id] = true
			continue
		case err != nil:
			l.reasons[meter] = err.Error()
			return nil
		case single.Rejected != nil:
			l.reasons[meter] = fmt.Sprintf("customer meter %s: %s", id, single.Rejected.Reason)
			return nil
		}
		m := single.CustomerMeter
		if m.MeterID != meter || m.Meter.OrganizationID != w.org.ID {
			l.reasons[meter] = fmt.Sprintf("customer meter %s is one of meter %s and organization %s", id, m.MeterID, m.Meter.OrganizationID)
			return nil
		}
		return w.saveMeter(ctx, l, m)
	}
	return nil
}

// saveMeter saves a customer meter, and with it its meter.
func (w *inboxWorker) saveMeter(ctx context.Context, l *lookups, m *polar.CustomerMeter) error {
	w.inbox.applying.Lock()
	defer w.inbox.applying.Unlock()
	ctx, cancel := withGrace(ctx)
	defer cancel()
	saved, err := w.inbox.mirror.opts.Store.Apply(ctx, w.org.ID, store.Webhook, &store.Block{CustomerMeters: []*polar.CustomerMeter{m}})
	if err != nil {
		return err
	}
	if saved.Counts.RowsRejected > 0 {
		l.reasons[m.MeterID] = fmt.Sprintf("Postgres refuses customer meter %s (see polar.rejected_rows)", m.ID)
	}
	w.inbox.mirror.notify(w.org, 0, store.Webhook, saved.Counts, saved.Changed)
	return nil
}
