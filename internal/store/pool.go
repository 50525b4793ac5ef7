package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// fullWait is how long to wait for a connection that the server refuses because
	// it, the database or the role has no more to give. It is bounded, because
	// those that hold connections may be waiting for more of them.
	fullWait = 15 * time.Second
	fullPoll = 100 * time.Millisecond
)

// A pool is a pgxpool.Pool that waits where the server allows fewer connections
// than the pool may open: pgxpool opens another one whenever none is idle and
// fails with the server's error, although one of its own may be released the next
// moment. The methods that are not here open no connection.
type pool struct{ *pgxpool.Pool }

// whileFull calls op until the server no longer refuses the connection for it. A
// server refuses for this reason only before it sees a statement, so nothing is
// done twice.
func whileFull[T any](ctx context.Context, op func() (T, error)) (T, error) {
	end := time.Now().Add(fullWait)
	for {
		result, err := op()
		if sqlState(err) != tooManyConnections || time.Now().After(end) {
			return result, err
		}
		select {
		case <-ctx.Done():
			return result, err
		case <-time.After(fullPoll):
		}
	}
}

func (p *pool) Acquire(ctx context.Context) (*pgxpool.Conn, error) {
	return whileFull(ctx, func() (*pgxpool.Conn, error) { return p.Pool.Acquire(ctx) })
}

func (p *pool) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	return whileFull(ctx, func() (pgconn.CommandTag, error) { return p.Pool.Exec(ctx, sql, args...) })
}

func (p *pool) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return whileFull(ctx, func() (pgx.Rows, error) { return p.Pool.Query(ctx, sql, args...) })
}

func (p *pool) Begin(ctx context.Context) (pgx.Tx, error) { return p.BeginTx(ctx, pgx.TxOptions{}) }

func (p *pool) BeginTx(ctx context.Context, opts pgx.TxOptions) (pgx.Tx, error) {
	return whileFull(ctx, func() (pgx.Tx, error) { return p.Pool.BeginTx(ctx, opts) })
}

// send runs a batch and closes its results.
func (p *pool) send(ctx context.Context, batch *pgx.Batch) error {
	_, err := whileFull(ctx, func() (any, error) { return nil, p.Pool.SendBatch(ctx, batch).Close() })
	return err
}
