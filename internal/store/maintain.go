package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// monthsAhead is how many future months have their partition already, so that
// one missed maintenance after another costs nothing.
const monthsAhead = 2

// Maintain makes the partitions of the history ahead of time and forgets runs
// and rejected rows whose time is over. It is cheap when there is nothing to
// do; call it at start and a few times a day.
func (s *Store) Maintain(ctx context.Context) error {
	if err := s.ensurePartitions(ctx); err != nil {
		return fmt.Errorf("make history partitions: %w", err)
	}
	if err := s.forget(ctx); err != nil {
		return fmt.Errorf("forget old runs: %w", err)
	}
	return nil
}

// ensurePartitions works by the server's clock, which dates the history's rows.
func (s *Store) ensurePartitions(ctx context.Context) error {
	var now time.Time
	if err := s.pool.QueryRow(ctx, `SELECT now()`).Scan(&now); err != nil {
		return err
	}
	first := time.Date(now.UTC().Year(), now.UTC().Month(), 1, 0, 0, 0, 0, time.UTC)
	for i := range monthsAhead + 1 {
		if err := s.ensurePartition(ctx, first.AddDate(0, i, 0)); err != nil {
			return err
		}
	}
	return nil
}

// ensurePartition makes the partition of one month as a table of its own and
// then attaches it: CREATE TABLE … PARTITION OF would wait for every reader of
// the history, and hold up all who come after it. The transaction-level lock
// lets one replica work at a time; a crash here leaves nothing.
func (s *Store) ensurePartition(ctx context.Context, month time.Time) error {
	name := "customer_meter_history_" + month.Format("2006_01")
	const exists = `
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_inherits i
      JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
     WHERE i.inhparent = 'polar.customer_meter_history'::regclass
       AND c.relname = $1)`
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var there bool
		if err := tx.QueryRow(ctx, exists, name).Scan(&there); err != nil || there {
			return err
		}
		const guard = `SELECT pg_advisory_xact_lock($1), set_config('lock_timeout', '10s', true)`
		if _, err := tx.Exec(ctx, guard, partitionLock); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, exists, name).Scan(&there); err != nil || there {
			return err
		}
		return createPartition(ctx, tx, name, month)
	})
}

// createPartition runs data definition, which takes no parameters; name and
// bounds are made from a date alone.
func createPartition(ctx context.Context, tx pgx.Tx, name string, month time.Time) error {
	table := pgx.Identifier{Schema, name}.Sanitize()
	from, to := month.Format(time.DateOnly), month.AddDate(0, 1, 0).Format(time.DateOnly)
	for _, sql := range []string{
		`CREATE TABLE ` + table + ` (LIKE polar.customer_meter_history INCLUDING ALL)`,
		`ALTER TABLE polar.customer_meter_history ATTACH PARTITION ` + table +
			` FOR VALUES FROM ('` + from + ` 00:00:00+00') TO ('` + to + ` 00:00:00+00')`,
		`COMMENT ON TABLE ` + table + ` IS 'Changes of customer meters seen from ` + from + ` until before ` + to + ` (UTC).'`,
	} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return fmt.Errorf("partition %s: %w", name, err)
		}
	}
	return nil
}

// forget removes book-keeping whose time is over; see the comments on
// polar.sync_runs and polar.rejected_rows for the times.
func (s *Store) forget(ctx context.Context) error {
	const runs = `
DELETE FROM polar.sync_runs
 WHERE status <> 'running'
   AND (started_at < now() - interval '400 days'
        OR (kind = 'incremental'
            AND status = 'succeeded'
            AND rows_inserted + rows_updated + rows_deleted + rows_rejected = 0
            AND started_at < now() - interval '7 days'))`
	const rejected = `
DELETE FROM polar.rejected_rows
 WHERE seen_at < now() - interval '30 days'`
	_, runsErr := s.pool.Exec(ctx, runs)
	_, rejectedErr := s.pool.Exec(ctx, rejected)
	return errors.Join(runsErr, rejectedErr)
}
