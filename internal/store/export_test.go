package store

import (
	"context"
	"net"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"polarmirror/internal/polar"
)

// BlockStatements returns the statements that save b without copying, those that
// compare (and are run by this call) before those of the transaction.
func (s *Session) BlockStatements(ctx context.Context, run *Run, b *Block) ([]*pgx.QueuedQuery, error) {
	c, err := s.compare(ctx, b)
	if err != nil {
		return nil, err
	}
	compare := s.comparisonBatch(b, b.CustomerMeters, &comparison{stored: map[uuid.UUID]storedRow{}})
	write := s.writeBatch(run, b, c, append(c.changedRows, c.newRows...), &Saved{})
	queueCounts(write, run.ID, Counts{RowsSeen: 1})
	return append(compare.QueuedQueries, write.QueuedQueries...), nil
}

// ProbeStatements are those that find out whether the database takes writes.
func ProbeStatements() (settings, write string) { return probeSpaceSQL, probeWriteSQL }

// Query runs a statement on the session's connection.
func (s *Session) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return s.conn.Query(ctx, sql, args...)
}

// Show returns a setting as it is in the session.
func (s *Session) Show(ctx context.Context, name string) (string, error) {
	var value string
	err := s.conn.QueryRow(ctx, `SELECT current_setting($1)`, name).Scan(&value)
	return value, err
}

// Dial connects as a store without a dialer of its own does.
func Dial(ctx context.Context, network, address string) (net.Conn, error) {
	return watchedDial(ctx, network, address)
}

// Numeric is what COPY sends of a number.
func Numeric(d polar.Decimal) pgtype.Numeric { return numeric(d) }

// OrgStatusSQL is the query of [Store.OrgStatus]; its parameters are whether to
// count rows, and the ids of the organizations.
const OrgStatusSQL = orgStatusSQL
