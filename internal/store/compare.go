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
// trip. It only saves work: the statements that write compare again, since another
// writer may commit in between.
type comparison struct {
	comparedAt  time.Time          // by the database's clock, before anything was read
	requestedAt pgtype.Timestamptz // Block.RequestedAt by the same clock, or earlier

	rows        int                    // customer meters of the block, each once
	unchanged   int                    // stored already
	newRows     []*polar.CustomerMeter // not stored, or outside the region
	changedRows []*polar.CustomerMeter // stored with another state, or marked
	missing     []uuid.UUID            // live rows of the region that the block lacks
	older       []uuid.UUID            // whose customer or meter is older than stored

	customers nestedChanges[polar.Customer]
	meters    nestedChanges[polar.Meter]
}

// storedColumns are read of each customer meter.
const storedColumns = `
SELECT
    s.id,
    s.customer_id,
    s.meter_id,
    s.credited_units,
    s.created_at,
    s.modified_at,
    s.consumed_units::text,
    s.balance::text,
    s.deleted_at IS NULL AND s.out_of_scope_at IS NULL,
    t.archived_at IS NOT NULL,
    s.extra::text`

const selectStored = storedColumns + `
FROM polar.customer_meters s
JOIN polar.meters t ON t.id = s.meter_id`

// compareRegionSQL reads what is stored of a region. The order of the walk is
// that of an index, so these rows lie together.
const compareRegionSQL = selectStored + `
WHERE s.organization_id = $1
  AND (s.created_at, s.customer_id, s.meter_id) >= ($2::timestamptz, $3::uuid, $4::uuid)
  AND (s.created_at, s.customer_id, s.meter_id) <= ($5::timestamptz, $6::uuid, $7::uuid)
  AND ($8::uuid[] IS NULL OR s.meter_id = ANY($8::uuid[]))`

// compareCustomersRegionSQL reads what is stored of a region of some customers. It
// finds their rows by the index of customers, whatever the planner believes of the
// table: OFFSET 0 keeps the other conditions from choosing another one.
const compareCustomersRegionSQL = storedColumns + `
FROM unnest($9::uuid[]) AS c (id)
CROSS JOIN LATERAL (
    SELECT
        m.id,
        m.organization_id,
        m.customer_id,
        m.meter_id,
        m.credited_units,
        m.created_at,
        m.modified_at,
        m.deleted_at,
        m.out_of_scope_at,
        m.consumed_units,
        m.balance,
        m.extra
    FROM polar.customer_meters m
    WHERE m.customer_id = c.id
    OFFSET 0
) s
JOIN polar.meters t ON t.id = s.meter_id
WHERE s.organization_id = $1
  AND (s.created_at, s.customer_id, s.meter_id) >= ($2::timestamptz, $3::uuid, $4::uuid)
  AND (s.created_at, s.customer_id, s.meter_id) <= ($5::timestamptz, $6::uuid, $7::uuid)
  AND ($8::uuid[] IS NULL OR s.meter_id = ANY($8::uuid[]))`

const compareRowsSQL = selectStored + `
WHERE s.id = ANY($1::uuid[])`

func (w *Writer) compare(ctx context.Context, b *Block) (*comparison, error) {
	rows := newest(b.CustomerMeters, customerMeterID, (*polar.CustomerMeter).ChangedAt)
	c := &comparison{rows: len(rows)}
	stored := newStoredRows(rows, b.Rejected)
	if err := w.conn.SendBatch(ctx, w.comparisonBatch(b, rows, stored, c)).Close(); err != nil {
		return nil, err
	}
	c.sortRows(rows, stored.byID)
	if b.Region != nil {
		c.missing = stored.missing
	}
	c.findOlder(rows)
	return c, nil
}

// comparisonBatch reads into stored and c what is stored.
func (w *Writer) comparisonBatch(b *Block, rows []*polar.CustomerMeter, stored *storedRows, c *comparison) *pgx.Batch {
	batch := &pgx.Batch{}
	batch.Queue(`SELECT clock_timestamp()`).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&c.comparedAt)
		c.requestedAt = b.requestedAt(c.comparedAt)
		return err
	})
	if r := b.Region; r != nil {
		low, high := r.bounds()
		args := []any{w.organization, low, r.Low.CustomerID, r.Low.MeterID, high, r.High.CustomerID, r.High.MeterID, orNull(r.Meters)}
		sql := compareRegionSQL
		if r.Customers != nil {
			sql, args = compareCustomersRegionSQL, append(args, column(r.Customers, id))
		}
		batch.Queue(sql, args...).Query(stored.add)
	} else if len(rows) > 0 {
		batch.Queue(compareRowsSQL, column(rows, func(m *polar.CustomerMeter) pgtype.UUID { return id(m.ID) })).
			Query(stored.add)
	}
	customers := nestedCustomers(column(rows, func(m *polar.CustomerMeter) *polar.Customer { return m.Customer }))
	meters := nestedMeters(column(rows, func(m *polar.CustomerMeter) *polar.Meter { return m.Meter }))
	queueNestedComparison(batch, compareCustomersSQL, customers, &c.customers, b)
	queueNestedComparison(batch, compareMetersSQL, meters, &c.meters, b)
	return batch
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

// A storedRow is what is compared of a stored customer meter.
type storedRow struct {
	id, customerID, meterID pgtype.UUID
	creditedUnits           int64
	createdAt, modifiedAt   pgtype.Timestamptz
	consumedUnits, balance  string
	live, archived          bool
	extra                   []byte
}

// storedRows are what a comparison keeps of the rows it reads: those of the block,
// and the ids of live ones of unarchived meters that the block lacks. A region may
// have any number of others, such as those of archived meters.
type storedRows struct {
	shown      map[uuid.UUID]bool
	unarchived map[uuid.UUID]bool // meters that the block shows unarchived, whatever is stored of them
	byID       map[uuid.UUID]storedRow
	missing    []uuid.UUID
}

func newStoredRows(rows []*polar.CustomerMeter, rejected []RejectedRow) *storedRows {
	stored := &storedRows{
		shown:      make(map[uuid.UUID]bool, len(rows)+len(rejected)),
		unarchived: map[uuid.UUID]bool{},
		byID:       make(map[uuid.UUID]storedRow, len(rows)),
	}
	for _, m := range rows {
		stored.shown[m.ID] = true
		if m.Meter.ArchivedAt.IsZero() {
			stored.unarchived[m.MeterID] = true
		}
	}
	for _, r := range rejected {
		stored.shown[r.ID] = true
	}
	return stored
}

func (stored *storedRows) add(rows pgx.Rows) error {
	var s storedRow
	_, err := pgx.ForEachRow(rows, []any{
		&s.id, &s.customerID, &s.meterID, &s.creditedUnits, &s.createdAt, &s.modifiedAt,
		&s.consumedUnits, &s.balance, &s.live, &s.archived, &s.extra,
	}, func() error {
		switch {
		case stored.shown[s.id.Bytes]:
			stored.byID[s.id.Bytes] = s
		case s.live && (!s.archived || stored.unarchived[s.meterID.Bytes]):
			stored.missing = append(stored.missing, s.id.Bytes)
		}
		s.extra = nil // or the next row would share its memory
		return nil
	})
	return err
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

func (c *comparison) sortRows(rows []*polar.CustomerMeter, byID map[uuid.UUID]storedRow) {
	for _, m := range rows {
		s, stored := byID[m.ID]
		switch {
		case !stored:
			c.newRows = append(c.newRows, m)
		case s.equals(m):
			c.unchanged++
		default:
			c.changedRows = append(c.changedRows, m)
		}
	}
	sortByID(c.newRows, customerMeterID)
	sortByID(c.changedRows, customerMeterID)
}

// findOlder finds one customer meter for each customer and meter that was listed
// with an older state than is stored. The statement that writes customer meters
// finds older states of those.
func (c *comparison) findOlder(rows []*polar.CustomerMeter) {
	for _, m := range rows {
		if c.customers.older[m.CustomerID] || c.meters.older[m.MeterID] {
			delete(c.customers.older, m.CustomerID)
			delete(c.meters.older, m.MeterID)
			c.older = append(c.older, m.ID)
		}
	}
}

// A nested is a customer or a meter as it is nested in customer meters.
type nested[T any] struct {
	id        uuid.UUID
	digest    []byte // of its JSON
	changedAt time.Time
	value     *T
	stored    bool // the mirror has it, in another state
}

func nestedCustomers(all []*polar.Customer) []nested[polar.Customer] {
	customers := newest(all, customerID, (*polar.Customer).ChangedAt)
	sortByID(customers, customerID)
	return column(customers, func(c *polar.Customer) nested[polar.Customer] {
		return nested[polar.Customer]{id: c.ID, digest: digest(c.Raw), changedAt: c.ChangedAt(), value: c}
	})
}

func nestedMeters(all []*polar.Meter) []nested[polar.Meter] {
	meters := newest(all, meterID, (*polar.Meter).ChangedAt)
	sortByID(meters, meterID)
	return column(meters, func(t *polar.Meter) nested[polar.Meter] {
		return nested[polar.Meter]{id: t.ID, digest: digest(t.Raw), changedAt: t.ChangedAt(), value: t}
	})
}

// nestedChanges are the customers, or the meters, of a block that have to be
// written, in id order, and those that are older than stored.
type nestedChanges[T any] struct {
	wanted []nested[T]
	older  map[uuid.UUID]bool
}

// Customers and meters are compared by digest: most of the bytes of a block are
// their JSON, and most of it is stored already.
const (
	compareCustomersSQL = `
SELECT
    s.id,
    s.digest,
    coalesce(s.modified_at, s.created_at)
FROM polar.customers s
WHERE s.id = ANY($1::uuid[])`
	compareMetersSQL = `
SELECT
    s.id,
    s.digest,
    coalesce(s.modified_at, s.created_at)
FROM polar.meters s
WHERE s.id = ANY($1::uuid[])`
)

func queueNestedComparison[T any](batch *pgx.Batch, sql string, rows []nested[T], changes *nestedChanges[T], b *Block) {
	if len(rows) == 0 {
		return
	}
	ids := column(rows, func(n nested[T]) pgtype.UUID { return id(n.id) })
	batch.Queue(sql, ids).Query(func(stored pgx.Rows) error {
		type state struct {
			digest    []byte
			changedAt time.Time
		}
		found := make(map[uuid.UUID]state, len(rows))
		var key pgtype.UUID
		var s state
		if _, err := pgx.ForEachRow(stored, []any{&key, &s.digest, &s.changedAt}, func() error {
			found[key.Bytes] = state{bytes.Clone(s.digest), s.changedAt}
			return nil
		}); err != nil {
			return err
		}
		changes.older = map[uuid.UUID]bool{}
		for _, n := range rows {
			s, ok := found[n.id]
			switch {
			case ok && !b.Rewrite && bytes.Equal(s.digest, n.digest):
			case ok && !b.Force && n.changedAt.Before(s.changedAt):
				changes.older[n.id] = true
			default:
				n.stored = ok
				changes.wanted = append(changes.wanted, n)
			}
		}
		return nil
	})
}

// splitStored separates those that the mirror lacks from the others.
func splitStored[T any](all []nested[T]) (added, stored []nested[T]) {
	for _, n := range all {
		if n.stored {
			stored = append(stored, n)
		} else {
			added = append(added, n)
		}
	}
	return added, stored
}
