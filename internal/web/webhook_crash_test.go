package web_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"polarmirror/internal/mirror"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/internal/web"
)

// A process is the inbox of a process that can be replaced.
type process struct {
	inbox atomic.Pointer[mirror.Inbox]
}

func (p *process) Receive(ctx context.Context, d mirror.Delivery) (bool, error) {
	return p.inbox.Load().Receive(ctx, d)
}

func TestCrashBetweenReceiptAndApplicationLosesNone(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 60})
	e.backfill()
	dead := e.mirror(nil).Inbox(mirror.InboxPoll) // answers, and never comes to apply
	hooks := e.send(e.listen(e.handler(dead, ignored)), nil)
	chance := rand.New(rand.NewPCG(1, 2))
	for range 100 {
		e.shake(chance)
	}
	e.drain(hooks)
	if stats := hooks.Stats(); stats.Delivered < 100 || stats.Failed > 0 {
		t.Fatalf("%+v", stats)
	}
	e.serve(e.mirror(nil, on(e.small())).Inbox(10 * time.Millisecond))
	e.allApplied()
	e.same()
}

// TestCrashesAtAnyPointLoseNone has process after process lose every connection
// to the database in the middle of receiving and applying.
func TestCrashesAtAnyPointLoseNone(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 60})
	e.backfill()
	must(e.sim.AddMeter(e.orgs[0].ID, "unknown to the mirror"))
	var current process
	current.inbox.Store(e.mirror(nil).Inbox(mirror.InboxPoll))
	hooks := e.send(e.listen(e.handler(&current, ignored)), func(o *polarsim.WebhookOptions) {
		o.Duplicates, o.FirstRetry = 0.2, 50*time.Millisecond // an attempt may cost a new connection
	})
	chance := rand.New(rand.NewPCG(5, 6))
	for range 3 {
		inbox := e.mirror(nil, on(e.small())).Inbox(20 * time.Millisecond)
		current.inbox.Store(inbox)
		stop := e.serve(inbox)
		crash := 5 + chance.IntN(15)
		for i := range 25 {
			e.shake(chance)
			if i == crash {
				e.cutConnections()
			}
		}
		stop()
	}
	e.store = e.small()
	last := e.mirror(nil).Inbox(20 * time.Millisecond)
	current.inbox.Store(last)
	e.serve(last)
	e.drain(hooks)
	e.eventually("no delivery waits", func() bool {
		e.exec(`UPDATE polar.webhook_events SET next_attempt_at = now() WHERE status = 'pending'`)
		return e.value(`SELECT count(*)::text FROM polar.webhook_events WHERE status = 'pending'`) == "0"
	})
	stats := hooks.Stats()
	t.Logf("%+v", stats)
	if stats.GivenUp > 0 {
		t.Errorf("%+v: Polar gave deliveries up", stats)
	}
	e.same()
	if got := e.value(`SELECT count(*)::text FROM polar.webhook_events WHERE status <> 'applied'`); got != "0" {
		t.Errorf("%s deliveries were not applied", got)
	}
}

// small is a store with few connections: each that is cut costs a new one.
func (e *env) small() *store.Store {
	e.Helper()
	st, err := store.Open(e.Context(), store.Options{URL: secret.New(e.db.URL), MaxConnections: 3})
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(st.Close)
	return st
}

// cutConnections ends every connection of syncd's to the database.
func (e *env) cutConnections() {
	e.Helper()
	e.db.Disconnect(e, pgtest.Syncd)
}

func TestDeliveryComesAgainAfterTheDatabaseWasDown(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 30})
	e.backfill()
	var down atomic.Bool
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(e.db.URL), MaxConnections: 3, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if down.Load() {
			return nil, errors.New("down")
		}
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Close)
	inbox := e.mirror(nil, on(st)).Inbox(10 * time.Millisecond)
	e.serve(inbox)
	var unavailable atomic.Int64
	hooks := e.send(e.listen(e.handler(inbox, func(_, o string) {
		if o == web.WebhookUnavailable {
			unavailable.Add(1)
		}
	})), nil)
	down.Store(true)
	e.cutConnections()
	row := e.sim.Listed(e.orgs[0].ID)[3]
	must(e.sim.Consume(row.ID, "3"))
	e.eventually("a refusal", func() bool { return unavailable.Load() > 0 })
	down.Store(false)
	e.drain(hooks)
	e.store = st
	e.allApplied()
	e.same()
}

// TestWalksAndWebhooksAtOnceEndInTheRightState although walks bring states that
// webhooks have overtaken.
func TestWalksAndWebhooksAtOnceEndInTheRightState(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 250})
	m := e.mirror(nil)
	if err := m.Backfill(t.Context()); err != nil {
		t.Fatal(err)
	}
	inbox := m.Inbox(20 * time.Millisecond)
	e.serve(inbox)
	hooks := e.send(e.listen(e.handler(inbox, ignored)), func(o *polarsim.WebhookOptions) {
		o.Duplicates, o.Late, o.MaxDelay = 0.2, 0.3, 200*time.Millisecond
	})
	ctx, cancel := context.WithCancel(t.Context())
	var walks sync.WaitGroup
	count := 0
	walks.Go(func() {
		for ctx.Err() == nil {
			if err := m.Backfill(ctx); err != nil && ctx.Err() == nil {
				t.Errorf("walk %d: %v", count, err)
			}
			count++
		}
	})
	chance := rand.New(rand.NewPCG(7, 8))
	for range 200 {
		e.shake(chance)
	}
	e.drain(hooks)
	e.allApplied()
	cancel()
	walks.Wait()
	t.Logf("%d walks, %+v", count, hooks.Stats())
	e.same()
}
