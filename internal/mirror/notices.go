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

// notify tells the listeners on [store.NotifyChannel] of what was written to an
// organization's customer meters, at once or as soon as a second has passed since they
// were last told; changes in between are told together. Customers may be there in any
// number and order; nil: they are unknown. notify returns at once, does nothing if
// nothing changed, and may be called from any goroutine. Call it once the change is
// committed, so that who listens and then reads sees it.
func (m *Mirror) notify(org Organization, runID int64, kind store.Kind, counts store.Counts, customers []uuid.UUID) {
	if m.notices == nil || counts.RowsInserted+counts.RowsUpdated+counts.RowsDeleted == 0 {
		return
	}
	m.notices.add(&store.Notification{
		CustomerIDs:    customers,
		MoreCustomers:  customers == nil,
		Organization:   org.Name,
		OrganizationID: org.ID,
		RunID:          runID,
		Kind:           kind,
		RowsInserted:   counts.RowsInserted,
		RowsUpdated:    counts.RowsUpdated,
		RowsDeleted:    counts.RowsDeleted,
	})
}

// reportAbandoned logs the runs that a dead process left, and notifies listeners
// of what they wrote, which it may not have done.
func (m *Mirror) reportAbandoned(dead []store.Abandoned) {
	for _, a := range dead {
		m.opts.Log.Info("run abandoned", zap.String("organization", a.Organization), zap.Int64("run_id", a.RunID),
			zap.String("kind", string(a.Kind)), zap.String("reason", "its process ended without finishing it"))
		m.notify(Organization{Name: a.Organization, ID: a.OrganizationID}, a.RunID, a.Kind, a.Counts, nil)
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
	sending chan struct{}      // closed when the sender ends; nil if there is none
	stop    context.CancelFunc // has the sender drop what is pending
}

func newNotices(st *store.Store, log *zap.Logger) *notices {
	return &notices{store: st, log: log, pending: map[uuid.UUID]*store.Notification{}}
}

// add has a notification of a new change sent.
func (n *notices) add(notice *store.Notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.combine(notice)
	if n.sending == nil {
		n.sending = make(chan struct{})
		var ctx context.Context
		ctx, n.stop = context.WithCancel(context.Background())
		go n.send(ctx, n.sending)
	}
}

// combine adds a notification to that of its organization that is pending.
func (n *notices) combine(notice *store.Notification) {
	both := *notice
	if other := n.pending[notice.OrganizationID]; other != nil {
		both.RunID = cmp.Or(both.RunID, other.RunID)
		both.RowsInserted += other.RowsInserted
		both.RowsUpdated += other.RowsUpdated
		both.RowsDeleted += other.RowsDeleted
		both.CustomerIDs = slices.Concat(other.CustomerIDs, both.CustomerIDs)
		both.MoreCustomers = both.MoreCustomers || other.MoreCustomers
	}
	seen := map[uuid.UUID]bool{}
	ids := []uuid.UUID{} // and not null in JSON
	for _, id := range both.CustomerIDs {
		if !seen[id] {
			seen[id], ids = true, append(ids, id)
		}
	}
	if len(ids) > store.MaxNotified {
		ids, both.MoreCustomers = ids[:store.MaxNotified], true
	}
	both.CustomerIDs = ids
	n.pending[notice.OrganizationID] = &both
}

// send sends notifications until there are no more. Once ctx has ended it drops them.
func (n *notices) send(ctx context.Context, done chan<- struct{}) {
	defer close(done)
	for {
		n.mu.Lock()
		batch := n.pending
		n.pending = map[uuid.UUID]*store.Notification{}
		if len(batch) == 0 {
			n.stop()
			n.sending = nil
			n.mu.Unlock()
			return
		}
		n.mu.Unlock()
		wait := time.Duration(0)
		for _, notice := range batch {
			sent, err := n.store.Notify(ctx, *notice)
			switch {
			case ctx.Err() != nil || sent:
				continue
			case err == nil: // listeners were told within the last second
				wait = max(wait, noticePoll)
			case store.Broken(err):
				wait = noticeRetry
			default:
				n.log.Warn("listeners not told", zap.String("organization", notice.Organization), zap.Error(err))
				continue
			}
			n.mu.Lock() // for the next try
			newer := n.pending[notice.OrganizationID]
			n.pending[notice.OrganizationID] = notice
			if newer != nil {
				n.combine(newer)
			}
			n.mu.Unlock()
		}
		_ = sleep(ctx, wait) // if it is cut short, the next try fails at once
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
	sending, stop := n.sending, n.stop
	n.mu.Unlock()
	if sending == nil {
		return
	}
	select {
	case <-sending:
	case <-time.After(limit):
		stop()
		<-sending
	}
}
