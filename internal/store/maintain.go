package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
)

// Maintain makes the partitions of the history ahead of time, drops expired ones,
// and removes expired runs, rejected rows and webhooks. It is cheap when there is
// nothing to do; call it at start and a few times a day.
//
// A history with a default partition is a copy's (docs/scaling.md), whose rows come
// by logical replication: no month needs a partition, and none may be dropped, since
// the states carried forward here would collide with those that the primary sends.
func (s *Store) Maintain(ctx context.Context) error {
	const sql = `
SELECT partdefid <> 0
  FROM pg_catalog.pg_partitioned_table
 WHERE partrelid = 'polar.customer_meter_history'::regclass`
	replicated, err := value[bool](ctx, s.pool, "look at history partitions", sql)
	if err != nil {
		return err
	}
	if !replicated {
		if err := s.ensurePartitions(ctx, time.Time{}, time.Time{}); err != nil {
			return fmt.Errorf("make history partitions: %w", err)
		}
		if err := s.dropExpired(ctx); err != nil {
			return fmt.Errorf("drop history older than history.keep: %w", err)
		}
	}
	// The comments on the tables say how long each of their rows is kept.
	const runs = `
DELETE FROM polar.sync_runs
 WHERE status <> 'running'
   AND (started_at < now() - interval '400 days'
        OR (started_at > now() AND id < (SELECT max(l.id) FROM polar.sync_runs l WHERE l.started_at < now() - interval '400 days'))
        OR (kind = 'incremental'
            AND status = 'succeeded'
            AND rows_inserted + rows_updated + rows_deleted + rows_rejected = 0
            AND started_at < now() - interval '7 days'))`
	// Rows dated by a clock that was ahead are kept as long as if they were new.
	const redateRejected = `
UPDATE polar.rejected_rows
   SET seen_at = now()
 WHERE seen_at > now()`
	const redateWebhooks = `
UPDATE polar.webhook_events
   SET received_at = now()
 WHERE received_at > now()`
	const rejected = `
DELETE FROM polar.rejected_rows
 WHERE seen_at < now() - interval '30 days'`
	const webhooks = `
DELETE FROM polar.webhook_events
 WHERE received_at < now() - interval '30 days'`
	for _, sql := range []string{runs, redateRejected, rejected, redateWebhooks, webhooks} {
		if err := exec(ctx, s.pool, "remove old rows", sql); err != nil {
			return err
		}
	}
	return nil
}

// ensurePartitions makes the partitions of the months from from up to that of to; if
// those are zero, from now on and ahead of time, so that one missed maintenance after
// another costs nothing. Now is by the server's clock, which dates the history's rows.
// Each is made as a table of its own, and then attaches it: CREATE TABLE … PARTITION OF
// would wait for every reader of the history, and block all that come after it. The
// transaction-level lock lets one replica work at a time; a crash here leaves
// nothing.
//
// Data definition takes no parameters; names and bounds are made from a date
// alone.
func (s *Store) ensurePartitions(ctx context.Context, from, to time.Time) error {
	const lock = `SELECT pg_advisory_xact_lock($1), set_config('lock_timeout', '10s', true)`
	const missing = `
SELECT month
  FROM generate_series(date_trunc('month', coalesce($1, now())), coalesce($2, now() + interval '2 months'), interval '1 month') AS m (month)
 WHERE NOT EXISTS (
       SELECT
         FROM pg_catalog.pg_inherits i
         JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'polar.customer_meter_history'::regclass
          AND c.relname = 'customer_meter_history_' || to_char(month, 'YYYY_MM'))`
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if err := exec(ctx, tx, "lock partitions", lock, partitionLock); err != nil {
			return err
		}
		months, err := collect(ctx, tx, "find missing partitions", pgx.RowTo[time.Time], missing, timestamp(from), timestamp(to))
		for _, month := range months {
			table := "polar.customer_meter_history_" + month.Format("2006_01")
			first, next := month.Format(time.DateOnly), month.AddDate(0, 1, 0).Format(time.DateOnly)
			for _, sql := range []string{
				`CREATE TABLE ` + table + ` (LIKE polar.customer_meter_history INCLUDING ALL)`,
				`ALTER TABLE polar.customer_meter_history ATTACH PARTITION ` + table +
					` FOR VALUES FROM ('` + first + ` 00:00:00+00') TO ('` + next + ` 00:00:00+00')`,
				`COMMENT ON TABLE ` + table + ` IS 'Changes of customer meters seen from ` + first + ` until before ` + next + ` (UTC).'`,
			} {
				if err := exec(ctx, tx, table, sql); err != nil {
					return err
				}
			}
		}
		return err
	})
}

// dropExpired drops the months that ended longer ago than history.keep. First it
// carries the last state of each row in them over to the first month that stays,
// so that balances_at still has it for rows that have not changed since. All of it
// happens in one transaction. Where a long query keeps the months from being dropped,
// it is left to the next maintenance: what waits behind it must not wait for long.
func (s *Store) dropExpired(ctx context.Context) error {
	if s.keep <= 0 {
		return nil
	}
	kept, err := value[time.Time](ctx, s.pool, "find first month to keep", `SELECT date_trunc('month', now() - $1::interval)`, s.keep)
	if err != nil {
		return err
	}
	const sql = `
SELECT 'polar.' || relname
  FROM pg_catalog.pg_class
 WHERE relnamespace = 'polar'::regnamespace
   AND relkind = 'r'
   AND relname ~ '^customer_meter_history_[0-9]{4}_[0-9]{2}$'
   AND relname < 'customer_meter_history_' || to_char($1::timestamptz, 'YYYY_MM')`
	expired, err := collect(ctx, s.pool, "find expired months", pgx.RowTo[string], sql, kept)
	if err != nil || len(expired) == 0 {
		return err
	}
	if err := s.ensurePartitions(ctx, kept, kept); err != nil {
		return err
	}
	const lock = `SELECT pg_try_advisory_xact_lock($1) AND set_config('lock_timeout', '2s', true) IS NOT NULL`
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		locked, err := value[bool](ctx, tx, "try lock", lock, dropLock)
		if err != nil || !locked {
			return err // another replica is doing it
		}
		if err := exec(ctx, tx, "carry last states forward", carrySQL, kept); err != nil {
			return err
		}
		return exec(ctx, tx, "drop expired months", `DROP TABLE IF EXISTS `+strings.Join(expired, ", "))
	})
	if sqlState(err) == pgerrcode.LockNotAvailable {
		return nil
	}
	return err
}

const carrySQL = `
INSERT INTO polar.customer_meter_history (
    customer_meter_id,
    organization_id,
    credited_units,
    modified_at,
    observed_at,
    deleted,
    consumed_units,
    balance,
    source
)
SELECT
    l.customer_meter_id,
    l.organization_id,
    l.credited_units,
    l.modified_at,
    $1::timestamptz,
    false,
    l.consumed_units,
    l.balance,
    'carried'
FROM (
    SELECT DISTINCT ON (h.customer_meter_id)
        h.customer_meter_id,
        h.organization_id,
        h.credited_units,
        h.modified_at,
        h.deleted,
        h.consumed_units,
        h.balance
    FROM polar.customer_meter_history h
    WHERE h.observed_at < $1::timestamptz
    ORDER BY h.customer_meter_id, h.observed_at DESC
) l
WHERE NOT l.deleted
ON CONFLICT (customer_meter_id, observed_at) DO NOTHING`
