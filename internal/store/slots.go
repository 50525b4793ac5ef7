package store

import (
	"context"
	"time"
)

// LastSlot returns the newest scheduled time that a run of the organization and
// kind answered; zero if there is none. Slots of a clock that was more than a
// minute ahead do not count.
func (s *Session) LastSlot(ctx context.Context, kind Kind) (time.Time, error) {
	const sql = `
SELECT max(slot)
  FROM polar.sync_runs
 WHERE organization_id = $1
   AND kind = $2
   AND slot <= now() + interval '1 minute'`
	return value[time.Time](ctx, s.conn, "find the last slot", sql, s.organization, kind)
}

// WhySkipped says why no run answered the scheduled times from first to last:
// another run was under way, or the database knows no reason.
func (s *Session) WhySkipped(ctx context.Context, first, last time.Time) (string, error) {
	const sql = `
SELECT coalesce((
    SELECT r.kind || ' run ' || r.id || ' was under way' ||
           CASE WHEN r.started_at <= $2 AND coalesce(r.finished_at, 'infinity') > $3 THEN '' ELSE ' for a part of that time' END
      FROM unnest(ARRAY['incremental', 'full', 'repair']) AS k (kind)
     CROSS JOIN LATERAL (
        SELECT
            l.kind,
            l.id,
            l.started_at,
            l.finished_at
          FROM polar.sync_runs l
         WHERE l.organization_id = $1
           AND l.kind = k.kind
           AND l.started_at <= $3
         ORDER BY l.started_at DESC
         LIMIT 1
     ) r
     WHERE coalesce(r.finished_at, 'infinity') > $2
     ORDER BY r.id
     LIMIT 1
), 'no syncd was running, or each was busy with other organizations or logged a reason of its own')`
	return value[string](ctx, s.conn, "find the run that kept the schedule from being met", sql, s.organization, first, last)
}
