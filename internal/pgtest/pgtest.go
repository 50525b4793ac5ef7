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

	"polarmirror/internal/secret"
	"polarmirror/internal/store"
)

const (
	setupTime   = 2 * time.Minute // the first test of a run may wait for initdb
	cleanupTime = 30 * time.Second
	returnTime  = 10 * time.Second // for what a test left running to give back its connections

	poolSize = 8 // of each pool
)

// Database is a test's own database, until the test ends.
type Database struct {
	Name string
	URL  string        // for pgx
	Pool *pgxpool.Pool // not for tests to close

	store        *store.Store // of NewStore; nil until a test asks for it
	disconnected atomic.Bool
}

// New returns an empty database.
func New(t testing.TB) *Database {
	t.Helper()
	return newDatabase(t, useCluster(t), "template0")
}

// NewMigrated returns a migrated database.
func NewMigrated(t testing.TB) *Database {
	t.Helper()
	c := useCluster(t)
	return newDatabase(t, c, c.template)
}

// NewStore returns a store on a migrated database of its own, and that database.
func NewStore(t testing.TB) (*store.Store, *Database) {
	t.Helper()
	db := NewMigrated(t)
	if db.store == nil {
		db.store = open(t, db)
	}
	return db.store, db
}

// OpenStore returns another store on db, as another process would have.
func OpenStore(t testing.TB, db *Database) *store.Store {
	t.Helper()
	st := open(t, db)
	t.Cleanup(st.Close)
	return st
}

func open(t testing.TB, db *Database) *store.Store {
	t.Helper()
	// Not the test's context: NewStore's store may outlast the test.
	st, err := store.Open(context.WithoutCancel(t.Context()), store.Options{URL: secret.New(db.URL), MaxConnections: poolSize})
	if err != nil {
		t.Fatal(err)
	}
	return st
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
