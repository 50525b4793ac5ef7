package store_test

import (
	"encoding/binary"
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/polar"
	"polarmirror/internal/store"
)

func TestMain(m *testing.M) {
	defer pgtest.Keep()()
	if err := flag.Set("rapid.checks", "40"); err != nil { // the command line may ask for more
		panic(err)
	}
	m.Run()
}

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func numbered(kind byte, n int) uuid.UUID {
	var u uuid.UUID
	u[0], u[6], u[8] = kind, 0x40, 0x80
	binary.BigEndian.PutUint32(u[12:], uint32(n))
	return u
}

var organization = numbered('o', 1)

func decimal(t testing.TB, s string) polar.Decimal {
	t.Helper()
	d, err := polar.ParseDecimal(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// sample returns a valid customer meter; changes make it what a test is about.
func sample(t testing.TB, n int, changes ...func(*polar.CustomerMeter)) *polar.CustomerMeter {
	t.Helper()
	customer, meter := numbered('c', n), numbered('m', n%3)
	name := fmt.Sprintf("Customer %d", n)
	m := &polar.CustomerMeter{
		ID: numbered('x', n), CustomerID: customer, MeterID: meter,
		ConsumedUnits: decimal(t, "0.1"), CreditedUnits: 100, Balance: decimal(t, "99.9"),
		CreatedAt: epoch.Add(time.Duration(n) * time.Second),
		Customer: &polar.Customer{
			ID: customer, OrganizationID: organization, Type: "individual", Name: &name,
			CreatedAt: epoch, Metadata: []byte(`{}`), Raw: fmt.Appendf(nil, `{"id":%q,"name":%q}`, customer, name),
		},
		Meter: &polar.Meter{
			ID: meter, OrganizationID: organization, Name: "API calls", CreatedAt: epoch,
			Metadata: []byte(`{}`), Raw: fmt.Appendf(nil, `{"id":%q,"name":"API calls"}`, meter),
		},
	}
	for _, change := range changes {
		change(m)
	}
	return m
}

func modified(after time.Duration) func(*polar.CustomerMeter) {
	return func(m *polar.CustomerMeter) { m.ModifiedAt = m.CreatedAt.Add(after) }
}

func consumed(t testing.TB, s string) func(*polar.CustomerMeter) {
	d := decimal(t, s)
	return func(m *polar.CustomerMeter) { m.ConsumedUnits = d }
}

// open returns a session on an empty mirror, and its database; see mirror.
func open(t testing.TB) (*store.Session, *pgtest.Database) {
	t.Helper()
	st, db := pgtest.NewStore(t)
	return openOn(t, st), db
}

// openOwn is open with a database of its own.
func openOwn(t testing.TB) (*store.Session, *pgtest.Database) {
	t.Helper()
	st, db := pgtest.NewStore(t)
	return openOn(t, st), db
}

func openOn(t testing.TB, st *store.Store) *store.Session {
	t.Helper()
	if err := st.RegisterOrganization(t.Context(), organization, "acme"); err != nil {
		t.Fatal(err)
	}
	session, err := st.Acquire(t.Context(), organization, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(session.Release)
	return session
}

func start(t testing.TB, s *store.Session, kind store.Kind) *store.Run {
	t.Helper()
	run, err := s.StartRun(t.Context(), kind, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func save(t testing.TB, s *store.Session, run *store.Run, b *store.Block) store.Saved {
	t.Helper()
	saved, err := s.SaveBlock(t.Context(), run, b)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// lookup runs a query that returns one value, as text.
func lookup(t testing.TB, db *pgtest.Database, sql string, args ...any) string {
	t.Helper()
	var text *string
	if err := db.Pool.QueryRow(t.Context(), sql, args...).Scan(&text); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	if text == nil {
		return "null"
	}
	return *text
}

// large marks a test of many rows or processes. With -short it is left out: the
// race detector makes it slow, and has enough to look at without it.
func large(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("large, and -short")
	}
}
