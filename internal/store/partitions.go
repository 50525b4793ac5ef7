package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// monthsAhead is how many future months have their partition already, so
	// that one missed maintenance after another costs nothing.
	monthsAhead = 2

	partitionPrefix = "customer_meter_history_"
	partitionMonth  = "2006_01" // what follows the prefix: the month, in UTC
)

// ensurePartitions goes by the server's clock, which dates the history's rows.
func (s *Store) ensurePartitions(ctx context.Context) error {
	var month time.Time
	if err := s.pool.QueryRow(ctx, `SELECT date_trunc('month', now())`).Scan(&month); err != nil {
		return err
	}
	for i := range monthsAhead + 1 {
		if err := s.ensurePartition(ctx, month.AddDate(0, i, 0)); err != nil {
			return err
		}
	}
	return nil
}

// ensurePartition makes the partition of one month as a table of its own and
// then attaches it: CREATE TABLE … PARTITION OF would wait for every reader of
// the history, and block all that come after it. The transaction-level lock lets
// one replica work at a time; a crash here leaves nothing.
//
// Data definition takes no parameters; names and bounds are made from a date
// alone.
func (s *Store) ensurePartition(ctx context.Context, month time.Time) error {
	name := partitionPrefix + month.Format(partitionMonth)
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
		const lock = `SELECT pg_advisory_xact_lock($1), set_config('lock_timeout', '10s', true)`
		if _, err := tx.Exec(ctx, lock, partitionLock); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, exists, name).Scan(&there); err != nil || there {
			return err
		}
		table := partitionTable(name)
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
	})
}

// partitionTable is the quoted name of a partition, for data definition.
func partitionTable(name string) string { return pgx.Identifier{Schema, name}.Sanitize() }

// dropExpired drops the months that ended longer ago than history.keep. First it
// carries the last state of each row in them over to the first month that stays,
// so that balances_at still has it for rows that have not changed since. Each
// step can be repeated, and the oldest month goes first, so that what a crash
// leaves still ends with the last states.
func (s *Store) dropExpired(ctx context.Context) error {
	if s.keep <= 0 {
		return nil
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var locked bool
	if err := conn.QueryRow(ctx, `SELECT pg_try_advisory_lock($1)`, dropLock).Scan(&locked); err != nil || !locked {
		return err // another replica is doing it
	}
	defer s.unlockDrop(conn)
	expired, kept, err := expiredPartitions(ctx, conn, s.keep)
	if err != nil || len(expired) == 0 {
		return err
	}
	if err := s.ensurePartition(ctx, kept); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, carrySQL, kept); err != nil {
		return fmt.Errorf("carry last states forward: %w", err)
	}
	for _, p := range expired {
		if err := p.drop(ctx, conn); err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return nil
}

func (s *Store) unlockDrop(conn *pgxpool.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, dropLock); err != nil {
		_ = conn.Conn().Close(ctx) // which releases the lock as well
	}
}

// A partition is one month of the history.
type partition struct {
	Name     string
	Attached bool
	Pending  bool // a concurrent detach was interrupted
}

// expiredPartitions returns the months to drop, oldest first, and the first
// month that stays.
func expiredPartitions(ctx context.Context, conn *pgxpool.Conn, keep time.Duration) (expired []partition, kept time.Time, err error) {
	if err := conn.QueryRow(ctx, `SELECT date_trunc('month', now() - $1::interval)`, keep).Scan(&kept); err != nil {
		return nil, kept, err
	}
	const sql = `
SELECT
    c.relname::text,
    i.inhparent IS NOT NULL,
    coalesce(i.inhdetachpending, false)
  FROM pg_catalog.pg_class c
  LEFT JOIN pg_catalog.pg_inherits i ON i.inhrelid = c.oid
 WHERE c.relnamespace = 'polar'::regnamespace
   AND c.relkind = 'r'
   AND c.relname ~ '^customer_meter_history_[0-9]{4}_[0-9]{2}$'
   AND c.relname < $1
 ORDER BY c.relname`
	expired, err = collect(ctx, conn, "find expired months", pgx.RowToStructByPos[partition], sql, partitionPrefix+kept.Format(partitionMonth))
	return expired, kept, err
}

// drop detaches p without blocking readers, which no transaction may do, and
// removes it.
func (p *partition) drop(ctx context.Context, conn *pgxpool.Conn) error {
	detach := ""
	switch {
	case p.Pending:
		detach = `FINALIZE`
	case p.Attached:
		detach = `CONCURRENTLY`
	}
	table := partitionTable(p.Name)
	if detach != "" {
		if _, err := conn.Exec(ctx, `ALTER TABLE polar.customer_meter_history DETACH PARTITION `+table+` `+detach); err != nil {
			return err
		}
	}
	_, err := conn.Exec(ctx, `DROP TABLE `+table)
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
