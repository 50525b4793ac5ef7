package store

import (
	"bytes"
	"context"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// A comparison says how a block differs from what is stored, read in one round
// trip. It only saves work: the statements that write decide again, since another
// writer may commit in between.
type comparison struct {
	comparedAt  time.Time          // by the database's clock, before anything was read
	requestedAt pgtype.Timestamptz // Block.RequestedAt by the same clock, or earlier

	rows         int                    // customer meters of the block, each once
	unchanged    int                    // stored already
	newRows      []*polar.CustomerMeter // not stored, or outside the region
	changedRows  []*polar.CustomerMeter // stored with another state, or marked
	newCustomers []uuid.UUID            // whose rows were not stored, or marked
	missing      []uuid.UUID            // live rows of the region that the block lacks
	older        []uuid.UUID            // which are older than stored, or whose customer or meter is

	customers, meters []nested // that have to be written, in the order of their ids

	stored      map[uuid.UUID]storedRow // of the block's rows; the zero value if nothing is
	olderNested map[uuid.UUID]bool      // customers and meters that are older than stored
}

// storedSQL reads what is compared of a customer meter.
const storedSQL = `
SELECT
    m.id,
    m.customer_id,
    m.meter_id,
    m.credited_units,
    m.created_at,
    m.modified_at,
    coalesce(m.modified_at, m.created_at),
    m.consumed_units::text,
    m.balance::text,
    m.deleted_at IS NULL AND m.out_of_scope_at IS NULL,
    t.archived_at IS NOT NULL,
    m.extra::text
  FROM polar.customer_meters m
  JOIN polar.meters t ON t.id = m.meter_id`

// Customers and meters are compared by digest: most of the bytes of a block are
// their JSON, and most of it is stored already.
const storedNestedSQL = `
SELECT
    c.id,
    c.digest,
    coalesce(c.modified_at, c.created_at)
  FROM polar.customers c
 WHERE c.id = ANY($1::uuid[])
 UNION ALL
SELECT
    t.id,
    t.digest,
    coalesce(t.modified_at, t.created_at)
  FROM polar.meters t
 WHERE t.id = ANY($2::uuid[])`

// A storedRow is what is compared of a stored customer meter.
type storedRow struct {
	id, customerID, meterID pgtype.UUID
	creditedUnits           int64
	createdAt, modifiedAt   pgtype.Timestamptz
	changedAt               pgtype.Timestamptz // either
	consumedUnits, balance  string
	live, archived          bool
	extra                   []byte
}

func (w *Writer) compare(ctx context.Context, b *Block) (*comparison, error) {
	rows := newest(b.CustomerMeters, func(m *polar.CustomerMeter) uuid.UUID { return m.ID }, (*polar.CustomerMeter).ChangedAt)
	c := &comparison{rows: len(rows), stored: make(map[uuid.UUID]storedRow, len(rows)), olderNested: map[uuid.UUID]bool{}}
	if err := w.conn.SendBatch(ctx, w.comparisonBatch(b, rows, c)).Close(); err != nil {
		return nil, err
	}
	for _, m := range rows {
		s := c.stored[m.ID]
		switch {
		case !s.id.Valid:
			c.newRows = append(c.newRows, m)
		case s.equals(m):
			c.unchanged++
		default:
			c.changedRows = append(c.changedRows, m)
		}
		if !s.live {
			c.newCustomers = append(c.newCustomers, m.CustomerID)
		}
		if c.olderNested[m.CustomerID] || c.olderNested[m.MeterID] || s.changedAt.Time.After(m.ChangedAt()) && !b.Force {
			// One customer meter for each older customer or meter is enough.
			delete(c.olderNested, m.CustomerID)
			delete(c.olderNested, m.MeterID)
			c.older = append(c.older, m.ID)
		}
	}
	return c, nil
}

// comparisonBatch reads what c is made of: the time, what is stored of the rows of the
// block and of its region, and what is stored of its customers and meters.
func (w *Writer) comparisonBatch(b *Block, rows []*polar.CustomerMeter, c *comparison) *pgx.Batch {
	batch := &pgx.Batch{}
	batch.Queue(`SELECT clock_timestamp()`).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&c.comparedAt)
		c.requestedAt = b.requestedAt(c.comparedAt)
		return err
	})
	w.queueStored(batch, b, rows, c)
	queueStoredNested(batch, b, rows, c)
	return batch
}

// queueStored reads what is stored of the rows of the block, and which live rows of its
// region it lacks.
func (w *Writer) queueStored(batch *pgx.Batch, b *Block, rows []*polar.CustomerMeter, c *comparison) {
	where, args := `
 WHERE m.id = ANY($1::uuid[])`, []any{column(rows, func(m *polar.CustomerMeter) pgtype.UUID { return id(m.ID) })}
	if b.Region != nil {
		// Pages overlap: rows above the region have been saved with the block before.
		wider := *b.Region
		for _, m := range rows {
			if m.Key().Compare(wider.High) > 0 {
				wider.High = m.Key()
			}
		}
		where, args = wider.where(w.organization)
	}
	unarchived := map[uuid.UUID]bool{} // meters that the block shows unarchived, whatever is stored of them
	for _, m := range rows {
		c.stored[m.ID] = storedRow{}
		unarchived[m.MeterID] = unarchived[m.MeterID] || m.Meter.ArchivedAt.IsZero()
	}
	for _, r := range b.Rejected {
		c.stored[r.ID] = storedRow{}
	}
	batch.Queue(storedSQL+where, args...).Query(func(found pgx.Rows) error {
		var s storedRow
		_, err := pgx.ForEachRow(found, []any{
			&s.id, &s.customerID, &s.meterID, &s.creditedUnits, &s.createdAt, &s.modifiedAt, &s.changedAt,
			&s.consumedUnits, &s.balance, &s.live, &s.archived, &s.extra,
		}, func() error {
			// A region may have any number of rows that the block lacks, such as those of
			// archived meters: only what is missing is kept of them.
			if _, shown := c.stored[s.id.Bytes]; shown {
				c.stored[s.id.Bytes] = s
			} else if s.live && (!s.archived || unarchived[s.meterID.Bytes]) && b.Region.Holds(s.key()) {
				c.missing = append(c.missing, s.id.Bytes)
			}
			s.extra = nil // or the next row would share its memory
			return nil
		})
		return err
	})
}

// queueStoredNested finds which customers and meters of the block have to be written.
func queueStoredNested(batch *pgx.Batch, b *Block, rows []*polar.CustomerMeter, c *comparison) {
	customers := nestedCustomers(column(rows, func(m *polar.CustomerMeter) *polar.Customer { return m.Customer }))
	meters := nestedMeters(column(rows, func(m *polar.CustomerMeter) *polar.Meter { return m.Meter }))
	nestedID := func(n nested) pgtype.UUID { return id(n.id) }
	batch.Queue(storedNestedSQL, column(customers, nestedID), column(meters, nestedID)).Query(func(found pgx.Rows) error {
		states := make(map[uuid.UUID]nested, len(customers)+len(meters))
		var key pgtype.UUID
		var n nested
		_, err := pgx.ForEachRow(found, []any{&key, &n.digest, &n.changedAt}, func() error {
			states[key.Bytes] = nested{digest: bytes.Clone(n.digest), changedAt: n.changedAt}
			return nil
		})
		c.customers, c.meters = c.differing(b, customers, states), c.differing(b, meters, states)
		return err
	})
}

// requestedAt is when the block's oldest request began, by a clock that says now,
// or somewhat earlier: the time to ask that clock counts as time since the
// request. If unknown, it is before everything.
func (b *Block) requestedAt(now time.Time) pgtype.Timestamptz {
	if b.RequestedAt.IsZero() {
		return pgtype.Timestamptz{InfinityModifier: pgtype.NegativeInfinity, Valid: true}
	}
	return pgtype.Timestamptz{Time: now.Add(-time.Since(b.RequestedAt)), Valid: true}
}

func (s *storedRow) key() polar.Key {
	return polar.Key{CreatedAt: s.createdAt.Time, CustomerID: s.customerID.Bytes, MeterID: s.meterID.Bytes}
}

// equals reports whether the stored row is live and has the state of m.
func (s *storedRow) equals(m *polar.CustomerMeter) bool {
	return s.live &&
		s.customerID.Bytes == m.CustomerID &&
		s.meterID.Bytes == m.MeterID &&
		s.creditedUnits == m.CreditedUnits &&
		s.createdAt.Time.Equal(m.CreatedAt) &&
		s.modifiedAt.Time.Equal(m.ModifiedAt) && // the zero time stands for null on both sides
		sameNumber(s.consumedUnits, m.ConsumedUnits) &&
		sameNumber(s.balance, m.Balance) &&
		(s.extra == nil && m.Extra == nil || s.extra != nil && m.Extra != nil && polar.EqualJSON(s.extra, m.Extra))
}

func sameNumber(stored string, d polar.Decimal) bool {
	if stored == d.String() {
		return true
	}
	other, err := polar.ParseDecimal(stored)
	return err == nil && other.Equal(d)
}

// differing returns those of rows that have to be written, given what is stored, and
// notes those that are older.
func (c *comparison) differing(b *Block, rows []nested, stored map[uuid.UUID]nested) (differ []nested) {
	for _, n := range rows {
		s, ok := stored[n.id]
		switch {
		case ok && !b.Rewrite && bytes.Equal(s.digest, n.digest):
		case ok && !b.Force && n.changedAt.Before(s.changedAt):
			c.olderNested[n.id] = true
		default:
			n.stored = ok
			differ = append(differ, n)
		}
	}
	return differ
}
