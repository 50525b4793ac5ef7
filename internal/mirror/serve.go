package mirror

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"
)

const (
	// maintainEvery is how often partitions are made ahead and old runs forgotten.
	maintainEvery = 6 * time.Hour
	// buryEvery is how often runs of dead processes are looked for that nobody
	// takes over.
	buryEvery = time.Minute
)

// Schedules say when runs are due; nil means never.
type Schedules struct {
	Incremental, Full cron.Schedule
	RunOnStart        bool // run what is overdue at once
}

// Serve runs every organization on its schedules until ctx ends, and then
// waits for the runs under way to save their blocks. Any number of processes
// may serve one database.
func (m *Mirror) Serve(ctx context.Context, schedules Schedules) error {
	t := &team{places: make(chan struct{}, m.opts.Concurrency), spread: newSpread(), members: map[string]*member{}}
	t.follow(ctx, m, schedules)
	t.serving = true
	t.working.Go(func() { m.maintain(ctx) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case r := <-m.shared.reloads:
			m.shared.current.Store(r.mirror)
			t.follow(ctx, r.mirror, r.schedules)
			close(r.taken)
		}
	}
	t.working.Wait()
	m.lastNotices(ctx)
	return nil
}

// lastNotices waits until listeners were told of all changes, not for long once
// ctx has ended.
func (m *Mirror) lastNotices(ctx context.Context) {
	if m.shared.notices == nil {
		return
	}
	limit := noticeTime
	if ctx.Err() != nil {
		limit = noticeStopTime
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	m.shared.notices.drain(ctx)
}

// maintain sees to what belongs to no organization's worker. All replicas do, at
// different moments.
func (m *Mirror) maintain(ctx context.Context) {
	maintained := time.Now() // by Migrate
	for sleep(ctx, buryEvery/2+rand.N(buryEvery)) == nil {
		dead, err := m.store.AbandonDead(ctx)
		m.buried(dead)
		if err == nil && time.Since(maintained) > maintainEvery {
			maintained = time.Now()
			err = m.store.Maintain(ctx)
		}
		switch {
		case err == nil || ctx.Err() != nil:
		case lostDatabase(err):
			m.shared.outage.lost(m.log, err)
		default:
			m.log.Warn("maintenance failed", zap.Error(err))
		}
	}
}

// A team is the servers of a process, one for each organization.
type team struct {
	places  chan struct{} // organizations worked at a time
	spread  spread
	members map[string]*member // by label
	working sync.WaitGroup
	serving bool // since before the organizations that now come
}

// A member is a server and what it was last told to do.
type member struct {
	server *server
	org    Organization
	leave  context.CancelFunc
}

// follow makes the team what m says: organizations that are new begin, those
// that are gone end at the next block boundary, those that have changed go on as
// they are now from there. The others only hear of it when they rest.
func (t *team) follow(ctx context.Context, m *Mirror, schedules Schedules) {
	wanted := map[string]bool{}
	for _, org := range m.opts.Organizations {
		wanted[org.Name] = true
		old, there := t.members[org.Name]
		if !there {
			if t.serving {
				m.log.Info("organization added", zap.String("organization", org.Name))
			}
			t.join(ctx, m, org, schedules)
			continue
		}
		changed := !old.org.equal(org)
		if changed {
			m.log.Info("organization changed", zap.String("organization", org.Name))
		}
		old.org = org
		old.server.box.put(update{mirror: m, org: org, changed: changed, schedules: schedules})
	}
	for name, old := range t.members {
		if !wanted[name] {
			m.log.Info("organization removed", zap.String("organization", name))
			old.leave()
			delete(t.members, name)
		}
	}
}

func (t *team) join(ctx context.Context, m *Mirror, org Organization, schedules Schedules) {
	ctx, leave := context.WithCancel(ctx)
	s := newServer(m.worker(org), t.places, t.spread, schedules)
	t.members[org.Name] = &member{server: s, org: org, leave: leave}
	t.working.Go(func() {
		defer leave()
		s.serve(ctx, schedules.RunOnStart)
	})
}
