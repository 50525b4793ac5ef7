package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// A row of the mirror is listed if Polar shows it in lists, for all that is
// known: it is live, its meter is not archived, and it is no suspect that Polar
// was asked for (see [SuspectAnswer]). Rejected rows are listed too, but are not
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
	return w.customerRows(ctx, sql, w.organization, after, limit)
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
	return w.customerRows(ctx, sql, w.organization, after, limit)
}

func (w *Writer) customerRows(ctx context.Context, sql string, args ...any) ([]CustomerRows, error) {
	return collect(ctx, w.conn, "list customers", pgx.RowToStructByPos[CustomerRows], sql, args...)
}

// CountListed counts the listed rows with keys from low up to, and not including,
// high, of one meter or, if that is zero, of all.
func (w *Writer) CountListed(ctx context.Context, low, high polar.Key, meter uuid.UUID) (int, error) {
	const sql = `
SELECT
    (SELECT count(*)
       FROM polar.customer_meters m
      WHERE m.organization_id = $1
        AND (m.created_at, m.customer_id, m.meter_id) >= ($2::timestamptz, $3::uuid, $4::uuid)
        AND (m.created_at, m.customer_id, m.meter_id) < ($5::timestamptz, $6::uuid, $7::uuid)
        AND m.deleted_at IS NULL
        AND m.out_of_scope_at IS NULL
        AND ($8::uuid IS NULL OR m.meter_id = $8::uuid)
        AND m.meter_id <> ALL (ARRAY(
            SELECT t.id
              FROM polar.meters t
             WHERE t.organization_id = $1
               AND t.archived_at IS NOT NULL)))
    -
    (SELECT count(*)
       FROM polar.walk_suspects w
      WHERE w.organization_id = $1
        AND w.answer IS NOT NULL
        AND (SELECT t.archived_at IS NULL
               FROM polar.customer_meters m
               JOIN polar.meters t ON t.id = m.meter_id
              WHERE m.id = w.customer_meter_id
                AND (m.created_at, m.customer_id, m.meter_id) >= ($2::timestamptz, $3::uuid, $4::uuid)
                AND (m.created_at, m.customer_id, m.meter_id) < ($5::timestamptz, $6::uuid, $7::uuid)
                AND m.deleted_at IS NULL
                AND m.out_of_scope_at IS NULL
                AND ($8::uuid IS NULL OR m.meter_id = $8::uuid)))`
	var n int
	err := w.conn.QueryRow(ctx, sql, w.organization, low.CreatedAt, low.CustomerID, low.MeterID,
		high.CreatedAt, high.CustomerID, high.MeterID, id(meter)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count listed rows: %w", err)
	}
	return n, nil
}

// LastListed returns the key of the last listed row below high, of one meter or,
// if that is zero, of all; false if there is none.
func (w *Writer) LastListed(ctx context.Context, high polar.Key, meter uuid.UUID) (polar.Key, bool, error) {
	const sql = `
SELECT
    m.created_at,
    m.customer_id,
    m.meter_id
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
           AND w.customer_meter_id = m.id) IS NULL
 ORDER BY m.created_at DESC, m.customer_id DESC, m.meter_id DESC
 LIMIT 1`
	var key polar.Key
	err := w.conn.QueryRow(ctx, sql, w.organization, high.CreatedAt, high.CustomerID, high.MeterID, id(meter)).
		Scan(&key.CreatedAt, &key.CustomerID, &key.MeterID)
	if errors.Is(err, pgx.ErrNoRows) {
		return polar.Key{}, false, nil
	}
	if err != nil {
		return polar.Key{}, false, fmt.Errorf("find the last listed row: %w", err)
	}
	key.CreatedAt = key.CreatedAt.UTC()
	return key, true, nil
}

// NotMirrored returns those of keys that no listed row of the mirror has.
func (w *Writer) NotMirrored(ctx context.Context, keys []polar.Key) ([]polar.Key, error) {
	const sql = `
SELECT k.n
  FROM unnest($1::uuid[], $2::uuid[]) WITH ORDINALITY AS k (customer_id, meter_id, n)
 WHERE NOT EXISTS (
       SELECT
         FROM polar.customer_meters m
         JOIN polar.meters t ON t.id = m.meter_id
        WHERE m.customer_id = k.customer_id
          AND m.meter_id = k.meter_id
          AND m.deleted_at IS NULL
          AND m.out_of_scope_at IS NULL
          AND t.archived_at IS NULL)`
	places, err := collect(ctx, w.conn, "look up rejected rows", pgx.RowTo[int], sql,
		column(keys, func(k polar.Key) pgtype.UUID { return id(k.CustomerID) }),
		column(keys, func(k polar.Key) pgtype.UUID { return id(k.MeterID) }))
	return column(places, func(n int) polar.Key { return keys[n-1] }), err
}

// MeterStates returns the organization's meters, and whether each is archived.
func (w *Writer) MeterStates(ctx context.Context) (map[uuid.UUID]bool, error) {
	const sql = `
SELECT
    id,
    archived_at IS NOT NULL
  FROM polar.meters
 WHERE organization_id = $1`
	rows, err := w.conn.Query(ctx, sql, w.organization)
	if err != nil {
		return nil, fmt.Errorf("list meters: %w", err)
	}
	archived := map[uuid.UUID]bool{}
	var meter uuid.UUID
	var isArchived bool
	_, err = pgx.ForEachRow(rows, []any{&meter, &isArchived}, func() error {
		archived[meter] = isArchived
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list meters: %w", err)
	}
	return archived, nil
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
