// Package docs holds the tests that run what the documents show, from the
// documents themselves.
//
// Its invariant: every SQL statement in queries.md, security.md and scaling.md is run
// as it stands there. Only the names of roles are replaced, since roles belong to the
// whole server, and the clock stands still, so that a result stays true. What the
// troubleshooting of operations.md quotes is in the program's own text.
package docs

import (
	"flag"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"polarmirror/internal/fetch"
	"polarmirror/internal/mirror"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// TestMain leaves all out with -short: under the race detector there is nothing
// of interest in it.
func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		return
	}
	defer pgtest.Keep()()
	m.Run()
}

// An env is a simulated Polar and a mirror of it in which another year's winter
// passes.
type env struct {
	testing.TB
	sim      *polarsim.Demo
	url      string    // where sim is served; "": it is asked in memory
	clock    time.Time // of the simulated Polar
	store    *store.Store
	db       *pgtest.Database
	inScope  mirror.Filter // of initech
	prepared bool          // partitions for the simulated months are there
}

func epoch() time.Time { return time.Date(2026, 1, 8, 0, 0, 0, 0, time.UTC) }

// present is when the documents' queries are asked.
func present() time.Time { return time.Date(2026, 3, 18, 12, 0, 0, 0, time.UTC) }

func newEnv(t testing.TB) *env {
	t.Helper()
	st, db := pgtest.NewStore(t)
	return envOn(t, st, db)
}

func envOn(t testing.TB, st *store.Store, db *pgtest.Database) *env {
	t.Helper()
	w := &env{TB: t, store: st, db: db, clock: epoch()}
	w.sim = polarsim.NewDemo(polarsim.Options{
		Seed: 12,
		Organizations: []polarsim.Organization{
			{Name: "acme", CustomerMeters: 300, Meters: 5},
			{Name: "globex", CustomerMeters: 80, Meters: 4},
			{Name: "initech", CustomerMeters: 24, Meters: 3},
		},
		Now:   func() time.Time { return w.clock },
		Epoch: epoch(),
	})
	return w
}

// live lets the winter pass: a look every fifth day, in March every day.
func (w *env) live() {
	w.Helper()
	w.look(w.clock)
	for at := epoch().Add(9 * time.Hour); at.Before(present()); {
		step := 5
		if at.Month() == time.March || at.AddDate(0, 0, step).Month() == time.March {
			step = 1
		}
		at = at.AddDate(0, 0, step)
		if !at.Before(present()) {
			break
		}
		w.happen(at)
		w.look(at)
	}
	// When nothing moves any more: which row of an archived meter the mirror asks for
	// is left to chance.
	if _, err := w.sim.ArchiveMeter(w.sim.Meters(w.sim.Organizations()[1].ID)[3].ID); err != nil {
		w.Fatal(err)
	}
	w.look(present().Add(-time.Hour))
}

// happen adds what a demo does not show in so short a time.
func (w *env) happen(at time.Time) {
	w.Helper()
	orgs := w.sim.Organizations()
	acme, globex, initech := orgs[0].ID, orgs[1].ID, orgs[2].ID
	w.clock = at
	var err error
	switch at.Format(time.DateOnly) {
	case "2026-03-04":
		_, err = w.sim.DeleteCustomer(w.sim.Listed(acme)[5].CustomerID)
	case "2026-03-09":
		for _, row := range w.sim.Listed(globex)[10:13] {
			_, err = w.sim.DeleteCustomerMeter(row.ID)
		}
	case "2026-03-15":
		w.inScope.MeterIDs = append(w.inScope.MeterIDs, w.sim.Meters(initech)[0].ID, w.sim.Meters(initech)[1].ID)
	}
	if err != nil {
		w.Fatal(err)
	}
}

// look reads every page as at a time. The database has a clock of its own, so
// what it dated is moved to that time.
func (w *env) look(at time.Time) {
	w.Helper()
	w.clock = at
	if err := w.mirror().Backfill(w.Context()); err != nil {
		w.Fatal(err)
	}
	w.prepare()
	for _, sql := range []string{
		`UPDATE polar.customer_meter_history SET observed_at = $1 WHERE observed_at > '2026-04-01'`,
		`UPDATE polar.customer_meters
		    SET first_seen_at = least(first_seen_at, $1),
		        last_changed_at = least(last_changed_at, $1)
		  WHERE last_changed_at > '2026-04-01'`,
		`UPDATE polar.customer_meters SET deleted_at = $1 WHERE deleted_at > '2026-04-01'`,
		`UPDATE polar.customer_meters SET out_of_scope_at = $1 WHERE out_of_scope_at > '2026-04-01'`,
		`UPDATE polar.sync_runs
		    SET started_at = $1, finished_at = $1::timestamptz + interval '2 seconds'
		  WHERE started_at > '2026-04-01'`,
		// Else the next look would wait until a second has passed.
		`UPDATE polar.notifications SET sent_at = $1`,
	} {
		if _, err := w.db.Pool.Exec(w.Context(), sql, at); err != nil {
			w.Fatal(err)
		}
	}
}

// prepare makes partitions for the simulated months.
func (w *env) prepare() {
	w.Helper()
	if w.prepared {
		return
	}
	const winter = `
CREATE TABLE polar.winter PARTITION OF polar.customer_meter_history
FOR VALUES FROM ('2026-01-01 00:00+00') TO ('2026-04-01 00:00+00')`
	if _, err := w.db.Pool.Exec(w.Context(), winter); err != nil {
		w.Fatal(err)
	}
	w.prepared = true
}

func (w *env) mirror() *mirror.Mirror {
	w.Helper()
	log := zaptest.NewLogger(w, zaptest.Level(zap.ErrorLevel))
	opts := mirror.Options{Store: w.store, Log: log, Source: "sim", Concurrency: 3, PagesInFlight: 1, MaxDeleteFraction: 0.2}
	for _, org := range w.sim.Organizations() {
		read := fetch.Options{Organization: org.Name, BaseURL: w.url, Token: fetch.StaticToken(secret.New(org.Token)), Log: log}
		if w.url == "" {
			read.BaseURL, read.Transport = "https://polar.test", w.sim.Transport()
		}
		client, err := fetch.New(read)
		if err != nil {
			w.Fatal(err)
		}
		mirrored := mirror.Organization{Name: org.Name, ID: org.ID, Client: client}
		if org.Name == "initech" {
			mirrored.Filter = w.inScope
		}
		opts.Organizations = append(opts.Organizations, mirrored)
	}
	return mirror.New(opts)
}
