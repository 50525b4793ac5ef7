package store

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A View is one snapshot of the database for people to look at. Its methods
// write nothing and agree with each other.
type View struct{ tx pgx.Tx }

// View calls use with a snapshot. The server ends a statement that takes longer
// than limit: otherwise it would burden the mirror long after nobody waits for its
// result.
func (s *Store) View(ctx context.Context, limit time.Duration, use func(*View) error) error {
	const bounds = `
SELECT
    set_config('statement_timeout', $1, true),
    set_config('jit', 'off', true)`
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, s.pool, opts, func(tx pgx.Tx) error {
		if err := exec(ctx, tx, "bound statements", bounds, strconv.FormatInt(max(limit.Milliseconds(), 1), 10)); err != nil {
			return err
		}
		return use(&View{tx: tx})
	})
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
