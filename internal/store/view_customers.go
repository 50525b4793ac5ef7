package store

import (
	"context"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A ListedCustomer is a customer in a list of many.
type ListedCustomer struct {
	Person
	Organization string // label
	Meters       int64  // customer meters that Polar has
	Overdrawn    int64  // of these, with a balance below zero
	ChangedAt    time.Time
}

// A CustomersQuery says which customers to list. They are ordered by name, else
// e-mail address, else id in the seller's system, else id.
type CustomersQuery struct {
	Organization uuid.UUID // zero: all
	Text         string    // part of the name, e-mail address or external id, or the whole id; "": all
	After        uuid.UUID // only those after this customer; zero: from the start
	Limit        int
}

// Customers lists customers. It reads every customer of the organization, some
// 0.2 s for 250,000 of them, and the meters of those listed.
func (v *View) Customers(ctx context.Context, q CustomersQuery) ([]ListedCustomer, error) {
	const sql = `
SELECT` + personColumns + `,
    o.name,
    s.meters,
    s.overdrawn,
    s.changed_at
  FROM (
      SELECT
          a.id,
          k.label
        FROM polar.customers a
       CROSS JOIN LATERAL (
            SELECT lower(coalesce(nullif(a.name, ''), a.email, a.external_id, a.id::text)) COLLATE "C" AS label
       ) k
       WHERE ($1::uuid IS NULL OR a.organization_id = $1)
         AND ($2::text = ''
              OR a.name ILIKE $2
              OR a.email ILIKE $2
              OR a.external_id ILIKE $2
              OR a.id = $3::uuid)
         AND ($4::uuid IS NULL OR (k.label, a.id) > (
              SELECT
                  lower(coalesce(nullif(b.name, ''), b.email, b.external_id, b.id::text)) COLLATE "C",
                  b.id
                FROM polar.customers b
               WHERE b.id = $4))
       ORDER BY k.label, a.id
       LIMIT $5
  ) l
  JOIN polar.customers c ON c.id = l.id
  JOIN polar.organizations o ON o.id = c.organization_id
 CROSS JOIN LATERAL (
      SELECT
          count(*) AS meters,
          count(*) FILTER (WHERE m.balance < 0) AS overdrawn,
          max(coalesce(m.modified_at, m.created_at)) AS changed_at
        FROM polar.customer_meters m
       WHERE m.customer_id = l.id
         AND m.deleted_at IS NULL
         AND m.out_of_scope_at IS NULL
  ) s
 ORDER BY l.label, l.id`
	whole, _ := uuid.Parse(strings.TrimSpace(q.Text)) // else zero, which no customer has
	return collect(ctx, v.tx, "read customers", pgx.RowToStructByPos[ListedCustomer], sql,
		id(q.Organization), containing(q.Text), id(whole), id(q.After), q.Limit)
}

// containing is the pattern of ILIKE for texts that contain s, "" for all.
func containing(s string) string {
	if s = strings.TrimSpace(cleanText(s)); s == "" {
		return ""
	}
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s) + "%"
}

// CountCustomers returns how many customers an organization has, or with a zero
// id all organizations together.
func (v *View) CountCustomers(ctx context.Context, organization uuid.UUID) (int64, error) {
	const sql = `SELECT count(*) FROM polar.customers c WHERE $1::uuid IS NULL OR c.organization_id = $1`
	return value[int64](ctx, v.tx, "count customers", sql, id(organization))
}

// A Customer is one customer with all of its meters.
type Customer struct {
	Person
	Organization string // label
	Type         string
	BillingName  string
	CreatedAt    time.Time
	DeletedAt    time.Time       // zero if Polar has it
	Meters       []CustomerMeter `db:"-"`
}

// A CustomerMeter is a row of the mirror for people to read.
type CustomerMeter struct {
	ID           uuid.UUID
	MeterID      uuid.UUID
	MeterName    string
	Archived     bool // the meter is
	Consumed     string
	Credited     int64
	Balance      string
	ChangedAt    time.Time // at Polar
	DeletedAt    time.Time // zero if Polar has it
	OutOfScopeAt time.Time // zero if the filter matches it
	UnitsPerDay  string    // consumed of late, by polar.burn_rate; "" if it has no such row
	ZeroAt       time.Time // when the balance reaches zero at that pace; zero if it does not
}

// Customer returns a customer, or false if the mirror has none of that id.
func (v *View) Customer(ctx context.Context, customer uuid.UUID) (*Customer, bool, error) {
	const sql = `
SELECT` + personColumns + `,
    o.name,
    c.type,
    coalesce(c.billing_name, ''),
    c.created_at,
    c.deleted_at
  FROM polar.customers c
  JOIN polar.organizations o ON o.id = c.organization_id
 WHERE c.id = $1`
	list, err := collect(ctx, v.tx, "read customer", pgx.RowToAddrOfStructByPos[Customer], sql, customer)
	if err != nil || len(list) == 0 {
		return nil, false, err
	}
	const meters = `
SELECT
    m.id,
    m.meter_id,
    t.name,
    t.archived_at IS NOT NULL,
    m.consumed_units::text,
    m.credited_units,
    m.balance::text,
    coalesce(m.modified_at, m.created_at),
    m.deleted_at,
    m.out_of_scope_at,
    coalesce(trim_scale(b.units_per_day)::text, ''),
    b.zero_at
  FROM polar.customer_meters m
  JOIN polar.meters t ON t.id = m.meter_id
  LEFT JOIN polar.burn_rate b ON b.customer_meter_id = m.id AND b.customer_id = $1
 WHERE m.customer_id = $1
 ORDER BY m.deleted_at IS NOT NULL, m.out_of_scope_at IS NOT NULL, t.archived_at IS NOT NULL, t.name, m.id`
	list[0].Meters, err = collect(ctx, v.tx, "read customer's meters", pgx.RowToStructByPos[CustomerMeter], meters, customer)
	return list[0], true, err
}

// A BalancePoint is a balance as it was at a moment, as far as it had been seen.
type BalancePoint struct {
	CustomerMeterID uuid.UUID
	At              time.Time
	Balance         string // "" before it was first seen and while Polar had no such row
}

// Balances returns each customer meter's balance at so many moments, evenly
// spread from from to to, both included: a few index look-ups for each, however
// long the history.
func (v *View) Balances(ctx context.Context, customerMeters []uuid.UUID, from, to time.Time, moments int) ([]BalancePoint, error) {
	const sql = `
SELECT
    w.id,
    a.at,
    coalesce(b.balance::text, '')
  FROM unnest($1::uuid[]) AS w (id)
 CROSS JOIN (
      SELECT $2::timestamptz + ($3::timestamptz - $2::timestamptz) * n::double precision / ($4::int - 1) AS at
        FROM generate_series(0, $4::int - 1) AS n
  ) a
  LEFT JOIN LATERAL polar.balances_at(a.at) b ON b.customer_meter_id = w.id
 ORDER BY w.id, a.at`
	return collect(ctx, v.tx, "read balances", pgx.RowToStructByPos[BalancePoint], sql, column(customerMeters, id), from, to, max(moments, 2))
}

// A HistoryRow is a row of the history and how it differs from the one before.
type HistoryRow struct {
	CustomerMeterID uuid.UUID
	ObservedAt      time.Time
	Source          string
	Deleted         bool
	Consumed        string
	Credited        int64
	Balance         string
	ConsumedBy      string // by how much it changed; "" for the first state seen
	CreditedBy      string
	BalanceBy       string
}

// Changes returns what changed on some customer meters before a moment (zero:
// now), the newest first: limit changes, and after them as many as there are customer
// meters, since each may have changed at the moment of the last. States that differ in
// nothing shown here, and those carried over from a month that was dropped, are no
// changes.
func (v *View) Changes(ctx context.Context, customerMeters []uuid.UUID, before time.Time, limit int) ([]HistoryRow, error) {
	const sql = `
SELECT
    (h.state).customer_meter_id,
    (h.state).observed_at,
    (h.state).source,
    (h.state).deleted,
    (h.state).consumed_units::text,
    (h.state).credited_units,
    (h.state).balance::text,
    coalesce(((h.state).consumed_units - (h.before).consumed_units)::text, ''),
    coalesce(((h.state).credited_units::numeric - (h.before).credited_units)::text, ''),
    coalesce(((h.state).balance - (h.before).balance)::text, '')
  FROM unnest($1::uuid[]) AS w (id)
 CROSS JOIN LATERAL (
      SELECT
          c AS state,
          p.state AS before
        FROM polar.customer_meter_history c
        LEFT JOIN LATERAL (
            SELECT s AS state
              FROM polar.customer_meter_history s
             WHERE s.customer_meter_id = c.customer_meter_id
               AND s.observed_at < c.observed_at
             ORDER BY s.observed_at DESC
             LIMIT 1
        ) p ON true
       WHERE c.customer_meter_id = w.id
         AND c.source <> 'carried'
         AND c.observed_at < coalesce($2, 'infinity'::timestamptz)
         AND (c.consumed_units, c.credited_units, c.balance, c.deleted)
             IS DISTINCT FROM ((p.state).consumed_units, (p.state).credited_units, (p.state).balance, (p.state).deleted)
       ORDER BY c.observed_at DESC
       LIMIT $3 + 1
  ) h
 ORDER BY (h.state).observed_at DESC, (h.state).customer_meter_id
 LIMIT $3 + cardinality($1)`
	return collect(ctx, v.tx, "read changes", pgx.RowToStructByPos[HistoryRow], sql, column(customerMeters, id), timestamp(before), limit)
}
