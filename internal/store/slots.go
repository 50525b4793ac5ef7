package store

import (
	"context"
	"fmt"
	"time"
)

// LastSlot returns the newest scheduled time of kind that a run of the
// organization answered or that was noted as skipped; zero if there is none. The
// second result is when the organization was registered, if it is new: zero once
// that is more than an hour ago. Slots of a clock that was more than a minute
// ahead do not count.
func (s *Session) LastSlot(ctx context.Context, kind Kind) (last, registered time.Time, err error) {
	const sql = `
SELECT
    greatest(
        (SELECT max(slot)
           FROM polar.sync_runs
          WHERE organization_id = $1
            AND kind = $2
            AND slot <= now() + interval '1 minute'),
        (SELECT max(last_slot)
           FROM polar.skipped_slots
          WHERE organization_id = $1
            AND kind = $2
            AND last_slot <= now() + interval '1 minute')),
    (SELECT created_at
       FROM polar.organizations
      WHERE id = $1
        AND created_at > now() - interval '1 hour'
        AND created_at <= now())`
	var slot, created *time.Time
	if err := s.conn.QueryRow(ctx, sql, s.organization, string(kind)).Scan(&slot, &created); err != nil {
		return time.Time{}, time.Time{}, fmt.Errorf("look for the last slot: %w", err)
	}
	fill(&last, slot)
	fill(&registered, created)
	return last, registered, nil
}

// A Skip is scheduled times in a row that no run answers.
type Skip struct {
	Kind        Kind
	First, Last time.Time
	Slots       int       // how many, at least one
	Reason      string    // "" to have it found out from the runs of that time
	After       time.Time // the slot before First; zero if there was none
}

// Skip notes scheduled times as skipped and returns why they were. If the one
// before them was skipped for the same given reason they are added to it, and
// the second result is false.
func (s *Session) Skip(ctx context.Context, skip Skip) (reason string, begins bool, err error) {
	const sql = `
WITH reason AS (
    SELECT coalesce(nullif($6, ''), (
        SELECT r.kind || ' run ' || r.id || ' was under way' ||
               CASE WHEN r.started_at <= $3 AND coalesce(r.finished_at, 'infinity') > $4 THEN '' ELSE ' for a part of that time' END
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
               AND l.started_at <= $4
             ORDER BY l.started_at DESC
             LIMIT 1
         ) r
         WHERE coalesce(r.finished_at, 'infinity') > $3
         ORDER BY r.id
         LIMIT 1
    ), 'no syncd came to it: none ran, or all were busy with other organizations') AS text
),
extended AS (
    UPDATE polar.skipped_slots
       SET last_slot = $4,
           slots = slots + $5,
           noted_at = clock_timestamp()
     WHERE organization_id = $1
       AND kind = $2
       AND last_slot = $7
       AND reason = nullif($6, '')
    RETURNING reason
),
noted AS (
    INSERT INTO polar.skipped_slots AS n (
        organization_id,
        kind,
        first_slot,
        last_slot,
        noted_at,
        slots,
        reason
    )
    SELECT
        $1,
        $2,
        $3::timestamptz,
        $4::timestamptz,
        clock_timestamp(),
        $5::bigint,
        text
      FROM reason
     WHERE NOT EXISTS (SELECT FROM extended)
    ON CONFLICT ON CONSTRAINT skipped_slots_pkey DO UPDATE SET
        last_slot = greatest(n.last_slot, excluded.last_slot),
        slots = greatest(n.slots, excluded.slots),
        reason = excluded.reason
    RETURNING reason
)
SELECT
    reason,
    false
  FROM extended
UNION ALL
SELECT
    reason,
    true
  FROM noted`
	err = s.conn.QueryRow(ctx, sql, s.organization, string(skip.Kind), skip.First, skip.Last, skip.Slots, skip.Reason,
		timestamp(skip.After)).Scan(&reason, &begins)
	if err != nil {
		return "", false, fmt.Errorf("note skipped slots: %w", err)
	}
	return reason, begins, nil
}
