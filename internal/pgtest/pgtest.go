// Package pgtest gives each test a Postgres database of its own, empty or with a
// migrated mirror in it, and holds what may stand between syncd and Postgres: a
// pooler ([NewPooler], [NewSessionPooler]), and a [Wire] that can be cut. All of it ends with its test.
//
// All test processes of `go test ./...` share one server, with the durability
// that tests do not need switched off. A test's database is a clone of a
// migrated template, so that the migrations run once and not once a test, or such a
// clone that an earlier test has left and that was emptied (reuse.go).
//
// The server is internal/localpg's. Its data is in the user's cache, in a folder
// for each major version and place of the programs. It runs while any test
// process holds it, and stops with the last; each package that uses it has a
//
//	func TestMain(m *testing.M) {
//		defer pgtest.Keep()()
//		m.Run()
//	}
//
// After a killed run the server stays, and the next run adopts and stops it and
// removes what it left.
//
// SYNCD_TEST_POSTGRES names the folder of the Postgres programs to use, instead
// of the newest installed. SYNCD_TEST_DATABASE_URL is the address of another
// server to use: version 14 or later, a role that may create databases. Without
// any Postgres the test fails and says what to install.
package pgtest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	setupTime     = 2 * time.Minute // the first test of a run may wait for initdb
	cleanupTime   = 30 * time.Second
	poolCloseTime = 10 * time.Second // for what a test left running to end

	poolSize = 8
)

// Database is a test's own database. It is dropped when the test ends.
type Database struct {
	Name string
	URL  string        // for pgx
	Pool *pgxpool.Pool // closed when the test ends

	disconnected atomic.Bool
}

// What [Database.Disconnect] may end.
const (
	Syncd       = `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'syncd'`
	LockHolders = `SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
)

// Disconnect has the server end the connections whose processes the query pids finds.
// No other test is given the database: its store may not have noticed all of them.
func (d *Database) Disconnect(t testing.TB, pids string, args ...any) {
	t.Helper()
	d.disconnected.Store(true)
	if _, err := d.Pool.Exec(context.WithoutCancel(t.Context()), `SELECT pg_terminate_backend(pid) FROM (`+pids+`) p`, args...); err != nil {
		t.Error(err)
	}
}

// New returns an empty database.
func New(t testing.TB) *Database {
	t.Helper()
	return newDatabase(t, useCluster(t), "template0")
}

func newDatabase(t testing.TB, c *cluster, template string) *Database {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), setupTime)
	defer cancel()
	db, err := c.clone(ctx, template)
	if err != nil {
		t.Fatalf("make a test database: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTime)
		defer cancel()
		poolCtx, cancelPool := context.WithTimeout(ctx, poolCloseTime)
		defer cancelPool()
		if !closePool(poolCtx, db.Pool) {
			t.Errorf("the test still holds %d connections", db.Pool.Stat().AcquiredConns())
		}
		if err := c.drop(ctx, db.Name); err != nil {
			t.Errorf("drop the test database: %v", err)
		}
	})
	return db
}

// closePool reports false if connections are still held when ctx ends: the pool
// would wait for them for ever, and hide which test forgot them.
func closePool(ctx context.Context, pool *pgxpool.Pool) bool {
	closed := make(chan struct{})
	go func() {
		pool.Close()
		close(closed)
	}()
	select {
	case <-closed:
		return true
	case <-ctx.Done():
		return false
	}
}
