package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A DailyUsage is what was consumed and credited on one meter on one day: the sum
// of polar.usage_daily over its customer meters.
type DailyUsage struct {
	MeterID  uuid.UUID
	Day      time.Time // midnight UTC
	Consumed string    // text of a numeric
	Credited string
	Resets   int64 // how often consumed units went down
	Changes  int64 // seen
}

// usageSQL is polar.usage_daily for some days of one organization: the view itself
// reads the whole history, whatever days it is asked for. The state before the
// first change in these days is looked up, and only for rows that existed then.
const usageSQL = `
SELECT
    d.meter_id,
    d.day,
    sum(d.consumed)::text,
    sum(d.credited)::text,
    count(*) FILTER (WHERE d.reset),
    count(*)
FROM (
    SELECT
        s.meter_id,
        s.day,
        coalesce(s.consumed_units < s.previous_consumed, false) AS reset,
        CASE
            WHEN s.consumed_units >= s.previous_consumed THEN s.consumed_units - s.previous_consumed
            WHEN s.previous_consumed IS NOT NULL THEN greatest(s.consumed_units, 0)
            WHEN s.born_that_day THEN s.consumed_units
            ELSE 0
        END AS consumed,
        CASE
            WHEN s.consumed_units < s.previous_consumed AND s.credited_units < s.previous_credited THEN s.credited_units::numeric
            WHEN s.previous_credited IS NOT NULL THEN s.credited_units::numeric - s.previous_credited
            WHEN s.born_that_day THEN s.credited_units::numeric
            ELSE 0
        END AS credited
    FROM (
        SELECT
            m.meter_id,
            (h.observed_at AT TIME ZONE 'UTC')::date AS day,
            h.consumed_units,
            h.credited_units,
            h.source,
            CASE WHEN h.first THEN b.consumed_units ELSE h.previous_consumed END AS previous_consumed,
            CASE WHEN h.first THEN b.credited_units ELSE h.previous_credited END AS previous_credited,
            h.source <> 'carried'
                AND (m.created_at AT TIME ZONE 'UTC')::date = (h.observed_at AT TIME ZONE 'UTC')::date AS born_that_day
        FROM (
            SELECT
                c.customer_meter_id,
                c.observed_at,
                c.consumed_units,
                c.credited_units,
                c.source,
                lag(c.consumed_units) OVER w AS previous_consumed,
                lag(c.credited_units) OVER w AS previous_credited,
                row_number() OVER w = 1 AS first
            FROM polar.customer_meter_history c
            WHERE c.organization_id = $1
              AND c.observed_at >= $2
              AND c.observed_at < $3
            WINDOW w AS (PARTITION BY c.customer_meter_id ORDER BY c.observed_at)
        ) h
        JOIN polar.customer_meters m ON m.id = h.customer_meter_id
        LEFT JOIN LATERAL (
            SELECT
                p.consumed_units,
                p.credited_units
            FROM polar.customer_meter_history p
            WHERE h.first
              AND (m.first_seen_at < $2 OR m.first_seen_at > now())
              AND p.customer_meter_id = h.customer_meter_id
              AND p.observed_at < $2
            ORDER BY p.observed_at DESC
            LIMIT 1
        ) b ON true
    ) s
    WHERE s.source <> 'carried'
) d
GROUP BY d.meter_id, d.day
ORDER BY d.meter_id, d.day`

// Usage returns one organization's daily usage, from the day of from until before
// that of to, for the days on which changes were seen. It reads the history of
// these days, not all of it.
func (v *View) Usage(ctx context.Context, organization uuid.UUID, from, to time.Time) ([]DailyUsage, error) {
	return collect(ctx, v.tx, "read usage", pgx.RowToStructByPos[DailyUsage], usageSQL, organization, midnight(from), midnight(to))
}

// HistoryBegan returns when the first change of an organization was seen, zero
// if none was, and the database's clock.
func (v *View) HistoryBegan(ctx context.Context, organization uuid.UUID) (began, now time.Time, err error) {
	const sql = `
SELECT
    (SELECT min(r.started_at)
       FROM polar.sync_runs r
      WHERE r.organization_id = $1 AND r.kind = 'full' AND r.started_at <= now()),
    now()`
	if err := v.tx.QueryRow(ctx, sql, organization).Scan(&began, &now); err != nil {
		return began, now, fmt.Errorf("read when history began: %w", err)
	}
	return began, now, nil
}

func midnight(t time.Time) time.Time { return t.UTC().Truncate(24 * time.Hour) }
