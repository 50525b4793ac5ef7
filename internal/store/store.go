package store

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"polarmirror/internal/secret"
)

// Schema is the Postgres schema that holds every object of syncd.
const Schema = "polar"

// A Store is a pool of connections to the database of the mirror.
type Store struct {
	pool *pool
	log  *zap.Logger
	keep time.Duration // of the history; 0 means for ever
}

// Options say how to reach the database.
type Options struct {
	URL            secret.Secret // postgres:// or key=value form; carries a password
	MaxConnections int           // size of the pool; 0 means 8
	HistoryKeep    time.Duration // months of the history that ended longer ago are dropped; 0 means never
	Log            *zap.Logger

	// Dial, if set, makes the network connections; nil means the usual way.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Open connects to the database and checks that it answers, that its encoding is
// UTF8, that a connection keeps its session, and that locks exclude. It neither
// creates nor migrates anything. An error is an [*UnreachableError] if the
// server could not be reached or refused the connection, a [*SessionError] if
// connections don't keep their sessions, and an [*UnsuitableError] for the rest.
func Open(ctx context.Context, opts Options) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(opts.URL.Reveal())
	if err != nil {
		// The parser's own message may repeat the text it was given.
		return nil, &UnreachableError{Cause: "the database URL cannot be parsed; expected postgres://USER:PASSWORD@HOST:PORT/DATABASE"}
	}
	var watch failover
	configure(cfg, opts, &watch)
	// Before the pool: its settings would remain in connections that a proxy shares
	// with other programs.
	if err := probeSession(ctx, cfg.ConnConfig); err != nil {
		return nil, err
	}
	opened, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, unreachable(cfg.ConnConfig, err)
	}
	watch.pool.Store(opened)
	pool := &pool{opened}
	if err := pool.Ping(ctx); err != nil {
		pool.Close()
		return nil, unreachable(cfg.ConnConfig, err)
	}
	log := opts.Log
	if log == nil {
		log = zap.NewNop()
	}
	return &Store{pool: pool, log: log, keep: opts.HistoryKeep}, nil
}

// Close closes every connection. Sessions must have been released before.
func (s *Store) Close() { s.pool.Close() }

// Ready reports whether the database can be reached, can be written to and
// carries the schema this binary needs.
func (s *Store) Ready(ctx context.Context) error {
	const sql = `SELECT pg_is_in_recovery(), current_setting('transaction_read_only')::boolean`
	var standby, readOnly bool
	if err := s.pool.QueryRow(ctx, sql).Scan(&standby, &readOnly); err != nil {
		return fmt.Errorf("ask database: %w", err)
	}
	if standby || readOnly {
		return ErrReadOnly
	}
	return s.checkCompatible(ctx)
}
