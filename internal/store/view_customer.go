package store

import (
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// A Customer is one customer with all of its meters.
type Customer struct {
	Person
	Organization string // label
	Type         string
	BillingName  string
	CreatedAt    time.Time
	ModifiedAt   time.Time // zero if never
	DeletedAt    time.Time // zero if Polar has it
	Meters       []CustomerMeter
}

// A CustomerMeter is a row of the mirror for people to read.
type CustomerMeter struct {
	ID           uuid.UUID
	MeterID      uuid.UUID
	MeterName    string
	Unit         string
	Archived     bool // the meter is
	Consumed     string
	Credited     int64
	Balance      string
	ChangedAt    time.Time // at Polar
	FirstSeenAt  time.Time
	DeletedAt    time.Time // zero if Polar has it
	OutOfScopeAt time.Time // zero if the filter lets it in
}

// Customer returns a customer, or false if the mirror has none of that id.
func (v *View) Customer(ctx context.Context, customer uuid.UUID) (*Customer, bool, error) {
	const sql = `
SELECT
    c.id,
    coalesce(c.name, ''),
    coalesce(c.email, ''),
    coalesce(c.external_id, ''),
    c.deleted_at IS NOT NULL,
    o.name,
    c.type,
    coalesce(c.billing_name, ''),
    c.created_at,
    c.modified_at,
    c.deleted_at
  FROM polar.customers c
  JOIN polar.organizations o ON o.id = c.organization_id
 WHERE c.id = $1`
	list, err := collect(ctx, v, "customer", sql, func(row pgx.CollectableRow) (*Customer, error) {
		c := &Customer{}
		var created, modified, deleted *time.Time
		err := row.Scan(&c.ID, &c.Name, &c.Email, &c.ExternalID, &c.Deleted, &c.Organization, &c.Type, &c.BillingName,
			&created, &modified, &deleted)
		fill(&c.CreatedAt, created)
		fill(&c.ModifiedAt, modified)
		fill(&c.DeletedAt, deleted)
		return c, err
	}, customer)
	if err != nil || len(list) == 0 {
		return nil, false, err
	}
	list[0].Meters, err = v.customerMeters(ctx, customer)
	return list[0], true, err
}

func (v *View) customerMeters(ctx context.Context, customer uuid.UUID) ([]CustomerMeter, error) {
	const sql = `
SELECT
    m.id,
    m.meter_id,
    t.name,
    coalesce(t.unit, ''),
    t.archived_at IS NOT NULL,
    m.consumed_units::text,
    m.credited_units,
    m.balance::text,
    coalesce(m.modified_at, m.created_at),
    m.first_seen_at,
    m.deleted_at,
    m.out_of_scope_at
  FROM polar.customer_meters m
  JOIN polar.meters t ON t.id = m.meter_id
 WHERE m.customer_id = $1
 ORDER BY m.deleted_at IS NOT NULL, m.out_of_scope_at IS NOT NULL, t.archived_at IS NOT NULL, t.name, m.id`
	return collect(ctx, v, "customer's meters", sql, func(row pgx.CollectableRow) (CustomerMeter, error) {
		var m CustomerMeter
		var changed, seen, deleted, scope *time.Time
		err := row.Scan(&m.ID, &m.MeterID, &m.MeterName, &m.Unit, &m.Archived, &m.Consumed, &m.Credited, &m.Balance,
			&changed, &seen, &deleted, &scope)
		fill(&m.ChangedAt, changed)
		fill(&m.FirstSeenAt, seen)
		fill(&m.DeletedAt, deleted)
		fill(&m.OutOfScopeAt, scope)
		return m, err
	}, customer)
}

// A BalancePoint is a balance as it was at a moment, as far as it had been seen.
type BalancePoint struct {
	CustomerMeterID uuid.UUID
	At              time.Time
	Balance         string // "" before the first sight and while Polar had no such row
}

// Balances returns each customer meter's balance at so many moments, evenly
// spread from from to to, both included: as many index look-ups, however long
// the history.
func (v *View) Balances(ctx context.Context, customerMeters []uuid.UUID, from, to time.Time, moments int) ([]BalancePoint, error) {
	const sql = `
SELECT
    w.id,
    a.at,
    coalesce(CASE WHEN NOT b.deleted THEN b.balance END::text, '')
  FROM unnest($1::uuid[]) AS w (id)
 CROSS JOIN (
      SELECT $2::timestamptz + ($3::timestamptz - $2::timestamptz) * n::double precision / ($4::int - 1) AS at
        FROM generate_series(0, $4::int - 1) AS n
  ) a
  LEFT JOIN LATERAL (
      SELECT
          h.deleted,
          h.balance
        FROM polar.customer_meter_history h
       WHERE h.customer_meter_id = w.id
         AND h.observed_at <= a.at
       ORDER BY h.observed_at DESC
       LIMIT 1
  ) b ON true
 ORDER BY w.id, a.at`
	return collect(ctx, v, "balances", sql, func(row pgx.CollectableRow) (BalancePoint, error) {
		var p BalancePoint
		err := row.Scan(&p.CustomerMeterID, &p.At, &p.Balance)
		p.At = p.At.UTC()
		return p, err
	}, column(customerMeters, id), from, to, max(moments, 2))
}

// A BookedChange is a row of the history beside the state before it.
type BookedChange struct {
	CustomerMeterID uuid.UUID
	ObservedAt      time.Time
	ModifiedAt      time.Time // at Polar; zero if never
	Source          string
	Deleted         bool
	Consumed        string
	Credited        int64
	Balance         string
	ConsumedBy      string // by how much it changed; "" for the first state seen
	CreditedBy      string
	BalanceBy       string
}

const changesSQL = `
SELECT
    h.customer_meter_id,
    h.observed_at,
    h.modified_at,
    h.source,
    h.deleted,
    h.consumed_units::text,
    h.credited_units,
    h.balance::text,
    coalesce((h.consumed_units - p.consumed_units)::text, ''),
    coalesce((h.credited_units::numeric - p.credited_units)::text, ''),
    coalesce((h.balance - p.balance)::text, '')
  FROM unnest($1::uuid[]) AS w (id)
 CROSS JOIN LATERAL (
      SELECT
          c.customer_meter_id,
          c.observed_at,
          c.modified_at,
          c.source,
          c.deleted,
          c.consumed_units,
          c.credited_units,
          c.balance
        FROM polar.customer_meter_history c
       WHERE c.customer_meter_id = w.id
         AND c.source <> 'carried'
         AND c.observed_at < coalesce($2, 'infinity'::timestamptz)
       ORDER BY c.observed_at DESC
       LIMIT $3
  ) h
  LEFT JOIN LATERAL (
      SELECT
          s.consumed_units,
          s.credited_units,
          s.balance
        FROM polar.customer_meter_history s
       WHERE s.customer_meter_id = h.customer_meter_id
         AND s.observed_at < h.observed_at
       ORDER BY s.observed_at DESC
       LIMIT 1
  ) p ON true
 ORDER BY h.observed_at DESC, h.customer_meter_id
 LIMIT $3`

// Changes returns what changed on some customer meters before a moment (zero:
// now), the newest first, at most limit. States carried over from a month that
// was dropped are no changes.
func (v *View) Changes(ctx context.Context, customerMeters []uuid.UUID, before time.Time, limit int) ([]BookedChange, error) {
	return collect(ctx, v, "changes", changesSQL, func(row pgx.CollectableRow) (BookedChange, error) {
		var c BookedChange
		var modified *time.Time
		err := row.Scan(&c.CustomerMeterID, &c.ObservedAt, &modified, &c.Source, &c.Deleted, &c.Consumed, &c.Credited, &c.Balance,
			&c.ConsumedBy, &c.CreditedBy, &c.BalanceBy)
		c.ObservedAt = c.ObservedAt.UTC()
		fill(&c.ModifiedAt, modified)
		return c, err
	}, column(customerMeters, id), timestamp(before), limit)
}
