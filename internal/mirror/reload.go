package mirror

import (
	"context"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// shared is what the workers of a process have in common. It outlives a reload.
type shared struct {
	outage  outage
	notices *notices // nil: nobody is told
	reloads chan reload
	current atomic.Pointer[Mirror] // as last reloaded
}

// A reload is what Serve is to follow from now on.
type reload struct {
	mirror    *Mirror
	schedules Schedules
	taken     chan struct{} // closed once it does
}

// Reload makes a [Mirror.Serve] under way follow other options and schedules,
// and returns once it does, or when ctx ends. Options that cannot change while
// it serves (Store, Log, Progress, Observer,
// Concurrency) stay as they are.
//
// An organization is known by its label and changes if its id, client or filter
// does; an unchanged one is not disturbed, and needs the very client it had. Runs
// of organizations that changed or are gone are stopped at a block boundary, and
// those of a changed one go on as it is now.
func (m *Mirror) Reload(ctx context.Context, opts Options, schedules Schedules) error {
	opts.Store, opts.Log, opts.Concurrency = m.store, m.log, m.opts.Concurrency
	opts.Progress, opts.Observer = m.progress, m.observer
	if err := opts.settle(); err != nil {
		return err
	}
	next := &Mirror{opts: opts, store: m.store, log: m.log, progress: m.progress, observer: m.observer, shared: m.shared}
	r := reload{mirror: next, schedules: schedules, taken: make(chan struct{})}
	select {
	case m.shared.reloads <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.taken:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Now returns the mirror as it was last reloaded. The options of m itself are
// those it was made with.
func (m *Mirror) Now() *Mirror { return m.shared.current.Load() }

// equal reports whether work on o goes on as on p.
func (o *Organization) equal(p Organization) bool {
	return o.Name == p.Name && o.ID == p.ID && o.Client == p.Client &&
		slices.Equal(o.Filter.CustomerIDs, p.Filter.CustomerIDs) &&
		slices.Equal(o.Filter.ExternalCustomerIDs, p.Filter.ExternalCustomerIDs) &&
		slices.Equal(o.Filter.MeterIDs, p.Filter.MeterIDs)
}

// An update is what a server is to follow.
type update struct {
	mirror    *Mirror
	org       Organization
	changed   bool // so that what it was doing is of no more use
	schedules Schedules
}

// A mailbox brings updates to a server, which reads them between its rounds.
type mailbox struct {
	arrived chan struct{}

	mu   sync.Mutex
	news *update
	stop context.CancelFunc // ends the round under way; nil if there is none
}

func newMailbox() *mailbox { return &mailbox{arrived: make(chan struct{}, 1)} }

// put leaves an update, and ends the round under way if the organization has
// changed.
func (b *mailbox) put(u update) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.news != nil {
		u.changed = u.changed || b.news.changed
	}
	b.news = &u
	if u.changed && b.stop != nil {
		b.stop()
	}
	select {
	case b.arrived <- struct{}{}:
	default: // one knock is enough
	}
}

// take returns the update that has come in; nil if there is none.
func (b *mailbox) take() *update {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.news
	b.news = nil
	return u
}

// round returns the context of a round, which put may end, and what to call
// after it. An update that came before is returned as well.
func (b *mailbox) round(ctx context.Context) (*update, context.Context, func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.news
	b.news = nil
	ctx, cancel := context.WithCancel(ctx)
	b.stop = cancel
	return u, ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.stop = nil
		cancel()
	}
}

// follow takes an update over. Slots of a schedule that has not changed stay as
// they are.
func (s *server) follow(u *update) {
	if u == nil {
		return
	}
	if u.changed {
		s.worker = u.mirror.worker(u.org)
		s.tried, s.retryAt = false, time.Time{}
	} else {
		s.Mirror = u.mirror
	}
	s.reschedule(u.schedules)
}

// reschedule takes schedules over. A full run that is due stays due.
func (s *server) reschedule(schedules Schedules) {
	now := time.Now()
	if next := orNever(schedules.Incremental); !reflect.DeepEqual(next, s.incremental) {
		s.incremental, s.nextTick = next, next.Next(now)
	}
	if next := orNever(schedules.Full); !reflect.DeepEqual(next, s.full) {
		s.full, s.nextFull = next, next.Next(now)
	}
}
