package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"polarmirror/internal/polar"
)

// A DeliveryStatus says what became of a webhook's delivery.
type DeliveryStatus string

// The statuses, as in polar.webhook_events.
const (
	DeliveryPending DeliveryStatus = "pending" // to be applied, or tried again
	DeliveryApplied DeliveryStatus = "applied"
	DeliveryIgnored DeliveryStatus = "ignored" // nothing in it concerns the mirror
	DeliveryFailed  DeliveryStatus = "failed"  // given up
)

// A Delivery is one of Polar's webhooks as it was received: one row of
// polar.webhook_events.
type Delivery struct {
	Organization uuid.UUID // whose endpoint received it
	ID           string    // webhook-id, the same for every repetition
	Type         string    // of the event; "" if it could not be read
	Customer     uuid.UUID // whom the event is about; zero if nobody
	SentAt       time.Time // webhook-timestamp
	Status       DeliveryStatus
	Error        string // why it failed; "" if it did not
	Attempts     int    // to apply it, so far
	Payload      []byte // the body; nil if it is not wanted any more
}

const saveDeliverySQL = `
INSERT INTO polar.webhook_events (
    organization_id,
    customer_id,
    sent_at,
    next_attempt_at,
    webhook_id,
    type,
    status,
    error,
    payload
)
VALUES (
    $1,
    $2,
    $3,
    CASE WHEN $6::text = 'pending' THEN clock_timestamp() END,
    $4,
    $5,
    $6,
    $7,
    $8
)
ON CONFLICT (organization_id, webhook_id) DO NOTHING`

// waitForDiskSQL makes this transaction's commit wait for the disk even where the
// database was told not to wait.
const waitForDiskSQL = `
SELECT set_config('synchronous_commit', 'on', true)
 WHERE current_setting('synchronous_commit') = 'off'`

// SaveDelivery keeps a delivery, and reports false if it was there already. Once
// it returns without error no crash loses the delivery, the server's included:
// it waits for the disk even where the database was told not to.
func (s *Store) SaveDelivery(ctx context.Context, d *Delivery) (fresh bool, err error) {
	batch := &pgx.Batch{}
	batch.Queue(waitForDiskSQL)
	batch.Queue(saveDeliverySQL,
		d.Organization,
		id(d.Customer),
		timestamp(d.SentAt),
		d.ID,
		unlessEmpty(storable(d.Type, maxText)),
		d.Status,
		unlessEmpty(storable(d.Error, maxText)),
		d.Payload,
	).Exec(func(tag pgconn.CommandTag) error {
		fresh = tag.RowsAffected() > 0
		return nil
	})
	if err := s.pool.send(ctx, batch); err != nil {
		return false, fmt.Errorf("save webhook %.64q: %w", d.ID, cured(err))
	}
	return fresh, nil
}

// DueOrganizations returns the organizations that have deliveries to apply now.
func (s *Store) DueOrganizations(ctx context.Context) ([]uuid.UUID, error) {
	const sql = `
SELECT DISTINCT organization_id
  FROM polar.webhook_events
 WHERE status = 'pending'
   AND (next_attempt_at <= clock_timestamp() OR next_attempt_at > clock_timestamp() + $1::interval OR received_at > clock_timestamp())`
	return collect(ctx, s.pool, "look for webhooks to apply", pgx.RowTo[uuid.UUID], sql, MaxDeliveryWait)
}

// MaxDeliveryWait is the longest that a delivery may wait for its next attempt.
// One that would wait longer, or was received later than now, was dated by a
// clock that was ahead: it is due.
const MaxDeliveryWait = time.Hour

// A DeliveryResult is the result of processing one delivery. Pending without an
// error is no attempt.
type DeliveryResult struct {
	Status DeliveryStatus
	Error  string        // why it failed, or has to be tried again
	Wait   time.Duration // before the next attempt, MaxDeliveryWait at most; for DeliveryPending
}

// A Claim is the right to apply deliveries: rows locked in a transaction, which
// other replicas skip until it ends. It lasts as long as the call of
// [Store.ProcessDeliveries] that made it.
type Claim struct {
	Deliveries []Delivery // oldest first, no two of one customer

	writer Writer // whose connection is in the transaction
}

// claimDeliveriesSQL takes the oldest delivery of each customer, so that each of
// a customer's deliveries becomes a change of its own, in their order as far as
// they have arrived. One that another replica holds keeps the later ones of its
// customer waiting.
const claimDeliveriesSQL = `
SELECT
    e.webhook_id,
    coalesce(e.type, ''),
    e.customer_id,
    e.sent_at,
    e.attempts,
    e.payload
FROM polar.webhook_events e
WHERE e.organization_id = $1
  AND e.status = 'pending'
  AND e.webhook_id IN (
      SELECT DISTINCT ON (q.customer_id)
          q.webhook_id
      FROM (
          SELECT
              p.webhook_id,
              p.customer_id,
              p.sent_at,
              p.received_at
          FROM polar.webhook_events p
          WHERE p.organization_id = $1
            AND p.status = 'pending'
            AND (p.next_attempt_at <= clock_timestamp()
                 OR p.next_attempt_at > clock_timestamp() + $3::interval
                 OR p.received_at > clock_timestamp())
          ORDER BY p.sent_at, p.received_at
          LIMIT 1000
      ) q
      ORDER BY q.customer_id, q.sent_at, q.received_at
  )
ORDER BY e.sent_at, e.received_at
LIMIT $2
FOR UPDATE OF e SKIP LOCKED`

// claimSettingsSQL bounds the wait for rows that someone else keeps locked. And it
// lets the claim commit without waiting for the disk: should the server crash,
// what was written is lost together with the results, and is written again.
const claimSettingsSQL = `
SELECT
    set_config('lock_timeout', '5s', true),
    set_config('synchronous_commit', 'off', true)`

// ProcessDeliveries claims up to limit due deliveries, calls process unless there are none, and
// records its results, one for each delivery in their order, all in one
// transaction: a crash at any point leaves the deliveries as they were, to be
// applied again, which changes nothing that was applied already. An error of
// process undoes everything.
func (s *Store) ProcessDeliveries(ctx context.Context, organization uuid.UUID, limit int, process func(*Claim) ([]DeliveryResult, error)) error {
	return s.withConn(ctx, func(conn *pgxpool.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(pgx.Tx) error {
			c := &Claim{writer: Writer{conn: conn, organization: organization}}
			if err := exec(ctx, conn, "bound claim", claimSettingsSQL); err != nil {
				return err
			}
			var err error
			c.Deliveries, err = collect(ctx, conn, "claim webhooks", func(row pgx.CollectableRow) (Delivery, error) {
				d := Delivery{Organization: organization, Status: DeliveryPending}
				err := row.Scan(&d.ID, &d.Type, &d.Customer, &d.SentAt, &d.Attempts, &d.Payload)
				return d, err
			}, claimDeliveriesSQL, organization, limit, MaxDeliveryWait)
			if err != nil || len(c.Deliveries) == 0 {
				return err
			}
			results, err := process(c)
			if err != nil {
				return err
			}
			return recordResults(ctx, conn, c.Deliveries, results)
		})
	})
}

// FailDelivery gives a delivery up, outside of any claim.
func (s *Store) FailDelivery(ctx context.Context, d Delivery, reason string) error {
	return recordResults(ctx, s.pool, []Delivery{d}, []DeliveryResult{{Status: DeliveryFailed, Error: reason}})
}

const recordResultsSQL = `
UPDATE polar.webhook_events e
   SET status = r.status,
       error = CASE WHEN r.status = 'pending' THEN coalesce(r.error, e.error) ELSE r.error END,
       attempts = e.attempts + CASE WHEN r.status = 'pending' AND r.error IS NULL THEN 0 ELSE 1 END,
       applied_at = CASE WHEN r.status = 'applied' THEN clock_timestamp() END,
       next_attempt_at = CASE WHEN r.status = 'pending' THEN clock_timestamp() + r.wait END,
       payload = CASE WHEN r.status IN ('pending', 'failed') THEN e.payload END
  FROM (
      SELECT
          unnest($2::text[]) AS webhook_id,
          unnest($3::text[]) AS status,
          unnest($4::text[]) AS error,
          unnest($5::interval[]) AS wait
  ) r
 WHERE e.organization_id = $1
   AND e.webhook_id = r.webhook_id
   AND e.status = 'pending'`

// recordResults records the results of deliveries, which are in the same order
// and all of one organization.
func recordResults(ctx context.Context, db querier, deliveries []Delivery, results []DeliveryResult) error {
	return exec(ctx, db, "record the results of webhooks", recordResultsSQL,
		deliveries[0].Organization,
		column(deliveries, func(d Delivery) string { return d.ID }),
		column(results, func(r DeliveryResult) string { return string(r.Status) }),
		column(results, func(r DeliveryResult) *string { return unlessEmpty(storable(r.Error, maxText)) }),
		column(results, func(r DeliveryResult) time.Duration { return r.Wait }),
	)
}

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
 WHERE t.id = ANY($2::uuid[])
 UNION ALL
SELECT
    m.id,
    m.organization_id = $1,
    NULL,
    false,
    m.extra::text
  FROM polar.customer_meters m
 WHERE m.id = ANY($2::uuid[])`
	var all []pgtype.UUID
	for _, change := range changes {
		if change == nil {
			continue
		}
		all = append(all, id(change.Customer.ID))
		for _, m := range change.CustomerMeters {
			all = append(all, id(m.MeterID), id(m.ID))
		}
	}
	known := knownRows{}
	_, err := collect(ctx, c.writer.conn, "look up what webhooks are about", func(from pgx.CollectableRow) (id uuid.UUID, err error) {
		var row knownRow
		err = from.Scan(&id, &row.ours, &row.changedAt, &row.deleted, &row.extra)
		known[id] = row
		return id, err
	}, sql, c.writer.organization, all)
	return known, err
}
