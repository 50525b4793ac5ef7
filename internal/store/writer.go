package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"polarmirror/internal/polar"
)

// A Writer can write one organization's rows: a connection and an organization.
// Only the store creates one. A [Session] is a Writer that holds the
// organization's lock. Without the lock a Writer writes only what webhooks bring,
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
	saved, err := w.saveOnce(ctx, run, b)
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
	saved, err = w.saveOnce(ctx, run, &rest)
	saved.Refused = refused
	return saved, err
}

// saveOnce saves b or nothing of it, and once more without COPY if that may help: a
// key exists already; or a webhook and the block wait for each other, as new rows are
// copied before others are updated, whatever their ids; or the tables have row-level
// security that binds even their owner, where Postgres has no COPY (source: PostgreSQL
// documentation, "COPY").
func (w *Writer) saveOnce(ctx context.Context, run *Run, b *Block) (Saved, error) {
	saved, err := w.save(ctx, run, b, copyNewRows)
	switch sqlState(err) {
	case uniqueViolation, deadlock, featureNotSupported:
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
	w.queueCursor(batch, b.Cursor)
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

// Reading calls read with a connection on which the organization is read, without
// its lock.
func (s *Store) Reading(ctx context.Context, organization uuid.UUID, read func(*Writer) error) error {
	return s.withConn(ctx, func(conn *pgxpool.Conn) error {
		return read(&Writer{conn: conn, organization: organization})
	})
}

// Apply writes customer meters that were read without the organization's lock,
// in one transaction. The block has neither region nor cursor and is not forced,
// and it revives nothing, since its answer may be old.
func (s *Store) Apply(ctx context.Context, organization uuid.UUID, b *Block) (Saved, error) {
	b.RequestedAt = time.Time{}
	return s.apply(ctx, organization, Webhook, b)
}

// Refresh is Apply for rows that were read at b.RequestedAt: they revive those that
// were marked deleted before.
func (s *Store) Refresh(ctx context.Context, organization uuid.UUID, b *Block) (Saved, error) {
	return s.apply(ctx, organization, Refresh, b)
}

func (s *Store) apply(ctx context.Context, organization uuid.UUID, kind Kind, b *Block) (saved Saved, err error) {
	err = s.withConn(ctx, func(conn *pgxpool.Conn) (err error) {
		w := &Writer{conn: conn, organization: organization}
		saved, err = w.SaveBlock(ctx, &Run{Kind: kind}, b)
		return err
	})
	return saved, err
}
