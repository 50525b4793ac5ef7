package mirror

import (
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
	// lookupTries is how many customer meters of one meter are asked for before the
	// next attempt.
	lookupTries = 3

	// firstReattempt is the wait before a delivery that could not be applied is
	// tried again. It doubles each time up to [store.MaxDeliveryWait], so that
	// maxAttempts take half a day.
	firstReattempt = 5 * time.Second
	maxAttempts    = 20
)

// answers are what Polar said about unknown meters.
type answers struct {
	gone    map[uuid.UUID]bool   // customer meters that Polar does not have
	reasons map[uuid.UUID]string // why a meter that was asked for may still be unknown
}

// withoutGone leaves out the rows that Polar does not have.
func (a answers) withoutGone(rows []*polar.CustomerMeter) []*polar.CustomerMeter {
	return slices.DeleteFunc(rows, func(m *polar.CustomerMeter) bool { return a.gone[m.ID] })
}

// postpone returns the result of a delivery that needs an unknown meter. Before Polar
// was asked for it the delivery stays due, and this is no attempt.
func (a answers) postpone(d store.Delivery, meter uuid.UUID) store.DeliveryResult {
	reason, asked := a.reasons[meter]
	if !asked {
		return store.DeliveryResult{Status: store.DeliveryPending}
	}
	result := store.DeliveryResult{
		Status: store.DeliveryPending,
		Wait:   min(firstReattempt<<min(d.Attempts, 10), store.MaxDeliveryWait),
		Error:  fmt.Sprintf("meter %s is not known yet: %s", meter, reason),
	}
	if d.Attempts+1 >= maxAttempts {
		result.Status = store.DeliveryFailed
	}
	return result
}

// fetchMeters asks Polar for unknown meters and saves them. Its error is the
// database's; what is wrong with Polar's answers is among the reasons.
func (w *inboxWorker) fetchMeters(ctx context.Context, unknown map[uuid.UUID][]uuid.UUID) (answers, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	a := answers{gone: map[uuid.UUID]bool{}, reasons: map[uuid.UUID]string{}}
	for meter, ids := range unknown {
		reason, err := w.fetchMeter(ctx, meter, ids[:min(len(ids), lookupTries)], a.gone)
		if err != nil {
			return a, err
		}
		a.reasons[meter] = reason
	}
	return a, nil
}

// fetchMeter asks Polar for customer meters of a meter, one after the other until it
// has one, and saves that: the meter is nested in it. It returns why the meter is
// still unknown.
func (w *inboxWorker) fetchMeter(ctx context.Context, meter uuid.UUID, ids []uuid.UUID, gone map[uuid.UUID]bool) (reason string, err error) {
	for _, id := range ids {
		single, err := w.org.Client.Get(ctx, id)
		switch {
		case errors.Is(err, fetch.ErrNotFound):
			gone[id] = true
			continue
		case err != nil:
			return err.Error(), nil
		case single.Rejected != nil:
			return fmt.Sprintf("customer meter %s: %s", id, single.Rejected.Reason), nil
		}
		m := single.CustomerMeter
		if m.MeterID != meter || m.Meter.OrganizationID != w.org.ID {
			return fmt.Sprintf("customer meter %s is one of meter %s and organization %s", id, m.MeterID, m.Meter.OrganizationID), nil
		}
		w.inbox.applying.Lock()
		defer w.inbox.applying.Unlock()
		ctx, cancel := withGrace(ctx)
		defer cancel()
		saved, err := w.inbox.mirror.opts.Store.Apply(ctx, w.org.ID, store.Webhook, &store.Block{CustomerMeters: []*polar.CustomerMeter{m}})
		if err != nil {
			return "", err
		}
		w.inbox.mirror.notify(w.org, 0, store.Webhook, saved.Counts, saved.Changed)
		return fmt.Sprintf("Postgres refuses customer meter %s (see polar.rejected_rows)", id), nil
	}
	return "Polar no longer has the customer meters asked for", nil
}
