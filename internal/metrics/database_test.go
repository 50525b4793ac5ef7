package metrics

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/store"
)

// A fake is a Database that answers as a test wants it to, and counts.
type fake struct {
	mu           sync.Mutex
	status       []store.OrgStatus
	err          error
	slow         time.Duration
	asked, sized int
}

// Ready says yes: whoever cannot be reached or written to is the store's to test.
func (f *fake) Ready(context.Context) error { return nil }

func (f *fake) OrgStatus(ctx context.Context, q store.OrgStatusQuery) ([]store.OrgStatus, error) {
	if q.CountRows {
		return f.count(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.status, f.wait(ctx)
}

func (f *fake) count(ctx context.Context) ([]store.OrgStatus, error) {
	f.mu.Lock()
	f.sized++
	slow, sizes := f.slow, f.status
	f.mu.Unlock()
	select {
	case <-time.After(slow):
		return sizes, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f *fake) wait(ctx context.Context) error {
	if errors.Is(f.err, errHung) {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

// unused is a pool that opens no connection.
var unused, _ = pgxpool.New(context.Background(), "host=127.0.0.1")

func (f *fake) PoolStat() *store.PoolStat { return unused.Stat() }

var errHung = errors.New("hung")

func TestScrapeShowsTheDatabasesState(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	id := uuid.New()
	for _, sql := range []string{
		`INSERT INTO polar.organizations (id, name) VALUES ($1, 'acme')`,
		`INSERT INTO polar.sync_runs (organization_id, kind, status, started_at, finished_at, exact, method) VALUES ($1, 'full', 'succeeded', '2026-01-01 00:00:00+00', '2026-01-01 00:00:30+00', true, 'sweep')`,
		`INSERT INTO polar.sync_runs (organization_id, kind, status, started_at, finished_at, error) VALUES ($1, 'incremental', 'failed', now(), now(), 'no')`,
		`INSERT INTO polar.suspects (organization_id, customer_meter_id, meter_id) SELECT $1, gen_random_uuid(), gen_random_uuid() FROM generate_series(1, 7)`,
	} {
		if _, err := db.Pool.Exec(t.Context(), sql, id); err != nil {
			t.Fatal(err)
		}
	}
	m := New(Options{Organizations: []string{"acme", "globex"}, MaxLag: 90 * time.Minute, Log: zap.NewNop()})
	m.WatchDatabase(st, []store.Organization{{Name: "acme", ID: id}, {Name: "globex"}})
	acme, globex := map[string]string{"organization": "acme"}, map[string]string{"organization": "globex"}
	full := map[string]string{"organization": "acme", "kind": "full"}
	expect(t, m, "syncd_database_up", nil, 1)
	expect(t, m, "syncd_max_lag_seconds", nil, 5400)
	expect(t, m, "syncd_last_success_timestamp_seconds", full, 1767225630)
	expect(t, m, "syncd_last_run_duration_seconds", full, 30)
	expect(t, m, "syncd_last_success_timestamp_seconds", map[string]string{"organization": "globex", "kind": "incremental"}, 0)
	expect(t, m, "syncd_last_full_run_exact", acme, 1)
	expect(t, m, "syncd_last_full_run_exact", globex, 0)
	expect(t, m, "syncd_last_full_run_method", map[string]string{"organization": "acme", "method": "sweep"}, 1)
	expect(t, m, "syncd_last_full_run_method", map[string]string{"organization": "acme", "method": "walk"}, 0)
	expect(t, m, "syncd_failing", acme, 1)
	expect(t, m, "syncd_failing", globex, 0)
	expect(t, m, "syncd_suspect_rows", acme, 7)
	expect(t, m, "syncd_live_rows", globex, 0)
	expect(t, m, "syncd_data_age_seconds", globex, math.Inf(1))
	expect(t, m, "syncd_database_connections_max", nil, 8)
	age, ok := labelled(gather(t, m)["syncd_data_age_seconds"], acme)
	var want float64
	if err := db.Pool.QueryRow(t.Context(), `SELECT extract(epoch FROM now() - '2026-01-01 00:00:00+00')::float8`).Scan(&want); err != nil {
		t.Fatal(err)
	}
	if !ok || age > want+60 || age < want-3600 {
		t.Errorf("age %v (there: %v), want about %v", age, ok, want)
	}
}

func TestAgesGoOnGrowingWhileTheDatabaseIsDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		age := time.Minute
		db := &fake{status: []store.OrgStatus{{Organization: "acme", Age: &age, LiveRows: 5}}}
		m := New(Options{Organizations: []string{"acme"}, Log: zap.NewNop()})
		m.WatchDatabase(db, nil)
		acme := map[string]string{"organization": "acme"}
		expect(t, m, "syncd_data_age_seconds", acme, 60)
		for _, broken := range []error{errors.New("down"), errHung} {
			db.mu.Lock()
			db.err = broken
			db.mu.Unlock()
			time.Sleep(10 * time.Minute)
			began := time.Now()
			families := gather(t, m)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("%v: a scrape took %v", broken, took)
			}
			if up, _ := labelled(families["syncd_database_up"], map[string]string{}); up != 0 {
				t.Errorf("%v: up", broken)
			}
			if got, _ := labelled(families["syncd_data_age_seconds"], acme); got < 660 {
				t.Errorf("%v: age %v after ten minutes", broken, got)
			}
			if got, _ := labelled(families["syncd_live_rows"], acme); got != 5 {
				t.Errorf("%v: live rows %v", broken, got)
			}
		}
	})
}

func TestScrapesCostTheDatabaseABoundedShare(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := &fake{slow: 3 * time.Second} // a count of many rows
		m := New(Options{Log: zap.NewNop()})
		m.WatchDatabase(db, nil)
		var longest time.Duration
		for range 240 { // an hour
			began := time.Now()
			var scrapes sync.WaitGroup
			for range 10 {
				scrapes.Go(func() {
					if _, err := m.registry.Gather(); err != nil {
						t.Error(err)
					}
				})
			}
			scrapes.Wait()
			longest = max(longest, time.Since(began))
			time.Sleep(15 * time.Second)
		}
		if db.asked > 241 || db.sized > 61 {
			t.Errorf("2400 scrapes asked %d times how old the data is, and counted %d times for 3 s", db.asked, db.sized)
		}
		if longest > sizesPatience+time.Second {
			t.Errorf("a scrape took %v", longest)
		}
		time.Sleep(sizesTimeout) // lets the last count end
	})
}
