package store

import (
	"context"
	"net"

	"github.com/jackc/pgx/v5"

	"polarmirror/internal/polar"
)

// BlockStatements returns the statements that save b without copying, those that
// compare (and are run by this call) before those of the transaction.
func (s *Session) BlockStatements(ctx context.Context, run *Run, b *Block) ([]*pgx.QueuedQuery, error) {
	prepared := func() *Block {
		p := &Block{CustomerMeters: b.CustomerMeters, Stretch: b.Stretch, Cursor: b.Cursor, Began: b.Began}
		p.Prepare()
		return p
	}
	// The comparison thins out the rows of which its arguments are made, so those
	// returned are of another copy.
	compare, saved, sifted := s.siftBatch(prepared(), &Saved{}), Saved{}, prepared()
	if err := s.conn.SendBatch(ctx, s.siftBatch(sifted, &saved)).Close(); err != nil {
		return nil, err
	}
	rows := append(sifted.standing(other), sifted.standing(absent)...)
	write := s.writeBatch(run, sifted, sifted.CustomerMeters, rows, &saved)
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

// AppendNumeric is what comparisons and COPY make of a number.
func AppendNumeric(buf []byte, d polar.Decimal) []byte { return appendNumeric(buf, d) }

// OrgStatusSQL is the query of [Store.OrgStatus]; its parameters are whether to
// count rows, and the ids of the organizations.
const OrgStatusSQL = orgStatusSQL
