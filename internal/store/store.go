package store

import (
	"context"
	"net"
	"sync/atomic"
	"time"

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
