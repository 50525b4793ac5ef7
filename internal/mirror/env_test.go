package mirror

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"polarmirror/internal/fetch"
	"polarmirror/internal/pgtest"
	"polarmirror/internal/polarsim"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

func TestMain(m *testing.M) {
	defer pgtest.Keep()()
	flag.Parse()
	checks := "40" // the long form asks for thousands
	if testing.Short() {
		checks = "15"
	}
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "rapid.checks" {
			checks = f.Value.String()
		}
	})
	must1(0, flag.Set("rapid.checks", checks))
	m.Run()
}

// An env is a simulated Polar and a mirror of it.
type env struct {
	testing.TB
	sim   *polarsim.Server
	store *store.Store
	db    *pgtest.Database
	orgs  []polarsim.Organization
}

func newEnv(t testing.TB, opts polarsim.Options) *env {
	t.Helper()
	st, db := pgtest.NewStore(t)
	sim := polarsim.New(opts)
	return &env{TB: t, sim: sim, store: st, db: db, orgs: sim.Organizations()}
}

// small is an env of one organization.
func small(t testing.TB, rows int) *env {
	t.Helper()
	return newEnv(t, polarsim.Options{Seed: 7, Organizations: []polarsim.Organization{{Name: "acme", CustomerMeters: rows}}})
}

// mirror returns a mirror of all organizations, as a newly started process
// would have.
func (w *env) mirror(changes ...func(*Options)) *Mirror {
	w.Helper()
	log := zaptest.NewLogger(w, zaptest.Level(zap.FatalLevel))
	opts := Options{Store: w.store, Log: log, Source: "sim", MaxDeleteFraction: 0.2, PagesInFlight: 4}
	for _, org := range w.orgs {
		client, err := fetch.New(fetch.Options{
			Organization: org.Name,
			BaseURL:      "https://polar.test",
			Token:        fetch.StaticToken(secret.New(org.Token)),
			Transport:    w.sim.Transport(),
			Retry:        fetch.Retry{InitialInterval: time.Millisecond, MaxInterval: 5 * time.Millisecond, MaxElapsedTime: 10 * time.Second, RetryConnectionErrors: true},
			Log:          log,
		})
		if err != nil {
			w.Fatal(err)
		}
		opts.Organizations = append(opts.Organizations, Organization{Name: org.Name, ID: org.ID, Client: client})
	}
	for _, change := range changes {
		change(&opts)
	}
	return New(opts)
}

// backfill walks every organization and expects it to work.
func (w *env) backfill(changes ...func(*Options)) {
	w.Helper()
	if err := w.mirror(changes...).Backfill(w.Context()); err != nil {
		w.Fatal(err)
	}
}

// tick runs one tick of the first organization.
func (w *env) tick() error {
	w.Helper()
	m := w.mirror()
	wk := m.worker(m.opts.Organizations[0])
	return wk.withSession(w.Context(), false, func(s *store.Session) error {
		return wk.tick(w.Context(), s, time.Time{}, false)
	})
}

// value runs a query that returns one value, as text.
func (w *env) value(sql string, args ...any) string {
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

// same fails unless the mirror equals Polar's list in every digit, and has
// marked as deleted exactly what Polar does not have.
func (w *env) same() {
	w.Helper()
	for _, org := range w.orgs {
		if diff := w.difference(org); diff != "" {
			w.Fatalf("%s: mirror differs (-Polar +mirror):\n%s", org.Name, diff)
		}
	}
}

// difference is how the mirror of one organization differs from Polar's list.
func (w *env) difference(org polarsim.Organization) string {
	w.Helper()
	got, want := w.mirrored(org.ID), w.listed(org.ID)
	for _, meter := range w.sim.Meters(org.ID) {
		if meter.ArchivedAt.IsZero() {
			continue
		}
		for id, row := range got { // not listed, so no longer kept current
			if strings.Contains(row, meter.ID.String()) {
				delete(got, id)
			}
		}
	}
	if maps.Equal(want, got) {
		return ""
	}
	return first(cmp.Diff(want, got), 40)
}

func first(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[:min(lines, len(all))], "\n")
}

// listed is what a perfect mirror of the list holds, by id.
func (w *env) listed(org uuid.UUID) map[string]string {
	w.Helper()
	rows := make(map[string]string)
	form := canonical(w)
	for _, r := range w.sim.Listed(org) {
		var item struct {
			Customer, Meter json.RawMessage
		}
		if !r.Raw {
			if err := json.Unmarshal([]byte(r.JSON), &item); err != nil {
				w.Fatal(err)
			}
		}
		rows[r.ID.String()] = describe(w, r.CustomerID.String(), r.MeterID.String(), r.Units.Consumed, r.Units.Credited, r.Units.Balance,
			r.CreatedAt, r.ModifiedAt, form(item.Customer), form(item.Meter))
	}
	return rows
}

// mirrored are the mirror's live rows, by id.
func (w *env) mirrored(org uuid.UUID) map[string]string {
	w.Helper()
	const sql = `
SELECT m.id::text, m.customer_id::text, m.meter_id::text, m.consumed_units::text, m.credited_units::text, m.balance::text,
       m.created_at, coalesce(m.modified_at, '0001-01-01 00:00:00+00'), c.raw, t.raw
  FROM polar.customer_meters m
  JOIN polar.customers c ON c.id = m.customer_id
  JOIN polar.meters t ON t.id = m.meter_id
 WHERE m.organization_id = $1 AND m.deleted_at IS NULL AND m.out_of_scope_at IS NULL`
	found := make(map[string]string)
	form := canonical(w)
	rows, err := w.db.Pool.Query(w.Context(), sql, org)
	if err != nil {
		w.Fatal(err)
	}
	var id, customer, meter, consumed, credited, balance string
	var created, modified time.Time
	var rawCustomer, rawMeter []byte
	into := []any{&id, &customer, &meter, &consumed, &credited, &balance, &created, &modified, &rawCustomer, &rawMeter}
	_, err = pgx.ForEachRow(rows, into, func() error {
		found[id] = describe(w, customer, meter, consumed, credited, balance, created, modified, form(rawCustomer), form(rawMeter))
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return found
}

func describe(t testing.TB, customer, meter, consumed, credited, balance string, created, modified time.Time, rawCustomer, rawMeter string) string {
	t.Helper()
	return fmt.Sprintf("%s %s %s %s %s %s %s %s %s", customer, meter, digits(t, consumed), digits(t, credited), digits(t, balance),
		created.UTC().Format(time.RFC3339Nano), modified.UTC().Format(time.RFC3339Nano), rawCustomer, rawMeter)
}

// digits is a number as a fraction: equal exactly if the numbers are.
func digits(t testing.TB, s string) string {
	t.Helper()
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		t.Fatalf("%q is no number", s)
	}
	return r.RatString()
}

// canonical returns a function that brings JSON into one form, with sorted names and
// no spaces. Many rows have the same customer or meter.
func canonical(t testing.TB) func(raw []byte) string {
	known := map[string]string{"": ""}
	return func(raw []byte) string {
		t.Helper()
		if form, ok := known[string(raw)]; ok {
			return form
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		var v any
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		form := string(must1(json.Marshal(v)))
		known[string(raw)] = form
		return form
	}
}

// runs returns the status, kind and exactness of all runs, oldest first.
func (w *env) runs() []string {
	w.Helper()
	rows, err := w.db.Pool.Query(w.Context(), `
SELECT kind || ' ' || status || ' ' || coalesce(exact::text, '-') FROM polar.sync_runs ORDER BY id`)
	if err != nil {
		w.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.Fatal(err)
	}
	return list
}

func must1[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func mustID(s string) uuid.UUID { return uuid.MustParse(s) }

// began is when the first run of an organization began.
func (w *env) began(org uuid.UUID) time.Time {
	w.Helper()
	var at time.Time
	if err := w.db.Pool.QueryRow(w.Context(), `SELECT min(started_at) FROM polar.sync_runs WHERE organization_id = $1`, org).Scan(&at); err != nil {
		w.Fatal(err)
	}
	return at
}

// lockHalves are an organization's advisory lock as pg_locks shows it.
func lockHalves(org uuid.UUID) [2]int64 {
	key := uint64(binary.BigEndian.Uint64(org[:8]) ^ binary.BigEndian.Uint64(org[8:]) ^ 0x73796e6364)
	return [2]int64{int64(key >> 32), int64(key & 0xffffffff)}
}
