package store

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Backfill is one call of syncd --backfill, or several if the first ones were
// interrupted.
type Backfill struct {
	ID        int64
	StartedAt time.Time // by the database's clock
	Resumed   bool      // an earlier call began it
}

// StartBackfill resumes the last backfill if it began less than a day ago and was
// interrupted, and begins one otherwise.
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
	list, err := collect(ctx, s.pool, "look for an unfinished backfill", pgx.RowToAddrOfStructByPos[Backfill], last, cursorLifetime)
	if err != nil {
		return nil, err
	}
	if len(list) == 1 && list[0].Resumed {
		return list[0], nil
	}
	b := &Backfill{}
	if err := s.pool.QueryRow(ctx, begin).Scan(&b.ID, &b.StartedAt); err != nil {
		return nil, fmt.Errorf("begin backfill: %w", err)
	}
	return b, nil
}

// FinishBackfill records that the backfill is complete.
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

// Backfilled reports whether b has read all of the session's organization: since it
// began, a full run without a slot has begun and succeeded, and with walked one that
// walked the whole list.
func (s *Session) Backfilled(ctx context.Context, b *Backfill, walked bool) (bool, error) {
	const sql = `
SELECT EXISTS (
    SELECT
      FROM polar.sync_runs
     WHERE organization_id = $1
       AND kind = 'full'
       AND status = 'succeeded'
       AND slot IS NULL
       AND (NOT $3::boolean OR method = 'walk')
       AND started_at >= $2
       AND started_at <= now())`
	var done bool
	if err := s.conn.QueryRow(ctx, sql, s.organization, b.StartedAt, walked).Scan(&done); err != nil {
		return false, fmt.Errorf("find a finished walk: %w", err)
	}
	return done, nil
}
