package docs

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// stopClock makes now(), in views and in queries by who has search_path clock,
// the given moment for good. Roles named may read that clock.
func (w *env) stopClock(at time.Time, roles ...string) {
	w.Helper()
	ctx := w.Context()
	conn, err := w.db.Pool.Acquire(ctx)
	if err != nil {
		w.Fatal(err)
	}
	defer conn.Release()
	const views = `
SELECT format('CREATE OR REPLACE VIEW %s AS %s', c.oid::regclass, pg_get_viewdef(c.oid))
FROM pg_class c
WHERE c.relnamespace = 'polar'::regnamespace AND c.relkind = 'v'`
	rows, err := conn.Query(ctx, views)
	if err != nil {
		w.Fatal(err)
	}
	statements, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.Fatal(err)
	}
	clock := []string{
		`CREATE SCHEMA clock`,
		fmt.Sprintf(`CREATE FUNCTION clock.now() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT '%s'::timestamptz $$`, at.Format(time.RFC3339)),
		`SET search_path = clock, pg_catalog`,
	}
	for _, role := range roles {
		clock = append(clock, `GRANT USAGE ON SCHEMA clock TO `+role)
	}
	for _, sql := range append(append(clock, statements...), `RESET search_path`) {
		if _, err := conn.Exec(ctx, sql); err != nil {
			w.Fatalf("%s: %v", sql, err)
		}
	}
}

// connectAs opens a connection of a role whose clock stands still.
func (w *env) connectAs(role, password string) *pgx.Conn {
	w.Helper()
	return connectAs(w, w.db.URL, role, password)
}

func connectAs(t testing.TB, address, role, password string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	config.User, config.Password = role, password
	config.RuntimeParams["search_path"] = "clock, pg_catalog"
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["client_min_messages"] = "error"
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}
