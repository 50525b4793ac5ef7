package mirror

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"polarmirror/internal/polarsim"
)

// three is a world of three organizations, the first of them larger.
func three(t testing.TB) *world {
	t.Helper()
	return newWorld(t, polarsim.Options{Seed: 7, Organizations: []polarsim.Organization{
		{Name: "acme", CustomerMeters: 3000}, {Name: "globex", CustomerMeters: 60}, {Name: "initech", CustomerMeters: 60},
	}})
}

// succeeded counts an organization's successful runs of a kind.
func (w *world) succeeded(kind, organization string) int {
	w.Helper()
	var n int
	const sql = `
SELECT count(*)
  FROM polar.sync_runs r
  JOIN polar.organizations o ON o.id = r.organization_id
 WHERE o.name = $2 AND r.kind = $1 AND r.status = 'succeeded'`
	if err := w.db.Pool.QueryRow(w.Context(), sql, kind, organization).Scan(&n); err != nil {
		w.Fatal(err)
	}
	return n
}

// only returns opts with the organizations of these names.
func only(opts Options, names ...string) Options {
	var kept []Organization
	for _, org := range opts.Organizations {
		for _, name := range names {
			if org.Name == name {
				kept = append(kept, org)
			}
		}
	}
	opts.Organizations = kept
	return opts
}

func TestReloadAddsAndRemovesOrganizationsAndFollowsSchedules(t *testing.T) {
	t.Parallel()
	w := three(t)
	m := w.mirror()
	all := m.opts
	schedules := Schedules{Incremental: every(200 * time.Millisecond), RunOnStart: true, Full: every(time.Hour)}
	serving := w.mirror(func(o *Options) { *o = only(all, "acme", "globex") })
	stop := w.serve(schedules, serving)
	defer stop()
	w.eventually("ticks of acme and globex", func() bool {
		return w.succeeded("incremental", "acme") > 0 && w.succeeded("incremental", "globex") > 0
	})

	if err := serving.Reload(t.Context(), only(all, "globex", "initech"), schedules); err != nil {
		t.Fatal(err)
	}
	w.eventually("ticks of initech", func() bool { return w.succeeded("incremental", "initech") > 1 })
	if names := serving.Now().opts.Organizations; len(names) != 2 || names[1].Name != "initech" {
		t.Errorf("organizations now: %v", names)
	}
	gone := w.succeeded("incremental", "acme")
	before := w.succeeded("incremental", "globex")
	w.eventually("more ticks of globex", func() bool { return w.succeeded("incremental", "globex") > before+3 })
	if now := w.succeeded("incremental", "acme"); now > gone+1 { // one may have been under way
		t.Errorf("%d ticks of the organization that was removed", now-gone)
	}

	if err := serving.Reload(t.Context(), only(all, "globex"), Schedules{Full: every(300 * time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	full := w.succeeded("full", "globex")
	w.eventually("full runs by the new schedule", func() bool { return w.succeeded("full", "globex") > full+2 })
	ticks := w.succeeded("incremental", "globex")
	full = w.succeeded("full", "globex")
	w.eventually("more full runs", func() bool { return w.succeeded("full", "globex") > full+2 })
	if now := w.succeeded("incremental", "globex"); now > ticks {
		t.Errorf("%d ticks though there is no schedule of them any more", now-ticks)
	}
}

// TestReloadStopsTheWalkOfAChangedOrganizationAndLeavesOthersAlone holds the
// walks of acme and globex up until the configuration was reloaded.
func TestReloadStopsTheWalkOfAChangedOrganizationAndLeavesOthersAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, polarsim.Options{Seed: 7, Organizations: []polarsim.Organization{
		{Name: "acme", CustomerMeters: 4000}, {Name: "globex", CustomerMeters: 4000}, {Name: "initech", CustomerMeters: 4000},
	}})
	gate := make(chan struct{})
	var mu sync.Mutex
	sent := map[string]int{} // by organization: none is to run away before the others begin
	w.sim.Before(func(_ int, r *http.Request) {
		mu.Lock()
		sent[r.Header.Get("Authorization")]++
		n := sent[r.Header.Get("Authorization")]
		mu.Unlock()
		if n > 25 { // a block or more is saved by then
			select {
			case <-gate:
			case <-r.Context().Done():
			}
		}
	})
	core, logs := observer.New(zap.InfoLevel)
	m := w.mirror(func(o *Options) { o.BlockRows, o.PagesInFlight, o.Log = 300, 1, zap.New(core) })
	schedules := Schedules{Full: every(time.Hour), RunOnStart: true}
	stop := w.serve(schedules, m)
	defer stop()
	w.eventually("blocks of all", func() bool { return w.value(`SELECT count(*)::text FROM polar.walk_cursors`) == "3" })

	other := w.mirror() // the same organizations with other clients
	opts := m.opts
	opts.Organizations = []Organization{m.opts.Organizations[0], other.opts.Organizations[1]} // globex changes, initech goes
	if err := m.Reload(t.Context(), opts, schedules); err != nil {
		t.Fatal(err)
	}
	stopped := func() string {
		var names []string
		for _, entry := range logs.FilterMessage("run stopped").All() {
			names = append(names, entry.ContextMap()["organization"].(string))
		}
		if len(names) == 2 && names[0] > names[1] {
			names[0], names[1] = names[1], names[0]
		}
		return strings.Join(names, " ")
	}
	w.eventually("the end of two walks", func() bool { return stopped() == "globex initech" })
	close(gate)
	w.eventually("full runs of acme and globex", func() bool {
		return w.succeeded("full", "acme") == 1 && w.succeeded("full", "globex") == 1
	})
	stop()
	if got := stopped(); got != "globex initech" {
		t.Errorf("runs stopped: %s", got)
	}
	if n := logs.FilterMessage("walk resumed").Len(); n != 1 {
		t.Errorf("%d walks went on from their cursors, want that of globex", n)
	}
	const runs = `
SELECT string_agg(o.name || ' ' || r.status, ', ' ORDER BY o.name, r.id)
  FROM polar.sync_runs r
  JOIN polar.organizations o ON o.id = r.organization_id`
	if got := w.value(runs); got != "acme succeeded, globex abandoned, globex succeeded, initech abandoned" {
		t.Errorf("runs: %s", got)
	}
}

func TestReloadWithAnotherFilterPutsRowsOutOfScope(t *testing.T) {
	t.Parallel()
	w := small(t, 300)
	m := w.mirror()
	schedules := Schedules{Full: every(300 * time.Millisecond), RunOnStart: true}
	stop := w.serve(schedules, m)
	defer stop()
	w.eventually("a full run", func() bool { return w.succeeded("full", "acme") > 0 })
	opts := m.opts
	opts.Organizations = []Organization{m.opts.Organizations[0]}
	opts.Organizations[0].Filter = Filter{MeterIDs: []uuid.UUID{w.sim.Listed(w.orgs[0].ID)[0].MeterID}}
	if err := m.Reload(t.Context(), opts, schedules); err != nil {
		t.Fatal(err)
	}
	w.eventually("rows out of scope", func() bool {
		return w.value(`SELECT (count(*) FILTER (WHERE out_of_scope_at IS NULL) > 0 AND count(*) FILTER (WHERE out_of_scope_at IS NOT NULL) > 0)::text FROM polar.customer_meters`) == "true"
	})
}

func TestReloadRefusesWhatCannotBe(t *testing.T) {
	t.Parallel()
	w := small(t, 10)
	m := w.mirror()
	if err := m.Reload(t.Context(), Options{}, Schedules{}); err == nil || !strings.Contains(err.Error(), "no organization") {
		t.Errorf("without organizations: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := m.Reload(ctx, m.opts, Schedules{}); err == nil {
		t.Error("nobody serves, and it was taken")
	}
}
