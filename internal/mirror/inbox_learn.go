package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/fetch"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

const (
	// learnTime bounds asking Polar about unknown meters: the organization's other
	// deliveries wait meanwhile.
	learnTime = 10 * time.Second
	// learnPause is how long Polar is not asked again after it gave no answer.
	learnPause = 30 * time.Second
	// learnLease is after what time a delivery whose meters are being asked for is
	// taken up again by whoever sees it, should this process be gone by then.
	learnLease = time.Minute
	// learnTries is how many customer meters of one meter are asked for before the
	// next attempt.
	learnTries = 3

	// firstReattempt and lastReattempt bound the wait before a delivery that could
	// not be applied is tried again, and maxAttempts how often: for half a day.
	firstReattempt = 5 * time.Second
	lastReattempt  = store.MaxDeliveryWait
	maxAttempts    = 20
)

// lessons are what Polar answered about meters that the mirror lacked.
type lessons struct {
	gone    map[uuid.UUID]bool   // customer meters that Polar does not have
	reasons map[uuid.UUID]string // why a meter is still unknown
}

// without leaves out the rows that Polar does not have. A nil l knows of none.
func (l *lessons) without(rows []*polar.CustomerMeter) []*polar.CustomerMeter {
	if l == nil {
		return rows
	}
	return slices.DeleteFunc(rows, func(m *polar.CustomerMeter) bool { return l.gone[m.ID] })
}

// postpone settles a delivery that needs unknown meters for now. Before Polar is
// asked that is a lease, which a crash leaves to run out.
func (w *inboxWorker) postpone(d store.Delivery, unknown []*polar.CustomerMeter, l *lessons) store.Settlement {
	if l == nil {
		return store.Settlement{ID: d.ID, Status: store.DeliveryPending, Wait: learnLease}
	}
	meter := unknown[0].MeterID
	s := store.Settlement{
		ID:     d.ID,
		Status: store.DeliveryPending,
		Wait:   min(firstReattempt<<min(d.Attempts, 10), lastReattempt),
		Error:  fmt.Sprintf("meter %s is not known yet: %s", meter, cmp.Or(l.reasons[meter], "Polar no longer has the customer meters asked for")),
	}
	if d.Attempts+1 >= maxAttempts {
		s.Status = store.DeliveryFailed
	}
	return s
}

// learnAndApply asks Polar for customer meters whose meter is unknown, one of
// each meter: the answer has the meter in it. Then the rest is applied.
func (w *inboxWorker) learnAndApply(ctx context.Context, unknown []waiting) error {
	if time.Now().Before(w.learnAfter) {
		return nil // the lease runs out later
	}
	byMeter := map[uuid.UUID][]uuid.UUID{}
	var only []string
	for _, u := range unknown {
		only = append(only, u.delivery.ID)
		for _, m := range u.rows {
			byMeter[m.MeterID] = append(byMeter[m.MeterID], m.ID)
		}
	}
	l := &lessons{gone: map[uuid.UUID]bool{}, reasons: map[uuid.UUID]string{}}
	asking, cancel := context.WithTimeout(ctx, learnTime)
	defer cancel()
	for _, meter := range slices.SortedFunc(maps.Keys(byMeter), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) }) {
		rows := byMeter[meter]
		if err := w.learn(asking, meter, rows[:min(len(rows), learnTries)], l); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, err := w.apply(ctx, store.DeliveryQuery{Organization: w.worker.org.ID, Limit: len(only), Only: only}, l)
	return err
}

// learn asks for one customer meter after the other until Polar has one, and
// saves it. Its error is the database's; what Polar does is a lesson.
func (w *inboxWorker) learn(ctx context.Context, meter uuid.UUID, rows []uuid.UUID, l *lessons) error {
	for _, id := range rows {
		single, err := w.worker.org.Client.Get(ctx, id)
		switch {
		case errors.Is(err, fetch.ErrNotFound):
			l.gone[id] = true
			continue
		case err != nil:
			l.reasons[meter] = err.Error()
			w.learnAfter = time.Now().Add(learnPause)
		case single.Rejected != nil:
			l.reasons[meter] = fmt.Sprintf("customer meter %s: %s", id, single.Rejected.Reason)
		case single.CustomerMeter.MeterID != meter || single.CustomerMeter.Meter.OrganizationID != w.worker.org.ID:
			l.reasons[meter] = fmt.Sprintf("customer meter %s is one of meter %s and organization %s",
				id, single.CustomerMeter.MeterID, single.CustomerMeter.Meter.OrganizationID)
		default:
			saved, err := w.save(ctx, single.CustomerMeter)
			if saved.RowsRejected > 0 {
				l.reasons[meter] = fmt.Sprintf("Postgres refuses customer meter %s (see polar.rejected_rows)", id)
			}
			return err
		}
		return nil
	}
	return nil
}

// save writes a customer meter that was asked for, and the meter in it.
func (w *inboxWorker) save(ctx context.Context, m *polar.CustomerMeter) (store.Counts, error) {
	var saved store.Saved
	err := w.inbox.inPlace(ctx, func(ctx context.Context) (err error) {
		saved, err = w.inbox.mirror.store.Apply(ctx, w.worker.org.ID, &store.Block{CustomerMeters: []*polar.CustomerMeter{m}})
		return err
	})
	if err == nil {
		w.changed(saved.Counts)
	}
	return saved.Counts, err
}
