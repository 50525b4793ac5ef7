package store

import (
	"context"
	"fmt"
	"time"
)

// Serviceable reports whether the database can be reached and written to, and
// carries every migration of this binary; nil if so. It asks one connection of
// the pool for two rows. Errors are [ErrReadOnly], a [*SchemaError], or the
// connection's own.
func (s *Store) Serviceable(ctx context.Context) error {
	if err := s.Ready(ctx); err != nil {
		return err
	}
	newest, err := newestMigration()
	if err != nil {
		return fmt.Errorf("read embedded migrations: %w", err)
	}
	const sql = `SELECT coalesce(max(version_id), 0) FROM polar.goose_db_version WHERE is_applied`
	var applied int64
	err = s.pool.QueryRow(ctx, sql).Scan(&applied)
	if state := sqlState(err); state == "42P01" || state == "3F000" { // undefined_table, invalid_schema_name
		applied, err = 0, nil
	}
	if err != nil {
		return fmt.Errorf("read applied migrations: %w", err)
	}
	if applied < newest {
		return &SchemaError{Problem: fmt.Sprintf("it ends at migration %d and this syncd needs %d; run syncd migrate up", applied, newest)}
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

	Acquires int64 // connections handed out
	Waits    int64 // of which those that had to be waited for
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
