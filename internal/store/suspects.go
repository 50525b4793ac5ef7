package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// suspectAge is how long ago a row must have been first seen before it can be
// marked deleted: younger ones wait for the next walk.
const suspectAge = 10 * time.Minute

// suspectSQL makes suspects of live rows.
const suspectSQL = `
INSERT INTO polar.suspects (organization_id, customer_meter_id, meter_id)
SELECT
    m.organization_id,
    m.id,
    m.meter_id
  FROM polar.customer_meters m
  JOIN polar.meters t ON t.id = m.meter_id
 WHERE m.deleted_at IS NULL
   AND m.out_of_scope_at IS NULL`

// saveSuspectsSQL stores the live rows of a region that Polar's list lacked. Rows of
// archived meters are not listed, so they are no suspects.
const saveSuspectsSQL = suspectSQL + `
   AND m.id = ANY($1::uuid[])
   AND t.archived_at IS NULL
ON CONFLICT DO NOTHING`

// A MeterSample is a meter with customer meters that a walk did not find, or
// can't find because the meter is archived.
type MeterSample struct {
	MeterID uuid.UUID
	Count   int         // of suspects
	Samples []uuid.UUID // a few of the customer meters
}

// SuspectMeters groups the walk's suspects by meter.
func (s *Session) SuspectMeters(ctx context.Context) ([]MeterSample, error) {
	const sql = `
SELECT
    meter_id,
    count(*),
    (array_agg(customer_meter_id ORDER BY customer_meter_id))[1:5]
  FROM polar.suspects
 WHERE organization_id = $1
   AND answer IS NULL
 GROUP BY meter_id
 ORDER BY meter_id`
	return collect(ctx, s.conn, "group suspects by meter", pgx.RowToStructByPos[MeterSample], sql, s.organization)
}

// ArchivedMeters returns up to limit of the archived meters, chosen at random so
// that in time each is, with a few of their live rows.
func (s *Session) ArchivedMeters(ctx context.Context, limit int) ([]MeterSample, error) {
	const sql = `
SELECT
    t.id,
    0,
    ARRAY(
        SELECT m.id
          FROM polar.customer_meters m
         WHERE m.organization_id = $1
           AND m.meter_id = t.id
           AND m.deleted_at IS NULL
           AND m.out_of_scope_at IS NULL
         LIMIT 5
    )
  FROM polar.meters t
 WHERE t.organization_id = $1
   AND t.archived_at IS NOT NULL
 ORDER BY random()
 LIMIT $2`
	return collect(ctx, s.conn, "list archived meters", pgx.RowToStructByPos[MeterSample], sql, s.organization, limit)
}

// SuspectRowsOf makes every live row of a meter a suspect.
func (s *Session) SuspectRowsOf(ctx context.Context, meter uuid.UUID) error {
	const sql = suspectSQL + `
   AND m.organization_id = $1
   AND m.meter_id = $2
ON CONFLICT DO NOTHING`
	return exec(ctx, s.conn, "suspect the rows of a meter", sql, s.organization, meter)
}

// A Suspect is a live row that Polar's list lacked.
type Suspect struct {
	ID         uuid.UUID
	CustomerID uuid.UUID
	Young      bool // first seen too recently to be marked deleted; see suspectAge
}

// Suspects returns up to limit suspects that Polar was not asked for yet, those behind
// after: in the order of their customers' ids, and of their own.
func (s *Session) Suspects(ctx context.Context, after Suspect, limit int) ([]Suspect, error) {
	const sql = `
SELECT
    w.customer_meter_id,
    m.customer_id,
    m.first_seen_at BETWEEN now() - $4::interval AND now() -- a time to come is unknown
  FROM polar.suspects w
  JOIN polar.customer_meters m ON m.id = w.customer_meter_id
 WHERE w.organization_id = $1
   AND (m.customer_id, w.customer_meter_id) > ($2::uuid, $3::uuid)
   AND w.answer IS NULL
   AND m.deleted_at IS NULL
 ORDER BY m.customer_id, w.customer_meter_id
 LIMIT $5`
	return collect(ctx, s.conn, "list suspects", pgx.RowToStructByPos[Suspect], sql, s.organization, after.CustomerID, after.ID, suspectAge, limit)
}

// AnswerSuspects notes that Polar was asked for suspects, and which of them it does not
// have; lists do not show the others. They no longer count as listed.
func (s *Session) AnswerSuspects(ctx context.Context, asked, gone []uuid.UUID) error {
	const sql = `
UPDATE polar.suspects
   SET answer = CASE WHEN customer_meter_id = ANY($3::uuid[]) THEN 'gone' ELSE 'unlisted' END
 WHERE organization_id = $1
   AND customer_meter_id = ANY($2::uuid[])`
	return exec(ctx, s.conn, "note answers about suspects", sql, s.organization, column(asked, id), column(gone, id))
}

// DropSuspects clears suspects that a list has shown after all.
func (s *Session) DropSuspects(ctx context.Context, ids []uuid.UUID) error {
	const sql = `
DELETE FROM polar.suspects
 WHERE organization_id = $1
   AND customer_meter_id = ANY($2::uuid[])`
	return exec(ctx, s.conn, "drop suspects", sql, s.organization, column(ids, id))
}

// DropMeterSuspects clears the suspects of one meter: it is archived.
func (s *Session) DropMeterSuspects(ctx context.Context, meter uuid.UUID) error {
	const sql = `
DELETE FROM polar.suspects
 WHERE organization_id = $1
   AND meter_id = $2`
	return exec(ctx, s.conn, "drop a meter's suspects", sql, s.organization, meter)
}

// LiveRows counts the organization's rows that Polar has and the filter matches.
func (s *Session) LiveRows(ctx context.Context) (int, error) {
	const sql = `SELECT live_rows FROM polar.sync_status WHERE organization_id = $1`
	return value[int](ctx, s.conn, "count live rows", sql, s.organization)
}

// MarkDeleted marks customer meters that, by its own word, Polar no longer has,
// adds that to the history and counts them for the run. Rows that are already
// marked stay as they are. It returns the customer of each row that it marked.
func (s *Session) MarkDeleted(ctx context.Context, run *Run, ids []uuid.UUID) (customers []uuid.UUID, err error) {
	const sql = `
WITH written AS (
    UPDATE polar.customer_meters m
       SET deleted_at = clock_timestamp(),
           last_changed_at = greatest(clock_timestamp(), m.last_changed_at + interval '1 microsecond')
      FROM (
          SELECT d.id
            FROM polar.customer_meters d
           WHERE d.id = ANY($3::uuid[])
             AND d.organization_id = $1
             AND d.deleted_at IS NULL
           ORDER BY d.id
             FOR UPDATE
      ) l
     WHERE m.id = l.id` + logSQL + `,
counted AS (
    UPDATE polar.sync_runs r
       SET rows_deleted = r.rows_deleted + (SELECT count(*) FROM written)
     WHERE r.id = $4
)
SELECT customer_id FROM written`
	return collect(ctx, s.conn, fmt.Sprintf("mark %d rows deleted", len(ids)), pgx.RowTo[uuid.UUID],
		sql, s.organization, run.Kind, column(ids, id), run.ID)
}

// A Filter restricts the mirror to some customer meters; empty lists don't. Values of
// one list are alternatives, the lists apply together.
type Filter struct {
	CustomerIDs         []uuid.UUID
	ExternalCustomerIDs []string
	MeterIDs            []uuid.UUID
}

// Empty reports whether f lets everything in.
func (f Filter) Empty() bool {
	return len(f.CustomerIDs)+len(f.ExternalCustomerIDs)+len(f.MeterIDs) == 0
}

// MarkOutOfScope marks the organization's rows that the filter no longer matches as out of
// scope: they are no longer kept current, and their absence means nothing, so
// they are no suspects either. Rows that match again become current when they are
// next seen.
func (s *Session) MarkOutOfScope(ctx context.Context, filter Filter) error {
	const sql = `
WITH marked AS (
    UPDATE polar.customer_meters m
       SET out_of_scope_at = now()
      FROM polar.customers c
     WHERE c.id = m.customer_id
       AND m.organization_id = $1
       AND m.out_of_scope_at IS NULL
       AND NOT (
           (coalesce(cardinality($2::uuid[]), 0) = 0 OR m.customer_id = ANY($2::uuid[]))
           AND (coalesce(cardinality($3::text[]), 0) = 0 OR coalesce(c.external_id = ANY($3::text[]), false))
           AND (coalesce(cardinality($4::uuid[]), 0) = 0 OR m.meter_id = ANY($4::uuid[]))
       )
    RETURNING m.id
)
DELETE FROM polar.suspects w
 USING marked
 WHERE w.organization_id = $1
   AND w.customer_meter_id = marked.id`
	if filter.Empty() {
		return nil
	}
	return exec(ctx, s.conn, "mark rows out of scope", sql, s.organization, ids(filter.CustomerIDs), filter.ExternalCustomerIDs, ids(filter.MeterIDs))
}
