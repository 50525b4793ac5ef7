package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// fullWait is how long a connection is waited for that the server refuses
	// because it, the database or the role has as many as it may. It is bounded,
	// because those that hold connections may be waiting for further ones.
	fullWait = 15 * time.Second
	fullPoll = 100 * time.Millisecond
)

// A pool is a pgxpool.Pool that waits where the server grants fewer connections
// than the pool may open: pgxpool opens another one whenever none is idle and
// fails with the server's error, although one of its own may be given back the
// next moment. The methods that are not here open no connection.
type pool struct{ *pgxpool.Pool }

// patiently calls op until the server does not refuse the connection for it. A
// server refuses for this reason only before it sees a statement, so nothing is
// done twice.
func patiently(ctx context.Context, op func() error) error {
	end := time.Now().Add(fullWait)
	for {
		err := op()
		if sqlState(err) != tooManyConnections || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(fullPoll):
		}
	}
}

func (p *pool) Acquire(ctx context.Context) (conn *pgxpool.Conn, err error) {
	err = patiently(ctx, func() error {
		conn, err = p.Pool.Acquire(ctx)
		return err
	})
	return conn, err
}

func (p *pool) Ping(ctx context.Context) error {
	return patiently(ctx, func() error { return p.Pool.Ping(ctx) })
}

func (p *pool) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	err = patiently(ctx, func() error {
		tag, err = p.Pool.Exec(ctx, sql, args...)
		return err
	})
	return tag, err
}

func (p *pool) Query(ctx context.Context, sql string, args ...any) (rows pgx.Rows, err error) {
	err = patiently(ctx, func() error {
		rows, err = p.Pool.Query(ctx, sql, args...)
		return err
	})
	return rows, err
}

func (p *pool) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return scanner(func(into ...any) error {
		return patiently(ctx, func() error { return p.Pool.QueryRow(ctx, sql, args...).Scan(into...) })
	})
}

// A scanner is a row that is asked for when it is scanned.
type scanner func(into ...any) error

func (scan scanner) Scan(into ...any) error { return scan(into...) }

func (p *pool) Begin(ctx context.Context) (pgx.Tx, error) { return p.BeginTx(ctx, pgx.TxOptions{}) }

func (p *pool) BeginTx(ctx context.Context, opts pgx.TxOptions) (tx pgx.Tx, err error) {
	err = patiently(ctx, func() error {
		tx, err = p.Pool.BeginTx(ctx, opts)
		return err
	})
	return tx, err
}

// send runs a batch and closes its results.
func (p *pool) send(ctx context.Context, batch *pgx.Batch) error {
	return patiently(ctx, func() error { return p.Pool.SendBatch(ctx, batch).Close() })
}
