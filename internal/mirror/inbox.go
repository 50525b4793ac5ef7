package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

const (
	// InboxPoll is how often the service's inbox looks for deliveries that another
	// replica received, or left behind, or whose next attempt has come.
	InboxPoll = 3 * time.Second
	// maxApplied is how many deliveries one transaction applies at most.
	maxApplied = 100
	// errorPause is the wait after the database refused to work.
	errorPause = 2 * time.Second
)

// An Inbox keeps the webhooks that Polar sends, and applies them.
//
// A delivery is in the database before it is answered, and stays there until it
// was applied or given up. Receiving and applying share nothing but the
// database, so that a crash between the two, or in the middle of either, loses
// none. Deliveries may be applied more than once and in any order, by any
// replica; newer wins whatever happens. None moves the tick's floor, and none
// revives what was proven to be deleted.
type Inbox struct {
	mirror  *Mirror
	poll    time.Duration
	workers map[string]*inboxWorker // by the organization's label

	applying sync.Mutex // held while a connection is used to apply: the configuration sets one aside
}

// Inbox returns the inbox of m's organizations, which looks for deliveries so often
// without being woken. Those whose id is not configured receive no webhooks.
func (m *Mirror) Inbox(poll time.Duration) *Inbox {
	i := &Inbox{mirror: m, poll: poll, workers: map[string]*inboxWorker{}}
	for _, org := range m.opts.Organizations {
		if org.ID != uuid.Nil {
			i.workers[org.Name] = &inboxWorker{
				inbox: i,
				org:   org,
				log:   m.opts.Log.With(zap.String("organization", org.Name)),
				woken: make(chan struct{}, 1),
			}
		}
	}
	return i
}

// An inboxWorker receives and applies the deliveries of one organization.
type inboxWorker struct {
	inbox      *Inbox
	org        Organization
	log        *zap.Logger
	registered atomic.Bool   // the database knows the organization
	woken      chan struct{} // holds one: being woken twice is being woken
}

// A Delivery is a webhook whose signature has been found genuine.
type Delivery struct {
	Organization string    // the label of the organization whose endpoint received it
	ID           string    // webhook-id
	SentAt       time.Time // webhook-timestamp
	Body         []byte
}

// Receive keeps a delivery, to be applied soon, and reports false if it was
// there already. When it returns without error Polar may forget the delivery.
func (i *Inbox) Receive(ctx context.Context, d Delivery) (fresh bool, err error) {
	w := i.workers[d.Organization]
	if w == nil {
		return false, fmt.Errorf("organization %s receives no webhooks", d.Organization)
	}
	if !w.registered.Load() {
		if err := i.mirror.opts.Store.RegisterOrganization(ctx, w.org.ID, w.org.Name); err != nil {
			return false, err
		}
		w.registered.Store(true)
	}
	kept := w.classify(d)
	fresh, err = i.mirror.opts.Store.SaveDelivery(ctx, &kept)
	if err != nil || !fresh {
		return false, err
	}
	if kept.Status == store.DeliveryPending {
		w.wake()
	} else {
		w.report(kept, store.DeliveryResult{Status: kept.Status, Error: kept.Error})
	}
	return true, nil
}

// classify decides whether a delivery is to be applied, without reading all of it.
func (w *inboxWorker) classify(d Delivery) store.Delivery {
	kept := store.Delivery{Organization: w.org.ID, ID: d.ID, SentAt: d.SentAt, Status: store.DeliveryFailed}
	exclude := w.inbox.mirror.opts.Exclude
	event, err := polar.DecodeEvent(d.Body, exclude...)
	if err != nil {
		kept.Error = err.Error()
		if len(exclude) == 0 { // otherwise the body may hold what is excluded
			kept.Payload = d.Body
		}
		return kept
	}
	kept.Type = event.Type
	switch {
	case !event.AboutCustomer():
		kept.Status = store.DeliveryIgnored
	case event.DataID == uuid.Nil || event.OrganizationID == uuid.Nil:
		kept.Error, kept.Payload = "data: no customer with an id and an organization_id", event.Body
	case event.OrganizationID != w.org.ID:
		// Its body is not kept: it is not this organization's to keep.
		kept.Error = fmt.Sprintf("data.organization_id: %s, but this is the endpoint of organization %s", event.OrganizationID, w.org.ID)
	default:
		kept.Status, kept.Customer, kept.Payload = store.DeliveryPending, event.DataID, event.Body
	}
	return kept
}

// report logs the result of a delivery and passes it to the observer.
func (w *inboxWorker) report(d store.Delivery, result store.DeliveryResult) {
	fields := []zap.Field{zap.String("webhook_id", d.ID), zap.String("type", d.Type), zap.String("error", result.Error)}
	switch result.Status {
	case store.DeliveryFailed:
		w.log.Warn("webhook given up", fields...)
	case store.DeliveryPending:
		w.log.Debug("webhook put off", append(fields, zap.Duration("wait", result.Wait))...)
	}
	w.inbox.mirror.opts.Observer.WebhookProcessed(w.org.Name, result, max(time.Since(d.SentAt), 0))
}

// Serve applies deliveries until ctx ends, and then waits for those that are
// being applied.
func (i *Inbox) Serve(ctx context.Context) error {
	defer i.mirror.notices.start(ctx)()
	var work sync.WaitGroup
	for _, w := range i.workers {
		work.Go(func() { w.serve(ctx) })
	}
	i.wakeWorkers(ctx)
	work.Wait()
	return nil
}

// wakeWorkers wakes the workers of organizations that have deliveries to apply. What
// this replica receives does not wait for it.
func (i *Inbox) wakeWorkers(ctx context.Context) {
	failing := false
	for {
		due, err := i.mirror.opts.Store.DueOrganizations(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			i.mirror.opts.Log.Warn("inbox out of reach", zap.Error(err))
		}
		failing = err != nil
		for _, w := range i.workers {
			if slices.Contains(due, w.org.ID) {
				w.wake()
			}
		}
		if sleep(ctx, i.poll) != nil {
			return
		}
	}
}

func (w *inboxWorker) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (w *inboxWorker) serve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.woken:
		}
		err := w.applyDue(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		w.log.Warn("webhooks not applied", zap.Duration("wait", errorPause), zap.Error(err))
		if sleep(ctx, errorPause) == nil {
			w.wake()
		}
	}
}

// applyDue applies deliveries until none is due. An error is one that no single
// delivery is to blame for.
func (w *inboxWorker) applyDue(ctx context.Context) error {
	single := 0 // deliveries still to be applied one by one
	var known answers
	for ctx.Err() == nil {
		limit := maxApplied
		if single > 0 {
			single--
			limit = 1
		}
		claimed, unknown, err := w.apply(ctx, limit, known)
		if err == nil {
			known, err = w.fetchMeters(ctx, unknown)
		}
		switch {
		case err == nil && len(claimed) == 0 && single == 0:
			return nil
		case err == nil:
		case !store.Refused(err) || len(claimed) == 0:
			return err
		case len(claimed) > 1:
			single = len(claimed) // Postgres refuses one of them: find it
		default:
			refused := store.DeliveryResult{Status: store.DeliveryFailed, Error: "Postgres refuses it: " + err.Error()}
			if err := w.inbox.mirror.opts.Store.FailDelivery(ctx, claimed[0], refused.Error); err != nil {
				return err
			}
			w.report(claimed[0], refused)
		}
	}
	return ctx.Err()
}

// apply applies up to limit due deliveries in one transaction and returns them,
// also if it failed. Those that need a meter which the mirror lacks are applied
// as far as they can be, and stay due until Polar was asked for it: unknown has those
// meters that it was not asked for yet, each with customer meters of it.
func (w *inboxWorker) apply(ctx context.Context, limit int, known answers) (claimed []store.Delivery, unknown map[uuid.UUID][]uuid.UUID, err error) {
	w.inbox.applying.Lock()
	defer w.inbox.applying.Unlock()
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	ctx, cancel := withGrace(ctx) // what is being written when ctx ends is finished
	defer cancel()
	var saved store.Saved
	var results []store.DeliveryResult
	unknown = map[uuid.UUID][]uuid.UUID{}
	err = w.inbox.mirror.opts.Store.ProcessDeliveries(ctx, w.org.ID, limit, func(c *store.Claim) ([]store.DeliveryResult, error) {
		claimed = c.Deliveries
		results = make([]store.DeliveryResult, len(claimed))
		changes := make([]*store.Change, len(claimed))
		for i, d := range claimed {
			changes[i], results[i] = w.decode(d, known)
		}
		var effects []store.Effect
		var err error
		saved, effects, err = c.Apply(ctx, changes)
		for i, effect := range effects {
			switch {
			case effect.Foreign:
				results[i] = store.DeliveryResult{
					Status: store.DeliveryFailed,
					Error:  "it is about a customer, customer meter or meter of another organization",
				}
			case len(effect.Unknown) > 0:
				results[i] = known.postpone(claimed[i], effect.Unknown[0].MeterID)
				for _, m := range effect.Unknown {
					if _, asked := known.reasons[m.MeterID]; !asked {
						unknown[m.MeterID] = append(unknown[m.MeterID], m.ID)
					}
				}
			}
		}
		return results, err
	})
	if err != nil || len(claimed) == 0 {
		return claimed, nil, err
	}
	for i, result := range results {
		if result.Status != store.DeliveryPending || result.Error != "" { // otherwise it was no attempt
			w.report(claimed[i], result)
		}
	}
	w.inbox.mirror.notify(w.org, 0, store.Webhook, saved.Counts, saved.Changed)
	w.log.Debug("webhooks applied",
		zap.Int("deliveries", len(claimed)),
		zap.Int64("rows_seen", saved.Counts.RowsSeen),
		zap.Int64("rows_inserted", saved.Counts.RowsInserted),
		zap.Int64("rows_updated", saved.Counts.RowsUpdated))
	return claimed, unknown, nil
}

// decode returns what a delivery changes, nil if nothing, and its result if that
// can be written.
func (w *inboxWorker) decode(d store.Delivery, known answers) (*store.Change, store.DeliveryResult) {
	failed := func(err error) (*store.Change, store.DeliveryResult) {
		return nil, store.DeliveryResult{Status: store.DeliveryFailed, Error: err.Error()}
	}
	event, err := polar.DecodeEvent(d.Payload, w.inbox.mirror.opts.Exclude...)
	if err != nil {
		return failed(err)
	}
	result := store.DeliveryResult{Status: store.DeliveryApplied}
	change := &store.Change{}
	if event.Type == polar.CustomerStateChanged {
		state, err := event.CustomerState()
		if err != nil {
			return failed(err)
		}
		change.Customer, change.CustomerMeters = state.Customer, known.withoutGone(state.CustomerMeters)
		if len(state.Rejected) > 0 {
			first := state.Rejected[0]
			text := fmt.Sprintf("data.active_meters[%d]: %s", first.Index, first.Reason)
			if more := len(state.Rejected) - 1; more > 0 {
				text += fmt.Sprintf(" (and %d more)", more)
			}
			result = store.DeliveryResult{Status: store.DeliveryFailed, Error: text + "; the rest of it was applied"}
		}
	} else if change.Customer, err = event.Customer(); err != nil {
		return failed(err)
	}
	if change.Customer.OrganizationID != w.org.ID || change.Customer.ID != d.Customer {
		return failed(errors.New("data: not the customer it was received for"))
	}
	if !narrow(w.org.Filter, change) {
		return nil, store.DeliveryResult{Status: store.DeliveryIgnored}
	}
	return change, result
}

// narrow takes out of a change what the filter does not let in, and reports false if that
// is all of it. A customer that a filter by meter or external id does not let in is
// kept current if the mirror has it, and not taken in: its external id may have
// changed, or been cleared with its deletion, and the next full run has to know
// that its rows are out of scope.
func narrow(f Filter, change *store.Change) bool {
	c := change.Customer
	if len(f.CustomerIDs) > 0 && !slices.Contains(f.CustomerIDs, c.ID) {
		return false
	}
	if len(f.ExternalCustomerIDs) > 0 && (c.ExternalID == nil || !slices.Contains(f.ExternalCustomerIDs, *c.ExternalID)) {
		change.CustomerMeters, change.OnlyKnown = nil, true
		return true
	}
	if len(f.MeterIDs) > 0 {
		change.CustomerMeters = slices.DeleteFunc(change.CustomerMeters, func(m *polar.CustomerMeter) bool {
			return !slices.Contains(f.MeterIDs, m.MeterID)
		})
		change.OnlyKnown = len(change.CustomerMeters) == 0
	}
	return true
}
