package store_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// TestSchemaFromBeforeTheFirstReleaseIsRefusedWithItsCure: the same migration
// numbers meant something else then.
func TestSchemaFromBeforeTheFirstReleaseIsRefusedWithItsCure(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	exec(t, db, `
CREATE SCHEMA polar;
CREATE TABLE polar.organizations (id uuid PRIMARY KEY);
CREATE TABLE polar.walk_cursors (organization_id uuid PRIMARY KEY);
CREATE TABLE polar.goose_db_version (id serial PRIMARY KEY, version_id bigint NOT NULL, is_applied boolean NOT NULL, tstamp timestamp DEFAULT now());
INSERT INTO polar.goose_db_version (version_id, is_applied) SELECT n, true FROM generate_series(0, 25) n`)
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(db.URL)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for name, try := range map[string]func() error{
		"Ready":   func() error { return st.Ready(t.Context()) },
		"Migrate": func() error { _, err := st.Migrate(t.Context()); return err },
	} {
		var schema *store.SchemaError
		if err := try(); !errors.As(err, &schema) || !schema.Obsolete || !strings.Contains(err.Error(), "DROP SCHEMA polar CASCADE") {
			t.Errorf("%s: %v, want an error that names the cure", name, err)
		}
	}
	if err := st.Drop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := st.Ready(t.Context()); err != nil {
		t.Errorf("after it was made anew: %v", err)
	}
}

// TestMigrationThatMeetsALockStops: others would queue up behind it.
func TestMigrationThatMeetsALockStops(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	st := must1(store.Open(t.Context(), store.Options{URL: secret.New(db.URL)}))
	defer st.Close()
	must1(st.Migrate(t.Context()))
	exec(t, db, `DROP TABLE polar.excluded_fields`)
	exec(t, db, `DELETE FROM polar.goose_db_version WHERE version_id = 7`)
	holder := must1(db.Pool.Begin(t.Context()))
	must1(holder.Exec(t.Context(), `LOCK TABLE polar.rejected_rows IN SHARE UPDATE EXCLUSIVE MODE`))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var schema *store.SchemaError
	if _, err := st.Migrate(ctx); !errors.As(err, &schema) || !strings.Contains(err.Error(), "lock timeout") {
		t.Errorf("%v, want an error that names the lock", err)
	}
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if applied, err := st.Migrate(t.Context()); applied != 1 || err != nil {
		t.Errorf("without the lock: %d applied, %v", applied, err)
	}
}
