package web_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"polarmirror/internal/console"
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

// An env is a simulated Polar, a mirror of it, and the status page of the mirror.
type env struct {
	testing.TB
	sim   *polarsim.Server
	store *store.Store
	db    *pgtest.Database
	orgs  []polarsim.Organization
	walks *console.Screen
}

func newEnv(t testing.TB, orgs ...polarsim.Organization) *env {
	t.Helper()
	st, db := pgtest.NewStore(t)
	e := &env{TB: t, store: st, db: db, walks: console.NewScreen(io.Discard)}
	e.sim = polarsim.New(polarsim.Options{Seed: 11, Organizations: orgs})
	e.orgs = e.sim.Organizations()
	return e
}

// mirror returns a mirror of all organizations over transport, the simulated
// Polar's own if that is nil.
func (e *env) mirror(transport http.RoundTripper, changes ...func(*mirror.Options)) *mirror.Mirror {
	e.Helper()
	if transport == nil {
		transport = e.sim.Transport()
	}
	log := zaptest.NewLogger(e, zaptest.Level(zap.FatalLevel))
	opts := mirror.Options{Store: e.store, Log: log, Source: "sim", Progress: e.walks, MaxDeleteFraction: 0.2, PagesInFlight: 2}
	for _, org := range e.orgs {
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
			e.Fatal(err)
		}
		opts.Organizations = append(opts.Organizations, mirror.Organization{Name: org.Name, ID: org.ID, Client: client})
	}
	for _, change := range changes {
		change(&opts)
	}
	return mirror.New(opts)
}

func (e *env) backfill() {
	e.Helper()
	if err := e.mirror(nil).Backfill(e.Context()); err != nil {
		e.Fatal(err)
	}
}

func every(t testing.TB, spec string) cron.Schedule {
	t.Helper()
	s, err := cron.ParseStandard(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// page serves the status page of a service that mirrors every organization.
func (e *env) page(changes ...func(*web.PageOptions)) *httptest.Server {
	e.Helper()
	opts := web.PageOptions{Store: e.store, Walk: e.walks.Walk, Version: "v1.2.3", Log: zaptest.NewLogger(e, zaptest.Level(zap.FatalLevel)),
		MaxLag: time.Hour, Schedules: mirror.Schedules{Incremental: every(e, "* * * * *"), Full: every(e, "17 * * * *")}}
	for i, org := range e.orgs {
		opts.Organizations = append(opts.Organizations, web.PageOrganization{Name: org.Name, Token: [32]byte{byte(i)}, RequestsPerMinute: 300})
	}
	for _, change := range changes {
		change(&opts)
	}
	page := web.NewPage(opts)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		web.SecureHeaders(w.Header())
		page.ServeHTTP(w, r)
	}))
	e.Cleanup(func() {
		server.Close()
		page.Close()
	})
	return server
}

// addHistory gives every customer meter a past of some days, with resets and
// credits, before what the mirror has seen.
func (e *env) addHistory(days int) {
	e.Helper()
	for at := range days + 1 {
		month := time.Now().UTC().AddDate(0, 0, -at).Format("2006_01")
		if e.value(`SELECT (to_regclass('polar.customer_meter_history_' || $1) IS NULL)::text`, month) == "true" {
			first, _ := time.Parse("2006_01", month)
			e.exec(fmt.Sprintf(`CREATE TABLE polar.customer_meter_history_%s PARTITION OF polar.customer_meter_history FOR VALUES FROM ('%s 00:00+00') TO ('%s 00:00+00')`,
				month, first.Format(time.DateOnly), first.AddDate(0, 1, 0).Format(time.DateOnly)))
		}
	}
	e.exec(`
INSERT INTO polar.customer_meter_history (customer_meter_id, organization_id, credited_units, observed_at, deleted, consumed_units, balance, source)
SELECT s.id, s.organization_id, s.credited, s.at, false, s.consumed, s.credited - s.consumed, 'simulated'
  FROM (
      SELECT
          m.id,
          m.organization_id,
          now() - d * interval '1 day' - random() * interval '1 hour' AS at,
          round(least(m.consumed_units, 1e6) * ((100 - d + m.credited_units % 9) % 9 + random()::numeric) / 9, 2) AS consumed,
          1000 + 100 * (($1 - d) / 7) AS credited
        FROM polar.customer_meters m
       CROSS JOIN generate_series(1, $1::int) AS d
       WHERE random() < 0.9
  ) s`, days)
}

func (e *env) exec(sql string, args ...any) {
	e.Helper()
	if _, err := e.db.Pool.Exec(e.Context(), sql, args...); err != nil {
		e.Fatalf("%s: %v", sql, err)
	}
}

// value runs a query that returns one value, as text.
func (e *env) value(sql string, args ...any) string {
	e.Helper()
	var text *string
	if err := e.db.Pool.QueryRow(e.Context(), sql, args...).Scan(&text); err != nil {
		e.Fatalf("%s: %v", sql, err)
	}
	if text == nil {
		return "null"
	}
	return *text
}
