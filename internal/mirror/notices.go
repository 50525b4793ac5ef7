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
func (m *Mirror) reportAbandoned(dead []store.RunRecord) {
	for _, a := range dead {
		m.opts.Log.Info("run abandoned", zap.String("organization", a.Organization), zap.Int64("run_id", a.ID),
			zap.String("kind", string(a.Kind)), zap.String("reason", "its process ended without finishing it"))
		m.notify(Organization{Name: a.Organization, ID: a.OrganizationID}, a.ID, a.Kind, a.Counts, nil)
	}
}

// notices are the notifications that are still to be sent, one for each
// organization, which sums up its changes. They are sent while work is under way,
// between start and stop. A crash loses them; whoever abandons the dead process's runs
// notifies listeners of what they wrote.
type notices struct {
	store *store.Store
	log   *zap.Logger
	added chan struct{} // holds one: there is something to send

	mu      sync.Mutex
	pending map[uuid.UUID]*store.Notification
}

func newNotices(st *store.Store, log *zap.Logger) *notices {
	return &notices{store: st, log: log, added: make(chan struct{}, 1), pending: map[uuid.UUID]*store.Notification{}}
}

// start sends notifications in the background. stop ends that, waits until listeners
// were told of everything, not for long once ctx has ended, and drops the rest.
func (n *notices) start(ctx context.Context) (stop func()) {
	if n == nil {
		return func() {}
	}
	working, end := context.WithCancel(ctx)
	sending, abort := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	background.Go(func() {
		for {
			select {
			case <-working.Done():
				return
			case <-n.added:
				n.send(working, sending)
			}
		}
	})
	return func() {
		limit := noticeTime
		if ctx.Err() != nil {
			limit = noticeStopTime
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
		context.AfterFunc(last, abort)
		end()
		background.Wait() // for the notification in hand: to cancel it would not tell whether it was sent
		n.send(last, last)
		n.take()
	}
}

// add has a notification sent, together with that of its organization that is pending.
func (n *notices) add(notice *store.Notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
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
	select {
	case n.added <- struct{}{}:
	default:
	}
}

// take returns what is pending, which then is no longer.
func (n *notices) take() map[uuid.UUID]*store.Notification {
	n.mu.Lock()
	defer n.mu.Unlock()
	taken := n.pending
	n.pending = map[uuid.UUID]*store.Notification{}
	return taken
}

// send sends notifications until none is pending or working has ended. The one in hand
// then goes on until ctx ends.
func (n *notices) send(working, ctx context.Context) {
	for working.Err() == nil {
		batch := n.take()
		if len(batch) == 0 {
			return
		}
		wait := time.Duration(0)
		for _, notice := range batch {
			sent, err := n.store.Notify(ctx, *notice)
			switch {
			case sent:
				continue
			case err == nil: // listeners were told within the last second
				wait = max(wait, noticePoll)
			case ctx.Err() != nil:
			case store.Broken(err):
				wait = noticeRetry
			default:
				n.log.Warn("listeners not told", zap.String("organization", notice.Organization), zap.Error(err))
				continue
			}
			n.add(notice) // for the next try
		}
		_ = sleep(working, wait) // if it is cut short, working has ended
	}
}
