package web_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"polarmirror/internal/polarsim"
	"polarmirror/internal/web"
)

var deliveries = flag.Int("web.deliveries", 600, "webhook deliveries that TestManyBadlyDeliveredWebhooksEndInTheRightState sends at least")

// shake makes one change that Polar tells of.
func (e *env) shake(chance *rand.Rand) {
	e.Helper()
	org := e.orgs[chance.IntN(len(e.orgs))]
	rows := e.sim.Snapshot(org.ID)
	row := rows[chance.IntN(len(rows))]
	var err error
	switch chance.IntN(12) {
	case 0:
		_, err = e.sim.Reset(row.ID)
	case 1:
		_, err = e.sim.SetUnits(row.ID, polarsim.Units{Credited: fmt.Sprint(chance.Int64N(1e6))})
	case 2:
		_, err = e.sim.AddCustomerMeter(org.ID, polarsim.NewCustomerMeter{})
	case 3:
		_, err = e.sim.RenameCustomer(row.CustomerID, fmt.Sprintf("Ünïcode %d", chance.IntN(1e6)))
	case 4:
		if chance.IntN(10) == 0 {
			_, err = e.sim.DeleteCustomer(row.CustomerID)
		}
	default:
		_, err = e.sim.Consume(row.ID, fmt.Sprintf("%d.%06d", chance.IntN(1e6), chance.IntN(1e6)))
	}
	if err != nil {
		e.Fatal(err)
	}
}

// TestManyBadlyDeliveredWebhooksEndInTheRightState has deliveries come twice and
// late, with forged, stale and misdirected ones among them, to two replicas at
// once.
func TestManyBadlyDeliveredWebhooksEndInTheRightState(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 120}, polarsim.Organization{Name: "globex", CustomerMeters: 60})
	e.backfill()
	must(e.sim.AddMeter(e.orgs[0].ID, "unknown to the mirror"))
	var mu sync.Mutex
	outcomes := map[string]int{}
	observe := func(_, o string) {
		mu.Lock()
		defer mu.Unlock()
		outcomes[o]++
	}
	receiver := e.mirror(nil).Inbox(20 * time.Millisecond)
	other := e.mirror(nil).Inbox(20 * time.Millisecond)
	e.serve(receiver)
	e.serve(other)
	hooks := e.send(e.listen(e.handler(receiver, observe)), func(o *polarsim.WebhookOptions) {
		o.Duplicates, o.Late, o.MaxDelay = 0.2, 0.3, 300*time.Millisecond
		o.Forged, o.Stale, o.Astray = 0.15, 0.1, 0.1
	})

	began := time.Now()
	chance := rand.New(rand.NewPCG(3, 4))
	for done := 0; done < *deliveries; {
		e.shake(chance)
		stats := hooks.Stats()
		done = stats.Sent + stats.Pending
	}
	e.drain(hooks)
	e.allApplied()
	stats := hooks.Stats()
	t.Logf("%+v in %v; answers %v", stats, time.Since(began).Round(time.Millisecond), outcomes)

	e.same()
	if stats.TricksAccepted > 0 || stats.Tricks == 0 || stats.GivenUp > 0 {
		t.Errorf("%+v: want no trick accepted and no delivery given up", stats)
	}
	if outcomes[web.WebhookDuplicate] == 0 || outcomes[web.WebhookForged] == 0 || outcomes[web.WebhookTooOld] == 0 {
		t.Errorf("answers %v: some kind of trouble was not tried", outcomes)
	}
	genuine := fmt.Sprintf("%d", stats.Delivered-outcomes[web.WebhookDuplicate])
	if got := e.value(`SELECT concat_ws(' ', status, count(*), count(payload), count(error)) FROM polar.webhook_events GROUP BY status`); got != "applied "+genuine+" 0 0" {
		t.Errorf("deliveries kept: %s, want all %s applied without payload or error", got, genuine)
	}
}

// TestWebhookBecomesVisible logs how long it takes; a busy machine may take any
// time.
func TestWebhookBecomesVisible(t *testing.T) {
	t.Parallel()
	e := newEnv(t, polarsim.Organization{Name: "acme", CustomerMeters: 100})
	e.backfill()
	inbox := e.mirror(nil).Inbox(time.Hour)
	e.serve(inbox)
	e.send(e.listen(e.handler(inbox, ignored)), nil)
	rows := e.sim.Listed(e.orgs[0].ID)
	var took []time.Duration
	for i := range 10 {
		began := time.Now()
		changed := must(e.sim.Consume(rows[i].ID, "12.5"))
		e.eventually("the change", func() bool {
			return e.value(`SELECT (consumed_units = $2::text::numeric)::text FROM polar.customer_meters WHERE id = $1`, changed.ID, changed.Units.Consumed) == "true"
		})
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("from the change at Polar to the row in Postgres: median %v, longest %v", took[len(took)/2], took[len(took)-1])
	if got := e.value(`SELECT string_agg(DISTINCT source, ' ') FROM polar.customer_meter_history WHERE observed_at > (SELECT max(finished_at) FROM polar.sync_runs)`); got != "webhook" {
		t.Errorf("the history names %s as the source", got)
	}
	e.allApplied()
	e.same()
}
