package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"polarmirror/internal/polarsim"
	"polarmirror/internal/store"
)

// quiet is an env whose seeded data ends a day ago, so that nothing of it lies
// within a tick's overlap.
func quiet(t testing.TB, rows int, neverModified float64) *env {
	t.Helper()
	now := time.Now().UTC()
	return newEnv(t, polarsim.Options{
		Seed:          11,
		Epoch:         now.Add(-24 * time.Hour),
		Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: rows, Meters: 6, NeverModified: neverModified}},
	})
}

const dataVersions = `
SELECT md5(string_agg(v, ' ' ORDER BY v)) FROM (
    SELECT id::text || xmin::text || ctid::text FROM polar.customer_meters
    UNION ALL SELECT id::text || xmin::text || ctid::text FROM polar.customers
    UNION ALL SELECT id::text || xmin::text || ctid::text FROM polar.meters
    UNION ALL SELECT customer_meter_id::text || xmin::text || ctid::text FROM polar.customer_meter_history
) AS t (v)`

func TestIdleTickCostsTwoRequestsAndWritesNoRow(t *testing.T) {
	t.Parallel()
	for _, never := range []float64{-1, 0.3, 0.6, 1} {
		t.Run(fmt.Sprint(never), func(t *testing.T) {
			t.Parallel()
			w := quiet(t, 2000, never)
			w.backfill()
			before := w.value(dataVersions)
			for i := range 3 {
				w.sim.ForgetRequests()
				if err := w.tick(); err != nil {
					t.Fatal(err)
				}
				most := 2
				if never == 1 {
					most = 3 // that no row ever changed takes a look at both ends
				}
				if got := w.sim.RequestCount(); got > most {
					t.Errorf("idle tick %d cost %d requests, want %d", i+1, got, most)
				}
			}
			if w.value(dataVersions) != before {
				t.Error("an idle tick wrote row versions")
			}
		})
	}
}

func TestTickBringsWhatWasAddedAndChanged(t *testing.T) {
	t.Parallel()
	for _, smallest := range []bool{false, true} {
		t.Run(fmt.Sprintf("nulls smallest %v", smallest), func(t *testing.T) {
			t.Parallel()
			now := time.Now().UTC()
			w := newEnv(t, polarsim.Options{Seed: 3, Epoch: now.Add(-24 * time.Hour), NullsSmallest: smallest,
				Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 1500}}})
			w.backfill()
			org := w.orgs[0].ID
			for i, row := range w.sim.Listed(org) {
				if i%10 == 0 {
					must1(w.sim.Consume(row.ID, "0.125"))
				}
			}
			for range 150 {
				must1(w.sim.AddCustomerMeter(org, polarsim.NewCustomerMeter{}))
			}
			if err := w.tick(); err != nil {
				t.Fatal(err)
			}
			w.same()
		})
	}
}

func TestTickFollowsAClockSetBack(t *testing.T) {
	t.Parallel()
	large(t)
	offset := time.Duration(0)
	now := time.Now().UTC()
	w := newEnv(t, polarsim.Options{Seed: 5, Epoch: now.Add(-24 * time.Hour), Now: func() time.Time { return time.Now().Add(offset) },
		Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: 500}}})
	w.backfill()
	offset = -time.Hour
	row := w.sim.Listed(w.orgs[0].ID)[123]
	must1(w.sim.Consume(row.ID, "1"))
	if err := w.tick(); err != nil {
		t.Fatal(err)
	}
	w.same()
}

func TestTickBeforeTheFirstWalkIsNoRun(t *testing.T) {
	t.Parallel()
	w := small(t, 10)
	if err := w.tick(); err != errNoFloor {
		t.Errorf("got %v, want %v", err, errNoFloor)
	}
	if got := w.value(`SELECT count(*)::text FROM polar.sync_runs`); got != "0" {
		t.Errorf("%s runs", got)
	}
}

// TestTickThatEndsWhileABlockIsBeingWrittenIsFinished: it waits for the block
// first, since both use one connection.
func TestTickThatEndsWhileABlockIsBeingWrittenIsFinished(t *testing.T) {
	t.Parallel()
	w := quiet(t, 400, 0.3)
	w.backfill()
	w.exec(`UPDATE polar.tick_floors SET floor_at = floor_at - interval '1 year'`)
	rows := w.sim.Listed(w.orgs[0].ID)
	newest := rows[len(rows)-1].ID
	must1(w.sim.Consume(newest, "1"))
	holder := must1(w.db.Pool.Begin(t.Context()))
	must1(holder.Exec(t.Context(), `SELECT FROM polar.customer_meters WHERE id = $1 FOR UPDATE`, newest))
	ctx, cancel := context.WithCancel(t.Context())
	w.sim.ForgetRequests()
	first := true
	w.sim.Before(func(int, *http.Request) {
		if first {
			first = false
			return
		}
		for w.value(`SELECT count(*)::text FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()`) == "0" {
			time.Sleep(2 * time.Millisecond)
		}
		cancel()
		time.AfterFunc(300*time.Millisecond, func() { _ = holder.Rollback(context.Background()) })
	})
	m := w.mirror(func(o *Options) { o.BlockRows = 100 })
	wk := m.worker(m.opts.Organizations[0])
	err := wk.withSession(t.Context(), false, func(s *store.Session) error {
		return wk.tick(ctx, s, time.Time{}, false)
	})
	if !errors.Is(err, ErrStopped) || strings.Contains(err.Error(), "busy") {
		t.Errorf("a tick told to stop: %v", err)
	}
	if got := w.value(`SELECT status FROM polar.sync_runs ORDER BY id DESC LIMIT 1`); got != "abandoned" {
		t.Errorf("the tick is recorded as %s", got)
	}
}

// TestTickReadsPastRowsThatCannotBeUsed, and no farther than past usable ones: it stops
// at the first page that ends with an old row, and tells rows without modified_at.
func TestTickReadsPastRowsThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	for name, unusable := range map[string]struct {
		member string
		of     func(polarsim.Row) bool
	}{
		"all rows":               {"balance", func(polarsim.Row) bool { return true }},
		"those never changed":    {"balance", func(r polarsim.Row) bool { return r.ModifiedAt.IsZero() }},
		"all rows have no place": {"customer_id", func(polarsim.Row) bool { return true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := quiet(t, 600, 0.4)
			w.backfill()
			for _, row := range w.sim.Listed(w.orgs[0].ID) {
				if member := `"` + unusable.member + `":`; unusable.of(row) {
					must1(w.sim.SetRaw(row.ID, strings.Replace(row.JSON, member, member+`null,"other":`, 1)))
				}
			}
			w.sim.ForgetRequests()
			if err := w.tick(); err != nil {
				t.Fatal(err)
			}
			if got := w.sim.RequestCount(); got > 3 {
				t.Errorf("%d requests", got)
			}
		})
	}
}
