package mirror

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"polarmirror/internal/store"
)

const (
	// noticePoll is how long a notice waits before it is tried again, when
	// listeners were told within the last second.
	noticePoll = 250 * time.Millisecond
	// noticeRetry is how long it waits when the database is lost.
	noticeRetry = 5 * time.Second
	// noticeTime bounds the wait for the last notices at the end of the work,
	// noticeStopTime when it was told to stop.
	noticeTime     = 20 * time.Second
	noticeStopTime = 2 * time.Second
)

// A Change is what was written to an organization's customer meters.
type Change struct {
	Organization   string // label
	OrganizationID uuid.UUID
	RunID          int64 // 0 if no run wrote it
	Kind           store.Kind
	Counts         store.Counts // inserted, updated and deleted rows; nothing else is looked at
}

func (c *Change) none() bool {
	return c.Counts.RowsInserted+c.Counts.RowsUpdated+c.Counts.RowsDeleted == 0
}

// Changed has the listeners on [store.NotifyChannel] told of a change, at once
// or as soon as a second has passed since they last were; changes in between
// are told together. It returns at once, does nothing if nothing changed, and
// may be called from any goroutine. Call it once the change is committed, so
// that who listens and then reads sees it.
func (m *Mirror) Changed(c Change) {
	if m.notices != nil && !c.none() {
		m.notices.add(c)
	}
}

// reportAbandoned sees to what a dead process left: nobody told of what it wrote.
func (m *Mirror) reportAbandoned(dead []store.Abandoned) {
	for _, a := range dead {
		m.log.Info("run abandoned", zap.String("organization", a.Organization), zap.Int64("run_id", a.RunID),
			zap.String("kind", string(a.Kind)), zap.String("reason", "its process ended without finishing it"))
		m.Changed(Change{Organization: a.Organization, OrganizationID: a.OrganizationID, RunID: a.RunID, Kind: a.Kind, Counts: a.Counts})
	}
}

// notices are the changes that listeners have not been told of, one sum for each
// organization. A goroutine sends those of an organization as long as there are
// some. A crash loses them; what the dead process wrote is told by whoever
// abandons its run.
type notices struct {
	store *store.Store
	log   *zap.Logger
	turn  chan struct{} // one sender at a time takes a connection from the pool

	mu      sync.Mutex
	pending map[uuid.UUID]*store.Notification // nil while a sender has nothing to send
	idle    chan struct{}                     // closed when no sender is left; nil if there is none
	ctx     context.Context                   // of the senders
	stop    context.CancelFunc
}

func newNotices(st *store.Store, log *zap.Logger) *notices {
	return &notices{store: st, log: log, turn: make(chan struct{}, 1), pending: map[uuid.UUID]*store.Notification{}}
}

func (n *notices) add(c Change) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sum, sending := n.pending[c.OrganizationID]
	if sum == nil {
		sum = &store.Notification{OrganizationID: c.OrganizationID}
	}
	sum.Organization, sum.Kind = c.Organization, c.Kind
	if c.RunID != 0 {
		sum.RunID = c.RunID
	}
	sum.RowsInserted += c.Counts.RowsInserted
	sum.RowsUpdated += c.Counts.RowsUpdated
	sum.RowsDeleted += c.Counts.RowsDeleted
	n.pending[c.OrganizationID] = sum
	if sending {
		return
	}
	if n.idle == nil {
		n.idle = make(chan struct{})
		n.ctx, n.stop = context.WithCancel(context.Background())
	}
	go n.send(n.ctx, c.OrganizationID)
}

// send tells of an organization's changes until there are no more, or until ctx
// ends.
func (n *notices) send(ctx context.Context, organization uuid.UUID) {
	for {
		sum := n.take(organization)
		if sum == nil {
			return
		}
		n.turn <- struct{}{}
		told, err := n.store.Notify(ctx, *sum)
		<-n.turn
		wait := noticePoll
		switch {
		case err != nil && (ctx.Err() != nil || !store.Broken(err)):
			if ctx.Err() == nil {
				n.log.Warn("listeners not told", zap.String("organization", sum.Organization), zap.Error(err))
			}
			continue
		case err != nil:
			wait = noticeRetry
		case told:
			continue
		}
		n.putBack(organization, sum)
		_ = sleep(ctx, wait) // if it is cut short, the next try fails at once
	}
}

// take returns what there is to send; nil if nothing, and then the sender ends.
func (n *notices) take(organization uuid.UUID) *store.Notification {
	n.mu.Lock()
	defer n.mu.Unlock()
	sum := n.pending[organization]
	if sum != nil {
		n.pending[organization] = nil
		return sum
	}
	delete(n.pending, organization)
	if len(n.pending) == 0 {
		n.stop()
		close(n.idle)
		n.idle = nil
	}
	return nil
}

// putBack has sum sent again, together with what came in meanwhile.
func (n *notices) putBack(organization uuid.UUID, sum *store.Notification) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if newer := n.pending[organization]; newer != nil {
		newer.RowsInserted += sum.RowsInserted
		newer.RowsUpdated += sum.RowsUpdated
		newer.RowsDeleted += sum.RowsDeleted
		if newer.RunID == 0 {
			newer.RunID = sum.RunID
		}
		return
	}
	n.pending[organization] = sum
}

// drain waits until all is told, or until ctx ends, and then drops what is not.
func (n *notices) drain(ctx context.Context) {
	n.mu.Lock()
	idle, stop := n.idle, n.stop
	n.mu.Unlock()
	if idle == nil {
		return
	}
	select {
	case <-idle:
	case <-ctx.Done():
		stop()
		<-idle
	}
}

// lastNotices waits until listeners were told of all changes, not for long once
// ctx has ended.
func (m *Mirror) lastNotices(ctx context.Context) {
	if m.notices == nil {
		return
	}
	limit := noticeTime
	if ctx.Err() != nil {
		limit = noticeStopTime
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	m.notices.drain(ctx)
}
