package pgtest

import (
	"testing"

	"github.com/google/uuid"
)

// TestEmptiedDatabaseIsUsedAgainUnlessMoreThanRowsChanged is not parallel, so that it is
// given back what it gave.
func TestEmptiedDatabaseIsUsedAgainUnlessMoreThanRowsChanged(t *testing.T) {
	for _, tt := range []struct {
		name, sql string
		again     bool
	}{
		{"rows", `INSERT INTO polar.organizations (id, name) VALUES (gen_random_uuid(), 'left behind')`, true},
		{"a setting of one connection", `SET DateStyle = 'German'`, true},
		{"a run", `INSERT INTO polar.organizations (id, name) VALUES ('11111111-1111-4111-8111-111111111111', 'x'); ` +
			`INSERT INTO polar.sync_runs (organization_id, kind, status, started_at) VALUES ('11111111-1111-4111-8111-111111111111', 'full', 'running', now())`, true},
		{"a table", `CREATE TABLE polar.more (id int)`, false},
		{"a column", `ALTER TABLE polar.meters ADD COLUMN more int`, false},
		{"a right", `GRANT SELECT ON polar.meters TO PUBLIC`, false},
		{"a setting of the database", `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 64', current_database()); END $$`, false},
		{"statistics", `INSERT INTO polar.organizations (id, name) VALUES (gen_random_uuid(), 'x'); ANALYZE polar.organizations`, false},
		{"a lock", `SELECT pg_advisory_lock(1)`, false},
	} {
		var before string
		t.Run(tt.name, func(t *testing.T) {
			_, db := NewStore(t)
			before = db.Name
			if _, err := db.Pool.Exec(t.Context(), tt.sql); err != nil {
				t.Fatal(err)
			}
		})
		t.Run("after "+tt.name, func(t *testing.T) {
			st, db := NewStore(t)
			if again := db.Name == before; again != tt.again {
				t.Errorf("used again %v, want %v", again, tt.again)
			}
			var shape, style string
			var rows, id int
			if err := db.Pool.QueryRow(t.Context(), shapeSQL).Scan(&shape); err != nil || shape != useCluster(t).shape {
				t.Errorf("the next database is not as the migrations made it (%v)", err)
			}
			if err := db.Pool.QueryRow(t.Context(), `SELECT count(*), current_setting('DateStyle') FROM polar.organizations`).Scan(&rows, &style); err != nil || rows != 0 || style != "ISO, MDY" {
				t.Errorf("the next database has %d organizations and style %s (%v)", rows, style, err)
			}
			org := uuid.New()
			if err := st.RegisterOrganization(t.Context(), org, "next"); err != nil {
				t.Error(err)
			}
			const insert = `INSERT INTO polar.sync_runs (organization_id, kind, status, started_at) VALUES ($1, 'full', 'running', now()) RETURNING id`
			if err := db.Pool.QueryRow(t.Context(), insert, org).Scan(&id); err != nil || id != 1 {
				t.Errorf("the next database's first run has id %d (%v)", id, err)
			}
		})
	}
}
