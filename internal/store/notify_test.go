package store_test

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/store"
)

// listen returns a connection that listens for changes.
func listen(t testing.TB, db *pgtest.Database) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if _, err := conn.Exec(t.Context(), `LISTEN polar_customer_meters`); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestListenerGetsASmallJSON(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	openOn(t, st)
	conn := listen(t, db)
	told, err := st.Notify(t.Context(), store.Notification{Organization: "acme", OrganizationID: organization, RunID: 7, Kind: store.Full, RowsUpdated: 3, CustomerIDs: []uuid.UUID{numbered('c', 1)}})
	if err != nil || !told {
		t.Fatalf("told %v (%v)", told, err)
	}
	n, err := conn.WaitForNotification(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal([]byte(n.Payload), &got); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{"organization": "acme", "organization_id": organization.String(), "run_id": 7.0, "kind": "full",
		"rows_inserted": 0.0, "rows_updated": 3.0, "rows_deleted": 0.0,
		"customer_ids": []any{numbered('c', 1).String()}, "more_customers": false}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
}

// TestListenersAreToldAtMostOnceASecondByAllReplicas lets several processes try often
// at once, and counts by the database's clock.
func TestListenersAreToldAtMostOnceASecondByAllReplicas(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	openOn(t, st)
	conn := listen(t, db)
	other := numbered('o', 2)
	if err := st.RegisterOrganization(t.Context(), other, "globex"); err != nil {
		t.Fatal(err)
	}
	var told atomic.Int64
	var replicas sync.WaitGroup
	began := databaseNow(t, db)
	stores := []*store.Store{st, pgtest.OpenStore(t, db)}
	for round := range int64(2) {
		if round > 0 { // as if a second had passed
			exec(t, db, `UPDATE polar.notifications SET sent_at = sent_at - interval '1 second'`)
		}
		for _, replica := range stores {
			for _, id := range []uuid.UUID{organization, other} {
				replicas.Go(func() {
					for range 10 {
						ok, err := replica.Notify(t.Context(), store.Notification{OrganizationID: id, Kind: store.Webhook})
						if err != nil {
							t.Error(err)
							return
						}
						if ok {
							told.Add(1)
						}
					}
				})
			}
		}
		replicas.Wait()
		least, most := 2*(round+1), 2*(round+1+int64(databaseNow(t, db).Sub(began)/time.Second))
		if got := told.Load(); got < least || got > most {
			t.Errorf("round %d: told %d times, want %d to %d", round, got, least, most)
		}
	}
	for range told.Load() {
		if _, err := conn.WaitForNotification(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func databaseNow(t testing.TB, db *pgtest.Database) time.Time {
	t.Helper()
	var now time.Time
	if err := db.Pool.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&now); err != nil {
		t.Fatal(err)
	}
	return now
}
