package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Serviceable reports whether the database can be reached, has every migration of
// this binary, and would now store a webhook's delivery; nil if so. It uses one
// connection of the pool and leaves no row behind. Errors are [ErrReadOnly], a
// [*SchemaError], or those of the server or the connection; see [Cause].
func (s *Store) Serviceable(ctx context.Context) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	pending, err := s.pending(ctx)
	if err != nil {
		return err
	}
	if pending > 0 {
		return &SchemaError{Problem: fmt.Sprintf("it lacks %d of this syncd's migrations; run syncd migrate up", pending)}
	}
	return s.probeWrite(ctx)
}

// Statements of probeWrite, in one transaction.
const (
	// probeSpaceSQL makes the next statement write its temporary file where the
	// database's tables are, however little it holds.
	probeSpaceSQL = `SELECT set_config('work_mem', '64kB', true), set_config('temp_tablespaces', '', true)`

	probeWriteSQL = `
WITH blocks AS MATERIALIZED (
    SELECT repeat('x', 8000) AS block
      FROM generate_series(1, 20)
),
delivery AS (
    INSERT INTO polar.webhook_events (organization_id)
    SELECT NULL::uuid
     WHERE false
)
SELECT
    sum(length(block)),
    pg_logical_emit_message(true, 'syncd', 'ready')
  FROM blocks`
)

// probeWrite does what storing a delivery takes, and stores none: it needs the
// right and the lock to write deliveries, space for new blocks, and a commit that
// waits for the log.
//
// On a full disk, updating a row succeeds as long as the row's own block has room,
// and a table that grew with each probe would have to be shrunk. So the space is
// that of a temporary file of 160 kB, which is gone when the statement ends, and
// what is committed is a message in the log, of 61 bytes.
func (s *Store) probeWrite(ctx context.Context) error {
	batch := &pgx.Batch{}
	batch.Queue(waitForDiskSQL)
	batch.Queue(probeSpaceSQL)
	batch.Queue(probeWriteSQL)
	err := s.pool.send(ctx, batch)
	switch sqlState(err) {
	case readOnlyTransaction:
		return ErrReadOnly
	case temporaryFileTooLarge: // a temp_file_limit below 160 kB says nothing about the disk
		return nil
	}
	if err != nil {
		return fmt.Errorf("try to write to database: %w", cured(err))
	}
	return nil
}

// A PoolStat is how the pool of connections is used. Counts are since the store
// was opened.
type PoolStat struct {
	Most     int // connections the pool may hold
	Acquired int // in use
	Idle     int
	Opening  int

	Acquires int64 // acquisitions
	Waits    int64 // of which had to wait
	Canceled int64 // waits given up
	Waited   time.Duration
}

// PoolStat asks the pool, not the database.
func (s *Store) PoolStat() PoolStat {
	stat := s.pool.Stat()
	return PoolStat{
		Most:     int(stat.MaxConns()),
		Acquired: int(stat.AcquiredConns()),
		Idle:     int(stat.IdleConns()),
		Opening:  int(stat.ConstructingConns()),
		Acquires: stat.AcquireCount(),
		Waits:    stat.EmptyAcquireCount(),
		Canceled: stat.CanceledAcquireCount(),
		Waited:   stat.EmptyAcquireWaitTime(),
	}
}
