package web_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/robfig/cron/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"polarmirror/internal/fetch"
	"polarmirror/internal/mirror"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/internal/web"
)

func TestMain(m *testing.M) {
	defer pgtest.Keep()()
	m.Run()
}

// A world is a simulated Polar with a clock of its own, a mirror of it, and the
// status page of the mirror.
type world struct {
	testing.TB
	sim   *polarsim.Server
	clock atomic.Int64 // of the simulated Polar: Unix microseconds; 0 means the real time
	store *store.Store
	db    *pgtest.Database
	orgs  []polarsim.Organization
	walks *web.Walks
}

func newWorld(t testing.TB, orgs ...polarsim.Organization) *world {
	t.Helper()
	st, db := pgtest.NewStore(t)
	w := &world{TB: t, store: st, db: db, walks: web.NewWalks()}
	w.sim = polarsim.New(polarsim.Options{Seed: 11, Organizations: orgs, Now: w.now, Epoch: time.Now().AddDate(0, 0, -40)})
	w.orgs = w.sim.Organizations()
	return w
}

func (w *world) now() time.Time {
	if at := w.clock.Load(); at != 0 {
		return time.UnixMicro(at).UTC()
	}
	return time.Now()
}

// mirror returns a mirror of all organizations over transport, the simulated
// Polar's own if that is nil.
func (w *world) mirror(transport http.RoundTripper, changes ...func(*mirror.Options)) *mirror.Mirror {
	w.Helper()
	if transport == nil {
		transport = w.sim.Transport()
	}
	log := zaptest.NewLogger(w, zaptest.Level(zap.FatalLevel))
	opts := mirror.Options{Store: w.store, Log: log, Source: "sim", Progress: w.walks, MaxDeleteFraction: 0.2, PagesInFlight: 2}
	for _, org := range w.orgs {
		client, err := fetch.New(fetch.Options{
			Organization: org.Name,
			BaseURL:      "https://polar.test",
			Token:        fetch.StaticToken(secret.New(org.Token)),
			Transport:    transport,
			Timeout:      10 * time.Minute, // a gate may hold requests back
			Retry:        fetch.Retry{InitialInterval: time.Millisecond, MaxInterval: 5 * time.Millisecond, MaxElapsedTime: 10 * time.Second, RetryConnectionErrors: true},
			Log:          log,
		})
		if err != nil {
			w.Fatal(err)
		}
		opts.Organizations = append(opts.Organizations, mirror.Organization{Name: org.Name, ID: org.ID, Client: client})
	}
	for _, change := range changes {
		change(&opts)
	}
	m, err := mirror.New(opts)
	if err != nil {
		w.Fatal(err)
	}
	return m
}

func (w *world) backfill() {
	w.Helper()
	if err := w.mirror(nil).Backfill(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// settings are those of a service that mirrors every organization.
func (w *world) settings() web.PageSettings {
	set := web.PageSettings{MaxLag: time.Hour, Incremental: every(w, "* * * * *"), Full: every(w, "17 * * * *")}
	for i, org := range w.orgs {
		set.Organizations = append(set.Organizations, web.PageOrganization{Name: org.Name, Token: i, RequestsPerMinute: 300})
	}
	return set
}

func every(t testing.TB, spec string) cron.Schedule {
	t.Helper()
	s, err := cron.ParseStandard(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// page serves the status page.
func (w *world) page(changes ...func(*web.PageOptions)) *httptest.Server {
	w.Helper()
	opts := web.PageOptions{Store: w.store, Settings: w.settings(), Walks: w.walks, Version: "v1.2.3", Log: zaptest.NewLogger(w, zaptest.Level(zap.FatalLevel))}
	for _, change := range changes {
		change(&opts)
	}
	page, err := web.NewPage(opts)
	if err != nil {
		w.Fatal(err)
	}
	server := httptest.NewServer(page)
	w.Cleanup(func() {
		server.Close()
		page.Close()
	})
	return server
}

// liveDays lets days pass at the simulated Polar, a walk after each, and then
// dates what the mirror saw back to those days.
func (w *world) liveDays(days, steps int) {
	w.Helper()
	today := time.Now().UTC()
	type round struct{ from, day time.Time }
	var rounds []round
	for d := days; d >= 0; d-- {
		at := today.AddDate(0, 0, -d)
		work := steps
		if wd := at.Weekday(); wd == time.Saturday || wd == time.Sunday {
			work = (steps + 2) / 3
		}
		for range work {
			at = at.Add(time.Second)
			w.clock.Store(at.UnixMicro())
			w.sim.Advance(at)
		}
		rounds = append(rounds, round{from: w.databaseTime(), day: at})
		w.backfill()
	}
	w.clock.Store(0)
	for i, r := range rounds {
		to := w.databaseTime()
		if i+1 < len(rounds) {
			to = rounds[i+1].from
		}
		if by := r.day.Sub(r.from); by < -time.Hour { // today stays as it was
			w.shift(r.from, to, by)
		}
	}
}

func (w *world) databaseTime() time.Time {
	w.Helper()
	var at time.Time
	if err := w.db.Pool.QueryRow(w.Context(), `SELECT clock_timestamp()`).Scan(&at); err != nil {
		w.Fatal(err)
	}
	return at
}

// shift moves all that was seen from from until before to by a time.
func (w *world) shift(from, to time.Time, by time.Duration) {
	w.Helper()
	w.partition(from.Add(by))
	err := pgx.BeginFunc(w.Context(), w.db.Pool, func(tx pgx.Tx) error {
		for _, sql := range []string{
			`UPDATE polar.customer_meter_history SET observed_at = observed_at + $3::interval WHERE observed_at >= $1 AND observed_at < $2`,
			`UPDATE polar.customer_meters SET first_seen_at = first_seen_at + $3::interval WHERE first_seen_at >= $1 AND first_seen_at < $2`,
			`UPDATE polar.customer_meters SET last_changed_at = last_changed_at + $3::interval WHERE last_changed_at >= $1 AND last_changed_at < $2`,
			`UPDATE polar.sync_runs SET started_at = started_at + $3::interval, finished_at = finished_at + $3::interval WHERE started_at >= $1 AND started_at < $2`,
		} {
			if _, err := tx.Exec(w.Context(), sql, from, to, by); err != nil {
				return fmt.Errorf("%s: %w", sql, err)
			}
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
}

// partition makes the month of the history that holds a time.
func (w *world) partition(at time.Time) {
	w.Helper()
	month := time.Date(at.UTC().Year(), at.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	name := "polar.customer_meter_history_" + month.Format("2006_01")
	if w.value(`SELECT (to_regclass($1) IS NOT NULL)::text`, name) == "true" {
		return
	}
	w.exec(fmt.Sprintf(`CREATE TABLE %s PARTITION OF polar.customer_meter_history FOR VALUES FROM ('%s 00:00+00') TO ('%s 00:00+00')`,
		name, month.Format(time.DateOnly), month.AddDate(0, 1, 0).Format(time.DateOnly)))
}

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	if _, err := w.db.Pool.Exec(w.Context(), sql, args...); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
}

// value runs a query that returns one value, as text.
func (w *world) value(sql string, args ...any) string {
	w.Helper()
	var text *string
	if err := w.db.Pool.QueryRow(w.Context(), sql, args...).Scan(&text); err != nil {
		w.Fatalf("%s: %v", sql, err)
	}
	if text == nil {
		return "null"
	}
	return *text
}
