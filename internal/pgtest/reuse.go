package pgtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

// A clone costs a third of a second of a processor's time, and its first connections
// as much again. So the database of a test that has ended is emptied for the next one,
// together with a store that has connections to it: unless the test changed more than
// rows, ended connections, or left something running. The next test cannot tell it
// from a new clone.

// A mirrorDatabase is a migrated database with a store on it.
type mirrorDatabase struct {
	*Database
	store *store.Store // nil until a test asks for one
}

// spares are the emptied databases of this process.
type spares struct {
	mu    sync.Mutex
	left  []*mirrorDatabase
	shape string // of the schema, as the migrations made it; empty until the first clone
}

func (s *spares) take() *mirrorDatabase {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.left) == 0 {
		return nil
	}
	last := len(s.left) - 1
	db := s.left[last]
	s.left = s.left[:last]
	return db
}

func (s *spares) put(db *mirrorDatabase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = append(s.left, db)
}

// newMirrorDatabase returns a database that is empty but for what the migrations make.
func newMirrorDatabase(t testing.TB) *mirrorDatabase {
	t.Helper()
	c := useCluster(t)
	db := c.spares.take()
	if db == nil {
		ctx, cancel := context.WithTimeout(t.Context(), setupTime)
		defer cancel()
		cloned, err := c.clone(ctx, c.template)
		if err != nil {
			t.Fatalf("make a test database: %v", err)
		}
		db = &mirrorDatabase{Database: cloned}
		if err := c.spares.learnShape(ctx, cloned); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
		defer cancel()
		if !eventually(poolCloseTime, func() bool { return db.Pool.Stat().AcquiredConns() == 0 }) {
			t.Errorf("the test still holds %d connections", db.Pool.Stat().AcquiredConns())
		}
		if !t.Failed() {
			err := c.spares.empty(ctx, db)
			if err == nil {
				c.spares.put(db)
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

// openStore returns the store that goes with the database.
func (db *mirrorDatabase) openStore(t testing.TB) *store.Store {
	t.Helper()
	if db.store == nil {
		// Not the test's context: the store may outlast it.
		st, err := store.Open(context.WithoutCancel(t.Context()), store.Options{URL: secret.New(db.URL), MaxConnections: poolSize})
		if err != nil {
			t.Fatal(err)
		}
		db.store = st
	}
	return db.store
}

func (c *cluster) discard(ctx context.Context, db *mirrorDatabase) error {
	if db.store != nil {
		db.store.Close()
	}
	closing, cancel := context.WithTimeout(ctx, poolCloseTime)
	defer cancel()
	_ = closePool(closing, db.Pool)
	return c.drop(ctx, db.Name)
}

// shapeSQL says what the schema is like, and how its tables are taken to be filled:
// objects that were made, changed or dropped, rights, settings, and statistics.
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
       (SELECT md5(string_agg(v::text, ' ')) FROM polar.goose_db_version v),
       (SELECT md5(string_agg(c::text, ' ')) FROM polar.schema_compatibility c))`

func (s *spares) learnShape(ctx context.Context, db *Database) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shape != "" {
		return nil
	}
	return db.Pool.QueryRow(ctx, shapeSQL).Scan(&s.shape)
}

// empty makes a database that only a test's rows distinguish from a new one into one.
func (s *spares) empty(ctx context.Context, db *mirrorDatabase) error {
	if db.disconnected.Load() {
		return errors.New("connections to it were ended")
	}
	idle := func() (own int, ok bool) {
		if db.store == nil {
			return int(db.Pool.Stat().TotalConns()), true
		}
		stat := db.store.PoolStat()
		return int(db.Pool.Stat().TotalConns()) + stat.Idle, stat.Acquired+stat.Opening == 0
	}
	const all = `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'`
	var own, connected int
	var err error
	if !eventually(time.Second, func() bool {
		if err = db.Pool.QueryRow(ctx, all).Scan(&connected); err != nil {
			return true
		}
		var ok bool
		own, ok = idle()
		return ok && connected == own
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
	var locks int
	if err := db.Pool.QueryRow(ctx, shapeSQL).Scan(&shape); err != nil {
		return err
	}
	if shape != s.shape {
		return errors.New("the test changed its schema or settings")
	}
	const held = `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	if err := db.Pool.QueryRow(ctx, held).Scan(&locks); err != nil || locks > 0 {
		return errors.Join(err, fmt.Errorf("%d advisory locks", locks))
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
