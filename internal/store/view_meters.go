package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A Meter is a meter with the sums over the customer meters that Polar has now.
// Quantities are Postgres's text of a numeric, every digit of it.
type Meter struct {
	ID             uuid.UUID
	OrganizationID uuid.UUID
	Organization   string // label
	Name           string
	Unit           string // scalar, token, custom or what a later Polar sends; "" if unknown
	ArchivedAt     time.Time
	Customers      int64 // its customer meters: one a customer
	Active         int64 // of these, with units consumed
	Overdrawn      int64 // of these, with a balance below zero
	Consumed       string
	Credited       string
}

// Meters returns every meter of every organization: by the organization's name,
// archived ones last, those with many customers first. It reads the whole mirror,
// some 0.4 s for a million rows.
func (v *View) Meters(ctx context.Context) ([]Meter, error) {
	const sql = `
SELECT
    t.id,
    t.organization_id,
    o.name,
    t.name,
    coalesce(t.unit, ''),
    t.archived_at,
    coalesce(s.customers, 0),
    coalesce(s.active, 0),
    coalesce(s.overdrawn, 0),
    coalesce(s.consumed, 0)::text,
    coalesce(s.credited, 0)::text
  FROM polar.meters t
  JOIN polar.organizations o ON o.id = t.organization_id
  LEFT JOIN (
      SELECT
          m.meter_id,
          count(*) AS customers,
          count(*) FILTER (WHERE m.consumed_units > 0) AS active,
          count(*) FILTER (WHERE m.balance < 0) AS overdrawn,
          sum(m.consumed_units) AS consumed,
          sum(m.credited_units) AS credited
        FROM polar.customer_meters m
       WHERE m.deleted_at IS NULL AND m.out_of_scope_at IS NULL
       GROUP BY m.meter_id
  ) s ON s.meter_id = t.id
 ORDER BY o.name, t.organization_id, t.archived_at IS NOT NULL, s.customers DESC NULLS LAST, t.name, t.id`
	return collect(ctx, v.tx, "read meters", pgx.RowToStructByPos[Meter], sql)
}

// A Ranked is a customer in a meter's ranking.
type Ranked struct {
	Person
	Value string // units consumed, or the balance
}

// A Person is what identifies a customer to people; all but the id may be empty.
type Person struct {
	ID         uuid.UUID
	Name       string
	Email      string
	ExternalID string
	Deleted    bool // at Polar
}

// personColumns are those of a [Person].
const personColumns = `
    c.id,
    coalesce(c.name, ''),
    coalesce(c.email, ''),
    coalesce(c.external_id, ''),
    c.deleted_at IS NOT NULL`

// A Ranking is who consumed the most on a meter, and who has the lowest balance.
type Ranking struct{ Largest, Lowest []Ranked }

// Ranking ranks a meter's customers, at most limit each: by consumption, without
// those who consumed nothing; by balance, without those who never consumed nor were
// credited anything.
func (v *View) Ranking(ctx context.Context, meter uuid.UUID, limit int) (r Ranking, err error) {
	// Which of the two is $2: whether they are ranked by consumption.
	const sql = `
SELECT` + personColumns + `,
    CASE WHEN $2::boolean THEN k.consumed_units ELSE k.balance END::text
  FROM (
      SELECT
          m.customer_id,
          m.consumed_units,
          m.balance,
          CASE WHEN $2::boolean THEN -m.consumed_units ELSE m.balance END AS rank
        FROM polar.customer_meters m
       WHERE m.meter_id = $1
         AND m.deleted_at IS NULL
         AND m.out_of_scope_at IS NULL
         AND CASE
             WHEN $2::boolean THEN m.consumed_units > 0
             ELSE m.consumed_units <> 0 OR m.credited_units <> 0 OR m.balance <> 0
         END
       ORDER BY rank, m.id
       LIMIT $3
  ) k
  JOIN polar.customers c ON c.id = k.customer_id
 ORDER BY k.rank, c.id`
	r.Largest, err = collect(ctx, v.tx, "rank consumption", pgx.RowToStructByPos[Ranked], sql, meter, true, limit)
	if err != nil {
		return r, err
	}
	r.Lowest, err = collect(ctx, v.tx, "rank balances", pgx.RowToStructByPos[Ranked], sql, meter, false, limit)
	return r, err
}

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
