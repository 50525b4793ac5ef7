package store_test

import (
	"database/sql"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"

	"polarmirror/internal/pgtest"
	"polarmirror/internal/secret"
	"polarmirror/internal/store"
	"polarmirror/migrations"
)

// mirrorOnly is the last migration before the history's functions and views: a
// database of that age holds data already.
const mirrorOnly = 13

func TestOlderDatabaseMigratesWithItsData(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	migrateTo(t, db, mirrorOnly)
	st, err := store.Open(t.Context(), store.Options{URL: secret.New(db.URL)})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Maintain(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := openOn(t, st)
	run := start(t, s, store.Full)
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1), sample(t, 2))})
	s.Release()

	applied, err := st.Migrate(t.Context())
	if err != nil || applied == 0 {
		t.Fatalf("%d migrations applied (%v)", applied, err)
	}
	if got := lookup(t, db, `SELECT concat_ws(' ', (SELECT count(*) FROM polar.customer_meters), (SELECT count(*) FROM polar.balances_at(now())), (SELECT count(*) FROM polar.burn_rate))`); got != "2 2 2" {
		t.Errorf("rows, balances, burn rates after the migration: %s, want 2 2 2", got)
	}
}

// TestSchemaAllowsBinariesBackToItsOldestMigration: a binary that ends at an older
// migration than the schema keeps working, as long as the schema allows it.
func TestSchemaAllowsBinariesBackToItsOldestMigration(t *testing.T) {
	t.Parallel()
	s, db := open(t)
	run := start(t, s, store.Full)
	save(t, s, run, &store.Block{CustomerMeters: rows(sample(t, 1))})
	if got := lookup(t, db, `SELECT (oldest_migration <= $1)::text FROM polar.schema_compatibility`, mirrorOnly); got != "true" {
		t.Errorf("the previous release is refused")
	}
}

func migrateTo(t *testing.T, db *pgtest.Database, version int64) {
	t.Helper()
	if _, err := db.Pool.Exec(t.Context(), `CREATE SCHEMA polar`); err != nil {
		t.Fatal(err)
	}
	conn, err := sql.Open("pgx", db.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	versions, err := database.NewStore(database.DialectPostgres, "polar.goose_db_version")
	if err != nil {
		t.Fatal(err)
	}
	provider, err := goose.NewProvider("", conn, migrations.FS, goose.WithStore(versions))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := provider.UpTo(t.Context(), version); err != nil {
		t.Fatal(err)
	}
}
