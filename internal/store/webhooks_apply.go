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
// each by id. Only a block that copies new rows goes out of that order: of
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
			if _, ok := known[m.MeterID]; !ok {
				effects[i].Unknown = append(effects[i].Unknown, m)
				continue
			}
			row := *m
			row.Extra = known[m.ID].extra
			rows = append(rows, &row)
		}
	}
	rows = newest(rows, func(m *polar.CustomerMeter) uuid.UUID { return m.ID }, (*polar.CustomerMeter).ChangedAt)
	saved := Saved{Counts: Counts{RowsSeen: int64(len(rows))}}
	var b Block // requested at a time that nobody knows: it revives nothing
	batch := &pgx.Batch{}
	c.writer.queueNested(batch, saveCustomersSQL, nestedCustomers(customers), b.requestedAt(time.Now()), &b)
	c.writer.queueCustomerMeters(batch, Webhook, rows, b.requestedAt(time.Now()), &b, &saved)
	if batch.Len() == 0 {
		return Saved{}, effects, nil
	}
	if err := c.writer.conn.SendBatch(ctx, batch).Close(); err != nil {
		return Saved{}, nil, fmt.Errorf("apply webhooks about %d customers: %w", len(customers), err)
	}
	return saved, effects, nil
}

// knownRows are the rows of the mirror that changes are about: customers, meters
// and customer meters, by their ids.
type knownRows map[uuid.UUID]knownRow

type knownRow struct {
	ours      bool      // the claim's organization owns it
	changedAt time.Time // a customer's
	deleted   bool      // a customer is
	extra     []byte    // a customer meter's
}

// foreign reports whether another organization owns one of a change's rows.
func (k knownRows) foreign(change *Change) bool {
	foreign := func(id uuid.UUID) bool {
		row, ok := k[id]
		return ok && !row.ours
	}
	return foreign(change.Customer.ID) || slices.ContainsFunc(change.CustomerMeters, func(m *polar.CustomerMeter) bool {
		return foreign(m.ID) || foreign(m.MeterID)
	})
}

// older reports whether the mirror's customer is older than the change's, or is
// missing although it should be there. Of two states of one time the one with
// deleted_at wins, in whichever order they arrive.
func (k knownRows) older(change *Change) bool {
	known, ok := k[change.Customer.ID]
	if !ok {
		return !change.OnlyKnown
	}
	c := change.Customer.ChangedAt().Compare(known.changedAt)
	return c > 0 || c == 0 && !change.Customer.DeletedAt.IsZero() && !known.deleted
}

// load reads what the mirror has.
func (c *Claim) load(ctx context.Context, changes []*Change) (knownRows, error) {
	const sql = `
SELECT
    c.id,
    c.organization_id = $1,
    coalesce(c.modified_at, c.created_at),
    c.deleted_at IS NOT NULL,
    NULL
  FROM polar.customers c
 WHERE c.id = ANY($2::uuid[])
 UNION ALL
SELECT
    t.id,
    t.organization_id = $1,
    NULL,
    false,
    NULL
  FROM polar.meters t
 WHERE t.id = ANY($3::uuid[])
 UNION ALL
SELECT
    m.id,
    m.organization_id = $1,
    NULL,
    false,
    m.extra::text
  FROM polar.customer_meters m
 WHERE m.id = ANY($4::uuid[])`
	var customers, meters, customerMeters []pgtype.UUID
	for _, change := range changes {
		if change == nil {
			continue
		}
		customers = append(customers, id(change.Customer.ID))
		for _, m := range change.CustomerMeters {
			meters = append(meters, id(m.MeterID))
			customerMeters = append(customerMeters, id(m.ID))
		}
	}
	known := knownRows{}
	_, err := collect(ctx, c.writer.conn, "look up what webhooks are about", func(from pgx.CollectableRow) (id uuid.UUID, err error) {
		var row knownRow
		err = from.Scan(&id, &row.ours, &row.changedAt, &row.deleted, &row.extra)
		known[id] = row
		return id, err
	}, sql, c.writer.organization, customers, meters, customerMeters)
	return known, err
}
