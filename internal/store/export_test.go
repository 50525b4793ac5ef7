package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// BlockStatements returns the statements that save b, those that compare (and
// are run by this call) before those of the transaction.
func (s *Session) BlockStatements(ctx context.Context, run *Run, b *Block) ([]*pgx.QueuedQuery, error) {
	rows := newest(b.CustomerMeters, customerMeterID, (*polar.CustomerMeter).ChangedAt)
	b = &Block{CustomerMeters: rows, Stretch: b.Stretch, Cursor: b.Cursor, Age: b.Age}
	customers, meters := customersKind().in(rows), metersKind().in(rows)
	saved := Saved{}
	sift := siftBatch(b, customers, meters, &saved)
	// The arguments are made of the rows, which the comparison thins out.
	before := siftBatch(b, customersKind().in(rows), metersKind().in(rows), &Saved{})
	if err := s.conn.SendBatch(ctx, sift).Close(); err != nil {
		return nil, err
	}
	write := s.writeBatch(run, b, rows, customers, meters, &saved)
	return append(before.QueuedQueries, write.QueuedQueries...), nil
}

// Query runs a statement on the session's connection.
func (s *Session) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return s.conn.Query(ctx, sql, args...)
}
