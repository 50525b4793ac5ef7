package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// A Change is what one delivery says about one customer.
type Change struct {
	Customer *polar.Customer
	// OnlyKnown keeps a customer that the mirror does not have out of it. It is
	// for changes without customer meters.
	OnlyKnown bool
	// CustomerMeters of that customer. Their Meter is not looked at, and neither
	// is Extra: what is stored of it stays.
	CustomerMeters []*polar.CustomerMeter
}

// An Effect is what [Claim.Apply] did with a Change. What it does not name was
// written, or was not newer than what the mirror has.
type Effect struct {
	// Unknown are customer meters whose meter the mirror does not have.
	Unknown []*polar.CustomerMeter
	// Foreign says that the mirror has the customer or one of the customer meters
	// or meters in another organization: nothing was written.
	Foreign bool
}

// Apply writes changes of different customers in the transaction of the claim.
// It returns the effect of each, in their order; a nil change has none.
//
// Customer meters go through the upsert of [Writer.SaveBlock]: newer wins, and
// a row marked deleted stays so. A customer is written only if it is newer than
// what the mirror has; as old and different means that a delivery came late, or
// that Polar renders it otherwise in webhooks than in lists. Both are locked in
// the order in which SaveBlock locks them, customers before customer meters and
// each by id. Only a block that copies new customers goes out of that order: of
// the two that then wait for one another, Postgres ends one with an error, and it
// begins anew.
func (c *Claim) Apply(ctx context.Context, changes []*Change) (Saved, []Effect, error) {
	known, err := c.load(ctx, changes)
	if err != nil {
		return Saved{}, nil, err
	}
	effects := make([]Effect, len(changes))
	var customers []*polar.Customer
	var rows []*polar.CustomerMeter
	for i, change := range changes {
		if change == nil {
			continue
		}
		if known.foreign(change) {
			effects[i].Foreign = true
			continue
		}
		if known.older(change) {
			customers = append(customers, change.Customer)
		}
		for _, m := range change.CustomerMeters {
			if _, ok := known.meters[m.MeterID]; !ok {
				effects[i].Unknown = append(effects[i].Unknown, m)
				continue
			}
			row := *m
			row.Extra = known.customerMeters[m.ID].extra
			rows = append(rows, &row)
		}
	}
	rows = newest(rows, customerMeterID, (*polar.CustomerMeter).ChangedAt)
	saved := Saved{Counts: Counts{RowsSeen: int64(len(rows))}}
	var b Block // requested at a time that nobody knows: it revives nothing
	batch := &pgx.Batch{}
	c.writer.queueCustomers(batch, nestedCustomers(customers), b.requestedAt(time.Now()), b.Force, b.Rewrite)
	c.writer.queueCustomerMeters(batch, &Run{Kind: Webhook}, rows, b.requestedAt(time.Now()), b.Force, &saved)
	if batch.Len() == 0 {
		return Saved{}, effects, nil
	}
	if err := c.writer.conn.SendBatch(ctx, batch).Close(); err != nil {
		return Saved{}, nil, fmt.Errorf("apply webhooks about %d customers: %w", len(customers), err)
	}
	return saved, effects, nil
}

// knownRows are the rows of the mirror that changes are about.
type knownRows struct {
	customers      map[uuid.UUID]knownCustomer
	customerMeters map[uuid.UUID]knownCustomerMeter
	meters         map[uuid.UUID]bool // true: the claim's organization owns it
}

type knownCustomer struct {
	ours      bool // the claim's organization owns it
	changedAt time.Time
	deleted   bool
}

type knownCustomerMeter struct {
	ours  bool
	extra []byte
}

// foreign reports whether another organization owns one of a change's rows.
func (k *knownRows) foreign(change *Change) bool {
	if c, ok := k.customers[change.Customer.ID]; ok && !c.ours {
		return true
	}
	return slices.ContainsFunc(change.CustomerMeters, func(m *polar.CustomerMeter) bool {
		row, stored := k.customerMeters[m.ID]
		ours, known := k.meters[m.MeterID]
		return stored && !row.ours || known && !ours
	})
}

// older reports whether the mirror's customer is older than the change's, or is
// missing although it should be there. Of two states of one time the one with
// deleted_at wins, in whichever order they arrive.
func (k *knownRows) older(change *Change) bool {
	known, ok := k.customers[change.Customer.ID]
	if !ok {
		return !change.OnlyKnown
	}
	c := change.Customer.ChangedAt().Compare(known.changedAt)
	return c > 0 || c == 0 && !change.Customer.DeletedAt.IsZero() && !known.deleted
}

const findCustomersSQL = `
SELECT
    id,
    organization_id = $2,
    coalesce(modified_at, created_at),
    deleted_at IS NOT NULL
  FROM polar.customers
 WHERE id = ANY($1::uuid[])`

const findMetersSQL = `
SELECT
    id,
    organization_id = $2
  FROM polar.meters
 WHERE id = ANY($1::uuid[])`

const findCustomerMetersSQL = `
SELECT
    id,
    organization_id = $2,
    extra::text
  FROM polar.customer_meters
 WHERE id = ANY($1::uuid[])`

// load reads, in one round trip, what the mirror has.
func (c *Claim) load(ctx context.Context, changes []*Change) (*knownRows, error) {
	var customers, customerMeters, meters []pgtype.UUID
	for _, change := range changes {
		if change == nil {
			continue
		}
		customers = append(customers, id(change.Customer.ID))
		for _, m := range change.CustomerMeters {
			customerMeters = append(customerMeters, id(m.ID))
			meters = append(meters, id(m.MeterID))
		}
	}
	k := &knownRows{
		customers:      map[uuid.UUID]knownCustomer{},
		customerMeters: map[uuid.UUID]knownCustomerMeter{},
		meters:         map[uuid.UUID]bool{},
	}
	batch := &pgx.Batch{}
	batch.Queue(findCustomersSQL, customers, c.writer.organization).Query(func(rows pgx.Rows) error {
		var id uuid.UUID
		var customer knownCustomer
		_, err := pgx.ForEachRow(rows, []any{&id, &customer.ours, &customer.changedAt, &customer.deleted}, func() error {
			k.customers[id] = customer
			return nil
		})
		return err
	})
	batch.Queue(findMetersSQL, meters, c.writer.organization).Query(func(rows pgx.Rows) error {
		var id uuid.UUID
		var ours bool
		_, err := pgx.ForEachRow(rows, []any{&id, &ours}, func() error {
			k.meters[id] = ours
			return nil
		})
		return err
	})
	batch.Queue(findCustomerMetersSQL, customerMeters, c.writer.organization).Query(func(rows pgx.Rows) error {
		var id uuid.UUID
		var row knownCustomerMeter
		_, err := pgx.ForEachRow(rows, []any{&id, &row.ours, &row.extra}, func() error {
			k.customerMeters[id] = row
			return nil
		})
		return err
	})
	if err := c.writer.conn.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("look up what webhooks are about: %w", err)
	}
	return k, nil
}
