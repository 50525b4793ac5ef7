package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Backfill is one call of syncd --backfill, or several if the first ones were
// cut short.
type Backfill struct {
	ID        int64
	StartedAt time.Time // by the database's clock
	Resumed   bool      // an earlier call began it
}

// StartBackfill goes on with the last backfill if that was cut short less than
// a day ago, and begins one otherwise.
func (s *Store) StartBackfill(ctx context.Context) (*Backfill, error) {
	const last = `
SELECT
    id,
    started_at,
    finished_at IS NULL AND started_at > now() - $1::interval AND started_at <= now()
  FROM polar.backfills
 ORDER BY id DESC
 LIMIT 1`
	const begin = `
INSERT INTO polar.backfills (started_at)
VALUES (now())
RETURNING id, started_at`
	b := &Backfill{}
	rows, err := s.pool.Query(ctx, last, cursorLifetime)
	if err != nil {
		return nil, fmt.Errorf("look for a backfill that was cut short: %w", err)
	}
	if _, err := pgx.ForEachRow(rows, []any{&b.ID, &b.StartedAt, &b.Resumed}, func() error { return nil }); err != nil {
		return nil, fmt.Errorf("look for a backfill that was cut short: %w", err)
	}
	if b.Resumed {
		return b, nil
	}
	if err := s.pool.QueryRow(ctx, begin).Scan(&b.ID, &b.StartedAt); err != nil {
		return nil, fmt.Errorf("begin backfill: %w", err)
	}
	return b, nil
}

// FinishBackfill says that the backfill came to its end.
func (s *Store) FinishBackfill(ctx context.Context, b *Backfill) error {
	const sql = `
UPDATE polar.backfills
   SET finished_at = now()
 WHERE id = $1
   AND finished_at IS NULL`
	if _, err := s.pool.Exec(ctx, sql, b.ID); err != nil {
		return fmt.Errorf("finish backfill: %w", err)
	}
	return nil
}

// Backfilled reports whether the session's organization has been walked by b:
// a full run that no schedule asked for began and succeeded since it began.
func (s *Session) Backfilled(ctx context.Context, b *Backfill) (bool, error) {
	const sql = `
SELECT EXISTS (
    SELECT
      FROM polar.sync_runs
     WHERE organization_id = $1
       AND kind = 'full'
       AND status = 'succeeded'
       AND slot IS NULL
       AND started_at >= $2
       AND started_at <= now())`
	var done bool
	if err := s.conn.QueryRow(ctx, sql, s.organization, b.StartedAt).Scan(&done); err != nil {
		return false, fmt.Errorf("look for a finished walk: %w", err)
	}
	return done, nil
}
