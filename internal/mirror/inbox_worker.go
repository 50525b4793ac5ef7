package mirror

import (
	"context"
	"time"

	"go.uber.org/zap"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

const (
	// applyAtOnce is how many deliveries one transaction applies at most.
	applyAtOnce = 100
	// firstPause and lastPause bound the wait after the database refused to work.
	firstPause = 500 * time.Millisecond
	lastPause  = 30 * time.Second
)

// An inboxWorker applies the deliveries of one organization.
type inboxWorker struct {
	worker *worker
	inbox  *Inbox
	woken  chan struct{} // holds one: being woken twice is being woken

	registering chan struct{} // held while the organization is registered
	learnAfter  time.Time     // Polar gave no answer: it is not asked before
}

// register makes sure that the database knows the organization.
func (w *inboxWorker) register(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case w.registering <- struct{}{}:
	}
	defer func() { <-w.registering }()
	return w.worker.identify(ctx)
}

func (w *inboxWorker) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (w *inboxWorker) serve(ctx context.Context) {
	pause := firstPause
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.woken:
		}
		err := w.drain(ctx)
		if err == nil || ctx.Err() != nil {
			pause = firstPause
			continue
		}
		w.worker.log.Warn("webhooks not applied", zap.Duration("wait", pause), zap.Error(err))
		if sleep(ctx, pause) != nil {
			return
		}
		pause = min(2*pause, lastPause)
		w.wake()
	}
}

// drain applies what is due until there is nothing left. An error is one that
// no single delivery is to blame for.
func (w *inboxWorker) drain(ctx context.Context) error {
	single := 0 // deliveries still to be applied one by one
	for ctx.Err() == nil {
		query := store.DeliveryQuery{Organization: w.worker.org.ID, Limit: applyAtOnce}
		if single > 0 {
			single--
			query.Limit = 1
		}
		done, err := w.apply(ctx, query, nil)
		switch {
		case err == nil && done.claimed == 0 && single == 0:
			return nil
		case err == nil:
		case !store.Refused(err) || done.claimed == 0:
			return err
		case done.claimed > 1:
			single = done.claimed // one of them is more than Postgres takes: find it
		default:
			if err := w.blame(ctx, done.first, err); err != nil {
				return err
			}
		}
	}
	return ctx.Err()
}

// blame settles the one delivery that Postgres does not take.
func (w *inboxWorker) blame(ctx context.Context, d store.Delivery, cause error) error {
	failed := store.Settlement{ID: d.ID, Status: store.DeliveryFailed, Error: "Postgres refuses it: " + cause.Error()}
	if err := w.inbox.mirror.store.FailDelivery(ctx, w.worker.org.ID, failed); err != nil {
		return err
	}
	w.tell(d, failed)
	return nil
}

// An application is what one transaction of an inbox did.
type application struct {
	claimed int
	first   store.Delivery // of those claimed
	counts  store.Counts
	unknown []waiting // deliveries that need meters which the mirror lacks
}

// A waiting delivery names customer meters whose meter the mirror lacks.
type waiting struct {
	delivery store.Delivery
	rows     []*polar.CustomerMeter
}

// apply applies the deliveries of a query in one transaction. Those that need a
// meter which the mirror lacks are applied as far as they can be and, unless
// lessons says that Polar has been asked already, again after asking Polar.
func (w *inboxWorker) apply(ctx context.Context, query store.DeliveryQuery, lessons *lessons) (application, error) {
	var done application
	var settled []store.Settlement
	var deliveries []store.Delivery
	err := w.inbox.inPlace(ctx, func(ctx context.Context) error {
		_, err := w.inbox.mirror.store.WorkDeliveries(ctx, query, func(c *store.Claim) ([]store.Settlement, error) {
			deliveries = c.Deliveries
			done.claimed, done.first = len(deliveries), deliveries[0]
			var err error
			settled, err = w.applyClaim(ctx, c, lessons, &done)
			return settled, err
		})
		return err
	})
	if err != nil || done.claimed == 0 {
		return done, err
	}
	for i, s := range settled {
		if s.Status != store.DeliveryPending || s.Error != "" {
			w.tell(deliveries[i], s)
		}
	}
	w.changed(done.counts)
	w.worker.log.Debug("webhooks applied",
		zap.Int("deliveries", done.claimed),
		zap.Int64("rows_seen", done.counts.RowsSeen),
		zap.Int64("rows_inserted", done.counts.RowsInserted),
		zap.Int64("rows_updated", done.counts.RowsUpdated))
	if len(done.unknown) > 0 && lessons == nil {
		return done, w.learnAndApply(ctx, done.unknown)
	}
	return done, nil
}

// changed has listeners told of what was written to customer meters, if anything was.
func (w *inboxWorker) changed(counts store.Counts) {
	w.inbox.changed(Change{Organization: w.worker.org.Name, OrganizationID: w.worker.org.ID, Kind: store.Webhook, Counts: counts})
}

// inPlace calls use with one of the inbox's connections to spare, and lets it
// end in order when ctx does.
func (i *Inbox) inPlace(ctx context.Context, use func(context.Context) error) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case i.places <- struct{}{}:
	}
	defer func() { <-i.places }()
	ctx, cancel := withGrace(ctx)
	defer cancel()
	return use(ctx)
}

// applyClaim reads the deliveries of a claim, writes what they say, and returns
// what became of each, in their order.
func (w *inboxWorker) applyClaim(ctx context.Context, c *store.Claim, lessons *lessons, done *application) ([]store.Settlement, error) {
	settled := make([]store.Settlement, len(c.Deliveries))
	var changes []store.Change
	var owners []int // which delivery a change comes from
	for i, d := range c.Deliveries {
		change, verdict := w.read(d, lessons)
		verdict.ID = d.ID
		settled[i] = verdict
		if change != nil {
			changes = append(changes, *change)
			owners = append(owners, i)
		}
	}
	counts, effects, err := c.Apply(ctx, changes)
	if err != nil {
		return nil, err
	}
	done.counts = counts
	for n, effect := range effects {
		i := owners[n]
		switch {
		case effect.Foreign:
			settled[i].Status = store.DeliveryFailed
			settled[i].Error = "it is about a customer, customer meter or meter of another organization"
		case len(effect.Unknown) > 0:
			done.unknown = append(done.unknown, waiting{c.Deliveries[i], effect.Unknown})
			settled[i] = w.postpone(c.Deliveries[i], effect.Unknown, lessons)
		}
	}
	return settled, nil
}

// tell logs and reports what became of a delivery.
func (w *inboxWorker) tell(d store.Delivery, s store.Settlement) {
	fields := deliveryFields(d.ID, d.Type, s.Error)
	switch {
	case s.Status == store.DeliveryFailed:
		w.worker.log.Warn("webhook given up", fields...)
	case s.Status == store.DeliveryPending:
		w.worker.log.Debug("webhook put off", append(fields, zap.Duration("wait", s.Wait))...)
	}
	w.inbox.opts.Settled(Settled{
		Organization: w.worker.org.Name,
		Type:         d.Type,
		Status:       s.Status,
		Delay:        max(time.Since(d.SentAt), 0),
		Error:        s.Error,
	})
}
