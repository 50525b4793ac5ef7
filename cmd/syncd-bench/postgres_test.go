package main

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/pgtest"
)

// madeTables are tables of the names of syncd's, whatever its migrations do.
const madeTables = `
CREATE SCHEMA polar;
CREATE TABLE polar.customers (id int PRIMARY KEY, v text);
CREATE TABLE polar.meters (id int PRIMARY KEY, v text);
CREATE TABLE polar.customer_meters (id int PRIMARY KEY, v text);
CREATE TABLE polar.customer_meter_history (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE polar.history_low PARTITION OF polar.customer_meter_history FOR VALUES FROM (0) TO (100);
CREATE TABLE polar.history_high PARTITION OF polar.customer_meter_history FOR VALUES FROM (100) TO (200);
INSERT INTO polar.customer_meters SELECT i, 'old' FROM generate_series(1, 50) i;
INSERT INTO polar.customer_meter_history SELECT i, 'old' FROM generate_series(90, 110) i`

func TestNewRowVersionsAreThoseWrittenSinceTheMark(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	conn, err := pgx.Connect(ctx, pgtest.New(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	d := &database{postgres: &postgres{}, conn: conn}
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec(madeTables)
	for _, step := range []struct {
		name, sql string
		want      int64
	}{
		{"nothing", `SELECT 1`, 0},
		{"inserts", `INSERT INTO polar.customers VALUES (1, 'a'), (2, 'b'); INSERT INTO polar.meters VALUES (1, 'a')`, 3},
		{"updates", `UPDATE polar.customer_meters SET v = 'new' WHERE id <= 7`, 7},
		{"updates that change nothing", `UPDATE polar.customer_meters SET v = v WHERE id <= 5`, 5},
		{"inserts into partitions", `INSERT INTO polar.customer_meter_history VALUES (99, 'new'), (100, 'new'), (101, 'new')`, 3},
		{"what was rolled back", `DO $$ BEGIN INSERT INTO polar.customers VALUES (3, 'c'); RAISE division_by_zero; EXCEPTION WHEN division_by_zero THEN NULL; END $$`, 0},
		{"locks", `SELECT FROM polar.customer_meters FOR UPDATE`, 0},
		{"reading and vacuuming", `VACUUM (FREEZE, ANALYZE)`, 0},
	} {
		m, err := d.mark(ctx)
		if err != nil {
			t.Fatal(err)
		}
		exec(step.sql)
		got, err := d.newVersions(ctx, m)
		if err != nil {
			t.Fatal(err)
		}
		if got != step.want {
			t.Errorf("%s: %d new versions, want %d", step.name, got, step.want)
		}
	}
}
