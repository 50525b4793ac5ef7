package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
)

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
// so that balances_at still has it for rows that have not changed since. Each
// step can be repeated, and the oldest month goes first, so that what a crash
// leaves still ends with the last states.
//
// A month that an open transaction has read cannot be dropped; the next maintenance tries
// again.
func (s *Store) dropExpired(ctx context.Context) error {
	if s.keep <= 0 {
		return nil
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer cut(conn) // which releases the lock
	const lock = `SELECT set_config('lock_timeout', '3s', false) IS NOT NULL AND pg_try_advisory_lock($1)`
	locked, err := value[bool](ctx, conn, "try lock", lock, dropLock)
	if err != nil || !locked {
		return err // another replica is doing it
	}
	kept, err := value[time.Time](ctx, conn, "find first month to keep", `SELECT date_trunc('month', now() - $1::interval)`, s.keep)
	if err != nil {
		return err
	}
	// A detached month is what a crash left; a concurrent detach may have been interrupted.
	const sql = `
SELECT
    'polar.' || c.relname,
    CASE
        WHEN i.inhdetachpending THEN 'FINALIZE'
        WHEN i.inhparent IS NOT NULL THEN 'CONCURRENTLY'
        ELSE ''
    END
  FROM pg_catalog.pg_class c
  LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
 WHERE c.relnamespace = 'polar'::regnamespace
   AND c.relkind = 'r'
   AND c.relname ~ '^customer_meter_history_[0-9]{4}_[0-9]{2}$'
   AND c.relname < 'customer_meter_history_' || to_char($1::timestamptz, 'YYYY_MM')
 ORDER BY c.relname`
	type month struct{ Table, Detach string }
	expired, err := collect(ctx, conn, "find expired months", pgx.RowToStructByPos[month], sql, kept)
	if err != nil || len(expired) == 0 {
		return err
	}
	if err := s.ensurePartitions(ctx, kept, kept); err != nil {
		return err
	}
	if err := exec(ctx, conn, "carry last states forward", carrySQL, kept); err != nil {
		return err
	}
	for _, m := range expired {
		if m.Detach != "" { // without blocking readers, which no transaction may do
			err = exec(ctx, conn, "detach "+m.Table, `ALTER TABLE polar.customer_meter_history DETACH PARTITION `+m.Table+` `+m.Detach)
		}
		if err == nil {
			err = exec(ctx, conn, "drop "+m.Table, `DROP TABLE `+m.Table)
		}
		if sqlState(err) == pgerrcode.LockNotAvailable {
			return fmt.Errorf("%w: %w", errStillRead, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// errStillRead means that expired history could not be dropped yet.
var errStillRead = errors.New("an open transaction has read it; this is tried again later")

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
SELECT DISTINCT ON (h.customer_meter_id)
    h.customer_meter_id,
    h.organization_id,
    h.credited_units,
    h.modified_at,
    $1::timestamptz,
    h.deleted,
    h.consumed_units,
    h.balance,
    'carried'
FROM polar.customer_meter_history h
WHERE h.observed_at < $1::timestamptz
ORDER BY h.customer_meter_id, h.observed_at DESC
ON CONFLICT (customer_meter_id, observed_at) DO NOTHING`
