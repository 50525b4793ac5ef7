package store

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"polarmirror/internal/secret"
)

// Schema is the Postgres schema that holds every object of syncd.
const Schema = "polar"

// A Store is a pool of connections to the database of the mirror.
type Store struct {
	pool *pool
	keep time.Duration // of the history; 0 means for ever
}

// Options say how to reach the database.
type Options struct {
	URL            secret.Secret // postgres:// or key=value form; carries a password
	MaxConnections int           // size of the pool; 0 means 8
	HistoryKeep    time.Duration // months of the history that ended longer ago are dropped; 0 means never

	// Dial, if set, makes the network connections; nil means the usual way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Open connects to the database and checks that it answers, that its encoding is
// UTF8, that a connection keeps its session, and that locks exclude. It neither
// creates nor migrates anything. An error is an [*UnusableError].
func Open(ctx context.Context, opts Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(opts.URL.Reveal())
	if err != nil {
		// The parser's own message may repeat the text it was given.
		return nil, &UnusableError{Problem: "the database URL cannot be parsed; expected postgres://USER:PASSWORD@HOST:PORT/DATABASE"}
	}
	var open atomic.Pointer[pgxpool.Pool] // nil until it is
	configure(cfg, opts, &open)
	// Before the pool: its settings would remain in connections that a proxy shares
	// with other programs.
	if err := probeSession(ctx, cfg.ConnConfig); err != nil {
		return nil, err
	}
	opened, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, unreachable(cfg.ConnConfig, err)
	}
	open.Store(opened)
	pool := &pool{opened}
	conn, err := pool.Acquire(ctx)
	if err != nil {
		pool.Close()
		return nil, unreachable(cfg.ConnConfig, err)
	}
	conn.Release()
	return &Store{pool: pool, keep: opts.HistoryKeep}, nil
}

// Close closes every connection. Sessions must have been released before.
func (s *Store) Close() { s.pool.Close() }

// Ready reports whether the database can be reached, can be written to and
// carries the schema this binary needs.
func (s *Store) Ready(ctx context.Context) error {
	const sql = `SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean`
	readOnly, err := value[bool](ctx, s.pool, "ask database", sql)
	if err != nil {
		return err
	}
	if readOnly {
		return ErrReadOnly
	}
	return s.checkCompatible(ctx)
}

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
		if sqlState(err) != pgerrcode.TooManyConnections || time.Now().After(end) {
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

// withConn lends use a connection. The pool closes one that broke.
func (s *Store) withConn(ctx context.Context, use func(*pgxpool.Conn) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to database: %w", err)
	}
	defer conn.Release()
	return cured(use(conn))
}

// A querier is the pool, a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}

// collect returns the rows of a query; operation is what errors begin with.
func collect[T any](ctx context.Context, db querier, operation string, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	rows, _ := db.Query(ctx, sql, args...) // the rows have the error, too
	list, err := pgx.CollectRows(rows, scan)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", operation, cured(err))
	}
	return list, nil
}

// value returns the one value of a query.
func value[T any](ctx context.Context, db querier, operation, sql string, args ...any) (T, error) {
	rows, _ := db.Query(ctx, sql, args...)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	if err != nil {
		return v, fmt.Errorf("%s: %w", operation, cured(err))
	}
	return v, nil
}

// exec runs a statement that returns no rows.
func exec(ctx context.Context, db querier, operation, sql string, args ...any) error {
	if _, err := db.Exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("%s: %w", operation, cured(err))
	}
	return nil
}

// A PoolStat is how the pool of connections is used.
type PoolStat = pgxpool.Stat

// PoolStat asks the pool, not the database.
func (s *Store) PoolStat() *PoolStat { return s.pool.Stat() }
