package store

import (
	"context"
	"fmt"
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

// An Effect is what became of a Change. What it does not name was written, or
// was not newer than what the mirror has.
type Effect struct {
	// Unknown are customer meters whose meter the mirror does not have.
	Unknown []*polar.CustomerMeter
	// Foreign says that the mirror has the customer or one of the customer meters
	// or meters in another organization: nothing was written.
	Foreign bool
}

// Apply writes changes of different customers in the transaction of the claim,
// and returns what became of each.
//
// Customer meters go through the upsert of [Session.SaveBlock]: newer wins, and
// a row marked deleted stays so. A customer is written only if it is newer than
// what the mirror has; as old and different means that a delivery came late, or
// that Polar renders it otherwise in webhooks than in lists. Both are locked in
// the order in which SaveBlock locks them, customers before customer meters and
// each by id. Only a block that copies new customers goes out of that order: of
// the two that then wait for one another, Postgres ends one with an error, and it
// begins anew.
func (c *Claim) Apply(ctx context.Context, changes []Change) (Counts, []Effect, error) {
	known, err := c.look(ctx, changes)
	if err != nil {
		return Counts{}, nil, err
	}
	var rows []*polar.CustomerMeter
	var customers []*polar.Customer
	effects := make([]Effect, len(changes))
	for i, change := range changes {
		if effects[i] = known.judge(change); effects[i].Foreign {
			continue
		}
		if known.wants(change) {
			customers = append(customers, change.Customer)
		}
		for _, m := range change.CustomerMeters {
			if _, ok := known.meters[m.MeterID]; !ok {
				continue
			}
			row := *m
			row.Extra = known.extra[m.ID]
			rows = append(rows, &row)
		}
	}
	counts, err := c.write(ctx, customers, rows)
	return counts, effects, err
}

// write queues nothing that would be empty.
func (c *Claim) write(ctx context.Context, customers []*polar.Customer, rows []*polar.CustomerMeter) (Counts, error) {
	var saved Saved
	var b Block // requested at a time that nobody knows: it revives nothing
	rows = newest(rows, customerMeterID, (*polar.CustomerMeter).ChangedAt)
	batch := &pgx.Batch{}
	c.writer.queueCustomers(batch, nestedCustomers(customers), b.Force, b.Rewrite)
	c.writer.queueCustomerMeters(batch, &Run{Kind: Webhook}, rows, b.requestedAt(time.Now()), b.Force, &saved)
	if batch.Len() == 0 {
		return Counts{}, nil
	}
	if err := c.writer.conn.SendBatch(ctx, batch).Close(); err != nil {
		return Counts{}, fmt.Errorf("apply webhooks about %d customers: %w", len(customers), err)
	}
	saved.Counts.RowsSeen = int64(len(rows))
	return saved.Counts, nil
}

// A knowledge is what the mirror has of what changes are about.
type knowledge struct {
	organization uuid.UUID
	customers    map[uuid.UUID]knownCustomer
	meters       map[uuid.UUID]bool      // true: of the organization
	rows         map[uuid.UUID]uuid.UUID // the organizations of customer meters
	extra        map[uuid.UUID][]byte    // of customer meters
}

type knownCustomer struct {
	organization uuid.UUID
	changedAt    time.Time
	deleted      bool
}

// judge finds what can't be written of a change.
func (k *knowledge) judge(change Change) Effect {
	var e Effect
	if c, ok := k.customers[change.Customer.ID]; ok && c.organization != k.organization {
		e.Foreign = true
	}
	for _, m := range change.CustomerMeters {
		if owner, ok := k.rows[m.ID]; ok && owner != k.organization {
			e.Foreign = true
		}
		switch ours, ok := k.meters[m.MeterID]; {
		case !ok:
			e.Unknown = append(e.Unknown, m)
		case !ours:
			e.Foreign = true
		}
	}
	return e
}

// wants reports whether the customer of a change is to be written. Of two states
// of one time the one with deleted_at wins, in whichever order they arrive.
func (k *knowledge) wants(change Change) bool {
	stored, ok := k.customers[change.Customer.ID]
	if !ok {
		return !change.OnlyKnown
	}
	c := change.Customer.ChangedAt().Compare(stored.changedAt)
	return c > 0 || c == 0 && !change.Customer.DeletedAt.IsZero() && !stored.deleted
}

const findCustomersSQL = `
SELECT
    id,
    organization_id,
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
    organization_id,
    extra::text
  FROM polar.customer_meters
 WHERE id = ANY($1::uuid[])`

// look reads, in one round trip, what the mirror has.
func (c *Claim) look(ctx context.Context, changes []Change) (*knowledge, error) {
	k := &knowledge{
		organization: c.writer.organization,
		customers:    map[uuid.UUID]knownCustomer{},
		meters:       map[uuid.UUID]bool{},
		rows:         map[uuid.UUID]uuid.UUID{},
		extra:        map[uuid.UUID][]byte{},
	}
	customers, meters, rows := idsOf(changes)
	batch := &pgx.Batch{}
	batch.Queue(findCustomersSQL, customers).Query(k.takeCustomers)
	batch.Queue(findMetersSQL, meters, k.organization).Query(k.takeMeters)
	batch.Queue(findCustomerMetersSQL, rows).Query(k.takeCustomerMeters)
	if err := c.writer.conn.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("look up what webhooks are about: %w", err)
	}
	return k, nil
}

func (k *knowledge) takeCustomers(found pgx.Rows) error {
	var id uuid.UUID
	var c knownCustomer
	_, err := pgx.ForEachRow(found, []any{&id, &c.organization, &c.changedAt, &c.deleted}, func() error {
		k.customers[id] = c
		return nil
	})
	return err
}

func (k *knowledge) takeMeters(found pgx.Rows) error {
	var id uuid.UUID
	var ours bool
	_, err := pgx.ForEachRow(found, []any{&id, &ours}, func() error {
		k.meters[id] = ours
		return nil
	})
	return err
}

func (k *knowledge) takeCustomerMeters(found pgx.Rows) error {
	var id, owner uuid.UUID
	var extra *string
	_, err := pgx.ForEachRow(found, []any{&id, &owner, &extra}, func() error {
		k.rows[id] = owner
		if extra != nil {
			k.extra[id] = []byte(*extra)
		}
		return nil
	})
	return err
}

// idsOf returns the customers, meters and customer meters that changes name.
func idsOf(changes []Change) (customers, meters, rows []pgtype.UUID) {
	seen := map[uuid.UUID]bool{}
	for _, change := range changes {
		customers = append(customers, id(change.Customer.ID))
		for _, m := range change.CustomerMeters {
			rows = append(rows, id(m.ID))
			if !seen[m.MeterID] {
				seen[m.MeterID] = true
				meters = append(meters, id(m.MeterID))
			}
		}
	}
	return customers, meters, rows
}
