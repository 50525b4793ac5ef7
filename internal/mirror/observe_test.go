package mirror

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"polarmirror/internal/polarsim"
	"polarmirror/internal/store"
)

// notes is an Observer that remembers.
type notes struct {
	noObserver
	mu     sync.Mutex
	counts map[string]store.Counts
	ended  map[string]int // by organization, kind and end
	skips  map[Skip]int
	told   int // calls of Counted
}

func newNotes() *notes {
	return &notes{counts: map[string]store.Counts{}, ended: map[string]int{}, skips: map[Skip]int{}}
}

func (n *notes) Counted(organization string, counts store.Counts) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c := n.counts[organization]
	c.Add(counts)
	n.counts[organization] = c
	n.told++
}

func (n *notes) Ended(organization string, kind store.Kind, end End, elapsed time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended[fmt.Sprint(organization, " ", kind, " ", end)]++
	if elapsed <= 0 {
		n.ended["without duration"]++
	}
}

func (n *notes) Skipped(_ string, why Skip) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.skips[why]++
}

// recorded are the counts and ends in sync_runs.
func (w *env) recorded() (counts map[string]store.Counts, ended map[string]int) {
	w.Helper()
	counts, ended = map[string]store.Counts{}, map[string]int{}
	rows, err := w.db.Pool.Query(w.Context(), `
SELECT o.name, r.kind, r.status, r.requests, r.pages, r.rows_seen, r.rows_inserted, r.rows_updated, r.rows_unchanged,
       r.rows_deleted, r.rows_rejected, r.retries, r.rate_limited
  FROM polar.sync_runs r
  JOIN polar.organizations o ON o.id = r.organization_id`)
	if err != nil {
		w.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, kind, status string
		var c store.Counts
		if err := rows.Scan(&name, &kind, &status, &c.Requests, &c.Pages, &c.RowsSeen, &c.RowsInserted, &c.RowsUpdated, &c.RowsUnchanged,
			&c.RowsDeleted, &c.RowsRejected, &c.Retries, &c.RateLimited); err != nil {
			w.Fatal(err)
		}
		total := counts[name]
		total.Add(c)
		counts[name] = total
		ended[name+" "+kind+" "+status]++
	}
	if err := rows.Err(); err != nil {
		w.Fatal(err)
	}
	return counts, ended
}

func TestObserverCountsWhatTheRunsRecord(t *testing.T) {
	t.Parallel()
	w := newEnv(t, polarsim.Options{Seed: 3, Organizations: []polarsim.Organization{
		{Name: "acme", CustomerMeters: 900, Meters: 3}, {Name: "globex", CustomerMeters: 40},
	}})
	n := newNotes()
	watched := func(o *Options) { o.Observer, o.BlockRows = n, 200 }
	w.backfill(watched)
	if n.told < 6 {
		t.Errorf("told %d times: not after each block", n.told)
	}
	if _, err := w.db.Pool.Exec(t.Context(), `UPDATE polar.customer_meters SET first_seen_at = first_seen_at - interval '1 hour'`); err != nil {
		t.Fatal(err)
	}
	for i, row := range w.sim.Listed(w.orgs[0].ID)[:20] {
		if i < 5 {
			must1(w.sim.Consume(row.ID, "2.5"))
			continue
		}
		must1(w.sim.DeleteCustomerMeter(row.ID))
	}
	w.backfill(watched)

	// One that is stopped, and one that fails.
	ctx, stop := context.WithCancel(t.Context())
	w.sim.Before(func(int, *http.Request) { stop() })
	_ = w.mirror(watched).Backfill(ctx) // stopped
	w.sim.Before(nil)
	w.sim.SetToken(polarsim.Token{Secret: w.orgs[1].Token, NoScope: true})
	if err := w.mirror(watched).Backfill(t.Context()); err == nil {
		t.Error("no error without the scope")
	}

	counts, ended := w.recorded()
	if d := cmp.Diff(counts, n.counts); d != "" {
		t.Errorf("counts (-sync_runs +observer):\n%s", d)
	}
	if d := cmp.Diff(ended, n.ended); d != "" {
		t.Errorf("ends (-sync_runs +observer):\n%s", d)
	}
	if n.counts["acme"].RowsDeleted != 15 || n.ended["globex full failed"] == 0 {
		t.Errorf("the test looks at too little: %+v, %v", n.counts["acme"], n.ended)
	}
}

func TestRepairIsObserved(t *testing.T) {
	t.Parallel()
	w := small(t, 50)
	w.backfill()
	must1(w.sim.DeleteCustomerMeter(w.sim.Listed(w.orgs[0].ID)[7].ID))
	before, _ := w.recorded()
	n := newNotes()
	if _, err := w.mirror(func(o *Options) { o.Observer = n }).Verify(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	after, _ := w.recorded()
	want, got := after["acme"], n.counts["acme"]
	want.Requests -= before["acme"].Requests
	if n.ended["acme repair succeeded"] != 1 || got.RowsDeleted != 1 || got.Requests != want.Requests {
		t.Errorf("observed %v and %+v, recorded %+v", n.ended, got, want)
	}
}

func TestObserverIsToldOfSkips(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	n := newNotes()
	m := w.mirror(func(o *Options) { o.Observer = n })
	s := newScheduler(m.worker(m.opts.Organizations[0]), make(chan struct{}, 1), Schedules{Incremental: every(time.Hour)})
	round := func() {
		s.incremental.next = time.Now().Truncate(time.Hour)
		s.runDue(t.Context())
	}
	round()
	if n.skips[SkipNoFull] != 1 {
		t.Errorf("before the first full run: %v", n.skips)
	}
	s.fullDue = true
	round()
	round() // the same slot
	if n.skips[SkipAnswered] != 1 {
		t.Errorf("a slot twice: %v", n.skips)
	}
	if _, err := w.db.Pool.Exec(t.Context(), `UPDATE polar.sync_runs SET started_at = now() - interval '1 day', finished_at = now() WHERE kind = 'full'`); err != nil {
		t.Fatal(err)
	}
	s.fullDue = true
	round()
	if n.skips[SkipTooSoon] != 1 {
		t.Errorf("after a full run that took a day: %v", n.skips)
	}
	other, err := w.store.Acquire(t.Context(), w.orgs[0].ID, false)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Release()
	s.fullDue = true // a tick's slot, which is answered, is seen to be before the lock
	round()
	if n.skips[SkipBusy] != 1 {
		t.Errorf("while another works: %v", n.skips)
	}
}
