package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// A Backfill is one call of syncd --backfill, or several if the first ones were
// interrupted.
type Backfill struct {
	ID        int64
	StartedAt time.Time // by the database's clock
}

// StartBackfill resumes the last backfill if it began less than a day ago and was
// interrupted, and begins one otherwise.
func (s *Store) StartBackfill(ctx context.Context) (Backfill, error) {
	const sql = `
WITH begun AS (
    INSERT INTO polar.backfills (started_at)
    SELECT now()
     WHERE NOT EXISTS (
           SELECT
             FROM polar.backfills
            WHERE id = (SELECT max(id) FROM polar.backfills)
              AND finished_at IS NULL
              AND started_at BETWEEN now() - $1::interval AND now())
    RETURNING id, started_at
)
SELECT id, started_at FROM begun
 UNION ALL
SELECT id, started_at FROM polar.backfills
 ORDER BY id DESC
 LIMIT 1`
	list, err := collect(ctx, s.pool, "begin backfill", pgx.RowToStructByPos[Backfill], sql, cursorLifetime)
	if err != nil {
		return Backfill{}, err
	}
	return list[0], nil
}

// FinishBackfill records that the backfill is complete.
func (s *Store) FinishBackfill(ctx context.Context, b Backfill) error {
	const sql = `
UPDATE polar.backfills
   SET finished_at = now()
 WHERE id = $1
   AND finished_at IS NULL`
	return exec(ctx, s.pool, "finish backfill", sql, b.ID)
}

// Backfilled reports whether b has read all of the session's organization: since it
// began, a full run without a slot and with this fingerprint has begun and succeeded.
func (s *Session) Backfilled(ctx context.Context, b Backfill, fingerprint string) (bool, error) {
	const sql = `
SELECT EXISTS (
    SELECT
      FROM polar.sync_runs
     WHERE organization_id = $1
       AND kind = 'full'
       AND status = 'succeeded'
       AND slot IS NULL
       AND fingerprint = $3
       AND started_at >= $2
       AND started_at <= now())`
	return value[bool](ctx, s.conn, "find a finished walk", sql, s.organization, b.StartedAt, fingerprint)
}

// A FullRun is how one organization's full run went.
type FullRun struct {
	RunRecord
	LiveRows int64 // of the organization, now
}

// BackfillRuns returns each organization's newest full run among those that began
// since the last backfill did, by the organizations' labels.
func (s *Store) BackfillRuns(ctx context.Context) ([]FullRun, error) {
	const sql = `
SELECT DISTINCT ON (o.name, o.id)` + runColumns + `,
    s.live_rows
  FROM polar.sync_runs r
  JOIN polar.organizations o ON o.id = r.organization_id
  JOIN polar.sync_status s ON s.organization_id = o.id
 WHERE r.kind = 'full'
   AND r.started_at >= (SELECT b.started_at FROM polar.backfills b ORDER BY b.id DESC LIMIT 1)
 ORDER BY o.name, o.id, r.id DESC`
	return collect(ctx, s.pool, "read full runs", pgx.RowToStructByPos[FullRun], sql)
}
