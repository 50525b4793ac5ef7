package docs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"polarmirror/internal/doctest"
	"polarmirror/internal/pgtest"
)

const testPassword = "pw"

// statements returns the SQL under a heading of security.md, with the role of
// that name replaced by one that no other test has, and that name.
func statements(t testing.TB, heading, role string) (sql, name string) {
	t.Helper()
	for _, b := range doctest.Blocks(t, "security.md") {
		if b.Heading == heading && b.Language == "sql" {
			sql += b.Text
		}
	}
	if sql == "" {
		t.Fatalf("security.md has no SQL under %q", heading)
	}
	return withOwnRole(sql, role)
}

// withOwnRole replaces a role in SQL by one that no other test has.
func withOwnRole(sql, role string) (replaced, name string) {
	name = role + "_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	return strings.NewReplacer(" "+role+" ", " "+name+" ", " "+role+";", " "+name+";").Replace(sql), name
}

// createRole runs the statements of a document that create a role and lets it
// log in. The role goes with the test.
func createRole(t testing.TB, db *pgtest.Database, sql, role string) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for _, sql := range []string{`DROP OWNED BY %s CASCADE`, `DROP ROLE %s`} {
			if _, err := db.Pool.Exec(ctx, fmt.Sprintf(sql, role)); err != nil {
				t.Error(err)
			}
		}
	})
	mustExec(t, db.Pool, sql)
	mustExec(t, db.Pool, `ALTER ROLE `+role+` PASSWORD '`+testPassword+`'`)
}

func mustExec(t testing.TB, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// grantAnalyst makes the role of security.md and returns its name.
func (w *env) grantAnalyst() string {
	w.Helper()
	sql, role := statements(w, "A read-only role for analysts", "analyst")
	createRole(w, w.db, sql, role)
	return role
}

func TestAnalystCanWriteNothingAndSeesNoDeliveries(t *testing.T) {
	t.Parallel()
	w := newEnv(t)
	w.look(w.clock)
	role := w.grantAnalyst()
	conn := w.connectAs(role, testPassword)
	defer conn.Close(t.Context())
	const on = `SELECT current_setting('default_transaction_read_only')`
	var readOnly string
	if err := conn.QueryRow(t.Context(), on).Scan(&readOnly); err != nil || readOnly != "on" {
		t.Errorf("default_transaction_read_only is %q (%v), want on", readOnly, err)
	}
	// Who can set it can unset it: the rights must hold by themselves.
	if _, err := conn.Exec(t.Context(), `SET default_transaction_read_only = off`); err != nil {
		t.Fatal(err)
	}
	for _, relation := range w.tables() {
		for _, sql := range []string{
			`INSERT INTO polar.%s DEFAULT VALUES`,
			`DELETE FROM polar.%s`,
			`TRUNCATE polar.%s`,
			`DROP TABLE polar.%s`,
		} {
			assertForbidden(t, conn, fmt.Sprintf(sql, relation))
		}
	}
	const mayWrite = `
SELECT coalesce(string_agg(c.relname, ', '), '')
FROM pg_class c
WHERE c.relnamespace = 'polar'::regnamespace
	AND c.relkind IN ('r', 'p', 'v')
	AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')`
	var writable string
	if err := conn.QueryRow(t.Context(), mayWrite).Scan(&writable); err != nil || writable != "" {
		t.Errorf("the analyst may write %s (%v)", writable, err)
	}
	assertForbidden(t, conn, `UPDATE polar.customer_meters SET balance = 0`)
	assertForbidden(t, conn, `CREATE TABLE polar.mine (id integer)`)
	assertForbidden(t, conn, `SELECT payload FROM polar.webhook_events`)
	assertForbidden(t, conn, `SELECT raw FROM polar.rejected_rows`)
}

// TestAnalystReadsMonthsThatComeLater: a month's partition is made by syncd
// after the rights were given.
func TestAnalystReadsMonthsThatComeLater(t *testing.T) {
	t.Parallel()
	w := newEnv(t)
	conn := w.connectAs(w.grantAnalyst(), testPassword)
	defer conn.Close(t.Context())
	w.look(w.clock) // makes a partition and fills it
	var rows int
	if err := conn.QueryRow(t.Context(), `SELECT count(*) FROM polar.customer_meter_history`).Scan(&rows); err != nil {
		t.Fatal(err)
	}
	if rows == 0 {
		t.Error("the analyst sees no history")
	}
}

func assertForbidden(t testing.TB, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "42501" { // insufficient_privilege
		t.Errorf("%s: got %v, want it refused", sql, err)
	}
}

func (w *env) tables() []string {
	w.Helper()
	const sql = `
SELECT c.relname
FROM pg_class c
WHERE c.relnamespace = 'polar'::regnamespace AND c.relkind IN ('r', 'p')`
	rows, err := w.db.Pool.Query(w.Context(), sql)
	if err != nil {
		w.Fatal(err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		w.Fatal(err)
	}
	return names
}
