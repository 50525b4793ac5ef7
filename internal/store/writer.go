package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"polarmirror/internal/polar"
)

// A Block is what one transaction saves: pages of a walk or a tick, or single
// customer meters that were asked for. Nobody changes it, or its rows, while it
// is being saved.
type Block struct {
	// CustomerMeters with their nested customers and meters, in any order. If one
	// occurs more than once, the newest is written.
	CustomerMeters []*polar.CustomerMeter
	Rejected       []RejectedRow

	// RequestedAt is when the oldest request of the block began, by this machine's
	// clock; zero if unknown. Only an answer to a request that began after a row
	// was marked deleted revives it.
	RequestedAt time.Time

	// Region, if set, is the part of the list that the block shows completely.
	// Live rows of the mirror in it that the block lacks become suspects.
	Region *Region

	// Cursor, if set, moves with the block; with a later one if rows of this one have to
	// be asked for again, see [Saved].
	Cursor *Cursor

	// Force writes what differs even if it is older: Polar still had it when asked
	// for that very row. What was written after the request began stays.
	Force bool

	// Rewrite writes the nested customers and meters even if their digest is the
	// stored one: the stored columns are not trusted.
	Rewrite bool

	Counts Counts // of the requests and pages behind the block
}

// A Region is a part of the list: a range of keys in the order of the walk, both
// ends included, of all rows or of those of some customers or meters.
type Region struct {
	Low, High    polar.Key
	FromStart    bool        // everything below Low as well
	ToEnd        bool        // everything above High as well
	Customers    []uuid.UUID // nil: of all customers
	Meters       []uuid.UUID // nil: of all meters
	LowestOffset int         // where in the list its lowest page began
}

// Holds reports whether a row with the key lies in the region.
func (r *Region) Holds(key polar.Key) bool {
	return (r.FromStart || key.Compare(r.Low) >= 0) &&
		(r.ToEnd || key.Compare(r.High) <= 0) &&
		(r.Customers == nil || slices.Contains(r.Customers, key.CustomerID)) &&
		(r.Meters == nil || slices.Contains(r.Meters, key.MeterID))
}

// where is the condition that finds at least the rows of the region: those of some
// customers, or a range in the order of the walk, which is that of an index.
func (r *Region) where(organization uuid.UUID) (condition string, args []any) {
	if r.Customers != nil {
		return `
 WHERE m.customer_id = ANY($1::uuid[])`, []any{ids(r.Customers)}
	}
	low, high := timestamp(r.Low.CreatedAt), timestamp(r.High.CreatedAt)
	if r.FromStart {
		low = pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.NegativeInfinity}
	}
	if r.ToEnd {
		high = pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.Infinity}
	}
	return `
 WHERE m.organization_id = $1
   AND (m.created_at, m.customer_id, m.meter_id) >= ($2::timestamptz, $3::uuid, $4::uuid)
   AND (m.created_at, m.customer_id, m.meter_id) <= ($5::timestamptz, $6::uuid, $7::uuid)
   AND ($8::uuid[] IS NULL OR m.meter_id = ANY($8::uuid[]))`,
		[]any{organization, low, r.Low.CustomerID, r.Low.MeterID, high, r.High.CustomerID, r.High.MeterID, ids(r.Meters)}
}

// A RejectedRow is a row that can't be mirrored, with its place.
type RejectedRow struct {
	polar.RejectedRow
	Offset int // of its page in the list
}

// refusedRow describes a row that decoding let through and Postgres did not.
func (b *Block) refusedRow(m *polar.CustomerMeter, err error) RejectedRow {
	offset := 0
	if b.Region != nil {
		offset = b.Region.LowestOffset
	}
	raw := fmt.Appendf(nil, `{"id":%q,"customer":%s,"meter":%s}`, m.ID, m.Customer.Raw, m.Meter.Raw)
	return RejectedRow{
		RejectedRow: polar.RejectedRow{ID: m.ID, Key: m.Key(), HasKey: true, Raw: raw, Reason: "Postgres refuses it: " + err.Error()},
		Offset:      offset,
	}
}

// Saved is what a block did.
type Saved struct {
	Counts Counts
	// Older are customer meters that were listed with an older state than the
	// mirror has, of themselves or of their customer or meter. That state was not
	// written. One may occur more than once.
	Older []uuid.UUID
	// Refused are the rows that Postgres refused. They are stored as rejected.
	Refused []RejectedRow
	// NewCustomers are the customers of the rows that the mirror did not have live
	// before. One may be there more than once.
	NewCustomers []uuid.UUID
	// Changed are the customers of the rows that were written. One may be there more
	// than once.
	Changed []uuid.UUID
}

// A Writer can write one organization's rows: a connection and an organization.
// Only the store creates one. A [Session] is a Writer that holds the
// organization's lock. Without the lock a Writer writes only what webhooks and refresh bring,
// since there newer wins whatever the order of the writes.
type Writer struct {
	conn         *pgxpool.Conn
	organization uuid.UUID
}

// SaveBlock writes the block in one transaction, after one round trip that
// compares it with what is stored. A crash leaves all of it or nothing.
//
// If Postgres refuses a value, the rows that it refuses are found by halving
// the block in transactions that are rolled back. They are rejected, and the
// rest of the block is saved.
func (w *Writer) SaveBlock(ctx context.Context, run *Run, b *Block) (Saved, error) {
	saved, err := w.saveWithFallback(ctx, run, b)
	if !refusesValue(err) || len(b.CustomerMeters) == 0 {
		return saved, err
	}
	accepted, refused, err := w.findRefused(ctx, run, b, b.CustomerMeters)
	if err != nil {
		return Saved{}, err
	}
	rest := *b
	rest.CustomerMeters = accepted
	rest.Rejected = append(refused, b.Rejected...)
	if b.Cursor != nil {
		cursor := *b.Cursor
		cursor.RowsRejected += int64(len(refused))
		rest.Cursor = &cursor
	}
	saved, err = w.saveWithFallback(ctx, run, &rest)
	saved.Refused = refused
	return saved, err
}

// saveWithFallback saves b or nothing of it, and once more without COPY if that may help: a
// key exists already; or a webhook and the block wait for each other, as new rows are
// copied before others are updated, whatever their ids; or the tables have row-level
// security that binds even their owner, where Postgres has no COPY (source: PostgreSQL
// documentation, "COPY").
func (w *Writer) saveWithFallback(ctx context.Context, run *Run, b *Block) (Saved, error) {
	saved, err := w.save(ctx, run, b, copyNewRows)
	switch sqlState(err) {
	case pgerrcode.UniqueViolation, pgerrcode.DeadlockDetected, pgerrcode.FeatureNotSupported:
		saved, err = w.save(ctx, run, b, insertNewRows)
	}
	if err != nil {
		return Saved{}, fmt.Errorf("save block of %d rows: %w", len(b.CustomerMeters), cured(err))
	}
	return saved, nil
}

// findRefused separates the rows that Postgres accepts from those that it refuses.
func (w *Writer) findRefused(ctx context.Context, run *Run, b *Block, rows []*polar.CustomerMeter) (accepted []*polar.CustomerMeter, refused []RejectedRow, err error) {
	_, err = w.save(ctx, run, &Block{CustomerMeters: rows, Force: b.Force, Rewrite: b.Rewrite}, tryRows)
	switch {
	case err == nil:
		return rows, nil, nil
	case !refusesValue(err):
		return nil, nil, fmt.Errorf("find the row that Postgres refuses: %w", err)
	case len(rows) == 1:
		return nil, []RejectedRow{b.refusedRow(rows[0], err)}, nil
	}
	half := len(rows) / 2
	accepted, refused, err = w.findRefused(ctx, run, b, rows[:half])
	if err != nil {
		return nil, nil, err
	}
	more, refusedMore, err := w.findRefused(ctx, run, b, rows[half:])
	return append(accepted[:len(accepted):len(accepted)], more...), append(refused, refusedMore...), err
}

// A saveMode says how save writes new rows, and whether it commits.
type saveMode int

const (
	copyNewRows   saveMode = iota // many new rows go by COPY
	insertNewRows                 // all rows go by one statement
	tryRows                       // as insertNewRows, and the transaction is rolled back
)

// save compares b with what is stored and writes what differs.
//
// The comparison precedes the transaction. The statements that write therefore
// repeat the rule that newer wins, for what another writer commits in between; a
// key that it adds makes COPY fail.
func (w *Writer) save(ctx context.Context, run *Run, b *Block, mode saveMode) (Saved, error) {
	c, err := w.compare(ctx, b)
	if err != nil {
		return Saved{}, fmt.Errorf("compare with what is stored: %w", err)
	}
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return Saved{}, err
	}
	defer rollBack(ctx, tx)
	saved, err := w.write(ctx, tx, run, b, c, mode)
	if err != nil || mode == tryRows {
		return Saved{}, err
	}
	return saved, tx.Commit(ctx)
}

// write writes what differs in the transaction tx.
func (w *Writer) write(ctx context.Context, tx pgx.Tx, run *Run, b *Block, c *comparison, mode saveMode) (Saved, error) {
	saved := Saved{Counts: b.Counts, Older: c.older, NewCustomers: c.newCustomers}
	saved.Counts.RowsRejected += int64(len(b.Rejected))
	saved.Counts.RowsSeen += int64(c.rows + len(b.Rejected))
	saved.Counts.RowsUnchanged += int64(c.unchanged)

	rows := append(c.changedRows, c.newRows...)
	if mode == copyNewRows && b.Region != nil && len(c.newRows) >= minCopiedRows {
		if err := w.copyRows(ctx, tx, run, c, b); err != nil {
			return Saved{}, err
		}
		saved.Counts.RowsInserted += int64(len(c.newRows))
		saved.Changed = column(c.newRows, func(m *polar.CustomerMeter) uuid.UUID { return m.CustomerID })
		rows, c.customers, c.meters = c.changedRows, nil, nil
	}
	if err := tx.SendBatch(ctx, w.writeBatch(run, b, c, rows, &saved)).Close(); err != nil {
		return Saved{}, err
	}
	// Last: the statements before report how many rows they wrote.
	counts := &pgx.Batch{}
	queueCounts(counts, run.ID, saved.Counts)
	return saved, tx.SendBatch(ctx, counts).Close()
}

// writeBatch writes rows and whatever else of b has changed.
func (w *Writer) writeBatch(run *Run, b *Block, c *comparison, rows []*polar.CustomerMeter, saved *Saved) *pgx.Batch {
	batch := &pgx.Batch{}
	w.queueNested(batch, saveCustomersSQL, c.customers, c.requestedAt, b)
	w.queueNested(batch, saveMetersSQL, c.meters, c.requestedAt, b)
	w.queueCustomerMeters(batch, run.Kind, rows, c.requestedAt, b, saved)
	if len(c.missing) > 0 {
		batch.Queue(saveSuspectsSQL, ids(c.missing))
	}
	w.queueRejected(batch, run, b.Rejected)
	if len(c.older) == 0 { // otherwise a run that ended before it asked for these would not ask for them
		w.queueCursor(batch, b.Cursor)
	}
	return batch
}

// rollBack ends a transaction that was not committed, even if ctx has ended:
// otherwise the next statements on the connection would belong to it. Where that
// fails, pgx closes the connection.
func rollBack(ctx context.Context, tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_ = tx.Rollback(ctx) // an error after the commit means only that
}

// WithWriter calls use with a connection that reads and writes the organization without
// its lock.
func (s *Store) WithWriter(ctx context.Context, organization uuid.UUID, use func(*Writer) error) error {
	return s.withConn(ctx, func(conn *pgxpool.Conn) error {
		return use(&Writer{conn: conn, organization: organization})
	})
}

// Apply writes customer meters that were read without the organization's lock, in one
// transaction, as changes of that kind. The block has neither region nor cursor and is
// not forced. Without RequestedAt it revives nothing, since its answer may be old.
func (s *Store) Apply(ctx context.Context, organization uuid.UUID, kind Kind, b *Block) (saved Saved, err error) {
	err = s.WithWriter(ctx, organization, func(w *Writer) (err error) {
		saved, err = w.SaveBlock(ctx, &Run{Kind: kind}, b)
		return err
	})
	return saved, err
}
