package store

import (
	"context"
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
}

// Usage returns one organization's daily usage, from the day of from until before
// that of to, for the days on which changes were seen. It reads the history of
// these days, not all of it.
func (v *View) Usage(ctx context.Context, organization uuid.UUID, from, to time.Time) ([]DailyUsage, error) {
	const sql = `
SELECT
    u.meter_id,
    u.day,
    sum(u.consumed_units)::text,
    sum(u.credited_units)::text,
    sum(u.resets)::bigint
  FROM polar.usage_daily u
 WHERE u.organization_id = $1
   AND u.day >= $2::date
   AND u.day < $3::date
 GROUP BY u.meter_id, u.day`
	return collect(ctx, v.tx, "read usage", pgx.RowToStructByPos[DailyUsage], sql,
		organization, from.UTC().Format(time.DateOnly), to.UTC().Format(time.DateOnly))
}
