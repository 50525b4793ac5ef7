package mirror

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

// inboxPoll is how often an inbox looks for deliveries that another replica
// received, or left behind, or whose next attempt has come.
const inboxPoll = 3 * time.Second

// An Inbox takes in what Polar tells of by webhooks.
//
// A delivery is in the database before it is answered, and leaves it unapplied
// only when it was given up: receiving and applying share nothing but the
// database, so that a crash between the two, or in the middle of either, loses
// none. Deliveries may be applied more than once and in any order, by any
// replica; newer wins whatever happens. None moves the tick's floor, and none
// revives what was proven to be deleted.
type Inbox struct {
	mirror  *Mirror
	opts    InboxOptions
	log     *zap.Logger
	workers map[string]*inboxWorker // by the organization's label
	places  chan struct{}           // held while a connection is used to apply
	changed func(Change)            // told of what was written, once it is visible
}

// InboxOptions are what an Inbox needs beside its Mirror. The functions are
// called from several goroutines at once, and are waited for; nil ones are not
// called.
type InboxOptions struct {
	Poll time.Duration // how often to look without being told to; 0 means 3 s

	// Settled is told of each delivery that was applied, ignored or given up, and
	// of each failed attempt.
	Settled func(Settled)
}

// A Settled is what an attempt to apply a delivery led to.
type Settled struct {
	Organization string // its label
	Type         string // of the event, as Polar sent it
	Status       store.DeliveryStatus
	Delay        time.Duration // since Polar sent it, by our clock and in whole seconds of Polar's; 0 if that is to come
	Error        string        // "" if nothing went wrong
}

// Inbox returns the inbox of m's organizations, those excepted whose id is not
// configured.
func (m *Mirror) Inbox(opts InboxOptions) *Inbox {
	opts.Poll = cmp.Or(opts.Poll, inboxPoll)
	if opts.Settled == nil {
		opts.Settled = func(Settled) {}
	}
	i := &Inbox{
		mirror:  m,
		opts:    opts,
		log:     m.log,
		workers: map[string]*inboxWorker{},
		places:  make(chan struct{}, 1), // the configuration sets one connection aside
		changed: m.Changed,
	}
	for _, org := range m.opts.Organizations {
		if org.ID != uuid.Nil {
			i.workers[org.Name] = &inboxWorker{
				worker:      m.worker(org),
				inbox:       i,
				woken:       make(chan struct{}, 1),
				registering: make(chan struct{}, 1),
			}
		}
	}
	return i
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
	if err := w.register(ctx); err != nil {
		return false, err
	}
	kept := w.sort(d)
	fresh, err = i.mirror.store.SaveDelivery(ctx, &kept)
	if err != nil || !fresh {
		return false, err
	}
	if kept.Status == store.DeliveryPending {
		w.wake()
		return true, nil
	}
	if kept.Error != "" {
		w.worker.log.Warn("webhook given up", deliveryFields(kept.ID, kept.Type, kept.Error)...)
	}
	i.opts.Settled(Settled{
		Organization: w.worker.org.Name,
		Type:         kept.Type,
		Status:       kept.Status,
		Delay:        max(time.Since(kept.SentAt), 0),
		Error:        kept.Error,
	})
	return true, nil
}

// sort decides, by a glance, what is to become of a delivery.
func (w *inboxWorker) sort(d Delivery) store.Delivery {
	kept := store.Delivery{Organization: w.worker.org.ID, ID: d.ID, SentAt: d.SentAt, Status: store.DeliveryFailed}
	event, err := polar.DecodeEvent(d.Body)
	if err != nil {
		kept.Error, kept.Payload = err.Error(), d.Body
		return kept
	}
	kept.Type = event.Type
	switch {
	case !event.AboutCustomer():
		kept.Status = store.DeliveryIgnored
	case event.DataID == uuid.Nil || event.OrganizationID == uuid.Nil:
		kept.Error, kept.Payload = "data: no customer with an id and an organization_id", d.Body
	case event.OrganizationID != w.worker.org.ID:
		// Not kept: it is not this organization's to keep.
		kept.Error = fmt.Sprintf("data.organization_id: %s, but this is the endpoint of organization %s", event.OrganizationID, w.worker.org.ID)
	default:
		kept.Status, kept.Customer, kept.Payload = store.DeliveryPending, event.DataID, d.Body
	}
	return kept
}

func deliveryFields(id, eventType, reason string) []zap.Field {
	return []zap.Field{zap.String("webhook_id", id), zap.String("type", eventType), zap.String("error", reason)}
}

// Serve applies deliveries until ctx ends, and then waits for those in hand.
func (i *Inbox) Serve(ctx context.Context) error {
	var group errgroup.Group
	for _, w := range i.workers {
		group.Go(func() error {
			w.serve(ctx)
			return nil
		})
	}
	group.Go(func() error {
		i.poll(ctx)
		return nil
	})
	return group.Wait()
}

// poll wakes the workers of organizations that have deliveries to apply. What
// this replica receives does not wait for it.
func (i *Inbox) poll(ctx context.Context) {
	byID := make(map[uuid.UUID]*inboxWorker, len(i.workers))
	for _, w := range i.workers {
		byID[w.worker.org.ID] = w
	}
	failing := false
	for {
		due, err := i.mirror.store.DueOrganizations(ctx)
		if err != nil && !failing && ctx.Err() == nil {
			i.log.Warn("inbox out of reach", zap.Error(err))
		}
		failing = err != nil
		for _, id := range due {
			if w := byID[id]; w != nil {
				w.wake()
			}
		}
		if sleep(ctx, i.opts.Poll) != nil {
			return
		}
	}
}
