package store

import (
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// A row of the mirror is listed if Polar shows it in lists, for all that is
// known: it is live, its meter is not archived, and it is no suspect that Polar
// was asked for (see [Session.AnswerSuspects]). Rejected rows are listed too, but are not
// in the mirror.

// CustomerRows are the listed rows of one customer, counted.
type CustomerRows struct {
	ID   uuid.UUID
	Rows int
}

// ListedCustomers returns up to limit customers with ids above after that have
// listed rows, in the order of their ids.
func (w *Writer) ListedCustomers(ctx context.Context, after uuid.UUID, limit int) ([]CustomerRows, error) {
	const sql = `
SELECT
    c.id,
    l.rows
  FROM polar.customers c
  CROSS JOIN LATERAL (
        SELECT count(*) AS rows
          FROM polar.customer_meters m
         WHERE m.customer_id = c.id
           AND m.deleted_at IS NULL
           AND m.out_of_scope_at IS NULL
           AND m.meter_id <> ALL (ARRAY(
               SELECT t.id
                 FROM polar.meters t
                WHERE t.organization_id = $1
                  AND t.archived_at IS NOT NULL))
       ) l
 WHERE c.organization_id = $1
   AND c.id > $2
   AND l.rows > 0
 ORDER BY c.id
 LIMIT $3`
	return collect(ctx, w.conn, "list customers", pgx.RowToStructByPos[CustomerRows], sql, w.organization, after, limit)
}

// RejectedCustomers returns the customers of rejected rows that the mirror does
// not know, up to limit with ids above after, in the order of their ids: none of
// their rows can be mirrored.
func (w *Writer) RejectedCustomers(ctx context.Context, after uuid.UUID, limit int) ([]CustomerRows, error) {
	const sql = `
SELECT
    r.customer_id,
    count(*)
  FROM polar.rejected_rows r
 WHERE r.organization_id = $1
   AND r.customer_id > $2
   AND NOT EXISTS (SELECT FROM polar.customers c WHERE c.id = r.customer_id)
 GROUP BY r.customer_id
 ORDER BY r.customer_id
 LIMIT $3`
	return collect(ctx, w.conn, "list customers", pgx.RowToStructByPos[CustomerRows], sql, w.organization, after, limit)
}

// listedBelowSQL finds the listed rows with keys below $2 to $4, of the meter $5 or,
// if that is null, of all.
const listedBelowSQL = `
  FROM polar.customer_meters m
 WHERE m.organization_id = $1
   AND (m.created_at, m.customer_id, m.meter_id) < ($2::timestamptz, $3::uuid, $4::uuid)
   AND m.deleted_at IS NULL
   AND m.out_of_scope_at IS NULL
   AND ($5::uuid IS NULL OR m.meter_id = $5::uuid)
   AND m.meter_id <> ALL (ARRAY(
       SELECT t.id
         FROM polar.meters t
        WHERE t.organization_id = $1
          AND t.archived_at IS NOT NULL))
   AND (SELECT w.answer
          FROM polar.walk_suspects w
         WHERE w.organization_id = $1
           AND w.customer_meter_id = m.id) IS NULL`

// CountListed counts the listed rows with keys from low up to, and not including,
// high, of one meter or, if that is zero, of all. Of rejected it counts those that no
// listed row of the mirror has.
func (w *Writer) CountListed(ctx context.Context, low, high polar.Key, meter uuid.UUID, rejected []polar.Key) (int, error) {
	const sql = `
SELECT count(*) + (
    SELECT count(*)
      FROM unnest($9::uuid[], $10::uuid[]) AS k (customer_id, meter_id)
     WHERE NOT EXISTS (
           SELECT
             FROM polar.customer_meters m
             JOIN polar.meters t ON t.id = m.meter_id
            WHERE m.customer_id = k.customer_id
              AND m.meter_id = k.meter_id
              AND m.deleted_at IS NULL
              AND m.out_of_scope_at IS NULL
              AND t.archived_at IS NULL))` + listedBelowSQL + `
   AND (m.created_at, m.customer_id, m.meter_id) >= ($6::timestamptz, $7::uuid, $8::uuid)`
	return value[int](ctx, w.conn, "count listed rows", sql, w.organization,
		high.CreatedAt, high.CustomerID, high.MeterID, id(meter), low.CreatedAt, low.CustomerID, low.MeterID,
		column(rejected, func(k polar.Key) pgtype.UUID { return id(k.CustomerID) }),
		column(rejected, func(k polar.Key) pgtype.UUID { return id(k.MeterID) }))
}

// LastListed returns the key of the last listed row below high, of one meter or,
// if that is zero, of all; false if there is none.
func (w *Writer) LastListed(ctx context.Context, high polar.Key, meter uuid.UUID) (polar.Key, bool, error) {
	const sql = `
SELECT
    m.created_at,
    m.customer_id,
    m.meter_id` + listedBelowSQL + `
 ORDER BY m.created_at DESC, m.customer_id DESC, m.meter_id DESC
 LIMIT 1`
	list, err := collect(ctx, w.conn, "find the last listed row", pgx.RowToStructByPos[polar.Key], sql, w.organization,
		high.CreatedAt, high.CustomerID, high.MeterID, id(meter))
	if err != nil || len(list) == 0 {
		return polar.Key{}, false, err
	}
	return list[0], true, nil
}

// MeterStates returns the organization's meters, and whether each is archived.
func (w *Writer) MeterStates(ctx context.Context) (map[uuid.UUID]bool, error) {
	const sql = `
SELECT
    id,
    archived_at IS NOT NULL
  FROM polar.meters
 WHERE organization_id = $1`
	type meter struct {
		ID       uuid.UUID
		Archived bool
	}
	meters, err := collect(ctx, w.conn, "list meters", pgx.RowToStructByPos[meter], sql, w.organization)
	archived := make(map[uuid.UUID]bool, len(meters))
	for _, m := range meters {
		archived[m.ID] = m.Archived
	}
	return archived, err
}

// RejectedKeys returns the places in the list of up to limit rejected rows of
// customers up to, and including, upTo.
func (w *Writer) RejectedKeys(ctx context.Context, upTo uuid.UUID, limit int) ([]polar.Key, error) {
	const sql = `
SELECT
    created_at,
    customer_id,
    meter_id
  FROM polar.rejected_rows
 WHERE organization_id = $1
   AND customer_id <= $2
 LIMIT $3`
	return collect(ctx, w.conn, "list rejected rows", pgx.RowToStructByPos[polar.Key], sql, w.organization, upTo, limit)
}
