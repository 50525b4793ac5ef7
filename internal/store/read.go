package store

import (
	"context"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// A Row is a customer meter as the mirror has it.
type Row struct {
	polar.CustomerMeter
	FirstSeenAt   time.Time
	LastChangedAt time.Time
	DeletedAt     time.Time // zero if Polar has it
	OutOfScopeAt  time.Time // zero if the filter matches it
}

// Live reports whether the mirror keeps the row current.
func (r *Row) Live() bool { return r.DeletedAt.IsZero() && r.OutOfScopeAt.IsZero() }

// Rows returns the rows with the given ids that the mirror has, by id, including
// deleted ones and those out of scope.
func (s *Store) Rows(ctx context.Context, ids []uuid.UUID) (map[uuid.UUID]*Row, error) {
	const sql = `
SELECT
    m.id,
    m.customer_id,
    m.meter_id,
    m.consumed_units::text,
    m.credited_units,
    m.balance::text,
    m.created_at,
    m.modified_at,
    m.extra::text,
    m.first_seen_at,
    m.last_changed_at,
    m.deleted_at,
    m.out_of_scope_at,
    c.organization_id,
    c.external_id,
    c.type,
    c.email,
    c.email_verified,
    c.name,
    c.billing_name,
    c.metadata::text,
    c.created_at,
    c.modified_at,
    c.deleted_at,
    c.raw::text,
    t.organization_id,
    t.name,
    coalesce(t.unit, ''),
    t.aggregation::text,
    t.filter::text,
    t.metadata::text,
    t.created_at,
    t.modified_at,
    t.archived_at,
    t.raw::text
  FROM polar.customer_meters m
  JOIN polar.customers c ON c.id = m.customer_id
  JOIN polar.meters t ON t.id = m.meter_id
 WHERE m.id = ANY($1::uuid[])`
	list, err := collect(ctx, s.pool, "read rows", scanRow, sql, column(ids, id))
	rows := make(map[uuid.UUID]*Row, len(list))
	for i := range list {
		rows[list[i].ID] = &list[i]
	}
	return rows, err
}

// A KnownCustomer is a customer of whom the mirror knows.
type KnownCustomer struct {
	ID         uuid.UUID
	ExternalID string // in the seller's own system; "" if it has none
}

// KnownCustomers returns the organization's customers that have one of the ids, or
// one of the ids in the seller's own system.
func (s *Store) KnownCustomers(ctx context.Context, organization uuid.UUID, ids []uuid.UUID, external []string) ([]KnownCustomer, error) {
	const sql = `
SELECT
    c.id,
    coalesce(c.external_id, '')
  FROM polar.customers c
 WHERE c.organization_id = $1
   AND (c.id = ANY($2::uuid[]) OR c.external_id = ANY($3::text[]))`
	return collect(ctx, s.pool, "look up customers", pgx.RowToStructByPos[KnownCustomer], sql, organization, column(ids, id), external)
}

// RegionRows returns the live rows of a region, by id.
func (s *Store) RegionRows(ctx context.Context, organization uuid.UUID, region Region) (map[uuid.UUID]*Row, error) {
	where, args := region.where(organization)
	found, err := collect(ctx, s.pool, "read region", pgx.RowTo[uuid.UUID], `SELECT m.id FROM polar.customer_meters m`+where, args...)
	if err != nil {
		return nil, err
	}
	rows, err := s.Rows(ctx, found)
	maps.DeleteFunc(rows, func(_ uuid.UUID, r *Row) bool { return !r.Live() || !region.Holds(r.Key()) })
	return rows, err
}

func scanRow(from pgx.CollectableRow) (Row, error) {
	r := Row{CustomerMeter: polar.CustomerMeter{Customer: &polar.Customer{}, Meter: &polar.Meter{}}}
	c, t := r.Customer, r.Meter
	var consumed, balance string
	err := from.Scan(&r.ID, &r.CustomerID, &r.MeterID, &consumed, &r.CreditedUnits, &balance, &r.CreatedAt, &r.ModifiedAt, &r.Extra,
		&r.FirstSeenAt, &r.LastChangedAt, &r.DeletedAt, &r.OutOfScopeAt,
		&c.OrganizationID, &c.ExternalID, &c.Type, &c.Email, &c.EmailVerified, &c.Name, &c.BillingName, &c.Metadata,
		&c.CreatedAt, &c.ModifiedAt, &c.DeletedAt, &c.Raw,
		&t.OrganizationID, &t.Name, &t.Unit, &t.Aggregation, &t.Filter, &t.Metadata, &t.CreatedAt, &t.ModifiedAt, &t.ArchivedAt, &t.Raw)
	if err != nil {
		return r, err
	}
	c.ID, t.ID = r.CustomerID, r.MeterID
	if r.ConsumedUnits, err = polar.ParseDecimal(consumed); err != nil {
		return r, err
	}
	r.Balance, err = polar.ParseDecimal(balance)
	return r, err
}

// A row of the mirror is listed if Polar shows it in lists, for all that is
// known: it is live, its meter is not archived, and it is no suspect that Polar
// was asked for (see [Session.AnswerSuspects]). Rejected rows are listed too, but are not
// in the mirror.

// CustomerRows are the listed rows of one customer, counted.
type CustomerRows struct {
	ID   uuid.UUID
	Rows int
}

// ListedCustomers returns up to limit customers with ids above after, in the order of
// their ids: those that have listed rows, and those of rejected rows that the mirror
// does not know, since none of their rows can be mirrored.
func (w *Writer) ListedCustomers(ctx context.Context, after uuid.UUID, limit int) ([]CustomerRows, error) {
	const sql = `
(SELECT
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
 LIMIT $3)
 UNION ALL
(SELECT
    r.customer_id,
    count(*)
  FROM polar.rejected_rows r
 WHERE r.organization_id = $1
   AND r.customer_id > $2
   AND NOT EXISTS (SELECT FROM polar.customers c WHERE c.id = r.customer_id)
 GROUP BY r.customer_id
 ORDER BY r.customer_id
 LIMIT $3)
 ORDER BY id
 LIMIT $3`
	return collect(ctx, w.conn, "list customers", pgx.RowToStructByPos[CustomerRows], sql, w.organization, after, limit)
}

// listedSQL is whether the row m of the organization $1 is listed.
const listedSQL = `
       m.deleted_at IS NULL
   AND m.out_of_scope_at IS NULL
   AND m.meter_id <> ALL (ARRAY(
       SELECT t.id
         FROM polar.meters t
        WHERE t.organization_id = $1
          AND t.archived_at IS NOT NULL))
   AND (SELECT w.answer
          FROM polar.suspects w
         WHERE w.organization_id = $1
           AND w.customer_meter_id = m.id) IS NULL`

// listedBelowSQL finds the listed rows with keys below $2 to $4, of the meter $5 or,
// if that is null, of all.
const listedBelowSQL = `
  FROM polar.customer_meters m
 WHERE m.organization_id = $1
   AND (m.created_at, m.customer_id, m.meter_id) < ($2::timestamptz, $3::uuid, $4::uuid)
   AND ($5::uuid IS NULL OR m.meter_id = $5::uuid)
   AND ` + listedSQL

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
            WHERE m.customer_id = k.customer_id
              AND m.meter_id = k.meter_id
              AND ` + listedSQL + `))` + listedBelowSQL + `
   AND (m.created_at, m.customer_id, m.meter_id) >= ($6::timestamptz, $7::uuid, $8::uuid)`
	return value[int](ctx, w.conn, "count listed rows", sql, w.organization,
		high.CreatedAt, high.CustomerID, high.MeterID, id(meter), low.CreatedAt, low.CustomerID, low.MeterID,
		column(rejected, func(k polar.Key) pgtype.UUID { return id(k.CustomerID) }),
		column(rejected, func(k polar.Key) pgtype.UUID { return id(k.MeterID) }))
}

// LastListed returns the key of the last listed row below high, of one meter or,
// if that is zero, of all; the zero key if there is none.
func (w *Writer) LastListed(ctx context.Context, high polar.Key, meter uuid.UUID) (polar.Key, error) {
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
		return polar.Key{}, err
	}
	return list[0], nil
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
