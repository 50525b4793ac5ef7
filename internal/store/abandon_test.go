package store_test

import (
	"testing"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

func storeURL(db *pgtest.Database) secret.Secret { return secret.New(db.URL) }

// TestRunsOfTheDeadAreAbandonedThoughNobodyWorksOnTheirOrganization: it may have
// been taken out of the configuration.
func TestRunsOfTheDeadAreAbandonedThoughNobodyWorksOnTheirOrganization(t *testing.T) {
	t.Parallel()
	st, db := pgtest.NewStore(t)
	dying := openOn(t, st)
	dead := start(t, dying, store.Full)
	save(t, dying, dead, &store.Block{CustomerMeters: rows(sample(t, 1), sample(t, 2))})
	dying.Release() // without having finished

	other := numbered('o', 2)
	if err := st.RegisterOrganization(t.Context(), other, "globex"); err != nil {
		t.Fatal(err)
	}
	living, err := st.Acquire(t.Context(), other, false)
	if err != nil {
		t.Fatal(err)
	}
	defer living.Release()
	alive := start(t, living, store.Incremental)

	if got, err := st.AbandonDead(t.Context()); len(got) != 0 || err != nil {
		t.Errorf("runs that have just begun were looked at: %+v (%v)", got, err)
	}
	lookup(t, db, `UPDATE polar.sync_runs SET started_at = started_at - interval '1 minute' RETURNING 'x'`)
	got, err := st.AbandonDead(t.Context())
	if err != nil || len(got) != 1 {
		t.Fatalf("abandoned %+v (%v)", got, err)
	}
	if a := got[0]; a.ID != dead.ID || a.Organization != "acme" || a.OrganizationID != organization || a.Kind != store.Full || a.Counts.RowsInserted != 2 {
		t.Errorf("abandoned %+v", a)
	}
	if got := lookup(t, db, `SELECT string_agg(status, ' ' ORDER BY id) FROM polar.sync_runs`); got != "abandoned running" {
		t.Errorf("runs %d and %d are %s", dead.ID, alive.ID, got)
	}
	if err := living.FinishRun(t.Context(), alive, store.Outcome{}); err != nil {
		t.Fatal(err)
	}
}
