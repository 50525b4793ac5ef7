package store

import (
	"context"
	"maps"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

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
