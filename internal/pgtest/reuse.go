package pgtest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// A clone costs a third of a second of a processor's time, and its first connections
// as much again. So the database of a test that has ended is emptied for the next one,
// together with a store that has connections to it: unless the test changed more than
// rows, ended connections, or left something running. The next test cannot tell it
// from a new clone.

// newDatabase returns a clone of a template, or one that another test has left.
func newDatabase(t testing.TB, c *cluster, template string) *Database {
	t.Helper()
	var spares chan *Database // nil for a template whose clones are not used again
	if template == c.template {
		spares = c.spares
	}
	var db *Database
	select {
	case db = <-spares:
	default:
		ctx, cancel := context.WithTimeout(t.Context(), setupTime)
		defer cancel()
		var err error
		if db, err = c.clone(ctx, template); err == nil && spares != nil {
			c.shapeOnce.Do(func() { err = db.Pool.QueryRow(ctx, shapeSQL).Scan(&c.shape) })
		}
		if err != nil {
			t.Fatalf("make a test database: %v", err)
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
		defer cancel()
		if !eventually(returnTime, func() bool { return db.Pool.Stat().AcquiredConns() == 0 }) {
			t.Errorf("the test still holds %d connections", db.Pool.Stat().AcquiredConns())
		}
		if spares != nil && !t.Failed() {
			err := c.empty(ctx, db)
			if err == nil {
				spares <- db
				return
			}
			t.Logf("the test's database is of no use to others: %v", err)
		}
		if err := c.discard(ctx, db); err != nil {
			t.Errorf("drop the test database: %v", err)
		}
	})
	return db
}

// discard closes what is connected to a database and drops it.
func (c *cluster) discard(ctx context.Context, db *Database) error {
	if db.store != nil {
		db.store.Close()
	}
	if db.Pool.Stat().AcquiredConns() == 0 { // else it would wait for a test that forgot them
		db.Pool.Close()
	}
	return c.drop(ctx, db.Name)
}

// shapeSQL says what the schema is like, and how its tables are taken to be filled:
// objects that were made, changed or dropped, rights, settings, statistics, and locks
// that somebody holds.
const shapeSQL = `
SELECT concat_ws(' ',
       (SELECT (count(*), max(xmin::text::bigint), sum(reltuples)) FROM pg_class WHERE relnamespace = 'polar'::regnamespace),
       (SELECT (count(*), max(xmin::text::bigint)) FROM pg_class WHERE relnamespace = 'public'::regnamespace),
       (SELECT (count(*), max(xmin::text::bigint)) FROM pg_attribute),
       (SELECT (count(*), max(xmin::text::bigint)) FROM pg_constraint),
       (SELECT (count(*), max(xmin::text::bigint)) FROM pg_proc),
       (SELECT (count(*), max(xmin::text::bigint)) FROM pg_trigger),
       (SELECT (count(*), max(xmin::text::bigint)) FROM pg_rewrite),
       (SELECT (count(*), max(xmin::text::bigint)) FROM pg_policy),
       (SELECT (count(*), max(xmin::text::bigint)) FROM pg_namespace),
       (SELECT (count(*), max(xmin::text::bigint)) FROM pg_default_acl),
       (SELECT count(*) FROM pg_publication),
       (SELECT count(*) FROM pg_statistic WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'polar'::regnamespace)),
       (SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()),
       (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())),
       (SELECT md5(string_agg(v::text, ' ')) FROM polar.goose_db_version v),
       (SELECT md5(string_agg(c::text, ' ')) FROM polar.schema_compatibility c))`

// empty makes a database that only a test's rows distinguish from a new one into one.
func (c *cluster) empty(ctx context.Context, db *Database) error {
	if db.disconnected.Load() {
		return errors.New("connections to it were ended")
	}
	const all = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'`
	var connected, own int
	var err error
	if !eventually(time.Second, func() bool {
		if err = db.Pool.QueryRow(ctx, all).Scan(&connected); err != nil {
			return true
		}
		own = int(db.Pool.Stat().TotalConns())
		busy := 0
		if db.store != nil {
			stat := db.store.PoolStat()
			own, busy = own+int(stat.IdleConns()), int(stat.AcquiredConns()+stat.ConstructingConns())
		}
		return busy == 0 && connected == own
	}) {
		return fmt.Errorf("%d connections to it, %d of them its own", connected, own)
	}
	for _, conn := range db.Pool.AcquireAllIdle(ctx) {
		_, resetErr := conn.Exec(ctx, `RESET SESSION AUTHORIZATION; RESET ALL; UNLISTEN *`)
		err = errors.Join(err, resetErr)
		conn.Release()
	}
	if err != nil {
		return err
	}
	var shape string
	if err := db.Pool.QueryRow(ctx, shapeSQL).Scan(&shape); err != nil {
		return err
	}
	if shape != c.shape {
		return errors.New("the test changed its schema or settings, or holds a lock")
	}
	const deleteRows = `
DO $$
DECLARE
	t regclass;
	deleted bigint;
BEGIN
	SET LOCAL session_replication_role = replica; -- in any order
	FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'polar'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
	            AND relname NOT IN ('goose_db_version', 'schema_compatibility') LOOP
		EXECUTE 'DELETE FROM ' || t;
		GET DIAGNOSTICS deleted = ROW_COUNT;
		IF deleted > 10000 THEN
			RAISE 'too many rows to be deleted';
		END IF;
	END LOOP;
	PERFORM setval(seqrelid, seqstart, false) FROM pg_sequence;
END $$`
	_, err = db.Pool.Exec(ctx, deleteRows)
	return err
}

// eventually waits until ok, but not longer than limit.
func eventually(limit time.Duration, ok func() bool) bool {
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
