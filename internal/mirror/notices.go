package mirror

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"polarmirror/internal/store"
)

const (
	// noticePoll is how long a notification waits before it is tried again, when
	// listeners were told within the last second.
	noticePoll = 250 * time.Millisecond
	// noticeRetry is how long it waits when the database is lost.
	noticeRetry = 5 * time.Second
	// noticeTime bounds the wait for the last notices at the end of the work,
	// noticeStopTime when it was told to stop.
	noticeTime     = 20 * time.Second
	noticeStopTime = 2 * time.Second
)

// A change is what was written to an organization's customer meters.
type change struct {
	organization   string // label
	organizationID uuid.UUID
	runID          int64 // 0 if no run wrote it
	kind           store.Kind
	counts         store.Counts // only inserted, updated and deleted rows are looked at
	customers      []uuid.UUID  // of these rows, in any number and order; nil if unknown
}

// notify tells the listeners on [store.NotifyChannel] of a change, at once or as
// soon as a second has passed since they were last told; changes in between are
// told together. It returns at once, does nothing if nothing changed, and may be
// called from any goroutine. Call it once the change is committed, so that who
// listens and then reads sees it.
func (m *Mirror) notify(c change) {
	if m.notices == nil || c.counts.RowsInserted+c.counts.RowsUpdated+c.counts.RowsDeleted == 0 {
		return
	}
	customers, more := firstCustomers(c.customers)
	m.notices.add(&store.Notification{
		CustomerIDs:    customers,
		MoreCustomers:  more || c.customers == nil,
		Organization:   c.organization,
		OrganizationID: c.organizationID,
		RunID:          c.runID,
		Kind:           c.kind,
		RowsInserted:   c.counts.RowsInserted,
		RowsUpdated:    c.counts.RowsUpdated,
		RowsDeleted:    c.counts.RowsDeleted,
	})
}

// firstCustomers are up to MaxNotified of the customers, each once, and whether there
// are others.
func firstCustomers(customers []uuid.UUID) (first []uuid.UUID, more bool) {
	first = []uuid.UUID{} // and not null in JSON
	seen := map[uuid.UUID]bool{}
	for _, id := range customers {
		if seen[id] {
			continue
		}
		if len(first) == store.MaxNotified {
			return first, true
		}
		seen[id], first = true, append(first, id)
	}
	return first, false
}

// reportAbandoned logs the runs that a dead process left, and notifies listeners
// of what they wrote, which it may not have done.
func (m *Mirror) reportAbandoned(dead []store.Abandoned) {
	for _, a := range dead {
		m.log.Info("run abandoned", zap.String("organization", a.Organization), zap.Int64("run_id", a.RunID),
			zap.String("kind", string(a.Kind)), zap.String("reason", "its process ended without finishing it"))
		m.notify(change{organization: a.Organization, organizationID: a.OrganizationID, runID: a.RunID, kind: a.Kind, counts: a.Counts})
	}
}

// notices are the notifications that are still to be sent, one for each
// organization, which sums up its changes. A goroutine sends them as long as there
// are some. A crash loses them; whoever abandons the dead process's runs notifies
// listeners of what they wrote.
type notices struct {
	store *store.Store
	log   *zap.Logger

	mu      sync.Mutex
	pending map[uuid.UUID]*store.Notification
	sending chan struct{} // closed when the sender ends; nil if there is none
	ctx     context.Context
	stop    context.CancelFunc // ends ctx, which is the sender's
}

func newNotices(st *store.Store, log *zap.Logger) *notices {
	n := &notices{store: st, log: log, pending: map[uuid.UUID]*store.Notification{}}
	n.ctx, n.stop = context.WithCancel(context.Background())
	return n
}

// add has a notification of a new change sent.
func (n *notices) add(notice *store.Notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pending[notice.OrganizationID] = combine(n.pending[notice.OrganizationID], notice)
	if n.sending == nil {
		n.sending = make(chan struct{})
		go n.send(n.ctx, n.sending)
	}
}

// combine makes one notification of two, of which either may be nil.
func combine(earlier, later *store.Notification) *store.Notification {
	if earlier == nil {
		return later
	}
	if later == nil {
		return earlier
	}
	both := *later
	both.RunID = cmp.Or(later.RunID, earlier.RunID)
	both.RowsInserted += earlier.RowsInserted
	both.RowsUpdated += earlier.RowsUpdated
	both.RowsDeleted += earlier.RowsDeleted
	customers, more := firstCustomers(slices.Concat(earlier.CustomerIDs, later.CustomerIDs))
	both.CustomerIDs, both.MoreCustomers = customers, more || earlier.MoreCustomers || later.MoreCustomers
	return &both
}

// send sends notifications until there are no more. Once ctx has ended it drops them.
func (n *notices) send(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for {
		batch := n.take()
		if batch == nil {
			return
		}
		wait := noticePoll
		for organization, notice := range batch {
			sent, err := n.store.Notify(ctx, *notice)
			switch {
			case err == nil && !sent: // listeners were told within the last second
				continue
			case err != nil && ctx.Err() == nil && store.Broken(err):
				wait = noticeRetry
				continue
			case err != nil && ctx.Err() == nil:
				n.log.Warn("listeners not told", zap.String("organization", notice.Organization), zap.Error(err))
			}
			delete(batch, organization)
		}
		if len(batch) > 0 {
			n.putBack(batch)
			_ = sleep(ctx, wait) // if it is cut short, the next try fails at once
		}
	}
}

// take returns what is to be sent now; nil if there is nothing, and then the sender
// has to end.
func (n *notices) take() map[uuid.UUID]*store.Notification {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.pending) == 0 {
		n.sending = nil
		return nil
	}
	batch := n.pending
	n.pending = map[uuid.UUID]*store.Notification{}
	return batch
}

// putBack keeps what could not be sent for the next try. More may have come meanwhile.
func (n *notices) putBack(batch map[uuid.UUID]*store.Notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for organization, notice := range batch {
		n.pending[organization] = combine(notice, n.pending[organization])
	}
}

// flush waits until listeners were told of all changes, not for long once ctx has
// ended, and drops what they were not told of by then.
func (n *notices) flush(ctx context.Context) {
	if n == nil {
		return
	}
	limit := noticeTime
	if ctx.Err() != nil {
		limit = noticeStopTime
	}
	n.mu.Lock()
	sending := n.sending
	n.mu.Unlock()
	if sending == nil {
		return
	}
	select {
	case <-sending:
	case <-time.After(limit):
		n.mu.Lock()
		n.stop()
		n.ctx, n.stop = context.WithCancel(context.Background()) // for the changes to come
		n.mu.Unlock()
		<-sending
	}
}
